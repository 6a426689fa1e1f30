# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Motion time runs steadily, whatever is done to the ROS clock; stamps follow the clock."""

import numpy as np
import pytest

from timar_ros.retarget.motion_clock import MotionClock

MS = 1_000_000
YEAR_NS = 365 * 86_400 * 10**9
BEGIN = 17 * 10**17


def _run(clock, offset_at, is_simulated=False, seconds=3.0, step_ms=10):
    """Return steady and motion times `[n]` of looks; `offset_at(ms)` is ROS minus steady time."""
    steady = np.arange(0, round(seconds * 1000), step_ms) * MS
    motion = [
        clock.look(int(BEGIN + t + offset_at(t // MS)), int(t), is_simulated) for t in steady
    ]
    return steady, np.array(motion)


@pytest.mark.parametrize('is_simulated', [False, True])
def test_without_a_step_motion_time_is_ros_time(is_simulated):
    clock = MotionClock()
    steady, motion = _run(clock, lambda ms: 0, is_simulated)
    np.testing.assert_array_equal(motion, BEGIN + steady)
    assert clock.shift_ns == 0


@pytest.mark.parametrize('is_simulated', [False, True])
@pytest.mark.parametrize(
    'step_ns', [200 * MS, -200 * MS, 5_000 * MS, -5_000 * MS, 50 * YEAR_NS, -50 * YEAR_NS]
)
def test_a_clock_that_is_set_moves_stamps_and_not_the_motion(step_ns, is_simulated):
    clock = MotionClock()
    steady, motion = _run(clock, lambda ms: step_ns if ms >= 1_000 else 0, is_simulated)
    np.testing.assert_array_equal(motion, BEGIN + steady)
    assert clock.shift_ns == step_ns


@pytest.mark.parametrize('rate', [0.1, 0.5, 2.0, 10.0])
def test_simulated_time_at_any_rate_is_motion_time(rate):
    clock = MotionClock()
    steady, motion = _run(clock, lambda ms: (rate - 1) * ms * MS, True)
    np.testing.assert_allclose(motion, BEGIN + rate * steady, atol=1)


def test_simulated_time_that_stood_and_hurries_afterwards_does_not_jump():
    clock = MotionClock()

    def offset(ms):
        return -(min(ms, 1_400) - 1_000) * MS if 1_000 <= ms < 1_500 else 0

    steady, motion = _run(clock, offset, True)
    assert motion[-1] == BEGIN + steady[-1]
    assert clock.shift_ns == 0


def test_stamps_follow_a_clock_that_is_slewed():
    clock = MotionClock()
    _run(clock, lambda ms: ms * 400, seconds=40)  # 400 ppm
    assert abs(clock.shift_ns - 40_000 * 400) < 2 * MS


def test_readings_at_slightly_different_moments_do_not_move_the_stamps():
    clock, rng = MotionClock(), np.random.default_rng(0)
    _run(clock, lambda ms: int(rng.integers(-450_000, 450_000)))
    assert clock.shift_ns == 0


def test_time_that_is_skipped_is_not_played():
    clock = MotionClock()
    clock.look(BEGIN, 0)
    assert clock.look(BEGIN + 600 * MS, 600 * MS) == BEGIN + 600 * MS
    clock.skip(590 * MS)
    assert clock.look(BEGIN + 610 * MS, 610 * MS) == BEGIN + 20 * MS
    assert clock.shift_ns == 590 * MS


def test_a_simulated_clock_that_is_set_to_and_fro_is_not_taken_for_a_faster_one():
    clock = MotionClock()

    def offset(ms):
        if ms < 1_000:
            return 0
        return 900 * MS if ms < 1_010 else -4_100 * MS if ms < 1_500 else 900 * MS

    steady, motion = _run(clock, offset, True)
    np.testing.assert_array_equal(motion, BEGIN + steady)


def test_a_simulated_clock_that_is_set_forward_twice_is_not_taken_for_a_faster_one():
    clock = MotionClock()

    def offset(ms):
        return sum(900 * MS for set_ms in (1_000, 1_010, 1_500) if ms >= set_ms)

    steady, motion = _run(clock, offset, True)
    np.testing.assert_array_equal(motion, BEGIN + steady)


@pytest.mark.parametrize('rate', [20.0, 90.0])
def test_the_rate_of_a_simulation_that_runs_many_times_faster_is_found(rate):
    clock = MotionClock()
    _, motion = _run(clock, lambda ms: (rate - 1) * ms * MS, True)
    np.testing.assert_allclose(np.diff(motion)[100:], rate * 10 * MS, atol=1_000)
