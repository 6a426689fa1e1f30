# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What measured joints prove, and that whatever they are the head is never thrown."""

import dataclasses

from neck_moves import (
    MS,
    ROBOT,
    START,
    assert_within_limits,
    following,
    make_neck,
    nods,
    see,
    still,
)
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from timar_ros.retarget.feedback import Feedback
from timar_ros.retarget.joint_trouble import joint_trouble
from timar_ros.retarget.neck import Neck, NeckConfig
from timar_ros.retarget.robot import Robot

NAMES = ROBOT.joint_names


def test_nothing_moves_before_every_joint_was_seen():
    neck = Neck(ROBOT, NeckConfig())
    neck.push_plan(*nods(2))
    assert not neck.update(START)
    see(neck, [0.0, 1.0, 0.0], START + 100 * MS, ['pan_joint', 'wheel', 'tilt_joint'])
    assert not neck.update(START + 100 * MS)
    assert neck.missing_joints == ['roll_joint']
    assert neck.sample(START) is None

    see(neck, (0.0, 0.0, 0.0), START + 200 * MS)
    assert neck.update(START + 200 * MS)


@pytest.mark.parametrize(
    ('ages_ms', 'places'),
    [
        ((0,), (0.1,)),
        ((50, 0), (0.1, 0.1)),
        ((40, 20, 0), (0.1, 0.1, 0.1)),
        ((50, 25, 0), (0.1, 0.1, 0.16)),
        ((60, 30, 0), (0.1, 0.14, 0.18)),
        ((1_150, 1_125, 1_100), (0.1, 0.1, 0.1)),
    ],
    ids=['one', 'two', 'over 40 ms', 'one is off', 'they drift', 'all old'],
)
def test_a_start_needs_three_fresh_samples_that_agree_over_50_ms(ages_ms, places):
    neck = Neck(ROBOT, NeckConfig())
    for age_ms, place in zip(ages_ms, places, strict=True):
        neck.see_joints(NAMES, (place, 0.0, 0.0), START - age_ms * MS)
    neck.push_plan(*nods(3))
    assert not neck.update(START)
    see(neck, (0.3, 0.0, 0.0), START + 600 * MS)
    assert neck.update(START + 600 * MS)
    np.testing.assert_allclose(neck.sample(START)[0][0], (0.3, 0.0, 0.0), atol=1e-12)


@pytest.mark.parametrize(
    ('positions', 'what'),
    [
        ([0.1, 0.2, np.nan], 'NaN'),
        ([0.1, 0.2, -np.inf], 'infinite'),
        ([0.1, 0.2, 1e308], 'infinite'),
        ([], 'missing'),
    ],
)
def test_a_position_that_is_no_number_is_no_sample_and_is_named(positions, what):
    neck = Neck(ROBOT, NeckConfig())
    see(neck, positions)
    neck.push_plan(*nods(3))
    assert not neck.update(START)
    text = joint_trouble(neck, START, NAMES, ['/driver'])
    assert f"'roll_joint' is in joint_states, but its position is {what}" in text
    assert 'not in joint_states' not in text


UNEVEN = {
    'a wheel without position first': (['wheel', *NAMES], [0.3, -0.2, 0.1]),
    'a wheel first, a gripper last': (['wheel', *NAMES, 'gripper'], [0.3, -0.2, 0.1, 0.05]),
    'a position too many': (NAMES, [0.2, 0.3, -0.2, 0.1]),
    'the last is left out': (NAMES, [0.3, -0.2]),
}


@pytest.mark.parametrize(('names', 'positions'), UNEVEN.values(), ids=UNEVEN)
def test_positions_that_are_not_one_for_each_name_start_no_head_and_are_counted(names, positions):
    neck = Neck(ROBOT, NeckConfig())
    see(neck, positions, names=names)
    neck.push_plan(*nods(3))
    assert not neck.update(START)
    assert neck.missing_joints == list(NAMES)
    assert neck.feedback.n_uneven == 3
    text = joint_trouble(neck, START, [], ['/driver'])
    assert text.startswith(
        f'joint_states (publishers: /driver) has {len(names)} names and {len(positions)} positions'
    )
    assert text.endswith('; nothing moves until then')
    see(neck, (0.1, 0.1, 0.1), START + 3_000 * MS)
    assert joint_trouble(neck, START + 3_000 * MS, [], ['/driver']) == ''


