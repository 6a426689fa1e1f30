# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
When a voice invites its listener to nod: the rule of Ward and Tsukahara, and the pitch it needs.

Pure functions on a clean voice `[n]`, sample i at i / sample_rate_hz.
"""

import numpy as np
import scipy.ndimage
import scipy.signal

from timar_ros.learn.behaviour import voice_activity

HOP_HZ = 100
_LOWEST_HZ, _HIGHEST_HZ = 70.0, 400.0
_WINDOW_S = 0.04
# Share of a frame's power that repeats itself, from which on it is voiced.
_VOICED = 0.5
# Twice the period repeats as well: the shorter one is taken unless it is worse by this an octave.
_OCTAVE_COST = 0.03
_FRAMES_AT_ONCE = 2000


def voice_pitch(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """
    Follow the pitch of a voice.

    Formula: in Hann windows of 40 ms, the lag within 70 to 400 Hz at which the autocorrelation,
    divided by that of the window and the power, less 0.03 an octave of lag, is largest; voiced
    where it exceeds half and `voice_activity` holds; then a median over 50 ms.

    Returns:
        Hz, `[ceil(100 · n / sample_rate)]`, a value each 10 ms; 0 where unvoiced.

    Source: Boersma 1993, without its path search: single octave errors remain.
    """
    n_window = int(_WINDOW_S * sample_rate_hz) | 1
    window = scipy.signal.windows.hann(n_window)
    n_fft = 2 ** int(np.ceil(np.log2(2 * n_window)))
    of_window = np.fft.irfft(np.abs(np.fft.rfft(window, n_fft)) ** 2)[: n_window // 2 + 1]
    shortest, longest = int(sample_rate_hz / _HIGHEST_HZ), int(sample_rate_hz / _LOWEST_HZ)
    longest = min(longest, n_window // 2)
    octave_cost = _OCTAVE_COST * np.log2(np.arange(shortest, longest + 1) / shortest)
    padded = np.pad(np.asarray(samples, float), n_window // 2)
    starts = np.arange(0, len(samples), sample_rate_hz / HOP_HZ).astype(int)
    pitch = np.zeros(len(starts))
    for begin in range(0, len(starts), _FRAMES_AT_ONCE):
        part = starts[begin : begin + _FRAMES_AT_ONCE]
        frames = padded[part[:, None] + np.arange(n_window)]
        frames = (frames - frames.mean(1, keepdims=True)) * window
        spectrum = np.abs(np.fft.rfft(frames, n_fft, axis=1)) ** 2
        repeats = np.fft.irfft(spectrum, axis=1)[:, : n_window // 2 + 1] / of_window
        power = np.maximum(repeats[:, :1], 1e-12)
        lags = repeats[:, shortest : longest + 1] / power
        best = (lags - octave_cost).argmax(1)
        is_voiced = lags[np.arange(len(part)), best] > _VOICED
        pitch[begin : begin + len(part)] = np.where(
            is_voiced, sample_rate_hz / (best + shortest), 0.0
        )
    speaks = voice_activity(samples, sample_rate_hz, HOP_HZ)
    pitch[~speaks[: len(pitch)]] = 0.0
    return scipy.ndimage.median_filter(pitch, 5)


def backchannel_times(samples: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """
    Say when a listener may nod to a voice.

    Formula: after 110 ms of pitch below its 26th percentile (unvoiced gaps of 30 ms bridged),
    following at least 700 ms of speech; 700 ms later, and never within 800 ms of the one before.

    Args:
        samples: the other person's voice `[n]`.
        sample_rate_hz: of it.

    Returns:
        times in s, rising; they may lie behind the end of the voice.

    Source: Ward and Tsukahara 2000, the rule for English. The percentile is the whole clip's,
        which no live system has: a baseline to beat, made as strong as it gets.
    """
    pitch = voice_pitch(samples, sample_rate_hz)
    if not pitch.any():
        return np.zeros(0)
    is_low = (pitch > 0) & (pitch < np.percentile(pitch[pitch > 0], 26))
    is_low = scipy.ndimage.binary_closing(np.pad(is_low, 5), np.ones(4, bool))[5:-5]
    speaks = voice_activity(samples, sample_rate_hz, HOP_HZ)[: len(is_low)]
    times, last_s = [], -np.inf
    low_run = spoken_run = 0
    for i, (low, speaking) in enumerate(zip(is_low, speaks, strict=True)):
        low_run = low_run + 1 if low else 0
        spoken_run = spoken_run + 1 if speaking else 0
        answer_s = i / HOP_HZ + 0.7
        if low_run >= 11 and spoken_run >= 70 and answer_s - last_s >= 0.8:
            times.append(answer_s)
            last_s = answer_s
            low_run = 0
    return np.array(times)
