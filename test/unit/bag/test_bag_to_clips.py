# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags become clips that can be trained on: two voices, the agent's head, perhaps the user's."""

import numpy as np
import pytest

from timar_ros.learn import bag_to_clips
from timar_ros.learn.clips import open_clips, read_voice
from timar_ros.motion import get_space

_HEAD = 'timar_ros/msg/HeadMotion'
_SPACE = get_space('arkit55')


@pytest.fixture
def write_bag(bags, tmp_path):
    """Return a writer of bags of 12 s with heads seen in some spans, s; yaw is a ramp."""

    def write(
        agent_seen=((0.0, 12.0),),
        user_seen=(),
        voices=('user', 'agent'),
        name='talk',
        seconds=12.0,
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with bags.Writer(tmp_path / name, 'mcap') as bag:
            for seed, voice in enumerate(voices):
                bag.write_chunks(f'/{voice}/audio', bags.voice(seed, seconds))
            for topic, spans in (('/agent/motion', agent_seen), ('/user/head_motion', user_seen)):
                for begin, end in spans:
                    # 30 frames a second, as cameras have
                    for i in range(round(begin * 30), round(end * 30)):
                        _write_head(bag, topic, bags.begin_ns + i * 10**9 // 30, i / 30)
        return tmp_path / name

    return write


def _write_head(bag, topic, stamp_ns, at_s):
    half = 0.01 * at_s / 2  # rad of yaw
    neck = bag.make(
        'geometry_msgs/msg/Quaternion', x=0.0, y=0.0, z=float(np.sin(half)), w=float(np.cos(half))
    )
    expression = np.zeros(52, np.float32)
    expression[_SPACE.index('eyeBlinkLeft')] = at_s % 1.0
    expression[_SPACE.index('jawOpen')] = 0.2
    bag.write(
        topic, _HEAD, stamp_ns, header=bag.header(stamp_ns), turn=0, frame=0, neck=neck,
        jaw_open=0.07, expression_space='arkit52', expression=expression,
    )  # fmt: skip


def _convert(bag, out, *options):
    bag_to_clips.main([str(bag), str(out), *options])
    return open_clips(out, _SPACE)[0]


def test_voices_and_head_come_out_on_one_grid(write_bag, bags, tmp_path):
    (clip,) = _convert(write_bag(), tmp_path / 'clips')

    assert clip.name == 'talk_00_agent' and clip.user_motion is None
    assert 298 <= clip.n_frames <= 300
    at_s = np.arange(clip.n_frames) / 25
    yaw = clip.agent_motion[:, _SPACE.index('neck_y')]
    np.testing.assert_allclose(yaw, 0.01 * at_s, atol=1e-5)
    np.testing.assert_allclose(clip.agent_motion[:, _SPACE.index('jawOpen')], 0.2, atol=1e-5)
    for seed, voice in enumerate((clip.user_wav, clip.agent_wav)):
        expected = bags.voice(seed, 12.0) / 32768
        n = len(read_voice(voice))
        np.testing.assert_allclose(read_voice(voice), expected[:n], atol=1e-4)


def test_only_channels_that_the_head_has_are_trained(write_bag, tmp_path):
    (clip,) = _convert(write_bag(), tmp_path / 'clips')

    held = [_SPACE.names[i] for i in np.flatnonzero(clip.is_valid)]
    assert held == ['eyeBlinkLeft', 'jawOpen', 'neck_x', 'neck_y', 'neck_z']


def test_a_clip_is_cut_where_the_head_was_lost_and_short_parts_are_left_out(
    write_bag, bags, tmp_path, capsys
):
    bag = write_bag(agent_seen=((0.0, 5.5), (6.0, 7.0), (7.1, 12.0), (11.0, 12.0)))
    first, second = _convert(bag, tmp_path / 'clips')

    assert 5.3 < first.n_frames / 25 <= 5.52
    # A hole of 100 ms is bridged.
    assert 5.9 < second.n_frames / 25 <= 6.0
    voice = read_voice(second.agent_wav)
    expected = bags.voice(1, 12.0)[6 * 16000 :][: len(voice)] / 32768
    np.testing.assert_allclose(voice, expected, atol=1e-4)
    yaw = second.agent_motion[:, _SPACE.index('neck_y')]
    np.testing.assert_allclose(yaw, 0.01 * (6.0 + np.arange(len(yaw)) / 25), atol=2e-4)


def test_the_users_head_comes_along_where_it_was_seen_throughout(write_bag, tmp_path, capsys):
    bag = write_bag(agent_seen=((0.0, 5.5), (6.0, 12.0)), user_seen=((0.0, 8.0),))

    first, second = _convert(bag, tmp_path / 'clips')

    assert first.user_motion is not None and second.user_motion is None
    assert "talk_01: the user's head was not seen throughout" in capsys.readouterr().out


@pytest.mark.parametrize(
    ('recorded', 'message'),
    [
        ({'voices': ('agent',)}, 'expected two voices, got no user/audio'),
        ({'agent_seen': ()}, 'expected the head of the agent on agent/motion'),
        ({'agent_seen': ((0.0, 2.0), (4.0, 7.0))}, 'without a hole of 250 ms .* got 3.0 s'),
    ],
)
def test_a_bag_that_cannot_be_learned_from_is_refused(write_bag, tmp_path, recorded, message):
    with pytest.raises(ValueError, match=message):
        _convert(write_bag(**recorded), tmp_path / 'clips')


def _names(out):
    return sorted(path.name.removesuffix('_agent.npz') for path in out.glob('*_agent.npz'))


def test_clips_have_the_whole_name_of_the_folder(write_bag, tmp_path):
    out = tmp_path / 'clips'
    for name, seconds in (('2026-05-01T10.15.03-talk', 8.0), ('2026-05-01T10.15.41-talk', 6.5)):
        _convert(write_bag(agent_seen=((0.0, seconds),), name=name, seconds=seconds), out)

    assert _names(out) == ['2026-05-01T10.15.03-talk_00', '2026-05-01T10.15.41-talk_00']


def test_a_bag_of_the_same_name_is_numbered_on_and_the_same_bag_is_not_written_twice(
    write_bag, tmp_path, capsys
):
    out = tmp_path / 'clips'
    monday = write_bag(agent_seen=((0.0, 8.0),), name='monday/session', seconds=8.0)
    tuesday = write_bag(agent_seen=((0.0, 6.5),), name='tuesday/session', seconds=6.5)
    _convert(monday, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    _convert(tuesday, out)
    capsys.readouterr()
    clips = _convert(monday, out)

    assert _names(out) == ['session_00', 'session_01']
    assert {name: (out / name).read_bytes() for name in before} == before
    assert [round(clip.n_frames / 25) for clip in clips] == [8, 6]
    assert 'session_00: 8.0 s, is there already' in capsys.readouterr().out
    assert all(not path.name.startswith('.') for path in out.iterdir())


def test_the_folder_one_stands_in_and_a_single_file_give_the_bags_name(
    write_bag, tmp_path, monkeypatch
):
    bag = write_bag(agent_seen=((0.0, 6.0),), name='a.b', seconds=6.0)
    monkeypatch.chdir(bag)

    bag_to_clips.main(['.', str(tmp_path / 'here')])

    assert _names(tmp_path / 'here') == ['a.b_00']
    assert bag_to_clips.clip_name(bag / 'x.1_0.mcap') == 'x.1_0'
    assert bag_to_clips.clip_name(bag / 'x.1_0.db3.zstd') == 'x.1_0'
    assert bag_to_clips.clip_name(bag / 'metadata.yaml') == 'a.b'


def test_what_a_bag_loses_as_clips_is_said_in_seconds(write_bag, tmp_path, capsys):
    _convert(write_bag(agent_seen=((0.0, 5.5), (9.0, 11.0))), tmp_path / 'clips')

    assert '6.5 of 12.0 s left out' in capsys.readouterr().out
