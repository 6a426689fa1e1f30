# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A replayed bag gives what the evaluator makes of it: in lockstep always, in time if in time."""

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg

from timar_ros.config import SamplingConfig
from timar_ros.learn.bag_recording import read_bag
from timar_ros.learn.evaluate import answer
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.msg import AudioChunk, HeadMotion
from timar_ros.nodes.bag import make_typestore
from timar_ros.nodes.convert import motion_from_msg, plan_to_msg, stamp_to_ns
from timar_ros.nodes.recording_bag import BagRecording
from timar_ros.nodes.replay import ReplayNode
from timar_ros.stream.audio import packet_from_fields
from timar_ros.stream.bag_topics import Topics

pytestmark = pytest.mark.graph

RATE_HZ, CHUNK = 16000, 320
# At the start of a turn of 0.4 s.
BEGIN_NS = 1_700_000_000_000_000_000
LEAD_NS = 400_000_000
RAW_AUDIO = (
    'builtin_interfaces/Time timestamp\nuint8[] data\nstring format\nuint32 sample_rate\n'
    'uint32 number_of_channels'
)


def pcm(make_voice, seconds, seed):
    return np.rint(make_voice(seconds, seed) * 32767).astype(np.int16)


class Bag:
    """Writes what a microphone, a speaker and a tracker would have published."""

    def __init__(self, path, storage=StoragePlugin.MCAP, begin_ns=BEGIN_NS):
        self.store = make_typestore()
        self.store.register(get_types_from_msg(RAW_AUDIO, 'foxglove_msgs/msg/RawAudio'))
        self._messages, self._path, self._storage, self._begin_ns = [], path, storage, begin_ns

    def make(self, kind, **fields):
        return self.store.types[kind](**fields)

    def time(self, ns):
        return self.make('builtin_interfaces/msg/Time', sec=ns // 10**9, nanosec=ns % 10**9)

    def header(self, ns):
        return self.make('std_msgs/msg/Header', stamp=self.time(ns), frame_id='')

    def add(self, topic, kind, received_ns, **fields):
        self._messages.append((received_ns, topic, kind, self.make(kind, **fields)))

    def add_chunks(self, topic, samples, lead_ns=0, late_ns=0):
        for start in range(0, len(samples), CHUNK):
            stamp = self._begin_ns + start * 10**9 // RATE_HZ
            sent = stamp - lead_ns if lead_ns else stamp + CHUNK * 10**9 // RATE_HZ
            self.add(
                topic,
                'timar_ros/msg/AudioChunk',
                sent + late_ns,
                header=self.header(stamp),
                sample_rate=RATE_HZ,
                channels=1,
                encoding='pcm_s16le',
                first_sample=start,
                sent=self.time(sent if lead_ns else 0),
                data=np.frombuffer(samples[start : start + CHUNK].tobytes(), np.uint8),
            )

    def add_raw(self, topic, samples):
        for start in range(0, len(samples), CHUNK):
            stamp = self._begin_ns + start * 10**9 // RATE_HZ
            self.add(
                topic,
                'foxglove_msgs/msg/RawAudio',
                stamp + CHUNK * 10**9 // RATE_HZ,
                timestamp=self.time(stamp),
                data=np.frombuffer(samples[start : start + CHUNK].tobytes(), np.uint8),
                format='pcm-s16',
                sample_rate=RATE_HZ,
                number_of_channels=1,
            )

    def add_nods(self, topic, n_frames):
        for i in range(n_frames):
            stamp = self._begin_ns + i * 40_000_000
            half = 0.1 * np.sin(i / 4)
            neck = self.make(
                'geometry_msgs/msg/Quaternion', x=0.0, y=np.sin(half), z=0.0, w=np.cos(half)
            )
            self.add(
                topic,
                'timar_ros/msg/HeadMotion',
                stamp + 5_000_000,
                header=self.header(stamp),
                turn=i // 10,
                frame=i % 10,
                neck=neck,
                jaw_open=0.1,
                expression_space='flame50',
                expression=np.zeros(0, np.float32),
            )

    def write(self):
        connections = {}
        with Writer(self._path, version=9, storage_plugin=self._storage) as writer:
            for received_ns, topic, kind, msg in sorted(self._messages, key=lambda m: m[0]):
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=self.store)
                data = self.store.serialize_cdr(msg, kind)
                writer.write(connections[topic], received_ns, data)
        return str(self._path)


