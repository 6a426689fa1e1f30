# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The bench in short: it tells good motion from frozen and from shuffled, with shipped weights."""

import json
import shutil

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.learn import bench, bench_clip, bench_table
from timar_ros.learn.baselines import NOD_S
from timar_ros.learn.share import find_shared
from timar_ros.motion import get_space
from timar_ros.stream import lips

FPS, RATE_HZ, SECONDS = 25, 16000, 20
SPACE = get_space('arkit55')
T = np.arange(SECONDS * FPS) / FPS
CUES_S = {'one': (5.5, 16.0), 'two': (6.0, 10.8)}
BEGIN_S = {'one': 0, 'two': 20}


def nodding(starts_s):
    """Return pitch `[F]` of two cycles at 2 Hz from each of the starts on."""
    pitch = np.zeros(len(T))
    for start_s in starts_s:
        since = T - start_s
        inside = (since >= 0) & (since < NOD_S)
        nod = np.sin(4 * np.pi * since) * np.sin(np.pi * since / NOD_S)
        pitch[inside] += np.deg2rad(5) * nod[inside]
    return pitch


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Write two conversations of the demo's voices, with a good motion and its cues."""
    folder = tmp_path_factory.mktemp('clips')
    for i, (name, cues_s) in enumerate(CUES_S.items()):
        motion = np.zeros((len(T), 55), np.float32)
        for voice in ('user', 'agent'):
            rate, samples = scipy.io.wavfile.read(find_shared(f'config/demo/{voice}.wav'))
            begin = BEGIN_S[name] * rate
            part = samples[begin : begin + SECONDS * rate]
            scipy.io.wavfile.write(folder / f'{name}_{voice}.wav', rate, part)
            level = lips.voice_envelope(part / 32768, rate, FPS)
            if voice == 'agent':
                motion[:, SPACE.index('jawOpen')] = np.clip(4 * level, 0, 1)
            motion[:, 53] += 0.1 * np.sin(2 * np.pi * 0.4 * T + i) * np.minimum(8 * level, 1)
        motion[:, 53] += 0.005 * np.sin(2 * np.pi * 0.3 * T)
        motion[:, 52] = nodding(np.array(cues_s) + 0.7)
        np.savez(folder / f'{name}_agent.npz', motion=motion, names=SPACE.names, fps=FPS)
        truth = {'cues': [{'t_s': time_s, 'kind': 'pause'} for time_s in cues_s]}
        (folder / f'{name}_truth.json').write_text(json.dumps(truth))
    return folder


@pytest.fixture(scope='module')
def out(folder, tmp_path_factory):
    """Run the bench on them; return the folder of its output."""
    out = tmp_path_factory.mktemp('bench')
    arguments = [folder, '--out', out, '--short', '--processes', 1]
    assert bench.main([str(argument) for argument in arguments]) == 0
    return out


@pytest.fixture(scope='module')
def rows(out):
    return json.loads((out / 'bench.json').read_text())['figures']


def test_every_contestant_has_its_column(rows):
    assert list(rows) == 'real model swapped still late other wobble rule'.split()


def test_good_motion_answers_its_cues_and_moves_its_lips_in_time(rows):
    real = rows['real']

    assert real['nod_f1'] == pytest.approx(1.0)
    assert real['nod_lag_s'] == pytest.approx(0.7, abs=0.2)
    assert real['false_nods_per_minute'] == 0
    assert real['lip_lag_ms'] == pytest.approx(0, abs=20)
    assert real['lip_correlation'] > 0.9
    assert real['mouth_rest_ratio'] < 0.1
    assert real['liveliness_ratio'] > 4


def test_a_frozen_face_is_told_from_good_motion(rows):
    still = rows['still']

    assert still['nod_f1'] == 0.0
    assert still['silent_head_speed'] == pytest.approx(0.0, abs=1e-3)
    assert still['lip_correlation'] < 0.1
    assert still['mouth_rest_ratio'] > 0.9


@pytest.mark.parametrize('who', ['other', 'late', 'swapped'])
def test_motion_of_another_moment_is_told_from_good_motion(rows, who):
    wrong = rows[who]

    assert wrong['nod_f1'] < 0.5
    assert wrong['lip_correlation'] < 0.6
    if who != 'swapped':  # every figure of the head alone is fooled
        real = rows['real']['head_speed_p95']
        assert wrong['head_speed_p95'] == pytest.approx(real, rel=0.1)


def test_the_shipped_weights_beat_their_own_answer_to_another_conversation(rows):
    assert rows['model']['lip_correlation'] > rows['swapped']['lip_correlation'] + 0.1
    assert rows['model']['mouth_rest_ratio'] < rows['swapped']['mouth_rest_ratio']


def test_the_wobbler_fools_what_it_is_said_to_fool(rows):
    assert 'wobble' in bench_table.fools('lip_correlation', rows)
    assert 'late' in bench_table.fools('head_speed_p50', rows) or 'other' in bench_table.fools(
        'power_share_7_hz', rows
    )
    assert bench_table.fools('nod_f1', rows) in ([], ['rule'])


