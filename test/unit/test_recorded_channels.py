# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which channel of a recording is heard can be said in every command, and what is odd is noted."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.learn import bench_clip, evaluate
from timar_ros.learn.clips import open_clips, read_voice
from timar_ros.learn.dataset import Windows
from timar_ros.learn.recording import read_wavs
from timar_ros.learn.training import RunConfig
from timar_ros.motion import get_space
from timar_ros.nodes.recording import WavRecording
from timar_ros.stream.audio import packet_from_fields

RATE_HZ = 16_000
LEAD_NS = 400_000_000


def speech(seed, seconds=4.0, rate_hz=RATE_HZ):
    n = round(seconds * rate_hz)
    noise = np.random.default_rng(seed).standard_normal(n)
    return 0.1 * noise * (0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(n) / rate_hz + seed))


def write(path, *columns, rate_hz=RATE_HZ):
    samples = np.rint(32768 * np.stack(columns, 1)).astype(np.int16)
    scipy.io.wavfile.write(path, rate_hz, samples)
    return path


@pytest.fixture
def array(tmp_path):
    """Write a ReSpeaker's six channels and the robot's voice; return both paths."""
    user, agent = speech(1), speech(2)
    mics = [0.1 * user + 0.3 * agent for _ in range(4)]
    paths = [
        write(tmp_path / 'talk_user.wav', user, *mics, 0.9 * agent),
        write(tmp_path / 'talk_agent.wav', agent),
    ]
    return [*paths, np.rint(32768 * user) / 32768]


def replay_notes(user, agent, channel='mean'):
    recording = WavRecording(str(user), str(agent), 20, 1.0, {'user': channel})
    chunks = [event.msg for event in recording.events(10**9, 0, 400)
              if event.topic == 'user/audio']  # fmt: skip
    heard = np.concatenate([packet_from_fields(msg).samples for msg in chunks])
    return recording.notes, heard.mean(1)


def test_the_robots_voice_in_the_users_channels_is_said_by_evaluate_and_replay(array):
    user, agent, _ = array

    evaluated = read_wavs(user, agent, LEAD_NS, Fraction(1)).notes
    replayed, _ = replay_notes(user, agent)

    (note,) = evaluated
    assert 'channel 5 holds it (1.00); choose --user-channel 0' in note
    assert replayed == [note.replace('--user-channel 0', 'user_channel:=0')]


def test_the_channel_that_is_chosen_is_heard_by_evaluate_and_replay(array):
    user, agent, expected = array

    recording = read_wavs(user, agent, LEAD_NS, Fraction(1), channels={'user': 0})
    notes, replayed = replay_notes(user, agent, 0)

    np.testing.assert_array_equal(recording.voices['user'].samples, expected)
    np.testing.assert_array_equal(replayed, expected)
    assert recording.notes == () and notes == []


def test_inverted_stereo_is_silent_and_said_and_one_channel_of_it_is_heard(tmp_path):
    x = speech(1, rate_hz=44_100)
    user = write(tmp_path / 'u.wav', x, -x, rate_hz=44_100)
    agent = write(tmp_path / 'a.wav', speech(2))

    mean = read_wavs(user, agent, LEAD_NS, Fraction(1))
    chosen = read_wavs(user, agent, LEAD_NS, Fraction(1), channels={'user': 0})

    assert 'channels 0 and 1 are inverted' in mean.notes[0]
    assert np.abs(mean.voices['user'].samples).max() < 1e-4
    assert chosen.notes == () and np.abs(chosen.voices['user'].samples).max() > 0.05
    assert replay_notes(user, agent)[0][0].endswith('choose user_channel:=0')


def test_the_mean_of_channels_is_heard_as_ever(tmp_path):
    user = write(tmp_path / 'u.wav', speech(1), speech(3))
    agent = write(tmp_path / 'a.wav', speech(2))

    recording = read_wavs(user, agent, LEAD_NS, Fraction(1))

    _, samples = scipy.io.wavfile.read(user)
    np.testing.assert_allclose(
        recording.voices['user'].samples, samples.mean(1) / 32768, atol=1e-7
    )
    assert recording.notes == ()


@pytest.mark.parametrize('voice', ['user', 'agent'])
def test_a_channel_that_is_not_there_is_refused_with_those_that_are(
    array, capsys, voice, tmp_path
):
    user, agent, _ = array
    given = ['--user', str(user), '--agent', str(agent), '--out', str(tmp_path / 'out')]

    assert evaluate.main([*given, f'--{voice}-channel', '6']) == 1

    told = capsys.readouterr().err
    n = 'channel 0 alone' if voice == 'agent' else '6 channels'
    assert f'talk_{voice}.wav: expected channel 6, got {n}' in told
    with pytest.raises(ValueError, match='expected channel 6, got'):
        WavRecording(str(user), str(agent), 20, 1.0, {voice: 6})


def test_a_channel_that_is_no_channel_is_refused_before_anything_is_read(capsys):
    with pytest.raises(SystemExit):
        evaluate.main(['--user-channel', 'left', '--out', 'x'])

    assert 'user-channel' in capsys.readouterr().err


def test_training_hears_the_channel_that_the_recipe_names(array, tmp_path):
    user, _, expected = array
    frames = np.zeros((100, 1))
    np.savez(tmp_path / 'talk_agent.npz', motion=frames, names=['neck_x'], fps=25.0)
    config = RunConfig().model_config()
    run = RunConfig(channels={'user': 0, 'agent': 'mean'})

    (clip,), _ = open_clips(tmp_path, get_space('arkit55'), 25.0, run.channels)
    heard = Windows([clip], config, 1, 1, seed=0).cut(0, 0)['user_speech'].numpy().ravel()

    np.testing.assert_array_equal(read_voice(user, RATE_HZ, 0), expected)
    n = len(heard)
    assert np.corrcoef(heard, expected[:n])[0, 1] > 0.85  # level is normalised
    assert np.corrcoef(heard, read_voice(user)[:n])[0, 1] < 0.7


@pytest.mark.parametrize(
    ('channels', 'message'),
    [
        ({'use': 0}, "channels knows user and agent, got .'use'"),
        ({'user': 'left'}, "channels: user: channel must be 'mean' or an index"),
    ],
)
def test_a_recipe_with_other_channels_is_refused(channels, message):
    with pytest.raises(ValueError, match=message):
        RunConfig(channels=channels)


def test_training_and_bench_say_which_channels_are_odd(array, tmp_path):
    x = speech(1)
    write(tmp_path / 'talk_agent.wav', x, -x)
    np.savez(tmp_path / 'talk_agent.npz', motion=np.zeros((100, 1)), names=['neck_x'], fps=25.0)

    (clip,), _ = open_clips(tmp_path, get_space('arkit55'))
    cases, _ = bench_clip.find_cases(tmp_path)
    of_bench = bench_clip.describe_case(cases[0], {'user': 0})

    (note,) = clip.notes
    assert note.startswith('talk_agent.wav: channels 0 and 1 are inverted')
    assert note.endswith('choose channels of the recipe, agent: 0')
    assert of_bench[0].startswith('talk_agent: agent: channels 0 and 1 are inverted')


def test_a_clip_without_the_channel_of_the_recipe_is_left_out_by_name(array, tmp_path):
    np.savez(tmp_path / 'talk_agent.npz', motion=np.zeros((100, 1)), names=['neck_x'], fps=25.0)

    with pytest.raises(ValueError, match='talk_agent.wav: expected channel 2, got channel 0 alo'):
        open_clips(tmp_path, get_space('arkit55'), 25.0, {'agent': 2})
