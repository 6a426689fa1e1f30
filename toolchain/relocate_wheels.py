# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Point the CMake files of the ROS wheels at this Python instead of the one that built them.

The message packages export the absolute include folders of the machine that made the wheels: a
prefix that ends in `cp311-cp311`, with `include/python3.11` and `lib/python3.11/site-packages`
below it. CMake refuses a folder that does not exist, so both are rewritten. Running it again
changes nothing.
"""

from pathlib import Path
import re
import sys
import sysconfig

FOREIGN_INCLUDE = re.compile(r'[^";]*/cp3\d+-cp3\d+/include/python3\.\d+')
FOREIGN_SITE_PACKAGES = re.compile(r'[^";]*/cp3\d+-cp3\d+/lib/python3\.\d+/site-packages')


def relocate(text: str, include: str, site_packages: str) -> str:
    """Replace the building machine's folders in a CMake file's text by those of this Python."""
    text = FOREIGN_SITE_PACKAGES.sub(lambda _: site_packages, text)
    return FOREIGN_INCLUDE.sub(lambda _: include, text)


def main() -> None:
    """Relocate every CMake file in `share` of the running Python's prefix."""
    paths = sysconfig.get_paths()
    n_changed = 0
    for path in sorted(Path(sys.prefix, 'share').rglob('*.cmake')):
        text = path.read_text()
        relocated = relocate(text, paths['include'], paths['purelib'])
        if relocated != text:
            path.write_text(relocated)
            n_changed += 1
    print(f'relocated {n_changed} CMake files of the ROS wheels to {sys.prefix}')


if __name__ == '__main__':
    main()
