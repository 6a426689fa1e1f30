# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whether a mouth is in time with its voice: pure functions on recorded signals.

Voices are float `[n]`, sample i at i / sample_rate_hz; jaws are `[T]`, frame i at i / fps.
"""

import dataclasses

import numpy as np
import scipy.signal

from timar_ros.stream.offset import without_offset

# Grid on which voice and mouth are compared: fine against lip-sync limits of 40 to 60 ms.
_LIP_HZ = 100.0


@dataclasses.dataclass(frozen=True)
class Lag:
    """How far one signal follows another (s; negative: it leads), and how well (Pearson)."""

    lag_s: float
    correlation: float


def voice_envelope(samples: np.ndarray, sample_rate_hz: int, rate_hz: float) -> np.ndarray:
    """
    Follow the loudness of a voice.

    Formula: sqrt of the power averaged over a Hann window of 50 ms centred on each instant i /
    rate. Where the voice has a constant offset, the square of the mean over the window is no
    power.

    Returns:
        RMS `[ceil(n · rate / sample_rate)]`.
    """
    window = scipy.signal.windows.hann(int(0.05 * sample_rate_hz) | 1)
    window /= window.sum()
    sound = without_offset(samples)
    power = scipy.signal.fftconvolve(np.square(sound, dtype=float), window, 'same')
    if sound is not samples:  # some may be left, where it is not the same all the time
        half = len(window) // 2
        sound = np.pad(sound.astype(float), half, 'edge')  # which does not end in a step
        power = scipy.signal.fftconvolve(np.square(sound), window, 'valid')
        power -= np.square(scipy.signal.fftconvolve(sound, window, 'valid'))
    instants = np.arange(0, len(samples), sample_rate_hz / rate_hz).astype(int)
    return np.sqrt(np.clip(power[instants], 0.0, None))


def cross_lag(
    follower: np.ndarray, leader: np.ndarray, rate_hz: float, smallest_s: float, largest_s: float
) -> Lag:
    """
    Find by how much one signal follows another.

    Formula: the lag d in [smallest, largest] that maximises Pearson's correlation of follower[t
    + d] and leader[t] over the frames that both have, refined by a parabola through its
    neighbours.

    Args:
        follower: `[T]`.
        leader: `[T]`, of the same rate.
        rate_hz: frames a second.
        smallest_s: first lag tried; negative = the follower may lead.
        largest_s: last lag tried.

    Returns:
        The lag and its correlation; 0 and 0 where a signal is constant.

    Raises:
        ValueError: the signals are shorter than three times the largest shift.

    Source: Boker et al. 2002, windowed cross-correlation. Two periodic signals fool it: look at
        the correlation, and at a shuffled partner's.
    """
    n = min(len(follower), len(leader))
    lags = np.arange(round(smallest_s * rate_hz), round(largest_s * rate_hz) + 1)
    if n < 3 * max(np.abs(lags).max(), 1):
        raise ValueError(
            f'a lag of {np.abs(lags).max() / rate_hz:g} s needs signals of at least three times '
            f'that, got {n / rate_hz:g} s'
        )
    follower, leader = follower[:n], leader[:n]
    if np.ptp(follower) < 1e-12 or np.ptp(leader) < 1e-12:
        return Lag(0.0, 0.0)
    correlations = np.array(
        [
            _correlation(follower[max(d, 0) : n + min(d, 0)], leader[max(-d, 0) : n - max(d, 0)])
            for d in lags
        ]
    )
    best = int(np.argmax(correlations))
    offset = 0.0
    if 0 < best < len(lags) - 1:
        before, here, after = correlations[best - 1 : best + 2]
        curvature = before - 2 * here + after
        offset = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return Lag(float((lags[best] + offset) / rate_hz), float(correlations[best]))


def lip_sync(
    jaw_open: np.ndarray, samples: np.ndarray, sample_rate_hz: int, fps: float = 25.0
) -> Lag:
    """
    Measure how far the mouth follows the voice, and how well.

    Formula: `cross_lag` of the jaw's opening and the voice's envelope, both at 100 Hz, within
    ±300 ms. Positive = the mouth is late.

    Args:
        jaw_open: `[T]`, any unit.
        samples: the same person's voice `[n]`.
        sample_rate_hz: of the voice.
        fps: frames a second.

    Returns:
        Lag and correlation. EBU R37: sound at most 40 ms before and 60 ms after the picture, so
        -60 to +40 ms here. A jaw driven by loudness alone scores well, so it says nothing of
        shapes.

    Source: EBU R37-2007; ITU-R BT.1359.
    """
    envelope = voice_envelope(samples, sample_rate_hz, _LIP_HZ)
    n = min(len(envelope), int((len(jaw_open) - 1) / fps * _LIP_HZ) + 1)
    jaw = np.interp(np.arange(n) / _LIP_HZ, np.arange(len(jaw_open)) / fps, jaw_open)
    return cross_lag(jaw, envelope[:n], _LIP_HZ, -0.3, 0.3)


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first - first.mean(), second - second.mean()
    norm = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / norm) if norm > 1e-20 else 0.0
