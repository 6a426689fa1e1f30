# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""When a neck moves, when it does not, and that it always comes to rest softly."""

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

from timar_ros.retarget.neck import Neck, NeckConfig
from timar_ros.retarget.orientation import joints_of


def test_a_joint_measured_as_nan_was_not_seen():
    neck = Neck(ROBOT, NeckConfig())
    see(neck, [0.0, float('nan'), 0.0], START)
    assert neck.missing_joints == ['tilt_joint']


def test_a_robot_without_feedback_begins_at_its_offsets():
    neck = Neck(ROBOT, NeckConfig(), needs_feedback=False)
    neck.push_plan(*nods(2))
    assert neck.update(START)
    np.testing.assert_allclose(neck.sample(START)[0][0], np.zeros(3), atol=1e-12)


def test_nothing_moves_without_a_plan():
    neck = make_neck()
    assert not neck.update(START)
    assert neck.sample(START) is None


def test_the_neck_starts_at_rest_where_it_was_measured():
    neck = make_neck((0.3, -0.2, 0.1))
    neck.push_plan(*nods(3))
    assert neck.update(START)
    trajectory = neck.trajectory(START)
    first_ns = trajectory.stamp_ns + trajectory.time_from_start_ns[0]
    assert first_ns >= START + 500 * MS
    np.testing.assert_allclose(trajectory.position[0], (0.3, -0.2, 0.1), atol=1e-12)
    np.testing.assert_allclose(trajectory.velocity[0], np.zeros(3), atol=1e-9)
    np.testing.assert_allclose(neck.sample(START)[0][0], (0.3, -0.2, 0.1), atol=1e-12)


def test_a_start_far_from_the_plan_glides_there():
    neck = make_neck((0.8, 0.0, 0.0))
    neck.push_plan(*still(4))
    neck.update(START)
    motion = neck.sample(START + np.arange(0, 2_500, 5) * MS)
    assert_within_limits(neck, START, START + 2_400 * MS)
    assert np.abs(motion[1]).max() < 2.5  # a quintic over 0.8 s; the limit is 3
    np.testing.assert_allclose(motion[0][-1], np.zeros(3), atol=0.02)


def test_a_joint_far_outside_its_limits_is_refused_by_name():
    neck = make_neck((2.5, 0.0, 0.0))
    neck.push_plan(*nods(2))
    with pytest.raises(ValueError, match=r'pan_joint is measured at 2.500 rad.*pan_tilt_roll'):
        neck.update(START)
    assert neck.sample(START) is None


def test_a_joint_just_outside_its_limits_is_led_back():
    neck = make_neck((1.25, 0.0, 0.0))  # the limit is 1.2
    neck.push_plan(*still(4))
    neck.update(START)
    position = neck.sample(START + np.arange(0, 2_400, 5) * MS)[0][:, 0]
    assert position.max() <= 1.25 + 1e-9
    assert abs(position[-1]) < 0.02


def test_the_head_shows_the_plan_when_it_was_shown():
    neck, now = following()
    stamps, heads, jaw = nods(8)
    wanted = joints_of(ROBOT, heads, jaw)
    ahead = (stamps > now - 40 * MS) & (stamps < now + 1_000 * MS)
    np.testing.assert_allclose(neck.sample(stamps[ahead])[0], wanted[ahead], atol=0.01)


def test_a_newer_plan_leaves_alone_what_is_about_to_be_played():
    neck, now = following()
    soon = now + np.arange(0, 40) * MS
    before = neck.sample(soon)
    neck.push_plan(*still(3, begin_ns=now))
    assert neck.update(now)
    for old, new in zip(before, neck.sample(soon), strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_plan_longer_than_the_horizon_is_shown_to_its_end():
    neck = make_neck()
    neck.push_plan(*nods(8))
    changes = sum(neck.update(START + i * 100 * MS) for i in range(80))
    assert 4 <= changes <= 12
    assert neck.sample(START + 7_000 * MS)[0][0, 1] == pytest.approx(0.0, abs=0.02)


def test_when_plans_stop_the_head_comes_to_rest():
    neck = make_neck()
    neck.push_plan(*nods(1.25))  # ends in the middle of a nod
    neck.update(START)
    end = START + 4_000 * MS
    assert_within_limits(neck, START, end)
    np.testing.assert_allclose(neck.sample(end)[1], np.zeros((1, 3)), atol=1e-12)


@pytest.mark.parametrize('moment_ms', [3_000, 3_100, 3_250, 3_370])
def test_a_stop_in_mid_nod_is_soft_and_soon(moment_ms):
    neck, _ = following()
    now = START + moment_ms * MS
    neck.update(now)
    before = neck.sample(now)
    neck.disable()
    assert neck.update(now)
    after = neck.sample(now)
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new, old)
    assert_within_limits(neck, now, now + 3_000 * MS)
    position, velocity, *_ = neck.sample(now + np.arange(0, 3_000) * MS)
    assert np.abs(velocity[1_000:]).max() < 0.02
    assert np.abs(position - position[0]).max() < 0.5
    assert not neck.update(now + 500 * MS), 'a disabled neck follows nothing'


