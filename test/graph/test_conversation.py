# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The conversation node on a real graph answers as the conversation does offline."""

import pathlib

import numpy as np
import pytest
from scipy.io import wavfile
import soxr

from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.msg import ConversationState, HeadMotion
from timar_ros.nodes.convert import motion_from_msg, plan_to_msg, stamp_to_ns
from timar_ros.stream.audio import packet_from_fields
from timar_ros.stream.conversation import Conversation

pytestmark = pytest.mark.graph

FRAME_NS = 40_000_000
DEMO = pathlib.Path(__file__).parents[2] / 'config' / 'demo'


def plan_offline(checkpoint, node, events, start_ns, stop_ns, user_frames=()):
    """Plan as the node should have; return its plans in order."""
    params = node._params
    conversation = Conversation(load_checkpoint(checkpoint, dtype='auto'), params.timing_config())
    for event in events:
        packet = packet_from_fields(event.msg)
        conversation.push_audio(event.topic.split('/')[0], packet, start_ns + event.at_ns)
    for frame in user_frames:
        conversation.push_user_motion(*motion_from_msg(conversation.space, frame))
    plans, moment_ns = [], start_ns - 2_000_000_000
    while moment_ns < stop_ns:
        moment_ns = conversation.next_plan_ns(moment_ns + 1)
        plan = conversation.plan(moment_ns)
        if plan is not None:
            conversation.accept(plan)
            plans.append(plan)
        conversation.settle()
    return plans


def as_received(space, plan):
    """Return the motion of a plan as a message carries it: jaw y and z are not sent."""
    numbers = (plan.stamp_ns, plan.turn, plan.frame, plan.motion)
    msg = plan_to_msg(space, plan.plan, plan.fps, *numbers)
    return np.stack([motion_from_msg(space, frame)[1] for frame in msg.frames])


@pytest.mark.parametrize('timing', ['anticipate', 'reactive'])
def test_plans_equal_those_of_the_conversation_offline(
    start_conversation, partner, make_voice, checkpoint, timing
):
    node = start_conversation(timing=timing)
    partner.meet()
    start_ns = partner.next_turn_ns()
    events = partner.chunks(make_voice(1.2, 1), make_voice(1.2, 2), start_ns)

    partner.play(events, start_ns)
    partner.advance(0.2)

    assert len(partner.plans) >= (3 if timing == 'reactive' else 9)
    offline = plan_offline(checkpoint, node, events, start_ns, start_ns + 3 * 10**9)
    space = node._model.space
    assert any(np.abs(partner.motion(msg.frames)).max() > 0.01 for msg in partner.plans)
    for msg, expected in zip(partner.plans, offline, strict=False):
        np.testing.assert_allclose(
            partner.motion(msg.frames),
            as_received(space, expected),
            atol=1e-5,
            err_msg=f'plan {msg.plan}',
        )
        np.testing.assert_array_equal(partner.stamps(msg.frames), expected.stamp_ns)
        assert [frame.turn for frame in msg.frames] == expected.turn.tolist()


def test_plans_count_up_and_replace_what_follows_only(start_conversation, partner, make_voice):
    start_conversation()
    partner.meet()

    partner.converse(make_voice(0.8))

    numbers = [msg.plan for msg in partner.plans]
    first_ns = [stamp_to_ns(msg.header.stamp) for msg in partner.plans]
    assert len(numbers) >= 4
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert first_ns == sorted(first_ns)


def test_each_frame_is_shown_at_its_time_as_the_plan_in_force_has_it(
    start_conversation, partner, make_voice
):
    start_conversation()
    partner.meet()

    partner.converse(make_voice(1.2, 3), make_voice(1.2, 4))
    partner.advance(1.0)

    in_force = {}
    for plan in partner.plans:
        first_ns = stamp_to_ns(plan.header.stamp)
        in_force = {ns: frame for ns, frame in in_force.items() if ns < first_ns}
        in_force.update(zip(partner.stamps(plan.frames).tolist(), plan.frames, strict=True))
    shown = [frame for frame in partner.frames if stamp_to_ns(frame.header.stamp) in in_force]
    expected = [in_force[stamp_to_ns(frame.header.stamp)] for frame in shown]
    assert len(shown) >= 30
    np.testing.assert_array_equal(np.diff(partner.stamps()), FRAME_NS)
    np.testing.assert_array_equal(partner.motion(shown), partner.motion(expected))


