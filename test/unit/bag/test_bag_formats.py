# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages that do not state their format are heard by a stated one, in every reader of bags."""

import numpy as np
import pytest

from timar_ros.learn.bag_recording import read_bag
from timar_ros.nodes.recording_bag import BagRecording
from timar_ros.nodes.replay_params import ReplayParams
from timar_ros.stream.audio import AudioFormat, packet_from_fields
from timar_ros.stream.bag_conversation import Listening
from timar_ros.stream.bag_topics import Topics

KINDS = {
    'std_msgs/msg/Int16MultiArray': {},
    'audio_common_msgs/msg/AudioData': {'audio_common_msgs/msg/AudioData': 'uint8[] data'},
}
TOPICS = Topics(user_audio='/mic')


@pytest.fixture
def write_bag(bags, tmp_path):
    """Return the writer of a bag with 1.6 s of a microphone that states no format."""

    def write(kind, n_channels=1):
        voice = bags.voice(1)
        pcm = np.repeat(voice[:, None], n_channels, 1)
        with bags.Writer(tmp_path / 'bag', 'mcap', bags.definitions | KINDS[kind]) as bag:
            for start in range(0, len(pcm), bags.chunk):
                piece = pcm[start : start + bags.chunk].ravel()
                received = bags.begin_ns + (start + bags.chunk) * 62_500
                if kind.startswith('std_msgs'):
                    layout = bag.make('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
                    bag.write('/mic', kind, received, layout=layout, data=piece)
                else:
                    data = np.frombuffer(piece.tobytes(), np.uint8)
                    bag.write('/mic', kind, received, data=data)
        return tmp_path / 'bag', voice / 32768

    return write


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('n_channels', [1, 2])
def test_a_stated_format_is_heard_alike_by_evaluate_and_replay(bags, write_bag, kind, n_channels):
    path, voice = write_bag(kind, n_channels)
    params = ReplayParams(
        bag=str(path),
        user_audio_format=f'S16LE,16000,{n_channels}',
        user_channel=str(n_channels - 1),
    )

    evaluated = read_bag(path, bags.space, 0, TOPICS, params.listening)
    events = BagRecording(path, TOPICS, params.listening).events(0, 0, 400)
    replayed = np.concatenate([packet_from_fields(event.msg).samples for event in events])

    np.testing.assert_array_equal(evaluated.voices['user'].samples, voice)
    np.testing.assert_array_equal(replayed[:, 0], voice)
    assert replayed.shape[1] == 1, 'the channel that was chosen'
    assert evaluated.begin_ns == bags.begin_ns


@pytest.mark.parametrize('kind', KINDS)
def test_without_a_format_both_readers_name_the_message_and_the_option(bags, write_bag, kind):
    path, _ = write_bag(kind)
    told = []
    for read in (
        lambda: read_bag(path, bags.space, 0, TOPICS),
        lambda: BagRecording(path, TOPICS),
    ):
        with pytest.raises(ValueError, match=r'\d\d of 80 messages left out') as error:
            read()
        told.append(str(error.value))

    assert told[0] == told[1]
    assert kind.replace('/msg', '') in told[0]
    assert 'user_audio_format' in told[0] and '--user-format' in told[0]


def test_a_format_that_messages_contradict_is_refused_with_its_numbers(bags, write_bag):
    path, _ = write_bag('audio_common_msgs/msg/AudioData')
    listening = Listening(formats={'user': AudioFormat(16_000, 3, 'S32LE')})

    with pytest.raises(ValueError, match='whole frames of 12 bytes'):
        read_bag(path, bags.space, 0, TOPICS, listening)


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('user_audio_format', 'S16', 'user_audio_format: an audio format must be'),
        ('agent_audio_format', 'S16LE,16000', 'agent_audio_format: an audio format must be'),
        ('agent_channel', 'left', "agent_channel: channel must be 'mean' or an index"),
    ],
)
def test_replay_refuses_what_is_no_format_or_channel_by_the_parameters_name(name, value, message):
    with pytest.raises(ValueError, match=message):
        ReplayParams(bag='x', **{name: value})


@pytest.mark.parametrize('channels', [(0, 1), (1, 0), ('mean', 'mean')])
def test_both_voices_in_one_topic_are_heard_by_evaluate_and_replay(bags, tmp_path, channels):
    voices = np.stack([bags.voice(1), bags.voice(2)], 1)
    path, topics = tmp_path / 'bag', Topics('/stereo', '/stereo')
    layout = {'sample_rate': 16_000, 'channels': 2, 'encoding': 'pcm_s16le'}
    with bags.Writer(path, 'mcap', bags.definitions) as bag:
        for start in range(0, len(voices), bags.chunk):
            begin_ns = bags.begin_ns + start * 62_500
            header = bag.make('std_msgs/msg/Header', stamp=bag.time(begin_ns), frame_id='')
            bag.write(
                '/stereo', 'timar_ros/msg/AudioChunk', begin_ns + bags.chunk * 62_500,
                header=header, first_sample=start, sent=bag.time(0), **layout,
                data=np.frombuffer(voices[start : start + bags.chunk].tobytes(), np.uint8),
            )  # fmt: skip
    listening = Listening(channels=dict(zip(('user', 'agent'), channels, strict=True)))

    evaluated = read_bag(path, bags.space, 0, topics, listening)
    events = list(BagRecording(path, topics, listening).events(0, 0, 400))

    for voice, channel in listening.channels.items():
        expected = voices.mean(1) if channel == 'mean' else voices[:, channel]
        played = [packet_from_fields(event.msg).samples.mean(1) for event in events
                  if event.topic == f'{voice}/audio']  # fmt: skip
        for heard in (evaluated.voices[voice].samples, np.concatenate(played)):
            np.testing.assert_allclose(heard, expected / 32768, rtol=0, atol=1e-7)
