# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The frames of a HeadMotionPlan as a face shows them.

Responsible for refusing plans that no face can show. Not for when they are shown, nor by whom.
"""

from typing import NamedTuple

import numpy as np

from timar_ros.motion import ARKIT_NAMES
from timar_ros.msg import HeadMotion, HeadMotionPlan
from timar_ros.nodes.joints import head_frames_from_msg
from timar_ros.retarget.face import FaceMapping, to_arkit
from timar_ros.strict import quoted

_MAX_LENGTH = len(ARKIT_NAMES)  # of an expression, in any space
_LEAST_NORM = 1e-6


class FacePlan(NamedTuple):
    """
    Frames to be shown.

    Attributes:
        stamp_ns: int64 `[n]`, increasing.
        neck: float64 `[n, 4]`, unit quaternions x, y, z, w, REP-103.
        arkit: float32 `[n, 52]`, 0..1.
        is_unmapped: expressions came in flame50, and there is no mapping for them.
    """

    stamp_ns: np.ndarray
    neck: np.ndarray
    arkit: np.ndarray
    is_unmapped: bool


def face_plan(msg: HeadMotionPlan, mapping: FaceMapping | None) -> FacePlan:
    """
    Read a plan.

    Args:
        msg: of a bounded number of frames (`plan_bytes`).
        mapping: for expressions in flame50; None: they are neutral.

    Raises:
        ValueError: it has no frames, their stamps do not increase, or a frame cannot be shown.
    """
    if not msg.frames:
        raise ValueError('expected at least 1 frame, got 0; publish the frames of the plan')
    stamp_ns, neck, jaw = head_frames_from_msg(msg)
    if np.any(np.diff(stamp_ns) <= 0):
        raise ValueError('stamps of its frames must increase; publish frames in order of time')
    spaces = {frame.expression_space for frame in msg.frames}
    lengths = {len(frame.expression) for frame in msg.frames}
    if len(spaces) > 1 or len(lengths) > 1 or max(lengths) > _MAX_LENGTH:
        raise ValueError(
            'all frames must have one expression_space and one length of at most '
            f'{_MAX_LENGTH}, got {quoted(sorted(spaces))} and {quoted(sorted(lengths))}'
        )
    neck = _unit(neck)
    expression = np.array([frame.expression for frame in msg.frames], np.float32)
    space = spaces.pop() if lengths != {0} else HeadMotion.ARKIT52
    arkit = to_arkit(space, expression, jaw, mapping)
    return FacePlan(stamp_ns, neck, arkit, space == HeadMotion.FLAME50 and mapping is None)


def _unit(quaternion: np.ndarray) -> np.ndarray:
    """Return quaternions `[n, 4]` of norm 1: of 1e39, only the direction fits into float32."""
    largest = np.abs(quaternion).max(axis=-1, keepdims=True)
    is_bad = ~(np.isfinite(largest) & (largest > _LEAST_NORM))[:, 0]
    if is_bad.any():
        first = int(np.argmax(is_bad))
        raise ValueError(
            'neck must be a finite quaternion (x, y, z, w) of norm 1, got '
            f'{quoted(quaternion[first].tolist())} in frame {first}; '
            'the neutral head is (0, 0, 0, 1)'
        )
    direction = quaternion / largest
    return direction / np.linalg.norm(direction, axis=-1, keepdims=True)
