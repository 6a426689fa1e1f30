# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Loudness: the same speech, loud or soft, is the same input for the model.

The published model divides each clip by its own standard deviation, which a live system cannot
know. `normalise` divides by what came up to each sample; `ClipLevel` is the published way.
Every recursion is linear in the signal's powers and carried across calls exactly, so that the
result does not depend on how the stream was cut.
"""

import dataclasses
import math

import numpy as np
from scipy.signal import lfilter

from timar_ros.bounds import MAX_SAMPLE
from timar_ros.stream.resample import SAMPLE_RATE_HZ

# Variance added to the measured one: -60 dBFS. Speech at -40 dBFS loses 0.04 dB by it; a noise
# floor of -60 dBFS alone comes out at 0.7, one of -70 dBFS at 0.3, and digital silence at 0.
FLOOR = 1e-6
# After a long silence the long memory trails the voice for seconds. A short one catches an onset:
# the gain never exceeds that which makes the last 0.3 s twice as loud as unit variance.
_ATTACK_S = 0.3
_FORGET_RECENT = math.exp(-1 / (_ATTACK_S * SAMPLE_RATE_HZ))
_ATTACK_SHARE = 0.25
# Linear up to here, beyond even the peaks of normalised speech; then bent towards twice that.
_KNEE = 10.0
# The first sample has no past: the memory starts as if filled with 0.1 s of silence.
_PRIOR_SAMPLES = 0.1 * SAMPLE_RATE_HZ
_SILENCE_DB = -120.0
# Silence that lasts is no reason to forget how loud a voice is: 30 dB below its loudest 0.3 s,
# samples count for another 4 s only, a pause in speech. What was loudest fades by 4 dB a minute.
_PAUSE_DB = 30.0
_PAUSE_SAMPLES = 4 * SAMPLE_RATE_HZ
# The loudest is counted in what it fades by in a sample: whole numbers, exact however it is cut.
_FADE_DB = 4.0 / (60 * SAMPLE_RATE_HZ)
# Samples beyond full scale, by more than resampling overshoots, are a glitch of the driver and say
# nothing of the voice, unless they are more than this share of the last second: then somebody
# overdrives, and they count as that.
_BEYOND = 1.5
_GLITCH_SHARE = 0.25
# A sample that had to be clipped can be no voice at all, however long that lasts. It spoils what
# follows, up to half a second without a sample beyond full scale: none of it teaches how loud the
# voice is. What is spoiled has a level of its own. (Resampling takes some off a clipped sample.)
_CLIPPED = 0.75 * MAX_SAMPLE
_CALM_SAMPLES = SAMPLE_RATE_HZ // 2
# A constant offset counts for no sound where it is more than this, -50 dBFS, for so long.
_OFFSET = 0.003
_OFFSET_SAMPLES = 2 * SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True)
class Loudness:
    """
    Exponentially forgetting sums over samples, latest sample weighted 1.

    Attributes:
        weight, total, energy: sums of 1, x and x^2 with the long memory, of what counts.
        recent_total, recent_energy: sums of x and x^2 with the short memory.
        all_weight, all_total: sums of 1 and x with the long memory, silence included.
        loudest: of the short memory, faded, in units of its fading in a sample.
        n_silent: samples since the voice was last within 30 dB of that.
    """

    weight: float = _PRIOR_SAMPLES
    total: float = 0.0
    energy: float = 0.0
    recent_total: float = 0.0
    recent_energy: float = 0.0
    all_weight: float = 0.0
    all_total: float = 0.0
    loudest: int = round(_SILENCE_DB / _FADE_DB)
    n_silent: int = 0


@dataclasses.dataclass(frozen=True)
class LevelState:
    """
    How loud one voice has been.

    Attributes:
        voice: of the samples that can be a voice.
        spoiled: of those after one that was clipped.
        is_spoiled: whether the last one was such.
        n_since: samples since the last one beyond full scale.
        n_beyond: sum of 1 over the samples beyond full scale, with a memory of 1 s.
    """

    voice: Loudness = Loudness()
    spoiled: Loudness = Loudness()
    is_spoiled: bool = False
    n_since: int = _CALM_SAMPLES
    n_beyond: float = 0.0


def normalise(
    samples: np.ndarray, is_present: np.ndarray, state: LevelState, memory_s: float = 20.0
) -> tuple[np.ndarray, LevelState]:
    """
    Bring a stretch of one voice to unit variance, each sample by what came up to it.

    y = (x - m) / sqrt(max(v, v_recent / 4) + floor), with m and v the running mean and variance up
    to and including x, forgetting over `memory_s`, and v_recent the mean square over 0.3 s less
    m^2; then |y| above 10 is bent to stay below 20. Silence counts for 4 s, then nothing is
    forgotten until it ends. Glitches beyond full scale do not count. A stretch that was clipped
    teaches nothing, and is divided by the level of such stretches where that is louder: a stream
    that is always overdriven is heard, and one that is repaired is as loud as before within 2 s.

    Args:
        samples: float32 `[n]`, full scale 1.
        is_present: bool `[n]`; absent samples leave the statistics alone and come out as 0.
        state: after the samples before these; not changed.
        memory_s: time constant of forgetting.

    Returns:
        float32 `[n]`, and the state after these samples.
    """
    result = np.zeros(len(samples), np.float32)
    x = np.asarray(samples, np.float64)[is_present]
    if not len(x):
        return result, state
    forget = math.exp(-1 / (memory_s * SAMPLE_RATE_HZ))
    said, is_glitch, n_beyond = _without_glitches(x, state.n_beyond)
    is_spoiled, n_since = _find_spoiled(x, state)
    clean, is_counted = said[~is_spoiled], ~is_glitch[~is_spoiled]
    mean, variance, voice = _follow(clean, is_counted, state.voice, forget)
    spoiled = state.spoiled
    if is_spoiled.any():
        last_mean, last_variance = _moments(state.voice)
        mean = _held(mean, ~is_spoiled, last_mean)
        variance = _held(variance, ~is_spoiled, last_variance)
        own_mean, own_variance, spoiled = _follow(
            said[is_spoiled], ~is_glitch[is_spoiled], state.spoiled, forget
        )
        is_louder = own_variance > variance[is_spoiled]
        at = np.flatnonzero(is_spoiled)[is_louder]
        mean[at], variance[at] = own_mean[is_louder], own_variance[is_louder]
    y = (x - mean) / np.sqrt(variance + FLOOR)
    excess = np.maximum(np.abs(y) - _KNEE, 0)
    result[is_present] = np.sign(y) * (np.minimum(np.abs(y), _KNEE) + _soft(excess))
    return result, LevelState(voice, spoiled, bool(is_spoiled[-1]), n_since, n_beyond)


@dataclasses.dataclass(frozen=True)
class ClipLevel:
    """
    Mean and standard deviation of a complete recording; offline only.

    Attributes:
        mean: of its samples.
        deviation: standard deviation of its samples, sqrt(variance + 1e-7).
    """

    mean: float
    deviation: float

    @classmethod
    def of(cls, samples: np.ndarray) -> 'ClipLevel':
        """Measure the samples `[n]` of a recording, n >= 1."""
        x = np.asarray(samples, np.float64)
        return cls(float(x.mean()), float(np.sqrt(x.var() + 1e-7)))

    def normalise(self, samples: np.ndarray, is_present: np.ndarray) -> np.ndarray:
        """Bring a stretch `[n]` of it to float32 `[n]`; absent samples come out as 0."""
        y = (np.asarray(samples, np.float64) - self.mean) / self.deviation
        return np.where(is_present, y, 0.0).astype(np.float32)


def normalise_clip(samples: np.ndarray) -> np.ndarray:
    """
    Bring a whole recording to zero mean and unit variance, as the published model was fed.

    y = (x - mean) / sqrt(variance + 1e-7), over the recording.

    Args:
        samples: float32 `[n]`.

    Returns:
        float32 `[n]`.

    Source: transformers, Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm.
    """
    return ClipLevel.of(samples).normalise(samples, np.ones(len(samples), bool))


def level_db(samples: np.ndarray, is_present: np.ndarray | None = None) -> float:
    """
    Measure how loud a window is.

    Args:
        samples: float32 `[n]`, full scale 1.
        is_present: bool `[n]`; samples to leave out are False.

    Returns:
        Root mean square in dB of full scale (a full-scale sine is -3.0), -120 for silence and for
        nothing at all.
    """
    x = np.asarray(samples, np.float64)
    if is_present is not None:
        x = x[is_present]
    mean_square = float(np.mean(x * x)) if len(x) else 0.0
    return max(_SILENCE_DB, 10 * math.log10(mean_square)) if mean_square > 0 else _SILENCE_DB


def _follow(
    x: np.ndarray, is_counted: np.ndarray, before: Loudness, forget: float
) -> tuple[np.ndarray, np.ndarray, Loudness]:
    """
    Follow the loudness of samples `[n]`, of which some do not count.

    Returns:
        mean and variance to bring each of them to unit variance, and the state after them.
    """
    if not len(x):
        return x, x, before
    square = x * x
    recent_total = _forgetting_sum(x, _FORGET_RECENT, before.recent_total)
    recent_energy = _forgetting_sum(square, _FORGET_RECENT, before.recent_energy)
    all_weight = _forgetting_sum(np.ones_like(x), forget, before.all_weight)
    all_total = _forgetting_sum(x, forget, before.all_total)
    has_offset = (all_weight > _OFFSET_SAMPLES) & (np.abs(all_total) > _OFFSET * all_weight)
    power = (1 - _FORGET_RECENT) * recent_energy
    power -= np.where(has_offset, np.square((1 - _FORGET_RECENT) * recent_total), 0.0)
    loudness = 10 * np.log10(np.maximum(power, 10 ** (_SILENCE_DB / 10))) / _FADE_DB
    loudness = np.floor(loudness).astype(np.int64)
    loudest = _fading_maximum(loudness, before.loudest)
    n_silent = _count_since(loudness > loudest - round(_PAUSE_DB / _FADE_DB), before.n_silent)
    counts = (n_silent <= _PAUSE_SAMPLES) & is_counted
    weight, total, energy = (
        _held(_forgetting_sum(terms[counts], forget, start), counts, start)
        for terms, start in (
            (np.ones_like(x), before.weight),
            (x, before.total),
            (square, before.energy),
        )
    )
    sums = weight, total, energy, recent_total, recent_energy, all_weight, all_total
    after = Loudness(*(float(each[-1]) for each in sums), int(loudest[-1]), int(n_silent[-1]))
    return *_mean_and_variance(weight, total, energy, recent_energy), after


def _mean_and_variance(weight, total, energy, recent_energy):
    mean = total / weight
    variance = np.maximum(energy / weight - mean * mean, 0)
    recent_variance = (1 - _FORGET_RECENT) * recent_energy - mean * mean
    return mean, np.maximum(variance, _ATTACK_SHARE * recent_variance)


def _moments(loudness: Loudness) -> tuple[float, float]:
    """Return the mean and variance that a state stands for."""
    sums = loudness.weight, loudness.total, loudness.energy, loudness.recent_energy
    mean, variance = _mean_and_variance(*sums)
    return float(mean), float(variance)


def _find_spoiled(x: np.ndarray, state: LevelState) -> tuple[np.ndarray, int]:
    """Return which samples are spoiled, and how many have come since one beyond full scale."""
    size = np.abs(x)
    n_since = _count_since(size > _BEYOND, state.n_since)
    at = np.arange(1, len(x) + 1)
    last_clip = np.maximum.accumulate(np.where(size > _CLIPPED, at, 0 if state.is_spoiled else -1))
    last_calm = np.maximum.accumulate(
        np.where(n_since >= _CALM_SAMPLES, at, -1 if state.is_spoiled else 0)
    )
    return last_clip > last_calm, min(int(n_since[-1]), _CALM_SAMPLES)


def _without_glitches(x: np.ndarray, before: float) -> tuple[np.ndarray, np.ndarray, float]:
    """
    Find samples beyond full scale.

    Returns:
        x, with those cut or, where they are a glitch, 0; which ones are a glitch; their
        forgetting sum.
    """
    is_beyond = np.abs(x) > _BEYOND
    if not (before or is_beyond.any()):
        return x, is_beyond, 0.0
    forget = math.exp(-1 / SAMPLE_RATE_HZ)
    sums = _forgetting_sum(is_beyond.astype(np.float64), forget, before)
    is_glitch = is_beyond & (sums <= _GLITCH_SHARE * SAMPLE_RATE_HZ)
    said = np.where(is_glitch, 0.0, np.clip(x, -_BEYOND, _BEYOND))
    return said, is_glitch, float(sums[-1])


def _forgetting_sum(x: np.ndarray, forget: float, before: float) -> np.ndarray:
    """Return s with s[i] = x[i] + forget * s[i - 1], continuing from `before`."""
    sums, _ = lfilter([1.0], [1.0, -forget], x, zi=[forget * before])
    return sums


def _fading_maximum(x: np.ndarray, before: int) -> np.ndarray:
    """Return m with m[i] = max(x[i], m[i - 1] - 1), continuing from `before`; whole numbers."""
    at = np.arange(1, len(x) + 1)
    return np.maximum(np.maximum.accumulate(x + at), before) - at


def _count_since(is_event: np.ndarray, before: int) -> np.ndarray:
    """Return how many samples ago each was last True; `before` is the count before the first."""
    at = np.arange(1, len(is_event) + 1)
    return at - np.maximum.accumulate(np.where(is_event, at, -before))


def _held(sums: np.ndarray, counts: np.ndarray, before: float) -> np.ndarray:
    """Spread sums over the samples that count onto all; those that do not hold the last one."""
    return np.concatenate([[before], sums])[np.cumsum(counts)]


def _soft(excess: np.ndarray) -> np.ndarray:
    """Bend 0..infinity to 0.._KNEE, with slope 1 at 0."""
    return _KNEE * np.tanh(excess / _KNEE)