def test_the_table_is_written_with_the_range_of_people_beside_each_figure(out):
    page = (out / 'bench.md').read_text()

    row = next(line for line in page.splitlines() if line.startswith('| head_speed_p95'))
    assert row.split(' | ')[1:3] == ['23..57', '23..57']
    assert page.splitlines()[0].startswith('2 conversations, 0.7 min, 4 cues; mini.safetensors')


def test_a_run_goes_on_where_it_was_stopped(folder, out):
    answers = sorted((out / 'answers').glob('*.npz'))
    times = [path.stat().st_mtime_ns for path in answers]
    arguments = [folder, '--out', out, '--short', '--processes', 1]

    assert bench.main([str(argument) for argument in arguments]) == 0

    assert [path.stat().st_mtime_ns for path in answers] == times
    assert len(sorted((out / 'answers').glob('*'))) == len(times) == 2


def test_what_the_model_does_without_a_voice_is_another_answer(folder, tmp_path, tiny_checkpoint):
    for voice in ('user', 'agent'):
        rate, samples = scipy.io.wavfile.read(folder / f'one_{voice}.wav')
        scipy.io.wavfile.write(tmp_path / f'cut_{voice}.wav', rate, samples[: 5 * rate])
    arguments = [tmp_path, '--out', tmp_path, '--processes', 1]
    arguments += ['--checkpoint', tiny_checkpoint, '--timing', 'reactive']

    code = bench.main([str(argument) for argument in arguments])

    content = json.loads((tmp_path / 'bench.json').read_text())
    assert code == 0
    assert {'no user', 'no own'} <= set(content['figures'])
    for name in ('no_user_neck', 'no_own_neck', 'no_user_jaw', 'no_own_jaw'):
        assert content['alone'][f'change_with_{name}'] > 1e-3, name
    assert content['alone']['diversity_neck_deg'] > 0.1
    assert content['alone']['change_at_-12_db_neck'] < 0.2


def test_broken_conversations_are_left_out_with_a_reason(
    folder, tmp_path, tiny_checkpoint, capsys
):
    for path in folder.glob('one_*'):
        shutil.copy(path, tmp_path)
        shutil.copy(path, tmp_path / path.name.replace('one', 'bad'))
    (tmp_path / 'bad_user.wav').write_bytes(b'')
    (tmp_path / 'alone_agent.wav').write_bytes(b'')
    arguments = [tmp_path, '--out', tmp_path / 'out', '--short', '--processes', 1]
    arguments += ['--checkpoint', tiny_checkpoint, '--timing', 'reactive']

    code = bench.main([str(argument) for argument in arguments])

    told = capsys.readouterr().out
    assert code == 0
    assert '1 conversations' in told
    assert 'left out: alone_agent: no alone_user.wav' in told
    assert 'bad_user.wav: expected a PCM or float wav' in told


@pytest.mark.parametrize(
    ('make', 'told'),
    [
        (lambda folder: None, 'expected <clip>_user.wav and <clip>_agent.wav, got none'),
        (lambda folder: folder.rmdir(), 'no folder of conversations at'),
    ],
)
def test_a_folder_without_conversations_is_told_in_a_sentence(tmp_path, capsys, make, told):
    folder = tmp_path / 'clips'
    folder.mkdir()
    make(folder)

    code = bench.main([str(folder), '--out', str(tmp_path)])

    assert code == 1
    assert told in capsys.readouterr().err


def test_a_truth_without_cues_is_refused_by_name(tmp_path):
    path = tmp_path / 'x_truth.json'
    path.write_text('{"nods": []}')

    with pytest.raises(ValueError, match='x_truth.json: expected {"cues"'):
        bench_clip.read_cues(path)


def judged(values=None, **changes):
    values = dict.fromkeys(bench_table.FIGURES) | (values or {})
    fields = {'nods_s': (), 'cues_s': (), 'listened_s': 30.0, 'duration_s': 60.0}
    return bench_table.Judged(values, **(fields | changes))


def test_figures_are_pooled_by_duration_and_nods_over_all_cues():
    clips = [
        judged({'head_speed_p50': 4.0}, nods_s=(1.7, 20.0), cues_s=(1.0,)),
        judged({'head_speed_p50': 10.0}, nods_s=(5.6,), cues_s=(5.0, 9.0), duration_s=120.0),
        judged(nods_s=(1.0, 2.0), cues_s=None),
    ]

    values, lags_s = bench_table.pool(clips)

    assert values['head_speed_p50'] == pytest.approx(8.0)
    assert values['nod_recall'] == pytest.approx(2 / 3)
    assert values['nod_precision'] == pytest.approx(2 / 3)
    assert values['false_nods_per_minute'] == pytest.approx(1.0)
    assert lags_s == pytest.approx((0.7, 0.6))
    assert values['lip_lag_ms'] is None


def test_the_lags_of_answers_are_counted_in_tenths_of_a_second():
    lines = bench_table.histogram([0.31, 0.72, 0.75, 1.19]).splitlines()

    assert len(lines) == 9
    assert lines[0] == '0.3 s # 1'
    assert lines[4] == '0.7 s ## 2'
    assert lines[8] == '1.1 s # 1'
