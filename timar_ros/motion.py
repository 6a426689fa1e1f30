# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Motion spaces: what each channel of a motion vector means, and head rotations between axes.

A motion space is data: names, units, ranges, neutral. The networks see M channels, nothing else.
Neck and jaw are rotation vectors, rad, in FLAME axes: x to the head's left, y up, z forward; a
positive rotation about x is nose down. ROS has x forward, y left, z up (REP-103).
"""

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from timar_ros.strict import did_you_mean, quoted

# Radians of jaw rotation at jawOpen = 1 (docs/design.md, Messages).
JAW_RAD_PER_JAW_OPEN = 0.35

ARKIT_NAMES = (
    'eyeBlinkLeft eyeLookDownLeft eyeLookInLeft eyeLookOutLeft eyeLookUpLeft eyeSquintLeft '
    'eyeWideLeft eyeBlinkRight eyeLookDownRight eyeLookInRight eyeLookOutRight eyeLookUpRight '
    'eyeSquintRight eyeWideRight jawForward jawLeft jawRight jawOpen mouthClose mouthFunnel '
    'mouthPucker mouthLeft mouthRight mouthSmileLeft mouthSmileRight mouthFrownLeft '
    'mouthFrownRight mouthDimpleLeft mouthDimpleRight mouthStretchLeft mouthStretchRight '
    'mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthPressLeft '
    'mouthPressRight mouthLowerDownLeft mouthLowerDownRight mouthUpperUpLeft mouthUpperUpRight '
    'browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff '
    'cheekSquintLeft cheekSquintRight noseSneerLeft noseSneerRight tongueOut'
).split()

_NECK_NAMES = ['neck_x', 'neck_y', 'neck_z']
_NECK_LIMIT_RAD = 1.5
_JAW_LIMIT_RAD = 0.7


@dataclasses.dataclass(frozen=True)
class MotionSpace:
    """
    Names, units, ranges and neutral of the M channels of a motion vector.

    Attributes:
        name: what checkpoints and files call the space.
        names: channel names, M of them, unique.
        units: 'rad' or '1' for each channel.
        minimum, maximum, neutral: float32 `[M]`.
        expression, neck: slices of the channels.
        jaw: slice of the jaw's rotation vector, or None where the jaw is a blendshape.
        groups: name -> slice; the loss averages within a group and adds the groups (TIMAR, loss).
        expression_space: what HeadMotion calls the expression of this space.
    """

    name: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    minimum: np.ndarray
    maximum: np.ndarray
    neutral: np.ndarray
    expression: slice
    neck: slice
    jaw: slice | None
    groups: dict[str, slice]
    expression_space: str

    @property
    def n_channels(self) -> int:
        """Number of channels M."""
        return len(self.names)

    def index(self, name: str) -> int:
        """
        Return the channel called `name`.

        Raises:
            ValueError: the space has no such channel.
        """
        if name not in self.names:
            raise ValueError(
                f'{self.name} has no channel {quoted(name)}{_suggest(name, self.names)}'
            )
        return self.names.index(name)

    def clamp(self, motion: np.ndarray) -> np.ndarray:
        """Clip motion `[..., M]` into the ranges of the channels."""
        return np.clip(motion, self.minimum, self.maximum)


def _suggest(name, known) -> str:
    return did_you_mean(name, known) or f'; known: {", ".join(known)}'


def _flame56() -> MotionSpace:
    names = [f'exp_{i:02d}' for i in range(50)] + ['jaw_x', 'jaw_y', 'jaw_z'] + _NECK_NAMES
    # FLAME's expression coefficients are unbounded; +-10 standard deviations stops only nonsense.
    limit = np.array([10.0] * 50 + [_JAW_LIMIT_RAD] * 3 + [_NECK_LIMIT_RAD] * 3, np.float32)
    return MotionSpace(
        name='flame56',
        names=tuple(names),
        units=('1',) * 50 + ('rad',) * 6,
        minimum=-limit,
        maximum=limit,
        neutral=np.zeros(56, np.float32),
        expression=slice(0, 50),
        jaw=slice(50, 53),
        neck=slice(53, 56),
        groups={'exp': slice(0, 50), 'jaw': slice(50, 53), 'neck': slice(53, 56)},
        expression_space='flame50',
    )


def _arkit55() -> MotionSpace:
    return MotionSpace(
        name='arkit55',
        names=tuple(ARKIT_NAMES + _NECK_NAMES),
        units=('1',) * 52 + ('rad',) * 3,
        minimum=np.array([0.0] * 52 + [-_NECK_LIMIT_RAD] * 3, np.float32),
        maximum=np.array([1.0] * 52 + [_NECK_LIMIT_RAD] * 3, np.float32),
        neutral=np.zeros(55, np.float32),
        expression=slice(0, 52),
        jaw=None,
        neck=slice(52, 55),
        groups={
            'eyes': slice(0, 14),
            'mouth': slice(14, 41),
            'brows': slice(41, 52),
            'neck': slice(52, 55),
        },
        expression_space='arkit52',
    )


SPACES = {space.name: space for space in (_flame56(), _arkit55())}


def get_space(name: str) -> MotionSpace:
    """
    Return the motion space called `name`.

    Raises:
        ValueError: there is no such space.
    """
    if name not in SPACES:
        raise ValueError(f'unknown motion space {quoted(name)}{_suggest(name, SPACES)}')
    return SPACES[name]


def jaw_open_rad(space: MotionSpace, motion: np.ndarray) -> np.ndarray:
    """Return how far the jaw of motion `[..., M]` is open, `[...]`, rad, at least 0."""
    if space.jaw is not None:
        return np.maximum(motion[..., space.jaw.start], 0.0)
    return JAW_RAD_PER_JAW_OPEN * np.maximum(motion[..., space.index('jawOpen')], 0.0)


def neck_to_quaternion(neck: np.ndarray) -> np.ndarray:
    """
    Turn FLAME neck rotation vectors into ROS quaternions.

    Args:
        neck: `[..., 3]` rad, FLAME axes.

    Returns:
        `[..., 4]` (x, y, z, w), REP-103 axes, w >= 0.
    """
    rotvec = np.asarray(neck, np.float64)[..., [2, 0, 1]]  # (x, y, z)_ros = (z, x, y)_flame
    quaternion = Rotation.from_rotvec(rotvec.reshape(-1, 3)).as_quat()
    quaternion *= np.where(quaternion[:, 3:] < 0, -1.0, 1.0)  # q and -q are one rotation
    return quaternion.reshape(*rotvec.shape[:-1], 4)


def quaternion_to_neck(quaternion: np.ndarray) -> np.ndarray:
    """
    Turn ROS quaternions into FLAME neck rotation vectors; the inverse of `neck_to_quaternion`.

    Args:
        quaternion: `[..., 4]` (x, y, z, w), REP-103 axes, of any norm but 0.

    Returns:
        `[..., 3]` rad, FLAME axes.

    Raises:
        ValueError: a quaternion has no direction (norm 0) or is not finite.
    """
    quaternion = np.asarray(quaternion, np.float64)
    norm = np.linalg.norm(quaternion, axis=-1)
    if not np.all(np.isfinite(norm)) or np.any(norm < 1e-6):
        raise ValueError(
            f'neck must be a finite quaternion (x, y, z, w) of norm 1, got {quaternion.tolist()}; '
            'the neutral head is (0, 0, 0, 1)'
        )
    rotvec = Rotation.from_quat(quaternion.reshape(-1, 4)).as_rotvec()
    return rotvec.reshape(*quaternion.shape[:-1], 3)[..., [1, 2, 0]]


def frame_to_motion(
    space: MotionSpace,
    quaternion: np.ndarray,
    jaw_open: float,
    expression_space: str,
    expression: np.ndarray,
) -> np.ndarray:
    """
    Bring one received head frame into `space`.

    A frame in the other expression space gives neck and jaw only; its expression is neutral.

    Args:
        space: the space wanted.
        quaternion: `[4]` neck (x, y, z, w), REP-103 axes.
        jaw_open: rad, at least 0.
        expression_space: 'arkit52' or 'flame50'.
        expression: `[52]` or `[50]`, or empty for neutral.

    Returns:
        float32 `[M]`, inside the ranges of the space.

    Raises:
        ValueError: a value is not finite, or the expression has a wrong name or length.
    """
    lengths = {'arkit52': 52, 'flame50': 50}
    if expression_space not in lengths:
        raise ValueError(
            f'expression_space must be arkit52 or flame50, got {quoted(expression_space)}'
            f'{_suggest(expression_space, lengths)}'
        )
    expression = np.asarray(expression, np.float32)
    if len(expression) not in (0, lengths[expression_space]):
        raise ValueError(
            f'expression of {expression_space} must have {lengths[expression_space]} values or '
            f'none, got {len(expression)}'
        )
    if not np.isfinite(jaw_open) or not np.all(np.isfinite(expression)):
        raise ValueError('head motion must be finite, got NaN or infinity; drop the frame instead')
    motion = space.neutral.copy()
    motion[space.neck] = quaternion_to_neck(quaternion)
    if len(expression) and expression_space == space.expression_space:
        motion[space.expression] = expression
    if space.jaw is not None:
        motion[space.jaw.start] = jaw_open
    elif not (len(expression) and expression_space == space.expression_space):
        motion[space.index('jawOpen')] = jaw_open / JAW_RAD_PER_JAW_OPEN
    return space.clamp(motion).astype(np.float32)
