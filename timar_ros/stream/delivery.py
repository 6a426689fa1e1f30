# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Which of the packets that a TTS delivers are one utterance, and what is missing between them.

Responsible for telling an utterance that continues from one that begins, and for recognising what
is left of a stopped one. Not for when anything sounds. Senders count samples (`first_sample`) or
do not (it is always 0); either may lose packets, die in mid-utterance or stall.
"""

import dataclasses

import numpy as np

from timar_ros.bounds import MAX_UTTERANCE_S
from timar_ros.stream.audio import AudioPacket

UTTERANCE_PAUSE_NS = 1_000_000_000  # a longer one, after all has sounded, is between utterances
_STOPPED_PAUSE_NS = 500_000_000  # a longer pause ends what a stop interrupted
# So does so much silence, where a sender streams it. Longer than pauses between sentences.
_STOPPED_SILENCE_S = 2.0
_SILENCE = 1e-3
_MAX_HOLE_S = 10.0  # a count that jumps further has begun again elsewhere


def missing_samples(first: int, expected: int, sample_rate_hz: int) -> int | None:
    """
    Compare a sender's count with what was expected.

    Returns:
        How many samples are missing in between; None = the count has begun again.
    """
    missing = first - expected
    return missing if first and 0 <= missing <= _MAX_HOLE_S * sample_rate_hz else None


@dataclasses.dataclass(frozen=True)
class Arrival:
    """
    How a packet relates to those before it.

    Attributes:
        continues: it belongs to the utterance before it.
        missing: samples, at its own rate, that the sender counted in between and that got lost.
        is_stopped: it is what is left of a stopped utterance, and not to be spoken.
    """

    continues: bool
    missing: int
    is_stopped: bool


class Delivery:
    """
    Follow the packets of a TTS, in the order of their arrival.

    Attributes:
        last_ns: time of the last packet.
    """

    def __init__(self):
        self.last_ns = 0
        self._next: int | None = None  # the sender's count after the last packet
        self._is_counting = False
        self._is_stopped = False
        self._stopped_s = 0.0  # what came of the stopped utterance since the stop
        self._silence_s = 0.0  # at the end of that

    def arrive(self, packet: AudioPacket, now_ns: int, is_unheard: bool) -> Arrival:
        """
        Take a packet with at least one sample.

        Args:
            packet: as it came.
            now_ns: time of its arrival.
            is_unheard: something that came before it has not sounded yet.
        """
        elapsed_ns = now_ns - self.last_ns
        first, rate_hz = packet.first_sample or 0, packet.sample_rate_hz
        missing = None
        if self._next is not None:
            missing = missing_samples(first, self._next, rate_hz)
        if first:
            continues = missing is not None and (elapsed_ns < UTTERANCE_PAUSE_NS or is_unheard)
        else:
            continues = self._next is not None and is_unheard and not self._is_counting
        is_stopped = (
            self._is_stopped
            and continues
            and first > 0
            and elapsed_ns < _STOPPED_PAUSE_NS
            and self._silence_s < _STOPPED_SILENCE_S
            and self._stopped_s < MAX_UTTERANCE_S
        )
        if is_stopped:
            self._measure(packet)
        else:
            continues = continues and not self._is_stopped
            self._is_stopped = False
        self.last_ns = now_ns
        self._next = first + len(packet.samples)
        self._is_counting = first > 0
        return Arrival(continues, missing or 0 if continues else 0, is_stopped)

    def stop(self) -> None:
        """Treat the rest of the current utterance as stopped, until it ends."""
        self._is_stopped = True
        self._stopped_s = self._silence_s = 0.0

    def set_clock_back(self, now_ns: int) -> None:
        """Measure pauses from `now_ns` on, where the clock was set back to that."""
        self.last_ns = min(self.last_ns, now_ns)

    def _measure(self, packet: AudioPacket) -> None:
        duration_s = len(packet.samples) / packet.sample_rate_hz
        loud = np.flatnonzero(np.abs(packet.samples).max(axis=1) > _SILENCE)
        if len(loud):
            self._silence_s = duration_s - (loud[-1] + 1) / packet.sample_rate_hz
        else:
            self._silence_s += duration_s
        self._stopped_s += duration_s
