# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A conversation is a value: drafts leave no trace, copies go their own ways, seeds decide."""

import dataclasses

import pytest
import torch

from timar_ros.config import SamplingConfig
from timar_ros.model.turn import Turn
from timar_ros.stream.engine import Engine

_CACHES = ('rebuild', 'rebase', 'banded')


@pytest.fixture(params=_CACHES)
def engine(request, make_model):
    return Engine(make_model(cache=request.param, history='shown'), open_turns=2)


def _run(engine, turns, state):
    return torch.stack([engine.step(turn, state) for turn in turns])


def _remembered(state):
    """All that a state holds and means, as bytes."""
    n = state.cache.n_turns * state.cache.n_tokens
    tensors = (state.cache.keys[..., :n, :], state.cache.values[..., :n, :], state.tokens)
    contents = [tensor.contiguous().numpy().tobytes() for tensor in tensors]
    return contents, state.n_turns, state.cache.n_turns, state.seeds


def test_any_number_of_drafts_leaves_no_trace(engine, make_turns):
    turns = make_turns(engine.model.config, 14)
    used, fresh = engine.new_state(), engine.new_state()

    for k in range(12):
        engine.settle(used)
        before = _remembered(used)
        engine.draft(turns[k : k + 1], used)
        engine.draft([turns[13], turns[0]], used)
        engine.draft(turns[k : k + 2], used)
        assert _remembered(used) == before, f'turn {k}'

        assert torch.equal(engine.step(turns[k], used), engine.step(turns[k], fresh)), f'turn {k}'


def test_a_draft_does_not_write_to_its_turns(engine, make_turns):
    turns = make_turns(engine.model.config, 2, is_partial=True)
    copies = [turn.map(torch.clone) for turn in turns]

    engine.draft(turns, engine.new_state())
    engine.step(turns[0], engine.new_state())

    for turn, copy in zip(turns, copies, strict=True):
        for field in dataclasses.fields(Turn):
            ours, theirs = getattr(turn, field.name), getattr(copy, field.name)
            assert ours is theirs is None or torch.equal(ours, theirs), field.name


def test_the_same_draft_twice_is_the_same_to_the_bit(engine, make_turns):
    turns = make_turns(engine.model.config, 5)
    state = engine.new_state()
    _run(engine, turns[:3], state)

    assert torch.equal(engine.draft(turns[3:], state), engine.draft(turns[3:], state))


def test_a_draft_moves_only_as_far_as_what_was_heard_moves_it(engine, make_turns):
    (turn,) = make_turns(engine.model.config, 1)
    state = engine.new_state()
    nudged = dataclasses.replace(turn, user_motion=turn.user_motion + 1e-6)

    moved = (engine.draft([turn], state) - engine.draft([nudged], state)).abs().max()

    assert 0 < moved < 1e-3


def test_a_new_state_after_use_is_as_fresh(engine, make_turns):
    turns = make_turns(engine.model.config, 9)
    first = _run(engine, turns, engine.new_state(4))

    _run(engine, make_turns(engine.model.config, 9, seed=1), engine.new_state(5))

    assert torch.equal(_run(engine, turns, engine.new_state(4)), first)


@pytest.mark.parametrize('n_turns', [2, 9])
def test_a_clone_goes_on_like_its_original(engine, make_turns, n_turns):
    turns = make_turns(engine.model.config, n_turns + 8)
    state = engine.new_state(2)
    _run(engine, turns[:n_turns], state)

    clone = state.clone()
    first = _run(engine, turns[n_turns:], state)
    second = _run(engine, turns[n_turns:], clone)

    assert torch.equal(first, second)


def test_a_clone_does_not_feel_its_original(engine, make_turns):
    turns = make_turns(engine.model.config, 8)
    state = engine.new_state()
    _run(engine, turns[:4], state)
    clone = state.clone()
    before = _remembered(clone)

    _run(engine, turns[4:], state)

    assert _remembered(clone) == before


def test_two_conversations_in_turn_are_each_as_alone(engine, make_turns):
    talks = [make_turns(engine.model.config, 9, seed=seed) for seed in (0, 1)]
    alone = [_run(engine, turns, engine.new_state(seed)) for seed, turns in enumerate(talks)]

    states = [engine.new_state(0), engine.new_state(1)]
    together = [[], []]
    for pair in zip(*talks, strict=True):
        for i, turn in enumerate(pair):
            together[i].append(engine.step(turn, states[i]))

    for i in range(2):
        assert torch.equal(torch.stack(together[i]), alone[i])


def test_seeds_decide(engine, make_turns):
    turns = make_turns(engine.model.config, 3)

    first, again, other = (_run(engine, turns, engine.new_state(seed)) for seed in (7, 7, 8))

    assert torch.equal(first, again)
    assert (first - other).abs().amax((-1, -2)).min() > 1e-2, 'a turn is the same for two seeds'


