# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Any expression of a head as ARKit blendshapes, which faces and tools understand.

Responsible for `arkit52`, which passes through, and `flame50`, which needs a mapping that users
fit from their own licensed FLAME model (`fit_face`), because its licence forbids sharing one.
Without it a face in `flame50` has its jaw only. Not for fitting.
"""

import dataclasses
import pathlib

import numpy as np
import scipy.optimize

from timar_ros.motion import ARKIT_NAMES, JAW_RAD_PER_JAW_OPEN
from timar_ros.npz import Arrays
from timar_ros.strict import shortened

N_ARKIT, N_FLAME = len(ARKIT_NAMES), 50
_LENGTHS = {'arkit52': N_ARKIT, 'flame50': N_FLAME}
_LARGEST_NUMBER = 1e30  # squares of a mesh's coordinates
_LARGEST_BYTES = 1_000_000  # a mapping takes 50 kB
_FORMAT = 'timar_ros face mapping 1'
_JAW_OPEN = ARKIT_NAMES.index('jawOpen')
# Enough for 1e-3 of a blendshape's range on ICT-FaceKit's shapes, the most alike that were tried.
_ITERATIONS = 150


@dataclasses.dataclass(frozen=True)
class FaceMapping:
    """
    The part of two face models that bounded least squares needs.

    The weights w of a FLAME expression e are those whose mesh comes nearest to FLAME's:
    min |A w - E e|² + w'R w over 0 <= w <= 1, with A the displacements of the blendshapes, E those
    of FLAME's coefficients and R a small diagonal. All it takes is A'A + R and A'E.

    Attributes:
        gram: `[52, 52]`, A'A + R; rows and columns of blendshapes not fitted are 0.
        cross: `[52, 50]`, A'E.
        source: what it was fitted from, for people.
    """

    gram: np.ndarray
    cross: np.ndarray
    source: str = ''

    def __post_init__(self):
        for name, shape in (('gram', (N_ARKIT, N_ARKIT)), ('cross', (N_ARKIT, N_FLAME))):
            value = getattr(self, name)
            if value.shape != shape or not np.all(np.isfinite(value)):
                raise ValueError(
                    f'{name} must be finite and {list(shape)}, got {list(value.shape)}; fit the '
                    'mapping again: python -m timar_ros.retarget.fit_face --help'
                )

        if not self.fitted.any():
            raise ValueError('the mapping moves no blendshape; fit it again')
        # Larger numbers, or a gram that is none, would become NaN in a face.
        largest = max(np.abs(self.gram).max(), np.abs(self.cross).max())
        is_gram = np.allclose(self.gram, self.gram.T, atol=1e-6 * largest)
        if largest > _LARGEST_NUMBER or not is_gram:
            raise ValueError(
                f'gram must be symmetric, and numbers at most {_LARGEST_NUMBER:g}, got '
                f'{largest:g}; fit the mapping again: python -m timar_ros.retarget.fit_face --help'
            )

    @property
    def fitted(self) -> np.ndarray:
        """Which blendshapes the mapping can move, bool `[52]`."""
        return np.diag(self.gram) > 0


def save_mapping(path: str | pathlib.Path, mapping: FaceMapping) -> None:
    """Write a mapping to a `.npz` file."""
    with open(path, 'wb') as file:  # np.savez would add .npz to other names
        np.savez_compressed(
            file,
            format=_FORMAT,
            names=np.array(ARKIT_NAMES),
            gram=mapping.gram,
            cross=mapping.cross,
            source=mapping.source,
        )


def load_mapping(path: str | pathlib.Path) -> FaceMapping:
    """
    Read a mapping that `fit_face` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a mapping.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'no face mapping at {path}; fit one from your FLAME model: '
            'python -m timar_ros.retarget.fit_face --help'
        )
    try:
        content = Arrays(path, largest=_LARGEST_BYTES)
        keys = {'format', 'names', 'gram', 'cross', 'source'}
        if set(content) != keys or content.text('format') != _FORMAT:
            held = shortened(', '.join(content), 200) or 'nothing'
            raise ValueError(f'expected {_FORMAT!r}, got a file with {held}')
        if content.texts('names') != ARKIT_NAMES:
            raise ValueError('it is of other blendshapes, or of another order')
        gram = content.numbers('gram', N_ARKIT, N_ARKIT)
        cross = content.numbers('cross', N_ARKIT, N_FLAME)
        return FaceMapping(gram, cross, shortened(content.text('source'), 1000))
    except ValueError as error:
        reason = str(error).removeprefix(f'{path}: ')
        raise ValueError(
            f'{path} is not a face mapping: {reason}; fit it again: '
            'python -m timar_ros.retarget.fit_face --help'
        ) from None


