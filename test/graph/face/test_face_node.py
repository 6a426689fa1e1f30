# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The face node on a real graph: from plans and voices to its page and its topics."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest

aiohttp = pytest.importorskip('aiohttp', reason='no aiohttp here: pip install aiohttp')
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402

from timar_ros.motion import ARKIT_NAMES, get_space  # noqa: E402
from timar_ros.msg import AudioChunk, ConversationState, HeadMotionPlan  # noqa: E402
from timar_ros.nodes.convert import (  # noqa: E402
    audio_chunk,
    plan_to_msg,
    stamp_from_ns,
    stamp_to_ns,
)
from timar_ros.nodes.face import FaceNode  # noqa: E402

pytestmark = pytest.mark.graph

MS = 1_000_000
ARKIT, FLAME = get_space('arkit55'), get_space('flame56')
JAW = ARKIT.index('jawOpen')


class Talker:
    """Who plans and speaks, on a graph."""

    def __init__(self, graph):
        self.graph = graph
        self.node = graph.node('talker')
        self.plan_pub = self.node.create_publisher(HeadMotionPlan, 'agent/motion_plan', 10)
        self.audio_pub = self.node.create_publisher(AudioChunk, 'agent/audio', 200)
        self.state_pub = self.node.create_publisher(ConversationState, 'conversation/state', 10)
        self.n_plans = 0

    def now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def start(self, **params) -> FaceNode:
        """Start a face on a free port, and wait until it hears."""
        overrides = [Parameter(name, value=v) for name, v in {'port': 0, **params}.items()]
        face = self.graph.add(FaceNode(context=self.graph.context, parameter_overrides=overrides))
        self.meet()
        return face

    def meet(self) -> None:
        publishers = (self.plan_pub, self.audio_pub, self.state_pub)
        assert self.graph.spin_until(lambda: all(p.get_subscription_count() for p in publishers))

    def plan(self, motion, begin_ns, space=ARKIT) -> HeadMotionPlan:
        """Return the message of a plan with frames of motion `[n, M]`."""
        self.n_plans += 1
        n = len(motion)
        stamp_ns = begin_ns + 40 * MS * np.arange(n)
        zeros = np.zeros(n, int)
        return plan_to_msg(space, self.n_plans, 25.0, stamp_ns, zeros, zeros, motion)

    def say(self, plan) -> None:
        self.plan_pub.publish(plan)

    def keep(self, cls, topic, qos=10) -> list:
        kept = []
        self.node.create_subscription(cls, topic, kept.append, qos)
        return kept


@pytest.fixture
def talker(graph):
    return Talker(graph)


def random_motion(n, space=ARKIT, seed=0):
    motion = np.random.default_rng(seed).uniform(0, 1, (n, space.n_channels)).astype(np.float32)
    motion[:, space.neck] *= 0.3
    return motion


def test_a_page_gets_each_plan_as_it_was_said(talker, look):
    face = talker.start()
    page = look(face)
    motion = random_motion(30)
    begin_ns = talker.now_ns() + 200 * MS

    msg = talker.plan(motion, begin_ns)
    talker.say(msg)
    assert talker.graph.spin_until(lambda: page.of_kind(1))

    data = page.of_kind(1)[0]
    number, sent_ms = struct.unpack_from('<dd', data, 8)
    stamps = np.frombuffer(data, '<f8', 30, 24)
    neck = np.frombuffer(data, '<f4', 120, 264).reshape(30, 4)
    arkit = np.frombuffer(data, '<f4', 30 * 52, 744).reshape(30, 52)
    assert number == 1
    assert 0 <= stamps[0] - sent_ms < 200.1
    np.testing.assert_allclose(stamps, (begin_ns + 40 * MS * np.arange(30)) / 1e6, atol=1e-3)
    np.testing.assert_array_equal(arkit, motion[:, :52])
    expected = [(f.neck.x, f.neck.y, f.neck.z, f.neck.w) for f in msg.frames]
    np.testing.assert_allclose(neck, expected, atol=1e-6)


def spoil_nan(plan):
    plan.frames[3].expression[5] = float('nan')


def spoil_neck(plan):
    plan.frames[3].neck.x = float('inf')


def spoil_order(plan):
    plan.frames[3].header.stamp = plan.frames[2].header.stamp


def spoil_lengths(plan):
    plan.frames[3].expression = plan.frames[3].expression[:50]


def spoil_space(plan):
    plan.frames[3].expression_space = 'flame50'


def spoil_all(plan):
    plan.frames = []


