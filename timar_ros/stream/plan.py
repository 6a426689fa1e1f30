# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The plan in force: what the head shows, frame by frame, and how a new plan takes over.

Frames are counted on the grid of `schedule`. A new plan blends in over a few frames, and every
plan ends in a glide to rest, so that whoever gets no newer one comes to rest.
"""

import dataclasses

import numpy as np

# The glide takes a person's time for a slow head turn.
_GLIDE_S = 1.2
# Frames kept before those of the newest plan: minutes. A clock that was set may lie years ahead.
_MAX_PAST = 10_000


@dataclasses.dataclass(frozen=True)
class Plan:
    """
    Motion from a first frame on; replaces everything from there.

    Attributes:
        plan: counts up.
        moment_ns: planning moment it belongs to.
        first_frame: its first frame on the grid.
        motion: float32 `[n, M]` as shown, units of the motion space.
        drawn: float32 `[n, M]`, the same before the gain of expressiveness: what the model sees
            as its own past.
        gains: float32 `[n, 1]`, that gain.
        stamp_ns: int64 `[n]`, when each frame is shown.
        turn: int64 `[n]`, turn of each frame since the conversation's start.
        frame: int64 `[n]`, index within the turn.
        fps: frames a second.
    """

    plan: int
    moment_ns: int
    first_frame: int
    motion: np.ndarray
    drawn: np.ndarray
    gains: np.ndarray
    stamp_ns: np.ndarray
    turn: np.ndarray
    frame: np.ndarray
    fps: int


def glide(motion: np.ndarray, rest: np.ndarray, fps: int) -> np.ndarray:
    """
    Continue motion to rest by the minimum-jerk quintic from its last position and velocity.

    Args:
        motion: `[n, M]`, n >= 1; the velocity is that of its last two frames.
        rest: `[M]` where it comes to rest.
        fps: frames a second.

    Returns:
        float32 `[round(1.2 fps), M]`; the last frame is at rest, with zero velocity.

    Source: Flash and Hogan 1985, with the boundary conditions x, v, 0 and rest, 0, 0.
    """
    n = round(_GLIDE_S * fps)
    start = motion[-1] - rest
    velocity = (motion[-1] - motion[-2]) * n if len(motion) > 1 else np.zeros_like(start)
    # A fast last step would swing far past; it is braked to at most what brings it to rest.
    limit = 2.0 * np.abs(start) + 0.05
    velocity = np.clip(velocity, -limit, limit)
    s = (np.arange(1, n + 1) / n)[:, None]
    position_part = 1 - 10 * s**3 + 15 * s**4 - 6 * s**5
    velocity_part = s - 6 * s**3 + 8 * s**4 - 3 * s**5
    return (rest + start * position_part + velocity * velocity_part).astype(np.float32)


def stitch(motion: np.ndarray, seam: int, first: int, n_frames: int) -> np.ndarray:
    """
    Close the step between two turns that were drafted side by side.

    Formula: the gap is what the step at the seam has beyond the mean of its neighbours; it is
    shared by the frames on both sides, most by those at the seam (smoothstep), none by those that
    were shown already. Nothing is delayed.

    Args:
        motion: `[F, M]`.
        seam: the first frame of the later turn.
        first: the first frame that may change.
        n_frames: over so many on each side.

    Returns:
        `[F, M]`.
    """
    after = min(n_frames, len(motion) - seam)
    before = min(n_frames, seam - first)
    if seam < 2 or after < 2 or before < 0:
        return motion
    steps = np.diff(motion[seam - 2 : seam + 2], axis=0)
    gap = steps[1] - (steps[0] + steps[2]) / 2
    motion = motion.copy()
    for n, sign, frames in (
        (before, 1, np.arange(seam - 1, seam - 1 - before, -1)),
        (after, -1, np.arange(seam, seam + after)),
    ):
        s = 1 - np.arange(n, dtype=np.float32)[:, None] / max(n, 1)
        motion[frames] += sign * n / (before + after) * gap * (s * s * (3 - 2 * s))
    return motion


class PlanInForce:
    """
    The frames that are or will be shown.

    Args:
        rest: `[M]`, shown before the first plan and after the last.
    """

    def __init__(self, rest: np.ndarray):
        self._rest = rest.astype(np.float32)
        self._first = 0
        self._motion = np.zeros((0, len(rest)), np.float32)

    def read(self, first_frame: int, n: int) -> np.ndarray:
        """Return frames `[n, M]`; the neutral head where there is no plan."""
        motion = np.tile(self._rest, (n, 1))
        begin = max(first_frame, self._first)
        end = min(first_frame + n, self._first + len(self._motion))
        if begin < end:
            motion[begin - first_frame : end - first_frame] = self._motion[
                begin - self._first : end - self._first
            ]
        return motion

    def replace(self, first_frame: int, motion: np.ndarray) -> None:
        """Put frames `[n, M]` in force from `first_frame` on, in place of all that was there."""
        if not len(self._motion):
            self._first, self._motion = first_frame, motion
            return
        first = max(min(self._first, first_frame), first_frame - _MAX_PAST)
        before = self.read(first, first_frame - first)
        self._first, self._motion = first, np.concatenate([before, motion])

    def forget_before(self, frame: int) -> None:
        """Drop frames that nobody asks for any more."""
        n_old = min(max(frame - self._first, 0), len(self._motion))
        self._first, self._motion = self._first + n_old, self._motion[n_old:]

    def blend(self, first_frame: int, motion: np.ndarray, n_blend: int) -> np.ndarray:
        """
        Let a draft take over from the plan in force.

        Args:
            first_frame: of the draft.
            motion: `[n, M]`.
            n_blend: over so many frames.

        Returns:
            `[n, M]`: a straight ramp from the old plan to the draft, which of all ways takes
            the smallest largest step.
        """
        n = min(n_blend, len(motion))
        if not n:
            return motion
        weight = np.arange(1, n + 1, dtype=np.float32)[:, None] / (n_blend + 1)
        head = (1 - weight) * self.read(first_frame, n) + weight * motion[:n]
        return np.concatenate([head, motion[n:]])
