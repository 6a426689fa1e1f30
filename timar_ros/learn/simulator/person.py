# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One of the two people, moving: mouth, head, eyes and brows through a conversation."""

import dataclasses

import numpy as np

from timar_ros.learn.simulator.dialogue import PARTIES, Dialogue, Utterance
from timar_ros.learn.simulator.gaze import lead_head, plan_blinks, plan_gaze, turn_eyes
from timar_ros.learn.simulator.head import (
    ACCENT_S,
    ATTEND_DEG,
    LIVELY_S,
    SWAY_DEG,
    attend_to,
    converse_with_head,
    find_accents,
    pulse,
    sway_with,
)
from timar_ros.learn.simulator.mouth import Mouth, sounding
from timar_ros.learn.simulator.nods import PlantedNod, plan_nods, play_nods
from timar_ros.learn.simulator.prosody import Prosody
from timar_ros.learn.simulator.recorded import MOUTH_NAMES
from timar_ros.learn.simulator.style import Persona, both_sides, wear

_RATE_HZ = 16000
_FPS = 25
# A learned mouth opens less than the real one did on the held-out clip (deviation 0.10 to 0.15).
_MOUTH_GAIN = 1.25
# Share of the interest in the other that is gone while one speaks: who interrupts is noticed.
_ABSORBED = 0.25
# A conversation finds a robot's head in the middle; it goes where it wants to be in so long, s.
_WAKING_S = 1.5
_NECK = ('neck_x', 'neck_y', 'neck_z')


@dataclasses.dataclass(frozen=True)
class Performance:
    """What one person did: channels `[F]` by name, and the nods that were planted."""

    channels: dict[str, np.ndarray]
    nods: list[PlantedNod]

    @property
    def neck(self) -> np.ndarray:
        """Head `[F, 3]`, rad."""
        return np.stack([self.channels[name] for name in _NECK], 1)


def move_mouth(utterances: list[Utterance], voice: np.ndarray, mouth: Mouth) -> np.ndarray:
    """
    Return the mouth `[F, C]` that says a voice: learned, or as filmed where it was.

    Args:
        utterances: of the voice.
        voice: all of it, clean, float `[n]`.
        mouth: learned.
    """
    moving = np.clip(_MOUTH_GAIN * mouth.speak(voice), 0, 1)
    filmed = [utterance for utterance in utterances if utterance.mouth is not None]
    if filmed:
        moving = np.zeros_like(moving)
        for utterance in filmed:
            first = round(utterance.start_s * _FPS)
            slot = moving[first : first + len(utterance.mouth)]
            np.maximum(slot, utterance.mouth[: len(slot)], out=slot)
        moving *= sounding(voice)[: len(moving), None]
    return moving


