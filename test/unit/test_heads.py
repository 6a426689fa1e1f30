# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Each head is held against its own voice, by one rule in every command."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.config import PRESETS
from timar_ros.learn import bench_clip
from timar_ros.learn.clips import open_clips
from timar_ros.learn.dataset import Windows
from timar_ros.learn.dualtalk_clip import FLAME, read_whole_head
from timar_ros.learn.heads import hold_against_voice, read_head, to_grid, to_live
from timar_ros.learn.recording import add_user_head, read_wavs
from timar_ros.motion import get_space

ARKIT = get_space('arkit55')
CONFIG = dataclasses.replace(PRESETS['mini'], frames_per_turn=10)


def write_voice(path, seconds, seed=0):
    samples = np.random.default_rng(seed).normal(scale=3000, size=round(seconds * 16000))
    scipy.io.wavfile.write(path, 16000, samples.astype(np.int16))
    return path


def write_head(path, times_s, fps=25.0, **more):
    """Write a head that turns by 0.01 rad a second; when its frames were is not in the file."""
    motion = 0.01 * np.asarray(times_s, np.float64)[:, None]
    np.savez(path, **({'motion': motion, 'names': ['neck_y'], 'fps': fps} | more))
    return path


def counted(seconds, fps=25.0):
    return np.arange(round(seconds * fps)) / fps


@pytest.fixture
def hold(tmp_path):
    """Return what becomes of a head of these stamps beside a voice of 10 s."""

    def hold(stamp_s, fps=25.0, is_stamped=False, until_s=None):
        more = {'stamp_s': stamp_s} if is_stamped else {}
        if stamp_s[-1] > 100:  # in another unit; the head still is one
            more['motion'] = np.zeros((len(stamp_s), 1))
        path = write_head(tmp_path / 'talk_user.npz', stamp_s, fps, **more)
        return hold_against_voice(read_head(path), 10.0, until_s)

    return hold


@pytest.mark.parametrize('fps', [24.0, 25.0, 30.0, 60.0])
@pytest.mark.parametrize('off', [-2, 0, 2])
def test_two_frames_more_or_less_are_no_matter(hold, fps, off):
    head, notes = hold(np.arange(round(10 * fps) + off) / fps, fps)

    assert len(head.frames) == round(10 * fps) + off
    assert notes == []


@pytest.mark.parametrize('real', [24.0, 30000 / 1001, 30.0, 50.0, 60.0, 15.0])
def test_motion_at_another_rate_than_its_file_says_is_refused_with_the_true_one(hold, real):
    with pytest.raises(ValueError, match='expected motion as long as its voice') as refused:
        hold(counted(10.0, real), 25.0)

    assert f'{round(10 * real)} frames at 25 fps' in str(refused.value)
    assert 'for 10.00 s of sound' in str(refused.value)
    true_rate = str(refused.value).partition('true frame rate ')[2].partition('?')[0]
    assert float(true_rate) == pytest.approx(real, abs=0.04)


def test_the_rate_that_is_advised_is_taken(tmp_path):
    path = write_head(tmp_path / 'x.npz', counted(10.0, 30.0), fps=30.0)

    head, notes = hold_against_voice(read_head(path), 10.0)

    motion, is_valid, is_seen = to_grid(head, ARKIT, 25.0)
    assert notes == [] and is_seen.all() and len(motion) == 250
    np.testing.assert_allclose(
        motion[:249, ARKIT.index('neck_y')], 0.01 * np.arange(249) / 25, atol=1e-6
    )


