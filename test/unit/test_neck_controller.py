# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Minutes of conversation through a joint_trajectory_controller: accepted, smooth, in limits."""

from types import SimpleNamespace

from controller_double import ControllerDouble
from neck_moves import FOLDER, FRAME, MS, see
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from timar_ros.retarget.neck import Neck, NeckConfig
from timar_ros.retarget.orientation import joints_of
from timar_ros.retarget.robot import load_robot

START = 10**9 * FRAME // 1000 * 1000
SECOND_NS = 10**9


def _time(nanoseconds):
    return SimpleNamespace(sec=int(nanoseconds) // SECOND_NS, nanosec=int(nanoseconds) % SECOND_NS)


def _message(robot, trajectory):
    points = [
        SimpleNamespace(
            positions=list(p), velocities=list(v), accelerations=list(a), effort=[],
            time_from_start=_time(t),
        )
        for t, p, v, a in zip(
            trajectory.time_from_start_ns, trajectory.position, trajectory.velocity,
            trajectory.acceleration, strict=True,
        )
    ]  # fmt: skip
    header = SimpleNamespace(stamp=_time(trajectory.stamp_ns))
    return SimpleNamespace(header=header, joint_names=list(robot.joint_names), points=points)


def _conversation(seconds, seed=0):
    """
    Return stamps and heads like those of the recorded conversations at hand.

    Spread 0.06 (roll), 0.08 (pitch), 0.25 (yaw) rad, falling with frequency above 0.3 Hz, with
    bursts of nods at 2.5 Hz.
    """
    n = seconds * 25
    frequency = np.fft.rfftfreq(n, 0.04)
    spectrum = np.fft.rfft(np.random.default_rng(seed).normal(size=(n, 3)), axis=0)
    slow = np.fft.irfft(spectrum / (1 + (frequency[:, None] / 0.3) ** 2), n, axis=0)
    rotvec = slow / slow.std(axis=0) * [0.06, 0.08, 0.25]
    time_s = np.arange(n) * 0.04
    burst = np.clip(np.sin(2 * np.pi * time_s / 7) - 0.6, 0, None)
    rotvec[:, 1] += 0.4 * burst * np.sin(2 * np.pi * 2.5 * time_s)
    return START + np.arange(n) * FRAME, Rotation.from_rotvec(rotvec).as_quat()


class _Session:
    """A neck, its controller and the servos behind it, all living through the same minutes."""

    def __init__(self, robot_name, from_measured=False, lag_ms=60, period_ms=10):
        self.robot = load_robot(robot_name, FOLDER)
        joints = np.zeros(len(self.robot.joints))
        self.neck = Neck(self.robot, NeckConfig())
        see(self.neck, joints, START, self.robot.joint_names)
        self.controller = ControllerDouble(
            self.robot.joint_names, joints, period_ms * MS, from_measured, lag_ms * MS
        )
        self.period_ns = period_ms * MS
        self.now = START
        self.rng = np.random.default_rng(1)
        self.times, self.states, self.n_messages = [], [], 0
        self.held_at = None  # where somebody holds the joints

    def run(self, seconds, stamps=None, heads=None, latency_ms=60):
        """Plan at 5 Hz, two seconds ahead; a message takes up to 15 ms."""
        until = self.now + int(seconds * SECOND_NS)
        next_plan, arrival, message = self.now, None, None
        while self.now < until:
            if self.now >= next_plan:
                if stamps is not None:
                    ahead = (stamps >= next_plan + 120 * MS) & (stamps < next_plan + 2 * SECOND_NS)
                    self.neck.push_plan(stamps[ahead], heads[ahead], np.zeros(ahead.sum()))
                moment = self.now + latency_ms * MS
                if self.neck.update(moment):
                    trajectory = self.neck.trajectory(moment)
                    message = _message(self.robot, trajectory)
                    arrival = moment + int(self.rng.integers(15)) * MS
                    self.n_messages += 1
                next_plan += 200 * MS
            if arrival is not None and self.now >= arrival:
                self.controller.receive(message, self.now)
                arrival = None
            state = self.controller.update(self.now)
            measured = self.controller.measured[0] if self.held_at is None else self.held_at
            self.neck.see_joints(self.robot.joint_names, measured, self.now)
            self.states.append(state)
            self.times.append(self.now + self.period_ns)
            self.now += self.period_ns

    def played(self):
        """Return times `[T]` and position to jerk `[T, 4, J]` that were commanded."""
        return np.array(self.times), np.array(self.states)


def _assert_smooth_and_within_limits(session, slack=1e-6):
    _, states = session.played()
    dt = session.period_ns / 1e9
    for i, joint in enumerate(session.robot.joints):
        position, velocity, acceleration, jerk = states[:, :, i].T
        limits = (joint.velocity_rad_s, joint.acceleration_rad_s2, joint.jerk_rad_s3)
        assert position.min() >= joint.lower_rad and position.max() <= joint.upper_rad, joint.name
        for motion, limit in zip((velocity, acceleration, jerk), limits, strict=True):
            assert np.abs(motion).max() <= limit * (1 + slack), joint.name
        # Nothing jumps between two cycles further than the next derivative allows.
        for motion, limit in zip((position, velocity, acceleration), limits, strict=True):
            assert np.abs(np.diff(motion)).max() <= limit * dt * (1 + slack), joint.name


def _lag_ms(session, stamps, heads, joint):
    times, states = session.played()
    wanted = joints_of(session.robot, heads, np.zeros(len(heads)))[:, joint]
    since = times > START + 3 * SECOND_NS
    seconds, played = (times[since] - START) / 1e9, states[since, 0, joint]
    fine = np.arange(seconds[0] + 1, seconds[-1] - 1, 0.001)
    wanted = np.interp(fine, (stamps - START) / 1e9, wanted)
    lags = np.arange(-40, 41)
    shifted = np.stack([np.interp(fine + lag / 1000, seconds, played) for lag in lags])
    shifted = shifted - shifted.mean(axis=1, keepdims=True)
    match = shifted @ (wanted - wanted.mean()) / np.linalg.norm(shifted, axis=1)
    return int(lags[np.argmax(match)])


@pytest.mark.parametrize(
    ('robot', 'from_measured', 'lag_ms'),
    [('pan_tilt_roll', True, 60), ('tiago', False, 60), ('pan_tilt_roll', True, 150)],
)
def test_two_minutes_through_a_controller_are_smooth(robot, from_measured, lag_ms):
    stamps, heads = _conversation(125)
    session = _Session(robot, from_measured, lag_ms)
    session.run(120, stamps, heads)
    assert session.n_messages >= 595
    assert session.neck.restarts == 0
    _assert_smooth_and_within_limits(session)


@pytest.mark.parametrize('from_measured', [True, False])
def test_a_controller_at_500_hz_keeps_all_limits(from_measured):
    stamps, heads = _conversation(25, seed=2)
    session = _Session('pan_tilt_roll', from_measured, period_ms=2)
    session.run(20, stamps, heads)
    _assert_smooth_and_within_limits(session)


@pytest.mark.parametrize('from_measured', [True, False])
def test_a_head_that_is_held_and_let_go_is_never_thrown(from_measured):
    stamps, heads = _conversation(40, seed=5)
    session = _Session('pan_tilt_roll', from_measured)
    session.run(6, stamps, heads)
    session.held_at = np.array([0.8, -0.3, 0.2])
    session.run(8, stamps, heads)
    assert session.neck.restarts >= 2
    session.held_at = None
    session.run(8, stamps, heads)
    _assert_smooth_and_within_limits(session)


@pytest.mark.parametrize('from_measured', [True, False])
def test_a_start_far_from_the_last_command_takes_the_time_that_the_limits_need(from_measured):
    session = _Session('pan_tilt_roll', from_measured)
    stamps, heads = _conversation(30, seed=6)
    session.run(4, stamps, heads)
    session.neck.disable(session.now)
    session.run(4)
    moved = session.controller.measured[0] + [1.0, 0.0, 0.0]  # by hand, with the motors off
    session.controller.measured = np.stack([moved, np.zeros(3), np.zeros(3)])
    session.held_at = moved
    session.run(1)
    session.neck.enable(session.now)
    session.run(1.2, stamps, heads)
    if from_measured:
        session.controller.measured[0] = moved
    session.held_at = None
    session.run(6, stamps, heads)
    if not from_measured:
        _assert_smooth_and_within_limits(session)
    _, states = session.played()
    assert np.abs(states[-400:, 0, 0]).max() < 1.0


@pytest.mark.parametrize('joint', [0, 1])
def test_what_the_joints_do_does_not_lag_behind_the_plan(joint):
    stamps, heads = _conversation(45, seed=3)
    session = _Session('tiago')
    session.run(40, stamps, heads)
    assert abs(_lag_ms(session, stamps, heads, joint)) < 10


def test_stops_losses_and_new_starts_are_smooth_on_the_joints():
    stamps, heads = _conversation(65, seed=4)
    session = _Session('pan_tilt_roll')
    for _ in range(4):
        session.run(6.3, stamps, heads)
        session.neck.disable()
        session.run(0.9)
        session.neck.enable(session.now)
        session.run(3.7, stamps, heads)
        session.run(2.6)  # nothing comes any more
    _assert_smooth_and_within_limits(session)
    _, states = session.played()
    np.testing.assert_allclose(states[-1, 1:], np.zeros((3, 3)), atol=1e-9)


def test_a_controller_gets_the_unplayed_rest_with_each_trajectory():
    stamps, heads = _conversation(10)
    session = _Session('tiago')
    session.run(4, stamps, heads)
    now = session.now + 60 * MS
    session.neck.push_plan(stamps[-100:], heads[-100:], np.zeros(100))
    session.neck.update(now)
    trajectory = session.neck.trajectory(now)
    assert trajectory.stamp_ns + trajectory.time_from_start_ns[0] <= now


def test_the_double_forgets_the_old_trajectory():
    session = _Session('tiago')
    stamps, heads = _conversation(10)
    session.run(4, stamps, heads)
    at = session.now + 300 * MS
    before = session.controller._sample(at)[0]
    message = _message(session.robot, session.neck.trajectory(session.now))
    del message.points[:15]  # the part that is played now: a mistake
    session.controller.receive(message, session.now)
    session.controller.update(session.now)
    assert np.abs(session.controller._sample(at)[0] - before).max() > 1e-3


@pytest.mark.parametrize('from_measured', [True, False])
def test_the_double_interpolates_from_where_the_controller_does(from_measured):
    session = _Session('tiago', from_measured, period_ms=2)
    stamps, heads = _conversation(10)
    session.run(3, stamps, heads)
    controller = session.controller
    commanded, measured = controller._commanded[1], controller.measured
    assert np.abs(commanded[0] - measured[0]).max() > 1e-3, 'the servo is behind'
    message = _message(session.robot, session.neck.trajectory(session.now))
    del message.points[:10]
    controller.receive(message, session.now)
    controller.update(session.now)
    np.testing.assert_array_equal(controller._before[1], measured if from_measured else commanded)


@pytest.mark.parametrize(
    ('spoil', 'refusal'),
    [
        (lambda m: m.joint_names.pop(), "don't match"),
        (lambda m: m.points.clear(), 'empty'),
        (lambda m: m.joint_names.__setitem__(0, 'arm'), 'unknown joint'),
        (lambda m: m.points[-1].velocities.__setitem__(0, 1e-3), 'not zero'),
        (lambda m: setattr(m.header, 'stamp', _time(START - 10**11)), 'in the past'),
        (lambda m: setattr(m.points[1], 'time_from_start', _time(1)), 'strictly increasing'),
        (lambda m: setattr(m.points[0], 'time_from_start', _time(0)), 'above 0'),
        (lambda m: m.points[2].accelerations.clear(), 'no quintic'),
        (lambda m: m.points[2].effort.append(1.0), 'effort'),
    ],
)
def test_the_double_refuses_what_the_controller_refuses(spoil, refusal):
    session = _Session('tiago')
    stamps, heads = _conversation(10)
    session.run(2, stamps, heads)
    message = _message(session.robot, session.neck.trajectory(session.now))
    assert session.controller.refusal(message, session.now) is None

    spoil(message)

    assert refusal in session.controller.refusal(message, session.now)
