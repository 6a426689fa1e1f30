# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the files that come with the package are: its source tree, or its installed share."""

import pathlib

SHIPPED_CHECKPOINT = 'config/models/mini.safetensors'


def find_shared(relative: str) -> pathlib.Path:
    """
    Find a file that comes with the package, e.g. 'msg/AudioChunk.msg'.

    Works in the source tree and under any install prefix: it is looked for beside each folder
    above this file, and in `share/timar_ros` there.

    Raises:
        FileNotFoundError: it is in none of them.
    """
    for folder in pathlib.Path(__file__).absolute().parents:
        for path in (folder / relative, folder / 'share' / 'timar_ros' / relative):
            if path.is_file():
                return path
    raise FileNotFoundError(
        f'{relative} is not beside this installation of timar_ros; build the package with colcon, '
        'or run in its source tree'
    )
