# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The engine's cache gives what one masked pass over the whole window gives, at every turn."""

import dataclasses

import pytest
import torch

from timar_ros.config import SamplingConfig
from timar_ros.model.turn import stack_turns
from timar_ros.stream.engine import Engine
from timar_ros.stream.noise import draw_noise

_N_TURNS = 20
_ATOL = 1e-4
_CACHES = ('rebuild', 'rebase', 'banded')
_SETTINGS = {
    'masked': ('masked', SamplingConfig()),
    'shown': ('shown', SamplingConfig()),
    'masked, 3 passes': ('masked', SamplingConfig(n_passes=3)),
    'shown, 3 passes': ('shown', SamplingConfig(n_passes=3)),
    'shown, 3 passes unseen': ('shown', SamplingConfig(n_passes=3, reveal=False)),
    'shown, guided, 3 passes': ('shown', SamplingConfig(cfg_scale=1.5, n_passes=3)),
    'shown, 2 turns of context': ('shown', SamplingConfig(context_turns=2)),
    'masked, no context': ('masked', SamplingConfig(context_turns=0)),
}


class FullWindow:
    """The specification: remembers turns, and runs all that a policy lets it see each time."""

    def __init__(self, engine: Engine, seed: int):
        self.model, self.sampling = engine.model, engine.sampling
        self.context_turns, self.seed = engine.context_turns, seed
        self.past, self.n_turns = [], 0

    def draft(self, turns):
        config, sampling = self.model.config, self.sampling
        noise = draw_noise(
            (self.seed,), self.n_turns, len(turns), sampling.n_passes, sampling.steps + 1,
            config.frames_per_turn, config.n_channels,
        )  # fmt: skip
        past = stack_turns(self.past) if self.past else None
        band = self.context_turns if config.cache == 'banded' else None
        return self.model.draft_full_window(past, stack_turns(turns), noise, sampling, band)

    def commit(self, turn):
        is_visible = self.model.config.history == 'shown'
        shown = torch.full_like(turn.is_shown, is_visible)
        self.past.append(dataclasses.replace(turn, is_shown=shown))
        self.n_turns += 1
        policy = self.model.config.cache
        if policy != 'banded' and len(self.past) > self.context_turns:
            keep = self.context_turns if policy == 'rebuild' else min(3, self.context_turns)
            self.past = self.past[len(self.past) - keep :]


@pytest.mark.parametrize('settings', _SETTINGS)
@pytest.mark.parametrize('cache', _CACHES)
def test_each_step_equals_the_full_window(make_model, make_turns, cache, settings):
    history, sampling = _SETTINGS[settings]
    model = make_model(cache=cache, history=history)
    engine = Engine(model, sampling)
    state, oracle = engine.new_state(5), FullWindow(engine, 5)

    for k, turn in enumerate(make_turns(model.config, _N_TURNS, is_partial=True)):
        motion = engine.step(turn, state)
        expected = oracle.draft([turn])[:, 0]
        oracle.commit(dataclasses.replace(turn, agent_motion=expected))

        torch.testing.assert_close(
            motion, expected, rtol=0, atol=_ATOL, msg=lambda m, k=k: f'turn {k}: {m}'
        )


@pytest.mark.parametrize('history', ['masked', 'shown'])
@pytest.mark.parametrize('cache', _CACHES)
def test_open_turns_drafted_together_equal_the_full_window(make_model, make_turns, cache, history):
    model = make_model(cache=cache, history=history)
    engine = Engine(model, SamplingConfig(n_passes=2), open_turns=3)
    state, oracle = engine.new_state(6), FullWindow(engine, 6)
    turns = make_turns(model.config, _N_TURNS + 3, is_partial=True)

    for k in range(_N_TURNS):
        for n_open in (3, 1, 2):
            motion = engine.draft(turns[k : k + n_open], state)
            expected = oracle.draft(turns[k : k + n_open])
            torch.testing.assert_close(
                motion, expected, rtol=0, atol=_ATOL, msg=lambda m, k=k: f'turn {k}: {m}'
            )
        finished = dataclasses.replace(turns[k], agent_motion=motion[:, 0])
        engine.commit(finished, state)
        oracle.commit(finished)


