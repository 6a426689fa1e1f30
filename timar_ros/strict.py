# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Strangers' text, YAML and JSON files: read within bounds, quoted briefly in our error messages.

Responsible for reading, quoting and suggesting names. Not for what a file or a text means.
"""

import argparse
from collections.abc import Iterable
import difflib
import json
import pathlib
import reprlib
from typing import Any

import yaml

_LONGEST = 80
# difflib compares character by character; a text longer than this is no misspelt name.
_LONGEST_NAME = 100
_LARGEST_TEXT = 1_000_000  # bytes

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


def count_from_1(text: str) -> int:
    """Read a command's option that counts something; its error is argparse's."""
    if not text.isdecimal() or not 1 <= len(text) <= 9 or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number from 1 on, got {quoted(text)}')
    return int(text)


def in_a_sentence(error: Exception) -> str:
    """Return what an error says, for a command to end with; the system's begin with the path."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f'{shortened(str(error.filename), 200)}: {error.strerror}; choose another path'
    return str(error)


def did_you_mean(name: Any, known: Iterable[Any]) -> str:
    """Return `; did you mean 'x'?` for the nearest of the known names, or an empty text."""
    text = str(name)
    if len(text) > _LONGEST_NAME:
        return ''
    by_letters = {str(each).lower(): str(each) for each in known}
    close = difflib.get_close_matches(text.lower(), by_letters, n=1)
    return f'; did you mean {by_letters[close[0]]!r}?' if close else ''


def read_json(path: str | pathlib.Path) -> dict:
    """
    Read a JSON object from a file of at most 1 MB.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is too large, nested too deep, or no JSON object; one sentence.
    """
    text = _read_text(path, 'JSON')
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError(f'{path}: not valid JSON: nested too deep; flatten it') from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise ValueError(f'{path}: not valid JSON: {shortened(str(error), 200)}') from None
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
