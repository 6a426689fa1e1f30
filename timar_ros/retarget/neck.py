# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A head's motion on a robot's neck: limited, smooth, always on the way to rest.

Once begun, the motion is one spline that is never broken: in every case only its future is
changed, by a program that keeps all limits (limit.py). So what is sent is inside position,
velocity, acceleration and jerk on every path:

    start      at rest where three samples agree that the joints are. How long a controller
               gets from wherever it is to there follows from the distance.
    plans      the closest motion inside the limits.
    elsewhere  three samples agree that a joint is not where it was sent (it is held, or moved by
               another): the motion leads from where it is to there, then back to the plans.
    stop       the velocity decays.
    late       a stream of targets that paused (a busy or stopped process) continues as if it had
               begun to stop when it paused.

Responsible for the motion in force and what replaces it. Not for clocks (motion_clock.py: times
here never decrease), nor for sending it (player.py).
"""

import dataclasses

import numpy as np

from timar_ros.retarget.feedback import Feedback
from timar_ros.retarget.head_target import Approach, HeadTarget
from timar_ros.retarget.in_force import InForce
from timar_ros.retarget.joint_check import HISTORY_NS, LAG_NS, JointCheck
from timar_ros.retarget.limit import Limiter
from timar_ros.retarget.neck_config import NeckConfig
from timar_ros.retarget.orientation import orientation_of
from timar_ros.retarget.robot import Robot
from timar_ros.retarget.spline import Spline
from timar_ros.retarget.trajectory import Trajectory, rest_to_rest_ns, trajectory_of

_MS = 1_000_000
# Frames older than this are forgotten: the motion ahead begins after now.
_FORGET_NS = 1_000 * _MS
# Where a controller stands is unknown before the first trajectory: about where the joints are.
_UNKNOWN_RAD = 0.35
# Joints that begin outside their range come in this far first, and never go out again.
_INSIDE_RAD = 0.02
# Controllers begin such a way one of their periods late and then hurry: a margin for that.
_FROM_LAST = 1.3


class Neck:
    """
    The motion of one robot's neck, from plans and measured joints to limited trajectories.

    Call `see_joints`, `push_plan`, `push_base` as they come, then `update(now)`; when it returns
    True the motion in force has changed: send `trajectory(now)`, or continue sampling
    `sample(now)`.

    Args:
        robot: its joints.
        config: how to follow.
        needs_feedback: start from measured joints and not before; False (a robot that reports
            none) starts from the joints' offsets.

    Attributes:
        feedback: the measured joints.
        failures: solutions that were not found; the motion in force continued.
    """

    def __init__(self, robot: Robot, config: NeckConfig, needs_feedback: bool = True):
        self.robot = robot
        self.config = config
        self.feedback = Feedback(robot)
        self.failures = 0
        self._needs_feedback = needs_feedback
        self._knot_ns = config.knot_ms * _MS
        self._limiter = Limiter(config.horizon_knots, config.knot_ms / 1000, config.smoothing_hz)
        self._target = HeadTarget(robot)
        self._check = JointCheck(robot, self.feedback)
        self._offset = np.array([joint.offset_rad for joint in robot.joints])
        self._velocity = np.array([joint.velocity_rad_s for joint in robot.joints])
        self._is_enabled = True
        self._now_ns = 0
        self._disabled_ns = 0
        self._in_force = self._before = InForce()

    @property
    def is_enabled(self) -> bool:
        """Whether plans are followed."""
        return self._is_enabled

    @property
    def has_begun(self) -> bool:
        """Whether there is a motion."""
        return self._in_force.spline is not None

    @property
    def is_stopping(self) -> bool:
        """Whether a requested stop waits for the controller to reach the first point."""
        return self._in_force.is_stopping and self.has_begun

    @property
    def restarts(self) -> int:
        """How often joints were not where they were sent."""
        return self._in_force.restarts

    @property
    def missing_joints(self) -> list[str]:
        """Joints that were never measured, when they must be before anything moves."""
        return self.feedback.missing if self._needs_feedback else []

    @property
    def arrives_by_ns(self) -> int:
        """Time by which a controller must have what the last update changed."""
        return self._in_force.arrives_by_ns

    def see_joints(self, names, positions, time_ns: int, arrived_ns: int | None = None) -> bool:
        """Take joint positions, rad, measured at a time, as `Feedback.add` does."""
        return self.feedback.add(names, positions, time_ns, arrived_ns)

    def push_plan(self, stamp_ns, neck, jaw_open_rad) -> None:
        """
        Take a plan: it replaces everything from its own first stamp on.

        Args:
            stamp_ns: integers `[n]`, increasing.
            neck: `[n, 4]` quaternions (x, y, z, w), REP-103 axes.
            jaw_open_rad: `[n]`, at least 0.

        Raises:
            ValueError: something is not finite, has a wrong shape or is out of order, or the plan
                is over; the motion in force continues.
        """
        self._target.push_plan(stamp_ns, neck, jaw_open_rad, self._now_ns)
        self._replace(is_new=True)

    def push_base(self, quaternion) -> None:
        """
        Take the orientation that the motion is an offset on (gaze tracking), `[4]` (x, y, z, w).

        Raises:
            ValueError: it is not a finite quaternion.
        """
        self._target.push_base(quaternion)
        self._replace(is_new=True)

    def enable(self, now_ns: int) -> None:
        """Follow plans from now on, gently."""
        if self._is_enabled:
            return
        self._is_enabled = True
        self._replace(is_stopping=False, is_new=True, is_lost=False)
        spline = self._in_force.spline
        if self.is_moving(now_ns):
            end = spline.sample(spline.end_ns)[0][0]
            self._replace(approach=Approach.from_rest(now_ns, end))
        elif spline is not None:  # another may have moved the head meanwhile
            left_ns = min(max(spline.end_ns, self._disabled_ns), now_ns)
            self._replace(spline=None, left_at=(left_ns, spline.sample(left_ns)[0][0]))

    def disable(self, now_ns: int | None = None) -> None:
        """
        Come to rest softly at the current pose, and ignore plans until enabled.

        Args:
            now_ns: the time; None: that of the last update.
        """
        if self._is_enabled:
            self._disabled_ns = self._now_ns if now_ns is None else now_ns
            self._replace(is_stopping=True)
        self._is_enabled = False

    def is_moving(self, now_ns: int) -> bool:
        """Whether the motion in force has not come to its end yet."""
        return self._in_force.is_moving(now_ns)

    def update(self, now_ns: int, lead_ns: int | None = None) -> bool:
        """
        Solve for the motion ahead if a plan, a base, a start, a stop or a measured joint needs it.

        Args:
            now_ns: the time, not before that of the update before.
            lead_ns: motion nearer than this is held fixed; None: as configured.

        Returns:
            Whether the motion in force changed.

        Raises:
            ValueError: a measured joint stands so far outside its limits that the robot's file
                must be wrong; nothing moves.
        """
        self._before = self._in_force
        self._now_ns = now_ns = max(now_ns, self._now_ns)
        lead_ns = self.config.lead_ms * _MS if lead_ns is None else lead_ns
        spline = self._in_force.spline
        if spline is not None and now_ns < spline.start_ns:
            return False  # a controller is on its way to the first point; it must not be replaced
        if self._in_force.is_stopping:
            self._replace(is_stopping=False)
            return self.is_moving(now_ns) and self._solve(now_ns + lead_ns, self._stop_target)
        if not self._is_enabled:
            return False
        if spline is not None and self._needs_feedback:
            elsewhere = self._follow_joints(now_ns)
            if self._in_force.is_lost:
                return elsewhere and self._solve(now_ns + lead_ns, self._stop_target)
        if not self._wants_solution(now_ns):
            return False
        if self._in_force.spline is None:
            if not self._begin(now_ns + lead_ns):
                return False
        elif not self.is_moving(now_ns) and not self._in_force.is_approaching(now_ns):
            position = self._in_force.spline.sample(now_ns)[0][0]
            self._replace(approach=Approach.from_rest(now_ns, position))
        self._replace(is_new=False)
        return self._solve(now_ns + lead_ns, self._plan_target)

    def undo(self) -> None:
        """Return to the motion before the last update: the change came too late to be sent."""
        self._in_force = dataclasses.replace(self._before, is_new=True)

    def play_late(self, played_ns: int, now_ns: int) -> bool:
        """Make what a paused stream did not play a stop; False: none was found, all stays."""
        was_stopping = self._in_force.is_stop and self.arrives_by_ns <= played_ns
        if was_stopping or self._in_force.rests_between(played_ns, now_ns):
            return True
        before, failures = self._in_force, self.failures
        self._solve(played_ns, self._stop_target)
        if self.failures > failures:
            self._in_force = before
            return False
        self._replace(is_new=before.is_new or self._is_enabled)
        return True

    def sample(self, time_ns) -> tuple[np.ndarray, ...] | None:
        """
        Return the motion in force at any times; None before there is one.

        Args:
            time_ns: one integer or `[T]`.

        Returns:
            Position, velocity, acceleration and jerk, each `[T, J]`, in rad and s.
        """
        return None if self._in_force.spline is None else self._in_force.spline.sample(time_ns)

    def orientation(self, now_ns: int) -> np.ndarray | None:
        """Return the head `[4]` (x, y, z, w): as commanded, else as measured, else None."""
        if self._in_force.spline is not None and (self._is_enabled or self.is_moving(now_ns)):
            return orientation_of(self.robot, self._in_force.spline.sample(now_ns)[0])[0]
        position = self.feedback.latest() if self._needs_feedback else self._offset
        return None if position is None else orientation_of(self.robot, position[None])[0]

    def trajectory(self, now_ns: int) -> Trajectory:
        """
        Return all remaining motion as points for a joint_trajectory_controller.

        A new trajectory replaces the controller's old one, so it holds the whole motion that is
        not played yet. It starts one point in the past: the controller then always interpolates
        between two of our points, whenever the message arrives.

        Raises:
            RuntimeError: there is no motion yet.
        """
        spline = self._in_force.spline
        if spline is None:
            raise RuntimeError('no motion yet; call update() first, and send when it returns True')
        if now_ns < spline.start_ns:
            return trajectory_of(spline, spline.first, now_ns)
        first = max(now_ns // self._knot_ns - 1, spline.first)
        return trajectory_of(spline, first, (first - 1) * self._knot_ns)

    def _replace(self, **changes) -> None:
        self._in_force = dataclasses.replace(self._in_force, **changes)

    def _wants_solution(self, now_ns: int) -> bool:
        spline, end_ns = self._in_force.spline, self._target.end_ns
        if spline is None:  # a plan that is over is no reason to begin
            return (end_ns is not None and end_ns >= now_ns) or self._target.has_base
        if self._in_force.is_new:
            return True
        if self._in_force.is_approaching(spline.end_ns):
            end_ns = max(end_ns or 0, self._in_force.approach.until_ns)
        # A way longer than the horizon: look again well before the motion in force slows down.
        is_longer = end_ns is not None and end_ns > spline.end_ns
        return is_longer and spline.end_ns - now_ns < self._horizon_ns // 2

    @property
    def _horizon_ns(self) -> int:
        return self.config.horizon_knots * self._knot_ns

    def _begin(self, arrival_ns: int) -> bool:
        now_ns = self._now_ns
        left_at = self._in_force.left_at
        reference = self._offset if left_at is None else left_at[1]
        position = self._check.start(now_ns, reference) if self._needs_feedback else reference
        if position is None:
            return False
        joints, unknown = self.robot.joints, np.full(len(position), _UNKNOWN_RAD)
        settle_ns = max(self.config.settle_ms * _MS, rest_to_rest_ns(joints, unknown))
        if left_at is not None:
            moved = np.abs(position - reference)
            if np.any(moved > self._velocity * (now_ns - left_at[0]) / 1e9):
                return False  # no joint gets there so soon
            settle_ns = max(settle_ns, int(_FROM_LAST * rest_to_rest_ns(joints, moved)))
        spline = Spline.rest(position, self._knot_after(arrival_ns + settle_ns), self._knot_ns)
        self._replace(
            spline=spline,
            approach=Approach.from_rest(spline.start_ns, position),
            checked_from_ns=spline.start_ns,
        )
        if np.any(self._target.clipped(position) != position):
            self._solve(spline.start_ns, lambda _, now: self._target.clipped(now[3:], _INSIDE_RAD))
        return True

    def _follow_joints(self, now_ns: int) -> bool:
        """
        Lead the motion to joints that are elsewhere; stop where they cannot be.

        Returns:
            Whether a stop is due.

        Raises:
            ValueError: a joint is still measured where it cannot be.
        """
        force = self._in_force
        seen = self._check.look(force.spline, now_ns, force.checked_from_ns, self.config.moved_rad)
        place = seen.elsewhere
        refusal = '' if place is None else self._check.refusal(place)
        if refusal and force.is_lost:
            raise ValueError(refusal)
        if refusal:
            self._replace(is_lost=True)
        elif place is not None:
            self._replace(restarts=force.restarts + 1)
            self._lead_to(place, now_ns)
        elif force.is_lost and seen.is_known:
            self._lead_to(force.spline.sample(now_ns)[0][0], now_ns)
        return bool(refusal)

    def _lead_to(self, place: np.ndarray, now_ns: int) -> None:
        """Lead the motion from where it is to `place` `[J]` and only then to the plans."""
        place = self._target.clipped(place)
        position = self._in_force.spline.sample(now_ns)[0][0]
        duration_ns = rest_to_rest_ns(self.robot.joints, np.abs(place - position))
        until_ns = now_ns + max(duration_ns, self.config.settle_ms * _MS)
        self._replace(
            approach=Approach(now_ns, position, until_ns, place),
            is_new=True,
            is_lost=False,
            # The joint is there before the motion is.
            checked_from_ns=until_ns + LAG_NS,
        )

    def _knot_after(self, time_ns: int) -> int:
        return -(-time_ns // self._knot_ns)

    def _solve(self, fixed_until_ns: int, wanted) -> bool:
        """Replace the motion from the first knot after a time on by the closest to `wanted`."""
        spline = self._in_force.spline
        knot = max(self._knot_after(fixed_until_ns), spline.first)
        previous = spline.window(knot, self.config.horizon_knots + 3)
        target = wanted(knot, previous)
        control = previous.copy()
        for i, joint in enumerate(self.robot.joints):
            solved = self._limiter.solve(joint, previous[:, i], target[:, i])
            if solved is None:  # the motion in force continues, to its rest
                self.failures += 1
            else:
                control[:, i] = solved
        # What was played lately stays, to compare the joints with.
        keep_from = max(spline.first, (self._now_ns - HISTORY_NS) // self._knot_ns - 1)
        keep_from = min(keep_from, knot)
        spline, is_stop = spline.joined(keep_from, knot, control), wanted == self._stop_target
        self._replace(spline=spline, is_stop=is_stop)
        self._replace(arrives_by_ns=self._knot_after(fixed_until_ns) * self._knot_ns)
        self._target.forget_before(self._now_ns - _FORGET_NS)
        return True

    def _stop_target(self, knot: int, previous: np.ndarray) -> np.ndarray:
        """Return positions `[N, J]` of a velocity that decays from knot `knot` on."""
        position, velocity, _ = self._in_force.spline.knots(knot, knot)
        decay_s = self.config.stop_ms / 1000
        ahead_s = np.arange(1, self.config.horizon_knots + 1)[:, None] * self.config.knot_ms / 1000
        target = position + velocity * decay_s * (1 - np.exp(-ahead_s / decay_s))
        return self._target.clipped(target)

    def _plan_target(self, knot: int, previous: np.ndarray) -> np.ndarray:
        """Return the positions `[N, J]` that plans and base want at the knots after `knot`."""
        time_ns = (knot + np.arange(1, self.config.horizon_knots + 1)) * self._knot_ns
        in_force = (previous[1:-2] + 4 * previous[2:-1] + previous[3:]) / 6
        end_ns = self._target.end_ns
        if self._target.has_base or (end_ns is not None and end_ns >= self._now_ns):
            target = self._target.joints(time_ns, in_force, self.config.gain)
        else:  # no plan, or one that is over: stay
            is_approaching = self._in_force.is_approaching(self._now_ns)
            target = self._in_force.approach.place if is_approaching else in_force[-1]
            target = np.broadcast_to(target, in_force.shape)
        if self._in_force.approach is None:
            return target
        return self._in_force.approach.blended(target, time_ns, self.config.glide_ms * _MS)