def test_lost_frames_without_stamps_are_refused_and_with_stamps_are_where_they_were(hold):
    stamp_s = np.delete(counted(10.0), np.s_[100:105])
    stamp_s = np.delete(stamp_s, np.s_[50:58])

    with pytest.raises(ValueError, match='were frames lost.* 0.52 s before .* Add stamp_s'):
        hold(stamp_s)
    head, notes = hold(stamp_s, is_stamped=True)

    motion, _, is_seen = to_grid(head, ARKIT, 25.0)
    np.testing.assert_array_equal(np.flatnonzero(~is_seen), range(50, 58))
    yaw = motion[:, ARKIT.index('neck_y')]
    np.testing.assert_allclose(yaw, 0.01 * np.arange(250) / 25, atol=1e-6)
    assert notes == [
        'talk_user.npz: the head was not seen for 0.4 of 10.0 s (from 2.0 s on)'
    ]  # five frames are bridged


def test_motion_of_another_persons_length_is_refused_with_the_numbers(hold):
    with pytest.raises(ValueError, match='got 325 frames at 25 fps, 13.00 s, for 10.00 s of sou'):
        hold(counted(13.0))
    with pytest.raises(ValueError, match='is it the motion of this voice'):
        hold(counted(7.0))


def test_motion_as_long_as_the_conversation_is_right_if_it_has_stamps(hold):
    stamp_s = counted(12.0)

    head, notes = hold(stamp_s, is_stamped=True, until_s=12.0)

    assert len(head.frames) == 300 and notes == []
    with pytest.raises(ValueError, match='is its true frame rate 30'):
        hold(stamp_s, until_s=12.0)


def test_what_stamps_put_outside_the_conversation_is_cut_and_said_in_seconds(hold):
    stamp_s = np.arange(-50, 300) / 25 + 0.013

    head, notes = hold(stamp_s, is_stamped=True)

    assert -0.08 <= head.stamp_s[0] <= 0.0 and 9.9 <= head.stamp_s[-1] < 10.1
    assert notes == [
        'talk_user.npz: 2.0 s of motion before its voice begins are cut',
        'talk_user.npz: 2.0 s of motion after its voice has ended are cut',
    ]


def test_a_tracker_that_began_late_and_ended_early_is_said_and_unseen_there(hold):
    head, notes = hold(2.0 + counted(5.0), is_stamped=True)

    _, _, is_seen = to_grid(head, ARKIT, 25.0)
    assert len(is_seen) == 175 and 48 <= is_seen.argmax() <= 50
    assert notes == [
        'talk_user.npz: the head was not seen for 5.0 of 10.0 s (2 times, first from 0.0 s on)'
    ]


def test_stamps_of_another_clock_are_refused_with_what_they_should_be(hold):
    with pytest.raises(ValueError, match='expected stamp_s in seconds from the beginning of its'):
        hold(1.7e9 + counted(10.0), is_stamped=True)


@pytest.mark.parametrize(('n', 'told'), [(0, 'got no frames'), (1, 'got one frame')])
def test_motion_of_no_or_one_frame_is_refused(tmp_path, n, told):
    path = write_head(tmp_path / 'x.npz', np.arange(n) / 25)

    with pytest.raises(ValueError, match=f'x.npz: expected motion, {told}'):
        read_head(path)


@pytest.fixture
def talk(tmp_path):
    """Return the writer of a conversation of 10 s with heads, whose files have stamps or not."""

    def write(agent=None, user=None, is_stamped=False):
        for seed, (voice, stamp_s) in enumerate({'agent': agent, 'user': user}.items()):
            write_voice(tmp_path / f'talk_{voice}.wav', 10.0, seed)
            if stamp_s is not None:
                more = {'stamp_s': stamp_s} if is_stamped else {}
                write_head(tmp_path / f'talk_{voice}.npz', stamp_s, **more)
        return tmp_path

    return write


def read_in_every_command(folder, voice):
    """Read a head as evaluate, bench and dualtalk do; return their errors."""
    wavs = [folder / f'talk_{name}.wav' for name in ('user', 'agent')]
    npz = folder / f'talk_{voice}.npz'
    cases, _ = bench_clip.find_cases(folder)

    def evaluate():
        recording = read_wavs(*wavs, 400_000_000, Fraction(1))
        add_user_head(recording, read_head(npz), FLAME)

    readers = [
        evaluate if voice == 'user' else lambda: bench_clip.read_real(cases[0], ARKIT, 25.0),
        lambda: bench_clip.describe_case(cases[0], {}),
        lambda: read_whole_head(npz, npz.with_suffix('.wav'), (FLAME,), 25.0),
    ]
    errors = []
    for read in readers:
        with pytest.raises(ValueError, match='expected motion as long as its voice') as error:
            read()
        errors.append(str(error.value))
    return errors


