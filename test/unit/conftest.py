# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Modules that several tests share are imported from the folder above."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