def perform(
    party: str,
    dialogue: Dialogue,
    voices: dict[str, np.ndarray],
    prosody: dict[str, Prosody],
    mouth: Mouth,
    shapes: dict[str, np.ndarray],
    path: np.ndarray,
    persona: Persona,
    style: np.ndarray,
    seen: np.ndarray | None,
    rng: np.random.Generator,
) -> Performance:
    """
    Let one of the two take part in a conversation.

    Besides head, nods, eyes and mouth: who is spoken to raises the head by 2.0°, turns it by 4.0°
    and tilts it as the person does, and comes back slowly (`head.attend_to`), swaying by up to
    6.1° with how loud the other is (`head.sway_with`), both 0.75 times as much while speaking;
    brows rise with accents (0.25) and 0.35 s after a question (0.5, with a tilt of 4°); a smile
    answers laughter after 0.3 s (0.5) and goes with one's own; what style and persona add. A
    smile takes from the rounding of lips, never from the jaw. The neck begins in the middle and is
    where it wants to be after 1.5 s.

    Args:
        party: who it is.
        dialogue: what is said.
        voices: of both parties, clean.
        prosody: of both.
        mouth: learned.
        shapes: of nods.
        path: of a real head, deviation 1.
        persona: the person.
        style: `[F, 7]`.
        seen: the other's head `[F, 3]` rad, or None.
        rng: draws.
    """
    other = PARTIES[party == 'agent']
    own_prosody, other_prosody = prosody[party], prosody[other]
    n_frames = len(own_prosody.energy)
    utterances = dialogue.of(party)
    face, posture, width = wear(style)
    channels = {name: np.zeros(n_frames) for name in _channel_names()}

    # Each draws for itself: what happens late in a clip changes nothing that was before.
    nod_rng, gaze_rng, head_rng, lid_rng = map(np.random.default_rng, rng.integers(2**32, size=4))
    nods = plan_nods(
        dialogue.cues[party], style[:, -1], len(shapes[persona.nod_shape]) // 40, persona.nod_hz,
        persona.nod, persona.willing, nod_rng,
    )  # fmt: skip
    nod_pitch, busy = play_nods(nods, shapes[persona.nod_shape], n_frames)
    attends = attend_to(other_prosody)
    lively = np.maximum(own_prosody.activity, attend_to(other_prosody, *LIVELY_S))
    rests = _lasts(lively < 0.3, 1.0)
    gaze = plan_gaze(utterances, rests, persona.away, gaze_rng)
    head = converse_with_head(
        own_prosody, other_prosody, path, persona.pace, width * persona.amplitude, seen, head_rng
    )
    head[:, 0] *= 1 - 0.7 * busy
    neck = head + posture + lead_head(gaze, lively)
    neck[:, 0] += nod_pitch
    open_to_other = 1 - _ABSORBED * own_prosody.activity
    listening = attends * open_to_other
    neck += persona.amplitude * np.deg2rad(ATTEND_DEG) * listening[:, None]
    sways = sway_with(other_prosody) * open_to_other * (1 - 0.7 * busy)
    neck += persona.amplitude * np.deg2rad(SWAY_DEG) * sways[:, None]
    neck[:, 2] += persona.tilt_rad * listening
    neck *= _waking(n_frames)[:, None]

    spoken = move_mouth(utterances, voices[party], mouth)
    for column, name in enumerate(MOUTH_NAMES):
        channels[name] += spoken[:, column]
    brow, smile = np.zeros(n_frames), np.full(n_frames, persona.smile)
    for frame, strength in find_accents(own_prosody):
        brow += 0.25 * strength * pulse(n_frames, frame + ACCENT_S * _FPS, 0.6)
    for event_s, kind in dialogue.events[party]:
        if kind == 'question':
            brow += 0.5 * pulse(n_frames, (event_s + 0.7) * _FPS, 0.9)
            neck[:, 2] += np.deg2rad(4.0) * pulse(n_frames, (event_s + 0.9) * _FPS, 1.4)
        else:
            smile += 0.5 * pulse(n_frames, (event_s + 1.2) * _FPS, 1.8)
    for utterance in utterances:
        if utterance.kind == 'laugh':
            middle_s = (utterance.start_s + utterance.end_s) / 2
            length_s = utterance.end_s - utterance.start_s + 0.8
            smile += 0.6 * pulse(n_frames, (middle_s + 0.4) * _FPS, length_s)
    for action, value in (
        ('browInnerUp', 0.8 * persona.brow * brow), ('browOuterUp', persona.brow * brow),
        ('mouthSmile', smile), ('cheekSquint', 0.6 * np.maximum(smile - persona.smile, 0)),
    ):  # fmt: skip
        for channel in both_sides(action):
            channels[channel] = channels[channel] + value
    for channel, value in face.items():
        channels[channel] = channels[channel] + value
    rounding = 1 - 0.4 * np.clip(channels['mouthSmileLeft'], 0, 1)
    for channel in ('mouthPucker', 'mouthFunnel'):
        channels[channel] *= rounding

    eyes = turn_eyes(gaze, neck)
    ends_s = [utterance.end_s for utterance in utterances if utterance.kind == 'phrase']
    lids = plan_blinks(gaze, ends_s, persona.blinks_per_minute, lid_rng)
    for side in ('Left', 'Right'):
        channels[f'eyeBlink{side}'] = np.maximum(lids, 0.3 * eyes[f'eyeLookDown{side}'])
        channels[f'eyeWide{side}'] *= 1 - lids
    channels |= eyes
    channels = {name: np.clip(value, 0, 1) for name, value in channels.items()}
    return Performance(channels | {name: neck[:, i] for i, name in enumerate(_NECK)}, nods)


def _channel_names() -> list[str]:
    """Return the blendshapes that move, eyes apart."""
    actions = ('eyeBlink', 'eyeSquint', 'eyeWide', 'browDown', 'browOuterUp', 'cheekSquint',
               'noseSneer', 'mouthFrown', 'mouthDimple')  # fmt: skip
    sided = [channel for action in actions for channel in both_sides(action)]
    return [*MOUTH_NAMES, 'browInnerUp', *sided]


def _waking(n_frames: int) -> np.ndarray:
    """Return the share `[F]` of its motion that a head has: a smooth step from 0 to 1."""
    share = np.clip(np.arange(n_frames) / (_WAKING_S * _FPS), 0, 1)
    return share**2 * (3 - 2 * share)


def _lasts(is_so: np.ndarray, for_s: float) -> np.ndarray:
    """Tell where `is_so` has been true for longer than that, bool `[F]`."""
    lasted = np.zeros(len(is_so), int)
    for i in range(1, len(is_so)):
        lasted[i] = lasted[i - 1] + 1 if is_so[i] else 0
    return lasted > for_s * _FPS
