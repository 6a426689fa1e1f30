# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
import pytest

from timar_ros.stream.buffer import index_of
from timar_ros.stream.resample import Resampler

BEGIN_NS = 1_700_000_000_000_000_000
BEGIN = index_of(BEGIN_NS)
MS = 1_000_000


@pytest.mark.parametrize('role', ['user', 'agent'])
@pytest.mark.parametrize('is_counted', [True, False])
@pytest.mark.parametrize('chunk', [160, 441, 4_096, 40_000])
def test_a_clean_stream_arrives_sample_by_sample(audio, role, is_counted, chunk):
    samples = audio.noise(48_000)
    ingest = audio.ingest(role)

    packets = audio.packets(samples, chunk, is_counted=is_counted)
    audio.push_all(ingest, packets, lead_ms=400 if role == 'agent' else None)
    heard, is_present = audio.read_all(ingest)

    assert ingest.track.begin == BEGIN
    assert is_present.all()
    assert_array_equal(heard, samples[:, 0])
    assert audio.counted(ingest) == {'samples': 48_000}
    assert ingest.take_warnings() == []


@pytest.mark.parametrize(('rate_hz', 'channels'), [(8_000, 1), (44_100, 2), (48_000, 2)])
def test_resampled_audio_does_not_depend_on_how_it_was_chunked(audio, rate_hz, channels):
    samples = audio.noise(2 * rate_hz, channels)
    rng = np.random.default_rng(1)
    chunks = [rate_hz // 100, 40_000, lambda: int(rng.integers(1, 3_000))]
    whole = Resampler(rate_hz).resample(samples.mean(axis=1, dtype=np.float32))

    for chunk in chunks:
        ingest = audio.ingest()
        audio.push_all(ingest, audio.packets(samples, chunk, rate_hz))
        heard, is_present = audio.read_all(ingest)

        assert is_present.all()
        assert_array_equal(heard, whole, err_msg=f'chunk {chunk}')
        assert audio.counted(ingest) == {'samples': 32_000}


@pytest.mark.parametrize('rate_hz', [8_000, 48_000])
def test_every_instant_of_a_packet_is_there_as_soon_as_it_came(audio, rate_hz):
    samples = audio.noise(rate_hz // 10)
    ingest = audio.ingest()

    audio.push_all(ingest, audio.packets(samples, rate_hz // 100, rate_hz))

    assert ingest.track.end == BEGIN + 1_600


@pytest.mark.parametrize('rate_hz', [8_000, 16_000, 44_100])
def test_packets_in_any_order_and_twice_make_the_same_track(audio, rate_hz):
    samples = audio.noise(rate_hz)
    packets = audio.packets(samples, rate_hz // 50, rate_hz)
    in_order, shuffled = audio.ingest(), audio.ingest()
    order = np.argsort(np.arange(len(packets)) + np.random.default_rng(0).uniform(0, 8, 50))
    order[0], order[np.flatnonzero(order == 0)[0]] = 0, order[0]

    audio.push_all(in_order, packets)
    for i in order:
        shuffled.push(packets[i], BEGIN_NS + 2_000 * MS)
        shuffled.push(packets[i], BEGIN_NS + 2_000 * MS)

    assert_array_equal(audio.read_all(shuffled)[0], audio.read_all(in_order)[0])
    assert audio.read_all(shuffled)[1].all()
    assert shuffled.counters['lost_samples'] == 0
    assert shuffled.counters['repeated_samples'] == pytest.approx(16_000, abs=50)
    assert shuffled.counters['late_samples'] > 1_000
    assert shuffled.counters['jumps'] == 0


def test_stamps_near_the_sample_count_are_snapped_to_it(audio):
    samples = audio.noise(32_000)
    rng = np.random.default_rng(0)

    for is_counted in (True, False):
        ingest = audio.ingest()
        for packet in audio.packets(samples, 160, is_counted=is_counted):
            jitter_ns = rng.integers(-20, 21) * MS if packet.stamp_ns > BEGIN_NS else 0
            ingest.push(
                audio.change(packet, stamp_ns=packet.stamp_ns + jitter_ns),
                audio.arrival_of(packet),
            )
        heard, is_present = audio.read_all(ingest)

        assert is_present.all()
        assert_array_equal(heard, samples[:, 0])


@pytest.mark.parametrize('rate_hz', [16_000, 48_000])
def test_silence_sent_later_withdraws_what_the_agent_was_going_to_say(audio, rate_hz):
    speech = np.full((rate_hz, 1), 0.5, np.float32)
    silence = np.zeros((rate_hz // 2, 1), np.float32)
    sent = audio.packets(speech, rate_hz // 50, rate_hz)
    withdrawn = audio.packets(silence, rate_hz // 50, rate_hz, BEGIN_NS + 500 * MS, count=rate_hz)
    ingest = audio.ingest('agent')

    for packet in sent:
        ingest.push(audio.change(packet, sent_ns=BEGIN_NS - 400 * MS), BEGIN_NS - 400 * MS)
    for packet in withdrawn:
        ingest.push(audio.change(packet, sent_ns=BEGIN_NS + 100 * MS), BEGIN_NS + 100 * MS)
    before, _ = ingest.track.read(BEGIN, 16_000, sent_before_ns=BEGIN_NS)
    after, is_present = ingest.track.read(BEGIN, 16_000, sent_before_ns=BEGIN_NS + 100 * MS)

    assert_allclose(before[100:-100], 0.5, atol=1e-4)
    assert_allclose(after[100:7_999], 0.5, atol=1e-4)
    assert_array_equal(after[8_000:], np.zeros(8_000))
    assert is_present.all()
    assert not ingest.jumped


def test_an_utterance_that_arrives_after_it_was_withdrawn_stays_withdrawn(audio):
    ingest = audio.ingest('agent')
    (speech,) = audio.packets(audio.noise(1_600), 1_600)
    (silence,) = audio.packets(np.zeros((1_600, 1), np.float32), 1_600)

    ingest.push(audio.change(silence, sent_ns=BEGIN_NS - 1), BEGIN_NS)
    ingest.push(audio.change(speech, sent_ns=BEGIN_NS - 2), BEGIN_NS)

    assert_array_equal(audio.read_all(ingest)[0], np.zeros(1_600))


@pytest.mark.parametrize('jitter_ms', [0, 150])
def test_packets_without_a_stamp_are_placed_on_arrival_and_then_counted(audio, jitter_ms):
    samples = audio.noise(32_000)
    rng = np.random.default_rng(0)
    for role, begin in (('user', BEGIN), ('agent', BEGIN + 320)):
        ingest = audio.ingest(role)
        late_ms = 0
        for packet in audio.packets(samples, 320, is_counted=False):
            # arrival is late by up to the jitter, and packets queue behind a late one
            late_ms = max(late_ms - 20, int(rng.integers(0, jitter_ms + 1))) if late_ms else 1
            arrival_ns = audio.arrival_of(packet) + (late_ms - 1) * MS
            ingest.push(audio.change(packet, stamp_ns=None), arrival_ns)
        heard, is_present = audio.read_all(ingest)

        assert ingest.track.begin == begin
        assert is_present.all()
        assert_array_equal(heard, samples[:, 0])


def test_unstamped_packets_after_a_pause_begin_anew(audio):
    ingest = audio.ingest()
    (packet,) = audio.packets(audio.noise(320), 320, is_counted=False)
    packet = audio.change(packet, stamp_ns=None)

    ingest.push(packet, BEGIN_NS)
    ingest.push(packet, BEGIN_NS + 5_000 * MS)

    assert ingest.track.end == BEGIN + 80_000
    assert not ingest.track.read(BEGIN, 80_000 - 320)[1].any()


def test_what_another_publisher_sent_meanwhile_is_not_lost(audio):
    samples = audio.noise(32_000)
    slow = audio.packets(samples, 320)
    fast = audio.packets(audio.noise(48_000), 960, 48_000, BEGIN_NS + 500 * MS)
    ingest = audio.ingest()

    audio.push_all(ingest, slow[:25] + fast + slow[75:])

    assert audio.counted(ingest) == {'samples': 32_000, 'rate_changes': 1}


def test_a_voice_announced_after_it_should_have_sounded_is_counted(audio):
    ingest = audio.ingest('agent')
    early, half, late = audio.packets(audio.noise(960), 320)

    ingest.push(early, BEGIN_NS - 400 * MS)
    ingest.push(half, BEGIN_NS + 30 * MS)
    ingest.push(late, BEGIN_NS + 90 * MS)

    assert audio.counted(ingest) == {'samples': 960, 'late_samples': 160 + 320}
    assert any('announced before it sounds' in text for text in ingest.take_warnings())


@pytest.mark.parametrize('delays', ['stall of 60 ms', 'stall of 150 ms', 'scatter of 30 ms'])
def test_an_unbroken_count_loses_nothing_where_stamps_are_those_of_a_busy_publisher(audio, delays):
    samples = audio.noise(960_000)
    packets = audio.packets(samples, 320)
    ingest, sent_ns = audio.ingest(), 0
    scatter_ms = np.random.default_rng(5).exponential(30, len(packets))
    for i, packet in enumerate(packets):
        stall_ms = int(delays.split()[2]) if i % 50 == 0 else 0
        late_ms = scatter_ms[i] if 'scatter' in delays else stall_ms
        sent_ns = max(sent_ns + MS // 5, packet.stamp_ns + round(late_ms * MS))
        ingest.push(audio.change(packet, stamp_ns=sent_ns), sent_ns + 20 * MS)

    counters = ingest.counters
    assert counters['samples'] == 960_000
    names = ('lost_samples', 'overlapped_samples', 'late_samples', 'repeated_samples')
    assert {name: counters[name] for name in names} == dict.fromkeys(names, 0)
    assert ingest.take_warnings() == []
    heard, is_present = audio.read_all(ingest)
    assert is_present.mean() > 0.99
    if 'stall' in delays:  # stamps that rarely are off move nothing for long
        assert_array_equal(heard[-320_000:], samples[-320_000:, 0])