@pytest.mark.parametrize('voice', ['user', 'agent'])
def test_one_voice_alone_is_answered(start_conversation, partner, make_voice, voice):
    start_conversation()
    partner.meet()

    partner.converse(**{voice: make_voice(0.8)})

    assert len(partner.plans) >= 3
    assert np.abs(partner.motion(partner.plans[2].frames)).max() > 0.01


def test_nobody_speaks_and_nothing_moves(start_conversation, partner):
    start_conversation()
    partner.meet()

    partner.advance(1.0)

    assert (partner.plans, partner.frames) == ([], [])


def test_the_head_comes_to_rest_when_nothing_is_heard_any_more(
    start_conversation, partner, make_voice
):
    node = start_conversation()
    partner.meet()

    partner.converse(make_voice(0.8))

    last = partner.motion(partner.plans[-1].frames)

    rest = node._model.space.neutral
    np.testing.assert_allclose(last[-1], rest, atol=1e-6)
    steps = np.abs(np.diff(last, axis=0)).max(-1)
    assert steps[-1] < 0.02 * steps.max()


def test_the_users_head_is_seen(start_conversation, partner, make_voice, checkpoint):
    node = start_conversation()
    partner.meet()
    head = partner.node.create_publisher(HeadMotion, 'user/head_motion', 100)
    assert partner.graph.spin_until(lambda: head.get_subscription_count())
    start_ns = partner.next_turn_ns()
    events = partner.chunks(make_voice(0.8), None, start_ns)
    nods = []
    for i in range(20):
        frame = HeadMotion(jaw_open=0.1, expression_space='arkit52')
        frame.neck.y, frame.neck.w = float(np.sin(0.05 * i)), float(np.cos(0.05 * i))
        frame.header.stamp.sec, frame.header.stamp.nanosec = divmod(start_ns + i * FRAME_NS, 10**9)
        nods.append(frame)

    for frame in nods:  # a tracker that predicts: all of it is there before it counts
        head.publish(frame)
    partner.play(events, start_ns)

    assert len(partner.plans) >= 3
    stop_ns = start_ns + 2 * 10**9
    seen = plan_offline(checkpoint, node, events, start_ns, stop_ns, nods)
    unseen = plan_offline(checkpoint, node, events, start_ns, stop_ns)
    msg, space = partner.plans[2], node._model.space
    received = partner.motion(msg.frames)
    np.testing.assert_allclose(received, as_received(space, seen[2]), atol=1e-5)
    assert np.abs(received - as_received(space, unseen[2])).max() > 1e-3


def test_who_speaks_shows_in_the_state(start_conversation, partner):
    start_conversation()
    partner.meet()
    rate_hz, speech = wavfile.read(DEMO / 'user.wav')
    speech = soxr.resample(speech[5 * rate_hz : 7 * rate_hz] / 32768, rate_hz, 16000)

    def state_now():
        partner.states.clear()
        assert partner.graph.spin_until(lambda: len(partner.states) >= 3)
        return partner.states[-1]

    partner.converse(speech.astype(np.float32), np.zeros(32000, np.float32))
    during = state_now()
    partner.advance(0.6)
    after = state_now()

    assert (during.state, after.state) == (ConversationState.USER, ConversationState.SILENCE)
    assert (during.user_speech > 0.3, after.user_speech < 0.3) == (True, True)
    assert during.user_level_db > -40
    assert (during.agent_level_db, after.user_level_db) == (-120, -120)
