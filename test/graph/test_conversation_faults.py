# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the conversation node does with audio and clocks that go wrong: say it, and go on."""

import array
import dataclasses

import numpy as np
import pytest
from std_msgs.msg import ByteMultiArray, Int16MultiArray, Int64, String

from timar_ros.msg import HeadMotion, HeadStyle
from timar_ros.nodes.convert import stamp_from_ns, stamp_to_ns
from timar_ros.nodes.recording import Voice, conversation_events

pytestmark = pytest.mark.graph

# The tiny weights hold the head 0.5 rad down; a blend of three frames takes it there in steps of
# 0.17 rad, a jump does it in one.
LARGEST_STEP_RAD = 0.25


@pytest.fixture
def play_faulty(start_conversation, partner, make_voice):
    """Return a function that plays 1.6 s of two voices, after `spoil` changed the messages."""

    def play(spoil, **params):
        start_conversation(**params)
        partner.meet()
        start_ns = partner.next_turn_ns()
        events = partner.chunks(make_voice(1.6, 1), make_voice(1.6, 2), start_ns)
        partner.play(spoil(events), start_ns)
        partner.advance(0.5)
        return start_ns

    return play


def user_events(events):
    return [event for event in events if event.topic == 'user/audio']


def assert_goes_on(partner, start_ns):
    """The head moves until the end, without a hole and without a jump."""
    stamps, neck = partner.stamps(), partner.motion()[:, 53:]
    assert stamps[-1] > start_ns + 1_600_000_000
    np.testing.assert_array_equal(np.diff(stamps), 40_000_000)
    assert np.abs(np.diff(neck, axis=0)).max() < LARGEST_STEP_RAD
    assert np.abs(neck).max() > 0.4


def test_sound_without_faults_counts_no_trouble(play_faulty, partner):
    start_ns = play_faulty(lambda events: events)

    assert_goes_on(partner, start_ns)
    partner.await_value('user_samples', 25600)
    assert [partner.value(f'user_{name}_samples') for name in ('lost', 'late', 'repeated')] == [
        '0'
    ] * 3
    assert partner.value('refused_messages') is None


