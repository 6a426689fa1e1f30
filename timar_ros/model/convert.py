# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Published TIMAR weights to our checkpoint.

    python -m timar_ros.model.convert TIMAR.pth --speech WAV2VEC2_DIR OUT [--config JSON]

The layer names are the published ones, so what is converted is the meaning: sizes, window,
history. Not responsible for reading the published files (`published`).
"""

import argparse
import math
import pathlib
import sys

import torch
from tqdm import tqdm

from timar_ros.bounds import SAMPLE_RATES_HZ
from timar_ros.command import end
from timar_ros.config import PRESETS, TimarConfig
from timar_ros.model.checkpoint import check_names, save_checkpoint
from timar_ros.model.published import read_published, read_speech_encoder
from timar_ros.model.timar import TIMAR
from timar_ros.motion import get_space
from timar_ros.outputs import check_new_file
from timar_ros.strict import in_a_sentence, quoted, read_json


def published_config(weights: dict, arguments: dict, extra: dict, source: str) -> TimarConfig:
    """
    Return the configuration of published weights: sizes from the tensors, the rest from arguments.

    Args:
        weights: name -> tensor.
        arguments: of the training run, stored beside the weights.
        extra: the 'model' part of a JSON configuration; wins over the arguments.
        source: for messages.

    Raises:
        ValueError: the weights are of a kind that this package does not have.
    """
    known = {**arguments, **extra}

    def refuse(expected, got, fix):
        raise ValueError(f'{source}: expected {expected}, got {got}; {fix}')

    if not known.get('use_causal_attn', True):
        refuse('turn-causal attention', 'use_causal_attn = False', 'such a model cannot stream')
    has_decoder = any(name.startswith('decoder') for name in weights)
    if has_decoder or not known.get('use_encoder_only', True):
        refuse('an encoder-only model', 'one with a decoder', 'only the published kind is known')
    if not {'encoder_pos_embed_learned', 'diffloss.net.input_proj.weight'} <= set(weights):
        refuse('a TIMAR with a diffusion head', 'other weights', 'an MLP head is not supported')

    def size(name, axis, n_axes=2):
        if name not in weights or weights[name].ndim != n_axes:
            refuse(f'{name} of {n_axes} axes', 'none', 'the file is of another kind')
        return weights[name].shape[axis]

    def number(name, default, low, high):
        try:
            value = float(known.get(name, default))
        except (TypeError, ValueError):
            value = math.nan
        if not low <= value <= high:
            refuse(f'{name} of {low} to {high}', quoted(known.get(name)), 'correct its arguments')
        return value

    def count(prefix):
        return len({n.removeprefix(prefix).split('.')[0] for n in weights if n.startswith(prefix)})

    D, n_layers = size('z_proj.weight', 0), count('encoder_blocks.')
    preset = PRESETS.get(str(known.get('model', '')).removeprefix('timar_'))
    if 'encoder_num_heads' in known:
        n_heads = int(number('encoder_num_heads', 1, 1, 1000))
    elif preset is not None and (preset.width, preset.n_layers) == (D, n_layers):
        n_heads = preset.n_heads  # the one size that cannot be read from a tensor
    else:
        refuse(
            'weights of timar_base, timar_large or timar_huge, as args.model says',
            f'{n_layers} blocks of width {D} called {quoted(known.get("model"))}',
            'give its configuration with --config (a JSON with encoder_num_heads)',
        )
    fps = int(number('motion_fps', 25, 1, 1000))
    n_frames = round(fps * number('chunk_second', 1, 1 / fps, 60))
    n_channels = size('motion_encoder.0.weight', 1)
    if n_channels != get_space('flame56').n_channels:
        refuse('56 motion channels (FLAME)', n_channels, 'other spaces are not published')
    n_slots = size('encoder_pos_embed_learned', 1, 3)
    return TimarConfig(
        motion_space='flame56',
        fps=fps,
        frames_per_turn=n_frames,
        sample_rate_hz=int(number('speech_frequency', 16000, *SAMPLE_RATES_HZ)),
        max_turns=n_slots // (4 * n_frames + 10),
        speech='wav2vec2',
        speech_width=size('speech_projection.weight', 1),
        token_width=size('z_proj.weight', 1),
        width=D,
        n_layers=n_layers,
        n_heads=n_heads,
        denoiser_width=size('diffloss.net.input_proj.weight', 0),
        denoiser_blocks=count('diffloss.net.res_blocks.'),
    )


def load_published(path, speech_dir, config_path=None) -> TIMAR:
    """
    Build the model that a published checkpoint and a wav2vec2 folder make together.

    Args:
        path: the published `TIMAR.pth`.
        speech_dir: local folder of a transformers `Wav2Vec2Model`.
        config_path: JSON whose 'model' entry (or whole) says what the arguments do not.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the weights are damaged or of an unsupported kind.
    """
    weights, arguments = read_published(path)
    extra = {}
    if config_path is not None:
        extra = read_json(config_path)
        extra = extra.get('model', extra)
        if not isinstance(extra, dict):
            raise ValueError(f"{config_path}: expected an object 'model', got {quoted(extra)}")
    config = published_config(weights, arguments, extra, str(path))
    encoder, speech_config = read_speech_encoder(speech_dir)
    if encoder.config.hidden_size != config.speech_width:
        raise ValueError(
            f'{speech_dir}: expected a speech encoder of width {config.speech_width}, got '
            f'{encoder.config.hidden_size}; these weights were trained on another one'
        )
    config = TimarConfig(**{**vars(config), 'speech_config': speech_config})
    with torch.device('meta'):
        model = TIMAR(config)
    stored = dict(weights)
    stored.update({f'speech.net.{k}': v for k, v in encoder.state_dict().items()})
    # Published weights work on raw units.
    stored['motion_mean'] = torch.zeros(config.n_channels)
    stored['motion_std'] = torch.ones(config.n_channels)
    check_names(model, stored, str(path))
    model.load_state_dict(stored, assign=True)
    return model.requires_grad_(False).eval()


def check_finite(model: TIMAR, source: str) -> int:
    """
    Read every weight once, with a progress bar; return how many bytes they take.

    Raises:
        ValueError: a weight is NaN or infinite; names it.
    """
    weights = model.state_dict()
    n_bytes = sum(tensor.numel() * 4 for tensor in weights.values())
    with tqdm(total=n_bytes, unit='B', unit_scale=True, desc='reading weights') as bar:
        for name, tensor in weights.items():
            if not torch.isfinite(tensor).all():
                raise ValueError(f'{source}: {name} holds NaN or infinity; the file is damaged')
            bar.update(tensor.numel() * 4)
    return n_bytes


def main(args=None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog='python -m timar_ros.model.convert', description=__doc__)
    parser.add_argument('weights', help='the published TIMAR.pth')
    parser.add_argument('--speech', required=True, help='local folder of the wav2vec2 encoder')
    parser.add_argument('out', help='checkpoint to write, ends in .safetensors')
    parser.add_argument('--config', help='JSON for sizes that args.model does not name')
    options = parser.parse_args(args)
    out = pathlib.Path(options.out)
    if out.suffix != '.safetensors':
        parser.error(f'OUT must end in .safetensors, got {options.out}')
    try:
        check_new_file(out)
        model = load_published(options.weights, options.speech, options.config)
        n_bytes = check_finite(model, options.weights)
        print(f'writing {out} ...')
        save_checkpoint(
            out, model, notes='converted from the published TIMAR weights (Apache-2.0)'
        )
    except (OSError, ValueError) as error:
        print(f'convert: {in_a_sentence(error)}', file=sys.stderr)
        return 1
    config = model.config
    print(
        f'{out}: {config.n_layers} blocks of width {config.width}, window of {config.max_turns} '
        f'turns of {config.turn_s:g} s, {n_bytes / 1e9:.2f} GB'
    )
    return 0


if __name__ == '__main__':
    end('convert', main)
