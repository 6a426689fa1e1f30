# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A stream without a count whose mean rate is right follows its samples, not its stamps."""

import numpy as np
from numpy.testing import assert_array_equal
import pytest

from timar_ros.stream.buffer import index_of

BEGIN_NS = 1_700_000_000_000_000_000
BEGIN = index_of(BEGIN_NS)
MS = 1_000_000
# As a capture node's stamps were measured, ms around an unbroken stream.
JITTER_MS = (-26, 49)


@pytest.fixture
def scattered(audio):
    """Return a function that pushes a stream whose stamps scatter; `(ingest, its samples)`."""

    def push(
        seconds=20.0,
        chunk=1024,
        rate_hz=16_000,
        jitter_ms=JITTER_MS,
        lost=(),
        ppm=0.0,
        seed=0,
        **options,
    ):
        rng = np.random.default_rng(seed)
        samples = audio.noise(int(seconds * rate_hz))
        ingest = audio.ingest(**options)
        for i, packet in enumerate(audio.packets(samples, chunk, rate_hz, is_counted=False)):
            off_ns = (packet.stamp_ns - BEGIN_NS) * ppm / 1e6
            stamp_ns = packet.stamp_ns + round(off_ns + rng.uniform(*jitter_ms) * MS)
            delay_ns = round(off_ns + rng.uniform(5, 15) * MS)
            if i not in lost:
                ingest.push(
                    audio.change(packet, stamp_ns=stamp_ns), audio.arrival_of(packet) + delay_ns
                )
        return ingest, samples[:, 0]

    return push


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('chunk', [320, 1024, 2720])
def test_stamps_that_scatter_around_an_unbroken_stream_lose_nothing(scattered, chunk, seed):
    ingest, samples = scattered(chunk=chunk, seed=seed)

    assert ingest.counters['lost_samples'] == 0
    assert ingest.counters['reanchored'] == 0
    assert ingest.track.read(ingest.track.begin, ingest.track.end - ingest.track.begin)[1].all()
    # the first stamp may be wrong by the scatter, and is corrected sample by sample
    assert abs(ingest.track.end - (BEGIN + len(samples))) / 16 <= 40


def test_a_stream_whose_stamps_scatter_is_heard_sample_by_sample(scattered, audio):
    ingest, samples = scattered(seconds=4.0)

    heard, is_present = audio.read_all(ingest)

    assert is_present.all()
    assert_array_equal(heard, samples)


def test_a_count_that_is_always_zero_is_none_from_the_first_packet_on(audio):
    rng = np.random.default_rng(0)
    samples = audio.noise(64_000)
    ingest = audio.ingest()

    for i, packet in enumerate(audio.packets(samples, 1024)):
        off_ns = -26 * MS if i == 0 else round(rng.uniform(0, 49) * MS)
        stamped = audio.change(packet, stamp_ns=packet.stamp_ns + off_ns, first_sample=0)
        ingest.push(stamped, audio.arrival_of(packet) + 60 * MS)

    heard, is_present = audio.read_all(ingest)
    assert is_present.all()
    assert_array_equal(heard, samples[:, 0])
    assert audio.counted(ingest) == {'samples': 64_000}


def test_stamps_that_scatter_are_warned_of_once_with_their_scatter(scattered):
    ingest, _ = scattered()

    (warning,) = ingest.take_warnings()
    assert 'got stamps from -' in warning
    assert 'ms around an unbroken stream' in warning
    assert 'max_jitter_ms' in warning


def test_scatter_within_max_jitter_ms_is_not_worth_a_word(scattered):
    ingest, _ = scattered(max_jitter_ms=80)

    assert ingest.take_warnings() == []
    assert ingest.counters['lost_samples'] == 0


