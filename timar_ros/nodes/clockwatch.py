# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A clock that was set, told from one that runs: by a second clock that is never set.

Knows numbers only. A machine without a battery begins in 1970 and is set to today later on.
"""

import time

# Clocks are slewed by less than this between two looks, and set by more.
BACKWARD_NS = 50_000_000
# The head skips a shorter time without a jump that shows.
FORWARD_NS = 500_000_000


class ClockWatch:
    """
    Compare a clock with the steady one.

    Args:
        now_ns: what the clock says now.
        steady_ns: reads the steady clock.
    """

    def __init__(self, now_ns: int, steady_ns=time.monotonic_ns):
        self._steady_ns = steady_ns
        self._last = (now_ns, steady_ns())

    def look(self, now_ns: int) -> int:
        """
        Look again.

        Args:
            now_ns: what the clock says now.

        Returns:
            by how much it was set since the last look, ns; 0 if it was not.
        """
        then_ns, then_steady_ns = self._last
        self._last = (now_ns, self._steady_ns())
        step_ns = now_ns - then_ns - (self._last[1] - then_steady_ns)
        return 0 if -BACKWARD_NS < step_ns < FORWARD_NS else step_ns
