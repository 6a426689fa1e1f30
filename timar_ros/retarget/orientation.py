# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Head orientations to the joints of a neck and back.

A neck turns about its axes one after the other, from the body to the head. An orientation is
taken apart into three such turns, with the axes that the neck lacks *last*, nearest the head,
and those are left out:

    pan and tilt, no roll   R = Rz(pan) Ry(tilt) Rx(roll): without Rx the face points exactly
                            where it did; only the roll about that direction is lost
    pan alone               the direction of the face seen from above stays
    tilt alone              its direction seen from the side stays
    tilt and roll           the direction of the crown stays

So a nod stays a nod and a shake a shake, of the same size. Knows rotations; knows no time and no
limits.
"""

import numpy as np
from scipy.spatial.transform import Rotation

from timar_ros.retarget.robot import Robot

_ROTATIONS = ('roll', 'pitch', 'yaw')  # about x, y, z
# Missing axes are appended in this order: yaw before pitch before roll.
_REST = ('yaw', 'pitch', 'roll')


def decompose(quaternion: np.ndarray, chain: tuple[str, ...]) -> np.ndarray:
    """
    Take orientations apart into turns about the axes of a chain.

    Args:
        quaternion: `[n, 4]` (x, y, z, w), REP-103 axes.
        chain: one to three of 'roll', 'pitch', 'yaw', from the body to the head, each once.

    Returns:
        Angles `[n, len(chain)]` rad, continuous in time where the orientation is.
    """
    order = (*chain, *(axis for axis in _REST if axis not in chain))
    i, j, k = (_ROTATIONS.index(axis) for axis in order)
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    matrix = Rotation.from_quat(quaternion).as_matrix()
    middle = np.arcsin(np.clip(sign * matrix[:, i, k], -1.0, 1.0))
    first = np.arctan2(-sign * matrix[:, j, k], matrix[:, k, k])
    last = np.arctan2(-sign * matrix[:, i, j], matrix[:, i, i])
    angles = np.stack([first, middle, last], axis=1)[:, : len(chain)]
    return np.unwrap(angles, axis=0)


def compose(angles: np.ndarray, chain: tuple[str, ...]) -> np.ndarray:
    """Return orientations `[n, 4]` of angles `[n, len(chain)]` rad; inverse of `decompose`."""
    result = Rotation.identity(len(angles))
    for column, axis in zip(angles.T, chain, strict=True):
        vector = np.zeros((len(angles), 3))
        vector[:, _ROTATIONS.index(axis)] = column
        result = result * Rotation.from_rotvec(vector)
    quaternion = result.as_quat()
    return np.where(quaternion[:, 3:] < 0, -quaternion, quaternion)


def joints_of(robot: Robot, neck: np.ndarray, jaw_open_rad: np.ndarray) -> np.ndarray:
    """
    Return the joints that show a motion, whatever their limits.

    Args:
        robot: names, axes, signs, offsets and scales.
        neck: `[n, 4]` (x, y, z, w), REP-103 axes.
        jaw_open_rad: `[n]`.

    Returns:
        `[n, J]` rad, in the order of the robot's joints.
    """
    angles = dict(zip(robot.chain, decompose(neck, robot.chain).T, strict=True))
    angles['jaw'] = jaw_open_rad
    columns = [
        joint.offset_rad + joint.sign * joint.scale * angles[joint.axis] for joint in robot.joints
    ]
    return np.stack(columns, axis=1)


def orientation_of(robot: Robot, joints: np.ndarray) -> np.ndarray:
    """Return the head's orientation `[n, 4]` (x, y, z, w) at joints `[n, J]` rad."""
    angles = {
        joint.axis: (joints[:, i] - joint.offset_rad) / (joint.sign * joint.scale)
        for i, joint in enumerate(robot.joints)
    }
    return compose(np.stack([angles[axis] for axis in robot.chain], axis=1), robot.chain)


def scaled(quaternion: np.ndarray, gain: float) -> np.ndarray:
    """Return orientations `[n, 4]` turned `gain` times as far about the same axes."""
    return Rotation.from_rotvec(Rotation.from_quat(quaternion).as_rotvec() * gain).as_quat()


def turned(base: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Return orientations `[n, 4]` as seen from a head that already looks along `base` `[4]`."""
    return (Rotation.from_quat(base) * Rotation.from_quat(quaternion)).as_quat()
