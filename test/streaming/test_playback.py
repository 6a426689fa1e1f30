# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""When the agent's voice sounds: announced in time, contiguous, taken back by a stop."""

import numpy as np
import pytest
from scipy.signal import correlate

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.playback import PlaybackCursor, PlaybackSchedule
from timar_ros.stream.resample import Resampler

RATE_HZ = 48000
LEAD_MS, JITTER_MS, SLACK_MS = 400, 50, 500
T0_NS = 1_700_000_000_123_456_789
MS = 1_000_000


def make_schedule(**options) -> PlaybackSchedule:
    return PlaybackSchedule(RATE_HZ, LEAD_MS, JITTER_MS, SLACK_MS, **options)


def packet(samples, rate_hz=RATE_HZ, first=0) -> AudioPacket:
    samples = np.asarray(samples, np.float32)
    samples = samples[:, None] if samples.ndim == 1 else samples
    return AudioPacket(None, first, None, rate_hz, samples)


def noise(duration_s: float, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, round(duration_s * rate_hz)).astype(np.float32)


def pump(schedule, start_ms: int, end_ms: int, deliveries=()) -> list[AudioPacket]:
    """Announce every 10 ms; deliver (ms, packet) on the way."""
    deliveries = list(deliveries)
    announced = []
    for ms in range(start_ms, end_ms, 10):
        while deliveries and deliveries[0][0] <= ms:
            schedule.push(deliveries.pop(0)[1], T0_NS + ms * MS)
        announced += schedule.announce(T0_NS + ms * MS)
    return announced


def heard(packets) -> tuple[int, np.ndarray]:
    """Compose announcements, later ones over earlier ones; returns first position and samples."""
    first = min(p.first_sample for p in packets)
    last = max(p.first_sample + len(p.samples) for p in packets)
    out = np.zeros(last - first, np.float32)
    for p in packets:
        at = p.first_sample - first
        out[at : at + len(p.samples)] = p.samples[:, 0]
    return first, out


def test_nothing_sounds_sooner_than_the_lead_after_its_announcement():
    schedule = make_schedule()
    voice = noise(3.0)
    deliveries = [(i * 70, packet(voice[i * 4800 :][:4800], first=i * 4800)) for i in range(30)]

    announced = pump(schedule, 0, 4000, deliveries)

    lead_ms = [(p.stamp_ns - p.sent_ns) / MS for p in announced]
    assert min(lead_ms) >= LEAD_MS
    assert max(lead_ms) <= LEAD_MS + JITTER_MS + SLACK_MS


def test_stamps_are_where_the_samples_are():
    schedule = make_schedule()

    announced = pump(schedule, 0, 2000, [(0, packet(noise(1.0)))])

    for p in announced:
        assert abs(p.stamp_ns - p.first_sample * 1e9 / RATE_HZ) <= 256  # of float64 at 1.7e18
        assert schedule.index(p.stamp_ns) == p.first_sample


@pytest.mark.parametrize('rate_hz', [16000, 22050, 24000, 44100, 48000])
@pytest.mark.parametrize('chunk_ms', [7, 100, 2000])
def test_an_utterance_sounds_as_it_was_resampled_at_once(rate_hz, chunk_ms):
    schedule = make_schedule()
    voice = noise(2.0, rate_hz)
    n = rate_hz * chunk_ms // 1000
    starts = range(0, len(voice), n)
    deliveries = [
        (k * min(chunk_ms, 20), packet(voice[i : i + n], rate_hz, i)) for k, i in enumerate(starts)
    ]

    first, out = heard(pump(schedule, 0, 8000, deliveries))

    expected = voice
    if rate_hz != RATE_HZ:
        expected = Resampler(rate_hz, RATE_HZ).resample(voice)
    np.testing.assert_allclose(out, expected, atol=1e-6)
    assert schedule.counters['underruns'] == 0
    assert schedule.counters['samples'] == len(expected)
    assert first == schedule.index(T0_NS) + (LEAD_MS + JITTER_MS) * 48 or chunk_ms == 7


