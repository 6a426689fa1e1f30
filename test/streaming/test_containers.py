# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a TTS wraps around its samples is not spoken."""

import io
import wave

import numpy as np
import pytest
from utterance_message import message

from timar_ros.stream.containers import Unwrapping, unwrap
from timar_ros.stream.utterance_reader import UtteranceReader

FORM = ('pcm_s16le', 1, 24_000)
SAMPLES = (3000 * np.sin(np.arange(2400) / 9)).astype('<i2')


def as_wav(samples, size=None, rate_hz=24_000):
    file = io.BytesIO()
    with wave.open(file, 'wb') as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(rate_hz)
        wav.writeframes(samples.tobytes())
    data = bytearray(file.getvalue())
    if size is not None:
        data[40:44] = size.to_bytes(4, 'little')
    return bytes(data)


@pytest.mark.parametrize('size', [None, 0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_the_header_of_a_wav_is_left_out_and_counted(size):
    reader = UtteranceReader()

    packet = reader.read(message(as_wav(SAMPLES, size)), 0)

    np.testing.assert_array_equal(packet.samples[:, 0], SAMPLES / np.float32(32768))
    assert reader.counters['cut_headers'] == 1


def test_what_follows_the_samples_of_a_wav_is_left_out():
    data = as_wav(SAMPLES) + b'LIST\x04\x00\x00\x00INFO'

    assert unwrap(Unwrapping(), data, FORM).samples == SAMPLES.tobytes()


def test_a_header_that_contradicts_the_message_is_refused_with_both():
    with pytest.raises(ValueError, match=r'24000 Hz.* 1 channels, 16000 Hz'):
        unwrap(Unwrapping(), as_wav(SAMPLES, rate_hz=16_000), FORM)


@pytest.mark.parametrize(
    ('begin', 'name'),
    [
        (b'ID3\x04\x00\x00\x00\x00\x00\x23', 'mp3'),
        (b'OggS\x00\x02', 'Ogg'),
        (b'fLaC\x00\x00\x00\x22', 'FLAC'),
        (b'{"error": {"message": "quota exceeded"}}', 'JSON'),
    ],
)
def test_other_containers_are_refused_by_name(begin, name):
    with pytest.raises(ValueError, match=f'got {name}'):
        UtteranceReader().read(message(begin + bytes(100) if name != 'JSON' else begin), 0)


def test_plain_samples_are_never_taken_for_a_container():
    rng = np.random.default_rng(0)
    more = rng.integers(0, 256, 8000, dtype=np.uint8).tobytes()

    for begin in rng.integers(0, 256, (20_000, 64), dtype=np.uint8):
        data = begin.tobytes()
        first = unwrap(Unwrapping(), data, FORM)
        assert first.samples == data or first.held == data
        if first.held:  # one in 3,000 or so
            assert unwrap(first, more, FORM).samples == data + more
