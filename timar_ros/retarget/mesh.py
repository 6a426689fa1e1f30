# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Face models from files: FLAME's expression basis, and a folder of blendshape meshes.

Knows the files' formats. Reads pickles, as FLAME comes in, without running what is in them.
"""

import dataclasses
import pathlib
import pickle
import re

import numpy as np

from timar_ros.motion import ARKIT_NAMES
from timar_ros.npz import Arrays
from timar_ros.strict import quoted, shortened

# FLAME's shapedirs hold 300 directions of identity, then those of expression.
FIRST_EXPRESSION = 300
_N_EXPRESSIONS = 50
# What a FLAME pickle is made of; anything else in one is refused.
_HARMLESS = {
    ('numpy', 'dtype'),
    ('numpy.core.multiarray', 'scalar'),
    ('numpy._core.multiarray', 'scalar'),
    ('_codecs', 'encode'),
    ('copy_reg', '_reconstructor'),
    ('copyreg', '_reconstructor'),
    ('__builtin__', 'object'),
    ('builtins', 'object'),
}
_NEUTRAL_FILE = re.compile(r'(^|[_-])(neutral|base|basis)', re.IGNORECASE)
_SIDES = {'_l': 'Left', '_r': 'Right'}


@dataclasses.dataclass(frozen=True)
class FaceModel:
    """
    A neutral face and the ways in which it deforms.

    Attributes:
        vertices: `[V, 3]` of the neutral face.
        displacements: `[V, 3, K]` of each vertex, per unit of each of K coefficients.
        names: K names.
    """

    vertices: np.ndarray
    displacements: np.ndarray
    names: tuple[str, ...]

    def __post_init__(self):
        n = len(self.vertices)
        shape = (n, 3, len(self.names))
        if self.vertices.shape != (n, 3) or self.displacements.shape != shape:
            raise ValueError(
                f'expected vertices [V, 3] and displacements [V, 3, {len(self.names)}], got '
                f'{list(self.vertices.shape)} and {list(self.displacements.shape)}'
            )
        if not (np.isfinite(self.vertices).all() and np.isfinite(self.displacements).all()):
            raise ValueError('a face model must be finite, got NaN or infinity')


def read_flame(path: str | pathlib.Path, first: int = FIRST_EXPRESSION) -> FaceModel:
    """
    Read the expressions of a FLAME model from the file that its authors distribute.

    Args:
        path: `.pkl` (2019 to 2023) or `.npz` with `v_template` and `shapedirs`.
        first: index of the first expression in `shapedirs`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no such model, or something a model has no need of.
    """
    path = _existing(path, 'FLAME model')
    content = Arrays(path) if path.suffix.lower() == '.npz' else _read_pickle(path)
    missing = {'v_template', 'shapedirs'} - set(content)
    if missing:
        raise ValueError(f'{path}: a FLAME model has v_template and shapedirs, got no {missing}')
    vertices, directions = (_as_array(content[key], path) for key in ('v_template', 'shapedirs'))
    if directions.ndim != 3 or directions.shape[2] < first + _N_EXPRESSIONS:
        raise ValueError(
            f'{path}: shapedirs must be [V, 3, {first + _N_EXPRESSIONS} or more], got '
            f'{list(directions.shape)}; say where expressions begin with --first-expression'
        )
    basis = directions[:, :, first : first + _N_EXPRESSIONS]
    return FaceModel(vertices, basis, tuple(f'exp_{i:02d}' for i in range(_N_EXPRESSIONS)))


def read_blendshapes(folder: str | pathlib.Path) -> FaceModel:
    """
    Read ARKit blendshapes from a folder of `.obj` meshes, one a shape, and the neutral face.

    Files are named like blendshapes (`jawOpen.obj`), or with `_L` and `_R` for the sides
    (`eyeBlink_L.obj`, as ICT-FaceKit has them; halves of what ARKit does not divide are added
    up). The neutral face has `neutral` in its name. Other files are left alone.

    Raises:
        FileNotFoundError: there is no such folder, or no neutral face in it.
        ValueError: no file is named like a blendshape, or a mesh differs in its vertices.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder {folder}; expected .obj files, one a blendshape')
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == '.obj')
    neutral = [path for path in paths if _NEUTRAL_FILE.search(path.stem)]
    if len(neutral) != 1:
        raise FileNotFoundError(
            f'{folder} must have one neutral .obj, got {[path.name for path in neutral]}'
        )
    vertices = read_obj(neutral[0])
    shapes = {}
    for path in paths:
        name = _arkit_name(path.stem)
        if name is None or path == neutral[0]:
            continue
        shape = read_obj(path)
        if shape.shape != vertices.shape:
            raise ValueError(
                f'{path.name} has {len(shape)} vertices, {neutral[0].name} {len(vertices)}; all '
                'must be of one topology'
            )
        shapes[name] = shapes.get(name, 0.0) + shape - vertices
    if not shapes:
        raise ValueError(f'no .obj in {folder} is named like an ARKit blendshape, e.g. jawOpen')
    names = tuple(name for name in ARKIT_NAMES if name in shapes)
    return FaceModel(vertices, np.stack([shapes[name] for name in names], axis=-1), names)


