# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A head that speaks, listens and rests: rotation vectors that follow voices.

Two thirds of the power (`_FOLLOWED`) is a fixed function of what is heard, so that a model that
hears the same can learn it; the rest is a real head's path (multitpc), walked at a pace set by
who speaks. Pitch positive = nose down, yaw positive = to the left, roll about z.
"""

import pathlib

import numpy as np
import scipy.signal

from timar_ros.learn.simulator.prosody import Prosody, rise_and_fall
from timar_ros.learn.simulator.style import settle
from timar_ros.npz import Arrays

_FPS = 25
_FOLLOWED = 0.7
# Deviation of pitch, yaw and roll of somebody who speaks, deg: brings speed into the range of two
# seated people (docs/model.md §8).
_DEVIATION_DEG = np.array([1.7, 4.0, 1.7])
# How wide, and how fast along the recorded path, a head moves: both silent, listening, speaking.
_WIDTH = (0.12, 0.6, 1.0)
_PACE = (0.5, 0.8, 1.2)
# What the other does moves a head so much later. A robot hears 0.08 s late, shows a plan 0.08 s
# later and plans again 0.2 s after: a frame knows what was 0.16 to 0.36 s before it. Sooner, and
# what is to be drawn hangs on what was not heard yet: a model that is taught so waits, and moves
# in pauses in case of a word.
_LATE_S = 0.24
# Whoever is spoken to raises, turns and tilts the head, degrees: nothing at first, then
# first-order; pauses pass, for it comes back slowly, from wherever it is: what happened seconds
# ago need not be remembered.
ATTEND_DEG = np.array([-2.0, 4.0, 0.0])  # rather turned than raised: no nod begins like that
_RISE_S, _PAUSE_S, _FALL_S = 0.1, 0.3, 4.0
# Movement, unlike posture, dies down soon after a voice: held and falling, s.
LIVELY_S = (0.04, 0.1)
_SPEAKS = 0.35
# Listeners also sway with the speaker's stress (Hadar et al. 1985: a quarter of their movements):
# degrees at full energy, and the time of each of two first-order lags, s.
SWAY_DEG = np.array([-1.3, 5.1, 3.1])
_SWAY_LAG_S = 0.04
_SWAY_FROM = 0.3  # energy: a word's last breath moves nobody
# `follow` looks 0.55 s ahead, with next to no weight on the last 0.1 s: of its own voice a head
# knows 0.12 s (`prosody._KNOWN_S`), of the other's nothing that is not over.
_SPOKEN_S, _HEARD_S = 0.44, 0.6
ACCENT_S = 0.28  # from a stressed moment to the middle of its beat, which begins with it
_MIMICRY_S = 0.6
_MIMICRY_GAIN = 0.4


def _kernel(centre_s: float, width_s: float, reach: int) -> np.ndarray:
    """Return a Hann window of sum 1 around `centre_s` (positive = future), `[2 reach + 1]`."""
    times = np.arange(-reach, reach + 1) / _FPS
    inside = np.abs(times - centre_s) < width_s / 2
    window = np.where(inside, 0.5 + 0.5 * np.cos(2 * np.pi * (times - centre_s) / width_s), 0.0)
    return window / window.sum()


def _weigh(values: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return the sum of `values` around each frame, weighted by a kernel over future offsets."""
    return np.convolve(values, kernel[::-1], 'same')


def _later(values: np.ndarray, delay_s: float) -> np.ndarray:
    """Return `[F, ...]` so much later: zeros (False) come first, the end is cut off."""
    late = round(delay_s * _FPS)
    return np.concatenate([np.zeros_like(values[:late]), values])[: len(values)]


