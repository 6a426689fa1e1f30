# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Real speech, and the real mouth that spoke it: phrases of recordings, and facegood's rig."""

import dataclasses
import pathlib

import numpy as np

from timar_ros.learn.clips import read_voice
from timar_ros.learn.simulator.prosody import loudness
from timar_ros.npz import Arrays

_RATE_HZ = 16000
_FPS = 25
# The clip that no mouth is learned from and nobody is trained on.
HELD_OUT_CLIP = '1114_3_15'

# The jaws of the six clips follow their voices by 14 to 43 ms (`lips.lip_sync`): taken back.
_MOUTH_LATE_S = 0.024

# Face rig of facegood -> ARKit; several rig channels that feed one ARKit channel are added, then
# clipped to 1. `oh` and `oo` are whole mouth shapes: half of each is rounding, the rest the jaw's.
RIG_TO_ARKIT = {
    'jawOpen': {'mouth_stretch_c': 1.0},
    'mouthFunnel': {'mouth_oh_c': 0.5}
    | {f'mouth_funnel_{corner}': 0.25 for corner in ('dl', 'dr', 'ul', 'ur')},
    'mouthPucker': {'mouth_pucker_l': 0.5, 'mouth_pucker_r': 0.5, 'mouth_oo_c': 0.5},
    'mouthRollLower': {'mouth_suck_dl': 0.5, 'mouth_suck_dr': 0.5},
    'mouthRollUpper': {'mouth_suck_ul': 0.5, 'mouth_suck_ur': 0.5},
    'mouthShrugLower': {'mouth_chinRaise_u': 1.0},
} | {
    f'{arkit}{side}': {f'{rig}_{side[0].lower()}': 1.0}
    for side in ('Left', 'Right')
    for arkit, rig in (
        ('mouthPress', 'mouth_press'),
        ('mouthUpperUp', 'mouth_upperLipRaise'),
        ('mouthLowerDown', 'mouth_lowerLipDepress'),
        ('mouthStretch', 'mouth_lipStretch'),
        ('mouthSmile', 'mouth_lipCornerPull'),
    )
}
MOUTH_NAMES = tuple(RIG_TO_ARKIT)


@dataclasses.dataclass(frozen=True)
class Recording:
    """A voice, float32 `[n]` at 16 kHz, and its mouth `[F, C]` (`MOUTH_NAMES`, 25 fps) or None."""

    name: str
    samples: np.ndarray
    mouth: np.ndarray | None


def map_rig(weights: np.ndarray, names: list[str]) -> np.ndarray:
    """
    Turn face rig weights `[F, n]` into ARKit mouth channels `[F, C]`; channels not animated are 0.

    Formula: ARKit channel = min(1, Σ factor · rig channel), factors in `RIG_TO_ARKIT`.
    """
    columns = {name: weights[:, i].astype(np.float32) for i, name in enumerate(names)}
    silent = np.zeros(len(weights), np.float32)
    mixed = [
        sum(factor * columns.get(rig, silent) for rig, factor in recipe.items())
        for recipe in RIG_TO_ARKIT.values()
    ]
    return np.clip(np.stack(mixed, 1), 0.0, 1.0)


def read_facegood(folder: pathlib.Path) -> list[Recording]:
    """
    Read the clips of facegood, mouths brought to 25 fps and, on average, in time with the voice.

    Raises:
        FileNotFoundError: the folder holds no clips.
    """
    files = sorted(pathlib.Path(folder).glob('*.npz'))
    if not files:
        raise FileNotFoundError(f'{folder}: expected wav and npz files of facegood, got none')
    recordings = []
    for file in files:
        samples = read_voice(file.with_suffix('.wav'))
        arrays = Arrays(file)
        mouth = map_rig(arrays['weights'], arrays.texts('names'))
        stamp_s = np.arange(len(mouth)) / arrays.number('fps')
        times = np.arange(len(samples) * _FPS // _RATE_HZ) / _FPS + _MOUTH_LATE_S
        mouth = np.stack([np.interp(times, stamp_s, column) for column in mouth.T], 1)
        recordings.append(Recording(file.stem, samples, mouth.astype(np.float32)))
    return recordings


def find_phrases(
    samples: np.ndarray, smallest_gap_s: float, floor_db: float = -45.0
) -> np.ndarray:
    """Return first and last sample of the phrases, int `[n, 2]`, that long gaps part."""
    hop = _RATE_HZ // 100
    edges = np.flatnonzero(np.diff(np.r_[0, loudness(samples) > floor_db, 0]))
    phrases: list[list[int]] = []
    for start, end in edges.reshape(-1, 2) * hop:
        if phrases and start - phrases[-1][1] < smallest_gap_s * _RATE_HZ:
            phrases[-1][1] = end
        else:
            phrases.append([start, end])
    return np.array([p for p in phrases if p[1] - p[0] > 0.08 * _RATE_HZ], int).reshape(-1, 2)
