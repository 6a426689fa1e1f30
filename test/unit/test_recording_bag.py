# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags as recordings: whatever storage, messages, clocks and faults they come with."""

from pathlib import Path
import sqlite3

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from timar_ros.config import SamplingConfig, TimingConfig
from timar_ros.learn.bag_recording import Topics, read_bag
from timar_ros.learn.evaluate import answer
from timar_ros.learn.offline import answer_recording
from timar_ros.motion import frame_to_motion, get_space
from timar_ros.stream.conversation import Conversation

RATE = 16000
LEAD_NS = 160_000_000
BEGIN_NS = 1_700_000_000_000_000_000
CHUNK = 320
SPACE = get_space('flame56')
TIMING = TimingConfig(
    replan_hz=12.5, hearing_delay_ms=80, agent_lead_ms=160, plan_latency_ms=40, blend_ms=80
)
MSG = Path(__file__).resolve().parents[2] / 'msg'
OURS = {f'timar_ros/msg/{path.stem}': path.read_text() for path in MSG.glob('*.msg')}
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


class BagWriter:
    """Writes messages given as nested dictionaries."""

    def __init__(self, path, storage='mcap', definitions=OURS):
        self.store = get_typestore(Stores.ROS2_JAZZY)
        types = {}
        for name, text in definitions.items():
            types.update(get_types_from_msg(text, name))
        self.store.register(types)
        plugin = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}[storage]
        self._writer = Writer(path, version=9, storage_plugin=plugin)
        self._connections = {}
        self.definition = None  # written into the bag in place of its own

    def __enter__(self):
        self._writer.open()
        return self

    def __exit__(self, *_exception):
        self._writer.close()

    def connect(self, topic, kind):
        key = topic, kind
        if key not in self._connections:
            options = {'typestore': self.store}
            if self.definition:
                options = {'msgdef': self.definition, 'rihs01': self.store.hash_rihs01(kind)}
            self._connections[key] = self._writer.add_connection(topic, kind, **options)
        return self._connections[key]

    def write(self, topic, kind, received_ns, **fields):
        data = self.store.serialize_cdr(self.make(kind, **fields), kind)
        self.write_raw(topic, kind, received_ns, data)

    def write_raw(self, topic, kind, received_ns, data):
        self._writer.write(self.connect(topic, kind), received_ns, data)

    def make(self, kind, **fields):
        return self.store.types[kind](**fields)

    def time(self, ns):
        sec, nanosec = divmod(ns, 10**9)
        return self.make('builtin_interfaces/msg/Time', sec=sec, nanosec=nanosec)

    def header(self, ns):
        return self.make('std_msgs/msg/Header', stamp=self.time(ns), frame_id='')

    def write_chunks(
        self, topic, samples, begin_ns=BEGIN_NS, lead_ns=0, is_sent=True, clock_ns=0, rate=RATE
    ):
        """Write a voice `[n]` as AudioChunks; `clock_ns`: recording clock minus stamps."""
        for start in range(0, len(samples), CHUNK):
            piece = samples[start : start + CHUNK]
            stamp = begin_ns + start * 10**9 // rate
            sent = stamp - lead_ns if lead_ns else stamp + len(piece) * 10**9 // rate
            self.write(
                topic,
                'timar_ros/msg/AudioChunk',
                sent + clock_ns,
                header=self.header(stamp),
                sample_rate=rate,
                channels=1,
                encoding='pcm_s16le',
                first_sample=start,
                sent=self.time(sent if is_sent else 0),
                data=np.frombuffer(piece.tobytes(), np.uint8),
            )


def voice(seed: int, seconds: float = 1.6) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.round(3000 * rng.standard_normal(int(seconds * RATE))).astype(np.int16)


def read(path, topics=None):
    return read_bag(path, SPACE, LEAD_NS, topics or Topics())


@pytest.fixture
def model(make_model):
    return make_model(cache='banded', history='masked', level='causal')


def answer_bag(model, path):
    return answer(model, read(path), TIMING, SamplingConfig())[0].motion


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_bag_gives_the_motion_of_the_wavs_that_it_was_made_of(tmp_path, model, storage):
    voices = {'user': voice(1), 'agent': voice(2)}
    with BagWriter(tmp_path / 'bag', storage) as bag:
        bag.write_chunks('/user/audio', voices['user'])
        bag.write_chunks('/agent/audio', voices['agent'], lead_ns=LEAD_NS)

    motion = answer_bag(model, tmp_path / 'bag')

    sounds = {name: (x / np.float32(32768), RATE) for name, x in voices.items()}
    expected = answer_recording(Conversation(model, TIMING), sounds)
    assert len(motion) == 40
    np.testing.assert_array_equal(motion, expected)


