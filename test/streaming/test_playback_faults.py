# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Nothing that an utterance loses, and no clock that is set, mutes the next utterance."""

import numpy as np
import pytest

from timar_ros.stream import utterance_queue
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.playback import PlaybackSchedule
from timar_ros.stream.utterance import Utterance

RATE_HZ = 48000
T0_NS = 1_700_000_000_000_000_000
MS = 1_000_000
S = 1_000 * MS


def packet(samples, rate_hz=RATE_HZ, first=0) -> AudioPacket:
    samples = np.asarray(samples, np.float32)
    samples = samples[:, None] if samples.ndim == 1 else samples
    return AudioPacket(None, first, None, rate_hz, samples)


def noise(duration_s: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, round(duration_s * RATE_HZ)).astype(np.float32)


EMPTY = packet(np.zeros((0, 1)))


def announce(schedule, start_ns, end_ns):
    """Announce every 10 ms; return the samples, one after the other."""
    packets = [p for ns in range(start_ns, end_ns, 10 * MS) for p in schedule.announce(ns)]
    return np.concatenate([np.zeros(0, np.float32), *(p.samples[:, 0] for p in packets)])


def deliver(schedule, packets, start_ns, every_ms=20):
    """Deliver packets at their times and announce until all is said; return the samples."""
    said = []
    for i, each in enumerate(packets):
        ns = start_ns + i * every_ms * MS
        schedule.push(each, ns)
        said.append(announce(schedule, ns, ns + every_ms * MS))
    end_ns = start_ns + len(packets) * every_ms * MS
    said.append(announce(schedule, end_ns, end_ns + 3 * S))
    return np.concatenate(said)


@pytest.mark.parametrize('where', [0, 1, 2])
@pytest.mark.parametrize('empty_rate_hz', [RATE_HZ, 0, 2**31 - 1])
def test_an_empty_message_changes_nothing(where, empty_rate_hz):
    schedule, voice = PlaybackSchedule(RATE_HZ), noise(0.4)
    packets = [packet(voice[:9600]), packet(voice[9600:], first=9600)]
    packets.insert(where, packet(np.zeros((0, 1)), empty_rate_hz))

    said = deliver(schedule, packets, T0_NS)
    next_one = deliver(schedule, [packet(voice)], T0_NS + 5 * S)

    np.testing.assert_array_equal(said, voice)
    np.testing.assert_array_equal(next_one, voice)
    assert schedule.counters['underruns'] == 0


def test_an_utterance_of_nothing_but_empty_messages_is_no_utterance():
    schedule, voice = PlaybackSchedule(RATE_HZ), noise(0.2)

    assert len(deliver(schedule, [EMPTY] * 10, T0_NS)) == 0
    np.testing.assert_array_equal(deliver(schedule, [EMPTY, packet(voice)], T0_NS + 4 * S), voice)


def test_samples_that_a_sender_counted_and_nobody_got_are_counted_as_lost():
    schedule, voice = PlaybackSchedule(RATE_HZ), noise(0.6)
    packets = [packet(voice[i : i + 4800], first=i) for i in range(0, len(voice), 4800)]
    del packets[3]

    said = deliver(schedule, packets, T0_NS)

    np.testing.assert_array_equal(said, np.delete(voice, range(3 * 4800, 4 * 4800)))
    assert schedule.counters['lost_samples'] == 4800


def test_an_utterance_that_begins_while_another_sounds_is_no_slow_delivery():
    schedule = PlaybackSchedule(RATE_HZ)
    one = [packet(noise(0.2)[:4800]), packet(noise(0.2)[4800:], first=4800)]
    for each in one:
        schedule.push(each, T0_NS)
    announce(schedule, T0_NS, T0_NS + 400 * MS)  # it ends 250 ms from then

    deliver(schedule, [packet(noise(0.2, seed=1))], T0_NS + 400 * MS)

    assert schedule.counters['underruns'] == 0


@pytest.mark.parametrize('rate_hz', [44100, 48000])
@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize('value', [3e38, -3e38, 100.0])
def test_samples_far_beyond_full_scale_are_clipped_and_counted(rate_hz, channels, value):
    schedule = PlaybackSchedule(RATE_HZ)
    samples = np.zeros((4410, channels))
    samples[1000:1010] = value

    said = deliver(schedule, [packet(samples, rate_hz)], T0_NS)

    assert np.isfinite(said).all()
    assert 3.5 < np.abs(said).max() < 5.0
    assert schedule.counters['clipped_samples'] == 10 * channels


