# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A bag is answered as the conversation that it recorded: stamps decide, topics are found."""

import numpy as np
import pytest

from timar_ros.config import SamplingConfig
from timar_ros.learn.evaluate import answer
from timar_ros.learn.offline import answer_recording
from timar_ros.motion import frame_to_motion
from timar_ros.stream.bag_topics import Topics
from timar_ros.stream.conversation import Conversation


@pytest.fixture
def model(make_model):
    return make_model(cache='banded', history='masked', level='causal')


@pytest.fixture
def answer_bag(model, bags):
    return lambda path: answer(model, bags.read(path), bags.timing, SamplingConfig())[0].motion


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_bag_gives_the_motion_of_the_wavs_that_it_was_made_of(
    bags, tmp_path, model, answer_bag, storage
):
    voices = {'user': bags.voice(1), 'agent': bags.voice(2)}
    with bags.Writer(tmp_path / 'bag', storage) as bag:
        bag.write_chunks('/user/audio', voices['user'])
        bag.write_chunks('/agent/audio', voices['agent'], lead_ns=bags.lead_ns)

    motion = answer_bag(tmp_path / 'bag')

    sounds = {name: (x / np.float32(32768), bags.rate_hz) for name, x in voices.items()}
    expected = answer_recording(Conversation(model, bags.timing), sounds)
    assert len(motion) == 40
    np.testing.assert_array_equal(motion, expected)


def test_what_the_robot_says_is_known_from_when_it_was_sent(bags, tmp_path, answer_bag):
    agent = bags.voice(2)
    motions = {}
    for name, lead_ns, is_sent in (
        ('announced', bags.lead_ns, True),
        ('recorded as announced', bags.lead_ns, False),
        ('as it sounds', 1, True),
    ):
        with bags.Writer(tmp_path / name) as bag:
            bag.write_chunks('/user/audio', bags.voice(1))
            bag.write_chunks('/agent/audio', agent, lead_ns=lead_ns, is_sent=is_sent)
        motions[name] = answer_bag(tmp_path / name)

    np.testing.assert_array_equal(motions['recorded as announced'], motions['announced'])
    assert np.abs(motions['as it sounds'] - motions['announced']).max() > 1e-3


def test_stamps_of_another_clock_than_the_recorders_decide(bags, tmp_path, answer_bag):
    voices = {'/user/audio': (bags.voice(1), 0), '/agent/audio': (bags.voice(2), bags.lead_ns)}
    motions = []
    for clock_ns in (0, -10_000 * 10**9):
        path = tmp_path / f'bag{clock_ns}'
        with bags.Writer(path) as bag:
            for topic, (samples, lead_ns) in voices.items():
                bag.write_chunks(topic, samples, lead_ns=lead_ns, clock_ns=clock_ns)
        motions.append(answer_bag(path))

    np.testing.assert_array_equal(*motions)
    assert 'another clock' in bags.read(path).notes[0]


def test_the_users_head_is_seen_as_live(bags, tmp_path):
    stamps = bags.begin_ns + np.arange(10) * 40_000_000
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', bags.voice(1))
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

    recording = bags.read(tmp_path / 'bag')

    seen, frames = recording.user_motion
    np.testing.assert_array_equal(seen, np.delete(stamps, 7))
    turn = np.array([0, np.sin(3 / 50), 0, np.cos(3 / 50)])
    expected = frame_to_motion(bags.space, turn, 0.1, 'flame50', np.arange(50) / 50)
    np.testing.assert_allclose(frames[3], expected, atol=1e-7)
    assert 'head motion: 1 of 10 messages left out' in recording.notes[-1]


def test_topics_are_found_in_any_namespace(bags, tmp_path):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/robot1/user/audio', bags.voice(1))

    assert list(bags.read(tmp_path / 'bag').deliveries) == ['user']


def test_topics_in_two_namespaces_have_to_be_named(bags, tmp_path):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/robot1/user/audio', bags.voice(1))
        bag.write_chunks('/robot2/user/audio', bags.voice(2))

    with pytest.raises(ValueError, match='got /robot1/user/audio, /robot2/user/audio; give'):
        bags.read(tmp_path / 'bag')
    named = bags.read(tmp_path / 'bag', Topics(user_audio='/robot2/user/audio'))
    np.testing.assert_array_equal(named.voices['user'].samples * 32768, bags.voice(2))


def test_one_voice_is_enough_and_the_other_is_told_missing(bags, tmp_path, answer_bag):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/agent/audio', bags.voice(2), lead_ns=bags.lead_ns)

    recording = bags.read(tmp_path / 'bag')

    assert recording.notes == ('the bag has no user/audio; the user is taken to be silent',)
    assert np.abs(answer_bag(tmp_path / 'bag') - bags.space.neutral).max() > 0.01


def test_telephone_sound_keeps_its_time(bags, tmp_path):
    samples = np.round(8000 * np.sin(2 * np.pi * 300 * np.arange(19200) / 8000)).astype(np.int16)
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', samples, rate=8000)

    heard = bags.read(tmp_path / 'bag').voices['user'].samples

    expected = 8000 / 32768 * np.sin(2 * np.pi * 300 * np.arange(38400) / 16000)
    np.testing.assert_allclose(heard[400:-400], expected[400:-400], atol=2e-3)
