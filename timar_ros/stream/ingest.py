# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Packets of one voice onto its track: where each sample belongs, and what went wrong on the way.

Nothing here reads a clock; arrival times are arguments.
"""

import zlib

import numpy as np

from timar_ros.bounds import MAX_PACKET_S
from timar_ros.stream.audio import AudioPacket, bounded, describe_clipping, mono_of
from timar_ros.stream.buffer import VoiceTrack, index_of
from timar_ros.stream.counted import CountedStream
from timar_ros.stream.pace import LARGEST_JITTER
from timar_ros.stream.resample import SAMPLE_RATE_HZ
from timar_ros.stream.stamps import StampReader
from timar_ros.stream.stated_rate import StatedRate
from timar_ros.stream.timebase import Claim, Run, best_run
from timar_ros.stream.unbroken import UnbrokenStream
from timar_ros.stream.warnings import Warnings

COUNTERS = (
    'samples',  # taken, at 16 kHz; each counter of samples is
    'lost_samples',  # holes in the user's audio; goes down when a late packet fills one
    'late_samples',  # those late ones; of the agent, what came after it should have sounded
    'repeated_samples',  # came again, heard once
    'overlapped_samples',  # written by two publishers; the last one holds
    'doubted',  # packets whose stamp is off by more than the tolerance, placed by their count
    'reanchored',  # packets that began a new timebase, off the count of the one before
    'rate_changes',
    'jumps',  # of the clock; what was known is forgotten
    'empty',  # packets without samples
    'clipped_samples',  # beyond 4 times full scale, cut to that; at their own rate
    'refused',  # packets that raised
)

_MAX_RUNS = 4
_N_RECENT = 256  # packets among which duplicates are looked for
# A packet without a stamp continues the count unless it comes this much later than counted.
_ARRIVAL_JITTER = SAMPLE_RATE_HZ // 5
# A stamp this far back is a late packet, further back a clock that jumped.
_REORDER = SAMPLE_RATE_HZ
# A hole in a stream that does not count its samples is a loss up to here, then a pause.
_LONGEST_LOSS = SAMPLE_RATE_HZ
# The agent's audio further ahead than this is refused, so that memory stays bounded.
_LONGEST_LEAD = 60 * SAMPLE_RATE_HZ
_EDGE = SAMPLE_RATE_HZ // 500  # a packet that was overtaken fits a hole within 2 ms


class VoiceIngest:
    """
    Put the packets of one voice on a track, for any rate, channels, order and chunking.

    The user's stream is expected without holes; the agent's has them between utterances, and what
    is sent later replaces what was sent before. Later samples of the same publisher refine the
    last `Resampler.reach` samples of an earlier packet; else a sample never waits for later ones.

    Attributes:
        track: the track written to; cleared when the clock jumps, before the packet is placed.
        jumped: the clock jumped since a caller last set this to False.
        stated_rate: watches whether samples come as fast as their rate says.
    """

    def __init__(
        self,
        role: str,
        track: VoiceTrack,
        max_jitter_ms: int = 20,
        channel: str | int = 'mean',
        window_s: float = 8.0,
    ):
        """
        Begin without a timebase.

        Args:
            role: 'user' or 'agent'.
            track: where samples go.
            max_jitter_ms: stamps nearer than this to the sample count are taken to agree with it.
            channel: 'mean' of all channels, or the index of the one to hear.
            window_s: stamps that jump ahead of the arrival times by more than this are a clock
                jump; what the model remembers is a good choice.

        Raises:
            ValueError: an unknown role or channel.
        """
        if role not in ('user', 'agent'):
            raise ValueError(f"role must be 'user' or 'agent', got {role!r}")
        if channel != 'mean' and (not isinstance(channel, int) or channel < 0):
            raise ValueError(f"channel must be 'mean' or an index from 0 on, got {channel!r}")
        self.track = track
        self.jumped = False
        self._role = role
        self._tolerance = max_jitter_ms * SAMPLE_RATE_HZ // 1000
        self._channel = channel
        self._window = int(window_s * SAMPLE_RATE_HZ)
        self._counters = dict.fromkeys(COUNTERS, 0)
        self.stated_rate = StatedRate(role)
        self._warnings = Warnings(role, self.stated_rate)
        self._stamps = StampReader(role, max_jitter_ms)
        self._has_told_scatter = False
        self._unbroken = UnbrokenStream(track, self._counters, self._tell_hole)
        self._counted = CountedStream(track, self._counters, self._lose, self._tolerance)
        self.reset()

    @property
    def counters(self) -> dict[str, int]:
        """What happened so far, by the names of `COUNTERS`; survives `reset`."""
        return dict(self._counters)

    def take_warnings(self, is_end: bool = False) -> list[str]:
        """Return the texts that a node should log, once each; as of `Warnings.take`."""
        return self._warnings.take(is_end)

    def trust(self) -> None:
        """Take rates and clocks as they are: the whole recording was compared."""
        self.stated_rate.turn_off()
        self._stamps.is_recorded = True

    def reset(self) -> None:
        """Forget the timebases and the track's samples."""
        self.track.clear()
        self._stamps.reset()
        self._runs: list[Run] = []
        self._unbroken.reset()
        self._counted.reset()
        self._recent: dict[tuple, None] = {}
        self._n_packets = 0
        self._end = 0
        self._last_arrival: int | None = None
        self._last_count: int | None = None

    def push(self, packet: AudioPacket, arrival_ns: int) -> int | None:
        """
        Place one packet.

        Args:
            packet: of this voice.
            arrival_ns: when it arrived, on the clock of the stamps; replays pass a recording's.

        Returns:
            the grid index of its first sample; None where it is empty, or came before.

        Raises:
            ValueError: the packet contradicts itself or cannot be placed; nothing was written,
                and the next packet is as welcome as ever.
        """
        try:
            packet = bounded(packet)
            mono = mono_of(packet, self._channel)
            self._check_size(packet)
            if len(mono):
                return self._place(packet, mono, arrival_ns)
            self._counters['empty'] += 1
            return None
        except ValueError as error:
            self._counters['refused'] += 1
            raise ValueError(f'{self._role} audio: {error}') from None

    def _check_size(self, packet: AudioPacket) -> None:
        length_s = len(packet.samples) / packet.sample_rate_hz
        if length_s > MAX_PACKET_S:
            raise ValueError(
                f'a message may hold {MAX_PACKET_S} s of sound, got {length_s:.0f} s; send it in '
                'several messages'
            )
        if packet.n_clipped:
            if not self._counters['clipped_samples']:  # else a sentence for each peak
                self._warnings.add(describe_clipping(packet))
            self._counters['clipped_samples'] += packet.n_clipped

    def _place(self, packet: AudioPacket, mono: np.ndarray, arrival_ns: int) -> int | None:
        arrival = index_of(arrival_ns)
        elapsed = 0 if self._last_arrival is None else arrival - self._last_arrival
        self._last_arrival, self._now_ns = arrival, arrival_ns
        if elapsed < -self._tolerance:
            self._jump(f'arrival went back by {-elapsed / SAMPLE_RATE_HZ:.3f} s', arrival)
        if self._is_repeated(packet, mono):
            return None
        if text := self.stated_rate.add(packet, arrival_ns, self._last_count):
            self._warnings.explain(text)
            self.reset()  # what was heard had the wrong speed
        packet = self.stated_rate.correct(packet)
        claim = self._claim(packet, len(mono), arrival_ns)
        self._check_time(claim, arrival)
        run = self._run_for(claim, elapsed, arrival)
        position = run.position_of(claim)
        start, end = run.index_of(position), run.index_of(position + len(mono))
        self._note(run, position, start, end)
        if self._role == 'agent' and claim.is_stamped:
            self._check_lead(start, end, arrival)
        # the user's audio is captured, not revised: the order of arrival is all there is
        sent_ns = packet.sent_ns if packet.sent_ns is not None else arrival_ns
        sent_ns = arrival_ns if self._role == 'user' else sent_ns
        run.write(self.track, position, mono, sent_ns)
        self._unbroken.keep(run, mono, sent_ns)
        self._counted.keep(run, claim, mono, sent_ns)
        self._n_packets += 1
        run.last_packet = self._n_packets
        run.next_position = max(run.next_position, position + len(mono))
        self._end = max(self._end, end)
        self._counters['samples'] += end - start
        return start

    def _is_repeated(self, packet: AudioPacket, mono: np.ndarray) -> bool:
        """Return whether the same packet came before, and count it if so."""
        if not packet.stamp_ns and not packet.first_sample:
            return False  # nothing tells silence from silence
        sent_ns = packet.sent_ns if self._role == 'agent' else None
        rate_hz, checksum = packet.sample_rate_hz, zlib.crc32(np.ascontiguousarray(mono))
        key = (packet.stamp_ns, packet.first_sample, sent_ns, rate_hz, len(mono), checksum)
        if key in self._recent:
            self._counters['repeated_samples'] += len(mono) * SAMPLE_RATE_HZ // rate_hz
            return True
        self._recent[key] = None
        if len(self._recent) > _N_RECENT:
            del self._recent[next(iter(self._recent))]
        return False

    def _claim(self, packet: AudioPacket, n: int, arrival_ns: int) -> Claim:
        length = -(-n * SAMPLE_RATE_HZ // packet.sample_rate_hz)
        count = packet.first_sample
        length_ns = n * 1_000_000_000 // packet.sample_rate_hz
        before_ns = self._stamps.shift_ns
        stamp_ns = self._stamps.read(packet.stamp_ns, length_ns, arrival_ns, count is not None)
        moved = index_of(before_ns) - index_of(self._stamps.shift_ns)
        for run in self._runs if abs(moved) <= self._tolerance else ():
            run.nudge(moved)  # no run would begin for so little
        if text := self._stamps.take_warning():
            self._warnings.add_explicable(text)
        is_stamped = stamp_ns is not None
        nominal = index_of(stamp_ns if is_stamped else arrival_ns)
        if not is_stamped and self._role == 'user':  # was captured just before it came
            nominal -= length
        if count is not None and count == self._last_count:
            self._warnings.add_explicable(
                f'first_sample should count samples, got {count} again; '
                f'{"stamps" if is_stamped else "arrivals"} are used, which cannot tell loss '
                'from jitter'
            )
            if self._n_packets == 1:  # the first one did not count either
                self._runs[0].forget_count()
            count = None
        self._last_count = packet.first_sample
        return Claim(packet.sample_rate_hz, count, nominal, length, is_stamped)

    def _check_time(self, claim: Claim, arrival: int) -> None:
        """Look for streams whose times cannot be right."""
        ahead = claim.nominal - arrival
        if self._role == 'agent':
            if ahead > _LONGEST_LEAD:
                raise ValueError(
                    f'stamps may be up to {_LONGEST_LEAD // SAMPLE_RATE_HZ} s ahead of arrival, '
                    f'got {ahead / SAMPLE_RATE_HZ:.1f} s; send it later, or set the clocks'
                )
            return
        if abs(ahead) > max(self._window, claim.length + SAMPLE_RATE_HZ):
            self._warnings.add_explicable(
                f'stamps should be those of the capture, got {ahead / SAMPLE_RATE_HZ:+.1f} s '
                'from arrival; set the clocks of both machines'
            )

    def _run_for(self, claim: Claim, elapsed: int, arrival: int) -> Run:
        """Return the run that the packet continues, or begin one."""
        is_user = self._role == 'user'
        if not claim.is_stamped:
            earliest, latest = (-self._window if is_user else -_LONGEST_LEAD), _ARRIVAL_JITTER
        elif is_user and claim.count is not None:
            return self._counted_run(claim, elapsed, arrival)
        elif is_user:
            earliest, latest = -LARGEST_JITTER, _LONGEST_LOSS
        else:
            earliest, latest = -self._tolerance, self._tolerance
        run, deviation = best_run(self._runs, claim, earliest, latest)
        if run is None:
            return self._new_run(claim, claim.nominal, elapsed, arrival)
        return self._follow(run, claim, deviation) if is_user and claim.count is None else run

    def _counted_run(self, claim: Claim, elapsed: int, arrival: int) -> Run:
        """Return the run of a user's packet that counts its samples."""
        run, origin, self._end = self._counted.find(self._runs, claim, self._end)
        if run is not None and origin is None:
            return run
        moved = self._new_run(claim, claim.nominal if run is None else origin, elapsed, arrival)
        if run is None:
            self._counted.begin(self._runs, moved, claim)
        self._runs = [each for each in self._runs if each is not run]  # else they take turns
        return moved

    def _follow(self, run: Run, claim: Claim, deviation: int) -> Run:
        """Continue a user's stream that does not count its samples, even if its stamps scatter."""
        if self._is_late(run, claim, deviation):
            self._unbroken.fill(claim.length)
            return Run(claim, claim.nominal, self._tolerance)
        self._end = self._unbroken.follow(run, claim, deviation, self._end, self._now_ns)
        self._tell_scatter(run)
        return run

    def _is_late(self, run: Run, claim: Claim, deviation: int) -> bool:
        """Return whether a packet without a count came late: it fills a hole from an edge on."""
        may_be = deviation + claim.length <= _EDGE and claim.is_stamped
        if not may_be or run.pace.reach > self._tolerance:  # among stamps that scatter none tell
            return False
        first, n = claim.nominal - _EDGE, claim.length + 2 * _EDGE
        _, is_present = self.track.read(first, n)
        is_free = is_present[_EDGE:-_EDGE].sum() <= _EDGE
        return bool(is_free and (is_present[0] or is_present[-1]))

    def _tell_scatter(self, run: Run) -> None:
        if run.pace.scatter is None or self._has_told_scatter or self._stamps.shift_ns:
            return
        self._has_told_scatter = True
        low, high = (1000 * each / SAMPLE_RATE_HZ for each in run.pace.scatter)
        self._warnings.add_explicable(
            f'stamps should follow the samples, got stamps from {low:+.0f} to {high:+.0f} ms '
            'around an unbroken stream; it is placed by its samples, and short losses show late; '
            'let the driver count its samples, or set max_jitter_ms to what is normal here'
        )

    def _new_run(self, claim: Claim, origin: int, elapsed: int, arrival: int) -> Run:
        """Begin a run at `origin`, where the packet's stamp or arrival puts it."""
        gap = origin - self._end
        if self._runs and self._role == 'user':
            gap_s = gap / SAMPLE_RATE_HZ
            if gap < -_REORDER:
                self._jump(f'stamps went back by {-gap_s:.3f} s', arrival)
            elif gap - elapsed > self._window:
                self._jump(f'stamps went ahead by {gap_s:.3f} s', arrival)
        if self._runs:
            newest = max(self._runs, key=lambda run: run.last_packet)
            if newest.rate_hz != claim.rate_hz:
                self._counters['rate_changes'] += 1
                self._warnings.add_explicable(
                    f'the rate should stay at {newest.rate_hz} Hz, got {claim.rate_hz} Hz in '
                    'mid-stream; a new run starts'
                )
            elif self._role == 'user' and (gap > 0 or claim.count is not None):
                self._counters['reanchored'] += 1
            if abs(gap) <= self._tolerance:
                origin = self._end
            elif self._role == 'user' and claim.count is None and 0 < gap <= _LONGEST_LOSS:
                self._lose(gap)
        run = Run(claim, origin, self._tolerance)
        self._runs.append(run)
        if len(self._runs) > _MAX_RUNS:
            self._runs.remove(min(self._runs[:-1], key=lambda run: run.last_packet))
        return run

    def _note(self, run: Run, position: int, start: int, end: int) -> None:
        """Count what this packet fills, repeats, leaves open or overlaps; before it is written."""
        _, is_present = self.track.read(start, end - start)
        n_present, is_next = int(is_present.sum()), position >= run.next_position
        others_wrote = run.last_packet and self._n_packets > run.last_packet
        if is_next and others_wrote and 2 * n_present >= end - start:
            self._counters['overlapped_samples'] += n_present
            self._warnings.add_explicable(
                'one publisher was expected, got two that write the same '
                'instants; the last sample written holds; stop one of them'
            )
            return
        if self._role == 'agent':
            return
        if position > run.next_position and start > self._end:  # what others sent is not lost
            self._lose(start - self._end)
        elif not is_next:
            self._counters['repeated_samples'] += n_present
        if end <= self._end:
            n_filled = end - start - n_present
            self._counters['late_samples'] += n_filled
            if position >= 0:  # what is older than the run was never missed
                self._counters['lost_samples'] -= min(n_filled, self._counters['lost_samples'])

    def _check_lead(self, start: int, end: int, arrival: int) -> None:
        """Count what the agent should have said already when it was announced."""
        n_late = min(max(arrival - start, 0), end - start)
        self._counters['late_samples'] += n_late
        if n_late:
            self._warnings.add(
                "the robot's voice should be announced before it sounds, got it afterwards; "
                'lips cannot be in time'
            )

    def _lose(self, n: int) -> None:
        self._counters['lost_samples'] += n
        self._tell_hole(n)

    def _tell_hole(self, n: int) -> None:
        self._warnings.add_explicable(
            f'expected an unbroken stream, got a hole of {n / SAMPLE_RATE_HZ:.3f} s; '
            'use a reliable publisher with depth 100 or more'
        )

    def _jump(self, what: str, arrival: int) -> None:
        self.reset()
        self.jumped = True
        self._last_arrival = arrival
        self._counters['jumps'] += 1
        self._warnings.add_explicable(f'the clock jumped: {what}; what was heard is forgotten')
