# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The user's head on the grid of the model."""

import numpy as np
import pytest

from timar_ros.stream.motion_track import MotionTrack

MS = 1_000_000


def make_track(stamps_ms, seed=0):
    track = MotionTrack(2)
    for stamp in stamps_ms:
        track.write(stamp * MS, np.array([stamp, -stamp], np.float32))
    return track


def test_frames_between_the_grid_are_interpolated():
    track = make_track([0, 33, 66, 100])

    motion, is_seen = track.read([0, 40 * MS, 80 * MS], seen_until_ns=100 * MS)

    np.testing.assert_array_equal(is_seen, True)
    np.testing.assert_allclose(motion[:, 0], [0, 40, 80], rtol=1e-5)


def test_a_frame_is_not_seen_before_the_one_after_it_is():
    track = make_track([0, 33, 66])

    _, is_seen = track.read([0, 20 * MS, 40 * MS], seen_until_ns=65 * MS)

    np.testing.assert_array_equal(is_seen, [True, True, False])


def test_a_lost_face_is_unseen_and_not_bridged():
    track = make_track([0, 40, 400, 440])

    motion, is_seen = track.read([0, 40 * MS, 200 * MS, 420 * MS], seen_until_ns=10**12)

    np.testing.assert_array_equal(is_seen, [True, True, False, True])
    np.testing.assert_array_equal(motion[2], 0)


def test_the_order_of_arrival_does_not_matter():
    stamps = [0, 40, 80, 120]

    in_order = make_track(stamps).read([20 * MS, 100 * MS], 10**12)
    shuffled = make_track([80, 0, 120, 40]).read([20 * MS, 100 * MS], 10**12)

    np.testing.assert_array_equal(in_order[0], shuffled[0])


def test_of_two_frames_with_one_stamp_the_later_holds():
    track = make_track([0])
    track.write(0, np.array([7, 7], np.float32))

    np.testing.assert_array_equal(track.read([0], 0)[0], [[7, 7]])


def test_frames_of_the_far_future_are_refused_and_do_not_blind():
    track = make_track([0, 40])
    with pytest.raises(ValueError, match='up to 60 s ahead of arrival, got 3600.0 s'):
        track.write(3_600_000 * MS, np.zeros(2, np.float32), now_ns=0)

    _, is_seen = track.read([20 * MS], seen_until_ns=100 * MS)

    np.testing.assert_array_equal(is_seen, True)


def test_frames_of_a_tracker_whose_clock_is_an_hour_behind_are_refused_and_not_silently_unseen():
    track, now = make_track([0]), 3_600_000 * MS
    with pytest.raises(
        ValueError, match='up to 60 s behind arrival, got 3600.0 s; set the clocks'
    ):
        track.write(40 * MS, np.zeros(2, np.float32), now_ns=now)

    track.write(now - 10_000 * MS, np.zeros(2, np.float32), now_ns=now)  # late, and still of use
    np.testing.assert_array_equal(track.read([now - 10_000 * MS], now)[1], True)


def test_a_flood_of_future_frames_of_a_recording_leaves_room_for_those_of_now():
    track = MotionTrack(2)
    for i in range(20_001):
        track.write((3_600_000 + i) * MS, np.zeros(2, np.float32))

    for stamp in (0, 40):
        track.write(stamp * MS, np.array([stamp, 0], np.float32))
    motion, is_seen = track.read([20 * MS], seen_until_ns=100 * MS)

    np.testing.assert_array_equal(is_seen, True)
    np.testing.assert_allclose(motion[0, 0], 20)
    assert len(track._stamps) < 10, 'what lies an hour ahead is forgotten'


def test_an_idle_robot_keeps_the_newest_frames():
    track = make_track(range(0, 40 * 20_010, 40))

    last = 40 * 20_009
    _, is_seen = track.read([last * MS], seen_until_ns=last * MS)

    np.testing.assert_array_equal(is_seen, True)
    assert len(track._stamps) == 20_000
