# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A world for a neck: clocks that are set, joints that lag or are held, and hostile measurements.

Only what a real robot and its computer can do happens here:

    a hand moves held joints no faster than their velocity limit: it does not teleport them;
    clocks are set by 0.2 s at least. Smaller steps of a simulated clock look like a simulation
    that stood, or hurries, and then its joints do so, too;
    a simulated clock is not set in the moment in which the process is stopped: the two together
    look like a simulation that stood or hurries, too;
    a simulation runs evenly, or stands, slows down and hurries; then its clock is never set and
    the process never stopped or slow, which nothing could tell from a simulation that hurries.

Responsible for what reaches a neck. Not for what it makes of it.
"""

import collections

import numpy as np

MS = 1_000_000
SECOND_NS = 10**9
_LEAST_STEP_NS = 200 * MS
_SHOWN_NS = 2 * SECOND_NS  # samples are kept this long, to prove what was measured
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
        steady_ns: time that runs, in which the joints move.
        offset_ns: ROS time minus steady time; changes when the clock is set.
        is_simulated: ROS time is simulated.
        is_uneven: the simulation stands, slows down and hurries.
        held: `[J]` where somebody leads the joints and holds them; None: they follow.
        lag_ns: joints are where they were sent so long ago.
        reading_ns: so long it takes to read the clocks.
    """

    def __init__(self, robot, rng, position):
        self.robot = robot
        self.rng = rng
        self.steady_ns = int(rng.integers(1, 10**6)) * MS * 40 + int(rng.integers(40 * MS))
        self.offset_ns = int(rng.choice([0, 10**18, 17 * 10**17]))
        self.is_simulated = rng.random() < 0.15
        self.is_uneven = self.is_simulated and rng.random() < 0.5
        self._pace = 1.0  # of the simulation, seen from the computer
        self._computer_ns, self._read_ns = self.steady_ns, self.steady_ns
        self.held = None
        self.lag_ns = int(rng.choice([0, 50, 100, 150])) * MS
        self.reading_ns = 2_000
        self.delays = collections.deque()  # ns that pass before each of the next readings
        self._is_continuous = np.array([joint.is_continuous for joint in robot.joints])
        self._velocity = np.array([joint.velocity_rad_s for joint in robot.joints])
        self._hand = (0, position)  # since when somebody leads the joints, and from where
        self._is_set_unread = self._is_stopped_unread = False
        self._shown = collections.deque()  # (arrival, positions)
        self._noise = float(rng.choice([0.0, 0.01]))
        self._resolution = float(rng.choice([0.0, 0.01]))
        self._period_ns = int(rng.choice([10, 20, 20, 100])) * MS
        self._next_ns = self.steady_ns
        self._fault, self._fault_until_ns = None, 0
        self._other = position + rng.uniform(-0.5, 0.5, len(position))
        self._frozen = position
        self._late = []  # (arrival, positions, time of measurement)

    def read_clocks(self) -> tuple[int, int, bool]:
        """Return ROS time, steady time of the computer, and whether ROS time is simulated."""
        self.steady_ns += self.delays.popleft() if self.delays else self.reading_ns
        self._is_set_unread = self._is_stopped_unread = False
        self._computer_ns += round((self.steady_ns - self._read_ns) / self._pace)
        self._read_ns = self.steady_ns
        return self.steady_ns + self.offset_ns, self._computer_ns, self.is_simulated

    def change_pace(self) -> None:
        """Let an uneven simulation stand for a while, and run slower or faster from then on."""
        if self.is_uneven:
            self.read_clocks()
            self._computer_ns += int(self.rng.choice([0, 20, 300, 3_000])) * MS
            self._pace = float(self.rng.choice([0.1, 0.5, 0.9, 1.0, 1.1, 1.5]))

    def set_clock(self) -> None:
        """Set the ROS clock, forth or back."""
        step_s = self.rng.choice([0.2, 0.5, 0.9, 2.0, 5.0, 1e8]) * self.rng.choice([-1, 1])
        is_unread = self._is_set_unread or self._is_stopped_unread
        if self.is_uneven or self.is_simulated and is_unread:
            return
        step_ns = max(int(step_s * SECOND_NS), -(self.steady_ns + self.offset_ns))
        if abs(step_ns) < _LEAST_STEP_NS:  # back to 0 from about 0
            step_ns = _LEAST_STEP_NS
        self.offset_ns += step_ns
        self._is_set_unread = True

    def stop_process(self, duration_ns: int) -> None:
        """Stop the process of the neck for a while."""
        if self.is_uneven or self.is_simulated and self._is_set_unread:
            return
        self.steady_ns += duration_ns
        self._is_stopped_unread = True

    def hold(self, place, position_at) -> None:
        """
        Let somebody lead the joints to a place and hold them there.

        Args:
            place: `[J]` rad.
            position_at: returns where the joints were sent at a steady time, `[J]`.
        """
        self._hand = (self.steady_ns, self.joints(self.steady_ns, position_at))
        self.held = place

    def joints(self, time_ns: int, position_at):
        """Return where the joints are at a steady time, `[J]`; `position_at` as for `hold`."""
        if self.held is None:
            return position_at(time_ns - self.lag_ns)
        since_ns, begin = self._hand
        reach = self._velocity * max(time_ns - since_ns, 0) / SECOND_NS
        return begin + np.clip(self.held - begin, -reach, reach)

    def has_shown(self, position, tolerance_rad: float = 0.051) -> bool:
        """Return whether each joint was measured three times at `position` `[J]` lately."""
        off = np.array([seen for _, seen in self._shown]).reshape(-1, len(position)) - position
        off = np.where(self._is_continuous, off - 2 * np.pi * np.round(off / (2 * np.pi)), off)
        return bool(((np.abs(off) <= tolerance_rad).sum(axis=0) >= 3).all())

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
            true = self.joints(now_ns, position_at)
            fault = self._fault if now_ns <= self._fault_until_ns else None
            if fault != 'frozen':
                self._frozen = true
            for sample in self._measured(now_ns, true, fault):
                if len(sample[1]) == len(sample[2]):  # else it shows nothing
                    self._show(now_ns, sample[2])
                yield sample

    def _show(self, now_ns: int, positions) -> None:
        n_joints = len(self._velocity)
        seen = np.full(n_joints, np.nan)
        seen[: len(positions)] = positions[:n_joints]
        seen[np.isinf(seen)] = np.nan
        self._shown.append((now_ns, seen))
        while self._shown[0][0] < now_ns - _SHOWN_NS:
            self._shown.popleft()

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
        if fault == 'short':  # names and positions of different length
            if rng.random() < 0.5:
                names = ['wheel_joint', *names]
            else:
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
