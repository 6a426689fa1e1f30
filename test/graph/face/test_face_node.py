# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The face node on a real graph: from plans and voices to its page and its topics."""

import http.client
import struct

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
import pytest

aiohttp = pytest.importorskip('aiohttp', reason='no aiohttp here: pip install aiohttp')
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402

from timar_ros.motion import ARKIT_NAMES, get_space  # noqa: E402
from timar_ros.nodes.convert import audio_chunk, stamp_from_ns, stamp_to_ns  # noqa: E402

pytestmark = pytest.mark.graph

MS = 1_000_000
ARKIT, FLAME = get_space('arkit55'), get_space('flame56')
JAW = ARKIT.index('jawOpen')


def random_motion(n, space=ARKIT, seed=0):
    motion = np.random.default_rng(seed).uniform(0, 1, (n, space.n_channels)).astype(np.float32)
    motion[:, space.neck] *= 0.3
    return motion


def test_a_page_gets_each_plan_as_it_was_said(talker, look):
    face = talker.start()
    page = look(face.server.port)
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
    page = look(face.server.port)
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
    page = look(face.server.port)
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
    page = look(face.server.port)
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
    # A clock that goes on when all is done, so that no frame is skipped on a busy machine.
    clock_pub = talker.node.create_publisher(Clock, '/clock', 10)
    face = talker.start(use_sim_time=True)
    names = talker.keep(JointState, 'face/blendshape_names', latched)
    shapes = talker.keep(JointState, 'face/blendshapes', 100)
    pub = face._blendshapes_pub
    assert talker.graph.spin_until(lambda: names and pub.get_subscription_count())
    motion = random_motion(25)
    begin_ns = 1000 * 10**9

    def tell(now_ns):
        def is_told():
            clock_pub.publish(Clock(clock=stamp_from_ns(now_ns)))
            return face.get_clock().now().nanoseconds == now_ns

        assert talker.graph.spin_until(is_told)

    tell(begin_ns - 10 * MS)
    talker.say(talker.plan(motion, begin_ns))
    assert talker.graph.spin_until(lambda: face.counters['plans'] == 1)
    talker.graph.spin_for(0.1)
    assert shapes == []  # before its time
    for i in range(25):
        tell(begin_ns + (40 * i + 5) * MS)
        assert talker.graph.spin_until(lambda n=i: len(shapes) > n), f'frame {i} did not come'

    stamps = [stamp_to_ns(m.header.stamp) for m in shapes]
    assert names[0].name == ARKIT_NAMES
    assert all(m.name == ARKIT_NAMES for m in shapes)
    assert stamps == (begin_ns + 40 * MS * np.arange(25)).tolist()
    np.testing.assert_allclose([m.position for m in shapes], motion[:, :52], atol=1e-6)


def test_settings_reach_the_page_while_it_runs(talker, look):
    face = talker.start(head_gain=0.5)
    page = look(face.server.port)
    assert talker.graph.spin_until(lambda: any('"head_gain": 0.5' in str(g) for g in page.got))

    face.set_parameters([Parameter('head_gain', value=0.0)])

    assert talker.graph.spin_until(lambda: any('"head_gain": 0.0' in str(g) for g in page.got))


def test_two_faces_are_told_apart_by_their_ports(talker):
    first = talker.start()

    with pytest.raises(ValueError, match=f'port {first.server.port} .*; set port to a free one'):
        talker.start(port=first.server.port)


def test_a_browser_that_is_refused_is_a_warning_while_that_goes_on(talker):
    face = talker.start()
    diagnostics = talker.keep(DiagnosticArray, '/diagnostics')

    words = 'a browser sees no face: the socket is for the page served here'

    def warned():
        return [words in array.status[0].message for array in diagnostics]

    assert talker.graph.spin_until(lambda: False in warned())
    assert True not in warned()
    connection = http.client.HTTPConnection('127.0.0.1', face.server.port, timeout=20)
    connection.request('GET', '/socket', headers={'Origin': 'http://127.0.0.1:1'})
    assert connection.getresponse().status == 403
    connection.close()
    diagnostics.clear()

    assert talker.graph.spin_until(lambda: True in warned())
    assert diagnostics[warned().index(True)].status[0].level == DiagnosticStatus.WARN
    diagnostics.clear()
    assert talker.graph.spin_until(lambda: False in warned(), 30.0)
