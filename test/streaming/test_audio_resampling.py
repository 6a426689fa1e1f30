# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
import pytest

from timar_ros.stream.resample import Resampler

RATES_HZ = [8_000, 11_025, 22_050, 44_100, 44_101, 48_000, 96_000]


def make_tone(frequency_hz, rate_hz, duration_s=0.5):
    return np.sin(2 * np.pi * frequency_hz * np.arange(int(rate_hz * duration_s)) / rate_hz)


@pytest.mark.parametrize('rate_hz', RATES_HZ)
def test_a_tone_that_both_rates_can_carry_keeps_its_phase_and_amplitude(rate_hz):
    for frequency_hz in (50, 440, 3_000, 0.78 * min(rate_hz, 16_000) / 2):
        resampled = Resampler(rate_hz).resample(make_tone(frequency_hz, rate_hz))

        expected = make_tone(frequency_hz, 16_000)
        edge = 200  # silence before and after is part of the recording
        assert_allclose(resampled[edge:7_800], expected[edge:7_800], atol=1e-3, rtol=0)


@pytest.mark.parametrize('rate_hz', [22_050, 44_100, 48_000])
def test_what_the_lower_rate_cannot_carry_is_gone_instead_of_folded(rate_hz):
    for frequency_hz in (9_100, 0.45 * rate_hz):
        resampled = Resampler(rate_hz).resample(make_tone(frequency_hz, rate_hz))

        assert np.abs(resampled[200:-200]).max() < 1e-3, f'{frequency_hz} Hz'


@pytest.mark.parametrize('rate_hz', RATES_HZ)
def test_a_constant_stays_constant(rate_hz):
    resampled = Resampler(rate_hz).resample(np.ones(rate_hz // 4, np.float32))

    assert_allclose(resampled[200:-200], 1, atol=1e-5, rtol=0)


@pytest.mark.parametrize('rate_hz', [8_000, 44_100, 48_000])
def test_an_output_sample_is_the_same_alone_as_in_the_whole(rate_hz):
    resampler = Resampler(rate_hz)
    noise = np.random.default_rng(0).standard_normal(rate_hz).astype(np.float32)
    whole = resampler.resample(noise)

    for output in (1_000, 7_777, 12_345):
        position = int(resampler.input_before(np.array([output]))[0])
        around = slice(position - resampler.reach, position + resampler.reach + 1)
        alone = resampler.evaluate(noise[around], around.start, np.array([output]))
        assert_array_equal(alone, whole[[output]])


def test_lengths_agree_in_time():
    assert len(Resampler(8_000).resample(np.zeros(80))) == 160
    assert len(Resampler(44_100).resample(np.zeros(441))) == 160
    assert len(Resampler(48_000).resample(np.zeros(481))) == 161
    assert len(Resampler(16_000, 48_000).resample(np.zeros(160))) == 480
