# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How plans take over from one another and come to rest."""

import numpy as np
from numpy.testing import assert_array_equal
import pytest

from timar_ros.stream.plan import PlanInForce, glide, stitch

REST = np.zeros(3, np.float32)


def test_before_the_first_plan_the_head_is_neutral():
    rest = np.array([0.1, 0.2, 0.3], np.float32)

    np.testing.assert_array_equal(PlanInForce(rest).read(-5, 4), np.tile(rest, (4, 1)))


def test_a_new_plan_replaces_everything_from_its_first_frame_on():
    plan = PlanInForce(REST)
    plan.replace(10, np.full((10, 3), 1, np.float32))

    plan.replace(14, np.full((3, 3), 2, np.float32))

    expected = [0, 1, 1, 1, 1, 2, 2, 2, 0, 0, 0]
    np.testing.assert_array_equal(plan.read(9, 11)[:, 0], expected)


def test_a_plan_that_leaves_a_hole_rests_in_it():
    plan = PlanInForce(REST)
    plan.replace(0, np.full((2, 3), 1, np.float32))

    plan.replace(4, np.full((2, 3), 2, np.float32))

    np.testing.assert_array_equal(plan.read(0, 7)[:, 0], [1, 1, 0, 0, 2, 2, 0])


def test_forgetting_changes_nothing_that_is_still_there():
    plan = PlanInForce(REST)
    plan.replace(0, np.arange(30, dtype=np.float32).reshape(10, 3))
    before = plan.read(4, 8)

    plan.forget_before(4)

    np.testing.assert_array_equal(plan.read(4, 8), before)
    np.testing.assert_array_equal(plan.read(0, 4), np.zeros((4, 3)))


def test_a_blend_goes_from_the_old_plan_to_the_draft_in_equal_steps():
    plan = PlanInForce(REST)
    plan.replace(0, np.ones((20, 3), np.float32))
    draft = np.full((8, 3), 3, np.float32)

    blended = plan.blend(5, draft, 3)

    np.testing.assert_allclose(blended[:3, 0], [1.5, 2.0, 2.5], rtol=1e-6)
    np.testing.assert_array_equal(blended[3:], draft[3:])


def test_a_blend_of_a_plan_with_itself_is_the_plan():
    plan = PlanInForce(REST)
    motion = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    plan.replace(0, motion)

    np.testing.assert_allclose(plan.blend(4, motion[4:], 5), motion[4:], atol=1e-6)


def test_a_glide_goes_on_with_the_velocity_it_finds_and_ends_at_rest():
    rest = np.array([0.1, 0.0, -0.2], np.float32)
    motion = np.array([[0.30, 0.1, 0.0], [0.31, 0.1, 0.0]], np.float32)

    tail = glide(motion, rest, fps=25)

    path = np.concatenate([motion, tail])
    np.testing.assert_allclose(tail[-1], rest, atol=1e-6)
    assert abs((path[2] - path[1])[0] - 0.01) < 0.003
    assert np.abs(tail[-1] - tail[-2]).max() < 1e-3
    assert np.abs(np.diff(path, n=2, axis=0)).max() < 0.004


def test_a_glide_after_a_wild_last_step_stays_near_the_way_to_rest():
    motion = np.array([[-3.0, 0, 0], [0.5, 0, 0]], np.float32)

    tail = glide(motion, REST, fps=25)

    assert np.abs(tail).max() < 1.0


def test_a_step_between_two_drafted_turns_is_closed_by_the_frames_on_both_sides():
    slope = np.arange(50, dtype=np.float32)[:, None] * np.float32([0.01, -0.02])
    jump = np.where(np.arange(50)[:, None] >= 25, 1.0, 0.0).astype(np.float32)

    closed = stitch(slope + jump, 25, 0, 3)

    steps = np.diff(closed, axis=0) - np.diff(slope, axis=0)
    assert np.abs(steps[24]).max() < 1e-6  # at the seam
    assert np.abs(steps).max() < 0.45  # the jump of 1 is spread over six frames
    assert_array_equal(closed[:22], (slope + jump)[:22])
    assert_array_equal(closed[28:], (slope + jump)[28:])


@pytest.mark.parametrize('first', [23, 25])
def test_what_was_shown_before_a_seam_stays_as_it_was(first):
    motion = np.where(np.arange(50)[:, None] >= 25, 1.0, 0.0).astype(np.float32)

    closed = stitch(motion, 25, first, 3)

    assert_array_equal(closed[:first], motion[:first])
    assert abs(closed[25] - closed[24]) < 1e-6


def test_motion_that_goes_on_smoothly_is_not_stitched():
    motion = np.arange(50, dtype=np.float32)[:, None] * np.float32([0.25, -0.5])

    assert_array_equal(stitch(motion, 25, 0, 3), motion)
    assert_array_equal(stitch(motion, 25, 0, 0), motion)