def test_channels_are_mixed_to_one():
    schedule = make_schedule()
    left, right = noise(0.3, seed=1), noise(0.3, seed=2)

    _, out = heard(pump(schedule, 0, 500, [(0, packet(np.stack([left, right], 1)))]))

    np.testing.assert_allclose(out, (left + right) / 2, atol=1e-6)


def test_a_voice_delivered_just_in_time_is_not_interrupted():
    rng = np.random.default_rng(0)
    schedule = make_schedule()
    voice = noise(4.0)
    deliveries = [
        (i * 20 + int(rng.integers(0, 3)) * 10, packet(voice[i * 960 :][:960], first=i * 960))
        for i in range(200)
    ]

    _, out = heard(pump(schedule, 0, 5000, deliveries))

    np.testing.assert_array_equal(out, voice)
    assert schedule.counters['underruns'] == 0


def test_a_late_delivery_is_an_underrun_filled_with_silence():
    schedule = make_schedule()
    voice = noise(1.0)
    deliveries = [(0, packet(voice[:24000])), (700, packet(voice[24000:], first=24000))]

    first, out = heard(pump(schedule, 0, 2000, deliveries))

    gap = (700 - 500) * 48  # the first half was over 500 ms after it began
    np.testing.assert_array_equal(out[:24000], voice[:24000])
    np.testing.assert_array_equal(out[24000 : 24000 + gap], 0)
    np.testing.assert_array_equal(out[24000 + gap :], voice[24000:])
    assert schedule.counters['underruns'] == 1
    assert schedule.counters['underrun_samples'] == gap


def test_a_pause_between_utterances_is_no_underrun():
    schedule = make_schedule()
    deliveries = [(0, packet(noise(0.3))), (2000, packet(noise(0.3)))]

    announced = pump(schedule, 0, 3000, deliveries)

    assert schedule.counters['underruns'] == 0
    starts_ms = sorted({round((p.stamp_ns - T0_NS) / MS) for p in announced})
    assert starts_ms == [450, 550, 650, 2450, 2550, 2650]


def test_utterances_delivered_together_sound_one_after_the_other():
    schedule = make_schedule()
    one, two = noise(0.3, 24000, seed=1), noise(0.3, 16000, seed=2)

    _, out = heard(pump(schedule, 0, 2000, [(0, packet(one, 24000)), (0, packet(two, 16000))]))

    expected = [Resampler(24000, RATE_HZ).resample(one), Resampler(16000, RATE_HZ).resample(two)]
    np.testing.assert_allclose(out, np.concatenate(expected), atol=1e-6)


def test_a_stop_withdraws_what_will_not_be_heard():
    schedule = make_schedule()
    voice = noise(5.0)
    announced = pump(schedule, 0, 1000, [(0, packet(voice))])
    first, before = heard(announced)

    withdrawn = schedule.stop(T0_NS + 1000 * MS)
    left, _ = schedule.read(first, len(before))
    after_stop = pump(schedule, 1000, 4000)

    _, out = heard(announced + withdrawn)
    cut = schedule.index(T0_NS + 1000 * MS) - first
    np.testing.assert_array_equal(out[:cut], before[:cut])
    np.testing.assert_array_equal(out[cut:], 0)
    np.testing.assert_array_equal(left, out)
    assert len(out) == len(before)  # all that was announced has been taken back
    assert after_stop == []
    counters = schedule.counters
    assert counters['withdrawn_samples'] == len(before) - cut
    assert counters['dropped_samples'] == len(voice) - len(before)


def test_what_is_left_of_a_stopped_utterance_is_not_spoken():
    schedule = make_schedule()
    voice = noise(3.0)
    chunks = [packet(voice[i : i + 4800], first=i) for i in range(0, len(voice), 4800)]
    pump(schedule, 0, 500, [(i * 100, c) for i, c in enumerate(chunks[:5])])

    schedule.stop(T0_NS + 500 * MS)
    rest = pump(schedule, 500, 1500, [(500 + i * 100, c) for i, c in enumerate(chunks[5:15])])
    new = pump(schedule, 1500, 2500, [(1500, packet(noise(0.2, seed=9)))])

    assert rest == []
    np.testing.assert_array_equal(heard(new)[1], noise(0.2, seed=9))
    assert schedule.counters['dropped_samples'] == 10 * 4800


