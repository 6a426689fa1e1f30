# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
When recorded audio sounded: one reading of stamps and times of recording, for all readers of bags.

Responsible for which clock each voice is stamped by, for stamps that are missing or those of the
arrival, and for where a clock jumped. Not for files, nor for the rules by which a live voice goes
onto its track: packets are placed by `VoiceIngest` itself, with the time of their recording as
their arrival. Once placed they carry stamps and counts that any reader puts at the same instants.

    zero      no stamp, in simulated time too; and of a time of recording: before the first /clock
    base      the clock that everything is placed on: the recorder's where any voice has it (or no
              stamps at all), else the clock of the stamps
"""

from collections.abc import Mapping, Sequence
import dataclasses
import statistics

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.buffer import VoiceTrack, index_of
from timar_ros.stream.ingest import VoiceIngest
from timar_ros.stream.own_clock import (
    Moments,
    Steps,
    describe_offset,
    duration_ns,
    find_steps,
    head_moments,
    own_offset,
    voice_moments,
)
from timar_ros.stream.recorded_rate import find_wrong_rates
from timar_ros.stream.resample import SAMPLE_RATE_HZ
from timar_ros.stream.stamps import StampReader
from timar_ros.stream.stated_rate import with_rate

_SECOND_NS = 1_000_000_000
_SAMPLE_NS = _SECOND_NS // SAMPLE_RATE_HZ  # 62,500 exactly
# Messages of each stream by which its clock is known.
N_OPENING = 100
# Clocks further apart than this are different clocks.
SAME_CLOCK_NS = 60 * _SECOND_NS
# A user's stamps that go back by more, or ahead of the time of recording, are a clock that jumped.
_LARGEST_BACK_NS = 1 * _SECOND_NS
_LARGEST_AHEAD_NS = 8 * _SECOND_NS
# Where the count begins of a stream that has none: what comes before its first packet has one too.
_FIRST_COUNT = 2**32


@dataclasses.dataclass(frozen=True)
class Times:
    """
    How the times of one stream are read.

    Attributes:
        shift_ns: added to its stamps, to bring them to the base clock.
        capture_shift_ns: added as well to the user's, which are those of the arrival; 0 or less.
        base_ns: the base clock minus the recorder's; 0 = the recorder's is the base.
        steps: of the times of recording, where messages without stamps have coarse ones.
        rate_factor: by which samples come faster than their stated rate.
    """

    shift_ns: int = 0
    capture_shift_ns: int = 0
    base_ns: int = 0
    steps: Steps = Steps()
    rate_factor: float = 1.0

    @property
    def is_recorders(self) -> bool:
        """Whether the base is the recorder's clock, so that times of recording are arrivals."""
        return self.base_ns == 0

    def place_stamp(self, stamp_ns: int | None, received_ns: int) -> int | None:
        """Return a moment on the base clock; None where it has neither stamp nor arrival."""
        if stamp_ns:
            return stamp_ns + self.shift_ns + self.capture_shift_ns
        return received_ns + self.base_ns if received_ns else None


