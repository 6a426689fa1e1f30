# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Wavs and motion files as recordings: lengths, rates, and files that are wrong."""

from fractions import Fraction

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.learn.offline import deliver_voice
from timar_ros.learn.recording import compose_voice, read_motion_frames, read_wavs
from timar_ros.motion import get_space

TURN_S = Fraction(1)
LEAD_NS = 400_000_000
FLAME, ARKIT = get_space('flame56'), get_space('arkit55')


def tone(rate_hz: int, seconds: float, hz: float = 300.0) -> np.ndarray:
    return 0.25 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def write_tone(path, rate_hz=16000, seconds=1.0, channels=1):
    """Write a sine of a quarter of full scale, equal in all channels."""
    x = np.repeat(tone(rate_hz, seconds)[:, None], channels, 1)
    scipy.io.wavfile.write(path, rate_hz, np.rint(x * 2**15).astype(np.int16))
    return path


def save_motion(path, space, motion, **changes):
    content = {'motion': motion, 'names': np.array(space.names), 'fps': 25} | changes
    np.savez(path, **{name: value for name, value in content.items() if value is not None})
    return path


def test_44100_hz_in_stereo_is_heard_in_time(tmp_path):
    user = write_tone(tmp_path / 'user.wav', 44100, 2.0, channels=2)
    agent = write_tone(tmp_path / 'agent.wav', 8000, 2.0)

    recording = read_wavs(user, agent, LEAD_NS, TURN_S)

    assert recording.length_s == 2
    assert recording.deliveries['user'][0].packet.samples.shape == (882, 2)
    for voice in recording.voices.values():
        assert len(voice.samples) == 32000
        np.testing.assert_allclose(voice.samples[200:-200], tone(16000, 2.0)[200:-200], atol=2e-3)


def test_the_shorter_voice_is_followed_by_silence_up_to_the_end_of_the_last_turn(tmp_path):
    user = write_tone(tmp_path / 'user.wav', 16000, 1.5)
    agent = write_tone(tmp_path / 'agent.wav', 16000, 4.25)

    recording = read_wavs(user, agent, LEAD_NS, TURN_S)

    assert recording.length_s == Fraction(17, 4)
    for feed in recording.deliveries.values():
        samples = np.concatenate([delivery.packet.samples for delivery in feed])
        assert len(samples) == 5 * 16000
    said = recording.voices['user']
    assert said.is_present.sum() == 24000
    assert not said.samples[24000:].any()
    assert recording.notes == ('the user is recorded for 1.5 of 4.2 s; silence follows',)


def test_the_agent_is_known_ahead_and_the_user_when_captured(tmp_path):
    path = write_tone(tmp_path / 'x.wav')

    recording = read_wavs(path, path, LEAD_NS, TURN_S)

    user, agent = (recording.deliveries[name][3] for name in ('user', 'agent'))
    assert user.packet.stamp_ns == agent.packet.stamp_ns == 60_000_000
    assert (user.due_ns, user.arrival_ns) == (60_000_000, 80_000_000)
    assert agent.packet.sent_ns == agent.due_ns == 60_000_000 - LEAD_NS


@pytest.mark.parametrize('name', ['user', 'agent'])
def test_a_voice_of_any_length_is_put_together_whole(name):
    noise = np.random.default_rng(0).standard_normal(300 * 16000).astype(np.float32) / 8
    feed = deliver_voice(name, noise, 16000, LEAD_NS)
    # half of what was said in 20 to 200 s never arrived
    kept = [d for i, d in enumerate(feed) if not 1000 <= i < 10000 or i % 2]

    voice = compose_voice(name, kept, 0, Fraction(300))

    chunk = np.arange(len(noise)) // 320
    is_known = ~((chunk >= 1000) & (chunk < 10000) & (chunk % 2 == 0))
    np.testing.assert_array_equal(voice.is_present, is_known)
    np.testing.assert_array_equal(voice.samples, np.where(is_known, noise, 0))


def test_motion_is_taken_at_its_stamps_with_a_plain_jaw(tmp_path):
    motion = np.random.default_rng(0).normal(0, 0.1, (5, 56))
    stamp_s = np.array([0.013, 0.05, 0.1, 0.9, 1.0])
    path = save_motion(tmp_path / 'm.npz', FLAME, motion, stamp_s=stamp_s)

    stamps, frames = read_motion_frames(path, FLAME)

    np.testing.assert_array_equal(stamps, [13_000_000, 50_000_000, 10**8, 9 * 10**8, 10**9])
    expected = motion.copy()
    expected[:, 50] = np.maximum(motion[:, 50], 0)
    expected[:, 51:53] = 0
    np.testing.assert_allclose(frames, expected, atol=1e-6)


def test_motion_of_the_other_space_gives_neck_and_jaw(tmp_path):
    motion = np.random.default_rng(0).normal(0, 0.1, (5, 56))
    motion[:, 50] = 0.07
    path = save_motion(tmp_path / 'm.npz', FLAME, motion)

    stamps, frames = read_motion_frames(path, ARKIT)

    expected = np.zeros((5, 55))
    expected[:, 52:] = motion[:, 53:]
    expected[:, ARKIT.index('jawOpen')] = 0.2
    np.testing.assert_array_equal(stamps, np.arange(5) * 40_000_000)
    np.testing.assert_allclose(frames, expected, atol=1e-6)


@pytest.mark.parametrize(
    ('changes', 'told'),
    [
        ({'fps': None}, 'expected .*motion, names and fps .* got motion, names'),
        ({'motion': np.zeros((5, 3))}, r'a column for each name.* got \[5, 3\]'),
        ({'motion': np.full((5, 56), np.nan)}, 'expected finite motion'),
        (
            {'stamp_s': np.array([0, 1, 1, 2, 3.0])},
            'expected stamp_s .* rising seconds',
        ),
        ({'names': np.array([f'bone_{i}' for i in range(56)])}, 'bone_0.* are not those of flame'),
    ],
)
def test_motion_files_that_are_wrong_give_a_sentence(tmp_path, changes, told):
    path = save_motion(tmp_path / 'm.npz', FLAME, **({'motion': np.zeros((5, 56))} | changes))

    with pytest.raises(ValueError, match=f'm.npz: .*{told}'):
        read_motion_frames(path, FLAME)


def test_a_motion_file_that_is_no_npz_gives_a_sentence(tmp_path):
    (tmp_path / 'm.npz').write_bytes(b'')

    with pytest.raises(ValueError, match='m.npz: expected an npz'):
        read_motion_frames(tmp_path / 'm.npz', FLAME)


def test_what_is_missing_of_a_wav_is_said_in_evaluate_and_replay(tmp_path):
    from timar_ros.nodes.recording import WavRecording

    for voice in ('user', 'agent'):
        write_tone(tmp_path / f'{voice}.wav', seconds=2.0)
    cut = tmp_path / 'user.wav'
    cut.write_bytes(cut.read_bytes()[: 44 + 2 * 16000])
    sentence = 'user.wav: cut off: its header counts 2.0 s, 1.0 s are there'

    recording = read_wavs(cut, tmp_path / 'agent.wav', 160_000_000, Fraction(16, 100))
    replayed = WavRecording(str(cut), str(tmp_path / 'agent.wav'), 20, 1.0)

    assert sentence in recording.notes
    assert replayed.notes == [sentence]
