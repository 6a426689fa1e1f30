# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong around the conversation node on a real graph: publishers, clocks, its own life.

Time is simulated and waits for the node, so that a busy machine is no fault.
"""

from collections.abc import Callable
import dataclasses
import gc
import importlib.util
import pathlib
import threading

import numpy as np
from rclpy.parameter import Parameter
from simulation import (
    Event,
    Stage,
    largest_step_deg,
    read_dialogue,
    resident_mib,
    tiny_model,
)

from timar_ros.config import TimingConfig
from timar_ros.model.checkpoint import load_checkpoint, save_checkpoint
from timar_ros.msg import AudioChunk
from timar_ros.nodes.conversation import ConversationNode
from timar_ros.nodes.convert import stamp_from_ns, stamp_to_ns
from timar_ros.nodes.recording import Voice, conversation_events
from timar_ros.stream.audio import packet_from_fields
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.resample import SAMPLE_RATE_HZ

_SECOND_NS, _FRAME_NS = 1_000_000_000, 40_000_000
_LENGTH_S = 16.0
_FAULT_S = 4.0
_TURNS_LATER_S = 2.0
_MOST_GROWTH_MIB = 60.0


def _graph_conftest():
    path = pathlib.Path(__file__).parents[1] / 'graph' / 'conftest.py'
    spec = importlib.util.spec_from_file_location('graph_conftest', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_GRAPH = _graph_conftest()


class Partner(_GRAPH.Partner):
    """One that can go on while the node's worker does not."""

    is_stalled = False

    def _is_done(self) -> bool:
        if not self.is_stalled:
            return super()._is_done()
        node = self.conversation
        return not node._due_ns and node._next_moment_ns > self.time_ns


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


