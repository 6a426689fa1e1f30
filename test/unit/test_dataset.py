# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Clips on disk become windows of turns; broken ones are refused by name."""

import dataclasses

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.config import PRESETS
from timar_ros.learn import clips as clip_files
from timar_ros.learn.dataset import Windows, motion_statistics
from timar_ros.motion import get_space

_CONFIG = dataclasses.replace(PRESETS['mini'], frames_per_turn=10)
_ARKIT, _FLAME = get_space('arkit55'), get_space('flame56')


def _write_voice(path, duration_s=4.0, rate=16000, seed=0, n_channels=1):
    shape = (int(duration_s * rate), n_channels)
    samples = np.random.default_rng(seed).normal(scale=3000, size=shape).astype(np.int16)
    scipy.io.wavfile.write(path, rate, samples[:, 0] if n_channels == 1 else samples)
    return samples


def _write_pair(folder, name='talk', duration_s=4.0, fps=25, channels=('jawOpen', 'neck_y')):
    """Write a conversation in our layout; every channel of the agent is a ramp of 1 a second."""
    frames = np.arange(int(duration_s * fps)) / fps
    motion = np.stack([frames] * len(channels), 1).astype(np.float32)
    names = np.array(channels)
    np.savez(folder / f'{name}_agent.npz', motion=motion, names=names, fps=float(fps))
    for seed, party in enumerate(('agent', 'user')):
        _write_voice(folder / f'{name}_{party}.wav', duration_s, seed=seed)


def _write_dualtalk(folder, duration_s=4.0, speakers=(1, 2)):
    rng = np.random.default_rng(1)
    for n in (1, 2):
        _write_voice(folder / f'abc_speaker{n}.wav', duration_s, seed=n)
    for n in speakers:
        n_frames = int(duration_s * 25)
        expression = rng.normal(size=(n_frames, 50)).astype(np.float32)
        pose = rng.normal(scale=0.1, size=(n_frames, 6)).astype(np.float32)
        np.savez(folder / f'abc_speaker{n}.npz', exp=expression, pose=pose)


def test_pose_of_dualtalk_is_neck_then_jaw(tmp_path):
    _write_dualtalk(tmp_path)
    with np.load(tmp_path / 'abc_speaker2.npz') as arrays:
        expression, pose = arrays['exp'], arrays['pose']

    motion, is_valid = clip_files.read_motion(tmp_path / 'abc_speaker2.npz', _FLAME)

    np.testing.assert_allclose(motion[:, _FLAME.expression], expression, atol=1e-6)
    np.testing.assert_allclose(motion[:, _FLAME.neck], pose[:, :3], atol=1e-6)
    np.testing.assert_allclose(motion[:, _FLAME.jaw], pose[:, 3:], atol=1e-6)
    assert is_valid.all()


def test_flame_gives_an_arkit_model_neck_and_jaw_only(tmp_path):
    _write_dualtalk(tmp_path)
    jaw_x = np.load(tmp_path / 'abc_speaker1.npz')['pose'][:, 3]

    motion, is_valid = clip_files.read_motion(tmp_path / 'abc_speaker1.npz', _ARKIT)

    assert [_ARKIT.names[i] for i in np.flatnonzero(is_valid)] == [
        'jawOpen', 'neck_x', 'neck_y', 'neck_z',
    ]  # fmt: skip
    np.testing.assert_allclose(motion[:, _ARKIT.index('jawOpen')], jaw_x / 0.35, atol=1e-6)


def test_each_speaker_of_dualtalk_is_the_agent_once(tmp_path):
    _write_dualtalk(tmp_path)

    clips, refused = clip_files.open_clips(tmp_path, _FLAME)

    assert [clip.name for clip in clips] == ['abc_speaker1', 'abc_speaker2']
    np.testing.assert_array_equal(clips[0].agent_motion, clips[1].user_motion)
    assert refused == {}


def test_a_user_nobody_filmed_is_not_seen(tmp_path):
    _write_dualtalk(tmp_path, speakers=(2,))

    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)
    window = Windows(clips, _CONFIG, 3, 1, seed=0)[0]

    assert not window['user_seen'].any()


@pytest.mark.parametrize('fps', [20, 30, 60])
def test_motion_of_any_rate_is_shown_at_the_same_instants(tmp_path, fps):
    _write_pair(tmp_path, fps=fps)

    motion, _ = clip_files.read_motion(tmp_path / 'talk_agent.npz', _ARKIT)

    n_covered = int(np.floor((4.0 - 1 / fps) * 25)) + 1  # up to the source's last frame
    np.testing.assert_allclose(
        motion[:n_covered, _ARKIT.index('neck_y')], np.arange(n_covered) / 25, atol=1e-5
    )
    assert len(motion) == 100


