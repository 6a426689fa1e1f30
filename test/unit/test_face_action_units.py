# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Action units by number: which blendshape shows which, and what the head and eyes add."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from timar_ros.motion import ARKIT_NAMES, quaternion_to_neck
from timar_ros.retarget.action_units import EXPRESSED, N_ACTION_UNITS, action_units


def face(**shapes) -> np.ndarray:
    arkit = np.zeros(52, np.float32)
    for name, value in shapes.items():
        arkit[ARKIT_NAMES.index(name)] = value
    return arkit


def shown(units) -> dict:
    return {int(i): round(float(units[i]), 3) for i in np.flatnonzero(units)}


def test_a_neutral_face_shows_no_unit():
    assert shown(action_units(face())) == {}


@pytest.mark.parametrize(
    ('shapes', 'expected'),
    [
        ({'browInnerUp': 0.5}, {1: 0.5}),
        ({'browOuterUpLeft': 0.4}, {2: 0.4}),
        ({'browDownLeft': 0.2, 'browDownRight': 0.6}, {4: 0.6}),
        ({'eyeWideRight': 1.0}, {5: 1.0}),
        ({'cheekSquintLeft': 0.3}, {6: 0.3}),
        ({'noseSneerRight': 0.3}, {9: 0.3}),
        ({'mouthSmileLeft': 0.7, 'mouthSmileRight': 0.5}, {12: 0.7}),
        ({'mouthFrownLeft': 0.5}, {15: 0.5}),
        ({'mouthPucker': 0.8}, {18: 0.8}),
        ({'mouthStretchLeft': 0.25}, {20: 0.25}),
        ({'mouthFunnel': 0.5}, {22: 0.5}),
        ({'mouthPressLeft': 0.5}, {24: 0.5}),
        ({'jawForward': 0.5}, {29: 0.5}),
        ({'cheekPuff': 1.0}, {34: 1.0}),
        # lips part as far as they do not close over the open jaw
        ({'jawOpen': 0.35}, {25: 0.35, 26: 0.5}),
        ({'jawOpen': 0.35, 'mouthClose': 0.35}, {26: 0.5}),
        ({'jawOpen': 1.0}, {25: 1.0, 26: 1.0, 27: 1.0}),
        ({'mouthLowerDownLeft': 0.4}, {16: 0.4, 25: 0.4}),
        # two eyes blink, one winks
        ({'eyeBlinkLeft': 1.0, 'eyeBlinkRight': 1.0}, {43: 1.0, 45: 1.0}),
        ({'eyeBlinkLeft': 1.0}, {46: 1.0}),
        ({'eyeLookOutLeft': 0.5, 'eyeLookInRight': 0.5}, {61: 0.5}),
        ({'eyeLookInLeft': 0.5, 'eyeLookOutRight': 0.5}, {62: 0.5}),
        ({'eyeLookInLeft': 0.5, 'eyeLookInRight': 0.5}, {66: 0.5}),
        ({'eyeLookUpLeft': 0.2, 'eyeLookUpRight': 0.2}, {63: 0.2}),
    ],
)
def test_each_blendshape_shows_its_unit_and_no_other(shapes, expected):
    assert shown(action_units(face(**shapes))) == pytest.approx(expected)


@pytest.mark.parametrize(
    ('axis', 'rad', 'unit'),
    [
        ('z', 0.35, 51),  # REP-103: counterclockwise from above, so to the head's left
        ('z', -0.35, 52),
        ('y', -0.35, 53),
        ('y', 0.35, 54),  # nose down
        ('x', -0.35, 55),  # left ear down
        ('x', 0.35, 56),
    ],
)
def test_the_head_shows_the_units_of_its_turn(axis, rad, unit):
    neck = quaternion_to_neck(Rotation.from_euler(axis, rad).as_quat())

    assert shown(action_units(face(), neck)) == pytest.approx({unit: 0.5}, abs=1e-3)


def test_many_frames_are_read_at_once_like_one_by_one():
    rng = np.random.default_rng(3)
    arkit = rng.random((7, 52)).astype(np.float32)
    neck = rng.normal(0, 0.2, (7, 3)).astype(np.float32)

    units = action_units(arkit, neck)

    one_by_one = np.stack([action_units(a, n) for a, n in zip(arkit, neck, strict=True)])
    # NumPy 1 rounds a single frame's arithmetic once more than that of many
    np.testing.assert_allclose(units, one_by_one, rtol=0, atol=np.finfo(np.float32).eps)
    assert units.shape == (7, N_ACTION_UNITS)
    assert units.min() >= 0.0
    assert units.max() <= 1.0


def test_every_unit_that_is_ever_shown_is_said_to_be_expressed():
    arkit = np.concatenate([np.eye(52), np.eye(52) + np.roll(np.eye(52), 7, axis=1)])

    units = action_units(np.clip(arkit, 0, 1))

    ever = np.flatnonzero(units.any(axis=0))
    assert set(ever) <= set(np.flatnonzero(EXPRESSED))
    assert not EXPRESSED[[0, 8, 11, 13, 21, 98]].any()


@pytest.mark.parametrize(
    ('arkit', 'neck', 'text'),
    [
        (np.zeros(51), None, r'must be \[\.\.\., 52\], got \[51\]'),
        (np.full(52, np.nan), None, 'must be finite'),
        (np.zeros(52), np.zeros(4), r'neck must be finite and \[3\], got \[4\]'),
        (np.zeros(52), np.full(3, np.inf), 'neck must be finite'),
    ],
)
def test_what_is_no_face_is_refused(arkit, neck, text):
    with pytest.raises(ValueError, match=text):
        action_units(arkit, neck)
