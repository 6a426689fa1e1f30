# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Recorded streams whose clock, or times of recording, cannot be what they seem.

Responsible for one stream's stamps that are a constant off its times of recording (another
machine's clock, TAI), and for times of recording that come in steps (a slow /clock). Not for which
clock a whole recording is placed by: that is `placement`'s.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import math
import statistics

import numpy as np

from timar_ros.stream.audio import AudioPacket

_SECOND_NS = 1_000_000_000
# TAI minus UTC since 2017: what a clock set by PTP is off where its offset to UTC is not applied.
TAI_NS = 37 * _SECOND_NS
# By how much stamps may lie behind and ahead of the time of recording; a user's sound may end one
# message after it, where the message was stamped on arrival.
_LARGEST_BEHIND_NS = 2 * _SECOND_NS
_USER_AHEAD_NS = 20_000_000
_ANNOUNCED_AHEAD_NS = 10 * _SECOND_NS
_SENT_AHEAD_NS = 2 * _SECOND_NS
_STRAY_NS = 2 * _SECOND_NS
NO_STRAY_NS = -(2**63)
_FEWEST = 20
# Times of recording are those of a conversation where they last as long as its stamps, about.
_SHORTEST, _LONGEST = 0.6, 1.6
# A clock is a constant off: nine of ten messages within this share of it.
_SPREAD = 0.5
# Steps of the times of recording up to here do not matter to how audio is placed.
_SMALL_STEP_NS = 200_000_000
_STEP_ERROR_NS = 5_000_000


@dataclasses.dataclass(frozen=True)
class Moments:
    """
    Where messages of one stream lie, those that have a stamp and a time of recording.

    Attributes:
        received_ns: times of recording.
        at_ns: when they arrived, by their stamps.
        ahead_ns: how far those may be ahead of the times of recording.
    """

    received_ns: Sequence[int]
    at_ns: Sequence[int]
    ahead_ns: int


def voice_moments(voice: str, opening: Sequence[tuple[int, AudioPacket]]) -> Moments:
    """Return the moments of a voice's first messages."""
    timed = [(received_ns, p) for received_ns, p in opening if received_ns and p.stamp_ns]
    received = [received_ns for received_ns, _ in timed]
    if voice == 'user':
        lengths = [duration_ns(packet) for _, packet in timed]
        ends = [p.stamp_ns + n for (_, p), n in zip(timed, lengths, strict=True)]
        return Moments(received, ends, max(lengths, default=0) + _USER_AHEAD_NS)
    is_sent = bool(timed) and all(packet.sent_ns for _, packet in timed)
    at = [packet.sent_ns if is_sent else packet.stamp_ns for _, packet in timed]
    return Moments(received, at, _SENT_AHEAD_NS if is_sent else _ANNOUNCED_AHEAD_NS)


def last_stray_ns(opening: Sequence[tuple[int, AudioPacket]]) -> int:
    """
    Return until when messages are stray: few, and first only by a wrong time of recording.

    Args:
        opening: time of recording and packet of a voice's first messages, in order of times.

    Returns:
        the last stray one's time of recording, which contradicts its stamp where those of the
        others do not; `NO_STRAY_NS` where there is none.
    """
    offsets = [packet.stamp_ns - at_ns for at_ns, packet in opening if at_ns and packet.stamp_ns]
    if len(offsets) < _FEWEST:
        return NO_STRAY_NS
    usual_ns = statistics.median_low(offsets)

    def is_stray(item: tuple[int, AudioPacket]) -> bool:
        at_ns, stamp_ns = item[0], item[1].stamp_ns
        return bool(at_ns and stamp_ns) and abs(stamp_ns - at_ns - usual_ns) > _STRAY_NS

    strays = list(itertools.takewhile(is_stray, opening))
    is_few = 0 < 10 * len(strays) <= len(opening)
    return strays[-1][0] if is_few else NO_STRAY_NS


def head_moments(opening: Sequence[tuple[int, int]]) -> Moments:
    """Return the moments of a head's first frames, given by time of recording and stamp."""
    timed = [item for item in opening if all(item)]
    return Moments([r for r, _ in timed], [stamp for _, stamp in timed], _ANNOUNCED_AHEAD_NS)