@pytest.mark.parametrize('voice', ['user', 'agent'])
def test_every_command_refuses_the_same_head_with_the_same_words(talk, voice):
    folder = talk(**{voice: counted(10.0, 30.0)})

    errors = read_in_every_command(folder, voice)

    assert len(set(errors)) == 1
    assert 'is its true frame rate 30?' in errors[0]


def test_a_clip_whose_users_head_cannot_be_right_is_trained_without_it_and_says_so(talk):
    folder = talk(agent=counted(10.0), user=counted(10.0, 30.0))

    (clip,), refused = open_clips(folder, ARKIT)

    assert clip.user_motion is None and clip.n_frames == 250 and refused == {}
    (note,) = clip.notes
    assert 'is its true frame rate 30?' in note and note.endswith('the user counts as not seen')


def test_a_clip_whose_agents_head_was_lost_is_left_out_with_the_place(talk):
    holed = np.delete(counted(10.0), np.s_[100:150])
    folder = talk(agent=holed, is_stamped=True)
    write_voice(folder / 'good_user.wav', 10.0)
    write_voice(folder / 'good_agent.wav', 10.0)
    write_head(folder / 'good_agent.npz', counted(10.0))

    clips, refused = open_clips(folder, ARKIT)

    assert [clip.name for clip in clips] == ['good_agent']
    assert 'not seen for 2.0 of 10.0 s (from 4.0 s on); split the clip' in refused['talk_agent']


def test_users_are_not_seen_in_training_where_their_head_was_lost(talk):
    holed = np.delete(counted(8.0), np.s_[100:150])
    folder = talk(agent=counted(10.0), user=holed, is_stamped=True)

    (clip,), _ = open_clips(folder, ARKIT)
    window = Windows([clip], CONFIG, 25, 1, seed=0).cut(0, 0)

    seen = window['user_seen'].numpy().ravel()
    np.testing.assert_array_equal(np.flatnonzero(~seen), [*range(100, 150), *range(200, 250)])
    assert '4.0 of 10.0 s (2 times, first from 4.0 s on)' in clip.notes[0]


def test_what_is_cut_from_a_clip_is_said_in_seconds(talk):
    folder = talk(agent=counted(10.0))
    write_voice(folder / 'talk_user.wav', 7.0)

    (clip,), _ = open_clips(folder, ARKIT)

    assert clip.n_frames == 175
    assert clip.notes[0].startswith('talk_agent.npz: 3.0 of 10.0 s are cut')


def test_evaluate_sees_the_user_where_the_stamps_say(talk):
    folder = talk(user=2.0 + counted(8.0), is_stamped=True)
    wavs = [folder / f'talk_{name}.wav' for name in ('user', 'agent')]

    recording = read_wavs(*wavs, 400_000_000, Fraction(1))
    recording = add_user_head(recording, read_head(folder / 'talk_user.npz'), ARKIT)

    np.testing.assert_array_equal(recording.user_motion[0][:2], [2_000_000_000, 2_040_000_000])
    assert 'was not seen for 2.0 of 10.0 s (from 0.0 s on)' in recording.notes[-1]


def test_a_head_of_dualtalk_is_seen_by_a_model_of_its_space(tmp_path):
    rng = np.random.default_rng(0)
    expression, pose = rng.normal(size=(50, 50)), rng.normal(scale=0.1, size=(50, 6))
    np.savez(tmp_path / 'a_speaker1.npz', exp=expression, pose=pose)

    stamps, frames = to_live(read_head(tmp_path / 'a_speaker1.npz'), FLAME)

    np.testing.assert_array_equal(stamps, np.arange(50) * 40_000_000)
    np.testing.assert_allclose(frames[:, FLAME.neck], pose[:, :3], atol=1e-6)
    np.testing.assert_allclose(frames[:, FLAME.expression], expression, atol=1e-6)