def test_a_sqlite_bag_without_definitions_is_read_with_ours(tmp_path):
    with BagWriter(tmp_path / 'bag', 'sqlite3') as bag:
        bag.write_chunks('/user/audio', voice(1))
    file = next((tmp_path / 'bag').glob('*.db3'))
    with sqlite3.connect(file) as database:
        database.execute('DELETE FROM message_definitions')

    recording = read(tmp_path / 'bag')

    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, voice(1))


def test_a_message_is_read_by_the_definition_in_its_bag(tmp_path):
    text = OURS['timar_ros/msg/AudioChunk'].replace('uint8 channels', 'uint8 gain\nuint8 channels')
    definitions = OURS | {'timar_ros/msg/AudioChunk': text}
    with BagWriter(tmp_path / 'bag', definitions=definitions) as bag:
        make, bag.make = bag.make, lambda kind, **fields: make(
            kind, **fields, **({'gain': 7} if kind == 'timar_ros/msg/AudioChunk' else {})
        )  # fmt: skip
        bag.write_chunks('/user/audio', voice(1))

    recording = read(tmp_path / 'bag')

    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, voice(1))


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


def test_definitions_in_idl_are_understood(tmp_path):
    rule = '=' * 80
    with BagWriter(tmp_path / 'bag') as bag:
        bag.definition = f'{rule}\nIDL: timar_ros/msg/AudioChunk\n{IDL}'
        bag.write_chunks('/user/audio', voice(1))

    recording = read(tmp_path / 'bag')

    assert b'ros2idl' in next((tmp_path / 'bag').glob('*.mcap')).read_bytes()
    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, voice(1))


def write_foreign(bag, kind, samples):
    """Write a voice as messages of another package, a chunk each, received when complete."""
    for start in range(0, len(samples), CHUNK):
        piece = samples[start : start + CHUNK]
        data = np.frombuffer(piece.tobytes(), np.uint8)
        stamp = BEGIN_NS + start * 10**9 // RATE
        received = stamp + len(piece) * 10**9 // RATE
        name = kind.rpartition('/')[2]
        if name == 'AudioData':
            fields = {'data': data}
        elif name == 'AudioDataStamped':
            audio = bag.make('audio_common_msgs/msg/AudioData', data=data)
            fields = {'header': bag.header(stamp), 'audio': audio}
        elif name == 'AudioBuffer':
            channels = np.array([0], np.uint8)
            fields = {'header': bag.header(stamp), 'frequency': RATE, 'channel_map': channels}
            fields['data'] = piece
        elif name == 'RawAudio':
            fields = {'timestamp': bag.time(stamp), 'data': data, 'format': 'pcm-s16'}
            fields |= {'sample_rate': RATE, 'number_of_channels': 1}
        else:
            nothing = {f'{t}_data': np.zeros(0, t) for t in ('float32', 'int32', 'int8', 'uint8')}
            info = {'format': 8, 'channels': 1, 'rate': RATE, 'chunk': CHUNK}
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
def test_audio_of_other_packages_is_heard(tmp_path, kind, storage):
    definitions = MGONZS13 if kind.endswith('AudioStamped') else FOREIGN
    with BagWriter(tmp_path / 'bag', storage, definitions) as bag:
        if kind.startswith('audio_common_msgs/msg/AudioData'):
            info = {'channels': 1, 'sample_rate': RATE, 'sample_format': 'S16LE'}
            info |= {'bitrate': 0, 'coding_format': 'wave'}
            info_kind = 'audio_common_msgs/msg/AudioInfo'
            bag.write('/mic/audio_info', info_kind, BEGIN_NS, **info)
        write_foreign(bag, kind, voice(1))
    if storage == 'sqlite3':  # as on Humble
        with sqlite3.connect(next((tmp_path / 'bag').glob('*.db3'))) as database:
            database.execute('DELETE FROM message_definitions')

    recording = read(tmp_path / 'bag', Topics(user_audio='/mic/audio'))

    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, voice(1))
    assert recording.begin_ns == BEGIN_NS


