# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Motion as the change from where it is: what makes a new draft go on from what is shown.

Knows how far motion gets from the last shown frame in the frames after it. The head then draws
only the way from there, so that a draft cannot leave what is shown with a jump, however badly the
weights are trained, and a head that rests stays where it is if nothing is drawn at all.

    frame     ... shown shown | lag 1    lag 2    ...      persistence
    motion                      hold·pose + spread·drawn   drawn
"""

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

# No frame is foretold better than this, in deviations of its channel: what is drawn would
# otherwise have to be as exact as the channel is smooth.
_SMALLEST_SPREAD = 0.05
# What is left of a pose after a frame: at 25 fps a head comes back to its mean in 4 s (time
# constant), as the teacher's does. Held for good, small errors of what is drawn add up: 12
# degrees in 20 s of silence.
_LEAK = 0.99


def last_shown(
    motion: torch.Tensor, is_shown: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """
    Find, for each frame, the last frame before it that is shown.

    Args:
        motion: `[B, N, T, M]`, read where `is_shown`.
        is_shown: bool `[B, N, T]`.

    Returns:
        its pose `[B, N, T, M]`; its velocity, the change from the frame before it, 0 where that
        is not shown; and int64 `[B, N, T]`, how many frames ago it was, 0 = never.
    """
    B, N, T, M = motion.shape
    shown = is_shown.flatten(1)  # [B, N·T]
    frames = torch.arange(N * T, device=motion.device).expand(B, -1)
    # A frame that is shown has no use for itself, nor it for one that is.
    last = torch.where(shown, frames, -1).cummax(1).values
    lag = torch.where(last >= 0, frames - last, 0)
    motion = torch.where(is_shown[..., None], motion, 0.0).flatten(1, 2)
    step = torch.diff(motion, dim=1, prepend=motion[:, :1])
    has_step = shown & F.pad(shown[:, :-1], (1, 0))
    step = torch.where(has_step[..., None], step, 0.0)
    index = last.clamp(min=0)[..., None].expand(-1, -1, M)
    is_known = (lag > 0)[..., None]
    pose, velocity = (torch.where(is_known, x.gather(1, index), 0.0) for x in (motion, step))
    shape = (B, N, T, M)
    return pose.view(shape), velocity.view(shape), lag.view(B, N, T)


def no_persistence(n_lags: int, n_channels: int) -> torch.Tensor:
    """Return the table `[2, n_lags, M]` that foretells nothing."""
    return torch.stack([torch.zeros(n_lags, n_channels), torch.ones(n_lags, n_channels)])


def foretell(
    table: torch.Tensor, pose: torch.Tensor, lag: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Say where motion is expected and how far it may be from there.

    Args:
        table: `[2, lags, M]` from `fit_persistence`.
        pose: of the last shown frame, `[B, N, T, M]`, from `last_shown`.
        lag: int64 `[B, N, T]`, how many frames ago it was.

    Returns:
        expected motion and spread, `[B, N, T, M]` each; 0 and 1 where nothing is foretold.
    """
    nothing = no_persistence(1, pose.shape[-1]).to(table)
    padded = torch.cat([nothing, table, nothing], dim=1)  # [2, lags + 2, M]
    hold, spread = padded[:, lag.clamp(max=table.shape[1] + 1)]
    return hold * pose, spread


class Persistence(nn.Module):
    """
    Tell the tokens of frames that are to be drawn where motion was going: zero until learned.

    Args:
        n_channels: M.
        width: D.
        n_lags: frames over which motion is foretold.
    """

    def __init__(self, n_channels: int, width: int, n_lags: int):
        super().__init__()
        self.going = nn.Linear(2 * n_channels, width, bias=False)
        self.lag = nn.Embedding(n_lags, width)

    def forward(self, motion: torch.Tensor, is_shown: torch.Tensor) -> torch.Tensor:
        """Embed what is shown before each frame of `[B, N, T, M]` as `[B, N, T, D]`."""
        pose, velocity, lag = last_shown(motion, is_shown)
        n_lags = self.lag.num_embeddings
        is_near = ((lag > 0) & (lag <= n_lags))[..., None]
        going = self.going(torch.cat([pose, velocity], dim=-1))
        return torch.where(is_near, going + self.lag((lag - 1).clamp(0, n_lags - 1)), 0.0)


def fit_persistence(
    motions: list[tuple[np.ndarray, np.ndarray]], n_lags: int, noise: float = 0.0, late: int = 0
) -> np.ndarray:
    """
    Measure how far motion gets from a frame's pose in the frames after it.

    It is expected nearly to stay, for two thirds of the lags, and then less and less: drawn motion
    that hung on its own past for longer would drift. Not what foretells it best: least squares
    takes three quarters of the pose and twice the velocity where what is shown is late at times,
    and what an imprecise head then fails to add draws one that rests to the middle at every plan.

    Args:
        motions: for each clip its motion `[F, M]` in deviations of each channel, mean removed,
            and bool `[M]`, which channels it holds.
        n_lags: frames ahead.
        noise: deviation of noise that training adds to what is shown, in the same unit.
        late: by how many frames what is shown lags behind what is drawn.

    Returns:
        float32 `[2, n_lags, M]`: hold, 0.99^lag and then times half a cosine towards 0; and the
        root mean square of x(t + late + lag) - hold · (x(t) + noise), at least 0.05. A channel
        that no clip holds is not foretold: 0, 1.
    """
    M = motions[0][0].shape[1]
    table = no_persistence(n_lags, M).numpy()
    n_held = 2 * n_lags // 3
    for lag in range(1, n_lags + 1):
        fading = max(lag - n_held, 0) / (n_lags - n_held + 1)
        hold = _LEAK**lag * 0.5 * (1 + np.cos(np.pi * fading))
        power, n, ahead = np.zeros(M), np.zeros(M), late + lag
        for motion, is_valid in motions:
            change = motion[ahead:] - hold * motion[:-ahead]
            power += np.where(is_valid, (change.astype(np.float64) ** 2).sum(0), 0.0)
            n += len(change) * is_valid
        known = n > 0
        left = power[known] / n[known] + (hold * noise) ** 2
        table[0, lag - 1, known] = hold
        table[1, lag - 1, known] = np.sqrt(np.maximum(left, _SMALLEST_SPREAD**2))
    return table
