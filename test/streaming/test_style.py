# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How the agent is to be: what is taken, from when on it holds, what it moves and what not."""

import numpy as np
import pytest
import torch

from timar_ros.config import PRESETS, TimingConfig
from timar_ros.learn.offline import answer_recording
from timar_ros.motion import get_space
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.style import AgentStyle, Expressiveness, StyleTrack

RATE = 16000
TIMING = TimingConfig(
    replan_hz=12.5, hearing_delay_ms=80, agent_lead_ms=160, plan_latency_ms=40, blend_ms=80
)
ARKIT = get_space('arkit55')
HAPPY = AgentStyle('happy', 0.8)


@pytest.fixture
def model(make_model):
    return make_model(cache='banded', level='causal', motion_space='arkit55')


def voices(seconds=3.0):
    rng = np.random.default_rng(0)
    return {
        name: ((0.1 * rng.standard_normal(int(seconds * RATE))).astype(np.float32), RATE)
        for name in ('user', 'agent')
    }


def answer(model, style=None, later=()):
    conversation = Conversation(model, TIMING, style=style)
    for stamp_s, said in later:
        conversation.push_style(int(stamp_s * 1e9), said)
    return answer_recording(conversation, voices())


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'emotion': 'hapy'}, "unknown emotion 'hapy'; known: neutral, happy, .*mean 'happy'"),
        ({'intensity': 1.2}, 'intensity must be 0 to 1, got 1.2'),
        ({'attitude': -2.0}, 'attitude must be -1 to 1, got -2'),
        ({'expressiveness': 2.5}, 'expressiveness must be 0 to 2, got 2.5'),
        ({'intensity': float('nan')}, 'intensity must be 0 to 1, got nan'),
    ],
)
def test_values_that_mean_nothing_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        AgentStyle(**values)


def test_names_of_any_length_are_refused_in_a_short_sentence():
    with pytest.raises(ValueError, match="unknown emotion 'xxx") as refused:
        AgentStyle(emotion='x' * 10**6)

    assert len(str(refused.value)) < 300


def test_styles_far_ahead_do_not_displace_the_one_that_is_to_come():
    track, second = StyleTrack(), 10**9
    for number in range(1000):
        track.write((4_000_000_000 + number) * second, AgentStyle('sad', 1.0))
    for number in range(500):
        track.write(number * second, AgentStyle('happy', number / 500))

    styles = [track.read(number * second) for number in (-1, 0, 250, 499)]
    assert styles == [None, *(AgentStyle('happy', n / 500) for n in (0, 250, 499))]


def test_of_more_styles_than_are_kept_the_oldest_are_forgotten():
    track = StyleTrack()
    for number in range(3000):
        track.write(number, AgentStyle('happy', number / 3000))

    assert len(track._stamps) == 1000
    assert track.read(2999) == AgentStyle('happy', 2999 / 3000)
    assert track.read(0) == AgentStyle('happy', 1999 / 3000)


def test_a_persona_that_the_weights_lack_is_refused_with_those_they_have(model):
    with pytest.raises(ValueError, match="unknown persona 'an'; known: ann, bo; did you mean"):
        Conversation(model, style=AgentStyle(persona='an'))
    with pytest.raises(ValueError, match="unknown persona 'eve'"):
        Conversation(model).push_style(0, AgentStyle(persona='eve'))


def test_what_weights_have_not_learned_is_named_if_it_was_asked_for():
    everything = AgentStyle('sad', 0.5, -0.2, 1.5, 'ann')
    without, config = PRESETS['mini'], PRESETS['mini'].__class__(style=True, personas=('ann',))

    assert everything.ignored_by(without) == ['emotion', 'attitude', 'persona']
    assert AgentStyle('sad', expressiveness=0.5).ignored_by(without) == []
    assert everything.ignored_by(config) == []


def test_a_style_is_laid_out_as_turns_carry_it(model):
    said = AgentStyle('surprised', 0.25, -0.5, persona='bo').tensors(model.config)
    nothing = AgentStyle().tensors(model.config)

    assert said['style'].tolist() == [[1, 0, 0, 0, 0.25, 0, 0, -0.5]]
    assert said['persona'].tolist() == [2]
    assert not nothing['style'].any() and not nothing['persona'].any()
    assert AgentStyle('neutral').tensors(model.config)['style'].tolist() == [[1] + 7 * [0]]


