# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for a node's command line besides ROS's arguments: help, and words that nobody reads.

Not for ROS's own arguments, between `--ros-args` and `--`: `param_files.check_arguments`.
"""

import dataclasses

from timar_ros.nodes.params import allowed_text
from timar_ros.strict import did_you_mean, shortened


def own_words(args: list[str]) -> list[str]:
    """Return those arguments that are not ROS's."""
    found, is_ros = [], False
    for word in args:
        if word == '--ros-args':
            is_ros = True
        elif is_ros:
            is_ros = word != '--'
        else:
            found.append(word)
    return found


def check_words(args: list[str], params_class, options: dict[str, str]) -> None:
    """
    Refuse words that a node would otherwise ignore.

    Args:
        args: of the command line, with ROS's.
        params_class: dataclass of the node's parameters.
        options: words that it takes -> what they do.

    Raises:
        ValueError: one sentence for the first, with what works.
    """
    words = own_words(args)
    for index, word in enumerate(words):
        if word not in options:
            following = words[index + 1] if index + 1 < len(words) else ''
            remedy = _remedy(word, following, params_class, options)
            raise ValueError(f'unexpected {_shown(word)}{remedy}')


def help_text(name: str, params_class, options: dict[str, str]) -> str:
    """
    Return the text of `--help`.

    Args:
        name: of the executable.
        params_class: dataclass of the node's parameters.
        options: words that it takes -> what they do.
    """
    options = {'-h, --help': 'show this text', **options}
    width = max(map(len, options))
    lines = [
        f'usage: ros2 run timar_ros {name} [--ros-args -p NAME:=VALUE ... --params-file FILE]',
        f'   or: python -m timar_ros.nodes.{name} [--ros-args ...]',
        '',
        'options:',
        *(f'  {word:<{width}}  {meaning}' for word, meaning in options.items()),
        '',
        'parameters [default]:',
    ]
    fields = dataclasses.fields(params_class)
    width = max(len(field.name) for field in fields)
    for field in fields:
        allowed = allowed_text(field.metadata)
        text = '; '.join(filter(None, [field.metadata['description'], allowed]))
        default = f'{value_text(field.default)} {field.metadata["unit"]}'.strip()
        lines.append(f'  {field.name:<{width}}  {text} [{default}]')
    return '\n'.join(lines) + '\n'


def value_text(value) -> str:
    """Return the value of a parameter as one would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return str(value) if value != '' else "''"


def _shown(word: str) -> str:
    return f"'{shortened(word)}'"


def _remedy(word: str, following: str, params_class, options: dict[str, str]) -> str:
    """Return what to write instead of a word, as the end of a sentence."""
    names = [field.name for field in dataclasses.fields(params_class)]
    left, is_rule, value = word.partition(':=')
    if is_rule and (left.startswith('__') or '/' in left + value and left not in names):
        return f'; names are given as --ros-args -r {shortened(word)}'
    if not is_rule:
        left, is_rule, value = word.partition('=')
        value = value if is_rule else following
    left = left.lstrip('-')
    if left in names:
        shown = shortened(value) if value and not value.startswith('-') else 'VALUE'
        return f'; parameters are given as --ros-args -p {left}:={shown}'
    hint = did_you_mean(word, ['--help', *options]) if word.startswith('-') else ''
    hint = hint or did_you_mean(left, names)
    return f'{hint}; parameters are given as --ros-args -p NAME:=VALUE, and --help lists them'
