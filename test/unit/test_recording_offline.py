# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Recordings played through a conversation: stamps of their own, loudness, ends and beginnings."""

import dataclasses

import numpy as np
import pytest
import torch

from timar_ros.config import TimingConfig
from timar_ros.learn.offline import answer_deliveries, answer_recording, deliver_voice
from timar_ros.model.turn import Turn
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.engine import Engine
from timar_ros.stream.level import ClipLevel, normalise_clip

RATE = 16000
TURN_NS = 160_000_000  # of the tiny model
LEAD_NS = 160_000_000
TIMINGS = {
    'anticipate': TimingConfig(
        replan_hz=12.5, hearing_delay_ms=80, agent_lead_ms=160, plan_latency_ms=40, blend_ms=80
    ),
    'reactive': TimingConfig(timing='reactive', hearing_delay_ms=80, plan_latency_ms=40),
}


@pytest.fixture(params=['anticipate', 'reactive'])
def timing(request):
    return TIMINGS[request.param]


@pytest.fixture
def model(make_model):
    return make_model(cache='banded', history='masked', level='causal')


def voice(seed: int, seconds: float = 2.4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal(int(seconds * RATE))).astype(np.float32)


def later(delivery, by_ns):
    """Return the delivery as of a recording that began later."""
    packet = delivery.packet
    packet = dataclasses.replace(
        packet,
        stamp_ns=packet.stamp_ns + by_ns,
        sent_ns=None if packet.sent_ns is None else packet.sent_ns + by_ns,
    )
    return dataclasses.replace(
        delivery,
        packet=packet,
        due_ns=delivery.due_ns + by_ns,
        arrival_ns=delivery.arrival_ns + by_ns,
    )


def deliveries_of(**voices):
    return {name: deliver_voice(name, x, RATE, LEAD_NS) for name, x in voices.items()}


def test_a_recording_whose_stamps_begin_late_gives_the_same_motion(model, timing):
    voices = {'user': voice(1), 'agent': voice(2)}
    deliveries = deliveries_of(**voices)
    begin_turn = 1_700_000_000 * 10**9 // TURN_NS

    at_zero = answer_recording(
        Conversation(model, timing), {name: (x, RATE) for name, x in voices.items()}
    )
    late = answer_deliveries(
        Conversation(model, timing),
        {
            name: [later(delivery, begin_turn * TURN_NS) for delivery in feed]
            for name, feed in deliveries.items()
        },
        begin_turn * 4,
        60,
    )

    np.testing.assert_array_equal(late, at_zero)


def test_what_the_robot_announces_before_the_recording_begins_moves_its_first_frames(model):
    motion = answer_recording(
        Conversation(model, TIMINGS['anticipate']), {'agent': (voice(2), RATE)}
    )
    unannounced = answer_deliveries(
        Conversation(model, TIMINGS['anticipate']),
        {'agent': deliver_voice('agent', voice(2), RATE, 0)},
        0,
        60,
    )

    neutral = model.space.neutral
    assert np.abs(motion[0] - neutral).max() > 1e-3
    np.testing.assert_array_equal(unannounced[0], neutral)


def test_packets_that_came_in_another_order_give_the_same_motion(model, timing):
    user = deliver_voice('user', voice(1), RATE, 0)
    swapped = list(user)
    for i in range(3, len(user) - 1, 5):
        arrivals = user[i].arrival_ns, user[i + 1].arrival_ns
        swapped[i] = dataclasses.replace(user[i + 1], arrival_ns=arrivals[0])
        swapped[i + 1] = dataclasses.replace(user[i], arrival_ns=arrivals[1])

    in_order = answer_deliveries(Conversation(model, timing), {'user': user}, 0, 60)
    out_of_order = answer_deliveries(Conversation(model, timing), {'user': swapped}, 0, 60)

    np.testing.assert_array_equal(out_of_order, in_order)


def test_a_refused_packet_is_told_and_the_conversation_goes_on(model):
    user = deliver_voice('user', voice(1), RATE, 0)
    broken = user[10].packet
    broken = dataclasses.replace(broken, samples=np.full_like(broken.samples, np.nan))
    user[10] = dataclasses.replace(user[10], packet=broken)
    told = []

    motion = answer_deliveries(
        Conversation(model, TIMINGS['anticipate']), {'user': user}, 0, 60, on_refused=told.append
    )

    assert len(told) == 1
    assert 'finite' in told[0]
    assert np.isfinite(motion).all()


@pytest.mark.parametrize('n_frames', [37, 40, 41])
def test_what_is_wanted_does_not_depend_on_how_much_of_it(model, timing, n_frames):
    deliveries = deliveries_of(user=voice(1), agent=voice(2))

    whole = answer_deliveries(Conversation(model, timing), deliveries, 0, 60)
    part = answer_deliveries(Conversation(model, timing), deliveries, 0, n_frames)

    np.testing.assert_array_equal(part, whole[:n_frames])


def test_the_silence_behind_a_recording_does_not_count_as_missed(model, timing):
    conversation = Conversation(model, timing)

    answer_deliveries(conversation, deliveries_of(user=voice(1), agent=voice(2)), 0, 60)

    counters = conversation.counters()
    assert counters['late_user_frames'] == counters['missing_user_frames'] == 0


def test_a_shorter_voice_is_followed_by_silence_not_by_nothing(model, timing):
    user, agent = voice(1, 1.0), voice(2, 2.4)
    silence = np.zeros(len(agent) + 640 - len(user), np.float32)  # to the end of the last turn

    padded = answer_recording(
        Conversation(model, timing),
        {'user': (np.concatenate([user, silence]), RATE), 'agent': (agent, RATE)},
    )
    short = answer_recording(
        Conversation(model, timing), {'user': (user, RATE), 'agent': (agent, RATE)}
    )

    assert len(short) == 60
    # The last frames are joined to the turn behind them, which only `padded` has heard of.
    n_blend = Conversation(model, timing).schedule.blend_frames
    np.testing.assert_array_equal(short[:-n_blend], padded[: 60 - n_blend])


def test_a_voice_with_nan_is_refused(model):
    bad = voice(1)
    bad[100] = np.nan

    with pytest.raises(ValueError, match='voice of the user must be finite'):
        answer_recording(Conversation(model, TIMINGS['reactive']), {'user': (bad, RATE)})


def test_loudness_of_the_whole_clip_is_the_published_protocol(make_model):
    model = make_model(cache='rebuild', history='masked', level='clip')
    voices = {'user': voice(1), 'agent': 0.2 * voice(2)}
    config = model.config
    T, S = config.frames_per_turn, config.samples_per_turn
    conversation = Conversation(
        model,
        TIMINGS['reactive'],
        clip_levels={name: ClipLevel.of(x) for name, x in voices.items()},
    )

    motion = answer_recording(conversation, {name: (x, RATE) for name, x in voices.items()})

    engine = Engine(model)
    state = engine.new_state(0)
    speech = {name: torch.from_numpy(normalise_clip(x)) for name, x in voices.items()}
    known = torch.ones(1, T, dtype=torch.bool)
    nothing = torch.zeros(1, T, config.n_channels)
    for k in range(len(voices['user']) // S):
        turn = Turn(
            speech['user'][None, k * S : (k + 1) * S], known, nothing, ~known,
            speech['agent'][None, k * S : (k + 1) * S], nothing, ~known,
        )  # fmt: skip
        expected = model.space.clamp(engine.step(turn, state)[0].numpy())
        np.testing.assert_allclose(motion[k * T : (k + 1) * T], expected, atol=1e-5)
