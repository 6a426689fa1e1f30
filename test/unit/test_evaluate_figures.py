# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The figures of an answered recording, on motion made so that the right values are known."""

import numpy as np
import pytest

from timar_ros.learn.figures import FIGURES, Answer, Figure, compute_figures
from timar_ros.motion import get_space

SPACE = get_space('arkit55')
FPS, RATE, SECONDS = 25, 16000, 24
T = np.arange(SECONDS * FPS) / FPS


def talk(intervals, seed=0):
    """Return a voice that speaks in the intervals, a syllable each 0.25 s."""
    t = np.arange(SECONDS * RATE) / RATE
    noise = np.random.default_rng(seed).standard_normal(len(t))
    speaks = sum(((t >= start) & (t < end)) for start, end in intervals)
    return (0.2 * speaks * np.sin(np.pi * 4 * t) ** 2 * noise).astype(np.float32)


def make_answer(motion=None, user=((2, 8),), agent=((10, 16),), **changes):
    motion = np.tile(SPACE.neutral, (len(T), 1)) if motion is None else motion
    values = {'space': SPACE, 'fps': FPS, 'frames_per_turn': 25, 'first_frame': 0}
    values |= {'motion': motion, 'user_voice': talk(user), 'agent_voice': talk(agent, 1)}
    return Answer(**(values | changes))


def moving(**channels):
    motion = np.tile(SPACE.neutral, (len(T), 1)).astype(np.float32)
    for name, values in channels.items():
        motion[:, SPACE.index(name)] = values
    return motion


def figure_of(name, answer):
    return compute_figures(answer)[0][name]


def test_all_figures_are_there_in_order_or_say_why_not():
    values, reasons = compute_figures(make_answer())

    assert list(values) == [figure.name for figure in FIGURES]
    assert set(reasons) == {name for name, value in values.items() if value is None}
    assert all(reasons.values())


def test_who_spoke_how_long_is_that_of_the_voices():
    values, _ = compute_figures(make_answer(user=((2, 8),), agent=((6, 12),)))

    shares = {name: 24 * value for name, value in values.items() if name.endswith('_share')}
    expected = {'user_speech_share': 6, 'agent_speech_share': 6, 'overlap_share': 2}
    for name, seconds in (expected | {'silence_share': 14}).items():
        assert shares[name] == pytest.approx(seconds, abs=0.4), name


def test_speed_is_that_of_a_sine():
    sway = make_answer(moving(neck_y=np.deg2rad(10) * np.sin(2 * np.pi * 0.5 * T)))

    values, _ = compute_figures(sway)

    assert values['head_speed_max'] == pytest.approx(10 * 2 * np.pi * 0.5, rel=0.05)
    assert values['power_share_0.2_1.1_hz'] > 0.95
    assert values['power_share_7_hz'] < 0.01


def test_a_mouth_80_ms_behind_its_voice_is_late_by_80_ms():
    agent = talk(((1, 23),), 1)
    loudness = np.abs(np.sin(np.pi * 4 * (T - 0.08))) ** 2 * ((T > 1) & (T < 23))

    late = make_answer(moving(jawOpen=0.5 * loudness), agent_voice=agent)

    assert figure_of('lip_lag_ms', late) == pytest.approx(80, abs=15)
    assert figure_of('lip_correlation', late) > 0.7


def test_a_mouth_that_never_moves_has_no_lag():
    values, reasons = compute_figures(make_answer())

    assert values['lip_lag_ms'] is None
    assert 'lip_lag_ms' in reasons


def test_a_head_that_moves_only_while_somebody_speaks_is_lively():
    speaks = ((T > 2) & (T < 8)) | ((T > 10) & (T < 16))
    neck = np.deg2rad(5) * np.sin(2 * np.pi * 0.8 * T) * np.where(speaks, 1.0, 0.1)

    assert figure_of('liveliness_ratio', make_answer(moving(neck_x=neck))) > 5


def test_without_a_silence_liveliness_cannot_be_said():
    sway = moving(neck_x=0.1 * np.sin(T))

    values, reasons = compute_figures(make_answer(sway, user=((0, 24),), agent=()))

    assert values['silent_head_speed'] is None
    assert values['liveliness_ratio'] is None
    assert 'liveliness_ratio' in reasons


def test_nods_count_as_listening_while_the_user_alone_speaks():
    neck = np.zeros(len(T))
    for start in (4.0, 12.0):  # one for the user, one while the robot speaks
        nod = (start <= T) & (start + 1 > T)
        neck[nod] = np.deg2rad(6) * np.sin(2 * np.pi * 3 * (T[nod] - start))

    values, _ = compute_figures(make_answer(moving(neck_x=neck)))

    assert values['nods_per_minute'] == pytest.approx(2 / 24 * 60)
    assert values['listening_nods_per_minute'] == pytest.approx(1 / 6 * 60, rel=0.1)


def test_seams_are_those_of_the_grid_whatever_the_first_frame():
    jumps = 0.05 * np.cumsum((np.arange(len(T)) + 10) % 25 == 0) + 1e-3 * np.arange(len(T))

    values = [
        figure_of('seam_ratio', make_answer(moving(neck_y=jumps), first_frame=first))
        for first in (10, 0)
    ]

    assert values[0] > 40
    assert values[1] < 0.6


def test_a_head_that_copies_the_user_half_a_second_later_does_so():
    rng = np.random.default_rng(3)
    path = np.convolve(rng.standard_normal(len(T) + 40), np.hanning(30), 'same') / 20
    user = moving(neck_y=path[20 : 20 + len(T)])
    agent = moving(neck_y=path[8 : 8 + len(T)])  # 12 frames later

    answer = make_answer(agent, user_motion=user)

    assert figure_of('mimicry_lag_s', answer) == pytest.approx(12 / 25, abs=0.04)
    assert figure_of('mimicry_correlation', answer) > 0.9


def test_blinks_are_counted_where_the_face_has_eyelids():
    closed = ((T % 4) < 0.2).astype(float)

    assert figure_of('blinks_per_minute', make_answer(moving(eyeBlinkLeft=closed))) == 15
    flame = get_space('flame56')
    plain = make_answer(np.tile(flame.neutral, (len(T), 1)), space=flame)
    assert figure_of('blinks_per_minute', plain) is None


def test_a_recording_of_a_second_has_no_figures_and_says_why():
    short = make_answer(np.tile(SPACE.neutral, (25, 1)))

    values, reasons = compute_figures(short)

    assert set(values.values()) == {None}
    assert set(reasons.values()) == {'the recording is shorter than 1.5 s'}


@pytest.mark.parametrize(
    ('lowest', 'highest', 'value', 'holds'),
    [
        (1, 2, 1.5, True), (1, 2, 0.5, False), (1, 2, 2.5, False), (None, 2, -9, True),
        (1, None, 9, True), (1, None, 0, False), (None, None, 1, None), (1, 2, None, None),
    ],
)  # fmt: skip
def test_a_value_is_held_against_the_range_that_there_is(lowest, highest, value, holds):
    assert Figure('x', '', 'x', lowest, highest).holds(value) is holds
