# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Stamps by counting samples: noisy device times, drift, lost audio, set clocks."""

import numpy as np
import pytest

from timar_ros.stream.capture import Capture
from timar_ros.stream.device_time import SampleClock, ToldTimes

RATE_HZ = 16000
BLOCK = 160
BLOCK_NS = 10_000_000
START_NS = 1_700_000_000_000_000_000


def device_times(n_blocks: int, drift_ppm: float = 0.0, noise_ms: float = 0.0, seed: int = 0):
    """Yield frame, true time and reported time of each block, on the monotonic clock."""
    rng = np.random.default_rng(seed)
    for i in range(n_blocks):
        true_ns = 5_000_000_000 + round(i * BLOCK_NS * (1 + drift_ppm * 1e-6))
        yield i * BLOCK, true_ns, true_ns + round(rng.normal(0.0, noise_ms) * 1e6)


def place(capture, frame, true_ns, told_ns=None, offset_ns=START_NS):
    """Place a block that arrives 12 ms after its capture."""
    arrived_ns = true_ns + 12_000_000
    age_ns = arrived_ns - (true_ns if told_ns is None else told_ns)
    now_ns = arrived_ns + 1_000_000
    return capture.place(frame, BLOCK, arrived_ns, age_ns, now_ns, now_ns + offset_ns)


def test_stamps_are_contiguous_although_device_times_jitter():
    capture = Capture(RATE_HZ, usual_delay_ms=12.0)

    placed = [place(capture, *times) for times in device_times(1000, noise_ms=3.0)]

    stamps = np.array([p.stamp_ns for p in placed if p is not None])
    assert len(stamps) > 900
    np.testing.assert_allclose(np.diff(stamps), BLOCK_NS, atol=20_001)  # 2000 ppm of a block
    firsts = [p.first_sample for p in placed if p is not None]
    assert firsts == list(range(0, len(firsts) * BLOCK, BLOCK))


@pytest.mark.parametrize('drift_ppm', [-300.0, 0.0, 300.0])
def test_stamps_follow_a_device_that_drifts(drift_ppm):
    capture = Capture(RATE_HZ, usual_delay_ms=12.0)
    errors_ms = []

    for frame, true_ns, told_ns in device_times(12000, drift_ppm, noise_ms=2.0):
        placed = place(capture, frame, true_ns, told_ns)
        if placed is not None:
            errors_ms.append((placed.stamp_ns - START_NS - true_ns) / 1e6)

    assert np.abs(errors_ms).max() < 5.0
    assert np.abs(errors_ms[-3000:]).max() < 1.5
    assert capture.drift_ppm == pytest.approx(drift_ppm, abs=60.0)


@pytest.mark.parametrize('stale_ms', [-70, -720])
def test_stale_times_at_the_start_do_not_shift_stamps(stale_ms):
    capture = Capture(RATE_HZ, usual_delay_ms=15.0)
    errors_ms = []

    for i, (frame, true_ns, _) in enumerate(device_times(2500)):
        # As PulseAudio does it: constant for a second, then true within another.
        off_ns = stale_ms * 1e6 * min(1.0, max(0.0, (200 - i) / 100))
        arrived_ns = true_ns + 11_000_000
        age_ns = round(11_000_000 - off_ns)
        placed = capture.place(frame, BLOCK, arrived_ns, age_ns, true_ns, START_NS + true_ns)
        if placed is not None:
            errors_ms.append((placed.stamp_ns - START_NS - true_ns) / 1e6)

    assert len(errors_ms) > 2450
    assert np.abs(errors_ms).max() < 5.0  # the usual delay is 4 ms off
    assert abs(errors_ms[-1]) < 1.0
    assert capture.lost_samples == 0


def test_a_long_delay_is_believed_once_it_has_been_told_for_a_while():
    told = ToldTimes(RATE_HZ, usual_delay_ms=-10.0)

    errors_ms = []
    for frame, true_ns, _ in device_times(300):
        errors_ms.append(
            (told.time_ns(frame, true_ns + 150_000_000, -150_000_000) - true_ns) / 1e6
        )

    np.testing.assert_array_equal(errors_ms[:200], 140.0)
    np.testing.assert_array_equal(errors_ms[201:], 0.0)


def test_a_device_that_tells_nothing_is_timed_by_its_promptest_calls():
    told = ToldTimes(RATE_HZ, usual_delay_ms=30.0)
    late_ns = [30_000_000, 20_000_000, 10_000_000, 0]  # they come four at a time

    times_ns = [
        told.time_ns(frame, true_ns + late_ns[i % 4], None)
        for i, (frame, true_ns, _) in enumerate(device_times(300))
    ]

    expected = [true_ns + 30_000_000 for _, true_ns, _ in device_times(300)]
    assert times_ns[3:] == expected[3:]


