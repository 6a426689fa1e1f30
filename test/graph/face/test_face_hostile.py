# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages that no face can show, and a start that is cut short: nothing of it stays."""

import array
import socket
import struct

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest

pytest.importorskip('aiohttp', reason='no aiohttp here: pip install aiohttp')
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402
import std_msgs.msg  # noqa: E402

from timar_ros.bounds import MAX_PLAN_FRAMES  # noqa: E402
from timar_ros.motion import get_space  # noqa: E402
from timar_ros.msg import AudioChunk, HeadMotion, HeadMotionPlan  # noqa: E402
from timar_ros.nodes.convert import audio_chunk, stamp_from_ns  # noqa: E402
from timar_ros.nodes.face import FaceNode  # noqa: E402
from timar_ros.nodes.plan_bytes import plan_from_bytes  # noqa: E402
from timar_ros.nodes.running import construct  # noqa: E402

pytestmark = pytest.mark.graph

MS = 1_000_000
ARKIT = get_space('arkit55')


def chunk(samples=(), **fields):
    data = np.asarray(samples, '<f4').tobytes()
    return AudioChunk(**{
        'sample_rate': 16000, 'channels': 1, 'encoding': 'pcm_f32le', 'data': data, **fields,
    })  # fmt: skip


HOSTILE = {
    'rate 0': chunk(np.zeros(320), sample_rate=0),
    'rate 0, empty': chunk(sample_rate=0),
    'rate 2^32-1': chunk(np.zeros(320), sample_rate=2**32 - 1),
    'no channels': chunk(np.zeros(320), channels=0),
    'not a number': chunk([float('nan')] * 320),
    'infinite': chunk([float('inf')] * 320),
    'half a sample': chunk(data=b'123'),
    'a long encoding': chunk(encoding='x' * 1_000_000),
    'number without a length': std_msgs.msg.Int64(data=5),
    'real': std_msgs.msg.Float64(data=0.5),
    'truth': std_msgs.msg.Bool(data=True),
    'text': std_msgs.msg.String(data='x' * 1_000_000),
    'list of bytes': std_msgs.msg.ByteMultiArray(data=[b'a', b'b']),
    'nothing': std_msgs.msg.Empty(),
    'header': std_msgs.msg.Header(),
}


@pytest.mark.parametrize('name', HOSTILE)
def test_audio_that_is_none_is_refused_counted_and_briefly_reported(name, talker, look):
    face = talker.start()
    page = look(face.server.port)
    reported = []
    face._warnings.warn = reported.append

    face._on_audio(HOSTILE[name])
    assert face.counters['refused_audio'] == 1
    assert len(reported) == 1
    assert len(reported[0]) < 400

    talker.audio_pub.publish(audio_chunk(np.full(320, 0.1), 16000, stamp_ns=10**9, first_sample=0))
    assert talker.graph.spin_until(lambda: page.of_kind(2))


def test_samples_that_are_far_too_loud_are_shown_as_full_scale(talker, look):
    face = talker.start()
    page = look(face.server.port)

    face._on_audio(chunk([3e38, -3e38] * 320, channels=2))
    face._send_levels()

    assert talker.graph.spin_until(lambda: page.of_kind(2))
    np.testing.assert_array_equal(np.frombuffer(page.of_kind(2)[0], '<f4', 1, 8 + 12), 0.0)


def test_audio_information_that_is_none_is_refused(talker):
    face = talker.start()

    face._on_audio_info(std_msgs.msg.Int64(data=5))

    assert face.counters['refused_audio'] == 1


def long_plan(n, frame_id='') -> HeadMotionPlan:
    plan = HeadMotionPlan(plan=7, frame_rate=25.0)
    plan.header.frame_id = frame_id
    for i in range(n):
        frame = HeadMotion(expression_space='arkit52', expression=array.array('f', [0.5] * 52))
        frame.neck.w = 1.0
        frame.header.stamp = stamp_from_ns(10**12 + 40 * MS * i)
        plan.frames.append(frame)
    return plan


@pytest.mark.parametrize('frame_id', ['', 'a', 'head', 'neck_base', 'x' * 1001])
def test_of_a_long_plan_only_the_first_frames_are_read(frame_id):
    plan = long_plan(12, frame_id)

    read, n_cut = plan_from_bytes(serialize_message(plan), most=5)

    assert n_cut == 7
    assert read.frames == plan.frames[:5]
    assert (read.header, read.plan, read.frame_rate) == (plan.header, 7, 25.0)
    assert plan_from_bytes(serialize_message(plan), most=12) == (plan, 0)
    assert plan_from_bytes(serialize_message(HeadMotionPlan()), most=0) == (HeadMotionPlan(), 0)