def test_stamps_place_frames_in_lived_time(tmp_path):
    path = tmp_path / 'late_agent.npz'
    stamps = 1.0 + np.arange(50) / 25
    np.savez(path, motion=stamps[:, None], names=['neck_x'], fps=25.0, stamp_s=stamps)

    motion, _ = clip_files.read_motion(path, _ARKIT)

    np.testing.assert_allclose(motion[25:, _ARKIT.index('neck_x')], np.arange(25, 75) / 25, 1e-5)


def test_channels_that_a_file_lacks_are_not_trained(tmp_path):
    _write_pair(tmp_path)

    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)
    mask = Windows(clips, _CONFIG, 3, 1, seed=0)[0]['channel_mask']

    assert [_ARKIT.names[i] for i in np.flatnonzero(mask)] == ['jawOpen', 'neck_y']


def test_windows_are_cut_anywhere_and_not_from_the_end_of_the_clip(tmp_path):
    _write_pair(tmp_path)
    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)
    windows = Windows(clips, _CONFIG, 3, 400, seed=0)

    starts = [float(windows[i]['agent_motion'][0, 0, -2]) * 25 for i in range(400)]

    assert set(np.round(starts).astype(int)) == set(range(71))


def test_voices_and_motion_of_a_window_belong_together(tmp_path):
    _write_pair(tmp_path)
    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)
    config = dataclasses.replace(_CONFIG, level='clip')
    window = Windows(clips, config, 3, 1, seed=0).cut(0, first_frame=17)
    voice = clip_files.read_voice(tmp_path / 'talk_user.wav')
    expected = (voice - voice.mean()) / np.sqrt(voice.var() + 1e-7)

    samples = window['user_speech'].flatten().numpy()

    np.testing.assert_allclose(samples, expected[17 * 640 : 47 * 640], atol=1e-5)
    assert window['agent_motion'][1, 3, -2] == pytest.approx((17 + 10 + 3) / 25)


def test_a_causal_level_hears_the_clip_from_its_start(tmp_path):
    _write_pair(tmp_path)
    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)
    windows = Windows(clips, _CONFIG, 3, 1, seed=0)

    early = windows.cut(0, 0)['agent_speech'].flatten()
    late = windows.cut(0, 20)['agent_speech'].flatten()

    np.testing.assert_array_equal(early[20 * 640 :], late[: 10 * 640])


def test_a_window_is_a_function_of_seed_and_index(tmp_path):
    _write_pair(tmp_path)
    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)

    first = Windows(clips, _CONFIG, 3, 10, seed=7)
    second = Windows(clips, _CONFIG, 3, 10, seed=7)

    order = [5, 0, 9]
    for i in order:
        np.testing.assert_array_equal(first[i]['agent_motion'], second[i]['agent_motion'])
    starts = {float(first[i]['agent_motion'][0, 0, -2]) for i in range(10)}
    assert len(starts) > 5


def test_statistics_leave_untrained_channels_at_rest(tmp_path):
    _write_pair(tmp_path)
    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)

    mean, deviation = motion_statistics(clips, _ARKIT)

    ramp = np.arange(100) / 25
    jaw, blink = _ARKIT.index('jawOpen'), _ARKIT.index('eyeBlinkLeft')
    np.testing.assert_allclose([mean[jaw], deviation[jaw]], [ramp.mean(), ramp.std()], rtol=1e-5)
    np.testing.assert_allclose([mean[blink], deviation[blink]], [0.0, 1e-3])


def test_a_twitch_does_not_count_as_much_as_the_jaw(tmp_path):
    _write_pair(tmp_path)
    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)
    clips[0].agent_motion[:] *= 1e-3

    _, deviation = motion_statistics(clips, _ARKIT)

    jaw, yaw = _ARKIT.index('jawOpen'), _ARKIT.index('neck_y')
    np.testing.assert_allclose([deviation[jaw], deviation[yaw]], [0.1, 0.02])


def test_stereo_at_another_rate_becomes_one_voice_at_16_khz(tmp_path):
    samples = _write_voice(tmp_path / 'x.wav', 1.0, rate=44100, n_channels=2)

    voice = clip_files.read_voice(tmp_path / 'x.wav')

    assert abs(len(voice) - 16000) <= 1
    assert voice.dtype == np.float32
    assert abs(voice.mean() - samples.mean() / 32768) < 1e-3


