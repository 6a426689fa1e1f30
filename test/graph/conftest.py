# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A private ROS graph for a test, and in it a conversation node with somebody to talk to it."""

import os
import time

import numpy as np
import pytest
import torch

rclpy = pytest.importorskip('rclpy', reason='no ROS 2 here: source env.sh, or a ROS installation')

from diagnostic_msgs.msg import DiagnosticArray  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from timar_ros.model.checkpoint import save_checkpoint  # noqa: E402
from timar_ros.motion import get_space  # noqa: E402
from timar_ros.msg import (  # noqa: E402
    AudioChunk,
    ConversationState,
    HeadMotion,
    HeadMotionPlan,
)
from timar_ros.nodes.conversation import ConversationNode  # noqa: E402
from timar_ros.nodes.convert import motion_from_msg, stamp_to_ns  # noqa: E402
from timar_ros.nodes.recording import Event, Voice, conversation_events  # noqa: E402

RATE_HZ = 16000
# Generous, so that a busy machine is no fault: plans may take 300 ms.
PATIENT = {'hearing_delay_ms': 140, 'plan_latency_ms': 300, 'agent_lead_ms': 700, 'threads': 1}


class Graph:
    """Nodes of one private context, spun in the test's own thread."""

    def __init__(self, domain_id: int):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._nodes = []

    def node(self, name: str, **options):
        """Make a plain node; it is destroyed with the graph."""
        return self.add(Node(name, context=self.context, **options))

    def add(self, node):
        """Spin `node` with the others."""
        self._nodes.append(node)
        self._executor.add_node(node)
        return node

    def spin_until(self, is_done, timeout_s: float = 20.0) -> bool:
        """Spin until `is_done()`; False if that did not come in time."""
        deadline = time.monotonic() + timeout_s
        while not is_done():
            if time.monotonic() > deadline:
                return False
            self._executor.spin_once(timeout_sec=0.02)
        return True

    def spin_for(self, duration_s: float) -> None:
        """Spin for a while."""
        self.spin_until(lambda: False, duration_s)

    def close(self) -> None:
        """Destroy every node and end the context."""
        for node in self._nodes:
            self._executor.remove_node(node)
            node.destroy_node()
        self._executor.shutdown()
        rclpy.try_shutdown(context=self.context)


class Partner:
    """The other end of a conversation node: it speaks to it and keeps what comes back."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.plans, self.frames, self.states, self.diagnostics = [], [], [], []
        self.node = graph.node('partner')
        for cls, topic, kept in (
            (HeadMotionPlan, 'agent/motion_plan', self.plans),
            (HeadMotion, 'agent/motion', self.frames),
            (ConversationState, 'conversation/state', self.states),
            (DiagnosticArray, '/diagnostics', self.diagnostics),
        ):
            self.node.create_subscription(cls, topic, kept.append, 500)
        self.voices = {
            voice: self.node.create_publisher(AudioChunk, f'{voice}/audio', 500)
            for voice in ('user', 'agent')
        }

    def meet(self, nodes_with: tuple[str, ...] = ('user', 'agent')) -> None:
        """Wait until the conversation node hears and is heard."""
        heard = [self.voices[voice] for voice in nodes_with]
        assert self.graph.spin_until(
            lambda: (
                all(pub.get_subscription_count() for pub in heard)
                and self.node.count_publishers('agent/motion_plan') > 0
            )
        )

    def value(self, key: str) -> str | None:
        """Return a value of the newest diagnostics."""
        for array in self.diagnostics[::-1]:
            for pair in array.status[0].values:
                if pair.key == key:
                    return pair.value
            return None
        return None

    def await_value(self, key: str, at_least: float) -> float:
        """Spin until a value of the diagnostics is so large; return it."""
        assert self.graph.spin_until(lambda: float(self.value(key) or 'nan') >= at_least), (
            f'{key} stayed at {self.value(key)}, expected at least {at_least}'
        )
        return float(self.value(key))

    def now_ns(self) -> int:
        """Return the time of the graph's clock."""
        return self.node.get_clock().now().nanoseconds

    def next_turn_ns(self, ahead_s: float = 0.9) -> int:
        """Return a turn's start that leaves time to announce the agent's voice."""
        turn_ns = 400_000_000
        return -(-(self.now_ns() + round(ahead_s * 1e9)) // turn_ns) * turn_ns

    def chunks(self, user=None, agent=None, start_ns: int = 0) -> list[Event]:
        """Return the messages of two voices `[n]`, in the order of their times."""
        voices = [v if v is None else Voice(v[:, None], RATE_HZ) for v in (user, agent)]
        return list(conversation_events(*voices, start_ns, agent_lead_ms=PATIENT['agent_lead_ms']))

    def play(self, events: list[Event], start_ns: int) -> None:
        """Publish each message at its time, as microphone and speaker do."""
        for event in events:
            self.graph.spin_until(lambda: self.now_ns() >= start_ns + event.at_ns)  # noqa: B023
            self.voices[event.topic.split('/')[0]].publish(event.msg)

    def stamps(self, frames=None) -> np.ndarray:
        """Return the stamps of frames received, ns."""
        frames = self.frames if frames is None else frames
        return np.array([stamp_to_ns(frame.header.stamp) for frame in frames], np.int64)

    def motion(self, frames=None, space: str = 'flame56') -> np.ndarray:
        """Return the motion of frames received, `[n, M]`."""
        frames = self.frames if frames is None else frames
        return np.stack([motion_from_msg(get_space(space), frame)[1] for frame in frames])


@pytest.fixture(scope='session')
def domain_id() -> int:
    """Return the domain that the test runner reserved, or one by process number."""
    return int(os.environ.get('ROS_DOMAIN_ID', 0)) or 1 + os.getpid() % 100


@pytest.fixture
def graph(domain_id, monkeypatch):
    """Yield a private graph that sees nothing beyond this machine."""
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    graph = Graph(domain_id)
    yield graph
    graph.close()


@pytest.fixture
def other_graph(graph, domain_id):
    """Yield a second participant of the same graph, as another process would be."""
    other = Graph(domain_id)
    yield other
    other.close()


@pytest.fixture
def partner(graph):
    """Return somebody to talk to the conversation node."""
    return Partner(graph)


@pytest.fixture(scope='session')
def checkpoint(make_model, tmp_path_factory):
    """Return the path of tiny weights with turns of 0.4 s."""
    path = tmp_path_factory.mktemp('checkpoint') / 'graph.safetensors'
    model = make_model(is_stub=False, cache='banded', level='causal', frames_per_turn=10)
    # A head held 0.5 rad down and moved little: a jump to neutral would show.
    model.motion_std[53:] *= 0.02
    model.motion_mean[53:] = torch.tensor([0.5, 0.0, 0.0])
    save_checkpoint(path, model)
    return path


@pytest.fixture
def start_conversation(graph, checkpoint):
    """Return the maker of conversation nodes on tiny weights; parameters as keywords."""

    def start(**params) -> ConversationNode:
        given = {'checkpoint': str(checkpoint), **PATIENT, **params}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        return graph.add(ConversationNode(context=graph.context, parameter_overrides=overrides))

    return start


@pytest.fixture(scope='session')
def make_voice():
    """Return the maker of voice-like noise: float32 `[n]`, syllables at 4 Hz."""

    def make(seconds: float, seed: int = 0) -> np.ndarray:
        n = round(seconds * RATE_HZ)
        noise = np.random.default_rng(seed).standard_normal(n)
        syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(n) / RATE_HZ + seed)
        return (0.1 * noise * syllables).astype(np.float32)

    return make
