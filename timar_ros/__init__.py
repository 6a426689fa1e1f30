# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A talking and listening robot's head motion; the generated messages join this package's path."""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
