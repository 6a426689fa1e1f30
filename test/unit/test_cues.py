# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pitch of made voices, and the cues of Ward and Tsukahara planted in them."""

import numpy as np
import pytest

from timar_ros.learn import cues

_RATE_HZ = 16000


def _voice(pieces):
    """Return a voice of (seconds, pitch in Hz) pieces; pitch 0 = silence."""
    hz = np.concatenate([np.full(round(s * _RATE_HZ), pitch, float) for s, pitch in pieces])
    phase = 2 * np.pi * np.cumsum(hz) / _RATE_HZ
    tone = sum(np.sin(k * phase) / k for k in range(1, 6))
    return np.where(hz > 0, 0.1 * tone, 0.0)


@pytest.mark.parametrize('hz', [80, 123, 210, 380])
def test_the_pitch_of_a_buzz_is_its_frequency(hz):
    pitch = cues.voice_pitch(_voice([(1.0, hz)]), _RATE_HZ)

    assert len(pitch) == 100
    # a period is a whole number of samples here
    np.testing.assert_allclose(pitch[10:90], hz, rtol=0.015)


def test_noise_and_silence_have_no_pitch():
    hiss = 0.1 * np.random.default_rng(0).standard_normal(_RATE_HZ)

    assert (cues.voice_pitch(hiss, _RATE_HZ) > 0).mean() < 0.05
    assert not cues.voice_pitch(np.zeros(_RATE_HZ), _RATE_HZ).any()


def test_low_pitch_after_speech_invites_a_nod_700_ms_later():
    voice = _voice([(1.0, 0), (2.0, 200), (0.3, 120), (2.0, 200), (0.3, 120), (1.0, 0)])

    times = cues.backchannel_times(voice, _RATE_HZ)

    # the low stretches begin at 3.0 and 5.3 s and are long enough 110 ms later
    np.testing.assert_allclose(times, [3.0 + 0.11 + 0.7, 5.3 + 0.11 + 0.7], atol=0.06)


def test_low_pitch_invites_nothing_after_a_word_or_when_it_is_short():
    after_a_word = _voice([(1.0, 0), (0.3, 200), (0.3, 120), (1.0, 0), (2.0, 200)])
    short = _voice([(1.0, 0), (2.0, 200), (0.06, 120), (2.0, 200), (0.5, 0)])

    assert not len(cues.backchannel_times(after_a_word, _RATE_HZ))
    assert not len(cues.backchannel_times(short, _RATE_HZ))


def test_two_invitations_are_800_ms_apart():
    voice = _voice([(1.0, 200), (0.2, 120), (0.2, 200), (0.2, 120), (3.0, 200), (0.2, 0)])

    assert len(cues.backchannel_times(voice, _RATE_HZ)) == 1


def test_who_says_nothing_invites_nothing():
    assert not len(cues.backchannel_times(np.zeros(_RATE_HZ), _RATE_HZ))
