# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Words on a node's command line: none is ignored, and `--help` shows what there is."""

import dataclasses
import importlib

import pytest

from timar_ros.nodes.neck_params import NeckParams
from timar_ros.nodes.reference import params_class
from timar_ros.nodes.running import run
from timar_ros.nodes.usage import check_words, help_text, value_text

pytestmark = pytest.mark.graph

LIST = {'--list': 'list the devices'}


def _started(args):
    raise RuntimeError('the node started')


NODES = ('conversation', 'microphone', 'speaker', 'neck', 'face', 'replay')


@pytest.mark.parametrize('name', NODES)
@pytest.mark.parametrize('word', ['robot:=tiago', '--lst', '__node:=mine', 'x'])
def test_every_node_refuses_a_word_that_it_does_not_read(name, word, monkeypatch):
    monkeypatch.setattr('timar_ros.nodes.running._init', _started)
    main = importlib.import_module(f'timar_ros.nodes.{name}').main

    with pytest.raises(SystemExit) as ended:
        main([word, '--ros-args', '-p', 'use_sim_time:=false'])

    assert str(ended.value).startswith(f"{name}: unexpected '{word}'; ")


@pytest.mark.parametrize('name', NODES)
@pytest.mark.parametrize('word', ['-h', '--help'])
def test_help_of_every_node_names_all_parameters_with_default_and_meaning(name, word, capsys):
    main = importlib.import_module(f'timar_ros.nodes.{name}').main

    main([word])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f'usage: ros2 run timar_ros {name} ')
    shown = [line.split()[0] for line in lines[lines.index('parameters [default]:') + 1 :]]
    fields = dataclasses.fields(params_class(name))
    assert shown == [field.name for field in fields]
    for field, line in zip(fields, lines[-len(fields) :], strict=True):
        assert field.metadata['description'] in line
        assert f'[{value_text(field.default)}' in line


def test_help_names_what_a_node_takes_besides():
    text = help_text('microphone', params_class('microphone'), LIST)

    assert '  --list      list the devices\n' in text


@pytest.mark.parametrize(
    ('words', 'text'),
    [
        (
            ['robot:=tiago'],
            "unexpected 'robot:=tiago'; parameters are given as --ros-args -p robot:=tiago",
        ),
        (
            ['--robot', 'tiago'],
            "unexpected '--robot'; parameters are given as --ros-args -p robot:=tiago",
        ),
        (
            ['--robot=tiago'],
            "unexpected '--robot=tiago'; parameters are given as --ros-args -p robot:=tiago",
        ),
        (['--robot'], "unexpected '--robot'; parameters are given as --ros-args -p robot:=VALUE"),
        (
            ['topic:=/head/goal'],
            "unexpected 'topic:=/head/goal'; parameters are given as --ros-args -p "
            'topic:=/head/goal',
        ),
        (
            ['robt:=tiago'],
            "unexpected 'robt:=tiago'; did you mean 'robot'?; parameters are given as --ros-args "
            '-p NAME:=VALUE, and --help lists them',
        ),
        (
            ['--lst'],
            "unexpected '--lst'; did you mean '--list'?; parameters are given as --ros-args -p "
            'NAME:=VALUE, and --help lists them',
        ),
        (
            ['__node:=left'],
            "unexpected '__node:=left'; names are given as --ros-args -r __node:=left",
        ),
        (['a:=/b'], "unexpected 'a:=/b'; names are given as --ros-args -r a:=/b"),
        (
            ['--ros-args', '-r', 'a:=b', '--', 'tiago'],
            "unexpected 'tiago'; parameters are given as --ros-args -p NAME:=VALUE, and --help "
            'lists them',
        ),
    ],
)
def test_a_refused_word_comes_with_what_works(words, text):
    with pytest.raises(ValueError) as refused:
        check_words(words, NeckParams, LIST)

    assert str(refused.value) == text


def test_an_endless_word_is_refused_briefly():
    with pytest.raises(ValueError) as refused:
        check_words(['robot:=' + 'x' * 10**6], NeckParams, {})

    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    'words',
    [
        [],
        ['--list'],
        ['--ros-args', '-r', '__node:=left', '-r', '__ns:=/a', '--params-file', '/tmp/x', '--'],
        ['--ros-args', '-p', 'robot:=nao', '--', '--ros-args', '--log-level', 'debug'],
        ['--ros-args', '--disable-rosout-logs', '-e', '/b'],
    ],
)
def test_words_of_ros_and_of_the_node_are_taken(words):
    check_words(words, NeckParams, LIST)


def test_a_program_that_reads_its_own_words_keeps_them():
    with pytest.raises(SystemExit) as ended:
        run('mine', lambda: (_ for _ in ()).throw(ValueError('made')), [])

    assert str(ended.value) == 'mine: made'
