# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How commands end: refusals and Ctrl-C are one line, with the exit code that shells expect."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2] / 'timar_ros'
COMMANDS = (
    'learn/evaluate', 'learn/bench', 'learn/dualtalk', 'learn/train', 'learn/reaction',
    'learn/simulate', 'learn/bag_to_clips', 'benchmark', 'parity', 'model/convert',
)  # fmt: skip


@pytest.mark.parametrize(
    ('body', 'code', 'text'),
    [
        ('raise KeyboardInterrupt', 130, 'mine: interrupted'),
        ('os.kill(os.getpid(), signal.SIGINT); time.sleep(20)', 130, 'mine: interrupted'),
        ("raise ValueError('no such thing')", 1, 'mine: no such thing'),
        ('return 3', 3, ''),
        ('return None', 0, ''),
    ],
)
def test_a_command_ends_in_one_line(body, code, text):
    program = f'import os, signal, time\nfrom timar_ros.command import end\ndef main(): {body}\n'

    done = subprocess.run(
        [sys.executable, '-c', program + "end('mine', main)"],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (done.returncode, done.stderr.strip()) == (code, text)


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_ends_through_the_same_place(name):
    tree = ast.parse((ROOT / f'{name}.py').read_text())

    assert ast.unparse(tree.body[-1].body) == f"end('{name.split('/')[-1]}', main)"