@pytest.fixture
def make_talk(tmp_path, make_voice):
    """Return the maker of a bag of 3 s with both voices and the user's head."""

    def make(begin_ns=BEGIN_NS):
        bag = Bag(tmp_path / 'talk', begin_ns=begin_ns)
        bag.add_chunks('/user/audio', pcm(make_voice, 3.0, 1))
        bag.add_chunks('/agent/audio', pcm(make_voice, 2.5, 2), LEAD_NS)
        bag.add_nods('/user/head_motion', 75)
        return bag.write()

    return make


@pytest.fixture
def talk(make_talk):
    """Return the path of such a bag."""
    return make_talk()


@pytest.fixture
def start_replay(graph):
    def start(**params) -> ReplayNode:
        given = {'turn_s': 0.4, 'tail_s': 1.0, **params}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        return graph.add(ReplayNode(context=graph.context, parameter_overrides=overrides))

    return start


def offline(checkpoint, path, timing):
    """Return what the evaluator shows, as messages carry it, by the stamp of each frame."""
    model = load_checkpoint(checkpoint, dtype='auto')
    recording = read_bag(path, model.space, LEAD_NS, Topics())
    shown, happened = answer(model, recording, timing, SamplingConfig())
    numbers = np.arange(len(shown.motion))
    msg = plan_to_msg(shown.space, 1, 25.0, numbers, numbers, numbers, shown.motion)
    frames = [motion_from_msg(shown.space, frame)[1] for frame in msg.frames]
    stamps = happened['start_ns'] + numbers * 40_000_000
    return dict(zip(stamps.tolist(), frames, strict=True))


def check_equal(partner, expected, n_least):
    """Compare every frame that both have."""
    common = 0
    for stamp, motion in zip(partner.stamps().tolist(), partner.motion(), strict=True):
        if stamp in expected:
            common += 1
            np.testing.assert_allclose(
                motion, expected[stamp], atol=1e-5, err_msg=f'{stamp / 1e9} s'
            )
    assert common >= n_least


def test_in_lockstep_a_bag_gives_the_evaluators_motion_whatever_the_load(
    graph, start_conversation, partner, start_replay, checkpoint, make_talk
):
    mid_turn_ns = BEGIN_NS + 130_000_000
    talk = make_talk(mid_turn_ns)
    node = start_conversation()
    assert graph.spin_until(lambda: node.is_active)

    replay = start_replay(bag=talk, clock=True, lockstep=True)
    assert graph.spin_until(replay.done.done, 60)
    graph.spin_for(0.2)

    assert replay.n_timeouts == 0
    assert replay.start_ns == mid_turn_ns, 'bags keep their stamps'
    check_equal(partner, offline(checkpoint, talk, node._params.timing_config()), 70)


def test_foreign_audio_is_replayed_as_audio_chunks(
    graph, start_conversation, partner, start_replay, checkpoint, tmp_path, make_voice
):
    bag = Bag(tmp_path / 'foreign', StoragePlugin.SQLITE3)
    bag.add_raw('/user/audio', pcm(make_voice, 2.0, 1))
    path = bag.write()
    node = start_conversation()
    assert graph.spin_until(lambda: node.is_active)

    replay = start_replay(bag=path, clock=True, lockstep=True)
    assert graph.spin_until(replay.done.done, 60)
    graph.spin_for(0.2)

    assert replay.n_timeouts == 0
    check_equal(partner, offline(checkpoint, path, node._params.timing_config()), 40)


def losses(node) -> dict[str, int]:
    """Return the counts of all that may make live motion differ from offline."""
    session = node._session
    names = 'late_user_frames missing_user_frames agent_late_samples user_lost_samples'
    return {
        'late_plans': session.n_late_plans,
        'skipped_moments': session.n_skipped_moments + session.n_passed_moments,
        **{name: session.counters[name] for name in names.split()},
    }


