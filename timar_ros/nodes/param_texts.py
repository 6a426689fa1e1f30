# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Values of parameters as their user wrote them, which rcl hands over only as it read them.

Responsible for the text: 007 and 0x12 where a node gets 7 and 18. Not for what is allowed.
"""

from typing import NamedTuple

import yaml

from timar_ros.nodes.param_files import KEY, means, ros_flags, rule_of

_MOST = 10_000  # values of one file; aliases can stand for millions
_TRUE, _FALSE = ('y', 'yes', 'on', 'true'), ('n', 'no', 'off', 'false')


class Written(NamedTuple):
    """
    A value, in a file or after `-p`.

    Attributes:
        texts: of its elements, one for what is no list; None for one in quotes.
        path: of the file; empty for `-p`.
    """

    texts: tuple[str | None, ...]
    path: str


def written_values(node_name: str, args: list[str]) -> dict[str, list[Written]]:
    """
    Find the values that ROS arguments give to a node, the one that wins last.

    Args:
        node_name: fully qualified.
        args: as of the command line; their files are readable (`check_arguments`).
    """
    flags, found = ros_flags(args), {}
    for path in flags['--params-file']:
        try:
            with open(path, 'rb') as file:
                _read_sections(yaml.compose(file, yaml.SafeLoader), '', node_name, path, found)
        except (yaml.YAMLError, RecursionError, ValueError, OSError):  # given_keys says why
            continue
    for rule in flags['--param']:
        owner, name, text = rule_of(rule)
        if owner in ('', node_name, node_name.split('/')[-1]):
            try:
                _add(found, name, yaml.compose(text, yaml.SafeLoader), '')
            except (yaml.YAMLError, RecursionError):  # rcl took it for what it is
                continue
    return found


def chosen(written: list[Written], value) -> Written | None:
    """Return what rcl read `value` from: the last that it may be; None where that is not known."""
    if value is None:
        return None
    is_one = isinstance(value, bool | int | float | str | bytes)
    elements = [value] if is_one else list(value)
    for each in reversed(written):
        if len(each.texts) == len(elements) and all(map(_reads_as, each.texts, elements)):
            return each
    return None


def _reads_as(text: str | None, value) -> bool:
    """Return whether rcl may have read `value` from a text; None for one in quotes."""
    if text is None or isinstance(value, str):
        return isinstance(value, str) and text in (None, value)
    if isinstance(value, bool):
        return text.lower() in (_TRUE if value else _FALSE)
    for read in (float, lambda digits: int(digits, 0), lambda digits: int(digits, 8)):
        try:
            if read(text) == value:
                return True
        except (ValueError, OverflowError):
            continue
    return False


def _read_sections(node, name: str, node_name: str, path: str, found: dict) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if key.value == KEY:
            if means(name, node_name):
                _add(found, '', value, path)
        else:
            inner = f'{name}/{str(key.value).strip("/")}'
            _read_sections(value, inner, node_name, path, found)


def _add(found: dict, name: str, node, path: str) -> None:
    """Add a value, or the values of a mapping by names such as `a.b`."""
    if len(found) > _MOST:
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            _add(found, f'{name}.{key.value}' if name else str(key.value), value, path)
        return
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    texts = tuple(_text(each) for each in nodes[:_MOST])
    found.setdefault(name, []).append(Written(texts, path))


def _text(node) -> str | None:
    is_plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return node.value if is_plain else None