def follow(heard: Prosody) -> np.ndarray:
    """
    Move as a voice does: `[F, 3]`, of deviation about 1 while it speaks.

    Formula: pitch = short(energy) - long(energy), short a Hann window of 0.9 s around +0.1 s, long
    of 2.6 s around -1.0 s; yaw = energy around -0.15 s less that around -1.1 s, each over 0.9 s;
    roll = melody over 0.8 s less over 2.6 s; each x becomes 1.5 tanh(x / 1.5), for heads do not
    swing far when a voice continues after a pause. Nothing later than 0.55 s counts.

    Source: signs and sizes are ours; what is known is that heads move with loudness and pitch
        (Hadar et al. 1983; Munhall et al. 2004), at 0.2-1.1 Hz above all.
    """
    reach = int(2.5 * _FPS)
    melody = heard.pitch * (heard.pitch != 0)
    long = _kernel(-1.0, 2.6, reach)
    pitch = _weigh(heard.energy, _kernel(0.1, 0.9, reach) - long)
    yaw = _weigh(heard.energy, _kernel(-0.15, 0.9, reach) - _kernel(-1.1, 0.9, reach))
    roll = _weigh(melody, _kernel(0.0, 0.8, reach) - long)
    return 1.5 * np.tanh(np.stack([pitch / 0.21, yaw / 0.3, roll / 0.09], 1) / 1.5)


def attend_to(other: Prosody, hold_s: float = _PAUSE_S, fall_s: float = _FALL_S) -> np.ndarray:
    """
    Follow whether the other speaks, `[F]` 0 to 1, from what was heard by then.

    Formula: 0.24 s after the energy rises above 0.35 a first-order rise of 0.1 s; `hold_s`
    after it fell below for good a first-order fall of `fall_s`.

    Source: heads turn to who begins to speak within 0.2 to 0.4 s (Kendon 1967; latency of
        orienting head movements: Goldring et al. 1996).
    """
    return rise_and_fall(_later(other.energy > _SPEAKS, _LATE_S), _RISE_S, hold_s, fall_s)


def sway_with(other: Prosody) -> np.ndarray:
    """
    Follow how loud the other is, `[F]` 0 to 1, from what was heard by then.

    Formula: (energy - 0.3) / 0.7, 0.24 s later, through two first-order lags of 0.04 s.

    Source: Hadar, Steiner and Rose 1985 (listeners move in step with the speaker's stress).
    """
    loud = np.clip((other.energy - _SWAY_FROM) / (1 - _SWAY_FROM), 0, 1)
    return settle(settle(_later(loud, _LATE_S), _SWAY_LAG_S), _SWAY_LAG_S)


def find_accents(heard: Prosody) -> list[tuple[int, float]]:
    """Return the stressed moments of a voice: frames and strengths 0 to 1, 0.45 s apart."""
    window = np.hanning(7)[1:-1]
    stress = np.convolve(heard.energy * (1 + np.clip(heard.pitch, -0.4, 0.6)), window / 2, 'same')
    peaks, found = scipy.signal.find_peaks(
        stress, height=0.75, distance=int(0.45 * _FPS), prominence=0.15
    )
    return [
        (int(peak), float(np.clip((height - 0.6) / 0.7, 0, 1)))
        for peak, height in zip(peaks, found['peak_heights'], strict=True)
    ]


def pulse(n_frames: int, centre: float, width_s: float) -> np.ndarray:
    """Return a Hann bump `[F]` of height 1 around frame `centre`."""
    offset = (np.arange(n_frames) - centre) / (width_s * _FPS)
    return np.where(np.abs(offset) < 0.5, 0.5 + 0.5 * np.cos(2 * np.pi * offset), 0.0)


def read_paths(folder: pathlib.Path) -> list[np.ndarray]:
    """
    Read the heads of multitpc as paths, `[F, 3]` at 25 fps, of deviation 1 on each axis.

    Low-passed at 6 Hz, slow turns to others (below 0.05 Hz) removed.
    """
    paths = []
    for file in sorted(pathlib.Path(folder).glob('*.npz')):
        arrays = Arrays(file)
        head, fps = arrays.numbers('rotvec', None, 3).astype(np.float64), arrays.number('fps')
        for kind, edge_hz in (('low', 6.0), ('high', 0.05)):
            sections = scipy.signal.butter(2, edge_hz, kind, fs=fps, output='sos')
            head = scipy.signal.sosfiltfilt(sections, head, axis=0)
        times = np.arange(int(len(head) / fps * _FPS)) / _FPS * fps
        head = np.stack([np.interp(times, np.arange(len(head)), c) for c in head.T], 1)
        paths.append(head / head.std(0))
    return paths


