# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a process with nodes needs of its environment, looked at before ROS is initialized.

Responsible for the domain, the place of this package, and a folder for logs. Not for arguments.
"""

import os
import pathlib
import sys
import tempfile

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from timar_ros.strict import quoted, shortened

_HIGHEST_DOMAIN = 232  # of DDS: the highest whose ports exist


def prepare() -> None:
    """
    Check the environment; choose a folder for logs where ROS's own cannot be written.

    Raises:
        ValueError: something is wrong with it; one sentence with what to do.
    """
    _check_domain()
    share_folder()
    _choose_log_folder()


def share_folder() -> pathlib.Path:
    """
    Return the folder of this package's configuration, robots and weights.

    Raises:
        ValueError: ROS does not find the package.
    """
    try:
        return pathlib.Path(get_package_share_directory('timar_ros'))
    except (PackageNotFoundError, OSError, ValueError):
        searched = shortened(os.environ.get('AMENT_PREFIX_PATH', '') or 'empty', 200)
        raise ValueError(
            f'the package timar_ros is not found: AMENT_PREFIX_PATH is {searched}; source '
            'install/setup.bash of the workspace that it is built in'
        ) from None


def _check_domain() -> None:
    text = os.environ.get('ROS_DOMAIN_ID', '')
    if not text or 'zenoh' in os.environ.get('RMW_IMPLEMENTATION', ''):  # has no such bound
        return
    is_number = text.isascii() and text.isdecimal() and len(text) < 10
    if not is_number or int(text) > _HIGHEST_DOMAIN:
        raise ValueError(
            f'ROS_DOMAIN_ID must be a whole number from 0 to {_HIGHEST_DOMAIN}, got '
            f'{quoted(text)}; set another, the same for all nodes that are to meet'
        )


def _choose_log_folder() -> None:
    folder = _log_folder()
    if folder is not None and _is_writable(folder):
        return
    reason = 'HOME is not set' if folder is None else f'{folder} cannot be written'
    try:
        own = pathlib.Path(tempfile.gettempdir()) / f'timar_ros_log_{os.getuid()}'
        # Others could have made a folder or a link of that name.
        if not _is_writable(own) or own.is_symlink() or own.stat().st_uid != os.getuid():
            own = pathlib.Path(tempfile.mkdtemp(prefix='timar_ros_log_'))
    except OSError:
        raise ValueError(
            f'no folder for logs: {reason}, nor can one for temporary files; set ROS_LOG_DIR to a '
            'folder that can be written'
        ) from None
    os.environ['ROS_LOG_DIR'] = str(own)
    sys.stderr.write(f'{reason}: logs go to {own}; set ROS_LOG_DIR to choose another folder\n')


def _log_folder() -> pathlib.Path | None:
    """Return where ROS writes its logs, as rcl_logging_interface decides; None: nowhere."""
    own, ros_home = os.environ.get('ROS_LOG_DIR'), os.environ.get('ROS_HOME')
    folder = own or f'{ros_home or "~/.ros"}/log'
    if not folder.startswith('~'):
        return pathlib.Path(folder)
    home = os.environ.get('HOME')  # not that of the user database, which ROS does not read
    return pathlib.Path(home + folder[1:]) if home else None


def _is_writable(folder: pathlib.Path) -> bool:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # An access that is granted may still fail: of root, or on a file system without writing.
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
