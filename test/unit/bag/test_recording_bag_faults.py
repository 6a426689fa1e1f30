# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags that are broken, empty, cut off or none at all: a sentence, or what there is of them."""

import numpy as np
import pytest
import yaml


def test_a_bag_with_audio_elsewhere_says_where(bags, tmp_path):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/audio/in', bags.voice(1))

    with pytest.raises(ValueError, match=r'audio on /audio/in \(timar_ros/msg/AudioChunk\)'):
        bags.read(tmp_path / 'bag')


def test_a_bag_without_audio_says_what_it_holds(bags, tmp_path):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write('/chatter', 'std_msgs/msg/String', bags.begin_ns, data='hello')

    with pytest.raises(ValueError, match=r'got none; it has /chatter \(std_msgs/msg/String\)'):
        bags.read(tmp_path / 'bag')


def test_an_empty_bag_says_so(bags, tmp_path):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.connect('/user/audio', 'timar_ros/msg/AudioChunk')

    with pytest.raises(ValueError, match='it has no messages at all'):
        bags.read(tmp_path / 'bag')


def test_messages_that_cannot_be_decoded_are_left_out_and_counted(bags, tmp_path):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', bags.voice(1))
        for i in range(3):
            kind = 'timar_ros/msg/AudioChunk'
            bag.write_raw('/user/audio', kind, bags.begin_ns + i, b'\x00\x01\x00\x00\xff\xff')

    recording = bags.read(tmp_path / 'bag')

    assert 'user: 3 of 83 messages left out: cannot be decoded' in recording.notes[0]
    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, bags.voice(1))


@pytest.mark.parametrize(
    ('jaw_open', 'largest', 'problem'),
    [
        (12.0, 0.5, 'expected jaw_open in rad, got more than a turn; in degrees'),
        (0.2, 40.0, 'expected blendshapes of 0 to 1, got more than 10; in percent'),
    ],
)
def test_head_frames_in_degrees_or_percent_are_left_out_with_the_reason(
    bags, tmp_path, jaw_open, largest, problem
):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', bags.voice(1))
        for i in range(10):
            is_odd, stamp_ns = i % 2, bags.begin_ns + i * 40_000_000
            bag.write(
                '/user/head_motion',
                'timar_ros/msg/HeadMotion',
                stamp_ns,
                header=bag.header(stamp_ns),
                turn=0,
                frame=0,
                neck=bag.make('geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=0.0, w=1.0),
                jaw_open=jaw_open if is_odd else 0.1,
                expression_space='arkit52',
                expression=np.full(52, (largest if is_odd else 0.3) + i / 100, np.float32),
            )

    recording = bags.read(tmp_path / 'bag')

    assert f'head motion: 5 of 10 messages left out: {problem}' in recording.notes[-1]
    assert len(recording.user_motion[0]) == 5


def test_the_offset_of_a_microphone_is_noted(bags, tmp_path):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', np.clip(bags.voice(1, 3.2) // 4 + 500, -32768, 32767))
        bag.write_chunks('/agent/audio', bags.voice(2, 3.2))

    notes = bags.read(tmp_path / 'bag').notes

    assert any('user: the recording has a DC offset of 0.01' in note for note in notes)
    assert not any('agent: the recording has a DC' in note for note in notes)


@pytest.mark.parametrize('jump_s', [-100, 5000])
def test_what_follows_a_jump_of_the_clock_is_another_recording(bags, tmp_path, jump_s):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', bags.voice(1))
        later_ns = 10 * 10**9
        begin_ns = bags.begin_ns + (10 + jump_s) * 10**9
        bag.write_chunks(
            '/user/audio', bags.voice(2), begin_ns, clock_ns=later_ns - begin_ns + bags.begin_ns
        )

    recording = bags.read(tmp_path / 'bag')

    assert f'stamps jump by {jump_s + 10 - 1.6:+.1f} s after 80 of 160' in recording.notes[0]
    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, bags.voice(1))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_bag_without_metadata_is_read_all_the_same(bags, tmp_path, storage):
    with bags.Writer(tmp_path / 'bag', storage) as bag:
        bag.write_chunks('/user/audio', bags.voice(1))
    (tmp_path / 'bag' / 'metadata.yaml').unlink()

    recording = bags.read(tmp_path / 'bag')

    assert 'no metadata.yaml' in recording.notes[0]
    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, bags.voice(1))


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('share', [0.0, 0.01, 0.6])
def test_a_bag_that_was_cut_off_gives_a_sentence_or_what_came_before(
    bags, tmp_path, storage, share
):
    with bags.Writer(tmp_path / 'bag', storage) as bag:
        bag.write_chunks('/user/audio', bags.voice(1, 8.0))
    file = next(p for p in (tmp_path / 'bag').iterdir() if p.suffix in ('.mcap', '.db3'))
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])

    try:
        recording = bags.read(tmp_path / 'bag')
    except ValueError as error:
        assert 'cannot be read' in str(error) and str(tmp_path / 'bag') in str(error)
    else:
        assert 'breaks off' in recording.notes[0]
        heard = recording.voices['user']
        there = heard.is_present
        written = bags.voice(1, 8.0)[: len(there)]
        np.testing.assert_array_equal(heard.samples[there] * 32768, written[there])
        assert there.sum() > (share - 0.05) * 8.0 * bags.rate_hz