def imagine_path(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Return a path with a real head's spectrum in place of a recorded one: noise, 0.1-1.1 Hz."""
    band = scipy.signal.butter(2, (0.1, 1.1), 'bandpass', fs=_FPS, output='sos')
    path = scipy.signal.sosfilt(band, rng.normal(size=(n_frames + 500, 3)), axis=0)[500:]
    return path / path.std(0)


def by_activity(values: tuple[float, float, float], own, other) -> np.ndarray:
    """Blend (both silent, listening, speaking) by the activity `[F]` of the two voices."""
    silence, listening, speaking = values
    return silence + np.maximum((speaking - silence) * own, (listening - silence) * other)


def converse_with_head(
    own: Prosody,
    other: Prosody,
    path: np.ndarray,
    pace: float,
    width: np.ndarray,
    seen: np.ndarray | None,
    rng: np.random.Generator,
) -> np.ndarray:
    """
    Move a head through a conversation, nods and gaze apart.

    Formula: width · by_activity(width) · deviation · (√0.7 followed + √0.3 path), followed =
    own voice's `follow` (0.44 s later) while speaking, the other's (yaw mirrored, 0.6 s later)
    while listening; a beat of up to 0.9° down after each accent of its own; 0.4 of the other's
    head 0.6 s ago, in 0.2-1.1 Hz, while the other speaks and it does not; breathing at 0.25 Hz,
    0.12°; drift below 0.05 Hz, 0.8°.

    Args:
        own: what is heard of its voice.
        other: of the other's.
        path: `[>= 2 F, 3]` of deviation 1.
        pace: factor along the path.
        width: `[F]` factor of all movement.
        seen: the other's head `[F, 3]` rad, or None if it is not seen.
        rng: draws the place on the path, and phases.

    Returns:
        `[F, 3]` rad.

    Source: docs/model.md §8 (mimicry at about 600 ms in 0.2-1.1 Hz); spectrum: multitpc.
    """
    n_frames = len(own.energy)
    attends = attend_to(other, *LIVELY_S)
    position = np.cumsum(by_activity(_PACE, own.activity, attends) * pace)
    longest = max(_PACE) * pace * n_frames  # whatever is said, so that the draw is the same
    position = position + rng.uniform(0, max(len(path) - longest - 1, 0))
    grid = np.arange(len(path))
    walked = np.stack([np.interp(position, grid, column) for column in path.T], 1)
    speaking = own.activity[:, None]
    followed = _later(follow(own), _SPOKEN_S) * np.sqrt(speaking)
    echoed = _later(follow(other), _HEARD_S)
    followed = followed + echoed * [1, -1, -1] * (1 - speaking)
    size = by_activity(_WIDTH, own.activity, attends)[:, None] * np.deg2rad(_DEVIATION_DEG)
    head = size * (np.sqrt(_FOLLOWED) * followed + np.sqrt(1 - _FOLLOWED) * walked)
    for frame, strength in find_accents(own):
        beat = pulse(n_frames, frame + ACCENT_S * _FPS, 0.6)
        head[:, 0] += np.deg2rad(0.9) * strength * beat
    if seen is not None:
        band = scipy.signal.butter(1, (0.2, 1.1), 'bandpass', fs=_FPS, output='sos')
        # the filter is late above its middle only, 0.47 Hz
        copied = _later(scipy.signal.sosfilt(band, seen, axis=0), _MIMICRY_S)
        head += _MIMICRY_GAIN * copied * ((1 - speaking) * attends[:, None])
    head *= width[:, None]
    times = np.arange(n_frames) / _FPS
    head[:, 0] += np.deg2rad(0.12) * np.sin(2 * np.pi * (0.25 * times + rng.random()))
    drift = rng.uniform(0.01, 0.03, 3), rng.random(3)
    head += np.deg2rad(0.8) * np.sin(2 * np.pi * (drift[0] * times[:, None] + drift[1]))
    return head
