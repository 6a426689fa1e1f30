# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Robots by name: what is shipped agrees with what is published; bad files say what to mend."""

import math
from pathlib import Path

import pytest

from timar_ros.retarget.joint_names import joint_hint
from timar_ros.retarget.robot import LIMITS, load_robot, missing_joints_text, robot_names

FOLDER = Path(__file__).parents[2] / 'config' / 'robots'

# Published: joint -> lowest, highest position (rad), velocity (rad/s) or None.
PUBLISHED = {
    'nao': {'HeadYaw': (-2.0857, 2.0857, 8.27), 'HeadPitch': (-0.672, 0.515, 7.2)},
    'pepper': {'HeadYaw': (-2.0857, 2.0857, 7.34), 'HeadPitch': (-0.707, 0.637, 9.23)},
    'tiago': {'head_1_joint': (-1.309, 1.309, 3.0), 'head_2_joint': (-1.047, 0.785, 3.0)},
    'ari': {'head_1_joint': (-1.309, 1.309, 3.0), 'head_2_joint': (-0.262, 0.436, 3.0)},
    'reachy2': {
        'neck_roll': (-0.35, 0.35, None),
        'neck_pitch': (-0.35, 0.35, None),
        'neck_yaw': (-1.57, 1.57, None),
    },
    'icub': {
        'neck_pitch': (-0.698, 0.384, None),
        'neck_roll': (-0.349, 0.349, None),
        'neck_yaw': (-0.873, 0.873, None),
    },
    'stretch': {'joint_head_pan': (-3.9, 1.5, 1.0), 'joint_head_tilt': (-1.53, 0.79, 1.0)},
    'poppy': {'head_z': (-1.57, 1.57, 10.0), 'head_y': (-0.785, 0.105, 10.0)},
    'inmoov': {
        'head_leftright': (-1.05, 1.05, None),
        'head_updown': (-1.22, 1.22, None),
        'head_tilt': (-0.30, 0.30, None),
        'jaw': (0.0, 0.26, None),
    },
}

GOOD = """
description: a neck for this test
output: trajectory
topic: neck/joint_trajectory
joints:
  - name: pan
    axis: yaw
    limits: {position_rad: [-1, 1], velocity_rad_s: 3, acceleration_rad_s2: 15, jerk_rad_s3: 300}
"""


@pytest.fixture
def robot_file(tmp_path):
    def write(text):
        path = tmp_path / 'mine.yaml'
        path.write_text(text, encoding='utf-8')
        return str(path)

    return write


def test_every_robot_of_the_list_is_shipped_and_no_other():
    assert robot_names(FOLDER) == sorted([*PUBLISHED, 'demo_head', 'pan_tilt', 'pan_tilt_roll'])


@pytest.mark.parametrize('name', sorted(PUBLISHED))
def test_a_shipped_robot_stays_within_the_published_limits(name):
    robot = load_robot(name, FOLDER)
    assert sorted(robot.joint_names) == sorted(PUBLISHED[name])
    for joint in robot.joints:
        lower, upper, velocity = PUBLISHED[name][joint.name]
        assert (joint.lower_rad, joint.upper_rad) == pytest.approx((lower, upper), abs=5e-4)
        assert joint.lower_rad >= lower - 5e-4 and joint.upper_rad <= upper + 5e-4
        if velocity is not None:
            assert joint.velocity_rad_s <= velocity


@pytest.mark.parametrize('name', sorted(PUBLISHED))
def test_a_shipped_robot_marks_what_the_maker_does_not_publish(name):
    for joint in load_robot(name, FOLDER).joints:
        has_velocity = PUBLISHED[name][joint.name][2] is not None
        assert set(joint.ours) == set(LIMITS[2:] if has_velocity else LIMITS[1:])


def test_the_joints_of_inmoov_turn_in_the_order_of_its_chain_not_of_its_list():
    robot = load_robot('inmoov', FOLDER)
    assert robot.chain == ('roll', 'pitch', 'yaw')
    assert [joint.axis for joint in robot.joints] == ['yaw', 'pitch', 'roll', 'jaw']


def test_a_file_of_ones_own_is_read(robot_file):
    robot = load_robot(robot_file(GOOD), FOLDER)
    (joint,) = robot.joints
    assert (robot.name, joint.sign, joint.scale, joint.offset_rad) == ('mine', 1, 1.0, 0.0)


def test_an_unknown_robot_is_answered_with_the_nearest_name():
    with pytest.raises(FileNotFoundError, match="unknown robot 'peper'; did you mean 'pepper'"):
        load_robot('peper', FOLDER)


