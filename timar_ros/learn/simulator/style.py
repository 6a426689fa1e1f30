# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How somebody is: emotions with intensity, the listener's attitude, and lasting traits.

Style is float `[F, 7]`: intensities 0 to 1 of `EMOTIONS`, then attitude -1 (reserved) to 1
(eager). All zero is neutral.
"""

import dataclasses

import numpy as np

_FPS = 25
EMOTIONS = ('happy', 'sad', 'angry', 'surprised', 'afraid', 'disgusted')
N_STYLE = len(EMOTIONS) + 1


@dataclasses.dataclass(frozen=True)
class Persona:
    """
    Traits of one person; factors of the neutral one.

    Attributes:
        name: '' = nobody in particular.
        amplitude: of head movement.
        nod: amplitude of nods.
        willing: to nod at a cue.
        nod_shape: of `nods.read_shapes`.
        nod_hz: cycles a second.
        pace: of the head.
        smile: at rest, 0 to 1.
        brow: of brow movement.
        blinks_per_minute: at rest.
        away: side that the eyes go to when thinking, 1 = left.
        tilt_rad: roll of the head while listening.
    """

    name: str = ''
    amplitude: float = 1.0
    nod: float = 1.0
    willing: float = 1.0
    nod_shape: str = 'twice'
    nod_hz: float = 2.2
    pace: float = 1.0
    smile: float = 0.0
    brow: float = 1.0
    blinks_per_minute: float = 17.0
    away: float = -1.0
    tilt_rad: float = 0.0


# Five people, far enough apart to be told by eye; spreads are those between people in the
# literature on nods and gaze, halved, so that each stays inside the range of two seated people.
PERSONAS = (
    Persona(),
    Persona('warm', 1.05, 1.15, 1.1, 'thrice', 2.3, 0.95, 0.22, 1.2, 18, -1.0, 0.07),
    Persona('calm', 0.75, 0.85, 0.95, 'twice', 1.7, 0.8, 0.08, 0.7, 13, -1.0, 0.0),
    Persona('lively', 1.25, 1.2, 1.1, 'thrice', 2.7, 1.2, 0.12, 1.5, 21, 1.0, 0.0),
    Persona('reserved', 0.7, 0.75, 0.7, 'once', 1.4, 0.9, 0.0, 0.6, 16, 1.0, 0.0),
    Persona('curious', 1.0, 1.0, 1.0, 'twice', 2.3, 1.05, 0.05, 1.4, 17, 1.0, -0.09),
)

# Action of each emotion at intensity 1, after the prototypes of EMFACS (Ekman and Friesen 1978:
# happy 6+12, sad 1+4+15, angry 4+7+23, surprised 1+2+5, afraid 1+2+5+20, disgusted 9+10); weaker
# about the mouth, which must go on speaking. A channel without a side is meant for both.
_FACES = {
    'happy': {'mouthSmile': 0.65, 'cheekSquint': 0.5, 'eyeSquint': 0.2, 'mouthDimple': 0.15},
    'sad': {'browInnerUp': 0.7, 'mouthFrown': 0.55, 'browDown': 0.15, 'eyeSquint': 0.1},
    'angry': {'browDown': 0.8, 'noseSneer': 0.25, 'eyeSquint': 0.35, 'mouthPress': 0.3},
    'surprised': {'browInnerUp': 0.65, 'browOuterUp': 0.7, 'eyeWide': 0.6},
    'afraid': {'browInnerUp': 0.8, 'browOuterUp': 0.25, 'eyeWide': 0.5, 'mouthStretch': 0.35},
    'disgusted': {'noseSneer': 0.7, 'browDown': 0.35, 'mouthUpperUp': 0.25, 'mouthFrown': 0.2},
}
# Posture at intensity 1: pitch, yaw, roll in rad; how wide the head moves.
_POSTURES = {
    'happy': ((-0.03, 0.0, 0.02), 1.15),
    'sad': ((0.12, 0.0, 0.03), 0.6),
    'angry': ((0.07, 0.0, 0.0), 1.2),
    'surprised': ((-0.06, 0.0, 0.0), 1.1),
    'afraid': ((-0.05, 0.04, 0.0), 0.8),
    'disgusted': ((-0.04, 0.08, 0.04), 0.9),
}
_SIDED = {'browInnerUp': ('browInnerUp',)}


def both_sides(name: str) -> tuple[str, ...]:
    """Return the ARKit channels of an action: itself if it is one, or its left and right."""
    return _SIDED.get(name, (f'{name}Left', f'{name}Right'))


def settle(values: np.ndarray, tau_s: float) -> np.ndarray:
    """Follow `[F, ...]` as a first-order system does, causally, from its first value on."""
    followed = np.empty_like(values, dtype=float)
    gain, state = 1 - np.exp(-1 / (tau_s * _FPS)), np.array(values[0], float)
    for i, value in enumerate(values):
        state = state + gain * (value - state)
        followed[i] = state
    return followed


def draw_style(n_frames: int, is_neutral: bool, rng: np.random.Generator) -> np.ndarray:
    """
    Draw what is asked for during a clip, float32 `[F, 7]`.

    Neutral: all zero. Else stretches of 10 to 30 s, each with one emotion (70 %) of intensity 0.3
    to 1 and, in 60 %, an attitude -1 to 1, more often near its ends (arcsine distribution).
    """
    style = np.zeros((n_frames, N_STYLE), np.float32)
    start = 0
    while start < n_frames and not is_neutral:
        end = start + int(rng.uniform(10, 30) * _FPS)
        if rng.random() < 0.7:
            style[start:end, rng.integers(len(EMOTIONS))] = rng.uniform(0.3, 1.0)
        if rng.random() < 0.6:
            style[start:end, -1] = np.sin(np.pi / 2 * rng.uniform(-1, 1))
        start = end
    return style


def wear(style: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """
    Turn a style into a face and a posture.

    The face follows in 0.4 s, the posture in 0.8 s (time constants).

    Returns:
        ARKit channels `[F]` to be added; posture `[F, 3]` rad; factor `[F]` of head movement.
    """
    face_style, slow = settle(style, 0.4), settle(style, 0.8)
    face: dict[str, np.ndarray] = {}
    posture, width = np.zeros((len(style), 3)), np.ones(len(style))
    for i, emotion in enumerate(EMOTIONS):
        for action, size in _FACES[emotion].items():
            for channel in both_sides(action):
                face[channel] = face.get(channel, 0) + size * face_style[:, i]
        angles, factor = _POSTURES[emotion]
        posture += slow[:, i : i + 1] * np.array(angles)
        width *= 1 + slow[:, i] * (factor - 1)
    eager, unwilling = np.maximum(face_style[:, -1], 0), np.maximum(-face_style[:, -1], 0)
    for channel, size in (
        ('mouthSmileLeft', 0.25 * eager), ('mouthSmileRight', 0.25 * eager),
        ('browInnerUp', 0.15 * eager),
        ('browDownLeft', 0.2 * unwilling), ('browDownRight', 0.2 * unwilling),
    ):  # fmt: skip
        face[channel] = face.get(channel, 0) + size
    posture[:, 0] += 0.04 * slow[:, -1]  # leaning in, nose a little down; leaning back
    return face, posture, width
