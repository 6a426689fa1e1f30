# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whose packet is it, of a user's stream that counts its samples: its count against its stamps.

Responsible for stamps that are off, for a while or for good, and for a publisher that stalled and
then catches up. Not for where a new timebase begins, nor for streams that do not count.

After a stall and after a pause alike the first stamp is late and the count continues. What follows
tells them apart: after a stall packets come faster than their sound lasts, and stamps fall back
to the count. So the first packets are placed by their stamps, as after a pause, and moved to where
their count puts them when the burst shows: nothing is missing then.
"""

from collections.abc import Callable

import numpy as np

from timar_ros.stream.buffer import VoiceTrack
from timar_ros.stream.resample import SAMPLE_RATE_HZ
from timar_ros.stream.timebase import LARGEST_DOUBT, Claim, Run, best_run

# A publisher may have stalled for so long; after that it is another stream.
_LONGEST_STALL = 5 * SAMPLE_RATE_HZ
# Stamps have to fall back by this share of the first one's lateness, and of the sound meanwhile.
_FALL_OF_STALL, _FALL_OF_SOUND = 0.25, 0.3
# Without that the stamps are right: it was a pause.
_SHORTEST_PAUSE = SAMPLE_RATE_HZ // 2


class CountedStream:
    """
    Follow the runs of one voice that count their samples.

    Args:
        track: of the voice.
        counters: of the ingest; `doubted`, `reanchored` are kept up to date.
        lose: called with the length of each hole that the count shows, in grid samples.
        tolerance: stamps that are off by no more agree with the count, in grid samples.
    """

    def __init__(
        self,
        track: VoiceTrack,
        counters: dict[str, int],
        lose: Callable[[int], None],
        tolerance: int,
    ):
        self._track = track
        self._counters = counters
        self._lose = lose
        self._tolerance = tolerance
        self._stall: _Stall | None = None

    def reset(self) -> None:
        """Forget what may be a stall."""
        self._stall = None

    def find(
        self, runs: list[Run], claim: Claim, voice_end: int
    ) -> tuple[Run | None, int | None, int]:
        """
        Find the run that a packet belongs to.

        Args:
            runs: of the voice; the one that a stall began by mistake is taken out.
            claim: of the packet, with a stamp and a count.
            voice_end: grid index after the newest sample of all runs.

        Returns:
            the run, None where the packet fits none; None where it continues as counted, or the
            grid index from which on it is another run; and the new `voice_end`, earlier where a
            stall has shown.
        """
        stall = self._stall
        if stall is not None and stall.is_continued_by(claim):
            if stall.is_burst(claim, self._tolerance):
                voice_end = self._undo(stall, runs, voice_end)
            elif not stall.is_pause:
                return stall.new, None, voice_end
            self._stall = None
        run, deviation = best_run(runs, claim, -LARGEST_DOUBT, LARGEST_DOUBT)
        if run is None or abs(deviation) <= self._tolerance:
            if run is not None:
                run.trust()
            return run, None, voice_end
        shift = run.doubt(claim, deviation)
        if shift is None:
            self._counters['doubted'] += 1
            return run, None, voice_end
        return run, claim.nominal - deviation + shift, voice_end

    def begin(self, runs: list[Run], new: Run, claim: Claim) -> None:
        """Note a run that begins with a packet which fitted none: is it one that stalled?"""
        old, late = best_run(
            (run for run in runs if run is not new), claim, LARGEST_DOUBT, _LONGEST_STALL
        )
        self._stall = None
        if old is not None and old.position_of(claim) >= old.next_position:
            self._stall = _Stall(old, new, late)

    def keep(self, run: Run, claim: Claim, mono: np.ndarray, sent_ns: int) -> None:
        """Remember a packet that was written, as long as it may have to be moved."""
        if self._stall is not None and self._stall.new is run:
            self._stall.keep(claim, mono, sent_ns)

    def _undo(self, stall: '_Stall', runs: list[Run], voice_end: int) -> int:
        """Put what came since the stall where its count puts it, and return the voice's end."""
        old, new = stall.old, stall.new
        for position, mono, sent_ns in stall.pieces:
            if position > old.next_position:
                self._lose(old.index_of(position) - old.index_of(old.next_position))
            old.write(self._track, position, mono, sent_ns)
            old.next_position = max(old.next_position, position + len(mono))
        old.last_packet = new.last_packet
        runs.remove(new)
        self._counters['reanchored'] -= 1
        old_end, end = (run.index_of(run.next_position) for run in (old, new))
        # what was put too late would sound twice until it is covered
        self._track.write(old_end, np.zeros(max(end - old_end, 0), np.float32), sent_ns)
        return old_end if voice_end == end else voice_end


class _Stall:
    """What may have been a stall: the run before it, the one after it, and how late that began."""

    def __init__(self, old: Run, new: Run, late: int):
        self.old, self.new, self.late = old, new, late
        self.pieces: list[tuple[int, np.ndarray, int]] = []  # position, samples, when sent
        self._sound = 0

    def keep(self, claim: Claim, mono: np.ndarray, sent_ns: int) -> None:
        """Remember a packet that was written after it."""
        self.pieces.append((self.old.position_of(claim), mono, sent_ns))
        self._sound += claim.length

    def is_continued_by(self, claim: Claim) -> bool:
        """Return whether a packet follows the newest one since."""
        is_same_kind = self.new.deviation(claim) is not None
        return is_same_kind and self.new.position_of(claim) >= self.new.next_position

    def is_burst(self, claim: Claim, tolerance: int) -> bool:
        """Return whether a packet shows that stamps fall back to the old run's count."""
        fall = self.late - self.old.deviation(claim)
        return fall > max(tolerance, _FALL_OF_STALL * self.late, _FALL_OF_SOUND * self._sound)

    @property
    def is_pause(self) -> bool:
        """Whether so much has come since that it was none."""
        return self._sound > max(_SHORTEST_PAUSE, 2 * self.late)
