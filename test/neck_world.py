# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A world for a neck: clocks that are set, joints that lag or are held, and hostile measurements.

Responsible for what reaches a neck. Not for what it makes of it.
"""

import collections

import numpy as np

MS = 1_000_000
SECOND_NS = 10**9
# What joint_states may hold instead of where the joints are.
FAULTS = (
    'zeros', 'nan', 'huge', 'inf', 'short', 'twice', 'limit', 'off', 'turn', 'jump', 'frozen',
    'delayed', 'two', 'noise', 'silent', 'random',
)  # fmt: skip


class World:
    """
    Time, joints and their measurement.

    Args:
        robot: its joints.
        rng: of everything that is random.
        position: `[J]` rad, where the joints are at first.

    Attributes:
        steady_ns: time that runs.
        offset_ns: ROS time minus steady time; changes when the clock is set.
        is_simulated: ROS time is simulated.
        held: `[J]` where somebody holds the joints; None: they follow.
        lag_ns: joints are where they were sent so long ago.
    """

    def __init__(self, robot, rng, position):
        self.robot = robot
        self.rng = rng
        self.steady_ns = int(rng.integers(1, 10**6)) * MS * 40 + int(rng.integers(40 * MS))
        self.offset_ns = int(rng.choice([0, 10**18, 17 * 10**17]))
        self.is_simulated = rng.random() < 0.15
        self.held = None
        self.lag_ns = int(rng.choice([0, 50, 100, 150])) * MS
        self.delays = collections.deque()  # ns that pass before each of the next readings
        self._noise = float(rng.choice([0.0, 0.01]))
        self._resolution = float(rng.choice([0.0, 0.01]))
        self._period_ns = int(rng.choice([10, 20, 20, 100])) * MS
        self._next_ns = self.steady_ns
        self._fault, self._fault_until_ns = None, 0
        self._other = position + rng.uniform(-0.5, 0.5, len(position))
        self._frozen = position
        self._late = []  # (arrival, positions, time of measurement)

    def read_clocks(self) -> tuple[int, int, bool]:
        """Return ROS time, steady time, and whether ROS time is simulated."""
        self.steady_ns += self.delays.popleft() if self.delays else 2_000
        return self.steady_ns + self.offset_ns, self.steady_ns, self.is_simulated

    def set_clock(self) -> None:
        """Set the ROS clock, forth or back."""
        step_s = self.rng.choice([0.2, 0.5, 0.9, 2.0, 5.0, 1e8]) * self.rng.choice([-1, 1])
        self.offset_ns = max(self.offset_ns + int(step_s * SECOND_NS), -self.steady_ns)

    def begin_fault(self, kind: str | None = None, duration_s: float | None = None) -> None:
        """Let measurements be wrong for a while: in some way of `FAULTS`, where none is named."""
        self._fault = kind or str(self.rng.choice(FAULTS))
        if duration_s is None:
            duration_s = self.rng.choice([0.001, 0.03, 0.1, 0.3, 1.0, 3.0])
        self._fault_until_ns = self.steady_ns + int(duration_s * SECOND_NS)

    def measurements(self, until_ns: int, position_at):
        """
        Yield what `joint_states` brings up to a time: (arrival, names, positions, stamp or 0).

        Args:
            until_ns: steady time.
            position_at: returns where the joints were sent at a steady time, `[J]`.
        """
        while self._next_ns <= until_ns:
            now_ns = self._next_ns
            self._next_ns += self._period_ns
            true = self.held if self.held is not None else position_at(now_ns - self.lag_ns)
            fault = self._fault if now_ns <= self._fault_until_ns else None
            if fault != 'frozen':
                self._frozen = true
            yield from self._measured(now_ns, true, fault)

    def _measured(self, now_ns: int, true, fault):
        rng, names = self.rng, list(self.robot.joint_names)
        seen = true + self._noise * rng.uniform(-1, 1, len(true))
        if self._resolution:
            seen = np.round(seen / self._resolution) * self._resolution
        stamp_ns = now_ns + self.offset_ns if rng.random() < 0.5 else 0
        one = int(rng.integers(len(true)))
        if fault == 'silent':
            return
        if fault == 'delayed':
            self._late.append((now_ns + int(rng.integers(1_000)) * MS, seen))
            self._late.sort(key=lambda late: late[0])
            seen = None
        while self._late and self._late[0][0] <= now_ns:
            yield now_ns, names, self._late.pop(0)[1], 0
        if seen is None:
            return
        if fault == 'short':
            seen = seen[:one]
        elif fault == 'twice':
            names, seen = [*names, names[one]], np.append(seen, seen[one] + 0.4)
        elif fault == 'two' and rng.random() < 0.5:
            seen = self._other
        elif fault is not None:
            seen = self._spoilt(seen, fault, one)
        yield now_ns, names, seen, stamp_ns

    def _spoilt(self, seen, fault: str, one: int):
        rng, joint = self.rng, self.robot.joints[one]
        edge = min(max(joint.upper_rad, -10.0), 10.0)
        wrong = {
            'nan': np.nan, 'huge': 1e308, 'inf': -np.inf, 'limit': edge, 'off': seen[one] + 0.3,
            'turn': seen[one] - 2 * np.pi, 'jump': rng.uniform(-2, 2),
        }  # fmt: skip
        if fault == 'zeros':
            return np.zeros(len(seen))
        if fault == 'frozen':
            return self._frozen
        if fault == 'noise':
            return seen + rng.normal(size=len(seen)) * 0.2
        if fault == 'random':
            return rng.uniform(-1, 1, len(seen))
        if fault in wrong:
            seen = seen.copy()
            seen[one] = wrong[fault]
        return seen
