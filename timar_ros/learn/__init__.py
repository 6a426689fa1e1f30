# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training, evaluation and what they read and write."""

import signal
import sys

# Ctrl-C ends a command that is still importing, without a traceback; `command.end` handles it
# afterwards. Python has '-m' here only while it looks for the module that it is about to run.
if sys.argv[:1] == ['-m']:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
