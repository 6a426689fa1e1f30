# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The request to end, at any moment of a process."""

import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.graph

_PROGRAM = """
import os, signal
from timar_ros.nodes.ending import EndRequest

{before}
request = EndRequest()
assert not request.is_made
{moment}
print('made' if request.is_made else 'not made')
"""
_MOMENTS = {
    'code': 'os.kill(os.getpid(), signal.{name})',
    'exec': 'exec("os.kill(os.getpid(), signal.{name})")',
    'finalizer': """
class Leaving:
    def __del__(self):
        os.kill(os.getpid(), signal.{name})
Leaving()
""",
}
_NAMES = ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT')


def run(moment: str, before: str = '') -> tuple[int, str]:
    """Return how a process ended that was asked to at a moment, and what it printed."""
    command = [sys.executable, '-c', _PROGRAM.format(moment=moment, before=before)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize('name', _NAMES)
@pytest.mark.parametrize('moment', _MOMENTS)
def test_a_request_to_end_is_taken_at_any_moment_and_the_program_continues(moment, name):
    assert run(_MOMENTS[moment].format(name=name)) == (0, 'made\n')


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('SIGINT', 'made\n'),
        ('SIGQUIT', 'made\n'),  # a job that a script starts in the background ignores both
        ('SIGHUP', 'not made\n'),  # nohup
    ],
)
def test_signals_that_were_ignored_ask_for_the_end_except_that_of_nohup(name, said):
    before = f'signal.signal(signal.{name}, signal.SIG_IGN)'

    assert run(_MOMENTS['code'].format(name=name), before) == (0, said)


@pytest.mark.parametrize('name', _NAMES)
def test_the_second_signal_ends_at_once_without_a_traceback(name):
    two = [_MOMENTS['code'].format(name=each) for each in ('SIGINT', name)]

    code, text = run('\n'.join([*two, 'import time', 'time.sleep(20)']))

    assert (code, text) == (128 + getattr(signal, name), '')


def test_the_second_signal_ends_a_process_that_hangs_inside_a_library():
    hanging = """
import ctypes
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
restarts_after_a_signal = ctypes.CDLL(None).sem_wait
semaphore = ctypes.create_string_buffer(32)
while True:  # and runs no Python handler
    restarts_after_a_signal(semaphore)
"""

    code, text = run(_MOMENTS['code'].format(name='SIGTERM') + hanging, 'import threading')

    assert (code, text) == (128 + signal.SIGTERM, '')


def test_other_signals_that_python_handles_do_not_end_it():
    before = 'signal.signal(signal.SIGUSR1, lambda *_: None)'
    moment = '\n'.join(
        _MOMENTS['code'].format(name=name) for name in ('SIGUSR1', 'SIGTERM', 'SIGUSR1')
    )

    assert run(moment, before) == (0, 'made\n')
