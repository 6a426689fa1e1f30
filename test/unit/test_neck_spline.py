# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The spline is what a controller plays between the points that we send."""

from neck_moves import FOLDER
import numpy as np
import pytest

from timar_ros.retarget.robot import load_robot
from timar_ros.retarget.spline import Spline, quintic
from timar_ros.retarget.trajectory import rest_to_rest_ns, trajectory_of

KNOT_NS = 40_000_000
H = KNOT_NS / 1e9


def _spline(n_points=20, n_joints=3, first=1000, seed=0):
    control = np.random.default_rng(seed).normal(size=(n_points, n_joints))
    control[-3:] = control[-1]
    return Spline(first, KNOT_NS, control)


def test_the_controllers_quintic_through_our_points_is_our_spline():
    spline = _spline()
    knots = np.stack(spline.knots(spline.first, spline.last))  # [3, n, J]
    for i in range(spline.last - spline.first):
        time_s = np.linspace(0, H, 11)[:-1]
        played = quintic(knots[:, i], knots[:, i + 1], H, time_s)
        time_ns = spline.start_ns + i * KNOT_NS + np.round(time_s * 1e9).astype(np.int64)
        for ours, theirs, tolerance in zip(
            spline.sample(time_ns), played, (1e-12, 1e-10, 1e-8, 1e-6), strict=True
        ):
            np.testing.assert_allclose(theirs, ours, atol=tolerance, err_msg=f'interval {i}')


def test_a_quintic_meets_its_two_ends():
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, 3, 2))
    at_ends = quintic(start, end, 0.7, np.array([0.0, 0.7]))
    for order in range(3):
        np.testing.assert_allclose(at_ends[order], [start[order], end[order]], atol=1e-10)


def test_the_derivatives_are_those_of_the_position():
    spline = _spline()
    time_ns = spline.start_ns + np.arange(0, 10 * KNOT_NS, KNOT_NS // 1000)
    states = spline.sample(time_ns)
    for lower, upper, name in zip(
        states[:2], states[1:3], ('velocity', 'acceleration'), strict=True
    ):
        slope = np.gradient(lower, H / 1000, axis=0)[1:-1]
        np.testing.assert_allclose(
            slope, upper[1:-1], atol=np.abs(upper).max() * 2e-3, err_msg=name
        )


def test_control_points_bound_the_motion_everywhere():
    for seed in range(20):
        spline = _spline(seed=seed)
        time_ns = np.linspace(spline.start_ns, spline.end_ns - 1, 2000).astype(np.int64)
        position, velocity, acceleration, jerk = spline.sample(time_ns)
        control = spline.control
        assert np.all(position >= control.min(axis=0)) and np.all(position <= control.max(axis=0))
        for motion, order in ((velocity, 1), (acceleration, 2), (jerk, 3)):
            bound = np.abs(np.diff(control, order, axis=0)).max(axis=0) / H**order
            assert np.all(np.abs(motion) <= bound * (1 + 1e-9)), f'seed {seed}, order {order}'


def test_after_its_last_knot_a_motion_rests():
    spline = _spline()
    position, velocity, acceleration, jerk = spline.sample(
        spline.end_ns + np.array([0, 1, 10**12])
    )
    np.testing.assert_allclose(position, np.tile(spline.control[-1], (3, 1)), rtol=0, atol=1e-12)
    for motion in (velocity, acceleration, jerk):
        np.testing.assert_allclose(motion, np.zeros_like(motion), atol=1e-9)


def test_joining_keeps_what_lies_before_and_goes_on_smoothly():
    spline = _spline()
    control = spline.window(spline.first + 8, 12).copy()
    control[3:] += 0.5
    control[-3:] = control[-1]
    joined = spline.joined(spline.first + 2, spline.first + 8, control)
    before = spline.start_ns + np.arange(2 * KNOT_NS, 8 * KNOT_NS, KNOT_NS // 7)
    for ours, theirs in zip(spline.sample(before), joined.sample(before), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert joined.first == spline.first + 2


def test_a_trajectory_ends_with_one_point_of_rest():
    spline = _spline()
    control = np.concatenate([spline.control, np.tile(spline.control[-1], (30, 1))])
    spline = Spline(spline.first, KNOT_NS, control)
    trajectory = trajectory_of(spline, spline.first, spline.start_ns - KNOT_NS)
    assert (
        len(trajectory.position) == 18
    )  # 17 control points move: knots 0 .. 16; knot 17 sees rest
    np.testing.assert_array_equal(trajectory.velocity[-1], np.zeros(3))
    np.testing.assert_array_equal(trajectory.acceleration[-1], np.zeros(3))
    assert np.any(trajectory.velocity[-2] != 0)


def test_times_of_a_trajectory_begin_above_zero_and_rise():
    spline = _spline()
    trajectory = trajectory_of(spline, spline.first + 3, spline.start_ns)
    np.testing.assert_array_equal(np.diff(trajectory.time_from_start_ns), KNOT_NS)
    assert trajectory.time_from_start_ns[0] == 3 * KNOT_NS
    with pytest.raises(ValueError, match='must lie before the first knot'):
        trajectory_of(spline, spline.first, spline.start_ns)


def test_a_head_at_rest_is_sent_as_two_points():
    spline = Spline.rest(np.array([0.1, 0.2]), 50, KNOT_NS)
    trajectory = trajectory_of(spline, 50, 0)
    np.testing.assert_allclose(trajectory.position, [[0.1, 0.2], [0.1, 0.2]], rtol=1e-14)


@pytest.mark.parametrize('robot', ['stretch', 'nao', 'pan_tilt_roll'])
@pytest.mark.parametrize('distance', [0.001, 0.05, 0.4, 3.0])
def test_the_time_from_rest_to_rest_uses_one_limit_to_the_full_and_breaks_none(robot, distance):
    joints = load_robot(robot, FOLDER).joints[:1]
    duration_s = rest_to_rest_ns(joints, np.array([distance])) / 1e9
    start, end = np.zeros((3, 1)), np.array([[distance], [0.0], [0.0]])
    time_s = np.linspace(0, duration_s, 2_001)
    _, velocity, acceleration, jerk = quintic(start, end, duration_s, time_s)
    limits = ('velocity_rad_s', 'acceleration_rad_s2', 'jerk_rad_s3')
    used = [
        np.abs(motion).max() / getattr(joints[0], limit)
        for motion, limit in zip((velocity, acceleration, jerk), limits, strict=True)
    ]
    assert max(used) == pytest.approx(1.0, abs=1e-4)
