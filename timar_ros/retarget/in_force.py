# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The motion that a neck plays, as one value that an update replaces and can take back.

Responsible for keeping together what belongs together. Not for deciding anything.
"""

import dataclasses

from timar_ros.retarget.head_target import Approach
from timar_ros.retarget.spline import Spline


@dataclasses.dataclass(frozen=True)
class InForce:
    """
    The current motion and its state.

    Attributes:
        spline: the motion; None before there is one.
        arrives_by_ns: time up to which the last solution kept the motion before it, or from which
            on a controller has enough time to the first point.
        is_stop: the last solution is a stop.
        approach: transition from where the motion started to the plans.
        is_new: something came since the last solution.
        is_stopping: a stop was requested and is not solved yet.
        is_lost: at rest, because joints are measured where they cannot be.
        checked_from_ns: samples of joints before this time prove nothing.
        left_at: (time, positions) where a motion ended and other nodes may command the joints.
        restarts: how often joints were not where they were sent.
    """

    spline: Spline | None = None
    arrives_by_ns: int = 0
    is_stop: bool = False
    approach: Approach | None = None
    is_new: bool = False
    is_stopping: bool = False
    is_lost: bool = False
    checked_from_ns: int = 0
    left_at: tuple | None = None
    restarts: int = 0

    def is_moving(self, time_ns: int) -> bool:
        """Whether there is a motion, and it has not come to its end by a time."""
        return self.spline is not None and time_ns < self.spline.end_ns

    def is_approaching(self, time_ns: int) -> bool:
        """Whether a time lies before the pause of the approach."""
        return self.approach is not None and time_ns < self.approach.until_ns

    def rests_between(self, begin_ns: int, end_ns: int) -> bool:
        """Whether nothing moves between two times."""
        first = begin_ns // self.spline.knot_ns
        window = self.spline.window(first, -(-end_ns // self.spline.knot_ns) - first + 3)
        return bool((window == window[0]).all())
