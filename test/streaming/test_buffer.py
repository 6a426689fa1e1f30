# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
from numpy.testing import assert_array_equal
import pytest

from timar_ros.stream.buffer import VoiceTrack, index_of

BEGIN = index_of(1_700_000_000_123_456_789)


def make_noise(n, seed=0):
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def test_a_stamp_lies_on_the_nearest_sample_and_whole_samples_are_exact():
    assert index_of(1_000_000_000) == 16_000
    assert index_of(62_500 * 28_000_000_000_000 + 31_249) == 28_000_000_000_000
    assert index_of(62_500 * 28_000_000_000_000 + 31_250) == 28_000_000_000_001
    assert index_of(-62_500) == -1


def test_nothing_written_is_absent_and_zero():
    samples, is_present = VoiceTrack().read(BEGIN, 100)

    assert_array_equal(samples, np.zeros(100, np.float32))
    assert not is_present.any()


@pytest.mark.parametrize('chunk', [1, 160, 1601, 40_000])
def test_what_is_read_does_not_depend_on_how_it_was_written(chunk):
    noise = make_noise(48_000)
    track = VoiceTrack()

    for start in range(0, len(noise), chunk):
        track.write(BEGIN + start, noise[start : start + chunk], 0)
    samples, is_present = track.read(BEGIN - 10, len(noise) + 20)

    assert_array_equal(samples[10:-10], noise)
    assert_array_equal(is_present, np.pad(np.ones(len(noise), bool), 10))
    assert (track.begin, track.end) == (BEGIN, BEGIN + len(noise))


def test_what_is_sent_later_replaces_what_was_sent_before_however_it_arrives():
    speech, silence = make_noise(1_000), np.zeros(400, np.float32)
    expected = speech.copy()
    expected[300:700] = 0

    for order in ([0, 1], [1, 0]):
        track = VoiceTrack()
        writes = [(BEGIN, speech, 5), (BEGIN + 300, silence, 6)]
        for i in order:
            track.write(*writes[i])
        samples, is_present = track.read(BEGIN, 1_000)

        assert_array_equal(samples, expected, err_msg=f'order {order}')
        assert is_present.all()


def test_of_two_sent_at_the_same_time_the_last_written_holds():
    track = VoiceTrack()

    track.write(BEGIN, np.full(10, 1, np.float32), 5)
    track.write(BEGIN + 5, np.full(10, 2, np.float32), 5)

    assert_array_equal(track.read(BEGIN, 15)[0], [1] * 5 + [2] * 10)


def test_a_moment_sees_the_track_as_it_was_known_then():
    track = VoiceTrack()
    track.write(BEGIN, np.full(10, 1, np.float32), 100)
    track.write(BEGIN + 5, np.zeros(5, np.float32), 200)

    before, is_present_before = track.read(BEGIN, 10, sent_before_ns=99)
    at_first, _ = track.read(BEGIN, 10, sent_before_ns=199)
    at_second, _ = track.read(BEGIN, 10, sent_before_ns=200)

    assert_array_equal(before, np.zeros(10))
    assert not is_present_before.any()
    assert_array_equal(at_first, np.ones(10))
    assert_array_equal(at_second, [1] * 5 + [0] * 5)


def test_what_is_forgotten_stays_forgotten_even_when_it_comes_again():
    noise = make_noise(10_000)
    track = VoiceTrack()
    track.write(BEGIN, noise, 0)

    track.forget_before(BEGIN + 4_000)
    track.write(BEGIN, noise[:5_000], 1)
    samples, is_present = track.read(BEGIN, 10_000)

    assert track.begin == BEGIN + 4_000
    assert_array_equal(is_present, np.arange(10_000) >= 4_000)
    assert_array_equal(samples, np.where(is_present, noise, 0))


def test_the_track_keeps_a_bounded_span_without_being_told_to_forget():
    track = VoiceTrack(max_span=16_000)

    for start in range(0, 200_000, 100):
        track.write(BEGIN + start, np.ones(100, np.float32), start)

    assert track.end - track.begin == 16_000
    assert sum(len(piece[3]) for piece in track._pieces) <= 16_000 + 100


def test_endless_rewriting_of_one_instant_does_not_grow_without_end():
    track = VoiceTrack()

    for sent_ns in range(70_000):
        track.write(BEGIN, np.full(1, sent_ns, np.float32), sent_ns)

    assert len(track._pieces) <= 60_000
    assert track.read(BEGIN, 1)[0][0] == 69_999


def test_the_caller_may_reuse_its_array():
    samples = np.ones(10, np.float32)
    track = VoiceTrack()

    track.write(BEGIN, samples, 0)
    samples[:] = 5

    assert_array_equal(track.read(BEGIN, 10)[0], np.ones(10))
