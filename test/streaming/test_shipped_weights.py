# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the shipped weights were given shows in what they do: style, and their own posture."""

import pathlib

import numpy as np
import pytest
from scipy.io import wavfile
import torch

from timar_ros.config import SamplingConfig, TimingConfig
from timar_ros.learn.behaviour import head_speed
from timar_ros.learn.offline import answer_recording
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.model.turn import Turn
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


def _smile(model, motion) -> float:
    return float(motion[:, model.space.index('mouthSmileLeft')].mean())


def test_a_smile_grows_with_the_intensity_of_happy(model, answer):
    neutral, some, most = (
        _smile(model, answer(emotion='happy', intensity=share)) for share in (0.0, 0.5, 1.0)
    )

    assert neutral + 0.01 < some < most - 0.01


def test_lips_stay_in_time_in_every_style(model, answer):
    rate_hz, voice = wavfile.read(_CONFIG / 'demo' / 'agent.wav')
    voice = voice[: rate_hz * _SECONDS] / np.float32(32768)

    for style in ({}, {'emotion': 'happy', 'intensity': 1.0}, {'persona': 'lively'}):
        jaw = answer(**style)[:, model.space.index('jawOpen')]
        lips = lip_sync(jaw, voice, rate_hz, 25)
        assert -0.04 <= lips.lag_s <= 0.06, style
        assert lips.correlation > 0.6, style


def test_while_nobody_speaks_the_head_is_nearly_still_and_does_not_wander_off(model):
    nobody = np.zeros(20 * 16000, np.float32), 16000

    motion = answer_recording(
        Conversation(model, TimingConfig(), seed=0), {'user': nobody, 'agent': nobody}
    )

    neck = motion[:, model.space.neck]
    assert 0.1 < np.sqrt((head_speed(neck) ** 2).mean()) < 4.0
    assert np.abs(np.rad2deg(neck)).max() < 5.0


def test_the_first_frames_drawn_go_on_from_the_posture_that_is_shown(model):
    """With the head lowered in all that is shown, what is drawn next is lower, too."""
    config = model.config
    T, M = config.frames_per_turn, config.n_channels
    n_shown, lower = 10, 0.2
    motion = model.motion_mean.expand(2, 1, T, M).clone()
    motion[1, ..., model.space.neck.start] += lower
    turn = Turn(
        user_speech=torch.zeros(2, 1, config.samples_per_turn),
        user_heard=torch.ones(2, 1, T, dtype=torch.bool),
        user_motion=torch.zeros(2, 1, T, M),
        user_seen=torch.zeros(2, 1, T, dtype=torch.bool),
        agent_speech=torch.zeros(2, 1, config.samples_per_turn),
        agent_motion=motion,
        is_shown=(torch.arange(T) < n_shown).expand(2, 1, T),
    )
    sampling = SamplingConfig(temperature=0.0)
    noise = torch.zeros(2, 1, 1, sampling.steps + 1, T, M)

    with torch.inference_mode():
        drawn = model.draft_full_window(None, turn, noise, sampling)

    pitch = drawn[:, 0, n_shown : n_shown + 3, model.space.neck.start]
    assert (pitch[1] - pitch[0]).min() > 0.3 * lower, pitch