def test_blocks_left_out_are_a_hole_of_their_length():
    capture = Capture(RATE_HZ, usual_delay_ms=12.0)
    placed = {}

    for i, (frame, true_ns, _) in enumerate(device_times(100)):
        if not 70 <= i < 75:
            placed[i] = place(capture, frame, true_ns)

    assert placed[75].first_sample - placed[69].first_sample == 6 * BLOCK
    assert capture.lost_samples == 5 * BLOCK
    assert placed[75].stamp_ns - placed[69].stamp_ns == pytest.approx(6 * BLOCK_NS, abs=20_000)


def test_audio_that_the_device_lost_becomes_a_hole():
    capture = Capture(RATE_HZ, usual_delay_ms=12.0)

    for i, (frame, true_ns, _) in enumerate(device_times(400)):
        lost_ns = 80_000_000 if i >= 200 else 0  # frames are counted on, time is not
        placed = place(capture, frame, true_ns + lost_ns)

    assert capture.lost_samples == pytest.approx(0.08 * RATE_HZ, abs=2)
    assert placed.stamp_ns - START_NS == pytest.approx(true_ns + lost_ns, abs=1_000_000)


@pytest.mark.parametrize('step_s', [-5, 5])
def test_a_set_clock_moves_stamps_and_loses_nothing(step_s):
    capture = Capture(RATE_HZ, usual_delay_ms=12.0)

    for i, (frame, true_ns, _) in enumerate(device_times(400)):
        step_ns = step_s * 1_000_000_000 if i >= 200 else 0
        placed = place(capture, frame, true_ns, offset_ns=START_NS + step_ns)

    assert placed.stamp_ns - START_NS - step_ns == pytest.approx(true_ns, abs=1_000_000)
    assert (capture.clock_steps, capture.lost_samples) == (1, 0)


def test_the_count_goes_on_over_an_unplugged_device():
    capture = Capture(RATE_HZ, usual_delay_ms=12.0)
    before = [place(capture, frame, t) for frame, t, _ in device_times(100)][-1]
    away_ns = 3_000_000_000

    capture.restart(RATE_HZ)
    after = [place(capture, frame, t + away_ns) for frame, t, _ in device_times(100)]

    first = next(p for p in after if p is not None)
    elapsed_s = (first.stamp_ns - before.stamp_ns) / 1e9
    assert first.first_sample - before.first_sample == pytest.approx(elapsed_s * RATE_HZ, abs=2)
    assert capture.lost_samples == first.first_sample - before.first_sample - BLOCK


@pytest.mark.parametrize('step_s', [-3600, 3600])
def test_a_clock_that_is_set_while_the_device_is_away_is_no_lost_audio(step_s):
    capture = Capture(RATE_HZ, usual_delay_ms=12.0)
    before = [place(capture, frame, t) for frame, t, _ in device_times(100)][-1]
    away_ns = 3_000_000_000
    begin_ns = [t for _, t, _ in device_times(100)][-1] - 5_000_000_000 + BLOCK_NS + away_ns

    capture.restart(RATE_HZ)
    offset_ns = START_NS + step_s * 1_000_000_000
    after = [
        place(capture, frame, t + begin_ns, offset_ns=offset_ns)
        for frame, t, _ in device_times(100)
    ]

    first = next(p for p in after if p is not None)
    settling = after.index(first) * BLOCK
    hole = first.first_sample - before.first_sample - BLOCK
    assert hole == pytest.approx(3 * RATE_HZ + settling, abs=2)
    assert capture.lost_samples == hole


def test_a_device_that_comes_back_at_another_rate_counts_at_that_rate():
    capture = Capture(RATE_HZ, usual_delay_ms=12.0)
    before = [place(capture, frame, t) for frame, t, _ in device_times(100)][-1]

    capture.restart(3 * RATE_HZ)
    after = [
        capture.place(
            3 * frame, 3 * BLOCK, t + 2_000_000_000, None, t + 2_000_000_000, START_NS + t
        )
        for frame, t, _ in device_times(100)
    ]

    first = next(p for p in after if p is not None)
    assert first.first_sample >= 3 * (before.first_sample + BLOCK)


def test_a_clock_that_has_not_settled_tells_no_time():
    clock = SampleClock(RATE_HZ, warm_up=3)
    clock.observe(0, 0)

    assert not clock.is_settled
    with pytest.raises(RuntimeError, match='observe more'):
        clock.time_ns(0)
    with pytest.raises(ValueError, match='above 0 Hz, got 0'):
        SampleClock(0)
