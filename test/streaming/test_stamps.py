# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What a stamp means: nothing, the capture, or the arrival."""

import numpy as np
from numpy.testing import assert_array_equal
import pytest

from timar_ros.stream.buffer import index_of
from timar_ros.stream.stamps import StampReader

BEGIN_NS = 1_700_000_000_000_000_000
BEGIN = index_of(BEGIN_NS)
MS = 1_000_000
S = 1_000_000_000


def push_arrival_stamped(audio, ingest, samples, chunk, rate_hz=16_000, is_counted=False):
    """Push a stream whose publisher stamps each message when it sends it, 3 to 9 ms on its way."""
    rng = np.random.default_rng(0)
    for packet in audio.packets(samples, chunk, rate_hz, is_counted=is_counted):
        sent_ns = audio.arrival_of(packet)
        ingest.push(
            audio.change(packet, stamp_ns=sent_ns), sent_ns + round(rng.uniform(3, 9) * MS)
        )


@pytest.mark.parametrize(('chunk', 'rate_hz'), [(8160, 48_000), (2720, 16_000), (1024, 16_000)])
def test_a_voice_stamped_at_arrival_is_put_to_where_it_was_captured(audio, chunk, rate_hz):
    samples = audio.noise(4 * rate_hz)
    ingest = audio.ingest()

    push_arrival_stamped(audio, ingest, samples, chunk, rate_hz)

    _, is_present = audio.read_all(ingest)
    assert is_present.all()
    assert abs(ingest.track.begin - BEGIN) / 16 < 10
    assert ingest.counters['lost_samples'] == 0
    assert ingest.counters['reanchored'] == 0


def test_a_voice_stamped_at_arrival_is_warned_of_once_with_the_shift(audio):
    ingest = audio.ingest()

    push_arrival_stamped(audio, ingest, audio.noise(64_000), 2720)

    (warning,) = ingest.take_warnings()
    assert 'got messages that end 0.167 s after they arrived' in warning
    assert 'placed 0.167 s earlier' in warning


def test_a_publisher_that_counts_and_stamps_at_arrival_is_found_out_later(audio):
    samples = audio.noise(16_000 * 10)
    ingest = audio.ingest()

    push_arrival_stamped(audio, ingest, samples, 2720, is_counted=True)

    assert abs(ingest.track.end - (BEGIN + len(samples))) / 16 < 25
    assert any('placed 0.167 s earlier' in text for text in ingest.take_warnings())


@pytest.mark.parametrize('is_counted', [False, True])
@pytest.mark.parametrize('chunk_ms', [10, 20])
def test_short_messages_stamped_at_arrival_are_found_out_by_many_in_a_row(
    audio, chunk_ms, is_counted
):
    """Each of them could be jitter: it is early by less than that may be."""
    samples = audio.noise(16_000 * 7)
    ingest, rng = audio.ingest(), np.random.default_rng(0)

    for packet in audio.packets(samples, 16 * chunk_ms, is_counted=is_counted):
        sent_ns = audio.arrival_of(packet)
        arrival_ns = sent_ns + round(rng.uniform(0.2, 2) * MS)
        ingest.push(audio.change(packet, stamp_ns=sent_ns), arrival_ns)

    assert abs(ingest.track.end - (BEGIN + len(samples))) / 16 < 2
    heard, is_present = audio.read_all(ingest)
    last = samples[-16_000:, 0]
    assert_array_equal(heard[-16_000:], last)
    assert is_present.all()
    assert {name for name, n in ingest.counters.items() if n} == {'samples'}
    assert len(ingest.take_warnings()) == 1


def test_short_messages_whose_stamps_scatter_as_jitter_may_are_not_moved(audio):
    samples = audio.noise(16_000 * 20)
    ingest, rng = audio.ingest(), np.random.default_rng(0)

    for i, packet in enumerate(audio.packets(samples, 320)):
        stamp_ns = packet.stamp_ns + (round(rng.uniform(-8, 19) * MS) if i else 0)
        ingest.push(audio.change(packet, stamp_ns=stamp_ns), audio.arrival_of(packet))

    assert ingest.track.end == BEGIN + len(samples)
    assert_array_equal(audio.read_all(ingest)[0], samples[:, 0])
    assert ingest.take_warnings() == []


