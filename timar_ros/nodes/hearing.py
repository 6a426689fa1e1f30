# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
One voice's subscriptions: whatever type and reliability its publishers have.

Knows the graph: who publishes on a topic, as what. Refuses to know what the messages hold; they go
on as they came, with the time of arrival.
"""

import importlib

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

AUDIO_CHUNK = 'timar_ros/msg/AudioChunk'
_AUDIO_INFO = 'audio_common_msgs/msg/AudioInfo'
# Chunks of 20 ms: 4 s of a stalled executor.
_DEPTH = 200


def message_class(type_name: str):
    """
    Import a message class by its ROS name, e.g. 'timar_ros/msg/AudioChunk'.

    Raises:
        ValueError: the name is malformed, or nothing of that name is installed here.
    """
    parts = type_name.split('/')
    if len(parts) != 3 or parts[1] != 'msg':
        raise ValueError(
            f"a message type must look like 'package/msg/Name', got {type_name!r}; "
            "'auto' takes the publisher's"
        )
    try:
        return getattr(importlib.import_module(f'{parts[0]}.msg'), parts[2])
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f'{type_name} cannot be imported here ({error}); install or source the workspace of '
            f'{parts[0]}, or publish {AUDIO_CHUNK}'
        ) from None


class VoiceSubscription:
    """
    Subscribe to one voice and stay matched to its publishers.

    Args:
        node: that subscribes.
        topic: relative name, as remapped by the user.
        type_name: the message type, or 'auto' for the publishers' own types.
        on_audio: called with each message.
        on_info: called with each `AudioInfo` of a driver that describes its audio there.
    """

    def __init__(self, node, topic: str, type_name: str, on_audio, on_info):
        if type_name != 'auto':
            message_class(type_name)
        self.topic = topic
        self.n_publishers = 0
        self._node = node
        self._type_name = type_name
        self._on_audio = on_audio
        self._on_info = on_info
        self._info = None
        self._subscriptions = {}  # type name -> (reliability, subscription)
        self._refused = set()
        self.match()

    def match(self) -> None:
        """Subscribe anew where the publishers' types or reliability ask for it; cheap if not."""
        resolved = self._node.resolve_topic_name(self.topic)
        publishers = self._node.get_publishers_info_by_topic(resolved)
        self.n_publishers = len(publishers)
        wanted = {}
        for info in publishers:
            if self._type_name in ('auto', info.topic_type):
                wanted.setdefault(info.topic_type, []).append(info.qos_profile.reliability)
        if not wanted and self._subscriptions:
            return
        # The middleware may not take two types on one topic: the old one goes first.
        for type_name in set(self._subscriptions) - set(wanted):
            self._node.destroy_subscription(self._subscriptions.pop(type_name)[1])
        # Something to be discovered by, as long as nobody publishes what we can take.
        default = AUDIO_CHUNK if self._type_name == 'auto' else self._type_name
        for type_name in wanted or [default]:
            self._subscribe(type_name, wanted.get(type_name, []))

    def close(self) -> None:
        """Hear nothing any more."""
        for _, subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions = {}
        if self._info is not None:
            self._node.destroy_subscription(self._info)
            self._info = None

    def _subscribe(self, type_name: str, offered) -> None:
        # Best effort meets every publisher; reliable meets only reliable ones, and loses nothing.
        reliability = (
            ReliabilityPolicy.BEST_EFFORT
            if ReliabilityPolicy.BEST_EFFORT in offered
            else ReliabilityPolicy.RELIABLE
        )
        have = self._subscriptions.get(type_name)
        if type_name in self._refused or (have and have[0] == reliability):
            return
        if have:
            self._node.destroy_subscription(self._subscriptions.pop(type_name)[1])
        qos = QoSProfile(depth=_DEPTH, reliability=reliability)
        try:
            cls = message_class(type_name)
            subscription = self._node.create_subscription(cls, self.topic, self._on_audio, qos)
        except (ValueError, RuntimeError) as error:  # rclpy's own errors are RuntimeErrors
            self._refused.add(type_name)
            self._node.get_logger().error(f'{self.topic}: cannot hear {type_name}: {error}')
            return
        self._subscriptions[type_name] = (reliability, subscription)
        if type_name.startswith('audio_common_msgs/msg/AudioData') and self._info is None:
            self._subscribe_info()

    def _subscribe_info(self) -> None:
        """Hear what ros-drivers' AudioData leaves out, latched beside the audio topic."""
        resolved = self._node.resolve_topic_name(self.topic)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._info = self._node.create_subscription(
            message_class(_AUDIO_INFO),
            resolved.rsplit('/', 1)[0] + '/audio_info',
            self._on_info,
            latched,
        )
