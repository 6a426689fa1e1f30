# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Tokens before the transformer: nothing that is said in them is drowned by the rest."""

import dataclasses

import pytest
import torch

from timar_ros.model.turn import slots, stack_turns


def _loud_model(make_model, even_tokens):
    model = make_model(cache='banded', even_tokens=even_tokens, persistence=0)
    with torch.no_grad():
        model.speech_projection.weight *= 1000.0  # as features of speech are
    return model


def _contexts(model, turns, **changes):
    return model.encode(model.embed(dataclasses.replace(turns, **changes)))


@pytest.fixture
def turns(make_turns, make_config):
    """Return two turns of which half of the agent's frames are shown."""
    turns = stack_turns(make_turns(make_config('banded'), 2))
    is_shown = torch.zeros_like(turns.is_shown)
    is_shown[..., :2] = True
    return dataclasses.replace(turns, is_shown=is_shown)


def _changes(turns):
    style = torch.zeros_like(turns.style)
    style[..., 0] = style[..., 1] = 1.0
    return {
        'where the head is': {'agent_motion': turns.agent_motion + 1.0},
        'emotion': {'style': style},
        'persona': {'persona': torch.full_like(turns.persona, 2) - turns.persona % 2},
    }


@pytest.mark.parametrize('change', ['where the head is', 'emotion', 'persona'])
def test_even_tokens_keep_what_loud_features_would_drown(make_model, turns, change):
    moved = {}
    for even_tokens in (True, False):
        model = _loud_model(make_model, even_tokens)
        before = _contexts(model, turns)
        after = _contexts(model, turns, **_changes(turns)[change])
        moved[even_tokens] = (after - before)[:, :, 2:].abs().mean()

    assert moved[True] > 0.01
    assert moved[True] > 100 * moved[False]


def test_even_tokens_are_of_one_size_before_anything_is_added(make_model, turns):
    model = _loud_model(make_model, True)

    tokens = model.embed(dataclasses.replace(turns, style=None, persona=None))

    others = tokens[:, :, : slots('agent_motion', model.config.frames_per_turn).start]
    torch.testing.assert_close(
        others.square().mean(-1), torch.ones_like(others[..., 0]), rtol=0.01, atol=0.0
    )
