# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A sentence where a node cannot use a topic because of its type.

Responsible for naming both types. Not for choosing a topic. DDS has one type for each topic of a
process; ROS reports a second one as an 'invalid allocator'.
"""

import functools


def explain_types(node) -> None:
    """Let a node that is not yet initialized raise ValueError with both types of such a topic."""
    for name in ('create_publisher', 'create_subscription'):
        setattr(node, name, functools.partial(_create, node, getattr(node, name)))


def _create(node, create, cls, topic: str, *args, **options):
    try:
        return create(cls, topic, *args, **options)
    except RuntimeError:  # that of rclpy, which has no public name
        resolved = node.resolve_topic_name(topic)
        wanted = f'{cls.__module__.partition(".")[0]}/msg/{cls.__name__}'
        ends = node.get_publishers_info_by_topic(resolved)
        ends += node.get_subscriptions_info_by_topic(resolved)
        others = sorted({end.topic_type for end in ends} - {wanted})
        if not others:
            raise
        raise ValueError(
            f'{resolved} has messages of {" and ".join(others)} in this process, expected '
            f'{wanted}; choose another topic for one of them'
        ) from None
