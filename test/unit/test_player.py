# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a robot is sent keeps its limits, however clocks are set and processes are stopped."""

from neck_judge import NAMES, Judge, PlayedTrajectories, judge_targets
from neck_moves import MS, ROBOT, START, nods
import numpy as np
import pytest

from timar_ros.retarget.neck import Neck, NeckConfig
from timar_ros.retarget.player import NeckPlayer

PERIOD_NS = 10 * MS


class Stage:
    """A player, its clocks and joints that follow; `sent` has what it sent and when, steady."""

    def __init__(self, period_ns=None):
        self.ros_ns, self.steady_ns = START, 5 * MS
        self.slow_ns = []  # what the next readings of the clocks wait for
        self.behind_ns = 0  # by how much the clock of the robot's own machine is behind
        self.neck = Neck(ROBOT, NeckConfig())
        self.player = NeckPlayer(self.neck, self.read_clocks, period_ns)
        self.sent = []
        self.is_streamed = period_ns is not None

    def read_clocks(self):
        self.wait(self.slow_ns.pop(0) if self.slow_ns else 0)
        return self.ros_ns, self.steady_ns, False

    def wait(self, duration_ns):
        self.ros_ns += duration_ns
        self.steady_ns += duration_ns

    def step(self):
        """Let 10 ms pass with everything that happens in them."""
        self.wait(PERIOD_NS)
        motion_ns = self.player.now_ns()
        played = self.neck.sample(motion_ns - 60 * MS)
        position = np.zeros(3) if played is None else played[0][0]
        stamp_ns = self.ros_ns - self.behind_ns
        self.player.see_joints(ROBOT.joint_names, position, stamp_ns)
        if self.steady_ns // PERIOD_NS % 20 == 0:
            begin_ns = self.ros_ns // (40 * MS) * 40 * MS + 120 * MS
            stamps, heads, jaw = nods(2, 0.35, 1.5, begin_ns=begin_ns)
            self.player.push_plan(stamps, heads, jaw)
        if self.steady_ns // PERIOD_NS % 5 == 0:
            if self.is_streamed:
                self.player.update()
            else:
                self.player.update(lambda trajectory: trajectory, self._send)
        if self.is_streamed:
            self._send_target()

    def run(self, seconds):
        for _ in range(round(seconds * 100)):
            self.step()

    def _send(self, trajectory):
        self.sent.append((self.steady_ns, self.ros_ns, trajectory))

    def _send_target(self):
        target = self.player.target()
        if target is not None:
            self.player.sent()
            self.keep(target)

    def keep(self, target):
        """Keep a target: the steady time of its stamp by the clock now, its arrival, its state."""
        stamp_ns = target.stamp_ns - self.ros_ns + self.steady_ns
        self.sent.append((stamp_ns, self.steady_ns, target.position, target.velocity))

    def judged(self) -> dict:
        """Return the shares of the limits that were used."""
        judge = Judge(ROBOT)
        if self.is_streamed:
            judge_targets(judge, self.sent)
            return judge.shares
        played = PlayedTrajectories(judge, np.zeros(3), 60 * MS)
        for steady_ns, ros_ns, trajectory in self.sent:
            knots = trajectory.stamp_ns + trajectory.time_from_start_ns - ros_ns + steady_ns
            states = np.stack(
                [trajectory.position, trajectory.velocity, trajectory.acceleration], axis=1
            )
            played.receive(knots, states, steady_ns + MS)
        played.finish(self.steady_ns)
        return judge.shares


def _assert_limits_kept(stage):
    shares = stage.judged()
    assert {name: share for name, share in shares.items() if share > 1 + 1e-6} == {}
    assert shares['velocity'] > 0.5, 'it nods'


@pytest.mark.parametrize('period_ns', [None, PERIOD_NS], ids=['trajectory', 'targets'])
@pytest.mark.parametrize('step_s', [0.2, -0.2, 0.5, -0.9, 5.0, -5.0, 10**9, -(10**6)])
def test_a_clock_that_is_set_in_mid_motion_does_not_throw_the_head(step_s, period_ns):
    stage = Stage(period_ns)
    stage.run(2.53)
    stage.ros_ns += int(step_s * 1e9)
    stage.run(1.5)
    _assert_limits_kept(stage)
    newest = stage.sent[-1]
    ahead_ns = newest[0] - stage.steady_ns if period_ns else newest[2].stamp_ns - stage.ros_ns
    assert abs(ahead_ns) < 300 * MS, 'stamps follow the clock'


@pytest.mark.parametrize('pause_s', [0.06, 0.1, 0.3, 0.6, 3.0])
def test_a_process_that_was_stopped_goes_on_from_its_last_target(pause_s):
    stage = Stage(PERIOD_NS)
    stage.run(2.53)
    stage.wait(int(pause_s * 1e9))
    n = len(stage.sent)
    stage.run(1.5)
    _assert_limits_kept(stage)
    assert stage.player.n_pauses == 1
    if pause_s > 0.5:
        assert np.abs(stage.sent[n][3]).max() < 0.1, 'it has come to rest meanwhile'


@pytest.mark.parametrize('n_before', [0, 1, 2])
def test_a_process_that_was_stopped_before_its_first_targets_does_not_throw_the_head(n_before):
    stage = Stage(PERIOD_NS)
    while not stage.neck.has_begun or len(stage.sent) < n_before:
        if not n_before:
            stage._send_target = lambda: None
        stage.step()
    stage._send_target = lambda: Stage._send_target(stage)
    stage.wait(1_300 * MS)
    stage.run(0.01)
    np.testing.assert_array_equal(stage.sent[n_before][2], 0.0)  # where the joints are
    stage.run(2.0)
    _assert_limits_kept(stage)
    assert np.ptp([target[2] for target in stage.sent], axis=0).max() > 0.2, 'it nods'


