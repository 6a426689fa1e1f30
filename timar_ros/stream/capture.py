# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where a microphone's blocks belong: on the node's clock, and in one running count of samples.

Responsible for what a lost block, a lost device and a set clock do to the two. Not for reading
clocks or devices.
"""

import dataclasses

from timar_ros.stream.device_time import SampleClock, ToldTimes

_NS = 1_000_000_000


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

    When the device is lost and comes back, the count continues; the time in between is a gap in
    it. Setting the node's clock moves the stamps, not the count.

    Args:
        sample_rate_hz: of the device, for each channel.
        usual_delay_ms: from a block's capture to its arrival, if the device does not report it.

    Attributes:
        lost_samples: the holes in the count so far, in samples.
        clock_steps: how often the node's clock was set.
    """

    def __init__(self, sample_rate_hz: int, usual_delay_ms: float):
        self._usual_delay_ms = usual_delay_ms
        self._rate_hz = sample_rate_hz
        self._node_clock = SampleClock(1e9, warm_up=2, votes=9, time_constant_s=2.0)
        # What would follow the last block without a gap: its index, and its capture on the
        # monotonic clock, since a set clock is no lost audio.
        self._next_sample: int | None = None
        self._next_ns = 0
        self.lost_samples = 0
        self.clock_steps = 0
        self.restart(sample_rate_hz)

    @property
    def drift_ppm(self) -> float:
        """How much slower than claimed the device counts, in parts per million."""
        return self._device_clock.drift_ppm

    def restart(self, sample_rate_hz: int) -> None:
        """Forget the device's clock: its stream was reopened and counts frames from 0."""
        if self._next_sample is not None and sample_rate_hz != self._rate_hz:
            self._next_sample = round(self._next_sample * sample_rate_hz / self._rate_hz)
        self._rate_hz = sample_rate_hz
        self._device_clock = SampleClock(sample_rate_hz)
        self._told = ToldTimes(sample_rate_hz, -self._usual_delay_ms)
        self._next_frame: int | None = None

    def place(
        self,
        frame: int,
        n_frames: int,
        arrived_ns: int,
        age_ns: int | None,
        monotonic_ns: int,
        node_ns: int,
    ) -> Placement | None:
        """
        Return the stamp and the index of a block.

        Args:
            frame: index of its first frame since the device's stream was opened, dropped blocks
                counted.
            n_frames: frames in it.
            arrived_ns: when the device handed it over, on the computer's monotonic clock.
            age_ns: how long before that its first frame was captured, as the device reports
                it; None = it does not.
            monotonic_ns: the monotonic clock at some later moment.
            node_ns: the node's clock at that same moment.

        Returns:
            Its placement, or None while the clocks settle (a third of a second after opening):
            such a block cannot be stamped and is not published.
        """
        if self._node_clock.observe(monotonic_ns, node_ns):
            self.clock_steps += 1
        delay_ns = None if age_ns is None else -age_ns
        captured_ns = self._told.time_ns(frame, arrived_ns, delay_ns)
        jump_ns = self._device_clock.observe(frame, captured_ns)
        if not (self._node_clock.is_settled and self._device_clock.is_settled):
            return None

        captured_ns = self._device_clock.time_ns(frame)
        first_sample = self._first_sample(frame, captured_ns, jump_ns)
        self._next_frame = frame + n_frames
        self._next_sample = first_sample + n_frames
        self._next_ns = captured_ns + round(n_frames * _NS / self._rate_hz)
        return Placement(self._node_clock.time_ns(captured_ns), first_sample)

    def _first_sample(self, frame: int, captured_ns: int, jump_ns: int) -> int:
        if self._next_sample is None:
            return 0
        if self._next_frame is None:  # the first block after the device came back
            lost = round((captured_ns - self._next_ns) * self._rate_hz / _NS)
        else:
            lost = frame - self._next_frame + round(jump_ns * self._rate_hz / _NS)
        lost = max(lost, 0)  # the count never falls, even where stamps do
        self.lost_samples += lost
        return self._next_sample + lost
