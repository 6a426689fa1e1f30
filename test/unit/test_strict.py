# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Quotes of strangers' text are short, whatever came."""

import argparse
import os
import time

import pytest

from timar_ros.strict import (
    did_you_mean,
    number,
    quoted,
    read_json,
    read_yaml,
    shortened,
    whole_number,
    why_no_file,
)


def nested(depth, width=9):
    value = ['x' * 1000] * width
    for _ in range(depth):
        value = [value] * width
    return value


@pytest.mark.parametrize(
    'value',
    ['x' * 10**6, b'\0' * 10**6, list(range(10**6)), dict.fromkeys(range(10**5)), nested(8)],
    ids=['text', 'bytes', 'list', 'dict', 'yaml_bomb'],
)
def test_a_large_value_is_quoted_in_a_line(value):
    assert len(quoted(value)) < 2000


def test_a_short_value_is_quoted_whole():
    assert quoted('S16LE') == "'S16LE'"
    assert quoted({'a': [1, 2.5]}) == "{'a': [1, 2.5]}"


def test_a_shortened_text_says_that_something_is_missing():
    assert shortened('x' * 80) == 'x' * 80
    assert shortened('x' * 81) == 'x' * 79 + '…'


def test_the_nearest_name_is_suggested():
    assert did_you_mean('hapy', ['happy', 'sad']) == "; did you mean 'happy'?"
    assert did_you_mean('HAPPY', ['Happy', 'sad']) == "; did you mean 'Happy'?"
    assert did_you_mean('zzz', ['happy', 'sad']) == ''


@pytest.mark.parametrize(
    ('name', 'known'),
    [
        ('disable_on_start', 'enable_on_start'),
        ('left_arm', 'right_arm'),
        ('eyeBlinkLeft', 'eyeBlinkRight'),
        ('max_rate', 'min_rate'),
        ('user_audio_type', 'agent_audio_type'),
        ('unhappy', 'happy'),
        ('happy', 'unhappy'),
        ('pan_joint', 'tilt_joint'),
        ('joint.velocity', 'joint.position'),
    ],
)
def test_a_name_that_means_the_opposite_is_not_proposed(name, known):
    assert did_you_mean(name, [known]) == ''


def test_the_same_word_in_another_spelling_is_proposed():
    assert did_you_mean('eyeBlink_L', ['eyeBlinkRight', 'eyeBlinkLeft']) == (
        "; did you mean 'eyeBlinkLeft'?"
    )
    assert did_you_mean('pan_tilt', ['pan_tilt_roll']) == "; did you mean 'pan_tilt_roll'?"


def test_of_a_name_in_another_unit_it_is_said():
    assert did_you_mean('velocity_deg_s', ['velocity_rad_s']) == (
        "; did you mean 'velocity_rad_s'? (its value is in another unit)"
    )
    assert did_you_mean('velocty_rad_s', ['velocity_rad_s']) == "; did you mean 'velocity_rad_s'?"


def test_no_name_is_looked_for_in_a_long_text():
    began = time.process_time()

    assert did_you_mean('happy' * 10**5, ['happy'] * 100) == ''

    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('[' * 1000 + ']' * 1000, 'nested too deep'),
        ('a: [1, 2', 'not valid YAML'),
        ('a: 2026-13-01', 'not valid YAML'),
        ('a: \x00', 'not valid YAML'),
        ('x' * 1_000_001, 'at most 1 MB'),
        ('!!python/object/apply:os.system ["true"]', 'not valid YAML'),
    ],
    ids=['deep', 'open_bracket', 'month_13', 'zero_byte', 'large', 'code'],
)
def test_a_yaml_file_that_lies_is_refused_in_a_sentence(tmp_path, text, says):
    path = tmp_path / 'robot.yaml'
    path.write_text(text)

    with pytest.raises(ValueError, match=says) as refusal:
        read_yaml(path)

    assert '\n' not in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_a_name_that_no_file_can_have_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(ValueError, match='cannot be read'):
        read_yaml('x' * 5000)
    with pytest.raises(ValueError, match='cannot be read'):
        read_yaml(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_yaml(tmp_path / 'none.yaml')


def test_yaml_is_read_as_plain_values(tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_text('a: [1, 2.5]\nb: {c: text}\n')

    assert read_yaml(path) == {'a': [1, 2.5], 'b': {'c': 'text'}}


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        ('[' * 100_000, 'nested too deep'),
        ('{"a": ', 'not valid JSON'),
        ('{"a": {"b": 1, "b": 2}}', "'b' is there twice"),
        ('{"a": "\\ud800', 'not valid JSON'),
        (' ' * 1_000_001, 'at most 1 MB'),
        ('[1]', r'expected a JSON object, got \[1\]'),
    ],
    ids=['deep', 'open_brace', 'twice', 'open_text', 'large', 'list'],
)
def test_a_json_file_that_lies_is_refused_in_a_sentence(tmp_path, text, says):
    path = tmp_path / 'config.json'
    path.write_text(text)

    with pytest.raises(ValueError, match=says) as refusal:
        read_json(path)

    assert '\n' not in str(refusal.value)
    assert len(str(refusal.value)) < 500


@pytest.mark.parametrize('text', ['-1', '11', '1.5', 'nan', '', '1_0', '٣', '9' * 5000])
def test_a_whole_number_outside_of_its_range_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match='expected a whole number from 0 to 10,'):
        whole_number(0, 10)(text)


@pytest.mark.parametrize('text', ['-0.1', '1.1', 'nan', 'inf', 'x', ''])
def test_a_number_outside_of_its_range_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match='expected a number from 0 to 1, got'):
        number(0, 1)(text)


def test_numbers_in_their_range_are_read():
    assert [whole_number(-5)(text) for text in ('-5', '0', '007')] == [-5, 0, 7]
    assert [number(-1, 1)(text) for text in ('-1', '0.5', '1e-3')] == [-1.0, 0.5, 0.001]


def test_what_is_no_file_is_called_what_it_is(tmp_path):
    pipe, file = tmp_path / 'pipe', tmp_path / 'a.wav'
    os.mkfifo(pipe)
    file.touch()

    def why(path):
        return why_no_file(path, 'recording', 'give a path')

    assert why(file) == ''
    assert why(tmp_path) == f'{tmp_path} is a folder, expected a recording; give a path'
    assert why(pipe).startswith(f'{pipe} is a pipe or a device, expected a recording; ')
    assert why('~/a.wav').startswith("no recording at ~/a.wav: nothing replaced '~'; ")
    assert why(tmp_path / 'b.wav') == f'no recording at {tmp_path / "b.wav"}; give a path'
    assert why('x' * 5000).endswith('give a path')
