# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Training windows that are chosen for silence, a change, a nod, a mood or an attitude."""

import dataclasses

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.config import PRESETS
from timar_ros.learn.clips import open_clips
from timar_ros.learn.dataset import Windows
from timar_ros.motion import get_space

_CONFIG = dataclasses.replace(PRESETS['mini'], frames_per_turn=10)
_ARKIT, _RATE_HZ = get_space('arkit55'), 16000


@pytest.fixture
def make_clips(tmp_path):
    """Return the maker of a conversation of 12 s; its head leans by 0.1 rad a second."""

    def make(silence_s=(0.0, 0.0), nod_s=None, mood_s=None, mood=(0, 0.8)):
        time_s = np.arange(300) / 25
        motion = np.stack([np.zeros(300), np.zeros(300), time_s / 10], 1).astype(np.float32)
        if nod_s is not None:
            is_nodding = (time_s >= nod_s) & (time_s < nod_s + 1)
            motion[:, 0] = 0.1 * np.sin(2 * np.pi * 3 * (time_s - nod_s)) * is_nodding
        names = np.array(['neck_x', 'neck_y', 'neck_z'])
        style = np.zeros((300, 7), np.float32)
        if mood_s is not None:
            style[(time_s >= mood_s) & (time_s < mood_s + 1), mood[0]] = mood[1]
        path = tmp_path / 'talk_agent.npz'
        np.savez(path, motion=motion, names=names, fps=25.0, style=style)
        for seed, party in enumerate(('agent', 'user')):
            voice = np.random.default_rng(seed).normal(scale=3000, size=12 * _RATE_HZ)
            voice[slice(*(int(edge * _RATE_HZ) for edge in silence_s))] = 0
            path = tmp_path / f'talk_{party}.wav'
            scipy.io.wavfile.write(path, _RATE_HZ, voice.astype(np.int16))
        return open_clips(tmp_path, _ARKIT)[0]

    return make


def _presents(windows) -> np.ndarray:
    """Return when the last turn but one, 0.4 s long, begins in each of 200 windows, s."""
    starts = [float(windows[i]['agent_motion'][0, 0, -1]) for i in range(200)]
    return 10 * np.array(starts) + 0.4


def test_idle_windows_have_a_joint_silence_in_their_last_turn_but_one(make_clips):
    clips = make_clips(silence_s=(5.0, 7.0))  # idle from 5.5 to 6.5 s

    begin = _presents(Windows(clips, _CONFIG, 3, 200, seed=0, chosen={'idle': 1.0}))

    assert begin.min() > 5.5 - 0.4 - 0.1
    assert begin.max() < 6.5 + 0.1
    assert np.ptp(begin) > 1.0


def test_as_many_windows_are_idle_as_is_said(make_clips):
    clips = make_clips(silence_s=(5.0, 7.0))

    begin = _presents(Windows(clips, _CONFIG, 3, 200, seed=0, chosen={'idle': 0.5}))

    assert 80 < np.sum((begin > 5.0) & (begin < 6.6)) < 140


def test_windows_of_ends_have_a_new_silence_in_their_last_turn_but_one(make_clips):
    clips = make_clips(silence_s=(5.0, 7.5))

    begin = _presents(Windows(clips, _CONFIG, 3, 200, seed=0, chosen={'ends': 1.0}))

    assert begin.min() > 5.7 - 0.4 - 0.1
    assert begin.max() < 5.7 + 0.1
    assert np.ptp(begin) > 0.3


@pytest.mark.parametrize('silence_s', [(5.0, 6.0), (11.0, 12.0)])
def test_a_silence_that_is_short_or_cut_off_is_no_end(make_clips, silence_s):
    with pytest.raises(ValueError, match="leave 'ends' out of 'chosen'"):
        Windows(make_clips(silence_s), _CONFIG, 3, 1, seed=0, chosen={'ends': 0.5})


def test_clips_without_silence_have_no_idle_windows(make_clips):
    with pytest.raises(ValueError, match="joint silences .* leave 'idle' out of 'chosen'"):
        Windows(make_clips(), _CONFIG, 3, 1, seed=0, chosen={'idle': 0.5})


def test_windows_with_a_nod_begin_it_in_their_last_turn_but_one(make_clips):
    clips = make_clips(nod_s=6.0)

    begin = _presents(Windows(clips, _CONFIG, 3, 200, seed=0, chosen={'nods': 1.0}))

    assert begin.min() > 6.0 - 0.4 - 0.15
    assert begin.max() < 6.0 + 0.15
    assert np.ptp(begin) > 0.3


