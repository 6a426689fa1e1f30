# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Every program ends rightly on every signal, at a few moments (signal_sweep.py has all)."""

from pathlib import Path
import signal
import subprocess
import sys

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from signal_sweep import PROGRAMS, SIGNALS, end_after, start  # noqa: E402

pytestmark = pytest.mark.graph

USER = str(Path(__file__).parents[2] / 'config' / 'demo' / 'user.wav')


@pytest.fixture(autouse=True)
def own_domain(monkeypatch, domain_id):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain_id))


@pytest.mark.parametrize('name', [name for name in PROGRAMS if name != 'microphone'])
def test_a_program_ends_without_a_traceback_at_any_moment_of_its_start(name):
    moments = (0.4, 0.9, 1.5, 2.5)

    faults = [
        end.fault and str(end)
        for kind, after_s in zip(SIGNALS, moments, strict=True)
        for end in [end_after(name, USER, after_s, kind)]
    ]

    assert faults == [''] * len(moments)


@pytest.mark.parametrize('gap_s', [0.0, 0.02, 0.3])
def test_a_second_signal_ends_a_whole_robot_at_once(gap_s):
    end = end_after('bringup', USER, 4.0, 'SIGINT', 'SIGTERM', gap_s=gap_s)

    assert not end.fault, str(end)


def test_a_job_that_a_script_starts_in_the_background_ends_on_ctrl_c():
    def ignore():
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    process = start('neck', USER, preexec_fn=ignore)
    assert 'neck of nao' in process.stdout.readline()
    process.send_signal(signal.SIGINT)

    output = process.communicate(timeout=30)[0]
    assert (process.returncode, output) == (0, '')


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['neck', '-p', 'robot:=neo'], "neck: unknown robot 'neo'; did you mean 'nao'?"),
        (['face', '-p', 'port:=99999'], 'face: port must be at most 65535, got 99999'),
        (['replay', '-p', 'user:=/no/such.wav'], 'replay: '),
        (['face', '-r', '__ns:=r-6'], 'face: '),
    ],
)
def test_a_refusal_to_start_is_one_sentence_and_exit_code_1(words, sentence):
    command = [sys.executable, '-m', f'timar_ros.nodes.{words[0]}', '--ros-args', *words[1:]]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)

    said = ended.stdout + ended.stderr
    assert ended.returncode == 1
    assert said.splitlines()[-1].startswith(sentence)
    assert 'Traceback' not in said


def test_a_log_folder_that_cannot_be_made_is_replaced_and_the_node_starts(monkeypatch, tmp_path):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('ROS_LOG_DIR', str(tmp_path / 'file' / 'logs'))

    process = start('neck', USER)
    first, second = process.stdout.readline(), process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=30)[0]

    assert first.startswith(f'{tmp_path}/file/logs cannot be written: logs go to /')
    assert 'neck of nao' in second
    assert (process.returncode, rest) == (0, '')
