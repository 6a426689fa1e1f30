# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The user's head motion: stamped frames of any rate, brought to the grid of the model.

Responsible for a bounded memory of frames, whatever their stamps, and for interpolation. Not for
what a frame holds. Gaps above 250 ms are reported as unseen, not interpolated.
"""

import bisect

import numpy as np

# A tracker that drops a few frames at 10 Hz is bridged; one that lost the face is not.
_MAX_HOLE_NS = 250_000_000
_MAX_FRAMES = 20_000
# Who stamps further ahead than this, or as far behind, has another clock.
_LONGEST_LEAD_NS = 60_000_000_000


class MotionTrack:
    """Stamped motion frames `[M]`, oldest first."""

    def __init__(self, n_channels: int):
        """Make an empty track of motion with M channels."""
        self._n_channels = n_channels
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._stamps: list[int] = []
        self._frames: list[np.ndarray] = []
        self._now_ns: int | None = None

    def write(self, stamp_ns: int, motion: np.ndarray, now_ns: int | None = None) -> None:
        """
        Add a frame; of two with one stamp the later written holds.

        Args:
            stamp_ns: of the frame.
            motion: float32 `[M]`.
            now_ns: when it came; None = unknown, as in a recording.

        Raises:
            ValueError: it is stamped more than a minute ahead of when it came, or before that.
        """
        if now_ns is not None and abs(stamp_ns - now_ns) > _LONGEST_LEAD_NS:
            where = 'ahead of' if stamp_ns > now_ns else 'behind'
            raise ValueError(
                f'user/head_motion: stamps may be up to {_LONGEST_LEAD_NS // 10**9} s {where} '
                f'arrival, got {abs(stamp_ns - now_ns) / 1e9:.1f} s; set the clocks of both '
                'machines, or leave the stamp zero'
            )
        at = bisect.bisect_left(self._stamps, stamp_ns)
        if at < len(self._stamps) and self._stamps[at] == stamp_ns:
            self._frames[at] = motion
            return
        self._stamps.insert(at, stamp_ns)
        self._frames.insert(at, motion)
        if len(self._stamps) > _MAX_FRAMES:
            # what is read next lies near the last read, or else near what comes now
            now_ns = stamp_ns if self._now_ns is None else self._now_ns
            is_newest_farther = self._stamps[-1] - now_ns > now_ns - self._stamps[0]
            drop = -1 if is_newest_farther else 0
            del self._stamps[drop], self._frames[drop]

    def read(self, grid_ns: list[int], seen_until_ns: int) -> tuple[np.ndarray, np.ndarray]:
        """
        Interpolate to grid times, from frames stamped at `seen_until_ns` or before.

        Args:
            grid_ns: T times.
            seen_until_ns: frames stamped later are not known yet.

        Returns:
            motion float32 `[T, M]`, and bool `[T]`: seen, between two frames at most 250 ms apart.
        """
        self._now_ns = seen_until_ns
        n_ahead = bisect.bisect_right(self._stamps, seen_until_ns + _LONGEST_LEAD_NS)
        del self._stamps[n_ahead:], self._frames[n_ahead:]
        motion = np.zeros((len(grid_ns), self._n_channels), np.float32)
        is_seen = np.zeros(len(grid_ns), bool)
        known = bisect.bisect_right(self._stamps, seen_until_ns)
        for i, stamp in enumerate(grid_ns):
            after = bisect.bisect_left(self._stamps, stamp, 0, known)
            if after == known:
                continue
            if self._stamps[after] == stamp:
                motion[i], is_seen[i] = self._frames[after], True
                continue
            if after == 0:
                continue
            before, hole = after - 1, self._stamps[after] - self._stamps[after - 1]
            if hole > _MAX_HOLE_NS:
                continue
            share = (stamp - self._stamps[before]) / hole
            motion[i] = (1 - share) * self._frames[before] + share * self._frames[after]
            is_seen[i] = True
        return motion, is_seen

    def forget_before(self, stamp_ns: int) -> None:
        """Drop frames older than a moment."""
        n_old = bisect.bisect_left(self._stamps, stamp_ns)
        del self._stamps[:n_old], self._frames[:n_old]