@pytest.mark.parametrize('cache', _CACHES)
def test_settling_late_or_in_time_is_the_same(make_model, make_turns, cache):
    model = make_model(cache=cache, history='shown')
    engine = Engine(model)
    late, in_time = engine.new_state(1), engine.new_state(1)

    for turn in make_turns(model.config, 12):
        first, second = engine.step(turn, late), engine.step(turn, in_time)
        engine.settle(in_time)

        assert torch.equal(first, second)


def test_rebase_and_rebuild_differ_once_the_window_slid(make_model, make_turns):
    motions = {}
    for cache in ('rebuild', 'rebase'):
        engine = Engine(make_model(cache=cache))
        state = engine.new_state()
        turns = make_turns(engine.model.config, 8)
        motions[cache] = [engine.step(turn, state) for turn in turns]

    differences = [
        float((a - b).abs().max())
        for a, b in zip(motions['rebuild'], motions['rebase'], strict=True)
    ]
    assert differences[:6] == [0.0] * 6
    assert min(differences[6:8]) > 1e-2


def test_rebase_remembers_three_to_the_whole_window(make_model, make_turns):
    engine = Engine(make_model(cache='rebase', max_turns=8))
    state = engine.new_state()
    remembered = []

    for turn in make_turns(engine.model.config, 20):
        engine.settle(state)
        remembered.append(state.cache.n_turns)
        engine.step(turn, state)

    assert remembered == [0, 1, 2, 3, 4, 5, 6, 7] + [3, 4, 5, 6, 7] * 2 + [3, 4]


@pytest.mark.parametrize('history', ['masked', 'shown'])
@pytest.mark.parametrize('cache', _CACHES)
def test_later_turns_see_the_committed_motion_only_where_history_is_shown(
    make_model, make_turns, cache, history
):
    model = make_model(cache=cache, history=history)
    engine = Engine(model)
    first, second = make_turns(model.config, 2)
    one, other = engine.new_state(), engine.new_state()

    engine.commit(first, one)
    engine.commit(dataclasses.replace(first, agent_motion=-first.agent_motion), other)
    difference = (engine.draft([second], one) - engine.draft([second], other)).abs()

    if history == 'shown':
        assert difference.amax(-1).min() > 1e-3, 'a frame did not see the past'
    else:
        assert difference.max() == 0.0


def test_a_single_masked_pass_is_history_as_it_is(make_model, make_turns):
    engine = Engine(make_model(cache='banded'))
    stepped, committed = engine.new_state(), engine.new_state()

    for turn in make_turns(engine.model.config, 4):
        motion = engine.step(turn, stepped)
        engine.commit(dataclasses.replace(turn, agent_motion=motion), committed)

    n = stepped.cache.n_turns * stepped.cache.n_tokens
    torch.testing.assert_close(
        stepped.cache.keys[..., :n, :], committed.cache.keys[..., :n, :], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(('n_passes', 'n_shown'), [(2, 0), (1, 2)])
def test_a_draft_that_saw_frames_is_not_the_masked_history(
    make_model, make_turns, n_passes, n_shown
):
    engine = Engine(make_model(cache='banded'), SamplingConfig(n_passes=n_passes))
    (turn,) = make_turns(engine.model.config, 1)
    turn.is_shown[:, :n_shown] = True
    stepped, committed, drafted = (engine.new_state() for _ in range(3))

    motion = engine.step(turn, stepped)
    engine.commit(dataclasses.replace(turn, agent_motion=motion), committed)
    engine.draft([turn], drafted)

    n = stepped.cache.n_tokens
    torch.testing.assert_close(
        stepped.cache.keys[..., :n, :], committed.cache.keys[..., :n, :], rtol=0, atol=1e-5
    )
    left = drafted.cache.keys[..., :n, :] - committed.cache.keys[..., :n, :]
    assert left.abs().max() > 1e-2
