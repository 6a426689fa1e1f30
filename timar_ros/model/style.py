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
        n_personas: how many personas there are.
    """

    def __init__(self, width: int, n_personas: int):
        super().__init__()
        self.controls = nn.Linear(len(STYLE), width, bias=False)
        self.personas = nn.Embedding(n_personas, width) if n_personas else None

    def forward(self, turns: Turn) -> torch.Tensor:
        """
        Embed turns with the N axis as `[B, N, 1, D]`.

        Raises:
            ValueError: a persona is none of those learned.
        """
        B, N = turns.is_shown.shape[:2]
        weight = self.controls.weight
        embedded = weight.new_zeros(B, N, weight.shape[0])
        if turns.style is not None:
            is_given = turns.style[..., :1]
            embedded = embedded + self.controls((turns.style * is_given).to(weight.dtype))
        if turns.persona is not None and self.personas is not None:
            named = self.personas((turns.persona - 1).clamp(min=0))
            embedded = embedded + torch.where(turns.persona[..., None] > 0, named, 0.0)
        return embedded[:, :, None]
