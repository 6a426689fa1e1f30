# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The bags that we write are rosbag2's, as a reader sees them that shares no code with us."""

import json
import re

from mcap.reader import make_reader
import numpy as np
import pytest
from rclpy.serialization import deserialize_message
import yaml

from timar_ros.motion import get_space
from timar_ros.msg import AudioChunk, HeadMotionPlan
from timar_ros.nodes.bag import RecorderNode
from timar_ros.nodes.convert import audio_chunk, plan_to_msg

pytestmark = pytest.mark.graph

SPACE = get_space('arkit55')
TYPES = {
    'user/audio': 'timar_ros/msg/AudioChunk',
    'agent/motion_plan': 'timar_ros/msg/HeadMotionPlan',
}


def make_plan():
    numbers = np.arange(3)
    motion = np.linspace(0, 0.5, 3 * 55, dtype=np.float32).reshape(3, 55)
    return plan_to_msg(SPACE, 7, 25.0, 10**9 + 40_000_000 * numbers, numbers, numbers, motion)


@pytest.fixture
def bag(graph, tmp_path):
    """Record five chunks and a plan from real topics; return the bag's folder and the messages."""
    recorder = graph.add(RecorderNode(tmp_path / 'bag', TYPES, context=graph.context))
    node = graph.node('talker')
    chunks = [
        audio_chunk(np.full(320, i / 10), 16000, stamp_ns=10**9 + i * 20_000_000, first_sample=i)
        for i in range(5)
    ]
    sent = {'/user/audio': chunks, '/agent/motion_plan': [make_plan()]}
    pubs = {
        '/user/audio': node.create_publisher(AudioChunk, 'user/audio', 100),
        '/agent/motion_plan': node.create_publisher(HeadMotionPlan, 'agent/motion_plan', 10),
    }
    assert graph.spin_until(lambda: all(p.get_subscription_count() for p in pubs.values()))
    for topic, messages in sent.items():
        for message in messages:
            pubs[topic].publish(message)
    assert graph.spin_until(lambda: recorder.n_messages == 6)
    recorder.close()
    return tmp_path / 'bag', sent


@pytest.fixture
def content(bag):
    """Return what the MCAP library reads: its summary, header, and messages."""
    path = next(bag[0].glob('*.mcap'))
    with open(path, 'rb') as file:
        reader = make_reader(file)
        messages = [(s, c, m) for s, c, m in reader.iter_messages(log_time_order=True)]
        return reader.get_summary(), reader.get_header(), messages


def test_the_messages_come_back_bit_for_bit(bag, content):
    _, sent = bag
    classes = {'/user/audio': AudioChunk, '/agent/motion_plan': HeadMotionPlan}

    read = {topic: [] for topic in sent}
    for _, channel, message in content[2]:
        read[channel.topic].append(deserialize_message(message.data, classes[channel.topic]))

    assert read == sent


def test_the_file_is_a_ros_2_one_with_the_quality_of_service_of_each_topic(content):
    summary, header, _ = content

    assert header.profile == 'ros2'
    for channel in summary.channels.values():
        assert channel.message_encoding == 'cdr'
        (profile,) = yaml.safe_load(channel.metadata['offered_qos_profiles'])
        assert profile['reliability'] in ('reliable', 1), channel.topic
        assert profile['durability'] in ('volatile', 2), channel.topic
        assert profile['depth'] >= 10
    assert summary.statistics.message_count == 6
    assert summary.chunk_indexes, 'a player must be able to seek'


def test_each_type_brings_its_definition_and_all_that_it_is_made_of(content):
    schemas = {schema.name: schema for schema in content[0].schemas.values()}

    assert set(schemas) == set(TYPES.values())
    assert all(schema.encoding == 'ros2msg' for schema in schemas.values())
    plan = schemas['timar_ros/msg/HeadMotionPlan'].data.decode()
    parts = re.findall(r'^MSG: (\S+)$', plan, re.M)
    assert {
        'timar_ros/HeadMotion',
        'std_msgs/Header',
        'geometry_msgs/Quaternion',
        'builtin_interfaces/Time',
    } <= {part.replace('/msg/', '/') for part in parts}
    audio = schemas['timar_ros/msg/AudioChunk'].data.decode()
    assert re.search(r'^uint32 sample_rate\b', audio, re.M)


def test_the_metadata_is_that_of_rosbag2_and_agrees_with_the_file(bag, content):
    metadata = yaml.safe_load((bag[0] / 'metadata.yaml').read_text())
    metadata = metadata['rosbag2_bagfile_information']
    times = [message.log_time for _, _, message in content[2]]

    assert (metadata['version'], metadata['storage_identifier']) == (9, 'mcap')
    assert metadata['message_count'] == 6
    assert metadata['starting_time']['nanoseconds_since_epoch'] == min(times)
    # rosbag2 counts the duration from the first message to the last
    duration_ns = metadata['duration']['nanoseconds']
    assert max(times) - min(times) <= duration_ns <= max(times) - min(times) + 1
    assert metadata['relative_file_paths'] == [path.name for path in bag[0].glob('*.mcap')]
    topics = {
        item['topic_metadata']['name']: (item['topic_metadata'], item['message_count'])
        for item in metadata['topics_with_message_count']
    }
    assert {name: count for name, (_, count) in topics.items()} == {
        '/user/audio': 5,
        '/agent/motion_plan': 1,
    }
    for name, (topic, _) in topics.items():
        assert topic['type'] == TYPES[name.lstrip('/')]
        assert topic['serialization_format'] == 'cdr'
        assert re.fullmatch(r'RIHS01_[0-9a-f]{64}', topic['type_description_hash'])


def test_type_hashes_are_those_that_ros_itself_computes(bag):
    metadata = yaml.safe_load((bag[0] / 'metadata.yaml').read_text())
    topics = metadata['rosbag2_bagfile_information']['topics_with_message_count']

    from ament_index_python.packages import get_package_share_directory

    share = get_package_share_directory('timar_ros')
    for item in topics:
        topic = item['topic_metadata']
        kind = topic['type'].rpartition('/')[2]
        with open(f'{share}/msg/{kind}.json', encoding='utf-8') as file:
            hashes = {h['type_name']: h['hash_string'] for h in json.load(file)['type_hashes']}
        assert topic['type_description_hash'] == hashes[topic['type']]


def test_nothing_is_written_over(bag, graph):
    from rosbags.rosbag2 import WriterError

    with pytest.raises(WriterError, match='exists'):
        RecorderNode(bag[0], TYPES, context=graph.context)
