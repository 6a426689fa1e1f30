# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where each head of attention looks before it has learned anything: a window in time.

Ours (`TimarConfig.nearness`, `taps`): with them a short training finds what follows what.
"""

from collections.abc import Sequence
from itertools import cycle, islice

import torch

from timar_ros.config import TimarConfig
from timar_ros.model.turn import MODALITIES, slots

_FAR = -6.0
_VERY_FAR = -12.0


def windows_of_heads(config: TimarConfig) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """
    Return `make_nearness` of the first block and of the others; None where they have none.

    Raises:
        ValueError: `taps` are of a modality that does not exist.
    """
    if unknown := set(config.taps) - set(MODALITIES):
        raise ValueError(
            f'taps must be of {", ".join(MODALITIES)}, got {", ".join(sorted(unknown))}'
        )
    if not config.nearness:
        return None, None
    windows = tuple(islice(cycle(config.nearness), config.n_heads))
    near = make_nearness(windows, config.max_turns, config.frames_per_turn)
    if not config.taps:
        return near, near
    windows = [window for own in config.taps.values() for window in own]
    names = [name for name, own in config.taps.items() for _ in own]
    return make_nearness(windows, config.max_turns, config.frames_per_turn, names), near


def make_nearness(
    windows: Sequence[tuple[int, ...]],
    n_ages: int,
    n_frames: int,
    modalities: Sequence[str | None] | None = None,
) -> torch.Tensor:
    """
    Give heads windows in time, so that each looks at a moment of its own before it learns where.

    Args:
        windows: for each head the first and last frame before a token's own that it looks at
            (negative = after it), or () for all.
        n_ages: turns that attention reaches back, the own one included.
        n_frames: T.
        modalities: for each head the only one that it looks at; None = all.

    Returns:
        `[H, L, n_ages, L]`, the oldest age first, as keys lie: 0 inside a head's window, -6
        outside; separators, which have no time, see and are seen at 0. A head with a modality
        has -12 outside its window, and for separators and other modalities.
    """
    # On the CPU by name, so that a model may be laid out on the meta device.
    L = 4 * n_frames + 10
    frame = torch.full((L,), -1, device='cpu')
    for modality in MODALITIES:
        frame[slots(modality, n_frames)] = torch.arange(n_frames, device='cpu')
    age = torch.arange(n_ages - 1, -1, -1, device='cpu')[None, :, None]
    before = frame[:, None, None] - frame[None, None, :] + age * n_frames  # [L, n_ages, L]
    has_time = (frame >= 0)[:, None, None] & (frame >= 0)[None, None, :]
    nearness = torch.zeros(len(windows), L, n_ages, L, device='cpu')
    for head, window in enumerate(windows):
        if window:
            is_outside = has_time & ((before < window[0]) | (before > window[1]))
            nearness[head][is_outside] = _FAR
        if modalities is not None:
            is_other = torch.ones(L, dtype=torch.bool, device='cpu')
            is_other[slots(modalities[head], n_frames)] = False
            nearness[head][is_outside | is_other] = _VERY_FAR
    return nearness
