# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The training command on real files: alone, in several processes, from other weights."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import scipy.io.wavfile
import torch
import yaml

from timar_ros.config_file import load_yaml
from timar_ros.learn import train
from timar_ros.learn.processes import Processes
from timar_ros.learn.training import RunConfig
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.model.published import read_speech_encoder

_SOURCE = pathlib.Path(__file__).parents[2]
_RECIPE = {
    'shown_noise': 0.05,
    'model': {
        'frames_per_turn': 4, 'max_turns': 3, 'speech_width': 8, 'mel_bands': 8,
        'token_width': 8, 'width': 16, 'n_layers': 1, 'n_heads': 2, 'denoiser_width': 16,
        'denoiser_blocks': 1, 'persistence': 4, 'style': True, 'personas': ['ann', 'bo'],
    },
    'train': {
        'steps': 3, 'batch_size': 4, 'window_turns': 3, 'warmup_steps': 1, 'checkpoint_every': 3,
        'learning_rate': 0.01, 'planning': 0.5, 'threads': 1, 'ema': 0.5, 'style_drop': 0.3,
    },
}  # fmt: skip


def _write_clips(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, persona in (('one', 'ann'), ('two', 'bo'), ('three', '')):
        for party in ('agent', 'user'):
            voice = rng.normal(scale=3000, size=3 * 16000).astype(np.int16)
            scipy.io.wavfile.write(folder / f'{name}_{party}.wav', 16000, voice)
        motion = np.cumsum(rng.normal(scale=0.01, size=(75, 4)), 0).astype(np.float32)
        said = {'style': np.full((75, 7), 0.5, np.float32), 'persona': persona} if persona else {}
        names = ['jawOpen', 'neck_x', 'neck_y', 'neck_z']
        np.savez(folder / f'{name}_agent.npz', motion=motion, names=names, fps=25.0, **said)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a folder with clips and a recipe, and weights trained on them in `alone`."""
    folder = tmp_path_factory.mktemp('train')
    _write_clips(folder / 'clips')
    (folder / 'recipe.yaml').write_text(yaml.safe_dump(_RECIPE))
    _train(folder, 'alone')
    return folder


def _train(folder, out, *options):
    train.main([
        str(folder / 'clips'), '--config', str(folder / 'recipe.yaml'), '--out',
        str(folder / out), *options,
    ])  # fmt: skip


def test_two_processes_learn_what_one_learns(folder):
    command = [
        sys.executable, '-m', 'torch.distributed.run', '--standalone', '--local-addr',
        '127.0.0.1', '--nproc-per-node', '2', '-m', 'timar_ros.learn.train',
        str(folder / 'clips'), '--config', str(folder / 'recipe.yaml'), '--out',
        str(folder / 'two'), '--held-out', str(folder / 'clips'),
    ]  # fmt: skip
    # The two meet on this machine, whatever its name resolves to.
    environment = os.environ | {
        'OMP_NUM_THREADS': '1', 'PYTHONPATH': str(_SOURCE), 'GLOO_SOCKET_IFNAME': 'lo',
    }  # fmt: skip

    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )

    assert done.returncode == 0, done.stderr[-8000:]
    ours, theirs = (
        load_checkpoint(folder / run / 'model.safetensors').state_dict()
        for run in ('two', 'alone')
    )
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=0, atol=1e-5, msg=name)
    curves = [
        [json.loads(line) for line in (folder / run / 'curve.jsonl').read_text().splitlines()]
        for run in ('two', 'alone')
    ]
    assert len(curves[0]) == 1, 'more than one process wrote'
    for name in ('loss', 'mse', 'vb', 'gradient'):
        assert curves[0][0][name] == pytest.approx(curves[1][0][name], rel=1e-4), name


def test_the_weights_moved_from_where_they_began(folder):
    (folder / 'still.yaml').write_text(
        yaml.safe_dump(_RECIPE | {'train': _RECIPE['train'] | {'learning_rate': 1e-9}})
    )
    train.main([
        str(folder / 'clips'), '--config', str(folder / 'still.yaml'), '--out',
        str(folder / 'still'),
    ])  # fmt: skip

    moved, still = (
        load_checkpoint(folder / run / 'model.safetensors') for run in ('alone', 'still')
    )

    assert (moved.z_proj.weight - still.z_proj.weight).abs().max() > 1e-3


def test_persistence_is_measured_on_the_clips_and_kept_with_the_weights(folder):
    table = load_checkpoint(folder / 'alone' / 'model.safetensors').motion_persistence
    neck = load_checkpoint(folder / 'alone' / 'model.safetensors').space.neck

    assert (table[0, 0, neck] == np.float32(0.99)).all()
    assert (table[1, :, neck] < 1.5).all() and (table[1, 0, neck] < 0.5).all()
    assert not table[0, :, : neck.start].any() and (table[1, :, : neck.start] == 1).all()


def test_fine_tuning_goes_on_from_weights_whatever_the_recipe_calls_the_model(folder):
    other = _RECIPE | {'model': {'width': 32}, 'train': _RECIPE['train'] | {'steps': 1}}
    (folder / 'other.yaml').write_text(yaml.safe_dump(other))
    weights = folder / 'alone' / 'model.safetensors'

    train.main([
        str(folder / 'clips'), '--config', str(folder / 'other.yaml'), '--out',
        str(folder / 'tuned'), '--init', str(weights),
    ])  # fmt: skip

    first, tuned = load_checkpoint(weights), load_checkpoint(folder / 'tuned/model.safetensors')
    assert tuned.config == first.config
    assert torch.equal(tuned.motion_std, first.motion_std)
    change = (tuned.z_proj.weight - first.z_proj.weight).abs().max()
    assert 0 < change < 0.05


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(ValueError, match='multiple of the 3 processes, got 4'):
        Processes(rank=1, n=3).share(0, 4)


def test_every_window_is_somebodys_and_nobody_elses():
    shares = [Processes(rank, 4).share(24, 12) for rank in range(4)]

    assert [i for share in shares for i in share] == list(range(24, 36))


def test_a_persona_that_the_model_lacks_is_refused_by_the_name_of_its_file(folder):
    few = _RECIPE | {'model': _RECIPE['model'] | {'personas': ['ann']}}
    (folder / 'few.yaml').write_text(yaml.safe_dump(few))

    with pytest.raises(ValueError, match=r"two_agent\.npz: expected a persona of ann, got 'bo'"):
        train.main([
            str(folder / 'clips'), '--config', str(folder / 'few.yaml'), '--out',
            str(folder / 'few'),
        ])  # fmt: skip


@pytest.mark.parametrize('size', ['base', 'large'])
def test_the_published_recipe_is_that_of_the_paper(size):
    run = load_yaml(RunConfig, _SOURCE / 'config' / 'train_published.yaml')
    recipe = run.train_config()

    assert run.preset in ('base', 'large') and run.shown_noise == 0
    assert (recipe.learning_rate, recipe.weight_decay, recipe.clip_norm) == (1e-4, 0.02, 3.0)
    assert (recipe.batch_size, recipe.warmup_steps, recipe.window_turns) == (256, 40000, 8)
    assert (recipe.ema, recipe.diffusion_repeat, recipe.user_drop) == (0.9999, 4, 0.1)
    assert (recipe.mask_mean, recipe.mask_sd, recipe.mask_min) == (1.0, 0.25, 0.7)
    assert recipe.planning == recipe.user_part_drop == recipe.agent_prefix == 0
    assert dataclasses.replace(run, preset=size).model_config().history == 'masked'


def test_the_published_kind_learns_on_a_frozen_speech_encoder(folder):
    kind = {
        'preset': 'base',
        'raw_units': True,
        'model': {
            'motion_space': 'arkit55', 'token_width': 8, 'width': 16, 'n_layers': 1, 'n_heads': 2,
            'denoiser_width': 16, 'denoiser_blocks': 1, 'max_turns': 2,
        },
        'train': _RECIPE['train'] | {'window_turns': 2, 'planning': 0.0, 'steps': 1},
    }  # fmt: skip
    (folder / 'published.yaml').write_text(yaml.safe_dump(kind))
    speech = _SOURCE / 'test' / 'reference' / 'wav2vec2'
    encoder, _ = read_speech_encoder(speech)

    train.main([
        str(folder / 'clips'), '--config', str(folder / 'published.yaml'), '--out',
        str(folder / 'published'), '--speech', str(speech),
    ])  # fmt: skip

    model = load_checkpoint(folder / 'published' / 'model.safetensors')
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(model.speech.net.state_dict()[name], tensor), name
    assert not model.motion_mean.any() and (model.motion_std == 1).all()
    with pytest.raises(ValueError, match='pass --speech with the folder of'):
        train.main([
            str(folder / 'clips'), '--config', str(folder / 'published.yaml'), '--out',
            str(folder / 'nothing'),
        ])  # fmt: skip