def test_the_style_that_holds_is_the_last_stamped_not_the_last_come():
    first, second, third = (AgentStyle(intensity=value) for value in (0.1, 0.2, 0.3))
    track = StyleTrack()
    for stamp, style in ((300, third), (100, first), (200, second)):
        track.write(stamp, style)

    assert track.read(99) is None
    assert [track.read(at) for at in (100, 199, 200, 300, 10**12)] == [
        first, first, second, third, third,
    ]  # fmt: skip
    assert StyleTrack(first).read(0) is first


def test_a_style_holds_from_the_first_plan_after_its_stamp(model):
    plain = answer(model)

    # Planning moments are 80 ms apart; a plan is shown plan_latency after its moment.
    for stamp_s, moment_s in ((1.04, 1.04), (1.05, 1.12), (1.12, 1.12)):
        styled = answer(model, later=[(stamp_s, HAPPY)])
        first = int(np.flatnonzero((plain != styled).any(1))[0])
        assert first == round((moment_s + 0.04) * 25), stamp_s


@pytest.mark.parametrize('style', [HAPPY, AgentStyle(attitude=1.0), AgentStyle(persona='ann')])
def test_each_control_reaches_the_model(model, style):
    assert np.abs(answer(model, style) - answer(model)).max() > 1e-3


def test_weights_without_controls_move_as_ever(make_model):
    model = make_model(
        cache='banded', level='causal', motion_space='arkit55', style=False, personas=()
    )

    styled = answer(model, AgentStyle('happy', 1.0, 1.0, persona='ann'))

    np.testing.assert_array_equal(styled, answer(model))


def test_a_style_outlasts_a_reset(model):
    plans = []
    for is_reset in (False, True):
        conversation = Conversation(model, TIMING)
        conversation.push_style(0, HAPPY)
        if is_reset:
            conversation.reset()
        plans.append(answer_recording(conversation, voices(1.0)))

    np.testing.assert_array_equal(*plans)


def test_expressiveness_is_a_gain_on_what_was_drawn_lips_and_blinks_left_out(model):
    plain = answer(model)
    half = answer(model, AgentStyle(expressiveness=0.5))

    lips = [ARKIT.index(name) for name in ('jawOpen', 'mouthClose', 'mouthPucker', 'tongueOut',
                                           'eyeBlinkLeft')]  # fmt: skip
    gained = [ARKIT.index(name) for name in ('neck_x', 'browInnerUp', 'mouthSmileLeft',
                                             'eyeLookUpLeft')]  # fmt: skip
    np.testing.assert_array_equal(half[:, lips], plain[:, lips])
    # The gain is reached a second after the first plan. What is drawn is the same, for the
    # model's own past is what it drew.
    np.testing.assert_allclose(half[30:, gained], 0.5 * plain[30:, gained], atol=1e-6)
    assert np.abs(plain[30:, gained]).max(0).min() > 0.01


def test_expressiveness_stays_inside_the_limits(model):
    double = answer(model, AgentStyle(expressiveness=2.0))

    assert (double >= ARKIT.minimum).all() and (double <= ARKIT.maximum).all()


def test_the_gain_changes_gradually_and_over_several_plans():
    expressiveness = Expressiveness(ARKIT, fps=25)
    shown = []
    for plan in range(8):
        gains = expressiveness.gains(5 * plan, 12, wanted=0.0)
        expressiveness.accept(5 * plan, gains)
        shown.append(gains[:5, 0])

    shown = np.concatenate(shown)
    np.testing.assert_allclose(shown, np.maximum(1 - np.arange(1, 41) / 25, 0), atol=1e-6)


def test_flame_has_the_gain_on_the_neck_alone():
    space = get_space('flame56')

    has_gain = Expressiveness(space, fps=25).has_gain

    assert [space.names[i] for i in np.flatnonzero(has_gain)] == ['neck_x', 'neck_y', 'neck_z']


def test_two_conversations_in_one_batch_have_styles_of_their_own(model, make_turns):
    (turn,) = make_turns(model.config, 1, batch=2)
    cache = model.make_cache(2, 1)
    alone = torch.cat([
        model.encode(model.embed(_unsqueezed(turn, slice(b, b + 1))), model.make_cache(1, 1))
        for b in range(2)
    ])  # fmt: skip

    together = model.encode(model.embed(_unsqueezed(turn, slice(None))), cache)

    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def _unsqueezed(turn, rows):
    return turn.map(lambda x: x[rows, None])