@pytest.mark.parametrize(
    'spoil', [spoil_nan, spoil_neck, spoil_order, spoil_lengths, spoil_space, spoil_all]
)
def test_a_broken_plan_is_refused_and_the_one_in_force_goes_on(spoil, talker, look):
    face = talker.start()
    page = look(face)
    broken = talker.plan(random_motion(10), talker.now_ns())
    spoil(broken)

    talker.say(broken)
    talker.say(talker.plan(random_motion(10), talker.now_ns()))
    assert talker.graph.spin_until(lambda: page.of_kind(1))
    talker.graph.spin_for(0.1)

    assert face.counters['refused_plans'] == 1
    assert [struct.unpack_from('<d', data, 8) for data in page.of_kind(1)] == [(2.0,)]


def test_flame_without_a_mapping_moves_the_jaw_and_says_so_once(talker, look):
    face = talker.start()
    page = look(face)
    diagnostics = talker.keep(DiagnosticArray, '/diagnostics')
    motion = random_motion(8, FLAME)
    motion[:, FLAME.jaw] = [0.14, 0.0, 0.0]

    for _ in range(3):
        talker.say(talker.plan(motion, talker.now_ns() + 100 * MS, FLAME))
    assert talker.graph.spin_until(lambda: len(page.of_kind(1)) == 3)
    assert talker.graph.spin_until(
        lambda: any('flame50 without a mapping' in d.status[0].message for d in diagnostics)
    )

    arkit = np.frombuffer(page.of_kind(1)[0], '<f4', 8 * 52, 24 + 8 * 24).reshape(8, 52)
    np.testing.assert_allclose(arkit[:, JAW], 0.4, atol=1e-6)
    assert not np.delete(arkit, JAW, axis=1).any()


def test_the_voice_is_shown_when_it_sounds_not_when_it_was_announced(talker, look):
    face = talker.start()
    page = look(face)
    assert talker.graph.spin_until(lambda: face.server.has_clients)
    begin_ns = talker.now_ns() + 500 * MS
    tone = np.full(320, 0.1, np.float32)

    for i in range(10):
        stamp_ns = begin_ns + 20 * MS * i
        talker.audio_pub.publish(audio_chunk(tone, 16000, stamp_ns=stamp_ns, first_sample=320 * i))
    assert talker.graph.spin_until(
        lambda: sum(struct.unpack_from('<I', d, 4)[0] for d in page.of_kind(2)) == 10
    )

    starts = np.concatenate(
        [np.frombuffer(d, '<f8', struct.unpack_from('<I', d, 4)[0], 8) for d in page.of_kind(2)]
    )
    np.testing.assert_allclose(starts, begin_ns / 1e6 + 20.0 * np.arange(10), atol=1e-3)


def test_blendshapes_are_published_when_they_are_shown_with_their_names(talker):
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    face = talker.start()
    names = talker.keep(JointState, 'face/blendshape_names', latched)
    shapes, came_ns = [], []

    def take(msg):
        shapes.append(msg)
        came_ns.append(talker.now_ns())

    talker.node.create_subscription(JointState, 'face/blendshapes', take, 100)
    pub = face._blendshapes_pub
    assert talker.graph.spin_until(lambda: names and pub.get_subscription_count())
    motion = random_motion(25)
    begin_ns = talker.now_ns() + 200 * MS

    talker.say(talker.plan(motion, begin_ns))
    talker.graph.spin_until(lambda: len(shapes) == 25, 3.0)

    stamps = [stamp_to_ns(m.header.stamp) for m in shapes]
    frames = [(stamp - begin_ns) // (40 * MS) for stamp in stamps]
    assert names[0].name == ARKIT_NAMES
    assert all(m.name == ARKIT_NAMES for m in shapes)
    assert len(frames) >= 20  # a busy machine may skip a frame, never repeat one
    assert sorted(set(frames)) == frames
    assert min(np.array(came_ns) - stamps) >= 0
    assert np.median(np.array(came_ns) - stamps) < 30 * MS
    for frame, m in zip(frames, shapes, strict=True):
        np.testing.assert_allclose(m.position, motion[frame, :52], atol=1e-6)


def test_settings_reach_the_page_while_it_runs(talker, look):
    face = talker.start(head_gain=0.5)
    page = look(face)
    assert talker.graph.spin_until(lambda: any('"head_gain": 0.5' in str(g) for g in page.got))

    face.set_parameters([Parameter('head_gain', value=0.0)])

    assert talker.graph.spin_until(lambda: any('"head_gain": 0.0' in str(g) for g in page.got))


def test_two_faces_are_told_apart_by_their_ports(talker):
    first = talker.start()

    with pytest.raises(ValueError, match=f'port {first.server.port} .*; set port to a free one'):
        talker.start(port=first.server.port)


@pytest.fixture
def program(domain_id):
    """Return the maker of face programs as users start them; they are ended with the test."""
    started = []

    def start(*params, env=None):
        arguments = [word for param in params for word in ('-p', param)]
        process = subprocess.Popen(
            [sys.executable, '-m', 'timar_ros.nodes.face', '--ros-args', *arguments],
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id), **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as listening:
        return listening.getsockname()[1]


def cpu_s(process) -> float:
    with open(f'/proc/{process.pid}/stat') as file:
        fields = file.read().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def test_a_face_with_a_page_costs_less_than_15_percent_of_a_core(talker, program, look):
    port = free_port()
    process = program(f'port:={port}')
    talker.meet()
    page = look(type('At', (), {'server': type('S', (), {'port': port})}))
    plans = [talker.plan(random_motion(60, seed=i), 0) for i in range(4)]
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 320)
    next_plan_ns = next_chunk_ns = talker.now_ns()
    began = None

    while began is None or time.monotonic() - began[0] < 5:
        now_ns = talker.now_ns()
        if began is None and len(page.of_kind(1)) >= 2:
            began = (time.monotonic(), cpu_s(process), len(page.of_kind(1)))
        if now_ns >= next_plan_ns:
            plan = plans[talker.n_plans % 4]
            talker.n_plans += 1
            for i, frame in enumerate(plan.frames):
                frame.header.stamp = stamp_from_ns(now_ns + (120 + 40 * i) * MS)
            talker.say(plan)
            next_plan_ns += 200 * MS
        if now_ns >= next_chunk_ns:
            chunk = audio_chunk(noise, 16000, stamp_ns=next_chunk_ns + 500 * MS, first_sample=0)
            talker.audio_pub.publish(chunk)
            next_chunk_ns += 20 * MS
        talker.graph.spin_for(0.002)

    spent = (cpu_s(process) - began[1]) / (time.monotonic() - began[0])
    assert len(page.of_kind(1)) - began[2] >= 20
    assert spent < 0.15
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_a_wrong_parameter_ends_the_program_with_one_sentence(program):
    process = program('mapping:=/none/such.npz', 'port:=0')

    text = process.communicate(timeout=30)[0]

    assert process.returncode == 1
    assert text.splitlines()[-1].startswith('face: no face mapping at /none/such.npz; fit one')