@pytest.mark.parametrize(('names', 'positions'), UNEVEN.values(), ids=UNEVEN)
def test_positions_that_are_not_one_for_each_name_change_no_motion(names, positions):
    neck, now = following()
    neck.update(now)
    before = neck.sample(now + np.arange(1_000) * MS)
    neck.see_joints(NAMES, before[0][0], now)
    for age_ms in range(400, 0, -10):
        neck.see_joints(names, positions, now - age_ms * MS, now)
    assert not neck.update(now)
    np.testing.assert_array_equal(neck.sample(now + np.arange(1_000) * MS)[0], before[0])
    assert neck.restarts == 0
    assert ' positions in one message' in joint_trouble(neck, now, NAMES, ['/driver'])


def test_a_name_that_comes_twice_with_two_positions_is_not_believed():
    neck = Neck(ROBOT, NeckConfig())
    see(neck, [0.0, 0.0, 0.0, 0.7], names=[*NAMES, 'pan_joint'])
    neck.push_plan(*nods(3))
    assert not neck.update(START)


def test_a_head_moved_by_another_while_at_rest_is_led_to_where_it_is_and_taken_up_there():
    neck = make_neck()
    neck.push_plan(*nods(1))
    neck.update(START)
    later = START + 6_000 * MS
    left_at = neck.sample(later)[0][0]
    see(neck, (0.5, 0.0, 0.0), later)
    neck.push_plan(*nods(4, begin_ns=later))
    assert neck.update(later)
    motion = neck.sample(later + np.arange(0, 40) * MS)
    np.testing.assert_allclose(motion[0], np.tile(left_at, (40, 1)), atol=1e-12)
    assert_within_limits(neck, later, later + 2_400 * MS)
    there = neck.sample(later + np.arange(0, 900, 5) * MS)[0]
    assert np.abs(there[:, 0] - 0.5).min() < 0.02


def test_a_head_moved_after_the_last_plan_is_left_there():
    neck = make_neck()
    neck.push_plan(*nods(1))
    neck.update(START)
    later = START + 6_000 * MS
    see(neck, (0.5, 0.0, 0.0), later)
    assert neck.update(later)
    position, velocity = neck.sample(later + 2_500 * MS)[:2]
    np.testing.assert_allclose(position[0, 0], 0.5, atol=0.02)
    np.testing.assert_allclose(velocity[0], np.zeros(3), atol=1e-9)


@pytest.mark.parametrize('ages_ms', [(0,), (25, 0), (40, 20, 0)])
def test_too_few_samples_elsewhere_change_nothing(ages_ms):
    neck, now = following()
    neck.update(now)
    before = neck.sample(now + np.arange(1_000) * MS)
    for age_ms in ages_ms:
        neck.see_joints(NAMES, (0.0, 0.6, 0.0), now - age_ms * MS)
    assert not neck.update(now)
    np.testing.assert_array_equal(neck.sample(now + np.arange(1_000) * MS)[0], before[0])


def test_a_head_that_is_held_is_led_to_where_it_is_held_within_limits():
    neck, now = following()
    soon = now + np.arange(0, 40) * MS
    before = neck.sample(soon)
    see(neck, (0.0, 0.55, 0.0), now)  # the nods go to 0.2
    assert neck.update(now)
    assert neck.restarts == 1
    for old, new in zip(before, neck.sample(soon), strict=True):
        np.testing.assert_array_equal(new, old)
    assert_within_limits(neck, now, now + 2_300 * MS)
    there = neck.sample(now + np.arange(400, 800) * MS)[0]
    assert np.abs(there[:, 1] - 0.55).min() < 0.02


@pytest.mark.parametrize('other', [(0.9, 0.0, 0.0), (-6.3, 0.0, 0.0), (1.2, 0.6, 0.4)])
def test_samples_of_two_publishers_in_turn_move_nothing_and_are_noticed(other):
    neck, now = following()
    neck.update(now)
    before = neck.sample(now + np.arange(1_000) * MS)
    for i in range(40):
        time_ns = now - (400 - 10 * i) * MS
        followed = neck.sample(time_ns - 60 * MS)[0][0]
        neck.see_joints(NAMES, followed if i % 2 else other, time_ns)
        assert not neck.update(now), i
    np.testing.assert_array_equal(neck.sample(now + np.arange(1_000) * MS)[0], before[0])
    text = joint_trouble(neck, now, NAMES, ['/r1/driver', '/r2/driver'])
    assert 'pan_joint jumps between' in text
    assert '2 publishers (/r1/driver, /r2/driver) that contradict each other; stop one' in text


