# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A judge of what a neck was sent: does it break a limit, as it is played?

Knows the messages and when they came, in steady time; knows nothing of the code that made them.

    trajectories   played by a joint_trajectory_controller: quintics between the points, and one
                   from where the controller is to a first point that lies ahead. A new trajectory
                   must go on where the old one is when it comes.
    targets        by their stamps: position, velocity, acceleration, jerk. By their arrival: the
                   velocity, within 10 %. After a long gap the motion has come to rest: by its
                   velocity alone nothing could be told from a motion that leapt ahead meanwhile.
"""

import functools

import numpy as np

LIMITS = ('velocity_rad_s', 'acceleration_rad_s2', 'jerk_rad_s3')
NAMES = ('position', 'velocity', 'acceleration', 'jerk', 'jump', 'arrival')
# A start is safe for controllers that stand this far from where the joints are measured.
MOST_LIED_RAD = 0.35
# Joints measured further outside their range are refused: nothing may begin there.
_MOST_OUTSIDE_RAD = 0.2
# In this time every stop has come to rest: to a share of the limit of velocity.
_LONG_GAP_NS = 1_000_000_000
_SPEED_OF_REST = 0.05
_LATE_NS = 5_000_000
_U = np.linspace(0, 1, 9)


class Judge:
    """
    Collects what one robot was sent; `shares` says how much of each limit was used at most.

    Args:
        robot: its joints and their limits.

    Attributes:
        shares: name -> share of the limit, above 1: broken. 'jump' is by how much a new
            trajectory differs from the one being played, in units of what is allowed.
        where: name -> the time of that share, ns.
    """

    def __init__(self, robot):
        self.robot = robot
        self.lower = np.array([joint.lower_rad for joint in robot.joints])
        self.upper = np.array([joint.upper_rad for joint in robot.joints])
        self.limits = np.array([[getattr(j, name) for j in robot.joints] for name in LIMITS])
        self.shares = dict.fromkeys(NAMES, 0.0)
        self.where = dict.fromkeys(NAMES, 0)
        self._outside = None  # rad, how far each joint may be outside its range: as it began

    def note(self, name: str, share: float, time_ns: int) -> None:
        """Take a share of a limit that was used."""
        if not share <= self.shares[name]:  # NaN counts
            self.shares[name], self.where[name] = float(share), int(time_ns)

    def begin_anywhere(self) -> None:
        """Let the next position lie outside the range: the motion begins there."""
        self._outside = None

    def beyond(self, position):
        """Return how far positions `[..., J]` lie outside the range, rad; below 0: inside."""
        outside = np.maximum(position - self.upper, self.lower - position)
        return np.maximum(outside, -1e9)  # a joint without stops

    def judge_positions(self, position, time_ns) -> None:
        """Judge positions `[n, J]`, in the order in which they are played."""
        if not len(position):
            return
        outside = self.beyond(position)
        begin = outside[0] if self._outside is None else self._outside
        # Outside at the start a joint may stay outside, but go no further, until it is inside.
        least = np.minimum.accumulate(np.vstack([begin, outside]), axis=0)
        self._outside = np.maximum(least[-1], 0.0)
        share = outside.max() / _MOST_OUTSIDE_RAD
        if share > 1:
            self.note('position', share, time_ns)
        self.judge_range(position, time_ns, least[:-1])

    def judge_range(self, position, time_ns, most_outside) -> None:
        """Judge positions `[n, J]` that may be outside the range by so much (below 0: none)."""
        outside, most_outside = self.beyond(position), np.maximum(most_outside, 0.0)
        range_rad = np.where(np.isfinite(self.upper), self.upper - self.lower, np.inf)
        used = 1 + 2 * outside / range_rad
        share = np.where(outside > most_outside, 1 + outside - most_outside, np.minimum(used, 1.0))
        self.note('position', np.where(np.isfinite(position), share, np.inf).max(), time_ns)

    def judge_quintics(self, start, end, length_s, time_ns, judge_range=None) -> None:
        """
        Judge quintics.

        Args:
            start: states `[n, 3, J]`.
            end: likewise.
            length_s: `[n]` s, of each.
            time_ns: when they are played.
            judge_range: takes positions `[m, J]`; None: they are not judged.
        """
        if not len(length_s):
            return
        h = length_s[:, None]
        p0, v0, a0 = start[:, 0], start[:, 1] * h, start[:, 2] * h**2
        p1, v1, a1 = end[:, 0], end[:, 1] * h, end[:, 2] * h**2
        coefficients = _quintic(p0, v0, a0, p1, v1, a1)
        for order in range(4):
            powers = _U[:, None] ** np.arange(len(coefficients))
            value = np.einsum('pnj,up->nuj', coefficients, powers) / h[:, None] ** order
            if order == 0 and judge_range is not None:
                judge_range(value.reshape(-1, value.shape[-1]), time_ns)
            elif order:
                share = np.abs(value).max(axis=(0, 1)) / self.limits[order - 1]
                self.note(NAMES[order], share.max(), time_ns)
            powers = np.arange(len(coefficients))
            coefficients = coefficients[1:] * powers[1:, None, None]


class PlayedTrajectories:
    """
    Play trajectories as two controllers do: one from its last command, one from measured joints.

    Args:
        judge: of what is played.
        position: `[J]` rad, where both stand at first.
        servo_lag_ns: the measured joints are this far behind the command.
    """

    def __init__(self, judge: Judge, position, servo_lag_ns: int):
        self._judge = judge
        self._lag_ns = servo_lag_ns
        self.rest_at(position)

    def rest_at(self, position) -> None:
        """Stand at `position` `[J]`: another has moved the joints."""
        zero = np.zeros(len(position))
        self._before = (0, np.stack([position, zero, zero]))
        self._knots, self._states = np.zeros(0, np.int64), np.zeros((0, 3, len(position)))
        self._came_ns = 0
        self._is_own = False  # the command is what trajectories said

    def receive(self, knots, states, now_ns: int, moved=None, is_shown=False) -> bool:
        """
        Replace the trajectory.

        Args:
            knots: `[n]` steady time of its points, ns.
            states: `[n, 3, J]` position, velocity, acceleration.
            now_ns: when it comes.
            moved: `[J]` where the joints are, if not behind the command; their velocity is 0.
            is_shown: three samples had the joints at the first point. Where they are not near it
                the samples lied, and no sender can know better: such a way is not judged. But
                what trajectories commanded the sender does know.

        Returns:
            Whether a way to a first point was not judged.
        """
        self.finish(now_ns)
        here = self.state(now_ns)
        is_own, self._is_own = self._is_own, True
        is_lied = False
        if knots[0] <= now_ns:
            new = _sample(knots, states, now_ns)
            scale = np.array([1e-9, 1e-7, 1e-5])[:, None]
            self._judge.note('jump', (np.abs(new - here) / scale).max(), now_ns)
        else:
            measured = self.state(now_ns - self._lag_ns) * [[1.0], [1.0], [0.0]]
            if moved is not None:
                measured = np.stack([moved, np.zeros(len(moved)), np.zeros(len(moved))])
            length_s = np.array([(knots[0] - now_ns) / 1e9])
            for begin, is_known in ((here, is_own), (measured, is_own and moved is None)):
                is_far = np.abs(states[0, 0] - begin[0]).max() > MOST_LIED_RAD
                if is_shown and is_far and not is_known:
                    is_lied = True
                    continue
                # Further outside than both its ends it never goes.
                most = self._judge.beyond(np.stack([begin[0], states[0, 0]])).max(axis=0)
                self._judge.judge_quintics(
                    begin[None],
                    states[:1],
                    length_s,
                    now_ns,
                    functools.partial(self._judge.judge_range, most_outside=most),
                )
            self._judge.begin_anywhere()
        self._before, self._came_ns = (now_ns, here), now_ns
        self._knots, self._states = knots, states
        return is_lied

    def finish(self, now_ns: int) -> None:
        """Judge what was played since the last trajectory came."""
        if len(self._knots) < 2:
            return
        played = (self._knots[:-1] < now_ns) & (self._knots[1:] > self._came_ns)
        # What was played of an interval before this trajectory came was judged then.
        for part, judge_range in (
            (played & (self._knots[:-1] < self._came_ns), None),
            (played & (self._knots[:-1] >= self._came_ns), self._judge.judge_positions),
        ):
            lengths_s = np.diff(self._knots)[part] / 1e9
            ends = self._states[:-1][part], self._states[1:][part]
            self._judge.judge_quintics(*ends, lengths_s, self._came_ns, judge_range)

    def state(self, time_ns: int) -> np.ndarray:
        """Return position, velocity, acceleration `[3, J]` that is commanded at a time."""
        if not len(self._knots):
            return self._before[1]
        if time_ns < self._knots[0]:
            knots = np.array([self._before[0], self._knots[0]])
            states = np.stack([self._before[1], self._states[0]])
            return _sample(knots, states, max(time_ns, self._before[0]))
        return _sample(self._knots, self._states, time_ns)


def _sample(knots, states, time_ns: int) -> np.ndarray:
    after = int(np.searchsorted(knots, time_ns, side='right'))
    if after == len(knots):
        return states[-1]
    h = (knots[after] - knots[after - 1]) / 1e9
    u = (time_ns - knots[after - 1]) / 1e9 / h
    p0, v0, a0 = states[after - 1] * np.array([1, h, h * h])[:, None]
    p1, v1, a1 = states[after] * np.array([1, h, h * h])[:, None]
    c = _quintic(p0, v0, a0, p1, v1, a1)
    result = []
    for order in range(3):
        result.append(u ** np.arange(len(c)) @ c / h**order)
        c = c[1:] * np.arange(1, len(c))[:, None]
    return np.stack(result)


def _quintic(p0, v0, a0, p1, v1, a1) -> np.ndarray:
    """Return coefficients `[6, ...]` of an interval, in units of its length."""
    d = p1 - p0
    return np.stack([
        p0, v0, a0 / 2,
        10 * d - 6 * v0 - 4 * v1 - 1.5 * a0 + 0.5 * a1,
        -15 * d + 8 * v0 + 7 * v1 + 1.5 * a0 - a1,
        6 * d - 3 * v0 - 3 * v1 - 0.5 * a0 + 0.5 * a1,
    ])  # fmt: skip


def judge_targets(judge: Judge, targets, position_slack: float = 1e-9) -> None:
    """
    Judge a stream of targets.

    Args:
        judge: takes the shares.
        targets: (stamp, arrival, position [J], velocity [J]), in order; both times are ns of
            steady time, the stamp by the clock as it was set then.
        position_slack: rad, of rounding.
    """
    if not targets:
        return
    stamp, arrival = (np.array([t[i] for t in targets]) for i in (0, 1))
    position, velocity = (np.array([t[i] for t in targets]) for i in (2, 3))
    judge.judge_positions(position, arrival[0])
    _note_worst(judge, 'velocity', np.abs(velocity) / judge.limits[0], arrival)
    if len(targets) < 2:
        return
    moved = np.abs(np.diff(position, axis=0)) - position_slack
    by_arrival = moved / (judge.limits[0] * np.maximum(np.diff(arrival), 1)[:, None] / 1e9)
    _note_worst(judge, 'arrival', by_arrival / 1.1, arrival[1:])
    is_long = np.diff(arrival) > _LONG_GAP_NS
    speed = np.abs(velocity[1:]) / judge.limits[0]
    at_rest = np.where(is_long[:, None], speed / _SPEED_OF_REST, 0.0)
    _note_worst(judge, 'arrival', at_rest, arrival[1:])
    h = np.maximum(np.diff(stamp), 1)[:, None] / 1e9
    _note_worst(judge, 'velocity', moved / (judge.limits[0] * h), arrival[1:])
    mean, slack = np.diff(velocity, axis=0) / h, 1e-9 / h
    _note_worst(judge, 'acceleration', (np.abs(mean) - slack) / judge.limits[1], arrival[1:])
    # A target that its sender held back (a stopped process) is played longer than its stamp says:
    # the motion waits for it. By stamps the velocity then changes more slowly, and jerk has no
    # meaning.
    delay = (arrival - stamp)[:-1]
    is_late = delay > np.median(delay) + _LATE_NS
    apart = (h[1:] + h[:-1]) / 2
    share = (np.abs(np.diff(mean, axis=0)) - 2 * slack[1:]) / (judge.limits[2] * apart)
    share = np.where((is_late[1:] | is_late[:-1])[:, None], 0.0, share)
    _note_worst(judge, 'jerk', share, arrival[2:])


def _note_worst(judge: Judge, name: str, shares, times) -> None:
    if not len(shares):
        return
    worst = int(np.argmax(shares.max(axis=1)))
    judge.note(name, shares[worst].max(), times[worst])
