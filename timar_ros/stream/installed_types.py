# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Definitions of messages of the packages that are installed here, for bags that bring none.

Responsible for finding them as plain files, `share/<package>/msg/<Name>.msg` below the folders of
AMENT_PREFIX_PATH, which sourcing a ROS workspace sets. Not for what they mean. No ROS is imported;
names out of a bag are checked before they become paths, and sizes before a file is read.
"""

from collections.abc import Callable
import os
import pathlib
import re

_NAME = re.compile(r'([a-z][a-z0-9_]{0,99})/msg/([A-Za-z][A-Za-z0-9]{0,99})')
_FIELD = re.compile(
    r'^\s*([A-Za-z][A-Za-z0-9_]*(?:/[A-Za-z0-9_]+){0,2})(?:\[[^\]]*\]|<=\d+)*\s+\w'
)
_LARGEST = 100_000  # bytes of one definition
_MOST = 64  # types that one is made of
_MOST_FOLDERS = 100


def find_definitions(msgtype: str, is_known: Callable[[str], bool]) -> dict[str, str]:
    """
    Find the definition of a type and of those that it is made of.

    Args:
        msgtype: such as 'std_msgs/msg/Header'.
        is_known: whether a type needs no definition.

    Returns:
        type -> text, with a name of the form 'package/msg/Name'; empty where one is not installed.
    """
    found: dict[str, str] = {}
    wanted = [msgtype]
    while wanted:
        name = wanted.pop()
        if name in found or is_known(name):
            continue
        text = _read(name)
        if text is None or len(found) >= _MOST:
            return {}
        found[name] = text
        wanted += _parts(text, name.partition('/')[0])
    return found


def _read(msgtype: str) -> str | None:
    match = _NAME.fullmatch(msgtype)
    if not match:
        return None
    package, name = match.groups()
    for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)[:_MOST_FOLDERS]:
        if not prefix:
            continue
        path = pathlib.Path(prefix, 'share', package, 'msg', f'{name}.msg')
        try:
            if not path.is_file():
                continue
            with open(path, 'rb') as file:
                data = file.read(_LARGEST + 1)
            if len(data) <= _LARGEST:
                return data.decode()
        except (OSError, ValueError):
            continue
    return None


def _parts(text: str, package: str) -> list[str]:
    """Return the types of other messages that a definition names."""
    parts = []
    for line in text.splitlines():
        match = _FIELD.match(line.partition('#')[0])
        name = match.group(1) if match else ''
        if '/' in name:
            parts.append('/msg/'.join((name.split('/')[0], name.split('/')[-1])))
        elif name[:1].isupper():
            parts.append(f'{package}/msg/{name}')
        elif name == 'Header':
            parts.append('std_msgs/msg/Header')
    return parts