def test_plans_that_come_while_disabled_move_nothing():
    neck, now = following()
    neck.disable()
    neck.update(now)
    neck.push_plan(*nods(3, begin_ns=now + 2_000 * MS))
    assert not neck.update(now + 2_000 * MS)
    assert not neck.update(now + 2_500 * MS)


def test_a_neck_disabled_at_rest_has_nothing_to_stop():
    neck = make_neck()
    neck.disable()
    assert not neck.update(START)


def test_enabled_again_after_rest_it_starts_from_the_measured_joints():
    neck, now = following()
    neck.disable()
    neck.update(now)
    later = now + 5_000 * MS
    see(neck, (0.4, 0.1, 0.0), later)  # someone turned the head meanwhile
    neck.enable(later)
    neck.push_plan(*nods(3, begin_ns=later))
    assert neck.update(later)
    np.testing.assert_allclose(neck.sample(later)[0][0], (0.4, 0.1, 0.0), atol=1e-12)


def test_enabled_again_while_still_stopping_it_goes_on_smoothly():
    neck, now = following()
    neck.disable()
    neck.update(now)
    again = now + 200 * MS
    soon = again + np.arange(0, 40) * MS
    before = neck.sample(soon)
    neck.enable(again)
    assert neck.update(again)
    for old, new in zip(before, neck.sample(soon), strict=True):
        np.testing.assert_array_equal(new, old)
    assert_within_limits(neck, again, again + 2_000 * MS)


def test_a_sagging_joint_at_rest_is_not_taken_for_a_moved_one():
    neck = make_neck()
    neck.push_plan(*nods(1))
    neck.update(START)
    later = START + 6_000 * MS
    left_at = neck.sample(later)[0][0]
    see(neck, left_at + 0.05, later)
    neck.push_plan(*nods(2, begin_ns=later))
    assert neck.update(later)
    np.testing.assert_allclose(neck.sample(later)[0][0], left_at, atol=1e-12)


def test_a_servo_that_lags_is_not_taken_for_a_held_one():
    neck, now = following()
    lagging = neck.sample(now - 200 * MS)[0][0]
    see(neck, lagging, now)
    neck.push_plan(*nods(3, begin_ns=now))
    neck.update(now)
    assert neck.restarts == 0


def test_joints_measured_too_long_ago_are_no_place_to_start_from():
    neck = make_neck()
    later = START + 3_000 * MS
    neck.push_plan(*nods(3, begin_ns=later))
    assert not neck.update(later)
    see(neck, (0.1, 0.0, 0.0), later)
    assert neck.update(later)


def test_a_plan_that_is_over_is_refused_and_the_one_in_force_continues():
    neck, now = following()
    neck.update(now)
    before = neck.sample(now + np.arange(1_000) * MS)
    with pytest.raises(ValueError, match=r'the plan ended 5.0\d\d s ago'):
        neck.push_plan(*still(2, begin_ns=now - 7_000 * MS))
    assert not neck.update(now)
    np.testing.assert_array_equal(neck.sample(now + np.arange(1_000) * MS)[0], before[0])


def test_a_pause_of_the_stream_is_played_as_a_stop_that_began_with_it():
    neck, now = following()
    neck.update(now)
    later = now + 600 * MS
    before = neck.sample(now)
    neck.play_late(now, later)
    for old, new in zip(before[:3], neck.sample(now)[:3], strict=True):
        np.testing.assert_array_equal(new, old)
    assert np.abs(neck.sample(later)[1]).max() < 0.1
    assert neck.update(later), 'and then the plan is followed again'
    assert_within_limits(neck, now, later + 2_000 * MS)


def test_a_pause_while_the_head_stops_makes_the_stop_no_longer():
    neck, now = following()
    neck.disable(now)
    assert neck.update(now)
    neck.play_late(now + 500 * MS, now + 800 * MS)
    assert not neck.is_moving(now + 2_200 * MS)


def test_a_robot_without_feedback_is_taken_up_where_it_was_left():
    neck = Neck(ROBOT, NeckConfig(), needs_feedback=False)
    neck.push_plan(*still(1.5, neck=Rotation.from_rotvec([0.0, 0.0, 0.4]).as_quat()))
    neck.update(START)
    later = START + 4_000 * MS
    left_at = neck.sample(later)[0][0]
    assert left_at[0] > 0.1
    neck.disable(later)
    neck.enable(later + 1_000 * MS)
    neck.push_plan(*still(4.0, begin_ns=later + 1_000 * MS))
    assert neck.update(later + 1_000 * MS)
    np.testing.assert_allclose(neck.sample(later + 1_000 * MS)[0][0], left_at, atol=1e-12)


