# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Nods and blinks planted in motion are found, and matched to their cues."""

import numpy as np
import pytest

from timar_ros.learn import events

_FPS = 25.0


def _head(duration_s=40.0, drift_degrees=4.0):
    time_s = np.arange(int(duration_s * _FPS)) / _FPS
    neck = np.zeros((len(time_s), 3))
    neck[:, :2] = np.deg2rad(drift_degrees) * np.sin(2 * np.pi * 0.2 * time_s)[:, None]
    return time_s, neck


def _plant(neck, time_s, start_s, frequency_hz, degrees, axis=0, cycles=2):
    inside = (time_s >= start_s) & (time_s < start_s + cycles / frequency_hz)
    phase = (time_s[inside] - start_s) * frequency_hz
    window = np.sin(np.pi * phase / cycles)
    neck[inside, axis] += np.deg2rad(degrees) * window * np.sin(2 * np.pi * phase)


@pytest.mark.parametrize('frequency_hz', [1.5, 3.0, 5.0])
def test_planted_nods_are_found_where_they_were_planted(frequency_hz):
    time_s, neck = _head()
    planted_s = [5.0, 14.0, 26.0]
    for start_s in planted_s:
        _plant(neck, time_s, start_s, frequency_hz, degrees=4.0)

    nods = events.find_nods(neck, _FPS)

    assert [nod.start_s for nod in nods] == pytest.approx(planted_s, abs=0.25)
    assert [nod.frequency_hz for nod in nods] == pytest.approx([frequency_hz] * 3, rel=0.3)


def test_shakes_are_no_nods():
    time_s, neck = _head()
    _plant(neck, time_s, 10.0, 2.5, degrees=6.0, axis=1)

    assert events.find_nods(neck, _FPS) == []


def test_small_movements_are_no_nods():
    time_s, neck = _head()
    _plant(neck, time_s, 10.0, 2.5, degrees=0.7)

    assert events.find_nods(neck, _FPS) == []


def test_slow_posture_is_no_nod():
    _, neck = _head(drift_degrees=15.0)

    assert events.find_nods(neck, _FPS) == []


def test_each_cue_takes_one_event_in_its_window():
    match = events.match_events(
        found_s=[1.5, 1.9, 10.7, 30.0], cues_s=[1.0, 10.0, 20.0], duration_s=60.0
    )

    assert match.recall == pytest.approx(2 / 3)
    assert match.precision == pytest.approx(2 / 4)
    assert match.f1 == pytest.approx(4 / 7)
    assert match.false_per_minute == pytest.approx(2.0)
    assert match.lags_s == pytest.approx((0.5, 0.7))


def test_an_event_before_its_cue_or_too_late_answers_nothing():
    match = events.match_events(found_s=[0.9, 3.3], cues_s=[1.0, 2.0], duration_s=60.0)

    assert (match.recall, match.precision, match.f1) == (0.0, 0.0, 0.0)


def test_without_cues_a_still_head_is_perfect_and_a_nodding_one_is_not():
    assert events.match_events([], [], 60.0).f1 == 1.0
    assert events.match_events([3.0], [], 60.0).precision == 0.0


def test_blinks_are_counted_once_each():
    closed = np.zeros(int(60 * _FPS))
    for start in range(50, 1450, 100):
        closed[start : start + 5] = [0.4, 0.9, 0.6, 0.9, 0.4]

    assert events.blinks_per_minute(closed, _FPS) == pytest.approx(14.0)