def test_measurements_that_stopped_prove_nothing_about_a_head_that_moved_since():
    neck = make_neck()
    for after_ms in range(0, 7_600, 50):
        now = START + after_ms * MS
        neck.push_plan(*nods(3, 0.5, 0.4, begin_ns=now))
        neck.update(now)
        if after_ms <= 5_000 and neck.has_begun:
            neck.see_joints(NAMES, neck.sample(now)[0][0], now)
    assert neck.restarts == 0
    now = START + 5_000 * MS
    text = joint_trouble(neck, now + 2_600 * MS, NAMES, ['/driver'])
    assert text.startswith('no positions came on joint_states for 2 s')


def test_a_joint_measured_where_it_cannot_be_stops_the_head_softly_until_it_is_back():
    neck, now = following()
    see(neck, (2.5, 0.0, 0.0), now)
    assert neck.update(now)
    assert_within_limits(neck, now, now + 2_400 * MS)
    assert np.abs(neck.sample(now + 1_000 * MS)[1]).max() < 0.02
    see(neck, (2.5, 0.0, 0.0), now + 500 * MS)
    with pytest.raises(ValueError, match='pan_joint is measured at 2.500 rad'):
        neck.update(now + 500 * MS)
    later = now + 1_600 * MS
    neck.push_plan(*nods(4, begin_ns=later))
    assert not neck.update(later), 'without new measurements nothing is known'
    see(neck, neck.sample(later)[0][0], later)
    assert neck.update(later)
    assert_within_limits(neck, later, later + 2_400 * MS)
    assert np.abs(neck.sample(later + np.arange(2_000) * MS)[1]).max() > 0.5


@pytest.mark.parametrize('outside', [0.004, 0.05, 0.19])
def test_a_joint_that_begins_outside_its_range_comes_in_and_stays_inside(outside):
    neck, played = make_neck((1.2 + outside, 0.0, 0.0)), []
    for after_ms in range(0, 4_000, 50):
        now = START + after_ms * MS
        if after_ms % 200 == 0:
            yaw = 1.3 * np.sin(2 * np.pi * 1.2 * (after_ms / 1e3 + np.arange(50) * 0.04))
            heads = Rotation.from_rotvec(yaw[:, None] * [0.0, 0.0, 1.0]).as_quat()
            neck.push_plan(now + np.arange(50) * 40 * MS, heads, np.zeros(50))
        neck.update(now)
        played.append(neck.sample(now + np.arange(50) * MS)[0][:, 0])
    pan = np.concatenate(played)
    is_outside = pan > 1.2
    assert is_outside[0] and not is_outside[-1]
    assert np.count_nonzero(np.diff(is_outside)) == 1, 'once inside it is never outside again'


def test_a_joint_seen_further_away_than_it_can_get_is_no_place_to_start_from_yet():
    neck = make_neck()
    neck.push_plan(*nods(1))
    neck.update(START)
    now = START + 6_000 * MS
    neck.update(now)
    neck.disable(now)
    neck.enable(now + 100 * MS)
    neck.push_plan(*nods(4, begin_ns=now))
    see(neck, (0.9, 0.0, 0.0), now + 100 * MS)
    assert not neck.update(now + 100 * MS), '0.9 rad in 0.1 s is 3 times the velocity limit'
    see(neck, (0.9, 0.0, 0.0), now + 400 * MS)
    assert neck.update(now + 400 * MS)


@pytest.mark.parametrize('lag_ms', [0, 50, 150])
@pytest.mark.parametrize('period_ms', [1, 10, 100])
def test_a_healthy_robot_starts_within_a_second_and_is_never_restarted(lag_ms, period_ms):
    neck, rng = Neck(ROBOT, NeckConfig()), np.random.default_rng(0)
    begun_at = None
    for after_ms in range(0, 6_000, period_ms):
        now = START + after_ms * MS
        played = neck.sample(now - lag_ms * MS)
        position = np.array([0.2, -0.1, 0.1]) if played is None else played[0][0]
        measured = np.round(position + rng.uniform(-0.01, 0.01, 3), 2)
        neck.see_joints(NAMES, measured, now)
        if after_ms % 200 == 0:
            neck.push_plan(*nods(2, frequency_hz=1.5, begin_ns=now))
        if after_ms % 50 == 0:
            neck.update(now)
        if begun_at is None and neck.has_begun:
            begun_at = after_ms
    assert begun_at <= 200
    assert neck.restarts == 0
    assert np.abs(neck.sample(now - np.arange(1_000) * MS)[1]).max() > 1.0


