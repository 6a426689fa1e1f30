# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A subscription with the reliability of its publishers.

Responsible for meeting best-effort publishers as well as reliable ones. Not for message types.
"""

from rclpy.qos import QoSProfile, ReliabilityPolicy


def reliability_for(offered) -> ReliabilityPolicy:
    """
    Return the reliability that a subscription needs beside publishers that offer `offered`.

    Best effort receives from every publisher; reliable only from reliable ones, and loses nothing.
    """
    if ReliabilityPolicy.BEST_EFFORT in offered:
        return ReliabilityPolicy.BEST_EFFORT
    return ReliabilityPolicy.RELIABLE


class MatchedSubscription:
    """
    Subscribe reliably, or with best effort where a publisher offers no more.

    A reliable subscription receives nothing from a best-effort publisher; a best-effort one may
    lose messages of a reliable publisher. Call `match` about once a second.

    Args:
        node: that subscribes.
        cls: message class.
        topic: relative name, as remapped by the user.
        on_message: called with each message.
        depth: of the queue.
        raw: messages come as bytes, not deserialized.
    """

    def __init__(self, node, cls, topic: str, on_message, depth: int = 10, *, raw=False):
        self._node = node
        self._cls = cls
        self._topic = topic
        self._on_message = on_message
        self._depth = depth
        self._raw = raw
        self._reliability = None
        self._subscription = None
        self.match()

    def match(self) -> None:
        """Replace the subscription where the publishers' reliability asks for it; else cheap."""
        resolved = self._node.resolve_topic_name(self._topic)
        offered = [
            info.qos_profile.reliability
            for info in self._node.get_publishers_info_by_topic(resolved)
        ]
        wanted = reliability_for(offered)
        # Without publishers the subscription stays: the next one is probably like the last.
        if wanted == self._reliability or (not offered and self._subscription is not None):
            return
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._reliability = wanted
        qos = QoSProfile(depth=self._depth, reliability=wanted)
        self._subscription = self._node.create_subscription(
            self._cls, self._topic, self._on_message, qos, raw=self._raw
        )
