# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Nods: their shapes, from a robot head that a person moved, and the answers to cues.

Shapes are unit curves: 0 at both ends, the largest value 1, positive = nose down.
"""

import dataclasses
import pathlib

import numpy as np
import scipy.signal

from timar_ros.npz import Arrays

_FPS = 25
# Recording of reachy2_emotions, first and last frame, and cycles. Chosen by eye: stretches that
# nod regularly and end as they began.
_SHAPES = {
    'once': ('understanding2', 57, 81, 1),
    'twice': ('yes1', 63, 95, 2),
    'thrice': ('yes1', 63, 115, 3),
}
# P(nod | cue) of a neutral listener, and what attitude -1 and +1 make of it.
_P_NOD = (0.0, 0.85, 1.0)
LAG_S = 0.8
_LAG_SPREAD_S = 0.04
AMPLITUDE_DEG = 6.5


@dataclasses.dataclass(frozen=True)
class PlantedNod:
    """
    A nod as it was planted.

    Attributes:
        t_s: its onset.
        duration_s: of all cycles.
        cycles: down and up again.
        amplitude_deg: largest excursion.
        cue: index of the cue that it answers, or None.
    """

    t_s: float
    duration_s: float
    cycles: int
    amplitude_deg: float
    cue: int | None


def read_shapes(file: pathlib.Path | None) -> dict[str, np.ndarray]:
    """
    Return the unit curve `[n]` of each nod shape, 40 points a cycle.

    Args:
        file: head_rpy_deg_25fps.npz of reachy2_emotions; None = damped sines in their place.
    """
    shapes = {}
    for name, (recording, first, last, cycles) in _SHAPES.items():
        n = 40 * cycles + 1
        if file is None:
            phase = np.linspace(0, cycles, n)
            curve = np.sin(2 * np.pi * phase) * (1 - 0.6 * phase / cycles)
        else:
            curve = Arrays(file).numbers(recording, None, 3)[first:last, 1].astype(float)
            curve = scipy.signal.detrend(curve)
            curve = np.interp(np.linspace(0, len(curve) - 1, n), np.arange(len(curve)), curve)
        curve = curve * scipy.signal.windows.tukey(n, 0.3 / cycles)
        shapes[name] = curve / np.abs(curve).max()
    return shapes


def plan_nods(
    cues_s: list[float],
    attitude: np.ndarray,
    cycles: int,
    tempo_hz: float,
    amplitude: float,
    willing: float,
    rng: np.random.Generator,
) -> list[PlantedNod]:
    """
    Decide which cues are answered, and when.

    P(nod | cue) = 0.85 for the neutral listener, 0 at attitude -1, 1 at +1, linear between;
    onset 0.8 ± 0.04 s after the cue (normal, at most 0.08 s off), amplitude 6.5° times
    (1 + 0.3 · attitude), ± 10 %. A cue within 1.2 s of an answered one is left out.

    Args:
        cues_s: times of cues.
        attitude: `[F]`, -1 to 1.
        cycles: of a nod.
        tempo_hz: cycles a second.
        amplitude: factor of the person.
        willing: factor of the probability.
        rng: draws.

    Returns:
        The nods, in order.

    Source: model.md §8 (cue to nod about 0.7 s); Hadar et al. 1985 (ordinary nods 1.8-3.7 Hz).
    """
    nods: list[PlantedNod] = []
    for n, cue_s in enumerate(cues_s):
        mood = float(attitude[min(int(cue_s * _FPS), len(attitude) - 1)])
        chance = np.interp(mood, [-1, 0, 1], _P_NOD) * willing
        is_free = not nods or cue_s - cues_s[nods[-1].cue] > 1.2
        draws = rng.random(), rng.normal(), rng.normal()
        if not is_free or draws[0] >= chance:
            continue
        onset_s = cue_s + LAG_S + float(np.clip(_LAG_SPREAD_S * draws[1], -0.08, 0.08))
        degrees = (
            AMPLITUDE_DEG * amplitude * (1 + 0.3 * mood) * (1 + 0.1 * np.clip(draws[2], -2, 2))
        )
        nods.append(PlantedNod(onset_s, cycles / tempo_hz, cycles, float(degrees), n))
    return nods


def play_nods(
    nods: list[PlantedNod], shape: np.ndarray, n_frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """
    Turn planned nods into pitch `[F]`, rad, and where they take place, `[F]` 0 to 1.

    A nod is `shape` stretched over its duration; the second is how much of the other movement of
    the head it replaces.
    """
    times = np.arange(n_frames) / _FPS
    pitch, busy = np.zeros(n_frames), np.zeros(n_frames)
    place = np.linspace(0, 1, len(shape))
    for nod in nods:
        where = (times - nod.t_s) / nod.duration_s
        pitch += np.deg2rad(nod.amplitude_deg) * np.interp(where, place, shape, left=0, right=0)
        edge = np.minimum(where + 0.15, 1.15 - where) / 0.2
        busy = np.maximum(busy, np.clip(edge, 0, 1))
    return pitch, busy
