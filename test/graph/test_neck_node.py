# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The neck node on a real graph: what it sends, to whom, and when it sends nothing."""

import os
import signal
import subprocess
import sys
import time

from controller_double import ControllerDouble
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped, QuaternionStamped
from neck_body import Body, nod_at
from neck_moves import FOLDER, MS
import numpy as np
import pytest
from rclpy.parameter import Parameter
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from timar_ros.nodes.convert import stamp_to_ns
from timar_ros.nodes.neck import NeckNode

pytestmark = pytest.mark.graph


@pytest.fixture
def body(graph):
    return Body(graph, 'pan_tilt_roll')


def test_nothing_is_sent_before_every_joint_was_seen(body):
    trajectories = body.keep(JointTrajectory, 'neck/joint_trajectory')
    diagnostics = body.keep(DiagnosticArray, '/diagnostics')
    body.start()
    body.joints_pub.publish(JointState(name=['pan_joint', 'tilt_joint'], position=[0.0, 0.0]))
    body.send_plan(body.now_ns() + 120 * MS, seconds=30)

    assert body.graph.spin_until(
        lambda: any('roll_joint' in d.status[0].message for d in diagnostics)
    )
    assert trajectories == []

    body.report_joints()
    assert body.graph.spin_until(lambda: trajectories)


def test_a_controller_accepts_all_trajectories_and_its_joints_stay_within_limits(body):
    neck = body.start()
    robot, period_ns = body.robot, 10 * MS
    controller = ControllerDouble(robot.joint_names, body.position, period_ns)
    refused, states = [], []

    def on_trajectory(msg):
        refusal = controller.refusal(msg, body.now_ns())
        if refusal:
            refused.append(refusal)
        else:
            controller.receive(msg, body.now_ns())

    body.node.create_subscription(JointTrajectory, 'neck/joint_trajectory', on_trajectory, 10)
    assert body.graph.spin_until(lambda: neck._out_pub.get_subscription_count())
    begin_ns = cycle_ns = body.now_ns()

    def control():
        nonlocal cycle_ns  # time goes in whole periods, though the machine may be late
        while cycle_ns + period_ns <= body.now_ns():
            cycle_ns += period_ns
            states.append(controller.update(cycle_ns))
            body.position = states[-1][0]

    body.node.create_timer(0.01, control)
    body.converse(5.0)

    assert refused == []
    assert neck.counters['trajectories'] >= 15
    assert body.now_ns() - begin_ns >= 5e9
    motion = np.array(states)  # [T, 4, J]
    assert np.abs(motion[:, 0, 1]).max() > 0.15, 'it nods'
    for i, joint in enumerate(robot.joints):
        limits = (joint.velocity_rad_s, joint.acceleration_rad_s2, joint.jerk_rad_s3)
        assert motion[:, 0, i].min() >= joint.lower_rad
        assert motion[:, 0, i].max() <= joint.upper_rad
        for order, limit in enumerate(limits, start=1):
            assert np.abs(motion[:, order, i]).max() <= limit * (1 + 1e-6), (joint.name, order)
            step = np.abs(np.diff(motion[:, order - 1, i])).max()
            assert step <= limit * period_ns / 1e9 * (1 + 1e-6), (joint.name, order)


def test_joint_targets_come_at_the_rate_asked_for_and_follow_the_plan(graph):
    body = Body(graph, 'nao')
    targets = body.keep(JointState, 'neck/joint_targets')
    neck = body.start(rate_hz=50.0)
    body.report_joints()
    body.converse(4.0)

    stamps = np.array([stamp_to_ns(msg.header.stamp) for msg in targets])
    assert np.all(np.diff(stamps) > 0)
    assert np.median(np.diff(stamps)) == pytest.approx(20 * MS, rel=0.1)
    assert list(targets[0].name) == ['HeadYaw', 'HeadPitch']
    if neck.counters['pauses']:
        pytest.skip('this machine is too busy: the stream of targets paused')
    late = stamps > stamps[0] + 2_000 * MS
    position = np.array([msg.position for msg in targets])[late]
    wanted = 0.2 * np.sin(2 * np.pi * (stamps[late] % 10**9) / 1e9)
    np.testing.assert_allclose(position[:, 1], wanted, atol=0.02)
    np.testing.assert_allclose(position[:, 0], np.zeros(len(position)), atol=1e-6)


def test_a_forward_command_controller_gets_its_joints_in_order(graph):
    body = Body(graph, 'reachy2')
    body.position = np.array([0.02, -0.1745, 0.3])
    commands = body.keep(Float64MultiArray, 'neck_forward_position_controller/commands')
    body.start()
    body.converse(1.0, amplitude=0.0)

    np.testing.assert_allclose(commands[0].data, body.position, atol=1e-9)
    assert {len(msg.data) for msg in commands} == {3}


def test_the_pose_of_the_head_is_that_of_the_plan(body):
    poses = body.keep(PoseStamped, 'head_pose')
    body.start(head_pose_hz=25.0)
    body.converse(3.5)

    msg = poses[-1]
    quaternion = [getattr(msg.pose.orientation, axis) for axis in 'xyzw']
    expected = nod_at(stamp_to_ns(msg.header.stamp))
    np.testing.assert_allclose(quaternion, expected, atol=0.01)
    assert msg.header.frame_id == 'neck_base'


