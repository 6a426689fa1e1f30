# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The neck: `agent/motion_plan` and `joint_states` in, limited joint motion out.

Knows topics, rates and the service. What the joints do is decided in `retarget.neck`.
"""

import dataclasses
import os
import pathlib
import time

from ament_index_python.packages import get_package_share_directory
from geometry_msgs.msg import PoseStamped, QuaternionStamped
import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import SetBool
from trajectory_msgs.msg import JointTrajectory

from timar_ros.msg import HeadMotionPlan
from timar_ros.nodes.diagnostics import Diagnostics
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
from timar_ros.nodes.params import declare, parameter
from timar_ros.nodes.running import construct, run
from timar_ros.nodes.throttle import ThrottledWarnings
from timar_ros.retarget.neck import Neck, NeckConfig
from timar_ros.retarget.robot import OUTPUTS, load_robot, missing_joints_text

_FOLLOWING = NeckConfig()
_STREAMED = ('commands', 'joint_targets')  # outputs that are told the pose of each moment
_LOOK_S = 0.05  # how often bases and long plans are looked at
_DIAGNOSE_S = 1.0
_REST_S = 2.0  # what coming to rest may take at shutdown
# From this ROS distribution on, joint_trajectory_controller splices a new trajectory into the old.
_SPLICING_SINCE = 'lyrical'
_MESSAGES = dict(zip(OUTPUTS, (JointTrajectory, Float64MultiArray, JointState), strict=True))
_TOPICS = {name: f'neck/{name}' for name in OUTPUTS} | {'trajectory': 'neck/joint_trajectory'}


@dataclasses.dataclass(frozen=True)
class NeckParams:
    """Parameters of the neck node."""

    robot: str = parameter(
        'pan_tilt_roll', 'name of a robot in config/robots, or the path of a YAML file'
    )
    output: str = parameter(
        '', "what is sent; empty: as the robot's file says", choices=('', *OUTPUTS, 'none')
    )
    topic: str = parameter(
        '', "where it is sent; empty: as the robot's file says, or neck/<output>"
    )
    controller: str = parameter(
        'auto',
        'what a new trajectory does to the old: forgets (to Kilted; later, where '
        'allow_trajectory_replacement is false) or splices (from Lyrical); auto: by ROS_DISTRO',
        choices=('auto', 'forgets', 'splices'),
    )
    feedback: bool = parameter(
        True, 'move nothing before joint_states told where the joints are; False: there are none'
    )
    enable_on_start: bool = parameter(True, 'False: follow plans only after ~/enable')
    additive: bool = parameter(
        False, 'motion is an offset on neck/base_orientation, as a gaze tracker sends it'
    )
    gain: float = parameter(
        _FOLLOWING.gain, 'scales the rotation of the head', minimum=0, maximum=5, dynamic=True
    )
    rate_hz: float = parameter(
        100.0, 'of commands and joint_targets', unit='Hz', minimum=1, maximum=1000
    )
    head_pose_hz: float = parameter(
        0.0, 'of head_pose; 0: do not publish it', unit='Hz', minimum=0, maximum=1000
    )
    tf: bool = parameter(False, 'publish the head in /tf, too, at head_pose_hz')
    lead_ms: int = parameter(
        _FOLLOWING.lead_ms,
        'motion nearer than this is not changed any more',
        unit='ms',
        minimum=0,
        maximum=1000,
    )
    settle_ms: int = parameter(
        _FOLLOWING.settle_ms,
        'from where the joints stand to the first point, at rest',
        unit='ms',
        minimum=100,
        maximum=5000,
    )
    glide_ms: int = parameter(
        _FOLLOWING.glide_ms,
        'over which a motion that begins at rest takes over',
        unit='ms',
        minimum=100,
        maximum=10000,
    )
    stop_ms: int = parameter(
        _FOLLOWING.stop_ms,
        'time constant of a stop',
        unit='ms',
        minimum=20,
        maximum=2000,
    )
    smoothing_hz: float = parameter(
        _FOLLOWING.smoothing_hz,
        'motion of this frequency comes out half as large, without delay',
        unit='Hz',
        minimum=1,
        maximum=12,
    )
    moved_rad: float = parameter(
        _FOLLOWING.moved_rad,
        'a joint further than this from where it was sent is held or moved by another: start '
        'again from there',
        unit='rad',
        minimum=0.01,
        maximum=10,
    )

    def __post_init__(self):
        if self.tf and not self.head_pose_hz:
            raise ValueError('tf needs head_pose_hz above 0, got 0; set it to 25.0, for example')

    def neck_config(self) -> NeckConfig:
        """Return how to follow."""
        names = [field.name for field in dataclasses.fields(NeckConfig)]
        return NeckConfig(**{name: getattr(self, name) for name in names if hasattr(self, name)})

    def splices(self) -> bool:
        """Whether the controller keeps its old trajectory up to the stamp of a new one."""
        if self.controller == 'auto':
            return os.environ.get('ROS_DISTRO', '') >= _SPLICING_SINCE
        return self.controller == 'splices'


class NeckNode(Node):
    """Follows `agent/motion_plan` with a robot's neck; `~/enable` starts and stops it."""

    def __init__(self, **options):
        super().__init__('neck', **options)
        params = self._params = declare(self, NeckParams, self._on_params, options.get('cli_args'))
        robots = pathlib.Path(get_package_share_directory('timar_ros')) / 'config' / 'robots'
        robot = self._robot = load_robot(params.robot, robots)
        self._neck = Neck(robot, params.neck_config(), params.feedback)
        if not params.enable_on_start:
            self._neck.disable()
        self._reported = set()  # names in joint_states, while some that we need are not
        self._output = params.output or robot.output
        self._is_spliced = params.splices()
        self._warnings = ThrottledWarnings(self.get_logger())
        self._counters = {'plans': 0, 'refused_plans': 0, 'trajectories': 0}
        self._solve_ms = 0.0
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._create_outputs()
        self.create_subscription(HeadMotionPlan, 'agent/motion_plan', self._on_plan, 10)
        self.create_subscription(
            JointState, 'joint_states', self._on_joints, qos_profile_sensor_data
        )
        if params.additive:
            self.create_subscription(
                QuaternionStamped, 'neck/base_orientation', self._on_base, qos_profile_sensor_data
            )
        self.create_service(SetBool, '~/enable', self._on_enable)
        self._diagnostics = Diagnostics(self)
        # On a steady clock, so that they go on while simulated time stands.
        self.create_timer(_LOOK_S, self._update, clock=self._steady)
        self.create_timer(_DIAGNOSE_S, self._on_diagnose, clock=self._steady)
        self.get_logger().info(
            f'neck of {robot.name}: {", ".join(robot.joint_names)}; '
            f'{self._output} on {self._topic or "no topic"}'
        )

    def _create_outputs(self) -> None:
        params, robot = self._params, self._robot
        self._topic, self._out_pub = '', None
        if self._output != 'none':
            is_robots_own = self._output == robot.output
            default = robot.topic if is_robots_own else _TOPICS[self._output]
            self._topic = params.topic or default
            self._out_pub = self.create_publisher(_MESSAGES[self._output], self._topic, 10)
        if self._output in _STREAMED:
            self.create_timer(1 / params.rate_hz, self._send_targets)
        self._tf_pub = None
        if params.head_pose_hz:
            self._pose_pub = self.create_publisher(PoseStamped, 'head_pose', 10)
            self.create_timer(1 / params.head_pose_hz, self._send_pose)
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
        missed, restarts = self._neck.failures, self._neck.restarts
        return {**self._counters, 'missed_solutions': missed, 'restarts': restarts}

    def come_to_rest(self) -> None:
        """Stop softly, and go on sending until the head rests; for shutdown."""
        self._neck.disable()
        self._update()
        if not self._is_turning():
            return
        until_s = time.monotonic() + _REST_S
        while self._is_turning() and time.monotonic() < until_s:
            rclpy.spin_once(self, executor=self.executor, timeout_sec=_LOOK_S)
        # What the timer sent last may still have turned.
        if self._output in _STREAMED:
            self._send_target(self._now_ns())

    def _is_turning(self) -> bool:
        motion = self._neck.sample(self._now_ns())
        return motion is not None and bool(abs(motion[1]).max() > 1e-2)

    def _on_params(self, params: NeckParams) -> None:
        self._params = params
        self._neck.config = params.neck_config()

    def _on_plan(self, msg: HeadMotionPlan) -> None:
        self._counters['plans'] += 1
        try:
            self._neck.push_plan(*head_frames_from_msg(msg))
        except ValueError as error:
            self._counters['refused_plans'] += 1
            self._warnings.warn(f'refused plan {msg.plan}: {error}')
        self._update()

    def _on_joints(self, msg: JointState) -> None:
        if self._neck.missing_joints:
            self._reported.update(msg.name)
        self._neck.see_joints(msg.name, msg.position, self._now_ns())

    def _on_base(self, msg: QuaternionStamped) -> None:
        try:
            self._neck.push_base(quaternion_from_msg(msg.quaternion))
        except ValueError as error:
            self._warnings.warn(f'refused a base orientation: {error}')

    def _on_enable(self, request, response):
        if request.data:
            self._neck.enable(self._now_ns())
        else:
            self._neck.disable()
        self._update()
        response.success = True
        response.message = 'following plans' if request.data else 'coming to rest'
        return response

    def _update(self) -> None:
        now_ns = self._now_ns()
        started_s, restarts = time.perf_counter(), self._neck.restarts
        try:
            has_changed = self._neck.update(now_ns)
        except ValueError as error:
            self._warnings.warn(str(error))
            return
        if self._neck.restarts > restarts:
            self._warnings.warn(
                f'the joints are more than {self._params.moved_rad} rad from where they were '
                'sent, so the neck starts again from there; if nobody holds or moves the head, '
                "lower the limits in the robot's file, or raise moved_rad"
            )
        if not has_changed:
            return
        self._solve_ms = (time.perf_counter() - started_s) * 1e3
        if self._output == 'trajectory':
            trajectory = self._neck.trajectory(now_ns, self._is_spliced)
            self._out_pub.publish(trajectory_to_msg(self._robot.joint_names, trajectory))
            self._counters['trajectories'] += 1

    def _send_targets(self) -> None:
        now_ns = self._now_ns()
        # A neck that is disabled and at rest is left to others.
        if self._neck.is_enabled or self._neck.is_moving(now_ns):
            self._send_target(now_ns)

    def _send_target(self, now_ns: int) -> None:
        motion = self._neck.sample(now_ns)
        if motion is None:
            return
        position, velocity = motion[0][0], motion[1][0]
        if self._output == 'commands':
            self._out_pub.publish(commands_to_msg(position))
        else:
            names = self._robot.joint_names
            self._out_pub.publish(targets_to_msg(names, now_ns, position, velocity))

    def _send_pose(self) -> None:
        now_ns = self._now_ns()
        orientation = self._neck.orientation(now_ns)
        if orientation is None:
            return
        robot = self._robot
        self._pose_pub.publish(pose_to_msg(robot.base_frame, now_ns, orientation))
        if self._tf_pub is not None:
            self._tf_pub.publish(
                transform_to_msg(robot.base_frame, robot.head_frame, now_ns, orientation)
            )

    def _on_diagnose(self) -> None:
        missing = self._neck.missing_joints
        trouble, note = '', '' if self._neck.is_enabled else 'disabled'
        if missing and self._counters['plans']:
            trouble = missing_joints_text(self._robot, missing, self._reported)
            self._warnings.warn(trouble)
        shown = {'robot': self._robot.name, 'is_enabled': self._neck.is_enabled}
        shown |= {'solve_ms': round(self._solve_ms, 2), **self.counters}
        self._diagnostics.publish(shown, trouble, note=note)

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds


def main(args=None):
    """Run the node; at its end the head comes to rest first."""
    run('neck', lambda: [construct(NeckNode)], args)


if __name__ == '__main__':
    main()
