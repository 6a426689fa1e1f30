# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Fitting FLAME to ARKit, on face models made here: an egg with bumps that move."""

import pickle
import sys
import types

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from timar_ros.motion import ARKIT_NAMES
from timar_ros.retarget.correspondence import carry_over, fit_similarity, read_landmarks
from timar_ros.retarget.face import flame_to_arkit, load_mapping
from timar_ros.retarget.fit_face import explained, fit_mapping, main
from timar_ros.retarget.mesh import FaceModel, read_blendshapes, read_flame, read_obj

SHAPES = [
    'mouthSmileLeft', 'mouthSmileRight', 'mouthPucker', 'browDownLeft', 'browDownRight',
    'browInnerUp', 'noseSneerLeft', 'cheekPuff', 'jawOpen', 'eyeLookUpLeft',
]  # fmt: skip
FITTED = [name for name in SHAPES if not name.startswith(('jawOpen', 'eyeLook'))]
COLUMNS = [ARKIT_NAMES.index(name) for name in FITTED]


def egg(n: int, seed: int) -> np.ndarray:
    """Return points all over an egg 0.2 m high, `[n, 3]`; another seed is another topology."""
    rng = np.random.default_rng(seed)
    i = np.arange(n) + 0.5
    polar, around = np.arccos(1 - 2 * i / n), np.pi * (1 + 5**0.5) * i + rng.random()
    unit = np.stack(
        [np.cos(around) * np.sin(polar), np.cos(polar), np.sin(around) * np.sin(polar)], axis=1
    )
    return unit * [0.07, 0.1, 0.09]


def bumps(points: np.ndarray) -> np.ndarray:
    """Return the displacement of each shape at points of the egg, `[n, 3, K]`, smooth."""
    rng = np.random.default_rng(7)
    centers = rng.standard_normal((len(SHAPES), 3))
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    ways = 0.01 * rng.standard_normal((len(SHAPES), 3))
    unit = points / [0.07, 0.1, 0.09]
    near = np.exp(-np.square(unit[:, None] - centers).sum(axis=2) / 0.5)  # [n, K]
    return near[:, None, :] * ways.T[None]


@pytest.fixture(scope='module')
def mixture():
    """What each FLAME expression is made of, in shapes, `[K, 50]`; of both signs."""
    return np.random.default_rng(8).standard_normal((len(FITTED), 50)) * 0.4


@pytest.fixture(scope='module')
def flame(mixture):
    points = egg(700, seed=1)
    fitted = bumps(points)[:, :, [SHAPES.index(name) for name in FITTED]]
    names = tuple(f'exp_{i:02d}' for i in range(50))
    return FaceModel(points, fitted @ mixture, names)


@pytest.fixture(scope='module')
def shapes():
    points = egg(700, seed=1)
    return FaceModel(points, bumps(points), tuple(SHAPES))


@pytest.fixture(scope='module')
def expressions(mixture):
    """Expressions whose shapes are known: `[n, 50]` and the shapes' weights `[n, K]`."""
    rng = np.random.default_rng(9)
    weights = rng.random((30, len(FITTED))) * (rng.random((30, len(FITTED))) < 0.5)
    return weights @ np.linalg.pinv(mixture).T, weights


def test_the_weights_behind_an_expression_are_found(flame, shapes, expressions):
    expression, weights = expressions

    arkit = flame_to_arkit(fit_mapping(flame, shapes), expression)

    np.testing.assert_allclose(arkit[:, COLUMNS], weights, atol=0.02)
    assert not np.delete(arkit, COLUMNS, axis=1).any()


def test_shapes_of_another_topology_pose_and_unit_are_carried_over(flame, expressions):
    expression, weights = expressions
    points = egg(2600, seed=2)
    pose = Rotation.from_euler('xyz', [0.2, -0.4, 0.1]).as_matrix()
    other = FaceModel(
        100 * points @ pose.T + [5.0, -3.0, 40.0],
        100 * np.einsum('ij,vjk->vik', pose, bumps(points)),
        tuple(SHAPES),
    )
    corners = np.arange(0, 700, 50)
    nearest = np.square(flame.vertices[corners, None] - points).sum(axis=2).argmin(axis=1)

    mapping = fit_mapping(flame, other, np.stack([corners, nearest], axis=1))

    arkit = flame_to_arkit(mapping, expression)
    np.testing.assert_allclose(arkit[:, COLUMNS], weights, atol=0.12)
    assert np.abs(arkit[:, COLUMNS] - weights).mean() < 0.02