def test_a_voice_can_be_heard_again_after_a_stop_although_its_sender_counts_on():
    schedule = make_schedule()
    pump(schedule, 0, 200, [(0, packet(noise(0.5)))])
    schedule.stop(T0_NS + 200 * MS)

    new = pump(schedule, 1000, 2000, [(1000, packet(noise(0.2, seed=9), first=24000))])

    np.testing.assert_array_equal(heard(new)[1], noise(0.2, seed=9))
    assert schedule.counters['underruns'] == 0


def test_a_stop_in_silence_takes_nothing_back():
    schedule = make_schedule()

    assert schedule.stop(T0_NS) == []
    assert schedule.counters['withdrawn_samples'] == 0


@pytest.mark.parametrize('stalled_ms', [100, 450])
def test_a_stall_within_the_slack_is_not_heard(stalled_ms):
    schedule = make_schedule()
    voice = noise(3.0)

    announced = pump(schedule, 0, 500, [(0, packet(voice))])
    announced += pump(schedule, 500 + stalled_ms, 4000)

    np.testing.assert_array_equal(heard(announced)[1], voice)


def test_a_longer_stall_moves_the_rest_and_keeps_the_lead():
    schedule = make_schedule()
    voice = noise(3.0)

    announced = pump(schedule, 0, 500, [(0, packet(voice))])
    announced += pump(schedule, 1500, 4000)

    assert min((p.stamp_ns - p.sent_ns) / MS for p in announced) >= LEAD_MS
    assert schedule.counters['underruns'] == 1
    _, out = heard(announced)
    np.testing.assert_array_equal(out[out != 0], voice[voice != 0])


