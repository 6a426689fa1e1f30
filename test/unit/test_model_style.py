# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Emotion, attitude and persona: what they change, and that nothing said changes nothing."""

import dataclasses

import pytest
import torch

from timar_ros.config import TimarConfig
from timar_ros.config_file import from_dict, to_dict
from timar_ros.model.checkpoint import load_checkpoint, save_checkpoint
from timar_ros.model.timar import TIMAR
from timar_ros.model.turn import STYLE, slots, stack_turns


@pytest.fixture
def model(make_model):
    """Return a model with style and two personas."""
    return make_model(cache='banded')


@pytest.fixture
def turns(make_turns, model):
    """Return three turns that say nothing of style."""
    turns = stack_turns(make_turns(model.config, 3))
    return dataclasses.replace(turns, style=None, persona=None)


def _said(turns, style=None, persona=None):
    B, N = turns.is_shown.shape[:2]
    values = {}
    if style is not None:
        values['style'] = torch.tensor(style).expand(B, N, len(STYLE))
    if persona is not None:
        values['persona'] = torch.full((B, N), persona)
    return dataclasses.replace(turns, **values)


def test_nothing_said_adds_nothing(model, turns):
    expected = model.embed(turns)

    for silent in (
        _said(turns, style=[0.0] * 8),
        _said(turns, style=[0.0, 0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5]),  # said not to be given
        _said(turns, persona=0),
    ):
        assert torch.equal(model.embed(silent), expected)


def test_what_is_said_is_added_to_the_motion_tokens_of_the_agent_alone(model, turns):
    expected = model.embed(turns)
    happy = [1.0, 0.7, 0.0, 0.0, 0.0, 0.0, 0.0, -0.5]
    controls, personas = model.style.controls.weight, model.style.personas.weight

    for said, change in (
        (_said(turns, style=happy), controls @ torch.tensor(happy)),
        (_said(turns, persona=2), personas[1]),
        (_said(turns, happy, 1), controls @ torch.tensor(happy) + personas[0]),
    ):
        agent = slots('agent_motion', model.config.frames_per_turn)
        added = model.embed(said) - expected
        torch.testing.assert_close(added[:, :, agent], change.expand_as(added[:, :, agent]))
        added[:, :, agent] = 0.0
        assert not added.any()


def test_fresh_weights_know_no_style(make_config, turns):
    fresh = TIMAR(make_config('banded')).initialise(torch.Generator().manual_seed(0))

    said = _said(turns, style=[1.0] * 8, persona=2)

    assert torch.equal(fresh.embed(said), fresh.embed(turns))


def test_style_learns_from_the_loss(model, turns):
    model = TIMAR(model.config).initialise(torch.Generator().manual_seed(0))
    for layer in (model.diffloss.net.final_layer.linear, model.diffloss.net.res_blocks[0].mlp[0]):
        torch.nn.init.normal_(layer.weight)
    said = _said(turns, style=[1.0] * 8, persona=2)
    for block in [*model.diffloss.net.res_blocks, model.diffloss.net.final_layer]:
        torch.nn.init.normal_(block.adaLN_modulation[1].weight)

    model.loss(said, torch.Generator().manual_seed(0))[0].backward()

    assert model.style.controls.weight.grad.abs().min() > 0
    assert model.style.personas.weight.grad[1].abs().max() > 0
    assert not model.style.personas.weight.grad[0].any()


def test_weights_without_controls_ignore_them(make_model, make_turns):
    model = make_model(cache='banded', style=False, personas=())
    turns = stack_turns(make_turns(model.config, 2))

    assert model.style is None
    assert torch.equal(model.embed(_said(turns, [1.0] * 8, 1)), model.embed(turns))


def test_names_of_personas_come_back_from_a_checkpoint(make_model, tmp_path):
    model = make_model(cache='banded', is_stub=False)
    save_checkpoint(tmp_path / 'a.safetensors', model)

    loaded = load_checkpoint(tmp_path / 'a.safetensors')

    assert loaded.config.personas == ('ann', 'bo')
    assert torch.equal(loaded.style.personas.weight, model.style.personas.weight)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'personas': ['ann', 'ann']}, 'personas must be different names'),
        ({'personas': 'ann'}, "personas must be a list of str, got 'ann'"),
        ({'personas': [1]}, 'personas must be a list of str'),
        ({'persistence': 5, 'history': 'shown'}, "persistence needs history 'masked'"),
    ],
)
def test_a_configuration_that_contradicts_itself_is_refused(make_config, changes, message):
    with pytest.raises(ValueError, match=message):
        from_dict(TimarConfig, to_dict(make_config('banded')) | changes, 'test')
