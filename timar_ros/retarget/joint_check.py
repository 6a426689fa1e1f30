# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Measured joints against what was sent: where a motion may begin, and whether joints follow it.

Responsible for comparing. Not for what the motion does about the result.
"""

import dataclasses

import numpy as np

from timar_ros.retarget.feedback import Feedback, nearest_turn
from timar_ros.retarget.robot import Robot
from timar_ros.retarget.spline import Spline

_MS = 1_000_000
# A joint measured this far outside its limits means a wrong sign or offset, not play.
_MAX_OUTSIDE_RAD = 0.2
# A joint may be where it was sent at any time since then: servos lag.
LAG_NS = 400 * _MS
# Motion played is kept this long; samples older than this minus the lag prove nothing.
HISTORY_NS = 2_000 * _MS


@dataclasses.dataclass(frozen=True)
class Whereabouts:
    """
    Whether the joints are where they were sent, as far as measurements prove it.

    Attributes:
        is_known: every joint was measured often and recently enough.
        elsewhere: measured positions `[J]` rad if a joint is certainly not where it was sent.
    """

    is_known: bool
    elsewhere: np.ndarray | None = None


class JointCheck:
    """
    Compare the measured joints of a robot with its motion.

    Args:
        robot: its joints.
        feedback: what was measured.
    """

    def __init__(self, robot: Robot, feedback: Feedback):
        self._robot = robot
        self._feedback = feedback
        self._lower = np.array([joint.lower_rad for joint in robot.joints])
        self._upper = np.array([joint.upper_rad for joint in robot.joints])
        self._is_continuous = np.array([joint.is_continuous for joint in robot.joints])

    def start(self, now_ns: int, reference: np.ndarray) -> np.ndarray | None:
        """
        Return where a motion may begin, `[J]` rad; None while too few samples agree.

        Args:
            now_ns: the time.
            reference: `[J]` rad; continuous joints are taken in the turn nearest to it.

        Raises:
            ValueError: a joint stands too far outside its range.
        """
        position = self._feedback.at_rest(now_ns)
        if position is None:
            return None
        position = np.where(self._is_continuous, nearest_turn(position, reference), position)
        refusal = self.refusal(position)
        if refusal:
            raise ValueError(refusal)
        return position

    def look(self, spline: Spline, now_ns: int, since_ns: int, slack_rad: float) -> Whereabouts:
        """
        Compare the joints with what was sent around the time of each measurement.

        Args:
            spline: what was sent, for the last `HISTORY_NS`.
            now_ns: the time.
            since_ns: samples before this time do not count.
            slack_rad: a joint may be this far from where it was sent.
        """
        since_ns = max(since_ns, now_ns - HISTORY_NS + LAG_NS)
        believed = self._feedback.believed(now_ns, since_ns)
        place, knot_ns = spline.sample(now_ns)[0][0], spline.knot_ns
        is_elsewhere = False
        for i, samples in enumerate(believed):
            if samples is None:
                continue
            times, measured, delay_ns = samples
            # A robot's clock may be behind: what it measured until the arrival bears this stamp.
            lags = np.arange(-(delay_ns // knot_ns) * knot_ns, LAG_NS + 1, knot_ns)
            sent = spline.sample((times[:, None] - lags).ravel())[0][:, i]
            sent = sent.reshape(len(times), len(lags))
            if self._is_continuous[i]:
                measured = nearest_turn(measured, sent[:, lags == 0][:, 0])
            low, high = sent.min(axis=1) - slack_rad, sent.max(axis=1) + slack_rad
            if ((measured < low) | (measured > high)).all():
                is_elsewhere = True
                place[i] = np.median(measured)
        is_known = all(samples is not None for samples in believed)
        return Whereabouts(is_known, place if is_elsewhere else None)

    def refusal(self, position: np.ndarray) -> str:
        """Return why the joints cannot be at `position` `[J]` rad; empty if they can."""
        outside = np.maximum(position - self._upper, self._lower - position)
        worst = int(np.argmax(outside))
        if outside[worst] <= _MAX_OUTSIDE_RAD:
            return ''
        joint = self._robot.joints[worst]
        return (
            f'{joint.name} is measured at {position[worst]:.3f} rad, its limits are '
            f'[{joint.lower_rad}, {joint.upper_rad}]; correct position_rad in the file of robot '
            f'{self._robot.name} (or set continuous: true for a joint without stops), or bring '
            'the joint into its range by hand'
        )