def test_lost_chunks_are_counted_and_warned_of(play_faulty, partner):
    def lose_five(events):
        lost = [id(event) for event in user_events(events)[30:35]]
        return [event for event in events if id(event) not in lost]

    start_ns = play_faulty(lose_five)

    assert partner.await_value('user_lost_samples', 1) == 5 * 320
    assert_goes_on(partner, start_ns)
    messages = [array.status[0].message for array in partner.diagnostics]
    assert any("the user's audio has holes (1600 more)" in text for text in messages)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('encoding', 'mp3'),
        ('channels', 0),
        ('sample_rate', 0),
        ('data', array.array('B', b'123')),
    ],
)
def test_a_message_that_contradicts_itself_is_refused_and_the_next_one_welcome(
    play_faulty, partner, field, value
):
    def spoil(events):
        setattr(user_events(events)[40].msg, field, value)
        return events

    start_ns = play_faulty(spoil)

    assert partner.await_value('refused_messages', 1) == 1
    assert_goes_on(partner, start_ns)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_sound_that_is_not_finite_is_refused(play_faulty, partner, value):
    def spoil(events):
        msg = user_events(events)[40].msg
        samples = np.zeros(len(msg.data) // 4, '<f4')
        samples[7] = value
        assert msg.encoding == 'pcm_f32le'
        msg.data = array.array('B', samples.tobytes())
        return events

    start_ns = play_faulty(spoil)

    assert partner.await_value('refused_messages', 1) == 1
    assert_goes_on(partner, start_ns)


def test_a_rate_that_changes_in_mid_stream_is_counted_and_followed(
    play_faulty, partner, make_voice
):
    def spoil(events):
        start_ns = stamp_to_ns(user_events(events)[0].msg.header.stamp)
        at_ns = 800_000_000
        slow = Voice(make_voice(0.8)[::2, None], 8000)
        rest = list(conversation_events(slow, None, start_ns + at_ns))
        first = [e for e in events if e.topic == 'agent/audio' or e.at_ns <= at_ns]
        shifted = [dataclasses.replace(e, at_ns=e.at_ns + at_ns) for e in rest]
        return sorted(first + shifted, key=lambda event: event.at_ns)

    start_ns = play_faulty(spoil)

    assert partner.await_value('user_rate_changes', 1) == 1
    assert float(partner.value('user_lost_samples')) == 0
    assert_goes_on(partner, start_ns)


@pytest.mark.parametrize('step_s', [-5.0, 5.0])
def test_stamps_that_jump_are_counted_and_the_head_does_not_jump(play_faulty, partner, step_s):
    def spoil(events):
        for event in user_events(events)[40:]:
            stamp_ns = stamp_to_ns(event.msg.header.stamp) + round(step_s * 1e9)
            event.msg.header.stamp = stamp_from_ns(stamp_ns)
        return events

    start_ns = play_faulty(spoil)

    partner.await_value('user_jumps', 1)
    assert_goes_on(partner, start_ns)


@pytest.mark.parametrize(
    'msg',
    [
        String(data='hello'),
        Int64(data=7),
        ByteMultiArray(data=[b'\x00', b'\x01']),
        Int16MultiArray(data=[1, 2, 3]),
    ],
    ids=lambda msg: type(msg).__name__,
)
def test_a_foreign_message_is_refused_and_the_node_lives_on(
    start_conversation, partner, other_graph, make_voice, msg
):
    start_conversation()
    partner.meet()
    partner.node.destroy_publisher(partner.voices.pop('agent'))
    foreign = other_graph.node('foreign').create_publisher(type(msg), 'agent/audio', 10)
    assert partner.graph.spin_until(lambda: foreign.get_subscription_count())

    for _ in range(3):
        foreign.publish(msg)

    assert partner.await_value('refused_messages', 3) == 3
    partner.converse(make_voice(0.8))
    assert len(partner.plans) >= 2
    assert partner.value('faults') is None, 'a fault begins the conversation anew'


def test_an_array_is_heard_where_a_parameter_states_its_format(
    start_conversation, partner, other_graph, make_voice
):
    start_conversation(agent_audio_format='S16LE,16000,1')
    partner.meet()
    partner.node.destroy_publisher(partner.voices.pop('agent'))
    foreign = other_graph.node('foreign').create_publisher(Int16MultiArray, 'agent/audio', 10)
    assert partner.graph.spin_until(lambda: foreign.get_subscription_count())

    foreign.publish(Int16MultiArray(data=[100] * 1600))
    partner.converse(make_voice(0.8))

    assert partner.await_value('agent_samples', 1600) == 1600


def test_one_packet_of_huge_samples_is_cut_and_the_head_moves_on(play_faulty, partner):
    def spoil(events):
        msg = user_events(events)[20].msg
        n = len(msg.data) // 4
        msg.data = array.array('B', np.full(n, 3e38, '<f4').tobytes())
        return events

    start_ns = play_faulty(spoil)

    assert partner.await_value('user_clipped_samples', 1) == 320
    assert_goes_on(partner, start_ns)
    assert partner.value('bad_plans') == '0'


def test_head_frames_of_the_far_future_are_refused(start_conversation, partner):
    start_conversation()
    partner.meet()
    head = partner.node.create_publisher(HeadMotion, 'user/head_motion', 10)
    assert partner.graph.spin_until(head.get_subscription_count)

    msg = HeadMotion(expression_space='flame50')
    msg.neck.w = 1.0
    msg.header.stamp = stamp_from_ns(partner.time_ns + 3600 * 10**9)
    head.publish(msg)

    assert partner.await_value('refused_messages', 1) == 1


@pytest.mark.parametrize(
    'changes',
    [{'user_channel': 'left'}, {'agent_channel': '-1'}, {'user_audio_format': 'S16LE'}],
)
def test_a_channel_or_format_that_is_none_is_refused_at_the_start(
    start_conversation, partner, changes
):
    node = start_conversation(**changes)

    (name,) = changes
    assert name in node._refusal


@pytest.mark.parametrize('step_s', [-5.0, 60.0])
def test_a_clock_that_jumps_begins_a_new_conversation_and_the_head_glides(
    start_conversation, partner, make_voice, step_s
):
    start_conversation()
    partner.meet()
    partner.converse(make_voice(1.6, 1))
    n_frames = len(partner.frames)

    partner.time_ns += round(step_s * 1e9)
    partner.tell()
    partner.converse(make_voice(1.6, 2))

    assert partner.await_value('clock_jumps', 1) == 1
    assert n_frames > 20
    assert len(partner.frames) > n_frames + 20
    neck = partner.motion()[:, 53:]
    assert np.abs(np.diff(neck, axis=0)).max() < LARGEST_STEP_RAD
    assert neck[n_frames - 1, 0] > 0.4, 'the head was down when the clock jumped'
    assert partner.plans[-1].frames[0].turn < 6


def test_a_style_that_the_weights_do_not_have_changes_nothing(
    start_conversation, partner, make_voice
):
    start_conversation()
    partner.meet()
    style = partner.node.create_publisher(HeadStyle, 'agent/style', 10)
    assert partner.graph.spin_until(style.get_subscription_count)

    for _ in range(3):
        style.publish(HeadStyle(emotion='happy', intensity=1.0))
    partner.converse(make_voice(0.8))

    assert len(partner.plans) >= 2


def test_sound_before_any_clock_is_dropped(start_conversation, partner, make_voice):
    start_conversation()
    assert partner.graph.spin_until(
        lambda: (
            all(voice.get_subscription_count() for voice in partner.voices.values())
            and partner.conversation.is_active
        )
    )

    for event in partner.chunks(make_voice(0.4), None, 10**9):
        partner.voices['user'].publish(event.msg)

    partner.await_value('user_messages', 20)
    assert partner.value('user_samples') == '0'
