# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How loud the robot's voice is over time, gathered for the face's page.

Responsible for checking the bounds of its packets, which no other code has checked before. Not for
reading messages.
"""

import numpy as np

from timar_ros.bounds import MAX_SAMPLE, SAMPLE_RATES_HZ
from timar_ros.nodes.face_wire import pack_levels
from timar_ros.stream.audio import AudioPacket

_BLOCK_MS = 20
_FLOOR_DB = -120.0
_MAX_BLOCKS = 5000  # 100 s of speech, sent at once


class FaceLevels:
    """Collect the loudness of packets until they are sent."""

    def __init__(self):
        self._blocks = []  # (start in ns [n], span in ms [n], dB [n])
        self._n_blocks = 0

    def push(self, packet: AudioPacket, arrival_ns: int) -> None:
        """
        Take a packet; without a stamp it sounds from its arrival on.

        What is more than 100 s in all until the next `take` is left out.

        Raises:
            ValueError: the rate is none of a voice, or a sample is not finite.
        """
        rate_hz, (lowest, highest) = packet.sample_rate_hz, SAMPLE_RATES_HZ
        if not lowest <= rate_hz <= highest:
            raise ValueError(
                f'sample rate must be {lowest} to {highest} Hz, got {rate_hz}; fill in the rate '
                'of the voice'
            )
        n = min(len(packet.samples), (_MAX_BLOCKS - self._n_blocks) * rate_hz * _BLOCK_MS // 1000)
        n_blocks = -(-n * 1000 // (rate_hz * _BLOCK_MS))
        if not n_blocks or not packet.samples.shape[1]:
            return
        samples = packet.samples[:n].astype(np.float32)
        if not np.isfinite(samples).all():
            raise ValueError('samples must be finite, got NaN or infinity; repair the publisher')
        first = np.arange(n_blocks, dtype=np.int64) * n // n_blocks
        n_samples = np.diff(first, append=n)
        power = np.square(np.clip(samples, -MAX_SAMPLE, MAX_SAMPLE)).mean(axis=1)
        power = np.add.reduceat(power, first) / n_samples
        level_db = np.clip(10 * np.log10(power + 1e-12), _FLOOR_DB, 0.0)
        start_ns = (packet.stamp_ns or arrival_ns) + first * 1_000_000_000 // rate_hz
        self._blocks.append((start_ns, n_samples * 1000 / rate_hz, level_db))
        self._n_blocks += n_blocks

    def take(self) -> bytes:
        """Return what came since the last call, as it goes over the socket; empty if nothing."""
        if not self._blocks:
            return b''
        blocks = [np.concatenate(column) for column in zip(*self._blocks, strict=True)]
        self._blocks, self._n_blocks = [], 0
        return pack_levels(*blocks)
