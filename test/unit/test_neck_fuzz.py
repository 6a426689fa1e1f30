# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""No limit is broken in hundreds of hostile turns, as they are played (test/fuzz_neck.py)."""

import fuzz_neck
from neck_judge import NAMES, Judge, PlayedTrajectories, judge_targets
import numpy as np
import pytest

from timar_ros.retarget.feedback import Feedback
from timar_ros.retarget.joint_check import JointCheck
from timar_ros.retarget.limit import Limiter
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


@pytest.mark.parametrize('moved', [None, np.array([0.5, 0.0])])
@pytest.mark.parametrize('is_shown', [False, True])
@pytest.mark.parametrize('is_own', [False, True])
def test_a_way_from_afar_is_excused_only_where_measurements_lied(moved, is_shown, is_own):
    judge = Judge(ROBOT)
    played = PlayedTrajectories(judge, np.array([0.5, 0.0]), 60 * MS)
    if is_own:
        knots = np.array([600, 640]) * MS
        assert not played.receive(knots, np.stack([_state(0.5)] * 2), 0, moved, True)
    assert max(judge.shares.values()) <= 1
    knots = np.array([1_100, 1_140]) * MS
    is_excused = played.receive(knots, np.stack([_state(0.0)] * 2), 1_000 * MS, moved, is_shown)
    assert (judge.shares['velocity'] > 1) == (is_own or not is_shown)
    # What was sent before is known; where a hand has led the joints is not.
    assert is_excused == (is_shown and not (is_own and moved is None))


def test_a_way_to_a_first_point_stays_in_the_range_between_its_ends():
    upper = ROBOT.joints[0].upper_rad
    judge = Judge(ROBOT)
    played = PlayedTrajectories(judge, np.zeros(2), 0)
    played._before = (0, _state(upper - 0.1, 2.0))  # on its way to the end of its range
    rest = np.stack([_state(upper - 0.1)] * 2)
    played.receive(np.array([500, 540]) * MS, rest, 0)
    assert judge.shares['position'] > 1.01


def test_nothing_may_begin_further_outside_its_range_than_joints_are_believed():
    upper = ROBOT.joints[0].upper_rad
    for beyond_rad, is_broken in ((0.19, False), (0.21, True)):
        judge = Judge(ROBOT)
        judge.judge_positions(np.array([[upper + beyond_rad, 0.0]]), 0)
        assert (judge.shares['position'] > 1) == is_broken


def _stream(times_ms, positions, velocities, delays_ms=None):
    delays_ms = [0] * len(times_ms) if delays_ms is None else delays_ms
    return [
        (t * MS, (t + delay) * MS, np.array([p, 0.0]), np.array([v, 0.0]))
        for t, delay, p, v in zip(times_ms, delays_ms, positions, velocities, strict=True)
    ]


@pytest.mark.parametrize(('gap_ms', 'is_broken'), [(900, False), (1_200, True)])
def test_a_stream_that_leaps_ahead_in_a_long_gap_is_seen(gap_ms, is_broken):
    judge = Judge(ROBOT)
    judge_targets(judge, _stream([0, 10, 10 + gap_ms], [0.0, 0.0, 0.3], [0.0, 0.0, 0.2]))
    assert (judge.shares['arrival'] > 1) == is_broken


@pytest.mark.parametrize(('delay_ms', 'is_broken'), [(0, True), (60, False)])
def test_jerk_is_judged_across_a_pause_but_not_where_a_target_was_held_back(delay_ms, is_broken):
    judge = Judge(ROBOT)
    times = [0, 10, 20, 80, 90, 100]
    velocities = [0.6, 0.6, 0.6, 0.12, 0.2, 0.28]
    delays = [0, 0, 0, delay_ms, 0, 0]
    judge_targets(judge, _stream(times, np.zeros(6), velocities, delays))
    assert judge.shares['acceleration'] <= 1
    assert (judge.shares['jerk'] > 1) == is_broken


def _no_limits(monkeypatch):
    def solve(_, joint, previous, target):
        control = previous.copy()
        control[3 : len(target) + 1] = target[2:]
        control[len(target) + 1 :] = target[-1]
        return control

    monkeypatch.setattr('timar_ros.retarget.limit.Limiter.solve', solve)


def _too_fast(monkeypatch):
    right = Limiter.bounds
    monkeypatch.setattr(Limiter, 'bounds', lambda self, joint: 1.01 * right(self, joint))


def _one_sample(monkeypatch):
    monkeypatch.setattr(Feedback, 'at_rest', lambda self, now_ns: self.latest())


def _where_it_was_sent(monkeypatch):
    monkeypatch.setattr(JointCheck, 'start', lambda self, now_ns, reference: reference)


def _stamps_that_do_not_follow_the_clock(monkeypatch):
    monkeypatch.setattr('timar_ros.retarget.motion_clock._SET_NS', 10**30)


@pytest.mark.parametrize(
    'spoil',
    [_no_limits, _too_fast, _one_sample, _where_it_was_sent, _stamps_that_do_not_follow_the_clock],
)
def test_the_fuzz_sees_a_neck_that_is_spoilt(spoil, monkeypatch):
    spoil(monkeypatch)
    known = fuzz_neck.robots()
    for number in range(20):
        judge = fuzz_neck.Conversation(known, (20, number), fuzz_neck.new_report()).run()
        if fuzz_neck.broken(judge.shares):
            return
    pytest.fail(f'{20 * fuzz_neck.TURNS_A_CONVERSATION} turns broke no limit')


def test_a_conversation_that_raises_is_noted_and_the_rest_is_played(monkeypatch):
    def run(self):
        self.report['turns'] += 1
        raise IndexError('no such knot')

    monkeypatch.setattr(fuzz_neck.Conversation, 'run', run)
    report = fuzz_neck.fuzz(3, seed=5)
    assert [numbers for numbers, _ in report['broken']] == [(5, 0), (5, 1), (5, 2)]
    assert 'no such knot' in report['broken'][0][1]


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
