# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The figures on recordings of real people, where they lie beside this project."""

from pathlib import Path

import numpy as np
import pytest

from timar_ros.learn import behaviour, cues, events
from timar_ros.learn.clips import read_voice
from timar_ros.learn.figures import FIGURES
from timar_ros.stream import lips

DATA = Path(__file__).resolve().parents[3] / 'shared' / 'data'
RANGES = {figure.name: (figure.lowest, figure.highest) for figure in FIGURES}


@pytest.fixture
def data():
    if not DATA.is_dir():
        pytest.skip('no recordings of people in ../shared/data')
    return DATA


@pytest.fixture
def seated_neck(data):
    with np.load(data / 'dualtalk' / 'UbjUDM1MiGE_sub_video_72_speaker2.npz') as arrays:
        return arrays['pose'][:, :3]


@pytest.fixture(params=[1, 2])
def standing_neck(data, request):
    """Return the head of one of three people who stand in a group, at 25 fps."""
    with np.load(data / 'multitpc' / f'person_{request.param}.npz') as arrays:
        vectors = arrays['rotvec']
    recorded_s = np.arange(len(vectors)) / 60
    grid_s = np.arange(0, recorded_s[-1], 1 / 25)
    return np.stack([np.interp(grid_s, recorded_s, column) for column in vectors.T], 1)


@pytest.fixture
def recordings(data):
    """Return the robot head's recordings by name: roll, pitch, yaw as rotation vectors."""
    with np.load(data / 'reachy2_emotions' / 'head_rpy_deg_25fps.npz') as arrays:
        return {
            name: np.deg2rad(arrays[name][:, [1, 2, 0]])
            for name in arrays.files
            if arrays[name].ndim == 2
        }


def test_a_seated_person_has_the_speeds_and_spectrum_said_of_them(seated_neck):
    figures = behaviour.speed_figures(seated_neck)
    slow, fast = behaviour.power_shares(seated_neck)

    # of two people, this one is the livelier: the upper ends of docs/model.md §8, rounded there
    for name, value in figures.items():
        assert value == pytest.approx(RANGES[f'head_speed_{name}'][1], rel=0.01), name
    assert slow == pytest.approx(RANGES['power_share_0.2_1.1_hz'][1], abs=0.006)
    assert fast <= 0.015


def test_people_standing_in_a_group_have_the_speeds_and_spectrum_said_of_them(standing_neck):
    figures = behaviour.speed_figures(standing_neck)
    slow, fast = behaviour.power_shares(standing_neck)

    ranges = {'p50': (16, 28), 'p95': (96, 147), 'p99': (167, 233), 'max': (379, 459)}
    for name, (low, high) in ranges.items():
        assert 0.98 * low <= figures[name] <= 1.02 * high, (name, figures[name])
    assert 0.835 <= slow <= 0.915
    assert fast <= 0.005


def test_real_heads_have_no_seams(seated_neck, standing_neck):
    assert behaviour.seam_ratio(standing_neck, 25) == pytest.approx(1.0, abs=0.1)
    assert behaviour.seam_ratio(seated_neck, 25) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize('name', ['yes1', 'yes_excited1', 'yes_sad1', 'understanding1'])
def test_a_yes_is_found_as_nodding(recordings, name):
    assert events.find_nods(recordings[name])


@pytest.mark.parametrize('name', ['no1', 'no_excited1', 'no_sad1'])
def test_a_no_is_not_found_as_nodding(recordings, name):
    nods = events.find_nods(recordings[name])

    # a puppeteer who shakes it may nod a little at an end, for less than the shake lasts
    assert sum(nod.end_s - nod.start_s for nod in nods) < 0.15 * len(recordings[name]) / 25


def test_people_nod_as_often_as_is_said_of_them(seated_neck, standing_neck):
    low, high = RANGES['nods_per_minute']
    for neck in (seated_neck, standing_neck):
        assert low <= len(events.find_nods(neck)) / (len(neck) / 25 / 60) <= high


def test_who_listens_nods_more_often_than_who_says_no(recordings):
    def per_minute(names):
        length_s = sum(len(recordings[name]) for name in names) / 25
        return sum(len(events.find_nods(recordings[n])) for n in names) / length_s * 60

    listens = per_minute(['listening1', 'listening2'])
    refuses = per_minute([name for name in recordings if name.startswith('no')])

    assert listens > 10
    assert listens > 2 * refuses


@pytest.mark.parametrize('clip', ['1114_2_01', '1114_2_04', '1114_3_15'])
def test_a_filmed_mouth_is_in_time_with_its_voice_and_closed_in_silence(data, clip):
    voice = read_voice(data / 'facegood' / f'{clip}.wav')
    with np.load(data / 'facegood' / f'{clip}.npz') as arrays:
        jaw = arrays['weights'][:, arrays['names'].tolist().index('mouth_stretch_c')]
    grid_s = np.arange(0, len(jaw) / 30, 1 / 25)
    jaw = np.interp(grid_s, np.arange(len(jaw)) / 30, jaw)

    lag = lips.lip_sync(jaw, voice, 16000)
    rest = behaviour.mouth_rest_ratio(jaw, behaviour.voice_activity(voice, 16000))

    assert -60 <= 1000 * lag.lag_s <= 40
    assert lag.correlation > 0.6
    assert rest < 0.01


def test_another_clips_mouth_is_not_in_time(data):
    voice = read_voice(data / 'facegood' / '1114_2_01.wav')
    with np.load(data / 'facegood' / '1114_2_02.npz') as arrays:
        jaw = arrays['weights'][:, arrays['names'].tolist().index('mouth_stretch_c')]
    jaw = np.interp(np.arange(0, len(jaw) / 30, 1 / 25), np.arange(len(jaw)) / 30, jaw)

    assert lips.lip_sync(jaw, voice, 16000).correlation < 0.3


def test_a_caller_invites_a_nod_some_times_a_minute(data):
    voice = read_voice(data / 'calls' / 'auto_repairs_40_caller.wav')

    times = cues.backchannel_times(voice, 16000)

    assert 4 < len(times) / (len(voice) / 16000 / 60) < 15
