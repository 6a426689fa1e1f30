# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What every node publishes on /diagnostics."""

import socket
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from timar_ros.nodes.diagnostics import Diagnostics
from timar_ros.nodes.executor import FaultTolerantExecutor

pytestmark = pytest.mark.graph


class Robots:
    """Nodes in one fault-tolerant executor, and the statuses that one of them hears."""

    def __init__(self, domain_id):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.executor = FaultTolerantExecutor(context=self.context)
        self.nodes = []
        self.heard = []
        watcher = self.node('watcher')
        watcher.create_subscription(
            DiagnosticArray, '/diagnostics', lambda array: self.heard.extend(array.status), 100
        )

    def node(self, name, namespace='', **options):
        node = Node(name, namespace=namespace, context=self.context, **options)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def spin_until(self, is_done, timeout_s=20.0):
        end_s = time.monotonic() + timeout_s
        while not is_done() and time.monotonic() < end_s:
            self.executor.spin_once(timeout_sec=0.05)
        return is_done()

    def status(self, diagnostics, *args, **options):
        """Return the status that is received when one is published."""
        assert self.spin_until(diagnostics._publisher.get_subscription_count)
        self.heard.clear()
        diagnostics.publish(*args, **options)
        assert self.spin_until(lambda: bool(self.heard))
        return self.heard[0]

    def close(self):
        for node in self.nodes:
            node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def robots(domain_id):
    robots = Robots(domain_id)
    yield robots
    robots.close()


def values_of(status):
    return {pair.key: pair.value for pair in status.values}


def test_two_robots_are_told_apart_by_the_full_name_and_the_hardware(robots):
    left, right, alone = (
        Diagnostics(robots.node('neck', namespace)) for namespace in ('/r1', '/lab/r2', '')
    )

    statuses = [robots.status(diagnostics, {}) for diagnostics in (left, right, alone)]

    assert [s.name for s in statuses] == ['/r1/neck', '/lab/r2/neck', '/neck']
    assert [s.hardware_id for s in statuses] == ['r1', 'lab/r2', socket.gethostname()]


@pytest.mark.parametrize(
    ('trouble', 'options', 'level', 'message'),
    [
        ('', {}, DiagnosticStatus.OK, 'ok'),
        ('', {'note': 'disabled'}, DiagnosticStatus.OK, 'disabled'),
        ('late', {'note': 'disabled'}, DiagnosticStatus.WARN, 'late'),
        ('bad', {'level': DiagnosticStatus.ERROR}, DiagnosticStatus.ERROR, 'bad'),
        ('', {'level': DiagnosticStatus.ERROR}, DiagnosticStatus.OK, 'ok'),
    ],
)
def test_the_level_follows_the_trouble(robots, trouble, options, level, message):
    status = robots.status(Diagnostics(robots.node('one')), {'plans': 3}, trouble, **options)

    assert (status.level, status.message) == (level, message)
    assert values_of(status) == {'plans': '3', 'callback_exceptions': '0'}


def test_exceptions_of_callbacks_are_counted_and_warned_of_while_they_grow(robots):
    node = robots.node('one')
    diagnostics = Diagnostics(node)

    def fail():
        timer.cancel()
        raise TypeError('no')

    timer = node.create_timer(0.001, fail)
    assert robots.spin_until(lambda: robots.executor.n_exceptions[node] == 1)
    first, second = (robots.status(diagnostics, {}) for _ in range(2))

    assert (first.level, second.level) == (DiagnosticStatus.WARN, DiagnosticStatus.OK)
    assert first.message == 'callbacks fail, see the log (1 more)'
    assert [values_of(s)['callback_exceptions'] for s in (first, second)] == ['1', '1']


def test_a_second_node_of_the_same_full_name_is_warned_of_by_each_until_it_is_gone(robots):
    nodes = [robots.node('neck', '/r1') for _ in range(2)]
    first, second = map(Diagnostics, nodes)
    other = Diagnostics(robots.node('neck', '/r2'))
    assert robots.spin_until(lambda: robots.nodes[0].get_node_names().count('neck') == 3)

    both = [robots.status(diagnostics, {}) for diagnostics in (first, second)]
    apart = robots.status(other, {})
    robots.nodes.remove(nodes[1])
    nodes[1].destroy_node()
    assert robots.spin_until(lambda: robots.nodes[0].get_node_names().count('neck') == 2)
    alone = robots.status(first, {})

    for status in both:
        assert status.level == DiagnosticStatus.WARN
        assert status.message.startswith('two nodes are called /r1/neck: end one of them')
    assert (apart.level, alone.level) == (DiagnosticStatus.OK, DiagnosticStatus.OK)


def test_values_and_messages_of_any_length_are_shortened(robots):
    status = robots.status(Diagnostics(robots.node('one')), {'name': 'y' * 10**6}, 'x' * 10**6)

    assert len(status.message) == 500
    assert len(values_of(status)['name']) == 500


@pytest.mark.parametrize('is_simulated', [True, False])
def test_two_simulated_clocks_are_named_to_who_takes_the_time_from_them(robots, is_simulated):
    sim_time = Parameter('use_sim_time', value=is_simulated)
    node = robots.node('neck', parameter_overrides=[sim_time])
    diagnostics = Diagnostics(node)
    for name in ('gazebo', 'bag'):
        robots.node(name).create_publisher(Clock, '/clock', 1)
    assert robots.spin_until(lambda: node.count_publishers('/clock') == 2)
    for _ in range(2):  # what does not last is a node that hands over to another
        robots.status(diagnostics, {})
    status = robots.status(diagnostics, {})
    names = '/clock has 2 publishers (/bag, /gazebo), expected one: the time jumps to that of each'
    assert status.message.startswith(names) == is_simulated
    assert is_simulated or status.message == 'ok'
