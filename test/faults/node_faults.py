# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong around the conversation node on a real graph: publishers, clocks, its own life.

How it is played, and measured, is `scene.py`'s.
"""

import array
from collections.abc import Callable
import dataclasses
import gc
import pathlib
import sys
import threading
import types

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rclpy.qos import QoSProfile
from scene import Scene
from simulation import resident_mib
from std_msgs.msg import ByteMultiArray, Int64

from timar_ros.msg import AudioChunk, HeadMotion, HeadStyle
from timar_ros.nodes.convert import stamp_from_ns
from timar_ros.nodes.recording import Voice, conversation_events
from timar_ros.stream.resample import SAMPLE_RATE_HZ

_SECOND_NS = 1_000_000_000
_FAULT_S = 4.0
_TURNS_LATER_S = 2.0
_FOREIGN_TYPE = 'unittest.__main__/msg/Sound'


@dataclasses.dataclass(frozen=True)
class NodeRow:
    """
    What one fault did.

    Attributes:
        name: of the fault.
        step_deg: the largest angle between two shown frames in a row, from the fault on.
        right_deg: how far the head was off a conversation without the fault, from two turns after
            its end on.
        growth_mib: of the process, over what would have to stay.
        counters: of the node, other than zero, that tell of it.
    """

    name: str
    step_deg: float
    right_deg: float
    growth_mib: float
    counters: dict[str, int]


def _restart_publisher(scene: Scene) -> tuple[float, int]:
    """A microphone's node dies, and its successor counts from 0, 0.3 s later."""
    end_s = _FAULT_S + 0.3
    scene.begin_fault(_FAULT_S)
    scene.user_leaves()
    scene.play(_FAULT_S, end_s, scene.agent_events())
    scene.user_returns()
    later = [e for e in scene.events if e.topic == 'user/audio' and e.at_ns > end_s * _SECOND_NS]
    first_sample = later[0].msg.first_sample
    for event in later:
        event.msg.first_sample -= first_sample
    scene.play(end_s, end_s + 5)
    return end_s, 0


def _two_publishers(scene: Scene) -> tuple[float, int]:
    """Another process publishes noise on the same topic for 3 s."""
    partner, rng, end_s = scene.partner, np.random.default_rng(0), _FAULT_S + 3
    scene.begin_fault(_FAULT_S)
    partner.voices['other'] = scene.other()
    noise = (0.05 * rng.standard_normal((3 * SAMPLE_RATE_HZ, 1))).astype(np.float32)
    start_ns = scene.start_ns + round(_FAULT_S * _SECOND_NS)
    events = conversation_events(Voice(noise, SAMPLE_RATE_HZ), None, start_ns)
    delayed = round(_FAULT_S * _SECOND_NS) + 30_000_000
    others = [dataclasses.replace(e, at_ns=e.at_ns + delayed, topic='other') for e in events]
    merged = sorted(scene.events + others, key=lambda event: event.at_ns)
    scene.play(_FAULT_S, end_s + 5, merged)
    return end_s, 0


def _stall(scene: Scene, from_s: float, to_s: float) -> None:
    is_over = threading.Event()
    scene.node._worker.do(is_over.wait)
    scene.partner.is_stalled = True
    scene.play(from_s, to_s)
    scene.partner.is_stalled = False
    is_over.set()
    scene.partner.tell()


def _stall_worker(scene: Scene) -> tuple[float, int]:
    """The worker's thread does nothing for 3 s."""
    end_s = _FAULT_S + 3
    scene.begin_fault(_FAULT_S)
    _stall(scene, _FAULT_S, end_s)
    scene.play(end_s, end_s + 5)
    return end_s, 0


def _step_clock(step_s: float, is_anew: bool = True):
    def step(scene: Scene) -> tuple[float, int]:
        scene.begin_fault(_FAULT_S)
        n_heard = len(scene.heard)
        scene.shift(step_s)
        scene.play(_FAULT_S, _FAULT_S + 6)
        return _FAULT_S, n_heard if is_anew else 0

    return step


