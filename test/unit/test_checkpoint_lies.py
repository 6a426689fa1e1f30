# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A checkpoint that lies is refused in one sentence, at once, and nothing in it is code."""

import dataclasses
import json
import pathlib
import sys
import tracemalloc

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from timar_ros.config import TimarConfig
from timar_ros.model import checkpoint
from timar_ros.model.checkpoint import load_checkpoint, save_checkpoint
from timar_ros.model.speech_config import check_speech_config

_WAV2VEC2 = pathlib.Path(__file__).parents[1] / 'reference' / 'wav2vec2' / 'config.json'


@pytest.fixture
def lie(tiny_checkpoint, tmp_path, monkeypatch):
    """
    Return a function that changes a good file, loads it, and returns the refusal.

    It fails where the model is built before the refusal, or much memory is taken.
    """

    def change(changes=None, is_built=False, **metadata):
        with safe_open(tiny_checkpoint, 'pt') as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            told = file.metadata()
        if changes:
            told['config'] = json.dumps({**json.loads(told['config']), **changes})
        told = {key: text for key, text in {**told, **metadata}.items() if text is not None}
        path = tmp_path / 'lie.safetensors'
        save_file(tensors, path, told)

        def build(config):
            raise AssertionError('the model was built')

        if not is_built:
            monkeypatch.setattr(checkpoint, 'TIMAR', build)
        tracemalloc.start()
        with pytest.raises(ValueError) as refused:
            load_checkpoint(path)
        n_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        text = str(refused.value)
        assert text.startswith(str(path)) and '\n' not in text and len(text) < 600
        assert n_bytes < (200_000_000 if is_built else 30_000_000)
        return text.removeprefix(f'{path}: ')

    return change


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('n_layers', 10**9),
        ('n_layers', 10**5),
        ('denoiser_blocks', 10**6),
        ('max_turns', 10**9),
        ('mel_bands', 10**9),
        ('sample_rate_hz', 25 * 10**9),
        ('frames_per_turn', 10**9),
        ('fps', 10**4),
        ('n_heads', 10**6),
        ('width', 2**62),
        ('width', 10**4000),
        ('persistence', 10**9),
        ('noise_scale', float('inf')),
    ],
)
def test_a_size_beyond_any_model_is_refused_before_anything_is_built(lie, name, value):
    assert lie({name: value}).startswith(f'{name} must be at most ')


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'n_layers': 3}, 'weights do not fit the configuration: n_layers is 3, and'),
        ({'n_layers': 999}, 'weights do not fit the configuration: n_layers is 999'),
        ({'denoiser_blocks': 1}, 'weights do not fit the configuration: denoiser_blocks is 1'),
        ({'frames_per_turn': 400, 'max_turns': 900}, 'max_turns of frames_per_turn must be at mo'),
        ({'noise_scale': float('nan')}, 'noise_scale must be at least 0, got nan'),
        ({'noise_scales': {'jaw_x': 'a'}}, "noise_scales must be numbers, got 'a'"),
        ({'noise_scales': {'jaw': 1.0}}, ''),
        ({'taps': 5}, 'taps must be dict, got 5'),
        ({'taps': {'agent_speech': 5}}, 'taps must be windows [first, last] by modality, got {'),
        ({'taps': {'agent_speech': [[0, 'a']]}}, 'taps must be windows [first, last] by modal'),
        ({'nearness': [[0, 1]] * 10_000}, 'nearness must be at most 1000, got more'),
        ({'personas': [str(n) for n in range(5000)]}, 'personas must be at most 1000, got more'),
        ({'n_layers': None}, 'n_layers must be int, got None'),
        ({'x' * 10**5: 1}, "unknown key 'xxxx"),
    ],
)
def test_a_configuration_that_contradicts_the_file_or_itself_is_refused(lie, change, text):
    assert lie(change).startswith(text)


@pytest.mark.parametrize(
    ('metadata', 'text'),
    [
        ({'config': None}, 'expected config in its metadata, got none; save it again'),
        ({'names': None}, 'expected names in its metadata, got none; save it again'),
        (
            {'names': '{"a": 1, "a": 2}'},
            "names in its metadata: not valid JSON: 'a' is there twice",
        ),
        ({'config': '{'}, 'config in its metadata: not valid JSON: '),
        ({'config': '[' * 100_000}, 'config in its metadata: not valid JSON: nested too deep'),
        ({'config': '[]'}, 'expected a mapping of keys to values, got []'),
        (
            {'config': ' ' * 2_000_000},
            'config in its metadata: expected at most 1 MB of JSON, got',
        ),
        ({'names': '5'}, 'its channels are not those of flame56 here'),
        ({'names': '{"a": [[[1]]]}'}, 'its channels are not those of flame56 here'),
        ({'names': '[[1], null]'}, 'its channels are not those of flame56 here'),
        ({'format': 'x' * 10**6}, "expected a 'timar_ros checkpoint 1', got format 'xxx"),
    ],
)
def test_metadata_that_is_missing_deep_or_of_another_kind_is_refused(lie, metadata, text):
    assert lie(**metadata).startswith(text)


