# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The command: two voices in, motion, figures and a page out, the same every time."""

import json

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.learn import bench, evaluate, reaction
from timar_ros.learn.evaluate import main
from timar_ros.learn.share import find_shared
from timar_ros.motion import get_space

RATE = 16000
SPACE = get_space('flame56')
# In proportion to the tiny model's turn of 0.16 s.
TIMES = (
    '--replan-hz 12.5 --hearing-delay-ms 80 --agent-lead-ms 160 --plan-latency-ms 40 '
    '--blend-ms 80 --threads 1'
).split()
FILES = ('motion.npz', 'report.json', 'report.html')


@pytest.fixture
def wavs(tmp_path):
    """Write 2 s of user and 2.24 s of agent; return their paths."""
    paths = []
    for i, seconds in enumerate((2.0, 2.24)):
        t = np.arange(round(seconds * RATE)) / RATE
        noise = np.random.default_rng(i).standard_normal(len(t))
        voice = (0.1 * noise * np.sin(np.pi * (3 + i) * t) ** 2).astype(np.float32)
        paths.append(tmp_path / f'{("user", "agent")[i]}.wav')
        scipy.io.wavfile.write(paths[-1], RATE, voice)
    return paths


@pytest.fixture
def run(tmp_path, tiny_checkpoint, wavs):
    """Return a function that runs the command and returns the folder of its output."""

    def run(name, *options, voices=wavs):
        out = tmp_path / name
        given = [] if voices is None else ['--user', voices[0], '--agent', voices[1]]
        arguments = [*given, '--checkpoint', tiny_checkpoint, '--out', out, *TIMES, *options]
        assert main([str(argument) for argument in arguments]) == 0
        return out

    return run


def motion_of(out):
    with np.load(out / 'motion.npz') as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize('timing', ['anticipate', 'reactive'])
def test_the_motion_is_as_long_as_the_longer_voice(run, timing):
    content = motion_of(run('out', '--timing', timing))

    assert content['motion'].shape == (56, 56)
    assert content['motion'].dtype == np.float32
    assert tuple(content['names']) == SPACE.names
    assert content['fps'] == 25
    np.testing.assert_allclose(content['stamp_s'], np.arange(56) / 25)
    assert np.abs(content['motion'] - SPACE.neutral).max() > 0.01


def test_the_same_inputs_and_seed_give_the_same_files_bit_for_bit(run):
    first, second = run('first'), run('second')

    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_another_seed_gives_another_motion(run):
    first, second = (motion_of(run(str(seed), '--seed', seed))['motion'] for seed in (0, 1))

    assert np.abs(first - second).max() > 0.01


def test_figures_are_in_the_report_by_name(run):
    out = run('out')

    report = json.loads((out / 'report.json').read_text())
    page = (out / 'report.html').read_text()

    assert isinstance(report['head_speed_p95'], float)
    assert report['mimicry_lag_s'] is None
    assert report['about']['not_measured']['mimicry_lag_s']
    assert report['about']['counters']['plans'] > 20
    assert 'head_speed_p95' in page


def test_with_the_loudness_of_the_clip_the_recording_level_does_not_matter(run, wavs, tmp_path):
    softer = []
    for path in wavs:
        rate, samples = scipy.io.wavfile.read(path)
        softer.append(tmp_path / f'soft_{path.name}')
        # loud enough that the published 1e-7 is small against the variance
        scipy.io.wavfile.write(softer[-1], rate, samples * np.float32(0.5))

    options = '--normalise', 'clip', '--timing', 'reactive', '--dtype', 'float32'
    loud = motion_of(run('loud', *options))['motion']
    soft = motion_of(run('soft', *options, voices=softer))['motion']
    causal = motion_of(run('causal', '--timing', 'reactive'))['motion']

    np.testing.assert_allclose(soft, loud, atol=5e-3)
    assert np.abs(causal - loud).max() > 2e-2


