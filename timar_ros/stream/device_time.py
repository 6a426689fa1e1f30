# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Time of a sound device's samples: by counting them, with slow correction of the device's drift.

Knows that a device counts samples evenly, while the times it tells for them jitter, are stale for
seconds after a start, and now and then jump. Reads no clock: what was seen, and when, is given.
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
        warm_up: observations before the first line. The second half of them decides, since a
            stream's first blocks come all at once.
        votes: the median of so many recent errors is what the line follows, or jumps by.
        max_jitter_ms: a median error above this is a jump (lost samples, a set clock), not drift.
        time_constant_s: how slowly the line follows drift.
        max_slew_ppm: limit of the correction, in parts per million.
    """

    def __init__(
        self,
        rate_hz: float,
        warm_up: int = 30,
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


class ToldTimes:
    """
    When a block of samples is captured or sounds: as the device tells it, where it can be trusted.

    Sound servers tell stale times for up to 2 s after a stream has begun (PulseAudio: off by 70 to
    720 ms, measured), and some drivers tell none. Until what is told has agreed with the count of
    samples for a while, the promptest of the last calls and the usual delay stand in.

    Args:
        rate_hz: samples a second.
        usual_delay_ms: from a prompt call to the block's time, before the device told any better:
            positive for what is going to sound, negative for what was captured.
        steady_s: how long times must agree with the count before they are believed.
        max_jitter_ms: what still counts as agreeing.
    """

    def __init__(
        self,
        rate_hz: float,
        usual_delay_ms: float,
        steady_s: float = 2.0,
        max_jitter_ms: float = 10.0,
    ):
        self._nominal_ns = _NS / rate_hz
        self._delay_ns = round(usual_delay_ms * 1e6)
        self._steady_ns = steady_s * 1e9
        self._max_jitter_ns = max_jitter_ms * 1e6
        self._offset_ns: int | None = None  # told time minus counted time, when it became steady
        self._steady_since_ns = 0
        # Called times minus counted ones. Blocks come in bursts, and late where the computer is
        # busy, but never early.
        self._calls: collections.deque[int] = collections.deque(maxlen=100)

    def time_ns(self, position: int, called_ns: int, delay_ns: int | None) -> int:
        """
        Say when a block's first sample is captured or sounds.

        Args:
            position: index of that sample.
            called_ns: when the device called.
            delay_ns: from then to the sample's time, as the device tells it; None = it does not.
        """
        counted_ns = round(position * self._nominal_ns)
        self._calls.append(called_ns - counted_ns)
        prompt_ns = min(self._calls) + counted_ns
        if delay_ns is None:
            self._offset_ns = None
            return prompt_ns + self._delay_ns
        told_ns = called_ns + delay_ns
        offset_ns = told_ns - counted_ns
        if self._offset_ns is None or abs(offset_ns - self._offset_ns) > self._max_jitter_ns:
            self._offset_ns = offset_ns
            self._steady_since_ns = called_ns
        if called_ns - self._steady_since_ns < self._steady_ns:
            return prompt_ns + self._delay_ns
        # Both follow slowly: drift is no disagreement.
        self._offset_ns += (offset_ns - self._offset_ns) // 64
        self._delay_ns += (told_ns - prompt_ns - self._delay_ns) // 64
        return told_ns
