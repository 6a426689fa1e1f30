# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Published weights become a checkpoint of the same model; what we do not support is refused."""

import argparse
import json
import os
import pathlib
import shutil

import pytest
from safetensors.torch import load_file, save_file
import torch

from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.model.convert import load_published, main
from timar_ros.stream.engine import Engine

_REFERENCE = pathlib.Path(__file__).parents[1] / 'reference'
_WEIGHTS = _REFERENCE / 'TIMAR.pth'
_CONFIG = ['--config', str(_REFERENCE / 'config.json')]


class _Runs:
    """Runs a command when unpickled, as a hostile file would."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.fixture(scope='module')
def published():
    """Return the content of the reference weights, a dictionary to be changed in copies."""
    return torch.load(_WEIGHTS, weights_only=False)  # our own, known file


def _convert(weights, out, *options, speech=_REFERENCE / 'wav2vec2'):
    return main([str(weights), '--speech', str(speech), str(out), *options])


def _saved(path, content):
    torch.save(content, path)
    return path


def _with_arguments(published, **changes):
    arguments = argparse.Namespace(**{**vars(published['args']), **changes})
    return {**published, 'args': arguments}


def test_a_converted_checkpoint_is_the_published_model(tmp_path, capsys, make_turns):
    out = tmp_path / 'timar.safetensors'

    assert _convert(_WEIGHTS, out, *_CONFIG) == 0

    told = capsys.readouterr()
    assert '3 blocks of width 32, window of 4 turns of 1 s' in told.out
    assert 'reading weights' in told.err
    converted = load_checkpoint(out)
    direct = load_published(_WEIGHTS, _REFERENCE / 'wav2vec2', _REFERENCE / 'config.json')
    assert converted.config == direct.config
    config = converted.config
    assert (config.history, config.cache, config.positions) == ('masked', 'rebuild', 'window')
    assert (config.level, config.max_turns, config.n_heads) == ('clip', 4, 4)
    for name, tensor in direct.state_dict().items():
        assert torch.equal(converted.state_dict()[name], tensor), name
    motions = []
    for model in (converted, direct):
        engine = Engine(model)
        state = engine.new_state()
        motions.append(torch.stack([engine.step(turn, state) for turn in make_turns(config, 5)]))
    assert torch.equal(*motions)


def test_the_averaged_weights_are_taken(published, tmp_path):
    other = {name: torch.zeros_like(tensor) for name, tensor in published['model'].items()}
    path = _saved(tmp_path / 'TIMAR.pth', {**published, 'model': other})

    assert _convert(path, tmp_path / 'a.safetensors', *_CONFIG) == 0

    weights = load_checkpoint(tmp_path / 'a.safetensors').state_dict()
    for name, tensor in published['model_ema'].items():
        assert torch.equal(weights[name], tensor), name


def test_arguments_of_an_older_kind_do_as_well(published, tmp_path):
    path = _saved(tmp_path / 'TIMAR.pth', {**published, 'args': vars(published['args'])})

    assert _convert(path, tmp_path / 'a.safetensors', *_CONFIG) == 0


@pytest.mark.parametrize('where', ['top', 'args', 'model_ema'])
def test_a_file_that_would_run_something_is_refused_and_runs_nothing(
    published, tmp_path, capsys, where
):
    trap = tmp_path / 'it_ran'
    hostile = _Runs(f'touch {trap}')
    content = {
        'top': {**published, 'extra': hostile},
        'args': _with_arguments(published, output_dir=hostile),
        'model_ema': {**published, 'model_ema': {**published['model_ema'], 'x': hostile}},
    }[where]
    path = _saved(tmp_path / 'TIMAR.pth', content)

    assert _convert(path, tmp_path / 'a.safetensors', *_CONFIG) == 1

    assert 'TIMAR.pth: not a published TIMAR checkpoint' in capsys.readouterr().err
    assert not trap.exists()
    assert not (tmp_path / 'a.safetensors').exists()


def test_arguments_of_a_foreign_type_are_refused(published, tmp_path, capsys):
    content = _with_arguments(published, output_dir=pathlib.Path('/somewhere'))
    path = _saved(tmp_path / 'TIMAR.pth', content)

    assert _convert(path, tmp_path / 'a.safetensors', *_CONFIG) == 1
    assert 'not a published TIMAR checkpoint' in capsys.readouterr().err


@pytest.mark.parametrize('n_bytes', [0, 3, 1000, 500_000, -1])
def test_a_truncated_file_is_refused(tmp_path, capsys, n_bytes):
    path = tmp_path / 'TIMAR.pth'
    path.write_bytes((_WEIGHTS).read_bytes()[:n_bytes])

    assert _convert(path, tmp_path / 'a.safetensors', *_CONFIG) == 1
    assert 'TIMAR.pth: not a published TIMAR checkpoint' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        (lambda c: c.pop('model_ema'), "expected a checkpoint with 'model_ema', got model, opt"),
        (
            lambda c: c['model_ema'].update({'decoder_blocks.0.attn.qkv.bias': torch.zeros(3)}),
            'expected an encoder-only model, got one with a decoder; only the published kind',
        ),
        (
            lambda c: c['model_ema'].pop('diffloss.net.input_proj.weight'),
            'expected a TIMAR with a diffusion head, got other weights; an MLP head is not',
        ),
        (
            lambda c: c['model_ema'].update({'motion_encoder.0.weight': torch.zeros(12, 58)}),
            r'expected 56 motion channels (FLAME), got 58',
        ),
        (
            lambda c: c['model_ema'].update({'z_proj.bias': torch.full((32,), torch.nan)}),
            'z_proj.bias holds NaN or infinity; the file is damaged',
        ),
        (
            lambda c: c['model_ema'].update({'fake_latent': torch.full((1, 24), torch.inf)}),
            'fake_latent holds NaN or infinity',
        ),
        (
            lambda c: c['model_ema'].pop('encoder_blocks.1.mlp.fc1.bias'),
            'weights do not fit the configuration: 1 missing (encoder_blocks.1.mlp.fc1.bias)',
        ),
        (
            lambda c: c['model_ema'].update({'surprise': torch.zeros(1)}),
            'weights do not fit the configuration: 1 unknown (surprise)',
        ),
    ],
)
def test_weights_of_another_kind_are_refused(published, tmp_path, capsys, change, told):
    content = {**published, 'model_ema': dict(published['model_ema'])}
    change(content)
    path = _saved(tmp_path / 'TIMAR.pth', content)

    assert _convert(path, tmp_path / 'a.safetensors', *_CONFIG) == 1

    assert told in capsys.readouterr().err
    assert not (tmp_path / 'a.safetensors').exists()


@pytest.mark.parametrize(
    ('arguments', 'told'),
    [
        (
            {'use_causal_attn': False},
            'expected turn-causal attention, got use_causal_attn = False',
        ),
        ({'use_encoder_only': False}, 'expected an encoder-only model, got one with a decoder'),
    ],
)
def test_models_trained_otherwise_are_refused(published, tmp_path, capsys, arguments, told):
    path = _saved(tmp_path / 'TIMAR.pth', _with_arguments(published, **arguments))
    heads = tmp_path / 'heads.json'
    heads.write_text('{"encoder_num_heads": 4}')

    assert _convert(path, tmp_path / 'a.safetensors', '--config', str(heads)) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize('name', ['timar_tiny', 'timar_large'])
def test_a_size_that_is_unknown_or_untrue_needs_a_configuration(published, tmp_path, capsys, name):
    path = _saved(tmp_path / 'TIMAR.pth', _with_arguments(published, model=name))

    assert _convert(path, tmp_path / 'a.safetensors') == 1

    told = capsys.readouterr().err
    assert f"3 blocks of width 32 called '{name}'" in told
    assert 'give its configuration with --config' in told


def test_a_speech_encoder_of_another_width_is_refused(tmp_path, capsys):
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = json.loads((_REFERENCE / 'wav2vec2' / 'config.json').read_text())
    wide = Wav2Vec2Config(**{**config, 'hidden_size': 32})
    Wav2Vec2Model(wide).save_pretrained(tmp_path / 'wav2vec2')

    out = tmp_path / 'a.safetensors'
    assert _convert(_WEIGHTS, out, *_CONFIG, speech=tmp_path / 'wav2vec2') == 1
    assert 'expected a speech encoder of width 48, got 32' in capsys.readouterr().err


@pytest.fixture
def speech(tmp_path):
    """Return a copy of the reference's speech encoder."""
    folder = tmp_path / 'wav2vec2'
    shutil.copytree(_REFERENCE / 'wav2vec2', folder)
    (folder / 'model.safetensors').chmod(0o644)
    return folder


