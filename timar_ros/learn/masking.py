# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the model may see of a training window.

The published recipe hides agent frames and drops user tokens at random. A model that plans ahead
also meets *planning moments* (design.md, Time): all but the last turns are over, and of these the
user was heard, the agent's own voice is known and motion is shown, each up to a time of its own.
This file puts that into the training distribution; it refuses to know where windows come from.

    turns      0 ... k-1   | k                                   | k+1
    user       heard       | heard until τ - hearing_delay, then null
    agent says known       | known until τ + agent_lead,                   then silent
    motion     history     | shown until τ + plan_latency, then to be drawn; not learned from
                           |               where the agent says something that is not known

When τ - hearing_delay lies in turn k-1, that turn is open too, and all of its motion is shown.

In the other windows every turn learns at once from all of both voices, as in the published
recipe; each may have a shown prefix of its own where history is masked.
"""

import dataclasses
import math

import numpy as np
import scipy.stats
import torch

from timar_ros.config import TimarConfig, TimingConfig, TrainConfig
from timar_ros.model.turn import Turn
from timar_ros.motion import get_space

# A plan leads what was heard by hearing_delay + plan_latency, 0 to 0.4 s by the node's settings.
_LARGEST_LEAD_S = 0.4
# Most planning moments have the delays that nodes have unless told otherwise, the others
# any sensible ones, s.
_USUAL = 0.7
_HEARING_DELAY_S = (0.04, 0.2)
_PLAN_LATENCY_S = (0.04, 0.16)
_LEAD_BEYOND_LATENCY_S = (0.1, 0.7)
_TIMING = TimingConfig()
# A plan is shown until the next one has taken over; what it says of later is seldom seen.
_SEEN_S = 1 / _TIMING.replan_hz + _TIMING.blend_ms / 1000
# An agent that is this much quieter (rms) than its voice is, which has 1, says nothing.
_SILENCE = 0.04


def draw_mask_ratio(train: TrainConfig, rng: np.random.Generator) -> float:
    """
    Draw the share of agent frames that a batch hides.

    Formula: normal of mean `mask_mean` and deviation `mask_sd`, truncated to [mask_min, 1].

    Source: docs/model.md §6; MAR (arXiv 2406.11838).
    """
    if train.mask_sd == 0 or train.mask_min >= 1:
        return min(max(train.mask_mean, train.mask_min), 1.0)
    low, high = ((edge - train.mask_mean) / train.mask_sd for edge in (train.mask_min, 1.0))
    return float(
        scipy.stats.truncnorm.rvs(low, high, train.mask_mean, train.mask_sd, random_state=rng)
    )


def draw_beginning(train: TrainConfig, rng: np.random.Generator) -> int:
    """
    Draw by how many turns a batch's windows are shorter, which begin where their clips do.

    Formula: 0 = anywhere in a clip, or with the probability `beginnings` 1 to all but two, evenly:
    a planning moment in a conversation's first turn is given two.
    """
    most = train.window_turns - 2
    return int(rng.integers(1, most + 1)) if most > 0 and rng.random() < train.beginnings else 0


@dataclasses.dataclass
class _View:
    """
    What is seen of one window, frame by frame `[N·T]`.

    Attributes:
        is_shown: the agent's motion.
        is_heard: the user.
        n_known: samples of the agent's voice from the window's start.
        weight: of each frame in the loss.
        late_s: how late the head is, `show_late`.
        before: what was seen at the planning moment before; None = there was none.
    """

    is_shown: np.ndarray
    is_heard: np.ndarray
    n_known: int
    weight: np.ndarray
    late_s: float = 0.0
    before: '_View | None' = None


def mask_windows(
    windows: dict[str, torch.Tensor],
    config: TimarConfig,
    train: TrainConfig,
    rngs: list[np.random.Generator],
    ratio: float = 1.0,
    shown_noise: torch.Tensor | None = None,
) -> tuple[Turn, torch.Tensor, Turn]:
    """
    Turn a batch of windows into what the model is given, and what it is to draw.

    Args:
        windows: a batch of `dataset.Windows`, `[B, N, ...]`.
        config: says whether history shows the agent's motion.
        train: the probabilities.
        rngs: one for each window, so that windows look alike in whatever batch they are.
        ratio: share of agent frames that are hidden, where nothing else shows them.
        shown_noise: deviation `[M]` of noise on the frames that are shown, in units of the
            space: the model's own past is not as clean as a recording. None = none.

    Returns:
        Turns `[B, N, ...]`, frames with `is_shown` False are to be drawn; the weight of each
        frame in the loss, float32 `[B, N, T]`, above 0 for at least one of these in each window;
        and what the model was given of the same turns at the planning moment before, for
        `rehearsal`: fewer frames are shown. A window without such a moment is there as it is.
    """
    B, N, T, M = windows['agent_motion'].shape
    views, not_dropped, noises, has_camera, has_style = [], [], [], [], []
    loudness = windows['agent_speech'].view(B, N * T, -1).square().mean(-1).sqrt().numpy()
    for rng, says_nothing in zip(rngs, loudness < _SILENCE, strict=True):
        views.append(_draw_view(N, config, train, ratio, says_nothing, rng))
        not_dropped.append(rng.random((2, N, T)) >= train.user_drop)
        has_camera.append(rng.random() >= train.user_motion_drop)
        has_style.append(rng.random(2) >= train.style_drop)
        if shown_noise is not None:
            noises.append(rng.standard_normal((N, T, M), np.float32))

    def gather(values) -> torch.Tensor:
        return torch.from_numpy(np.stack(values).reshape(B, N, T))

    is_shown = gather([view.is_shown for view in views])
    weight = gather([view.weight for view in views])
    tokens = torch.from_numpy(np.stack(not_dropped))  # [B, 2, N, T]
    agent_motion = windows['agent_motion'].clone()
    neck = get_space(config.motion_space).neck
    for motion, view in zip(agent_motion.view(B, N * T, M), views, strict=True):
        if view.late_s:
            motion[:, neck] = show_late(motion[:, neck], view.is_shown, view.late_s * config.fps)
    if shown_noise is not None:
        noisy = agent_motion + torch.from_numpy(np.stack(noises)) * shown_noise
        agent_motion = torch.where(is_shown[..., None], noisy, agent_motion)
    sample = torch.arange(N * config.samples_per_turn).view(N, -1)
    has_camera, has_style = torch.tensor(has_camera), torch.from_numpy(np.stack(has_style))

    def see(views: list[_View]) -> Turn:
        is_heard = gather([view.is_heard for view in views])
        # What was not heard is no sound at all: an encoder that looks ahead must not see it.
        is_sound = is_heard.repeat_interleave(config.samples_per_frame, -1)
        is_known = sample < torch.tensor([view.n_known for view in views])[:, None, None]
        return Turn(
            user_speech=torch.where(is_sound, windows['user_speech'], 0.0),
            user_heard=is_heard & tokens[:, 0],
            user_motion=windows['user_motion'],
            user_seen=windows['user_seen'] & has_camera[:, None, None] & is_heard & tokens[:, 1],
            agent_speech=torch.where(is_known, windows['agent_speech'], 0.0),
            agent_motion=agent_motion,
            is_shown=gather([view.is_shown for view in views]),
            style=windows['style'] * has_style[:, :1, None],
            persona=windows['persona'] * has_style[:, 1:],
        )

    return see(views), weight, see([view.before or view for view in views])


def show_late(motion: torch.Tensor, is_shown: np.ndarray, late: float) -> torch.Tensor:
    """
    Show a head that began late; what is drawn is in time.

    A head that plans hears of a change in mid-motion, its teacher began at once: shown the
    teacher's frames, a model learns to answer what has begun already, and does not begin itself.

    Args:
        motion: `[F, C]`.
        is_shown: bool `[F]`; what comes before the first frame of its last run stays as it was.
        late: frames.
    """
    end = int(np.flatnonzero(is_shown)[-1]) + 1
    first = end - int(np.argmin(is_shown[:end][::-1])) if not is_shown[:end].all() else 0
    place = np.clip(np.arange(first, end) - late, 0, None)
    before = np.floor(place).astype(int)
    weight = torch.from_numpy((place - before).astype(np.float32))[:, None]
    shown = motion.clone()
    shown[first:end] = torch.lerp(motion[before], motion[before + 1], weight)
    return shown


def _draw_view(
    N: int,
    config: TimarConfig,
    train: TrainConfig,
    ratio: float,
    says_nothing: np.ndarray,
    rng: np.random.Generator,
) -> _View:
    n_frames, n_samples = N * config.frames_per_turn, N * config.samples_per_turn
    view = _View(
        np.zeros(n_frames, bool), np.ones(n_frames, bool), n_samples, np.ones(n_frames, np.float32)
    )
    if rng.random() < train.planning:
        _plan(view, N, config, train.planning_weight, says_nothing, rng)
        view.late_s = max(rng.uniform(-1.0, 1.0), 0.0) * train.head_late_s
        return view
    T = config.frames_per_turn
    open_turn = int(rng.integers(N))
    first_open = open_turn * T
    moment = first_open + int(rng.integers(T))
    lead = int(rng.integers(int(_LARGEST_LEAD_S * config.fps) + 1))
    is_partly_heard, is_ahead = rng.random(2) < (train.user_part_drop, train.user_turn_drop)
    n_shown = rng.integers(T + 1, size=N)
    n_shown[open_turn] = moment - first_open
    n_shown[rng.random(N) >= train.agent_prefix] = 0
    if config.history == 'shown':
        n_shown[:open_turn], n_shown[open_turn + 1 :] = T, 0
    view.is_shown[:] = (np.arange(T) < n_shown[:, None]).ravel()
    hidden = rng.permutation(np.flatnonzero(~view.is_shown))
    view.is_shown[hidden[max(int(np.ceil(ratio * len(hidden))), 1) :]] = True
    if is_partly_heard:
        view.is_heard[max(moment - lead, 0) :] = False
    elif is_ahead:
        view.is_heard[first_open + T :] = False
    return view


def _plan(
    view: _View,
    N: int,
    config: TimarConfig,
    weight: float,
    says_nothing: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Make a window that ends in the turns open at one planning moment."""
    present = max(N - 2, 0)  # the last turn is the one after the present one
    start_s = present * config.turn_s
    moment_s = start_s + rng.uniform(0.0, config.turn_s)
    delay_s, latency_s = rng.uniform(*_HEARING_DELAY_S), rng.uniform(*_PLAN_LATENCY_S)
    lead_s = latency_s + rng.uniform(*_LEAD_BEYOND_LATENCY_S)
    if rng.random() < _USUAL:
        n_moments = max(int(config.turn_s * _TIMING.replan_hz), 1)
        moment_s = start_s + int(rng.integers(n_moments)) / _TIMING.replan_hz
        delay_s = _TIMING.hearing_delay_ms / 1000
        latency_s = _TIMING.plan_latency_ms / 1000
        lead_s = _TIMING.agent_lead_ms / 1000
    n_shown, n_known = _see_at(view, moment_s, delay_s, latency_s, lead_s, N, config)
    before_s = moment_s - 1 / _TIMING.replan_hz
    if before_s + latency_s > 0:
        view.before = _View(np.zeros_like(view.is_shown), np.ones_like(view.is_heard), 0, weight)
        _see_at(view.before, before_s, delay_s, latency_s, lead_s, N, config)
    view.weight[n_shown : n_shown + math.ceil(_SEEN_S * config.fps - 1e-6)] = weight
    # A voice that is not known is taken for silence; where it is silence, nothing is missing.
    is_missing = np.logical_or.accumulate(~says_nothing[n_known:])
    view.weight[n_known:][is_missing] = 0.0


def _see_at(
    view: _View,
    moment_s: float,
    delay_s: float,
    latency_s: float,
    lead_s: float,
    N: int,
    config: TimarConfig,
) -> tuple[int, int]:
    """Fill in what is seen at a planning moment; return how many frames are shown, and known."""
    T, fps = config.frames_per_turn, config.fps
    # A frame is heard, or known, when all of it is; shown when it begins before the plan does.
    n_heard = max(math.floor((moment_s - delay_s) * fps + 1e-6), 0)
    n_shown = min(math.ceil((moment_s + latency_s) * fps - 1e-6), N * T - 1)
    known_s = min(moment_s + lead_s, N * config.turn_s)
    n_known = max(math.floor(known_s * fps + 1e-6), n_shown + 1)
    present = max(math.floor(moment_s / config.turn_s + 1e-6), 0)
    first_open = min(present, n_heard // T) * T
    view.is_heard[n_heard:] = False
    view.is_shown[first_open:n_shown] = True
    if config.history == 'shown':
        view.is_shown[:first_open] = True
    view.n_known = math.floor(known_s * config.sample_rate_hz + 1e-3)
    return n_shown, n_known
