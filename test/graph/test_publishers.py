# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Several publishers on a topic for one are named once; best-effort ones are received."""

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String

from timar_ros.nodes.matching import MatchedSubscription
from timar_ros.nodes.publishers import PublisherWatch

pytestmark = pytest.mark.graph


class Log:
    def __init__(self):
        self.warnings = []

    def warning(self, text):
        self.warnings.append(text)


@pytest.fixture
def watch(graph, monkeypatch):
    node = graph.node('listener')
    log = Log()
    monkeypatch.setattr(node, 'get_logger', lambda: log)
    watch = PublisherWatch(node, 'plan', 'the head follows them in turn')
    watch.log = log
    return watch


def _await_publishers(graph, watch, names):
    assert graph.spin_until(lambda: watch.names == names), watch.names


def test_two_publishers_are_named_once_when_they_last(graph, watch):
    one = graph.node('one')
    one.create_publisher(String, 'plan', 1)
    _await_publishers(graph, watch, ['/one'])
    watch.look()
    watch.look()
    assert watch.problem == ''
    other = graph.node('other', namespace='/r2')
    other.create_publisher(String, '/plan', 1)
    _await_publishers(graph, watch, ['/one', '/r2/other'])
    watch.look()
    assert watch.log.warnings == [], 'a node that hands over to another is no problem'
    watch.look()
    watch.look()
    assert len(watch.log.warnings) == 1
    assert watch.log.warnings[0].startswith(
        'plan has 2 publishers (/one, /r2/other), expected one: the head follows them in turn'
    )
    assert watch.problem == watch.log.warnings[0]
    graph.remove(other)
    _await_publishers(graph, watch, ['/one'])
    watch.look()
    assert watch.problem == ''


def test_two_nodes_of_one_name_count_as_two_publishers(graph, watch):
    for _ in range(2):
        graph.node('twin').create_publisher(String, 'plan', 1)
    _await_publishers(graph, watch, ['/twin', '/twin'])
    watch.look()
    watch.look()
    assert 'plan has 2 publishers (/twin, /twin)' in watch.problem


@pytest.mark.parametrize('name', ['RELIABLE', 'BEST_EFFORT'])
def test_a_publisher_is_received_whatever_its_reliability(graph, name):
    node, received = graph.node('listener'), []
    matched = MatchedSubscription(node, String, 'plan', received.append)
    qos = QoSProfile(depth=10, reliability=ReliabilityPolicy[name])
    publisher = graph.node('planner').create_publisher(String, 'plan', qos)

    def is_received():
        matched.match()
        publisher.publish(String(data='nod'))
        return received

    assert graph.spin_until(is_received)
