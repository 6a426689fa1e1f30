# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""However long a conversation lasts, it takes the same memory."""

import gc
import pathlib
import resource

import pytest
import torch

from timar_ros.config import SamplingConfig
from timar_ros.stream.engine import Engine


def _state_bytes(state) -> int:
    tensors = (state.cache.keys, state.cache.values, state.tokens)
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def _resident_mb() -> float:
    gc.collect()
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


@pytest.mark.parametrize('history', ['masked', 'shown'])
@pytest.mark.parametrize('cache', ['rebuild', 'rebase', 'banded'])
def test_a_state_has_one_size_once_the_window_is_full(make_model, make_turns, cache, history):
    engine = Engine(make_model(cache=cache, history=history), open_turns=2)
    state, sizes = engine.new_state(), []

    for turn in make_turns(engine.model.config, 30):
        engine.step(turn, state)
        engine.settle(state)
        sizes.append((_state_bytes(state), state.cache.n_turns, state.tokens.shape[1]))

    # rebase breathes between three turns and the whole window: as often as it likes, no larger.
    period = sizes[10:20]
    assert set(sizes[20:]) <= set(period)
    assert state.n_turns == 30


@pytest.mark.slow
@pytest.mark.parametrize('cache', ['rebuild', 'banded'])
def test_memory_is_constant_over_ten_thousand_turns(make_model, make_config, make_turns, cache):
    config = make_config(
        cache, frames_per_turn=2, width=8, token_width=8, n_layers=1, n_heads=2, denoiser_blocks=1
    )
    engine = Engine(make_model(config), SamplingConfig(steps=2))
    turns = make_turns(config, 50)
    state = engine.new_state()

    def talk(n):
        for k in range(n):
            motion = engine.step(turns[k % len(turns)], state)
            engine.settle(state)
        return motion

    talk(500)
    size, resident_mb = _state_bytes(state), _resident_mb()
    motion = talk(9500)

    assert state.n_turns == 10000
    assert torch.isfinite(motion).all()
    assert _state_bytes(state) == size
    assert _resident_mb() - resident_mb < 8.0
