# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where commands may write: only over files that they wrote themselves.

Responsible for refusing, before any work is done. Not for what the files are. A command that runs
again replaces its own files; each command decides how it recognises them.
"""

from collections.abc import Callable, Iterable
import json
import pathlib

from timar_ros.strict import shortened


def check_new_file(path: str | pathlib.Path) -> None:
    """
    Refuse to write over a file.

    Raises:
        ValueError: it is there already.
    """
    if pathlib.Path(path).exists():
        raise ValueError(f'{path} is there already; choose another name, or delete it first')


def check_own_files(
    folder: str | pathlib.Path,
    names: Iterable[str],
    is_own: Callable[[pathlib.Path], bool],
    command: str,
) -> None:
    """
    Refuse to write over files that a command did not write itself.

    Args:
        folder: that it writes to.
        names: of what it writes there.
        is_own: returns whether the files in the folder were written by the command.
        command: its name.

    Raises:
        ValueError: one of them is there and was not written by the command.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f'{folder} is a file, expected a folder; choose another --out')
    there = [name for name in names if (folder / name).exists()]
    if there and not is_own(folder):
        raise ValueError(
            f'{folder} holds {shortened(", ".join(there))}, which {command} did not write; choose '
            'another --out'
        )


def has_keys(path: pathlib.Path, *keys: str) -> bool:
    """Return whether the first JSON value of a file is an object with these keys."""
    try:
        text = path.read_text('utf-8').lstrip()
        content, _ = json.JSONDecoder().raw_decode(text)
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(keys) <= set(content)
