# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The noise of a conversation: a function of where it is used, not of how often it was drawn.

All drafts of a turn share it, so a replan moves only as far as what was heard moves it.
"""

from collections.abc import Sequence

import numpy as np
import torch


def _normal(seed: int, turn: int, draw: int, n: int) -> np.ndarray:
    """Return n standard normal numbers, float32, for one place in a conversation."""
    # Philox counts instead of remembering, and its raw numbers are the same in every NumPy.
    key = np.array([seed % 2**64, 0], np.uint64)  # a plain list would round large seeds
    bits = np.random.Philox(key=key, counter=[0, turn, draw, 0])
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
