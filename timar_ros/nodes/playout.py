# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the head does when: the frames still to be shown, and a glide where the clock has jumped.

Plans of one conversation join by themselves. Across a jump of the clock nothing does, because the
frames in force lie at times that no longer are. Numbers only: no clock, no thread, no ROS.
"""

import collections

import numpy as np

from timar_ros.motion import MotionSpace

_GLIDE_S = 1.0


class JumpGlide:
    """
    Carry the head from the pose at which the clock jumped into the plans that follow.

    Args:
        space: of the motion.
    """

    def __init__(self, space: MotionSpace):
        self._space = space
        self._stamp_ns = np.empty(0, np.int64)
        self._motion = np.empty((0, space.n_channels), np.float32)
        self._held = None  # the pose [M] at the jump, until a plan follows
        self._offset = None  # (start in ns, what the pose differs from the plan by [M])

    def jump(self, shown_ns: int) -> None:
        """Hold the pose shown at `shown_ns`, of the old time, until the next plan."""
        if len(self._stamp_ns):
            after = np.searchsorted(self._stamp_ns, shown_ns, side='right')
            self._held = self._motion[max(int(after) - 1, 0)]
        self._stamp_ns, self._motion = self._stamp_ns[:0], self._motion[:0]
        self._offset = None

    def carry(self, stamp_ns: np.ndarray, motion: np.ndarray) -> np.ndarray:
        """
        Take a plan, stamps `[n]` and motion `[n, M]`, and put it in force.

        Returns:
            float32 `[n, M]`: the motion itself, but for the second after a jump, in which it is
            reached by the minimum-jerk quintic.
        """
        if self._held is not None:
            self._offset = (int(stamp_ns[0]), self._held - motion[0])
            self._held = None
        if self._offset is not None:
            start_ns, offset = self._offset
            s = np.clip((stamp_ns - start_ns) / 1e9 / _GLIDE_S, 0.0, 1.0)[:, None]
            left = 1 - s**3 * (10 - 15 * s + 6 * s**2)
            motion = self._space.clamp(motion + left * offset).astype(np.float32)
        # Past frames are asked for once, at a jump: those since the last plan are enough.
        keep = slice(np.searchsorted(self._stamp_ns, stamp_ns[0] - int(2e9)), None)
        old_ns, old = self._stamp_ns[keep], self._motion[keep]
        is_before = old_ns < stamp_ns[0]
        self._stamp_ns = np.concatenate([old_ns[is_before], stamp_ns])
        self._motion = np.concatenate([old[is_before], motion])
        return motion


class FrameQueue:
    """The frames not shown yet, in order; a newer plan replaces them from its first stamp on."""

    def __init__(self):
        self._frames = collections.deque()
        self._shown_ns = None

    def replace(self, frames) -> None:
        """Take a plan: (stamp_ns, frame) pairs in order; what was shown is not shown again."""
        while self._frames and frames and self._frames[-1][0] >= frames[0][0]:
            self._frames.pop()
        self._frames.extend(
            pair for pair in frames if self._shown_ns is None or pair[0] > self._shown_ns
        )

    def due(self, now_ns: int) -> list:
        """Return the frames whose time has come, oldest first; they count as shown."""
        frames = []
        while self._frames and self._frames[0][0] <= now_ns:
            self._shown_ns, frame = self._frames.popleft()
            frames.append(frame)
        return frames

    def next_ns(self, default: int) -> int:
        """Return when the next frame is due, or `default` where there is none."""
        return self._frames[0][0] if self._frames else default

    def clear(self) -> None:
        """Forget all frames and what was shown: the clock has jumped."""
        self._frames.clear()
        self._shown_ns = None
