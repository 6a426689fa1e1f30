# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A motion as the points of a joint_trajectory_controller.

Responsible for what the controller requires. Not for ROS messages or clocks.
"""

import dataclasses

import numpy as np

from timar_ros.retarget.spline import Spline

# Of a quintic from rest to rest, in units of distance and duration.
_QUINTIC_VELOCITY, _QUINTIC_ACCELERATION, _QUINTIC_JERK = 15 / 8, 10 / 3**0.5, 60.0


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """
    Points for a controller: the quintics through them are the motion.

    Attributes:
        stamp_ns: what the times count from.
        time_from_start_ns: int64 `[n]`, strictly increasing, above 0.
        position, velocity, acceleration: `[n, J]` rad, rad/s, rad/s^2; the last velocity is 0.
    """

    stamp_ns: int
    time_from_start_ns: np.ndarray
    position: np.ndarray
    velocity: np.ndarray
    acceleration: np.ndarray


def trajectory_of(spline: Spline, first: int, stamp_ns: int) -> Trajectory:
    """
    Return the knots of a motion from `first` to its rest, two at least.

    Args:
        spline: ends at rest.
        first: index of the first knot sent.
        stamp_ns: stamp of the message, before that knot.

    Raises:
        ValueError: the stamp is not before the first knot (a time from start of 0 is refused).
    """
    if stamp_ns >= first * spline.knot_ns:
        raise ValueError(
            f'the stamp must lie before the first knot at {first * spline.knot_ns} ns, '
            f'got {stamp_ns} ns'
        )
    last = max(spline.last, first + 1)
    control = spline.window(first, last - first + 3)
    is_moving = np.any(control != control[-1], axis=1)
    n_moving = int(np.flatnonzero(is_moving)[-1]) + 1 if is_moving.any() else 0
    # Knot k sees control points k - 1 .. k + 1; one knot of the rest is enough.
    last = max(first + 1, min(last, first + n_moving))
    position, velocity, acceleration = spline.knots(first, last)
    knot_ns = np.arange(first, last + 1, dtype=np.int64) * spline.knot_ns
    return Trajectory(stamp_ns, knot_ns - stamp_ns, position, velocity, acceleration)


def rest_to_rest_ns(joints, distance: np.ndarray) -> int:
    """
    Return the shortest time in which quintics from rest to rest keep all limits.

    Args:
        joints: their limits.
        distance: `[J]` rad, not negative.
    """
    velocity = np.array([joint.velocity_rad_s for joint in joints])
    acceleration = np.array([joint.acceleration_rad_s2 for joint in joints])
    jerk = np.array([joint.jerk_rad_s3 for joint in joints])
    duration_s = [
        _QUINTIC_VELOCITY * distance / velocity,
        np.sqrt(_QUINTIC_ACCELERATION * distance / acceleration),
        np.cbrt(_QUINTIC_JERK * distance / jerk),
    ]
    return int(np.ceil(np.max(duration_s) * 1e9))
