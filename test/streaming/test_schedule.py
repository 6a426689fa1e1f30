# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What is heard, known, shown and planned when (docs/design.md, Time)."""

import dataclasses

import pytest

from timar_ros.config import PRESETS, TimingConfig
from timar_ros.stream.schedule import Schedule

MS = 1_000_000
S = 1_000_000_000


def make_schedule(**timing) -> Schedule:
    return Schedule(PRESETS['mini'], TimingConfig(**timing))


def test_moments_are_turn_starts_and_their_fractions():
    schedule = make_schedule(replan_hz=5.0)

    moments = [schedule.next_moment(0)]
    while len(moments) < 7:
        moments.append(schedule.next_moment(moments[-1] + 1))

    assert moments == [0, 200 * MS, 400 * MS, 600 * MS, 800 * MS, 1000 * MS, 1200 * MS]


def test_a_rate_that_does_not_divide_a_turn_starts_again_at_each_turn():
    schedule = make_schedule(replan_hz=3.0, agent_lead_ms=500)

    moments = [schedule.next_moment(5 * S)]
    while len(moments) < 4:
        moments.append(schedule.next_moment(moments[-1] + 1))

    assert moments == [5 * S, 5 * S + 333_333_333, 5 * S + 666_666_667, 6 * S]


def test_rate_zero_plans_at_turn_starts_only():
    schedule = make_schedule(replan_hz=0.0)

    assert schedule.next_moment(1) == S
    assert schedule.next_moment(S) == S
    assert schedule.next_moment(S + 1) == 2 * S


def test_reactive_answers_each_turn_after_its_end_and_the_hearing_delay():
    schedule = make_schedule(timing='reactive', hearing_delay_ms=100)

    assert schedule.next_moment(0) == 100 * MS
    assert schedule.next_moment(100 * MS) == 100 * MS
    assert schedule.next_moment(100 * MS + 1) == 1100 * MS


def test_a_turn_is_over_when_its_last_sample_counts_as_heard():
    schedule = make_schedule(hearing_delay_ms=100)

    assert not schedule.is_over(4, 5 * S + 100 * MS - 1)
    assert schedule.is_over(4, 5 * S + 100 * MS)


def test_samples_stamped_at_the_moment_itself_count():
    schedule = make_schedule()

    assert schedule.samples_until(0) == 1
    assert schedule.samples_until(S) == 16001
    assert schedule.samples_until(S - 1) == 16000


@pytest.mark.parametrize('replan_hz', [0.0, 3.0, 5.0, 10.0])
@pytest.mark.parametrize('hearing_delay_ms', [0, 80, 200, 333, 830])
@pytest.mark.parametrize('fps', [20, 25])
def test_as_many_turns_as_are_open_at_the_worst_moment_fit(replan_hz, hearing_delay_ms, fps):
    config = dataclasses.replace(PRESETS['mini'], fps=fps)
    timing = TimingConfig(
        replan_hz=replan_hz, hearing_delay_ms=hearing_delay_ms, agent_lead_ms=3000
    )
    schedule = Schedule(config, timing)
    moment, most = schedule.next_moment(100 * S), 0
    while moment < 160 * S:
        last = schedule.last_open_turn(moment)
        open_turns = [k for k in range(last - 5, last + 1) if not schedule.is_over(k, moment)]
        most = max(most, len(open_turns))
        moment = schedule.next_moment(moment + 1)

    assert schedule.open_turns == most <= 3


def test_with_the_usual_delays_two_turns_are_open_and_the_others_are_memory():
    assert make_schedule(hearing_delay_ms=80).open_turns == 2
    assert make_schedule(timing='reactive').open_turns == 1


@pytest.mark.parametrize('replan_hz', [0.0, 1.0, 5.0, 12.5])
@pytest.mark.parametrize('plan_latency_ms', [40, 120, 300])
def test_a_turn_lies_ahead_at_any_moment_and_motion_until_the_next_plan_takes_over(
    replan_hz, plan_latency_ms
):
    schedule = make_schedule(
        replan_hz=replan_hz, plan_latency_ms=plan_latency_ms, agent_lead_ms=3000
    )
    moment = schedule.next_moment(100 * S)
    while moment < 102 * S:
        end = schedule.turn_ns(schedule.last_open_turn(moment) + 1)
        following = schedule.next_moment(moment + 1)

        assert end - moment >= S
        assert end >= following + plan_latency_ms * MS
        moment = following


def test_frames_before_the_plan_latency_are_shown():
    schedule = make_schedule(plan_latency_ms=120)

    assert schedule.first_planned_frame(0) == 3
    assert schedule.first_planned_frame(1) == 4
    assert schedule.frame_ns(schedule.first_planned_frame(200 * MS)) == 320 * MS


def test_reactive_shows_a_turn_as_late_as_it_says():
    schedule = make_schedule(timing='reactive', hearing_delay_ms=100, plan_latency_ms=120)
    moment = schedule.next_moment(3 * S + 100 * MS)

    first = schedule.first_planned_frame(moment)

    assert first == 2 * 25
    assert schedule.shown_ns(first) == 2 * S + 1220 * MS
    assert schedule.shown_ns(first) >= moment + 120 * MS


def test_the_grid_holds_at_the_times_of_a_real_clock():
    schedule = make_schedule()
    now = 1_795_000_000 * S + 123_456_789

    frame = schedule.frame_at_or_before(now)

    assert schedule.frame_ns(frame) <= now < schedule.frame_ns(frame + 1)
    assert schedule.frame_at_or_after(now) == frame + 1
    assert schedule.turn_of(now) == 1_795_000_000


def test_the_grid_of_another_frame_rate_does_not_drift():
    schedule = Schedule(
        dataclasses.replace(PRESETS['mini'], fps=32, frames_per_turn=32), TimingConfig()
    )

    for frame in (1, 2, 7, 31, 32, 33, 10_000_001):
        stamp = schedule.frame_ns(frame)
        assert schedule.frame_at_or_before(stamp) == frame
        assert schedule.frame_at_or_after(stamp) == frame
    assert schedule.turn_ns(7) == 7 * S


def test_a_hearing_delay_longer_than_a_turn_is_refused():
    with pytest.raises(ValueError, match=r'hearing_delay_ms must be at most a turn \(1000 ms\)'):
        make_schedule(hearing_delay_ms=1001)


def test_a_lead_too_short_for_lips_in_time_is_refused():
    with pytest.raises(ValueError, match='agent_lead_ms must be at least .* = 280, got 270'):
        TimingConfig(agent_lead_ms=270)
