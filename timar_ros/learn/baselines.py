# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Motion that is not good, made to fool figures: what the bench holds a model against.

Pure functions: voices and real motion in, motion `[F, M]` out. Whoever scores like one of these
has shown nothing by that score.
"""

import numpy as np
import scipy.ndimage

from timar_ros.learn.cues import backchannel_times
from timar_ros.motion import JAW_RAD_PER_JAW_OPEN, MotionSpace
from timar_ros.stream.lips import voice_envelope
from timar_ros.stream.resample import SAMPLE_RATE_HZ

# A wobble with the speed of two seated people (docs/model.md §8).
_WOBBLE_HZ = (0.37, 0.53, 0.29)
_WOBBLE_RAD = np.deg2rad([3.0, 6.0, 2.0])
# A nod that nobody misses: down and up twice.
NOD_S, _NOD_HZ, _NOD_RAD = 1.0, 2.0, np.deg2rad(5.0)
# How open a mouth is at the loudest of its voice, rad.
_OPEN_RAD = 0.14


def hold_still(space: MotionSpace, n_frames: int, pose: np.ndarray | None = None) -> np.ndarray:
    """
    Hold one pose (a frozen face).

    Args:
        space: of the motion.
        n_frames: F.
        pose: `[M]`, the mean of real motion where it is known; None = neutral.
    """
    return np.tile(space.neutral if pose is None else pose, (n_frames, 1)).astype(np.float32)


def delay(motion: np.ndarray, n_frames: int) -> np.ndarray:
    """Show motion `[F, M]` so many frames late; its first frame stands until it begins."""
    return motion[np.maximum(np.arange(len(motion)) - n_frames, 0)]


def fit_length(motion: np.ndarray, n_frames: int) -> np.ndarray:
    """Return motion of another length `[F, M]` as `n_frames`: cut, or forth and back again."""
    there_and_back = np.concatenate([motion, motion[::-1]])
    return there_and_back[np.arange(n_frames) % len(there_and_back)]


def wobble(
    space: MotionSpace, n_frames: int, fps: float, user: np.ndarray, agent: np.ndarray
) -> np.ndarray:
    """
    Sway the head as wide as it is loud, and open the mouth as far as the own voice is loud.

    Formula: axis a of the neck = A_a · sin(2π f_a t) · (0.15 + loudness of both voices, over 0.5
    s); jaw = 0.14 rad · loudness of the agent. Loudness is the envelope over its 95th percentile.

    Args:
        space: of the motion.
        n_frames: F.
        fps: frames a second.
        user: voice `[n]` at 16 kHz, empty = silence.
        agent: likewise.
    """
    own = loudness(agent, n_frames, fps)
    either = np.maximum(own, loudness(user, n_frames, fps))
    width = 0.15 + scipy.ndimage.uniform_filter1d(either, int(fps / 2))
    time_s = np.arange(n_frames) / fps
    motion = hold_still(space, n_frames)
    motion[:, space.neck] = (
        width[:, None] * _WOBBLE_RAD * np.sin(2 * np.pi * np.outer(time_s, _WOBBLE_HZ))
    )
    return _with_jaw(space, motion, _OPEN_RAD * own)


def nod_by_rule(
    space: MotionSpace, n_frames: int, fps: float, user: np.ndarray, agent: np.ndarray
) -> np.ndarray:
    """
    Nod where Ward and Tsukahara's rule says, and open the mouth as far as the own voice is loud.

    Formula: pitch = 5° · sin(2π · 2 Hz · t) under a half sine of 1 s, from each of
    `backchannel_times` on.

    Args:
        space: of the motion.
        n_frames: F.
        fps: frames a second.
        user: voice `[n]` at 16 kHz, empty = silence.
        agent: likewise.
    """
    motion = hold_still(space, n_frames)
    time_s = np.arange(n_frames) / fps
    for start_s in backchannel_times(user, SAMPLE_RATE_HZ) if len(user) else ():
        since_s = time_s - start_s
        inside = (since_s >= 0) & (since_s < NOD_S)
        nod = np.sin(2 * np.pi * _NOD_HZ * since_s) * np.sin(np.pi * since_s / NOD_S)
        motion[inside, space.neck.start] += (_NOD_RAD * nod)[inside]
    return _with_jaw(space, motion, _OPEN_RAD * loudness(agent, n_frames, fps))


def loudness(voice: np.ndarray, n_frames: int, fps: float) -> np.ndarray:
    """Return the envelope of a voice `[n]` at 16 kHz, about 1 where it is loud, `[F]`."""
    loud = np.zeros(n_frames)
    if len(voice) and np.any(voice):
        level = voice_envelope(voice, SAMPLE_RATE_HZ, fps)[:n_frames]
        loud[: len(level)] = level / max(np.percentile(level, 95), 1e-3)
    return np.clip(loud, 0.0, 1.5)


def _with_jaw(space: MotionSpace, motion: np.ndarray, open_rad: np.ndarray) -> np.ndarray:
    if space.jaw is not None:
        motion[:, space.jaw.start] = open_rad
    else:
        motion[:, space.index('jawOpen')] = open_rad / JAW_RAD_PER_JAW_OPEN
    return space.clamp(motion).astype(np.float32)
