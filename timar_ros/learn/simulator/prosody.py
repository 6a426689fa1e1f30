# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How loud and how high a voice is, frame by frame: what heads and hands follow."""

import dataclasses

import numpy as np
import soxr

from timar_ros.stream.offset import without_offset

_RATE_HZ = 16000
_FPS = 25
# A robot knows its own voice at least so far beyond each frame of a plan (agent_lead less a plan's
# age when it is replaced, 0.12 s; on the grid of frames 0.08). What hangs on more of it cannot be
# learned: a model that is taught so moves in pauses in case of a word.
_KNOWN_S = 0.08
# Rise, hold and fall of a voice's activity, s: settled half a second after the last word.
_ACTIVITY_S = (0.1, 0.2, 0.15)
_PITCH_RATE_HZ = 8000
_PITCH_RANGE_HZ = (70.0, 400.0)


@dataclasses.dataclass(frozen=True)
class Prosody:
    """
    What can be heard of a voice, each `[F]` at 25 fps.

    Attributes:
        energy: 0 (35 dB below the loudest tenth, or silence) to 1.
        pitch: log2 of pitch over the voice's median; 0 where it has none.
        activity: how much the voice speaks, 0 to 1, from what is heard 0.08 s later
            (`rise_and_fall`).
    """

    energy: np.ndarray
    pitch: np.ndarray
    activity: np.ndarray


def loudness(samples: np.ndarray) -> np.ndarray:
    """Return the level of each 10 ms, dB relative to full scale, `[n // 160]`."""
    hop = _RATE_HZ // 100
    frames = without_offset(samples)[: len(samples) // hop * hop].reshape(-1, hop)
    return 10 * np.log10((frames**2).mean(1) + 1e-12)


def rise_and_fall(is_on: np.ndarray, rise_s: float, hold_s: float, fall_s: float) -> np.ndarray:
    """
    Follow `[F]` bool as a level 0 to 1, causally.

    Formula: a first-order rise of `rise_s` while it is on and for `hold_s` after, then a
    first-order fall of `fall_s`.
    """
    levels, level, since_s = np.zeros(len(is_on)), 0.0, np.inf
    for frame, on in enumerate(is_on):
        since_s = 0.0 if on else since_s + 1 / _FPS
        target = float(since_s <= hold_s)
        level += (target - level) * (1 - np.exp(-1 / (_FPS * (rise_s if target else fall_s))))
        levels[frame] = level
    return levels


def find_pitch(samples: np.ndarray) -> np.ndarray:
    """
    Follow the pitch of a clean voice at 25 fps.

    Formula: the first of the highest peaks of the normalised autocorrelation of 50 ms at 8 kHz,
    70 to 400 Hz; unvoiced below 0.5.

    Returns:
        Hz `[F]`, 0 where unvoiced.
    """
    n_frames = len(samples) * _FPS // _RATE_HZ
    voice = soxr.resample(samples.astype(np.float32), _RATE_HZ, _PITCH_RATE_HZ)
    width, hop = int(0.05 * _PITCH_RATE_HZ), _PITCH_RATE_HZ // _FPS
    voice = np.pad(voice, (width // 2, 2 * width))
    starts = np.arange(n_frames) * hop
    frames = voice[starts[:, None] + np.arange(width)]
    window = np.hanning(width)
    spectrum = np.abs(np.fft.rfft((frames - frames.mean(1, keepdims=True)) * window, 1024)) ** 2
    correlation = np.fft.irfft(spectrum)
    weight = np.fft.irfft(np.abs(np.fft.rfft(window, 1024)) ** 2)
    shortest, longest = (int(_PITCH_RATE_HZ / hz) for hz in _PITCH_RANGE_HZ[::-1])
    lags = slice(shortest, min(longest, width // 2 + width // 4))
    score = correlation[:, lags] / weight[lags] * weight[0] / (correlation[:, :1] + 1e-9)
    # The shortest lag that is nearly as good as the best: an octave too low is the usual error.
    good = score >= 0.9 * score.max(1, keepdims=True)
    best = good.argmax(1)
    climb = score[np.arange(n_frames)[:, None], np.minimum(best[:, None] + np.arange(4),
                                                           score.shape[1] - 1)]  # fmt: skip
    best = best + climb.argmax(1)
    level = np.sqrt((frames**2).mean(1))
    voiced = (score.max(1) > 0.5) & (level > 0.05 * max(np.percentile(level, 95), 1e-4))
    return np.where(voiced, _PITCH_RATE_HZ / (best + shortest), 0.0)


def listen(samples: np.ndarray) -> Prosody:
    """Measure a clean voice (before room and noise): float `[n]` at 16 kHz."""
    n_frames = len(samples) * _FPS // _RATE_HZ
    level_db = loudness(samples)
    silent = np.zeros(n_frames)
    if not len(level_db) or level_db.max() < -60:
        return Prosody(silent, silent, silent)
    top = np.percentile(level_db[level_db > level_db.max() - 40], 90)
    frames_s = np.arange(n_frames) / _FPS
    grid_s = (np.arange(len(level_db)) + 0.5) / 100
    energy = np.clip((np.interp(frames_s, grid_s, level_db) - (top - 35)) / 35, 0, 1.1)
    is_loud = (level_db > top - 30).astype(float)
    speaks = np.interp(frames_s + _KNOWN_S, grid_s, is_loud, right=0.0) > 0.5
    activity = rise_and_fall(speaks, *_ACTIVITY_S)
    hz = find_pitch(samples)
    voiced = hz > 0
    pitch = np.zeros(n_frames)
    if voiced.any():
        pitch[voiced] = np.clip(np.log2(hz[voiced] / np.median(hz[voiced])), -0.8, 0.8)
    return Prosody(energy, pitch, activity)
