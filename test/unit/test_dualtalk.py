# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The paper's benchmark: the protocol, incomplete folders, stopping and going on, the table."""

import json
import zlib

import numpy as np
import pytest
import scipy.io.wavfile
import torch

from timar_ros.config import SamplingConfig
from timar_ros.learn.corruption import Corruption
from timar_ros.learn.dualtalk import main, run_cases
from timar_ros.learn.dualtalk_clip import Settings, find_cases, predict, score
from timar_ros.learn.dualtalk_table import COLUMNS, PUBLISHED, format_table, make_row
from timar_ros.learn.metrics import evaluate_clip
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.model.turn import Turn
from timar_ros.motion import get_space
from timar_ros.stream.engine import Engine
from timar_ros.stream.level import normalise_clip

RATE = 16000
FLAME, ARKIT = get_space('flame56'), get_space('arkit55')


def write_speaker(folder, name, seed, seconds=3.2, has_motion=True, **changes):
    """Write a voice and motion of one speaker in DualTalk's layout."""
    rng = np.random.default_rng(seed)
    voice = (3000 * rng.standard_normal(round(seconds * RATE))).astype(np.int16)
    scipy.io.wavfile.write(folder / f'{name}.wav', RATE, voice)
    if has_motion:
        n = round(seconds * 25)
        walk = np.cumsum(rng.normal(0, 0.05, (n, 56)), 0).astype(np.float32)
        np.savez(folder / f'{name}.npz', **({'exp': walk[:, :50], 'pose': walk[:, 50:]} | changes))


@pytest.fixture
def folder(tmp_path):
    """Make two clips: one whole, of one the motion of the second speaker alone."""
    data = tmp_path / 'data'
    data.mkdir()
    write_speaker(data, 'a_speaker1', 1)
    write_speaker(data, 'a_speaker2', 2, 3.3)
    write_speaker(data, 'b_speaker1', 3, has_motion=False)
    write_speaker(data, 'b_speaker2', 4)
    return data


def settings_of(checkpoint, **changes):
    values = {'checkpoint': str(checkpoint), 'digest': 'x', 'contexts': (0, 3), 'seed': 0}
    return Settings(**(values | {'normalise': 'clip', 'corruption': Corruption()} | changes))


def run(folder, checkpoint, out, *options):
    arguments = [folder, '--checkpoint', checkpoint, '--out', out, '--processes', 1, *options]
    return main([str(argument) for argument in arguments])


def test_each_speaker_whose_motion_is_there_is_the_agent_once(folder):
    cases, left_out = find_cases(folder)

    assert [case.name for case in cases] == ['a_speaker1', 'a_speaker2', 'b_speaker2']
    assert [case.user_npz is not None for case in cases] == [True, True, False]
    assert left_out == {'b_speaker1': 'no b_speaker1.npz, its true motion'}


def test_the_answer_is_that_of_the_protocol_turn_by_turn(folder, tiny_checkpoint):
    case = find_cases(folder)[0][1]  # speaker2 is the agent, speaker1 the user
    model = load_checkpoint(tiny_checkpoint)
    T, S = model.config.frames_per_turn, model.config.samples_per_turn

    context, motion, _ = next(predict(model, case, settings_of('', contexts=(3,))))

    engine = Engine(model, SamplingConfig(context_turns=3))
    state = engine.new_state(zlib.crc32(b'0 a_speaker2'))
    voices = [
        normalise_clip(scipy.io.wavfile.read(folder / f'a_speaker{i}.wav')[1] / np.float32(32768))
        for i in (1, 2)
    ]
    with np.load(folder / 'a_speaker1.npz') as arrays:
        seen = np.concatenate([arrays['exp'], arrays['pose'][:, 3:], arrays['pose'][:, :3]], 1)
    known = torch.ones(1, T, dtype=torch.bool)
    assert (context, motion.shape) == (3, (80, 56))  # 3.2 s are 20 turns; 3.3 s would be 20.6
    for k in range(20):
        user, agent = (torch.from_numpy(v[None, k * S : (k + 1) * S]) for v in voices)
        turn = Turn(
            user, known, torch.from_numpy(seen[None, k * T : (k + 1) * T]), known,
            agent, torch.zeros(1, T, 56), ~known,
        )  # fmt: skip
        expected = engine.step(turn, state)[0].numpy()
        np.testing.assert_allclose(motion[k * T : (k + 1) * T], expected, atol=1e-5)


