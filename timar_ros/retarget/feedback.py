# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Measured joints, and which of the measurements are believed.

A single sample proves nothing: a joint is believed when three samples or more, over 50 ms or
more, follow each other no faster than its velocity limit allows, with no jump shortly before. Two
publishers that disagree, or a noisy sensor, jump all the time and are never believed.

Responsible for measurements. Not for what a head does about them.
"""

import collections
import dataclasses
import math

import numpy as np

from timar_ros.retarget.robot import Joint, Robot

TURN = 2 * math.pi
_MS = 1_000_000
# Three samples in this time, this close together, agree.
_AGREE_NS = 50 * _MS
_AGREE_RAD = 0.05
_QUIET_NS = 250 * _MS  # without a jump before samples are believed
_FRESH_NS = 1_000 * _MS  # a joint measured longer ago may be anywhere now
_KEPT_NS = 500 * _MS
_LARGEST_RAD = 1e6  # beyond it a position is no position
_REPORT_NS = 2_000 * _MS
_MANY_JUMPS = 4  # in that time: not one wrong sample but a contradiction


@dataclasses.dataclass(frozen=True)
class Uneven:
    """A message whose positions are not one for each name: whose each is cannot be known."""

    n_names: int
    n_positions: int
    arrived_ns: int


def nearest_turn(position, reference):
    """Return positions moved by whole turns to within half a turn of `reference`, rad."""
    return position - TURN * np.round((position - reference) / TURN)


class _JointSamples:
    """The recent samples of one joint that follow each other without a jump."""

    def __init__(self, joint: Joint):
        self._joint = joint
        self.run = collections.deque()  # (time, position)
        self.jumps = collections.deque(maxlen=16)  # (time, from, to)
        self.gap_ns = 0  # between the last two
        self.delay_ns = 0  # from the stamp of the last one to its arrival

    def add(self, position: float, time_ns: int) -> None:
        if not self.run:
            self.run.append((time_ns, position))
            return
        last_ns, last = self.run[-1]
        if time_ns < last_ns:  # overtaken on its way
            return
        if self._joint.is_continuous:
            position = float(nearest_turn(position, last))
        elapsed_ns = self.gap_ns = time_ns - last_ns
        reachable = _AGREE_RAD + self._joint.velocity_rad_s * elapsed_ns / 1e9
        if elapsed_ns > _FRESH_NS:
            self.run.clear()
        elif abs(position - last) > reachable:
            self.run.clear()
            self.jumps.append((time_ns, last, position))
        self.run.append((time_ns, position))
        # One sample beyond the time kept stays: slow sensors have few.
        while len(self.run) > 4 and self.run[1][0] < time_ns - _KEPT_NS:
            self.run.popleft()

    def newest(self, now_ns: int) -> list[tuple[int, float]]:
        """Return the believed samples, newest first, of `_AGREE_NS` or more; none if too few."""
        if not self.run or now_ns - self.run[-1][0] > _FRESH_NS:
            return []
        if self.jumps and now_ns - self.jumps[-1][0] < _QUIET_NS:
            return []
        newest_ns, taken = self.run[-1][0], []
        for sample in reversed(self.run):
            taken.append(sample)
            if len(taken) >= 3 and newest_ns - sample[0] >= _AGREE_NS:
                return taken
        return []


class Feedback:
    """
    What `joint_states` reported of a robot's joints.

    Args:
        robot: its joints.

    Attributes:
        unusable: name -> what is wrong with the last position in `joint_states` ('NaN',
            'infinite', 'missing'), for joints whose position was no number.
        n_uneven: messages that were refused as they had not one position for each name.
        uneven: the last of them; None: there was none.
    """

    def __init__(self, robot: Robot):
        self._names = robot.joint_names
        self._samples = {joint.name: _JointSamples(joint) for joint in robot.joints}
        self.unusable = {}
        self.n_uneven = 0
        self.uneven: Uneven | None = None

    @property
    def missing(self) -> list[str]:
        """Names of the joints of which no position was ever measured."""
        return [name for name in self._names if not self._samples[name].run]

    def add(self, names, positions, time_ns: int, arrived_ns: int | None = None) -> bool:
        """
        Take measured positions, rad, of a moment.

        Joints that are not the robot's are ignored; so are positions that are no number. Of
        another number of positions than names nothing is taken: the second position may be that
        of the third name, and a velocity-only joint before the neck's would move the head.

        Args:
            names: of the joints.
            positions: of each of them, or none.
            time_ns: when they were measured, as far as stamps can be trusted.
            arrived_ns: when they came, by which they were certainly measured; None: at once.

        Returns:
            Whether there was one position for each name, or none.
        """
        n_names, n_positions = len(names), len(positions)
        arrived_ns = time_ns if arrived_ns is None else arrived_ns
        if n_positions not in (0, n_names):
            self.n_uneven += 1
            self.uneven = Uneven(n_names, n_positions, arrived_ns)
            return False
        delay_ns = arrived_ns - time_ns
        for i, name in enumerate(names):
            samples = self._samples.get(name)
            if samples is None:
                continue
            position = float(positions[i]) if n_positions else None
            if position is None:
                self.unusable[name] = 'missing'
            elif math.isnan(position):
                self.unusable[name] = 'NaN'
            elif abs(position) > _LARGEST_RAD:
                self.unusable[name] = 'infinite'
            else:
                self.unusable.pop(name, None)
                samples.delay_ns = delay_ns
                samples.add(position, time_ns)
        return True

    def latest(self) -> np.ndarray | None:
        """Return the newest positions `[J]`, believed or not; None while one is missing."""
        if self.missing:
            return None
        return np.array([self._samples[name].run[-1][1] for name in self._names])

    def at_rest(self, now_ns: int) -> np.ndarray | None:
        """Return positions `[J]` on which three fresh samples of each joint agree; else None."""
        position = []
        for name in self._names:
            values = [value for _, value in self._samples[name].newest(now_ns)]
            if not values:
                return None
            middle = float(np.median(values))
            few = [values[0], values[len(values) // 2], values[-1]]
            if np.ptp(few) > _AGREE_RAD or np.abs(np.array(values) - middle).max() > _AGREE_RAD:
                return None
            position.append(middle)
        return np.array(position)

    def believed(self, now_ns: int, since_ns: int) -> list[tuple[np.ndarray, np.ndarray] | None]:
        """
        Return three believed samples of each joint, about 25 ms or more apart.

        Args:
            now_ns: the time.
            since_ns: samples before this time do not count.

        Returns:
            For each joint times `[3]`, ns, positions `[3]`, newest first, and by how much later
            they may have been measured, ns; None where it has no such samples.
        """
        return [self._three(self._samples[name], now_ns, since_ns) for name in self._names]

    def _three(self, joint: _JointSamples, now_ns: int, since_ns: int):
        samples = joint.newest(now_ns)
        if not samples or samples[-1][0] < since_ns:
            return None
        middle_ns = samples[0][0] - _AGREE_NS // 2
        middle = min(samples[1:-1], key=lambda sample: abs(sample[0] - middle_ns))
        three = (samples[0], middle, samples[-1])
        times, values = (np.array(part) for part in zip(*three, strict=True))
        return times, values, joint.delay_ns

    def age_ns(self, now_ns: int) -> int:
        """Return how long ago the joint that was measured least recently was measured."""
        return now_ns - min(self._samples[name].run[-1][0] for name in self._names)

    def unrest(self, now_ns: int) -> str:
        """Return why samples do not agree where a joint rests, for a person; '' if they do."""
        for name in self._names:
            samples = self._samples[name]
            if samples.gap_ns > _FRESH_NS:
                return (
                    f'{name} comes every {samples.gap_ns / 1e9:.1f} s in joint_states, which does '
                    'not show whether it rests: publish it ten times a second or more often'
                )
            values = [value for _, value in samples.newest(now_ns)]
            if values and np.ptp(values) > _AGREE_RAD:
                return (
                    f'{name} does not rest, it is measured between {min(values):.3f} and '
                    f'{max(values):.3f} rad: stop what moves the head, or check its sensor'
                )
        return ''

    def contradiction(self, now_ns: int) -> str:
        """Return which joint jumps to and fro in `joint_states`, for a person; else ''."""
        for name in self._names:
            jumps = self._samples[name].jumps
            recent = [jump for jump in jumps if now_ns - jump[0] < _REPORT_NS]
            if len(recent) >= _MANY_JUMPS:
                low, high = sorted(recent[-1][1:])
                return f'{name} jumps between {low:.3f} and {high:.3f} rad in joint_states'
        return ''
