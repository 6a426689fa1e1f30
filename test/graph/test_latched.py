# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Publishers that latch and publishers that do not are heard alike, each message once."""

import itertools
import types

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile

from timar_ros.msg import HeadStyle
from timar_ros.nodes.latched import LatchedOrNotSubscription

pytestmark = pytest.mark.graph

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Node:
    """What a subscription needs of a node: its callbacks are called by the test."""

    def __init__(self):
        self.callbacks = []
        self.offered = [DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL]

    def resolve_topic_name(self, topic):
        return f'/{topic}'

    def get_publishers_info_by_topic(self, topic):
        assert topic.startswith('/')
        return [
            types.SimpleNamespace(qos_profile=QoSProfile(depth=1, durability=durability))
            for durability in self.offered
        ]

    def create_subscription(self, cls, topic, callback, qos):
        self.callbacks.append(callback)
        return callback

    def destroy_subscription(self, callback):
        self.callbacks.remove(callback)


@pytest.fixture
def heard():
    """A subscription to letters; `heard.texts` are those that were called back."""
    node = Node()
    node.now_s, node.texts = 0.0, []
    node.subscription = LatchedOrNotSubscription(
        node, str, 'letters', node.texts.append, key_of=str, now_s=lambda: node.now_s
    )
    node.subscription.take_latched()
    return node


def test_in_whatever_order_both_copies_come_each_message_counts_once_and_the_last_holds(heard):
    orders = set(itertools.permutations([(0, 'a'), (0, 'b'), (1, 'a'), (1, 'b')]))
    in_order = [
        order
        for order in orders
        if all(order.index((way, 'a')) < order.index((way, 'b')) for way in (0, 1))
    ]
    for order in in_order:
        heard.texts.clear()
        for way, text in order:
            heard.callbacks[way](text)

        assert heard.texts == ['a', 'b'], order
    assert len(in_order) == 6


def test_the_same_content_again_is_another_message(heard):
    volatile, latched = heard.callbacks
    for _ in range(3):  # of a publisher that does not latch
        volatile('a')
    heard.now_s = 10.0
    latched('a')  # what somebody else had latched

    assert heard.texts == ['a'] * 4


def test_what_waits_for_its_second_copy_is_bounded(heard):
    for number in range(100_000):
        heard.callbacks[0](str(number))

    assert len(heard.subscription._waiting) <= 100


def test_nothing_latched_is_asked_for_where_nobody_latches(heard):
    heard.offered = [DurabilityPolicy.VOLATILE]
    heard.subscription.match()
    n_without = len(heard.callbacks)
    heard.offered.append(DurabilityPolicy.TRANSIENT_LOCAL)
    heard.subscription.match()
    heard.subscription.match()

    assert (n_without, len(heard.callbacks)) == (1, 2)


def test_closed_it_leaves_no_subscription(heard):
    heard.subscription.take_latched()
    assert len(heard.callbacks) == 2
    heard.subscription.close()

    assert heard.callbacks == []


@pytest.mark.parametrize('is_latched', [True, False])
def test_a_style_is_heard_from_publishers_that_latch_and_that_do_not(
    start_conversation, partner, graph, is_latched
):
    node = start_conversation()
    partner.meet()
    publisher = partner.node.create_publisher(
        HeadStyle, 'agent/style', LATCHED if is_latched else 10
    )
    taken = []
    node._session.restyle = lambda msg, *_: taken.append(msg.intensity)
    assert graph.spin_until(lambda: publisher.get_subscription_count() == 1 + is_latched)
    for intensity in (0.25, 0.5, 0.25):
        publisher.publish(HeadStyle(emotion='happy', intensity=intensity, expressiveness=1.0))
        graph.spin_for(0.1)

    assert graph.spin_until(lambda: len(taken) >= 3)
    graph.spin_for(0.3)
    assert taken == [0.25, 0.5, 0.25]


def test_a_style_that_was_latched_before_the_start_holds_after_every_activation(
    start_conversation, partner, graph
):
    publisher = partner.node.create_publisher(HeadStyle, 'agent/style', LATCHED)
    publisher.publish(HeadStyle(emotion='happy', intensity=0.5, expressiveness=1.0))
    node = start_conversation()
    partner.meet()

    def emotion():
        partner.tell()
        style = node._session._conversation._styles.read(partner.time_ns)
        return style and (style.emotion, style.intensity)

    assert graph.spin_until(lambda: emotion() == ('happy', 0.5))
    node.trigger_deactivate()
    node.trigger_activate()

    assert graph.spin_until(lambda: emotion() == ('happy', 0.5))
