# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong around a neck: its measured joints, its clock, its process.

Played by the world of the fuzz (`neck_world.py`) on all robots and both outputs, with wild plans;
the judge (`neck_judge.py`) sees only what was sent and when it came.
"""

from collections.abc import Callable
import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from fuzz_neck import COUNTED, TURNS_A_CONVERSATION, Conversation, robots  # noqa: E402
from neck_judge import NAMES  # noqa: E402
from neck_world import MS, World  # noqa: E402
import numpy as np  # noqa: E402

# The fault comes with every so manyth turn.
_EVERY = 3


@dataclasses.dataclass(frozen=True)
class NeckFault:
    """
    One thing that goes wrong around a neck.

    Attributes:
        name: as the table has it.
        begin: lets it happen in a world.
    """

    name: str
    begin: Callable[[World], None]


@dataclasses.dataclass(frozen=True)
class NeckRow:
    """
    What one fault did.

    Attributes:
        name: of the fault.
        n_times: how often it happened.
        n_sent: trajectories and targets sent.
        shares: of each limit, used at most; above 1: broken.
    """

    name: str
    n_times: int
    n_sent: int
    shares: dict[str, float]


def _measure(kind: str, duration_s: float) -> Callable[[World], None]:
    return lambda world: world.begin_fault(kind, duration_s)


def _stall(duration_s: float) -> Callable[[World], None]:
    def stall(world: World) -> None:
        world.stop_process(round(duration_s * 1000) * MS)

    return stall


def _one_after_the_other(world: World) -> None:
    world.set_clock()
    _stall(0.6)(world)
    world.begin_fault('random', 0.3)


# Shorter than the time between two samples.
_ONE = 0.001
NECK_FAULTS = (
    NeckFault('one sample 0.3 rad off', _measure('off', _ONE)),
    NeckFault('one sample at the end of a range', _measure('limit', _ONE)),
    NeckFault('one sample a turn off', _measure('turn', _ONE)),
    NeckFault('one sample of 1e308', _measure('huge', _ONE)),
    NeckFault('one sample of NaN', _measure('nan', _ONE)),
    *(
        NeckFault(f'no samples for {seconds:g} s', _measure('silent', seconds))
        for seconds in (0.1, 0.6, 1.0, 3.0)
    ),
    NeckFault('noise of 0.2 rad for 1 s', _measure('noise', 1.0)),
    NeckFault('two publishers for 3 s', _measure('two', 3.0)),
    NeckFault('samples up to 1 s late, for 1 s', _measure('delayed', 1.0)),
    NeckFault('frozen samples for 1 s', _measure('frozen', 1.0)),
    NeckFault('clock set by 0.2 s to 3 years', World.set_clock),
    NeckFault('process stopped for 0.1 s', _stall(0.1)),
    NeckFault('process stopped for 0.6 s', _stall(0.6)),
    NeckFault('process stopped for 3 s', _stall(3.0)),
    NeckFault('set clock, stopped process, wrong samples at once', _one_after_the_other),
)


class _FaultyConversation(Conversation):
    """One with wild plans and one kind of fault, and nothing else that is random."""

    def __init__(self, known, fault: NeckFault, seed, report):
        super().__init__(known, seed, report)
        self._fault, self._n_turns = fault, 0
        self.player.enable()

    def _event(self) -> None:
        self._push_plan()
        self._n_turns += 1
        if self._n_turns % _EVERY == 0:
            self._fault.begin(self.world)


def play_neck_fault(fault: NeckFault, n_conversations: int, seed: int = 0) -> NeckRow:
    """Play a fault in some conversations of different robots, outputs and delays."""
    known, shares = robots(), dict.fromkeys(NAMES, 0.0)
    report = dict.fromkeys(COUNTED, 0)
    for number in range(n_conversations):
        judge = _FaultyConversation(known, fault, (seed, number), report).run()
        for name in NAMES:
            shares[name] = float(np.maximum(shares[name], judge.shares[name]))  # NaN stays
    n_times = n_conversations * (TURNS_A_CONVERSATION // _EVERY)
    return NeckRow(fault.name, n_times, report['sent'], shares)


def neck_problems(row: NeckRow) -> list[str]:
    """Return what a fault should not have done."""
    found = [
        f'{share:.3f} of the limit of {name} were used'
        for name, share in row.shares.items()
        if not share <= 1 + 1e-6
    ]
    if row.n_sent < 50:
        found.append(f'{row.n_sent} messages were sent, at least 50 were expected')
    return found


def neck_table(rows: list[NeckRow]) -> str:
    """Return rows as a Markdown table."""
    lines = [
        f'| fault | times | sent | {" | ".join(NAMES)} |',
        '|---|---|---|' + '---|' * len(NAMES),
    ]
    for row in rows:
        shares = ' | '.join(f'{row.shares[name]:.3f}' for name in NAMES)
        lines.append(f'| {row.name} | {row.n_times} | {row.n_sent} | {shares} |')
    return '\n'.join(lines)
