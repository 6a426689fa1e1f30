# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Motion spaces are what docs/design.md says, and a head turns the same way in all axes."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from timar_ros.motion import (
    frame_to_motion,
    get_space,
    jaw_open_rad,
    neck_to_quaternion,
    quaternion_to_neck,
)

_NEUTRAL = np.array([0.0, 0.0, 0.0, 1.0])


def test_flame56_has_the_published_order():
    space = get_space('flame56')

    assert space.n_channels == 56
    assert space.names[0] == 'exp_00' and space.names[49] == 'exp_49'
    assert space.names[50:] == ('jaw_x', 'jaw_y', 'jaw_z', 'neck_x', 'neck_y', 'neck_z')
    assert space.names[space.jaw][0] == 'jaw_x' and space.names[space.neck][0] == 'neck_x'
    assert set(space.units[50:]) == {'rad'} and set(space.units[:50]) == {'1'}


def test_arkit55_has_the_names_that_tools_understand():
    space = get_space('arkit55')

    assert space.n_channels == 55 and space.jaw is None
    assert space.names[52:] == ('neck_x', 'neck_y', 'neck_z')
    for name in ('jawOpen', 'eyeBlinkLeft', 'browInnerUp', 'mouthSmileRight', 'tongueOut'):
        assert name in space.names[space.expression]
    assert len(set(space.names)) == 55


@pytest.mark.parametrize('name', ['flame56', 'arkit55'])
def test_groups_cover_every_channel_once_and_neutral_is_in_range(name):
    space = get_space(name)

    covered = [i for group in space.groups.values() for i in range(space.n_channels)[group]]

    assert sorted(covered) == list(range(space.n_channels))
    np.testing.assert_array_equal(space.clamp(space.neutral), space.neutral)


def test_an_unknown_space_or_channel_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="unknown motion space 'arkit52'; did you mean 'arkit55'"):
        get_space('arkit52')
    with pytest.raises(ValueError, match="no channel 'jaw_open'; did you mean 'jawOpen'"):
        get_space('arkit55').index('jaw_open')


# FLAME: x to the head's left, y up, z forward. REP-103: x forward, y left, z up.
@pytest.mark.parametrize(
    ('neck', 'looks_at', 'crown_at'),
    [
        ([np.pi / 2, 0, 0], [0, 0, -1], [1, 0, 0]),  # nose down
        ([0, np.pi / 2, 0], [0, 1, 0], [0, 0, 1]),  # nose to the left
        ([0, 0, np.pi / 2], [1, 0, 0], [0, -1, 0]),  # head leans to its right
    ],
)
def test_a_quarter_turn_points_nose_and_crown_where_they_belong(neck, looks_at, crown_at):
    rotation = Rotation.from_quat(neck_to_quaternion(np.array(neck)))

    np.testing.assert_allclose(rotation.apply([1, 0, 0]), looks_at, atol=1e-12)
    np.testing.assert_allclose(rotation.apply([0, 0, 1]), crown_at, atol=1e-12)


def test_quaternions_and_rotation_vectors_are_inverse():
    rng = np.random.default_rng(0)
    neck = rng.normal(size=(4, 5, 3)) * 0.6

    quaternion = neck_to_quaternion(neck)

    assert quaternion.shape == (4, 5, 4) and np.all(quaternion[..., 3] >= 0)
    np.testing.assert_allclose(quaternion_to_neck(quaternion), neck, atol=1e-9)
    np.testing.assert_allclose(quaternion_to_neck(-3.0 * quaternion), neck, atol=1e-9)


@pytest.mark.parametrize('quaternion', [np.zeros(4), np.array([0, np.nan, 0, 1.0])])
def test_a_quaternion_without_direction_is_refused(quaternion):
    with pytest.raises(ValueError, match='neck must be a finite quaternion .* got'):
        quaternion_to_neck(quaternion)


def test_the_jaw_opens_in_rad_whatever_the_space():
    flame, arkit = get_space('flame56'), get_space('arkit55')
    frames = np.zeros((2, 3, 56))
    frames[..., 50] = [[0.1, 0.2, -0.3], [0.0, 0.5, 0.7]]
    faces = np.zeros((2, 55))
    faces[:, arkit.index('jawOpen')] = [0.5, -0.1]

    expected = [[0.1, 0.2, 0.0], [0.0, 0.5, 0.7]]
    np.testing.assert_allclose(jaw_open_rad(flame, frames), expected)
    np.testing.assert_allclose(jaw_open_rad(arkit, faces), [0.175, 0.0])


def test_a_frame_of_the_same_space_is_taken_as_it_is():
    arkit, flame = get_space('arkit55'), get_space('flame56')
    face = np.linspace(0, 1, 52)
    neck = np.array([0.1, -0.2, 0.05])

    motion = frame_to_motion(arkit, neck_to_quaternion(neck), 0.3, 'arkit52', face)
    frame = frame_to_motion(flame, neck_to_quaternion(neck), 0.3, 'flame50', face[:50])

    np.testing.assert_allclose(motion[:52], face, atol=1e-6)  # its own jawOpen wins
    np.testing.assert_allclose(motion[52:], neck, atol=1e-6)
    np.testing.assert_allclose(frame[:50], face[:50], atol=1e-6)
    np.testing.assert_allclose(frame[50:], [0.3, 0, 0, *neck], atol=1e-6)
    assert motion.dtype == frame.dtype == np.float32


@pytest.mark.parametrize('expression', [np.full(50, 0.4), np.zeros(0)], ids=['other', 'none'])
def test_a_frame_of_the_other_space_gives_neck_and_jaw_only(expression):
    arkit = get_space('arkit55')
    neck = np.array([0.1, -0.2, 0.05])

    motion = frame_to_motion(arkit, neck_to_quaternion(neck), 0.175, 'flame50', expression)

    expected = arkit.neutral.copy()
    expected[arkit.index('jawOpen')] = 0.5
    expected[arkit.neck] = neck
    np.testing.assert_allclose(motion, expected, atol=1e-6)


def test_a_face_in_arkit_gives_flame_neck_and_jaw_only():
    flame = get_space('flame56')

    motion = frame_to_motion(flame, _NEUTRAL, 0.2, 'arkit52', np.full(52, 0.9))

    expected = np.zeros(56)
    expected[50] = 0.2
    np.testing.assert_allclose(motion, expected, atol=1e-7)


def test_a_frame_beyond_its_ranges_is_clipped_into_them():
    arkit, flame = get_space('arkit55'), get_space('flame56')

    wide = frame_to_motion(arkit, _NEUTRAL, 9.0, 'arkit52', np.full(52, 7.0))
    jaw = frame_to_motion(flame, _NEUTRAL, 9.0, 'flame50', np.full(50, -99.0))

    assert wide[:52].max() == 1.0
    np.testing.assert_allclose(jaw[[0, 50]], [-10.0, 0.7])


@pytest.mark.parametrize(
    ('jaw', 'name', 'expression', 'told'),
    [
        (0.1, 'arkit', np.zeros(52), "arkit52 or flame50, got 'arkit'; did you mean 'arkit52'"),
        (0.1, 'arkit52', np.zeros(50), 'arkit52 must have 52 values or none, got 50'),
        (np.nan, 'arkit52', np.zeros(52), 'must be finite, got NaN'),
        (0.1, 'flame50', np.full(50, np.inf), 'must be finite, got NaN or infinity'),
    ],
)
def test_a_frame_that_makes_no_sense_is_refused(jaw, name, expression, told):
    with pytest.raises(ValueError, match=told):
        frame_to_motion(get_space('arkit55'), _NEUTRAL, jaw, name, expression)
