# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the model may see of a training window.

The published recipe hides agent frames and drops user tokens at random. A model that plans ahead
also meets an *open* turn: its past is complete, its first frames are already shown, its user was
heard up to a moment, and the turns behind it have no user at all. This file puts all of that into
the training distribution; it refuses to know where windows come from.

    turns   0 ... o-1      o (the first open one)      o+1 ...
    agent   history        |shown prefix|hidden        hidden
    user    heard          |heard|null                 null (heard, where nobody anticipates)

Where history is masked, every turn of a window learns at once, and each may have a shown prefix of
its own: a turn that is still open when the next one begins is shown, one that is history is not.
"""

import numpy as np
import scipy.stats
import torch

from timar_ros.config import TimarConfig, TrainConfig
from timar_ros.model.turn import Turn

# A plan leads what was heard by hearing_delay + plan_latency, 0 to 0.4 s by the node's settings.
_LARGEST_LEAD_S = 0.4


def draw_mask_ratio(train: TrainConfig, rng: np.random.Generator) -> float:
    """
    Draw the share of agent frames that a batch hides.

    Formula: normal of mean `mask_mean` and deviation `mask_sd`, truncated to [mask_min, 1].

    Source: TIMAR.md §6; MAR (arXiv 2406.11838).
    """
    if train.mask_sd == 0 or train.mask_min >= 1:
        return min(max(train.mask_mean, train.mask_min), 1.0)
    low, high = ((edge - train.mask_mean) / train.mask_sd for edge in (train.mask_min, 1.0))
    return float(
        scipy.stats.truncnorm.rvs(low, high, train.mask_mean, train.mask_sd, random_state=rng)
    )


def mask_windows(
    windows: dict[str, torch.Tensor],
    config: TimarConfig,
    train: TrainConfig,
    rng: np.random.Generator,
    shown_noise: torch.Tensor | None = None,
) -> Turn:
    """
    Turn a batch of windows into what the model is given, and what it is to draw.

    Args:
        windows: a batch of `dataset.Windows`, `[B, N, ...]`.
        config: says whether history shows the agent's motion.
        train: the probabilities.
        rng: drawn from in the same order whatever the probabilities.
        shown_noise: deviation `[M]` of noise on the frames that are shown, in units of the
            space: the model's own past is not as clean as a recording. None = none.

    Returns:
        Turns `[B, N, ...]`; frames with `is_shown` False are to be drawn, at least one in each
        window.
    """
    B, N, T, M = windows['agent_motion'].shape
    ratio = draw_mask_ratio(train, rng)
    is_shown = np.zeros((B, N * T), bool)
    is_heard = np.ones((B, N * T), bool)
    has_camera = torch.ones(B, dtype=torch.bool)
    for window in range(B):
        open_turn = int(rng.integers(N))
        first_open = open_turn * T
        moment = first_open + int(rng.integers(T))
        lead = int(rng.integers(int(_LARGEST_LEAD_S * config.fps) + 1))
        is_partly_heard, is_ahead, has_no_camera = rng.random(3) < (
            train.user_part_drop,
            train.user_turn_drop,
            train.user_motion_drop,
        )
        n_shown = rng.integers(T + 1, size=N)
        n_shown[open_turn] = moment - first_open
        n_shown[rng.random(N) >= train.agent_prefix] = 0
        if config.history == 'shown':
            n_shown[:open_turn], n_shown[open_turn + 1 :] = T, 0
        is_shown[window] = (np.arange(T) < n_shown[:, None]).ravel()
        _reveal_at_random(is_shown[window], ratio, rng)
        if is_partly_heard:
            is_heard[window, max(moment - lead, 0) :] = False
        elif is_ahead:
            is_heard[window, first_open + T :] = False
        has_camera[window] = not has_no_camera
    shape = (B, N, T)
    is_heard, is_shown = (torch.from_numpy(x.reshape(shape)) for x in (is_heard, is_shown))
    is_dropped = torch.from_numpy(rng.random((2, *shape)) < train.user_drop)
    agent_motion = windows['agent_motion']
    if shown_noise is not None:
        noise = torch.from_numpy(rng.standard_normal((B, N, T, M), np.float32)) * shown_noise
        agent_motion = torch.where(is_shown[..., None], agent_motion + noise, agent_motion)
    # What was not heard is no sound at all: an encoder that looks ahead must not see it either.
    is_sound = is_heard.repeat_interleave(config.samples_per_frame, -1)
    return Turn(
        user_speech=torch.where(is_sound, windows['user_speech'], 0.0),
        user_heard=is_heard & ~is_dropped[0],
        user_motion=windows['user_motion'],
        user_seen=windows['user_seen'] & has_camera[:, None, None] & is_heard & ~is_dropped[1],
        agent_speech=windows['agent_speech'],
        agent_motion=agent_motion,
        is_shown=is_shown,
    )


def _reveal_at_random(is_shown: np.ndarray, ratio: float, rng: np.random.Generator) -> None:
    hidden = rng.permutation(np.flatnonzero(~is_shown))
    is_shown[hidden[max(int(np.ceil(ratio * len(hidden))), 1) :]] = True
