# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Time of a sound device's samples: by counting them, with slow correction of the device's drift.

Knows that a device counts samples evenly while the times it reports for them jitter, go stale and
now and then jump. Reads no clock and no device: what was seen, and when, is handed in.
"""

import collections
import dataclasses
import statistics

_NS = 1_000_000_000


@dataclasses.dataclass(frozen=True)
class _Line:
    """A time at a position and the step from one position to the next; replaced as a whole."""

    position: int
    time_ns: int
    ns_per_position: float

    def at(self, position: int) -> int:
        return self.time_ns + round((position - self.position) * self.ns_per_position)


class SampleClock:
    """
    A straight line through noisy (position, time) pairs, which bends slowly.

    Positions are samples of a device, or the nanoseconds of another clock (rate 1e9). Times along
    the line never differ from even counting by more than `max_slew_ppm`. One thread observes; any
    thread may ask for times, since the line is replaced as a whole.

    Args:
        rate_hz: positions a second, as the device claims.
        warm_up: observations before the first line. The second half of them decides, since the
            first times of a stream are often stale.
        votes: the median of so many recent errors is what the line follows, or jumps by.
        max_jitter_ms: a median error above this is a jump (lost samples, a set clock), not drift.
        time_constant_s: how slowly the line follows drift.
        max_slew_ppm: limit of the correction, in parts per million.
    """

    def __init__(
        self,
        rate_hz: float,
        warm_up: int = 50,
        votes: int = 25,
        max_jitter_ms: float = 20.0,
        time_constant_s: float = 10.0,
        max_slew_ppm: float = 2000.0,
    ):
        if rate_hz <= 0:
            raise ValueError(f'a clock needs a rate above 0 Hz, got {rate_hz}')
        self._nominal_ns = _NS / rate_hz
        self._max_jitter_ns = max_jitter_ms * 1e6
        self._time_constant_ns = time_constant_s * 1e9
        self._max_slew = max_slew_ppm * 1e-6
        self._drift = 0.0
        self._line: _Line | None = None
        self._warm_up = warm_up
        self._warm_up_pairs: list[tuple[int, int]] = []
        self._recent: collections.deque[tuple[int, int]] = collections.deque(maxlen=votes)

    @property
    def is_settled(self) -> bool:
        """Whether times can be told: enough has been observed."""
        return self._line is not None

    @property
    def drift_ppm(self) -> float:
        """How much slower than claimed the device counts, in parts per million."""
        return self._drift * 1e6

    def time_ns(self, position: int) -> int:
        """
        Tell the time of a position.

        Raises:
            RuntimeError: too little has been observed (`is_settled` is False).
        """
        if self._line is None:
            raise RuntimeError('the clock has not settled; observe more before asking for times')
        return self._line.at(position)

    def observe(self, position: int, time_ns: int) -> int:
        """
        Take one noisy time of a position. Positions never fall.

        Returns:
            Nanoseconds by which the line jumped just now: 0, except where it had to.
        """
        if self._line is None:
            self._settle(position, time_ns)
            return 0
        self._recent.append((position, time_ns))
        error_ns = statistics.median(t - self._line.at(p) for p, t in self._recent)
        elapsed_ns = (position - self._line.position) * self._nominal_ns
        if abs(error_ns) <= self._max_jitter_ns:
            self._line = self._bent(position, elapsed_ns, error_ns)
            return 0
        # NOTE: a jump needs all its voters, or the first late block after a pause would be one.
        if len(self._recent) < self._recent.maxlen:
            return 0
        jump_ns = round(error_ns)
        self._line = dataclasses.replace(self._line, time_ns=self._line.time_ns + jump_ns)
        self._recent.clear()
        return jump_ns

    def _settle(self, position: int, time_ns: int) -> None:
        self._warm_up_pairs.append((position, time_ns))
        if len(self._warm_up_pairs) < self._warm_up:
            return
        pairs = self._warm_up_pairs[len(self._warm_up_pairs) // 2 :]
        offset_ns = statistics.median(t - round(p * self._nominal_ns) for p, t in pairs)
        start_ns = round(position * self._nominal_ns) + round(offset_ns)
        self._line = _Line(position, start_ns, self._nominal_ns)
        self._warm_up_pairs = []

    def _bent(self, position: int, elapsed_ns: float, error_ns: float) -> _Line:
        # A critically damped second-order loop: proportional on the phase, integral on the rate.
        per_ns = 1.0 / self._time_constant_ns
        limit = self._max_slew
        # A pause of seconds is one observation, not many.
        elapsed_ns = min(elapsed_ns, self._time_constant_ns / 10)
        drift = self._drift + 0.25 * error_ns * per_ns * (elapsed_ns * per_ns)
        self._drift = min(max(drift, -limit / 2), limit / 2)
        slew = min(max(self._drift + error_ns * per_ns, -limit), limit)
        here_ns = self._line.at(position)
        return _Line(position, here_ns, self._nominal_ns * (1.0 + slew))


@dataclasses.dataclass(frozen=True)
class Placement:
    """
    Where a block of captured samples belongs.

    Attributes:
        stamp_ns: time of its first sample, on the node's clock.
        first_sample: its index in the stream; a hole before it is lost audio.
    """

    stamp_ns: int
    first_sample: int


class Capture:
    """
    Place a microphone's blocks on the node's clock and in one running count of samples.

    The count goes on when the device is lost and comes back; what passed meanwhile is a hole in
    it. A set node clock moves the stamps and leaves the count alone.

    Args:
        sample_rate_hz: of the device, for each channel.

    Attributes:
        lost_samples: the holes in the count so far, in samples.
        clock_steps: how often the node's clock was set.
    """

    def __init__(self, sample_rate_hz: int):
        self._rate_hz = sample_rate_hz
        self._node_clock = SampleClock(1e9, warm_up=2, votes=9, time_constant_s=2.0)
        self._next: Placement | None = None  # what would follow the last block without a gap
        self.lost_samples = 0
        self.clock_steps = 0
        self.restart(sample_rate_hz)

    @property
    def drift_ppm(self) -> float:
        """How much slower than claimed the device counts, in parts per million."""
        return self._device_clock.drift_ppm

    def restart(self, sample_rate_hz: int) -> None:
        """Forget the device's clock: its stream was opened anew and counts frames from 0."""
        if self._next is not None and sample_rate_hz != self._rate_hz:
            scaled = round(self._next.first_sample * sample_rate_hz / self._rate_hz)
            self._next = dataclasses.replace(self._next, first_sample=scaled)
        self._rate_hz = sample_rate_hz
        self._device_clock = SampleClock(sample_rate_hz)
        self._next_frame: int | None = None

    def place(
        self, frame: int, n_frames: int, captured_ns: int, monotonic_ns: int, node_ns: int
    ) -> Placement | None:
        """
        Say where a block belongs.

        Args:
            frame: index of its first frame since the device's stream was opened, dropped blocks
                counted.
            n_frames: frames in it.
            captured_ns: when its first frame was captured as the device tells it, on the
                computer's monotonic clock.
            monotonic_ns: the monotonic clock at some later moment.
            node_ns: the node's clock at that same moment.

        Returns:
            Its placement, or None while the clocks settle (half a second after opening): such a
            block cannot be stamped and is not published.
        """
        if self._node_clock.observe(monotonic_ns, node_ns):
            self.clock_steps += 1
        jump_ns = self._device_clock.observe(frame, captured_ns)
        if not (self._node_clock.is_settled and self._device_clock.is_settled):
            return None

        stamp_ns = self._node_clock.time_ns(self._device_clock.time_ns(frame))
        first_sample = self._first_sample(frame, stamp_ns, jump_ns)
        self._next_frame = frame + n_frames
        self._next = Placement(
            stamp_ns + round(n_frames * _NS / self._rate_hz), first_sample + n_frames
        )
        return Placement(stamp_ns, first_sample)

    def _first_sample(self, frame: int, stamp_ns: int, jump_ns: int) -> int:
        if self._next is None:
            return 0
        if self._next_frame is None:  # the first block after the device came back
            lost = round((stamp_ns - self._next.stamp_ns) * self._rate_hz / _NS)
        else:
            lost = frame - self._next_frame + round(jump_ns * self._rate_hz / _NS)
        lost = max(lost, 0)  # the count never falls, even where stamps do
        self.lost_samples += lost
        return self._next.first_sample + lost
