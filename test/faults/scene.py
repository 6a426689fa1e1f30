# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A conversation node on a real graph that hears two voices, and how to measure what it shows.

Time is simulated and waits for the node, so that a busy machine is no fault. Knows no fault.
"""

import importlib.util
import pathlib

from builtin_interfaces.msg import Time
import numpy as np
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from simulation import (
    Event,
    Stage,
    WatchedConversation,
    largest_step_deg,
    read_dialogue,
    tiny_model,
)

from timar_ros.config import TimingConfig
from timar_ros.model.checkpoint import load_checkpoint, save_checkpoint
from timar_ros.msg import AudioChunk
from timar_ros.nodes.conversation import ConversationNode
from timar_ros.nodes.convert import stamp_from_ns, stamp_to_ns
from timar_ros.nodes.executor import FaultTolerantExecutor
from timar_ros.nodes.recording import Voice, conversation_events
from timar_ros.stream.audio import packet_from_fields
from timar_ros.stream.resample import SAMPLE_RATE_HZ

_SECOND_NS, _FRAME_NS = 1_000_000_000, 40_000_000
_LENGTH_S = 20.0


def module_of(path: str):
    """Return a module of the tests in test/graph."""
    path = pathlib.Path(__file__).parents[1] / 'graph' / path
    spec = importlib.util.spec_from_file_location(f'graph_{path.stem}', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_GRAPH = module_of('conftest.py')


class Graph(_GRAPH.Graph):
    """One whose callbacks may raise, as in the programs of the nodes."""

    def __init__(self, domain_id: int):
        super().__init__(domain_id)
        self._executor.shutdown()
        self._executor = FaultTolerantExecutor(context=self.context)

    def n_exceptions(self, node) -> int:
        """Return how many callbacks of a node have raised."""
        return self._executor.n_exceptions[node]


class Partner(_GRAPH.Partner):
    """One that can go on while the node's worker does not."""

    is_stalled = False

    def _is_done(self) -> bool:
        if not self.is_stalled:
            return super()._is_done()
        node = self.conversation
        return not node._due_ns and node._next_moment_ns > self.time_ns


class Scene:
    """A conversation node that hears the demo's voices from `start_ns` on."""

    def __init__(self, domain_id: int, folder: pathlib.Path, use_sim_time: bool = True):
        """Begin; the node is active and has heard nothing."""
        path = folder / 'tiny.safetensors'
        if not path.exists():
            save_checkpoint(path, tiny_model())
        self.domain_id = domain_id
        self.graph = Graph(domain_id)
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
        self._clock_is_set()
        self.partner.time_ns += step_ns
        self.start_ns += step_ns
        self.partner.tell()

    def _clock_is_set(self) -> None:
        """Take note that frames planned so far are stamped by another clock than those to come."""
        self.n_plans_before = len(self.partner.plans)

    def other(self, cls=AudioChunk, topic: str = 'user/audio', depth: int = 500):
        """Return a second participant's publisher, matched."""
        self.others.append(Graph(self.domain_id))
        publisher = self.others[-1].node('other').create_publisher(cls, topic, depth)
        assert self.graph.spin_until(publisher.get_subscription_count)
        return publisher

    def end_others(self) -> None:
        """Let the other participants leave."""
        while self.others:
            self.others.pop().close()

    def send_all(self, publisher, messages) -> None:
        """Publish messages and wait until the node has had them; time stands."""
        for message in messages:
            publisher.publish(message)
            publisher.wait_for_all_acked()
            self.graph.spin_for(0.02)
        self.partner.tell()

    def user_leaves(self) -> None:
        """Let the microphone's publisher go."""
        self.partner.node.destroy_publisher(self.partner.voices.pop('user'))

    def user_returns(self) -> None:
        """Let a microphone's publisher come, of another process, and be heard."""
        self.partner.voices['user'] = self.other()

    def agent_events(self) -> list:
        """Return what is said while the user's microphone is away."""
        return [event for event in self.events if event.topic == 'agent/audio']

    def tell_times(self, *times: tuple[int, int]) -> None:
        """Tell times (s, ns) that no stamp can hold, each for a while; then the right one."""
        for sec, nanosec in times:
            for _ in range(10):
                self.partner._clock_pub.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))
                self.graph.spin_for(0.02)
        self._clock_is_set()
        self.partner.tell()

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
        stage = Stage(WatchedConversation(self._model, TimingConfig()), begin_ns)
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
        self.end_others()
        self.graph.close()