@pytest.mark.parametrize('rate', [1.0, 0.25])
def test_in_real_time_the_motion_is_the_evaluators_unless_something_was_late_and_counted(
    graph, start_conversation, partner, start_replay, checkpoint, talk, rate
):
    node = start_conversation()
    assert graph.spin_until(lambda: node.is_active)

    # beyond its end a recording has no user to be heard
    replay = start_replay(bag=talk, clock=True, rate=rate, tail_s=0.0)
    assert graph.spin_until(replay.done.done, 60)
    graph.spin_for(0.2)

    late = {name: count for name, count in losses(node).items() if count}
    if late:
        pytest.skip(f'this machine is too busy for {rate:g} of real time: {late}')
    check_equal(partner, offline(checkpoint, talk, node._params.timing_config()), 60)


def test_a_bag_in_real_time_has_stamps_of_now(graph, start_replay, talk):
    node = graph.node('listener')
    heard = {'user/audio': [], 'agent/audio': [], 'user/head_motion': []}
    for topic, kept in heard.items():
        kind = HeadMotion if topic.endswith('motion') else AudioChunk
        node.create_subscription(kind, topic, kept.append, 500)
    began_ns = node.get_clock().now().nanoseconds

    replay = start_replay(bag=talk, tail_s=0.1)
    assert graph.spin_until(replay.done.done, 30)

    ended_ns = node.get_clock().now().nanoseconds
    assert graph.spin_until(lambda: [len(kept) for kept in heard.values()] == [150, 125, 75])
    for topic, kept in heard.items():
        stamps = np.array([stamp_to_ns(msg.header.stamp) for msg in kept])
        assert began_ns < stamps[0] and stamps[-1] < ended_ns, topic
        expected = np.arange(len(stamps)) * (40_000_000 if 'motion' in topic else 20_000_000)
        np.testing.assert_array_equal(stamps - stamps[0], expected)
        assert stamps[0] == replay.start_ns
    leads = [stamp_to_ns(m.header.stamp) - stamp_to_ns(m.sent) for m in heard['agent/audio']]
    assert set(leads) == {LEAD_NS}


def events_of(path, position_ns=0):
    return list(BagRecording(path, Topics()).events(0, position_ns, 400))


def test_events_of_a_bag_come_in_the_order_of_their_times_from_any_position(talk):
    whole = events_of(talk)
    part = events_of(talk, 1_500_000_000)

    times = [event.at_ns for event in whole]
    assert times == sorted(times)
    assert len(part) < len(whole)
    assert [e.at_ns for e in part] == [e.at_ns for e in whole if e.end_ns > 1_500_000_000]


def test_samples_of_a_bag_are_what_was_recorded(talk, make_voice):
    chunks = [e.msg for e in events_of(talk) if e.topic == 'user/audio']

    samples = np.concatenate([packet_from_fields(msg).samples[:, 0] for msg in chunks])

    np.testing.assert_array_equal(np.rint(samples * 32768), pcm(make_voice, 3.0, 1))
    assert [msg.first_sample for msg in chunks] == list(range(0, 48000, CHUNK))


def test_audio_that_was_recorded_late_is_replayed_when_it_was_captured(tmp_path, make_voice):
    bag = Bag(tmp_path / 'late')
    bag.add_chunks('/user/audio', pcm(make_voice, 1.0, 1), late_ns=700_000_000)

    events = events_of(bag.write())

    assert [e.at_ns for e in events] == [20_000_000 * (i + 1) for i in range(50)]


def test_a_bag_without_audio_is_refused_with_what_it_holds(tmp_path, start_replay):
    bag = Bag(tmp_path / 'mute')
    bag.add_nods('/user/head_motion', 3)
    path = bag.write()

    with pytest.raises(ValueError, match='expected audio on user/audio or agent/audio, got none'):
        start_replay(bag=path)