def test_what_is_missing_of_a_voice_is_noted_with_its_clip(tmp_path):
    for party in ('user', 'agent'):
        write_voice(tmp_path / f'talk_{party}.wav', 2.0)
    write_head(tmp_path / 'talk_agent.npz', counted(2.0))
    path = tmp_path / 'talk_user.wav'
    content = path.read_bytes()
    # as if twice as much had been recorded
    path.write_bytes(content.replace(int.to_bytes(64000, 4, 'little'), b'\0\xf4\1\0', 1))

    (clip,), _ = open_clips(tmp_path, ARKIT)

    assert clip.notes[0] == 'talk_user.wav: cut off: its header counts 4.0 s, 2.0 s are there'


@pytest.mark.parametrize(
    ('names', 'largest', 'message'),
    [
        (['neck_y', 'jawOpen'], [30.0, 0.5], 'neck_y in rad, .* got up to 30; in degrees'),
        (['jaw_x'], [12.0], 'jaw_x in rad, .* got up to 12; in degrees\\? Multiply .* pi / 180'),
        (['neck_y', 'jawOpen'], [0.2, 60.0], 'jawOpen in 0 to 1, got up to 60; in percent'),
        (['neck_y'], [1e30], r'neck_y in rad, less than a turn, got up to 1e\+30'),
        (['neck_y', 'neck_y'], [0.1, 0.2], "each channel once in names, got 'neck_y' twice"),
    ],
)
def test_motion_in_other_units_or_with_a_channel_twice_is_refused(
    tmp_path, names, largest, message
):
    motion = np.sin(counted(10)[:, None]) / np.sin(counted(10)).max() * largest
    path = write_head(tmp_path / 'talk_user.npz', counted(10), motion=motion, names=names)

    with pytest.raises(ValueError, match=message):
        read_head(path)


def test_a_trackers_wild_frame_is_no_other_unit_but_not_just_any_number(tmp_path):
    motion = np.tile([[0.2, 0.5]], (250, 1))
    motion[100] = 9.0, 15.0
    path, names = tmp_path / 'talk_user.npz', ['neck_y', 'jawOpen']
    write_head(path, counted(10), motion=motion, names=names)
    np.testing.assert_array_equal(read_head(path).frames, motion)

    motion[100, 0] = 1e6
    write_head(path, counted(10), motion=motion, names=names)
    with pytest.raises(ValueError, match=r'got 1e\+06 at frame 100; leave that frame out'):
        read_head(path)


def test_a_pose_of_dualtalk_in_degrees_is_refused(tmp_path):
    pose = np.full((100, 6), 15.0)
    np.savez(tmp_path / 'x.npz', exp=np.zeros((100, 50)), pose=pose)

    with pytest.raises(
        ValueError, match='jaw_x in rad, less than a turn, got up to 15; in degrees'
    ):
        read_head(tmp_path / 'x.npz')


def test_the_largest_motion_of_people_is_accepted(tmp_path):
    names, most = ['neck_y', 'jawOpen', 'browInnerUp'], [1.5, 1.2, -0.3]
    motion = np.tile(most, (250, 1))
    path = write_head(tmp_path / 'talk_user.npz', counted(10), motion=motion, names=names)

    np.testing.assert_array_equal(read_head(path).frames, motion)


@pytest.mark.parametrize(
    ('factor', 'message'),
    [(25, 'frame numbers. Divide by fps'), (1e3, 'milliseconds'), (1e6, 'microseconds')],
)
def test_stamps_in_another_unit_are_refused_with_it(hold, factor, message):
    with pytest.raises(ValueError, match=message):
        hold(counted(10) * factor, is_stamped=True)
