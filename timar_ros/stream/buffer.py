# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Samples of one voice on an absolute integer grid, and who said what when.

The track knows indices and the order of writing; stamps, rates and publishers are `ingest`'s.
"""

import bisect

import numpy as np

from timar_ros.stream.resample import SAMPLE_RATE_HZ

# Writes are cut into pieces of at most this, so that a read need not look further back.
_MAX_PIECE = SAMPLE_RATE_HZ // 10
# 60 s in chunks of 1 ms; whoever sends less than that per message loses the oldest first.
_MAX_PIECES = 60_000


def index_of(stamp_ns: int) -> int:
    """Return the grid index nearest to a stamp: round(stamp_ns * 16000 / 1e9), ties upwards."""
    return (int(stamp_ns) * SAMPLE_RATE_HZ + 500_000_000) // 1_000_000_000


class VoiceTrack:
    """
    Layers of samples on the grid; for each instant what was sent last holds.

    Layers are kept, not merged, because a plan made for a past moment must see the track as it
    was known then: silence sent later withdraws nothing from it.
    """

    def __init__(self, max_span: int = 120 * SAMPLE_RATE_HZ):
        """Make an empty track that remembers at most `max_span` samples before its newest."""
        self._max_span = max_span
        self.clear()

    def clear(self) -> None:
        """Forget everything, also what was forgotten."""
        # (start, number of the write, sent_ns, samples), sorted
        self._pieces: list[tuple[int, int, int, np.ndarray]] = []
        self._n_writes = 0
        self._floor: int | None = None
        self._end: int | None = None

    @property
    def begin(self) -> int | None:
        """Index of the oldest sample, None when there is none."""
        if not self._pieces:
            return None
        begin = self._pieces[0][0]
        return begin if self._floor is None else max(begin, self._floor)

    @property
    def end(self) -> int | None:
        """Index after the newest sample ever written, None before the first."""
        return self._end

    def write(self, start: int, samples: np.ndarray, sent_ns: int) -> None:
        """
        Add samples; what was sent earlier for the same instants is covered, not lost.

        Args:
            start: grid index of the first sample.
            samples: float32 `[n]`; copied.
            sent_ns: when they were sent; equal times keep the order of writing.
        """
        self._n_writes += 1
        for offset in range(0, len(samples), _MAX_PIECE):
            piece = np.array(samples[offset : offset + _MAX_PIECE], np.float32)
            item = (start + offset, self._n_writes, sent_ns, piece)
            bisect.insort(self._pieces, item)
        end = start + len(samples)
        self._end = end if self._end is None else max(self._end, end)
        if self._floor is None or self._floor < self._end - self._max_span:
            self.forget_before(self._end - self._max_span)
        elif start < self._floor:
            self.forget_before(self._floor)
        del self._pieces[: max(0, len(self._pieces) - _MAX_PIECES)]

    def read(
        self, start: int, n: int, sent_before_ns: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """
        Compose a stretch of the voice.

        Args:
            start: grid index of the first sample.
            n: number of samples.
            sent_before_ns: leave out what was sent later than this; None = take all.

        Returns:
            float32 `[n]`, zero where nothing is known, and bool `[n]`, True where something is.
        """
        samples = np.zeros(n, np.float32)
        is_present = np.zeros(n, bool)
        first = bisect.bisect_left(self._pieces, (start - _MAX_PIECE + 1,))
        last = bisect.bisect_left(self._pieces, (start + n,))
        layers = [
            (sent_ns, number, at, piece)
            for at, number, sent_ns, piece in self._pieces[first:last]
            if sent_before_ns is None or sent_ns <= sent_before_ns
        ]
        # numbers repeat within one write only, where the starts differ: arrays are never compared
        layers.sort()
        for _, _, at, piece in layers:
            begin, end = max(at, start), min(at + len(piece), start + n)
            if begin < end:
                samples[begin - start : end - start] = piece[begin - at : end - at]
                is_present[begin - start : end - start] = True
        if self._floor is not None and self._floor > start:
            samples[: self._floor - start] = 0
            is_present[: self._floor - start] = False
        return samples, is_present

    def forget_before(self, index: int) -> None:
        """Drop all samples before an index, also those that arrive later; memory is freed."""
        self._floor = index if self._floor is None else max(self._floor, index)
        n_before = bisect.bisect_left(self._pieces, (self._floor,))
        self._pieces[:n_before] = [
            item for item in self._pieces[:n_before] if item[0] + len(item[3]) > self._floor
        ]