@pytest.mark.parametrize('rate_hz', [0, -1, 3999, 384_001, 10**8 + 7, 2**31 - 1, 2**32 - 1])
def test_a_rate_that_no_voice_has_is_refused_at_once(rate_hz):
    schedule = PlaybackSchedule(RATE_HZ)

    with pytest.raises(ValueError, match=f'sample rate must be 4000 to 384000 Hz, got {rate_hz}'):
        schedule.push(packet(noise(0.1), rate_hz), T0_NS)

    np.testing.assert_array_equal(deliver(schedule, [packet(noise(0.1))], T0_NS), noise(0.1))


@pytest.mark.parametrize('channels', [0, 17, 255])
def test_more_channels_than_a_voice_has_are_refused(channels):
    with pytest.raises(ValueError, match=f'channels must be at .*, got {channels}'):
        PlaybackSchedule(RATE_HZ).push(packet(np.zeros((10, channels))), T0_NS)


@pytest.mark.parametrize('back_s', [0.2, 5, 3600, 10**8])
def test_a_clock_set_back_in_silence_mutes_nothing(back_s):
    schedule, voice = PlaybackSchedule(RATE_HZ), noise(0.3)
    deliver(schedule, [packet(voice)], T0_NS)  # 3 s ago it was over

    then_ns = T0_NS + 3 * S - round(back_s * S)
    said = deliver(schedule, [packet(voice)], then_ns)

    np.testing.assert_array_equal(said, voice)


@pytest.mark.parametrize('back_s', [0.2, 5, 3600])
def test_a_stop_after_the_clock_was_set_back_in_silence_withdraws_nothing(back_s):
    schedule, voice = PlaybackSchedule(RATE_HZ), noise(0.3)
    deliver(schedule, [packet(voice)], T0_NS)

    then_ns = T0_NS + 3 * S - round(back_s * S)
    withdrawn = schedule.stop(then_ns)

    assert withdrawn == [] or back_s > 2  # of what sounded, what is still known
    assert all(not p.samples.any() for p in withdrawn)
    np.testing.assert_array_equal(deliver(schedule, [packet(voice)], then_ns + S), voice)


def test_an_utterance_goes_on_after_the_clock_was_set_back_in_the_midst_of_it():
    schedule, voice = PlaybackSchedule(RATE_HZ), noise(1.0)
    schedule.push(packet(voice[:28800]), T0_NS)
    announce(schedule, T0_NS, T0_NS + 20 * MS)  # all of it; none has sounded
    then_ns = T0_NS - 10 * S
    again = schedule.announce(then_ns)  # in part: the rest waits

    rest = deliver(schedule, [packet(voice[28800:], first=28800)], then_ns)

    heard = np.concatenate([*(p.samples[:, 0] for p in again), rest])
    np.testing.assert_array_equal(heard[-len(voice) :], voice)


def test_a_short_beginning_that_was_flushed_early_does_not_end_the_utterance():
    schedule, voice, low = PlaybackSchedule(RATE_HZ), noise(0.6), noise(0.2, seed=3)
    schedule.push(packet(voice), T0_NS)
    said = [announce(schedule, T0_NS, T0_NS + 20 * MS)]  # all of it: more than it must
    schedule.push(packet(low[:10], 16000), T0_NS + 20 * MS)  # too few for the resampler
    said.append(announce(schedule, T0_NS + 20 * MS, T0_NS + 70 * MS))

    said.append(deliver(schedule, [packet(low[10:], 16000, first=10)], T0_NS + 70 * MS))

    assert [len(part) for part in said] == [len(voice), 0, 3 * len(low)]


def test_what_is_left_of_a_stopped_utterance_stays_unspoken_where_messages_are_lost():
    schedule, voice = PlaybackSchedule(RATE_HZ), noise(3.0)
    packets = [packet(voice[i : i + 4800], first=i) for i in range(0, len(voice), 4800)]
    for i in range(5):
        schedule.push(packets[i], T0_NS + i * 100 * MS)
    schedule.stop(T0_NS + 500 * MS)

    rest = deliver(schedule, packets[5:8] + packets[9:12], T0_NS + 500 * MS, every_ms=100)

    assert len(rest) == 0
    assert schedule.counters['lost_samples'] == 0