def _activate_100_times(scene: Scene) -> tuple[float, int]:
    """Deactivate and activate the node while both voices speak; every tenth time it plans."""
    at_s, scene.has_paused = _FAULT_S, True
    scene.begin_fault(at_s)
    for i in range(100):
        off_s, on_s = 0.02, 0.02 if i % 10 else 0.6
        scene.node.trigger_deactivate()
        scene.play(at_s, at_s + off_s)
        scene.node.trigger_activate()
        at_s = round(at_s + off_s, 2)
        n_heard = len(scene.heard)
        scene.play(at_s, at_s + on_s)
        at_s = round(at_s + on_s, 2)
    n_threads = sum(thread.name == 'conversation' for thread in threading.enumerate())
    assert n_threads == 1, f'{n_threads} worker threads are alive'
    end_s = round(at_s - on_s, 2)
    scene.play(at_s, at_s + 5)
    return end_s, n_heard


def _other_type(message):
    """Let the microphone be replaced by a publisher of another type for 2 s."""

    def replace(scene: Scene) -> tuple[float, int]:
        scene.begin_fault(_FAULT_S)
        scene.user_leaves()
        scene.send_all(scene.other(type(message)), [message] * 20)
        scene.play(_FAULT_S, _FAULT_S + 2, scene.agent_events())
        scene.end_others()
        scene.user_returns()
        scene.play(_FAULT_S + 2, _FAULT_S + 7)
        return _FAULT_S + 2, 0

    return replace


def _hostile_chunks() -> list[AudioChunk]:
    """Return chunks that must be refused; of no more than 20 ms, but for one of 30 MB."""
    chunks = []
    for fields in (
        {'sample_rate': 0},
        {'sample_rate': 2**31 - 1},
        {'channels': 0},
        {'channels': 255},
        {'encoding': 'x' * 1_000_000},
        {'data': array.array('B', bytes(1279))},
        {'data': array.array('B', np.full(320, np.nan, '<f4').tobytes())},
        {'data': array.array('B', bytes(30_000_000))},
    ):
        good = {'sample_rate': SAMPLE_RATE_HZ, 'channels': 1, 'encoding': 'pcm_f32le'}
        data = array.array('B', bytes(1280))
        chunks.append(AudioChunk(**{**good, 'data': data, **fields}))
    return chunks


def _send_hostile_chunks(scene: Scene) -> tuple[float, int]:
    """Send them between those of the microphone, from another process."""
    scene.begin_fault(_FAULT_S)
    publisher = scene.other(depth=1)
    scene.send_all(publisher, _hostile_chunks())
    for at_s in np.arange(_FAULT_S, _FAULT_S + 1, 0.2).round(2):
        # One of 30 MB is enough here: DDS keeps it in this process for the sender, too.
        scene.send_all(publisher, _hostile_chunks()[:-1])
        scene.play(at_s, at_s + 0.2)
    scene.end_others()
    scene.play(_FAULT_S + 1, _FAULT_S + 6)
    return _FAULT_S + 1, 0


def _advertise_code(scene: Scene) -> tuple[float, int]:
    """Let the graph show a publisher whose type is the name of a Python module."""
    scene.begin_fault(_FAULT_S)
    node = scene.node
    look = node.get_publishers_info_by_topic
    names = {'node_name': 'stranger', 'node_namespace': '/', 'topic_type': _FOREIGN_TYPE}
    stranger = types.SimpleNamespace(qos_profile=QoSProfile(depth=1), **names)
    node.get_publishers_info_by_topic = lambda topic: (
        [*look(topic), stranger] if topic.endswith('user/audio') else look(topic)
    )
    n = len(scene.partner.diagnostics)
    assert scene.graph.spin_until(lambda: len(scene.partner.diagnostics) > n + 2)
    scene.play(_FAULT_S, _FAULT_S + 1)
    assert 'unittest.__main__' not in sys.modules, 'it was imported'
    message = scene.partner.diagnostics[-1].status[0].message
    assert _FOREIGN_TYPE in message, f'diagnostics do not name it: {message}'
    node.get_publishers_info_by_topic = look
    scene.play(_FAULT_S + 1, _FAULT_S + 6)
    return _FAULT_S + 1, 0