def test_idle_windows_and_windows_with_a_nod_share_the_draw(make_clips):
    clips = make_clips(silence_s=(8.0, 10.0), nod_s=6.0)

    begin = _presents(Windows(clips, _CONFIG, 3, 200, seed=0, chosen={'idle': 0.4, 'nods': 0.4}))

    assert 60 < np.sum((begin > 8.0) & (begin < 9.6)) < 120
    assert 60 < np.sum((begin > 5.4) & (begin < 6.2)) < 120


def test_a_window_says_which_of_its_frames_nod(make_clips):
    windows = Windows(make_clips(nod_s=6.0), _CONFIG, 30, 1, seed=0)

    window = windows.cut(0, 0)
    nods = window['is_nodding'].flatten().numpy()
    quick = window['quick_neck'].flatten(0, 1).numpy()

    assert 4.5 < np.abs(quick[150:175, 0]).max() < 7.0  # 0.1 rad are 5.7 degrees
    assert np.abs(quick[:140]).max() < 0.3
    assert nods[155:170].all()
    assert not nods[:140].any()
    assert not nods[185:].any()


def test_clips_without_a_nod_have_no_windows_with_one(make_clips):
    with pytest.raises(ValueError, match='clips with nods of the agent, found none'):
        Windows(make_clips(), _CONFIG, 3, 1, seed=0, chosen={'nods': 0.5})


def test_windows_with_a_change_have_it_in_their_last_turn_but_one(make_clips):
    clips = make_clips(silence_s=(5.0, 7.0))

    begin = _presents(Windows(clips, _CONFIG, 3, 200, seed=0, chosen={'changes': 1.0}))

    stops, begins = (np.abs(begin + 0.2 - at_s) < 0.2 + 0.15 for at_s in (5.0, 7.0))
    assert (stops | begins).all()
    assert 50 < stops.sum() < 150


def test_a_pause_of_a_third_of_a_second_is_no_change(make_clips):
    clips = make_clips(silence_s=(5.0, 5.33))

    with pytest.raises(ValueError, match='a user who begins to speak, or stops, found none'):
        Windows(clips, _CONFIG, 3, 1, seed=0, chosen={'changes': 0.5})


@pytest.mark.parametrize('mood', [(0, 0.8), (6, -0.8)], ids=['happy', 'reserved'])
def test_windows_with_a_mood_have_it_in_their_last_turn_but_one(mood, make_clips):
    clips = make_clips(mood_s=6.0, mood=mood)
    windows = Windows(clips, _CONFIG, 3, 200, seed=0, chosen={'moods': 1.0})

    begin = _presents(windows)

    assert begin.min() > 6.0 - 0.4 - 0.1
    assert begin.max() < 7.0 + 0.1
    assert all(windows[i]['style'][1, 1 + mood[0]] * mood[1] > 0 for i in range(50))


def test_clips_without_a_style_have_no_windows_with_a_mood(make_clips):
    with pytest.raises(ValueError, match='with an emotion or attitude .*, found none'):
        Windows(make_clips(), _CONFIG, 3, 1, seed=0, chosen={'moods': 0.5})


def test_windows_of_attitudes_have_the_user_stop_in_one(make_clips):
    clips = make_clips(silence_s=(6.5, 7.5), mood_s=6.0, mood=(6, -0.8))

    begin = _presents(Windows(clips, _CONFIG, 3, 200, seed=0, chosen={'attitudes': 1.0}))

    assert begin.min() > 6.5 - 0.4 - 0.1
    assert begin.max() < 6.5 + 0.1
    assert np.ptp(begin) > 0.3


@pytest.mark.parametrize(('mood_s', 'mood'), [(6.0, (0, 0.8)), (7.0, (6, 0.8)), (None, (6, 0.8))])
def test_without_a_stop_in_an_attitude_there_are_no_such_windows(mood_s, mood, make_clips):
    clips = make_clips(silence_s=(6.5, 7.5), mood_s=mood_s, mood=mood)

    with pytest.raises(ValueError, match="leave 'attitudes' out of 'chosen'"):
        Windows(clips, _CONFIG, 3, 1, seed=0, chosen={'attitudes': 0.5})