@pytest.mark.parametrize('first', [1, 4800, 10**6, 2**63])
def test_an_utterance_that_follows_a_stop_at_once_is_spoken_wherever_its_count_begins(first):
    schedule, voice = PlaybackSchedule(RATE_HZ), noise(0.3)
    schedule.push(packet(noise(0.2), first=0), T0_NS)
    schedule.push(packet(noise(0.2), first=9600), T0_NS)
    schedule.stop(T0_NS + 10 * MS)

    packets = [packet(voice[:9600], first=first), packet(voice[9600:], first=first + 9600)]

    np.testing.assert_array_equal(deliver(schedule, packets, T0_NS + 20 * MS), voice)


def test_a_sender_that_streams_without_end_is_heard_again_after_two_seconds_of_silence():
    schedule = PlaybackSchedule(RATE_HZ)
    stream = np.concatenate([noise(1.0), np.zeros(3 * RATE_HZ), noise(1.0, seed=1)])
    said = []
    for i in range(0, len(stream), 960):
        now_ns = T0_NS + i * S // RATE_HZ
        if i == 960 * 30:
            schedule.stop(now_ns)
        schedule.push(packet(stream[i : i + 960], first=i), now_ns)
        said += schedule.announce(now_ns)
    said += schedule.announce(T0_NS + 5 * S)

    heard = np.concatenate([p.samples[:, 0] for p in said])
    np.testing.assert_array_equal(heard[-RATE_HZ:], noise(1.0, seed=1))
    assert schedule.counters['dropped_samples'] == pytest.approx(2.4 * RATE_HZ, abs=2000)


def test_ten_minutes_may_wait_and_no_more():
    schedule = PlaybackSchedule(8000)
    minute = np.zeros(60 * 8000)
    for i in range(10):
        schedule.push(packet(minute, 8000, first=i * len(minute)), T0_NS)

    with pytest.raises(ValueError, match=r'at most 600 s .* got 60.0 s on top of 600.0 s'):
        schedule.push(packet(minute, 8000, first=10 * len(minute)), T0_NS)


@pytest.mark.parametrize(
    ('name', 'most', 'n_pushes', 'continues'),
    [('UTTERANCES', 5, 6, False), ('MESSAGES', 7, 8, True), ('SAMPLES', 4000, 5, True)],
)
def test_what_waits_is_bounded_in_pieces_and_memory(monkeypatch, name, most, n_pushes, continues):
    monkeypatch.setattr(utterance_queue, f'_MAX_{name}', most)
    queue = utterance_queue.UtteranceQueue(48000, max_s=600)
    piece = packet(np.zeros(1000), 384_000)
    for _ in range(n_pushes - 1):
        queue.push(piece, continues)

    with pytest.raises(ValueError, match=f'at most {most} {name.lower()} waiting to be spoken'):
        queue.push(piece, continues)


@pytest.mark.parametrize('rate_hz', [24000, 48000])
def test_minutes_in_one_message_are_not_copied_with_each_announcement(rate_hz):
    utterance = Utterance(rate_hz, 48000)
    utterance.push(np.zeros(600 * rate_hz, np.float32))

    for _ in range(3):
        utterance.take(4800)
        assert utterance._buffer.size < 2 * 4800


@pytest.mark.parametrize('rate_hz', [16000, 48000])
@pytest.mark.parametrize('pause_ms', [30, 300, 5000])
def test_what_a_tts_delivered_before_it_died_is_spoken_and_so_is_the_next_utterance(
    rate_hz, pause_ms
):
    schedule, half = PlaybackSchedule(RATE_HZ), noise(0.6)
    ratio = RATE_HZ // rate_hz
    half = half[: len(half) // ratio]
    said = []
    for i in range(0, len(half), 320):
        ns = T0_NS + i * S // rate_hz
        schedule.push(packet(half[i : i + 320], rate_hz, first=i), ns)
        said.append(announce(schedule, ns, ns + 10 * MS))
    then_ns = T0_NS + (600 + pause_ms) * MS
    said.append(announce(schedule, ns + 10 * MS, then_ns))
    said.append(deliver(schedule, [packet(noise(0.2, seed=1))], then_ns))

    heard = np.concatenate(said)
    assert len(heard) == ratio * len(half) + 9600
    np.testing.assert_array_equal(heard[-9600:], noise(0.2, seed=1))
    assert schedule.counters['underruns'] == 0
