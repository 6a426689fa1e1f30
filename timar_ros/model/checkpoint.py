# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Our checkpoint: one safetensors file with weights, configuration, space and motion statistics.

Strict both ways: a file that does not fit is refused with the names that do not fit. Nothing is
ever unpickled here.
"""

import json
import pathlib

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
import torch

from timar_ros.config import TimarConfig
from timar_ros.config_file import from_dict, to_dict
from timar_ros.model.precision import DTYPES, find_dtype
from timar_ros.model.timar import TIMAR
from timar_ros.motion import get_space

FORMAT = 'timar_ros checkpoint 1'


def save_checkpoint(path, model: TIMAR, dtype: str = 'float32', notes: str = '') -> None:
    """
    Write weights and all that they mean to `path`, through a file beside it.

    Args:
        path: ends in .safetensors.
        model: whose configuration and motion statistics go along.
        dtype: of the stored weights; motion statistics stay float32.
        notes: free text, e.g. what it was trained on.
    """
    path = pathlib.Path(path)
    stored = DTYPES[dtype]
    tensors = {
        name: tensor.detach().to('cpu', torch.float32 if name.startswith('motion_') else stored)
        for name, tensor in model.state_dict().items()
    }
    metadata = {
        'format': FORMAT,
        'config': json.dumps(to_dict(model.config)),
        'names': json.dumps(model.space.names),
        'notes': notes,
    }
    partial = path.with_name(path.name + '.partial')
    partial.touch()
    mode = partial.stat().st_mode  # as the user's other files; safetensors writes private ones
    save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata)
    partial.chmod(mode)
    partial.replace(path)


def read_config(path) -> TimarConfig:
    """
    Read what the weights in `path` mean, without loading them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not one of our checkpoints.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'no checkpoint at {path}; leave `checkpoint` empty for the shipped model, or make '
            'one with python -m timar_ros.model.convert or python -m timar_ros.learn.train'
        )
    try:
        with safe_open(path, 'pt') as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        hint = ''
        if path.suffix in ('.pth', '.pt', '.ckpt'):
            hint = '; convert published weights with python -m timar_ros.model.convert'
        raise ValueError(f'{path}: not a readable safetensors file ({error}){hint}') from None
    if metadata.get('format') != FORMAT:
        raise ValueError(
            f'{path}: expected a {FORMAT!r}, got format {metadata.get("format")!r}; '
            'foreign weights go through python -m timar_ros.model.convert'
        )
    config = from_dict(TimarConfig, json.loads(metadata['config']), str(path))
    names = tuple(json.loads(metadata['names']))
    if names != get_space(config.motion_space).names:
        raise ValueError(
            f'{path}: its channels are not those of {config.motion_space} here; '
            'it was made by another version of timar_ros'
        )
    return config


def load_checkpoint(path, device='cpu', dtype: str = 'float32') -> TIMAR:
    """
    Build the model that `path` holds, ready to draft.

    Args:
        path: a checkpoint of `save_checkpoint`.
        device: torch device or its name.
        dtype: 'float32', 'bfloat16', 'float16' or 'auto' (`precision.find_dtype`), whatever the
            stored type.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not one of our checkpoints, or weights are missing, left over or of
            another shape; the message names them.
    """
    config = read_config(path)
    running = find_dtype(dtype, device)
    with torch.device('meta'):  # nothing is drawn that the file overwrites
        model = TIMAR(config)
    with safe_open(path, 'pt') as file:
        stored = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    check_names(model, stored, str(path))
    model.load_state_dict(stored, assign=True)
    model.requires_grad_(False)
    model = model.to(device, running).eval()
    # Units of motion stay float32 whatever the network's type.
    for name in stored:
        if name.startswith('motion_') and '.' not in name:
            setattr(model, name, stored[name].to(device))
    return model


def check_names(model: TIMAR, stored: dict, source: str) -> None:
    """
    Compare stored tensors with those of the model.

    Raises:
        ValueError: names or shapes differ; the message lists up to five of each kind.
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    problems = {
        'missing': [name for name in wanted if name not in stored],
        'unknown': [name for name in stored if name not in wanted],
        'of another shape': [
            f'{name} {tuple(stored[name].shape)} instead of {wanted[name]}'
            for name in wanted
            if name in stored and tuple(stored[name].shape) != wanted[name]
        ],
    }
    told = [
        f'{len(names)} {kind} ({", ".join(names[:5])}{", ..." if len(names) > 5 else ""})'
        for kind, names in problems.items()
        if names
    ]
    if told:
        raise ValueError(f'{source}: weights do not fit the configuration: {"; ".join(told)}')
