# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
from numpy.testing import assert_array_equal
import pytest

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.buffer import index_of
from timar_ros.stream.resample import Resampler

BEGIN_NS = 1_700_000_000_000_000_000
BEGIN = index_of(BEGIN_NS)
MS = 1_000_000


@pytest.mark.parametrize('is_counted', [True, False])
@pytest.mark.parametrize('rate_hz', [16_000, 48_000])
def test_a_lost_chunk_of_the_user_is_a_counted_hole(audio, rate_hz, is_counted):
    samples = audio.noise(rate_hz)
    packets = audio.packets(samples, rate_hz // 20, rate_hz, is_counted=is_counted)
    ingest = audio.ingest()

    audio.push_all(ingest, packets[:5] + packets[6:])
    heard, is_present = audio.read_all(ingest)

    assert_array_equal(np.flatnonzero(~is_present), np.arange(4_000, 4_800))
    assert_array_equal(heard[4_000:4_800], 0)
    assert ingest.counters['lost_samples'] == 800
    assert ingest.take_warnings() == [
        'user audio: expected an unbroken stream, got a hole of 0.050 s; '
        'use a reliable publisher with depth 100 or more'
    ]
    assert ingest.take_warnings() == []


def test_a_lost_chunk_shorter_than_the_tolerance_is_seen_by_the_count(audio):
    samples = audio.noise(16_000)
    packets = audio.packets(samples, 160)
    ingest = audio.ingest()

    audio.push_all(ingest, packets[:5] + packets[6:])
    heard, is_present = audio.read_all(ingest)

    assert_array_equal(np.flatnonzero(~is_present), np.arange(800, 960))
    assert_array_equal(heard[960:], samples[960:, 0])


def test_counted_audio_whose_stamps_scatter_stays_unbroken_after_the_timebase_has_moved(audio):
    """Each packet used to go where its stamp was nearer: before or after the move."""
    samples = audio.noise(16_000 * 4)
    packets = audio.packets(samples, 320)
    ingest = audio.ingest()
    offsets_ms = [0] * 10 + [35] * 30 + [5, 30] * 80

    for packet, offset_ms in zip(packets, offsets_ms, strict=True):
        moved = audio.change(packet, stamp_ns=packet.stamp_ns + offset_ms * MS)
        ingest.push(moved, audio.arrival_of(packet) + 60 * MS)
    heard, _ = audio.read_all(ingest)

    move = 35 * 16
    assert ingest.counters['reanchored'] == 1
    assert ingest.counters['overlapped_samples'] == 0
    assert_array_equal(heard[40 * 320 + move :], samples[40 * 320 :, 0])


def test_a_few_wild_stamps_do_not_move_counted_audio_but_are_reported(audio):
    samples = audio.noise(16_000)
    packets = audio.packets(samples, 320)
    ingest = audio.ingest()

    for i, packet in enumerate(packets):
        shift_ns = 150 * MS if 10 <= i < 13 else 0
        ingest.push(
            audio.change(packet, stamp_ns=packet.stamp_ns + shift_ns), audio.arrival_of(packet)
        )

    assert_array_equal(audio.read_all(ingest)[0], samples[:, 0])
    assert audio.counted(ingest) == {'samples': 16_000, 'doubted': 3}


@pytest.mark.parametrize('shift_ms', [100, -100])
def test_stamps_that_stay_off_move_the_timebase_and_are_counted(audio, shift_ms):
    samples = audio.noise(32_000)
    ingest = audio.ingest()

    for i, packet in enumerate(audio.packets(samples, 320)):
        shift_ns = shift_ms * MS if i >= 50 else 0
        ingest.push(
            audio.change(packet, stamp_ns=packet.stamp_ns + shift_ns), audio.arrival_of(packet)
        )
    heard, _ = ingest.track.read(BEGIN + 20_000 + 16 * shift_ms, 12_000)

    assert_array_equal(heard, samples[20_000:, 0])
    assert ingest.counters['reanchored'] == 1
    assert ingest.counters['jumps'] == 0


def test_a_publisher_whose_clock_drifts_is_followed(audio):
    samples = audio.noise(16_000 * 20)
    packets = audio.packets(samples, 320)
    packets = [
        audio.change(p, stamp_ns=p.stamp_ns + (p.stamp_ns - BEGIN_NS) // 200) for p in packets
    ]
    ingest = audio.ingest()

    for packet in packets:
        ingest.push(packet, audio.arrival_of(packet))
        _, is_present = ingest.track.read(ingest.track.end - 320, 320)
        off_ms = (ingest.track.end - index_of(audio.arrival_of(packet))) / 16
        assert abs(off_ms) <= 22
        assert is_present.all()
    assert 3 <= ingest.counters['reanchored'] <= 6


@pytest.mark.parametrize('shift_s', [-5, 30])
def test_a_stamp_jump_forgets_what_was_heard_and_says_so(audio, shift_s):
    samples = audio.noise(32_000)
    packets = audio.packets(samples, 320)
    jumped = [audio.change(p, stamp_ns=p.stamp_ns + shift_s * 1000 * MS) for p in packets[50:]]
    ingest = audio.ingest()

    audio.push_all(ingest, packets[:50])
    assert not ingest.jumped
    for packet in jumped:
        ingest.push(packet, audio.arrival_of(packet) - shift_s * 1000 * MS)

    assert ingest.jumped
    assert ingest.counters['jumps'] == 1
    assert ingest.track.begin == BEGIN + 16_000 * (1 + shift_s)
    assert_array_equal(audio.read_all(ingest)[0], samples[16_000:, 0])
    assert any('the clock jumped' in text for text in ingest.take_warnings())


def test_arrival_that_goes_back_is_a_jump_for_either_voice(audio):
    for role in ('user', 'agent'):
        ingest = audio.ingest(role)
        packets = audio.packets(audio.noise(16_000), 320)

        audio.push_all(ingest, packets)
        audio.push_all(ingest, packets[:5])

        assert ingest.jumped
        assert ingest.track.end == BEGIN + 1_600
        assert ingest.counters['repeated_samples'] == 0


def test_a_pause_as_long_in_stamps_as_in_arrival_is_no_jump(audio):
    packets = audio.packets(audio.noise(3_200), 320)
    later = audio.packets(
        audio.noise(3_200, seed=1), 320, begin_ns=BEGIN_NS + 60_000 * MS, count=3_200
    )
    ingest = audio.ingest()

    audio.push_all(ingest, packets + later)

    assert not ingest.jumped
    assert audio.counted(ingest) == {'samples': 6_400, 'reanchored': 1}


def test_a_publisher_that_starts_again_goes_on_where_its_stamps_are(audio):
    first = audio.packets(audio.noise(16_000), 320, count=123_456)
    second = audio.packets(
        audio.noise(16_000, seed=1), 320, begin_ns=BEGIN_NS + 3_000 * MS, count=0
    )
    ingest = audio.ingest()

    audio.push_all(ingest, first + second)

    assert_array_equal(ingest.track.read(BEGIN, 16_000)[0], audio.noise(16_000)[:, 0])
    assert_array_equal(
        ingest.track.read(BEGIN + 48_000, 16_000)[0], audio.noise(16_000, seed=1)[:, 0]
    )
    assert not ingest.track.read(BEGIN + 16_000, 32_000)[1].any()
    assert ingest.counters['reanchored'] == 1


def test_a_rate_change_in_mid_stream_goes_on_without_a_seam(audio):
    wide, narrow = audio.noise(48_000), audio.noise(8_000, seed=1)
    ingest = audio.ingest()

    audio.push_all(ingest, audio.packets(wide, 480, 48_000))
    audio.push_all(ingest, audio.packets(narrow, 80, 8_000, begin_ns=BEGIN_NS + 1_000 * MS))
    heard, is_present = audio.read_all(ingest)

    assert is_present.all()
    assert_array_equal(heard[:16_000], Resampler(48_000).resample(wide[:, 0]))
    assert_array_equal(heard[16_000:], Resampler(8_000).resample(narrow[:, 0]))
    assert ingest.counters['rate_changes'] == 1
    assert ingest.take_warnings() == [
        'user audio: the rate should stay at 48000 Hz, got 8000 Hz in mid-stream; a new run starts'
    ]


def test_of_two_publishers_the_last_sample_written_holds_with_a_warning(audio):
    one = audio.packets(audio.noise(16_000), 1_600, count=5_000)
    two = audio.packets(audio.noise(16_000, seed=1), 1_600, begin_ns=BEGIN_NS + 30 * MS)
    ingest = audio.ingest()

    audio.push_all(ingest, sorted(one + two, key=audio.arrival_of))
    heard, is_present = ingest.track.read(BEGIN, 15_000)

    # chunks of two begin 480 samples after those of one, which cover what of two came before
    of_two = np.arange(15_000) % 1_600 >= 480
    expected = audio.noise(16_000)[:15_000, 0]
    expected[of_two] = audio.noise(16_000, seed=1)[np.flatnonzero(of_two) - 480, 0]
    assert is_present.all()
    assert_array_equal(heard, expected)
    assert ingest.counters['overlapped_samples'] > 10_000
    assert any('got two that write the same instants' in t for t in ingest.take_warnings())


def test_two_publishers_at_different_rates_do_not_break_each_other(audio):
    one, two = audio.noise(48_000), audio.noise(8_000, seed=1)
    packets = audio.packets(one, 960, 48_000)
    packets += audio.packets(two, 160, 8_000, begin_ns=BEGIN_NS + 500 * MS)
    ingest = audio.ingest()

    audio.push_all(ingest, sorted(packets, key=audio.arrival_of))
    heard, is_present = audio.read_all(ingest)

    assert is_present.all()
    # of each pair of packets that end together the one of two came last
    assert_array_equal(heard[-8_000:-100], Resampler(8_000).resample(two[:, 0])[-8_000:-100])
    assert ingest.counters['rate_changes'] <= 1


def test_the_agents_holes_are_normal_and_nothing_is_lost(audio):
    first = audio.packets(audio.noise(1_600), 160)
    second = audio.packets(
        audio.noise(1_600, seed=1), 160, begin_ns=BEGIN_NS + 900 * MS, count=1_600
    )
    ingest = audio.ingest('agent')

    audio.push_all(ingest, first + second, lead_ms=400)

    assert_array_equal(ingest.track.read(BEGIN, 1_600)[0], audio.noise(1_600)[:, 0])
    assert_array_equal(
        ingest.track.read(BEGIN + 14_400, 1_600)[0], audio.noise(1_600, seed=1)[:, 0]
    )
    assert not ingest.track.read(BEGIN + 1_600, 12_800)[1].any()
    assert audio.counted(ingest) == {'samples': 3_200}
    assert ingest.take_warnings() == []


def test_the_agent_cannot_fill_memory_with_the_far_future(audio):
    ingest = audio.ingest('agent')
    (packet,) = audio.packets(audio.noise(160), 160, begin_ns=BEGIN_NS + 61_000 * MS)

    with pytest.raises(ValueError, match='agent audio: stamps may be up to 60 s ahead .* 61.0 s'):
        ingest.push(packet, BEGIN_NS)
    assert audio.counted(ingest) == {'refused': 1}


def test_a_zero_stamp_is_none_unless_the_clock_is_near_zero(audio):
    samples = audio.noise(320)
    (packet,) = audio.packets(samples, 320, begin_ns=0)
    live, simulated = audio.ingest(), audio.ingest()

    live.push(packet, BEGIN_NS)
    simulated.push(packet, 20 * MS)

    assert live.track.end == BEGIN
    assert simulated.track.begin == 0


def test_a_publisher_that_never_counts_is_placed_by_its_stamps(audio):
    samples = audio.noise(16_000)
    packets = [audio.change(p, first_sample=0) for p in audio.packets(samples, 320)]
    ingest = audio.ingest()

    audio.push_all(ingest, packets)

    assert_array_equal(audio.read_all(ingest)[0], samples[:, 0])
    assert ingest.counters['lost_samples'] == 0
    assert any('first_sample should count' in text for text in ingest.take_warnings())


def test_heavy_loss_is_not_taken_for_a_broken_driver(audio):
    rng = np.random.default_rng(0)
    packets = audio.packets(audio.noise(16_000 * 20), 160, is_counted=False)
    ingest = audio.ingest()

    audio.push_all(ingest, [p for p in packets if rng.random() < 0.5])

    assert ingest.counters['refused'] == 0
    assert ingest.counters['samples'] > 100_000


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'sample_rate_hz': 0}, 'user audio: sample rate must be 4000 to 384000 Hz, got 0'),
        ({'sample_rate_hz': -16_000}, 'got -16000'),
        ({'samples': np.zeros((160, 0), np.float32)}, r'at least 1 channel, got \[160, 0\]'),
        ({'samples': np.zeros(160, np.float32)}, r'must be \[n, channels\]'),
        ({'samples': np.full((2, 2), np.nan, np.float32)}, 'got 4 of 4 NaN or infinite'),
        ({'samples': np.array([[0], [np.inf]], np.float32)}, 'got 1 of 2 NaN or infinite'),
    ],
)
def test_bad_packets_are_refused_and_the_next_good_one_is_heard(audio, changes, text):
    samples = audio.noise(640)
    first, bad, second = audio.packets(samples, 214)
    ingest = audio.ingest()

    ingest.push(first, audio.arrival_of(first))
    with pytest.raises(ValueError, match=text):
        ingest.push(audio.change(bad, **changes), audio.arrival_of(second))
    ingest.push(bad, audio.arrival_of(second))
    ingest.push(second, audio.arrival_of(second))

    assert_array_equal(audio.read_all(ingest)[0], samples[:, 0])
    assert audio.counted(ingest) == {'samples': 640, 'refused': 1}


