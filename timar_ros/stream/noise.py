# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The noise of a conversation: a function of where it is used, not of how often it was drawn.

All drafts of a turn share it, so a replan moves only as far as what was heard moves it.
"""

from collections.abc import Sequence
import functools

import numpy as np
import torch


@functools.lru_cache(256)  # every plan of a turn asks for the same
def _normal(seed: int, turn: int, draw: int, n: int) -> np.ndarray:
    """Return n standard normal numbers, float32, for one place in a conversation."""
    # Philox counts instead of remembering, and its raw numbers are the same in every NumPy.
    # Arrays, since plain lists would round large numbers; the turn before the first is 2^64 - 1.
    key = np.array([seed % 2**64, 0], np.uint64)
    counter = np.array([0, turn % 2**64, draw, 0], np.uint64)
    bits = np.random.Philox(key=key, counter=counter)
    raw = bits.random_raw((n + 1) // 2)
    first = ((raw >> np.uint64(32)).astype(np.float64) + 1.0) / 2.0**32  # (0, 1]
    second = (raw & np.uint64(0xFFFFFFFF)).astype(np.float64) / 2.0**32
    radius, angle = np.sqrt(-2.0 * np.log(first)), 2.0 * np.pi * second  # Box and Muller
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return pairs.reshape(-1)[:n].astype(np.float32)


def draw_noise(
    seeds: Sequence[int],
    first_turn: int,
    n_turns: int,
    n_passes: int,
    n_draws: int,
    n_frames: int,
    n_channels: int,
) -> torch.Tensor:
    """
    Draw the noise of some turns.

    Args:
        seeds: one for each row of the batch.
        first_turn: index of the first turn, counted from the conversation's start.
        n_turns: N.
        n_passes: revealing passes a turn.
        n_draws: draws a pass (denoising steps + 1).
        n_frames: T.
        n_channels: M.

    Returns:
        float32 `[B, N, n_passes, n_draws, T, M]` on the CPU.
    """
    shape = (n_frames, n_channels)
    rows = [
        _normal(seed, turn, p * 4096 + draw, n_frames * n_channels).reshape(shape)
        for seed in seeds
        for turn in range(first_turn, first_turn + n_turns)
        for p in range(n_passes)
        for draw in range(n_draws)
    ]
    noise = np.stack(rows).reshape(len(seeds), n_turns, n_passes, n_draws, *shape)
    return torch.from_numpy(noise)


def draw_smooth_noise(
    seeds: Sequence[int],
    first_turn: int,
    n_turns: int,
    n_passes: int,
    n_draws: int,
    n_frames: int,
    n_channels: int,
    spread: float,
) -> torch.Tensor:
    """
    Draw noise that changes slowly over the frames; each frame alone is as normal as ever.

    The head draws each frame by itself, given its context. What the context leaves open is then
    left open alike for neighbouring frames, also across turns, instead of shaking the head.

    Args:
        seeds: as of `draw_noise`, and so on to `n_channels`.
        first_turn: of the turns wanted.
        n_turns: N.
        n_passes: revealing passes a turn.
        n_draws: draws a pass.
        n_frames: T.
        n_channels: M.
        spread: standard deviation of the Gaussian window, frames.

    Returns:
        float32 `[B, N, n_passes, n_draws, T, M]`: white noise under a window of norm 1, which
        reaches three deviations, and one turn at most, to both sides.
    """
    rows = [
        _smooth(seed, turn, p * 4096, n_draws, n_frames, n_channels, spread)
        for seed in seeds
        for turn in range(first_turn, first_turn + n_turns)
        for p in range(n_passes)
    ]
    shape = (len(seeds), n_turns, n_passes, n_draws, n_frames, n_channels)
    return torch.from_numpy(np.stack(rows).reshape(shape))


@functools.lru_cache(64)  # turn by turn, so that a turn has the same bits whatever is open with it
def _smooth(
    seed: int,
    turn: int,
    first_draw: int,
    n_draws: int,
    n_frames: int,
    n_channels: int,
    spread: float,
) -> np.ndarray:
    """Return the noise of one pass over a turn, float32 `[n_draws, T, M]`."""
    white = [
        _normal(seed, near, draw, n_frames * n_channels)
        for draw in range(first_draw, first_draw + n_draws)
        for near in (turn - 1, turn, turn + 1)
    ]
    return _window(n_frames, spread) @ np.stack(white).reshape(n_draws, -1, n_channels)


@functools.lru_cache(4)
def _window(n_frames: int, spread: float) -> np.ndarray:
    """Return which frames of three turns make each frame of the middle one, `[T, 3 T]`."""
    reach = min(int(3 * spread), n_frames)
    frame = np.arange(n_frames)[:, None] + n_frames
    away = frame - np.arange(3 * n_frames)
    window = np.where(np.abs(away) <= reach, np.exp(-0.5 * (away / spread) ** 2), 0.0)
    return (window / np.sqrt(np.square(window).sum(-1, keepdims=True))).astype(np.float32)
