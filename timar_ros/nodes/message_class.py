# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for turning the name of a message type, as any publisher may claim it, into a class.

Not for choosing a type. A name on the graph is not code: only packages that have interfaces
in the ament index are imported, and only the interfaces listed there.
"""

import importlib
import re

from ament_index_python import get_resource

from timar_ros.strict import quoted, shortened

_NAME = re.compile(r'([a-z](?:_?[a-z0-9]+)*)/msg/([A-Z][A-Za-z0-9]*)')
_LONGEST = 200


def message_class(type_name: str):
    """
    Import a message class by its ROS name, e.g. 'timar_ros/msg/AudioChunk'.

    Raises:
        ValueError: the name is malformed, or no interface of that name is installed here.
    """
    match = _NAME.fullmatch(type_name) if len(type_name) <= _LONGEST else None
    if match is None:
        raise ValueError(
            f"a message type must look like 'package/msg/Name', got {quoted(type_name)}; "
            "'auto' takes the publisher's"
        )
    package, name = match.groups()
    fix = f'install or source the workspace of {package}, or publish timar_ros/msg/AudioChunk'
    try:
        listed, _ = get_resource('rosidl_interfaces', package)
    except (LookupError, OSError, ValueError):
        raise ValueError(
            f'{type_name} cannot be imported here: no package {package} with interfaces is '
            f'installed; {fix}'
        ) from None
    if not {f'msg/{name}.msg', f'msg/{name}.idl'} & set(listed.split()):
        raise ValueError(
            f'{type_name} cannot be imported here: package {package} has no such message; {fix}'
        )
    try:
        return getattr(importlib.import_module(f'{package}.msg'), name)
    # NOTE: a broken installation raises what it likes, and must not end the node.
    except (Exception, SystemExit) as error:
        raise ValueError(
            f'{type_name} cannot be imported here ({shortened(str(error))}); {fix}'
        ) from None