def test_what_the_robot_says_is_known_from_when_it_was_sent(tmp_path, model):
    agent = voice(2)
    motions = {}
    for name, lead_ns, is_sent in (
        ('announced', LEAD_NS, True),
        ('recorded as announced', LEAD_NS, False),
        ('as it sounds', 1, True),
    ):
        with BagWriter(tmp_path / name) as bag:
            bag.write_chunks('/user/audio', voice(1))
            bag.write_chunks('/agent/audio', agent, lead_ns=lead_ns, is_sent=is_sent)
        motions[name] = answer_bag(model, tmp_path / name)

    np.testing.assert_array_equal(motions['recorded as announced'], motions['announced'])
    assert np.abs(motions['as it sounds'] - motions['announced']).max() > 1e-3


def test_stamps_of_another_clock_than_the_recorders_decide(tmp_path, model):
    voices = {'/user/audio': (voice(1), 0), '/agent/audio': (voice(2), LEAD_NS)}
    motions = []
    for clock_ns in (0, -10_000 * 10**9):
        path = tmp_path / f'bag{clock_ns}'
        with BagWriter(path) as bag:
            for topic, (samples, lead_ns) in voices.items():
                bag.write_chunks(topic, samples, lead_ns=lead_ns, clock_ns=clock_ns)
        motions.append(answer_bag(model, path))

    np.testing.assert_array_equal(*motions)
    assert 'another clock' in read(path).notes[0]


def test_the_users_head_is_seen_as_live(tmp_path):
    stamps = BEGIN_NS + np.arange(10) * 40_000_000
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', voice(1))
        for i, stamp in enumerate(stamps.tolist()):
            quaternion = {'x': 0.0, 'y': float(np.sin(i / 50)), 'z': 0.0}
            quaternion['w'] = float(np.cos(i / 50))
            bag.write(
                '/user/head_motion',
                'timar_ros/msg/HeadMotion',
                stamp + 5_000_000,
                header=bag.header(stamp),
                turn=0,
                frame=0,
                neck=bag.make('geometry_msgs/msg/Quaternion', **quaternion),
                jaw_open=0.1 if i != 7 else float('nan'),
                expression_space='flame50',
                expression=np.arange(50, dtype=np.float32) / 50,
            )

    recording = read(tmp_path / 'bag')

    seen, frames = recording.user_motion
    np.testing.assert_array_equal(seen, np.delete(stamps, 7))
    turn = np.array([0, np.sin(3 / 50), 0, np.cos(3 / 50)])
    expected = frame_to_motion(SPACE, turn, 0.1, 'flame50', np.arange(50) / 50)
    np.testing.assert_allclose(frames[3], expected, atol=1e-7)
    assert 'head motion: 1 of 10 messages left out' in recording.notes[-1]


