# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Which point of one face is which of another, where their meshes differ.

Knows points only: a similarity from landmarks, a smooth warp through them, then the nearest
vertices. Where the faces do not meet, it says so by leaving the vertex out.
"""

import dataclasses
import pathlib

import numpy as np
import scipy.interpolate
import scipy.spatial

from timar_ros.retarget.mesh import FaceModel

_N_LANDMARKS = 6  # fewer leave the shape of a face open
_N_NEAREST = 4


@dataclasses.dataclass(frozen=True)
class Similarity:
    """Rotation `[3, 3]`, scale and offset `[3]`: p -> scale · rotation p + offset."""

    rotation: np.ndarray
    scale: float
    offset: np.ndarray

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Move points `[..., 3]`."""
        return self.scale * points @ self.rotation.T + self.offset


def fit_similarity(source: np.ndarray, target: np.ndarray) -> Similarity:
    """
    Return the scale, rotation and offset that map points onto others with least squared error.

    Args:
        source: points to map, `[n, 3]`.
        target: where they should come to lie, `[n, 3]`.

    Returns:
        The similarity (Umeyama 1991, eq. 40 to 42).
    """
    center_source, center_target = source.mean(axis=0), target.mean(axis=0)
    moved_source, moved_target = source - center_source, target - center_target
    u, singular, vt = np.linalg.svd(moved_target.T @ moved_source)
    sign = np.ones(3)
    sign[2] = np.sign(np.linalg.det(u) * np.linalg.det(vt))
    rotation = u @ np.diag(sign) @ vt
    scale = float((singular * sign).sum() / np.square(moved_source).sum())
    return Similarity(rotation, scale, center_target - scale * rotation @ center_source)


def read_landmarks(path: str | pathlib.Path) -> np.ndarray:
    """
    Read pairs of vertices that are the same point of a face: `flame_vertex shape_vertex` a line.

    Returns:
        int `[n, 2]`; text after `#` is left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line has no two indices, or there are too few.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no landmarks at {path}')
    text = path.read_text(encoding='utf-8', errors='replace')
    rows = [line.split('#')[0].split() for line in text.splitlines()]
    rows = [row for row in rows if row]
    if len(rows) < _N_LANDMARKS or any(
        len(row) != 2 or not all(_is_index(word) for word in row) for row in rows
    ):
        raise ValueError(
            f'{path}: expected at least {_N_LANDMARKS} lines of two vertex indices, '
            f'flame_vertex shape_vertex, got {len(rows)} lines'
        )
    return np.array(rows, int)


def _is_index(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 10


def carry_over(
    shapes: FaceModel, vertices: np.ndarray, landmarks: np.ndarray, reach: float = 0.05
) -> tuple[np.ndarray, np.ndarray]:
    """
    Carry the displacements of one face over to the vertices of another.

    Args:
        shapes: K blendshapes, in any pose and unit.
        vertices: `[V, 3]` of the other face's neutral.
        landmarks: `[n, 2]` pairs (vertex of the other face, vertex of the shapes).
        reach: as a part of the other face's height; a vertex further than this from the shapes
            is left out.

    Returns:
        `[V, 3, K]` displacements in the other face's unit, and bool `[V]`, which of them are met.

    Raises:
        ValueError: a landmark is no vertex.
    """
    for column, n, name in ((0, len(vertices), 'FLAME'), (1, len(shapes.vertices), 'the shapes')):
        if landmarks[:, column].max() >= n:
            raise ValueError(
                f'landmark vertex {landmarks[:, column].max()} of {name}, which has {n} vertices; '
                'indices count from 0, FLAME first'
            )
    target = vertices[landmarks[:, 0]]
    similarity = fit_similarity(shapes.vertices[landmarks[:, 1]], target)
    moved = similarity.apply(shapes.vertices)
    moved += _warp(moved[landmarks[:, 1]], target)(moved)
    turned = similarity.scale * np.einsum('ij,vjk->vik', similarity.rotation, shapes.displacements)
    distance, nearest = scipy.spatial.cKDTree(moved).query(vertices, k=_N_NEAREST)
    weight = 1.0 / (distance + 1e-9)
    weight /= weight.sum(axis=1, keepdims=True)
    carried = np.zeros((len(vertices), 3, turned.shape[2]))
    for i in range(_N_NEAREST):
        carried += weight[:, i, None, None] * turned[nearest[:, i]]
    is_met = distance[:, 0] < reach * np.ptp(vertices, axis=0).max()
    return carried * is_met[:, None, None], is_met


def _warp(points, target):
    """Return the smoothest displacement field that brings points to their targets."""
    # Landmarks that coincide would leave it undetermined.
    _, first = np.unique(points.round(9), axis=0, return_index=True)
    return scipy.interpolate.RBFInterpolator(
        points[first], (target - points)[first], kernel='thin_plate_spline', degree=1
    )
