# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Configurations from YAML and mappings, strictly, and back: a wrong key or type is named."""

import dataclasses
import typing

from timar_ros.strict import did_you_mean, quoted, read_yaml


def to_dict(config) -> dict:
    """Return the fields of a configuration as plain values."""
    return dataclasses.asdict(config)


def _as_tuple(value, hint, name: str):
    """Turn lists, the only sequences of YAML and JSON, into tuples of the type of `hint`."""
    kind = typing.get_args(hint)[0]
    if isinstance(value, list | tuple):
        if typing.get_origin(kind) is tuple:
            return tuple(_as_tuple(item, kind, name) for item in value)
        if all(type(item) is kind for item in value):
            return tuple(value)
    # NOTE: on Python 3.10 tuple[int] counts as a type, of the name 'tuple'.
    of = 'list' if typing.get_origin(kind) is tuple else kind.__name__
    raise ValueError(f'{name} must be a list of {of}, got {quoted(value)}')


def from_dict(cls, mapping: dict, source: str):
    """
    Build a configuration from a mapping, strictly.

    Args:
        cls: TimarConfig, SamplingConfig, TimingConfig or TrainConfig.
        mapping: field -> value; missing fields take their defaults.
        source: file or place the mapping came from, for the message.

    Raises:
        ValueError: an unknown key (with the nearest known one), a wrong type or a contradiction.
    """
    if not isinstance(mapping, dict):
        raise ValueError(f'{source}: expected a mapping of keys to values, got {quoted(mapping)}')
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls)]
    values = {}
    for key, value in mapping.items():
        if key not in known:
            hint = did_you_mean(key, known) or f'; known: {", ".join(known)}'
            raise ValueError(f'{source}: unknown key {quoted(key)}{hint}')
        if typing.get_origin(hints[key]) is tuple:
            values[key] = _as_tuple(value, hints[key], f'{source}: {key}')
            continue
        allowed = typing.get_args(hints[key]) or (hints[key],)
        if float in allowed and type(value) is int and abs(value) < 2**1000:
            value = float(value)
        if type(value) not in allowed:
            names = ' or '.join(getattr(kind, '__name__', str(kind)) for kind in allowed)
            raise ValueError(f'{source}: {key} must be {names}, got {quoted(value)}')
        values[key] = value
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from None


def load_yaml(cls, path):
    """
    Read a configuration from a YAML file, strictly.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not YAML, or not this configuration.
    """
    return from_dict(cls, read_yaml(path) or {}, str(path))
