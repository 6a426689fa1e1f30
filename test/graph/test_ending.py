# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The wish to end, at any moment of a process."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.graph

_PROGRAM = """
import os, signal
from timar_ros.nodes.ending import EndRequest

request = EndRequest()
assert not request.is_made
{moment}
assert request.is_made
request.spin(None)  # needs no callback to end
print('rested')
"""
_MOMENTS = {
    'code': 'os.kill(os.getpid(), signal.SIGINT)',
    'exec': 'exec("os.kill(os.getpid(), signal.SIGTERM)")',
    'finalizer': """
class Leaving:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
Leaving()
""",
}


def run(moment: str) -> tuple[int, str]:
    """Return how a process ended that was told to at a moment, and what it said."""
    command = [sys.executable, '-c', _PROGRAM.format(moment=moment)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize('moment', _MOMENTS)
def test_the_wish_to_end_is_taken_at_any_moment_and_the_rest_goes_on(moment):
    assert run(_MOMENTS[moment]) == (0, 'rested\n')


def test_the_second_wish_ends_at_once():
    code, text = run('\n'.join([_MOMENTS['code']] * 2))

    assert code != 0
    assert 'KeyboardInterrupt' in text
    assert 'rested' not in text
