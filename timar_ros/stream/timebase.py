# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whose packet is it? A publisher's timebase, and how well a packet continues it.

A publisher's stream is a *run*: a rate and where its count began. Several are kept, so that a late
packet, a restarted publisher and two publishers at once need no cases of their own: a packet
belongs to the run that it fits best, and one that fits none begins the next.
"""

import collections
from collections.abc import Iterable
import dataclasses
import itertools

import numpy as np

from timar_ros.stream.buffer import VoiceTrack
from timar_ros.stream.pace import Pace
from timar_ros.stream.resample import SAMPLE_RATE_HZ, Resampler

# How long samples are kept at their own rate, for packets that come late.
_NATIVE_S = 2
# A counted packet whose stamp is off by no more than this is believed by its count, for a while:
# these many packets in a row, or this much audio, off to the same side move the timebase. Stamps
# that fall back to the count meanwhile, by more than this share of the audio, move nothing: their
# publisher catches up.
LARGEST_DOUBT = SAMPLE_RATE_HZ // 4
_N_DOUBTS = 10
_DOUBTED_AUDIO = SAMPLE_RATE_HZ // 2
_CATCHING_UP = 0.25


@dataclasses.dataclass(frozen=True)
class Claim:
    """
    What a packet states about its place in time.

    Attributes:
        rate_hz: its sample rate.
        count: the publisher's index of its first sample, None when it does not count.
        nominal: grid index of its stamp, or of its arrival when it has none.
        length: how many grid samples it covers.
        is_stamped: `nominal` comes from a stamp.
    """

    rate_hz: int
    count: int | None
    nominal: int
    length: int
    is_stamped: bool


class Run:
    """
    One publisher's timebase: positions count its samples, position 0 lies on a grid index.

    Attributes:
        rate_hz: of its samples.
        resampler: from there to the grid.
        native: its last samples at its own rate, to resample around late packets.
        pace: judges its stamps, where it does not count its samples.
        next_position: after the newest sample.
        last_packet: number of its newest packet among the voice's.
    """

    def __init__(self, claim: Claim, origin: int, tolerance: int):
        """Begin with the packet that claims so at grid index `origin`."""
        self.rate_hz = claim.rate_hz
        self.pace = Pace(tolerance, claim.is_stamped)
        self.resampler = Resampler(claim.rate_hz)
        self.native = VoiceTrack()
        self.next_position = 0
        self.last_packet = 0
        self._kind = (claim.rate_hz, claim.count is None, claim.is_stamped)
        self._origin = origin
        self._first_sample = claim.count or 0
        self._doubts: collections.deque[tuple[int, int]] = collections.deque()

    def position_of(self, claim: Claim) -> int:
        """Return the position of a packet's first sample."""
        if claim.count is None:
            return self.next_position
        return claim.count - self._first_sample

    def index_of(self, position: int) -> int:
        """Return the first grid index at or after a position."""
        return self._origin + self.resampler.first_output_from(position)

    def deviation(self, claim: Claim) -> int | None:
        """Return how much later on the grid a packet claims to be than counted; None: not ours."""
        if self._kind != (claim.rate_hz, claim.count is None, claim.is_stamped):
            return None
        return claim.nominal - self.index_of(self.position_of(claim))

    def forget_count(self) -> None:
        """Continue as a stream that does not count: its count was a field left empty."""
        self._kind = (self._kind[0], True, self._kind[2])

    def skip(self, n: int) -> None:
        """Leave out n grid samples before the next packet, or go back by n where negative."""
        self.next_position += round(n * self.rate_hz / SAMPLE_RATE_HZ)

    def nudge(self, n: int) -> None:
        """Let what follows come n grid samples later, a few of them, with nothing left out."""
        self._origin += n

    def write(self, track: VoiceTrack, position: int, mono: np.ndarray, sent_ns: int) -> None:
        """
        Put samples on a track, and with them refine what lies within reach of them.

        Args:
            track: of the voice.
            position: of the first sample.
            mono: float32 `[n]` at the run's rate.
            sent_ns: as of `VoiceTrack.write`.
        """
        if self.rate_hz == SAMPLE_RATE_HZ:
            track.write(self.index_of(position), mono, sent_ns)
            return
        reach, end = self.resampler.reach, position + len(mono)
        self.native.write(position, mono, sent_ns)
        # one more than what any output within reach of the packet depends on
        first = position - 2 * reach - 1
        samples, is_present = self.native.read(first, end + 2 * reach + 1 - first)
        outputs = np.arange(
            self.resampler.first_output_from(position - reach),
            self.resampler.first_output_from(end + reach),
        )
        # an output exists where the input does; holes stay holes
        outputs = outputs[is_present[self.resampler.input_before(outputs) - first]]
        resampled = self.resampler.evaluate(samples, first, outputs)
        if not len(outputs):
            return  # a few samples at a high rate can lie between two outputs
        breaks = np.flatnonzero(np.diff(outputs) > 1) + 1
        bounds = [0, *breaks.tolist(), len(outputs)]
        for begin, end_of_piece in itertools.pairwise(bounds):
            start = self.index_of(0) + int(outputs[begin])
            track.write(start, resampled[begin:end_of_piece], sent_ns)
        self.native.forget_before(self.native.end - max(_NATIVE_S * self.rate_hz, len(mono)))

    def doubt(self, claim: Claim, deviation: int) -> int | None:
        """
        Consider a counted packet whose stamp is off by more than the tolerance.

        Returns:
            The smallest deviation of late, by which to move the timebase, when too many stamps in
            a row have been off to the same side; None while the count is to be believed.
        """
        doubts = self._doubts
        if doubts and (doubts[-1][0] > 0) != (deviation > 0):
            doubts.clear()
        doubts.append((deviation, claim.length))
        audio = sum(length for _, length in doubts)
        while len(doubts) > _N_DOUBTS or audio - doubts[0][1] >= _DOUBTED_AUDIO:
            audio -= doubts.popleft()[1]
        if len(doubts) < _N_DOUBTS and audio < _DOUBTED_AUDIO:
            return None
        if abs(doubts[0][0]) - abs(deviation) > _CATCHING_UP * audio:
            return None
        return min((off for off, _ in doubts), key=abs)

    def trust(self) -> None:
        """Forget doubts: a stamp agreed with the count."""
        self._doubts.clear()


def best_run(
    runs: Iterable[Run], claim: Claim, earliest: int, latest: int
) -> tuple[Run | None, int]:
    """
    Find the run that a packet continues, or fills, or repeats.

    Args:
        runs: of one voice.
        claim: of the packet.
        earliest: smallest deviation from the run's count that can be, in grid samples.
        latest: largest one.

    Returns:
        The run, None when there is none, and the deviation.
    """
    fits = []
    for run in runs:
        deviation = run.deviation(claim)
        if deviation is not None and earliest <= deviation <= latest:
            fits.append((abs(deviation), deviation, run))
    if not fits:
        return None, 0
    _, deviation, run = min(fits, key=lambda fit: fit[0])
    return run, deviation
