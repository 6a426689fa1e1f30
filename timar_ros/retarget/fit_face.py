# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Fit the mapping from FLAME expressions to ARKit blendshapes, from models that the user has.

    python -m timar_ros.retarget.fit_face FLAME.pkl SHAPES OUT.npz [--landmarks PAIRS.txt]

FLAME is the user's own, under its licence; SHAPES is a folder of blendshape meshes. What comes out
is made of both, and is the user's to keep.
"""

import argparse
import sys

import numpy as np

from timar_ros.motion import ARKIT_NAMES
from timar_ros.outputs import check_new_file
from timar_ros.retarget.correspondence import carry_over, read_landmarks
from timar_ros.retarget.face import (
    N_ARKIT,
    N_FLAME,
    FaceMapping,
    flame_to_arkit,
    save_mapping,
)
from timar_ros.retarget.mesh import FIRST_EXPRESSION, FaceModel, read_blendshapes, read_flame
from timar_ros.strict import in_a_sentence, whole_number

# The jaw is a joint in FLAME and comes as such; eyes and tongue are no part of its expressions.
_NOT_EXPRESSION = ('jawOpen', 'tongueOut', 'eyeLook')
_RIDGE = 0.003


def fit_mapping(
    flame: FaceModel, shapes: FaceModel, landmarks: np.ndarray | None = None, source: str = ''
) -> FaceMapping:
    """
    Fit a mapping from two face models.

    Args:
        flame: 50 expressions.
        shapes: ARKit blendshapes; those missing stay 0.
        landmarks: `[n, 2]` pairs of vertices, for meshes of different topology; without, vertex
            i of one is vertex i of the other.
        source: for people.

    Raises:
        ValueError: the topologies differ and there are no landmarks, or the faces do not meet.
    """
    used = [i for i, name in enumerate(shapes.names) if not name.startswith(_NOT_EXPRESSION)]
    if not used:
        raise ValueError(
            f'no blendshape of an expression among {", ".join(shapes.names)}; jaw, eyes and '
            'tongue are not fitted'
        )
    if landmarks is not None:
        displacements, is_met = carry_over(shapes, flame.vertices, landmarks)
    elif len(shapes.vertices) == len(flame.vertices):
        displacements, is_met = shapes.displacements, np.ones(len(flame.vertices), bool)
    else:
        raise ValueError(
            f'FLAME has {len(flame.vertices)} vertices and the shapes {len(shapes.vertices)}; '
            'give --landmarks, a file of lines "flame_vertex shape_vertex"'
        )
    displacements = displacements[is_met][:, :, used]
    if not np.any(displacements):
        raise ValueError('the faces do not meet anywhere; check the landmarks')
    basis = displacements.reshape(-1, len(used))  # [3V, K]
    columns = [ARKIT_NAMES.index(shapes.names[i]) for i in used]
    gram, cross = np.zeros((N_ARKIT, N_ARKIT)), np.zeros((N_ARKIT, N_FLAME))
    products = basis.T @ basis
    # Without a ridge, shapes that look alike share a motion at random, and jitter.
    products += _RIDGE * np.diag(np.diag(products))
    gram[np.ix_(columns, columns)] = products
    cross[columns] = basis.T @ flame.displacements[is_met].reshape(-1, N_FLAME)
    return FaceMapping(gram, cross, source)


def explained(mapping: FaceMapping, flame: FaceModel, n: int = 200) -> float:
    """
    Return the share of FLAME's motion that the blendshapes reproduce.

    Formula: 1 - sum |A w - E e|² / sum |E e|² over n expressions e ~ N(0, 1), 0 at worst. It is
    what the fit itself counts, by A'A and A'E; vertices that do not meet count as not repeated.
    """
    expression = np.random.default_rng(0).standard_normal((n, N_FLAME))
    weights = flame_to_arkit(mapping, expression).astype(np.float64)
    moved = flame.displacements.reshape(-1, N_FLAME)
    total = np.einsum('ni,ij,nj->', expression, moved.T @ moved, expression)
    gained = 2 * np.einsum('ni,ij,nj->', weights, mapping.cross, expression)
    gained -= np.einsum('ni,ij,nj->', weights, mapping.gram, weights)
    return float(max(0.0, gained / total))


def main(args=None) -> int:
    """Fit, write, and print how good the fit is; return the exit status."""
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.retarget.fit_face',
        description='Fit the mapping from FLAME expressions to ARKit blendshapes.',
    )
    parser.add_argument('flame', help='your FLAME model, .pkl or .npz')
    parser.add_argument('shapes', help='folder of .obj meshes: a neutral face, one a blendshape')
    parser.add_argument('out', help='the mapping, .npz; parameter `mapping` of the face node')
    parser.add_argument(
        '--landmarks', help='lines "flame_vertex shape_vertex", where the topologies differ'
    )
    parser.add_argument(
        '--first-expression',
        type=whole_number(0),
        default=FIRST_EXPRESSION,
        help="index of FLAME's first expression in shapedirs (%(default)s)",
    )
    given = parser.parse_args(args)
    try:
        check_new_file(given.out)
        flame = read_flame(given.flame, given.first_expression)
        shapes = read_blendshapes(given.shapes)
        landmarks = read_landmarks(given.landmarks) if given.landmarks else None
        mapping = fit_mapping(flame, shapes, landmarks, f'{given.flame} to {given.shapes}')
        save_mapping(given.out, mapping)
    except (OSError, ValueError) as error:
        sys.stderr.write(f'{in_a_sentence(error)}\n')
        return 1
    missing = [
        name for name, is_fitted in zip(ARKIT_NAMES, mapping.fitted, strict=True) if not is_fitted
    ]
    sys.stdout.write(
        f'{given.out}: {mapping.fitted.sum()} blendshapes repeat {explained(mapping, flame):.0%} '
        f'of the motion of random expressions; not fitted: {", ".join(missing)}\n'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
