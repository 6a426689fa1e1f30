# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""No limit is broken in hundreds of hostile turns, as they are played (test/fuzz_neck.py)."""

import fuzz_neck
from neck_judge import NAMES, Judge, PlayedTrajectories, judge_targets
import numpy as np
import pytest

from timar_ros.retarget.robot import load_robot

MS = 1_000_000
ROBOT = load_robot('pan_tilt', fuzz_neck.FOLDER)


@pytest.fixture(scope='module')
def report():
    return fuzz_neck.fuzz(1_500, seed=20)


@pytest.mark.parametrize('limit', NAMES)
def test_what_is_sent_breaks_no_limit_as_it_is_played(report, limit):
    assert report['turns'] >= 1_500
    assert report[limit] <= 1 + 1e-6, report[f'{limit}_at']


@pytest.mark.parametrize('limit', ['position', 'velocity', 'acceleration', 'jerk'])
def test_wild_plans_use_the_limits_to_the_full(report, limit):
    assert report[limit] > 0.99


@pytest.mark.parametrize('what', ['refused', 'stops', 'restarts', 'late', 'pauses'])
def test_each_kind_of_trouble_occurs(report, what):
    assert report[what] >= 5


def test_the_solver_hardly_ever_finds_no_motion(report):
    # Where it finds none the motion in force continues; that is a plan missed, no limit broken.
    assert report['failures'] <= 5


def _state(position, velocity=0.0, acceleration=0.0):
    return np.array([[position, 0.0], [velocity, 0.0], [acceleration, 0.0]])


@pytest.mark.parametrize(
    ('end', 'limit'),
    [
        (_state(0.4, 0.0, 0.0), 'velocity'),
        (_state(0.02, 1.0, 100.0), 'acceleration'),
        (_state(0.02, 0.0, 0.0), 'jerk'),
        (_state(1.3, 0.0, 0.0), 'position'),
    ],
)
def test_the_judge_of_trajectories_sees_each_limit_broken(end, limit):
    judge = Judge(ROBOT)
    judge.judge_quintics(_state(0.0)[None], end[None], np.array([0.1]), 0, judge.judge_positions)
    assert judge.shares[limit] > 1.1


def test_the_judge_sees_a_trajectory_that_does_not_go_on_from_the_one_before():
    judge = Judge(ROBOT)
    played = PlayedTrajectories(judge, np.zeros(2), 60 * MS)
    knots = np.array([0, 1_000, 2_000]) * MS
    played.receive(knots + 100 * MS, np.stack([_state(0.0)] * 3), 0)
    assert judge.shares['jump'] == 0.0
    played.receive(knots, np.stack([_state(1e-3)] * 3), 500 * MS)
    assert judge.shares['jump'] > 1e3


def test_the_judge_sees_the_way_to_a_first_point_that_is_too_near():
    judge = Judge(ROBOT)
    played = PlayedTrajectories(judge, np.zeros(2), 60 * MS)
    played.receive(np.array([100, 140]) * MS, np.stack([_state(0.3)] * 2), 0)
    assert judge.shares['velocity'] > 1.1


@pytest.mark.parametrize(
    ('position', 'velocity', 'gap_ms', 'limits'),
    [
        (0.05, 0.0, 10, {'velocity', 'arrival'}),
        (0.0, 1.0, 10, {'acceleration', 'jerk'}),
        (1.3, 0.0, 3_000, {'position'}),
        (0.0, 4.0, 3_000, {'velocity'}),
    ],
)
def test_the_judge_of_targets_sees_each_limit_broken(position, velocity, gap_ms, limits):
    judge = Judge(ROBOT)
    times = [0, 10, 20, 20 + gap_ms]
    values = [(0.0, 0.0)] * 3 + [(position, velocity)]
    targets = [
        (time * MS, time * MS, np.array([p, 0.0]), np.array([v, 0.0]))
        for time, (p, v) in zip(times, values, strict=True)
    ]
    judge_targets(judge, targets)
    assert {name for name in NAMES if judge.shares[name] > 1.01} >= limits
    judge = Judge(ROBOT)
    judge_targets(judge, targets[:3])
    assert all(share <= 1 for share in judge.shares.values())


def test_a_joint_that_begins_outside_may_come_in_but_not_go_out_again():
    upper = ROBOT.joints[0].upper_rad
    judge = Judge(ROBOT)
    path = np.array([[upper + 0.1, 0.0], [upper + 0.05, 0.0], [upper, 0.0]])
    judge.judge_positions(path, 0)
    assert judge.shares['position'] <= 1
    judge.judge_positions(np.array([[upper + 0.01, 0.0]]), 0)
    assert judge.shares['position'] > 1.001
