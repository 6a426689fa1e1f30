# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Messages that no face can show, sent to the face node while a page looks: it stays alive.

The messages, the page and the one who talks are those of the face's own tests.
"""

from collections.abc import Callable
import dataclasses

import numpy as np
from scene import Graph, module_of

from timar_ros.bounds import MAX_PLAN_FRAMES
from timar_ros.motion import get_space

_TESTS = module_of('face/conftest.py')
_HOSTILE = module_of('face/test_face_hostile.py')
_ARKIT = get_space('arkit55')


@dataclasses.dataclass(frozen=True)
class FaceFault:
    """
    A kind of message that is wrong.

    Attributes:
        name: as the table has it.
        send: (talker, face) -> sends one.
        tells: counter that must have grown.
    """

    name: str
    send: Callable
    tells: str


@dataclasses.dataclass(frozen=True)
class FaceRow:
    """
    What one kind of message did.

    Attributes:
        name: of the fault.
        n_counted: by how much the counter that tells of it grew.
        n_raised: exceptions that nobody caught.
        is_shown: the next good plan reached the page.
    """

    name: str
    n_counted: int
    n_raised: int
    is_shown: bool


def _audio(name: str) -> FaceFault:
    """Hand an audio message to the face, as a subscription of its type does."""
    message = _HOSTILE.HOSTILE[name]
    text = f'{type(message).__name__} on agent/audio: {name}'
    return FaceFault(text, lambda talker, face: face._on_audio(message), 'refused_audio')


def _plan(text: str, spoil: Callable, tells: str = 'refused_plans') -> FaceFault:
    def send(talker, face) -> None:
        n = face.counters['plans']
        plan = talker.plan(np.tile(_ARKIT.neutral, (3, 1)), talker.now_ns())
        talker.say(spoil(plan) or plan)
        assert talker.graph.spin_until(lambda: face.counters['plans'] > n), 'it did not come'

    return FaceFault(f'a plan: {text}', send, tells)


FACE_FAULTS = (
    *(_audio(name) for name in _HOSTILE.HOSTILE),
    _plan('a neck of NaN', _HOSTILE.spoil_neck),
    _plan('an expression space of 1 MB', _HOSTILE.spoil_space),
    _plan('a million values of expression', _HOSTILE.spoil_length),
    _plan(
        f'{MAX_PLAN_FRAMES + 10} frames',
        lambda plan: _HOSTILE.long_plan(MAX_PLAN_FRAMES + 10),
        'cut_plans',
    ),
)


def play_face_faults(domain_id: int) -> list[FaceRow]:
    """Send every kind to one face, one after the other."""
    graph = Graph(domain_id)
    page = None
    try:
        talker = _TESTS.Talker(graph)
        face = talker.start()
        page = _TESTS.Page(face.server.port)
        return [_play(fault, talker, face, page) for fault in FACE_FAULTS]
    finally:
        if page is not None:
            page.close()
        graph.close()


def _play(fault: FaceFault, talker, face, page) -> FaceRow:
    before, n_raised = face.counters[fault.tells], talker.graph.n_exceptions(face)
    try:
        fault.send(talker, face)
    except Exception:  # counted below; in the node's own process it would be, too
        n_raised -= 1
    n_shown = len(page.of_kind(1))
    talker.say(talker.plan(np.tile(_ARKIT.neutral, (3, 1)), talker.now_ns()))
    is_shown = talker.graph.spin_until(lambda: len(page.of_kind(1)) > n_shown)
    return FaceRow(
        fault.name,
        face.counters[fault.tells] - before,
        talker.graph.n_exceptions(face) - n_raised,
        is_shown,
    )


def face_problems(row: FaceRow) -> list[str]:
    """Return what a message should not have done."""
    found = [] if row.is_shown else ['the next plan does not reach the page']
    found += ['no counter tells of it'] if row.n_counted != 1 else []
    return found + (['an exception was not caught'] if row.n_raised else [])


def face_table(rows: list[FaceRow]) -> str:
    """Return rows as a Markdown table."""
    lines = [
        '| message | counted | exceptions | next plan shown |',
        '|---|---|---|---|',
    ]
    for row in rows:
        shown = 'yes' if row.is_shown else 'NO'
        lines.append(f'| {row.name} | {row.n_counted} | {row.n_raised} | {shown} |')
    return '\n'.join(lines)
