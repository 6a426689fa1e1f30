# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Joint motion as a uniform cubic B-spline, and the quintic that a controller plays between points.

Why a cubic spline, when the controller plays quintics: the quintic through position, velocity and
acceleration at both ends of an interval is unique, so sent the knots of a cubic spline it
reproduces the cubic. Then what holds for the spline holds for what the joints do, not only at
the knots:

    jerk           is constant in an interval:  (c[k+2] - 3 c[k+1] + 3 c[k] - c[k-1]) / h^3
    acceleration   is linear:    its values at the knots bound it
    velocity       is a parabola:    its B-spline coefficients (c[k+1] - c[k]) / h bound it
    position       is a mean of control points:    the least and the greatest of them bound it

Knows knots and control points; knows nothing of limits, robots or ROS.
"""

import dataclasses

import numpy as np

# Rows: powers of the time since knot k, in periods. Columns: control points c[k-1] .. c[k+2].
_BASIS = np.array([[1, 4, 1, 0], [-3, 0, 3, 0], [3, -6, 3, 0], [-1, 3, -3, 1]], np.float64) / 6


@dataclasses.dataclass(frozen=True)
class Spline:
    """
    The motion of J joints between knots on a global grid.

    Attributes:
        first: index of the first knot; knot k is at k * knot_ns.
        knot_ns: time between two knots.
        control: `[n, J]` rad; row i is control point first + i - 1. The knots go from first to
            first + n - 3; before and after, the motion rests if the points there are equal.
    """

    first: int
    knot_ns: int
    control: np.ndarray

    @classmethod
    def rest(cls, position: np.ndarray, first: int, knot_ns: int) -> 'Spline':
        """Return the motion that stays at `position` `[J]` from knot `first` on."""
        return cls(first, knot_ns, np.tile(np.asarray(position, np.float64), (4, 1)))

    @property
    def last(self) -> int:
        """Index of the last knot; from there on the joints rest."""
        return self.first + len(self.control) - 3

    @property
    def start_ns(self) -> int:
        """Time of the first knot."""
        return self.first * self.knot_ns

    @property
    def end_ns(self) -> int:
        """Time of the last knot."""
        return self.last * self.knot_ns

    def window(self, knot: int, n_points: int) -> np.ndarray:
        """Return `n_points` control points from knot - 1 on, `[n_points, J]`, rests included."""
        rows = np.arange(knot - self.first, knot - self.first + n_points)
        return self.control[np.clip(rows, 0, len(self.control) - 1)]

    def joined(self, keep_from: int, knot: int, control: np.ndarray) -> 'Spline':
        """
        Return this motion from knot `keep_from` to `knot`, and `control` from there on.

        Args:
            keep_from: first knot of the new motion, at most `knot`.
            knot: where the new control points begin.
            control: `[n, J]` control points from knot - 1 on; the first three must be this
                motion's, so that position, velocity and acceleration go on.
        """
        kept = self.window(keep_from, knot - keep_from)
        return Spline(keep_from, self.knot_ns, np.concatenate([kept, control]))

    def knots(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return the motion at knots `first` .. `last`.

        Returns:
            Position, velocity and acceleration, each `[last - first + 1, J]`: rad, rad/s, rad/s^2.
        """
        c = self.window(first, last - first + 3)
        h = self.knot_ns / 1e9
        position = (c[:-2] + 4 * c[1:-1] + c[2:]) / 6
        velocity = (c[2:] - c[:-2]) / (2 * h)
        acceleration = (c[2:] - 2 * c[1:-1] + c[:-2]) / h**2
        return position, velocity, acceleration

    def sample(self, time_ns: np.ndarray) -> tuple[np.ndarray, ...]:
        """
        Return the motion at any times.

        Args:
            time_ns: integers `[T]`.

        Returns:
            Position, velocity, acceleration and jerk, each `[T, J]`, in rad and s.
        """
        time_ns = np.atleast_1d(np.asarray(time_ns, np.int64))
        knot = time_ns // self.knot_ns
        u = (time_ns - knot * self.knot_ns) / self.knot_ns
        rows = (knot - self.first)[:, None] + np.arange(4)
        points = self.control[np.clip(rows, 0, len(self.control) - 1)]  # [T, 4, J]
        return _derivatives(np.einsum('pc,tcj->tpj', _BASIS, points), u, self.knot_ns / 1e9)


def quintic(start: np.ndarray, end: np.ndarray, duration_s: float, time_s: np.ndarray):
    """
    Interpolate as joint_trajectory_controller does between two points with accelerations.

    Args:
        start: `[3, J]` position, velocity, acceleration.
        end: likewise.
        duration_s: between them.
        time_s: `[T]` since the start.

    Returns:
        Position, velocity, acceleration and jerk, each `[T, J]`.

    Source: ros2_controllers, `Trajectory::interpolate_between_points`, written in units of the
        interval.
    """
    h = duration_s
    p0, v0, a0 = start[0], start[1] * h, start[2] * h * h
    p1, v1, a1 = end[0], end[1] * h, end[2] * h * h
    d = p1 - p0
    coefficients = np.stack([
        p0, v0, a0 / 2,
        10 * d - 6 * v0 - 4 * v1 - 1.5 * a0 + 0.5 * a1,
        -15 * d + 8 * v0 + 7 * v1 + 1.5 * a0 - a1,
        6 * d - 3 * (v0 + v1) + 0.5 * (a1 - a0),
    ])  # fmt: skip
    u = np.atleast_1d(time_s) / h
    return _derivatives(np.broadcast_to(coefficients, (len(u), *coefficients.shape)), u, h)


def _derivatives(coefficients: np.ndarray, u: np.ndarray, h: float) -> tuple[np.ndarray, ...]:
    """Evaluate polynomials `[T, P, J]` in u `[T]` and their first three derivatives in time."""
    results = []
    for order in range(4):
        powers = np.arange(coefficients.shape[1])
        value = np.einsum('tpj,tp->tj', coefficients, u[:, None] ** powers)
        results.append(value / h**order)
        coefficients = coefficients[:, 1:] * powers[1:, None]
    return tuple(results)
