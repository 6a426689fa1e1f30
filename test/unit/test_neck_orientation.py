# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Orientations to joints: what a neck can show is shown exactly, what it lacks is left out."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from timar_ros.retarget.orientation import compose, decompose, joints_of, orientation_of, turned
from timar_ros.retarget.robot import load_robot, robot_names

FOLDER = Path(__file__).parents[2] / 'config' / 'robots'
NAMES = robot_names(FOLDER)
FULL = [name for name in NAMES if len(load_robot(name, FOLDER).chain) == 3]


def _heads(n=200, amplitude=0.3, seed=0):
    rotvec = np.random.default_rng(seed).normal(size=(n, 3)) * amplitude
    quaternion = Rotation.from_rotvec(rotvec).as_quat()
    return np.where(quaternion[:, 3:] < 0, -quaternion, quaternion)


@pytest.mark.parametrize('chain', list(itertools.permutations(['roll', 'pitch', 'yaw'])))
def test_three_axes_in_any_order_show_every_orientation(chain):
    heads = _heads()
    back = compose(decompose(heads, chain), chain)
    np.testing.assert_allclose(back, heads, atol=1e-12)


@pytest.mark.parametrize('chain', list(itertools.permutations(['roll', 'pitch', 'yaw'])))
def test_the_angles_are_those_of_scipy(chain):
    heads = _heads()
    order = ''.join({'roll': 'X', 'pitch': 'Y', 'yaw': 'Z'}[axis] for axis in chain)
    np.testing.assert_allclose(
        decompose(heads, chain), Rotation.from_quat(heads).as_euler(order), atol=1e-12
    )


@pytest.mark.parametrize('chain', [('yaw', 'pitch'), ('pitch', 'yaw')])
def test_without_roll_the_face_points_where_it_did(chain):
    heads = _heads(amplitude=0.5)
    shown = compose(decompose(heads, chain), chain)
    forward = [1.0, 0.0, 0.0]
    np.testing.assert_allclose(
        Rotation.from_quat(shown).apply(forward),
        Rotation.from_quat(heads).apply(forward),
        atol=1e-12,
    )


def test_without_yaw_the_crown_points_where_it_did():
    heads = _heads()
    shown = compose(decompose(heads, ('pitch', 'roll')), ('pitch', 'roll'))
    up = [0.0, 0.0, 1.0]
    np.testing.assert_allclose(
        Rotation.from_quat(shown).apply(up), Rotation.from_quat(heads).apply(up), atol=1e-12
    )


@pytest.mark.parametrize('axis', ['roll', 'pitch', 'yaw'])
@pytest.mark.parametrize('name', NAMES)
def test_a_pure_nod_shake_or_tilt_moves_its_own_joint_by_its_size_or_none(name, axis):
    robot = load_robot(name, FOLDER)
    vector = np.zeros((1, 3))
    vector[0, ['roll', 'pitch', 'yaw'].index(axis)] = 0.2
    joints = joints_of(robot, Rotation.from_rotvec(vector).as_quat(), np.zeros(1))[0]
    for value, joint in zip(joints, robot.joints, strict=True):
        moved = joint.sign * 0.2 if joint.axis == axis else 0.0
        assert value - joint.offset_rad == pytest.approx(moved, abs=1e-12), joint.name


@pytest.mark.parametrize(
    ('name', 'joint', 'is_up_positive'),
    [
        ('nao', 'HeadPitch', False),
        ('pepper', 'HeadPitch', False),
        ('tiago', 'head_2_joint', True),
        ('ari', 'head_2_joint', False),
        ('icub', 'neck_pitch', True),
        ('stretch', 'joint_head_tilt', True),
        ('poppy', 'head_y', True),
        ('inmoov', 'head_updown', True),
    ],
)
def test_looking_up_moves_the_pitch_joint_the_way_the_robots_model_says(
    name, joint, is_up_positive
):
    robot = load_robot(name, FOLDER)
    up = Rotation.from_rotvec([[0.0, -0.1, 0.0]]).as_quat()
    value = joints_of(robot, up, np.zeros(1))[0, robot.joint_names.index(joint)]
    assert (value > 0) == is_up_positive


@pytest.mark.parametrize('name', FULL)
def test_joints_show_the_orientation_they_came_from(name):
    robot = load_robot(name, FOLDER)
    heads = _heads()
    np.testing.assert_allclose(
        orientation_of(robot, joints_of(robot, heads, np.zeros(len(heads)))), heads, atol=1e-12
    )


def test_a_turn_past_the_back_goes_on_without_a_jump():
    yaw = np.linspace(2.5, 4.0, 50)
    heads = Rotation.from_rotvec(yaw[:, None] * [0.0, 0.0, 1.0]).as_quat()
    np.testing.assert_allclose(decompose(heads, ('yaw', 'pitch'))[:, 0], yaw, atol=1e-12)


def test_an_open_mouth_moves_the_jaw_and_nothing_else():
    robot = load_robot('inmoov', FOLDER)
    joints = joints_of(robot, np.array([[0.0, 0.0, 0.0, 1.0]]), np.array([0.2]))[0]
    np.testing.assert_allclose(joints, [0.0, 0.0, 0.0, 0.2], atol=1e-12)


def test_a_nod_on_a_base_is_a_nod_of_the_turned_head():
    base = Rotation.from_rotvec([0.0, 0.0, 0.8]).as_quat()
    nod = Rotation.from_rotvec([[0.0, 0.2, 0.0]]).as_quat()
    angles = decompose(turned(base, nod), ('yaw', 'pitch', 'roll'))
    np.testing.assert_allclose(angles, [[0.8, 0.2, 0.0]], atol=1e-12)
