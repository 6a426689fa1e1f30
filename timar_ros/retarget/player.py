# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Plays a neck's motion in ROS time: stamped plans and measurements in, commands to the robot out.

The motion runs in motion time (motion_clock.py), and everything is translated at this border: a
ROS clock that is set moves stamps, not joints.

    trajectory   a controller plays what it has, so a change must reach it before the change
                 starts: one that was solved too late is dropped and solved again, further ahead.
    targets      each is the motion at the moment it is sent. After a pause the stream continues
                 as if it had begun to stop when it paused. Where sending a target took long
                 (the process was stopped meanwhile), the motion waits until it is out.

Responsible for when something is sent and with which stamp. Not for the motion (neck.py), nor for
messages.
"""

import collections
import dataclasses
import statistics

import numpy as np

from timar_ros.retarget.motion_clock import MotionClock
from timar_ros.retarget.neck import Neck
from timar_ros.retarget.trajectory import Trajectory

_MS = 1_000_000
# A stamp of a measurement is taken for its time if it is not older than this, nor in the future.
_OLDEST_STAMP_NS = 1_000 * _MS
# Attempts at a trajectory; each looks twice as far ahead as the one before.
_ATTEMPTS = 3
# A stream of targets paused if it was silent for this, and for longer than is usual.
_PAUSE_NS = 50 * _MS
_PAUSE_PERIODS = 3
_N_RECENT = 9
_LEAST_RECENT = 3  # of fewer nothing is usual: the first of all may be the pause
# A target is late if it took this much longer to send than is usual.
_LATE_NS = _MS // 2


@dataclasses.dataclass(frozen=True)
class Target:
    """
    One message of a stream of targets.

    Attributes:
        stamp_ns: ROS time of the moment.
        position, velocity: `[J]` rad, rad/s.
    """

    stamp_ns: int
    position: np.ndarray
    velocity: np.ndarray


class NeckPlayer:
    """
    Play a neck's motion to a robot.

    Args:
        neck: the motion.
        read_clocks: returns ROS time and steady time, ns, and whether ROS time is simulated.
        period_ns: of targets that are streamed; None for trajectories.

    Attributes:
        neck: the motion, in motion time.
        n_late: trajectories that were dropped because they were found too late to be sent.
        n_pauses: pauses of the stream of targets.
    """

    def __init__(self, neck: Neck, read_clocks, period_ns: int | None = None):
        self.neck = neck
        self.n_late = 0
        self.n_pauses = 0
        self._read_clocks = read_clocks
        self._period_ns = period_ns
        self._clock = MotionClock()
        self._gaps = collections.deque(maxlen=_N_RECENT)  # between targets, ns
        self._sending = collections.deque(maxlen=_N_RECENT)  # what sending them took, ns
        self._played_ns = None  # motion time of the last target

    def now_ns(self) -> int:
        """Return the motion time now."""
        return self._clock.look(*self._read_clocks())

    def stamp_ns(self, motion_ns: int) -> int:
        """Return the ROS time of a motion time."""
        return motion_ns + self._clock.shift_ns

    def see_joints(self, names, positions, stamp_ns: int = 0) -> bool:
        """
        Take measured joint positions, rad; return whether `Feedback.add` took them.

        Args:
            names: of the joints.
            positions: of each of them, or none.
            stamp_ns: ROS time of the measurement; where that cannot be, it is the arrival.
        """
        now_ns = self.now_ns()
        measured_ns = stamp_ns - self._clock.shift_ns
        if not now_ns - _OLDEST_STAMP_NS <= measured_ns <= now_ns:
            measured_ns = now_ns
        return self.neck.see_joints(names, positions, measured_ns, now_ns)

    def push_plan(self, stamp_ns, neck, jaw_open_rad) -> None:
        """
        Take a plan whose frames are stamped in ROS time; see `Neck.push_plan`.

        Raises:
            ValueError: it is no plan, or it is over.
        """
        self.now_ns()
        motion_ns = np.asarray(stamp_ns, np.int64) - self._clock.shift_ns
        self.neck.push_plan(motion_ns, neck, jaw_open_rad)

    def enable(self) -> None:
        """Follow plans from now on."""
        self.neck.enable(self.now_ns())

    def disable(self) -> None:
        """Come to rest softly."""
        self.neck.disable(self.now_ns())

    def update(self, build=None, send=None) -> bool:
        """
        Solve for the motion ahead if there is a reason to; send a trajectory that changed.

        Args:
            build: makes a message of a `Trajectory` in ROS time; None for streams.
            send: sends that message.

        Returns:
            Whether the motion changed.

        Raises:
            ValueError: a joint is measured where it cannot be.
        """
        neck = self.neck
        lead_ns = neck.config.lead_ms * _MS
        for attempt in range(_ATTEMPTS):
            now_ns = self.now_ns()
            if not neck.update(now_ns, lead_ns << attempt):
                return False
            if build is None:
                if self._played_ns is None:  # a motion begins with a rest, which is played now
                    self._played_ns = now_ns
                return True
            message = build(self._in_ros_time(neck.trajectory(now_ns)))
            # A quarter of the lead is left for the message's way.
            if self.now_ns() <= neck.arrives_by_ns - lead_ns // 4:
                send(message)
                return True
            self.n_late += 1
            neck.undo()
        return False

    def target(self) -> Target | None:
        """Return what a stream sends now; None while it is silent. Then call `sent`."""
        now_ns = self.now_ns()
        neck = self.neck
        if not (neck.is_enabled or neck.is_moving(now_ns)) or neck.sample(now_ns) is None:
            self._played_ns = None  # a neck that is disabled and at rest is left to others
            return None
        if self._played_ns is not None:
            gap_ns = now_ns - self._played_ns
            if gap_ns > self._pause_ns():
                self.n_pauses += 1
                if not neck.play_late(self._played_ns, now_ns):  # then the motion waited, too
                    self._clock.skip(gap_ns - self._period_ns)
                    now_ns -= gap_ns - self._period_ns
            self._gaps.append(gap_ns)
        position, velocity = (part[0] for part in neck.sample(now_ns)[:2])
        self._played_ns = now_ns
        return Target(self.stamp_ns(now_ns), position, velocity)

    def sent(self) -> None:
        """Take note that the last target is out; it may have come late."""
        took_ns = self.now_ns() - self._played_ns
        usual_ns = int(statistics.median(self._sending)) if self._sending else 0
        self._sending.append(took_ns)
        if took_ns - usual_ns > _LATE_NS:
            self._clock.skip(took_ns - usual_ns)

    def _pause_ns(self) -> float:
        usual_ns = statistics.median(self._gaps) if len(self._gaps) >= _LEAST_RECENT else 0
        return max(_PAUSE_NS, _PAUSE_PERIODS * self._period_ns, 1.5 * usual_ns)

    def _in_ros_time(self, trajectory: Trajectory) -> Trajectory:
        return dataclasses.replace(trajectory, stamp_ns=self.stamp_ns(trajectory.stamp_ns))