def _request_the_impossible(scene: Scene) -> None:
    client = scene.graph.find_service(scene.partner.node, ChangeState, 'conversation/change_state')
    for number in (0, 1, 2, 3, 5, 10, 60, 255):
        answer = scene.graph.call(client, transition=Transition(id=number))
        assert not answer.success, f'transition {number} of an active node is no success'


def _manage_badly(scene: Scene) -> tuple[float, int]:
    """Ask an active node for transitions that it cannot make."""
    scene.begin_fault(_FAULT_S)
    _request_the_impossible(scene)
    scene.play(_FAULT_S, _FAULT_S + 5)
    return _FAULT_S, 0


def _send_huge_styles(scene: Scene) -> tuple[float, int]:
    """Send 20 styles that hold megabytes, and head frames of an hour ahead."""
    scene.begin_fault(_FAULT_S)
    styles = [
        HeadStyle(emotion=f'{i}' + 'x' * 1_000_000, intensity=9.0, persona='y' * 1_000_000)
        for i in range(20)
    ]
    scene.send_all(scene.other(HeadStyle, 'agent/style', 5), styles)
    head = HeadMotion(expression_space='flame50')
    head.neck.w = 1.0
    head.header.stamp = stamp_from_ns(scene.partner.time_ns + 3600 * _SECOND_NS)
    scene.send_all(scene.other(HeadMotion, 'user/head_motion'), [head] * 20)
    scene.end_others()
    scene.play(_FAULT_S, _FAULT_S + 5)
    return _FAULT_S, 0


def _beyond_all_stamps(scene: Scene) -> tuple[float, int]:
    """Set the clock beyond 2^31 s, and below 0, and back."""
    scene.begin_fault(_FAULT_S)
    n_heard = len(scene.heard)
    scene.tell_times((2**31 - 1, 4_000_000_000), (-5, 0))
    scene.play(_FAULT_S, _FAULT_S + 6)
    return _FAULT_S, n_heard


def _one_after_the_other(scene: Scene) -> tuple[float, int]:
    """Chunks that are refused, a worker that stalls, requests, a lost microphone, a set clock."""
    scene.begin_fault(_FAULT_S)
    scene.send_all(scene.other(), _hostile_chunks()[:-1])
    scene.end_others()
    _stall(scene, _FAULT_S, _FAULT_S + 1)
    _request_the_impossible(scene)
    scene.user_leaves()
    scene.play(_FAULT_S + 1, _FAULT_S + 1.3, scene.agent_events())
    scene.user_returns()
    scene.play(_FAULT_S + 1.3, _FAULT_S + 2)
    n_heard = len(scene.heard)
    scene.shift(5)
    scene.play(_FAULT_S + 2, _FAULT_S + 8)
    return _FAULT_S + 2, n_heard


@dataclasses.dataclass(frozen=True)
class NodeFault:
    """
    One thing that goes wrong around the node.

    Attributes:
        name: as the table has it.
        happen: plays it and 5 s more; returns when it ended, s since the start, and how many
            messages a conversation that shall be the same has not heard.
        tells: counters that must have grown.
        step_deg: how far the head may move in a frame.
        off_deg: how far it may be off a conversation without the fault, two turns after its end.
        growth_mib: by how much the process may grow, its publishers included.
    """

    name: str
    happen: Callable[[Scene], tuple[float, int]]
    tells: tuple[str, ...]
    step_deg: float = 5.0
    off_deg: float = 0.3
    growth_mib: float = 60.0


# From a head at rest, a blend takes it a third of the way to its 28.6 degrees in one frame.
_FROM_REST_DEG = 11.0
# Speech or noise: which one comes last is for DDS to say, and the head follows what it hears.
_EITHER_DEG = 8.0

