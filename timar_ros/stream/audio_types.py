# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Responsible for the names of message types that are audio, best first. Not for their fields."""

AUDIO_CHUNK = 'timar_ros/msg/AudioChunk'
AUDIO_INFO = 'audio_common_msgs/msg/AudioInfo'
AUDIO_TYPES = (
    AUDIO_CHUNK,
    'audio_common_msgs/msg/AudioDataStamped',
    'audio_common_msgs/msg/AudioStamped',
    'naoqi_bridge_msgs/msg/AudioBuffer',
    'foxglove_msgs/msg/RawAudio',
    'audio_utils_msgs/msg/AudioFrame',
    'audio_common_msgs/msg/AudioData',
)
# Heard where their format is stated.
ARRAY_TYPES = (
    'std_msgs/msg/Int16MultiArray',
    'std_msgs/msg/Float32MultiArray',
    'std_msgs/msg/Int32MultiArray',
    'std_msgs/msg/UInt8MultiArray',
)
_KNOWN = (*AUDIO_TYPES, *ARRAY_TYPES)


def is_known(type_name: str) -> bool:
    """Return whether messages of a type are, or may be, audio."""
    return type_name in _KNOWN


def preference(type_name: str) -> tuple[int, str]:
    """Return a key that sorts type names: audio first, then what may be audio, then the rest."""
    return (_KNOWN.index(type_name) if type_name in _KNOWN else len(_KNOWN)), type_name
