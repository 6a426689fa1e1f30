# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Motion as the change from where it was going: what makes a new draft go on from what is shown.

Knows how far pose and velocity of the last shown frame foretell the frames after it. The head
then draws only what they do not foretell, which is little at first and all of it in the end, so
that a draft cannot leave what is shown with a jump, however badly the weights are trained.

    frame     ... shown shown | lag 1    lag 2    ...      persistence
    motion                      a·pose + b·velocity + spread·drawn     drawn
"""

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

# No frame is foretold better than this, in deviations of its channel: what is drawn would
# otherwise have to be as exact as the channel is smooth.
_SMALLEST_SPREAD = 0.05


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
    """Return the table `[3, n_lags, M]` that foretells nothing."""
    table = torch.zeros(3, n_lags, n_channels)
    table[2] = 1.0
    return table


def foretell(
    table: torch.Tensor, pose: torch.Tensor, velocity: torch.Tensor, lag: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Say where motion is going and how far it may be from there.

    Args:
        table: `[3, lags, M]` from `fit_persistence`.
        pose: of the last shown frame, `[B, N, T, M]`, from `last_shown`.
        velocity: as `pose`.
        lag: int64 `[B, N, T]`, how many frames ago it was.

    Returns:
        expected motion and spread, `[B, N, T, M]` each; 0 and 1 where nothing is foretold.
    """
    M = pose.shape[-1]
    nothing = no_persistence(1, M).to(table)
    padded = torch.cat([nothing, table, nothing], dim=1)  # [3, lags + 2, M]
    by_pose, by_velocity, spread = padded[:, lag.clamp(max=table.shape[1] + 1)]
    return by_pose * pose + by_velocity * velocity, spread


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
    Measure how far a frame's pose and velocity foretell the frames after it, less and less.

    What is foretold fades out over the lags: drawn motion that hung on its own past for longer
    would drift, since what is shown becomes the past of the next draft.

    Args:
        motions: for each clip its motion `[F, M]` in deviations of each channel, mean removed,
            and bool `[M]`, which channels it holds.
        n_lags: frames ahead.
        noise: deviation of noise that training adds to what is shown, in the same unit.
        late: by how many frames what is shown lags behind what is drawn.

    Returns:
        float32 `[3, n_lags, M]`: fade · (a, b) of least squares x(t + late + lag) = a x(t) + b
        (x(t) - x(t-1)), each channel alone, with fade = (1 + cos(π (lag - 1) / n_lags)) / 2; and
        the deviation of what is left, at least 0.05. A channel that no clip holds is not foretold:
        0, 0, 1.
    """
    M = motions[0][0].shape[1]
    table = np.zeros((3, n_lags, M))
    table[2] = 1.0
    # Noise on a frame is in its pose and in its velocity, that of the frame before in the latter.
    extra = noise**2 * np.array([[1.0, 1.0], [1.0, 2.0]])
    for lag in range(1, n_lags + 1):
        moments, products, power, n = np.zeros((2, 2, M)), np.zeros((2, M)), np.zeros(M), 0
        for motion, is_valid in motions:
            ahead = late + lag
            if len(motion) < ahead + 2:
                continue
            x = np.where(is_valid, motion, 0.0).astype(np.float64)
            now, later = x[1:-ahead], x[1 + ahead :]
            inputs = np.stack([now, now - x[: -ahead - 1]])
            moments += np.einsum('itm,jtm->ijm', inputs, inputs)
            products += np.einsum('itm,tm->im', inputs, later)
            power += (later**2).sum(0)
            n = n + len(later) * is_valid
        held = np.flatnonzero((power > 0) & (np.broadcast_to(n, M) > 2))
        if not len(held):
            continue
        count = np.broadcast_to(n, M)[held]
        left = (moments[:, :, held] / count + extra[:, :, None]).transpose(2, 0, 1)
        left = left + 1e-9 * np.eye(2)
        right = (products[:, held] / count).T
        fade = 0.5 * (1 + np.cos(np.pi * (lag - 1) / n_lags))
        weights = fade * np.linalg.solve(left, right[..., None])[..., 0]  # [held, 2]
        explained = 2 * (weights * right).sum(1) - np.einsum(
            'hi,hij,hj->h', weights, left, weights
        )
        rest = np.maximum(power[held] / count - explained, _SMALLEST_SPREAD**2)
        table[:2, lag - 1, held] = weights.T
        table[2, lag - 1, held] = np.sqrt(rest)
    return table.astype(np.float32)
