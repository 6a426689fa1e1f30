# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Run a face where hri_msgs is sourced, say a plan to it, and print the action units that come."""

import json
import sys
import time

from hri_msgs.msg import FacialActionUnits
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from timar_ros.motion import get_space
from timar_ros.msg import HeadMotionPlan
from timar_ros.nodes.convert import plan_to_msg
from timar_ros.nodes.face import FaceNode

_TIMEOUT_S = 30
_SHAPES = {'browInnerUp': 0.5, 'mouthSmileLeft': 0.25, 'neck_y': 0.35}


def main() -> int:
    """Print the first message's units above 0, and their confidence; return the exit status."""
    rclpy.init()
    space, came = get_space('arkit55'), []
    face, node = FaceNode(parameter_overrides=[Parameter('port', value=0)]), Node('other_face')
    node.create_subscription(FacialActionUnits, 'face/action_units', came.append, 10)
    plan_pub = node.create_publisher(HeadMotionPlan, 'agent/motion_plan', 10)
    executor = SingleThreadedExecutor()
    executor.add_node(face)
    executor.add_node(node)
    motion = np.tile(space.neutral, (50, 1))
    for name, value in _SHAPES.items():
        motion[:, space.index(name)] = value
    deadline, said_s = time.monotonic() + _TIMEOUT_S, 0.0
    while not came and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.05)
        if time.monotonic() - said_s > 1.0:
            said_s = time.monotonic()
            stamp_ns = node.get_clock().now().nanoseconds + 40_000_000 * np.arange(50)
            zeros = np.zeros(50, int)
            plan_pub.publish(plan_to_msg(space, 1, 25.0, stamp_ns, zeros, zeros, motion))
    for msg in came[:1]:
        pairs = zip(msg.intensity.tolist(), msg.confidence.tolist(), strict=True)
        units = {number: pair for number, pair in enumerate(pairs) if pair[0]}
        sys.stdout.write(json.dumps({'units': units, 'stamp_s': msg.header.stamp.sec}) + '\n')
    face.destroy_node()
    node.destroy_node()
    rclpy.try_shutdown()
    return 0 if came else 1


if __name__ == '__main__':
    sys.exit(main())
