# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The two voices as they count at a planning moment: heard, known, and at even loudness.

Joins ingest, tracks, schedule, self-hearing and level. Not for the model.
"""

import numpy as np

from timar_ros.config import HearingConfig
from timar_ros.stream.audio import AudioPacket, bounded
from timar_ros.stream.buffer import VoiceTrack
from timar_ros.stream.channel_notice import ChannelNotice
from timar_ros.stream.channels import parse_channel
from timar_ros.stream.ingest import VoiceIngest
from timar_ros.stream.level import ClipLevel, LevelState, normalise
from timar_ros.stream.schedule import Schedule
from timar_ros.stream.self_hearing import agent_sounds, margin, without_self

VOICES = ('user', 'agent')


class Voices:
    """
    What user and agent said, by turns.

    Args:
        schedule: what is heard and known when.
        hearing: how the voices are heard.
        clip_levels: loudness of the whole recording, by voice; a voice without is normalised by
            what came up to each sample.
    """

    def __init__(
        self,
        schedule: Schedule,
        hearing: HearingConfig,
        clip_levels: dict[str, ClipLevel] | None = None,
    ):
        self._schedule = schedule
        self._hearing = hearing
        self._clip_levels = clip_levels or {}
        self._tracks = {voice: VoiceTrack() for voice in VOICES}
        config = schedule.config
        window_s = config.max_turns * config.turn_s
        channels = {voice: parse_channel(getattr(hearing, f'{voice}_channel')) for voice in VOICES}
        self._notice = ChannelNotice(channels)
        self._ingests = {
            voice: VoiceIngest(
                voice, self._tracks[voice], hearing.max_jitter_ms, channels[voice], window_s
            )
            for voice in VOICES
        }

    def push(self, voice: str, packet: AudioPacket, arrival_ns: int) -> None:
        """
        Take what one voice said.

        Raises:
            ValueError: the packet contradicts itself; nothing was taken.
        """
        start = self._ingests[voice].push(packet, arrival_ns)
        if start is not None:
            self._notice.add(voice, bounded(packet), start)

    def reset(self) -> None:
        """Forget all that was said."""
        self._notice.reset()
        for ingest in self._ingests.values():
            ingest.reset()

    def forget_before(self, turn: int) -> None:
        """Forget what was said before a turn."""
        for track in self._tracks.values():
            track.forget_before(turn * self._schedule.config.samples_per_turn)

    def counters(self) -> dict[str, int]:
        """Return what happened so far, by voice and name."""
        return {
            f'{voice}_{name}': count
            for voice, ingest in self._ingests.items()
            for name, count in ingest.counters.items()
        }

    def take_warnings(self) -> list[str]:
        """Return texts worth logging since the last call."""
        warnings = [text for ingest in self._ingests.values() for text in ingest.take_warnings()]
        return warnings + self._notice.take_warnings()

    @property
    def has_user(self) -> bool:
        """Whether anything of the user ever arrived: a robot without a microphone misses none."""
        return self._tracks['user'].end is not None

    def find_start(self, moment_ns: int) -> int | None:
        """Return the turn of the first sample that counts at this moment, None if none does."""
        last = self._schedule.last_open_turn(moment_ns)
        for turn in range(last - self._schedule.config.max_turns, last + 1):
            for voice in VOICES:
                if self._read(voice, turn, moment_ns)[1].any():
                    return turn
        return None

    def read(
        self, voice: str, turn: int, moment_ns: int, level: LevelState
    ) -> tuple[np.ndarray, np.ndarray, LevelState]:
        """
        Return a turn of a voice as it counts at a moment.

        Args:
            voice: 'user' or 'agent'.
            turn: of the grid.
            moment_ns: planning moment.
            level: loudness up to the turn.

        Returns:
            samples float32 `[S]` at even loudness, 0 where nothing counts; bool `[S]`, what
            counts; loudness up to the turn's end.
        """
        samples, is_present = self._read(voice, turn, moment_ns)
        if voice == 'user' and self._hearing.self_hearing != 'off':
            samples, is_present = self._without_self(samples, is_present, turn, moment_ns)
        if voice in self._clip_levels:
            samples = self._clip_levels[voice].normalise(samples, is_present)
        else:
            samples, level = normalise(samples, is_present, level)
        return samples, is_present, level

    def _read(self, voice: str, turn: int, moment_ns: int) -> tuple[np.ndarray, np.ndarray]:
        S = self._schedule.config.samples_per_turn
        if voice == 'user':
            samples, is_present = self._tracks[voice].read(turn * S, S)
            until = self._schedule.heard_until(moment_ns)
        else:
            samples, is_present = self._tracks[voice].read(turn * S, S, sent_before_ns=moment_ns)
            until = self._schedule.known_until(moment_ns)
        n = min(max(self._schedule.samples_until(until) - turn * S, 0), S)
        is_present[n:] = False
        return np.where(is_present, samples, 0.0).astype(np.float32), is_present

    def _without_self(self, samples, is_present, turn: int, moment_ns: int):
        config = self._schedule.config
        S, n_margin = config.samples_per_turn, margin(self._hearing, config.sample_rate_hz)
        agent, _ = self._tracks['agent'].read(
            turn * S - n_margin, n_margin + S, sent_before_ns=moment_ns
        )
        sounds = agent_sounds(agent, n_margin)
        return without_self(samples, is_present, sounds, self._hearing)
