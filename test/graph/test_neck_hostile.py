# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A head is never thrown, by joints that go missing, clocks that are set or a stopped process."""

import os
import signal
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
from neck_body import PATIENT, Body
from neck_moves import FOLDER, MS
import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from timar_ros.bounds import MAX_PLAN_FRAMES
from timar_ros.msg import HeadMotion, HeadMotionPlan
from timar_ros.nodes.convert import stamp_from_ns, stamp_to_ns

pytestmark = pytest.mark.graph

# How much sooner or later than it was sent a message may be received on a busy machine.
SLACK_S = 0.03


class Stream:
    """Targets of a neck, with the time of their arrival."""

    def __init__(self, body):
        self.body = body
        self.came = []  # (arrival s, positions)
        body.node.create_subscription(JointState, 'neck/joint_targets', self._on_target, 500)
        body.kept['neck/joint_targets'] = self.came

    def _on_target(self, msg):
        self.came.append((time.monotonic(), np.array(msg.position), stamp_to_ns(msg.header.stamp)))

    def assert_never_thrown(self):
        """Assert that targets step no further than the velocity limit allows, by arrival."""
        times = np.array([time_s for time_s, *_ in self.came])
        position = np.array([position for _, position, _ in self.came])
        assert np.ptp(position[:, 1]) > 0.2, 'it nods'
        limit = np.array([joint.velocity_rad_s for joint in self.body.robot.joints])
        # The nods here, and catching up with them, take less than half of the limit.
        allowed = limit / 2 * 1.1 * (np.diff(times)[:, None] + SLACK_S)
        steps = np.abs(np.diff(position, axis=0))
        assert np.all(steps <= allowed), (steps / allowed).max()


@pytest.fixture
def body(graph):
    return Body(graph, 'nao')


def _program(domain_id, *parameters):
    command = [sys.executable, '-m', 'timar_ros.nodes.neck', '--ros-args']
    for parameter in (f'robot:={FOLDER / "nao.yaml"}', *parameters):
        command += ['-p', parameter]
    return subprocess.Popen(command, env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)})


def _await(body):
    assert body.graph.spin_until(
        lambda: (
            body.plan_pub.get_subscription_count()
            and body.joints_pub.get_subscription_count()
            and body.node.count_publishers('neck/joint_targets')
        )
    )


def _follow(body, stream):
    """Let the joints be where they were sent, 50 ms ago."""
    if len(stream.came) > 5:
        body.position = stream.came[-5][1]


def _converse(body, stream, seconds):
    """Converse while the joints follow: at rest they would soon be elsewhere, and rightly so."""
    for _ in range(round(10 * seconds)):
        _follow(body, stream)
        body.converse(0.1)


def test_joint_states_that_drop_out_in_mid_motion_throw_no_head(body):
    stream = Stream(body)
    neck = body.start()
    body.converse(2.0)
    for missing_s in (0.6, 1.0):
        until_ns, next_ns = body.now_ns() + int(missing_s * 1e9), 0
        while body.now_ns() < until_ns:
            if body.now_ns() >= next_ns:
                body.send_plan(body.now_ns() + 120 * MS)
                next_ns = body.now_ns() + 200 * MS
            body.graph.spin_for(0.02)
        _converse(body, stream, 0.5)
    assert neck.counters['restarts'] == 0
    stream.assert_never_thrown()


@pytest.mark.parametrize('wrong', [0.5, 1e308, float('nan'), -6.28])
def test_one_wrong_sample_of_a_joint_throws_no_head(body, wrong):
    stream = Stream(body)
    neck = body.start()
    body.converse(2.0)
    _follow(body, stream)
    right, body.position = body.position, np.array([0.0, wrong])
    body.tell_joints()
    body.position = right
    _converse(body, stream, 0.6)
    assert neck.counters['restarts'] == 0
    stream.assert_never_thrown()


@pytest.mark.parametrize('stopped_s', [0.3, 0.7])
def test_a_process_that_is_stopped_and_continued_throws_no_head(graph, domain_id, stopped_s):
    body = Body(graph, 'nao')
    stream = Stream(body)
    process = _program(domain_id)
    try:
        _await(body)
        body.converse(2.0)
        process.send_signal(signal.SIGSTOP)
        body.converse(stopped_s)
        process.send_signal(signal.SIGCONT)
        n = len(stream.came)
        body.converse(1.0)
        assert len(stream.came) > n + 20, 'it goes on'
    finally:
        process.kill()
        process.wait()
    stream.assert_never_thrown()


class SimulatedTime:
    """A simulated clock that runs with the machine's, and is set."""

    def __init__(self, body, begin_ns):
        self.offset_ns = begin_ns - time.monotonic_ns()
        self._body = body
        self._clock_pub = body.node.create_publisher(Clock, '/clock', 1)
        body.node.create_timer(0.01, self._publish)
        body.now_ns = self.now_ns

    def now_ns(self) -> int:
        return time.monotonic_ns() + self.offset_ns

    def _publish(self):
        self._clock_pub.publish(Clock(clock=stamp_from_ns(self.now_ns())))