def test_global_random_numbers_do_not_matter_and_are_not_used(engine, make_turns):
    turns = make_turns(engine.model.config, 3)
    torch.manual_seed(0)
    first = _run(engine, turns, engine.new_state())
    torch.manual_seed(1)
    before = torch.get_rng_state()

    again = _run(engine, turns, engine.new_state())

    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_batch_of_two_is_two_batches_of_one(engine, make_turns):
    turns = make_turns(engine.model.config, 12, batch=2, is_partial=True)

    both = _run(engine, turns, engine.new_state((3, 4)))

    for row, seed in enumerate((3, 4)):
        alone = [turn.map(lambda x, row=row: x[row : row + 1]) for turn in turns]
        motion = _run(engine, alone, engine.new_state(seed))
        torch.testing.assert_close(both[:, row : row + 1], motion, rtol=0, atol=1e-4)


def test_frames_that_are_shown_come_back_as_they_are(engine, make_turns):
    turns = make_turns(engine.model.config, 2, is_partial=True)
    state = engine.new_state()

    motion = engine.draft(turns, state)

    for i, turn in enumerate(turns):
        assert torch.equal(motion[:, i][turn.is_shown], turn.agent_motion[turn.is_shown])


def test_shown_frames_of_open_turns_are_seen_where_history_is_masked(make_model, make_turns):
    engine = Engine(make_model(history='masked'), open_turns=2)
    first, second = make_turns(engine.model.config, 2)
    first.is_shown[:, :2] = True
    other = dataclasses.replace(first, agent_motion=-first.agent_motion)

    motions = [engine.draft([turn, second], engine.new_state()) for turn in (first, other)]
    difference = (motions[0] - motions[1]).abs().amax(-1)[0]  # [N, T]

    assert difference[0, 2:].min() > 1e-3, 'a frame of the same turn did not see it'
    assert difference[1].min() > 1e-3, 'a frame of the next turn did not see it'


def test_features_computed_ahead_are_those_of_the_audio(make_model, make_turns):
    engine = Engine(make_model(is_stub=False))
    (turn,) = make_turns(engine.model.config, 1)
    ahead = dataclasses.replace(
        turn,
        user_features=engine.encode_speech(turn.user_speech),
        agent_features=engine.encode_speech(turn.agent_speech),
        user_speech=torch.zeros_like(turn.user_speech),  # not read any more
    )

    motion = engine.step(ahead, engine.new_state())

    torch.testing.assert_close(motion, engine.step(turn, engine.new_state()), rtol=0, atol=1e-5)


def test_unwritten_slots_are_nan_and_never_leak(engine, make_turns):
    turns = make_turns(engine.model.config, 12, is_partial=True)
    state = engine.new_state()
    assert state.cache.keys.isnan().all() and state.cache.values.isnan().all()

    for k, turn in enumerate(turns[:-1]):
        engine.settle(state)
        expected = engine.draft([turn, turns[k + 1]], state)
        behind = state.cache.n_turns * state.cache.n_tokens
        for buffer in (state.cache.keys, state.cache.values):
            buffer[..., behind:, :] = float('nan')  # what drafts left must not be read

        motion = engine.draft([turn, turns[k + 1]], state)

        assert torch.equal(motion, expected), f'turn {k}'
        assert motion.isfinite().all(), f'turn {k}'
        engine.step(turn, state)


@pytest.mark.parametrize(
    ('name', 'value', 'told'),
    [
        ('user_speech', torch.zeros(1, 48000), r'user_speech must be float32 \[1, 2560\], got'),
        ('user_speech', torch.zeros(2560), r'float32 \[1, 2560\], got float32 \[2560\]'),
        ('agent_speech', torch.zeros(1, 2560).double(), r'got float64 \[1, 2560\]; a turn is'),
        ('user_heard', torch.ones(1, 4), r'user_heard must be bool \[1, 4\], got float32'),
        ('user_motion', torch.zeros(2, 4, 56), r'user_motion must be float32 \[1, 4, 56\], got'),
        ('agent_motion', torch.zeros(1, 4, 55), r'agent_motion must be .* \[1, 4, 55\]'),
        ('is_shown', torch.zeros(1, 5).bool(), r'is_shown must be bool \[1, 4\]'),
        ('user_features', torch.zeros(1, 4, 9), r'user_features must be \[1, 4, 16\] or None'),
    ],
)
@pytest.mark.parametrize('call', ['draft', 'commit', 'step'])
def test_a_turn_of_another_form_is_refused(make_model, make_turns, call, name, value, told):
    engine = Engine(make_model())
    (turn,) = make_turns(engine.model.config, 1)
    turn = dataclasses.replace(turn, **{name: value})

    with pytest.raises(ValueError, match=told):
        getattr(engine, call)([turn] if call == 'draft' else turn, engine.new_state())


def test_more_open_turns_than_agreed_are_refused(engine, make_turns):
    with pytest.raises(ValueError, match='draft takes 1 to 2 open turns, got 3'):
        engine.draft(make_turns(engine.model.config, 3), engine.new_state())
    with pytest.raises(ValueError, match='draft takes 1 to 2 open turns, got 0'):
        engine.draft([], engine.new_state())


def test_more_context_than_the_window_has_is_refused(make_model):
    with pytest.raises(ValueError, match=r'context_turns must be 0 to 4 \(window of 6 turns'):
        Engine(make_model(), SamplingConfig(context_turns=5), open_turns=2)
