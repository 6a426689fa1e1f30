# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The neck: `agent/motion_plan` and `joint_states` in, limited joint motion out.

Responsible for topics, rates and the service. Not for the motion (`retarget.neck`), nor for when
it is played (`retarget.player`).
"""

import time

from geometry_msgs.msg import PoseStamped, QuaternionStamped
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from timar_ros.bounds import MAX_PLAN_FRAMES
from timar_ros.msg import HeadMotionPlan
from timar_ros.nodes.convert import stamp_to_ns
from timar_ros.nodes.diagnostics import Diagnostics
from timar_ros.nodes.environment import share_folder
from timar_ros.nodes.joints import (
    TFMessage,
    commands_to_msg,
    head_frames_from_msg,
    pose_to_msg,
    quaternion_from_msg,
    targets_to_msg,
    trajectory_to_msg,
    transform_to_msg,
)
from timar_ros.nodes.matching import MatchedSubscription
from timar_ros.nodes.neck_params import NeckParams
from timar_ros.nodes.params import declare
from timar_ros.nodes.plan_bytes import plan_from_bytes
from timar_ros.nodes.publishers import PublisherWatch
from timar_ros.nodes.running import construct, run
from timar_ros.nodes.throttle import ThrottledWarnings
from timar_ros.retarget.joint_trouble import joint_trouble, uneven_text
from timar_ros.retarget.neck import Neck
from timar_ros.retarget.player import NeckPlayer
from timar_ros.retarget.robot import OUTPUTS, load_robot

_STREAMED = ('commands', 'joint_targets')  # outputs that get the pose of each moment
_LOOK_S = 0.05  # how often bases and long plans are looked at
_DIAGNOSE_S = 1.0
_REST_S = 2.0  # what coming to rest may take at shutdown
# Two clocks read within this time of each other.
_READING_NS = 200_000
_MOST_READINGS = 5
# What the stamp of a message can hold.
_STAMPS_NS = range(2**31 * 10**9)
_MOST_REPORTED = 1_000
_MESSAGES = dict(zip(OUTPUTS, (JointTrajectory, Float64MultiArray, JointState), strict=True))
_TOPICS = {name: f'neck/{name}' for name in OUTPUTS} | {'trajectory': 'neck/joint_trajectory'}


class NeckNode(Node):
    """Follows `agent/motion_plan` with a robot's neck; `~/enable` starts and stops it."""

    def __init__(self, **options):
        super().__init__('neck', **options)
        if self._parameter_overrides.pop('controller', None) is not None:
            self.get_logger().warning(
                'the parameter controller has no effect any more: what is sent suits every '
                'joint_trajectory_controller; remove it'
            )
        params = self._params = declare(self, NeckParams, self._on_params, options.get('cli_args'))
        robots = share_folder() / 'config' / 'robots'
        robot = self._robot = load_robot(params.robot, robots)
        self._neck = Neck(robot, params.neck_config(), params.feedback)
        self._output = params.output or robot.output
        is_streamed = self._output in _STREAMED
        period_ns = round(1e9 / params.rate_hz) if is_streamed else None
        self._player = NeckPlayer(self._neck, self._read_clocks, period_ns)
        if not params.enable_on_start:
            self._neck.disable()
        self._reported = set()  # names in joint_states, while some that we need are not
        self._refusal = ''  # why the joints are not moved
        self._warnings = ThrottledWarnings(self.get_logger())
        self._counters = {'plans': 0, 'refused_plans': 0, 'cut_plans': 0, 'trajectories': 0}
        self._solve_ms = 0.0
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._create_outputs()
        self._create_inputs()
        self._diagnostics = Diagnostics(self)
        # On a steady clock, so that they go on while simulated time stands.
        self.create_timer(_LOOK_S, self._update, clock=self._steady)
        self.create_timer(_DIAGNOSE_S, self._on_diagnose, clock=self._steady)
        self.get_logger().info(
            f'neck of {robot.name}: {", ".join(robot.joint_names)}; '
            f'{self._output} on {self._topic or "no topic"}'
        )

    def _create_inputs(self) -> None:
        self._plans = MatchedSubscription(
            self, HeadMotionPlan, 'agent/motion_plan', self._on_plan, raw=True
        )
        self._planners = PublisherWatch(
            self, 'agent/motion_plan', 'the head follows their plans in turn'
        )
        self.create_subscription(
            JointState, 'joint_states', self._on_joints, qos_profile_sensor_data
        )
        # Several nodes may report other joints each; they matter where they contradict.
        self._reporters = PublisherWatch(self, 'joint_states', '')
        if self._params.additive:
            self.create_subscription(
                QuaternionStamped, 'neck/base_orientation', self._on_base, qos_profile_sensor_data
            )
        self.create_service(SetBool, '~/enable', self._on_enable)

    def _create_outputs(self) -> None:
        params, robot = self._params, self._robot
        # A system clock that is set would stop or hurry timers; a simulated one is the time.
        clock = None if self.get_parameter('use_sim_time').value else self._steady
        self._topic, self._out_pub = '', None
        if self._output != 'none':
            is_robots_own = self._output == robot.output
            default = robot.topic if is_robots_own else _TOPICS[self._output]
            self._topic = params.topic or default
            self._out_pub = self.create_publisher(_MESSAGES[self._output], self._topic, 10)
        if self._output in _STREAMED:
            self.create_timer(1 / params.rate_hz, self._send_target, clock=clock)
        self._tf_pub = None
        if params.head_pose_hz:
            self._pose_pub = self.create_publisher(PoseStamped, 'head_pose', 10)
            self.create_timer(1 / params.head_pose_hz, self._send_pose, clock=clock)
        if params.tf and TFMessage is None:
            self.get_logger().warning(
                'no /tf: tf2_msgs does not import here; install ros-$ROS_DISTRO-tf2-msgs, or '
                'set tf to false'
            )
        elif params.tf:
            self._tf_pub = self.create_publisher(TFMessage, '/tf', 100)

    @property
    def counters(self) -> dict:
        """What happened so far, by name."""
        return {
            **self._counters,
            'refused_joint_states': self._neck.feedback.n_uneven,
            'missed_solutions': self._neck.failures,
            'late_trajectories': self._player.n_late,
            'pauses': self._player.n_pauses,
            'restarts': self._neck.restarts,
        }

    def come_to_rest(self) -> None:
        """Stop softly, and continue to send until the head rests; for shutdown."""
        self._player.disable()
        self._update()
        if not self._is_turning():
            return
        until_s = time.monotonic() + _REST_S
        while self._is_turning() and time.monotonic() < until_s:
            rclpy.spin_once(self, executor=self.executor, timeout_sec=_LOOK_S)
        # What the timer sent last may still have turned.
        if self._output in _STREAMED:
            self._send_target()

    def _is_turning(self) -> bool:
        motion = self._neck.sample(self._player.now_ns())
        is_fast = motion is not None and bool(abs(motion[1]).max() > 1e-2)
        return is_fast or self._neck.is_stopping

    def _on_params(self, params: NeckParams) -> None:
        self._params = params
        self._neck.config = params.neck_config()

    def _on_plan(self, data: bytes) -> None:
        msg, n_cut = plan_from_bytes(data)
        self._counters['plans'] += 1
        if n_cut:
            self._counters['cut_plans'] += 1
            self._warnings.warn(
                f'plan {msg.plan} has {MAX_PLAN_FRAMES + n_cut} frames; those after the first '
                f'{MAX_PLAN_FRAMES} are ignored; send shorter plans more often'
            )
        try:
            self._player.push_plan(*head_frames_from_msg(msg))
        except ValueError as error:
            self._counters['refused_plans'] += 1
            self._warnings.warn(f'refused plan {msg.plan}: {error}')
        self._update()

    def _on_joints(self, msg: JointState) -> None:
        is_missing = self._neck.missing_joints
        is_even = self._player.see_joints(msg.name, msg.position, stamp_to_ns(msg.header.stamp))
        if is_even and is_missing and len(self._reported) < _MOST_REPORTED:
            self._reported.update(msg.name)

    def _on_base(self, msg: QuaternionStamped) -> None:
        try:
            self._neck.push_base(quaternion_from_msg(msg.quaternion))
        except ValueError as error:
            self._warnings.warn(f'refused a base orientation: {error}')

    def _on_enable(self, request, response):
        if request.data:
            self._player.enable()
        else:
            self._player.disable()
        self._update()
        response.success = True
        response.message = 'following plans' if request.data else 'coming to rest'
        return response

    def _update(self) -> None:
        is_trajectory = self._output == 'trajectory'
        started_s, restarts = time.perf_counter(), self._neck.restarts
        try:
            has_changed = self._player.update(
                self._build if is_trajectory else None, self._publish_trajectory
            )
        except ValueError as error:
            self._refusal = str(error)
            self._warnings.warn(self._refusal)
            return
        self._refusal = ''
        if self._neck.restarts > restarts:
            self._warnings.warn(
                f'the joints are more than {self._params.moved_rad} rad from where they were '
                'sent, so the motion is led to where they are; if nobody holds or moves the '
                "head, lower the limits in the robot's file, or raise moved_rad"
            )
        if has_changed:
            self._solve_ms = (time.perf_counter() - started_s) * 1e3

    def _build(self, trajectory) -> JointTrajectory | None:
        if trajectory.stamp_ns not in _STAMPS_NS:
            return None
        return trajectory_to_msg(self._robot.joint_names, trajectory)

    def _publish_trajectory(self, msg: JointTrajectory | None) -> None:
        if msg is None:
            self._warnings.warn(
                'no trajectory is sent while the clock is before 1970 or after 2038, which no '
                'stamp can hold; set the clock'
            )
            return
        self._out_pub.publish(msg)
        self._counters['trajectories'] += 1

    def _send_target(self) -> None:
        target = self._player.target()
        if target is None:
            return
        if self._output == 'commands':
            self._out_pub.publish(commands_to_msg(target.position))
        else:
            stamp_ns = target.stamp_ns if target.stamp_ns in _STAMPS_NS else 0
            names = self._robot.joint_names
            msg = targets_to_msg(names, stamp_ns, target.position, target.velocity)
            self._out_pub.publish(msg)
        self._player.sent()

    def _send_pose(self) -> None:
        now_ns = self._player.now_ns()
        orientation, stamp_ns = self._neck.orientation(now_ns), self._player.stamp_ns(now_ns)
        if orientation is None or stamp_ns not in _STAMPS_NS:
            return
        robot = self._robot
        self._pose_pub.publish(pose_to_msg(robot.base_frame, stamp_ns, orientation))
        if self._tf_pub is not None:
            self._tf_pub.publish(
                transform_to_msg(robot.base_frame, robot.head_frame, stamp_ns, orientation)
            )

    def _on_diagnose(self) -> None:
        self._plans.match()
        self._planners.look()
        joints = self._refusal
        if self._params.feedback and not joints:
            joints = self._joint_trouble()
            if joints:
                self._warnings.warn(joints)
        trouble = '; '.join(text for text in (joints, self._planners.problem) if text)
        shown = {'robot': self._robot.name, 'is_enabled': self._neck.is_enabled}
        shown |= {'solve_ms': round(self._solve_ms, 2), **self.counters}
        note = '' if self._neck.is_enabled else 'disabled'
        self._diagnostics.publish(shown, trouble, note=note)

    def _joint_trouble(self) -> str:
        now_ns, publishers = self._player.now_ns(), self._reporters.names
        if not self._counters['plans']:  # nobody waits for measurements yet
            return uneven_text(self._neck.feedback, now_ns, publishers)
        return joint_trouble(self._neck, now_ns, self._reported, publishers)

    def _read_clocks(self) -> tuple[int, int, bool]:
        """Return ROS time, steady time, both ns and of one moment, and whether one simulates."""
        clock = self.get_clock()
        for _ in range(_MOST_READINGS):
            before_ns = time.monotonic_ns()
            ros_ns = clock.now().nanoseconds
            steady_ns = time.monotonic_ns()
            if steady_ns - before_ns < _READING_NS:
                break
        return ros_ns, steady_ns, clock.ros_time_is_active


def main(args=None):
    """Run the node; at its end the head comes to rest first."""
    run('neck', lambda: [construct(NeckNode)], args, params=NeckParams)


if __name__ == '__main__':
    main()