def own_offset(moments: Moments, base_ns: int = 0) -> int:
    """
    Return by how much a stream's clock is off for certain; 0 where its stamps can be true.

    Args:
        moments: of the stream.
        base_ns: the clock that it should have, minus the recorder's.

    Returns:
        its clock minus that one.
    """
    if len(moments.at_ns) < _FEWEST:
        return 0
    received, at = np.array(moments.received_ns, np.int64), np.array(moments.at_ns, np.int64)
    recorded_ns, stamped_ns = int(np.ptp(received)), int(np.ptp(at))
    if not _SHORTEST * stamped_ns <= recorded_ns <= _LONGEST * stamped_ns:
        return 0  # written later, at once: stamps are all there is
    step_ns = recorded_ns // max(len(np.unique(received)) - 1, 1)
    ahead_ns = moments.ahead_ns + (step_ns if 2 * len(np.unique(received)) < len(received) else 0)
    off = np.sort(at - received - base_ns)
    low, median, high = (int(off[round(q * (len(off) - 1))]) for q in (0.05, 0.5, 0.95))
    if not (low > ahead_ns or high < -_LARGEST_BEHIND_NS):
        return 0
    if high - low > _SPREAD * abs(median):
        return 0
    tai_ns = int(math.copysign(TAI_NS, median))
    if low - tai_ns >= -_LARGEST_BEHIND_NS and high - tai_ns <= ahead_ns:
        return tai_ns
    # an agent's sound is announced: the one that lies ahead least tells most
    return low if moments.ahead_ns >= _ANNOUNCED_AHEAD_NS else median


def describe_offset(offset_ns: int) -> str:
    """Return a clause that says how far a stream's clock is off."""
    cause = ', as a clock in TAI is' if abs(offset_ns) == TAI_NS else ''
    return (
        f'stamps are {offset_ns / 1e9:+.3f} s off throughout, further from the times of recording '
        f'than can be{cause}'
    )


@dataclasses.dataclass(frozen=True)
class Steps:
    """
    Times of recording that stand still between the ticks of a slow clock.

    Attributes:
        step_ns: between ticks; 0 = they do not stand still.
        begin_ns: when the first message's sound began to arrive, as far as all of them tell.
    """

    step_ns: int = 0
    begin_ns: int = 0

    def arrival_ns(self, last_ns: int | None, received_ns: int, length_ns: int) -> int:
        """
        Return when a message arrived, by the samples before it and within its tick.

        Args:
            last_ns: arrival of the message before it, None for the first.
            received_ns: its time of recording.
            length_ns: of its sound.
        """
        at_ns = (self.begin_ns if last_ns is None else last_ns) + length_ns
        return min(max(at_ns, received_ns), received_ns + self.step_ns)


def find_steps(opening: Sequence[tuple[int, AudioPacket]]) -> Steps:
    """Find the ticks of the clock by which messages without stamps were recorded."""
    timed = [(received_ns, packet) for received_ns, packet in opening if received_ns]
    if not timed or any(packet.stamp_ns for _, packet in timed):
        return Steps()
    ticks = np.unique([received_ns for received_ns, _ in timed])
    if len(ticks) < 3 or 3 * len(ticks) > len(timed):
        return Steps()
    step_ns = int(np.median(np.diff(ticks)))
    off_ns = (ticks - ticks[0] + step_ns // 2) % step_ns - step_ns // 2
    if step_ns < _SMALL_STEP_NS or np.abs(off_ns).max() > _STEP_ERROR_NS:
        return Steps()
    sound_ns, begins = 0, []
    for received_ns, packet in timed:
        sound_ns += duration_ns(packet)
        begins.append(received_ns - sound_ns)
    return Steps(step_ns, max(begins))


def duration_ns(packet: AudioPacket) -> int:
    """Return how long a packet's sound lasts."""
    return len(packet.samples) * _SECOND_NS // packet.sample_rate_hz
