# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for the frames still to be shown, each at its time.

Not for what a frame is: numbers only, no clock, no thread, no ROS.
"""

import collections

from timar_ros.bounds import MAX_PLAN_FRAMES


class FrameQueue:
    """
    The frames not shown yet, in order; a newer plan replaces them from its first stamp on.

    Holds as many frames as one plan may have, those that are due first.
    """

    def __init__(self):
        self._frames = collections.deque()
        self._shown_ns = None

    def __len__(self):
        return len(self._frames)

    def replace(self, frames) -> None:
        """Take a plan: (stamp_ns, frame) pairs in order; what was shown is not shown again."""
        while self._frames and frames and self._frames[-1][0] >= frames[0][0]:
            self._frames.pop()
        self._frames.extend(
            pair for pair in frames if self._shown_ns is None or pair[0] > self._shown_ns
        )
        while len(self._frames) > MAX_PLAN_FRAMES:
            self._frames.pop()

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
