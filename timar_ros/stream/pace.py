# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A stream without a count of its samples: which of its stamps are jitter, loss or drift.

Responsible for judging how far stamps deviate from where the samples so far put them. Not for
moving samples: `ingest` acts on the verdict.

The samples that came are a better clock than stamps that scatter. A hole makes all later stamps
late, jitter only some: a late stamp opens a hole at once, and is taken back when later stamps show
that nothing was missing. From then on such deviations count as jitter, and holes are found by a
change of the median. A constant deviation is the publisher's clock, or its first stamp, and is
corrected slowly.
"""

import collections
import enum
import math

import numpy as np

from timar_ros.stream.resample import SAMPLE_RATE_HZ

# A stamp that is off by more than this does not belong to the stream.
LARGEST_JITTER = SAMPLE_RATE_HZ // 4
# Deviations are compared over so much audio, the last part of it with what came before, and no
# fewer packets than these.
_WINDOW, _RECENT = 10 * SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ
_MIN_RECENT, _MAX_PACKETS = 16, 1024
# How many standard errors of a median a change, and a constant deviation, must exceed.
_CHANGE_ERRORS, _OFFSET_ERRORS = 6.0, 4.0
# A hole that stamps have not taken back after this much audio, and these many packets, is one.
_SETTLED, _N_SETTLED = SAMPLE_RATE_HZ // 2, 5
# Jitter is allowed so much more than was seen; what was seen loses weight in a minute.
_MARGIN = 1.5
_FORGET = 60 * SAMPLE_RATE_HZ
# A burst that was buffered somewhere may run ahead of its arrival by less than this.
_LONGEST_LEAD = SAMPLE_RATE_HZ // 5
# Slow corrections move a sample for each of these: 0.3 %, inaudible, and more than clocks drift.
_PER_STEP, _JUDGED_EVERY = 320, 1600


class Verdict(enum.Enum):
    """What a deviation is; where the timebase moves, by how much is said beside it."""

    CONTINUES = enum.auto()  # the packet follows the one before
    DRIFTS = enum.auto()  # it follows, and the timebase is corrected by a few samples
    IS_AFTER_HOLE = enum.auto()  # audio is missing before it
    NO_HOLE_AFTER_ALL = enum.auto()  # what was taken for a hole was jitter
    IS_OFF = enum.auto()  # the timebase is to be moved back


class Pace:
    """
    Judge the deviations of one stream, in grid samples, packet by packet.

    Args:
        tolerance: deviations up to this are always jitter.
        is_stamped: deviations are of stamps; else of arrivals, which are late by queues that last,
            and never early: only the earliest of many are used as times.

    Attributes:
        reach: deviations up to this are taken for jitter now.
        scatter: smallest and largest deviation of the last seconds from their median, None before
            there are any, or where all of them were within the tolerance.
    """

    def __init__(self, tolerance: int, is_stamped: bool):
        self.reach = tolerance
        self.scatter: tuple[int, int] | None = None
        self._tolerance = tolerance
        self._is_stamped = is_stamped
        self._hole: _Hole | None = None
        self._forget()

    def judge(self, deviation: int, length: int) -> tuple[Verdict, int]:
        """
        Take the next packet's deviation into account.

        Args:
            deviation: how much later it claims to be than the samples before it put it.
            length: of the packet.

        Returns:
            what it is, and by how much to move the timebase: later if positive.
        """
        fade = math.exp(-length / _FORGET)
        self.reach = max(self._tolerance, round(self.reach * fade))
        if self._is_stamped and deviation > self.reach:
            self._hole = _Hole(deviation)
            self._moved += deviation
            self._note(0, length)
            return Verdict.IS_AFTER_HOLE, deviation
        if self._is_stamped and deviation < -self.reach:
            self._allow(-deviation)
        self._note(deviation, length)
        if self._hole is not None:
            if self._hole.is_refuted_by(deviation, length):
                size, self._hole = self._hole.size, None
                self._moved -= size
                self._allow(size)
                return Verdict.NO_HOLE_AFTER_ALL, -size
            if self._hole.is_settled:
                while len(self._known) > self._hole.n:  # compare with nothing from before
                    self._audio -= self._known.popleft()[1]
                self._hole = None
            return Verdict.CONTINUES, 0
        return self._correct(length)

    @property
    def is_settled(self) -> bool:
        """Whether the last hole, if any, will not be taken back."""
        return self._hole is None

    def _correct(self, length: int) -> tuple[Verdict, int]:
        """Look for changes of the deviations, and for a constant one, where enough are known."""
        self._unjudged += length
        if self._unjudged < _JUDGED_EVERY:
            return Verdict.CONTINUES, 0
        n_steps, self._unjudged = self._unjudged // _PER_STEP, 0
        deviations = np.array([deviation for deviation, _ in self._known]) - self._moved
        # a burst, or two publishers, bring more audio than time
        elapsed = self._audio + deviations[-1] - deviations[0]
        if self._audio < _RECENT or not 0.75 < elapsed / self._audio < 1.5:
            return Verdict.CONTINUES, 0
        if self._is_stamped:
            lengths = np.array([length for _, length in self._known])
            n_recent = int(np.searchsorted(np.cumsum(lengths[::-1]), _RECENT)) + 1
            n_recent = max(n_recent, _MIN_RECENT)
            change = self._change(deviations[:-n_recent], deviations[-n_recent:])
            if change:
                self._forget()
                return (Verdict.IS_AFTER_HOLE if change > 0 else Verdict.IS_OFF), change
        if self._audio < _WINDOW // 2:
            return Verdict.CONTINUES, 0
        return self._approach(deviations, n_steps)

    def _change(self, before: np.ndarray, recent: np.ndarray) -> int:
        """Return by how much the deviations have changed, 0 if that can be chance."""
        if len(before) < 2 * len(recent):
            return 0
        (old, error), new = _median(before), float(np.median(recent))
        low, high = round(recent.min() - new), round(recent.max() - new)
        self.scatter = (low, high) if max(-low, high) > self._tolerance else None
        # of the recent ones, too few to know their own
        other_error = error * math.sqrt(len(before) / len(recent))
        doubt = _CHANGE_ERRORS * math.hypot(error, other_error)
        change = round(new - old)
        return change if abs(change) > max(self._tolerance, doubt) else 0

    def _approach(self, deviations: np.ndarray, n_steps: int) -> tuple[Verdict, int]:
        """Correct a constant deviation by at most `n_steps` samples."""
        off, doubt = int(deviations.min()), 0.0
        if self._is_stamped:
            median, error = _median(deviations)
            off, doubt = round(median), _OFFSET_ERRORS * error
        elif off < -_LONGEST_LEAD:
            self._forget()
            return Verdict.IS_OFF, off
        if abs(off) <= max(self._tolerance // 2, doubt):
            return Verdict.CONTINUES, 0
        step = min(n_steps, abs(off))
        step = step if off > 0 else -step
        self._moved += step
        return Verdict.DRIFTS, step

    def _note(self, deviation: int, length: int) -> None:
        self._known.append((deviation + self._moved, length))
        self._audio += length
        while len(self._known) > 4 * _MIN_RECENT and (
            self._audio - self._known[0][1] >= _WINDOW or len(self._known) > _MAX_PACKETS
        ):
            self._audio -= self._known.popleft()[1]

    def _allow(self, deviation: int) -> None:
        self.reach = min(max(self.reach, round(_MARGIN * deviation)), LARGEST_JITTER)

    def _forget(self) -> None:
        self._known: collections.deque[tuple[int, int]] = collections.deque()
        self._audio = 0
        self._unjudged = 0  # audio since the deviations were last compared
        self._moved = 0


class _Hole:
    """A hole of `size` that may turn out to be one late stamp, and what followed it."""

    def __init__(self, size: int):
        self.size = size
        self._audio = 0
        self._total = self._low = self._high = 0
        self.n = 1  # the packet after the hole, which agrees with it

    def is_refuted_by(self, deviation: int, length: int) -> bool:
        """Return whether the packets since fit as well, or better, without a hole."""
        self._audio += length
        self._total += deviation
        self.n += 1
        self._low, self._high = min(self._low, deviation), max(self._high, deviation)
        is_jitter = 2 * (self._high - self._low) >= self.size
        return is_jitter or 2 * self._total <= -self.size * self.n

    @property
    def is_settled(self) -> bool:
        """Whether enough has come since."""
        return self._audio >= _SETTLED and self.n >= _N_SETTLED


def _median(deviations: np.ndarray) -> tuple[float, float]:
    """Return the median and its standard error, from the quartiles: outliers do not count."""
    first, median, third = np.percentile(deviations, [25, 50, 75])
    return float(median), float(third - first) / math.sqrt(len(deviations))