def test_empty_packets_are_harmless(audio):
    samples = audio.noise(640)
    first, second = audio.packets(samples, 320)
    ingest = audio.ingest()

    for packet in (first, audio.change(first, samples=np.zeros((0, 1), np.float32)), second):
        ingest.push(packet, audio.arrival_of(second))

    assert_array_equal(audio.read_all(ingest)[0], samples[:, 0])
    assert audio.counted(ingest) == {'samples': 640, 'empty': 1}


@pytest.mark.parametrize('rate_hz', [16_000, 48_000])
def test_a_packet_of_twelve_seconds_is_taken_whole(audio, rate_hz):
    samples = audio.noise(12 * rate_hz)
    ingest = audio.ingest()

    audio.push_all(ingest, audio.packets(samples, len(samples), rate_hz))

    assert audio.read_all(ingest)[1].all()
    assert ingest.track.end - ingest.track.begin == 12 * 16_000


def test_integers_in_disguise_are_reported(audio):
    ingest = audio.ingest()

    audio.push_all(ingest, audio.packets(audio.noise(160) * 100_000, 160))

    assert 'user audio: samples should be within -1..1' in ingest.take_warnings()[0]


def test_memory_stays_bounded_whatever_comes(audio):
    ingest = audio.ingest()
    rng = np.random.default_rng(0)

    for i in range(3_000):
        stamp_ns = int(BEGIN_NS + i * 100 * MS + rng.normal() * 1e10)
        samples = audio.noise(int(rng.integers(1, 4_000)))
        rate_hz = int(rng.choice([8_000, 16_000, 48_000]))
        first_sample = int(rng.integers(0, 10**6))
        ingest.push(AudioPacket(stamp_ns, first_sample, None, rate_hz, samples), BEGIN_NS + i * MS)

    held = [ingest.track, *(run.native for run in ingest._runs)]
    assert sum(len(piece[3]) for track in held for piece in track._pieces) < 125 * 16_000
    assert len(ingest._runs) <= 4
    assert len(ingest.take_warnings()) <= 16


def test_reset_is_as_good_as_new(audio):
    packets = audio.packets(audio.noise(16_000), 320)
    used = audio.ingest()
    audio.push_all(used, packets)

    used.reset()
    audio.push_all(used, packets[10:20])

    assert used.track.begin == BEGIN + 3_200
    assert_array_equal(audio.read_all(used)[0], audio.noise(16_000)[3_200:6_400, 0])
    assert used.counters['repeated_samples'] == 0


def test_an_unknown_role_or_channel_is_refused(audio):
    with pytest.raises(ValueError, match="role must be 'user' or 'agent', got 'robot'"):
        audio.ingest('robot')
    with pytest.raises(ValueError, match="channel must be 'mean' or an index from 0 on, got -1"):
        audio.ingest(channel=-1)
