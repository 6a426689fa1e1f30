# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the shipped weights do in every style."""

import pathlib

import numpy as np
import pytest
from scipy.io import wavfile

from timar_ros.config import TimingConfig
from timar_ros.learn.offline import answer_recording
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.lips import lip_sync
from timar_ros.stream.style import AgentStyle

_CONFIG = pathlib.Path(__file__).parents[2] / 'config'
_SECONDS = 8


@pytest.fixture(scope='module')
def model():
    return load_checkpoint(_CONFIG / 'models' / 'mini.safetensors')


@pytest.fixture(scope='module')
def answer(model):
    """Return a function: the answer, `[F, M]`, to the demo's first seconds in some style."""
    voices = {}
    for voice in ('user', 'agent'):
        rate_hz, samples = wavfile.read(_CONFIG / 'demo' / f'{voice}.wav')
        voices[voice] = samples[: rate_hz * _SECONDS] / np.float32(32768), rate_hz
    known = {}

    def ask(**style):
        key = tuple(style.items())
        if key not in known:
            conversation = Conversation(
                model, TimingConfig(), seed=0, style=AgentStyle(**style) if style else None
            )
            known[key] = answer_recording(conversation, voices)
        return known[key]

    return ask


def test_lips_stay_in_time_in_every_style(model, answer):
    rate_hz, voice = wavfile.read(_CONFIG / 'demo' / 'agent.wav')
    voice = voice[: rate_hz * _SECONDS] / np.float32(32768)

    for style in ({}, {'emotion': 'happy', 'intensity': 1.0}, {'persona': 'lively'}):
        jaw = answer(**style)[:, model.space.index('jawOpen')]
        lips = lip_sync(jaw, voice, rate_hz, 25)
        assert -0.04 <= lips.lag_s <= 0.06, style
        assert lips.correlation > 0.6, style
