# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for our checkpoint: one safetensors file with weights and all that they mean.

Not for the model. Strict both ways: a file that does not fit is refused with the names
that do not fit, by its header, before anything is built or read. Nothing is ever unpickled here.
"""

import dataclasses
import json
import math
import pathlib

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
import torch

from timar_ros import bounds
from timar_ros.config import TimarConfig
from timar_ros.config_file import from_dict, to_dict
from timar_ros.model.precision import DTYPES, check_device, find_dtype
from timar_ros.model.timar import TIMAR
from timar_ros.motion import get_space
from timar_ros.strict import parse_json, quoted, shortened, why_no_file

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
    problem = why_no_file(
        path,
        'checkpoint',
        'leave `checkpoint` empty for the shipped model, or make one with python -m '
        'timar_ros.model.convert or python -m timar_ros.learn.train',
    )
    if problem:
        raise FileNotFoundError(problem)
    try:
        with safe_open(path, 'np') as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, RuntimeError) as error:
        hint = ''
        if path.suffix.lower() in ('.pth', '.pt', '.ckpt'):
            hint = '; convert published weights with python -m timar_ros.model.convert'
        raise ValueError(
            f'{path}: not a readable safetensors file ({shortened(str(error), 200)}){hint}'
        ) from None
    if metadata.get('format') != FORMAT:
        raise ValueError(
            f'{path}: expected a {FORMAT!r}, got format {quoted(metadata.get("format"))}; '
            'foreign weights go through python -m timar_ros.model.convert'
        )
    config = from_dict(TimarConfig, _read_json(metadata, 'config', path), str(path))
    names = _read_json(metadata, 'names', path)
    if not isinstance(names, list) or tuple(names) != get_space(config.motion_space).names:
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
    check_device(device)
    config = read_config(path)
    running = find_dtype(dtype, device)
    _check_counts(config, _read_shapes(path), path)
    try:
        with torch.device('meta'):  # nothing is drawn that the file overwrites
            model = TIMAR(config)
    except (TypeError, AttributeError, KeyError, ImportError) as error:  # of transformers
        what = shortened(f'{type(error).__name__}: {error}', 200)
        raise ValueError(f'{path}: its configuration makes no model: {what}') from None
    check_names(model, _read_shapes(path), str(path))
    with safe_open(path, 'pt') as file:
        stored = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    model.load_state_dict(stored, assign=True)
    model.requires_grad_(False)
    model = model.to(device, running).eval()
    # Units of motion stay float32 whatever the network's type.
    for name in stored:
        if name.startswith('motion_') and '.' not in name:
            setattr(model, name, stored[name].to(device))
    return model


@dataclasses.dataclass(frozen=True)
class _Shape:
    """A tensor that is not read: what the header of a file says of it."""

    shape: tuple[int, ...]


def _read_json(metadata: dict, key: str, path):
    """Return a value of the metadata; ValueError where it is missing, too large, or no JSON."""
    text = metadata.get(key)
    if text is None:
        raise ValueError(f'{path}: expected {key} in its metadata, got none; save it again')
    return parse_json(text, f'{path}: {key} in its metadata')


def _read_shapes(path) -> dict[str, _Shape]:
    """Return the shapes of all tensors, by name, from the file's header alone."""
    with safe_open(path, 'np') as file:
        names = file.keys()
        shapes = {name: _Shape(tuple(file.get_slice(name).get_shape())) for name in names}
    n_values = sum(math.prod(each.shape) for each in shapes.values())
    if n_values > bounds.MAX_CHECKPOINT_VALUES:
        raise ValueError(
            f'{path}: expected at most {bounds.MAX_CHECKPOINT_VALUES:.0e} numbers, got '
            f'{n_values:.0e}; these weights are too large to run here'
        )
    return shapes


def _check_counts(config: TimarConfig, shapes: dict, path) -> None:
    """Compare what takes long to build with the header: there are no blocks without tensors."""
    for name, prefix in (
        ('n_layers', 'encoder_blocks.'),
        ('denoiser_blocks', 'diffloss.net.res_blocks.'),
    ):
        found = {
            key.removeprefix(prefix).split('.')[0] for key in shapes if key.startswith(prefix)
        }
        if len(found) != getattr(config, name):
            raise ValueError(
                f'{path}: weights do not fit the configuration: {name} is '
                f'{getattr(config, name)}, and there are tensors of {len(found)}'
            )


def check_names(model: TIMAR, stored: dict, source: str) -> None:
    """
    Compare stored tensors with those of the model.

    Args:
        model: whose tensors they are to be.
        stored: name -> anything with a `shape`.
        source: file they came from, for the message.

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
        f'{len(names)} {kind} ({", ".join(shortened(name, 120) for name in names[:5])}'
        f'{", ..." if len(names) > 5 else ""})'
        for kind, names in problems.items()
        if names
    ]
    if told:
        raise ValueError(f'{source}: weights do not fit the configuration: {"; ".join(told)}')
