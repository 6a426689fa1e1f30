# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The whole of a conversation without ROS: stamps decide, chunks and order do not."""

import numpy as np
import pytest

from timar_ros.config import TimingConfig
from timar_ros.learn.offline import answer_recording
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.conversation import Conversation

RATE = 16000
# The tiny model's turn is 0.16 s: delays in proportion to it.
TIMINGS = {
    'anticipate': TimingConfig(
        timing='anticipate', replan_hz=12.5, hearing_delay_ms=80, agent_lead_ms=160,
        plan_latency_ms=40, blend_ms=80,
    ),
    'reactive': TimingConfig(timing='reactive', hearing_delay_ms=80, plan_latency_ms=40),
}  # fmt: skip


@pytest.fixture(params=['anticipate', 'reactive'])
def timing(request):
    return TIMINGS[request.param]


@pytest.fixture(params=['banded', 'rebuild', 'rebase'])
def model(request, make_model):
    return make_model(cache=request.param, history='shown', level='causal')


@pytest.fixture
def banded(make_model):
    return make_model(cache='banded', history='masked', level='causal')


def voice(seed: int, seconds: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(seconds * RATE))).astype(np.float32)


def answer(model, timing, user, agent, **kwargs):
    conversation = Conversation(model, timing, seed=kwargs.pop('seed', 0))
    return answer_recording(conversation, {'user': (user, RATE), 'agent': (agent, RATE)}, **kwargs)


def push_chunks(conversation, name, samples, sizes, lead_ns=0):
    """Push a whole voice in chunks of the given sizes, cycled."""
    start, i = 0, 0
    while start < len(samples):
        stop = min(start + sizes[i % len(sizes)], len(samples))
        stamp = start * 10**9 // RATE
        packet = AudioPacket(
            stamp, start, max(stamp - lead_ns, 0), RATE, samples[start:stop, None]
        )
        conversation.push_audio(name, packet, stamp)
        start, i = stop, i + 1


def drive(conversation, until_ns, before=lambda moment: None):
    """Play every planning moment through; return the plans."""
    plans, moment = [], conversation.next_plan_ns(0)
    while moment <= until_ns:
        before(moment)
        plan = conversation.plan(moment)
        if plan is not None:
            conversation.accept(plan)
            plans.append(plan)
        conversation.settle()
        moment = conversation.next_plan_ns(moment + 1)
    return plans


def test_same_recording_and_seed_give_the_same_motion(model, timing):
    user, agent = voice(1), voice(2)

    first, second = (answer(model, timing, user, agent) for _ in range(2))

    np.testing.assert_array_equal(first, second)


def test_another_seed_gives_another_motion(banded, timing):
    user, agent = voice(1), voice(2)

    first, second = (answer(banded, timing, user, agent, seed=seed) for seed in (0, 1))

    assert np.abs(first - second).max() > 0.1


@pytest.mark.parametrize('sizes', [[160], [2560], [1000, 17, 4096, 320], [40000]])
def test_motion_does_not_depend_on_how_the_audio_was_chunked(banded, timing, sizes):
    user, agent = voice(1), voice(2)
    plans = {}
    for name, used in (('reference', [320]), ('other', sizes)):
        conversation = Conversation(banded, timing)
        push_chunks(conversation, 'user', user, used)
        # Of the agent's voice the moment of sending counts: sent as one, cut as may be.
        push_chunks(conversation, 'agent', agent, [len(agent)])
        plans[name] = drive(conversation, 3 * 10**9)

    for reference, other in zip(plans['reference'], plans['other'], strict=True):
        np.testing.assert_array_equal(reference.motion, other.motion)


def test_a_neck_that_is_switched_on_takes_a_second_and_the_face_does_not(banded, monkeypatch):
    def first_frames():
        conversation = Conversation(banded, TIMINGS['anticipate'])
        push_chunks(conversation, 'user', voice(1), [320])
        return drive(conversation, 10**9)[0].drawn[2:5]  # blended in, and before the glide

    waking = first_frames()
    monkeypatch.setattr('timar_ros.stream.conversation._WAKING_S', 0.0)
    awake = first_frames()

    neck = banded.space.neck
    share = np.arange(3, 6)[:, None] / 26
    np.testing.assert_allclose(waking[:, neck], share * awake[:, neck], atol=1e-6)
    assert np.abs(awake[:, neck]).max() > 0.01
    np.testing.assert_array_equal(np.delete(waking, neck, 1), np.delete(awake, neck, 1))