@pytest.mark.parametrize('delay_ms', [4, 30, 300, 600])
def test_a_target_that_came_out_late_is_gone_on_from(delay_ms):
    stage = Stage(PERIOD_NS)
    stage.run(2.53)
    before = len(stage.sent)
    stage.wait(PERIOD_NS)
    target = stage.player.target()
    stage.wait(delay_ms * MS)
    stage.player.sent()
    stage.keep(target)
    stage.run(1.0)
    shares = stage.judged()
    assert shares['arrival'] <= 1 and shares['position'] <= 1
    assert shares['velocity'] <= 1 and shares['acceleration'] <= 1
    step = np.abs(stage.sent[before + 1][2] - target.position).max()
    assert step <= 3.0 * PERIOD_NS / 1e9 * 1.1


def test_a_process_that_was_stopped_where_no_stop_is_found_goes_on_from_its_last_target(
    monkeypatch,
):
    stage = Stage(PERIOD_NS)
    stage.run(2.53)
    n, solve = len(stage.sent), stage.neck._limiter.solve
    monkeypatch.setattr(stage.neck._limiter, 'solve', lambda *_: None)
    stage.wait(600 * MS)
    stage.step()
    monkeypatch.setattr(stage.neck._limiter, 'solve', solve)
    stage.run(2.0)
    before, after = stage.sent[n - 1], stage.sent[n]
    np.testing.assert_allclose(after[2], before[2] + before[3] * PERIOD_NS / 1e9, atol=1e-3)
    assert np.abs(after[3]).max() > 0.3, 'it moves'
    _assert_limits_kept(stage)


def test_the_very_first_target_may_be_late():
    stage = Stage(PERIOD_NS)
    while not stage.neck.has_begun or stage.neck.sample(stage.player.now_ns())[1][0, 1] < 0.5:
        stage._send_target = lambda: None
        stage.step()
    for delay_ms in (400, 0, 0, 0):
        target = stage.player.target()
        stage.wait(delay_ms * MS)
        stage.player.sent()
        stage.keep(target)
        stage.wait(PERIOD_NS)
        stage.player.update()
    assert stage.judged()['arrival'] <= 1


def test_targets_that_always_take_long_to_send_slow_no_motion():
    stage = Stage(PERIOD_NS)
    stage.is_streamed = False  # sent here instead
    stage._send = lambda trajectory: None
    for _ in range(300):
        stage.step()
        target = stage.player.target()
        stage.wait(4 * MS)
        if target is not None:
            stage.player.sent()
    assert stage.player.n_pauses == 0
    assert target.stamp_ns == stage.ros_ns - 4 * MS
    assert stage.player.now_ns() > START + stage.steady_ns - 10 * MS


def test_a_stream_that_is_always_slow_does_not_pause():
    stage = Stage(PERIOD_NS)
    for _ in range(60):
        stage.step()
        stage.wait(90 * MS)
    assert stage.player.n_pauses <= 3, 'once it is known to be slow it plays on'


@pytest.mark.parametrize('solve_ms', [20, 60, 100])
def test_a_solution_that_comes_too_late_to_be_sent_is_found_again_further_ahead(solve_ms):
    stage = Stage()
    stage.run(2.5)
    n = len(stage.sent)
    while stage.steady_ns // PERIOD_NS % 20 != 19:
        stage.step()
    # Joints, plan, update: then the time that the solution took.
    stage.slow_ns = [0, 0, 0, 0, solve_ms * MS]
    stage.step()
    stage.run(0.3)
    assert len(stage.sent) > n
    stage.run(1.0)
    _assert_limits_kept(stage)
    assert stage.player.n_late == (solve_ms > 30)


def test_a_measurement_is_taken_at_its_stamp_unless_that_cannot_be():
    stage = Stage()
    seen = []
    stage.neck.see_joints = lambda names, positions, *times: seen.append(times)
    for stamp_ns in (START - 200 * MS, START - 5_000 * MS, START + 1, 0):
        stage.player.see_joints(ROBOT.joint_names, np.zeros(3), stamp_ns)
    measured = [START - 200 * MS, START, START, START]
    assert seen == [(time_ns, START) for time_ns in measured]


@pytest.mark.parametrize('behind_ms', [300, 500, 900, 3_600_000, -400])
def test_joints_of_a_machine_whose_clock_is_off_are_where_they_were_sent(behind_ms):
    stage = Stage(PERIOD_NS)
    stage.behind_ns = behind_ms * MS
    stage.run(4.0)
    assert np.ptp([sent[2][1] for sent in stage.sent]) > 0.3, 'it nods'
    assert stage.neck.restarts == 0


def test_a_held_head_is_noticed_though_the_clock_of_its_machine_is_behind():
    stage = Stage(PERIOD_NS)
    stage.behind_ns = 300 * MS
    stage.run(2.0)
    see, held = stage.player.see_joints, np.array([0.0, 0.5, 0.0])
    stage.player.see_joints = lambda names, _, stamp_ns: see(names, held, stamp_ns)
    stage.run(1.5)
    assert stage.neck.restarts > 0


def test_every_limit_is_judged():
    assert set(Stage(PERIOD_NS).judged()) == set(NAMES)
