# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the bytes of a bag's messages mean.

Responsible for definitions of messages: those that a bag brings along, else ours, as the caller
has them, and those of the audio messages that have a fixed definition. Not for files.
"""

from collections.abc import Mapping
import functools
from typing import Any

from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore

from timar_ros.bounds import MAX_UTTERANCE_MESSAGE_BYTES
from timar_ros.stream.audio_types import AUDIO_INFO
from timar_ros.stream.bag_storage import Channel
from timar_ros.stream.installed_types import find_definitions
from timar_ros.stream.unpack import ZSTD_MAGIC, unpack
from timar_ros.strict import shortened

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
    'audio_utils_msgs/msg/AudioFrame': (
        'std_msgs/Header header\nstring format\nuint32 channel_count\n'
        'uint32 sampling_frequency\nuint32 frame_sample_count\nuint8[] data'
    ),
}


# mcap brings definitions along
_CONVERT = (
    "echo 'output_bags: [{uri: with_types, storage_id: mcap, all: true}]' > mcap.yaml; "
    'ros2 bag convert -i BAG -o mcap.yaml'
)
_LARGEST_DEFINITION = 1_000_000  # characters


class BagTypes:
    """
    Decodes messages by the definitions of their channels.

    Args:
        own_definitions: type -> text of our messages, for bags that bring none.

    Attributes:
        has_packed: a message was compressed by itself.
    """

    def __init__(self, own_definitions: Mapping[str, str]):
        self._own_definitions = own_definitions
        self.has_packed = False
        self._stores: dict[Channel, Any] = {}

    def decode(self, channel: Channel, data: bytes | None) -> Any:
        """
        Decode a message; one that was compressed by itself is unpacked first.

        Returns:
            its fields as attributes.

        Raises:
            ValueError: it cannot be decoded; says why.
        """
        if channel.encoding != 'cdr':
            raise ValueError(
                f'encoded as {shortened(channel.encoding) or "nothing"}, expected cdr (ROS 2)'
            )
        if data is None:
            raise ValueError('cannot be read: the file is damaged there')
        if channel not in self._stores:
            try:
                self._stores[channel] = self._typestore(channel)
            except ValueError as error:
                self._stores[channel] = error
        store = self._stores[channel]
        if isinstance(store, ValueError):
            raise store
        if data.startswith(ZSTD_MAGIC):
            self.has_packed = True
            data, problem = unpack(data, 'zstd', MAX_UTTERANCE_MESSAGE_BYTES)
            if problem:
                raise ValueError(f'cannot be decoded: compressed, and {problem}')
        if len(data) > MAX_UTTERANCE_MESSAGE_BYTES:
            raise ValueError(
                f'{len(data):,} bytes, expected at most {MAX_UTTERANCE_MESSAGE_BYTES:,}'
            )
        try:
            return store.deserialize_cdr(data, channel.msgtype)
        # NOTE: broken bytes make rosbags raise whatever they happen to break.
        except Exception:
            raise ValueError(
                f'cannot be decoded: {len(data)} bytes that are no {shortened(channel.msgtype)} '
                f'of the definition {"in the bag" if channel.definition else "known here"}'
            ) from None

    def _typestore(self, channel: Channel):
        """Return the definitions that a channel's messages need, its own before ours."""
        problem = 'is not in the bag'
        if channel.definition and len(channel.definition) <= _LARGEST_DEFINITION:
            try:
                return _by_its_own(channel.msgtype, channel.definition_format, channel.definition)
            except Exception as error:  # whatever the text breaks in the parser
                reason = shortened(' '.join(f'{error}'.split())) or type(error).__name__
                problem = f'is in the bag in a form that cannot be read ({reason})'
        known = self._known_definitions(channel.msgtype)
        if known is None:
            raise ValueError(
                f'{channel.topic} holds {shortened(channel.msgtype) or "no type"}, whose '
                f'definition {problem} and not known here; source a workspace with its '
                f'package and try again, or run there: {_CONVERT}'
            )
        types = {}
        for name, text in known.items():
            types |= get_types_from_msg(text, name)
        return _registered(types, channel.msgtype)

    def _known_definitions(self, msgtype: str) -> Mapping[str, str] | None:
        for known in (
            self._own_definitions,
            _OTHERS,
            _PORTAUDIO if msgtype.endswith('/AudioStamped') else _DRIVERS,
        ):
            if msgtype in known:
                return known
        if msgtype in _common_types():
            return {}
        return find_definitions(msgtype, _common_types().__contains__) or None


@functools.cache
def _common_types() -> dict:
    fields = get_typestore(Stores.ROS2_JAZZY).fielddefs
    return {name: value for name, value in fields.items() if name.startswith(_COMMON)}


@functools.lru_cache(maxsize=32)  # a bag may be opened twice, and have the type on many topics
def _by_its_own(msgtype: str, kind: str, definition: str):
    if not kind.endswith('idl'):
        return _registered(get_types_from_msg(definition, msgtype), msgtype)
    types = {}
    for part in definition.split(_IDL_SEPARATOR):
        header, _, rest = part.partition('\n')
        text = rest if header.startswith('IDL: ') else part
        if text.strip():
            types |= get_types_from_idl(text)
    return _registered(types, msgtype)


def _registered(types: dict, msgtype: str):
    typestore = get_typestore(Stores.EMPTY)
    typestore.register(_common_types() | dict(types))
    if msgtype not in typestore.fielddefs:
        raise ValueError(f'it defines no {msgtype}')
    typestore.generate_msgdef(msgtype)  # raises where a type that it is made of is missing
    return typestore
