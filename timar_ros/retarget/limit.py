# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The closest motion of one joint inside its limits: a quadratic program over the motion ahead.

The unknowns are the control points of a cubic B-spline (spline.py), so the limits hold at every
instant, not only at knots. Time is in knot periods here; bounds are scaled into it.

Responsible for one motion inside one joint's limits. Not for what is wanted or when.

    c[0] c[1] c[2] | c[3] ........ c[N] | = c[N] = c[N]
    fixed: position,  the unknowns        at rest at the end: velocity and
    velocity and                          acceleration are zero
    acceleration
    at knot 0
"""

import numpy as np
import piqp
from scipy import sparse

from timar_ros.retarget.robot import Joint

# The solver stays this much inside the limits, so that its own tolerance does not cross them.
_MARGIN = 1e-4
_TOLERANCE = 1e-8
_ROUNDING = 1e-12
_LARGEST_RANGE_RAD = 100.0


class Limiter:
    """
    Solves for one motion after another; all have the same number of knots.

    Args:
        n_knots: N, knots ahead.
        knot_s: time between two knots.
        smoothing_hz: motion of this frequency comes out half as large, faster motion smaller
            still.

    The objective is sum (position - target)^2 + w * sum jerk^2: a smoothing spline. It sees the
    past and the future alike, so it adds no delay.
    """

    def __init__(self, n_knots: int, knot_s: float, smoothing_hz: float):
        if n_knots < 8:
            raise ValueError(f'n_knots must be at least 8, got {n_knots}')
        if not 0 < smoothing_hz < 0.5 / knot_s:
            raise ValueError(
                f'smoothing_hz must lie between 0 and half the knot rate, {0.5 / knot_s:g}, got '
                f'{smoothing_hz}'
            )
        self.n_knots = n_knots
        self.knot_s = knot_s
        n = n_knots + 3
        difference = [np.diff(np.eye(n), order, axis=0) for order in range(4)]
        self._rows = np.concatenate([difference[3], difference[2][1:], difference[1][2:]])
        self._n_rows = [len(difference[3]), len(difference[2]) - 1, len(difference[1]) - 2]
        omega = 2 * np.pi * smoothing_hz * knot_s
        weight = ((4 + 2 * np.cos(omega)) / 6) ** 2 / (2 * np.sin(omega / 2)) ** 6
        at_knots = (difference[0][:-2] + 4 * difference[0][1:-1] + difference[0][2:]) / 6
        quadratic = 2 * (at_knots[1:].T @ at_knots[1:] + weight * difference[3].T @ difference[3])
        # All control points = fixed @ c[:3] + free @ unknowns.
        self._free = np.zeros((n, n_knots - 2))
        self._free[3 : n_knots + 1] = np.eye(n_knots - 2)
        self._free[n_knots + 1 :, -1] = 1.0
        self._hessian = self._free.T @ quadratic @ self._free
        self._from_fixed = self._free.T @ quadratic[:, :3]
        self._from_target = -2 * self._free.T @ at_knots[1:].T
        # A row that only sees points held equal is zero: the solver wants none of those.
        free_rows = self._rows @ self._free
        self._used = np.abs(free_rows).max(axis=1) > 0
        self._constraints = free_rows[self._used]
        self._inverse = np.linalg.inv(self._hessian)
        self._solver = None

    def bounds(self, joint: Joint) -> np.ndarray:
        """
        Return the largest absolute third, second and first differences of control points.

        These are jerk, acceleration and velocity times knot_s³, knot_s² and knot_s, one per row.
        """
        limits = (
            joint.jerk_rad_s3 * self.knot_s**3,
            joint.acceleration_rad_s2 * self.knot_s**2,
            joint.velocity_rad_s * self.knot_s,
        )
        return np.repeat(limits, self._n_rows)

    def solve(self, joint: Joint, previous: np.ndarray, target: np.ndarray) -> np.ndarray | None:
        """
        Find the closest motion inside the limits.

        The motion in force, gone on with to its rest, is always one that is allowed: where it
        breaks a limit (a joint that stands outside its range) the limit gives way that far and
        no further. So there is always a solution, and it is never worse than what is in force.

        Args:
            joint: its limits.
            previous: `[N + 3]` control points in force, from the one before knot 0 on; the first
                three are kept.
            target: `[N]` rad, wanted positions at knots 1 .. N.

        Returns:
            `[N + 3]` control points, at rest at the end; None where the solver found none.
        """
        previous = np.asarray(previous, np.float64)
        fixed = previous[:3]
        bound = self.bounds(joint)
        row_before = self._rows @ previous
        inner = (1 - _MARGIN) * bound
        offset = self._rows[:, :3] @ fixed
        upper = (np.maximum(inner, row_before) - offset)[self._used]
        lower = (np.minimum(-inner, row_before) - offset)[self._used]
        before = previous[3 : self.n_knots + 1]
        # A joint without stops has an infinite range.
        inset = _MARGIN * min(joint.upper_rad - joint.lower_rad, _LARGEST_RANGE_RAD)
        highest = np.maximum(joint.upper_rad - inset, before)
        lowest = np.minimum(joint.lower_rad + inset, before)
        linear = self._from_fixed @ fixed + self._from_target @ target
        free = self._run(linear, lower, upper, lowest, highest)
        if free is None:
            return None
        control = self._free @ free
        control[:3] = fixed
        rows = self._rows @ control
        # Allowed is the limit itself, or what the motion in force does already.
        allowed = np.maximum(bound, np.abs(row_before)) + _ROUNDING
        highest = np.maximum(joint.upper_rad, before) + _ROUNDING
        lowest = np.minimum(joint.lower_rad, before) - _ROUNDING
        is_inside = _is_between(-allowed, rows, allowed) and _is_between(lowest, free, highest)
        return control if is_inside else None

    def _run(self, linear, lower, upper, lowest, highest) -> np.ndarray | None:
        free = -self._inverse @ linear
        rows = self._constraints @ free
        if _is_between(lower, rows, upper) and _is_between(lowest, free, highest):
            return free  # the closest motion of all breaks no limit: no search is needed
        if self._solver is None:
            # PIQP: an interior point method, so it keeps inside the bounds to its tolerance, which
            # OSQP does only after thousands of steps here. Sparse: a row has 4 entries at most.
            self._solver = piqp.SparseSolver()
            self._solver.settings.eps_abs = _TOLERANCE
            self._solver.settings.eps_rel = _TOLERANCE
            hessian, constraints = map(sparse.csc_matrix, (self._hessian, self._constraints))
            self._solver.setup(
                hessian, linear, None, None, constraints, lower, upper, lowest, highest
            )
        else:
            self._solver.update(c=linear, h_l=lower, h_u=upper, x_l=lowest, x_u=highest)
        status = self._solver.solve()
        free = np.array(self._solver.result.x)
        return free if status == piqp.PIQP_SOLVED and np.all(np.isfinite(free)) else None


def _is_between(lower: np.ndarray, values: np.ndarray, upper: np.ndarray) -> bool:
    return bool(np.all((lower <= values) & (values <= upper)))