def flame_to_arkit(mapping: FaceMapping, expression: np.ndarray) -> np.ndarray:
    """
    Find the blendshapes nearest to FLAME expressions, fast enough for every plan.

    Args:
        mapping: from `load_mapping`.
        expression: `[n, 50]`.

    Returns:
        float32 `[n, 52]`, 0..1; 0 where the mapping was not fitted.

    Source: Beck and Teboulle 2009 (FISTA) with the restart of O'Donoghue and Candès 2015;
    `flame_to_arkit_exactly` is its specification.
    """
    # Shapes that move little are counted in a larger unit, or they would settle late.
    unit = np.sqrt(np.diag(mapping.gram))
    unit = np.where(unit > 0, unit, 1.0)
    gram = mapping.gram / np.outer(unit, unit)
    wanted = np.asarray(expression, np.float64) @ mapping.cross.T / unit  # [n, 52]
    step = 1.0 / np.linalg.eigvalsh(gram)[-1]
    gram, wanted = gram * step, wanted * step
    weights = np.zeros_like(wanted)
    ahead, momentum = weights, 1.0
    for _ in range(_ITERATIONS):
        new = np.minimum(np.maximum(ahead - ahead @ gram + wanted, 0.0), unit)
        if np.vdot(ahead - new, new - weights) > 0:
            momentum = 1.0  # it overshot
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / next_momentum * (new - weights)
        weights, momentum = new, next_momentum
    return (weights / unit).astype(np.float32)


def flame_to_arkit_exactly(mapping: FaceMapping, expression: np.ndarray) -> np.ndarray:
    """Do what `flame_to_arkit` does, frame by frame by SciPy's bounded least squares; slow."""
    weights = np.zeros((len(expression), N_ARKIT), np.float32)
    fitted = mapping.fitted
    root = np.linalg.cholesky(mapping.gram[np.ix_(fitted, fitted)])  # A'A = L L'
    wanted = np.linalg.solve(root, mapping.cross[fitted] @ np.asarray(expression, np.float64).T)
    for i in range(len(expression)):
        solution = scipy.optimize.lsq_linear(root.T, wanted[:, i], (0, 1), method='bvls')
        weights[i, fitted] = solution.x
    return weights


def to_arkit(
    expression_space: str,
    expression: np.ndarray,
    jaw_open: np.ndarray,
    mapping: FaceMapping | None = None,
) -> np.ndarray:
    """
    Bring the frames of a plan to blendshapes.

    Args:
        expression_space: 'arkit52' or 'flame50'.
        expression: `[n, 52]`, `[n, 50]`, or `[n, 0]` for a face that moves its jaw only.
        jaw_open: `[n]` rad.
        mapping: for `flame50`; without one its expression is neutral.

    Returns:
        float32 `[n, 52]`, 0..1.

    Raises:
        ValueError: an unknown space, a length that does not fit it, or a value not finite.
    """
    expression, jaw_open = np.asarray(expression, np.float32), np.asarray(jaw_open, np.float32)
    if expression_space not in _LENGTHS:
        raise ValueError(f'expression_space must be arkit52 or flame50, got {expression_space!r}')
    n, length = expression.shape
    if length not in (0, _LENGTHS[expression_space]):
        raise ValueError(
            f'expression of {expression_space} must have {_LENGTHS[expression_space]} values or '
            f'none, got {length}'
        )
    if not (np.all(np.isfinite(expression)) and np.all(np.isfinite(jaw_open))):
        raise ValueError('expression and jaw must be finite, got NaN or infinity')
    if expression_space == 'arkit52' and length:
        return np.clip(expression, 0.0, 1.0)
    arkit = np.zeros((n, N_ARKIT), np.float32)
    if length and mapping is not None:
        arkit = flame_to_arkit(mapping, expression)
    arkit[:, _JAW_OPEN] = np.clip(jaw_open / JAW_RAD_PER_JAW_OPEN, 0.0, 1.0)
    return arkit
