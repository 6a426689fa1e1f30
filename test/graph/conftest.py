# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A private ROS graph for a test, and in it a conversation node with somebody to talk to it."""

import collections
import os
import signal
import threading
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
from rosgraph_msgs.msg import Clock  # noqa: E402

from timar_ros.model.checkpoint import save_checkpoint  # noqa: E402
from timar_ros.motion import get_space  # noqa: E402
from timar_ros.msg import (  # noqa: E402
    AudioChunk,
    ConversationState,
    HeadMotion,
    HeadMotionPlan,
)
from timar_ros.nodes.conversation import ConversationNode  # noqa: E402
from timar_ros.nodes.convert import motion_from_msg, stamp_from_ns, stamp_to_ns  # noqa: E402
from timar_ros.nodes.recording import Event, Voice, conversation_events  # noqa: E402

RATE_HZ = 16000


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

    def spin_once(self) -> None:
        """Do what is ready, if anything is."""
        self._executor.spin_once(timeout_sec=0)

    def spin_for(self, duration_s: float) -> None:
        """Spin for a while."""
        self.spin_until(lambda: False, duration_s)

    def find_service(self, node, cls, name: str):
        """Return a client of `node` for a service that is there."""
        for _ in range(4):  # a machine that is busy may miss a server; a new client asks anew
            client = node.create_client(cls, name)
            if self.spin_until(client.service_is_ready, 8.0):
                return client
            node.destroy_client(client)
        raise AssertionError(f'nobody offers {name}')

    def call(self, client, **fields):
        """Call a service and return its answer."""
        answer = client.call_async(client.srv_type.Request(**fields))
        assert self.spin_until(answer.done), f'no answer from {client.srv_name}'
        return answer.result()

    def remove(self, node) -> None:
        """Destroy a node before the others."""
        self._nodes.remove(node)
        self._executor.remove_node(node)
        node.destroy_node()

    def close(self) -> None:
        """Destroy every node and end the context."""
        for node in [*self._nodes]:
            self.remove(node)
        self._executor.shutdown()
        rclpy.try_shutdown(context=self.context)


class Partner:
    """
    The other end of a conversation node: it speaks to it and keeps what comes back.

    It is the graph's clock as well, and goes on only when the node has done all that was due: so
    tests do not depend on how busy the machine is.
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self.time_ns = 1000 * 10**9
        self.conversation = None
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
        self._clock_pub = self.node.create_publisher(Clock, '/clock', 10)

    def meet(self) -> None:
        """Wait until the conversation node is active, hears and is heard; start the clock."""
        publishers = [*self.voices.values(), self._clock_pub]
        assert self.graph.spin_until(
            lambda: (
                self.conversation.is_active
                and all(publisher.get_subscription_count() for publisher in publishers)
                and self.node.count_publishers('agent/motion_plan') > 0
            )
        )
        self.tell()

    def tell(self) -> None:
        """Tell the time and let the node do what is due."""
        stamp = stamp_from_ns(self.time_ns)
        clock = self.conversation.get_clock()
        for _ in range(100):  # the clock's topic may lose messages
            self._clock_pub.publish(Clock(clock=stamp))
            if self.graph.spin_until(lambda: clock.now().nanoseconds == self.time_ns, 0.2):
                break
        assert self.graph.spin_until(self._is_done), f'nothing moves at {self.time_ns} ns'

    def _is_done(self) -> bool:
        """Whether the node has planned and shown what was due by now."""
        node = self.conversation
        if not node.is_active:
            return True
        if node._due_ns or node._next_moment_ns <= self.time_ns:
            return False
        if node._frames.next_ns(self.time_ns + 1) <= self.time_ns:
            return False
        is_idle = threading.Event()
        node._worker.do(is_idle.set)
        return is_idle.wait(20)

    def next_turn_ns(self) -> int:
        """Return a turn's start that leaves time to announce the agent's voice."""
        turn_ns = 400_000_000
        return -(-(self.time_ns + 900_000_000) // turn_ns) * turn_ns

    def chunks(self, user=None, agent=None, start_ns: int = 0) -> list[Event]:
        """Return the messages of two voices `[n]`, in the order of their times."""
        voices = [v if v is None else Voice(v[:, None], RATE_HZ) for v in (user, agent)]
        return list(conversation_events(*voices, start_ns, agent_lead_ms=400, turn_s=0.4))

    def advance(self, duration_s: float, events=(), start_ns: int = 0) -> None:
        """Let time pass; publish events at their times after `start_ns`."""
        until_ns = self.time_ns + round(duration_s * 1e9)
        events = collections.deque(events)
        while self.time_ns < until_ns:
            self.time_ns = min(self.time_ns + 20_000_000, until_ns)
            is_spoken = False
            while events and start_ns + events[0].at_ns <= self.time_ns:
                event, is_spoken = events.popleft(), True
                self.voices[event.topic.split('/')[0]].publish(event.msg)
            if is_spoken:
                for publisher in self.voices.values():
                    publisher.wait_for_all_acked()
            self.tell()
        self._receive()

    def _receive(self) -> None:
        """Take all that the node has published."""
        node, n_before = self.conversation, -1
        for publisher in (node._plan_pub, node._motion_pub) if node.is_active else ():
            publisher.wait_for_all_acked()
        while n_before != len(self.plans) + len(self.frames):
            n_before = len(self.plans) + len(self.frames)
            for _ in range(50):
                self.graph.spin_once()

    def play(self, events: list[Event], start_ns: int) -> None:
        """Publish each message at its time, as microphone and speaker do."""
        end_ns = start_ns + events[-1].at_ns
        self.advance((end_ns - self.time_ns) / 1e9, events, start_ns)

    def converse(self, user=None, agent=None) -> int:
        """Speak voices `[n]` from the next turn on; return when they began."""
        start_ns = self.next_turn_ns()
        self.play(self.chunks(user, agent, start_ns), start_ns)
        return start_ns

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

    def stamps(self, frames=None) -> np.ndarray:
        """Return the stamps of frames received, ns."""
        frames = self.frames if frames is None else frames
        return np.array([stamp_to_ns(frame.header.stamp) for frame in frames], np.int64)

    def motion(self, frames=None, space: str = 'flame56') -> np.ndarray:
        """Return the motion of frames received, `[n, M]`."""
        frames = self.frames if frames is None else frames
        return np.stack([motion_from_msg(get_space(space), frame)[1] for frame in frames])


@pytest.fixture(autouse=True, scope='session')
def default_hangup():
    """Let programs see SIGHUP as a terminal starts them, also where tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


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
    # As with a real head, what was shown says less the older it is: in any order it would jump.
    model.motion_persistence[0] = model.motion_persistence[0].sort(dim=0, descending=True).values
    save_checkpoint(path, model)
    return path


@pytest.fixture
def start_conversation(graph, partner, checkpoint):
    """Return the maker of conversation nodes on tiny weights; parameters as keywords."""

    def start(**params) -> ConversationNode:
        given = {'checkpoint': str(checkpoint), 'threads': 1, 'use_sim_time': True, **params}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        node = ConversationNode(context=graph.context, parameter_overrides=overrides)
        partner.conversation = graph.add(node)
        return node

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
