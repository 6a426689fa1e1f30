# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Paths and options that cannot be end every command with one sentence, not with a traceback."""

import pathlib
import runpy
import sys

import pytest

from timar_ros.config import SamplingConfig, TimingConfig
from timar_ros.learn import bench, dualtalk, evaluate, reaction
from timar_ros.strict import in_a_sentence

LONG = 'x' * 300  # no file system has such a name


@pytest.mark.filterwarnings('ignore:.*found in sys.modules')
@pytest.mark.parametrize(
    ('command', 'arguments'),
    [
        ('learn.evaluate', ['--user', LONG, '--agent', LONG, '--out', 'out']),
        ('learn.evaluate', ['--bag', LONG, '--out', 'out']),
        ('learn.evaluate', ['--user', 'u.wav', '--agent', 'a.wav', '--out', 'file/out']),
        ('learn.bag_to_clips', [LONG, 'out']),
        ('learn.bench', [LONG, '--out', LONG]),
        ('learn.bench', ['.', '--out', 'out', '--checkpoint', LONG]),
        ('learn.dualtalk', ['.', '--checkpoint', LONG]),
        ('learn.dualtalk', ['.', '--out', LONG]),
        ('learn.reaction', ['--user', LONG]),
        ('learn.simulate', [LONG, 'file/out']),
        ('learn.train', [LONG, '--out', LONG]),
        ('model.convert', [LONG, '--speech', LONG, 'out.safetensors']),
        ('model.convert', ['w', '--speech', 's', f'{LONG}.safetensors']),
        ('parity', [LONG]),
        ('retarget.fit_face', [LONG, LONG, LONG]),
    ],
)  # fmt: skip
def test_a_path_that_the_system_refuses_is_named_in_one_sentence(
    command, arguments, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    pathlib.Path('file').touch()
    monkeypatch.setattr(sys, 'argv', [command, *arguments])

    with pytest.raises(SystemExit) as ended:
        runpy.run_module(f'timar_ros.{command}', run_name='__main__', alter_sys=False)

    said = ended.value.code if isinstance(ended.value.code, str) else capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if line]
    assert not line.startswith(('Traceback', ' '))
    assert (
        line.endswith('choose another path')
        or 'expected' in line
        or 'be read' in line
        or 'no ' in line
    )
    assert ended.value.code not in (0, None)


def test_an_error_of_the_system_is_said_with_its_path_and_what_to_do():
    error = PermissionError(13, 'Permission denied', '/robot/recordings')

    assert in_a_sentence(error) == '/robot/recordings: Permission denied; choose another path'
    assert in_a_sentence(FileNotFoundError('no bag at x')) == 'no bag at x'


def test_an_option_out_of_its_range_ends_reaction_with_one_sentence(capsys):
    with pytest.raises(SystemExit):
        reaction.main(['--replan-hz', '-1'])

    told = capsys.readouterr().err.splitlines()[-1]
    assert told.endswith("argument --replan-hz: expected a number from 0 to 100, got '-1'")


def test_options_that_contradict_each_other_end_reaction_with_one_sentence(capsys):
    assert reaction.main(['--agent-lead-ms', '10']) == 1
    assert capsys.readouterr().err.startswith('reaction: agent_lead_ms must be')


@pytest.mark.parametrize(
    ('config', 'name', 'value', 'most'),
    [
        (TimingConfig, 'replan_hz', float('inf'), 100),
        (TimingConfig, 'agent_lead_ms', 999_999_999, 60000),
        (SamplingConfig, 'steps', 10**9, 1000),
        (SamplingConfig, 'temperature', float('inf'), 1000),
        (SamplingConfig, 'cfg_scale', 1e308, 1000),
    ],
)
def test_settings_that_would_never_end_are_refused_with_their_bound(config, name, value, most):
    with pytest.raises(ValueError, match=f'{name} must be at most {most}'):
        config(**{name: value})


@pytest.mark.parametrize('main', [bench.main, dualtalk.main])
@pytest.mark.parametrize('option', ['--clips', '--processes'])
@pytest.mark.parametrize('count', ['0', '-1', 'all'])
def test_a_count_of_nothing_is_refused_by_its_option(main, option, count, capsys):
    with pytest.raises(SystemExit):
        main(['folder', '--out', 'out', f'{option}={count}'])

    said = capsys.readouterr().err
    assert f"{option}: expected a whole number from 1 on, got '{count}'" in said


def test_threads_that_cannot_be_are_refused(tmp_path, capsys):
    arguments = ['--user', 'u', '--agent', 'a', '--out', str(tmp_path / 'o'), '--threads', '-1']

    with pytest.raises(SystemExit):
        evaluate.main(arguments)

    told = capsys.readouterr().err
    assert "argument --threads: expected a whole number from 0 to 1024, got '-1'" in told
