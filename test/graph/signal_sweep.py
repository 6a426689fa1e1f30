# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for signals sent to nodes at many moments of their start, and how they end.

    python test/graph/signal_sweep.py [--moments 50] [--signals SIGINT SIGTERM] [--nodes face neck]

Prints each end that is wrong, and a line a node and signal. Not a test by itself: test_signals.py
runs a handful of moments.
"""

import argparse
import collections
import dataclasses
import os
import signal
import subprocess
import sys
import time

SIGNALS = ('SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT')
# What each program is started with, and what it logs when it is up.
PROGRAMS = {
    'conversation': (['--ros-args', '-p', 'threads:=1'], 'active: a new conversation'),
    'face': (['--ros-args', '-p', 'port:=0'], 'the face is at'),
    'neck': (['--ros-args', '-p', 'robot:=nao'], 'neck of nao'),
    'speaker': (['--ros-args', '-p', 'playback:=false'], ''),
    'microphone': ([], ''),
    'replay': (['--ros-args', '-p', 'user:={user}', '-p', 'wait_s:=600.0'], ''),
    'bringup': (['microphone:=false', 'speaker:=false', 'face_port:=0', 'robot:=nao'], 'active:'),
}
_PATIENCE_S = 30.0
_FIRST_S = 0.12


@dataclasses.dataclass(frozen=True)
class End:
    """How a program ended that got signals, and when it got the first."""

    name: str
    kinds: tuple[str, ...]
    after_s: float
    code: int | None  # None: it had to be killed
    took_s: float
    output: str

    @property
    def fault(self) -> str:
        """What is wrong with this end, '' for nothing."""
        if self.code is None:
            return f'hangs for {_PATIENCE_S:g} s'
        if 'Traceback' in self.output:
            # Of Python's own start, before our first line, nobody can say how it ends.
            is_pythons = 'SIGINT' in self.kinds and 'timar_ros' not in self.output
            return '' if is_pythons else 'a traceback'
        numbers = [getattr(signal, kind) for kind in self.kinds]
        allowed = {0, *(-n for n in numbers), *(128 + n for n in numbers if len(numbers) > 1)}
        if self.code not in allowed and not (self.code == 1 and 'sound needs' in self.output):
            return f'exit code {self.code}'
        return ''

    def __str__(self):
        kinds, last = '+'.join(self.kinds), self.output.strip().splitlines()[-12:]
        ending = '\n    '.join(last)
        return f'{self.name} {kinds} after {self.after_s:.2f} s: {self.fault}\n    {ending}'


def start(name: str, user: str, **options) -> subprocess.Popen:
    """Start a program as a user does."""
    words = [word.replace('{user}', user) for word in PROGRAMS[name][0]]
    return subprocess.Popen(
        [sys.executable, '-m', f'timar_ros.nodes.{name}', *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **{'preexec_fn': _default_signals, **options},
    )


def _default_signals() -> None:
    """Take signals as in a terminal, also where this is a job in the background."""
    for kind in SIGNALS:
        signal.signal(getattr(signal, kind), signal.SIG_DFL)


def end_after(name: str, user: str, after_s: float, *kinds: str, gap_s: float = 0.02) -> End:
    """Start a program, send it signals after a while, and wait for its end."""
    process = start(name, user)
    time.sleep(after_s)
    sent_s = time.monotonic()
    for kind in kinds:
        process.send_signal(getattr(signal, kind))
        time.sleep(gap_s if len(kinds) > 1 else 0)
    try:
        output, code = process.communicate(timeout=_PATIENCE_S)[0], process.returncode
    except subprocess.TimeoutExpired:
        process.kill()
        output, code = process.communicate()[0], None
    return End(name, kinds, after_s, code, time.monotonic() - sent_s, output)


def time_to_start(name: str, user: str) -> float:
    """Return how long a program takes until it is up, s."""
    process, sign = start(name, user), PROGRAMS[name][1]
    begun_s = time.monotonic()
    if sign:
        while sign not in (line := process.stdout.readline()):
            assert line, f'{name} ended by itself'
    else:
        time.sleep(2.0)
    took_s = time.monotonic() - begun_s
    process.kill()
    process.communicate()
    return took_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--moments', type=int, default=50)
    parser.add_argument('--signals', nargs='+', default=SIGNALS)
    parser.add_argument('--nodes', nargs='+', default=list(PROGRAMS))
    parser.add_argument('--user', default='config/demo/user.wav')
    args = parser.parse_args()
    user, n_wrong = os.path.abspath(args.user), 0
    for name in args.nodes:
        until_s = 1.3 * time_to_start(name, user) + 0.7  # and while it runs
        for kind in args.signals:
            ends = [
                end_after(name, user, _FIRST_S + i * (until_s - _FIRST_S) / args.moments, kind)
                for i in range(args.moments)
            ]
            wrong = [end for end in ends if end.fault]
            n_wrong += len(wrong)
            codes = dict(collections.Counter(end.code for end in ends))
            longest_s = max(end.took_s for end in ends)
            line = (
                f'{name} {kind}: {len(ends)} moments to {until_s:.1f} s, {len(wrong)} wrong, '
                f'codes {codes}, longest end {longest_s:.2f} s'
            )
            sys.stdout.write('\n'.join([*map(str, wrong), line, '']))
            sys.stdout.flush()
    return n_wrong > 0


if __name__ == '__main__':
    sys.exit(main())
