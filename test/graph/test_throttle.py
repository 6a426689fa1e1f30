# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A node's log stays readable, whatever is logged."""

import pytest

from timar_ros.nodes.throttle import ThrottledWarnings
from timar_ros.strict import quoted


class Log:
    """A logger that keeps what it is given, and the clock of the throttle."""

    def __init__(self):
        self.now_s = 0.0
        self.texts = []
        self.throttled = ThrottledWarnings(self, lambda: self.now_s)

    def warning(self, text):
        self.texts.append(text)

    error = warning


@pytest.fixture
def log():
    return Log()


def test_the_same_warning_with_other_numbers_is_logged_once(log):
    for text in ('lost 3 samples', 'lost 4.5 samples', 'the clock jumped by -5 s'):
        log.throttled.warn(text)

    assert log.texts == ['lost 3 samples', 'the clock jumped by -5 s']


def test_the_same_warning_with_other_quoted_names_is_logged_once(log):
    names = ['sad', "it's", 'a "b" c', '\'"', 'x' * 1_000_000, '7 of 9']
    for name in names:
        log.throttled.warn(f'unknown emotion {quoted(name)}; known: happy')

    assert log.texts == ["unknown emotion 'sad'; known: happy"]


def test_a_warning_comes_again_after_a_while_with_the_number_of_those_left_out(log):
    for _ in range(500):
        log.throttled.warn('lost 3 samples')
        log.now_s += 0.01
    log.now_s = 5.0
    log.throttled.warn('lost 4 samples')

    assert log.texts == ['lost 3 samples', 'lost 4 samples (499 more like this before)']


def test_a_flood_of_different_texts_is_ten_lines_a_second_of_bounded_length(log):
    for number in range(3000):
        log.throttled.warn(f'{chr(65 + number % 26)}{chr(97 + number // 26)}' * 500_000)
        log.now_s += 0.001

    assert len(log.texts) == 30
    assert max(map(len, log.texts)) <= 1000


def test_kinds_are_forgotten_the_oldest_first_and_memory_stays_bounded(log):
    for number in range(1000):
        log.throttled.warn(''.join(chr(97 + int(digit)) for digit in f'{number:03d}'))
        log.now_s += 0.5

    assert len(log.throttled._kinds) == 200
    assert list(log.throttled._kinds)[-1] == 'jjj'


def test_details_of_an_error_are_made_only_where_it_is_logged(log):
    made = []

    def details():
        made.append(1)
        return 'line 7'

    for number in range(50):
        log.throttled.error(f'job {number} failed', details)

    assert log.texts == ['job 0 failed\nline 7']
    assert made == [1]
