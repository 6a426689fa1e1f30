# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which byte begins a sample shows in the bytes, and so does whether they were cut at all."""

import numpy as np
import pytest

from timar_ros.stream.alignment import best_start, is_cut
from timar_ros.stream.pcm import samples_from_pcm

CUT, ONE_BYTE = 'cut in mid-sample: put the last bytes', 'one byte of each 16-bit sample'


def voice(n=4000, peak=0.3):
    rng = np.random.default_rng(0)
    smooth = np.convolve(rng.standard_normal(n + 40), np.hanning(40), 'valid')[:n]
    return peak * smooth / np.abs(smooth).max()


def s16(samples):
    return np.rint(samples * 32768).astype('<i2')


@pytest.mark.parametrize('peak', [0.003, 0.03, 0.3, 1.0])
@pytest.mark.parametrize('encoding', ['<i2', '<f4', 'integers as <f4'])
@pytest.mark.parametrize('is_noise', [False, True])
def test_the_byte_at_which_samples_begin_is_found(peak, encoding, is_noise):
    samples = voice(peak=peak)
    if is_noise:  # as sharp as speech gets: an 's'
        samples = np.random.default_rng(1).normal(0, peak / 4, 4000)
    stored = s16(samples) if encoding == '<i2' else samples.astype('<f4')
    if encoding == 'integers as <f4':
        stored = (s16(samples) / 32768).astype('<f4')
    width = stored.itemsize
    data = stored.tobytes()

    for cut in range(width):
        assert best_start(data[cut:], encoding[-3:], 1) == -cut % width
        assert best_start(data[cut:], encoding[-3:], 1, expected=-cut % width) == -cut % width


def test_silence_and_a_few_samples_leave_it_as_it_was_expected():
    assert best_start(bytes(1000), '<i2', 1, expected=1) == 1
    assert best_start(s16(voice(7)).tobytes()[1:], '<i2', 1, expected=0) == 0


@pytest.mark.parametrize('n', [160, 320, 4000])
def test_bytes_cut_in_mid_sample_are_told_from_one_byte_of_each_sample(n):
    pcm = s16(voice(n + 1))

    assert is_cut(pcm.tobytes()[:-1], '<i2', 1) is True
    assert is_cut(pcm.tobytes()[1:], '<i2', 1) is True
    assert is_cut(pcm.astype(np.uint8).tobytes(), '<i2', 1) is False
    assert is_cut((pcm >> 8).astype(np.uint8).tobytes(), '<i2', 1) is False
    assert is_cut(bytes(5001), '<i2', 1) is None
    assert is_cut(b'\x01', '<i2', 1) is None


@pytest.mark.parametrize(
    ('data', 'encoding', 'named', 'not_named'),
    [
        (s16(voice()).tobytes()[:-1], 'pcm_s16le', CUT, ONE_BYTE),
        (s16(voice()).astype(np.uint8).tobytes()[:-1], 'pcm_s16le', ONE_BYTE, CUT),
        (voice().astype('<f4').tobytes()[:-3], 'pcm_f32le', CUT, ONE_BYTE),
        (bytes(4001), 'S32LE', CUT, ONE_BYTE),
        (bytes(4001), 'pcm_s16le', f'either .*{CUT}.* or .*{ONE_BYTE}', 'nothing else'),
    ],
)
def test_bytes_that_are_no_whole_samples_are_refused_with_the_true_cause(
    data, encoding, named, not_named
):
    with pytest.raises(ValueError, match=named) as refusal:
        samples_from_pcm(data, encoding, 1)

    assert not_named not in str(refusal.value)
