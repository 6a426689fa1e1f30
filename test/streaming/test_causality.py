# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a turn can depend on: all of itself, in both directions, and earlier turns; never later."""

import dataclasses

import pytest
import torch

from timar_ros.config import SamplingConfig
from timar_ros.model.turn import Turn, stack_turns
from timar_ros.stream.engine import Engine
from timar_ros.stream.noise import draw_noise

_CACHES = ('rebuild', 'rebase', 'banded')
_INPUTS = ('user_speech', 'user_motion', 'agent_speech', 'agent_motion')


def _context(model, turns: Turn) -> torch.Tensor:
    """Return what the diffusion head draws the agent's frames from, `[B, N, T, D]`."""
    return model.encode(model.embed(turns))


@pytest.mark.parametrize('cache', _CACHES)
@pytest.mark.parametrize('changed', _INPUTS)
def test_a_changed_turn_changes_no_earlier_motion(make_model, make_turns, cache, changed):
    engine = Engine(make_model(cache=cache, history='shown'))
    turns = make_turns(engine.model.config, 12)
    for turn in turns:
        turn.is_shown[:, 0] = True
    others = list(turns)
    others[8] = dataclasses.replace(turns[8], **{changed: -getattr(turns[8], changed)})

    motions = []
    for talk in (turns, others):
        state = engine.new_state()
        motions.append(torch.stack([engine.step(turn, state) for turn in talk]))

    difference = (motions[0] - motions[1]).abs().amax((1, 3))  # [N, T]
    assert difference[:8].max() == 0.0
    unshown = difference[8:, 1:]
    assert unshown.min() > 1e-5, f'a frame does not depend on {changed}: {unshown}'


@pytest.mark.parametrize('name', _INPUTS)
def test_earlier_context_has_no_gradient_from_later_input(make_model, make_turns, name):
    model = make_model(is_stub=False)
    turns = stack_turns(make_turns(model.config, 4))
    turns.is_shown[:, :, ::2] = True
    x = getattr(turns, name).clone().requires_grad_()

    context = _context(model, dataclasses.replace(turns, **{name: x}))
    context[:, 1].square().sum().backward()

    by_turn = x.grad.abs().flatten(2).amax(-1)  # [B, N]
    assert by_turn[:, 2:].max() == 0.0
    assert by_turn[:, :2].min() > 0.0


@pytest.mark.parametrize('name', _INPUTS)
def test_inside_a_turn_the_first_frame_depends_on_the_last(make_model, make_turns, name):
    model = make_model()
    turns = stack_turns(make_turns(model.config, 1))
    turns.is_shown[:, :, -1] = True
    x = getattr(turns, name).clone().requires_grad_()

    context = _context(model, dataclasses.replace(turns, **{name: x}))
    context[:, :, 0].square().sum().backward()

    last = x.grad[..., -1] if x.dim() == 3 else x.grad[:, :, -1].abs().amax(-1)
    assert last.abs().min() > 0.0


def test_a_mirrored_turn_gives_mirrored_context_where_positions_are_mirrored(
    make_model, make_turns
):
    # Without positions nothing in a turn tells first from last: attention has no direction.
    model = make_model(cache='banded', persistence=0, style=False, nearness=())
    model.encoder_pos_embed_learned.zero_()
    model.diffusion_pos_embed_learned.zero_()
    turns = stack_turns(make_turns(model.config, 1, is_partial=True))
    user, agent = model.encode_speech(turns)
    turns = dataclasses.replace(turns, user_features=user, agent_features=agent)
    mirrored = turns.map(lambda x: x.flip(2))  # the audio too, but its features are given

    torch.testing.assert_close(
        _context(model, mirrored), _context(model, turns).flip(2), rtol=0, atol=1e-5
    )


def test_a_frame_that_is_not_heard_or_seen_does_not_matter(make_model, make_turns):
    engine = Engine(make_model(), SamplingConfig(n_passes=2))
    (turn,) = make_turns(engine.model.config, 1)
    turn.user_heard[:, 2:] = False
    turn.user_seen[:, 1] = False
    other = turn.map(torch.clone)
    other.user_speech[:, 2 * engine.model.config.samples_per_frame :] = 9.0
    other.user_motion[:, 1] = float('nan')
    other.agent_motion[:] = float('nan')  # none of it is shown

    motion = engine.step(turn, engine.new_state())

    assert motion.isfinite().all()
    assert torch.equal(engine.step(other, engine.new_state()), motion)


def test_revealed_frames_are_seen_by_later_passes_only_if_asked(make_model, make_turns):
    model = make_model()
    turns = stack_turns(make_turns(model.config, 1))
    config = model.config
    noise = draw_noise((0,), 0, 1, 3, 6, config.frames_per_turn, config.n_channels)
    other = noise.clone()
    other[:, :, 0] += 1.0  # what the first pass draws is another motion

    moved = {}
    for reveal in (True, False):
        sampling = SamplingConfig(n_passes=3, reveal=reveal)
        motions = [
            model.draft(turns, model.make_cache(1, 1), source, sampling)
            for source in (noise, other)
        ]
        moved[reveal] = (motions[0] - motions[1]).abs().amax((0, 1, 3))  # [T]

    # Pass 0 draws frame 0: floor(4 cos 30°) = 3 of 4 are left.
    assert moved[True][0] > 1e-2 and moved[False][0] > 1e-2
    assert moved[True][1:].min() > 1e-4
    assert moved[False][1:].max() == 0.0


def test_guidance_blanks_the_user_of_the_open_turns_only(make_model, make_turns):
    model = make_model()
    past, turn = make_turns(model.config, 2)
    engine = Engine(model, SamplingConfig(cfg_scale=0.0))
    unheard = dataclasses.replace(
        turn,
        user_heard=torch.zeros_like(turn.user_heard),
        user_seen=torch.zeros_like(turn.user_seen),
    )
    other_past = dataclasses.replace(past, user_speech=-past.user_speech)

    def draft(first, second, engine=engine):
        state = engine.new_state()
        engine.commit(first, state)
        return engine.draft([second], state)

    # At scale 0 the mean is that of nobody; only the learned variance knows the user.
    calm = Engine(model, SamplingConfig(cfg_scale=0.0, temperature=0.0))
    torch.testing.assert_close(
        draft(past, turn, calm), draft(past, unheard, calm), rtol=0, atol=1e-5
    )
    assert (draft(past, turn, calm) - draft(other_past, turn, calm)).abs().max() > 1e-3
    assert (draft(past, turn) - draft(past, unheard)).abs().max() > 1e-4
