# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Wavs of any type become samples; files that are wrong give a sentence."""

import wave

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.stream.wav import read_duration_s, read_pcm, read_wav

TYPES = ('int16', 'int24', 'int32', 'uint8', 'float32')


def tone(rate_hz: int, seconds: float, hz: float = 300.0) -> np.ndarray:
    return 0.25 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def write_tone(path, rate_hz=16000, seconds=1.0, kind='int16'):
    """Write a sine of a quarter of full scale."""
    x = tone(rate_hz, seconds)
    if kind == 'int24':
        with wave.open(str(path), 'wb') as file:
            file.setnchannels(1)
            file.setsampwidth(3)
            file.setframerate(rate_hz)
            stored = np.rint(x * 2**23).astype('<i4').reshape(-1, 1).view(np.uint8)
            file.writeframes(stored[:, :3].tobytes())
        return path
    if kind == 'uint8':
        stored = np.rint(x * 128 + 128).astype(np.uint8)
    elif kind.startswith('float'):
        stored = x.astype(kind)
    else:
        stored = np.rint(x * -float(np.iinfo(kind).min)).astype(kind)
    scipy.io.wavfile.write(path, rate_hz, stored)
    return path


@pytest.mark.parametrize(
    ('kind', 'step'),
    [('int16', 2**-15), ('int24', 2**-23), ('int32', 2**-24), ('uint8', 2**-7), ('float32', 0)],
)
def test_a_wav_of_any_type_has_full_scale_1(tmp_path, kind, step):
    samples, rate_hz = read_wav(write_tone(tmp_path / 'x.wav', 16000, 0.1, kind))

    assert (rate_hz, samples.dtype, samples.shape) == (16000, np.float32, (1600, 1))
    np.testing.assert_allclose(samples[:, 0], tone(16000, 0.1), atol=step + 1e-7)


def test_each_channel_is_a_column(tmp_path):
    stored = np.arange(-300, 300, dtype=np.int16).reshape(200, 3)
    scipy.io.wavfile.write(tmp_path / 'x.wav', 44100, stored)

    samples, rate_hz = read_pcm(tmp_path / 'x.wav')

    assert rate_hz == 44100
    np.testing.assert_array_equal(samples, stored)


@pytest.mark.parametrize('kind', TYPES)
def test_to_be_sent_on_16_bits_stay_as_they_are_and_others_have_full_scale_1(tmp_path, kind):
    samples, rate_hz = read_pcm(write_tone(tmp_path / 'x.wav', 8000, 0.1, kind))

    full_scale = 32768 if kind == 'int16' else 1
    tolerance = 1 / 100 if kind == 'uint8' else 1e-4
    assert samples.dtype == (np.int16 if kind == 'int16' else np.float32)
    np.testing.assert_allclose(samples[:, 0] / full_scale, tone(8000, 0.1), atol=tolerance)
    assert rate_hz == 8000


@pytest.mark.parametrize('kind', TYPES)
def test_the_duration_of_a_wav_of_any_type_is_known(tmp_path, kind):
    assert read_duration_s(write_tone(tmp_path / 'x.wav', 44100, 0.5, kind)) == 0.5


@pytest.mark.filterwarnings('error')
def test_a_wav_that_was_cut_off_is_heard_as_far_as_it_goes(tmp_path):
    path = write_tone(tmp_path / 'x.wav', 16000, 1.0)
    path.write_bytes(path.read_bytes()[: 44 + 2 * 8000])

    samples, _ = read_wav(path)

    np.testing.assert_allclose(samples[:, 0], tone(16000, 0.5), atol=2**-15)
    assert read_duration_s(path) == 0.5


@pytest.mark.parametrize('read', [read_pcm, read_wav, read_duration_s])
@pytest.mark.parametrize(
    ('content', 'told'),
    [
        (b'', 'got an empty file'),
        (b'hello, this is a text', 'cannot be read as one'),
        (b'RIFF\x24\x00\x00\x00WAVEfmt ', 'cannot be read as one'),
        (b'RIFF$\0\0\0WAVEfmt \x10\0\0\0\1\0', 'cannot be read as one'),
        (b'ID3' + bytes(200), 'cannot be read as one'),
    ],
)
def test_files_that_are_no_wavs_give_a_sentence(tmp_path, read, content, told):
    path = tmp_path / 'x.wav'
    path.write_bytes(content)

    with pytest.raises(ValueError, match=f'x.wav: expected a PCM or float wav file, .*{told}'):
        read(path)


@pytest.mark.parametrize('read', [read_pcm, read_wav, read_duration_s])
def test_a_wav_without_samples_gives_a_sentence(tmp_path, read):
    scipy.io.wavfile.write(tmp_path / 'x.wav', 16000, np.zeros(0, np.int16))

    with pytest.raises(ValueError, match='x.wav: expected sound, got 0 samples'):
        read(tmp_path / 'x.wav')


@pytest.mark.parametrize('read', [read_pcm, read_wav])
def test_a_wav_with_nan_gives_a_sentence(tmp_path, read):
    scipy.io.wavfile.write(tmp_path / 'x.wav', 16000, np.full(10, np.nan, np.float32))

    with pytest.raises(ValueError, match='x.wav: expected finite samples'):
        read(tmp_path / 'x.wav')


@pytest.mark.parametrize('read', [read_pcm, read_wav, read_duration_s])
def test_a_missing_wav_gives_a_sentence(tmp_path, read):
    with pytest.raises(FileNotFoundError, match='no recording at .*nowhere.wav'):
        read(tmp_path / 'nowhere.wav')
