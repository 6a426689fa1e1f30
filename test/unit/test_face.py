# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Expressions as blendshapes: what passes, what a mapping adds, and what is left without one."""

import numpy as np
import pytest

from timar_ros.motion import ARKIT_NAMES
from timar_ros.retarget.face import (
    FaceMapping,
    flame_to_arkit,
    flame_to_arkit_exactly,
    load_mapping,
    save_mapping,
    to_arkit,
)

JAW = ARKIT_NAMES.index('jawOpen')


@pytest.fixture(scope='module')
def mapping():
    """Shapes that overlap, as those of a face do; jaw, eyes and tongue unfitted."""
    rng = np.random.default_rng(0)
    shapes = rng.standard_normal((300, 12)) @ rng.standard_normal((12, 52))
    shapes += 0.5 * rng.standard_normal((300, 52))
    shapes *= rng.uniform(0.2, 3.0, 52)
    unfitted = [JAW, 51, *(i for i, name in enumerate(ARKIT_NAMES) if 'eyeLook' in name)]
    shapes[:, unfitted] = 0.0
    flame = shapes @ rng.standard_normal((52, 50)) * 0.3 + rng.standard_normal((300, 50))
    ridge = np.diag(np.where(shapes.any(axis=0), 0.5, 0.0))
    return FaceMapping(shapes.T @ shapes + ridge, shapes.T @ flame, 'a test')


def test_the_fast_fit_of_a_plan_is_the_exact_one(mapping):
    expression = np.random.default_rng(1).standard_normal((40, 50))

    fast = flame_to_arkit(mapping, expression)

    np.testing.assert_allclose(fast, flame_to_arkit_exactly(mapping, expression), atol=1e-3)
    assert 0.2 < np.mean(fast[:, mapping.fitted] > 0) < 0.9  # bounds are met, and not everywhere


def test_no_blendshape_leaves_its_range_and_unfitted_ones_rest(mapping):
    expression = 20.0 * np.random.default_rng(2).standard_normal((40, 50))

    arkit = flame_to_arkit(mapping, expression)

    assert arkit.min() == 0.0
    assert arkit.max() == 1.0
    np.testing.assert_array_equal(arkit[:, ~mapping.fitted], 0.0)


def test_blendshapes_pass_as_they_are():
    arkit = np.random.default_rng(3).random((5, 52)).astype(np.float32)

    np.testing.assert_array_equal(to_arkit('arkit52', arkit, np.full(5, 0.1)), arkit)


def test_flame_without_a_mapping_moves_the_jaw_only():
    expression = np.ones((3, 50))

    arkit = to_arkit('flame50', expression, np.array([0.0, 0.07, 0.7]))

    np.testing.assert_allclose(arkit[:, JAW], [0.0, 0.2, 1.0])
    assert np.delete(arkit, JAW, axis=1).any() == np.False_


def test_flame_with_a_mapping_moves_face_and_jaw(mapping):
    expression = np.random.default_rng(4).standard_normal((3, 50))

    arkit = to_arkit('flame50', expression, np.full(3, 0.175), mapping)

    others = np.delete(arkit, JAW, axis=1)
    np.testing.assert_allclose(arkit[:, JAW], 0.5)
    expected = np.delete(flame_to_arkit(mapping, expression), JAW, axis=1)
    np.testing.assert_allclose(others, expected, atol=1e-5)
    assert others.any()


def test_a_frame_without_expression_moves_the_jaw_only():
    arkit = to_arkit('arkit52', np.zeros((2, 0)), np.array([0.035, 0.35]))

    np.testing.assert_allclose(arkit[:, JAW], [0.1, 1.0])
    assert not np.delete(arkit, JAW, axis=1).any()


def test_a_mapping_is_read_as_it_was_written(mapping, tmp_path):
    path = tmp_path / 'mine'  # a name without .npz stays what it is

    save_mapping(path, mapping)
    read = load_mapping(path)

    np.testing.assert_array_equal(read.gram, mapping.gram)
    np.testing.assert_array_equal(read.cross, mapping.cross)
    assert read.source == 'a test'


@pytest.mark.parametrize('content', [b'', b'nonsense', b'PK\x03\x04nonsense', b'\x80\x04N.'])
def test_a_file_that_is_no_mapping_is_refused_by_name(content, tmp_path):
    path = tmp_path / 'broken.npz'
    path.write_bytes(content)

    with pytest.raises(ValueError, match=r'broken\.npz is not a face mapping'):
        load_mapping(path)


def test_an_archive_of_something_else_is_refused_with_what_it_holds(tmp_path):
    np.savez(tmp_path / 'other.npz', weights=np.zeros(3))

    with pytest.raises(ValueError, match='got a file with weights'):
        load_mapping(tmp_path / 'other.npz')


def test_a_mapping_that_is_not_there_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'none\.npz; fit one .*retarget\.fit_face'):
        load_mapping(tmp_path / 'none.npz')


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'gram': np.zeros((51, 51))}, r'gram must be finite and \[52, 52\], got \[51, 51\]'),
        ({'cross': np.full((52, 50), np.nan)}, 'cross must be finite'),
        ({'gram': np.zeros((52, 52))}, 'moves no blendshape'),
    ],
)
def test_a_mapping_that_cannot_work_is_refused(change, text):
    given = {'gram': np.eye(52), 'cross': np.zeros((52, 50)), **change}

    with pytest.raises(ValueError, match=text):
        FaceMapping(**given)


@pytest.mark.parametrize(
    ('space', 'shape', 'jaw', 'text'),
    [
        ('arkit', (1, 52), 0.0, "arkit52 or flame50, got 'arkit'"),
        ('arkit52', (1, 50), 0.0, 'arkit52 must have 52 values or none, got 50'),
        ('flame50', (1, 52), 0.0, 'flame50 must have 50 values or none, got 52'),
        ('flame50', (1, 50), np.nan, 'must be finite'),
    ],
)
def test_an_expression_that_does_not_fit_its_space_is_refused(space, shape, jaw, text):
    with pytest.raises(ValueError, match=text):
        to_arkit(space, np.zeros(shape), np.array([jaw]))
