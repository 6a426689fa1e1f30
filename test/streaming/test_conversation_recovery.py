# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A conversation that meets NaN in its memory, or a driver's glitch, is itself again by itself."""

import numpy as np
import pytest
import torch

from timar_ros.config import TimingConfig
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.level import LevelState, Loudness

RATE = 16_000
TIMING = TimingConfig(
    replan_hz=6.25, hearing_delay_ms=40, agent_lead_ms=240, plan_latency_ms=40, blend_ms=80
)


@pytest.fixture
def conversation(make_model):
    model = make_model(cache='banded', history='shown', level='causal')
    return Conversation(model, TIMING)


def talk(conversation, begin_s, seconds, samples=None):
    """Push the user's voice and play every planning moment; return the plans, None for none."""
    n = round(seconds * RATE)
    if samples is None:
        rng = np.random.default_rng(round(begin_s * 100))
        samples = (0.1 * rng.standard_normal(n)).astype(np.float32)
    plans, begin_ns = [], round(begin_s * 1e9)
    for start in range(0, n, 320):
        stamp_ns = begin_ns + start * 10**9 // RATE
        first = round(begin_s * RATE) + start
        piece = samples[start : start + 320, None]
        arrival_ns = stamp_ns + 20_000_000
        conversation.push_audio(
            'user', AudioPacket(stamp_ns, first, None, RATE, piece), arrival_ns
        )
    moment = conversation.next_plan_ns(begin_ns + 1)
    while moment <= begin_ns + round(seconds * 1e9):
        plan = conversation.plan(moment)
        if plan is not None:
            conversation.accept(plan)
        plans.append(plan)
        conversation.settle()
        moment = conversation.next_plan_ns(moment + 1)
    return plans


def test_nan_in_the_memory_heals_after_three_plans_and_is_said(conversation):
    talk(conversation, 0.16, 1.6)
    conversation._memory.levels['user'] = LevelState(voice=Loudness(total=float('nan')))
    conversation.take_warnings()

    plans = talk(conversation, 1.76, 3.2)

    assert conversation.counters()['bad_plans'] == 3
    assert conversation.counters()['resets'] == 1
    assert plans[-1] is not None
    assert np.isfinite(plans[-1].motion).all()
    assert any('3 times in a row' in text for text in conversation.take_warnings())


def test_two_bad_plans_are_no_reason_to_forget(conversation, monkeypatch):
    talk(conversation, 0.16, 1.6)
    draft, n_bad = conversation.engine.draft, 2

    def spoiled(*args):
        nonlocal n_bad
        n_bad -= 1
        motion = draft(*args)
        return torch.full_like(motion, float('nan')) if n_bad >= 0 else motion

    monkeypatch.setattr(conversation.engine, 'draft', spoiled)
    plans = talk(conversation, 1.76, 1.6)

    assert [plan is None for plan in plans[:3]] == [True, True, False]
    assert conversation.counters()['resets'] == 0


@pytest.mark.parametrize('value', [100.0, 32768.0, 3e38])
def test_one_loud_packet_changes_what_is_heard_two_seconds_later_by_little(make_model, value):
    loudness = []
    for is_spoiled in (False, True):
        model = make_model(cache='banded', history='shown', level='causal')
        conversation = Conversation(model, TIMING)
        samples = (0.1 * np.random.default_rng(1).standard_normal(4 * RATE)).astype(np.float32)
        if is_spoiled:
            samples[RATE : RATE + 320] = value
        plans = talk(conversation, 0.16, 4.0, samples)
        level = conversation._memory.levels['user']
        loudness.append(level.voice.energy / level.voice.weight)
        assert conversation.counters()['bad_plans'] == 0
        assert plans[-1] is not None

    assert loudness[1] == pytest.approx(loudness[0], rel=0.02)
