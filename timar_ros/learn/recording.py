# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Recorded conversations to be answered: two wavs, or a bag, as packets of two voices.

Responsible for files and what can be wrong with them. Not for what counts when (`offline`).
Times are nanoseconds on the clock of the stamps: wavs start at 0, bags keep their stamps.
"""

from collections.abc import Mapping
import dataclasses
from fractions import Fraction
import pathlib
from types import MappingProxyType

import numpy as np

from timar_ros.learn.heads import Head, hold_against_voice, read_head, to_live
from timar_ros.learn.offline import Delivery, deliver_voice, pad_voice
from timar_ros.motion import MotionSpace
from timar_ros.stream.buffer import VoiceTrack, index_of
from timar_ros.stream.channels import (
    COMPARED_S,
    MEAN,
    choose_channel,
    describe_recording,
    foreign_voice,
)
from timar_ros.stream.ingest import VoiceIngest
from timar_ros.stream.resample import SAMPLE_RATE_HZ
from timar_ros.stream.wav import read_wav

_SECOND_NS = 1_000_000_000
# The agent's voice may be replaced as long as it is not played: at most so far back from its end.
_UNSETTLED = 70 * SAMPLE_RATE_HZ
_FOREVER = 2**62


@dataclasses.dataclass(frozen=True)
class Voice:
    """
    One voice of a recording, as it sounded.

    Attributes:
        samples: float32 `[n]` at 16 kHz from the recording's begin to its end, 0 where nothing
            is known.
        is_present: bool `[n]`, False where nothing was recorded.
    """

    samples: np.ndarray
    is_present: np.ndarray


@dataclasses.dataclass(frozen=True)
class Recording:
    """
    A recorded conversation of one or two voices.

    Attributes:
        name: of the file or files.
        deliveries: packets of each voice that is there, in the order of arrival.
        begin_ns: stamp of the first sample of either voice.
        length_s: from there to the end of the longer voice.
        voices: 'user' and 'agent' as they sounded, from `begin_ns` on.
        user_motion: stamps int64 `[F]` ns and frames float32 `[F, M]`; None if not recorded.
        notes: what was wrong with it, a sentence each.
    """

    name: str
    deliveries: dict[str, list[Delivery]]
    begin_ns: int
    length_s: Fraction
    voices: dict[str, Voice]
    user_motion: tuple[np.ndarray, np.ndarray] | None
    notes: tuple[str, ...] = ()


def read_motion_frames(path: pathlib.Path, space: MotionSpace) -> tuple[np.ndarray, np.ndarray]:
    """
    Read the user's head from a file of the layout of `motion.npz`, as the live node gets it.

    Jaw y and z are neutral; of another motion space neck and jaw alone are taken.

    Args:
        path: npz with `motion [F, C]`, `names [C]` and `fps`, perhaps `stamp_s [F]`.
        space: of the model.

    Returns:
        stamps int64 `[F]` ns and frames float32 `[F, M]`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or not finite.
    """
    return to_live(read_head(path), space)


def read_wavs(
    user: pathlib.Path,
    agent: pathlib.Path,
    lead_ns: int,
    turn_s: Fraction,
    user_motion: tuple[np.ndarray, np.ndarray] | None = None,
    channels: Mapping[str, str | int] = MappingProxyType({}),
) -> Recording:
    """
    Read a conversation from the wavs of its two voices, which start together at 0.

    Args:
        user: wav of the user's voice.
        agent: wav of the agent's voice.
        lead_ns: how far ahead the agent's voice is known.
        turn_s: of the model; both voices are followed by silence up to the end of a turn.
        user_motion: from `read_motion_frames`.
        channels: voice -> 'mean' of all channels, or the index of the one to hear.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is no wav, empty or not finite, or has no such channel.
    """
    sounds, notes = {}, []
    for voice, path in (('user', user), ('agent', agent)):
        sounds[voice] = read_wav(path, notes)
    whole = dict(sounds)
    for voice, path in (('user', user), ('agent', agent)):
        samples, rate_hz = sounds[voice]
        samples = choose_channel(samples, channels.get(voice, MEAN), str(path))
        sounds[voice] = samples, rate_hz
    notes += describe_recording(whole['user'], whole['agent'], channels, '--{voice}-channel ')
    lengths = {name: Fraction(len(x), rate) for name, (x, rate) in sounds.items()}
    length_s = max(lengths.values())
    shorter = min(lengths, key=lengths.get)
    if length_s - lengths[shorter] > 1:
        notes.append(
            f'the {shorter} is recorded for {float(lengths[shorter]):.1f} of '
            f'{float(length_s):.1f} s; silence follows'
        )
    deliveries, voices = {}, {}
    for name, (samples, rate_hz) in sounds.items():
        padded = pad_voice(samples, rate_hz, -(-length_s // turn_s) * turn_s)
        deliveries[name] = deliver_voice(name, padded, rate_hz, lead_ns)
        heard = compose_voice(name, deliveries[name], 0, length_s)
        n_recorded = round(lengths[name] * SAMPLE_RATE_HZ)
        voices[name] = Voice(heard.samples, np.arange(len(heard.samples)) < n_recorded)
    name = f'{pathlib.Path(user).name} and {pathlib.Path(agent).name}'
    return Recording(name, deliveries, 0, length_s, voices, user_motion, tuple(notes))


def add_user_head(recording: Recording, head: Head, space: MotionSpace) -> Recording:
    """
    Return a recording of wavs with the head of its user, held against the user's voice.

    Args:
        recording: from `read_wavs`.
        head: from `read_head`.
        space: of the model.

    Raises:
        ValueError: it cannot be the head of this voice.
    """
    voice_s = float(recording.voices['user'].is_present.sum()) / SAMPLE_RATE_HZ
    head, notes = hold_against_voice(head, voice_s, float(recording.length_s))
    return dataclasses.replace(
        recording,
        user_motion=to_live(head, space),
        notes=(*recording.notes, *(f"the user's head: {note}" for note in notes)),
    )


def own_voice_notes(
    deliveries: Mapping[str, list[Delivery]],
    voices: Mapping[str, Voice],
    begin_ns: int,
    option: str,
) -> list[str]:
    """
    Return a note if the user's voice is in fact the robot's own, at most one sentence.

    Args:
        deliveries: of a `Recording`.
        voices: of a `Recording`.
        begin_ns: of a `Recording`.
        option: how a channel of the user is chosen.
    """
    if not {'user', 'agent'} <= set(voices):
        return []
    n = COMPARED_S * SAMPLE_RATE_HZ
    user, agent = voices['user'], voices['agent'].samples[:n]
    n_channels = deliveries['user'][0].packet.samples.shape[1]
    heard = user.samples[:n, None]
    if n_channels > 1:
        length_s = Fraction(len(heard), SAMPLE_RATE_HZ)
        feed = deliveries['user']
        columns = [compose_voice('user', feed, begin_ns, length_s, i) for i in range(n_channels)]
        heard = np.stack([column.samples for column in columns], 1)
    both = user.is_present[:n] & voices['agent'].is_present[:n]
    text = foreign_voice(heard[both], agent[both], SAMPLE_RATE_HZ, MEAN, option)
    return [f'user: {text}'] if text else []


def compose_voice(
    name: str,
    deliveries: list[Delivery],
    begin_ns: int,
    length_s: Fraction,
    channel: str | int = MEAN,
) -> Voice:
    """
    Assemble the samples of a voice from packets that may be repeated, late or replaced.

    Args:
        name: 'user' or 'agent'.
        deliveries: in the order of arrival.
        begin_ns: stamp of the first sample wanted.
        length_s: how much is wanted.
        channel: 'mean' of all channels, or the index of one.
    """
    first, n = index_of(begin_ns), round(length_s * SAMPLE_RATE_HZ)
    voice = Voice(np.zeros(n, np.float32), np.zeros(n, bool))
    track = VoiceTrack(max_span=_FOREVER)
    ingest = VoiceIngest(name, track, channel=channel)
    done = 0

    def keep(until: int) -> int:
        until = max(min(until, n), done)
        heard = track.read(first + done, until - done)
        voice.samples[done:until], voice.is_present[done:until] = heard
        track.forget_before(first + until)
        return until

    for delivery in deliveries:
        try:
            ingest.push(delivery.packet, delivery.arrival_ns)
        except ValueError:
            continue  # told where the conversation refuses it
        if track.end is not None and track.end - first - done > 2 * _UNSETTLED:
            done = keep(track.end - first - _UNSETTLED)
    keep(n)
    return voice