def test_a_plan_that_is_too_long_is_cut_and_shown(talker, look):
    face = talker.start()
    page = look(face.server.port)

    talker.say(long_plan(MAX_PLAN_FRAMES + 10))

    assert talker.graph.spin_until(lambda: page.of_kind(1))
    assert struct.unpack_from('<I', page.of_kind(1)[0], 4) == (MAX_PLAN_FRAMES,)
    assert face.counters['cut_plans'] == 1


@pytest.mark.parametrize('size', [1e39, 1e308, 1e-3])
def test_a_quaternion_of_any_size_reaches_the_page_as_its_direction(size, talker, look):
    face = talker.start()
    page = look(face.server.port)
    plan = talker.plan(np.tile(ARKIT.neutral, (3, 1)), talker.now_ns())
    for frame in plan.frames:
        frame.neck.x, frame.neck.y, frame.neck.z, frame.neck.w = 0.0, 0.6 * size, 0.0, 0.8 * size

    talker.say(plan)

    assert talker.graph.spin_until(lambda: page.of_kind(1))
    neck = np.frombuffer(page.of_kind(1)[0], '<f4', 12, 24 + 8 * 3).reshape(3, 4)
    np.testing.assert_allclose(neck, [[0.0, 0.6, 0.0, 0.8]] * 3, atol=1e-6)


def test_plans_of_the_far_future_are_bounded_and_give_way_to_one_of_now(talker):
    face = talker.start()
    talker.keep(JointState, 'face/blendshapes')
    assert talker.graph.spin_until(face._is_wanted)
    year_ns = 365 * 24 * 3600 * 10**9
    motion = np.tile(ARKIT.neutral, (MAX_PLAN_FRAMES, 1))

    for i in range(1, 4):
        face._on_plan(talker.plan(motion, talker.now_ns() + i * year_ns))
    assert len(face._frames) <= MAX_PLAN_FRAMES
    face._on_plan(talker.plan(motion[:5], talker.now_ns() + 10 * 10**9))

    assert len(face._frames) == 5


def spoil_space(plan):
    for frame in plan.frames:
        frame.expression_space = 'x' * 1_000_000


def spoil_spaces(plan):
    for i, frame in enumerate(plan.frames):
        frame.expression_space = f'{i}' * 1_000_000


def spoil_length(plan):
    for frame in plan.frames:
        frame.expression = array.array('f', [0.0] * 1_000_000)


def spoil_neck(plan):
    plan.frames[1].neck.w = float('nan')


@pytest.mark.parametrize('spoil', [spoil_space, spoil_spaces, spoil_length, spoil_neck])
def test_the_report_of_a_refused_plan_is_short(spoil, talker):
    face = talker.start()
    reported = []
    face._warnings.warn = reported.append
    plan = talker.plan(np.tile(ARKIT.neutral, (3, 1)), talker.now_ns())
    spoil(plan)

    face._on_plan(plan)

    assert face.counters['refused_plans'] == 1
    assert len(reported) == 1
    assert len(reported[0]) < 400


def test_plans_of_a_best_effort_publisher_are_shown(talker, look):
    face = talker.start()
    page = look(face.server.port)
    talker.node.destroy_publisher(talker.plan_pub)
    qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    talker.plan_pub = talker.node.create_publisher(HeadMotionPlan, 'agent/motion_plan', qos)
    plan = talker.plan(np.tile(ARKIT.neutral, (3, 1)), talker.now_ns())

    def is_shown():
        talker.say(plan)
        talker.graph.spin_for(0.05)
        return page.of_kind(1)

    assert talker.graph.spin_until(is_shown, 30.0)


def test_two_planners_are_named_in_diagnostics(talker):
    talker.start()
    diagnostics = talker.keep(DiagnosticArray, '/diagnostics')
    other = talker.graph.node('stranger')
    other.create_publisher(HeadMotionPlan, 'agent/motion_plan', 10)

    assert talker.graph.spin_until(
        lambda: any('/stranger' in d.status[0].message for d in diagnostics), 30.0
    )


def test_a_start_that_is_interrupted_leaves_no_server_behind(talker, monkeypatch):
    with socket.create_server(('127.0.0.1', 0)) as listening:
        port = listening.getsockname()[1]

    def interrupt(self, params):
        assert self.server.port == port  # it serves already
        raise KeyboardInterrupt

    monkeypatch.setattr(FaceNode, '_send_settings', interrupt)
    with pytest.raises(KeyboardInterrupt):
        construct(
            FaceNode,
            context=talker.graph.context,
            parameter_overrides=[Parameter('port', value=port)],
        )

    socket.create_server(('127.0.0.1', port)).close()