def test_where_the_faces_do_not_meet_a_vertex_is_left_out(flame):
    points = egg(2600, seed=2)
    front = points[:, 2] > 0
    half = FaceModel(points[front], bumps(points[front]), tuple(SHAPES))
    corners = np.flatnonzero(flame.vertices[:, 2] > 0.02)[::20]
    nearest = np.square(flame.vertices[corners, None] - points[front]).sum(axis=2).argmin(axis=1)

    carried, is_met = carry_over(half, flame.vertices, np.stack([corners, nearest], axis=1))

    assert is_met[flame.vertices[:, 2] > 0.01].all()
    assert not is_met[flame.vertices[:, 2] < -0.03].any()
    np.testing.assert_array_equal(carried[~is_met], 0.0)


def test_a_similarity_is_found_exactly_and_is_no_mirror():
    rng = np.random.default_rng(5)
    points = rng.standard_normal((9, 3))
    rotation = Rotation.random(random_state=4).as_matrix()

    found = fit_similarity(points, 2.5 * points @ rotation.T + [1.0, 2.0, 3.0])

    np.testing.assert_allclose(found.rotation, rotation, atol=1e-12)
    np.testing.assert_allclose(found.scale, 2.5)
    np.testing.assert_allclose(found.offset, [1.0, 2.0, 3.0], atol=1e-12)
    mirrored = fit_similarity(points, points * [-1.0, 1.0, 1.0])
    np.testing.assert_allclose(np.linalg.det(mirrored.rotation), 1.0)


def test_what_is_said_to_be_explained_is_what_meshes_show(flame, shapes):
    mapping = fit_mapping(flame, shapes)
    expression = np.random.default_rng(0).standard_normal((200, 50))
    moved = np.einsum('vik,nk->nvi', flame.displacements, expression)
    weights = flame_to_arkit(mapping, expression)[:, [ARKIT_NAMES.index(n) for n in SHAPES]]
    repeated = np.einsum('vik,nk->nvi', shapes.displacements, weights)

    share = 1 - np.square(moved - repeated).sum() / np.square(moved).sum()

    assert explained(mapping, flame) == pytest.approx(share, abs=0.01)
    assert 0.15 < share < 0.9  # half of what random expressions do needs weights below 0


def write_obj(path, points):
    lines = ['# a face', *(f'v {x:.9g} {y:.9g} {z:.9g}' for x, y, z in points), 'f 1 2 3', '']
    path.write_text('\n'.join(lines))


@pytest.fixture
def folder(tmp_path, shapes):
    folder = tmp_path / 'shapes'
    folder.mkdir()
    write_obj(folder / 'generic_neutral_mesh.obj', shapes.vertices)
    for i, name in enumerate(shapes.names):
        write_obj(folder / f'{name}.obj', shapes.vertices + shapes.displacements[:, :, i])
    return folder


def flame_content(flame):
    directions = np.zeros((len(flame.vertices), 3, 400))
    directions[:, :, 300:350] = flame.displacements
    return {'v_template': flame.vertices, 'shapedirs': directions}


def test_the_command_fits_from_files_and_says_how_well(
    flame, folder, expressions, tmp_path, capsys
):
    np.savez(tmp_path / 'flame.npz', **flame_content(flame))
    out = tmp_path / 'mapping.npz'

    status = main([str(tmp_path / 'flame.npz'), str(folder), str(out)])

    text = capsys.readouterr().out
    assert status == 0
    assert '8 blendshapes repeat ' in text
    assert 'jawOpen' in text.split('not fitted:')[1]
    expression, weights = expressions
    arkit = flame_to_arkit(load_mapping(out), expression)
    np.testing.assert_allclose(arkit[:, COLUMNS], weights, atol=0.02)


def test_the_command_says_what_is_wrong_and_writes_nothing(flame, folder, tmp_path, capsys):
    points = FaceModel(flame.vertices[:600], flame.displacements[:600], flame.names)
    np.savez(tmp_path / 'flame.npz', **flame_content(points))

    status = main([str(tmp_path / 'flame.npz'), str(folder), str(tmp_path / 'out.npz')])

    assert status == 1
    assert 'FLAME has 600 vertices and the shapes 700' in capsys.readouterr().err
    assert not (tmp_path / 'out.npz').exists()


def test_halves_and_sides_by_their_suffix_are_understood(tmp_path, shapes):
    write_obj(tmp_path / 'neutral.obj', shapes.vertices)
    write_obj(tmp_path / 'eyeBlink_L.obj', shapes.vertices + [0.0, 0.001, 0.0])
    write_obj(tmp_path / 'browInnerUp_L.obj', shapes.vertices + [0.002, 0.0, 0.0])
    write_obj(tmp_path / 'browInnerUp_R.obj', shapes.vertices + [0.003, 0.0, 0.0])
    write_obj(tmp_path / 'identity000.obj', shapes.vertices[:5])

    model = read_blendshapes(tmp_path)

    assert model.names == ('eyeBlinkLeft', 'browInnerUp')
    np.testing.assert_allclose(model.displacements[0], [[0, 0.005], [0.001, 0], [0, 0]], atol=1e-8)


