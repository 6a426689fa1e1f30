# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Behaviour figures on made signals, where the right answer is known."""

import numpy as np
import pytest

from timar_ros.learn import behaviour
from timar_ros.stream import lips

_FPS = 25.0
_RATE_HZ = 16000


def _yaw(degrees):
    neck = np.zeros((len(degrees), 3))
    neck[:, 1] = np.deg2rad(degrees)
    return neck


def _seconds(duration_s):
    return np.arange(int(duration_s * _FPS)) / _FPS


def _syllables(duration_s=20.0, seed=0):
    """Return an irregular opening in 0..1 at 100 Hz, like syllables, and a voice as loud."""
    rng = np.random.default_rng(seed)
    opening = np.convolve(rng.normal(size=int(duration_s * 100)), np.hanning(20), 'same')
    opening = np.clip(opening / np.abs(opening).max(), 0, 1)
    gain = np.interp(np.arange(int(duration_s * _RATE_HZ)) / 160, np.arange(len(opening)), opening)
    return opening, 0.3 * gain * rng.normal(size=len(gain))


def test_the_speed_of_a_slow_sine_is_its_derivative():
    time_s = _seconds(60)

    speed = behaviour.head_speed(_yaw(10 * np.sin(2 * np.pi * 0.5 * time_s)))

    expected = np.abs(10 * 2 * np.pi * 0.5 * np.cos(2 * np.pi * 0.5 * (time_s[:-1] + 0.02)))
    np.testing.assert_allclose(speed[50:-50], expected[50:-50], atol=0.1)


def test_the_speed_figures_are_percentiles():
    neck = _yaw(10 * np.sin(2 * np.pi * 0.4973 * _seconds(400)))

    figures = behaviour.speed_figures(neck)

    peak = 10 * 2 * np.pi * 0.4973
    assert figures['p50'] == pytest.approx(peak / np.sqrt(2), rel=0.01)
    assert figures['p95'] == pytest.approx(peak * np.sin(0.95 * np.pi / 2), rel=0.01)
    assert figures['max'] == pytest.approx(peak, rel=0.02)


def test_trembling_above_the_low_pass_is_no_head_speed():
    assert behaviour.head_speed(_yaw(np.sin(2 * np.pi * 11 * _seconds(20))))[50:-50].max() < 2.0


def test_power_shares_split_two_sines_by_their_power():
    time_s = _seconds(400)
    degrees = 3 * np.sin(2 * np.pi * 0.75 * time_s) + np.sin(2 * np.pi * 9 * time_s)

    slow, fast = behaviour.power_shares(_yaw(degrees))

    assert (slow, fast) == pytest.approx((0.9, 0.1), abs=0.005)


def test_a_frozen_head_has_no_power_to_share():
    assert behaviour.power_shares(np.ones((400, 3))) == (0.0, 0.0)


def test_jerk_of_a_cubic_is_its_third_derivative():
    neck = _yaw(5 * _seconds(4) ** 3)

    assert behaviour.rms_jerk(neck) == pytest.approx(30.0, rel=1e-6)


