# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Corrects the place of a user's stream that does not count its samples, by the verdicts of `pace`.

Responsible for moving a run's timebase, and samples that were put at the wrong place, after a
verdict. Not for the verdict, nor for streams that count their samples.
"""

import dataclasses

import numpy as np

from timar_ros.stream.buffer import VoiceTrack
from timar_ros.stream.pace import Verdict
from timar_ros.stream.timebase import Claim, Run


@dataclasses.dataclass
class _Hole:
    """A hole that may be taken back: where it began, what it lost, and what came since."""

    run: Run
    position: int
    lost: int
    pieces: list[tuple[np.ndarray, int]]  # samples and when they were sent


class UnbrokenStream:
    """
    Follow runs that do not count their samples.

    Args:
        track: of the voice.
        counters: of the ingest; `lost_samples` and `reanchored` are kept up to date.
        tell_hole: called with the length of each hole that is one, in grid samples.
    """

    def __init__(self, track: VoiceTrack, counters: dict[str, int], tell_hole):
        self._track = track
        self._counters = counters
        self._tell_hole = tell_hole
        self._hole: _Hole | None = None

    def reset(self) -> None:
        """Forget what may be taken back."""
        self._hole = None

    def follow(self, run: Run, claim: Claim, deviation: int, voice_end: int, sent_ns: int) -> int:
        """
        Bring a run's timebase to where the next packet belongs.

        Args:
            run: that the packet continues.
            claim: of the packet.
            deviation: of its stamp, or arrival, from the run's count.
            voice_end: grid index after the newest sample of all runs.
            sent_ns: of the packet.

        Returns:
            the new `voice_end`, earlier where a hole was taken back.
        """
        before, end = run.next_position, run.index_of(run.next_position)
        verdict, shift = run.pace.judge(deviation, claim.length)
        has_hole = self._hole is not None and self._hole.run is run
        if verdict is Verdict.NO_HOLE_AFTER_ALL and has_hole:
            new_end = self._take_back(end)
            return new_end if voice_end == end else voice_end
        if verdict is Verdict.DRIFTS:
            run.nudge(shift)
            if shift > 0:  # a sample is repeated, so that nothing is missing
                last, _ = self._track.read(end - 1, 1)
                self._track.write(end, np.full(shift, last[0]), sent_ns)
        elif shift > 0:
            run.skip(shift)
            self._settle()
            lost = max(run.index_of(run.next_position) - max(end, voice_end), 0)
            self._counters['lost_samples'] += lost
            self._hole = _Hole(run, before, lost, [])
        elif shift < 0:
            run.skip(shift)
            self._counters['reanchored'] += 1
        if self._hole is not None and self._hole.run.pace.is_settled:
            self._settle()
        return voice_end

    def keep(self, run: Run, mono: np.ndarray, sent_ns: int) -> None:
        """Remember a packet that was written, as long as it may have to be moved."""
        if self._hole is not None and self._hole.run is run:
            self._hole.pieces.append((mono, sent_ns))

    def fill(self, n: int) -> None:
        """Note that `n` samples of the last hole came late."""
        if self._hole is not None:
            self._hole.lost = max(self._hole.lost - n, 0)

    def _settle(self) -> None:
        hole, self._hole = self._hole, None
        if hole is not None and hole.lost:
            self._tell_hole(hole.lost)

    def _take_back(self, end: int) -> int:
        """Put what came after the hole where there is none: one late stamp had opened it."""
        hole, self._hole = self._hole, None
        run = hole.run
        run.next_position = hole.position
        for mono, sent_ns in hole.pieces:
            run.write(self._track, run.next_position, mono, sent_ns)
            run.next_position += len(mono)
        new_end = run.index_of(run.next_position)
        # what was put too late would sound twice until it is covered
        self._track.write(new_end, np.zeros(end - new_end, np.float32), hole.pieces[-1][1])
        self._counters['lost_samples'] -= min(hole.lost, self._counters['lost_samples'])
        return new_end