def test_contexts_differ_from_the_turn_on_at_which_they_can(folder, tiny_checkpoint):
    model = load_checkpoint(tiny_checkpoint)
    case = find_cases(folder)[0][0]

    none, one = (motion for _, motion, _ in predict(model, case, settings_of('', contexts=(0, 1))))

    np.testing.assert_allclose(none[:4], one[:4], atol=1e-6)
    assert np.abs(none[4:8] - one[4:8]).max() > 1e-4


def test_the_figures_are_those_of_the_metrics(folder, tiny_checkpoint):
    rng = np.random.default_rng(0)
    clips = [np.cumsum(rng.normal(0, 0.1, (80, 56)), 0).astype(np.float32) for _ in range(3)]

    assert score(*clips, FLAME) == evaluate_clip(*clips, FLAME)
    alone = score(clips[0], clips[1], None, FLAME)
    assert set(evaluate_clip(*clips, FLAME)) - set(alone) == {
        f'{name}_{group}' for name in ('p_fid', 'rpcc') for group in ('exp', 'jaw', 'pose')
    }


def test_blendshapes_are_compared_by_neck_and_jaw():
    rng = np.random.default_rng(0)
    shown = np.abs(np.cumsum(rng.normal(0, 0.02, (80, 55)), 0))
    truth, partner = np.cumsum(rng.normal(0, 0.1, (2, 80, 56)), 1).astype(np.float32)
    flame = truth.copy()  # its expression is not compared
    flame[:, 51:53] = 0
    flame[:, 50] = 0.35 * shown[:, ARKIT.index('jawOpen')]
    flame[:, 53:] = shown[:, 52:]

    figures = score(shown, truth, partner, ARKIT)

    expected = evaluate_clip(flame, truth, partner, FLAME)
    assert figures == {k: v for k, v in expected.items() if not k.endswith('_exp')}


def test_an_incomplete_folder_makes_a_table_that_says_how_many(folder, tiny_checkpoint, capsys):
    write_speaker(folder, 'c_speaker1', 5, exp=np.full((80, 50), np.nan, np.float32))
    write_speaker(folder, 'c_speaker2', 6)
    write_speaker(folder, 'd_speaker1', 7, 0.1)
    write_speaker(folder, 'd_speaker2', 8, 0.1)

    code = run(folder, tiny_checkpoint, folder / 'out', '--context', 0, 7)

    text = capsys.readouterr().out
    assert code == 0
    assert f'{folder}: 7 predictions possible' in text
    row = next(line for line in text.splitlines() if line.startswith('here n=0'))
    assert row.split()[2] == '3'
    assert 'here n=0: of 3 clips, these have fewer: P-FD 2/2/2, rPCC 2/2/2' in text
    assert 'left out: b_speaker1: no b_speaker1.npz' in text
    assert text.count('NaN') == 2  # speaker1 as agent, and as user of speaker2
    assert text.count('shorter than a turn') == 2
    assert 'n=7 is left out: the weights remember 5 turns' in text
    for title in PUBLISHED:
        assert title in text


def test_a_run_goes_on_where_it_was_stopped(folder, tiny_checkpoint, tmp_path):
    cases, _ = find_cases(folder)
    settings = settings_of(tiny_checkpoint)
    whole, _ = run_cases(cases, settings, tmp_path / 'whole.jsonl', 1)
    results = tmp_path / 'results.jsonl'
    run_cases(cases[:1], settings, results, 1)
    first = results.read_text()
    results.write_text(first + '{"key": "cut off in wri')

    resumed, _ = run_cases(cases, settings, results, 1)

    assert resumed == whole
    assert results.read_text().startswith(first)
    assert len(results.read_text().splitlines()) == 6  # no clip was answered twice