def test_seams_that_jump_show_and_seams_that_do_not_are_one():
    ramp = np.arange(100.0)[:, None] * [1.0, 0.5]
    jumping = ramp + 3 * (np.arange(100) // 25)[:, None] * [1.0, 0.5]

    assert behaviour.seam_ratio(ramp, 25) == pytest.approx(1.0)
    assert behaviour.seam_ratio(jumping, 25) == pytest.approx(4.0)


@pytest.mark.parametrize('delay_ms', [-80, 0, 40, 120])
def test_lip_lag_is_the_delay_of_the_jaw(delay_ms):
    opening, voice = _syllables()
    jaw = np.interp(_seconds(20) - delay_ms / 1000, np.arange(len(opening)) / 100, opening)

    lag = lips.lip_sync(0.3 * jaw, voice, _RATE_HZ)

    assert 1000 * lag.lag_s == pytest.approx(delay_ms, abs=8)
    assert lag.correlation > 0.85


def test_a_jaw_of_another_voice_does_not_follow_this_one():
    opening, _ = _syllables(seed=1)
    _, voice = _syllables(seed=2)
    jaw = np.interp(_seconds(20), np.arange(len(opening)) / 100, opening)

    assert lips.lip_sync(jaw, voice, _RATE_HZ).correlation < 0.4


def test_lip_lag_of_a_44_khz_voice_is_the_same():
    opening, _ = _syllables()
    times = np.arange(int(20 * 44100)) / 44100
    rng = np.random.default_rng(3)
    voice = np.interp(times, np.arange(len(opening)) / 100, opening) * rng.normal(size=len(times))
    jaw = np.interp(_seconds(20) - 0.04, np.arange(len(opening)) / 100, opening)

    assert lips.lip_sync(jaw, voice, 44100).lag_s == pytest.approx(0.04, abs=0.008)


def test_a_mouth_at_rest_is_compared_with_the_speaking_one():
    speaks = np.repeat([False, True, False], 100)
    jaw = np.where(speaks, 0.4, 0.02)

    assert behaviour.mouth_rest_ratio(jaw, speaks) == pytest.approx(0.05)


def test_stillness_compares_silence_with_speech():
    time_s = _seconds(60)
    speaks = (time_s % 20) < 10
    degrees = np.cumsum(np.where(speaks, 8.0, 1.0)) / _FPS
    nobody = np.zeros(len(time_s), bool)

    figures = behaviour.stillness(_yaw(degrees), speaks, nobody)

    assert figures['silent'] == pytest.approx(1.0, abs=0.15)
    assert figures['lively'] == pytest.approx(8.0, abs=0.3)
    assert figures['ratio'] == pytest.approx(8.0, rel=0.15)


def test_without_silence_there_is_no_stillness():
    neck = _yaw(np.sin(_seconds(10)))
    always = np.ones(len(neck), bool)

    assert np.isnan(behaviour.stillness(neck, always, always)['silent'])


def test_the_follower_is_found_behind_its_leader():
    rng = np.random.default_rng(4)
    leader = np.convolve(rng.normal(size=1500), np.hanning(25), 'same')
    follower = np.roll(leader, 15) + 0.1 * rng.normal(size=1500)

    lag = lips.cross_lag(follower, leader, _FPS, 0.0, 2.0)

    assert lag.lag_s == pytest.approx(0.6, abs=0.02)
    assert lag.correlation > 0.95


def test_nothing_follows_a_constant():
    lag = lips.cross_lag(np.ones(200), np.random.default_rng(5).normal(size=200), _FPS, 0, 1)

    assert lag == lips.Lag(0.0, 0.0)


def test_diversity_is_the_mean_distance_between_seeds():
    motions = np.stack([np.full((10, 2), value) for value in (0.0, 1.0, 3.0)])

    assert behaviour.diversity(motions) == pytest.approx((1 + 3 + 2) / 3)


def test_a_motion_at_half_size_differs_by_half():
    motion = np.random.default_rng(6).normal(size=(50, 3))
    motion -= motion.mean(0)

    assert behaviour.relative_difference(0.5 * motion, motion) == pytest.approx(0.5)


def test_a_voice_is_active_where_it_sounds_and_through_short_gaps():
    voice = np.zeros(4 * _RATE_HZ)
    rng = np.random.default_rng(7)
    for start_s, end_s in ((1.0, 1.8), (2.0, 3.0)):
        span = slice(int(start_s * _RATE_HZ), int(end_s * _RATE_HZ))
        voice[span] = 0.1 * rng.normal(size=span.stop - span.start)

    active = behaviour.voice_activity(voice, _RATE_HZ)

    assert len(active) == 100
    assert active[26:74].all()
    assert not active[:24].any() and not active[77:].any()


def test_the_envelope_of_a_tone_is_its_rms():
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(_RATE_HZ) / _RATE_HZ)

    envelope = lips.voice_envelope(tone, _RATE_HZ, 25.0)

    np.testing.assert_allclose(envelope[2:-2], 0.5 / np.sqrt(2), rtol=1e-3)


@pytest.mark.parametrize(
    ('neck', 'message'),
    [
        (np.zeros((100, 4)), r'neck must be \[T, 3\] rotation vectors in rad'),
        (np.zeros((5, 3)), 'T at least 16'),
        (np.full((100, 3), np.nan), 'neck must be finite'),
    ],
)
def test_what_is_no_neck_is_refused(neck, message):
    with pytest.raises(ValueError, match=message):
        behaviour.head_speed(neck)