def test_disabled_in_mid_nod_the_head_rests_and_is_left_to_others(body):
    targets = body.keep(JointState, 'neck/joint_targets')
    body.start(output='joint_targets')
    client = body.node.create_client(SetBool, 'neck/enable')
    body.converse(2.5)
    answer = client.call_async(SetBool.Request(data=False))
    assert body.graph.spin_until(answer.done)
    assert answer.result().message == 'coming to rest'
    body.converse(3.2)

    velocity = np.array([msg.velocity for msg in targets])
    assert np.abs(velocity).max() > 0.5
    np.testing.assert_allclose(velocity[-1], np.zeros(3), atol=1e-6)
    n = len(targets)
    body.converse(0.5)
    assert len(targets) == n, 'nothing is sent by a neck that is disabled and at rest'

    answer = client.call_async(SetBool.Request(data=True))
    assert body.graph.spin_until(answer.done)
    body.converse(0.5)
    assert len(targets) > n


def test_a_plan_with_nan_is_refused_and_counted_and_the_motion_goes_on(body):
    diagnostics = body.keep(DiagnosticArray, '/diagnostics')
    trajectories = body.keep(JointTrajectory, 'neck/joint_trajectory')
    neck = body.start()
    body.report_joints()
    body.graph.spin_until(lambda: not neck._neck.missing_joints)
    body.send_plan(body.now_ns() + 120 * MS, spoil=float('nan'))
    assert body.graph.spin_until(lambda: neck.counters['refused_plans'] == 1)
    assert trajectories == []
    body.send_plan(body.now_ns() + 120 * MS)
    assert body.graph.spin_until(lambda: trajectories)
    assert body.graph.spin_until(
        lambda: any(
            pair.key == 'refused_plans' and pair.value == '1'
            for array in diagnostics
            for pair in array.status[0].values
        )
    )
    for point in trajectories[0].points:
        assert np.isfinite([point.positions, point.velocities, point.accelerations]).all()


def test_in_additive_mode_the_head_looks_along_the_base(body):
    poses = body.keep(PoseStamped, 'head_pose')
    body.start(additive=True, head_pose_hz=20.0)
    body.report_joints()
    assert body.graph.spin_until(lambda: body.base_pub.get_subscription_count() > 0)
    base = QuaternionStamped()
    base.quaternion.z, base.quaternion.w = np.sin(0.25), np.cos(0.25)
    deadline = time.monotonic() + 10

    def is_there():
        body.base_pub.publish(base)
        return poses and abs(poses[-1].pose.orientation.z - np.sin(0.25)) < 0.01

    while not is_there() and time.monotonic() < deadline:
        body.graph.spin_for(0.1)
    assert is_there()


def test_an_unknown_robot_ends_the_node_with_the_nearest_name(graph):
    overrides = [Parameter('robot', value='tiagoo')]
    with pytest.raises(FileNotFoundError, match="unknown robot 'tiagoo'; did you mean 'tiago'"):
        NeckNode(context=graph.context, parameter_overrides=overrides)


def test_limits_the_wrong_way_round_end_the_program_with_file_key_and_fix(tmp_path):
    path = tmp_path / 'mine.yaml'
    text = (FOLDER / 'pan_tilt.yaml').read_text()
    path.write_text(text.replace('[-1.2, 1.2]', '[1.2, -1.2]'))

    done = subprocess.run(
        [sys.executable, '-m', 'timar_ros.nodes.neck', '--ros-args', '-p', f'robot:={path}'],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f'neck: {path}: joints[0] (pan_joint): limits: position_rad is the wrong way round: 1.2 '
        'is not below -1.2; write [-1.2, 1.2]'
    )


def test_tf_without_a_rate_is_a_contradiction(graph):
    overrides = [Parameter('tf', value=True)]
    with pytest.raises(ValueError, match='tf needs head_pose_hz above 0'):
        NeckNode(context=graph.context, parameter_overrides=overrides)


@pytest.mark.parametrize('sent', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_ended_in_mid_nod_a_stream_of_targets_comes_to_rest_first(graph, domain_id, sent):
    body = Body(graph, 'nao')
    targets = body.keep(JointState, 'neck/joint_targets')
    command = [sys.executable, '-m', 'timar_ros.nodes.neck', '--ros-args']
    command += ['-p', f'robot:={FOLDER / "nao.yaml"}']
    environment = {**os.environ, 'ROS_DOMAIN_ID': str(domain_id)}
    # As a script starts it in the background: told to ignore SIGINT.
    process = subprocess.Popen(
        command, env=environment, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    try:
        assert body.graph.spin_until(
            lambda: (
                body.plan_pub.get_subscription_count()
                and body.joints_pub.get_subscription_count()
                and body.node.count_publishers('neck/joint_targets')
            )
        )
        body.converse(2.5)
        # At the fastest moment of a nod.
        body.graph.spin_until(lambda: targets and abs(targets[-1].velocity[1]) > 1.0)
        process.send_signal(sent)
        assert body.graph.spin_until(lambda: process.poll() is not None, 10)
    finally:
        process.kill()
        process.wait()
    body.graph.spin_for(0.2)
    assert process.returncode == 0
    velocity = np.array([msg.velocity for msg in targets])
    assert np.abs(velocity[:, 1]).max() > 1.0
    assert np.abs(velocity[-1]).max() < 0.02


def test_the_parameter_of_old_files_that_has_no_effect_any_more_is_no_fault(body):
    neck = body.start(controller='splices')
    assert not neck.has_parameter('controller')


def test_without_tf2_the_pose_is_published_all_the_same(body, monkeypatch):
    monkeypatch.setattr('timar_ros.nodes.neck.TFMessage', None)
    poses = body.keep(PoseStamped, 'head_pose')
    body.start(head_pose_hz=20.0, tf=True)
    body.report_joints()
    assert body.graph.spin_until(lambda: poses)
