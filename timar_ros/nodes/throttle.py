# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Warnings of a node, each kind of them at most every few seconds."""

import re
import time

_EVERY_S = 5.0
_MAX_KINDS = 1000


class ThrottledWarnings:
    """
    Log texts, but not each time again with other numbers. Any thread may warn.

    Args:
        logger: of the node.
    """

    def __init__(self, logger):
        self._logger = logger
        self._told_s: dict[str, float] = {}

    def warn(self, text: str) -> None:
        """Log a text, unless one that differs by its numbers only was logged just now."""
        kind, now_s = re.sub(r'[-+\d.]+', '#', text), time.monotonic()
        if now_s - self._told_s.get(kind, -_EVERY_S) < _EVERY_S:
            return
        if len(self._told_s) > _MAX_KINDS:
            self._told_s.clear()
        self._told_s[kind] = now_s
        self._logger.warning(text)