@pytest.mark.parametrize('content', [b'', b'no bag', b'\x89MCAP0\r\n', b'SQLite format 3\x00'])
@pytest.mark.parametrize('name', ['x.mcap', 'x.db3', 'x.txt'])
def test_files_that_are_no_bags_give_a_sentence(bags, tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ValueError, match='cannot be read as a bag of ROS 2'):
        bags.read(tmp_path / name)


def test_a_folder_that_is_no_bag_gives_a_sentence(bags, tmp_path):
    (tmp_path / 'notes.txt').write_text('hello')

    with pytest.raises(ValueError, match=r'expected a bag .* got notes\.txt'):
        bags.read(tmp_path)


def test_a_missing_bag_gives_a_sentence(bags, tmp_path):
    with pytest.raises(FileNotFoundError, match='no bag at .*nowhere'):
        bags.read(tmp_path / 'nowhere')


def test_a_bag_of_ros_1_is_sent_to_its_converter(bags, tmp_path):
    (tmp_path / 'old.bag').write_bytes(b'#ROSBAG V2.0\n')

    with pytest.raises(ValueError, match='convert it with .*rosbags-convert'):
        bags.read(tmp_path / 'old.bag')


def test_a_voice_whose_file_is_missing_is_counted_in_the_refusal(bags, tmp_path):
    with bags.Writer(tmp_path / 'bag') as bag:
        bag.write_chunks('/user/audio', bags.voice(1))
    with bags.Writer(tmp_path / 'other') as bag:
        bag.write('/chatter', 'std_msgs/msg/String', bags.begin_ns, data='hello')
    next((tmp_path / 'bag').glob('*.mcap')).unlink()
    next((tmp_path / 'other').glob('*.mcap')).rename(tmp_path / 'bag' / 'other.mcap')

    with pytest.raises(
        ValueError, match=r'it has /chatter .*; metadata.yaml names 1 files, 1 of'
    ) as caught:
        bags.read(tmp_path / 'bag')

    assert 'metadata.yaml counts 80 messages on /user/audio, its files hold none' in str(
        caught.value
    )


@pytest.mark.parametrize('named', ['../private/x.mcap', '{0}/private/x.mcap', 'x' * 5000, 'a\0b'])
def test_metadata_cannot_name_a_file_outside_of_its_bag(bags, tmp_path, named):
    for name, seed in (('private', 2), ('bag', 1)):
        with bags.Writer(tmp_path / name) as bag:
            bag.write_chunks('/user/audio', bags.voice(seed))
    (tmp_path / 'private' / 'private.mcap').rename(tmp_path / 'private' / 'x.mcap')
    metadata = tmp_path / 'bag' / 'metadata.yaml'
    content = yaml.safe_load(metadata.read_text())
    names = [named.format(tmp_path), 'bag.mcap']
    content['rosbag2_bagfile_information']['relative_file_paths'] = names
    metadata.write_text(yaml.safe_dump(content))

    recording = bags.read(tmp_path / 'bag')

    np.testing.assert_array_equal(recording.voices['user'].samples * 32768, bags.voice(1))
    assert 'metadata.yaml names 2 files, 1 of them are not there' in recording.notes[0]
    assert all(len(note) < 300 for note in recording.notes)
