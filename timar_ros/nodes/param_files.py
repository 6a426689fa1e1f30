# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The parameter files and names in a process's ROS arguments, checked before rcl reads them.

Responsible for refusing what rcl would refuse, with a sentence that helps, and for telling which
parameters a file addresses to one node and which to any (`/**`). Not for their values: rcl gives
those to the node, without saying where they came from.
"""

import pathlib
import re
import sys
from typing import Any, NamedTuple

from timar_ros.strict import did_you_mean, quoted, read_yaml, shortened

_TOKEN = re.compile(r'[A-Za-z_][A-Za-z0-9_]*')
KEY = 'ros__parameters'
_SHAPE = "the name of a node, below it 'ros__parameters:', below that 'name: value'"


class GivenKeys(NamedTuple):
    """
    Names of parameters that arguments give to a node.

    Attributes:
        own: addressed to it: under its name in a file, or by `-p`.
        shared: addressed to many nodes, under a name that ends in a wildcard, and not in `own`.
        near: sections that look like a misspelling of the node's name, in files that have none
            for it: path and name.
        elsewhere: sections for its name in another namespace, in files that have none for it.
    """

    own: frozenset[str]
    shared: frozenset[str]
    near: tuple[tuple[str, str], ...]
    elsewhere: tuple[tuple[str, str], ...] = ()


def check_arguments(args: list[str] | None = None) -> None:
    """
    Refuse parameter files that cannot be read, and new names that ROS does not allow.

    Args:
        args: of the process; None: those of the command line.

    Raises:
        ValueError, FileNotFoundError: one sentence for the first that is wrong.
    """
    flags = ros_flags(sys.argv[1:] if args is None else args)
    for path in flags['--params-file']:
        _sections(path)
    for rule in flags['--param']:
        if ':=' not in rule:
            raise ValueError(f'-p {shortened(rule)}: expected name:=value, without spaces')
    for rule in flags['--remap']:
        _check_remap(rule)


def check_namespace(namespace: str) -> None:
    """
    Refuse a namespace that ROS does not allow.

    Args:
        namespace: with or without a leading slash; empty: none.

    Raises:
        ValueError: one sentence, with one that is allowed.
    """
    if namespace not in ('', '/'):
        _check_name('namespace', namespace, '/' if namespace.startswith('/') else '')


def given_keys(node_name: str, args: list[str]) -> GivenKeys:
    """
    Find which parameters ROS arguments give to a node.

    Args:
        node_name: fully qualified.
        args: as of the command line; their files are readable (`check_arguments`).
    """
    flags = ros_flags(args)
    own = {rule_of(rule)[1] for rule in flags['--param']}
    shared, near, elsewhere = set(), [], []
    base = node_name.split('/')[-1]
    for path in flags['--params-file']:
        others, namesakes, has_own = [], [], False
        for name, keys in _sections(path).items():
            last = name.split('/')[-1]
            if not means(name, node_name):
                namesakes += [(path, name)] if last == base else []
                others += [(path, name)] if last != base and did_you_mean(last, [base]) else []
            elif last == base:
                own |= keys
                has_own = True
            else:
                shared |= keys
        near += [] if has_own else others
        elsewhere += [] if has_own else namesakes
    return GivenKeys(frozenset(own), frozenset(shared - own), tuple(near), tuple(elsewhere))


def ros_flags(args: list[str]) -> dict[str, list[str]]:
    """Return what follows each flag in the ROS parts of some arguments."""
    long = {'-p': '--param', '-r': '--remap'}
    found = {'--params-file': [], '--param': [], '--remap': []}
    is_ros, words = False, iter(args)
    for word in words:
        if word == '--ros-args':
            is_ros = True
        elif word == '--':
            is_ros = False
        elif is_ros and long.get(word, word) in found:
            value = next(words, None)
            if value is not None:  # else rcl says that it is missing
                found[long.get(word, word)].append(value)
    return found


def _sections(path: str) -> dict[str, set[str]]:
    """
    Read a parameter file.

    Returns:
        name of a node, with wildcards and a leading slash -> names of its parameters.
    """
    if not pathlib.Path(path).exists():
        raise FileNotFoundError(
            f'{shortened(path, 300)}: there is no such file; correct the path after --params-file'
        )
    content = read_yaml(path)
    found: dict[str, set[str]] = {}
    if content is not None:
        _add_sections(path, '', content, found)
    return found


def _add_sections(path: str, name: str, content: Any, found: dict[str, set[str]]) -> None:
    if not isinstance(content, dict):
        where = f' below {quoted(name)}' if name else ''
        raise ValueError(f'{path}: expected {_SHAPE}; got {quoted(content)}{where}')
    has_parameters = False
    for key, value in content.items():
        if key != KEY and has_parameters and name:
            inner = f'{name}/{str(key).strip("/")}'
            raise ValueError(
                f'{path}: section {quoted(key)} stands below the ros__parameters of '
                f'{quoted(name)}, where ROS cannot read it; write it before them, or at the top '
                f"level as '{shortened(inner)}:'"
            )
        if key == KEY:
            has_parameters = True
            if not isinstance(value, dict | None):
                raise ValueError(
                    f"{path}: expected 'name: value' below 'ros__parameters:' of {quoted(name)}, "
                    f'got {quoted(value)}'
                )
            found.setdefault('/' + name.strip('/'), set()).update(_flat(value or {}))
        else:
            _add_sections(path, f'{name}/{str(key).strip("/")}', value, found)


def _flat(parameters: dict, prefix: str = '') -> set[str]:
    """Return names as ROS has them: `a: {b: 1}` is `a.b`."""
    found = set()
    for key, value in parameters.items():
        found |= _flat(value, f'{prefix}{key}.') if isinstance(value, dict) else {f'{prefix}{key}'}
    return found


def means(pattern: str, node_name: str) -> bool:
    """Whether a name with wildcards means a node: `*` is one token, `**` any number of them."""
    parts = [
        {'**': r'(/\w+)*', '*': r'/\w+'}.get(token, '/' + re.escape(token))
        for token in pattern.strip('/').split('/')
    ]
    return re.fullmatch(''.join(parts), node_name) is not None


def rule_of(rule: str) -> tuple[str, str, str]:
    """Return node (or ''), name and text of `[node:]name:=value`."""
    left, _, text = rule.partition(':=')
    node, _, name = left.rpartition(':')
    return node, name, text


def _check_remap(rule: str) -> None:
    """Refuse a rule whose new name ROS does not allow."""
    old, is_rule, name = rule.partition(':=')
    is_namespace = old.rpartition(':')[2] == '__ns'
    if not is_rule or (is_namespace and name == '/'):
        return  # of what is no rule, rcl says what it should look like
    _check_name(shortened(rule), name, '/' if is_namespace else re.match('~?/?', name).group())


def _check_name(what: str, name: str, root: str) -> None:
    """Refuse a name that is not `root` and tokens with single slashes in between."""
    if name.startswith(root) and all(map(_TOKEN.fullmatch, name[len(root) :].split('/'))):
        return
    tokens = [token for token in name.split('/') if token]
    fixed = '/'.join(re.sub(r'^(\d)|\W', r'_\1', token, flags=re.ASCII) for token in tokens)
    raise ValueError(
        f'{what}: expected {"/ and " if root == "/" else ""}a name of letters, digits and _, no '
        'part of which begins with a digit, with single slashes between parts; got '
        f'{quoted(name)}; for example {shortened(root + (fixed or "name"))}'
    )
