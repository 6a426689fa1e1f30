# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
When each sample of the agent's voice sounds: utterances onto a timeline, that into a device.

A `PlaybackSchedule` queues utterances, gives their samples a time when it announces them, and
takes back what a stop leaves unheard. A `PlaybackCursor` walks a sound device along that timeline,
so that what was announced for an instant sounds at that instant. Not for reading clocks or
devices, nor for ROS.

    arrives        announced (sent)             sounds (stamp)
      |  queue  ->  |  >= agent_lead  ->          |
      push          announce                      PlaybackCursor.render
"""

import bisect
import dataclasses

import numpy as np

from timar_ros.bounds import MAX_UTTERANCE_S
from timar_ros.stream.audio import AudioPacket, bounded
from timar_ros.stream.audio_format import check_voice
from timar_ros.stream.delivery import Delivery
from timar_ros.stream.device_time import SampleClock, ToldTimes
from timar_ros.stream.utterance import Utterance
from timar_ros.stream.utterance_queue import UtteranceQueue

_NS = 1_000_000_000
_FLUSH_MS = 20  # whatever comes later than this before the deadline begins anew
_STEP_MS = 100  # a clock that goes back by more was set; by less, it is left alone
_RESYNC_MS = 8  # a device that is off by more, in mid-voice, is put right at once


@dataclasses.dataclass(frozen=True)
class _Segment:
    """Samples on the timeline, `[start, end)` in samples of the output rate since time 0."""

    start: int
    samples: np.ndarray

    @property
    def end(self) -> int:
        return self.start + len(self.samples)


class PlaybackSchedule:
    """
    Give every sample of the agent's utterances the time at which it sounds.

    One thread pushes, announces and stops; another may `read`, since the timeline is replaced as a
    whole. Silence between utterances is not announced: it is what there is where nothing was.

    Args:
        sample_rate_hz: of the output; utterances are resampled to it, all channels mixed to one.
        agent_lead_ms: nothing sounds sooner than this after it was announced.
        jitter_ms: how much later still an utterance begins, which hides uneven delivery.
        slack_ms: how much earlier than it must something is announced, if it is there; a stall of
            the announcing thread below this is not heard.
        chunk_ms: longest announcement.
        max_queue_s: most that may wait to be announced.

    Attributes:
        counters: what happened so far, by name; samples are at the output rate.
    """

    def __init__(
        self,
        sample_rate_hz: int,
        agent_lead_ms: int = 400,
        jitter_ms: int = 50,
        slack_ms: int = 500,
        chunk_ms: int = 100,
        max_queue_s: int = MAX_UTTERANCE_S,
    ):
        self.sample_rate_hz = sample_rate_hz
        self._lead = self._count(agent_lead_ms)
        self._jitter = self._count(jitter_ms)
        self._ahead = self._lead + self._jitter + self._count(slack_ms)
        self._chunk = self._count(chunk_ms)
        self._timeline: tuple[_Segment, ...] = ()  # announced, by start, without overlaps
        self._end = 0  # of the timeline
        self._queue = UtteranceQueue(sample_rate_hz, max_queue_s)
        self._delivery = Delivery()
        self._last = 0  # position of the clock at the last announcement
        self.counters = {
            'samples': 0,  # announced
            'underruns': 0,  # gaps inside an utterance: it was delivered too slowly
            'underrun_samples': 0,  # silence in those gaps
            'withdrawn_samples': 0,  # announced, and taken back by a stop
            'dropped_samples': 0,  # never announced: stopped before
            'refused_samples': 0,  # the queue was full
            'lost_samples': 0,  # counted by the sender inside an utterance, and never received
            'clipped_samples': 0,  # as they came, of all channels: far beyond full scale
            'clock_steps': 0,  # the clock was set back below what had been announced
        }

    def index(self, time_ns: int) -> int:
        """Position on the timeline of a time, in samples of the output rate."""
        return (time_ns * self.sample_rate_hz + _NS // 2) // _NS

    def stamp_ns(self, index: int) -> int:
        """Time of a position on the timeline."""
        return (index * _NS + self.sample_rate_hz // 2) // self.sample_rate_hz

    def push(self, packet: AudioPacket, now_ns: int) -> None:
        """
        Queue a stretch of an utterance. Its stamps are ignored; call `announce` right after.

        Stretches that count on in `first_sample` are one utterance (so are those of senders that
        do not count, while the one before has not sounded). One without samples changes nothing.

        Raises:
            ValueError: a sample, the rate or the channels make no sense, or too much waits; the
                stretch is dropped.
        """
        if not len(packet.samples):
            return
        check_voice(packet.sample_rate_hz, packet.samples.shape[1])
        packet = bounded(packet)
        scale = self.sample_rate_hz / packet.sample_rate_hz
        n_out = round(len(packet.samples) * scale)
        is_unheard = self.stamp_ns(self._end + self._queue.n_left) > now_ns
        arrival = self._delivery.arrive(packet, now_ns, is_unheard)
        if arrival.is_stopped:
            self.counters['dropped_samples'] += n_out
            return
        self.counters['lost_samples'] += round(arrival.missing * scale)
        try:
            self._queue.push(packet, arrival.continues)
        except ValueError:
            self.counters['refused_samples'] += n_out
            raise
        self.counters['clipped_samples'] += packet.n_clipped

    def announce(self, now_ns: int) -> list[AudioPacket]:
        """
        Put on the timeline what has to be announced now.

        Call after every push, and at least every 20 ms.

        Returns:
            What to publish, in order; `stamp_ns` is when it sounds, `sent_ns` is `now_ns` and
            `first_sample` the position on the timeline.
        """
        now = self.index(now_ns)
        packets = self._rewind(now, now_ns)
        new = []
        while head := self._queue.ready(lambda u: self._is_last_moment(u, now, now_ns)):
            if self._end < now + self._lead:
                self._begin(head, now + self._lead + self._jitter)
            if self._end >= now + self._ahead:
                break
            new.append(_Segment(self._end, head.take(self._chunk)))
            self._end = new[-1].end
        self.counters['samples'] += sum(len(segment.samples) for segment in new)
        self._set_timeline(self._timeline + tuple(new), now)
        return packets + [self._packet(s.start, s.samples, now_ns) for s in new]

    def stop(self, now_ns: int) -> list[AudioPacket]:
        """
        Fall silent, and take back what will not be heard.

        Args:
            now_ns: the moment of the stop. What a device has taken beyond it has to be flushed
                there.

        Returns:
            What to publish: silence in place of what was announced.
        """
        self.counters['dropped_samples'] += self._queue.n_left
        self._queue.clear()
        self._delivery.stop()
        packets = self._withdraw(self.index(now_ns), now_ns)
        self.counters['withdrawn_samples'] += sum(len(p.samples) for p in packets)
        return packets

    def read(self, start: int, n_samples: int) -> tuple[np.ndarray, bool]:
        """
        Read the timeline.

        Returns:
            float32 `[n_samples]` from position `start` on, silent where there is nothing; and
            whether there is anything.
        """
        timeline = self._timeline
        out = np.zeros(n_samples, np.float32)
        first = max(bisect.bisect_right(timeline, start, key=lambda s: s.start) - 1, 0)
        is_voiced = False
        for segment in timeline[first:]:
            if segment.start >= start + n_samples:
                break
            lo, hi = max(segment.start, start), min(segment.end, start + n_samples)
            if lo < hi:
                out[lo - start : hi - start] = segment.samples[
                    lo - segment.start : hi - segment.start
                ]
                is_voiced = True
        return out, is_voiced

    def _count(self, duration_ms: int) -> int:
        return self.sample_rate_hz * duration_ms // 1000

    def _is_last_moment(self, head: Utterance, now: int, now_ns: int) -> bool:
        """Whether what an utterance holds back, for what may follow, has to be announced."""
        if head.has_begun:  # later, it could not join the rest
            return self._end - now < self._lead + self._count(_FLUSH_MS)
        return now_ns - self._delivery.last_ns > _FLUSH_MS * 1_000_000

    def _begin(self, head: Utterance, start: int) -> None:
        """Continue the timeline at `start`: a new utterance, or one that came too slowly."""
        if head.has_begun or head.continues:
            self.counters['underruns'] += 1
            self.counters['underrun_samples'] += start - self._end
        self._end = start

    def _set_timeline(self, segments: tuple[_Segment, ...], now: int) -> None:
        # A second of the past stays, for a device that is late.
        kept = bisect.bisect_right(segments, now - self.sample_rate_hz, key=lambda s: s.end)
        self._timeline = segments[kept:]

    def _rewind(self, now: int, now_ns: int) -> list[AudioPacket]:
        """After the clock was set back, queue again what would sound only when it catches up."""
        last, self._last = self._last, now
        if now >= last - self._count(_STEP_MS):
            return []
        self._delivery.set_clock_back(now_ns)
        if self._end <= now:
            return []
        self.counters['clock_steps'] += 1
        unheard, _ = self.read(last, max(self._end - last, 0))
        packets = self._withdraw(now, now_ns)
        if len(unheard):
            # As an utterance of its own: the gap is the clock's, not the sender's.
            self._queue.push_front(unheard)
        return packets

    def _withdraw(self, cut: int, now_ns: int) -> list[AudioPacket]:
        """Silence the timeline from `cut` on; returns what to publish instead."""
        if self._end <= cut:
            return []
        # Of what is no more on the timeline nobody needs to hear.
        known = self._timeline[0].start if self._timeline else self._end
        withdrawn = range(max(cut, known), self._end)
        self._timeline = tuple(
            _Segment(segment.start, segment.samples[: cut - segment.start])
            for segment in self._timeline
            if segment.start < cut
        )
        self._end = cut
        silence = np.zeros(self.sample_rate_hz, np.float32)
        starts = range(withdrawn.start, withdrawn.stop, len(silence))
        return [self._packet(i, silence[: withdrawn.stop - i], now_ns) for i in starts]

    def _packet(self, start: int, samples: np.ndarray, now_ns: int) -> AudioPacket:
        return AudioPacket(
            stamp_ns=self.stamp_ns(start),
            first_sample=start,
            sent_ns=now_ns,
            sample_rate_hz=self.sample_rate_hz,
            samples=samples[:, None],
        )


class PlaybackCursor:
    """
    Walk a sound device along a timeline: each sample sounds at its time, or not at all.

    Within a voice the device plays sample after sample; it is put back on the timeline where there
    is silence, and where it has come to be off by more than 8 ms. `render` belongs to the
    device's thread, `observe_clock` to the node's.

    Args:
        schedule: whose timeline.
        usual_delay_ms: from handing samples over to their sounding, if the device does not
            report it.

    Attributes:
        rendered: position up to which the device has taken samples; None before it took any.
        resyncs: how often the device had to be put right in mid-voice.
    """

    def __init__(self, schedule: PlaybackSchedule, usual_delay_ms: float):
        self._schedule = schedule
        self._usual_delay_ms = usual_delay_ms
        self._tolerance = schedule.sample_rate_hz * _RESYNC_MS // 1000
        self._node_clock = SampleClock(1e9, warm_up=2, votes=5, time_constant_s=2.0)
        self.resyncs = 0
        self.restart()

    def restart(self) -> None:
        """Forget the device's clock: its stream is reopened. Call while no stream runs."""
        rate_hz = self._schedule.sample_rate_hz
        # May bend at once: a voice is played sample after sample whatever the clock says.
        self._device_clock = SampleClock(
            rate_hz,
            warm_up=20,
            votes=15,
            max_jitter_ms=_RESYNC_MS,
            time_constant_s=2.0,
            max_slew_ppm=20_000,
        )
        self._told = ToldTimes(rate_hz, self._usual_delay_ms, steady_s=0.2)
        self._frame = 0
        self.rendered: int | None = None

    def observe_clock(self, monotonic_ns: int, node_ns: int) -> None:
        """Take the computer's monotonic clock and the node's clock of one moment."""
        self._node_clock.observe(monotonic_ns, node_ns)

    def render(self, n_frames: int, called_ns: int, delay_ns: int | None) -> np.ndarray:
        """
        Give the device its next samples.

        Args:
            n_frames: how many.
            called_ns: now, on the computer's monotonic clock.
            delay_ns: how long from now the first of them sounds, as the device reports; None = it
                does not.

        Returns:
            float32 `[n_frames]`; silence while the clocks settle (a fifth of a second).
        """
        frame, self._frame = self._frame, self._frame + n_frames
        self._device_clock.observe(frame, self._told.time_ns(frame, called_ns, delay_ns))
        if not (self._device_clock.is_settled and self._node_clock.is_settled):
            return np.zeros(n_frames, np.float32)

        sounds_ns = self._node_clock.time_ns(self._device_clock.time_ns(frame))
        target = self._schedule.index(sounds_ns)
        start = target if self.rendered is None else self.rendered
        samples, is_voiced = self._schedule.read(start, n_frames)
        is_off = abs(target - start) > self._tolerance
        if is_off or not is_voiced:
            self.resyncs += is_off and is_voiced
            samples, _ = self._schedule.read(target, n_frames)
            samples[: max(start - target, 0)] = 0.0  # nothing is heard twice
            start = target
        self.rendered = start + n_frames
        return samples