def test_the_users_head_changes_the_answer_and_is_in_the_report(run, tmp_path):
    names = np.array(SPACE.names)
    nod = np.zeros((50, 56))
    nod[:, 53] = 0.2 * np.sin(np.arange(50) / 3)
    np.savez(tmp_path / 'head.npz', motion=nod, names=names, fps=25)

    alone = run('alone')
    watched = run('watched', '--user-motion', tmp_path / 'head.npz')

    assert np.abs(motion_of(watched)['motion'] - motion_of(alone)['motion']).max() > 1e-3
    report = json.loads((watched / 'report.json').read_text())
    assert report['about']['user_motion_frames'] == 50


def test_motion_goes_out_in_the_layout_that_the_users_head_comes_in(run):
    first = run('first')

    second = run('second', '--user-motion', first / 'motion.npz')

    assert json.loads((second / 'report.json').read_text())['about']['user_motion_frames'] == 56


@pytest.mark.parametrize(
    'style',
    [
        '--emotion happy --intensity 0.8', '--attitude -1', '--persona bo',
        '--expressiveness 0.5',
    ],
)  # fmt: skip
def test_a_style_changes_the_motion_and_is_in_the_report(run, style):
    plain, styled = run('plain'), run('styled', *style.split())

    change = np.abs(motion_of(styled)['motion'] - motion_of(plain)['motion'])
    assert change.max() > 1e-3
    about = json.loads((styled / 'report.json').read_text())['about']
    assert str(about['style'][style.split()[0][2:]]).startswith(style.split()[1])


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        ('--user {u}', 'give --user and --agent'),
        ('--bag {u} --user {u} --agent {a}', 'give --bag, or --user and --agent, got both'),
        ('--user nowhere.wav --agent {a}', 'no recording at nowhere.wav'),
        ('--bag nowhere', 'no bag at nowhere'),
        ('--user {u} --agent {a} --agent-lead-ms 10', 'agent_lead_ms must be at least'),
        ('--user {u} --agent {a} --user-motion nowhere.npz', 'no motion at nowhere.npz'),
        ('--user {u} --agent {a} --emotion hapy', "unknown emotion 'hapy'; known: neutral"),
        ('--user {u} --agent {a} --persona eve', "unknown persona 'eve'; known: ann, bo"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    tmp_path, tiny_checkpoint, wavs, capsys, arguments, told
):
    given = arguments.format(u=wavs[0], a=wavs[1]).split()

    code = main([*TIMES, '--checkpoint', str(tiny_checkpoint), '--out', str(tmp_path), *given])

    error = capsys.readouterr().err
    assert code == 1
    assert told in error
    assert 'Traceback' not in error


def test_without_weights_the_command_says_how_to_get_some(tmp_path, wavs, capsys):
    given = ['--user', wavs[0], '--agent', wavs[1], '--out', tmp_path]

    code = main([*map(str, given), '--checkpoint', str(tmp_path / 'none.safetensors')])

    assert code == 1
    assert 'no checkpoint at' in capsys.readouterr().err


def test_files_of_the_package_are_found_and_others_are_told_missing():
    assert 'uint32 sample_rate' in find_shared('msg/AudioChunk.msg').read_text()
    with pytest.raises(FileNotFoundError, match='config/models/none.safetensors is not beside'):
        find_shared('config/models/none.safetensors')


def test_what_is_odd_about_channels_is_said_once_and_with_the_option_of_this_command(
    run, wavs, tmp_path
):
    rate, voice = scipy.io.wavfile.read(wavs[0])
    voice = np.tile(voice, 2)
    inverted = tmp_path / 'inverted.wav'
    scipy.io.wavfile.write(inverted, rate, np.stack([voice, -voice], 1))

    out = run('out', voices=[inverted, wavs[1]])

    notes = json.loads((out / 'report.json').read_text())['about']['notes']
    (note,) = [note for note in notes if 'channel' in note]
    assert '--user-channel ' in note


@pytest.mark.parametrize('command', [evaluate, bench, reaction])
def test_every_option_says_what_it_is(command):
    texts = {action.dest: action.help for action in command._parser()._actions}

    assert [name for name, text in texts.items() if text in (None, '%(default)s')] == []
