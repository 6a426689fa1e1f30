# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The world of the fuzz of necks does only what a robot and its computer can do."""

from neck_moves import MS, ROBOT
from neck_world import SECOND_NS, World
import numpy as np
import pytest

PLACE = np.zeros(3)


def _worlds(is_simulated, n=20):
    for seed in range(n):
        world = World(ROBOT, np.random.default_rng(seed), PLACE)
        world.is_simulated, world.is_uneven = is_simulated, False
        yield world


def test_a_hand_leads_joints_no_faster_than_their_velocity_limit():
    world = next(_worlds(False))
    begin_ns = world.steady_ns
    world.hold(np.array([0.5, -0.5, 0.1]), lambda time_ns: PLACE)
    times = begin_ns + np.arange(0, 600, 10) * MS
    path = np.array([world.joints(time_ns, lambda time_ns: PLACE) for time_ns in times])
    speed = np.abs(np.diff(path, axis=0)) / 0.01
    np.testing.assert_array_less(speed, [[j.velocity_rad_s + 1e-9 for j in ROBOT.joints]] * 59)
    np.testing.assert_array_equal(path[0], PLACE)
    np.testing.assert_array_equal(path[-1], world.held)


@pytest.mark.parametrize('is_simulated', [False, True])
def test_a_clock_is_set_by_a_fifth_of_a_second_or_more_and_never_below_0(is_simulated):
    for world in _worlds(is_simulated):
        for _ in range(50):
            world.read_clocks()
            before_ns = world.offset_ns
            world.set_clock()
            assert abs(world.offset_ns - before_ns) >= 200 * MS
            assert world.steady_ns + world.offset_ns >= 0


def test_a_simulated_clock_is_not_set_while_the_process_is_stopped():
    for world in _worlds(True):
        world.stop_process(300 * MS)
        offset_ns = world.offset_ns
        world.set_clock()
        assert world.offset_ns == offset_ns
        world.read_clocks()
        world.set_clock()
        steady_ns = world.steady_ns
        assert world.offset_ns != offset_ns
        world.stop_process(300 * MS)
        assert world.steady_ns == steady_ns


def test_an_uneven_simulation_stands_and_changes_its_pace():
    world = next(_worlds(True))
    world.is_uneven = True
    paces, stood_ns = [], []
    for _ in range(100):
        before = world.read_clocks()
        world.change_pace()
        changed = world.read_clocks()
        assert changed[0] - before[0] < MS
        stood_ns.append(changed[1] - before[1])
        world.steady_ns += SECOND_NS
        after = world.read_clocks()
        paces.append((after[0] - changed[0]) / (after[1] - changed[1]))
    assert min(paces) < 0.2 and max(paces) > 1.4
    assert min(stood_ns) < MS and max(stood_ns) > SECOND_NS


def test_only_what_three_samples_showed_was_measured():
    world = next(_worlds(False))
    world._noise = world._resolution = 0.0
    place = np.array([0.3, 0.1, 0.0])
    n_samples = 0
    while n_samples < 3:
        assert not world.has_shown(place)
        n_samples += len(list(world.measurements(world._next_ns, lambda time_ns: place)))
    assert world.has_shown(place)
    assert not world.has_shown(place + [0.06, 0.0, 0.0])
