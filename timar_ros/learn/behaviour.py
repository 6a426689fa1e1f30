# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Behaviour that can be measured: pure functions on motion and voices, each with formula and source.

Motion is frames by channels at `fps` frames a second, frame i shown at i / fps seconds; a neck
is a rotation vector `[T, 3]` in rad, FLAME axes (x: positive is nose down). Voices are float
`[n]`, sample i at i / sample_rate_hz. What a baseline can fool says so. Times of people:
docs/model.md §8.
"""

import numpy as np
import scipy.ndimage
import scipy.signal
from scipy.spatial.transform import Rotation

from timar_ros.stream.lips import voice_envelope

_MOVING_HEAD_HZ = 6.0


def head_speed(neck: np.ndarray, fps: float = 25.0) -> np.ndarray:
    """
    Measure how fast a head turns.

    Formula: mean removed, 6 Hz zero-phase 4th-order Butterworth low-pass, then
    |r[t+1] - r[t]| · fps.

    Args:
        neck: `[T, 3]` rad.
        fps: frames a second.

    Returns:
        `[T - 1]`, °/s.

    Raises:
        ValueError: wrong shape, or fewer than 16 frames.

    Source: docs/model.md §8, the definition behind the ranges of seated people.
    """
    neck = _check_neck(neck)
    low_pass = scipy.signal.butter(4, _MOVING_HEAD_HZ, fs=fps, output='sos')
    smooth = scipy.signal.sosfiltfilt(low_pass, neck - neck.mean(0), axis=0)
    return np.rad2deg(np.linalg.norm(np.diff(smooth, axis=0), axis=1) * fps)


def head_steps(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """
    Return the angle between two heads, frame by frame, degrees.

    Args:
        before: rotation vectors `[T, 3]`, rad.
        after: as many.
    """
    turned = Rotation.from_rotvec(before).inv() * Rotation.from_rotvec(after)
    return np.rad2deg(turned.magnitude())


def speed_figures(neck: np.ndarray, fps: float = 25.0) -> dict[str, float]:
    """
    Sum up `head_speed` as p50, p95, p99 and max, °/s.

    Two seated people (docs/model.md §8): p50 5-20, p95 23-57, p99 32-96, max 64-151. An amplitude
    wobbler can be tuned to them.
    """
    speed = head_speed(neck, fps)
    p50, p95, p99 = np.percentile(speed, [50, 95, 99])
    return {'p50': float(p50), 'p95': float(p95), 'p99': float(p99), 'max': float(speed.max())}


def power_shares(neck: np.ndarray, fps: float = 25.0) -> tuple[float, float]:
    """
    Tell which share of a head's power is conversational movement, and which is tremor.

    Formula: Welch's spectrum (8-s Hann windows, half overlapping, linear detrend) of the
    unfiltered vectors, summed over axes; power in 0.2-1.1 Hz, and at 7 Hz and above, over all
    above 0.2 Hz.

    Args:
        neck: `[T, 3]` rad.
        fps: frames a second.

    Returns:
        The two shares; 0 and 0 for a head that does not move. Two seated people: 0.71-0.88, and at
        most 0.015.

    Source: docs/model.md §8; Hale et al. 2020 (mimicry in 0.2-1.1 Hz).
    """
    neck = _check_neck(neck)
    frequency, power = scipy.signal.welch(
        neck, fps, nperseg=min(int(8 * fps), len(neck)), detrend='linear', axis=0
    )
    power = power.sum(1)
    total = power[frequency > 0.2].sum()
    if total < 1e-20:
        return 0.0, 0.0
    slow = power[(frequency >= 0.2) & (frequency <= 1.1)].sum()
    return float(slow / total), float(power[frequency >= 7.0].sum() / total)


def rms_jerk(neck: np.ndarray, fps: float = 25.0) -> float:
    """
    Measure how abruptly a head moves, °/s³.

    Formula: sqrt(mean over t of |Δ³ r[t]|²) · fps³, unfiltered. A still head scores 0, so compare
    at equal speed.
    """
    third = np.diff(_check_neck(neck), 3, axis=0) * fps**3
    return float(np.rad2deg(np.sqrt((third**2).sum(1).mean())))


def seam_ratio(motion: np.ndarray, frames_per_turn: int) -> float:
    """
    Compare the steps between turns with those inside them (1 = seams do not show).

    Formula: mean over seams of |m[kT] - m[kT-1]| / mean over all other steps of |m[t] - m[t-1]|,
    norms over channels.

    Args:
        motion: `[F, C]`, the first frame being the first of a turn.
        frames_per_turn: T.

    Returns:
        The ratio; 1 for motion that never changes.

    Raises:
        ValueError: there are fewer than two turns.
    """
    if len(motion) <= frames_per_turn:
        raise ValueError(
            f'a seam needs more than {frames_per_turn} frames (one turn), got {len(motion)}'
        )
    steps = np.linalg.norm(np.diff(motion, axis=0), axis=1)
    is_seam = np.arange(1, len(motion)) % frames_per_turn == 0
    inside = steps[~is_seam].mean()
    if inside < 1e-12:
        return 1.0 if steps[is_seam].mean() < 1e-12 else float('inf')
    return float(steps[is_seam].mean() / inside)


def voice_activity(samples: np.ndarray, sample_rate_hz: int, fps: float = 25.0) -> np.ndarray:
    """
    Tell at which frames somebody speaks, gaps within a phrase included.

    Formula: envelope above max(-55 dB of full scale, loudest - 35 dB), gaps below 0.3 s closed.
    For clean voices; noise louder than that counts as speech.

    Returns:
        bool `[ceil(n · fps / sample_rate)]`.
    """
    level = 20 * np.log10(voice_envelope(samples, sample_rate_hz, fps) + 1e-9)
    is_loud = level > max(-55.0, level.max(initial=-200.0) - 35.0)
    gap = np.ones(int(0.3 * fps) + 1, bool)
    # Padded, or the closing would eat into what touches the recording's ends.
    padded = np.pad(is_loud, len(gap))
    return scipy.ndimage.binary_closing(padded, gap)[len(gap) : -len(gap)]


def mouth_rest_ratio(jaw_open: np.ndarray, speaks: np.ndarray) -> float:
    """
    Compare the mouth's opening in its owner's silence with that in speech (0 = closed).

    Formula: mean opening where not `speaks` (0.2 s after and before speech left out) / mean
    opening where `speaks`. A mouth that never opens scores infinity.

    Args:
        jaw_open: `[T]` at 25 fps, any unit.
        speaks: bool `[T]`, from `voice_activity`.
    """
    n = min(len(jaw_open), len(speaks))
    jaw_open, speaks = jaw_open[:n], speaks[:n]
    is_quiet = ~scipy.ndimage.binary_dilation(speaks, iterations=5)
    if not is_quiet.any() or not speaks.any():
        raise ValueError('expected both speech and silence, got only one of them')
    opening = jaw_open[speaks].mean()
    return float(jaw_open[is_quiet].mean() / opening) if opening > 0 else float('inf')


def stillness(
    neck: np.ndarray, user_speaks: np.ndarray, agent_speaks: np.ndarray, fps: float = 25.0
) -> dict[str, float]:
    """
    Compare head movement in joint silence with that while somebody speaks.

    Formula: rms of `head_speed` over frames where nobody speaks (0.5 s around speech left out:
    people settle), over those where somebody does, and the ratio of the second to the first.

    Args:
        neck: `[T, 3]` rad.
        user_speaks: bool `[T]`.
        agent_speaks: bool `[T]`.
        fps: frames a second.

    Returns:
        `silent` and `lively` in °/s and `ratio`; NaN where there is no such frame. A frozen head
        has silent 0: ask for both.
    """
    n = min(len(neck), len(user_speaks), len(agent_speaks))
    speed = head_speed(neck[:n], fps)
    speaks = (user_speaks[:n] | agent_speaks[:n])[: n - 1]
    is_silent = ~scipy.ndimage.binary_dilation(speaks, iterations=int(0.5 * fps))

    def rms(frames: np.ndarray) -> float:
        return float(np.sqrt((speed[frames] ** 2).mean())) if frames.any() else float('nan')

    silent, lively = rms(is_silent), rms(speaks)
    ratio = lively / silent if silent > 0 else float('inf') if lively > 0 else float('nan')
    return {'silent': silent, 'lively': lively, 'ratio': ratio}


def diversity(motions: np.ndarray) -> float:
    """
    Measure how different the answers of several seeds to one recording are.

    Formula: mean over pairs of seeds of sqrt(mean over t, c of (a[t,c] - b[t,c])²).

    Args:
        motions: `[seeds, T, C]`, at least two seeds.

    Returns:
        In units of the channels. Noise is diverse as well: ask for the other figures too.

    Source: Ng et al. 2022 (multiple predictions).
    """
    n_seeds = len(motions)
    if motions.ndim != 3 or n_seeds < 2:
        raise ValueError(f'expected [seeds, T, C] of at least 2 seeds, got {list(motions.shape)}')
    pairs = [(a, b) for a in range(n_seeds) for b in range(a)]
    return float(np.mean([np.sqrt(np.mean((motions[a] - motions[b]) ** 2)) for a, b in pairs]))


def relative_difference(motion: np.ndarray, reference: np.ndarray) -> float:
    """
    Measure how much a motion changed, against how much there is of it (0 = not at all).

    For loudness invariance: the answer to a voice at another level against that to the voice.

    Formula: sqrt(Σ (m - r)² / Σ (r - mean over t of r)²).

    Args:
        motion: `[T, C]`.
        reference: `[T, C]`.
    """
    if motion.shape != reference.shape:
        raise ValueError(f'expected equal shapes, got {motion.shape} and {reference.shape}')
    spread = ((reference - reference.mean(0)) ** 2).sum()
    changed = ((motion - reference) ** 2).sum()
    if spread == 0:
        return 0.0 if changed == 0 else float('inf')
    return float(np.sqrt(changed / spread))


def _check_neck(neck: np.ndarray) -> np.ndarray:
    if np.ndim(neck) != 2 or np.shape(neck)[1] != 3 or len(neck) < 16:
        raise ValueError(
            f'neck must be [T, 3] rotation vectors in rad, T at least 16, '
            f'got {list(np.shape(neck))}'
        )
    if not np.isfinite(neck).all():
        raise ValueError('neck must be finite, got NaN or infinite values')
    return np.asarray(neck, float)
