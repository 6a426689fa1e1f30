# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Noise is a function of seed, turn, pass, draw and frame, and of nothing else."""

import numpy as np
import pytest
from scipy import stats
import torch

from timar_ros.stream.noise import _smooth, draw_noise, draw_smooth_noise

_T, _M = 5, 7


def _draw(seeds=(0,), first_turn=0, n_turns=1, n_passes=1, n_draws=6, T=_T, M=_M):
    return draw_noise(seeds, first_turn, n_turns, n_passes, n_draws, T, M)


def test_a_turn_has_the_same_noise_whichever_turns_are_drawn_with_it():
    together = _draw(first_turn=3, n_turns=3)

    for k in range(3):
        assert torch.equal(together[:, k : k + 1], _draw(first_turn=3 + k))


def test_a_pass_and_a_draw_have_the_same_noise_however_many_there_are():
    many = _draw(n_passes=3, n_draws=9)

    assert torch.equal(many[:, :, :1, :6], _draw())


def test_a_row_of_a_batch_has_the_noise_of_its_seed():
    both = _draw(seeds=(11, 12))

    assert torch.equal(both[1:], _draw(seeds=(12,)))


def test_no_two_places_share_their_noise():
    noise = _draw(seeds=(0, 1, -1), n_turns=4, n_passes=3)

    rows = noise.reshape(-1, _T * _M).numpy()
    assert len(np.unique(rows, axis=0)) == len(rows) == 3 * 4 * 3 * 6


def test_noise_is_standard_normal_and_independent():
    noise = _draw(n_turns=40, n_draws=6, T=25, M=56).numpy().astype(np.float64)

    assert stats.kstest(noise.reshape(-1), 'norm').pvalue > 1e-3
    rows = noise.reshape(240, -1)
    correlation = np.corrcoef(rows)[np.triu_indices(240, 1)]
    assert np.abs(correlation).max() < 5.5 / np.sqrt(rows.shape[1])


def test_noise_stays_what_it_was_in_every_version():
    # From a run of the first version: what a conversation does must not change with NumPy.
    expected = [
        0.331033,
        -1.206256,
        -0.619005,
        -1.249797,
        1.026124,
        -0.327675,
        0.918489,
        2.057720,
        -0.612516,
        1.150920,
        0.658409,
        0.367878,
    ]

    noise = _draw(seeds=(123,), first_turn=7, n_passes=2, n_draws=2, T=1, M=3)

    np.testing.assert_allclose(noise.reshape(-1), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('seed', [0, 2**64 - 1, -1, 2**70])
def test_any_seed_gives_finite_noise(seed):
    assert _draw(seeds=(seed,)).isfinite().all()


def test_noise_far_into_a_conversation_is_found_without_drawing_what_came_before():
    noise = _draw(first_turn=10**9)

    assert noise.isfinite().all()
    assert not torch.equal(noise, _draw(first_turn=10**9 - 1))


def test_smooth_noise_keeps_each_frame_normal_and_ties_neighbours():
    noise = draw_smooth_noise(list(range(40)), 0, 3, 1, 4, 25, 8, spread=4.0)
    rows = noise.permute(0, 2, 3, 5, 1, 4).reshape(-1, 75)

    assert noise.shape == (40, 3, 1, 4, 25, 8)
    torch.testing.assert_close(rows.var(0), torch.ones(75), atol=0.25, rtol=0)
    correlation = (rows[:, :-1] * rows[:, 1:]).mean(0)
    # A Gaussian window of deviation s correlates neighbours by exp(-1 / 4 s^2), at seams as well.
    torch.testing.assert_close(correlation, torch.full((74,), 0.984), atol=0.2, rtol=0)


def test_smooth_noise_of_a_turn_does_not_depend_on_what_is_drawn_with_it():
    together = draw_smooth_noise([3], 0, 4, 1, 2, 25, 5, spread=6.0)
    _smooth.cache_clear()
    alone = draw_smooth_noise([3], 2, 1, 1, 2, 25, 5, spread=6.0)

    torch.testing.assert_close(together[:, 2:3], alone, atol=0, rtol=0)


def test_smooth_noise_is_white_noise_under_a_gaussian_window_of_norm_one():
    T, spread = 10, 2.0
    white = draw_noise([5], 6, 3, 1, 2, T, 3)[0, :, 0].double()  # turns 6 to 8
    white = torch.cat(list(white), dim=1)  # [draw, 3 T, M]

    smooth = draw_smooth_noise([5], 7, 1, 1, 2, T, 3, spread=spread)[0, 0, 0]

    away = torch.arange(-6, 7, dtype=torch.float64)
    window = torch.exp(-0.5 * (away / spread) ** 2)
    window = window / window.square().sum().sqrt()
    for frame in range(T):
        near = white[:, T + frame - 6 : T + frame + 7]
        expected = (window[None, :, None] * near).sum(1).float()
        torch.testing.assert_close(smooth[:, frame], expected, rtol=0, atol=1e-5)
