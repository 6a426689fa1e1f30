# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Paths that the system refuses end every command with one sentence, not with a traceback."""

import pathlib
import runpy
import sys

import pytest

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
    from timar_ros.learn import reaction

    assert reaction.main(['--replan-hz', '-1']) == 1
    assert capsys.readouterr().err.startswith('reaction: replan_hz must be')