def test_nothing_is_heard_before_its_time(banded):
    timing = TIMINGS['anticipate']
    user, agent = voice(1), voice(2)
    changed_at = 1.6
    louder = user.copy()
    louder[int(changed_at * RATE) :] = voice(3)[int(changed_at * RATE) :]

    first, second = answer(banded, timing, user, agent), answer(banded, timing, louder, agent)

    differs = np.abs(first - second).max(-1) > 0
    # Heard after the hearing delay, shown after the plan latency, at a planning moment.
    earliest = round((changed_at + 0.08 + 0.04) * 25)
    assert not differs[:earliest].any()
    assert differs[earliest : earliest + 4].any()


def test_the_agents_voice_is_known_ahead_by_its_lead_and_no_more(banded):
    timing = TIMINGS['anticipate']
    user, agent = voice(1), voice(2)
    changed_at = 1.72  # in the turn from 1.60 s on; frames of earlier turns cannot see it
    other = agent.copy()
    other[int(changed_at * RATE) :] = voice(3)[int(changed_at * RATE) :]

    first, second = answer(banded, timing, user, agent), answer(banded, timing, user, other)

    differs = np.abs(first - second).max(-1) > 0
    assert not differs[: round((changed_at - 0.16 + 0.04) * 25)].any()
    assert differs[round(1.6 * 25) + 1 : round(changed_at * 25)].all()


