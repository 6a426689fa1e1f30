# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Strangers' text, YAML and JSON files: read within bounds, quoted briefly in our error messages.

Responsible for reading, quoting and suggesting names. Not for what a file or a text means.
"""

import argparse
from collections.abc import Callable, Iterable
import difflib
import json
import math
import pathlib
import re
import reprlib
from typing import Any

import yaml

_LONGEST = 80
# difflib compares character by character; a text longer than this is no misspelt name.
_LONGEST_NAME = 100
_LARGEST_TEXT = 1_000_000  # bytes
_MOST_DIGITS = 20  # of a whole number

_WORD = re.compile(r'[A-Z]?[a-z]+|[A-Z]+(?![a-z])')
# Of each line a name has one: with another it is another thing, however alike its letters are.
_OTHERS = tuple(
    tuple(frozenset(words.split('=')) for words in line.split())
    for line in (
        'left=l right=r',
        'front rear=back',
        'upper=max=maximum=highest lower=min=minimum=lowest',
        'pan=yaw tilt=pitch roll',
        'x y z w',
        'position velocity acceleration jerk effort=torque current',
        'enable=enabled disable=disabled',
        'start stop=end',
        'user agent',
        'on off',
    )
)
_UNITS = frozenset('rad deg s ms us ns hz khz db mm cm m'.split())
_NEGATIONS = ('un', 'in', 'dis', 'non', 'no', 'de')

_quote = reprlib.Repr()
_quote.maxstring = _quote.maxother = _quote.maxlong = _LONGEST
_quote.maxlevel = 2


def quoted(value: Any) -> str:
    """
    Return `repr(value)`, shortened: about 80 characters of a text, six items of a list.

    Safe for values of any size or depth, as a stranger's message or file may hold them.
    """
    return _quote.repr(value)


def shortened(text: str, longest: int = _LONGEST) -> str:
    """Return `text` with at most `longest` characters; an ellipsis marks the rest."""
    return text if len(text) <= longest else f'{text[: longest - 1]}…'


def whole_number(lowest: int, highest: int = 10**9) -> Callable[[str], int]:
    """Return a reader of a command's option that is a whole number; its errors are argparse's."""

    def read(text: str) -> int:
        digits = text.removeprefix('-')
        is_whole = digits.isascii() and digits.isdecimal() and len(digits) < _MOST_DIGITS
        if not is_whole or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(
                f'expected a whole number {_range(lowest, highest, 10**9)}, got {quoted(text)}'
            )
        return int(text)

    return read


def number(lowest: float, highest: float = math.inf) -> Callable[[str], float]:
    """Return a reader of a command's option that is a number; its errors are argparse's."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (lowest <= value <= highest and math.isfinite(value)):
            raise argparse.ArgumentTypeError(
                f'expected a number {_range(lowest, highest, math.inf)}, got {quoted(text)}'
            )
        return value

    return read


def _range(lowest, highest, unlimited) -> str:
    return f'from {lowest} on' if highest == unlimited else f'from {lowest} to {highest}'


