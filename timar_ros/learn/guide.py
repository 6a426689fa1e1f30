# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A second loss, in training only: the transformer's output must tell nods and quick movements.

Most of a head's variance is posture; a listener who never nods has nearly the squared error of one
who does. What is asked for here is asked for directly.
"""

from collections.abc import Callable

import torch
from torch import nn
import torch.nn.functional as F

N_NECK = 3


class Guide(nn.Module):
    """
    A linear layer from context to the logit of nodding and the neck's quick motion in degrees.

    Args:
        width: D of the context.
        weight: of the loss.
    """

    def __init__(self, width: int, weight: float):
        super().__init__()
        self.weight = weight
        self.read = nn.Linear(width, 1 + N_NECK)

    def of_batch(self, batch: dict[str, torch.Tensor], neck: slice) -> Callable:
        """
        Return the loss of rows, `(context [R, D], rows [R] of B·N·T) -> [R]`, for `TIMAR.loss`.

        Formula: weight · (binary cross-entropy of `is_nodding` + squared error of `quick_neck`,
        summed over its channels); 0 for clips that lack a channel of the neck.

        Args:
            batch: of `dataset.Windows`.
            neck: its channels.
        """
        B, N, T = batch['is_nodding'].shape
        has_neck = batch['channel_mask'][:, neck].all(-1)[:, None, None].expand(B, N, T)

        def loss(context: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            def of_rows(values):
                return values.reshape(B * N * T, -1).to(rows.device)[rows].float()

            guess = self.read(context).float()
            nodding, quick = of_rows(batch['is_nodding'])[:, 0], of_rows(batch['quick_neck'])
            wrong = F.binary_cross_entropy_with_logits(guess[:, 0], nodding, reduction='none')
            off = (guess[:, 1:] - quick).square().sum(-1)
            return self.weight * (wrong + off) * of_rows(has_neck)[:, 0]

        return loss