def test_a_clock_that_is_set_in_mid_motion_throws_no_head_and_stamps_follow_it(body):
    clock = SimulatedTime(body, 10**12)
    stream = Stream(body)
    body.start(use_sim_time=True)
    body.converse(2.5)
    for step_s in (0.5, -0.5, 5.0, -5.0):
        clock.offset_ns += int(step_s * 1e9)
        body.converse(0.8)
        assert abs(stream.came[-1][2] - clock.now_ns()) < 150 * MS
    stream.assert_never_thrown()


def test_a_clock_at_the_end_of_what_stamps_can_hold_does_not_end_the_node(graph, domain_id):
    body = Body(graph, 'nao')
    clock = SimulatedTime(body, 10**12)
    stream = Stream(body)
    process = _program(domain_id, 'use_sim_time:=true')
    try:
        _await(body)
        body.converse(1.5)
        for second in (2**31 - 1, -5):
            message = Clock()
            message.clock.sec, message.clock.nanosec = second, 4 * 10**9
            for _ in range(20):
                clock._clock_pub.publish(message)
                body.graph.spin_for(0.01)
        n = len(stream.came)
        body.converse(1.0)
        assert process.poll() is None
        assert len(stream.came) > n + 20
    finally:
        process.kill()
        process.wait()


def test_a_plan_of_many_frames_is_cut_with_a_warning_and_throws_no_head(body):
    stream = Stream(body)
    neck = body.start()
    body.converse(2.0)
    frames = [HeadMotion() for _ in range(MAX_PLAN_FRAMES + 10)]
    begin_ns = body.now_ns() + 3_600 * 10**9
    for i, frame in enumerate(frames):
        frame.header.stamp = stamp_from_ns(begin_ns + i * 40 * MS)
        frame.neck.w = 1.0
    body.plan_pub.publish(HeadMotionPlan(frames=frames))
    body.converse(0.8)
    assert neck.counters['cut_plans'] == 1
    stream.assert_never_thrown()


def test_a_planner_that_publishes_with_best_effort_is_followed(body):
    stream = Stream(body)
    body.node.destroy_publisher(body.plan_pub)
    qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    body.plan_pub = body.node.create_publisher(HeadMotionPlan, 'agent/motion_plan', qos)
    body.start()
    body.converse(3.0)
    assert len(stream.came) > 50


def _trouble(diagnostics, text):
    return any(text in array.status[0].message for array in diagnostics)


def test_two_planners_are_named(graph, body):
    diagnostics = body.keep(DiagnosticArray, '/diagnostics')
    graph.node('second').create_publisher(HeadMotionPlan, 'agent/motion_plan', 10)
    body.start()
    assert graph.spin_until(
        lambda: _trouble(diagnostics, 'agent/motion_plan has 2 publishers (/body, /second)')
    )


def test_two_publishers_that_contradict_each_other_about_the_joints_are_named(graph):
    body = Body(graph, 'pan_tilt_roll')
    diagnostics = body.keep(DiagnosticArray, '/diagnostics')
    trajectories = body.keep(JointTrajectory, 'neck/joint_trajectory')
    second = graph.node('second').create_publisher(JointState, 'joint_states', 10)
    body.start()
    names = list(body.robot.joint_names)
    body.node.create_timer(
        0.02, lambda: second.publish(JointState(name=names, position=[0.7, 0.0, 0.0]))
    )
    body.report_joints()
    body.node.create_timer(0.5, lambda: body.send_plan(body.now_ns()))
    assert graph.spin_until(
        lambda: _trouble(diagnostics, '2 publishers (/body, /second) that contradict each other')
    )
    assert trajectories == []


def test_a_position_that_is_nan_is_named(graph):
    body = Body(graph, 'tiago')
    diagnostics = body.keep(DiagnosticArray, '/diagnostics')
    body.start(**PATIENT)
    body.position = np.array([0.1, np.nan])
    body.report_joints()
    body.node.create_timer(0.5, lambda: body.send_plan(body.now_ns()))
    wanted = "'head_2_joint' is in joint_states, but its position is NaN"
    assert graph.spin_until(lambda: _trouble(diagnostics, wanted))


def test_joint_states_of_more_names_than_positions_start_no_head_and_are_named(graph, body):
    diagnostics = body.keep(DiagnosticArray, '/diagnostics')
    stream = Stream(body)
    publish = body.joints_pub.publish

    def publish_uneven(message):
        message.name = ['wheel_joint', *message.name]
        message.velocity = [5.0]
        publish(message)

    body.joints_pub.publish = publish_uneven
    neck = body.start()
    body.converse(2.0)
    n = len(body.robot.joint_names)
    assert stream.came == []
    assert neck.counters['refused_joint_states'] > 10
    assert graph.spin_until(
        lambda: _trouble(
            diagnostics,
            f'joint_states (publishers: /body) has {n + 1} names and {n} positions',
        )
    )


def test_velocities_and_efforts_of_another_length_than_names_are_harmless(body):
    stream = Stream(body)
    publish = body.joints_pub.publish

    def publish_with_one_velocity(message):
        message.velocity, message.effort = [5.0], [1.0] * 7
        publish(message)

    body.joints_pub.publish = publish_with_one_velocity
    neck = body.start()
    body.converse(2.5)
    assert len(stream.came) > 20
    assert neck.counters['refused_joint_states'] == 0
