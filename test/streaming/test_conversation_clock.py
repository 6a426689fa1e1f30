# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The head goes on from where it is, whatever the clock and whichever conversation moves it."""

import numpy as np
import pytest

from timar_ros.config import TimingConfig
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.conversation import Conversation

RATE, SECOND = 16000, 10**9
TIMINGS = {
    'anticipate': TimingConfig(
        timing='anticipate', replan_hz=12.5, hearing_delay_ms=80, agent_lead_ms=160,
        plan_latency_ms=40, blend_ms=80,
    ),
    'reactive': TimingConfig(timing='reactive', hearing_delay_ms=80, plan_latency_ms=40),
}  # fmt: skip


@pytest.fixture(params=['anticipate', 'reactive'])
def begun(request, make_model):
    """Return a maker of conversations that have gone on for a second, and the last plan of it."""
    model = make_model(cache='banded', history='masked', level='causal')

    def begin(begin_ns=0):
        conversation = Conversation(model, TIMINGS[request.param])
        samples = (0.1 * np.random.default_rng(1).standard_normal((RATE, 1))).astype(np.float32)
        conversation.push_audio('user', AudioPacket(begin_ns, 0, None, RATE, samples), begin_ns)
        plan, moment = None, conversation.next_plan_ns(begin_ns)
        while moment < begin_ns + SECOND:
            plan = conversation.plan(moment)
            if plan is not None:
                conversation.accept(plan)
            conversation.settle()
            moment = conversation.next_plan_ns(moment + 1)
        return conversation, plan

    return begin


def shown_at(plan, stamp_ns):
    return plan.motion[np.searchsorted(plan.stamp_ns, stamp_ns, side='right') - 1]


@pytest.mark.parametrize('step_ns', [-400 * SECOND, 3 * SECOND, 10**18])
def test_where_the_clock_was_set_the_head_glides_from_the_pose_it_had(begun, step_ns):
    conversation, plan = begun(500 * SECOND)
    shown_ns = int(plan.stamp_ns[2])

    rest = conversation.rest(shown_ns + step_ns, shown_ns)

    pose = shown_at(plan, shown_ns)
    assert np.abs(pose - conversation.space.neutral).max() > 0.1
    assert rest.stamp_ns[0] - shown_ns - step_ns < 100_000_000
    np.testing.assert_allclose(rest.motion[0], pose, atol=0.01 * np.abs(pose).max())
    np.testing.assert_allclose(rest.motion[-1], conversation.space.neutral, atol=1e-6)


def test_a_clock_set_by_decades_costs_no_memory(begun):
    conversation, plan = begun()

    conversation.accept(conversation.rest(int(plan.stamp_ns[0]) + 10**18, int(plan.stamp_ns[0])))

    assert len(conversation._in_force._motion) < 20_000


def test_the_next_conversation_takes_the_head_over_where_the_last_one_left_it(begun):
    last, plan = begun()
    following, _ = begun()
    now_ns = int(plan.stamp_ns[0])
    rest = last.rest(now_ns)
    last.accept(rest)

    following.follow(last)
    again = following.rest(now_ns + 80_000_000)

    index = np.searchsorted(rest.stamp_ns, again.stamp_ns[0])
    np.testing.assert_allclose(
        again.motion[0], rest.motion[index], atol=0.1 * np.abs(rest.motion[index]).max()
    )
    assert again.plan == rest.plan + 1


@pytest.mark.parametrize('step_ns', [5 * SECOND, 10**18])
def test_a_clock_set_and_at_once_set_back_leaves_the_head_where_it_is(begun, step_ns):
    conversation, plan = begun(500 * SECOND)
    shown_ns = int(plan.stamp_ns[2])
    pose = shown_at(plan, shown_ns)

    conversation.reset()
    conversation.accept(conversation.rest(shown_ns + step_ns, shown_ns))
    conversation.reset()
    rest = conversation.rest(shown_ns, shown_ns + step_ns)

    assert np.abs(pose - conversation.space.neutral).max() > 0.1
    np.testing.assert_allclose(rest.motion[0], pose, atol=0.01 * np.abs(pose).max())