def test_the_page_comes_back_when_the_node_is_started_again(program, talker, browser):
    port = free_port()
    motion = np.tile(ARKIT.neutral, (100, 1))
    motion[:, JAW] = 0.6
    first = program(f'port:={port}')
    talker.meet()
    browser.open(f'http://localhost:{port}/?still&kiosk')

    first.send_signal(signal.SIGINT)
    assert first.wait(10) == 0
    browser.wait_for('!timar.link.isUp')
    assert talker.graph.spin_until(lambda: not talker.plan_pub.get_subscription_count())
    program(f'port:={port}')
    browser.wait_for('timar.link.isUp')
    talker.meet()
    talker.say(talker.plan(motion, talker.now_ns() - 200 * MS))

    browser.wait_for('timar.face.opening > 0.1')
    browser.forgive()  # it logs that the node was away


def test_lips_and_voice_meet_on_the_page_over_the_real_graph(talker, program, browser):
    port = free_port()
    program(f'port:={port}')
    talker.meet()
    browser.open(f'http://localhost:{port}/?still&kiosk')
    origin_ns = talker.now_ns() // (1000 * MS) * 1000 * MS
    rng = np.random.default_rng(0)

    def loudness(t):
        return np.maximum(0.0, np.sin(2 * np.pi * 2.3 * t)) * (0.6 + 0.4 * np.sin(2.7 * t))

    next_plan_ns = talker.now_ns()
    next_chunk_ns = next_plan_ns // (20 * MS) * 20 * MS
    until_ns = next_plan_ns + 8000 * MS
    while (now_ns := talker.now_ns()) < until_ns:
        if now_ns >= next_plan_ns:
            begin_ns = (now_ns + 120 * MS) // (40 * MS) * 40 * MS
            t = (begin_ns + 40 * MS * np.arange(50) - origin_ns) / 1e9
            motion = np.tile(ARKIT.neutral, (50, 1))
            motion[:, JAW] = 0.5 * loudness(t)
            talker.say(talker.plan(motion, begin_ns))
            next_plan_ns += 200 * MS
        while next_chunk_ns < now_ns + 500 * MS:
            t = (next_chunk_ns - origin_ns) / 1e9 + np.arange(320) / 16000
            voice = 0.2 * loudness(t) * rng.uniform(-1, 1, 320)
            talker.audio_pub.publish(
                audio_chunk(voice, 16000, stamp_ns=next_chunk_ns, first_sample=0)
            )
            next_chunk_ns += 20 * MS
        talker.graph.spin_for(0.01)

    lips = browser.ask('timar.log.lips()')
    assert lips['correlation'] > 0.6
    assert -60 <= lips['lag'] <= 40