def test_short_messages_that_are_late_now_and_then_for_half_a_second_are_not_moved(audio):
    samples = audio.noise(16_000 * 10)
    ingest = audio.ingest()

    for i, packet in enumerate(audio.packets(samples, 320, is_counted=False)):
        stamp_ns = packet.stamp_ns + (15 * MS if i % 100 >= 70 else 0)
        ingest.push(audio.change(packet, stamp_ns=stamp_ns), audio.arrival_of(packet))

    assert ingest.take_warnings() == []
    assert ingest.track.end == BEGIN + len(samples)


def test_one_wild_stamp_of_a_true_stream_shifts_nothing(audio):
    samples = audio.noise(32_000)
    ingest = audio.ingest()

    for i, packet in enumerate(audio.packets(samples, 1600)):
        late_ns = 80 * MS if i in (5, 9) else 0
        ingest.push(
            audio.change(packet, stamp_ns=packet.stamp_ns + late_ns), audio.arrival_of(packet)
        )

    assert_array_equal(audio.read_all(ingest)[0], samples[:, 0])
    assert ingest.track.begin == BEGIN


@pytest.mark.parametrize('is_counted', [True, False])
def test_a_voice_by_a_clock_that_is_ahead_from_the_first_message_on_is_placed_by_its_arrival(
    audio, is_counted
):
    samples = audio.noise(32_000)
    ingest = audio.ingest()

    for packet in audio.packets(samples, 320, is_counted=is_counted):
        moved = audio.change(packet, stamp_ns=packet.stamp_ns + 37 * S)
        ingest.push(moved, audio.arrival_of(packet) + 3 * MS)

    heard, is_present = audio.read_all(ingest)
    assert abs(ingest.track.begin - BEGIN) <= 4 * 16
    assert is_present.all()
    assert_array_equal(heard, samples[:, 0])
    assert ingest.take_warnings() == [
        'user audio: stamps are 36.997 s ahead of arrival, by another clock; they are placed that '
        'much earlier; set the clocks of both machines'
    ]


def test_a_clock_that_was_right_is_not_taken_for_another_one_after_a_jump():
    reader = StampReader('user')
    reader.read(BEGIN_NS, 20 * MS, BEGIN_NS + 21 * MS)

    for i in range(1, 40):
        reader.read(BEGIN_NS + 37 * S + i * 20 * MS, 20 * MS, BEGIN_NS + (i + 1) * 20 * MS)

    assert reader.shift_ns == 0


def test_the_agents_stamps_lie_ahead_and_are_never_shifted():
    reader = StampReader('agent')

    stamps = [reader.read(BEGIN_NS + i * 20 * MS, 20 * MS, BEGIN_NS - 400 * MS) for i in range(99)]

    assert stamps == [BEGIN_NS + i * 20 * MS for i in range(99)]
    assert reader.take_warning() is None


def test_a_publisher_whose_stamps_become_true_again_is_believed_again():
    reader = StampReader('user')

    for i in range(20):
        reader.read(BEGIN_NS + i * 100 * MS, 100 * MS, BEGIN_NS + i * 100 * MS)
    shift_ns = reader.shift_ns
    for i in range(20, 40):
        reader.read(BEGIN_NS + i * 100 * MS, 100 * MS, BEGIN_NS + (i + 1) * 100 * MS)

    assert (shift_ns, reader.shift_ns) == (100 * MS, 0)


@pytest.mark.parametrize('role', ['user', 'agent'])
@pytest.mark.parametrize('arrival_ns', [20 * MS, 5 * S, 54 * S, BEGIN_NS])
def test_many_zeros_mean_none_whatever_the_clock_says(role, arrival_ns):
    reader = StampReader(role)

    read = [reader.read(0, 20 * MS, arrival_ns + i * 20 * MS) for i in range(100)]

    assert read[1:] == [None] * 99


def test_a_first_zero_is_true_where_time_has_just_begun():
    assert StampReader('user').read(0, 20 * MS, 20 * MS) == 0
    assert StampReader('user').read(0, 20 * MS, 5 * S) is None
    assert StampReader('agent').read(0, 20 * MS, -400 * MS) == 0


@pytest.mark.parametrize('begin_s', [0, 5, 54, 100])
def test_zero_stamps_of_simulated_time_are_placed_by_arrival(audio, begin_s):
    samples = audio.noise(16_000 * 12)
    ingest = audio.ingest()

    for packet in audio.packets(samples, 320, begin_ns=begin_s * S, is_counted=False):
        ingest.push(audio.change(packet, stamp_ns=0), audio.arrival_of(packet))

    heard, is_present = audio.read_all(ingest)
    assert ingest.track.begin == begin_s * 16_000
    assert is_present.all()
    assert_array_equal(heard, samples[:, 0])
    assert ingest.counters['jumps'] == 0
