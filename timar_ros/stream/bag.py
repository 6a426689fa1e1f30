# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Messages out of a bag, mcap or sqlite3, without a ROS installation.

Knows rosbag2's files and message definitions: those that a bag brings along, else ours, as the
caller has them, and those of the audio messages that have a fixed definition. Refuses to know
what a message means.
"""

from collections.abc import Iterator
import dataclasses
import pathlib
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import (
    Stores,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)

AUDIO_TYPES = (
    'timar_ros/msg/AudioChunk',
    'audio_common_msgs/msg/AudioData',
    'audio_common_msgs/msg/AudioDataStamped',
    'audio_common_msgs/msg/AudioStamped',
    'naoqi_bridge_msgs/msg/AudioBuffer',
    'foxglove_msgs/msg/RawAudio',
)
AUDIO_INFO = 'audio_common_msgs/msg/AudioInfo'
# What messages about sound and heads are made of.
_COMMON = ('builtin_interfaces/', 'std_msgs/', 'geometry_msgs/')
_IDL_SEPARATOR = '=' * 80 + '\n'

# For bags that bring no definitions, as sqlite3 does on Humble. Two packages share the name
# audio_common_msgs: which one it is follows from the topic's type.
_DRIVERS = {
    'audio_common_msgs/msg/AudioData': 'uint8[] data',
    'audio_common_msgs/msg/AudioDataStamped': (
        'std_msgs/Header header\naudio_common_msgs/AudioData audio'
    ),
    AUDIO_INFO: (
        'uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\n'
        'string coding_format'
    ),
}
_PORTAUDIO = {
    'audio_common_msgs/msg/AudioData': (
        'float32[] float32_data\nint32[] int32_data\nint16[] int16_data\nint8[] int8_data\n'
        'uint8[] uint8_data'
    ),
    AUDIO_INFO: 'int32 format\nint32 channels\nint32 rate\nint32 chunk',
    'audio_common_msgs/msg/Audio': (
        'audio_common_msgs/AudioData audio_data\naudio_common_msgs/AudioInfo info'
    ),
    'audio_common_msgs/msg/AudioStamped': (
        'std_msgs/Header header\naudio_common_msgs/Audio audio'
    ),
}
_OTHERS = {
    'naoqi_bridge_msgs/msg/AudioBuffer': (
        'std_msgs/Header header\nuint16 frequency\nuint8[] channel_map\nint16[] data'
    ),
    'foxglove_msgs/msg/RawAudio': (
        'builtin_interfaces/Time timestamp\nuint8[] data\nstring format\nuint32 sample_rate\n'
        'uint32 number_of_channels'
    ),
}


def read_definitions(folder: pathlib.Path, package: str = 'timar_ros') -> dict[str, str]:
    """Read the .msg files of a folder: type -> text."""
    return {f'{package}/msg/{path.stem}': path.read_text() for path in folder.glob('*.msg')}


@dataclasses.dataclass(frozen=True)
class Message:
    """
    One message of a bag.

    Attributes:
        topic: absolute name.
        received_ns: when it was recorded.
        content: its fields as attributes; None if it could not be decoded.
        problem: why not.
    """

    topic: str
    received_ns: int
    content: Any
    problem: str = ''


class Bag:
    """
    A bag to read from, in a `with`.

    Args:
        path: its folder, or a single .mcap or .db3 file.
        own_definitions: type -> text of our messages, for bags that bring none.

    Attributes:
        path: as given.
        notes: what was wrong with it and could be lived with, a sentence each.

    Raises:
        FileNotFoundError: there is no bag.
        ValueError: it cannot be read at all.
    """

    def __init__(self, path: pathlib.Path, own_definitions: dict[str, str]):
        self.path = pathlib.Path(path)
        self._own_definitions = own_definitions
        self.notes: list[str] = []
        self._readers: list[Reader] = []

    def __enter__(self) -> 'Bag':
        for file in self._files():
            try:
                reader = Reader(file)
                reader.open()
            # NOTE: a broken file makes rosbags raise whatever its bytes happen to break.
            except Exception as error:
                self.__exit__()
                raise ValueError(
                    f'{file}: cannot be read as a bag of ROS 2 ({_told(error)}); if its recording '
                    "was cut off, repair it ('mcap recover', or 'sqlite3 FILE .recover')"
                ) from None
            self._readers.append(reader)
        return self

    def __exit__(self, *_exception) -> None:
        for reader in self._readers:
            reader.close()
        self._readers = []

    @property
    def topics(self) -> dict[str, str]:
        """Absolute name of each topic that holds a message -> its message type."""
        return {
            connection.topic: connection.msgtype
            for connection in self._connections()
            if connection.msgcount
        }

    @property
    def span_ns(self) -> tuple[int, int]:
        """When its first and its last message were recorded."""
        filled = [reader for reader in self._readers if reader.message_count]
        begins, ends = [r.start_time for r in filled], [r.end_time for r in filled]
        return min(begins, default=0), max(ends, default=0)

    def find_topic(self, name: str) -> str | None:
        """
        Find a topic by its name, in whatever namespace it was recorded.

        Returns:
            its absolute name, or None if there is none.

        Raises:
            ValueError: several namespaces have it.
        """
        wanted = '/' + name.strip('/')
        if wanted in self.topics:
            return wanted
        found = sorted(topic for topic in self.topics if topic.endswith(wanted))
        if len(found) > 1:
            raise ValueError(
                f'{self.path}: expected one topic {name}, got {", ".join(found)}; '
                'give the full name of one'
            )
        return found[0] if found else None

    def messages(self, topics: set[str], start_ns: int | None = None) -> Iterator[Message]:
        """
        Read the messages of some topics in the order of their recording.

        Args:
            topics: absolute names.
            start_ns: leave out what was recorded before.

        A bag that breaks off is read up to there, and a note says so.

        Raises:
            ValueError: it breaks off before its first message.
        """
        stores = {
            (connection.topic, connection.msgtype): self._typestore(connection)
            for connection in self._connections()
            if connection.topic in topics
        }
        last_ns = None
        try:
            for reader in self._readers:
                wanted = [c for c in reader.connections if c.topic in topics]
                for connection, received_ns, data in reader.messages(wanted, start=start_ns):
                    last_ns = received_ns
                    store = stores[connection.topic, connection.msgtype]
                    yield _decode(connection, received_ns, data, store)
        except Exception as error:  # as in __enter__
            if last_ns is None:
                raise ValueError(f'{self.path}: cannot be read ({_told(error)})') from None
            self.notes.append(f'the bag breaks off ({_told(error)}); what came before is used')

    def _files(self) -> list[pathlib.Path]:
        """Say what rosbags is to open: the folder, or the files of one without metadata."""
        if not self.path.exists():
            raise FileNotFoundError(
                f'no bag at {self.path}; give its folder, or an .mcap or .db3 file'
            )
        if self.path.suffix == '.bag':
            raise ValueError(
                f"{self.path}: a bag of ROS 1; convert it with 'rosbags-convert --src "
                f"{self.path.name} --dst {self.path.stem}'"
            )
        if not self.path.is_dir() or (self.path / 'metadata.yaml').is_file():
            return [self.path]
        files = sorted([*self.path.glob('*.mcap'), *self.path.glob('*.db3')])
        if not files:
            raise ValueError(
                f'{self.path}: expected a bag (metadata.yaml and .mcap or .db3 files), got '
                f'{", ".join(sorted(p.name for p in self.path.iterdir())[:5]) or "nothing"}'
            )
        self.notes.append('the bag has no metadata.yaml: its recording was cut off')
        return files

    def _connections(self) -> list[Connection]:
        return [connection for reader in self._readers for connection in reader.connections]

    def _typestore(self, connection: Connection):
        """Return the definitions that a connection's messages need, its own before ours."""
        typestore = get_typestore(Stores.EMPTY)
        types = {
            name: fields
            for name, fields in get_typestore(Stores.ROS2_JAZZY).fielddefs.items()
            if name.startswith(_COMMON)
        }
        name, definition = connection.msgtype, connection.msgdef
        if definition.format == MessageDefinitionFormat.MSG:
            types |= get_types_from_msg(definition.data, name)
        elif definition.format == MessageDefinitionFormat.IDL:
            for part in definition.data.split(_IDL_SEPARATOR):
                header, _, rest = part.partition('\n')
                text = rest if header.startswith('IDL: ') else part
                if text.strip():
                    types |= get_types_from_idl(text)
        else:
            for name, text in self._known_definitions(connection).items():
                types |= get_types_from_msg(text, name)
        typestore.register(types)
        return typestore

    def _known_definitions(self, connection: Connection) -> dict[str, str]:
        name = connection.msgtype
        for known in (
            self._own_definitions,
            _OTHERS,
            _PORTAUDIO if name.endswith('/AudioStamped') else _DRIVERS,
        ):
            if name in known:
                return known
        raise ValueError(
            f'{self.path}: {connection.topic} holds {name}, whose definition is neither in the '
            'bag nor known here; record it as mcap, which brings definitions along'
        )


def _decode(connection: Connection, received_ns: int, data: bytes, typestore) -> Message:
    try:
        content = typestore.deserialize_cdr(data, connection.msgtype)
    except Exception as error:  # as in Bag.__enter__
        return Message(connection.topic, received_ns, None, f'cannot be decoded: {_told(error)}')
    return Message(connection.topic, received_ns, content)


def _told(error: Exception) -> str:
    return f'{error}'.strip().rstrip('.') or type(error).__name__
