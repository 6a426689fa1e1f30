# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a joint_trajectory_controller does with the messages it gets, for tests.

Written after ros2_controllers (branches humble, jazzy, kilted and version 6.9.0, of Lyrical): its
acceptance checks, its replacing of the old trajectory, its quintic, and the state from which it
interpolates to the first point of a new trajectory:

    from_measured=True    (their default) the measured joint: a servo behind the command, with
                          the velocity that it has and an acceleration of 0
    from_measured=False   (`interpolate_from_desired_state`, on Humble `open_loop_control`) the
                          last command, which was sampled one period ahead of its time

A trajectory is played on the controller's own count of periods. Times are integer nanoseconds; a
message is anything with the fields of JointTrajectory.
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
    A controller of joints that stand at `position`, and the servos behind it.

    Args:
        joints: names, in the controller's order.
        position: where the joints are when it starts.
        period_ns: of its updates.
        from_measured: where it interpolates from to a first point that lies ahead.
        lag_ns: time constant of the servos.
        wraps: for each joint, whether it takes positions modulo a turn (`continuous` in the URDF).
    """

    def __init__(self, joints, position, period_ns, from_measured=False, lag_ns=0, wraps=None):
        self.joints = list(joints)
        self.from_measured = from_measured
        self.period_ns = period_ns
        self._wraps = np.zeros(len(self.joints), bool) if wraps is None else np.array(wraps)
        self._lag_ns = lag_ns
        zero = np.zeros(len(self.joints))
        self.measured = np.stack([np.asarray(position, float), zero, zero])
        self._commanded = (0, self.measured.copy())
        self._points = []  # (time ns, [3, J])
        self._times = []
        self._before = None  # (time ns, [3, J]) where the trajectory was taken up
        self._pending = None
        self._played_ns = 0

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
        self._pending = points

    def update(self, now_ns: int) -> np.ndarray:
        """Return position, velocity, acceleration, jerk `[4, J]` commanded for the next cycle."""
        self._played_ns += self.period_ns
        if self._pending is not None:
            self._points, self._pending = self._pending, None
            self._times = [time for time, _ in self._points]
            self._played_ns = now_ns
            time_ns, state = (now_ns, self.measured) if self.from_measured else self._commanded
            self._before = (time_ns or now_ns, self._unwound(state))
        if self._points:
            state = self._sample(self._played_ns + self.period_ns)
        else:
            state = np.concatenate([self._commanded[1], np.zeros((1, len(self.joints)))])
        self._commanded = (now_ns, state[:3])
        self._follow(state[0])
        return state

    def _follow(self, commanded: np.ndarray) -> None:
        """Let the servos follow for one period."""
        share = 1 - np.exp(-self.period_ns / self._lag_ns) if self._lag_ns else 1.0
        moved = share * (commanded - self.measured[0])
        velocity = moved / (self.period_ns / _SECOND_NS)
        self.measured = np.stack([self.measured[0] + moved, velocity, np.zeros_like(moved)])

    def _unwound(self, state: np.ndarray) -> np.ndarray:
        """Return a state whose continuous joints are in the turn of the first point."""
        turns = np.round((state[0] - self._points[0][1][0]) / (2 * np.pi)) * self._wraps
        return np.concatenate([[state[0] - 2 * np.pi * turns], state[1:]])

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
