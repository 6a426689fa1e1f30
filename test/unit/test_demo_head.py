# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The demo head's URDF is a head, and the one that its robot's file is about."""

from pathlib import Path
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from timar_ros.retarget.orientation import orientation_of
from timar_ros.retarget.robot import load_robot

CONFIG = Path(__file__).parents[2] / 'config'
ROBOT = load_robot('demo_head', CONFIG / 'robots')


@pytest.fixture(scope='module')
def urdf():
    return ElementTree.parse(CONFIG / 'urdf' / 'demo_head.urdf').getroot()


def numbers(text) -> list[float]:
    return [float(word) for word in text.split()]


def test_the_links_are_one_tree_from_the_base_to_the_jaw(urdf):
    links = {link.get('name') for link in urdf.iter('link')}
    parents = {
        j.find('child').get('link'): j.find('parent').get('link') for j in urdf.iter('joint')
    }

    chain = ['jaw']
    while chain[-1] in parents:
        chain.append(parents[chain[-1]])

    assert len(parents) == len(list(urdf.iter('joint')))  # no link has two parents
    assert links == {*parents, *parents.values()}
    assert chain == ['jaw', 'head', 'tilt_link', 'pan_link', 'neck_base']
    assert (ROBOT.base_frame, ROBOT.head_frame) == ('neck_base', 'head')


def test_each_joint_has_the_name_and_limits_of_the_robots_file(urdf):
    limits = {joint.get('name'): joint.find('limit') for joint in urdf.iter('joint')}

    assert sorted(limits) == sorted(ROBOT.joint_names)
    for joint in ROBOT.joints:
        limit = {key: float(value) for key, value in limits[joint.name].items()}
        assert limit['lower'] == joint.lower_rad, joint.name
        assert limit['upper'] == joint.upper_rad, joint.name
        assert limit['velocity'] == joint.velocity_rad_s, joint.name


def test_its_neck_is_the_generic_one_that_pans_tilts_and_rolls():
    generic = load_robot('pan_tilt_roll', CONFIG / 'robots')

    assert ROBOT.joints[:3] == generic.joints
    assert ROBOT.joints[3].axis == 'jaw'


def test_the_head_of_the_urdf_stands_where_the_neck_says_it_does(urdf):
    joints = np.array([0.5, -0.3, 0.2, 0.1])
    by_child = {joint.find('child').get('link'): joint for joint in urdf.iter('joint')}

    turned, link = Rotation.identity(), 'head'
    while link in by_child:
        joint = by_child[link]
        angle = joints[ROBOT.joint_names.index(joint.get('name'))]
        axis = numbers(joint.find('axis').get('xyz'))
        turned = Rotation.from_rotvec(angle * np.array(axis)) * turned
        link = joint.find('parent').get('link')

    expected = Rotation.from_quat(orientation_of(ROBOT, joints[None])[0])
    np.testing.assert_allclose(turned.as_matrix(), expected.as_matrix(), atol=1e-9)


def test_an_open_jaw_is_down(urdf):
    (joint,) = [joint for joint in urdf.iter('joint') if joint.get('name') == 'jaw_joint']
    chin = np.array([0.1, 0.0, 0.0])

    opened = Rotation.from_rotvec(0.3 * np.array(numbers(joint.find('axis').get('xyz')))).apply(
        chin
    )

    assert opened[2] < -0.02
