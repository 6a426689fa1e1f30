# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for a node's log staying readable: each kind of message at most every few seconds.

Not for what a message says. A flood of different messages, or of long ones, costs little.
"""

import collections
import re
import threading
import time

from timar_ros.strict import shortened

_EVERY_S = 5.0
_MAX_KINDS = 200
_MAX_A_SECOND = 10  # of all kinds together
_LONGEST = 1000  # characters of a message
# What differs between two messages of one place in the code: numbers and quoted names.
_VARIABLE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[-+\d.]+""")
_LONGEST_KIND = 120


class ThrottledWarnings:
    """
    Log messages, but not each time again with other numbers or names. For any thread.

    Two messages are of one kind when they differ only in numbers and in quoted text. A kind is
    logged at most every 5 s, with how many of it were left out, and ten messages a second in all.

    Args:
        logger: of the node.
        now_s: reads a steady clock.
    """

    def __init__(self, logger, now_s=time.monotonic):
        self._logger = logger
        self._now_s = now_s
        self._lock = threading.Lock()
        # kind -> when it was last logged, and how many were left out since
        self._kinds: collections.OrderedDict[str, list] = collections.OrderedDict()
        self._recent_s = collections.deque(maxlen=_MAX_A_SECOND)

    def warn(self, text: str) -> None:
        """Log a warning, unless one of its kind was logged just now."""
        text = self._admitted(text)
        if text:
            self._logger.warning(text)

    def error(self, text: str, details=lambda: '') -> None:
        """
        Log an error, unless one of its kind was logged just now.

        Args:
            text: one sentence.
            details: returns what is logged below it; called only where it is logged.
        """
        text = self._admitted(text)
        if text:
            below = details()
            self._logger.error(f'{text}\n{below}' if below else text)

    def _admitted(self, text: str) -> str:
        """Return what to log of a text, '' for nothing."""
        text = shortened(text, _LONGEST)
        kind, now_s = _VARIABLE.sub('#', text)[:_LONGEST_KIND], self._now_s()
        with self._lock:
            last = self._kinds.get(kind)
            is_full = len(self._recent_s) == _MAX_A_SECOND and now_s - self._recent_s[0] < 1.0
            if last is not None and (is_full or now_s - last[0] < _EVERY_S):
                last[1] += 1
                return ''
            if is_full:
                return ''
            self._recent_s.append(now_s)
            self._kinds[kind] = [now_s, 0]
            self._kinds.move_to_end(kind)
            if len(self._kinds) > _MAX_KINDS:
                self._kinds.popitem(last=False)
        return f'{text} ({last[1]} more like this before)' if last and last[1] else text
