# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Published TIMAR weights to our checkpoint.

    python -m timar_ros.model.convert TIMAR.pth --speech WAV2VEC2_DIR OUT [--config JSON]

Reads the published file memory-mapped and without running anything in it. The layer names are the
published ones, so what is converted is the meaning: sizes, window, history.
"""

import argparse
import json
import pathlib
import pickle
import sys

import torch
from tqdm import tqdm

from timar_ros.config import PRESETS, TimarConfig
from timar_ros.model.checkpoint import check_names, save_checkpoint
from timar_ros.model.timar import TIMAR
from timar_ros.motion import get_space


def read_published(path) -> tuple[dict[str, torch.Tensor], dict]:
    """
    Map a published `TIMAR.pth` into memory.

    Returns:
        the evaluated weights (`model_ema`) and the training arguments.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or holds anything but tensors and arguments.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no weights at {path}; expected the published TIMAR.pth')
    try:
        # The one foreign type in the file; everything else but tensors is refused unread.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location='cpu', weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        told = str(error).split('\n')[0]
        raise ValueError(f'{path}: not a published TIMAR checkpoint ({told})') from None
    if not isinstance(content, dict) or 'model_ema' not in content:
        found = ', '.join(map(str, content)) if isinstance(content, dict) else type(content)
        raise ValueError(f"{path}: expected a checkpoint with 'model_ema', got {found}")
    arguments = content.get('args', {})
    return content['model_ema'], dict(getattr(arguments, '__dict__', arguments))


def published_config(weights: dict, arguments: dict, extra: dict, source: str) -> TimarConfig:
    """
    Say what published weights mean: sizes from the tensors, the rest from the arguments.

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

    def count(prefix):
        return len({n.removeprefix(prefix).split('.')[0] for n in weights if n.startswith(prefix)})

    D, n_layers = weights['z_proj.weight'].shape[0], count('encoder_blocks.')
    size = PRESETS.get(str(known.get('model', '')).removeprefix('timar_'))
    if 'encoder_num_heads' in known:
        n_heads = int(known['encoder_num_heads'])
    elif size is not None and (size.width, size.n_layers) == (D, n_layers):
        n_heads = size.n_heads  # the one size that cannot be read from a tensor
    else:
        refuse(
            'weights of timar_base, timar_large or timar_huge, as args.model says',
            f'{n_layers} blocks of width {D} called {known.get("model")!r}',
            'give its configuration with --config (a JSON with encoder_num_heads)',
        )
    fps = int(known.get('motion_fps', 25))
    n_frames = round(fps * known.get('chunk_second', 1))
    n_channels = weights['motion_encoder.0.weight'].shape[1]
    if n_channels != get_space('flame56').n_channels:
        refuse('56 motion channels (FLAME)', n_channels, 'other spaces are not published')
    n_slots = weights['encoder_pos_embed_learned'].shape[1]
    return TimarConfig(
        motion_space='flame56',
        fps=fps,
        frames_per_turn=n_frames,
        sample_rate_hz=int(known.get('speech_frequency', 16000)),
        max_turns=n_slots // (4 * n_frames + 10),
        speech='wav2vec2',
        speech_width=weights['speech_projection.weight'].shape[1],
        token_width=weights['z_proj.weight'].shape[1],
        width=D,
        n_layers=n_layers,
        n_heads=n_heads,
        denoiser_width=weights['diffloss.net.input_proj.weight'].shape[0],
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
        extra = json.loads(pathlib.Path(config_path).read_text(encoding='utf-8'))
        extra = extra.get('model', extra)
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


def read_speech_encoder(folder) -> tuple[torch.nn.Module, dict]:
    """
    Read a wav2vec2 encoder from a local folder.

    Returns:
        the transformers `Wav2Vec2Model`, and what `TimarConfig.speech_config` says of it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or of another kind.
    """
    from safetensors import SafetensorError
    from transformers import Wav2Vec2Model

    if not (pathlib.Path(folder) / 'config.json').is_file():
        raise FileNotFoundError(
            f'no speech encoder at {folder}; expected a local folder with config.json and '
            'weights of facebook/wav2vec2-large-960h-lv60-self'
        )
    try:
        encoder, loaded = Wav2Vec2Model.from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        told = str(error).split('\n')[0]
        raise ValueError(f'{folder}: not a readable wav2vec2 model ({told})') from None
    # transformers fills what is missing with random numbers. The mask's own vector, of use in
    # pre-training only, is missing from the published encoder.
    missing = sorted(set(loaded['missing_keys']) - {'masked_spec_embed'})
    if missing:
        raise ValueError(
            f'{folder}: expected all weights of a wav2vec2 model, {len(missing)} are missing '
            f'({", ".join(missing[:5])}); the file is damaged or of another kind'
        )
    if loaded['missing_keys']:
        torch.nn.init.zeros_(encoder.masked_spec_embed)
    config = {k: v for k, v in encoder.config.to_diff_dict().items() if _is_plain(v)}
    return encoder, config


def _is_plain(value) -> bool:
    return isinstance(value, (bool, int, float, str, list)) or value is None


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
        model = load_published(options.weights, options.speech, options.config)
        n_bytes = check_finite(model, options.weights)
    except (FileNotFoundError, ValueError) as error:
        print(f'convert: {error}', file=sys.stderr)
        return 1
    print(f'writing {out} ...')
    save_checkpoint(out, model, notes='converted from the published TIMAR weights (Apache-2.0)')
    config = model.config
    print(
        f'{out}: {config.n_layers} blocks of width {config.width}, window of {config.max_turns} '
        f'turns of {config.turn_s:g} s, {n_bytes / 1e9:.2f} GB'
    )
    return 0


if __name__ == '__main__':
    sys.exit(main())
