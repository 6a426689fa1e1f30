# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The time in which motion is played: it runs steadily, even when the ROS clock is set.

    ROS time = motion time + shift_ns

Setting the ROS clock in mid-motion changes only `shift_ns`: the motion continues, the stamps
follow the clock. With simulated time the simulated clock is the time; a jump of it is recognized
by its rate, compared with a steady clock.

Responsible for motion time and the stamps that belong to it. Not for reading any clock.
"""

_SECOND_NS = 1_000_000_000
# Clocks that differ by less are read at slightly different moments, or slewed.
_SET_NS = 20_000_000
_READING_NS = 1_000_000
# NTP slews by at most 500 ppm; the stamps follow that fast, which no limit notices.
_SLEW = 2000
# A simulated clock jumps if it advances by this much more than its rate explains.
_JUMP_NS = 100_000_000
_MOST_CREDIT_NS = 500_000_000
_RATE_OVER_NS = 2 * _SECOND_NS  # the rate of simulated time is averaged over about this
_RATE_GROWS, _HIGHEST_RATE = 1.05, 100.0
_MANY_JUMPS = 3  # forward, look after look: not a clock that is set but a higher rate


class MotionClock:
    """
    Motion time from readings of the ROS clock and of a steady one.

    Attributes:
        shift_ns: ROS time minus motion time, as of the last reading.
    """

    def __init__(self):
        self.shift_ns = 0
        self._motion_ns = 0
        self._last = None  # (ROS time, steady time, is simulated)
        self._rate = 1.0  # of simulated time
        self._n_jumps = 0  # forward, at the last looks
        self._credit_ns = 0.0  # simulated time that may still come without being a jump

    def look(self, ros_ns: int, steady_ns: int, is_simulated: bool = False) -> int:
        """
        Take readings of both clocks, and return the motion time now; it does not decrease.

        Args:
            ros_ns: the ROS clock, which may be set at any time.
            steady_ns: a clock that is never set; motion time follows it.
            is_simulated: the ROS clock is simulated; motion time follows that one, but not
                where it jumps.
        """
        if self._last is None:
            self._motion_ns = ros_ns
        else:
            self._advance(ros_ns, steady_ns, is_simulated)
        self._last = (ros_ns, steady_ns, is_simulated)
        return self._motion_ns

    def skip(self, duration_ns: int) -> None:
        """Take back motion time of the last reading, in which nothing could be played."""
        self._motion_ns -= duration_ns
        self.shift_ns += duration_ns

    def _advance(self, ros_ns: int, steady_ns: int, is_simulated: bool) -> None:
        last_ros_ns, last_steady_ns, was_simulated = self._last
        elapsed_ns = max(steady_ns - last_steady_ns, 0)
        if is_simulated and was_simulated:
            elapsed_ns = self._simulated(ros_ns - last_ros_ns, elapsed_ns)
        self._motion_ns += elapsed_ns
        error_ns = ros_ns - self._motion_ns - self.shift_ns
        if is_simulated or abs(error_ns) >= _SET_NS:
            self.shift_ns += error_ns
        elif abs(error_ns) > _READING_NS:
            most_ns = elapsed_ns // _SLEW
            self.shift_ns += max(-most_ns, min(error_ns, most_ns))

    def _simulated(self, simulated_ns: int, steady_ns: int) -> int:
        """Return how much motion time passed while a simulated and a steady clock advanced."""
        expected_ns = self._rate * steady_ns
        self._credit_ns = min(self._credit_ns, _MOST_CREDIT_NS) + expected_ns
        if 0 <= simulated_ns <= self._credit_ns + _JUMP_NS:
            self._rate += (simulated_ns - expected_ns) / (_RATE_OVER_NS + steady_ns)
            self._credit_ns = max(self._credit_ns - simulated_ns, 0.0)
            self._n_jumps = 0
            return simulated_ns
        # No rate turns time back: a clock set back says nothing about its rate.
        self._n_jumps = self._n_jumps + 1 if simulated_ns > 0 else 0
        if self._n_jumps >= _MANY_JUMPS:
            self._rate = min(self._rate * _RATE_GROWS, _HIGHEST_RATE)
        self._credit_ns = 0.0
        return round(expected_ns)
