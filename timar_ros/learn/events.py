# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Things that happen: nods and blinks found in motion, and matched to the cues that cause them.

Pure functions on arrays, frame i at i / fps seconds. What people do: docs/model.md §8.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np
import scipy.signal

_NOD_BAND_HZ = (1.0, 7.0)
SLOWEST_FPS = 14  # of motion in which they can be seen
# When an answer to a cue may come; people take about 0.7 s (docs/model.md §8).
_EARLIEST_S, _LATEST_S = 0.3, 1.2


@dataclasses.dataclass(frozen=True)
class Nod:
    """A stretch of nodding: onset and end in s, peak amplitude in rad, mean frequency in Hz."""

    start_s: float
    end_s: float
    amplitude_rad: float
    frequency_hz: float


@dataclasses.dataclass(frozen=True)
class Match:
    """How found events answer planted cues; `lags_s` are those of the answered cues."""

    recall: float
    precision: float
    f1: float
    false_per_minute: float
    lags_s: tuple[float, ...]


def quick_motion(neck: np.ndarray, fps: float = 25.0) -> np.ndarray:
    """
    Return what a head does at 1 to 7 Hz: nods, shakes and beats, without posture.

    Formula: zero-phase 2nd-order Butterworth, mean removed.

    Args:
        neck: angles `[T, n]`, whatever their unit.
        fps: frames a second, above 14.
    """
    band = scipy.signal.butter(2, _NOD_BAND_HZ, 'bandpass', fs=fps, output='sos')
    return scipy.signal.sosfiltfilt(band, neck - neck.mean(0), axis=0)


def find_nods(
    neck: np.ndarray,
    fps: float = 25.0,
    smallest_amplitude_rad: float = 0.035,
    fewest_cycles: float = 1.0,
) -> list[Nod]:
    """
    Find nods in a head's pitch.

    Formula: pitch is band-passed to 1-7 Hz (`quick_motion`); a
    nod is a stretch where the modulus of its analytic signal stays above half of
    `smallest_amplitude_rad`, reaches all of it, exceeds that of yaw on average, and whose phase
    advances by at least `fewest_cycles` turns. Stretches less than 0.2 s apart are one.

    Args:
        neck: `[T, 3]` rad, x = pitch.
        fps: frames a second, above 14.
        smallest_amplitude_rad: peak amplitude, 2° by default: at 1° the small movements of speech
            and posture count as well.
        fewest_cycles: 1 by default: down and up again.

    Returns:
        The nods, in order. Trembling in the band counts as nodding: look at `false_per_minute`.

    Source: band from Hadar et al. 1985 (ordinary and rapid nods) and model.md §8 (2.6-6.5 Hz for
        fast listener nods), widened to slow ones.
    """
    moving = quick_motion(neck[:, :2], fps)
    analytic = scipy.signal.hilbert(moving, axis=0)
    pitch, yaw = np.abs(analytic).T
    phase = np.unwrap(np.angle(analytic[:, 0]))
    nods = []
    for start, end in _join(_runs(pitch > smallest_amplitude_rad / 2), int(0.2 * fps)):
        cycles = (phase[end - 1] - phase[start]) / (2 * np.pi)
        is_big = pitch[start:end].max() >= smallest_amplitude_rad
        if is_big and cycles >= fewest_cycles and pitch[start:end].mean() > yaw[start:end].mean():
            duration_s = max(end - 1 - start, 1) / fps
            amplitude = float(pitch[start:end].max())
            nods.append(Nod(start / fps, end / fps, amplitude, float(cycles / duration_s)))
    return nods


def may_answer(
    lag_s: np.ndarray, earliest_s: float = _EARLIEST_S, latest_s: float = _LATEST_S
) -> np.ndarray:
    """Say of times after a cue, s, whether what happens then may be its answer."""
    return (lag_s >= earliest_s) & (lag_s <= latest_s)


def lag_histogram(lags_s: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Count lags from 0.3 to 1.2 s in steps of 0.1 s; return counts `[9]` and edges `[10]`."""
    n_bins = round((_LATEST_S - _EARLIEST_S) / 0.1)
    return np.histogram(lags_s, n_bins, (_EARLIEST_S, _LATEST_S))


def match_events(
    found_s: np.ndarray,
    cues_s: np.ndarray,
    duration_s: float,
    earliest_s: float = _EARLIEST_S,
    latest_s: float = _LATEST_S,
) -> Match:
    """
    Match found events to the cues that they should answer.

    Formula: in order of time, each cue takes the first event not yet taken that begins
    `earliest_s` to `latest_s` after it. recall = answered / cues, precision = taken / found,
    F1 = 2 · recall · precision / (recall + precision), false a minute = not taken / duration.

    Args:
        found_s: times of events, s.
        cues_s: times of cues, s.
        duration_s: of the recording.
        earliest_s: after the cue.
        latest_s: after the cue; people take about 0.7 s (docs/model.md §8).

    Returns:
        The figures; recall is 1 where there is nothing to find, precision where nothing is found.
        An event every second has a recall near 1: look at precision.
    """
    free = sorted(float(time) for time in found_s)
    n_found, lags = len(free), []
    for cue in sorted(float(time) for time in cues_s):
        answers = [time for time in free if may_answer(time - cue, earliest_s, latest_s)]
        if answers:
            lags.append(answers[0] - cue)
            free.remove(answers[0])
    recall = len(lags) / len(cues_s) if len(cues_s) else 1.0
    precision = len(lags) / n_found if n_found else 1.0
    f1 = 2 * recall * precision / (recall + precision) if recall + precision > 0 else 0.0
    return Match(recall, precision, f1, len(free) / duration_s * 60, tuple(lags))


def blinks_per_minute(closed: np.ndarray, fps: float = 25.0) -> float:
    """
    Count blinks.

    Formula: a blink begins where closure rises above 0.5 and has ended when it falls below 0.2;
    their number over the duration in minutes.

    Args:
        closed: closure of one eye `[T]`, 0 open to 1 shut (`eyeBlinkLeft`).
        fps: frames a second.

    Returns:
        Blinks a minute; people 15 to 20 (docs/model.md §8). Eyes that stay shut are one blink.
    """
    n_blinks, is_shut = 0, False
    for value in closed:
        if not is_shut and value > 0.5:
            n_blinks, is_shut = n_blinks + 1, True
        elif is_shut and value < 0.2:
            is_shut = False
    return n_blinks / (len(closed) / fps / 60)


def _runs(is_true: np.ndarray) -> list[tuple[int, int]]:
    edges = np.flatnonzero(np.diff(np.r_[0, is_true.astype(int), 0]))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _join(runs: list[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in runs:
        if joined and start - joined[-1][1] < gap:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