def test_broken_clips_are_named_and_the_rest_is_used(tmp_path):
    _write_pair(tmp_path, 'good')
    _write_pair(tmp_path, 'lonely')
    (tmp_path / 'lonely_user.wav').unlink()
    _write_pair(tmp_path, 'nan')
    motion = np.ones((100, 2), np.float32)
    motion[31, 1] = np.nan
    np.savez(tmp_path / 'nan_agent.npz', motion=motion, names=['jawOpen', 'neck_y'], fps=25.0)

    clips, refused = clip_files.open_clips(tmp_path, _ARKIT)

    assert [clip.name for clip in clips] == ['good_agent']
    assert sorted(refused) == ['lonely_agent', 'nan_agent']
    assert 'lonely_user.wav; each clip needs the wav of both people' in refused['lonely_agent']
    assert 'got NaN or infinite values at frame 31' in refused['nan_agent']


@pytest.mark.parametrize(
    ('arrays', 'message'),
    [
        ({'exp': np.zeros((9, 50))}, 'expected exp and pose .* got exp'),
        ({'exp': np.zeros((9, 50)), 'pose': np.zeros((9, 3))}, r'pose \[F, 6\], got'),
        ({'motion': np.zeros((9, 2)), 'names': ['jawOpen'], 'fps': 25.0}, r'motion \[F, 1\]'),
        ({'motion': np.zeros((0, 1)), 'names': ['jawOpen'], 'fps': 25.0}, 'got no frames'),
        ({'motion': np.zeros((9, 1)), 'names': ['jawOpn'], 'fps': 25.0}, "mean 'jawOpen'"),
        ({'motion': np.zeros((9, 1)), 'names': ['jawOpen'], 'fps': 0.0}, 'fps in frames a second'),
        (
            {'motion': np.zeros((2, 1)), 'names': ['jawOpen'], 'fps': 25.0, 'stamp_s': [1.0, 0.5]},
            'rising seconds',
        ),
    ],
)
def test_a_broken_motion_file_says_what_is_wrong_and_where(tmp_path, arrays, message):
    path = tmp_path / 'x_agent.npz'
    np.savez(path, **arrays)

    with pytest.raises(ValueError, match=f'x_agent.npz: .*{message}'):
        clip_files.read_motion(path, _ARKIT)


def test_motion_at_a_wrong_frame_rate_is_refused(tmp_path):
    _write_dualtalk(tmp_path)
    np.savez(tmp_path / 'abc_speaker1.npz', exp=np.zeros((120, 50)), pose=np.zeros((120, 6)))

    _, refused = clip_files.open_clips(tmp_path, _FLAME)

    assert 'is its true frame rate 30?' in refused['abc_speaker1']


def test_a_file_that_is_no_sound_is_refused(tmp_path):
    (tmp_path / 'x.wav').write_bytes(b'ID3 this is an mp3')
    (tmp_path / 'empty.wav').write_bytes(b'')

    for name in ('x.wav', 'empty.wav'):
        with pytest.raises(ValueError, match=f'{name}: expected a PCM or float wav file'):
            clip_files.read_voice(tmp_path / name)


def test_a_clip_with_a_voice_of_no_samples_is_named(tmp_path):
    _write_pair(tmp_path, 'good')
    _write_pair(tmp_path, 'empty')
    _write_voice(tmp_path / 'empty_agent.wav', 0.0)

    clips, refused = clip_files.open_clips(tmp_path, _ARKIT)

    assert [clip.name for clip in clips] == ['good_agent']
    assert 'empty_agent.wav: expected sound, got 0 samples' in refused['empty_agent']


def test_a_folder_without_clips_is_refused(tmp_path):
    with pytest.raises(ValueError, match='expected clips of two people, got none'):
        clip_files.open_clips(tmp_path, _ARKIT)
    with pytest.raises(FileNotFoundError, match='no folder of clips'):
        clip_files.open_clips(tmp_path / 'nowhere', _ARKIT)


def test_clips_shorter_than_a_window_are_named(tmp_path):
    _write_pair(tmp_path, 'long', 4.0)
    _write_pair(tmp_path, 'short', 1.0)
    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)

    assert Windows(clips, _CONFIG, 3, 1, seed=0).too_short == ['short_agent']
    with pytest.raises(ValueError, match=r'at least 30 turns \(300 frames\), the longest has 100'):
        Windows(clips, _CONFIG, 30, 1, seed=0)


def _rewrite(path, **changes):
    with np.load(path) as arrays:
        content = {**arrays, **changes}
    np.savez(path, **content)


