# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Between the motion of a neck and the messages that robots take.

Responsible for the fields of those messages. Not for limits or for when to send.
"""

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import PoseStamped, Quaternion, TransformStamped
import numpy as np
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from timar_ros.msg import HeadMotionPlan
from timar_ros.nodes.convert import stamp_from_ns, stamp_to_ns
from timar_ros.retarget.trajectory import Trajectory

try:
    from tf2_msgs.msg import TFMessage
except ImportError:  # not on every installation; the head's pose is published without it
    TFMessage = None


def trajectory_to_msg(names, trajectory: Trajectory) -> JointTrajectory:
    """Put a trajectory of joints `names` into a message."""
    msg = JointTrajectory(joint_names=list(names))
    msg.header.stamp = stamp_from_ns(trajectory.stamp_ns)
    for i, time_ns in enumerate(trajectory.time_from_start_ns.tolist()):
        point = JointTrajectoryPoint(
            positions=trajectory.position[i].tolist(),
            velocities=trajectory.velocity[i].tolist(),
            accelerations=trajectory.acceleration[i].tolist(),
        )
        point.time_from_start = Duration(sec=time_ns // 10**9, nanosec=time_ns % 10**9)
        msg.points.append(point)
    return msg


def commands_to_msg(position: np.ndarray) -> Float64MultiArray:
    """Put joint positions `[J]` into the message of a forward_command_controller."""
    return Float64MultiArray(data=position.tolist())


def targets_to_msg(names, stamp_ns: int, position, velocity) -> JointState:
    """Put joint positions and velocities `[J]` into a JointState."""
    msg = JointState(name=list(names), position=position.tolist(), velocity=velocity.tolist())
    msg.header.stamp = stamp_from_ns(stamp_ns)
    return msg


def pose_to_msg(frame_id: str, stamp_ns: int, quaternion: np.ndarray) -> PoseStamped:
    """Put a head's orientation `[4]` in `frame_id` into a message; its position is 0."""
    msg = PoseStamped()
    msg.header.frame_id = frame_id
    msg.header.stamp = stamp_from_ns(stamp_ns)
    msg.pose.orientation = _quaternion(quaternion)
    return msg


def transform_to_msg(frame_id: str, child: str, stamp_ns: int, quaternion: np.ndarray):
    """Put the rotation `[4]` of frame `child` in `frame_id` into a message for `/tf`."""
    transform = TransformStamped(child_frame_id=child)
    transform.header.frame_id = frame_id
    transform.header.stamp = stamp_from_ns(stamp_ns)
    transform.transform.rotation = _quaternion(quaternion)
    return TFMessage(transforms=[transform])


def head_frames_from_msg(msg: HeadMotionPlan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return stamps `[n]` in ns, quaternions `[n, 4]` and jaw angles `[n]` of a plan's frames."""
    stamp_ns = [stamp_to_ns(frame.header.stamp) for frame in msg.frames]
    neck = [quaternion_from_msg(frame.neck) for frame in msg.frames]
    jaw = [frame.jaw_open for frame in msg.frames]
    return np.array(stamp_ns, np.int64), np.array(neck).reshape(-1, 4), np.array(jaw, np.float64)


def quaternion_from_msg(msg: Quaternion) -> list[float]:
    """Return x, y, z, w of a message."""
    return [msg.x, msg.y, msg.z, msg.w]


def _quaternion(quaternion: np.ndarray) -> Quaternion:
    x, y, z, w = quaternion.tolist()
    return Quaternion(x=x, y=y, z=z, w=w)