def find_times(
    openings: Mapping[str, Sequence[tuple[int, AudioPacket]]],
    heads: Mapping[str, Sequence[tuple[int, int]]],
) -> tuple[dict[str, Times], list[str]]:
    """
    Decide by which clock each stream of a recording is placed.

    Args:
        openings: 'user', 'agent' -> time of recording and packet of its first messages.
        heads: name -> time of recording and stamp of the first messages of each head.

    Returns:
        the times of each stream, and what was noticed, a sentence each.
    """
    factors, notes = find_wrong_rates(openings)
    openings = {
        voice: [
            (received_ns, with_rate(packet, factors.get(voice, 1)))
            for received_ns, packet in opening
        ]
        for voice, opening in openings.items()
    }
    moments = {voice: voice_moments(voice, opening) for voice, opening in openings.items()}
    firsts = {voice: first_messages(opening) for voice, opening in openings.items()}
    offsets = {voice: _offset(voice, first) for voice, first in firsts.items()}
    base_ns = _find_base(offsets, moments)
    times = {}
    for voice, first in firsts.items():
        shift_ns = _shift(offsets[voice], base_ns)
        own_ns = 0 if shift_ns else own_offset(moments[voice], base_ns)
        if shift_ns:
            notes.append(
                f'{voice}: stamps are {-shift_ns / 1e9:+.3f} s from the time of recording, by '
                'another clock than the rest of it; moved by that'
            )
        elif own_ns:
            shift_ns = -own_ns
            notes.append(
                f'{voice}: {describe_offset(own_ns)}; it is placed {abs(own_ns) / 1e9:.3f} s '
                f'{"earlier" if own_ns > 0 else "later"}, by its times of recording'
            )
        elif base_ns and offsets[voice] is not None:
            notes.append(
                f'{voice}: stamps are {abs(offsets[voice]) / 1e9:.0f} s from the time of '
                'recording, another clock (simulated?); stamps are used'
            )
        capture_ns = 0
        if voice == 'user' and not base_ns and not shift_ns:
            capture_ns = capture_shift(first)
        if capture_ns:
            notes.append(
                f'{voice}: stamps seem to be those of the arrival, sounds would end up to '
                f'{-capture_ns / 1e6:.0f} ms after they were recorded; moved back by that to '
                'when they were captured'
            )
        steps = find_steps(openings[voice])
        if steps.step_ns:
            notes.append(
                f'{voice}: messages have no stamps, and their times of recording come in steps of '
                f'{steps.step_ns / 1e9:.1f} s (a slow /clock?); in between they are placed by '
                'their samples'
            )
        times[voice] = Times(shift_ns, capture_ns, base_ns, steps, factors.get(voice, 1.0))
    for name, opening in heads.items():
        leads = [stamp_ns - received_ns for received_ns, stamp_ns in opening
                 if stamp_ns and received_ns]  # fmt: skip
        shift_ns = _shift(statistics.median_low(leads) if leads else None, base_ns)
        shift_ns = shift_ns or -own_offset(head_moments(opening), base_ns)
        if shift_ns:
            notes.append(
                f'head motion of the {name}: stamps are {-shift_ns / 1e9:+.3f} s from those of '
                'the voices; moved by that'
            )
        times[name + '_head'] = Times(shift_ns, 0, base_ns)
    return times, notes


def first_messages(
    opening: Sequence[tuple[int, AudioPacket]],
) -> Sequence[tuple[int, AudioPacket]]:
    """Return the messages by which a clock is known: the first ones, enough of them timed."""
    n_timed = 0
    for i, (received_ns, _) in enumerate(opening):
        n_timed += received_ns != 0
        if n_timed == N_OPENING:
            return opening[: i + 1]
    return opening


def _find_base(offsets: Mapping[str, int | None], moments: Mapping[str, Moments]) -> int:
    """Return the clock that a recording is placed on, minus the recorder's."""
    stamped = {voice: offset for voice, offset in offsets.items() if offset is not None}
    if not stamped or len(stamped) < len(offsets):
        return 0
    base_ns = stamped.get('user', next(iter(stamped.values())))
    spread_ns = max(stamped.values()) - min(stamped.values())
    if spread_ns > SAME_CLOCK_NS:
        return 0
    if min(map(abs, stamped.values())) > SAME_CLOCK_NS:
        return base_ns
    # nearer clocks are another one only where none of their stamps can be the recorder's
    owns = [own_offset(each) for each in moments.values()]
    is_one_clock = all(owns) and not any(own_offset(each, owns[0]) for each in moments.values())
    return owns[0] if is_one_clock else 0


def capture_shift(opening: Sequence[tuple[int, AudioPacket]]) -> int:
    """
    Return by how much a user's stamps are to be moved, 0 or less.

    The live rule, with the result of the opening applied from the first message on.
    """
    reader = StampReader('user')
    reader.is_recorded = True
    for received_ns, packet in opening:
        if packet.stamp_ns and received_ns:
            reader.read(packet.stamp_ns, duration_ns(packet), received_ns)
    is_sure = reader.take_warning() is not None
    return -reader.shift_ns if is_sure else 0


