# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Between our messages and arrays, and between ROS stamps and integer nanoseconds.

Knows the fields of the messages in `msg/`. Refuses to put NaN or infinity into a message: a value
that is not finite never leaves a node.
"""

import array

from builtin_interfaces.msg import Time
from geometry_msgs.msg import Quaternion
import numpy as np

from timar_ros.motion import (
    MotionSpace,
    frame_to_motion,
    jaw_open_rad,
    neck_to_quaternion,
)
from timar_ros.msg import AudioChunk, ConversationState, HeadMotion, HeadMotionPlan
from timar_ros.stream.audio import pcm_from_samples

_NS_PER_S = 1_000_000_000
_LAST_SEC = 2**31 - 1  # of a stamp: in January 2038


def stamp_to_ns(stamp) -> int:
    """Return a ROS stamp as integer nanoseconds."""
    return stamp.sec * _NS_PER_S + stamp.nanosec


def stamp_from_ns(stamp_ns: int) -> Time:
    """
    Return integer nanoseconds as a ROS stamp; before 0, sec is negative and nanosec is not.

    Times that a stamp cannot hold, before 1901 or after 2038, become the nearest that it can.
    """
    sec, nanosec = divmod(int(stamp_ns), _NS_PER_S)
    if sec > _LAST_SEC:
        return Time(sec=_LAST_SEC, nanosec=_NS_PER_S - 1)
    if sec < -_LAST_SEC - 1:
        return Time(sec=-_LAST_SEC - 1)
    return Time(sec=sec, nanosec=nanosec)


def audio_chunk(
    samples: np.ndarray,
    sample_rate_hz: int,
    *,
    stamp_ns: int,
    first_sample: int,
    sent_ns: int = 0,
    frame_id: str = '',
    encoding: str = AudioChunk.PCM_S16LE,
) -> AudioChunk:
    """
    Put samples into an AudioChunk.

    Args:
        samples: float `[n]` or `[n, channels]` in [-1, 1]; integers clip beyond that, as a sound
            card does.
        sample_rate_hz: of each channel.
        stamp_ns: when the first sample was captured, or is to be played.
        first_sample: its index in this stream.
        sent_ns: time of publishing; 0 lets the receiver take the arrival.
        frame_id: of the microphone or loudspeaker.
        encoding: AudioChunk.PCM_S16LE or PCM_F32LE.

    Raises:
        ValueError: a sample is not finite, the array is not `[n]` or `[n, channels]`, or the
            encoding is unknown.
    """
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2):
        raise ValueError(f'samples must be [n] or [n, channels], got shape {samples.shape}')
    if not np.all(np.isfinite(samples)):
        raise ValueError('samples must be finite, got NaN or infinity; send silence instead')
    chunk = AudioChunk(
        sample_rate=int(sample_rate_hz),
        channels=1 if samples.ndim == 1 else samples.shape[1],
        encoding=encoding,
        first_sample=int(first_sample),
        data=array.array('B', pcm_from_samples(samples, encoding)),
    )
    chunk.header.stamp = stamp_from_ns(stamp_ns)
    chunk.header.frame_id = frame_id
    chunk.sent = stamp_from_ns(sent_ns)
    return chunk


def plan_to_msg(
    space: MotionSpace,
    number: int,
    fps: float,
    stamp_ns: np.ndarray,
    turn: np.ndarray,
    frame: np.ndarray,
    motion: np.ndarray,
    frame_id: str = '',
) -> HeadMotionPlan:
    """
    Put planned motion into a message.

    Args:
        space: of the motion.
        number: of the plan, counting up.
        fps: frames a second.
        stamp_ns: int64 `[n]`, when each frame is shown.
        turn: int64 `[n]`, the turn of each frame.
        frame: int64 `[n]`, its index within the turn.
        motion: `[n, M]`, raw units of the space.
        frame_id: the neck's base.

    Raises:
        ValueError: the plan is empty, its arrays differ in length, or a value is not finite.
    """
    n = len(stamp_ns)
    if n == 0 or not n == len(turn) == len(frame) == len(motion):
        raise ValueError(
            'a plan needs at least one frame and a stamp, turn and frame for each, got '
            f'{n}, {len(turn)}, {len(frame)} and {len(motion)} motions'
        )
    motion = np.asarray(motion, np.float32)
    finite = np.isfinite(motion).all(axis=-1)
    if not finite.all():
        raise ValueError(
            f'planned motion must be finite, frame {int(np.argmin(finite))} of {n} has NaN or '
            'infinity; the current plan continues'
        )
    quaternion = neck_to_quaternion(motion[:, space.neck])  # [n, 4]
    jaw = jaw_open_rad(space, motion)  # [n]
    expression = np.ascontiguousarray(motion[:, space.expression])
    plan = HeadMotionPlan(plan=int(number), frame_rate=float(fps))
    plan.header.stamp = stamp_from_ns(stamp_ns[0])
    plan.header.frame_id = frame_id
    for i in range(n):
        x, y, z, w = quaternion[i].tolist()
        msg = HeadMotion(
            turn=int(turn[i]),
            frame=int(frame[i]),
            neck=Quaternion(x=x, y=y, z=z, w=w),
            jaw_open=float(jaw[i]),
            expression_space=space.expression_space,
            expression=array.array('f', expression[i].tobytes()),
        )
        msg.header.stamp = stamp_from_ns(stamp_ns[i])
        msg.header.frame_id = frame_id
        plan.frames.append(msg)
    return plan


def motion_from_msg(space: MotionSpace, msg: HeadMotion) -> tuple[int, np.ndarray]:
    """
    Read one head frame into a motion space (docs/design.md, Messages).

    Returns:
        Its stamp in ns, and float32 motion `[M]`.

    Raises:
        ValueError: a value is not finite, or the expression has a wrong name or length.
    """
    neck = np.array([msg.neck.x, msg.neck.y, msg.neck.z, msg.neck.w])
    motion = frame_to_motion(
        space, neck, msg.jaw_open, msg.expression_space, np.asarray(msg.expression)
    )
    return stamp_to_ns(msg.header.stamp), motion


def plan_from_msg(space: MotionSpace, msg: HeadMotionPlan) -> tuple[np.ndarray, np.ndarray]:
    """
    Read a plan into a motion space.

    Returns:
        int64 stamps `[n]` in ns and float32 motion `[n, M]`.

    Raises:
        ValueError: the plan is empty, its stamps do not increase, or a frame is refused.
    """
    frames = [motion_from_msg(space, frame) for frame in msg.frames]
    if not frames:
        raise ValueError(f'plan {msg.plan} has no frames; expected at least one')
    stamp_ns = np.array([stamp for stamp, _ in frames], np.int64)
    if np.any(np.diff(stamp_ns) <= 0):
        raise ValueError(f'stamps of plan {msg.plan} must increase, got {stamp_ns.tolist()} ns')
    return stamp_ns, np.stack([motion for _, motion in frames])


def state_to_msg(now_ns: int, user, agent) -> ConversationState:
    """
    Put the state of both voices at a moment into a message.

    Args:
        now_ns: the moment.
        user: has level_db, probability and is_speaking, as `speaking.VoiceState`.
        agent: likewise.
    """
    state = ConversationState.USER * user.is_speaking + ConversationState.AGENT * agent.is_speaking
    msg = ConversationState(
        state=state,
        user_level_db=user.level_db,
        agent_level_db=agent.level_db,
        user_speech=user.probability,
        agent_speech=agent.probability,
    )
    msg.header.stamp = stamp_from_ns(now_ns)
    return msg
