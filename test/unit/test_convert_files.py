# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Published files that lie about sizes and kinds end in one sentence and little memory."""

import argparse
import json
import pathlib
import resource
import shutil

import pytest
import torch

from timar_ros.model.convert import load_published, main
from timar_ros.model.published import read_speech_encoder

_REFERENCE = pathlib.Path(__file__).parents[1] / 'reference'


@pytest.fixture
def published():
    """Return the content of the reference weights; its dictionaries may be changed."""
    content = torch.load(_REFERENCE / 'TIMAR.pth', weights_only=False)  # our own, known file
    return {**content, 'model_ema': dict(content['model_ema'])}


@pytest.fixture
def told(tmp_path, capsys):
    """Return a function that converts a file's content and returns the sentence that came."""

    def told(content, config=None, speech=_REFERENCE / 'wav2vec2'):
        torch.save(content, tmp_path / 'TIMAR.pth')
        options = [] if config is None else ['--config', str(config)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        out = tmp_path / 'a.safetensors'
        assert (
            main([str(tmp_path / 'TIMAR.pth'), '--speech', str(speech), str(out), *options]) == 1
        )
        assert not out.exists()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 300_000  # kB
        return capsys.readouterr().err.strip().split('\n')[-1]

    return told


@pytest.fixture
def speech(tmp_path):
    """Return a maker of copies of the reference's speech encoder: changes -> folder."""

    def make(text=None, **changes):
        folder = tmp_path / 'wav2vec2'
        shutil.copytree(_REFERENCE / 'wav2vec2', folder)
        path = folder / 'config.json'
        path.chmod(0o644)
        path.write_text(text or json.dumps({**json.loads(path.read_text()), **changes}))
        return folder

    return make


@pytest.mark.parametrize(
    ('weights', 'sentence'),
    [
        ([1, 2], "expected tensors by name as 'model_ema', got [1, 2]"),
        (torch.zeros(3), "expected tensors by name as 'model_ema', got tensor"),
        ({'a': 3}, "expected plain tensors, 'a' is none"),
        ({7: torch.zeros(3)}, 'expected plain tensors, 7 is none'),
        ({'a': torch.eye(3).to_sparse()}, "expected plain tensors, 'a' is none"),
        ({'a': torch.zeros(1).expand(10**6, 10**6)}, 'would take 4,000,000,000,000 bytes'),
    ],
)
def test_weights_that_are_no_plain_tensors_are_refused(published, told, weights, sentence):
    assert sentence in told({**published, 'model_ema': weights})


@pytest.mark.parametrize(
    ('name', 'tensor', 'sentence'),
    [
        ('z_proj.weight', None, 'expected z_proj.weight of 2 axes, got none'),
        ('z_proj.weight', torch.zeros(5), 'expected z_proj.weight of 2 axes'),
        ('encoder_pos_embed_learned', torch.zeros(5), 'expected encoder_pos_embed_learned of 3'),
        ('encoder_pos_embed_learned', torch.zeros(1, 5, 32), 'max_turns must be'),
        ('speech_projection.weight', None, 'expected speech_projection.weight of 2 axes'),
        ('diffloss.net.input_proj.weight', torch.tensor(1.0), 'input_proj.weight of 2 axes'),
    ],
)
def test_a_tensor_that_is_missing_or_of_another_shape_is_named(
    published, told, name, tensor, sentence
):
    published['model_ema'].pop(name)
    if tensor is not None:
        published['model_ema'][name] = tensor

    assert sentence in told(published, _REFERENCE / 'config.json')


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        ([1], "expected training arguments as 'args', got [1]"),
        ({'motion_fps': 'fast'}, "expected motion_fps of 1 to 1000, got 'fast'"),
        ({'motion_fps': 0}, 'expected motion_fps of 1 to 1000, got 0'),
        ({'motion_fps': 1e300}, 'expected motion_fps of 1 to 1000, got 1e+300'),
        ({'chunk_second': [1]}, 'expected chunk_second of 0.04 to 60, got [1]'),
        ({'chunk_second': float('nan')}, 'expected chunk_second of 0.04 to 60, got nan'),
        ({'speech_frequency': 25 * 10**9}, 'expected speech_frequency of 4000 to 384000'),
        ({'encoder_num_heads': 'x' * 10**6}, 'expected encoder_num_heads of 1 to 1000'),
        ({'encoder_num_heads': 10**12}, 'expected encoder_num_heads of 1 to 1000'),
    ],
)
def test_arguments_of_a_wrong_kind_or_size_are_named(published, told, arguments, sentence):
    if isinstance(arguments, dict):
        arguments = argparse.Namespace(**{'encoder_num_heads': 4, **arguments})

    sentence_told = told({**published, 'args': arguments})

    assert sentence in sentence_told and len(sentence_told) < 500


