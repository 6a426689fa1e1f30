# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Baselines are what their names say: frozen, late, loud."""

import numpy as np
import pytest

from timar_ros.learn import baselines, behaviour, events
from timar_ros.motion import get_space, jaw_open_rad
from timar_ros.stream import lips

FPS, RATE_HZ, SECONDS = 25, 16000, 24
N = FPS * SECONDS
SPACES = [get_space('arkit55'), get_space('flame56')]
NOBODY = np.zeros(0, np.float32)


def talk(intervals, hz=150.0):
    """Return a voice that buzzes in the intervals, a syllable each 0.25 s."""
    t = np.arange(SECONDS * RATE_HZ) / RATE_HZ
    speaks = sum(((t >= start) & (t < end)) for start, end in intervals)
    buzz = sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 6))
    return (0.1 * speaks * np.abs(np.sin(np.pi * 4 * t)) * buzz).astype(np.float32)


def test_a_frozen_face_does_not_move():
    pose = np.arange(55, dtype=np.float32) / 100

    frozen = baselines.hold_still(SPACES[0], 7, pose)

    np.testing.assert_array_equal(frozen, np.tile(pose, (7, 1)))


def test_late_motion_is_the_motion_some_frames_later():
    motion = np.arange(10.0)[:, None]

    np.testing.assert_array_equal(baselines.delay(motion, 3)[:, 0], [0, 0, 0, *range(7)])


def test_motion_of_another_length_goes_back_where_it_came_from():
    motion = np.arange(3.0)[:, None]

    np.testing.assert_array_equal(baselines.fit_length(motion, 2)[:, 0], [0, 1])
    np.testing.assert_array_equal(baselines.fit_length(motion, 8)[:, 0], [0, 1, 2, 2, 1, 0, 0, 1])


@pytest.mark.parametrize('space', SPACES, ids=lambda space: space.name)
def test_the_wobbler_has_perfect_lips_and_moves_more_when_somebody_speaks(space):
    user, agent = talk([(2, 8)]), talk([(10, 18)])

    motion = baselines.wobble(space, N, FPS, user, agent)

    assert lips.lip_sync(jaw_open_rad(space, motion), agent, RATE_HZ).correlation > 0.9
    speaks = [behaviour.voice_activity(voice, RATE_HZ)[:N] for voice in (user, agent)]
    assert behaviour.stillness(motion[:, space.neck], *speaks)['ratio'] > 2
    np.testing.assert_array_equal(motion, space.clamp(motion))


def test_the_rule_nods_once_for_each_cue_and_is_still_otherwise():
    high, low = talk([(1, 5), (9, 15)], 220), talk([(5, 5.5), (15, 15.5)], 110)

    motion = baselines.nod_by_rule(SPACES[0], N, FPS, high + low, NOBODY)

    nods = events.find_nods(motion[:, SPACES[0].neck])
    assert [nod.start_s for nod in nods] == pytest.approx([5.9, 15.9], abs=0.3)
    assert not motion[: 5 * FPS].any()


def test_without_voices_the_rule_does_nothing_and_the_wobbler_sways_a_little():
    rule = baselines.nod_by_rule(SPACES[0], N, FPS, NOBODY, NOBODY)
    wobble = baselines.wobble(SPACES[0], N, FPS, NOBODY, NOBODY)

    assert not rule.any()
    assert 0 < np.abs(wobble).max() < np.deg2rad(1)