def test_a_missing_file_is_named():
    with pytest.raises(FileNotFoundError, match='no robot file at /nowhere/mine.yaml'):
        load_robot('/nowhere/mine.yaml', FOLDER)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('output: trajectory', 'output: [', r'mine.yaml: not valid YAML.*line'),
        ('output: trajectory', 'output: trajectories', "output: .*did you mean 'trajectory'"),
        ('topic:', 'topics:', "unknown key 'topics'; did you mean 'topic'"),
        ('description: a neck for this test', '', "missing key 'description'; add it"),
        (
            '[-1, 1]',
            '[1, -1]',
            r'pan\): limits: position_rad is the wrong way round.*\[-1.0, 1.0\]',
        ),
        ('[-1, 1]', '2', r'position_rad must be \[lowest, highest\], got 2'),
        ('velocity_rad_s: 3', 'velocity_rad_s: -3', 'velocity_rad_s must be above 0'),
        ('velocity_rad_s: 3', 'velocity_rad_s: .nan', 'velocity_rad_s: must be a finite number'),
        (
            'velocity_rad_s: 3',
            'velocity: 3',
            "unknown key 'velocity'; did you mean 'velocity_rad_s'",
        ),
        ('axis: yaw', 'axis: jaws', "axis: must be one of .*did you mean 'jaw'"),
        ('axis: yaw', 'axis: yaw\n    sign: 2', 'sign: must be one of 1, -1, got 2'),
        ('axis: yaw', 'axis: yaw\n    scale: -1', 'scale must be above 0.*use sign: -1'),
        ('axis: yaw', 'axis: yaw\n    offset_rad: 3', r'offset_rad 3.0 lies outside position_rad'),
        ('joints:', 'chain: [pitch]\njoints:', r'chain: must name the axes of the joints \(yaw\)'),
        (
            'jerk_rad_s3: 300',
            'jerk_rad_s3: 300, ours: [speed]',
            'ours: must be one of position_rad',
        ),
    ],
)
def test_a_wrong_file_says_which_key_and_what_to_do(robot_file, old, new, message):
    assert GOOD.count(old) == 1
    with pytest.raises(ValueError, match=message) as caught:
        load_robot(robot_file(GOOD.replace(old, new)), FOLDER)
    assert 'mine.yaml' in str(caught.value)


def test_two_joints_of_one_name_are_refused(robot_file):
    joint = GOOD[GOOD.index('  - name') :]
    with pytest.raises(ValueError, match="name 'pan' stands twice"):
        load_robot(robot_file(GOOD + joint), FOLDER)


def test_a_joint_that_the_robot_does_not_report_is_named_with_file_and_fix(robot_file):
    robot = load_robot(robot_file(GOOD), FOLDER)

    text = missing_joints_text(robot, ['pan'], {'span', 'wheel'})

    assert 'mine.yaml: joints: ' in text
    assert "'pan' not in joint_states; did you mean 'span'?" in text
    assert 'it has span, wheel; correct the name there' in text


def test_a_robot_that_reports_nothing_is_told_to_start_its_broadcaster(robot_file):
    robot = load_robot(robot_file(GOOD), FOLDER)

    text = missing_joints_text(robot, ['pan'], set())

    assert text.startswith('joint_states has not come yet')
    assert 'joint_state_broadcaster' in text


@pytest.mark.parametrize('key', ['position_rad: [-1, 1], ', ''])
def test_a_continuous_joint_needs_no_range(robot_file, key):
    text = GOOD.replace('position_rad: [-1, 1], ', key)
    text = text.replace('axis: yaw', 'axis: yaw\n    continuous: true')
    (joint,) = load_robot(robot_file(text), FOLDER).joints
    assert joint.is_continuous
    expected = (-1.0, 1.0) if key else (-math.inf, math.inf)
    assert (joint.lower_rad, joint.upper_rad) == expected


def test_a_joint_with_stops_needs_a_range(robot_file):
    with pytest.raises(ValueError, match="missing key 'position_rad'; add it"):
        load_robot(robot_file(GOOD.replace('position_rad: [-1, 1], ', '')), FOLDER)


