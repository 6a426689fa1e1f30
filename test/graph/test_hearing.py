# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A voice's subscription follows its publishers."""

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_msgs.msg import String, UInt8MultiArray

from timar_ros.msg import AudioChunk
from timar_ros.nodes.hearing import VoiceSubscription

pytestmark = pytest.mark.graph

BEST_EFFORT, RELIABLE = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE


@pytest.fixture
def listener(graph):
    """Return the maker of a voice's subscription, and what it hears."""
    node = graph.node('listener')

    def listen(type_name='auto'):
        heard = []
        return VoiceSubscription(node, 'user/audio', type_name, heard.append, print), heard

    return listen


@pytest.fixture
def publish(other_graph):
    """Return a function that makes a publisher in another participant."""
    node = other_graph.node('microphone')

    def make(cls=AudioChunk, reliability=RELIABLE):
        return node.create_publisher(
            cls, 'user/audio', QoSProfile(depth=10, reliability=reliability)
        )

    make.node = node
    return make


def hears(graph, subscription, heard, publisher, msg) -> bool:
    """Match and publish until the message is heard."""

    def is_heard():
        subscription.match()
        if publisher.get_subscription_count():
            publisher.publish(msg)
        return msg in heard

    return graph.spin_until(is_heard, 10.0)


@pytest.mark.parametrize('reliability', [BEST_EFFORT, RELIABLE])
def test_a_publisher_of_either_reliability_is_heard(graph, listener, publish, reliability):
    subscription, heard = listener()
    publisher = publish(reliability=reliability)

    assert hears(graph, subscription, heard, publisher, AudioChunk(sample_rate=8000))

    offered = publish.node.get_subscriptions_info_by_topic('/user/audio')
    assert [info.qos_profile.reliability for info in offered] == [reliability]


def test_a_publisher_that_comes_back_with_less_reliability_is_heard(graph, listener, publish):
    subscription, heard = listener()
    first = publish()
    assert hears(graph, subscription, heard, first, AudioChunk(sample_rate=1))
    publish.node.destroy_publisher(first)

    second = publish(reliability=BEST_EFFORT)

    assert hears(graph, subscription, heard, second, AudioChunk(sample_rate=2))


def test_the_type_of_the_publisher_is_taken(graph, listener, publish):
    subscription, heard = listener()

    publisher = publish(UInt8MultiArray)

    assert hears(graph, subscription, heard, publisher, UInt8MultiArray(data=[1, 2, 3]))


def test_a_type_that_was_asked_for_is_the_only_one_taken(graph, listener, publish):
    subscription, heard = listener('timar_ros/msg/AudioChunk')

    publisher = publish(String)
    found = graph.spin_until(lambda: subscription.match() or subscription.publishers)
    publisher.publish(String(data='hello'))
    graph.spin_for(0.3)

    assert found
    assert heard == []
    assert publisher.get_subscription_count() == 0


def test_closed_it_hears_nothing(graph, listener, publish):
    subscription, heard = listener()
    publisher = publish()
    assert hears(graph, subscription, heard, publisher, AudioChunk(sample_rate=1))

    subscription.close()

    assert graph.spin_until(lambda: not publisher.get_subscription_count())


def test_several_publishers_are_named_with_what_to_do(graph, listener):
    subscription, _ = listener()
    topic = subscription.topic
    graph.node('microphone').create_publisher(AudioChunk, topic, 10)
    graph.spin_until(lambda: subscription.match() or len(subscription.publishers) == 1)
    alone = subscription.crowd
    graph.node('replay').create_publisher(AudioChunk, topic, 10)
    graph.spin_until(lambda: subscription.match() or len(subscription.publishers) == 2)

    assert alone == ''
    assert subscription.crowd.startswith(
        f'{topic} has 2 publishers (/microphone, /replay), expected one: '
    )
    assert 'microphone:=false speaker:=false' in subscription.crowd
