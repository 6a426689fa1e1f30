# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for how a command without ROS ends: exit code, refusal and Ctrl-C in one line.

Not for nodes, which bring heads to rest first.
"""

from collections.abc import Callable
import os
import signal
import sys

from timar_ros.strict import in_a_sentence

_INTERRUPTED = 130  # as shells have it


def end(name: str, main: Callable[[], int | None]) -> None:
    """
    Run a command and exit with its code; 1 where it refuses its input, 130 at Ctrl-C.

    Args:
        name: put before the sentence.
        main: returns the exit code, None for 0.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        code = main()
    except (OSError, ValueError) as problem:
        sys.exit(f'{name}: {in_a_sentence(problem)}')
    except KeyboardInterrupt:
        sys.stdout.flush()
        sys.stderr.write(f'\n{name}: interrupted\n')
        sys.stderr.flush()
        # At once: a library that is torn down amid its work prints traces of its own.
        os._exit(_INTERRUPTED)
    sys.exit(code)