def test_reactive_motion_is_that_of_the_engine_turn_by_turn(make_model, make_turns):
    import torch

    from timar_ros.model.turn import Turn
    from timar_ros.stream.engine import Engine
    from timar_ros.stream.level import LevelState, normalise

    model = make_model(cache='rebuild', history='masked', level='causal')
    user, agent = voice(1), voice(2)
    T, S = model.config.frames_per_turn, model.config.samples_per_turn

    motion = answer(model, TIMINGS['reactive'], user, agent)

    engine = Engine(model)
    state, levels = engine.new_state(0), {'user': LevelState(), 'agent': LevelState()}
    for k in range(len(user) // S):
        speech = {}
        for name, samples in (('user', user), ('agent', agent)):
            part = samples[k * S : (k + 1) * S]
            speech[name], levels[name] = normalise(part, np.ones(S, bool), levels[name])
        known = torch.ones(1, T, dtype=torch.bool)
        turn = Turn(
            torch.from_numpy(speech['user'])[None], known,
            torch.zeros(1, T, model.config.n_channels), ~known,
            torch.from_numpy(speech['agent'])[None],
            torch.zeros(1, T, model.config.n_channels), ~known,
        )  # fmt: skip
        expected = model.space.clamp(engine.step(turn, state)[0].numpy())
        np.testing.assert_allclose(motion[k * T : (k + 1) * T], expected, atol=1e-5)


def test_plans_begin_at_the_first_frame_that_is_not_shown_and_end_at_rest(banded, timing):
    conversation = Conversation(banded, timing)
    push_chunks(conversation, 'user', voice(1), [320])

    plans = drive(conversation, 2 * 10**9)

    latency = timing.plan_latency_ms * 10**6
    assert len(plans) >= 10
    for plan in plans:
        assert plan.stamp_ns[0] >= plan.moment_ns + latency
        np.testing.assert_array_equal(np.diff(plan.stamp_ns), 40_000_000)
        np.testing.assert_allclose(plan.motion[-1], conversation.space.neutral, atol=1e-6)
    assert [plan.plan for plan in plans] == list(range(1, len(plans) + 1))


def test_frames_are_numbered_on_from_the_first_turn_of_the_conversation(banded):
    conversation = Conversation(banded, TIMINGS['anticipate'])
    late = np.concatenate([np.zeros(0, np.float32), voice(1)])
    offset = 1_000 * 2560  # a thousand turns after the clock's zero
    packet = AudioPacket(offset * 10**9 // RATE, 0, None, RATE, late[:, None])
    conversation.push_audio('user', packet, offset * 10**9 // RATE)

    moment = conversation.next_plan_ns(offset * 10**9 // RATE + 200_000_000)
    plan = conversation.plan(moment)

    absolute = plan.first_frame + np.arange(len(plan.motion))
    np.testing.assert_array_equal(plan.turn, absolute // 4 - 1_000)
    np.testing.assert_array_equal(plan.frame, absolute % 4)


def test_nobody_speaking_yet_means_no_plan(banded, timing):
    assert drive(Conversation(banded, timing), 10**9) == []


def test_a_robot_voice_alone_is_enough(banded, timing):
    conversation = Conversation(banded, timing)
    push_chunks(conversation, 'agent', voice(2), [320])

    assert drive(conversation, 10**9)
    assert conversation.counters()['missing_user_frames'] == 0


def test_a_barge_in_withdraws_what_will_not_be_heard_from_when_it_is_sent(banded):
    agent = voice(2)
    stop = int(1.2 * RATE)
    silenced = agent.copy()
    silenced[stop:] = 0

    def plans(said, withdrawn_at_s=None):
        conversation = Conversation(banded, TIMINGS['anticipate'])
        push_chunks(conversation, 'agent', said, [len(said)])
        if withdrawn_at_s is not None:
            silence = np.zeros((len(agent) - stop, 1), np.float32)
            sent = round(withdrawn_at_s * 10**9)
            packet = AudioPacket(stop * 10**9 // RATE, stop, sent, RATE, silence)
            conversation.push_audio('agent', packet, sent)
        return {plan.moment_ns: plan.motion for plan in drive(conversation, 2 * 10**9)}

    never_said = plans(silenced)
    in_time, too_late = plans(agent, 0.9), plans(agent, 1.15)

    # The lead is 160 ms: what sounds from 1.2 s on is known from 1.04 s on.
    for moment, motion in never_said.items():
        np.testing.assert_array_equal(in_time[moment], motion)
        if moment < 104 * 10**7:
            np.testing.assert_array_equal(too_late[moment], motion)
        elif moment < 115 * 10**7:
            assert np.abs(too_late[moment] - motion).max() > 1e-4


def test_what_arrives_late_is_null_now_and_heard_by_the_next_plan(banded):
    user = voice(1, 0.64)
    on_time, late = (Conversation(banded, TIMINGS['anticipate']) for _ in range(2))
    push_chunks(on_time, 'user', user, [320])
    hole = int(0.32 * RATE)

    def push(start):
        stamp = start * 10**9 // RATE
        packet = AudioPacket(stamp, start, None, RATE, user[start : start + 320, None])
        late.push_audio('user', packet, arrival_ns=700_000_000)

    for start in range(0, len(user), 320):
        if start != hole:
            push(start)
    moment = on_time.next_plan_ns(round(0.46 * 10**9))
    without, expected = late.plan(moment), on_time.plan(moment)
    push(hole)
    following = on_time.next_plan_ns(moment + 1)

    assert np.abs(without.motion - expected.motion).max() > 1e-3
    np.testing.assert_allclose(
        late.plan(following).motion, on_time.plan(following).motion, atol=1e-5
    )


def test_a_plan_that_is_not_accepted_leaves_no_trace(banded, timing):
    user = voice(1)
    answers = {}
    for is_planned in (True, False):
        conversation = Conversation(banded, timing)
        push_chunks(conversation, 'user', user, [320])
        dropped, later, moment = [], [], conversation.next_plan_ns(0)
        while moment <= 2 * 10**9:
            is_dropped = 5 * 10**8 < moment < 9 * 10**8
            plan = conversation.plan(moment) if is_planned or not is_dropped else None
            (dropped if is_dropped else later).append(plan)
            if plan is not None and not is_dropped:
                conversation.accept(plan)
            conversation.settle()
            moment = conversation.next_plan_ns(moment + 1)
        answers[is_planned] = [plan.motion for plan in later if plan is not None]
        assert any(plan is not None for plan in dropped) == is_planned

    for planned, unplanned in zip(answers[True], answers[False], strict=True):
        np.testing.assert_array_equal(planned, unplanned)


def test_listening_ahead_changes_nothing_but_the_cost(banded, timing):
    user, agent = voice(1), voice(2)
    plans = {}
    for listens in (False, True):
        conversation = Conversation(banded, timing)
        push_chunks(conversation, 'user', user, [320])
        push_chunks(conversation, 'agent', agent, [320], lead_ns=160_000_000)
        hear = conversation.listen if listens else lambda now: None
        plans[listens] = drive(
            conversation, 10**9, before=lambda m, hear=hear: hear(m - 20_000_000)
        )

    for plain, ahead in zip(plans[False], plans[True], strict=True):
        np.testing.assert_array_equal(plain.motion, ahead.motion)


@pytest.mark.parametrize('jump_s', [-5.0, 60.0])
def test_a_clock_jump_begins_a_new_conversation_from_where_the_head_is(banded, jump_s):
    timing = TIMINGS['anticipate']
    conversation = Conversation(banded, timing)
    start = 100 * 10**9
    user = voice(1)

    def feed(begin_ns):
        packet = AudioPacket(begin_ns, 0, None, RATE, user[:, None])
        conversation.push_audio('user', packet, begin_ns)

    feed(start)
    moment = conversation.next_plan_ns(start + 10**9)
    conversation.accept(conversation.plan(moment))
    after = conversation.next_plan_ns(moment + round(jump_s * 10**9))

    assert conversation.plan(after) is None
    feed(after)
    plan = conversation.plan(conversation.next_plan_ns(after + 3 * 10**8))

    assert conversation.counters()['clock_jumps'] == 1
    assert plan.turn[0] <= 2
    assert np.isfinite(plan.motion).all()


def test_a_reset_conversation_equals_a_fresh_one(banded, timing):
    used, fresh = Conversation(banded, timing), Conversation(banded, timing)
    push_chunks(used, 'user', voice(5), [320])
    moment = used.next_plan_ns(10**9)
    used.plan(moment)
    used.reset()
    for conversation in (used, fresh):
        push_chunks(conversation, 'user', voice(1), [320])

    moment = fresh.next_plan_ns(2 * 10**9)
    first, second = used.plan(moment), fresh.plan(moment)

    np.testing.assert_array_equal(first.motion, second.motion)
    np.testing.assert_array_equal(first.turn, second.turn)


def test_resting_glides_from_where_the_head_is(banded, timing):
    conversation = Conversation(banded, timing)
    push_chunks(conversation, 'user', voice(1), [320])
    plans = drive(conversation, 10**9)

    moment = conversation.next_plan_ns(10**9 + 1)
    rest = conversation.rest(moment)

    index = rest.first_frame - plans[-1].first_frame
    before = plans[-1].motion[index - 1]
    steps = np.abs(np.diff(np.concatenate([before[None], rest.motion]), axis=0)).max()
    assert rest.stamp_ns[0] >= moment
    np.testing.assert_allclose(rest.motion[-1], conversation.space.neutral, atol=1e-6)
    assert steps < 0.5 * np.abs(before).max() + 0.05


def test_user_motion_is_seen_and_its_absence_is_null(banded, timing):
    user, agent = voice(1), voice(2)
    stamps = np.arange(0, 75) * 40_000_000
    motion = np.random.default_rng(0).normal(size=(75, 56)).astype(np.float32)

    without = answer(banded, timing, user, agent)
    with_motion = answer(banded, timing, user, agent, user_motion=(stamps, motion))

    assert np.abs(without - with_motion).max() > 0.05


def test_memory_does_not_grow_with_the_conversation(banded, timing):
    conversation = Conversation(banded, timing)
    sizes = []

    def measure(moment):
        start = moment * RATE // 10**9
        samples = voice(moment % 7, 0.2)
        packet = AudioPacket(start * 10**9 // RATE, start, None, RATE, samples[:, None])
        conversation.push_audio('user', packet, moment)
        pieces = conversation._voices._tracks['user']._pieces
        sizes.append((len(pieces), len(conversation._in_force._motion)))

    drive(conversation, 40 * 10**9, before=measure)

    assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2])