def _offset(voice: str, opening: Sequence[tuple[int, AudioPacket]]) -> int | None:
    """Return how far stamps are from the time of recording; None = there are no stamps."""
    offsets = []
    for received_ns, packet in opening:
        if not packet.stamp_ns or not received_ns:
            continue
        # when it arrived by its own clock: the end of a capture, or the announcement
        at_ns = packet.stamp_ns + duration_ns(packet)
        if voice == 'agent':
            at_ns = packet.sent_ns or packet.stamp_ns
        offsets.append(at_ns - received_ns)
    return statistics.median_low(offsets) if offsets else None


def _shift(offset_ns: int | None, base_ns: int) -> int:
    if offset_ns is None or abs(offset_ns - base_ns) <= SAME_CLOCK_NS:
        return 0
    return base_ns - offset_ns


@dataclasses.dataclass(frozen=True)
class Placed:
    """
    A packet of one voice, placed.

    Attributes:
        packet: with the stamp, the count and the time of sending that put it there.
        due_ns: no sample of it counts at a planning moment before this.
        arrival_ns: when it was recorded, or as far as that is known.
        end_ns: when its last sample has sounded.
    """

    packet: AudioPacket
    due_ns: int
    arrival_ns: int
    end_ns: int


class Placer:
    """
    Place the packets of one voice, in the order of their recording.

    Args:
        voice: 'user' or 'agent'.
        times: from `find_times`.
        lead_ns: how far ahead the agent's voice counts as known where neither its messages nor
            the bag states it.

    Attributes:
        notes: what was noticed, a sentence each.
        n_placed: packets so far.
        n_timeless: messages without a stamp that came before the clock ran.
        n_after_jump: messages left out because the clock jumped before them.
    """

    def __init__(self, voice: str, times: Times, lead_ns: int):
        self.notes: list[str] = []
        self.n_placed = self.n_timeless = self.n_after_jump = 0
        self._voice, self._times, self._lead_ns = voice, times, lead_ns
        self._ingest = VoiceIngest(voice, VoiceTrack())
        self._ingest.trust()
        self._jump_ns: int | None = None
        self._arrival_ns: int | None = None
        self._last: tuple[int, int] | None = None  # end and arrival
        self._count = _Count()

    def place(self, received_ns: int, packet: AudioPacket) -> Placed | None:
        """
        Place a packet.

        Returns:
            the packet with its times; None where it counts for nothing: it came again, it has no
            time at all, or the clock jumped before it.
        """
        if self._jump_ns is not None:
            self.n_after_jump += 1
            return None
        times, is_user = self._times, self._voice == 'user'
        packet = with_rate(packet, times.rate_factor)
        length_ns = duration_ns(packet)
        stamp_ns = times.place_stamp(packet.stamp_ns or None, 0)
        sent_ns = packet.sent_ns + times.shift_ns if packet.sent_ns else None
        if sent_ns and stamp_ns and abs(stamp_ns - sent_ns) > SAME_CLOCK_NS:
            sent_ns = None  # by another clock than the stamps
        if received_ns and (times.is_recorders or stamp_ns is None):
            arrival_ns = received_ns + times.base_ns
            if times.steps.step_ns:
                arrival_ns = times.steps.arrival_ns(self._arrival_ns, received_ns, length_ns)
        elif stamp_ns is not None:
            arrival_ns = stamp_ns + length_ns
            if not is_user:
                arrival_ns = stamp_ns - self._lead_ns if sent_ns is None else sent_ns
            if self._arrival_ns is not None:  # an order is known, if not the times
                arrival_ns = max(arrival_ns, self._arrival_ns)
        else:
            self.n_timeless += 1
            return None
        begin_ns = stamp_ns
        if begin_ns is None:
            begin_ns = arrival_ns - length_ns if is_user else arrival_ns
        if self._jumps(begin_ns, begin_ns + length_ns, arrival_ns):
            return None
        self._arrival_ns = arrival_ns
        # whether a zero can be true is for the live rules to say
        zero = 0 if packet.stamp_ns == 0 else None
        stamp_ns = zero if stamp_ns is None else stamp_ns
        claimed = dataclasses.replace(packet, stamp_ns=stamp_ns, sent_ns=sent_ns)
        placed = self._resolve(claimed, begin_ns, arrival_ns)
        if placed is None:
            return None
        self.n_placed += 1
        due_ns = placed.stamp_ns
        if not is_user:
            due_ns = arrival_ns if sent_ns is None else sent_ns
            placed = dataclasses.replace(placed, sent_ns=due_ns)
        return Placed(placed, due_ns, arrival_ns, placed.stamp_ns + length_ns)

    def finish(self) -> None:
        """Note what was left out, when all of the voice has been placed."""
        n_all = self.n_placed + self.n_after_jump + self.n_timeless
        self._note(self._ingest.take_warnings(is_end=True))
        if self._jump_ns is not None:
            self.notes.append(
                f'{self._voice}: stamps jump by {self._jump_ns / _SECOND_NS:+.1f} s after '
                f'{self.n_placed} of {n_all} messages; what follows is another recording and '
                'left out'
            )
        if self.n_timeless:
            self.notes.append(
                f'{self._voice}: {self.n_timeless} of {n_all} messages left out: they have no '
                'stamp and were recorded before the clock ran'
            )

    def _resolve(self, packet: AudioPacket, begin_ns: int, arrival_ns: int) -> AudioPacket | None:
        """Return the packet with the stamp and count of where the live rules put it."""
        try:
            index = self._ingest.push(packet, arrival_ns)
        except ValueError:  # the conversation refuses it as well, and counts it
            count = packet.first_sample or 0
            return dataclasses.replace(packet, stamp_ns=begin_ns, first_sample=count)
        self._note(self._ingest.take_warnings())
        if index is None:  # came again; what counts its samples may be heard and counted again
            return packet if packet.stamp_ns and packet.first_sample else None
        stamp_ns = packet.stamp_ns
        if not stamp_ns or index_of(stamp_ns) != index:
            stamp_ns = index * _SAMPLE_NS
        count = self._count.of(packet, index)
        return dataclasses.replace(packet, stamp_ns=stamp_ns, first_sample=count)

    def _note(self, texts: Sequence[str]) -> None:
        self.notes += [text for text in texts if text not in self.notes]

    def _jumps(self, begin_ns: int, end_ns: int, arrival_ns: int) -> bool:
        """Look for a clock that jumped; what comes after it is another recording."""
        is_user, last = self._voice == 'user', self._last
        if last is not None:
            waited_ns = max(arrival_ns - last[1], 0)
            back_ns = _LARGEST_BACK_NS if is_user else SAME_CLOCK_NS
            is_back = begin_ns < last[0] - back_ns
            is_ahead = is_user and begin_ns - last[0] - waited_ns > _LARGEST_AHEAD_NS
            if is_back or is_ahead:
                self._jump_ns, self.n_after_jump = begin_ns - last[0], 1
                return True
        self._last = max(end_ns, last[0] if last else end_ns), arrival_ns
        return False


class _Count:
    """Counts of samples that agree with where packets are; a publisher's own, where it does."""

    def __init__(self):
        self._rate_hz = self._origin = self._first = self._next = self._offset = 0
        self._last_own: int | None = None

    def of(self, packet: AudioPacket, index: int) -> int:
        """Return the count of a packet's first sample, which lies at a grid index."""
        own = packet.first_sample
        if own is not None and own == self._last_own:
            own = None  # it does not count
        self._last_own = packet.first_sample
        rate_hz = packet.sample_rate_hz
        if rate_hz != self._rate_hz:
            self._rate_hz, self._origin, self._offset = rate_hz, index, 0
            self._first = count = _FIRST_COUNT if own is None else own
        else:
            count = self._next if own is None else own + self._offset
            expected = self._origin + (count - self._first) * SAMPLE_RATE_HZ / rate_hz
            if abs(expected - index) > 1.5:
                count = self._first + round((index - self._origin) * rate_hz / SAMPLE_RATE_HZ)
                count = max(count, 0)
                self._offset = 0 if own is None else count - own
        self._next = count + len(packet.samples)
        return count
