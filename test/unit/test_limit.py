# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The closest motion inside the limits: no delay, no limit broken, always a rest at the end."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from timar_ros.retarget.limit import Limiter
from timar_ros.retarget.robot import load_robot

FOLDER = Path(__file__).parents[2] / 'config' / 'robots'
N = 50
H = 0.04


@pytest.fixture(scope='module')
def limiter():
    return Limiter(N, H, 8.0)


@pytest.fixture(scope='module')
def joint():
    return load_robot('pan_tilt', FOLDER).joints[0]


def _rest(position=0.0):
    return np.full(N + 3, position)


def _knots(control):
    return (control[:-2] + 4 * control[1:-1] + control[2:]) / 6


def _worst(joint, control):
    """Return how much of each limit is used, 1 = all; bounds of the spline hold everywhere."""
    middle = (joint.lower_rad + joint.upper_rad) / 2
    return np.array([
        np.abs(control - middle).max() / (joint.upper_rad - middle),
        np.abs(np.diff(control)).max() / H / joint.velocity_rad_s,
        np.abs(np.diff(control, 2)).max() / H**2 / joint.acceleration_rad_s2,
        np.abs(np.diff(control, 3)).max() / H**3 / joint.jerk_rad_s3,
    ])  # fmt: skip


def test_a_slow_motion_inside_the_limits_comes_out_as_it_was(limiter, joint):
    time_s = np.arange(1, N + 1) * H
    target = 0.2 * (1 - np.cos(2 * np.pi * 0.5 * time_s))  # back at rest after 2 s
    solved = limiter.solve(joint, _rest(), target)
    np.testing.assert_allclose(_knots(solved)[1:], target, atol=2e-3)


def test_motion_of_the_smoothing_frequency_comes_out_half_as_large(joint):
    limiter = Limiter(200, H, 5.0)
    loose = dataclasses.replace(joint, acceleration_rad_s2=1e4, jerk_rad_s3=1e6)
    time_s = np.arange(1, 201) * H
    target = 0.1 * np.sin(2 * np.pi * 5.0 * time_s)
    solved = _knots(limiter.solve(loose, np.zeros(203), target))[1:]
    middle = slice(60, 140)
    np.testing.assert_allclose(solved[middle], target[middle] / 2, atol=1e-3)


def test_the_start_is_kept_and_the_end_rests(limiter, joint):
    rng = np.random.default_rng(0)
    before = limiter.solve(joint, _rest(0.3), rng.normal(size=N))
    previous = np.concatenate([before[7:], np.full(7, before[-1])])
    solved = limiter.solve(joint, previous, rng.normal(size=N))
    np.testing.assert_array_equal(solved[:3], previous[:3])
    assert solved[-1] == solved[-2] == solved[-3]


def test_a_step_uses_a_limit_to_the_full_and_breaks_none(limiter, joint):
    used = _worst(joint, limiter.solve(joint, _rest(-1.0), np.full(N, 1.0)))
    assert np.all(used <= 1.0)
    assert np.all(used[1:] > 0.99)


def test_a_joint_outside_its_range_comes_back_and_goes_no_further(limiter, joint):
    outside = joint.upper_rad + 0.1
    solved = limiter.solve(joint, _rest(outside), np.full(N, joint.upper_rad + 1.0))
    assert solved.max() <= outside
    solved = limiter.solve(joint, _rest(outside), np.zeros(N))
    assert solved.max() <= outside
    np.testing.assert_allclose(solved[-1], 0.0, atol=1e-3)


def test_the_motion_in_force_is_the_answer_when_it_is_what_is_wanted(limiter, joint):
    rng = np.random.default_rng(1)
    before = limiter.solve(joint, _rest(), 0.1 * np.cumsum(rng.normal(size=N)))
    again = limiter.solve(joint, before, _knots(before)[1:])
    np.testing.assert_allclose(again, before, atol=0.02)


@pytest.mark.parametrize('robot', ['stretch', 'tiago', 'nao'])
@pytest.mark.parametrize('frequency_hz', [0.5, 1.0, 2.0])
def test_a_limited_motion_has_no_lag(robot, frequency_hz):
    long = Limiter(250, H, 8.0)
    joint = load_robot(robot, FOLDER).joints[0]
    time_s = np.arange(1, 251) * H
    target = 0.35 * np.sin(2 * np.pi * frequency_hz * time_s + 0.3)
    solved = _knots(long.solve(joint, np.zeros(253), target))[1:]
    fine = np.arange(2.0, 8.0, 0.001)
    reference = np.interp(fine, time_s, target)
    lags_ms = np.arange(-60, 61)
    match = [np.dot(np.interp(fine + lag / 1000, time_s, solved), reference) for lag in lags_ms]
    assert abs(lags_ms[int(np.argmax(match))]) < 10


def test_limits_that_cannot_be_reached_are_said_at_once():
    with pytest.raises(ValueError, match='smoothing_hz must lie between 0 and half the knot rate'):
        Limiter(N, H, 20.0)
    with pytest.raises(ValueError, match='n_knots must be at least 8'):
        Limiter(3, H, 8.0)
