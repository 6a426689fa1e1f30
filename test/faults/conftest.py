# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Make the bench's modules importable."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
