# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The diffusion head's network: noisy motion and context to clean motion and variance.

An MLP on rows; each frame is drawn alone, given its context. Layer names are the published ones.
"""

import math

import torch
from torch import nn
import torch.nn.functional as F

from timar_ros.model.attention import NORM_EPS

_FREQUENCIES = 128


class TimestepEmbedding(nn.Module):
    """Sines and cosines of the step, then an MLP: `[R]` -> `[R, U]`."""

    def __init__(self, width: int):
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(2 * _FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        """Embed diffusion steps `[R]` of 0..999."""
        index = torch.arange(_FREQUENCIES, device=timestep.device, dtype=torch.float32)
        frequency = torch.exp(-math.log(10000.0) * index / _FREQUENCIES)
        angle = timestep[:, None].float() * frequency  # [R, 128]
        waves = torch.cat([angle.cos(), angle.sin()], dim=-1)
        return self.mlp(waves.to(self.mlp[0].weight.dtype))


class ResidualBlock(nn.Module):
    """An MLP whose norm is shifted, scaled and gated by the condition."""

    def __init__(self, width: int):
        super().__init__()
        self.in_ln = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 3 * width))

    def forward(self, x: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
        """Transform rows `[R, U]` under modulations `[R, 3U]`."""
        shift, scale, gate = modulation.chunk(3, dim=-1)
        return x + gate * self.mlp(self.in_ln(x) * (1 + scale) + shift)


class FinalLayer(nn.Module):
    """A modulated norm and the projection to clean motion and variance logits."""

    def __init__(self, width: int, n_outputs: int):
        super().__init__()
        self.linear = nn.Linear(width, n_outputs)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def forward(self, x: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
        """Project rows `[R, U]` under modulations `[R, 2U]`."""
        shift, scale = modulation.chunk(2, dim=-1)
        x = F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
        return self.linear(x * (1 + scale) + shift)


class Denoiser(nn.Module):
    """
    Predict clean motion from noisy motion, a diffusion step and a frame's context.

    Args:
        n_channels: M.
        context_width: D.
        width: U.
        n_blocks: residual blocks.

    Source: docs/model.md §3, `diffloss.net`.
    """

    def __init__(self, n_channels: int, context_width: int, width: int, n_blocks: int):
        super().__init__()
        self.time_embed = TimestepEmbedding(width)
        self.cond_embed = nn.Linear(context_width, width)
        self.input_proj = nn.Linear(n_channels, width)
        self.res_blocks = nn.ModuleList(ResidualBlock(width) for _ in range(n_blocks))
        self.final_layer = FinalLayer(width, 2 * n_channels)
        self._zero_modulation()

    def _zero_modulation(self) -> None:
        """Start as the identity: gates and the output are zero (DiT)."""
        for block in self.res_blocks:
            nn.init.zeros_(block.adaLN_modulation[1].weight)
            nn.init.zeros_(block.adaLN_modulation[1].bias)
        for layer in (self.final_layer.adaLN_modulation[1], self.final_layer.linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def modulate(self, timestep: torch.Tensor, context: torch.Tensor) -> list[torch.Tensor]:
        """
        Say how each layer is modulated; of all steps at once this takes less than step by step.

        Args:
            timestep: 0..999, `[R]` for rows of their own, or `[n, 1]` for n steps of all rows.
            context: `cond_embed` of the transformer's output, `[R, U]`.

        Returns:
            for each block `[.., R, 3U]`, then `[.., R, 2U]` for the final layer.
        """
        embedded = self.time_embed(timestep.flatten()).view(*timestep.shape, -1)
        condition = embedded + context  # [.., R, U]
        layers = [*self.res_blocks, self.final_layer]
        return [layer.adaLN_modulation(condition) for layer in layers]

    def forward(
        self, x: torch.Tensor, modulations: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Denoise rows.

        Args:
            x: noisy motion `[R, M]`.
            modulations: of one step, from `modulate`.

        Returns:
            clean motion `[R, M]` and variance logits `[R, M]`.
        """
        R, _M = x.shape
        x = self.input_proj(x)  # [R, U]
        for block, modulation in zip(self.res_blocks, modulations[:-1], strict=True):
            x = block(x, modulation)
        return self.final_layer(x, modulations[-1]).chunk(2, dim=-1)
