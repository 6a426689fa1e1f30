# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint holds all that weights mean, and a file that does not fit is refused by name."""

import json

import pytest
from safetensors import safe_open
from safetensors.torch import save_file
import torch

from timar_ros.model.checkpoint import load_checkpoint, read_config, save_checkpoint
from timar_ros.stream.engine import Engine


def _content(path):
    with safe_open(path, 'pt') as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def _rewritten(source, target, tensors=None, **metadata):
    stored, told = _content(source)
    stored.update(tensors or {})
    stored = {name: tensor for name, tensor in stored.items() if tensor is not None}
    save_file(stored, target, {**told, **metadata})
    return target


@pytest.mark.parametrize('cache', ['rebuild', 'banded'])
def test_weights_configuration_and_statistics_come_back_as_they_were(make_model, tmp_path, cache):
    model = make_model(cache=cache, is_stub=False)
    save_checkpoint(tmp_path / 'a.safetensors', model, notes='made of noise')

    loaded = load_checkpoint(tmp_path / 'a.safetensors')

    assert loaded.config == model.config and not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert _content(tmp_path / 'a.safetensors')[1]['notes'] == 'made of noise'
    assert [p.name for p in tmp_path.iterdir()] == ['a.safetensors'], 'something was left over'


def test_a_loaded_model_answers_as_the_saved_one(make_model, make_turns, tmp_path):
    model = make_model(is_stub=False)
    save_checkpoint(tmp_path / 'a.safetensors', model)
    (turn,) = make_turns(model.config, 1)

    motions = []
    for weights in (model, load_checkpoint(tmp_path / 'a.safetensors')):
        engine = Engine(weights)
        motions.append(engine.step(turn, engine.new_state()))

    assert torch.equal(*motions)


@pytest.mark.parametrize('stored', ['float32', 'float16'])
@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'float16'])
def test_any_type_can_be_stored_and_loaded(make_model, tmp_path, stored, dtype):
    model = make_model(is_stub=False)
    save_checkpoint(tmp_path / 'a.safetensors', model, dtype=stored)

    loaded = load_checkpoint(tmp_path / 'a.safetensors', dtype=dtype)

    assert loaded.dtype == getattr(torch, dtype)
    wanted = model.z_proj.weight.to(getattr(torch, stored)).to(loaded.dtype)
    assert torch.equal(loaded.z_proj.weight, wanted)
    assert torch.equal(loaded.motion_std, model.motion_std), 'units of motion lost precision'


def test_others_may_read_a_checkpoint_as_they_may_any_file(make_model, tmp_path):
    (tmp_path / 'plain').touch()

    save_checkpoint(tmp_path / 'a.safetensors', make_model(is_stub=False))

    modes = [(tmp_path / name).stat().st_mode for name in ('a.safetensors', 'plain')]
    assert modes[0] == modes[1]


def test_the_configuration_is_read_without_the_weights(tiny_checkpoint, make_config):
    assert read_config(tiny_checkpoint) == make_config('banded', level='causal')


def test_a_missing_file_says_where_weights_come_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'no checkpoint at .*none.safetensors; .*convert'):
        load_checkpoint(tmp_path / 'none.safetensors')


def test_a_file_of_another_kind_says_how_to_convert_it(tmp_path):
    path = tmp_path / 'TIMAR.pth'
    torch.save({'model_ema': {}}, path)

    with pytest.raises(ValueError, match='not a readable safetensors .* timar_ros.model.convert'):
        load_checkpoint(path)


@pytest.mark.parametrize('n_bytes', [0, 7, 200, -1])
def test_a_truncated_file_is_refused(tiny_checkpoint, tmp_path, n_bytes):
    path = tmp_path / 'cut.safetensors'
    path.write_bytes(tiny_checkpoint.read_bytes()[:n_bytes])

    with pytest.raises(ValueError, match='cut.safetensors: not a readable safetensors file'):
        load_checkpoint(path)


def test_foreign_safetensors_are_refused(tmp_path):
    save_file({'weight': torch.zeros(3)}, tmp_path / 'foreign.safetensors')

    with pytest.raises(ValueError, match="expected a 'timar_ros checkpoint 1', got format None"):
        load_checkpoint(tmp_path / 'foreign.safetensors')


@pytest.mark.parametrize(
    ('tensors', 'told'),
    [
        ({'mask_token': None}, r'1 missing \(mask_token\)'),
        ({'mask_tokens': torch.zeros(3)}, r'1 unknown \(mask_tokens\)'),
        (
            {'mask_token': torch.zeros(1, 1, 33)},
            r'1 of another shape \(mask_token \(1, 1, 33\) instead of \(1, 1, 32\)\)',
        ),
        ({f'extra.{i}': torch.zeros(1) for i in range(9)}, r'9 unknown \(extra.0, .*, \.\.\.\)'),
    ],
)
def test_weights_that_do_not_fit_are_named(tiny_checkpoint, tmp_path, tensors, told):
    path = _rewritten(tiny_checkpoint, tmp_path / 'a.safetensors', tensors)

    with pytest.raises(ValueError, match=f'weights do not fit the configuration: {told}'):
        load_checkpoint(path)


def test_a_configuration_from_another_version_is_refused(tiny_checkpoint, tmp_path):
    config = json.loads(_content(tiny_checkpoint)[1]['config'])
    path = tmp_path / 'a.safetensors'

    _rewritten(tiny_checkpoint, path, config=json.dumps({**config, 'n_head': 4}))
    with pytest.raises(ValueError, match="unknown key 'n_head'; did you mean 'n_heads'"):
        load_checkpoint(path)

    _rewritten(tiny_checkpoint, path, names=json.dumps(['jawOpen']))
    with pytest.raises(ValueError, match='channels are not those of flame56 here'):
        load_checkpoint(path)


def test_an_unknown_type_is_refused(tiny_checkpoint):
    with pytest.raises(ValueError, match="dtype must be auto or one of .* got 'int8'"):
        load_checkpoint(tiny_checkpoint, dtype='int8')
