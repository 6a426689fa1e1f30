# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Eyes and lids: where somebody looks around turn changes, and when they blink.

The other one's eyes are straight ahead. A gaze is `[F, 2]` rad: to the left, and down.
"""

import numpy as np

from timar_ros.learn.simulator.dialogue import Utterance

_FPS = 25
# Angles of ARKit's eye channels at 1 (outward and inward; down; up), rad.
_FULL_RAD = {'side': np.deg2rad(35), 'down': np.deg2rad(30), 'up': np.deg2rad(25)}
_AWAY_RAD = np.deg2rad([14.0, -7.0])  # to the side and up: thinking
_ASIDE_RAD = np.deg2rad([7.0, 8.0])  # to the side and down: a glance
_HEAD_SHARE = 0.3
_LEAD_S = 0.1  # of gaze before a voice; people have 0.3 s, a robot knows no more of its own
# Closure of the lids from the first frame of a blink on; 0.2 s (Schiffman 2001: 0.1 to 0.4 s).
_BLINK = np.array([0.55, 1.0, 0.95, 0.55, 0.2])
_SHORTEST_GAP_S = 1.2


def plan_gaze(
    own: list[Utterance], silence: np.ndarray, away: float, rng: np.random.Generator
) -> np.ndarray:
    """
    Decide where somebody looks.

    At the partner, except: from 0.1 s before a turn until 1.0 s into it (to the side and up); for
    0.6 s at the start of a later phrase after more than 0.4 s of pause (to the side and down),
    both no longer than the phrase; and in joint silence, for 1 s out of every 3 to 5.

    Args:
        own: utterances in order.
        silence: bool `[F]`, nobody has spoken for 1.3 s.
        away: side, 1 = left.
        rng: draws the moments in silence.

    Returns:
        Gaze `[F, 2]` rad: left, down.

    Source: Kendon 1967 (speakers look away as they begin, back before they end).
    """
    gaze = np.zeros((len(silence), 2))
    previous_end_s, begins_turn = -10.0, True
    for utterance in own:
        start, end = utterance.start_s, utterance.end_s
        first = max(int((start - _LEAD_S) * _FPS), 0)
        if utterance.kind == 'phrase':
            if begins_turn:
                gaze[first : int(min(start + 1.0, end) * _FPS)] = _AWAY_RAD
            elif start - previous_end_s > 0.4:
                gaze[first : int(min(start + 0.5, end) * _FPS)] = _ASIDE_RAD
            begins_turn, previous_end_s = utterance.ends_turn, utterance.end_s
    frame = 0
    while frame < len(silence):
        if silence[frame]:
            end = frame + int(rng.uniform(0.8, 1.2) * _FPS)
            gaze[frame:end] = np.where(silence[frame:end, None], _ASIDE_RAD, gaze[frame:end])
            frame = end + int(rng.uniform(2, 4) * _FPS)
        else:
            frame += 1
    return gaze * [away, 1.0]


def lead_head(gaze: np.ndarray, lively: np.ndarray) -> np.ndarray:
    """
    Return the part of a gaze that the head takes, `[F, 3]` rad: it follows within 0.5 s.

    Args:
        gaze: `[F, 2]` rad.
        lively: `[F]`, how much anybody speaks, 0 to 1: in joint silence only the eyes move.
    """
    window = np.hanning(15)[1:-1]
    smooth = np.stack([np.convolve(axis, window / window.sum(), 'same') for axis in gaze.T], 1)
    late = len(window) // 2  # it begins when the eyes do
    smooth = np.pad(smooth, ((late, 0), (0, 0)))[: len(gaze)] * _HEAD_SHARE * lively[:, None]
    return np.stack([smooth[:, 1], smooth[:, 0], np.zeros(len(gaze))], 1)


def plan_blinks(
    gaze: np.ndarray, ends_s: list[float], per_minute: float, rng: np.random.Generator
) -> np.ndarray:
    """
    Close the lids, `[F]` 0 to 1.

    With each shift of gaze of more than 6°, 0.15 s after each phrase end of its own, and
    otherwise after 60 / rate · (0.8 to 1.8) s without; never within 1.2 s of another.

    Source: docs/model.md §8 (15-20 a minute); Evinger et al. 1994 (with gaze shifts); Nakano and
        Kitazawa 2010 (at the ends of phrases).
    """
    shifts = np.flatnonzero(np.abs(np.diff(gaze, axis=0)).max(1) > np.deg2rad(6)) + 1
    wanted = sorted([*shifts / _FPS, *(end + 0.15 for end in ends_s)])
    lids = np.zeros(len(gaze) + len(_BLINK))
    blinks, duration_s, now_s = [], len(gaze) / _FPS, 0.0
    wanted.append(np.inf)
    while now_s < duration_s:
        spontaneous_s = now_s + 60 / per_minute * rng.uniform(0.8, 1.8)
        now_s = min(next(t for t in wanted if t > now_s + _SHORTEST_GAP_S), spontaneous_s)
        if now_s < duration_s:
            blinks.append(now_s)
    for blink_s in blinks:
        frame = int(blink_s * _FPS)
        lids[frame : frame + len(_BLINK)] = np.maximum(lids[frame : frame + len(_BLINK)], _BLINK)
    return lids[: len(gaze)]


def turn_eyes(gaze: np.ndarray, neck: np.ndarray) -> dict[str, np.ndarray]:
    """
    Turn the eyes so that they look where they should, whatever the head does.

    Formula: eyes = gaze - neck (small angles; the vestibulo-ocular reflex, of gain 0.9), a
    saccade taking two frames; at most 25°.

    Returns:
        The eight `eyeLook` channels `[F]`, 0 to 1.
    """
    quick = np.stack([np.convolve(axis, [0.35, 0.65], 'full')[: len(axis)] for axis in gaze.T], 1)
    limit = np.deg2rad(25)
    left = np.clip(quick[:, 0] - 0.9 * neck[:, 1], -limit, limit)
    down = np.clip(quick[:, 1] - 0.9 * neck[:, 0], -limit, limit)
    leftward, rightward = (np.maximum(s * left, 0) / _FULL_RAD['side'] for s in (1, -1))
    channels = {
        'eyeLookOutLeft': leftward, 'eyeLookInRight': leftward,
        'eyeLookInLeft': rightward, 'eyeLookOutRight': rightward,
    }  # fmt: skip
    for side in ('Left', 'Right'):
        channels[f'eyeLookDown{side}'] = np.maximum(down, 0) / _FULL_RAD['down']
        channels[f'eyeLookUp{side}'] = np.maximum(-down, 0) / _FULL_RAD['up']
    return channels
