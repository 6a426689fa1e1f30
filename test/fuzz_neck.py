# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Random turns through the necks of all robots: does what is sent, as it is played, break a limit?

    python test/fuzz_neck.py --turns 1000000 --seed 1
    python test/fuzz_neck.py --replay 34 28

Each seed plays 2,000 turns: 250,000 turns from seed 1 and as many from seed 126 are 500,000 from
seed 1. A conversation that breaks a limit is printed with the numbers that replay it; the rest are
played all the same.

A turn is one thing that happens and the motion until the next: a plan, wild or tame, or one that
is refused; a base orientation; a stop; a start; a clock that is set; a process that is stopped;
joints that are held, or moved by another; measurements of every kind that is wrong
(neck_world.py). The judge (neck_judge.py) sees only what was sent and when it came.
"""

import argparse
import dataclasses
import multiprocessing
import os
from pathlib import Path
import sys
import time
import traceback

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from neck_judge import NAMES, Judge, PlayedTrajectories, judge_targets  # noqa: E402
from neck_world import MS, World  # noqa: E402
import numpy as np  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402
from tqdm import tqdm  # noqa: E402

from timar_ros.retarget.neck import Neck, NeckConfig  # noqa: E402
from timar_ros.retarget.player import NeckPlayer  # noqa: E402
from timar_ros.retarget.robot import load_robot, robot_names  # noqa: E402

FOLDER = HERE.parent / 'config' / 'robots'
TURNS_A_CONVERSATION = 50
BATCH = 2_000
COUNTED = ('turns', 'refused', 'stops', 'failures', 'restarts', 'late', 'pauses', 'sent', 'fooled')
# Solutions that take this long come too late for the lead of 40 ms.
SLOW_NS = (20 * MS, 60 * MS, 200 * MS)


def robots():
    """Return the robots shipped, and one with a pan joint that turns round and round."""
    shipped = [load_robot(name, FOLDER) for name in robot_names(FOLDER)]
    generic = load_robot('pan_tilt_roll', FOLDER)
    pan = dataclasses.replace(
        generic.joints[0], is_continuous=True, lower_rad=-np.inf, upper_rad=np.inf
    )
    return [*shipped, dataclasses.replace(generic, joints=(pan, *generic.joints[1:]))]


def fuzz(n_turns: int, seed: int) -> dict:
    """
    Play `n_turns` random turns.

    Returns:
        Share of each limit that was used at most (above 1: broken), with the numbers of the worst
        conversation; how often what happened; and all conversations that broke something.
    """
    report = new_report()
    known = robots()
    conversation = 0
    while report['turns'] < n_turns:
        numbers = (seed, conversation)
        conversation += 1
        try:
            judge = Conversation(known, numbers, report).run()
        except Exception:  # whatever it is: it would have ended the node
            report['broken'].append((numbers, traceback.format_exc()))
            continue
        name = judge.robot.name
        if broken(judge.shares):
            shares = {limit: judge.shares[limit] for limit in broken(judge.shares)}
            report['broken'].append((numbers, name, shares))
        for limit in NAMES:
            if not judge.shares[limit] <= report[limit]:
                report[limit] = judge.shares[limit]
                report[f'{limit}_at'] = (*numbers, judge.where[limit], name)
    return report


def new_report() -> dict:
    """Return a report of nothing yet."""
    return {**dict.fromkeys((*NAMES, *COUNTED), 0), 'broken': []}


class Conversation:
    """
    Some turns of one neck.

    Args:
        known: robots to choose from.
        seed: of everything random.
        report: counts what happens.
    """

    def __init__(self, known, seed, report):
        rng = self.rng = np.random.default_rng(seed)
        robot = self.robot = known[rng.integers(len(known))]
        self.report = report
        self.lower = np.array([max(joint.lower_rad, -3.0) for joint in robot.joints])
        self.upper = np.array([min(joint.upper_rad, 3.0) for joint in robot.joints])
        self.place = rng.uniform(self.lower, self.upper)  # of the joints, before they are sent
        if rng.random() < 0.2:  # one joint begins beyond an end; too far beyond it is refused
            one, beyond_rad = rng.integers(len(self.place)), rng.uniform(0.0, 0.22)
            is_above = rng.random() < 0.5
            self.place[one] = (self.upper + beyond_rad if is_above else self.lower - beyond_rad)[
                one
            ]
        self.world = World(robot, rng, self.place)
        self.is_streamed = rng.random() < 0.5
        self.period_ns = int(rng.choice([10, 20, 20])) * MS if self.is_streamed else None
        config = NeckConfig(gain=rng.choice([1.0, 0.5, 2.0]))
        has_feedback = self.has_feedback = rng.random() < 0.95
        if not has_feedback:  # then the head is set by hand before
            self.place = np.array([joint.offset_rad for joint in robot.joints])
        self.neck = Neck(robot, config, has_feedback)
        self.player = NeckPlayer(self.neck, self.world.read_clocks, self.period_ns)
        self.judge = Judge(robot)
        self.played = PlayedTrajectories(self.judge, self.place, self.world.lag_ns)
        self.targets = []
        self.next_look_ns = self.next_target_ns = self.world.steady_ns
        self.is_slow = False

    def run(self) -> Judge:
        """Play the turns; return the judge."""
        longest = (15, 80, 150, 150, 300) if self.is_streamed else (15, 80, 200, 200, 700, 1500)
        for _ in range(TURNS_A_CONVERSATION):
            self.report['turns'] += 1
            self._event()
            self._play(self.world.steady_ns + int(self.rng.choice(longest)) * MS)
        self._close_stream()
        self.played.finish(self.world.steady_ns)
        self.report['failures'] += self.neck.failures
        self.report['restarts'] += self.neck.restarts
        self.report['late'] += self.player.n_late
        self.report['pauses'] += self.player.n_pauses
        return self.judge

    def _event(self) -> None:
        rng, world, kind = self.rng, self.world, self.rng.random()
        if rng.random() < 0.12:
            world.begin_fault()
        if rng.random() < 0.03:
            world.set_clock()
        if rng.random() < 0.04:
            world.stop_process(int(rng.choice([50, 100, 300, 600, 1_200, 3_000])) * MS)
        if rng.random() < 0.05:
            world.change_pace()
        self.is_slow = rng.random() < 0.05
        if rng.random() < 0.02 and self.has_feedback:  # without, nobody can notice
            place = self._commanded(world.steady_ns) + rng.uniform(-0.6, 0.6, len(self.lower))
            world.hold(np.clip(place, self.lower, self.upper), self._commanded)
        elif rng.random() < 0.3:
            world.held = None
        if kind < 0.70:
            self._push_plan()
        elif kind < 0.78:
            self.neck.push_base(Rotation.random(random_state=int(rng.integers(2**31))).as_quat())
        elif kind < 0.84:
            self.player.disable()
            self.report['stops'] += 1
        elif kind < 0.86:
            self._leave_to_others()
        else:
            self.player.enable()

    def _push_plan(self) -> None:
        stamps, heads, jaw = _plan(self.rng, self.world.steady_ns + self.world.offset_ns)
        if self.rng.random() < 0.05:
            heads[self.rng.integers(len(heads))] = self.rng.choice([np.nan, np.inf, 0.0])
        try:
            self.player.push_plan(stamps, heads, jaw)
        except ValueError:
            self.report['refused'] += 1

    def _leave_to_others(self) -> None:
        """Stop, let another move the head while nothing is sent, and take over again."""
        self.player.disable()
        self._play(self.world.steady_ns + 3_500 * MS)
        if self.neck.is_moving(self.player.now_ns()) or not self.neck.has_begun:
            return
        self._close_stream()
        self.played.finish(self.world.steady_ns)
        if self.has_feedback:
            self.place = self.rng.uniform(self.lower, self.upper)
        self.played.rest_at(self.place)
        self.judge.begin_anywhere()
        self.world.held = None
        self._play(self.world.steady_ns + 1_500 * MS)
        self.player.enable()

    def _play(self, until_ns: int) -> None:
        world = self.world
        while world.steady_ns < until_ns:
            times = [self.next_look_ns, until_ns]
            if self.is_streamed:
                times.append(self.next_target_ns)
            now_ns = max(min(times), world.steady_ns)
            for arrival_ns, names, positions, stamp_ns in world.measurements(
                now_ns, self._commanded
            ):
                world.steady_ns = max(world.steady_ns, arrival_ns)
                self.player.see_joints(names, positions, stamp_ns)
            world.steady_ns = max(now_ns, world.steady_ns)
            if self.is_streamed and self.next_target_ns <= now_ns:
                self._send_target()
                self.next_target_ns = max(self.next_target_ns, now_ns - 5 * MS) + self.period_ns
            if self.next_look_ns <= now_ns:
                self._look()
                self.next_look_ns = max(self.next_look_ns, now_ns - 25 * MS) + 50 * MS

    def _look(self) -> None:
        # To find a solution. While a simulation speeds up, 200 ms between two looks can't be told
        # from a clock that was set.
        if self.is_slow and not self.is_streamed and not self.world.is_uneven:
            self.world.delays.extend([2_000, int(self.rng.choice(SLOW_NS))])
        try:
            if self.is_streamed:
                self.player.update()
            else:
                self.player.update(lambda trajectory: trajectory, self._send_trajectory)
        except ValueError:
            pass  # a joint is measured where it cannot be

    def _send_trajectory(self, trajectory) -> None:
        self.report['sent'] += 1
        arrival_ns = self.world.steady_ns + int(self.rng.integers(5 * MS))
        knots = trajectory.stamp_ns + trajectory.time_from_start_ns - self.world.offset_ns
        states = np.stack(
            [trajectory.position, trajectory.velocity, trajectory.acceleration], axis=1
        )
        is_start = knots[0] > arrival_ns
        is_shown = is_start and self._is_shown(states[0, 0])
        if is_start and not is_shown:
            self.judge.note('jump', np.inf, arrival_ns)
        self.report['fooled'] += self.played.receive(
            knots, states, arrival_ns, self._moved(arrival_ns), is_shown
        )

    def _is_shown(self, position) -> bool:
        """Return whether a motion may begin at `position`: three samples had the joints there."""
        return not self.has_feedback or self.world.has_shown(position)

    def _moved(self, time_ns: int):
        return None if self.world.held is None else self.world.joints(time_ns, self._commanded)

    def _send_target(self) -> None:
        world = self.world
        target = self.player.target()
        if target is None:
            self._close_stream()
            return
        self.report['sent'] += 1
        delay = self.rng.random()
        if delay < 0.002:  # stopped while it sends
            world.stop_process(int(self.rng.choice([30, 300, 600])) * MS)
        world.steady_ns += 100_000
        self.player.sent()
        if not self.targets and not self._is_shown(target.position):
            self.judge.note('jump', np.inf, world.steady_ns)
        # Steady time of the stamp, by the clock as it is now.
        stamp_ns = target.stamp_ns - world.offset_ns
        self.targets.append((stamp_ns, world.steady_ns, target.position, target.velocity))

    def _close_stream(self) -> None:
        """Judge the targets so far; the next one belongs to a motion that begins anywhere."""
        if self.targets:
            judge_targets(self.judge, self.targets)
            self.place = self.targets[-1][2]
            self.judge.begin_anywhere()
        self.targets = []

    def _commanded(self, steady_ns: int):
        if not self.is_streamed:
            return self.played.state(steady_ns)[0]
        for target in reversed(self.targets):
            if target[1] <= steady_ns:
                return target[2]
        return self.place


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


def broken(shares: dict) -> list[str]:
    """Return the names of the limits that were broken."""
    return [name for name in NAMES if not shares[name] <= 1 + 1e-6]


def fuzz_on_all_cores(n_turns: int, seed: int, n_processes: int, is_shown=False) -> dict:
    """Return what `fuzz` does, of turns that several processes play in batches."""
    n_batches = max(1, -(-n_turns // BATCH))
    tasks = [(min(BATCH, n_turns), seed + i) for i in range(n_batches)]
    total = new_report()
    seconds = 5 if sys.stderr.isatty() else 60  # a file is no place for a bar that moves
    progress = tqdm(
        total=n_turns, unit=' turns', mininterval=seconds, maxinterval=60, disable=not is_shown
    )
    with multiprocessing.Pool(n_processes) as pool, progress:
        for report in pool.imap_unordered(_fuzz_one, tasks):
            for name in (*COUNTED, 'broken'):
                total[name] += report[name]
            for name in NAMES:
                if not report[name] <= total[name]:
                    total[name] = report[name]
                    total[f'{name}_at'] = report[f'{name}_at']
            for numbers, *what in report['broken']:
                what = ' '.join(map(str, what))
                progress.write(
                    f'broken: --replay {numbers[0]} {numbers[1]}: {what}', file=sys.stderr
                )
            progress.set_postfix({name: f'{total[name]:.4f}' for name in NAMES}, refresh=False)
            progress.update(report['turns'])
    return total


def _fuzz_one(task) -> dict:
    return fuzz(*task)


def main():
    """Run from the command line; exit 1 where a limit was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--turns', type=int, default=1_000_000)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--processes', type=int, default=os.cpu_count())
    parser.add_argument('--replay', type=int, nargs=2, metavar=('SEED', 'NUMBER'))
    arguments = parser.parse_args()
    began = time.perf_counter()
    if arguments.replay:
        report = new_report()
        judge = Conversation(robots(), tuple(arguments.replay), report).run()
        report.update(judge.shares, where=judge.where, robot=judge.robot.name)
    else:
        report = fuzz_on_all_cores(arguments.turns, arguments.seed, arguments.processes, True)
        report['next_seed'] = arguments.seed + max(1, -(-arguments.turns // BATCH))
    report['seconds'] = round(time.perf_counter() - began, 1)
    sys.stdout.write(f'{report}\n')
    sys.exit(bool(broken(report) or report['broken']))


if __name__ == '__main__':
    main()
