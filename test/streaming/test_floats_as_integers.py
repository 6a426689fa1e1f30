# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A TTS that sends float32 and states int16: noise for a loudspeaker, so it is refused."""

import pathlib

import numpy as np
import pytest
from utterance_message import message

from timar_ros.stream.foreign_formats import are_floats
from timar_ros.stream.utterance_reader import UtteranceReader
from timar_ros.stream.wav import read_wav

DEMO = pathlib.Path(__file__).parents[2] / 'config' / 'demo'
MS = 1_000_000


def voice(name):
    samples, rate_hz = read_wav(DEMO / f'{name}.wav')
    return np.asarray(samples, np.float32).reshape(-1)[: 10 * rate_hz]


@pytest.mark.parametrize('scale', [1.0, 0.05, 1 / 32768])
@pytest.mark.parametrize('cut', [0, 2])
def test_floats_stated_as_int16_are_recognised(scale, cut):
    rng = np.random.default_rng(0)
    data = (scale * rng.normal(0, 0.1, 400)).astype('<f4').tobytes()

    assert are_floats(data[cut:])


@pytest.mark.parametrize('name', ['user', 'agent'])
@pytest.mark.parametrize('gain', [0.02, 1.0, 30.0])
def test_no_message_of_a_voice_is_taken_for_floats(name, gain):
    integers = (np.clip(voice(name) * gain, -1, 1) * 32767).astype('<i2').tobytes()

    for n_bytes in (640, 4096):
        assert not any(
            are_floats(integers[i : i + n_bytes]) for i in range(0, len(integers), n_bytes)
        )


def test_floats_stated_as_int16_are_refused_and_the_next_utterance_is_spoken():
    reader = UtteranceReader()
    floats = voice('agent')[16000:17600].astype('<f4').tobytes()
    integers = (voice('agent')[16000:17600] * 32767).astype('<i2')

    with pytest.raises(ValueError, match="float32; set encoding to 'pcm_f32le'"):
        reader.read(message(floats), 0)
    packet = reader.read(message(integers.tobytes()), 2000 * MS)

    np.testing.assert_array_equal(packet.samples[:, 0] * 32768, integers)
