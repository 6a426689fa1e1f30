# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How loud the robot's voice is over time, gathered for the face's page."""

import numpy as np

from timar_ros.nodes.face_wire import pack_levels
from timar_ros.stream.audio import AudioPacket

_BLOCK_MS = 20
_FLOOR_DB = -120.0
_MAX_BLOCKS = 5000  # 100 s of speech sent at once


class FaceLevels:
    """Collect the loudness of packets until they are sent."""

    def __init__(self):
        self._blocks = []  # (start in ns [n], span in ms [n], dB [n])

    def push(self, packet: AudioPacket, arrival_ns: int) -> None:
        """Take a packet; without a stamp it sounds from its arrival on."""
        n = len(packet.samples)
        n_blocks = min(_MAX_BLOCKS, -(-n * 1000 // (packet.sample_rate_hz * _BLOCK_MS)))
        if not n_blocks:
            return
        first = np.arange(n_blocks, dtype=np.int64) * n // n_blocks
        n_samples = np.diff(first, append=n)
        power = np.square(packet.samples, dtype=np.float32).mean(axis=1)
        power = np.add.reduceat(power, first) / n_samples
        level_db = np.clip(10 * np.log10(power + 1e-12), _FLOOR_DB, 0.0)
        start_ns = (packet.stamp_ns or arrival_ns) + first * 1_000_000_000 // packet.sample_rate_hz
        self._blocks.append((start_ns, n_samples * 1000 / packet.sample_rate_hz, level_db))

    def take(self) -> bytes:
        """Return what came since the last call, as it goes over the socket; empty if nothing."""
        if not self._blocks:
            return b''
        blocks = [np.concatenate(column) for column in zip(*self._blocks, strict=True)]
        self._blocks = []
        return pack_levels(*blocks)