def _without(folder, name):
    weights = load_file(folder / 'model.safetensors')
    weights.pop(name)
    save_file(weights, folder / 'model.safetensors', {'format': 'pt'})


def test_an_incomplete_speech_encoder_is_refused_not_filled_with_noise(speech, tmp_path, capsys):
    _without(speech, 'encoder.layers.1.attention.k_proj.weight')

    assert _convert(_WEIGHTS, tmp_path / 'a.safetensors', *_CONFIG, speech=speech) == 1
    told = capsys.readouterr().err
    assert '1 are missing (encoder.layers.1.attention.k_proj.weight)' in told


def test_the_published_speech_encoder_has_no_mask_vector_and_needs_none(speech, tmp_path):
    _without(speech, 'masked_spec_embed')

    assert _convert(_WEIGHTS, tmp_path / 'a.safetensors', *_CONFIG, speech=speech) == 0

    converted = load_checkpoint(tmp_path / 'a.safetensors').state_dict()
    assert converted['speech.net.masked_spec_embed'].abs().max() == 0.0


def test_a_damaged_speech_encoder_is_refused(speech, tmp_path, capsys):
    path = speech / 'model.safetensors'
    path.write_bytes(path.read_bytes()[:5000])

    assert _convert(_WEIGHTS, tmp_path / 'a.safetensors', *_CONFIG, speech=speech) == 1
    assert 'wav2vec2: not a readable wav2vec2 model' in capsys.readouterr().err