NODE_FAULTS = (
    NodeFault(
        'publisher restarted after 0.3 s',
        _restart_publisher,
        ('user_reanchored', 'missing_user_frames'),
    ),
    NodeFault(
        'two publishers on one topic, two processes',
        _two_publishers,
        ('user_overlapped_samples',),
        _EITHER_DEG,
    ),
    NodeFault(
        'no plan for 3 s, worker stalled', _stall_worker, ('skipped_moments',), _FROM_REST_DEG
    ),
    NodeFault('clock 3 s ahead', _step_clock(3, is_anew=False), ('clock_jumps',), _FROM_REST_DEG),
    NodeFault('clock 5 s ahead', _step_clock(5), ('clock_jumps',), _FROM_REST_DEG),
    NodeFault('clock 5 s back', _step_clock(-5), ('clock_jumps',), _FROM_REST_DEG),
    NodeFault('clock 56 years ahead', _step_clock(1.76e9), ('clock_jumps',), _FROM_REST_DEG),
    NodeFault('deactivated and activated 100 times', _activate_100_times, (), _FROM_REST_DEG),
    NodeFault(
        'std_msgs/Int64 on user/audio for 2 s',
        _other_type(Int64(data=7)),
        ('refused_messages', 'missing_user_frames'),
    ),
    NodeFault(
        'std_msgs/ByteMultiArray on user/audio for 2 s',
        _other_type(ByteMultiArray(data=[b'\x00', b'\x01'])),
        ('refused_messages', 'missing_user_frames'),
    ),
    NodeFault(
        'chunks of rate 0, of no channels, of NaN, of 30 MB',
        _send_hostile_chunks,
        ('refused_messages',),
        growth_mib=240.0,  # DDS keeps the 30 MB several times, most of it for the sender
    ),
    NodeFault(f'{_FOREIGN_TYPE} advertised on user/audio', _advertise_code, ()),
    NodeFault('impossible life-cycle requests', _manage_badly, ('refused_transitions',)),
    NodeFault(
        'styles of 2 MB, head frames an hour ahead', _send_huge_styles, ('refused_messages',)
    ),
    NodeFault(
        'clock beyond 2^31 s and below 0, and back', _beyond_all_stamps, ('clock_jumps',),
        _FROM_REST_DEG,
    ),
    NodeFault(
        'five faults in a row',
        _one_after_the_other,
        ('refused_messages', 'skipped_moments', 'refused_transitions', 'user_lost_samples',
         'clock_jumps'),
        _FROM_REST_DEG,
    ),
)  # fmt: skip


def play_node_fault(fault: NodeFault, domain_id: int, folder: pathlib.Path) -> NodeRow:
    """Play one fault on a graph of its own."""
    scene = Scene(domain_id, folder)
    try:
        gc.collect()
        before_mib = resident_mib()
        end_s, n_unheard = fault.happen(scene)
        gc.collect()
        grown_mib = resident_mib() - before_mib
        counters = scene.counters()
        return NodeRow(
            fault.name,
            scene.step_deg(),
            scene.off_deg(end_s + _TURNS_LATER_S, n_unheard),
            grown_mib,
            {name: counters.get(name, 0) for name in fault.tells},
        )
    finally:
        scene.close()


def node_problems(fault: NodeFault, row: NodeRow) -> list[str]:
    """Return what a fault should not have done."""
    found = [f'{name} does not tell of it' for name, n in row.counters.items() if not n]
    if row.step_deg > fault.step_deg:
        found.append(
            f'the head moved {row.step_deg:.2f} degrees in a frame, {fault.step_deg:g} are allowed'
        )
    if row.right_deg > fault.off_deg:
        found.append(
            f'two turns after its end the head is {row.right_deg:.3f} degrees off, '
            f'{fault.off_deg:g} are allowed'
        )
    if row.growth_mib > fault.growth_mib:
        found.append(f'the process grew by {row.growth_mib:.0f} MiB')
    return found


def node_table(rows: list[NodeRow]) -> str:
    """Return rows as a Markdown table."""
    lines = [
        '| fault | largest step ° | off two turns later ° | grown by MiB | counters that tell |',
        '|---|---|---|---|---|',
    ]
    for row in rows:
        counters = ', '.join(f'{name} {n}' for name, n in row.counters.items())
        lines.append(
            f'| {row.name} | {row.step_deg:.2f} | {row.right_deg:.3f} | {row.growth_mib:.1f} '
            f'| {counters} |'
        )
    return '\n'.join(lines)
