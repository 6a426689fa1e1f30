# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Quotes of strangers' text are short, whatever came."""

import time

import pytest

from timar_ros.strict import did_you_mean, quoted, read_yaml, shortened


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