def test_tensors_are_compared_with_the_model_before_one_is_read(lie, monkeypatch):
    def open_header(path, framework):
        assert framework == 'np', 'the tensors were opened'
        return safe_open(path, framework)

    monkeypatch.setattr(checkpoint, 'safe_open', open_header)

    text = lie({'width': 64}, is_built=True)

    assert text.startswith('weights do not fit the configuration: ')
    assert 'of another shape' in text


def test_more_numbers_than_a_machine_holds_are_refused_by_the_header(tmp_path):
    path, n = tmp_path / 'large.safetensors', 2**33
    config = json.dumps(dataclasses.asdict(TimarConfig(speech='logmel')))
    names = json.dumps(checkpoint.get_space('flame56').names)
    told = {'format': checkpoint.FORMAT, 'config': config, 'names': names}
    tensor = {'dtype': 'F32', 'shape': [n], 'data_offsets': [0, 4 * n]}
    header = {'__metadata__': told, 'a': tensor}
    text = json.dumps(header).encode()
    with path.open('wb') as file:
        file.write(len(text).to_bytes(8, 'little') + text)
        file.truncate(8 + len(text) + 4 * n)  # sparse: 32 GB that take no room

    with pytest.raises(ValueError, match='expected at most 4e.09 numbers, got 9e.09'):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ('fields', 'text'),
    [
        ({'_attn_implementation': 'someone/kernels'}, "unknown field '_attn_implementation'"),
        ({'auto_map': {'AutoModel': 'evil--code.Model'}}, "unknown field 'auto_map': {'AutoM"),
        ({'quantization_config': {'quant_method': 'x'}}, "unknown field 'quantization_config'"),
        ({'hidden_act': 'os.system'}, 'hidden_act must be one of gelu, '),
        ({'hidden_act': ['gelu']}, 'hidden_act must be one of gelu, '),
        ({'num_hidden_layers': 10**9}, 'num_hidden_layers must be a whole number from 1 to 1000'),
        ({'hidden_size': 48.0}, 'hidden_size must be a whole number from 1 to 65536, got 48.0'),
        ({'conv_dim': [32] * 10**5}, 'conv_dim must be a list of 1 to 32 whole numbers, got ['),
        ({'conv_kernel': [10**9]}, 'conv_kernel must be a whole number from 1 to 1024'),
        ({'conv_stride': [0]}, 'conv_stride must be a whole number from 1 to 1024, got 0'),
        ({'conv_bias': 'yes'}, "conv_bias must be true or false, got 'yes'"),
        ({'layer_norm_eps': float('nan')}, 'layer_norm_eps must be a number from 0 to 1, got nan'),
        ({'x' * 10**6: 'y' * 10**6}, "unknown field 'xxxx"),
    ],
)
def test_a_speech_configuration_holds_numbers_and_known_words_only(fields, text):
    with pytest.raises(ValueError) as refused:
        check_speech_config({**json.loads(_WAV2VEC2.read_text()), **fields})

    assert str(refused.value).startswith(f'speech_config: {text}')
    assert len(str(refused.value)) < 500


def test_a_speech_configuration_keeps_what_matters_for_the_features_and_nothing_else():
    config = json.loads(_WAV2VEC2.read_text())

    kept = check_speech_config({**config, 'new_switch_of_transformers': True, 'pruned': None})

    assert {'hidden_size', 'conv_dim', 'hidden_act', 'mask_time_prob'} <= set(kept)
    assert {name: config[name] for name in kept} == kept
    assert not {'new_switch_of_transformers', 'architectures', 'vocab_size'} & set(kept)


def test_a_checkpoint_cannot_make_transformers_load_code(make_model, make_config, tmp_path):
    speech = {**json.loads(_WAV2VEC2.read_text()), '_attn_implementation': 'someone/kernels'}
    config = make_config(speech='wav2vec2', speech_width=48)
    config = dataclasses.replace(config, speech_config=json.loads(_WAV2VEC2.read_text()))
    good, evil = tmp_path / 'good.safetensors', tmp_path / 'evil.safetensors'
    save_checkpoint(good, make_model(config, is_stub=False))
    with safe_open(good, 'pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        told = file.metadata()
    told['config'] = json.dumps({**json.loads(told['config']), 'speech_config': speech})
    save_file(tensors, evil, told)
    before = set(sys.modules)

    with pytest.raises(ValueError, match="unknown field '_attn_implementation': 'someone/kern"):
        load_checkpoint(evil)
    assert not {name for name in set(sys.modules) - before if 'kernels' in name}
    assert load_checkpoint(good).speech.net.config.hidden_size == 48