def test_a_clock_set_back_repeats_nothing_and_loses_nothing():
    schedule = make_schedule()
    voice = noise(3.0)
    announced = pump(schedule, 5000, 6000, [(5000, packet(voice))])
    sounded = schedule.index(T0_NS + 5990 * MS) - announced[0].first_sample

    again = pump(schedule, 1000, 6000)

    _, out = heard(again)
    rest = [p for p in again if p.stamp_ns < T0_NS + 5000 * MS]
    np.testing.assert_array_equal(heard(rest)[1], voice[sounded:])
    np.testing.assert_array_equal(out[-len(voice) // 4 :], 0)  # silence where it had been told
    assert schedule.counters['clock_steps'] == 1


def test_a_queue_that_is_full_refuses_and_says_so():
    schedule = make_schedule(max_queue_s=2)

    schedule.push(packet(noise(1.5)), T0_NS)
    with pytest.raises(ValueError, match=r'at most 2 s .* got 1.0 s on top of 1.5 s'):
        schedule.push(packet(noise(1.0), first=72000), T0_NS)

    assert schedule.counters['refused_samples'] == 48000


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_samples_that_are_not_finite_are_refused(bad):
    with pytest.raises(ValueError, match='must be finite'):
        make_schedule().push(packet([0.0, bad]), T0_NS)


def run_device(
    schedule,
    cursor,
    n_blocks,
    latency_ms=30,
    drift_ppm=0.0,
    noise_ms=0.0,
    skip_at=None,
    start_ms=0,
):
    """Render blocks of 10 ms; returns the time at which each sample really sounds, and samples."""
    rng = np.random.default_rng(0)
    times_ns, out, extra_ns = [], [], start_ms * MS
    for i in range(n_blocks):
        if i == skip_at:
            extra_ns += 60 * MS  # the device ran empty and plays 60 ms of silence of its own
        block_ns = round(i * 10 * MS * (1 + drift_ppm * 1e-6)) + extra_ns
        now_ns = T0_NS + block_ns
        monotonic_ns = block_ns + 7_000 * MS
        schedule.announce(now_ns)
        cursor.observe_clock(monotonic_ns, now_ns)
        noise_ns = round(rng.normal(0, noise_ms) * MS)
        out.append(cursor.render(480, monotonic_ns, latency_ms * MS + noise_ns))
        step_ns = 10 * MS * (1 + drift_ppm * 1e-6) / 480
        times_ns.append(now_ns + latency_ms * MS + np.rint(np.arange(480) * step_ns).astype(int))
    return np.concatenate(times_ns), np.concatenate(out)


def offset_ms(schedule, times_ns, out, start, samples) -> float:
    """How much later than announced `samples` sound, by their cross-correlation."""
    lags = correlate(out, samples, 'valid', 'fft')
    return (times_ns[int(np.argmax(lags))] - schedule.stamp_ns(start)) / MS


@pytest.mark.parametrize(('drift_ppm', 'noise_ms'), [(0.0, 0.0), (200.0, 2.0), (-200.0, 2.0)])
def test_what_was_announced_for_an_instant_sounds_then(drift_ppm, noise_ms):
    schedule = make_schedule()
    cursor = PlaybackCursor(schedule, usual_delay_ms=30.0)
    voice = noise(20.0)
    schedule.push(packet(voice), T0_NS)

    times_ns, out = run_device(schedule, cursor, 2100, drift_ppm=drift_ppm, noise_ms=noise_ms)

    start = schedule.index(T0_NS) + (LEAD_MS + JITTER_MS) * 48
    for at_s in (0, 10, 19):
        part = voice[at_s * RATE_HZ :][:4800]
        offset = offset_ms(schedule, times_ns, out, start + at_s * RATE_HZ, part)
        assert abs(offset) < 6.0, f'{offset} ms at {at_s} s'
    assert cursor.resyncs == 0


def test_a_device_whose_delay_is_unusual_is_on_time_after_a_few_seconds():
    schedule = make_schedule()
    cursor = PlaybackCursor(schedule, usual_delay_ms=30.0)
    run_device(schedule, cursor, 400, latency_ms=180)
    voice = noise(1.0)
    schedule.push(packet(voice), T0_NS + 4000 * MS)

    times_ns, out = run_device(schedule, cursor, 200, latency_ms=180, start_ms=4000)

    start = schedule.index(T0_NS + 4000 * MS) + (LEAD_MS + JITTER_MS) * 48
    assert abs(offset_ms(schedule, times_ns, out, start, voice[:4800])) < 2.0


def test_a_device_that_ran_empty_is_put_back_on_the_timeline():
    schedule = make_schedule()
    cursor = PlaybackCursor(schedule, usual_delay_ms=30.0)
    voice = noise(6.0)
    schedule.push(packet(voice), T0_NS)

    times_ns, out = run_device(schedule, cursor, 640, skip_at=200)

    start = schedule.index(T0_NS) + (LEAD_MS + JITTER_MS) * 48
    part = voice[4 * RATE_HZ :][:4800]
    assert abs(offset_ms(schedule, times_ns, out, start + 4 * RATE_HZ, part)) < 2.0
    assert cursor.resyncs == 1


def test_a_drifting_device_is_put_right_in_silence():
    schedule = make_schedule()
    cursor = PlaybackCursor(schedule, usual_delay_ms=30.0)
    schedule.push(packet(noise(1.0)), T0_NS)
    times_ns, _ = run_device(schedule, cursor, 3000, drift_ppm=300.0)  # 9 ms in 30 s

    error_ms = (schedule.stamp_ns(cursor.rendered) - times_ns[-1]) / MS

    assert abs(error_ms) < 2.0
    assert cursor.resyncs == 0


def test_the_device_is_silent_until_its_clock_is_known():
    schedule = make_schedule()
    cursor = PlaybackCursor(schedule, usual_delay_ms=30.0)

    out = cursor.render(480, 0, None)

    np.testing.assert_array_equal(out, np.zeros(480))
    assert cursor.rendered is None