# Nine lists of nine lists of ...: 9^9 texts. Where it stands, nothing looks before the joints.
_BOMB = '\n'.join(
    ['head_frame:', '  - &a0 [x, x, x, x, x, x, x, x, x]']
    + [f'  - &a{i} [{", ".join([f"*a{i - 1}"] * 9)}]' for i in range(1, 9)]
)


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        ('[-1, 1]', '[' * 900 + ']' * 900, 'nested too deep'),
        ('jerk_rad_s3: 300', f'jerk_rad_s3: 1{"0" * 400}', 'jerk_rad_s3: must be a finite number'),
        ('name: pan', f'name: {"pan" * 2_000}\n    sing: 1', "unknown key 'sing'"),
        ('axis: yaw', f'axis: {"yaw" * 2_000}', 'axis: must be one of roll'),
        (
            'axis: yaw',
            'axis: yaw\n    continuous: 1',
            'continuous must be true .* or false, got 1',
        ),
        ('axis: yaw', 'axis: *a8', 'axis: must be one of roll'),
        ('[-1, 1]', '*a8', r'position_rad must be \[lowest, highest\]'),
        ('output: trajectory', 'output: *a8', 'output: must be one of'),
        ('joints:', 'chain: *a8\njoints:', 'chain: must name the axes'),
        ('description: a neck for this test', 'description: *a8', 'description: must be a text'),
        ('topic: neck/joint_trajectory', 'topic: *a8', 'topic: must be a text'),
        ('name: pan', 'name: *a8', 'name: must be a text'),
        ('name: pan', 'name: pan\n    sign: *a8', 'sign: must be one of 1, -1'),
        ('jerk_rad_s3: 300', 'jerk_rad_s3: *a8', 'jerk_rad_s3: must be a finite number'),
        ('jerk_rad_s3: 300', 'jerk_rad_s3: 300, ours: *a8', 'ours: must be one of'),
        ('joints:', 'joints: *a8\nchain:', r'joints\[0\]: expected keys with values'),
    ],
)
def test_a_hostile_file_is_refused_in_one_short_sentence(robot_file, old, new, message):
    assert GOOD.count(old) == 1
    text = GOOD.replace(old, new)
    text = f'{_BOMB}\n{text}' if '*a8' in new else text
    with pytest.raises(ValueError, match=message) as caught:
        load_robot(robot_file(text), FOLDER)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize('name', ['x' * 5_000, 'x' * 5_000 + '.yaml', 'a\0b', 'a\0b.yaml'])
def test_a_name_that_no_file_can_have_is_an_unknown_robot(name):
    with pytest.raises(FileNotFoundError) as caught:
        load_robot(name, FOLDER)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ('old', 'new', 'text'),
    [
        ('[-1, 1]', '[-75, 75]', 'position_rad: -75 rad is 11.9 turns; are these degrees?'),
        ('[-1, 1]', '[0, 6.3]', 'position_rad: 6.3 rad is 1 turns; are these degrees?'),
        ('s: 3', 's: 172', 'velocity_rad_s: 172 rad/s is 27.4 turns/s; are these degrees?'),
        ('s2: 15', 's2: 6000', 'acceleration_rad_s2: 6000 rad/s² is 955 turns/s²; are these'),
        ('s3: 300', 's3: 300000', 'jerk_rad_s3: 300000 rad/s³ is 4.77e+04 turns/s³; are these'),
    ],
)
def test_limits_in_degrees_are_refused(robot_file, old, new, text):
    with pytest.raises(ValueError) as refused:
        load_robot(robot_file(GOOD.replace(old, new)), FOLDER)

    assert text in str(refused.value)
    assert 'limits: ' + text.split(':')[0] in str(refused.value)


@pytest.mark.parametrize(
    ('old', 'new'),
    [('[-1, 1]', '[-6.28, 6.28]'), ('s: 3', 's: 50'), ('s2: 15', 's2: 5000'),
     ('s3: 300', 's3: 200000'), ('limits: {position_rad: [-1, 1]',
     'continuous: true\n    limits: {position_rad: [-12, 12]')],
)  # fmt: skip
def test_the_quickest_necks_and_continuous_joints_are_taken(robot_file, old, new):
    load_robot(robot_file(GOOD.replace(old, new)), FOLDER)


def test_a_missing_file_names_the_shipped_robots_in_words():
    with pytest.raises(FileNotFoundError, match='; give a path, or one of ari, demo_head, icub'):
        load_robot('/no/such.yaml', FOLDER)


REPORTED = {
    'its velocity, not its position': ('pan', ['pan/velocity'], ''),
    'its position first': ('pan', ['pan/effort', 'pan/position', 'pan/velocity'], 'pan/position'),
    'in capitals': ('pan', ['Pan'], 'Pan'),
    'a torque': ('pan', ['pan_torque', 'pan.vel'], ''),
    'another joint of this robot': ('pan', ['tilt', 'pan2'], ''),
    'another number': ('joint_1', ['joint_2', 'joint_10'], ''),
    'the other side': ('left_pan', ['right_pan'], ''),
    'a prefix': ('joint_1', ['head_joint_1', 'head_joint_2'], 'head_joint_1'),
}


@pytest.mark.parametrize(('name', 'reported', 'meant'), REPORTED.values(), ids=REPORTED)
def test_only_a_name_that_may_be_the_joints_own_angle_is_proposed(name, reported, meant):
    expected = f'; did you mean {meant!r}?' if meant else ''
    assert joint_hint(name, reported, ['tilt']) == expected


def test_of_names_per_interface_the_position_is_proposed_in_the_whole_sentence():
    robot = load_robot('pan_tilt_roll', FOLDER)
    kinds = ('velocity', 'position', 'effort')
    reported = {f'{name}/{kind}' for name in robot.joint_names for kind in kinds}
    text = missing_joints_text(robot, robot.joint_names, reported)
    assert "did you mean 'pan_joint/position'?" in text
