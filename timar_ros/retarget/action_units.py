# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
ARKit blendshapes and head rotation as FACS action units, by their numbers.

Knows which muscles each blendshape is drawn from. Refuses to guess what ARKit does not show: such
units stay 0, and `EXPRESSED` says which are known to be 0 when they are; the head's are if a neck
is given.
"""

import numpy as np

from timar_ros.motion import ARKIT_NAMES

N_ACTION_UNITS = 99  # numbers 0..98, as hri_msgs/FacialActionUnits counts them

# Action unit -> the blendshapes that show it. The two sides of a face are one unit: the stronger
# side counts. Source: Ekman and Friesen's manual (2002) against the pictures of Apple's
# ARFaceAnchor.BlendShapeLocation.
_FROM_BLENDSHAPES = {
    1: 'browInnerUp',  # inner brow raiser
    2: 'browOuterUpLeft browOuterUpRight',  # outer brow raiser
    4: 'browDownLeft browDownRight',  # brow lowerer
    5: 'eyeWideLeft eyeWideRight',  # upper lid raiser
    6: 'cheekSquintLeft cheekSquintRight',  # cheek raiser
    7: 'eyeSquintLeft eyeSquintRight',  # lid tightener
    9: 'noseSneerLeft noseSneerRight',  # nose wrinkler
    10: 'mouthUpperUpLeft mouthUpperUpRight',  # upper lip raiser
    12: 'mouthSmileLeft mouthSmileRight',  # lip corner puller
    14: 'mouthDimpleLeft mouthDimpleRight',  # dimpler
    15: 'mouthFrownLeft mouthFrownRight',  # lip corner depressor
    16: 'mouthLowerDownLeft mouthLowerDownRight',  # lower lip depressor
    17: 'mouthShrugLower',  # chin raiser
    18: 'mouthPucker',  # lip pucker
    19: 'tongueOut',  # tongue show
    20: 'mouthStretchLeft mouthStretchRight',  # lip stretcher
    22: 'mouthFunnel',  # lip funneler
    24: 'mouthPressLeft mouthPressRight',  # lip pressor
    28: 'mouthRollLower mouthRollUpper',  # lip suck
    29: 'jawForward',  # jaw thrust
    30: 'jawLeft jawRight',  # jaw sideways
    34: 'cheekPuff',  # cheek puff
    63: 'eyeLookUpLeft eyeLookUpRight',  # eyes up
    64: 'eyeLookDownLeft eyeLookDownRight',  # eyes down
}
_JAW_DROP, _MOUTH_STRETCH, _LIPS_PART = 26, 27, 25
_EYES_CLOSED, _BLINK, _WINK = 43, 45, 46
_EYES_LEFT, _EYES_RIGHT, _WALLEYE, _CROSS_EYE = 61, 62, 65, 66
_HEAD = ((51, 52), (53, 54), (55, 56))  # turn left, right; up, down; tilt left, right
_OTHERS = (25, 26, 27, 43, 45, 46, 51, 52, 53, 54, 55, 56, 61, 62, 65, 66)
# A jaw open further than this is stretched, not dropped (AU 27 begins where 26 ends).
_DROPPED = 0.7
# A head turned, raised or tilted so far counts as fully so.
_HEAD_FULL_RAD = 0.7

_INDEX = {name: i for i, name in enumerate(ARKIT_NAMES)}
_COLUMNS = {unit: [_INDEX[n] for n in names.split()] for unit, names in _FROM_BLENDSHAPES.items()}

EXPRESSED = np.zeros(N_ACTION_UNITS, bool)
EXPRESSED[[*_COLUMNS, *_OTHERS]] = True
EXPRESSED.flags.writeable = False


def action_units(arkit: np.ndarray, neck: np.ndarray | None = None) -> np.ndarray:
    """
    Tell how strongly each action unit is shown.

    Args:
        arkit: `[..., 52]` blendshapes, 0..1.
        neck: `[..., 3]` rotation vector of the head, rad, FLAME axes; None leaves the head's
            units 51 to 56 at 0.

    Returns:
        float32 `[..., 99]`, 0..1, by the number of the unit.

    Raises:
        ValueError: a shape does not fit or a value is not finite.
    """
    arkit = np.asarray(arkit, np.float32)
    if arkit.ndim < 1 or arkit.shape[-1] != len(ARKIT_NAMES):
        raise ValueError(f'arkit must be [..., {len(ARKIT_NAMES)}], got {list(arkit.shape)}')
    if not np.all(np.isfinite(arkit)):
        raise ValueError('blendshapes must be finite, got NaN or infinity; drop the frame instead')
    arkit = np.clip(arkit, 0.0, 1.0)
    units = np.zeros((*arkit.shape[:-1], N_ACTION_UNITS), np.float32)
    for unit, columns in _COLUMNS.items():
        units[..., unit] = arkit[..., columns].max(axis=-1)
    _add_mouth(units, arkit)
    _add_eyes(units, arkit)
    if neck is not None:
        _add_head(units, np.asarray(neck, np.float32))
    return units


def _add_mouth(units, arkit) -> None:
    jaw, close = arkit[..., _INDEX['jawOpen']], arkit[..., _INDEX['mouthClose']]
    units[..., _JAW_DROP] = np.minimum(jaw / _DROPPED, 1.0)
    units[..., _MOUTH_STRETCH] = np.maximum(jaw - _DROPPED, 0.0) / (1 - _DROPPED)
    lips = np.maximum(units[..., 10], units[..., 16])
    units[..., _LIPS_PART] = np.clip(np.maximum(jaw - close, lips), 0.0, 1.0)


def _add_eyes(units, arkit) -> None:
    left, right = (arkit[..., _INDEX[f'eyeBlink{side}']] for side in ('Left', 'Right'))
    both = np.minimum(left, right)
    # A blink is not told from closed eyes by one frame: both rise.
    units[..., _BLINK] = units[..., _EYES_CLOSED] = both
    units[..., _WINK] = np.abs(left - right)
    # To the left: the left eye looks out, the right one in.
    left_eye = arkit[..., _INDEX['eyeLookOutLeft']] - arkit[..., _INDEX['eyeLookInLeft']]
    right_eye = arkit[..., _INDEX['eyeLookInRight']] - arkit[..., _INDEX['eyeLookOutRight']]
    version, vergence = (left_eye + right_eye) / 2, (right_eye - left_eye) / 2
    units[..., _EYES_LEFT], units[..., _EYES_RIGHT] = _parts(version)
    units[..., _CROSS_EYE], units[..., _WALLEYE] = _parts(vergence)


def _add_head(units, neck) -> None:
    if neck.shape != (*units.shape[:-1], 3) or not np.all(np.isfinite(neck)):
        raise ValueError(
            f'neck must be finite and {[*units.shape[:-1], 3]}, got {list(neck.shape)}'
        )
    # FLAME axes: x is nose down, y to the left, z the left ear up, so a tilt to the right.
    shown = np.clip(neck / _HEAD_FULL_RAD, -1.0, 1.0)
    down, left, tilt_right = shown[..., 0], shown[..., 1], shown[..., 2]
    for (positive, negative), value in zip(_HEAD, (left, -down, -tilt_right), strict=True):
        units[..., positive], units[..., negative] = _parts(value)


def _parts(signed):
    return np.maximum(signed, 0.0), np.maximum(-signed, 0.0)