def _turning(**changes) -> Robot:
    pan = dataclasses.replace(ROBOT.joints[0], is_continuous=True, **changes)
    return dataclasses.replace(ROBOT, joints=(pan, *ROBOT.joints[1:]))


@pytest.mark.parametrize('turns', [-1, 0, 1, 3])
def test_a_continuous_joint_is_taken_in_the_turn_of_what_was_sent(turns):
    neck = make_neck((0.1 + turns * 2 * np.pi, 0.0, 0.0), _turning())
    neck.push_plan(*still(4))
    assert neck.update(START)
    np.testing.assert_allclose(neck.sample(START)[0][0], (0.1, 0.0, 0.0), atol=1e-9)
    assert_within_limits(neck, START, START + 2_400 * MS)


def test_the_seam_of_an_encoder_is_no_jump_between_two_samples():
    feedback = Feedback(_turning())
    for age_ms, pan in ((60, 6.265), (40, 6.275), (20, 0.0), (0, 0.01)):
        feedback.add(NAMES, (pan, 0.0, 0.0), START - age_ms * MS)
    position = feedback.at_rest(START)
    np.testing.assert_allclose(position, (2 * np.pi + 0.003, 0.0, 0.0), atol=0.02)


def test_an_encoder_modulo_a_turn_that_passes_its_seam_is_no_jump():
    neck = make_neck((0.1, 0.0, 0.0), _turning())
    for after_ms in range(0, 5_000, 10):
        now = START + after_ms * MS
        played = neck.sample(now - 50 * MS)
        pan = 0.1 if played is None else played[0][0, 0]
        neck.see_joints(NAMES, (pan % (2 * np.pi), 0.0, 0.0), now)
        if after_ms % 200 == 0:
            stamps = now + np.arange(50) * 40 * MS
            yaw = 0.3 * np.sin(2 * np.pi * 0.5 * (stamps - START) / 1e9)
            heads = Rotation.from_rotvec(yaw[:, None] * [0.0, 0.0, 1.0]).as_quat()
            neck.push_plan(stamps, heads, np.zeros(50))
            neck.update(now)
    assert neck.restarts == 0
    assert neck.feedback.contradiction(now) == ''
    played = neck.sample(now - np.arange(2_000) * MS)[0][:, 0]
    assert played.max() > 0.25 and played.min() < -0.25


def test_a_joint_without_stops_goes_the_short_way_and_round_and_round():
    robot = _turning(lower_rad=-np.inf, upper_rad=np.inf)
    neck = make_neck((3.0, 0.0, 0.0), robot)
    for after_ms in range(0, 8_000, 200):
        now = START + after_ms * MS
        stamps = now + np.arange(50) * 40 * MS
        yaw = 3.0 + 1.0 * (stamps - START) / 1e9
        heads = Rotation.from_rotvec(yaw[:, None] * [0.0, 0.0, 1.0]).as_quat()
        neck.push_plan(stamps, heads, np.zeros(50))
        neck.update(now)
    motion = neck.sample(START + np.arange(0, 7_800) * MS)
    assert np.abs(motion[1][:, 0]).max() <= 3.0
    np.testing.assert_allclose(motion[0][-1, 0], 3.0 + 7.8, atol=0.05)


@pytest.mark.parametrize(
    ('every_ms', 'places', 'words'),
    [
        (1_400, (0.1, 0.1, 0.1, 0.1), 'pan_joint comes every 1.4 s in joint_states'),
        (20, (0.1, 0.16, 0.1, 0.16), 'pan_joint does not rest, it is measured between 0.100'),
        (20, (0.1, 0.1, 0.11, 0.1), ''),
    ],
    ids=['too seldom', 'noise', 'rest'],
)
def test_why_a_start_waits_is_said(every_ms, places, words):
    neck = Neck(ROBOT, NeckConfig())
    neck.push_plan(*nods(9))
    for i, place in enumerate(places):
        now = START + i * every_ms * MS
        neck.see_joints(NAMES, (place, 0.0, 0.0), now)
        assert neck.update(now) == (not words and i == len(places) - 1)
    text = joint_trouble(neck, now, NAMES, ['/driver'])
    assert text.startswith(words) and bool(text) == bool(words)
    assert text.endswith('nothing moves until then') or not words
    neck.disable()
    assert not joint_trouble(neck, now, NAMES, ['/driver'])