def read_obj(path: str | pathlib.Path) -> np.ndarray:
    """
    Return the vertices `[V, 3]` of a Wavefront `.obj`.

    Raises:
        ValueError: a vertex has no three numbers, or there is none.
    """
    path = _existing(path, 'mesh')
    with open(path, errors='replace') as file:
        rows = [line.split()[1:4] for line in file if line.startswith('v ')]
    try:
        vertices = np.array(rows, np.float64)
    except ValueError:
        vertices = np.zeros((0, 0))
    if vertices.ndim != 2 or vertices.shape[1:] != (3,):
        raise ValueError(f'{path}: expected lines "v x y z", got none or broken ones')
    return vertices


def _arkit_name(stem: str) -> str | None:
    known = {name.lower(): name for name in ARKIT_NAMES}
    whole, side = stem.lower(), _SIDES.get(stem[-2:].lower())
    if side is None:
        return known.get(whole)
    # A half of what ARKit does not divide is a part of the whole.
    return known.get(whole[:-2] + side.lower()) or known.get(whole[:-2])


def _existing(path, what: str) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no {what} at {path}')
    return path


class _Inert:
    """Stands for an object of a library that is not needed: keeps its state, does nothing."""

    def __init__(self, *_):
        self.state = {}

    def __setstate__(self, state):
        self.state = state


class _ArrayType:
    """Stands for numpy.ndarray, which a pickle could call for an array of any size."""

    def __init__(self, *_):
        raise ValueError('it makes an array in a way that numpy does not')


def _empty_array(_type, shape, dtype) -> np.ndarray:
    """Begin an array as numpy's pickles do: empty; its bytes follow."""
    if shape != (0,):
        raise ValueError(f'it makes an array of {quoted(shape)} out of nothing')
    return np.ndarray(shape, dtype)


class _FlameUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) in _HARMLESS:
            return super().find_class(module, name)
        if name == '_reconstruct' and module in (
            'numpy.core.multiarray',
            'numpy._core.multiarray',
        ):
            return _empty_array
        if (module, name) == ('numpy', 'ndarray'):
            return _ArrayType
        if module.split('.')[0] in ('chumpy', 'scipy'):
            return _Inert
        raise ValueError(
            f'it holds {shortened(f"{module}.{name}")}, which a FLAME model has no need of'
        )


def _read_pickle(path: pathlib.Path) -> dict:
    with open(path, 'rb') as file:
        try:
            content = _FlameUnpickler(file, encoding='latin1').load()
        except Exception as error:  # a broken pickle may raise anything
            raise ValueError(
                f'{path} is not a FLAME model: {shortened(str(error), 200)}'
            ) from None
    if not isinstance(content, dict):
        raise ValueError(f'{path} is not a FLAME model: it holds a {type(content).__name__}')
    return content


def _as_array(value, path) -> np.ndarray:
    if isinstance(value, _Inert):  # chumpy's arrays keep theirs as x
        value = value.state.get('x') if isinstance(value.state, dict) else None
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f'{path}: expected an array, got {type(value).__name__}') from None