def test_a_configuration_that_does_not_fit_the_speech_weights_is_refused(speech, tmp_path, capsys):
    config = json.loads((speech / 'config.json').read_text())
    (speech / 'config.json').chmod(0o644)
    (speech / 'config.json').write_text(json.dumps({**config, 'intermediate_size': 64}))

    assert _convert(_WEIGHTS, tmp_path / 'a.safetensors', *_CONFIG, speech=speech) == 1
    assert 'wav2vec2: not a readable wav2vec2 model' in capsys.readouterr().err


@pytest.mark.parametrize('missing', ['weights', 'speech', 'config'])
def test_a_missing_file_is_named(tmp_path, capsys, missing):
    places = {
        'weights': _WEIGHTS,
        'speech': _REFERENCE / 'wav2vec2',
        'config': _REFERENCE / 'config.json',
    }
    places[missing] = tmp_path / 'nowhere'
    options = ['--config', str(places['config'])]

    out = tmp_path / 'a.safetensors'
    assert _convert(places['weights'], out, *options, speech=places['speech']) == 1
    assert 'nowhere' in capsys.readouterr().err


def test_the_name_of_the_result_is_checked_before_anything_is_read(tmp_path, capsys):
    with pytest.raises(SystemExit):
        _convert(tmp_path / 'nowhere', tmp_path / 'a.pth')

    assert 'OUT must end in .safetensors' in capsys.readouterr().err
