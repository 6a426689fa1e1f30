# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Changes in what is heard are planted where they should be, and answers are timed rightly."""

import pathlib

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from timar_ros.config import TimingConfig
from timar_ros.learn import reaction
from timar_ros.learn.behaviour import head_steps
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.resample import SAMPLE_RATE_HZ, Resampler
from timar_ros.stream.wav import read_wav

_DEMO = pathlib.Path(__file__).parents[2] / 'config' / 'demo'


def _voice(name: str) -> np.ndarray:
    samples, rate_hz = read_wav(_DEMO / f'{name}.wav')
    return Resampler(rate_hz).resample(samples[:, 0])


def test_the_angle_between_two_heads_does_not_depend_on_the_axis_or_the_pose():
    rng = np.random.default_rng(0)
    before = rng.normal(size=(50, 3)) * 0.5
    turns = rng.normal(size=(50, 3))
    turns *= np.deg2rad(3.0) / np.linalg.norm(turns, axis=1, keepdims=True)
    after = (Rotation.from_rotvec(before) * Rotation.from_rotvec(turns)).as_rotvec()

    np.testing.assert_allclose(head_steps(before, after), 3.0, atol=1e-6)


def test_the_reaction_is_timed_from_the_change_to_the_first_frame_that_differs_enough():
    neck = np.zeros((100, 3))
    changed = neck.copy()
    changed[30:, 0] = np.deg2rad(0.4)
    changed[60:, 0] = np.deg2rad(0.6)

    assert reaction.reaction_time(neck, changed, 2.0, 25, 0.5) == pytest.approx(0.4)
    assert reaction.reaction_time(neck, changed, 1.0, 25, 0.3) == pytest.approx(0.2)
    assert reaction.reaction_time(neck, changed, 2.0, 25, 0.7) is None


def test_a_planted_change_leaves_all_before_it_and_puts_speech_in_silence_and_silence_in_speech():
    user, rng = _voice('user'), np.random.default_rng(0)
    kinds = set()
    for at in range(0, len(user) - 4 * SAMPLE_RATE_HZ, 5000):
        planted = reaction.plant_change(user, at, rng)
        if planted is None:
            continue
        changed, is_onset = planted
        kinds.add(is_onset)
        soon = slice(at, at + SAMPLE_RATE_HZ // 2)
        was, now = (np.sqrt(np.mean(voice[soon] ** 2)) for voice in (user, changed))

        assert np.array_equal(changed[:at], user[:at])
        assert now > 3 * was if is_onset else now == 0 < was

    assert kinds == {True, False}


def test_a_recording_without_speech_of_the_user_is_refused(make_model):
    voices = {name: np.zeros(16 * SAMPLE_RATE_HZ, np.float32) for name in ('user', 'agent')}

    with pytest.raises(ValueError, match='expected speech and silence'):
        reaction.measure_reactions(lambda: Conversation(make_model()), voices, 2)


def test_no_head_reacts_sooner_than_its_timing_allows(make_model):
    model = make_model(cache='banded', level='causal', positions='turn', frames_per_turn=25)
    timing = TimingConfig(replan_hz=3.0, agent_lead_ms=500)
    voices = {name: _voice(name) for name in ('user', 'agent')}

    found = reaction.measure_reactions(
        lambda: Conversation(model, timing), voices, n_changes=4, difference_deg=1e-4
    )

    soonest = (timing.hearing_delay_ms + timing.plan_latency_ms) / 1000 - 0.04
    assert [r.is_onset for r in found] == [True, False, True, False]
    assert all(soonest <= r.after_s <= soonest + 1 / 3 + 0.2 for r in found), found


def test_changes_fall_anywhere_between_two_planning_moments(make_model, monkeypatch):
    model = make_model(cache='banded', level='causal', positions='turn', frames_per_turn=25)
    voices = {name: _voice(name) for name in ('user', 'agent')}
    lived_s = []
    monkeypatch.setattr(reaction, 'reaction_time', lambda *of: lived_s.append(of[2]))

    reaction.measure_reactions(lambda: Conversation(model), voices, n_changes=8)

    phases = np.mod(lived_s, 0.2)
    assert phases.min() < 0.07 < 0.13 < phases.max()
    assert len(set(np.floor(np.mod(lived_s, 1.0) / 0.2))) >= 3, 'and anywhere in a turn'


def test_steps_where_plans_take_over_are_told_from_the_others():
    seams = range(10, 1000, 10)
    degrees = np.full((1000, 1), 1.0)
    degrees[list(seams)] = 3.0
    degrees[[frame + 1 for frame in seams]] = 2.0
    neck = np.deg2rad(np.cumsum(degrees, 0)) * [0.0, 0.0, 1.0]

    assert reaction.compare_seams(neck, seams, 2) == pytest.approx((3.0, 1.0))
    with pytest.raises(ValueError, match='plan less often'):
        reaction.compare_seams(neck[9:], range(1, 1000, 10), 10)


def test_the_seams_of_a_conversation_are_counted(make_model):
    model = make_model(cache='banded', level='causal', positions='turn', frames_per_turn=25)
    voices = {name: _voice(name)[: 20 * SAMPLE_RATE_HZ] for name in ('user', 'agent')}
    timing = TimingConfig(replan_hz=3.0, agent_lead_ms=500)

    at_seams, elsewhere, n_seams = reaction.measure_seams(Conversation(model, timing), voices)

    assert 50 <= n_seams <= 70
    assert 0 < at_seams < 20 * elsewhere
