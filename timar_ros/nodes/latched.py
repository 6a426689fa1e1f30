# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for a topic whose publishers may be latched (transient local) or not: both are heard.

Not for what a message means. A volatile subscription does not get what was latched before it came,
and a latched one does not meet volatile publishers; so there are two, and a latched publisher's
messages come twice.
"""

import collections
import time

from rclpy.qos import DurabilityPolicy, QoSProfile

_DEPTH = 10
# The second copy of a message comes at once; the same content later is another message.
_COPIES_WITHIN_S = 2.0
_MAX_WAITING = 100


class LatchedOrNotSubscription:
    """
    Subscribe to a topic in both ways; call back once a message.

    Args:
        node: that subscribes.
        message_class: of the topic.
        topic: its name.
        callback: called with each message.
        key_of: returns what two messages of the same content have in common.
        now_s: reads a steady clock.
    """

    def __init__(self, node, message_class, topic, callback, key_of, now_s=time.monotonic):
        self._node, self._class, self._topic = node, message_class, topic
        self._callback, self._key_of, self._now_s = callback, key_of, now_s
        self._waiting = collections.deque(maxlen=_MAX_WAITING)  # (when, is_latched, key)
        self._volatile = node.create_subscription(message_class, topic, self._on_volatile, _DEPTH)
        self._latched = None
        self._is_wanted = False

    def take_latched(self) -> None:
        """Hear what is latched on the topic now, again where it was heard before."""
        self._drop_latched()
        self._is_wanted = True
        self.match()

    def match(self) -> None:
        """
        Follow the publishers: subscribe to latched messages if a publisher latches.

        Call about once a second. Beside publishers that do not latch, rclpy would warn of
        incompatible settings on both sides.
        """
        topic = self._node.resolve_topic_name(self._topic)
        is_offered = any(
            info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
            for info in self._node.get_publishers_info_by_topic(topic)
        )
        if not is_offered:
            self._drop_latched()
        elif self._is_wanted and self._latched is None:
            qos = QoSProfile(depth=_DEPTH, durability=DurabilityPolicy.TRANSIENT_LOCAL)
            self._latched = self._node.create_subscription(
                self._class, self._topic, self._on_latched, qos
            )

    def close(self) -> None:
        """Hear nothing any more."""
        self._drop_latched()
        self._node.destroy_subscription(self._volatile)

    def _drop_latched(self) -> None:
        if self._latched is not None:
            self._node.destroy_subscription(self._latched)
            self._latched = None

    def _on_volatile(self, msg) -> None:
        self._take(msg, False)

    def _on_latched(self, msg) -> None:
        self._take(msg, True)

    def _take(self, msg, is_latched: bool) -> None:
        key, now_s = self._key_of(msg), self._now_s()
        while self._waiting and now_s - self._waiting[0][0] > _COPIES_WITHIN_S:
            self._waiting.popleft()
        for entry in self._waiting:
            if entry[1] != is_latched and entry[2] == key:
                self._waiting.remove(entry)
                return
        self._waiting.append((now_s, is_latched, key))
        self._callback(msg)
