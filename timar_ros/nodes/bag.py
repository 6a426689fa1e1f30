# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Bags in rosbag2's format without a ROS installation: record topics as they come, read them back.

Knows rosbag2's files and our message definitions. Refuses to overwrite a bag.
"""

import pathlib

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from timar_ros.nodes.environment import share_folder
from timar_ros.nodes.hearing import message_class

# Metadata version of Jazzy.
_VERSION = 9
_DEPTH = 1000
_FOREVER = QosTime(2147483647, 4294967295)


def make_typestore():
    """Return the message definitions of ROS 2 Jazzy and our own."""
    typestore = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    folder = share_folder() / 'msg'
    for path in sorted(folder.glob('*.msg')):
        types.update(get_types_from_msg(path.read_text(), f'timar_ros/msg/{path.stem}'))
    typestore.register(types)
    return typestore


def _reliable(depth: int) -> Qos:
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE,
        QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,
    )


class RecorderNode(Node):
    """
    Write every message of some topics into an mcap bag, stamped with its arrival.

    Args:
        path: folder of the bag; must not exist.
        topics: name -> message type, 'package/msg/Name'.

    Attributes:
        n_messages: written so far.

    Raises:
        rosbags.rosbag2.WriterError: there is something at `path`.
    """

    def __init__(self, path, topics: dict[str, str], **node_options):
        super().__init__('recorder', **node_options)
        self.n_messages = 0
        self._writer = Writer(path, version=_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._is_open = True
        typestore = make_typestore()
        for topic, type_name in topics.items():
            connection = self._writer.add_connection(
                self.resolve_topic_name(topic),
                type_name,
                typestore=typestore,
                offered_qos_profiles=[_reliable(100)],
            )
            self.create_subscription(
                message_class(type_name),
                topic,
                self._make_callback(connection),
                QoSProfile(depth=_DEPTH),
                raw=True,
            )

    def _make_callback(self, connection):
        def write(data: bytes) -> None:
            self._writer.write(connection, self.get_clock().now().nanoseconds, data)
            self.n_messages += 1

        return write

    def close(self) -> None:
        """Write the bag's index and metadata; nothing is recorded after that."""
        for subscription in list(self.subscriptions):
            self.destroy_subscription(subscription)
        if self._is_open:
            self._is_open = False
            self._writer.close()


def read_bag(path):
    """
    Read a bag of ROS 2, mcap or sqlite3.

    Args:
        path: its folder.

    Yields:
        topic, arrival in ns, and the message, in the order of arrival.

    Raises:
        FileNotFoundError: there is no bag.
    """
    path = pathlib.Path(path)
    if not path.exists():
        raise FileNotFoundError(f'no bag at {path}; give the folder with its metadata.yaml')
    with AnyReader([path], default_typestore=make_typestore()) as reader:
        for connection, arrival_ns, data in reader.messages():
            yield connection.topic, arrival_ns, reader.deserialize(data, connection.msgtype)
