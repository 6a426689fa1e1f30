# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for signals that ask a process to end, so that it can bring the head to rest first.

Not for what a node does then. Ctrl-C as an exception is lost where it hits a finalizer, and Python
ends as if killed where it hits an import; rclpy's own handlers end the context before the last
commands are out.
"""

import os
import signal

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)
# The first process of a container: the kernel keeps default actions of signals from it.
_IS_FIRST = os.getpid() == 1


class EndRequest:
    """
    Take SIGINT, SIGTERM, SIGQUIT and SIGHUP as a request to end; a second one ends at once.

    SIGINT and SIGQUIT also where they were ignored, as in a job that a script starts in the
    background; SIGHUP not, since `nohup` asks for that. For the main thread, with rclpy's own
    handlers off.

    Attributes:
        is_made: a signal has come.
    """

    def __init__(self):
        self.is_made = False
        kinds = [*_SIGNALS]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            kinds.append(signal.SIGHUP)
        self._kinds = kinds
        for kind in kinds:
            signal.signal(kind, self._on_signal)

    def spin(self, executor, is_over=lambda: False, period_s: float = 0.05) -> None:
        """
        Run callbacks until a signal has come, `is_over()`, or the context is shut down.

        Args:
            executor: of the nodes.
            is_over: looked at after each callback, and at least every `period_s`.
            period_s: longest time between two looks.
        """
        while not self.is_made and executor.context.ok() and not is_over():
            executor.spin_once(timeout_sec=period_s)

    def _on_signal(self, kind, frame) -> None:
        if self.is_made:
            os._exit(128 + kind)
        self.is_made = True
        if not _IS_FIRST:
            # The kernel's own action also ends a process that hangs inside a library.
            for each in self._kinds:
                signal.signal(each, signal.SIG_DFL)
