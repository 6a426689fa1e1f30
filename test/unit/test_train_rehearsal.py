# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training shows a model what it planned at the moment before."""

import dataclasses

import numpy as np
import pytest
import torch

from timar_ros.config import PRESETS, TrainConfig
from timar_ros.learn.masking import mask_windows
from timar_ros.learn.rehearsal import show_own_plan
from timar_ros.model.timar import TIMAR

_B, _N, _T, _M = 24, 4, 25, 55
_CONFIG = dataclasses.replace(
    PRESETS['mini'], max_turns=4, width=32, n_layers=1, n_heads=2, token_width=8, speech_width=8,
    mel_bands=8, denoiser_width=16, denoiser_blocks=1, persistence=12, noise_spread=3.0,
)  # fmt: skip
_PERIOD = 5  # frames between two planning moments of a node


def _windows():
    torch.manual_seed(0)
    return {
        'user_speech': torch.randn(_B, _N, _T * 640),
        'agent_speech': torch.randn(_B, _N, _T * 640),
        'user_motion': torch.zeros(_B, _N, _T, _M),
        'agent_motion': torch.rand(_B, _N, _T, _M),
        'user_seen': torch.zeros(_B, _N, _T, dtype=torch.bool),
        'style': torch.zeros(_B, _N, 8),
        'persona': torch.zeros(_B, _N, dtype=torch.int64),
    }


def _mask(**recipe):
    train = TrainConfig(**{'user_drop': 0.0, 'planning': 1.0} | recipe)
    rngs = [np.random.default_rng((3, window)) for window in range(_B)]
    return mask_windows(_windows(), _CONFIG, train, rngs)


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(1)
    made = TIMAR(_CONFIG).initialise(torch.Generator().manual_seed(1)).eval()
    # What is drawn hangs on nothing before the first step.
    for parameter in made.diffloss.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return made.requires_grad_(False)


def _generators():
    return [torch.Generator().manual_seed(window) for window in range(_B)]


def _n_true(mask):
    return mask.reshape(_B, -1).sum(1)


def test_at_the_moment_before_everything_ends_a_period_earlier():
    turns, _, before = _mask()

    def last(mask):
        frames = torch.arange(1, mask[0].numel() + 1)
        return (mask.reshape(_B, -1) * frames).amax(1)

    assert torch.equal(last(turns.is_shown) - _PERIOD, last(before.is_shown))
    assert torch.equal(last(turns.user_heard) - _PERIOD, last(before.user_heard))
    known = last(turns.agent_speech != 0)
    is_cut = known < _N * _T * 640
    assert is_cut.sum() > _B // 2
    earlier = last(before.agent_speech != 0)
    assert (known - earlier - _PERIOD * 640).abs()[is_cut].max() <= 1
    assert torch.equal(turns.agent_motion, before.agent_motion)


def test_only_frames_that_were_not_shown_before_are_the_models_own(model):
    turns, _, before = _mask()

    shown = show_own_plan(model, turns, before, _generators())

    is_own = turns.is_shown & ~before.is_shown
    assert torch.equal(_n_true(is_own), torch.full((_B,), _PERIOD))
    has_changed = (shown.agent_motion != turns.agent_motion).all(-1)
    assert torch.equal(has_changed, is_own)
    assert torch.equal(shown.is_shown, turns.is_shown)


def test_what_is_shown_is_what_the_model_draws_at_the_moment_before(model):
    turns, _, before = _mask()
    shown = show_own_plan(model, turns, before, _generators())
    is_own = turns.is_shown & ~before.is_shown

    later = dataclasses.replace(turns, user_speech=turns.user_speech + 1.0)
    deaf = dataclasses.replace(before, user_heard=torch.zeros_like(before.user_heard))
    of_later = show_own_plan(model, later, before, _generators())
    of_deaf = show_own_plan(model, turns, deaf, _generators())

    assert torch.equal(of_later.agent_motion, shown.agent_motion)
    assert (of_deaf.agent_motion != shown.agent_motion)[is_own].any(-1).all()


def test_windows_without_planning_moments_are_left_as_they_are(model):
    turns, _, before = _mask(planning=0.0, agent_prefix=1.0)

    assert show_own_plan(model, turns, before, _generators()) is turns


def test_a_conversation_that_begins_in_the_window_has_no_moment_before_its_first():
    windows = {name: values[:, :2] for name, values in _windows().items()}
    train = TrainConfig(user_drop=0.0, planning=1.0)
    rngs = [np.random.default_rng((3, window)) for window in range(_B)]

    turns, _, before = mask_windows(windows, _CONFIG, train, rngs)

    n_shown, n_before = _n_true(turns.is_shown), _n_true(before.is_shown)
    is_first = n_shown <= _PERIOD
    assert 0 < is_first.sum() < _B
    assert torch.equal(n_before[is_first], n_shown[is_first])
    assert torch.equal(n_before[~is_first], n_shown[~is_first] - _PERIOD)
