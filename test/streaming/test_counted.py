# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A stream that counts its samples has lost nothing after a stall; after a pause it has a gap."""

import numpy as np
from numpy.testing import assert_array_equal
import pytest

from timar_ros.stream.buffer import index_of

MS = 1_000_000


def _late(audio, packets, lateness_ms, spacing_ms=0.2):
    """Stamp packets when they are sent: in order, and late by so much where it is said."""
    sent_ns, changed = 0, []
    for i, packet in enumerate(packets):
        due_ns = packet.stamp_ns + round(lateness_ms(i) * MS)
        sent_ns = max(sent_ns + round(spacing_ms * MS), due_ns)
        changed.append(audio.change(packet, stamp_ns=sent_ns))
    return changed


def _push(ingest, packets):
    for packet in packets:
        length_ns = len(packet.samples) * 10**9 // packet.sample_rate_hz
        ingest.push(packet, packet.stamp_ns + length_ns)


def _wrong(counters):
    names = ('lost_samples', 'late_samples', 'overlapped_samples', 'repeated_samples')
    return {name: counters[name] for name in (*names, 'reanchored') if counters[name]}


@pytest.mark.parametrize('stall_ms', [240, 300, 500, 900, 1500])
@pytest.mark.parametrize('spacing_ms', [0.2, 10])
def test_stalls_of_a_publisher_that_catches_up_lose_and_move_nothing(audio, stall_ms, spacing_ms):
    samples = audio.noise(16_000 * 9)
    packets = audio.packets(samples, 320)
    ingest = audio.ingest()
    every = 100 if spacing_ms < 1 else 200

    _push(ingest, _late(
        audio, packets, lambda i: stall_ms * (i % every == every // 2), spacing_ms
    ))  # fmt: skip

    assert _wrong(ingest.counters) == {}
    assert ingest.take_warnings() == []
    assert_array_equal(audio.read_all(ingest)[0], samples[:, 0])


@pytest.mark.parametrize(('rate_hz', 'chunk'), [(48_000, 480), (44_100, 882), (8_000, 800)])
def test_stalls_lose_nothing_at_any_rate_and_length_of_packets(audio, rate_hz, chunk):
    n = rate_hz * 6 // chunk
    packets = audio.packets(audio.noise(n * chunk), chunk, rate_hz)
    ingest = audio.ingest()

    _push(ingest, _late(audio, packets, lambda i: 400 * (i in (n // 3, 2 * n // 3))))

    assert _wrong(ingest.counters) == {}
    assert audio.read_all(ingest)[1].all()


@pytest.mark.parametrize('pause_ms', [300, 800, 3000])
def test_after_a_pause_that_was_not_counted_samples_are_where_their_stamps_are(audio, pause_ms):
    samples = audio.noise(16_000 * 4)
    packets = audio.packets(samples, 320)
    ingest = audio.ingest()

    _push(ingest, _late(audio, packets, lambda i: pause_ms * (i >= 100)))
    heard, is_present = audio.read_all(ingest)

    hole = slice(32_000, 32_000 + 16 * pause_ms)
    assert_array_equal(is_present[hole], False)
    assert_array_equal(heard[hole.stop :], samples[32_000:, 0])
    assert _wrong(ingest.counters) == {'reanchored': 1}


def test_a_pause_after_which_stamps_scatter_is_no_stall(audio):
    samples = audio.noise(16_000 * 6)
    packets = audio.packets(samples, 320)
    scatter_ms = np.random.default_rng(2).uniform(0, 60, len(packets))
    ingest = audio.ingest()

    _push(ingest, _late(audio, packets, lambda i: 400 * (i >= 100) + scatter_ms[i]))

    _, is_present = audio.read_all(ingest)
    assert 16 * 330 <= (~is_present).sum() <= 16 * 470
    assert not is_present[32_000 + 960 : 32_000 + 16 * 330].any()


def test_stamps_are_held_against_the_count_again_some_time_after_a_pause(audio):
    samples = audio.noise(16_000 * 8)
    packets = audio.packets(samples, 320)
    ingest = audio.ingest()

    _push(ingest, _late(audio, packets, lambda i: 400 * (i >= 100) + 150 * (i >= 250)))

    heard, _ = ingest.track.read(ingest.track.end - 16_000, 16_000)
    assert ingest.track.end == index_of(packets[0].stamp_ns) + len(samples) + 16 * 550
    assert_array_equal(heard, samples[-16_000:, 0])
    assert ingest.counters['reanchored'] == 2


def test_what_the_count_shows_as_lost_in_a_stall_is_a_hole_at_its_place(audio):
    samples = audio.noise(16_000 * 6)
    packets = audio.packets(samples, 320)
    ingest = audio.ingest()

    sent = _late(audio, packets, lambda i: 500 * (i == 100))
    _push(ingest, sent[:100] + sent[105:])
    heard, is_present = audio.read_all(ingest)

    lost = np.arange(32_000, 32_000 + 5 * 320)
    assert_array_equal(np.flatnonzero(~is_present), lost)
    assert_array_equal(heard[is_present], np.delete(samples[:, 0], lost))
    assert ingest.counters['lost_samples'] == len(lost)
    assert 'got a hole of 0.100 s' in ingest.take_warnings()[0]


def test_a_stamp_that_stays_late_after_a_stall_moves_the_timebase(audio):
    """A driver lost 150 ms before it counted: the rest belongs where its stamps are."""
    samples = audio.noise(16_000 * 8)
    packets = audio.packets(samples, 320)
    ingest = audio.ingest()

    _push(ingest, _late(audio, packets, lambda i: 600 * (i == 100) + 150 * (i > 100)))

    move = 16 * 150
    heard, _ = ingest.track.read(ingest.track.end - 16_000, 16_000)
    assert ingest.track.end == index_of(packets[0].stamp_ns) + len(samples) + move
    assert_array_equal(heard, samples[-16_000:, 0])
    assert ingest.counters['reanchored'] == 1
    assert ingest.counters['lost_samples'] == 0