def test_topics_are_found_in_any_namespace(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_chunks('/robot1/user/audio', voice(1))

    assert list(read(tmp_path / 'bag').deliveries) == ['user']


def test_topics_in_two_namespaces_have_to_be_named(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_chunks('/robot1/user/audio', voice(1))
        bag.write_chunks('/robot2/user/audio', voice(2))

    with pytest.raises(ValueError, match='got /robot1/user/audio, /robot2/user/audio; give'):
        read(tmp_path / 'bag')
    named = read(tmp_path / 'bag', Topics(user_audio='/robot2/user/audio'))
    np.testing.assert_array_equal(named.voices['user'].samples * 32768, voice(2))


def test_a_bag_with_audio_elsewhere_says_where(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_chunks('/audio/in', voice(1))

    with pytest.raises(ValueError, match=r'audio on /audio/in \(timar_ros/msg/AudioChunk\)'):
        read(tmp_path / 'bag')


def test_a_bag_without_audio_says_what_it_holds(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write('/chatter', 'std_msgs/msg/String', BEGIN_NS, data='hello')

    with pytest.raises(ValueError, match=r'got none; it has /chatter \(std_msgs/msg/String\)'):
        read(tmp_path / 'bag')


def test_an_empty_bag_says_so(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.connect('/user/audio', 'timar_ros/msg/AudioChunk')

    with pytest.raises(ValueError, match='it has no messages at all'):
        read(tmp_path / 'bag')


def test_one_voice_is_enough_and_the_other_is_told_missing(tmp_path, model):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_chunks('/agent/audio', voice(2), lead_ns=LEAD_NS)

    recording = read(tmp_path / 'bag')

    assert recording.notes == ('the bag has no user/audio; the user is taken to be silent',)
    assert np.abs(answer_bag(model, tmp_path / 'bag') - SPACE.neutral).max() > 0.01


def test_messages_that_cannot_be_decoded_are_left_out_and_counted(tmp_path):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', voice(1))
        for i in range(3):
            kind = 'timar_ros/msg/AudioChunk'
            bag.write_raw('/user/audio', kind, BEGIN_NS + i, b'\x00\x01\x00\x00\xff\xff')

    recording = read(tmp_path / 'bag')

    assert 'user: 3 of 83 messages left out: cannot be decoded' in recording.notes[0]
    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, voice(1))


def test_compressed_audio_is_refused_with_what_to_do(tmp_path):
    with BagWriter(tmp_path / 'bag', definitions=FOREIGN) as bag:
        data = np.frombuffer(b'ID3' + bytes(100), np.uint8)
        bag.write('/user/audio', 'audio_common_msgs/msg/AudioData', BEGIN_NS, data=data)

    with pytest.raises(ValueError, match='looks? like mp3; start the driver with format:=wave'):
        read(tmp_path / 'bag')


@pytest.mark.parametrize('jump_s', [-100, 5000])
def test_what_follows_a_jump_of_the_clock_is_another_recording(tmp_path, jump_s):
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', voice(1))
        later_ns = 10 * 10**9
        begin_ns = BEGIN_NS + (10 + jump_s) * 10**9
        bag.write_chunks(
            '/user/audio', voice(2), begin_ns, clock_ns=later_ns - begin_ns + BEGIN_NS
        )

    recording = read(tmp_path / 'bag')

    assert f'stamps jump by {jump_s + 10 - 1.6:+.1f} s after 80 of 160' in recording.notes[0]
    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, voice(1))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_bag_without_metadata_is_read_all_the_same(tmp_path, storage):
    with BagWriter(tmp_path / 'bag', storage) as bag:
        bag.write_chunks('/user/audio', voice(1))
    (tmp_path / 'bag' / 'metadata.yaml').unlink()

    recording = read(tmp_path / 'bag')

    assert 'no metadata.yaml' in recording.notes[0]
    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, voice(1))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.6])
def test_a_bag_that_was_cut_off_gives_a_sentence_or_what_came_before(tmp_path, storage, share):
    with BagWriter(tmp_path / 'bag', storage) as bag:
        bag.write_chunks('/user/audio', voice(1, 8.0))
    file = next(p for p in (tmp_path / 'bag').iterdir() if p.suffix in ('.mcap', '.db3'))
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])

    try:
        recording = read(tmp_path / 'bag')
    except ValueError as error:
        assert 'cannot be read' in str(error) and str(tmp_path / 'bag') in str(error)
    else:
        assert 'breaks off' in recording.notes[0]
        samples = recording.voices['user'].samples * 32768
        np.testing.assert_array_equal(samples, voice(1, 8.0)[: len(samples)])


@pytest.mark.parametrize('content', [b'', b'no bag', b'\x89MCAP0\r\n', b'SQLite format 3\x00'])
@pytest.mark.parametrize('name', ['x.mcap', 'x.db3', 'x.txt'])
def test_files_that_are_no_bags_give_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ValueError, match='cannot be read as a bag of ROS 2'):
        read(tmp_path / name)


def test_a_folder_that_is_no_bag_gives_a_sentence(tmp_path):
    (tmp_path / 'notes.txt').write_text('hello')

    with pytest.raises(ValueError, match=r'expected a bag .* got notes\.txt'):
        read(tmp_path)


def test_a_missing_bag_gives_a_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match='no bag at .*nowhere'):
        read(tmp_path / 'nowhere')


def test_a_bag_of_ros_1_is_sent_to_its_converter(tmp_path):
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')

    with pytest.raises(ValueError, match='convert it with .*rosbags-convert'):
        read(tmp_path / 'old.bag')


def test_telephone_sound_keeps_its_time(tmp_path):
    samples = np.round(8000 * np.sin(2 * np.pi * 300 * np.arange(19200) / 8000)).astype(np.int16)
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', samples, rate=8000)

    heard = read(tmp_path / 'bag').voices['user'].samples

    expected = 8000 / 32768 * np.sin(2 * np.pi * 300 * np.arange(38400) / 16000)
    np.testing.assert_allclose(heard[400:-400], expected[400:-400], atol=2e-3)
