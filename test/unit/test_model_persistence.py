# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Motion as the change from where it was going: the fit, what is foretold, and no jumps."""

import dataclasses

import numpy as np
import pytest
import torch

from timar_ros.config import SamplingConfig
from timar_ros.model.checkpoint import load_checkpoint, save_checkpoint
from timar_ros.model.persistence import fit_persistence, foretell, last_shown
from timar_ros.model.turn import stack_turns

_N, _T, _M = 3, 4, 2


def _case():
    rng = torch.Generator().manual_seed(0)
    motion = torch.randn(2, _N, _T, _M, generator=rng)
    is_shown = torch.rand(2, _N, _T, generator=rng) < 0.4
    is_shown[1, 0] = False
    return motion, is_shown


def test_the_last_shown_frame_is_what_a_loop_finds():
    motion, is_shown = _case()

    pose, velocity, lag = (x.flatten(1, 2) for x in last_shown(motion, is_shown))

    flat, shown = motion.flatten(1, 2), is_shown.flatten(1)
    for b in range(2):
        for i in range(_N * _T):
            before = [j for j in range(i + 1) if shown[b, j]]
            if not before or before[-1] == i:
                expected = torch.zeros(_M), torch.zeros(_M), 0
            else:
                last = before[-1]
                step = flat[b, last] - flat[b, last - 1]
                has_step = last > 0 and shown[b, last - 1]
                expected = flat[b, last], step * float(has_step), i - last
            assert torch.equal(pose[b, i], expected[0]), (b, i)
            assert torch.equal(velocity[b, i], expected[1]), (b, i)
            assert lag[b, i] == expected[2], (b, i)


def test_what_is_not_shown_is_not_read():
    motion, is_shown = _case()
    hidden = torch.where(is_shown[..., None], motion, float('nan'))

    found = last_shown(hidden, is_shown), last_shown(motion, is_shown)
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


def test_nothing_is_foretold_without_a_shown_frame_or_too_long_after_one():
    table = torch.rand(2, 2, _M)
    pose = torch.rand(1, 1, 4, _M)
    lag = torch.tensor([[[0, 1, 2, 3]]])

    expected, spread = foretell(table, pose, lag)

    for frame in (0, 3):
        assert not expected[0, 0, frame].any()
        assert (spread[0, 0, frame] == 1).all()
    for frame in (1, 2):
        hold, left = table[:, frame - 1]
        torch.testing.assert_close(expected[0, 0, frame], hold * pose[0, 0, frame])
        torch.testing.assert_close(spread[0, 0, frame], left)


def _autoregressive(n_frames, coefficient, seed):
    rng = np.random.default_rng(seed)
    x = np.zeros((n_frames, 1))
    for i in range(1, n_frames):
        x[i] = coefficient * x[i - 1] + np.sqrt(1 - coefficient**2) * rng.normal()
    return x


def test_a_pose_is_held_but_for_a_leak_for_two_thirds_of_the_lags_and_then_less_and_less():
    table = fit_persistence([(_autoregressive(100, 0.9, 0), np.array([True]))], 12)[0, :, 0]

    leak = 0.99 ** np.arange(1, 13)
    np.testing.assert_allclose(table[:8], leak[:8], rtol=1e-6)
    np.testing.assert_allclose(table[8:], leak[8:] * [0.905, 0.655, 0.345, 0.095], atol=1e-3)


def test_the_spread_of_an_autoregressive_process_is_its_formula():
    motions = [(_autoregressive(20000, 0.9, seed), np.array([True])) for seed in range(2)]

    for late, noise in ((0, 0.0), (4, 0.3)):
        hold, spread = fit_persistence(motions, 3, noise, late)[:, :, 0]

        # of x(t+n) - h (x(t) + noise), where x has variance 1 and correlation `power`
        power = 0.9 ** (late + np.arange(1, 4))
        expected = 1 + hold**2 - 2 * hold * power + (hold * noise) ** 2
        np.testing.assert_allclose(spread, np.sqrt(expected), rtol=0.03)


def test_a_head_that_never_moves_is_held_with_the_smallest_spread():
    table = fit_persistence([(np.full((50, 1), 0.7), np.array([True]))], 2)[:, 0, 0]

    np.testing.assert_allclose(table, [0.99, 0.05])


def test_channels_and_clips_without_data_foretell_nothing():
    x = np.repeat(_autoregressive(4000, 0.9, 5), 2, axis=1)
    short = np.ones((2, 2)), np.array([True, True])

    table = fit_persistence([(x, np.array([True, False])), short], 2, late=1)

    assert table[0, 0, 0] == np.float32(0.99)
    np.testing.assert_array_equal(table[:, :, 1], [[0, 0], [1, 1]])


def test_the_loss_is_that_of_what_is_not_foretold(make_model, make_turns):
    model = make_model(cache='banded')
    plain = make_model(cache='banded')
    plain.motion_persistence[0], plain.motion_persistence[1] = 0.0, 1.0
    turns = stack_turns(make_turns(model.config, 3, batch=2, is_partial=True))
    motion = model.normalise(turns.agent_motion)
    pose, _, lag = last_shown(motion, turns.is_shown)
    expected, spread = foretell(model.motion_persistence, pose, lag)
    rest = torch.where(turns.is_shown[..., None], motion, (motion - expected) / spread)
    same_tokens = dataclasses.replace(turns, agent_motion=plain.denormalise(rest))

    ours = model.loss(turns, torch.Generator().manual_seed(1))[0]
    theirs = plain.loss(same_tokens, torch.Generator().manual_seed(1))[0]

    torch.testing.assert_close(ours, theirs)


def _draft_after_three_frames(model, make_turns):
    """Draft two turns of which three frames are shown; return the turns and the motion."""
    turns = stack_turns(make_turns(model.config, 2))
    T = model.config.frames_per_turn
    is_shown = torch.zeros(1, 2, T, dtype=torch.bool)
    is_shown[:, 0, :3] = True
    turns = dataclasses.replace(turns, is_shown=is_shown)
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(1, 2, 1, 6, T, model.config.n_channels, generator=rng)
    return turns, model.draft(turns, model.make_cache(1, 2), noise, SamplingConfig())


def test_a_draft_goes_on_from_what_is_shown_however_wild_the_head(make_model, make_turns):
    model = make_model(cache='banded')
    model.motion_persistence[0], model.motion_persistence[1] = 1.0, 0.01
    turns, drawn = _draft_after_three_frames(model, make_turns)

    motion = model.normalise(drawn).flatten(1, 2)
    assert torch.equal(drawn[:, 0, :3], turns.agent_motion[:, 0, :3])
    jump = (motion[:, 3 : 3 + model.config.persistence] - motion[:, 2:3]).abs()
    assert jump.max() < 0.3  # of up to thirty deviations that this head draws
    assert motion[:, 3 + model.config.persistence :].numel() == 0


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_a_head_that_draws_nothing_stays_where_it_is(make_model, make_turns, tmp_path, dtype):
    held = make_model(cache='banded', is_stub=False)
    held.motion_persistence[0], held.motion_persistence[1] = 1.0, 0.0
    save_checkpoint(tmp_path / 'held.safetensors', held)
    model = load_checkpoint(tmp_path / 'held.safetensors', dtype=dtype)
    drawn = _draft_after_three_frames(model, make_turns)[1].flatten(1, 2)

    later = drawn[:, 3 : 3 + model.config.persistence]
    torch.testing.assert_close(later, drawn[:, 2:3].expand_as(later), rtol=0, atol=1e-5)
