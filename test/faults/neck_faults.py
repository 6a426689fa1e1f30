# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong around a neck: its measured joints, its clock, its process.

Played by the world of the fuzz (`neck_world.py`) on all robots and both outputs, with wild plans;
the judge (`neck_judge.py`) sees only what was sent and when it came. Limits alone would not show a
neck that stops, or begins elsewhere, without need: what is sent is also compared with the same
conversation without the fault, and starts and pauses are judged.
"""

from collections.abc import Callable
import dataclasses
import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from fuzz_neck import COUNTED, Conversation, robots  # noqa: E402
from neck_judge import NAMES  # noqa: E402
from neck_world import MS  # noqa: E402
import numpy as np  # noqa: E402

# The fault comes with every so manyth turn.
_EVERY = 3
# How long it takes to notice that samples are missing; another moves the head meanwhile.
_UNSEEN_NS = 1_200 * MS
# A joint that begins outside its range is led so far inside.
_INSIDE_RAD = 0.02
_SHARES = (*NAMES, 'resume')


@dataclasses.dataclass(frozen=True)
class NeckFault:
    """
    One thing that goes wrong around a neck.

    Attributes:
        name: as the table has it.
        begin: lets it happen in a conversation.
        is_ignored: what is sent must be what is sent without it: too few samples to prove
            anything, in the midst of motion.
    """

    name: str
    begin: Callable[['_FaultyConversation'], None]
    is_ignored: bool = False


@dataclasses.dataclass(frozen=True)
class NeckRow:
    """
    What one fault did.

    Attributes:
        name: of the fault.
        n_times: how often it happened.
        n_sent: trajectories and targets sent.
        shares: of each limit, used at most; above 1: broken. 'resume' is the way from the last
            target before a pause to the first after it, in ways that a stop takes.
        n_elsewhere: first trajectories that begin where the joints are not.
        n_changed: messages that differ from those without the fault; 0 where that is no rule.
    """

    name: str
    n_times: int
    n_sent: int
    shares: dict[str, float]
    n_elsewhere: int
    n_changed: int


def _measure(kind: str, duration_s: float) -> Callable[['_FaultyConversation'], None]:
    return lambda conversation: conversation.world.begin_fault(kind, duration_s)


def _measure_once(kind: str) -> Callable[['_FaultyConversation'], None]:
    def measure(conversation: '_FaultyConversation') -> None:
        world = conversation.world
        world.begin_fault(kind, 0.0)
        world._fault_until_ns = world._next_ns  # that of the next sample, and of no other

    return measure


def _set_clock(conversation: '_FaultyConversation') -> None:
    conversation.world.set_clock()


def _stop(duration_s: float) -> Callable[['_FaultyConversation'], None]:
    return lambda conversation: conversation.stop_process(round(duration_s * 1000) * MS)


def _one_after_the_other(conversation: '_FaultyConversation') -> None:
    conversation.world.set_clock()
    conversation.world.stop_process(600 * MS)
    conversation.world.begin_fault('random', 0.3)


def _move_unseen(conversation: '_FaultyConversation') -> None:
    conversation.be_moved_unseen(3.0)


NECK_FAULTS = (
    NeckFault('one sample 0.3 rad off', _measure_once('off'), True),
    NeckFault('one sample at the end of a range', _measure_once('limit'), True),
    NeckFault('one sample a turn off', _measure_once('turn'), True),
    NeckFault('one sample of 1e308', _measure_once('huge'), True),
    NeckFault('one sample of NaN', _measure_once('nan'), True),
    *(
        NeckFault(f'no samples for {seconds:g} s', _measure('silent', seconds), True)
        for seconds in (0.1, 0.6, 1.0, 3.0)
    ),
    NeckFault('no samples for 3 s, moved by another meanwhile, enabled', _move_unseen),
    NeckFault('noise of 0.2 rad for 1 s', _measure('noise', 1.0)),
    NeckFault('two publishers for 3 s', _measure('two', 3.0)),
    NeckFault('samples up to 1 s late, for 1 s', _measure('delayed', 1.0)),
    NeckFault('frozen samples for 1 s', _measure('frozen', 1.0)),
    NeckFault('clock set by 0.2 s to 3 years', _set_clock),
    NeckFault('process stopped for 0.1 s', _stop(0.1)),
    NeckFault('process stopped for 0.6 s', _stop(0.6)),
    NeckFault('process stopped for 3 s', _stop(3.0)),
    NeckFault('set clock, stopped process, wrong samples at once', _one_after_the_other),
)


class _FaultyConversation(Conversation):
    """One with wild plans and one kind of fault, or none, and nothing else that is random."""

    def __init__(self, known, fault: NeckFault | None, seed, report):
        super().__init__(known, seed, report)
        # Measurements draw from a generator of their own, and to take one in takes no time: plans
        # and moments are those without the fault.
        self.world.rng, self.world.reading_ns = np.random.default_rng((*seed, 1)), 0
        self.judge.shares['resume'] = 0.0
        self._fault, self._n_turns, self.n_times = fault, 0, 0
        self._stop_ns = 0  # the process stops so long, at its next solution or target
        self.sent: list[np.ndarray] = []
        self.player.enable()

    def stop_process(self, duration_ns: int) -> None:
        """Stop the process: between two things it does, or in the midst of the next one."""
        if self.world.is_uneven:  # nothing could tell it from a simulation that hurries
            return
        # A target read before a long stop and sent after it moves: no sender can know better.
        is_known = not self.is_streamed or duration_ns < 1_000 * MS
        if self.n_times % 2 and is_known:
            self._stop_ns = duration_ns
        else:
            self.world.stop_process(duration_ns)

    def be_moved_unseen(self, silence_s: float) -> None:
        """Rest, disabled; let another move the head while nothing is measured, and enable."""
        self.player.disable()
        self._play(self.world.steady_ns + 3_500 * MS)
        if self.neck.is_moving(self.player.now_ns()):
            self.player.enable()
            return
        self._close_stream()
        self.played.finish(self.world.steady_ns)
        self.world.begin_fault('silent', silence_s)
        if self.has_feedback:
            here = self._commanded(self.world.steady_ns)
            moved = self.rng.uniform(self.lower, self.upper) - here
            # Of a joint without stops nobody can see how many turns it was moved.
            is_endless = np.isinf([joint.upper_rad for joint in self.robot.joints])
            turns = np.round(moved / (2 * np.pi))
            self.place = here + moved - np.where(is_endless, 2 * np.pi * turns, 0.0)
        self.played.rest_at(self.place)
        self.judge.begin_anywhere()
        self._play(self.world.steady_ns + _UNSEEN_NS)
        self.player.enable()
        self._push_plan()
        self._play(self.world.steady_ns + round(silence_s * 1000) * MS)

    def _event(self) -> None:
        self._push_plan()
        self._n_turns += 1
        if self._n_turns % _EVERY == 0 and self.neck.has_begun:
            if self._fault is not None:
                self._fault.begin(self)
            self.n_times += 1

    def _look(self) -> None:
        if self._stop_ns and not self.is_streamed:  # before the solution is sent
            self.world.delays.extend([2_000, self._stop_ns])
            self._stop_ns = 0
        super()._look()

    def _send_target(self) -> None:
        if self._stop_ns:  # before the target is out
            self.world.delays.extend([2_000, self._stop_ns])
            self._stop_ns = 0
        before, n_pauses = self.targets[-1:], self.player.n_pauses
        super()._send_target()
        self.sent += [target[2] for target in self.targets[-1:]]
        if before and self.player.n_pauses > n_pauses:
            self._judge_resumed(before[0], self.targets[-1])

    def _judge_resumed(self, last, first) -> None:
        """Judge the first target after a pause by the way of a stop from the last one before."""
        velocity, acceleration, jerk = self.judge.limits
        # It may still get faster, until the acceleration that it had is taken away.
        speed = np.minimum(np.abs(last[3]) + acceleration**2 / jerk, velocity)
        stop = speed * self.neck.config.stop_ms / 1000 + speed**2 / (2 * acceleration)
        # A joint outside its range is led inside by a stop, too.
        outside = np.maximum(self.judge.beyond(last[2]), 0.0)
        way = np.maximum(np.abs(first[2] - last[2]) - outside - _INSIDE_RAD, 0.0)
        self.judge.note('resume', (way / stop).max(), self.world.steady_ns)

    def _send_trajectory(self, trajectory) -> None:
        self.sent.append(trajectory.position)
        super()._send_trajectory(trajectory)


def play_neck_fault(fault: NeckFault, n_conversations: int, seed: int = 0) -> NeckRow:
    """Play a fault in some conversations of different robots, outputs and delays."""
    known, shares = robots(), dict.fromkeys(_SHARES, 0.0)
    report, n_times, n_changed = dict.fromkeys(COUNTED, 0), 0, 0
    for number in range(n_conversations):
        conversation = _FaultyConversation(known, fault, (seed, number), report)
        judge = conversation.run()
        for name in _SHARES:
            shares[name] = float(np.maximum(shares[name], judge.shares[name]))  # NaN stays
        n_times += conversation.n_times
        if fault.is_ignored:
            n_changed += _n_different(conversation.sent, _sent_without_fault(seed, number))
    n_elsewhere = int(report['fooled'])
    return NeckRow(fault.name, n_times, report['sent'], shares, n_elsewhere, n_changed)


@functools.cache
def _sent_without_fault(seed: int, number: int) -> list[np.ndarray]:
    twin = _FaultyConversation(robots(), None, (seed, number), dict.fromkeys(COUNTED, 0))
    twin.run()
    return twin.sent


def _n_different(sent: list[np.ndarray], others: list[np.ndarray]) -> int:
    """Return how many messages are not those of another list."""
    pairs = zip(sent, others, strict=False)
    n_different = sum(not np.array_equal(one, other) for one, other in pairs)
    return n_different + abs(len(sent) - len(others))


def neck_problems(row: NeckRow) -> list[str]:
    """Return what a fault should not have done."""
    found = [
        f'{share:.3f} of the limit of {name} were used'
        for name, share in row.shares.items()
        if not share <= 1 + 1e-6
    ]
    if row.n_elsewhere:
        found.append(f'{row.n_elsewhere} motions begin where the joints are not')
    if row.n_changed:
        found.append(f'{row.n_changed} messages are not those that are sent without it')
    if row.n_sent < 50:
        found.append(f'{row.n_sent} messages were sent, at least 50 were expected')
    if row.n_times < 10:
        found.append(f'it happened {row.n_times} times, at least 10 were expected')
    return found


def neck_table(rows: list[NeckRow]) -> str:
    """Return rows as a Markdown table."""
    lines = [
        f'| fault | times | sent | {" | ".join(_SHARES)} |',
        '|---|---|---|' + '---|' * len(_SHARES),
    ]
    for row in rows:
        shares = ' | '.join(f'{row.shares[name]:.3f}' for name in _SHARES)
        lines.append(f'| {row.name} | {row.n_times} | {row.n_sent} | {shares} |')
    return '\n'.join(lines)
