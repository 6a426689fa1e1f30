# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A recorded conversation as messages in the order of their publishing.

Knows when a microphone and a speaker would have published each stretch of a recording. Reads no
clock: times are nanoseconds since the recording's start.
"""

from collections.abc import Iterator, Mapping
import dataclasses
import heapq
import math
from types import MappingProxyType

import numpy as np

from timar_ros.msg import AudioChunk
from timar_ros.nodes.convert import audio_chunk, stamp_from_ns
from timar_ros.stream.channels import MEAN, choose_channel, describe_recording
from timar_ros.stream.wav import read_pcm

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
# A recording lasts a whole number of frames.
_FPS = 25
# Announced chunks are published this much before the time that they say they were sent, so that
# they have arrived by then: what counts is decided by stamps.
EARLY_NS = 100_000_000


@dataclasses.dataclass(frozen=True)
class Voice:
    """
    One recorded voice.

    Attributes:
        samples: `[n, channels]`, int16 or float32, full scale 32768 or 1.
        sample_rate_hz: of each channel.
    """

    samples: np.ndarray
    sample_rate_hz: int

    @property
    def duration_ns(self) -> int:
        """How long it plays."""
        return len(self.samples) * _NS_PER_S // self.sample_rate_hz

    def as_floats(self) -> tuple[np.ndarray, int]:
        """Return its samples, float32 `[n, channels]` in [-1, 1], and their rate."""
        is_integer = self.samples.dtype == np.int16
        samples = self.samples.astype(np.float32) * np.float32(1 / 32768 if is_integer else 1)
        return samples, self.sample_rate_hz

    def heard(self, channel: str | int, source: str) -> 'Voice':
        """Return the voice with one channel alone, or unchanged for 'mean'."""
        samples = choose_channel(self.samples, channel, source)
        return dataclasses.replace(self, samples=samples)

    def followed_by_silence(self, until_s: float) -> 'Voice':
        """Return the voice with silence up to a length; a longer one stays."""
        missing = max(round(until_s * self.sample_rate_hz) - len(self.samples), 0)
        silence = np.zeros((missing, self.samples.shape[1]), self.samples.dtype)
        return dataclasses.replace(self, samples=np.concatenate([self.samples, silence]))


@dataclasses.dataclass(frozen=True)
class Event:
    """
    One message to publish.

    Attributes:
        at_ns: when, since the recording's start; negative for what is announced ahead of it.
        topic: relative name.
        msg: the message.
        end_ns: when what it holds is over.
    """

    at_ns: int
    topic: str
    msg: object
    end_ns: int


def read_voice(path, notes: list[str] | None = None) -> Voice:
    """
    Read a wav of any rate and channel count; 16-bit samples stay as they are.

    Args:
        path: of the file.
        notes: gets a sentence about each part of the file that is not read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a wav, holds no sound, or samples that are not finite.
    """
    return Voice(*read_pcm(path, notes))


def _chunks(
    voice: Voice, chunk_ms: int, position_ns: int
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Cut a voice: (first sample, count up to its end, samples) of each chunk not yet over."""
    n = max(1, voice.sample_rate_hz * chunk_ms // 1000)
    n_over = max(position_ns, 0) * voice.sample_rate_hz // _NS_PER_S
    for first in range(n_over // n * n, len(voice.samples), n):
        piece = voice.samples[first : first + n]
        if (first + len(piece)) * _NS_PER_S // voice.sample_rate_hz > position_ns:
            yield first, first + len(piece), piece


def _to_msg(voice: Voice, first: int, samples: np.ndarray, start_ns: int) -> AudioChunk:
    is_integer = samples.dtype == np.int16
    return audio_chunk(
        samples / np.float32(32768) if is_integer else samples,
        voice.sample_rate_hz,
        stamp_ns=start_ns + first * _NS_PER_S // voice.sample_rate_hz,
        first_sample=first,
        encoding=AudioChunk.PCM_S16LE if is_integer else AudioChunk.PCM_F32LE,
    )


def _user_events(voice: Voice, chunk_ms: int, start_ns: int, position_ns: int) -> Iterator[Event]:
    for first, end, samples in _chunks(voice, chunk_ms, position_ns):
        captured_ns = end * _NS_PER_S // voice.sample_rate_hz
        msg = _to_msg(voice, first, samples, start_ns)
        yield Event(captured_ns, 'user/audio', msg, captured_ns)


def _agent_events(
    voice: Voice, chunk_ms: int, start_ns: int, agent_lead_ms: int, position_ns: int
) -> Iterator[Event]:
    for first, end, samples in _chunks(voice, chunk_ms, position_ns):
        sent_ns = first * _NS_PER_S // voice.sample_rate_hz - agent_lead_ms * _NS_PER_MS
        msg = _to_msg(voice, first, samples, start_ns)
        msg.sent = stamp_from_ns(start_ns + sent_ns)
        played_ns = end * _NS_PER_S // voice.sample_rate_hz
        yield Event(sent_ns - EARLY_NS, 'agent/audio', msg, played_ns)


def conversation_events(
    user: Voice | None,
    agent: Voice | None,
    start_ns: int,
    chunk_ms: int = 20,
    agent_lead_ms: int = 400,
    turn_s: float = 1.0,
    position_ns: int = 0,
) -> Iterator[Event]:
    """
    Play a conversation of one or two voices.

    The user's chunks come when their last sample was captured; the agent's are announced ahead of
    playback, as a speaker does that knows its utterance. Both are followed by silence up to the
    end of the last turn.

    Args:
        user: recorded by the microphone.
        agent: the robot's own voice.
        start_ns: stamp of the recording's first instant, on the clock of the graph.
        chunk_ms: sound in one message.
        agent_lead_ms: how far ahead the agent's voice has to be known.
        turn_s: length of a turn.
        position_ns: leave out what is over by then, since the recording's start.

    Yields:
        Events in the order of their times.
    """
    voices = [voice for voice in (user, agent) if voice is not None]
    n_frames = max(round(voice.duration_ns * _FPS / _NS_PER_S) for voice in voices)
    n_turns = math.ceil(n_frames / _FPS / turn_s - 1e-6)
    user, agent = (v and v.followed_by_silence(n_turns * turn_s) for v in (user, agent))
    streams = []
    if user is not None:
        streams.append(_user_events(user, chunk_ms, start_ns, position_ns))
    if agent is not None:
        streams.append(_agent_events(agent, chunk_ms, start_ns, agent_lead_ms, position_ns))
    return heapq.merge(*streams, key=lambda event: event.at_ns)


class WavRecording:
    """
    A conversation out of the wavs of its voices.

    Args:
        user, agent: paths; one of them may be empty.
        chunk_ms: sound in one message.
        turn_s: length of a turn.
        channels: voice -> 'mean' or the index of the channel to hear.

    Attributes:
        duration_ns: of the longer voice.
        message_types: relative topic -> message class, of what is in it.
        begin_ns: stamp of its first instant; None: it has none of its own.
        notes: what was wrong with it, a sentence each.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is refused.
    """

    begin_ns = None

    def __init__(
        self,
        user: str,
        agent: str,
        chunk_ms: int,
        turn_s: float,
        channels: Mapping[str, str | int] = MappingProxyType({}),
    ):
        paths = {'user': user, 'agent': agent}
        self.notes: list[str] = []
        voices = {
            name: read_voice(path, self.notes) if path else None for name, path in paths.items()
        }
        self._voices = [
            voice and voice.heard(channels.get(name, MEAN), str(paths[name]))
            for name, voice in voices.items()
        ]
        sounds = [voice and voice.as_floats() for voice in voices.values()]
        self.notes += describe_recording(*sounds, channels, '{voice}_channel:=')
        self._chunk_ms, self._turn_s = chunk_ms, turn_s
        self.duration_ns = max(voice.duration_ns for voice in self._voices if voice)
        self.message_types = {
            f'{name}/audio': AudioChunk
            for name, voice in zip(('user', 'agent'), self._voices, strict=True)
            if voice
        }

    def events(self, start_ns: int, position_ns: int, agent_lead_ms: int) -> Iterator[Event]:
        """
        Play it.

        Args:
            start_ns: stamp of the recording's first instant.
            position_ns: leave out what is over by then, since the recording's start.
            agent_lead_ms: how far ahead the agent's voice has to be known.

        Yields:
            Events in the order of their times.
        """
        times = self._chunk_ms, agent_lead_ms, self._turn_s
        return conversation_events(*self._voices, start_ns, *times, position_ns)