class Scene:
    """A conversation node that hears the demo's voices from `start_ns` on."""

    def __init__(self, domain_id: int, folder: pathlib.Path, use_sim_time: bool = True):
        """Begin; the node is active and has heard nothing."""
        path = folder / 'tiny.safetensors'
        if not path.exists():
            save_checkpoint(path, tiny_model())
        self.domain_id = domain_id
        self.graph = _GRAPH.Graph(domain_id)
        self.partner = Partner(self.graph)
        given = {'checkpoint': str(path), 'threads': 1, 'use_sim_time': use_sim_time}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        self.node = ConversationNode(context=self.graph.context, parameter_overrides=overrides)
        self.partner.conversation = self.graph.add(self.node)
        if use_sim_time:
            self.partner.meet()
        else:
            assert self.graph.spin_until(lambda: self.node.is_active)
        self.start_ns = self.partner.time_ns + _SECOND_NS
        self._model = load_checkpoint(path)
        n = round(_LENGTH_S * SAMPLE_RATE_HZ)
        voices = (Voice(samples[:n, None], SAMPLE_RATE_HZ) for samples in read_dialogue().values())
        self.events = list(conversation_events(*voices, self.start_ns))
        self._first_ns = self.start_ns
        self.heard, self.others = [], []
        self.n_before = self.n_plans_before = 0
        self.has_paused = False

    def begin_fault(self, at_s: float) -> None:
        """Play up to a fault; what is shown from here on counts."""
        self.play(-1.0, at_s)
        self.n_before, self.n_plans_before = len(self.partner.frames), len(self.partner.plans)

    def play(self, from_s: float, to_s: float, events=None) -> None:
        """Let time pass, and speak what arrives meanwhile; times since the start."""
        begin_ns, end_ns = (round(seconds * _SECOND_NS) for seconds in (from_s, to_s))

        def due(said):
            return [event for event in said if begin_ns < event.at_ns <= end_ns]

        self.heard += [
            Event(self.start_ns + e.at_ns, e.topic.split('/')[0], packet_from_fields(e.msg))
            for e in due(self.events)
        ]
        now_ns = self.partner.time_ns - self.start_ns
        said = due(self.events if events is None else events)
        self.partner.advance((end_ns - now_ns) / _SECOND_NS, said, self.start_ns)

    def shift(self, seconds: float) -> None:
        """Set the clock, and let all that is said from now on be stamped by it."""
        step_ns, now_ns = round(seconds * _SECOND_NS), self.partner.time_ns - self.start_ns
        for event in self.events:
            if event.at_ns > now_ns:
                header, sent_ns = event.msg.header, stamp_to_ns(event.msg.sent)
                header.stamp = stamp_from_ns(stamp_to_ns(header.stamp) + step_ns)
                event.msg.sent = stamp_from_ns(sent_ns and sent_ns + step_ns)
        self.partner.time_ns += step_ns
        self.start_ns += step_ns
        self.partner.tell()

    def other(self):
        """Return a second participant's publisher of user/audio, matched."""
        self.others.append(_GRAPH.Graph(self.domain_id))
        publisher = self.others[-1].node('other').create_publisher(AudioChunk, 'user/audio', 500)
        assert self.graph.spin_until(publisher.get_subscription_count)
        return publisher

    def counters(self) -> dict[str, int]:
        """Return the node's counters, as its diagnostics tell them."""
        n = len(self.partner.diagnostics)
        assert self.graph.spin_until(lambda: len(self.partner.diagnostics) > n + 1)
        pairs = self.partner.diagnostics[-1].status[0].values
        return {pair.key: int(pair.value) for pair in pairs if pair.value.isdigit()}

    def off_deg(self, from_s: float, n_unheard: int) -> float:
        """
        Return how far the head is off one without the fault, from a time on.

        Args:
            from_s: since the start.
            n_unheard: that one hears all that should have been said, but for so many messages.
        """
        events = self.heard[n_unheard:]
        begin_ns = self.start_ns if n_unheard else self._first_ns
        stage = Stage(Conversation(self._model, TimingConfig()), begin_ns)
        stage.play(events, self.partner.time_ns)
        shown = self.partner.frames[self.n_before :]
        stamps = self.partner.stamps(shown)
        is_late = stamps >= self.start_ns + round(from_s * _SECOND_NS)
        right = stage.neck_deg()[stamps[is_late] // _FRAME_NS - stage.first_frame]
        return float(np.linalg.norm(self.neck_deg()[is_late] - right, axis=-1).max())

    def planned_deg(self) -> np.ndarray:
        """Return what the plans since the fault's begin would show, `[n, 3]` in degrees."""
        in_force = {}
        for plan in self.partner.plans[self.n_plans_before :]:
            stamps = self.partner.stamps(plan.frames)
            in_force = {ns: frame for ns, frame in in_force.items() if ns < stamps[0]}
            in_force.update(zip(stamps.tolist(), plan.frames, strict=True))
        return np.rad2deg(self.partner.motion(list(in_force.values()))[:, 53:])

    def neck_deg(self) -> np.ndarray:
        """Return the frames shown since the fault's begin, `[n, 3]` in degrees."""
        frames = self.partner.frames[self.n_before :]
        return np.rad2deg(self.partner.motion(frames)[:, 53:])

    def step_deg(self) -> float:
        """Return the largest step of frames in a row, planned or shown, from the fault on."""
        frames = self.partner.frames[self.n_before - 1 :]
        steps = [largest_step_deg(self.planned_deg())]
        if (
            not self.has_paused
        ):  # while the node is inactive it shows nothing, though it has planned
            steps.append(largest_step_deg(np.rad2deg(self.partner.motion(frames)[:, 53:])))
        return max(steps)

    def close(self) -> None:
        """End it all."""
        for other in self.others:
            other.close()
        self.graph.close()


def _restart_publisher(scene: Scene) -> tuple[float, int]:
    """A microphone's node dies, and its successor counts from 0, 0.3 s later."""
    partner, end_s = scene.partner, _FAULT_S + 0.3
    scene.begin_fault(_FAULT_S)
    partner.node.destroy_publisher(partner.voices.pop('user'))
    agent = [event for event in scene.events if event.topic == 'agent/audio']
    scene.play(_FAULT_S, end_s, agent)
    partner.voices['user'] = partner.node.create_publisher(AudioChunk, 'user/audio', 500)
    assert scene.graph.spin_until(partner.voices['user'].get_subscription_count)
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


def _stall_worker(scene: Scene) -> tuple[float, int]:
    """The worker's thread does nothing for 3 s."""
    end_s, is_over = _FAULT_S + 3, threading.Event()
    scene.begin_fault(_FAULT_S)
    scene.node._worker.do(is_over.wait)
    scene.partner.is_stalled = True
    scene.play(_FAULT_S, end_s)
    scene.partner.is_stalled = False
    is_over.set()
    scene.partner.tell()
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
    """

    name: str
    happen: Callable[[Scene], tuple[float, int]]
    tells: tuple[str, ...]
    step_deg: float = 5.0
    off_deg: float = 0.3


# From a head at rest, a blend takes it a third of the way to its 28.6 degrees in one frame.
_FROM_REST_DEG = 11.0
# Speech or noise: which one comes last is for DDS to say, and the head follows what it hears.
_EITHER_DEG = 8.0

NODE_FAULTS = (
    NodeFault(
        'publisher begun anew after 0.3 s',
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
)


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
    if row.growth_mib > _MOST_GROWTH_MIB:
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
