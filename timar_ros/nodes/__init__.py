# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The nodes, each a program: `ros2 run timar_ros NAME` or `python -m timar_ros.nodes.NAME`."""

import signal
import sys

# Ctrl-C ends a program that is still importing, without a traceback and also as a background job
# of a script; later it handles signals by itself. Python has '-m' here only while it looks for the
# module that it is about to run.
if sys.argv[:1] == ['-m']:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
