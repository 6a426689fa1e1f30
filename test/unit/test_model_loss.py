# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The training loss, frame by frame; sizes of the presets; what a model refuses."""

import dataclasses

import pytest
import torch

from timar_ros.config import PRESETS
from timar_ros.model.diffusion import N_STEPS
from timar_ros.model.timar import TIMAR, passes
from timar_ros.model.turn import stack_turns, turn_causal_mask


def _turns(make_turns, model, n_turns=3, batch=2):
    return stack_turns(make_turns(model.config, n_turns, batch=batch, is_partial=True))


def test_the_loss_is_the_mean_over_masked_frames_each_taken_alone(make_model, make_turns):
    model = make_model()
    turns = _turns(make_turns, model)
    B, N, T, M = turns.agent_motion.shape
    channel_mask = torch.ones(B, M, dtype=torch.bool)
    channel_mask[1, 3:50] = False
    repeat = 3

    loss, parts = model.loss(turns, torch.Generator().manual_seed(9), channel_mask, repeat)

    rng = torch.Generator().manual_seed(9)
    masked = [(b, n, t) for b in range(B) for n in range(N) for t in range(T)
              if not turns.is_shown[b, n, t]]  # fmt: skip
    R = repeat * len(masked)
    timestep = torch.randint(N_STEPS, (R,), generator=rng)
    noise = torch.randn((R, M), generator=rng)
    mask = turn_causal_mask(N, model.config.tokens_per_turn)
    z = model.encode(model.embed(turns), None, mask)
    rows = []
    for r in range(R):
        b, n, t = masked[r % len(masked)]
        target = (turns.agent_motion[b, n, t] - model.motion_mean) / model.motion_std
        target[~channel_mask[b]] = 0.0
        rows.append(
            model.diffloss.loss(
                target[None],
                z[b, n, t][None],
                timestep[r : r + 1],
                noise[r : r + 1],
                channel_mask[b][None],
            )  # fmt: skip
        )
    for name in ('mse', 'vb', 'loss'):
        expected = torch.cat([row[name] for row in rows]).mean()
        torch.testing.assert_close(parts[name], expected, rtol=1e-4, atol=1e-4, msg=name)
    assert loss.item() == parts['loss'].item()


def test_a_channel_without_data_has_no_say_and_no_gradient(make_model, make_turns):
    model = make_model()
    turns = _turns(make_turns, model)
    channel_mask = torch.ones(2, model.config.n_channels, dtype=torch.bool)
    channel_mask[:, 7] = False
    nothing = turns.agent_motion.clone()
    nothing[..., 7] = float('nan')
    # A frame that is shown is read as it is: what has no data must be filled in there.
    nothing = torch.where(turns.is_shown[..., None], turns.agent_motion, nothing)
    model.requires_grad_(True)

    losses = [
        model.loss(dataclasses.replace(turns, agent_motion=motion),
                   torch.Generator().manual_seed(0), channel_mask)[0]
        for motion in (turns.agent_motion, nothing)
    ]  # fmt: skip
    losses[1].backward()

    assert torch.equal(losses[0], losses[1])
    output = model.diffloss.net.final_layer.linear
    assert output.weight.grad[7].abs().max() == 0.0
    assert output.weight.grad[8].abs().max() > 0.0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_every_weight_learns(make_model, make_turns):
    model = make_model(cache='banded', is_stub=False).requires_grad_(True)
    turns = _turns(make_turns, model, n_turns=6)

    model.loss(turns, torch.Generator().manual_seed(0))[0].backward()

    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []


def test_shown_frames_are_not_learned(make_model, make_turns):
    model = make_model()
    turns = _turns(make_turns, model, n_turns=1)
    turns.is_shown[:, :, :3] = True
    turns.is_shown[:, :, 3] = False
    # The last frame is the only target; what it is shows only in the loss.
    other = turns.agent_motion.clone()
    other[:, :, 3] += 1.0

    def loss(motion):
        turn = dataclasses.replace(turns, agent_motion=motion)
        return model.loss(turn, torch.Generator().manual_seed(0), repeat=1)[1]['mse']

    assert not torch.equal(loss(other), loss(turns.agent_motion))
    turns.is_shown[:] = True
    with pytest.raises(ValueError, match='at least one agent frame that is not shown'):
        loss(turns.agent_motion)


def test_windows_longer_than_the_model_learn_with_the_band_they_will_be_used_with(
    make_model, make_turns
):
    model = make_model(cache='banded', max_turns=3)
    turns = _turns(make_turns, model, n_turns=7, batch=1)
    # In one layer each turn sees 2 turns before; through 2 layers, 4: not the first two of 7.
    tokens = model.embed(turns).requires_grad_()

    context = model.encode(tokens, None, model.band(7))
    context[:, 6].square().sum().backward()

    reach = tokens.grad.abs().amax((0, 2, 3))
    assert (reach > 0).tolist() == [False, False, True, True, True, True, True]


def test_windows_longer_than_their_positions_are_refused(make_model, make_turns):
    model = make_model(max_turns=3)

    with pytest.raises(ValueError, match='a window must have at most 3 turns, got 4'):
        model.loss(_turns(make_turns, model, n_turns=4))


@pytest.mark.parametrize(
    ('n_frames', 'n_passes', 'ends'),
    # left after pass i: floor(25 cos(pi/2 (i+1)/n))
    [(25, 1, [25]), (25, 3, [4, 13, 25]), (25, 4, [2, 8, 16, 25]), (4, 4, [1, 2, 3, 4])],
)
def test_passes_reveal_on_a_cosine_schedule(n_frames, n_passes, ends):
    revealed = passes(n_frames, n_passes)

    assert [s.stop for s in revealed] == ends
    assert [s.start for s in revealed] == [0, *ends[:-1]]


def test_passes_reveal_every_frame_once_and_at_least_one_a_pass():
    for n_frames in (1, 4, 25):
        for n_passes in range(1, n_frames + 1):
            revealed = passes(n_frames, n_passes)

            assert len(revealed) == n_passes
            assert [i for s in revealed for i in range(n_frames)[s]] == list(range(n_frames))
            assert all(s.stop > s.start for s in revealed)


def test_more_passes_than_frames_are_refused():
    with pytest.raises(ValueError, match=r'n_passes must be at most 25 \(frames a turn\), got 26'):
        passes(25, 26)


def _millions(preset):
    with torch.device('meta'):
        model = TIMAR(PRESETS[preset])
    speech = sum(p.numel() for p in model.speech.parameters())
    return (sum(p.numel() for p in model.parameters()) - speech) / 1e6


@pytest.mark.parametrize(
    ('preset', 'millions', 'digits'), [('large', 427.94, 2), ('base', 194, 0)]
)
def test_presets_have_the_published_number_of_parameters(preset, millions, digits):
    assert round(_millions(preset), digits) == millions