def test_flame_is_read_from_a_pickle_with_chumpy_arrays_without_chumpy(
    flame, tmp_path, monkeypatch
):
    chumpy = types.ModuleType('chumpy.ch')
    chumpy.Ch = type('Ch', (), {'__module__': 'chumpy.ch', '__init__': lambda self, x: setattr(self, 'x', x)})  # fmt: skip # noqa: E501
    monkeypatch.setitem(sys.modules, 'chumpy', types.ModuleType('chumpy'))
    monkeypatch.setitem(sys.modules, 'chumpy.ch', chumpy)
    content = {key: chumpy.Ch(value) for key, value in flame_content(flame).items()}
    path = tmp_path / 'generic_model.pkl'
    path.write_bytes(pickle.dumps(content, protocol=2))
    monkeypatch.delitem(sys.modules, 'chumpy.ch')
    monkeypatch.delitem(sys.modules, 'chumpy')

    model = read_flame(path)

    np.testing.assert_array_equal(model.vertices, flame.vertices)
    np.testing.assert_array_equal(model.displacements, flame.displacements)


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), 'w'))


def test_a_pickle_that_would_run_something_is_refused_and_does_not(flame, tmp_path):
    path = tmp_path / 'flame.pkl'
    path.write_bytes(pickle.dumps({**flame_content(flame), 'f': Harm(tmp_path / 'harm')}))

    with pytest.raises(ValueError, match=r'it holds (io|_io)\.open, which a FLAME model has no'):
        read_flame(path)
    assert not (tmp_path / 'harm').exists()


@pytest.mark.parametrize(
    ('content', 'text'),
    [
        (b'junk', r'flame\.pkl is not a FLAME model'),
        (pickle.dumps([1]), 'it holds a list'),
        (pickle.dumps({'v_template': np.zeros((3, 3))}), "got no {'shapedirs'}"),
        (
            pickle.dumps({'v_template': np.zeros((3, 3)), 'shapedirs': np.zeros((3, 3, 100))}),
            r'350 or more\], got \[3, 3, 100\]; say where expressions begin',
        ),
    ],
)
def test_a_file_that_is_no_flame_model_is_refused(content, text, tmp_path):
    (tmp_path / 'flame.pkl').write_bytes(content)

    with pytest.raises(ValueError, match=text):
        read_flame(tmp_path / 'flame.pkl')


@pytest.mark.parametrize(
    ('files', 'error', 'text'),
    [
        ({}, FileNotFoundError, 'must have one neutral .obj'),
        ({'neutral': 4}, ValueError, 'is named like an ARKit blendshape'),
        ({'neutral': 4, 'jawOpen': 5}, ValueError, r'jawOpen.obj has 5 vertices, neutral.obj 4'),
    ],
)
def test_a_folder_that_holds_no_shapes_is_refused(files, error, text, tmp_path):
    for name, n in files.items():
        write_obj(tmp_path / f'{name}.obj', np.zeros((n, 3)))

    with pytest.raises(error, match=text):
        read_blendshapes(tmp_path)


@pytest.mark.parametrize('text', ['', 'v 1 2\n', 'v a b c\n', 'v 1 2 3\nv 1 2\n'])
def test_a_mesh_without_vertices_is_refused(text, tmp_path):
    (tmp_path / 'x.obj').write_text(text)

    with pytest.raises(ValueError, match='expected lines "v x y z"'):
        read_obj(tmp_path / 'x.obj')


@pytest.mark.parametrize('text', ['', '1 2\n' * 5, '1 2\n' * 5 + '1 two\n', '1 2 3\n' * 7])
def test_landmarks_that_are_no_pairs_or_too_few_are_refused(text, tmp_path):
    (tmp_path / 'pairs.txt').write_text(text)

    with pytest.raises(ValueError, match='expected at least 6 lines of two vertex indices'):
        read_landmarks(tmp_path / 'pairs.txt')


def test_a_landmark_that_is_no_vertex_is_refused(flame, shapes):
    pairs = np.stack([np.arange(8), np.arange(8) + 693], axis=1)

    with pytest.raises(ValueError, match='landmark vertex 700 of the shapes, which has 700'):
        fit_mapping(flame, shapes, pairs)
