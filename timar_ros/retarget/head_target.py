# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where plans and base orientation want the joints, and the way there from elsewhere.

Responsible for wishes. Not for limits of speed: what is returned here may jump.
"""

import dataclasses

import numpy as np

from timar_ros.retarget.feedback import nearest_turn
from timar_ros.retarget.frames import NEUTRAL, HeadFrames, unit_quaternion
from timar_ros.retarget.orientation import joints_of, scaled, turned
from timar_ros.retarget.robot import Robot


@dataclasses.dataclass(frozen=True)
class Approach:
    """
    Transition from the start of a motion to the joint positions that the plans ask for.

    Attributes:
        since_ns, origin: time and position of the start, `[J]` rad.
        until_ns, place: time and position of a pause in between, `[J]` rad: the measured
            position of joints that are not where they were sent. Without a pause equal to
            since_ns and origin.
    """

    since_ns: int
    origin: np.ndarray
    until_ns: int
    place: np.ndarray

    @classmethod
    def from_rest(cls, since_ns: int, position: np.ndarray) -> 'Approach':
        """Return an approach that starts at rest at `position` `[J]` and does not pause."""
        return cls(since_ns, position, since_ns, position)

    def blended(self, target: np.ndarray, time_ns: np.ndarray, glide_ns: int) -> np.ndarray:
        """Return positions `[T, J]`: first of the way, `glide_ns` after the pause of `target`."""
        start = self.place
        if self.until_ns > self.since_ns:
            x = _progress(time_ns, self.since_ns, self.until_ns - self.since_ns)
            start = self.origin + x * (self.place - self.origin)
        return start + _progress(time_ns, self.until_ns, glide_ns) * (target - start)


def _progress(time_ns: np.ndarray, since_ns: int, duration_ns: int) -> np.ndarray:
    """Return 0 .. 1 `[T, 1]` along a quintic that begins and ends at rest."""
    x = np.clip((time_ns - since_ns) / duration_ns, 0.0, 1.0)[:, None]
    return x**3 * (10 - 15 * x + 6 * x**2)


class HeadTarget:
    """
    The plans in force and the base orientation of one robot's head.

    Args:
        robot: its joints.
    """

    def __init__(self, robot: Robot):
        self._robot = robot
        self._lower = np.array([joint.lower_rad for joint in robot.joints])
        self._upper = np.array([joint.upper_rad for joint in robot.joints])
        self._is_continuous = np.array([joint.is_continuous for joint in robot.joints])
        self._frames = HeadFrames.none()
        self._base = None

    @property
    def has_base(self) -> bool:
        """Whether there is a base orientation."""
        return self._base is not None

    @property
    def end_ns(self) -> int | None:
        """Time of the last frame; None without frames."""
        return int(self._frames.stamp_ns[-1]) if len(self._frames) else None

    def push_plan(self, stamp_ns, neck, jaw_open_rad, now_ns: int) -> None:
        """
        Take a plan: it replaces everything from its own first stamp on.

        Raises:
            ValueError: it is not finite, has a wrong shape, is out of order, or is over already.
        """
        newer = HeadFrames.checked(stamp_ns, neck, jaw_open_rad)
        late_ns = now_ns - int(newer.stamp_ns[-1])
        if late_ns > 0:
            raise ValueError(
                f'the plan ended {late_ns / 1e9:.3f} s ago; where that is every plan, the clocks '
                'of two machines differ (run chrony), or planning takes longer than a plan'
            )
        self._frames = self._frames.replaced_by(newer)

    def push_base(self, quaternion) -> None:
        """
        Take the orientation that plans are an offset on, `[4]` (x, y, z, w).

        Raises:
            ValueError: it is not a finite quaternion.
        """
        self._base = unit_quaternion(np.asarray(quaternion, np.float64), 'base orientation')

    def forget_before(self, time_ns: int) -> None:
        """Drop the frames before a time."""
        self._frames = self._frames.since(time_ns)

    def clipped(self, position: np.ndarray, margin_rad: float = 0.0) -> np.ndarray:
        """Return positions `[..., J]` at least a margin inside the range of each joint."""
        margin_rad = np.minimum(margin_rad, (self._upper - self._lower) / 4)
        return np.clip(position, self._lower + margin_rad, self._upper - margin_rad)

    def joints(self, time_ns: np.ndarray, in_force: np.ndarray, gain: float) -> np.ndarray:
        """
        Return the positions that plans and base want, inside the range of each joint.

        Args:
            time_ns: integers `[T]`.
            in_force: `[T, J]` rad, the motion in force; it continues before the first frame, and
                decides which turn of a continuous joint is nearest.
            gain: scales the head's rotation, not that of the base.
        """
        frames = self._frames.until(int(time_ns[-1]))
        if not len(frames):  # a base alone: look along it
            frames = HeadFrames(time_ns[:1], NEUTRAL[None], np.zeros(1))
        neck = scaled(frames.neck, gain)
        if self._base is not None:
            neck = turned(self._base, neck)
        joints = joints_of(self._robot, neck, frames.jaw_open_rad)
        origin = int(frames.stamp_ns[0])
        at_s, stamp_s = (time_ns - origin) / 1e9, (frames.stamp_ns - origin) / 1e9
        target = np.stack([np.interp(at_s, stamp_s, column) for column in joints.T], axis=1)
        moved = target + nearest_turn(target[0], in_force[0]) - target[0]
        target = np.where(self._is_continuous, moved, target)
        return np.where((time_ns < origin)[:, None], in_force, self.clipped(target))
