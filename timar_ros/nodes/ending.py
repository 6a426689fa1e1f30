# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Ends that leave time for a last motion.

Ctrl-C as an exception is lost where it hits a finalizer, and Python ends as if killed where it
hits an import; rclpy's own handlers end the context before the last commands are out.
"""

import signal

import rclpy


class EndRequest:
    """
    Take SIGINT and SIGTERM as the wish to end; the second of them is a KeyboardInterrupt.

    Also where SIGINT was ignored, as in a process that a script has started in the background.
    For the main thread, with rclpy's own handlers off.
    """

    def __init__(self):
        self.is_made = False
        for kind in (signal.SIGINT, signal.SIGTERM):
            signal.signal(kind, self._on_signal)

    def spin(self, executor, period_s: float = 0.05) -> None:
        """Run callbacks until the wish is there, which is looked for at least this often."""
        while not self.is_made and rclpy.ok():
            executor.spin_once(timeout_sec=period_s)

    def _on_signal(self, kind, frame) -> None:
        if self.is_made:
            raise KeyboardInterrupt
        self.is_made = True
