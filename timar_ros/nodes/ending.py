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
import threading

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT)


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
        for kind in kinds:
            signal.signal(kind, self._on_signal)
        # A thread sees the second signal even where the main one hangs inside a library.
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        watch = threading.Thread(target=_end_at_the_second, args=(reading, kinds), daemon=True)
        watch.start()

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
        self.is_made = True


def _end_at_the_second(reading: int, kinds) -> None:
    """Read the numbers of signals as they come; exit as shells do at the second that counts."""
    n_signals = 0
    while True:
        for kind in os.read(reading, 100):
            n_signals += kind in kinds
            if n_signals == 2:
                os._exit(128 + kind)