def test_results_of_other_weights_seeds_or_faults_are_not_mixed(tiny_checkpoint):
    settings = settings_of(tiny_checkpoint)
    others = [
        settings_of(tiny_checkpoint, digest='y'),
        settings_of(tiny_checkpoint, seed=1),
        settings_of(tiny_checkpoint, normalise='causal'),
        settings_of(tiny_checkpoint, corruption=Corruption(('user_motion_drop',))),
    ]

    assert len({each.key for each in [settings, *others]}) == 5
    assert settings_of(tiny_checkpoint, contexts=(1,), device='cuda').key == settings.key


def test_several_processes_give_the_same_results_as_one(folder, tiny_checkpoint, tmp_path):
    cases, _ = find_cases(folder)
    settings = settings_of(tiny_checkpoint, contexts=(1,))

    one, _ = run_cases(cases, settings, tmp_path / 'one.jsonl', 1)
    two, _ = run_cases(cases, settings, tmp_path / 'two.jsonl', 2)

    assert one == two


def test_the_same_table_is_made_under_faults(folder, tiny_checkpoint, capsys):
    options = '--context', 3, '--corrupt', 'user_motion_drop', 'agent_voice_silence', '--share'
    codes = [run(folder, tiny_checkpoint, folder / 'out', *options, share) for share in (0, 0.7)]

    rows = [x for x in capsys.readouterr().out.splitlines() if x.startswith('here n=3  ')]
    assert codes == [0, 0]
    assert len(rows) == 2
    assert rows[0] != rows[1]
    keys = {json.loads(x)['key'] for x in (folder / 'out' / 'results.jsonl').open()}
    assert len(keys) == 2


def test_rows_are_means_in_the_published_scales():
    clips = [
        {f'{figure}_{group}': value for figure, _ in COLUMNS.values() for group in ('exp', 'jaw')}
        for value in (0.001, 0.003)
    ]

    text = format_table({'here': make_row(clips)})

    row = text.splitlines()[2].split()
    assert row[1] == '2'
    assert row[2:5] == ['0.00/2.00/-', '0.00/2.00/-', '0.02/2.00/-']
    assert row[7] == '0.20/0.02/-'


def test_a_folder_without_clips_gives_a_sentence(tmp_path, tiny_checkpoint, capsys):
    assert run(tmp_path, tiny_checkpoint, tmp_path / 'out') == 1
    assert run(tmp_path / 'nowhere', tiny_checkpoint, tmp_path / 'out') == 1

    error = capsys.readouterr().err
    assert 'expected *_speaker1.wav, *_speaker2.wav and their .npz, got none' in error
    assert f'no folder of DualTalk at {tmp_path / "nowhere"}' in error


@pytest.mark.parametrize(
    ('options', 'told'),
    [
        ('--context -1', 'argument --context: expected a whole number from 0 on, got '),
        ('--processes 0', 'argument --processes: expected a whole number from 1 on'),
        ('--share 1.5', 'argument --share: expected a number from 0 to 1, got '),
    ],
)
def test_options_that_mean_nothing_are_refused(
    folder, tiny_checkpoint, tmp_path, capsys, options, told
):
    with pytest.raises(SystemExit):
        run(folder, tiny_checkpoint, tmp_path / 'out', *options.split())

    assert told in capsys.readouterr().err


def test_contexts_beyond_what_the_weights_remember_are_refused(
    folder, tiny_checkpoint, tmp_path, capsys
):
    assert run(folder, tiny_checkpoint, tmp_path / 'out', '--context', 99) == 1

    assert 'as these weights remember, got 99' in capsys.readouterr().err
    assert not (tmp_path / 'out').exists()


def test_clips_whose_endings_are_in_capitals_are_found(folder):
    names = [case.name for case in find_cases(folder)[0]]
    for path in list(folder.iterdir()):
        path.rename(path.with_suffix(path.suffix.upper()))

    assert [case.name for case in find_cases(folder)[0]] == names