def test_an_update_that_came_too_late_is_undone():
    neck, now = following()
    neck.update(now)
    before = neck.sample(now + np.arange(1_000) * MS)
    neck.push_plan(*still(3, begin_ns=now))
    assert neck.update(now)
    neck.undo()
    np.testing.assert_array_equal(neck.sample(now + np.arange(1_000) * MS)[0], before[0])
    assert neck.update(now, 200 * MS), 'the plan is not forgotten'
    soon = now + np.arange(200) * MS
    np.testing.assert_array_equal(neck.sample(soon)[0], before[0][:200])


def test_the_motion_is_an_offset_on_the_base():
    neck = make_neck()
    neck.push_base(Rotation.from_rotvec([0.0, 0.0, 0.6]).as_quat())
    neck.push_plan(*still(4, neck=Rotation.from_rotvec([0.0, 0.2, 0.0]).as_quat()))
    neck.update(START)
    position = neck.sample(START + 2_300 * MS)[0][0]
    np.testing.assert_allclose(position, (0.6, 0.2, 0.0), atol=0.01)


def test_a_base_alone_is_looked_along():
    neck = make_neck()
    neck.push_base(Rotation.from_rotvec([0.0, 0.0, -0.4]).as_quat())
    assert neck.update(START)
    np.testing.assert_allclose(neck.sample(START + 2_300 * MS)[0][0], (-0.4, 0, 0), atol=0.01)
    assert not neck.update(START + 200 * MS)


def test_a_gain_makes_the_motion_smaller_not_the_base():
    neck = make_neck(gain=0.5)
    neck.push_base(Rotation.from_rotvec([0.0, 0.0, 0.6]).as_quat())
    neck.push_plan(*still(4, neck=Rotation.from_rotvec([0.0, 0.2, 0.0]).as_quat()))
    neck.update(START)
    position = neck.sample(START + 2_300 * MS)[0][0]
    np.testing.assert_allclose(position, (0.6, 0.1, 0.0), atol=0.01)


@pytest.mark.parametrize(
    ('part', 'value', 'message'),
    [
        (1, np.nan, 'neck must be finite quaternions'),
        (1, np.inf, 'neck must be finite quaternions'),
        (1, 0.0, 'neck must be finite quaternions'),
        (2, np.nan, 'jaw_open must be finite'),
    ],
)
def test_a_plan_that_is_no_motion_is_refused_and_the_one_in_force_goes_on(part, value, message):
    neck, now = following()
    plan = nods(2, begin_ns=now)
    plan[part][7] = value
    before = neck.sample(now + np.arange(1_000) * MS)
    with pytest.raises(ValueError, match=message):
        neck.push_plan(*plan)
    neck.update(now)
    np.testing.assert_array_equal(neck.sample(now + np.arange(1_000) * MS)[0], before[0])


def test_frames_out_of_order_are_refused():
    stamps, neck, jaw = nods(2)
    with pytest.raises(ValueError, match='in order of their stamps'):
        make_neck().push_plan(stamps[::-1], neck, jaw)
    with pytest.raises(ValueError, match='n > 0 stamps'):
        make_neck().push_plan([], np.zeros((0, 4)), [])


def test_a_base_that_is_no_orientation_is_refused():
    with pytest.raises(ValueError, match='base orientation must be finite quaternions'):
        make_neck().push_base([0.0, 0.0, 0.0, 0.0])


def test_without_a_solution_the_motion_in_force_goes_on():
    neck, now = following()
    before = neck.sample(now + np.arange(3_000) * MS)
    neck._limiter = dataclasses.make_dataclass('Fails', [])()
    neck._limiter.solve = lambda *_: None
    neck.push_plan(*still(3, begin_ns=now))
    neck.update(now)
    assert neck.failures == 3
    for old, new in zip(before, neck.sample(now + np.arange(3_000) * MS), strict=True):
        np.testing.assert_allclose(new, old, atol=1e-9)


def test_there_is_no_trajectory_before_there_is_motion():
    with pytest.raises(RuntimeError, match='call update'):
        make_neck().trajectory(START)


def test_the_orientation_commanded_is_the_one_wanted():
    neck, now = following()
    stamps, heads, _ = nods(8)
    i = int(np.searchsorted(stamps, now))
    np.testing.assert_allclose(neck.orientation(int(stamps[i])), heads[i], atol=0.01)


def test_before_any_motion_the_orientation_is_the_measured_one():
    neck = Neck(ROBOT, NeckConfig())
    assert neck.orientation(START) is None
    see(neck, (0.3, 0.0, 0.0), START)
    expected = Rotation.from_rotvec([0.0, 0.0, 0.3]).as_quat()
    np.testing.assert_allclose(neck.orientation(START), expected, atol=1e-12)