@pytest.mark.parametrize('rate_hz', [16_000, 48_000])
def test_what_was_put_after_a_hole_that_is_none_is_put_back(audio, rate_hz):
    samples = audio.noise(2 * rate_hz)
    clean, ingest = audio.ingest(), audio.ingest()
    packets = audio.packets(samples, rate_hz // 20, rate_hz, is_counted=False)
    audio.push_all(clean, packets)

    for i, packet in enumerate(packets):
        late_ns = 45 * MS if i == 7 else 0
        ingest.push(
            audio.change(packet, stamp_ns=packet.stamp_ns + late_ns), audio.arrival_of(packet)
        )

    assert_array_equal(audio.read_all(ingest)[0], audio.read_all(clean)[0])
    assert audio.counted(ingest) == {'samples': 32_000}
    assert ingest.take_warnings() == []


@pytest.mark.parametrize('lost', [{150}, {150, 151, 152}])
def test_a_hole_among_stamps_that_scatter_shows_in_their_mean(scattered, lost):
    ingest, samples = scattered(seconds=30.0, lost=lost)

    hole = len(lost) * 1024
    assert 0.5 * hole < ingest.counters['lost_samples'] < 1.3 * hole
    assert abs(ingest.track.end - (BEGIN + len(samples))) / 16 <= 40
    assert any('got a hole' in text for text in ingest.take_warnings())


@pytest.mark.parametrize('jitter_ms', [(0, 0), JITTER_MS])
@pytest.mark.parametrize('ppm', [1200, -1200])
def test_a_drift_of_as_much_as_an_hour_of_200_ppm_is_followed(scattered, ppm, jitter_ms):
    seconds = 600.0
    ingest, _ = scattered(seconds, ppm=ppm, jitter_ms=jitter_ms)

    end = index_of(BEGIN_NS + round(seconds * (1 + ppm / 1e6) * 1e9))
    assert abs(ingest.track.end - end) / 16 <= 35
    assert ingest.track.read(ingest.track.end - 100 * 16_000, 100 * 16_000)[1].all()
    assert ingest.counters['lost_samples'] == 0
    assert ingest.counters['reanchored'] == 0


@pytest.mark.parametrize('ppm', [200, -200])
def test_a_stream_without_stamps_whose_clock_drifts_is_followed(audio, ppm):
    rng = np.random.default_rng(0)
    samples = audio.noise(1200 * 16_000)
    ingest = audio.ingest()

    for packet in audio.packets(samples, 1600, is_counted=False):
        arrival_ns = audio.arrival_of(packet)
        arrival_ns += round((arrival_ns - BEGIN_NS) * ppm / 1e6 + rng.uniform(0, 30) * MS)
        ingest.push(audio.change(packet, stamp_ns=None), arrival_ns)

    end = index_of(BEGIN_NS + round(1200e9 * (1 + ppm / 1e6)))
    assert abs(ingest.track.end - end) / 16 <= 25
    assert ingest.counters['lost_samples'] == 0


def test_a_correction_of_the_clock_repeats_a_sample_and_leaves_no_hole(scattered, audio):
    ingest, samples = scattered(seconds=100.0, chunk=320, ppm=200, jitter_ms=(0, 0))

    heard, is_present = audio.read_all(ingest)
    assert is_present.all()
    n_more = len(heard) - len(samples)
    assert 0 < n_more < 400
    assert_array_equal(heard[: 16_000 * 40], samples[: 16_000 * 40])
    assert_array_equal(heard[-320:], samples[-320:])


def test_packets_of_a_stream_without_a_count_that_overtake_each_other_fill_their_holes(audio):
    samples = audio.noise(32_000)
    packets = audio.packets(samples, 1024, is_counted=False)
    for i in range(3, 30, 5):
        packets[i], packets[i + 1] = packets[i + 1], packets[i]
    ingest = audio.ingest()

    for packet in packets:
        ingest.push(packet, BEGIN_NS + 3_000 * MS)

    assert_array_equal(audio.read_all(ingest)[0], samples[:, 0])
    assert ingest.counters['lost_samples'] == 0
    assert ingest.take_warnings() == []


def test_two_publishers_without_a_count_are_not_taken_for_one_that_scatters(audio):
    one = audio.packets(audio.noise(160_000), 1024, is_counted=False)
    two = audio.packets(
        audio.noise(160_000, seed=1), 1024, begin_ns=BEGIN_NS + 30 * MS, is_counted=False
    )
    ingest = audio.ingest()

    audio.push_all(ingest, sorted(one + two, key=audio.arrival_of))

    assert abs(ingest.track.end - (BEGIN + 160_000)) / 16 <= 150
    assert any('got two that write the same instants' in t for t in ingest.take_warnings())
