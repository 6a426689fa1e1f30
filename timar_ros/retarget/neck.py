# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A head's motion on a robot's neck: limited, smooth, always on the way to rest.

Knows what the plans want, what the joints do, and which motion is in force. Has no clock and no
ROS: whoever holds it says what time it is.
"""

import dataclasses

import numpy as np

from timar_ros.retarget.frames import NEUTRAL, HeadFrames, unit_quaternion
from timar_ros.retarget.limit import Limiter
from timar_ros.retarget.orientation import joints_of, orientation_of, scaled, turned
from timar_ros.retarget.robot import Robot
from timar_ros.retarget.spline import Spline
from timar_ros.retarget.trajectory import Trajectory, trajectory_of

_MS = 1_000_000
# Frames older than this are forgotten: the motion ahead begins after now.
_FORGET_NS = 1_000_000_000
# A clock that steps back further than this was reset; less is jitter between machines.
_JUMP_NS = 1_000_000_000
# A joint measured this far outside its limits means a wrong sign or offset, not play.
_MAX_OUTSIDE_RAD = 0.2
# A joint measured longer ago may be anywhere now.
_FRESH_NS = 1_000_000_000
# A joint may be where it was sent at any time since then: servos lag.
_LAG_NS = 400_000_000


@dataclasses.dataclass(frozen=True)
class NeckConfig:
    """
    How a neck follows. Times in ms.

    Attributes:
        knot_ms: between two points of a trajectory; 40 is a frame of 25 fps.
        horizon_knots: points ahead that are found at once.
        lead_ms: what a solution takes to reach the joints; motion nearer than that is held fixed.
        settle_ms: from the measured position to the first point, at rest, when the neck takes
            over.
        glide_ms: over which a motion that begins at rest takes over from it.
        stop_ms: time constant of the velocity after a stop.
        smoothing_hz: motion of this frequency comes out half as large (without delay).
        gain: scales the head's rotation; 1 is as planned.
        moved_rad: a joint further from where it was sent is held, or moved by another: the neck
            starts again from where it stands.
    """

    knot_ms: int = 40
    horizon_knots: int = 50
    lead_ms: int = 40
    settle_ms: int = 500
    glide_ms: int = 800
    stop_ms: int = 150
    smoothing_hz: float = 8.0
    gain: float = 1.0
    moved_rad: float = 0.15


class Neck:
    """
    The motion of one robot's neck, from plans and measured joints to limited trajectories.

    Call `see_joints`, `push_plan`, `push_base` as they come, then `update(now)`; when it returns
    True the motion in force has changed: send `trajectory(now)`, or go on sampling `sample(now)`.

    Args:
        robot: its joints.
        config: how to follow.
        needs_feedback: start from measured joints and not before; False (a robot that reports
            none) starts from the joints' offsets.

    Attributes:
        failures: solutions that were not found; the motion in force went on.
        restarts: how often joints stood elsewhere than they were sent.
    """

    def __init__(self, robot: Robot, config: NeckConfig, needs_feedback: bool = True):
        self.robot = robot
        self.config = config
        self.failures = 0
        self.restarts = 0
        self._needs_feedback = needs_feedback
        self._knot_ns = config.knot_ms * _MS
        knot_s = config.knot_ms / 1000
        self._limiter = Limiter(config.horizon_knots, knot_s, config.smoothing_hz)
        self._lower = np.array([joint.lower_rad for joint in robot.joints])
        self._upper = np.array([joint.upper_rad for joint in robot.joints])
        self._is_enabled = True
        self.reset()

    def reset(self) -> None:
        """Forget plans, measured joints and the motion in force; for a clock that jumped back."""
        self._measured = {}  # name -> (position, time)
        self._frames = HeadFrames.none()
        self._base = None  # orientation that the motion is an offset on
        self._is_new = False  # something came since the last solution
        self._is_stopping = False
        self._spline = None  # the motion in force
        self._changed_from = 0  # knot up to which the last solution kept the motion before it
        self._glide_from = None  # (time, joints): where the motion began at rest
        self._updated_ns = 0

    @property
    def is_enabled(self) -> bool:
        """Whether plans are followed."""
        return self._is_enabled

    @property
    def missing_joints(self) -> list[str]:
        """Joints that were never measured, when they must be before anything moves."""
        if not self._needs_feedback:
            return []
        return [name for name in self.robot.joint_names if name not in self._measured]

    def see_joints(self, names, positions, now_ns: int) -> None:
        """Take measured joint positions, rad; joints that are not ours and NaN are passed over."""
        for name, position in zip(names, positions, strict=False):
            if name in self.robot.joint_names and np.isfinite(position):
                self._measured[name] = (float(position), now_ns)

    def push_plan(self, stamp_ns, neck, jaw_open_rad) -> None:
        """
        Take a plan: it replaces everything from its own first stamp on.

        Args:
            stamp_ns: integers `[n]`, increasing.
            neck: `[n, 4]` quaternions (x, y, z, w), REP-103 axes.
            jaw_open_rad: `[n]`, at least 0.

        Raises:
            ValueError: something is not finite, has a wrong shape or is out of order; the motion
                in force goes on.
        """
        newer = HeadFrames.checked(stamp_ns, neck, jaw_open_rad)
        self._frames = self._frames.replaced_by(newer)
        self._is_new = True

    def push_base(self, quaternion) -> None:
        """
        Take the orientation that the motion is an offset on (gaze tracking), `[4]` (x, y, z, w).

        Raises:
            ValueError: it is not a finite quaternion.
        """
        self._base = unit_quaternion(np.asarray(quaternion, np.float64), 'base orientation')
        self._is_new = True

    def enable(self, now_ns: int) -> None:
        """Follow plans from now on, gently."""
        if self._is_enabled:
            return
        self._is_enabled = True
        self._is_stopping = False
        self._is_new = True
        if self.is_moving(now_ns):
            self._glide_from = (now_ns, self._spline.sample(self._spline.end_ns)[0][0])
        else:
            self._spline = None  # another may have moved the head meanwhile

    def disable(self) -> None:
        """Come to rest softly where the head is, and follow nothing until enabled."""
        self._is_stopping = self._is_stopping or self._is_enabled
        self._is_enabled = False

    def is_moving(self, now_ns: int) -> bool:
        """Whether the motion in force has not come to its end yet."""
        return self._spline is not None and now_ns < self._spline.end_ns

    def update(self, now_ns: int) -> bool:
        """
        Find the motion ahead anew, if there is a reason to.

        Returns:
            Whether the motion in force changed.

        Raises:
            ValueError: a measured joint stands so far outside its limits that the robot's file
                must be wrong; nothing moves.
        """
        if now_ns < self._updated_ns - _JUMP_NS:
            self.reset()
        self._updated_ns = now_ns
        if self._is_stopping:
            self._is_stopping = False
            return self.is_moving(now_ns) and self._solve(now_ns, self._stop_target)
        if not self._is_enabled:
            return False
        if self._spline is not None and self._is_elsewhere(now_ns):
            self.restarts += 1
            self._spline = None
        if not self._wants_solution(now_ns):
            return False
        if self._spline is None:
            if not self._knows_joints(now_ns):
                return False
            self._begin(now_ns)
        elif not self.is_moving(now_ns):
            self._glide_from = (now_ns, self._spline.sample(now_ns)[0][0])
        self._is_new = False
        return self._solve(now_ns, self._plan_target)

    def _wants_solution(self, now_ns: int) -> bool:
        if self._spline is None:  # a plan that is over is no reason to begin
            is_ahead = len(self._frames) and self._frames.stamp_ns[-1] >= now_ns
            return bool(is_ahead) or self._base is not None
        if self._is_new or not len(self._frames):
            return self._is_new
        # A plan longer than the horizon: look again well before the motion in force slows down.
        is_longer = self._frames.stamp_ns[-1] > self._spline.end_ns
        return is_longer and self._spline.end_ns - now_ns < self._horizon_ns // 2

    @property
    def _horizon_ns(self) -> int:
        return self.config.horizon_knots * self._knot_ns

    def _position_measured(self) -> np.ndarray:
        if not self._needs_feedback:
            return np.array([joint.offset_rad for joint in self.robot.joints])
        return np.array([self._measured[name][0] for name in self.robot.joint_names])

    def _knows_joints(self, now_ns: int) -> bool:
        if self.missing_joints or not self._needs_feedback:
            return not self._needs_feedback
        return now_ns - min(seen_ns for _, seen_ns in self._measured.values()) < _FRESH_NS

    def _is_elsewhere(self, now_ns: int) -> bool:
        has_settled = now_ns >= self._spline.start_ns + self.config.settle_ms * _MS
        if not (self._needs_feedback and has_settled and self._knows_joints(now_ns)):
            return False
        sent = self._spline.sample(now_ns - np.arange(0, _LAG_NS + 1, self._knot_ns))[0]
        measured, slack = self._position_measured(), self.config.moved_rad
        is_near = (measured >= sent.min(axis=0) - slack) & (measured <= sent.max(axis=0) + slack)
        return not is_near.all()

    def _begin(self, now_ns: int) -> None:
        position = self._position_measured()
        outside = np.maximum(position - self._upper, self._lower - position)
        worst = int(np.argmax(outside))
        if outside[worst] > _MAX_OUTSIDE_RAD:
            joint = self.robot.joints[worst]
            raise ValueError(
                f'{joint.name} is measured at {position[worst]:.3f} rad, its limits are '
                f'[{joint.lower_rad}, {joint.upper_rad}]; correct position_rad in the file of '
                f'robot {self.robot.name}, or bring the joint into its range by hand'
            )
        first = self._knot_after(now_ns + self.config.settle_ms * _MS)
        self._spline = Spline.rest(position, first, self._knot_ns)
        self._glide_from = (self._spline.start_ns, position)

    def _knot_after(self, time_ns: int) -> int:
        return -(-time_ns // self._knot_ns)

    def _solve(self, now_ns: int, wanted) -> bool:
        knot = max(self._knot_after(now_ns + self.config.lead_ms * _MS), self._spline.first)
        previous = self._spline.window(knot, self.config.horizon_knots + 3)
        target = wanted(knot, previous)
        control = previous.copy()
        for i, joint in enumerate(self.robot.joints):
            solved = self._limiter.solve(joint, previous[:, i], target[:, i])
            if solved is None:  # the motion in force goes on, to its rest
                self.failures += 1
            else:
                control[:, i] = solved
        # What was played lately stays, to compare the joints with.
        keep_from = max(self._spline.first, (now_ns - _LAG_NS) // self._knot_ns - 1)
        keep_from = min(keep_from, knot)
        self._spline = self._spline.joined(keep_from, knot, control)
        self._changed_from = knot
        self._frames = self._frames.since(now_ns - _FORGET_NS)
        return True

    def _stop_target(self, knot: int, previous: np.ndarray) -> np.ndarray:
        """Return positions `[N, J]` of a velocity that decays from knot `knot` on."""
        position, velocity, _ = self._spline.knots(knot, knot)
        decay_s = self.config.stop_ms / 1000
        ahead_s = np.arange(1, self.config.horizon_knots + 1)[:, None] * self.config.knot_ms / 1000
        target = position + velocity * decay_s * (1 - np.exp(-ahead_s / decay_s))
        return np.clip(target, self._lower, self._upper)

    def _plan_target(self, knot: int, previous: np.ndarray) -> np.ndarray:
        """Return the positions `[N, J]` that plans and base want at the knots after `knot`."""
        time_ns = (knot + np.arange(1, self.config.horizon_knots + 1)) * self._knot_ns
        frames = self._frames
        if not len(frames):  # a base alone: look along it
            frames = HeadFrames(time_ns[:1], NEUTRAL[None], np.zeros(1))
        neck = scaled(frames.neck, self.config.gain)
        if self._base is not None:
            neck = turned(self._base, neck)
        joints = joints_of(self.robot, neck, frames.jaw_open_rad)
        origin = int(frames.stamp_ns[0])
        at_s, stamp_s = (time_ns - origin) / 1e9, (frames.stamp_ns - origin) / 1e9
        target = np.stack([np.interp(at_s, stamp_s, column) for column in joints.T], axis=1)
        target = np.clip(target, self._lower, self._upper)
        # Before the plan's first frame there is no wish: what is in force goes on.
        in_force = (previous[1:-2] + 4 * previous[2:-1] + previous[3:]) / 6
        target = np.where((time_ns < origin)[:, None], in_force, target)
        if self._glide_from is not None:
            since_ns, position = self._glide_from
            x = np.clip((time_ns - since_ns) / (self.config.glide_ms * _MS), 0.0, 1.0)[:, None]
            target = position + x**3 * (10 - 15 * x + 6 * x**2) * (target - position)
        return target

    def sample(self, time_ns) -> tuple[np.ndarray, ...] | None:
        """
        Return the motion in force at any times; None before there is one.

        Args:
            time_ns: one integer or `[T]`.

        Returns:
            Position, velocity, acceleration and jerk, each `[T, J]`, in rad and s.
        """
        return None if self._spline is None else self._spline.sample(time_ns)

    def orientation(self, now_ns: int) -> np.ndarray | None:
        """Return the head `[4]` (x, y, z, w): as commanded, else as measured, else None."""
        if self._spline is not None and (self._is_enabled or self.is_moving(now_ns)):
            return orientation_of(self.robot, self._spline.sample(now_ns)[0])[0]
        if self.missing_joints:
            return None
        return orientation_of(self.robot, self._position_measured()[None])[0]

    def trajectory(self, now_ns: int, is_spliced: bool = False) -> Trajectory:
        """
        Return the motion in force as points for a joint_trajectory_controller.

        Args:
            now_ns: the time.
            is_spliced: the controller keeps its old trajectory up to the stamp of the new one
                (Lyrical and later): only what changed is sent, and the stamp lies ahead. Otherwise
                (Humble to Kilted) it forgets the old one at once: the unplayed rest is sent with
                it, beginning before now, so that the controller finds itself between two of our
                points whenever the message arrives, whatever it interpolates from.

        Raises:
            RuntimeError: there is no motion yet.
        """
        if self._spline is None:
            raise RuntimeError('no motion yet; call update() first, and send when it returns True')
        spline = self._spline
        begins_ns = max(
            spline.start_ns - self.config.settle_ms * _MS, now_ns + self.config.lead_ms * _MS
        )
        if begins_ns < spline.start_ns:
            return trajectory_of(spline, spline.first, begins_ns)
        first = self._changed_from + 1 if is_spliced else now_ns // self._knot_ns - 1
        first = max(first, spline.first)
        return trajectory_of(spline, first, (first - 1) * self._knot_ns)
