# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Files of others that published weights come in: `TIMAR.pth`, and a folder of wav2vec 2.0.

Responsible for reading them without running anything in them, and for sizes that fit the files.
Not for what the weights mean.
"""

import argparse
import math
import pathlib

import torch

from timar_ros.strict import quoted, read_json, shortened

_MOST_LAYERS = 1000
_LARGEST_SIZE = 100_000  # of one axis of wav2vec 2.0
# Of a configuration, beside what the model's own has.
_NO_SIZES = ('architectures', 'dtype', 'torch_dtype', 'transformers_version', 'model_type')


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
    # NOTE: torch raises whatever the bytes happen to break.
    except Exception as error:
        reason = shortened(str(error).split('\n')[0], 200) or 'damaged'
        raise ValueError(f'{path}: not a published TIMAR checkpoint ({reason})') from None
    if not isinstance(content, dict) or 'model_ema' not in content:
        found = quoted(content)
        if isinstance(content, dict):
            found = shortened(', '.join(map(str, content)), 200)
        raise ValueError(f"{path}: expected a checkpoint with 'model_ema', got {found}")
    weights, arguments = content['model_ema'], content.get('args', {})
    _check_tensors(path, weights)
    if isinstance(arguments, argparse.Namespace):
        arguments = vars(arguments)
    if not isinstance(arguments, dict):
        raise ValueError(f"{path}: expected training arguments as 'args', got {quoted(arguments)}")
    return weights, dict(arguments)


def _check_tensors(path: pathlib.Path, weights) -> None:
    """Refuse what is no dictionary of plain tensors, and tensors larger than the file."""
    if not isinstance(weights, dict):
        raise ValueError(f"{path}: expected tensors by name as 'model_ema', got {quoted(weights)}")
    n_bytes = 0
    for name, tensor in weights.items():
        is_plain = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided
        if not isinstance(name, str) or not is_plain or tensor.is_quantized:
            raise ValueError(f'{path}: expected plain tensors, {quoted(name)} is none')
        n_bytes += tensor.numel() * tensor.element_size()
    # A view can repeat a single number 10^12 times.
    if n_bytes > 2 * path.stat().st_size:
        raise ValueError(
            f'{path}: its tensors would take {n_bytes:,} bytes, the file has '
            f'{path.stat().st_size:,}; it is damaged'
        )


def read_speech_encoder(folder) -> tuple[torch.nn.Module, dict]:
    """
    Read a wav2vec2 encoder from a local folder.

    Returns:
        the transformers `Wav2Vec2Model`, and what `TimarConfig.speech_config` says of it.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or of another kind.
    """
    from transformers import Wav2Vec2Model

    folder = pathlib.Path(folder)
    if not (folder / 'config.json').is_file():
        raise FileNotFoundError(
            f'no speech encoder at {folder}; expected a local folder with config.json and '
            'weights of facebook/wav2vec2-large-960h-lv60-self'
        )
    config = _read_speech_config(folder)
    try:
        _check_sizes(folder, config)
        encoder, loaded = Wav2Vec2Model.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True
        )
    # NOTE: transformers and safetensors raise whatever the files happen to break.
    except Exception as error:
        reason = shortened(str(error).split('\n')[0], 200) or 'damaged'
        raise ValueError(f'{folder}: not a readable wav2vec2 model ({reason})') from None
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


def _read_speech_config(folder: pathlib.Path):
    """Read a configuration: numbers and names of the model's own keys, nothing that loads code."""
    from transformers import Wav2Vec2Config

    path = folder / 'config.json'
    content = read_json(path)
    kind = content.get('model_type', 'wav2vec2')
    if kind != 'wav2vec2':
        raise ValueError(f"{path}: expected model_type 'wav2vec2', got {quoted(kind)}")
    known = {key for key in Wav2Vec2Config().to_dict() if not key.startswith('_')}
    values = {key: content[key] for key in content if key in known.union(_NO_SIZES)}
    for key, value in values.items():
        for number in value if isinstance(value, list) else [value]:
            is_number = isinstance(number, int | float)
            if is_number and not (math.isfinite(number) and abs(number) <= _LARGEST_SIZE):
                raise ValueError(f'{path}: {key} must be at most {_LARGEST_SIZE}, got {number:g}')
    if not 1 <= _whole(values.get('num_hidden_layers', 12)) <= _MOST_LAYERS:
        raise ValueError(
            f'{path}: expected num_hidden_layers of 1 to {_MOST_LAYERS}, got '
            f'{quoted(values["num_hidden_layers"])}'
        )
    try:
        return Wav2Vec2Config(**{key: value for key, value in values.items() if _is_plain(value)})
    except Exception as error:  # checks of its own, in several types
        reason = shortened(' '.join(str(error).split()), 200)
        raise ValueError(f'{path}: no configuration of wav2vec2 ({reason})') from None


def _check_sizes(folder: pathlib.Path, config) -> None:
    """Refuse a configuration of more numbers than the weights beside it hold."""
    from transformers import Wav2Vec2Model

    with torch.device('meta'):
        n_wanted = sum(tensor.numel() for tensor in Wav2Vec2Model(config).parameters())
    files = [path for end in ('safetensors', 'bin') for path in folder.glob(f'*.{end}')]
    n_bytes = sum(path.stat().st_size for path in files)
    if 2 * n_wanted > n_bytes + 1_000_000:  # half floats at least; some are not stored
        raise ValueError(
            f'config.json describes {n_wanted:,} numbers, the weights beside it take '
            f'{n_bytes:,} bytes'
        )


def _whole(value) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _is_plain(value) -> bool:
    return isinstance(value, (bool, int, float, str, list)) or value is None
