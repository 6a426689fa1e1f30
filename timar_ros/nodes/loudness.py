# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How loud a voice is at a moment, and from that alone, how likely it speaks.

Knows packets and times. A loud noise counts as speech here.
"""

import collections
import math

import numpy as np

from timar_ros.stream.audio import AudioPacket

_BLOCK_MS = 20
_WINDOW_NS = 200_000_000
_FLOOR_DB = -120.0
# Half way between a quiet room and soft speech; the slope says how sure one can be.
_SPEECH_DB, _SLOPE_DB = -45.0, 3.0
_MAX_BLOCKS = 6000  # two minutes ahead


class Loudness:
    """The level of one voice over time, from its packets."""

    def __init__(self):
        self._blocks = collections.deque(maxlen=_MAX_BLOCKS)  # (start in ns, mean power)

    def push(self, packet: AudioPacket, arrival_ns: int) -> None:
        """Take a packet; without a stamp it is placed at its arrival."""
        while self._blocks and self._blocks[0][0] < arrival_ns - 2 * _WINDOW_NS:
            self._blocks.popleft()
        start_ns = packet.stamp_ns or arrival_ns
        n = max(1, packet.sample_rate_hz * _BLOCK_MS // 1000)
        for first in range(0, len(packet.samples), n):
            power = float(np.mean(np.square(packet.samples[first : first + n])))
            at_ns = start_ns + first * 1_000_000_000 // packet.sample_rate_hz
            self._blocks.append((at_ns, power))

    def level_db(self, now_ns: int) -> float:
        """Return the level of the last 200 ms before a moment, dB of full scale (RMS), <= 0."""
        since = now_ns - _WINDOW_NS
        powers = [power for at_ns, power in self._blocks if since < at_ns <= now_ns]
        power = sum(powers) / len(powers) if powers else 0.0
        return min(0.0, max(_FLOOR_DB, 10 * math.log10(power + 1e-12)))

    def clear(self) -> None:
        """Forget what was heard."""
        self._blocks.clear()


def speech_probability(level_db: float) -> float:
    """Return how likely somebody speaks at a level: 0.5 at -45 dB, 0.88 at -39 dB."""
    return 1 / (1 + math.exp(-(level_db - _SPEECH_DB) / _SLOPE_DB))
