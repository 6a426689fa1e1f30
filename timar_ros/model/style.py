# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How the agent is to be: emotion, attitude and persona as something to add to its motion tokens.

What is not said adds nothing, and neither does anything before it was learned.
"""

import torch
from torch import nn

from timar_ros.model.turn import STYLE, Turn


class Style(nn.Module):
    """
    Embed the style of each turn.

    Args:
        width: D.
        has_controls: whether emotion and attitude are taken.
        n_personas: how many personas there are.
    """

    def __init__(self, width: int, has_controls: bool, n_personas: int):
        super().__init__()
        self.width = width
        self.controls = nn.Linear(len(STYLE), width, bias=False) if has_controls else None
        self.personas = nn.Embedding(n_personas, width) if n_personas else None

    def forward(self, turns: Turn) -> torch.Tensor:
        """Embed turns with the N axis as `[B, N, 1, D]`."""
        B, N = turns.is_shown.shape[:2]
        embedded = torch.zeros(B, N, self.width, device=turns.is_shown.device)
        if turns.style is not None and self.controls is not None:
            style = turns.style * turns.style[..., :1]  # where none is given, nothing is read
            embedded = embedded + self.controls(style.to(self.controls.weight.dtype))
        if turns.persona is not None and self.personas is not None:
            named = self.personas((turns.persona - 1).clamp(min=0))
            embedded = embedded + torch.where(turns.persona[..., None] > 0, named, 0.0)
        return embedded[:, :, None]
