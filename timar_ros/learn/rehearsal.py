# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A head that sees its own plans in training, as it does in a conversation.

What a node shows at a planning moment was drawn at the moment before, when less was heard. Shown
the teacher's frames instead, a model learns to go on with an answer that has begun already, and
does not begin by itself; shown its own, it learns to make good for what it could not know.
"""

import dataclasses

import torch

from timar_ros.config import SamplingConfig
from timar_ros.model.timar import TIMAR
from timar_ros.model.turn import Turn

_SAMPLING = SamplingConfig()


@torch.no_grad()
def show_own_plan(
    model: TIMAR, turns: Turn, before: Turn, generators: list[torch.Generator]
) -> Turn:
    """
    Show what the model plans at the moment before, where that is what would be shown.

    Args:
        model: as it is now.
        turns: `[B, N, ...]`, from `masking.mask_windows`.
        before: what the model was given at the moment before.
        generators: one for each window, on the CPU; noise is the same in all of its frames,
            since in a conversation it changes slowly.

    Returns:
        the turns; frames that are shown and were not before have the model's motion.
    """
    is_own = turns.is_shown & ~before.is_shown
    if not is_own.any():
        return turns
    B, N, T, M = turns.agent_motion.shape
    noise = torch.stack([torch.randn(_SAMPLING.steps + 1, M, generator=g) for g in generators])
    noise = noise.to(model.device)[:, None, None, :, None].expand(B, N, 1, -1, T, M)
    may_attend = model.band(N)
    planned = model.draw(
        before, noise, _SAMPLING, lambda t: model.encode(model.embed(t), None, may_attend)
    )
    motion = torch.where(is_own[..., None], planned, turns.agent_motion)
    return dataclasses.replace(turns, agent_motion=motion)
