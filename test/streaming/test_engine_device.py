# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Device and type of the weights are parameters of one code path.

The meta device stands for an accelerator here: it refuses to mix with the CPU, and to be read.
"""

import pytest
import torch

from timar_ros.config import SamplingConfig
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.stream.engine import Engine


@pytest.mark.parametrize('cache', ['rebuild', 'rebase', 'banded'])
def test_turns_on_the_host_are_answered_on_the_device_without_reading_it(
    make_model, make_turns, cache
):
    model = make_model(cache=cache, history='shown', max_turns=3, is_stub=False).to('meta')
    sampling = SamplingConfig(n_passes=2, steps=2, cfg_scale=1.5)
    engine = Engine(model, sampling, open_turns=2)
    turns = make_turns(model.config, 4, is_partial=True)
    state = engine.new_state()

    for k, turn in enumerate(turns[:-1]):
        drafted = engine.draft([turn, turns[k + 1]], state)
        stepped = engine.step(turn, state)
        engine.settle(state)

        assert (drafted.device.type, drafted.shape) == ('meta', (1, 2, 4, 56))
        assert (stepped.device.type, stepped.shape) == ('meta', (1, 4, 56))
    assert state.cache.keys.device.type == 'meta'


def test_turns_already_on_the_device_are_not_read_either(make_model, make_turns):
    engine = Engine(make_model(history='masked').to('meta'))
    (turn,) = make_turns(engine.model.config, 1)

    motion = engine.step(turn.to('meta'), engine.new_state())

    assert motion.device.type == 'meta'


@pytest.mark.parametrize(('dtype', 'atol'), [('bfloat16', 0.4), ('float16', 0.05)])
def test_half_types_answer_nearly_as_float32(tiny_checkpoint, make_turns, dtype, atol):
    motions = {}
    for name in ('float32', dtype):
        engine = Engine(load_checkpoint(tiny_checkpoint, dtype=name))
        state = engine.new_state()
        turns = make_turns(engine.model.config, 10, is_partial=True)
        motions[name] = torch.stack([engine.step(turn, state) for turn in turns])
        assert state.cache.keys.dtype == engine.model.dtype == getattr(torch, name)

    assert motions[dtype].dtype == torch.float32
    torch.testing.assert_close(motions[dtype], motions['float32'], rtol=0, atol=atol)
    assert not torch.equal(motions[dtype], motions['float32'])


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_types_keep_the_promises_of_drafts(tiny_checkpoint, make_turns, dtype):
    engine = Engine(load_checkpoint(tiny_checkpoint, dtype=dtype), open_turns=2)
    turns = make_turns(engine.model.config, 3)
    state = engine.new_state()
    engine.step(turns[0], state)

    first = engine.draft(turns[1:], state)
    clone = state.clone()
    engine.draft(turns[:2], state)

    assert torch.equal(engine.draft(turns[1:], state), first)
    assert torch.equal(engine.draft(turns[1:], clone), first)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')
def test_a_gpu_answers_as_the_cpu(tiny_checkpoint, make_turns):
    motions = []
    for device in ('cpu', 'cuda'):
        engine = Engine(load_checkpoint(tiny_checkpoint, device))
        state = engine.new_state()
        turns = make_turns(engine.model.config, 10, is_partial=True)
        motions.append(torch.stack([engine.step(turn, state).cpu() for turn in turns]))

    torch.testing.assert_close(motions[1], motions[0], rtol=0, atol=1e-3)


def test_every_draft_of_a_full_window_has_the_same_shapes(make_model, make_turns):
    # What a captured graph needs: the same operations on the same sizes, turn after turn.
    engine = Engine(make_model(cache='banded'))
    turns = make_turns(engine.model.config, 12)
    state = engine.new_state()
    recorded = []
    for turn in turns:
        engine.settle(state)
        with _Recording() as recording:
            engine.draft([turn], state)
        recorded.append(recording.calls)
        engine.commit(turn, state)

    assert recorded[6] and all(calls == recorded[6] for calls in recorded[6:])


class _Recording(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes each operation and the sizes it was given."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        sizes = [tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]
        self.calls.append((str(function), sizes))
        return function(*args, **(kwargs or {}))