@pytest.mark.parametrize(
    ('text', 'sentence'),
    [
        ('hello', 'c.json: not valid JSON'),
        ('[1]', 'c.json: expected a JSON object, got [1]'),
        ('{"model": 3}', "c.json: expected an object 'model', got 3"),
        ('[' * 100_000, 'c.json: not valid JSON: nested too deep'),
        ('"' + 'x' * 1_100_000 + '"', 'c.json: expected JSON of at most 1 MB, got more'),
    ],
)
def test_a_configuration_that_is_no_json_object_is_named(
    published, told, tmp_path, text, sentence
):
    (tmp_path / 'c.json').write_text(text)

    assert sentence in told(published, tmp_path / 'c.json')


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        ({'hidden_size': 10**9}, 'hidden_size must be at most 100000, got 1e+09'),
        ({'hidden_size': 20_000}, 'config.json describes'),
        ({'num_hidden_layers': 10**5}, 'expected num_hidden_layers of 1 to 1000, got 100000'),
        ({'num_hidden_layers': 'many'}, "num_hidden_layers of 1 to 1000, got 'many'"),
        ({'num_hidden_layers': 900, 'hidden_size': 512}, 'config.json describes'),
        ({'conv_dim': [32, 10**12]}, 'conv_dim must be at most 100000'),
        ({'model_type': 'hubert'}, "expected model_type 'wav2vec2', got 'hubert'"),
        ({'hidden_act': 'no such thing'}, 'wav2vec2'),
        ({'conv_stride': 'x'}, 'wav2vec2'),
        ({'layerdrop': float('inf')}, 'layerdrop must be at most 100000, got inf'),
    ],
)
def test_a_speech_encoder_that_lies_about_its_sizes_is_refused(
    published, told, speech, changes, sentence
):
    assert sentence in told(published, _REFERENCE / 'config.json', speech(**changes))


@pytest.mark.parametrize('text', ['hello', '[1]', '{"a":' * 50_000])
def test_a_speech_encoder_without_a_configuration_is_refused(published, told, speech, text):
    assert 'wav2vec2/config.json: ' in told(published, _REFERENCE / 'config.json', speech(text))


@pytest.mark.parametrize(
    'key', ['_attn_implementation', 'attn_implementation', 'auto_map', 'quantization_config']
)
def test_keys_of_a_speech_encoder_that_load_code_are_not_passed_on(speech, key):
    evil = {'AutoModel': 'evil--code.Model'} if key == 'auto_map' else 'evil/kernels'

    encoder, config = read_speech_encoder(speech(**{key: evil}))

    assert 'evil' not in json.dumps(config)
    plain, plain_config = read_speech_encoder(_REFERENCE / 'wav2vec2')
    assert config == plain_config
    for name, tensor in plain.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], tensor), name


def test_the_published_model_is_read_as_before():
    model = load_published(
        _REFERENCE / 'TIMAR.pth', _REFERENCE / 'wav2vec2', _REFERENCE / 'config.json'
    )

    weights = torch.load(_REFERENCE / 'TIMAR.pth', weights_only=False)['model_ema']
    for name, tensor in weights.items():
        assert torch.equal(model.state_dict()[name], tensor), name
