# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Faults put into clips: as often, as long and as loud as asked for, and the same every time."""

import itertools

import numpy as np
import pytest

from timar_ros.learn.corruption import KINDS, Corruption, bursts

RATE, FPS = 16000, 25


def clip(seconds=40):
    rng = np.random.default_rng(0)
    voices = {
        name: (0.1 * rng.standard_normal(seconds * RATE)).astype(np.float32)
        for name in ('user', 'agent')
    }
    return voices, rng.standard_normal((seconds * FPS, 56)).astype(np.float32)


def corrupted(*kinds, seed=0, name='a', **options):
    return Corruption(kinds, **options).apply(*clip(), RATE, FPS, seed, name)


@pytest.mark.parametrize('share', [0.1, 0.3, 0.7])
def test_bursts_cover_the_time_that_the_released_code_covers(share):
    is_burst = bursts(2_000_000, share, 25, np.random.default_rng(1))

    lengths = [len(list(run)) for value, run in itertools.groupby(is_burst) if value]
    assert is_burst.mean() == pytest.approx(share / (1 + share), rel=0.03)
    # bursts that touch are seen as one, more often the more there are
    assert np.mean(lengths) == pytest.approx(25 * (1 + share / 25), rel=0.05)


def test_a_share_of_0_is_never_and_of_1_always():
    rng = np.random.default_rng(0)

    assert not bursts(1000, 0.0, 25, rng).any()
    assert bursts(1000, 1.0, 25, rng).all()


@pytest.mark.parametrize('kind', KINDS)
def test_a_fault_touches_what_it_names_and_nothing_else(kind):
    voices, motion = clip()

    changed_voices, changed_motion = corrupted(kind)

    changed = {
        'user_voice': (changed_voices['user'] != voices['user']).any(),
        'agent_voice': (changed_voices['agent'] != voices['agent']).any(),
        'user_motion': (changed_motion != motion).any(),
    }
    assert changed == {name: kind.startswith(name) for name in changed}


def test_lost_frames_hold_the_last_one_seen():
    _, motion = clip()

    _, held = corrupted('user_motion_drop')

    lost = (held != motion).any(1)
    assert not lost[0]
    for i in np.flatnonzero(lost):
        np.testing.assert_array_equal(held[i], held[i - 1])


def test_a_voice_in_silence_is_zero_in_bursts():
    voices, _ = clip()

    quiet = corrupted('user_voice_silence', share=0.5)[0]['user']

    is_changed = quiet != voices['user']
    assert not quiet[is_changed].any()
    assert is_changed.mean() == pytest.approx(1 / 3, abs=0.15)


def test_noise_has_the_level_asked_for():
    voices, motion = clip()

    noisy, shaken = corrupted('agent_voice_noise', 'user_motion_noise', share=1.0, snr_db=10.0)

    added = noisy['agent'] - voices['agent']
    ratio_db = 10 * np.log10(np.mean(voices['agent'] ** 2) / np.mean(added**2))
    assert ratio_db == pytest.approx(10, abs=0.2)
    assert (shaken - motion).std() == pytest.approx(motion.std(0).mean(), rel=0.02)


def test_faults_are_seeded_by_clip_and_kind_not_by_what_else_there_is():
    alone = corrupted('user_voice_noise')[0]['user']
    among_others = corrupted(*KINDS)[0]['user']

    silent = among_others == 0
    np.testing.assert_array_equal(among_others[~silent], alone[~silent])
    assert (corrupted('user_voice_noise', seed=1)[0]['user'] != alone).any()
    assert (corrupted('user_voice_noise', name='b')[0]['user'] != alone).any()


def test_nothing_to_corrupt_is_left_as_it_is():
    voices, motion = clip()

    same, unseen = Corruption(('user_motion_drop',)).apply(voices, None, RATE, FPS, 0, 'a')

    assert unseen is None
    np.testing.assert_array_equal(same['user'], voices['user'])


def test_an_unknown_fault_or_share_is_refused():
    with pytest.raises(ValueError, match="corruptions are user_voice_noise, .* got 'rain'"):
        Corruption(('rain',))
    with pytest.raises(ValueError, match=r'share must be within 0\.\.1, got 1.5'):
        Corruption((), 1.5)
