# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The other side of a neck node on a graph: the robot's joints, and a planner."""

from geometry_msgs.msg import Quaternion, QuaternionStamped
from neck_moves import FOLDER, MS
import numpy as np
from rclpy.parameter import Parameter
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState

from timar_ros.msg import HeadMotion, HeadMotionPlan
from timar_ros.nodes.convert import stamp_from_ns
from timar_ros.nodes.neck import NeckNode
from timar_ros.retarget.robot import load_robot

# Generous, so that a busy machine is no fault.
PATIENT = {'lead_ms': 250}


class Body:
    """A robot's joints and a planner for them, on a graph."""

    def __init__(self, graph, robot_name: str):
        self.graph = graph
        self.robot = load_robot(str(FOLDER / f'{robot_name}.yaml'), FOLDER)
        self.node = graph.node('body')
        self.plan_pub = self.node.create_publisher(HeadMotionPlan, 'agent/motion_plan', 10)
        self.joints_pub = self.node.create_publisher(JointState, 'joint_states', 10)
        self.base_pub = self.node.create_publisher(QuaternionStamped, 'neck/base_orientation', 10)
        self.position = np.zeros(len(self.robot.joints))
        self.kept = {}
        self.n_plans = 0

    def keep(self, cls, topic):
        """Keep what comes on a topic, in a list that is returned."""
        kept = self.kept[topic] = []
        self.node.create_subscription(cls, topic, kept.append, 500)
        return kept

    def now_ns(self) -> int:
        """Return the time of the graph, ns."""
        return self.node.get_clock().now().nanoseconds

    def start(self, **params) -> NeckNode:
        """Start the neck node and wait until the two hear each other."""
        robot_file = str(FOLDER / f'{self.robot.name}.yaml')
        given = {'robot': robot_file, **PATIENT, **params}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        neck = self.graph.add(NeckNode(context=self.graph.context, parameter_overrides=overrides))
        assert self.graph.spin_until(
            lambda: (
                self.plan_pub.get_subscription_count()
                and self.joints_pub.get_subscription_count()
                and all(self.node.count_publishers(topic) for topic in self.kept)
            )
        )
        return neck

    def report_joints(self) -> None:
        """Publish the joints at 50 Hz from now on."""
        self.node.create_timer(0.02, self.tell_joints)

    def tell_joints(self) -> None:
        """Publish the joints once."""
        self.joints_pub.publish(
            JointState(name=list(self.robot.joint_names), position=self.position.tolist())
        )

    def send_plan(self, begin_ns: int, seconds=2.0, amplitude=0.2, spoil=None) -> None:
        """Send nods at 1 Hz, the same at a moment whenever they are sent."""
        self.n_plans += 1
        plan = HeadMotionPlan(plan=self.n_plans, frame_rate=25.0)
        begin_ns = begin_ns // (40 * MS) * 40 * MS
        for stamp_ns in range(begin_ns, begin_ns + int(seconds * 1e9), 40 * MS):
            x, y, z, w = nod_at(stamp_ns, amplitude).tolist()
            frame = HeadMotion(neck=Quaternion(x=x, y=y, z=z, w=w), jaw_open=0.1)
            frame.header.stamp = stamp_from_ns(stamp_ns)
            plan.frames.append(frame)
        if spoil is not None:
            plan.frames[5].neck.x = spoil
        plan.header.stamp = plan.frames[0].header.stamp
        self.plan_pub.publish(plan)

    def converse(self, seconds: float, amplitude=0.2) -> None:
        """Send plans at 5 Hz and joint states at 50 Hz for a while."""
        until_ns = self.now_ns() + int(seconds * 1e9)
        next_ns = 0
        while self.now_ns() < until_ns:
            if self.now_ns() >= next_ns:
                self.send_plan(self.now_ns() + 120 * MS, amplitude=amplitude)
                next_ns = self.now_ns() + 200 * MS
            self.tell_joints()
            self.graph.spin_for(0.02)


def nod_at(stamp_ns, amplitude=0.2):
    """Return the head `[4]` of nods at 1 Hz."""
    phase = 2 * np.pi * (stamp_ns % 1_000_000_000) / 1e9
    return Rotation.from_rotvec([0.0, amplitude * np.sin(phase), 0.0]).as_quat()
