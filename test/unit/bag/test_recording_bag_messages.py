# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Audio in bags: messages of any package, by their own definitions or by those known here."""

import numpy as np
import pytest

from timar_ros.stream.bag_topics import Topics

FOREIGN = {
    'audio_common_msgs/msg/AudioData': 'uint8[] data',
    'audio_common_msgs/msg/AudioDataStamped': (
        'std_msgs/Header header\naudio_common_msgs/AudioData audio'
    ),
    'audio_common_msgs/msg/AudioInfo': (
        'uint8 channels\nuint32 sample_rate\nstring sample_format\nuint32 bitrate\n'
        'string coding_format'
    ),
    'naoqi_bridge_msgs/msg/AudioBuffer': (
        'std_msgs/Header header\nuint16 frequency\nuint8[] channel_map\nint16[] data'
    ),
    'foxglove_msgs/msg/RawAudio': (
        'builtin_interfaces/Time timestamp\nuint8[] data\nstring format\nuint32 sample_rate\n'
        'uint32 number_of_channels'
    ),
}
MGONZS13 = {
    'audio_common_msgs/msg/AudioData': (
        'float32[] float32_data\nint32[] int32_data\nint16[] int16_data\nint8[] int8_data\n'
        'uint8[] uint8_data'
    ),
    'audio_common_msgs/msg/AudioInfo': 'int32 format\nint32 channels\nint32 rate\nint32 chunk',
    'audio_common_msgs/msg/Audio': (
        'audio_common_msgs/AudioData audio_data\naudio_common_msgs/AudioInfo info'
    ),
    'audio_common_msgs/msg/AudioStamped': (
        'std_msgs/Header header\naudio_common_msgs/Audio audio'
    ),
}


def test_a_sqlite_bag_without_definitions_is_read_with_ours(bags, tmp_path):
    with bags.Writer(tmp_path / 'bag', 'sqlite3') as bag:
        bag.write_chunks('/user/audio', bags.voice(1))
    bags.forget_definitions(tmp_path / 'bag')

    recording = bags.read(tmp_path / 'bag')

    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, bags.voice(1))


def test_a_message_is_read_by_the_definition_in_its_bag(bags, tmp_path):
    text = bags.definitions['timar_ros/msg/AudioChunk'].replace(
        'uint8 channels', 'uint8 gain\nuint8 channels'
    )
    definitions = bags.definitions | {'timar_ros/msg/AudioChunk': text}
    with bags.Writer(tmp_path / 'bag', definitions=definitions) as bag:
        make, bag.make = bag.make, lambda kind, **fields: make(
            kind, **fields, **({'gain': 7} if kind == 'timar_ros/msg/AudioChunk' else {})
        )  # fmt: skip
        bag.write_chunks('/user/audio', bags.voice(1))

    recording = bags.read(tmp_path / 'bag')

    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, bags.voice(1))


IDL = """
module timar_ros { module msg {
  struct AudioChunk {
    std_msgs::msg::Header header;
    unsigned long sample_rate;
    uint8 channels;
    string encoding;
    uint64 first_sample;
    builtin_interfaces::msg::Time sent;
    sequence<uint8> data;
  };
}; };
"""


def test_definitions_in_idl_are_understood(bags, tmp_path):
    rule = '=' * 80
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.definition = f'{rule}\nIDL: timar_ros/msg/AudioChunk\n{IDL}'
        bag.write_chunks('/user/audio', bags.voice(1))

    recording = bags.read(tmp_path / 'bag')

    assert b'ros2idl' in next((tmp_path / 'bag').glob('*.mcap')).read_bytes()
    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, bags.voice(1))


def write_foreign(bags, bag, kind, samples):
    """Write a voice as messages of another package, a chunk each, received when complete."""
    for start in range(0, len(samples), bags.chunk):
        piece = samples[start : start + bags.chunk]
        data = np.frombuffer(piece.tobytes(), np.uint8)
        stamp = bags.begin_ns + start * 10**9 // bags.rate_hz
        received = stamp + len(piece) * 10**9 // bags.rate_hz
        name = kind.rpartition('/')[2]
        if name == 'AudioData':
            fields = {'data': data}
        elif name == 'AudioDataStamped':
            audio = bag.make('audio_common_msgs/msg/AudioData', data=data)
            fields = {'header': bag.header(stamp), 'audio': audio}
        elif name == 'AudioBuffer':
            channels = np.array([0], np.uint8)
            fields = {
                'header': bag.header(stamp),
                'frequency': bags.rate_hz,
                'channel_map': channels,
            }
            fields['data'] = piece
        elif name == 'RawAudio':
            fields = {'timestamp': bag.time(stamp), 'data': data, 'format': 'pcm-s16'}
            fields |= {'sample_rate': bags.rate_hz, 'number_of_channels': 1}
        else:
            nothing = {f'{t}_data': np.zeros(0, t) for t in ('float32', 'int32', 'int8', 'uint8')}
            info = {'format': 8, 'channels': 1, 'rate': bags.rate_hz, 'chunk': bags.chunk}
            audio = bag.make(
                'audio_common_msgs/msg/Audio',
                audio_data=bag.make(
                    'audio_common_msgs/msg/AudioData', int16_data=piece, **nothing
                ),
                info=bag.make('audio_common_msgs/msg/AudioInfo', **info),
            )
            fields = {'header': bag.header(stamp), 'audio': audio}
        bag.write('/mic/audio', kind, received, **fields)


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize(
    'kind',
    [
        'audio_common_msgs/msg/AudioData',
        'audio_common_msgs/msg/AudioDataStamped',
        'audio_common_msgs/msg/AudioStamped',
        'naoqi_bridge_msgs/msg/AudioBuffer',
        'foxglove_msgs/msg/RawAudio',
    ],
)
def test_audio_of_other_packages_is_heard(bags, tmp_path, kind, storage):
    definitions = MGONZS13 if kind.endswith('AudioStamped') else FOREIGN
    with bags.Writer(tmp_path / 'bag', storage, definitions) as bag:
        if kind.startswith('audio_common_msgs/msg/AudioData'):
            info = {'channels': 1, 'sample_rate': bags.rate_hz, 'sample_format': 'S16LE'}
            info |= {'bitrate': 0, 'coding_format': 'wave'}
            info_kind = 'audio_common_msgs/msg/AudioInfo'
            bag.write('/mic/audio_info', info_kind, bags.begin_ns, **info)
        write_foreign(bags, bag, kind, bags.voice(1))
    if storage == 'sqlite3':  # as on Humble
        bags.forget_definitions(tmp_path / 'bag')

    recording = bags.read(tmp_path / 'bag', Topics(user_audio='/mic/audio'))

    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, bags.voice(1))
    assert recording.begin_ns == bags.begin_ns


def test_compressed_audio_is_refused_with_what_to_do(bags, tmp_path):
    with bags.Writer(tmp_path / 'bag', definitions=FOREIGN) as bag:
        data = np.frombuffer(b'ID3' + bytes(100), np.uint8)
        bag.write('/user/audio', 'audio_common_msgs/msg/AudioData', bags.begin_ns, data=data)

    with pytest.raises(ValueError, match='looks? like mp3; start the driver with format:=wave'):
        bags.read(tmp_path / 'bag')
