# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Random turns through the necks of all robots: does a motion, as it is played, break a limit?

    python test/fuzz_neck.py --turns 1000000 --seed 1

A turn is one thing that happens (a plan, wild or tame, or one that is refused; a base orientation;
a stop; a start; joints that stand elsewhere) and the motion until the next. What is checked is the
quintic that a controller plays between the points sent, at each point and seven times between; and
that points sent before are kept when they are about to be played.
"""

import argparse
from pathlib import Path
import sys
import time

import numpy as np
from scipy.spatial.transform import Rotation

from timar_ros.retarget.neck import Neck, NeckConfig
from timar_ros.retarget.robot import Robot, load_robot, robot_names

FOLDER = Path(__file__).parents[1] / 'config' / 'robots'
MS = 1_000_000
FRAME_NS = 40 * MS
TURNS_A_CONVERSATION = 50
NAMES = ('position', 'velocity', 'acceleration', 'jerk')


def fuzz(n_turns: int, seed: int) -> dict:
    """
    Play `n_turns` random turns.

    Returns:
        Share of each limit that was used at most (above 1: broken), the greatest change of a point
        about to be played and how many were compared, turns, plans refused, solutions not found.
    """
    rng = np.random.default_rng(seed)
    robots = [load_robot(name, FOLDER) for name in robot_names(FOLDER)]
    report = dict.fromkeys(
        (*NAMES, 'compared', 'changed', 'turns', 'refused', 'failures', 'restarts'), 0
    )
    while report['turns'] < n_turns:
        robot = robots[rng.integers(len(robots))]
        segments = _conversation(robot, rng, report)
        used = _used(robot, *segments)
        for name, share in zip(NAMES, used, strict=True):
            report[name] = max(report[name], float(share))
    return report


def _conversation(robot: Robot, rng, report):
    """Return start and end states `[n, 3, J]` of all intervals played, and their length s."""
    neck = Neck(robot, NeckConfig(gain=rng.choice([1.0, 0.5, 2.0])))
    lower = np.array([joint.lower_rad for joint in robot.joints])
    upper = np.array([joint.upper_rad for joint in robot.joints])
    now = int(rng.integers(1, 10**6)) * FRAME_NS + int(rng.integers(FRAME_NS))
    starts, ends, lengths = [], [], []
    sent = {}
    for _ in range(TURNS_A_CONVERSATION):
        report['turns'] += 1
        _event(neck, rng, now, lower, upper, report)
        until = now + int(rng.choice([15, 80, 200, 200, 200, 700, 1500, 4000])) * MS
        restarts = neck.restarts
        if neck.update(now):
            trajectory = neck.trajectory(now)
            knots = trajectory.stamp_ns + trajectory.time_from_start_ns
            states = np.stack(
                [trajectory.position, trajectory.velocity, trajectory.acceleration], axis=1
            )
            for knot, state in zip(knots[:3], states[:3], strict=False):
                is_near = knot <= now + neck.config.lead_ms * MS
                if is_near and knot in sent and neck.restarts == restarts:
                    report['compared'] += 1
                    report['changed'] = max(report['changed'], np.abs(state - sent[knot]).max())
            sent = dict(zip(knots.tolist(), states, strict=True))
            played = (knots[:-1] < until) & (knots[1:] > now)
            starts.append(states[:-1][played])
            ends.append(states[1:][played])
            lengths.append(np.diff(knots)[played] / 1e9)
        now = until
    report['failures'] += neck.failures
    report['restarts'] += neck.restarts
    none = np.zeros((0, 3, len(robot.joints)))
    return (
        np.concatenate([none, *starts]),
        np.concatenate([none, *ends]),
        np.concatenate([np.zeros(0), *lengths]),
    )


def _event(neck: Neck, rng, now, lower, upper, report) -> None:
    kind = rng.random()
    if kind < 0.75:
        stamps, heads, jaw = _plan(rng, now)
        if rng.random() < 0.05:
            heads[rng.integers(len(heads))] = rng.choice([np.nan, np.inf, 0.0])
        try:
            neck.push_plan(stamps, heads, jaw)
        except ValueError:
            report['refused'] += 1
    elif kind < 0.85:
        neck.push_base(Rotation.random(random_state=int(rng.integers(2**31))).as_quat())
    elif kind < 0.89:
        neck.disable()
    else:
        neck.enable(now)
    # The joints are where they were sent, more or less; now and then somebody holds them.
    sent = neck.sample(now - int(rng.integers(200)) * MS)
    measured = rng.uniform(lower, upper)
    if sent is not None and rng.random() < 0.97:
        measured = sent[0][0] + rng.uniform(-0.05, 0.05, len(lower))
    neck.see_joints(neck.robot.joint_names, np.clip(measured, lower, upper), now)


def _plan(rng, now):
    n = int(rng.choice([1, 2, 12, 25, 50, 75]))
    begin = now + int(rng.integers(-500, 500)) * MS
    stamps = begin + np.arange(n) * int(rng.choice([10, 33, 40, 40, 40, 100])) * MS
    time_s = (stamps - begin)[:, None] / 1e9
    amplitude = rng.choice([0.02, 0.2, 0.2, 1.0, 6.0]) * rng.normal(size=3)
    shape = rng.integers(4)
    if shape == 0:  # nods, shakes, tilts
        rotvec = amplitude * np.sin(
            2 * np.pi * rng.uniform(0.2, 5, 3) * time_s + rng.uniform(0, 6, 3)
        )
    elif shape == 1:  # jumps
        rotvec = amplitude * np.sign(np.sin(2 * np.pi * rng.uniform(0.2, 8) * time_s))
    elif shape == 2:  # noise
        rotvec = amplitude * rng.normal(size=(n, 3))
    else:  # a pose
        rotvec = np.tile(amplitude, (n, 1))
    jaw = rng.choice([0.1, 1.0, 50.0]) * rng.random(n)
    return stamps, Rotation.from_rotvec(rotvec).as_quat(), jaw


def _used(robot: Robot, start, end, length_s):
    """Return the share of position, velocity, acceleration and jerk limits that quintics use."""
    h = length_s[:, None]
    p0, v0, a0 = start[:, 0], start[:, 1] * h, start[:, 2] * h**2
    p1, v1, a1 = end[:, 0], end[:, 1] * h, end[:, 2] * h**2
    d = p1 - p0
    coefficients = np.stack([
        p0, v0, a0 / 2,
        10 * d - 6 * v0 - 4 * v1 - 1.5 * a0 + 0.5 * a1,
        -15 * d + 8 * v0 + 7 * v1 + 1.5 * a0 - a1,
        6 * d - 3 * v0 - 3 * v1 - 0.5 * a0 + 0.5 * a1,
    ])  # fmt: skip
    u = np.linspace(0, 1, 9)
    shares = []
    joints = robot.joints
    middle = np.array([(joint.lower_rad + joint.upper_rad) / 2 for joint in joints])
    limits = [
        np.array([joint.upper_rad for joint in joints]) - middle,
        *(
            np.array([getattr(joint, name) for joint in joints])
            for name in ('velocity_rad_s', 'acceleration_rad_s2', 'jerk_rad_s3')
        ),
    ]
    for order in range(4):
        powers = np.arange(len(coefficients))
        value = np.einsum('pnj,up->unj', coefficients, u[:, None] ** powers) / h**order
        if order == 0:
            value = value - middle
        shares.append((np.abs(value) / limits[order]).max(initial=0.0))
        coefficients = coefficients[1:] * powers[1:, None, None]
    return shares


def main():
    """Run from the command line; exit 1 where a limit was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--turns', type=int, default=1_000_000)
    parser.add_argument('--seed', type=int, default=1)
    arguments = parser.parse_args()
    began = time.perf_counter()
    report = fuzz(arguments.turns, arguments.seed)
    report['seconds'] = round(time.perf_counter() - began, 1)
    sys.stdout.write(f'{report}\n')
    sys.exit(any(report[name] > 1 + 1e-6 for name in NAMES) or report['changed'] > 1e-9)


if __name__ == '__main__':
    main()
