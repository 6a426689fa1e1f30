# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
import pytest

from timar_ros.stream.level import FLOOR, LevelState, Loudness, level_db, normalise, normalise_clip

SECOND = 16_000


def make_speech(duration_s, seed=0, rms_db=-26.0):
    """Noise in syllables and pauses: its loudness varies as a talker's does."""
    rng = np.random.default_rng(seed)
    n = int(duration_s * SECOND)
    time_s = np.arange(n) / SECOND
    syllables = np.maximum(0, np.sin(2 * np.pi * 4 * time_s + np.sin(time_s))) ** 2
    phrases = np.interp(time_s, np.arange(0, duration_s + 1), rng.random(int(duration_s) + 1) ** 2)
    speech = np.convolve(rng.standard_normal(n), np.ones(8) / 8, 'same') * syllables * phrases
    return (speech * 10 ** (rms_db / 20) / speech.std()).astype(np.float32)


def run(samples, state=None):
    return normalise(samples, np.ones(len(samples), bool), state or LevelState())


def run_in_pieces(samples, chunk):
    pieces, state = [], LevelState()
    for start in range(0, len(samples), chunk):
        piece, state = run(samples[start : start + chunk], state)
        pieces.append(piece)
    return np.concatenate(pieces), state


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def test_each_sample_is_divided_by_what_came_up_to_it():
    samples = make_speech(2) + np.float32(0.02)
    forget, forget_recent = math.exp(-1 / (20 * SECOND)), math.exp(-1 / (0.3 * SECOND))
    weight, total, energy, recent = 1600.0, 0.0, 0.0, 0.0
    expected = []

    for x in samples.astype(float):
        weight, total = weight * forget + 1, total * forget + x
        energy, recent = energy * forget + x * x, recent * forget_recent + x * x
        variance = energy / weight - (total / weight) ** 2
        guard = 0.25 * ((1 - forget_recent) * recent - (total / weight) ** 2)
        y = (x - total / weight) / math.sqrt(max(variance, guard) + FLOOR)
        expected.append(
            y if abs(y) < 10 else math.copysign(10 + 10 * math.tanh(abs(y) / 10 - 1), y)
        )

    assert_allclose(run(samples)[0], expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize('chunk', [160, 997, 40_000])
def test_the_level_does_not_depend_on_how_audio_was_chunked(chunk):
    samples = make_speech(3)
    whole, last = run(samples)

    pieces, state = [], LevelState()
    for start in range(0, len(samples), chunk):
        piece, state = run(samples[start : start + chunk], state)
        pieces.append(piece)

    assert_array_equal(np.concatenate(pieces), whole)
    assert state == last


def test_what_comes_later_changes_nothing_before():
    samples = make_speech(2)
    changed = samples.copy()
    changed[20_000:] *= 100

    assert_array_equal(run(changed)[0][:20_000], run(samples)[0][:20_000])


def test_absent_samples_are_zero_and_leave_the_statistics_alone():
    samples = make_speech(2)
    is_present = np.ones(len(samples) + 5_000, bool)
    is_present[8_000:13_000] = False
    with_hole = np.insert(samples, 8_000, np.full(5_000, 9, np.float32))
    whole, last = run(samples)

    normalised, state = normalise(with_hole, is_present, LevelState())

    assert_array_equal(normalised[is_present], whole)
    assert_array_equal(normalised[~is_present], 0)
    assert state == last


def test_nothing_present_changes_nothing():
    state = LevelState(voice=Loudness(total=3.0))

    normalised, after = normalise(np.ones(10, np.float32), np.zeros(10, bool), state)

    assert_array_equal(normalised, np.zeros(10))
    assert after == state


def test_soft_and_loud_copies_of_speech_agree_after_three_seconds():
    speech = make_speech(12)
    loud, soft = (run(speech * np.float32(10 ** (db / 20)))[0] for db in (12, -12))

    assert abs(rms(soft[3 * SECOND :]) / rms(loud[3 * SECOND :]) - 1) < 0.1
    difference = rms(soft[3 * SECOND :] - loud[3 * SECOND :])
    assert difference < 0.1 * rms(loud[3 * SECOND :])


def test_speech_comes_out_near_the_published_level():
    speech = make_speech(60)
    causal, published = run(speech)[0], normalise_clip(speech)

    for second in range(5, 60, 5):
        part = slice(second * SECOND, (second + 5) * SECOND)
        assert 0.7 < rms(causal[part]) / rms(published[part]) < 1.4, f'{second} s'


def test_digital_silence_stays_zero_and_quiet_noise_stays_quiet():
    noise = np.random.default_rng(0).standard_normal(120 * SECOND).astype(np.float32)

    assert_array_equal(run(np.zeros(SECOND, np.float32))[0], np.zeros(SECOND))
    assert rms(run(noise * np.float32(1e-4))[0][-SECOND:]) < 0.11  # -80 dBFS
    assert rms(run(noise * np.float32(10**-3.5))[0][-SECOND:]) < 0.32  # -70 dBFS


def test_an_onset_after_long_near_silence_is_bounded_and_soon_at_its_level():
    rng = np.random.default_rng(0)
    hiss = (rng.standard_normal(60 * SECOND) * 1e-4).astype(np.float32)
    speech = make_speech(10, rms_db=-20)
    _, state = run(hiss)

    normalised, _ = run(speech, state)

    assert np.abs(normalised).max() < 20
    # within 0.3 s of the onset the gain is at most twice that of the last 0.3 s; without the
    # short memory it would be eight times too high here
    assert rms(normalised[SECOND // 2 : 3 * SECOND // 2]) < 3.5


def test_ten_minutes_of_silence_leave_a_voice_as_loud_as_after_ten_seconds():
    speech, state = make_speech(10), run(make_speech(30))[1]
    for _ in range(10):
        _, state = run(np.zeros(SECOND, np.float32), state)
    soon, later = state, state
    for _ in range(600):
        _, later = run(np.zeros(SECOND, np.float32), later)

    assert_allclose(run(speech, later)[0], run(speech, soon)[0], atol=0.02)


def test_the_first_sample_of_all_cannot_spike():
    click = np.zeros(1_000, np.float32)
    click[0] = 1

    assert np.abs(run(click)[0]).max() < 20


def test_a_constant_offset_is_removed():
    speech = make_speech(20)

    shifted, plain = run(speech + np.float32(0.05))[0], run(speech)[0]

    difference = rms(shifted[5 * SECOND :] - plain[5 * SECOND :])
    assert difference < 0.05 * rms(plain[5 * SECOND :])


def test_the_published_level_is_that_of_the_whole_clip():
    speech = make_speech(2)

    normalised = normalise_clip(speech)

    expected = (speech - speech.mean(dtype=float)) / np.sqrt(speech.var(dtype=float) + 1e-7)
    assert_allclose(normalised, expected, atol=1e-6)


def test_the_level_of_a_window_is_in_decibels_of_full_scale():
    tone = np.sin(2 * np.pi * np.arange(SECOND) / 100).astype(np.float32)
    is_present = np.arange(SECOND) < SECOND // 2
    half = np.where(is_present, tone, 1).astype(np.float32)

    assert level_db(tone) == pytest.approx(-3.01, abs=0.01)
    assert level_db(tone * np.float32(0.1)) == pytest.approx(-23.01, abs=0.01)
    assert level_db(half, is_present) == pytest.approx(-3.01, abs=0.01)
    assert level_db(np.zeros(10, np.float32)) == -120
    assert level_db(tone, np.zeros(SECOND, bool)) == -120


@pytest.mark.parametrize('value', [2.0, 4.0, 100.0, 32768.0])
@pytest.mark.parametrize('at_s', [0, 3])
def test_a_glitch_beyond_full_scale_does_not_deafen(value, at_s):
    speech = make_speech(8)
    spoiled = speech.copy()
    spoiled[at_s * SECOND : at_s * SECOND + 320] = value

    clean, _ = run(speech)
    heard, _ = run(spoiled)

    after = slice((at_s + 2) * SECOND, None)
    assert rms(heard[after]) > 0.9 * rms(clean[after])
    assert np.isfinite(heard).all()


@pytest.mark.parametrize('chunk', [160, 997])
def test_a_glitch_counts_the_same_however_it_was_cut(chunk):
    speech = make_speech(3)
    speech[SECOND : SECOND + 6_000] = 3.0
    whole, last = run(speech)

    pieces, state = run_in_pieces(speech, chunk)

    assert_allclose(pieces, whole, atol=1e-6)
    assert state.n_beyond == pytest.approx(last.n_beyond)


@pytest.mark.parametrize(('gain', 'most'), [(10, 2), (200, 8)])
def test_a_voice_that_is_overdriven_all_the_time_is_still_brought_near_its_level(gain, most):
    normal, _ = run(make_speech(6))

    heard, _ = run(np.clip(make_speech(6) * gain, -4, 4))

    assert 1 / most < rms(heard[3 * SECOND :]) / rms(normal[3 * SECOND :]) < most


def _overdrive(speech, begin_s, end_s):
    """Let a driver send integers as floats for a while, clipped as packets are."""
    spoiled = np.round(speech * 32768) / np.float32(32768)
    part = slice(round(begin_s * SECOND), round(end_s * SECOND))
    spoiled[part] = np.clip(spoiled[part] * 32768, -4, 4)
    return spoiled


def test_three_seconds_of_integers_sent_as_floats_leave_the_voice_as_loud_as_before():
    speech = make_speech(16, rms_db=-30)
    clean, _ = run(speech)

    heard, _ = run(_overdrive(speech, 5, 8))

    for begin_s, most_db in ((8.5, 2), (10, 1), (13, 1)):
        part = slice(round(begin_s * SECOND), round((begin_s + 1.5) * SECOND))
        softer_db = 20 * math.log10(rms(clean[part]) / rms(heard[part]))
        assert -1 < softer_db < most_db, f'{begin_s} s'


def test_a_voice_is_not_overdriven_in_the_pauses_of_a_clipped_stretch():
    speech = make_speech(12, rms_db=-30)
    speech[6 * SECOND : 7 * SECOND] = 2.0 / 32768  # a hiss of two bits: 2.0 as a float
    clean, _ = run(speech)

    heard, _ = run(_overdrive(speech, 5, 8))

    assert rms(heard[10 * SECOND :]) > 0.9 * rms(clean[10 * SECOND :])


def test_integers_sent_as_floats_all_the_time_come_out_near_the_level_of_a_voice():
    heard, _ = run(_overdrive(make_speech(12), 0, 12))

    assert 1 < rms(heard[2 * SECOND :]) < 4
    assert rms(heard[SECOND : 2 * SECOND]) < 4


@pytest.mark.parametrize('chunk', [160, 997])
def test_an_overdriven_stretch_counts_the_same_however_it_was_cut(chunk):
    speech = _overdrive(make_speech(4), 1, 2.2)
    whole, last = run(speech)

    pieces, state = run_in_pieces(speech, chunk)

    assert_allclose(pieces, whole, atol=1e-6)
    assert (state.voice, state.is_spoiled, state.n_since) == (
        last.voice, last.is_spoiled, last.n_since
    )  # fmt: skip


def test_the_silence_of_a_microphone_with_an_offset_does_not_count_as_a_voice():
    speech, hiss = make_speech(20), np.random.default_rng(1).standard_normal(60 * SECOND)
    silence = (hiss * 1e-4).astype(np.float32)
    plain = run(silence, run(speech)[1])[1]

    offset = run(silence + np.float32(0.03), run(speech + np.float32(0.03))[1])[1]

    heard, expected = run(speech + np.float32(0.03), offset)[0], run(speech, plain)[0]
    first = slice(0, 2 * SECOND)
    assert rms(heard[first]) == pytest.approx(rms(expected[first]), rel=0.1)