def test_how_a_clip_is_meant_comes_with_each_turn(tmp_path):
    _write_pair(tmp_path)
    style = np.zeros((100, 7), np.float32)
    style[10:20, 0], style[:, 6] = 1.0, -0.5  # happy for the second turn
    _rewrite(tmp_path / 'talk_agent.npz', style=style, persona='bo')
    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)
    config = dataclasses.replace(_CONFIG, style=True, personas=('ann', 'bo'))

    window = Windows(clips, config, 3, 1, seed=0).cut(0, first_frame=5)

    np.testing.assert_allclose(window['style'][:, 0], 1.0)
    np.testing.assert_allclose(window['style'][:, 1], [0.5, 0.5, 0.0])
    np.testing.assert_allclose(window['style'][:, 7], -0.5)
    assert window['persona'].tolist() == [2, 2, 2]


def test_a_clip_that_does_not_say_how_it_is_meant_says_nothing(tmp_path):
    _write_pair(tmp_path)
    clips, _ = clip_files.open_clips(tmp_path, _ARKIT)
    config = dataclasses.replace(_CONFIG, style=True, personas=('ann',))

    window = Windows(clips, config, 3, 1, seed=0)[0]

    assert not window['style'].any() and not window['persona'].any()


def test_styles_follow_motion_of_another_rate(tmp_path):
    _write_pair(tmp_path, fps=50)
    style = np.zeros((200, 7), np.float32)
    style[100:, 1] = 1.0  # from 2 s on

    _rewrite(tmp_path / 'talk_agent.npz', style=style)

    (clip,), _ = clip_files.open_clips(tmp_path, _ARKIT)
    np.testing.assert_array_equal(clip.style[:, 1], np.arange(100) >= 50)


@pytest.mark.parametrize(
    ('style', 'message'),
    [
        (np.zeros((100, 6)), r'expected style \[100, 7\] .* got \[100, 6\]'),
        (np.zeros((40, 7)), r'expected style \[100, 7\] .* got \[40, 7\]'),
        (np.full((100, 7), 1.5), 'expected emotions of 0 to 1'),
        (np.full((100, 7), np.nan), 'expected emotions of 0 to 1'),
        (np.full((100, 7), -0.5), 'expected emotions of 0 to 1'),
    ],
)
def test_a_style_that_is_wrong_is_refused_by_the_name_of_its_file(tmp_path, style, message):
    _write_pair(tmp_path)
    _rewrite(tmp_path / 'talk_agent.npz', style=style)

    with pytest.raises(ValueError, match=f'talk_agent.npz: {message}'):
        clip_files.open_clips(tmp_path, _ARKIT)


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut off', b'no archive at all'])
def test_a_motion_file_that_cannot_be_read_is_refused_by_its_name(tmp_path, content):
    (tmp_path / 'x_agent.npz').write_bytes(content)

    with pytest.raises(ValueError, match='x_agent.npz: expected an npz of plain arrays'):
        clip_files.read_motion(tmp_path / 'x_agent.npz', _ARKIT)


def test_a_clip_with_one_speaker_is_left_out_by_name(tmp_path):
    _write_pair(tmp_path, 'both')
    _write_pair(tmp_path, 'alone')
    (tmp_path / 'alone_user.wav').unlink()

    clips, refused = clip_files.open_clips(tmp_path, _ARKIT)

    assert [clip.name for clip in clips] == ['both_agent']
    assert 'alone_user.wav; each clip needs the wav of both people' in refused['alone_agent']


def test_nan_in_motion_is_found_by_file_and_frame(tmp_path):
    _write_pair(tmp_path)
    with np.load(tmp_path / 'talk_agent.npz') as arrays:
        motion = arrays['motion'].copy()
    motion[37, 1] = np.nan
    _rewrite(tmp_path / 'talk_agent.npz', motion=motion)

    with pytest.raises(ValueError, match=r'talk_agent.npz: .* NaN .* at frame 37'):
        clip_files.open_clips(tmp_path, _ARKIT)


def test_a_conversation_begins_where_its_clip_does(tmp_path):
    for name in ('one', 'two'):
        _write_pair(tmp_path, name)
    windows = Windows(clip_files.open_clips(tmp_path, _ARKIT)[0], _CONFIG, 2, 8, seed=0)

    begun = [windows.begin(i) for i in range(8)]

    first_frames = [window['agent_motion'][0, 0, _ARKIT.index('jawOpen')] for window in begun]
    np.testing.assert_array_equal(first_frames, 0.0)
    voices = {window['user_speech'].numpy().tobytes() for window in begun}
    assert len(voices) == 1  # both were written with the same seed
    np.testing.assert_array_equal(begun[3]['user_speech'], windows.begin(3)['user_speech'])
