# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""No limit is broken in 10,000 random turns, between the points as at them (test/fuzz_neck.py)."""

import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope='module')
def report():
    path = Path(__file__).parents[1] / 'fuzz_neck.py'
    spec = importlib.util.spec_from_file_location('fuzz_neck', path)
    fuzz_neck = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fuzz_neck)
    return fuzz_neck.fuzz(10_000, seed=20)


@pytest.mark.parametrize('limit', ['position', 'velocity', 'acceleration', 'jerk'])
def test_no_motion_breaks_a_limit_between_its_points(report, limit):
    assert report['turns'] >= 10_000
    assert 0.99 < report[limit] <= 1 + 1e-6


def test_points_about_to_be_played_are_never_changed(report):
    assert report['compared'] > 5_000
    assert report['changed'] <= 1e-9


def test_broken_plans_are_refused(report):
    assert report['refused'] > 100


def test_the_solver_hardly_ever_finds_no_motion(report):
    # Where it finds none the motion in force goes on; that is no limit broken, but a plan missed.
    assert report['failures'] <= 10
