# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a TTS has delivered and has not been announced yet.

Responsible for the order of utterances and for bounds on what waits. Not for when anything sounds,
nor for which packets are one utterance.
"""

import collections

import numpy as np

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.utterance import Utterance

# What waits is kept as it came: 64 million samples are 256 MB. The others bound what short pieces
# cost, each of which needs memory of its own.
_MAX_SAMPLES = 64_000_000
_MAX_MESSAGES = 200_000
_MAX_UTTERANCES = 1_000


class UtteranceQueue:
    """
    Utterances in the order in which they are spoken, at the output's rate.

    Args:
        sample_rate_hz: of the output.
        max_s: most that may wait.
    """

    def __init__(self, sample_rate_hz: int, max_s: float):
        self._rate_hz = sample_rate_hz
        self._max_s = max_s
        self._utterances: collections.deque[Utterance] = collections.deque()

    @property
    def n_left(self) -> int:
        """Samples that wait, at the output's rate."""
        return sum(utterance.n_left for utterance in self._utterances)

    def push(self, packet: AudioPacket, continues: bool) -> None:
        """
        Append a packet.

        Args:
            packet: its samples and rate are within bounds; its channels are mixed to one.
            continues: it belongs to the utterance before it.

        Raises:
            ValueError: too much waits; the packet is dropped.
        """
        self._check_room(packet)
        last = self._utterances[-1] if self._utterances else None
        can_join = last is not None and not last.is_ended
        if not (can_join and continues and last.rate_in_hz == packet.sample_rate_hz):
            if last is not None:
                last.end()
            last = Utterance(packet.sample_rate_hz, self._rate_hz, continues)
            self._utterances.append(last)
        last.push(packet.samples.mean(axis=1, dtype=np.float32))

    def push_front(self, samples: np.ndarray) -> None:
        """Let samples `[n]` at the output's rate be spoken before all that waits."""
        first = Utterance(self._rate_hz, self._rate_hz)
        first.push(samples)
        first.end()
        self._utterances.appendleft(first)

    def ready(self, is_last_moment) -> Utterance | None:
        """
        Return the first utterance if it has something to take.

        Args:
            is_last_moment: takes an utterance; whether what it holds back, for what may follow,
                has to be taken now.
        """
        while self._utterances:
            first = self._utterances[0]
            if not first.n_ready and not first.is_ended and is_last_moment(first):
                first.end()
            if first.n_ready:
                return first
            if not first.is_ended:
                return None
            self._utterances.popleft()
        return None

    def clear(self) -> None:
        """Drop all that waits."""
        self._utterances.clear()

    def _check_room(self, packet: AudioPacket) -> None:
        n, rate_hz = len(packet.samples), packet.sample_rate_hz
        waiting_s = self.n_left / self._rate_hz
        if waiting_s + n / rate_hz > self._max_s:
            raise ValueError(
                f'expected at most {self._max_s:.0f} s waiting to be spoken, got '
                f'{n / rate_hz:.1f} s on top of {waiting_s:.1f} s; send less at '
                'once, or stop first'
            )
        for name, waiting, most in (
            ('samples', sum(u.n_waiting for u in self._utterances) + n, _MAX_SAMPLES),
            ('messages', sum(u.n_pieces for u in self._utterances) + 1, _MAX_MESSAGES),
            ('utterances', len(self._utterances) + 1, _MAX_UTTERANCES),
        ):
            if waiting > most:
                raise ValueError(
                    f'expected at most {most} {name} waiting to be spoken, got {waiting}; send '
                    'less at once, or longer messages at a lower rate'
                )
