# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for callbacks that raise: they are logged and counted, and the node keeps running.

Not for what a callback does: a refusal that is expected belongs into the callback, with a sentence
for the user. rclpy's own executors end the process, and with it every node in it.
"""

import collections
import pathlib
import time
import traceback

from rclpy.executors import (
    ExternalShutdownException,
    ShutdownException,
    SingleThreadedExecutor,
    TimeoutException,
)

from timar_ros.nodes.throttle import ThrottledWarnings
from timar_ros.strict import shortened

_LONGEST_TRACE = 3000  # characters
_N_FRAMES = 6  # of a trace, the innermost
# The wait itself may fail for a moment, where an entity goes while it is waited for.
_MAX_FAILED_WAITS = 100
_PAUSE_S = 0.01


class FaultTolerantExecutor(SingleThreadedExecutor):
    """
    Run callbacks in one thread; log and count the exceptions of those that raise.

    KeyboardInterrupt and SystemExit pass, and so does a shutdown of the context.

    Attributes:
        n_exceptions: of each node's callbacks.
    """

    def __init__(self, *, context=None):
        super().__init__(context=context)
        self.n_exceptions = collections.Counter()
        self._logs = {}
        self._failed_waits = 0

    def spin_once(self, timeout_sec=None) -> None:
        """Wait for one callback, at most so long, and run it."""
        try:
            task, _, node = self.wait_for_ready_callbacks(timeout_sec=timeout_sec)
        except (ShutdownException, ExternalShutdownException, TimeoutException):
            self._failed_waits = 0
            return
        except Exception as error:
            self._on_failed_wait(error)
            return
        self._failed_waits = 0
        task()
        error = task.exception()
        # Without a context nothing can be published any more, which callbacks do not look for.
        if error is not None and self.context.ok():
            self._report(node, error)

    def _on_failed_wait(self, error: Exception) -> None:
        if not self.context.ok():
            return
        self._failed_waits += 1
        if self._failed_waits > _MAX_FAILED_WAITS:
            raise error
        for node in self.get_nodes():
            self._report(node, error)
        time.sleep(_PAUSE_S)

    def _report(self, node, error: Exception) -> None:
        if node is None:  # a task of the executor's own
            nodes = self.get_nodes()
            if not nodes:
                return
            node = nodes[0]
        self.n_exceptions[node] += 1
        if node not in self._logs:
            self._logs[node] = ThrottledWarnings(node.get_logger())
        self._logs[node].error(
            f'a callback failed, and the node continues: {_where(error)}: '
            f'{type(error).__name__}: {shortened(_text(error), 200)}',
            details=lambda: shortened(_trace(error), _LONGEST_TRACE),
        )


def _text(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # an exception of a library may fail at this, too
        return 'no text'


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return f'{pathlib.Path(frames[-1].filename).name}:{frames[-1].lineno}' if frames else '?'


def _trace(error: Exception) -> str:
    return ''.join(traceback.format_tb(error.__traceback__, limit=-_N_FRAMES)).rstrip()
