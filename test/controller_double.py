# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a joint_trajectory_controller does with the messages it gets, for tests.

Written after ros2_controllers (branches humble to kilted, and master for Lyrical): its acceptance
checks, its forgetting of the old trajectory (or its splicing), its quintic, the state that it
interpolates from. Times are integer nanoseconds; a message is anything with the fields of
JointTrajectory.
"""

import bisect

import numpy as np

_SECOND_NS = 1_000_000_000
_FLOAT32_EPS = float(np.finfo(np.float32).eps)


def nanoseconds(time) -> int:
    """Return a builtin_interfaces Time or Duration in ns."""
    return time.sec * _SECOND_NS + time.nanosec


class ControllerDouble:
    """
    A controller of joints that stand at `position`.

    Args:
        joints: names, in the controller's order.
        position: where the joints are when it starts.
        period_ns: of its updates.
        is_spliced: Lyrical's `allow_trajectory_replacement`; otherwise the old one is forgotten.
        from_desired: `interpolate_from_desired_state` (Humble: `open_loop_control`).
    """

    def __init__(self, joints, position, period_ns, is_spliced=False, from_desired=True):
        self.joints = list(joints)
        self.is_spliced = is_spliced
        self.from_desired = from_desired
        self.period_ns = period_ns
        zero = np.zeros(len(self.joints))
        self._commanded = (0, np.stack([np.asarray(position, float), zero, zero]))
        self._points = []  # (time ns, [3, J])
        self._times = []
        self._before = None  # (time ns, [3, J]) where the trajectory was taken up
        self._pending = None

    def refusal(self, message, now_ns: int) -> str | None:
        """Return why the controller would refuse a message, or None."""
        names = list(message.joint_names)
        if len(names) != len(self.joints):
            return "joints don't match the controller joints"
        if not message.points:
            return 'empty trajectory'
        if sorted(names) != sorted(self.joints):
            return 'unknown joint'
        if any(abs(v) > _FLOAT32_EPS for v in message.points[-1].velocities):
            return 'velocity of last point is not zero'
        stamp_ns = nanoseconds(message.header.stamp)
        if stamp_ns and stamp_ns + nanoseconds(message.points[-1].time_from_start) < now_ns:
            return 'ends in the past'
        before_ns = 0
        for point in message.points:
            # The controller lets a first point at 0 pass, and then divides by it.
            if nanoseconds(point.time_from_start) <= before_ns:
                return 'time is not strictly increasing from above 0'
            before_ns = nanoseconds(point.time_from_start)
            if len(point.positions) != len(names):
                return 'positions missing'
            if len(point.velocities) != len(names) or len(point.accelerations) != len(names):
                return 'velocities or accelerations missing: no quintic'
            if len(point.effort):
                return 'effort not supported'
        return None

    def receive(self, message, now_ns: int) -> None:
        """Take a message; the next update plays it."""
        refusal = self.refusal(message, now_ns)
        assert refusal is None, refusal
        order = [list(message.joint_names).index(name) for name in self.joints]
        stamp_ns = nanoseconds(message.header.stamp) or now_ns
        points = [
            (
                stamp_ns + nanoseconds(point.time_from_start),
                np.array([point.positions, point.velocities, point.accelerations])[:, order],
            )
            for point in message.points
        ]
        self._pending = (stamp_ns, points)

    def update(self, now_ns: int) -> np.ndarray:
        """Return position, velocity, acceleration, jerk `[4, J]` commanded for the next cycle."""
        if self._pending is not None:
            stamp_ns, points = self._pending
            self._pending = None
            if self.is_spliced and len(self._points) > 1 and stamp_ns > now_ns:
                anchor = (stamp_ns, self._sample(stamp_ns)[:3])
                kept = [point for point in self._points if now_ns < point[0] < stamp_ns]
                self._before = (now_ns, self._sample(now_ns)[:3])
                self._points = [*kept, anchor, *points]
            else:
                self._points = points
                time_ns, state = self._commanded
                if not self.from_desired:  # position is measured, the rest is taken as zero
                    time_ns, state = now_ns, state * np.array([[1.0], [0.0], [0.0]])
                self._before = (time_ns or now_ns, state)
            self._times = [time for time, _ in self._points]
        if not self._points:
            return np.concatenate([self._commanded[1], np.zeros((1, len(self.joints)))])
        state = self._sample(now_ns + self.period_ns)
        self._commanded = (now_ns, state[:3])
        return state

    def _sample(self, time_ns: int) -> np.ndarray:
        after = bisect.bisect_right(self._times, time_ns)
        if after == len(self._times):  # played out: the last point holds
            return np.concatenate([self._points[-1][1], np.zeros((1, len(self.joints)))])
        start = self._points[after - 1] if after else self._before
        return _quintic(start, self._points[after], time_ns)


def _quintic(start, end, time_ns: int) -> np.ndarray:
    """Return position to jerk `[4, J]`, by the coefficients of interpolate_between_points."""
    t = (time_ns - start[0]) / _SECOND_NS
    h = (end[0] - start[0]) / _SECOND_NS
    (p0, v0, a0), (p1, v1, a1) = start[1], end[1]
    c = np.array([
        p0,
        v0,
        0.5 * a0,
        (-20 * p0 + 20 * p1 - 3 * a0 * h**2 + a1 * h**2 - 12 * v0 * h - 8 * v1 * h) / (2 * h**3),
        (30 * p0 - 30 * p1 + 3 * a0 * h**2 - 2 * a1 * h**2 + 16 * v0 * h + 14 * v1 * h)
        / (2 * h**4),
        (-12 * p0 + 12 * p1 - a0 * h**2 + a1 * h**2 - 6 * v0 * h - 6 * v1 * h) / (2 * h**5),
    ])  # fmt: skip
    powers = t ** np.arange(6)
    states = []
    for _ in range(4):
        states.append(powers[: len(c)] @ c)
        c = c[1:] * np.arange(1, len(c))[:, None]
    return np.stack(states)