def in_a_sentence(error: Exception) -> str:
    """Return what an error says, for a command to end with; the system's begin with the path."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f'{shortened(str(error.filename), 200)}: {error.strerror}; choose another path'
    return str(error)


def did_you_mean(name: Any, known: Iterable[Any]) -> str:
    """
    Return `; did you mean 'x'?` for the nearest of the known names, or an empty text.

    A name that means something else in spite of its letters is not proposed ('right_arm' for
    'left_arm', 'enable' for 'disable'); of one in another unit it is said.
    """
    text = str(name)
    if len(text) > _LONGEST_NAME:
        return ''
    by_letters = {str(each).lower(): str(each) for each in known if not is_opposite(text, each)}
    close = difflib.get_close_matches(text.lower(), by_letters, n=1)
    if not close:
        return ''
    units = [_words(each) & _UNITS for each in (text, by_letters[close[0]])]
    unit = ' (its value is in another unit)' if all(units) and units[0] != units[1] else ''
    return f'; did you mean {by_letters[close[0]]!r}?{unit}'


def is_opposite(name: Any, other: Any) -> bool:
    """Return whether two names hold words that exclude each other, such as left and right."""
    words, others = _words(name), _words(other)
    for meanings in _OTHERS:
        ours, theirs = ({m for m in meanings if m & each} for each in (words, others))
        if ours and theirs and not ours & theirs:
            return True
    return _negates(words, others) or _negates(others, words)


def _words(name: Any) -> set[str]:
    return {word.lower() for word in _WORD.findall(str(name))}


def _negates(words: set[str], others: set[str]) -> bool:
    """Return whether one of some words is one of the others with a prefix such as un-."""
    return any(prefix + other in words for prefix in _NEGATIONS for other in others - words)


def why_no_file(path: str | pathlib.Path, kind: str, fix: str) -> str:
    """
    Return why a path is not a file that can be read, and what to do; '' where it is one.

    Args:
        path: as the user gave it.
        kind: of file that is expected, such as 'recording'.
        fix: what to do where nothing is there.
    """
    path = pathlib.Path(path)
    try:
        if path.is_file():
            return ''
        if path.is_dir():
            return f'{path} is a folder, expected a {kind}; {fix}'
        if path.exists():
            return f'{path} is a pipe or a device, expected a {kind}; write it to a file first'
    except (OSError, ValueError) as error:  # a name too long, a name with a zero
        return f'no {kind} at {shortened(str(path))}: {getattr(error, "strerror", error)}; {fix}'
    if str(path).startswith('~'):
        return f"no {kind} at {path}: nothing replaced '~'; give the path without it"
    return f'no {kind} at {shortened(str(path), 200)}; {fix}'


def parse_json(text: str | bytes, source: str) -> Any:
    """
    Read JSON of at most 1 MB.

    Args:
        text: UTF-8.
        source: file or place that it came from, for the message.

    Raises:
        ValueError: it is too large, nested too deep, names a key twice, or is no JSON; one
            sentence.
    """
    if len(text) > _LARGEST_TEXT:
        raise ValueError(f'{source}: expected at most 1 MB of JSON, got {len(text):,} bytes')
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError(f'{source}: not valid JSON: nested too deep; flatten it') from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise ValueError(f'{source}: not valid JSON: {shortened(str(error), 200)}') from None


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        raise ValueError(f'{quoted(twice)} is there twice; remove one')
    return content


def read_json(path: str | pathlib.Path) -> dict:
    """
    Read a JSON object from a file of at most 1 MB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `parse_json`, or it is no JSON object; one sentence.
    """
    content = parse_json(_read_text(path, 'JSON'), str(path))
    if not isinstance(content, dict):
        raise ValueError(f'{path}: expected a JSON object, got {quoted(content)}')
    return content


def read_yaml(path: str | pathlib.Path) -> Any:
    """
    Read a YAML file of at most 1 MB.

    Returns:
        its content; None for an empty file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is too large, nested too deep, or no YAML; one sentence with the place.
    """
    text = _read_text(path, 'YAML')
    try:
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError(f'{path}: not valid YAML: nested too deep; flatten it') from None
    # NOTE: PyYAML's constructors raise what Python's own do: a date of month 13 is a ValueError.
    except (yaml.YAMLError, ValueError, OverflowError, KeyError, AttributeError) as error:
        raise ValueError(
            f'{path}: not valid YAML: {shortened(" ".join(str(error).split()), 200)}; '
            'check indentation, colons and brackets there'
        ) from None


def _read_text(path: str | pathlib.Path, kind: str) -> bytes:
    try:
        with open(path, 'rb') as file:
            text = file.read(_LARGEST_TEXT + 1)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # a folder, a name too long, a name with a zero
        raise ValueError(f'{shortened(str(path))}: cannot be read: {error}') from None
    if len(text) > _LARGEST_TEXT:
        raise ValueError(f'{path}: expected {kind} of at most 1 MB, got more; give the right file')
    return text
