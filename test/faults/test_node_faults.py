# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Whatever happens to its publishers, its clock and itself, the node shows the right motion."""

import os

import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here: source env.sh, or a ROS installation')

from node_faults import NODE_FAULTS, node_problems, play_node_fault  # noqa: E402
from scene import Scene  # noqa: E402

pytestmark = pytest.mark.graph

DOMAIN_ID = int(os.environ.get('ROS_DOMAIN_ID', 0)) or 1 + os.getpid() % 100


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('weights')


@pytest.mark.parametrize('fault', NODE_FAULTS, ids=lambda fault: fault.name)
def test_the_head_does_not_jump_and_is_right_again(fault, folder, monkeypatch):
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

    row = play_node_fault(fault, DOMAIN_ID, folder)

    assert node_problems(fault, row) == [], row


def test_the_face_stays_alive_whatever_it_is_sent(monkeypatch):
    pytest.importorskip('aiohttp', reason='no aiohttp here: pip install aiohttp')
    pytest.importorskip('PIL', reason='no Pillow here: pip install pillow')
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    from face_faults import face_problems, play_face_faults

    rows = play_face_faults(DOMAIN_ID)

    assert [(row.name, face_problems(row)) for row in rows if face_problems(row)] == []


def test_a_system_clock_set_by_a_year_is_followed_at_once(folder, monkeypatch):
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    scene = Scene(DOMAIN_ID, folder, use_sim_time=False)
    node, year_ns = scene.node, 31_536_000 * 10**9
    clock = node.get_clock()

    node._now_ns = lambda: clock.now().nanoseconds + year_ns
    is_followed = scene.graph.spin_until(
        lambda: 0 <= node._next_moment_ns - node._now_ns() < 10**9, 10.0
    )
    counters = scene.counters()
    scene.close()

    assert is_followed
    assert counters['clock_jumps'] == 1
