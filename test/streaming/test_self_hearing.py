# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The robot's own voice in the user's microphone."""

import numpy as np
import pytest

from timar_ros.config import HearingConfig, TimingConfig
from timar_ros.learn.offline import answer_recording
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.self_hearing import agent_sounds, margin, without_self

RATE = 16000


def test_the_agent_sounds_from_its_first_block_until_it_has_died_away():
    n_margin = 3200  # 200 ms
    agent = np.zeros(n_margin + RATE, np.float32)
    agent[n_margin + 1600 : n_margin + 4800] = np.tile([0.1, -0.1], 1600)

    sounds = agent_sounds(agent, n_margin)

    expected = np.zeros(RATE, bool)
    expected[1600 : 4800 + 3200] = True
    np.testing.assert_array_equal(sounds, expected)


def test_a_voice_before_the_stretch_lingers_into_it():
    n_margin = 3200
    agent = np.zeros(n_margin + 1600, np.float32)
    agent[n_margin - 1600 : n_margin] = np.tile([0.1, -0.1], 800)

    np.testing.assert_array_equal(agent_sounds(agent, n_margin), True)


def test_the_dither_of_a_silent_voice_is_not_a_voice():
    agent = np.full(3200 + 1600, 1e-3, np.float32)

    np.testing.assert_array_equal(agent_sounds(agent, 3200), False)


def test_attenuating_takes_the_given_level_off_and_leaves_the_rest_alone():
    user = np.ones(1600, np.float32)
    sounds = np.arange(1600) < 800
    config = HearingConfig(self_hearing='attenuate', self_hearing_db=20.0)

    samples, is_present = without_self(user, np.ones(1600, bool), sounds, config)

    np.testing.assert_allclose(samples, np.where(sounds, 0.1, 1.0), rtol=1e-6)
    np.testing.assert_array_equal(is_present, True)


def test_a_gated_user_is_not_heard():
    user = np.ones(1600, np.float32)
    sounds = np.arange(1600) < 800
    config = HearingConfig(self_hearing='gate')

    samples, is_present = without_self(user, np.ones(1600, bool), sounds, config)

    np.testing.assert_array_equal(is_present, ~sounds)
    np.testing.assert_array_equal(samples, (~sounds).astype(np.float32))


def test_the_margin_is_whole_blocks():
    assert margin(HearingConfig(self_hearing_hold_ms=205), RATE) == 3360


def test_with_the_gate_an_echo_of_the_robot_changes_nothing(make_model):
    model = make_model(cache='banded', level='causal')
    timing = TimingConfig(
        replan_hz=12.5, hearing_delay_ms=80, agent_lead_ms=400, plan_latency_ms=40
    )
    rng = np.random.default_rng(0)
    user = (0.05 * rng.standard_normal(3 * RATE)).astype(np.float32)
    agent = np.zeros(3 * RATE, np.float32)
    agent[RATE : 2 * RATE] = 0.1 * rng.standard_normal(RATE)
    echo = 0.5 * np.roll(agent, 800)  # 50 ms of room

    def answer(microphone, mode):
        hearing = HearingConfig(self_hearing=mode)
        conversation = Conversation(model, timing, hearing=hearing)
        voices = {'user': (microphone, RATE), 'agent': (agent, RATE)}
        return answer_recording(conversation, voices)

    np.testing.assert_array_equal(answer(user + echo, 'gate'), answer(user, 'gate'))
    assert np.abs(answer(user + echo, 'off') - answer(user, 'off')).max() > 0.01


def test_an_unknown_way_to_hear_oneself_is_refused():
    with pytest.raises(ValueError, match="must be one of off, attenuate, gate, got 'mute'"):
        HearingConfig(self_hearing='mute')
