# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Windows that end at a planning moment see what a node sees then (docs/design.md, Time)."""

import dataclasses

import numpy as np
import pytest
import torch

from timar_ros.config import PRESETS, TimingConfig, TrainConfig
from timar_ros.learn.masking import mask_windows
from timar_ros.stream.schedule import Schedule

_B, _N, _T, _M = 200, 4, 25, 55
_CONFIG = dataclasses.replace(PRESETS['mini'], history='masked')
_TURN_NS = 1_000_000_000


def _plan(config=_CONFIG, n_turns=_N, agent_speech=None):
    """Return what planning windows show: of each frame `[B, N·T]`, and `known` samples."""
    speech = torch.ones(_B, n_turns, config.samples_per_turn)
    windows = {
        'user_speech': speech,
        'agent_speech': speech if agent_speech is None else agent_speech,
        'user_motion': torch.zeros(_B, n_turns, _T, _M),
        'agent_motion': torch.zeros(_B, n_turns, _T, _M),
        'user_seen': torch.ones(_B, n_turns, _T, dtype=torch.bool),
        'style': torch.zeros(_B, n_turns, 8),
        'persona': torch.zeros(_B, n_turns, dtype=torch.int64),
    }
    train = TrainConfig(user_drop=0.0, planning=1.0, planning_weight=3.0)
    rngs = [np.random.default_rng((5, window)) for window in range(_B)]
    turns, weight, _ = mask_windows(windows, config, train, rngs)
    views = {
        'heard': turns.user_heard,
        'seen': turns.user_seen,
        'shown': turns.is_shown,
        'weight': weight,
        'known': turns.agent_speech.ne(0),
    }
    return {name: view.flatten(1) for name, view in views.items()}


def _by_schedule(moment_ns):
    """Return what a node with the usual delays hears, knows and shows at a moment, in frames."""
    schedule = Schedule(_CONFIG, TimingConfig())
    heard_ns = schedule.heard_until(moment_ns)
    n_heard = sum(schedule.frame_ns(frame + 1) <= heard_ns for frame in range(_N * _T))
    n_known = min(schedule.samples_until(schedule.known_until(moment_ns)) - 1, _N * 16000)
    first_open = next(turn for turn in range(_N) if not schedule.is_over(turn, moment_ns))
    return n_heard, schedule.first_planned_frame(moment_ns), n_known, first_open * _T


def test_at_the_usual_moments_a_window_shows_what_a_node_sees():
    views = _plan()
    moments = [2 * _TURN_NS + i * 200_000_000 for i in range(5)]
    expected = {_by_schedule(moment) for moment in moments}

    drawn = set()
    for window in range(_B):
        shown = views['shown'][window]
        first = int(shown.int().argmax())
        n_shown = first + int(shown.sum())
        n_heard, n_known = (int(views[name][window].sum()) for name in ('heard', 'known'))
        drawn.add((n_heard, n_shown, n_known, first))

    assert expected <= drawn
    assert len(drawn) > 50  # and many other settings


def test_all_cuts_of_a_window_belong_to_one_moment():
    views = _plan()

    for window in range(_B):
        heard, shown, known = (views[name][window] for name in ('heard', 'shown', 'known'))
        n_heard, n_known = int(heard.sum()), int(known.sum())
        assert heard[:n_heard].all() and known[:n_known].all()
        n_shown = int(shown.nonzero()[-1]) + 1
        assert 2 * _T < n_shown <= 3 * _T + 5
        assert 1 <= n_shown - n_heard <= 12  # hearing_delay + plan_latency, 0.08 to 0.45 s
        if n_known < _N * 16000:
            assert 2 * 640 <= n_known - (n_shown - 1) * 640 <= 19 * 640
    assert torch.equal(views['heard'], views['seen'])


def test_frames_beyond_the_known_voice_are_not_learned():
    views = _plan()

    is_learned = (views['weight'] > 0) & ~views['shown']
    samples_known = views['known'].reshape(_B, _N * _T, 640).all(2)
    assert not (is_learned & ~samples_known).any()
    assert is_learned.any(1).all()
    is_open = torch.arange(_N * _T) >= 2 * _T
    assert not (samples_known & is_open & (views['weight'] == 0)).any()


def test_what_a_plan_is_seen_for_counts_more_than_what_the_next_one_replaces():
    views = _plan(agent_speech=torch.zeros(_B, _N, 16000))

    frames = torch.arange(_N * _T)
    n_shown = ((views['shown']).int() * (frames + 1)).amax(1, keepdim=True)
    is_seen = (frames >= n_shown) & (frames < n_shown + 7)  # 0.2 s until the next one, 0.08 s
    assert torch.equal(views['weight'], torch.where(is_seen, 3.0, 1.0))


def test_frames_beyond_the_known_voice_are_learned_until_it_says_something():
    speech = torch.full((_B, _N, 16000), 0.01)
    speech[:, 3, 12 * 640 :] = 1.0
    views = _plan(agent_speech=speech)

    last_silent = 3 * _T + 12
    ends = ((views['weight'] > 0).int() * torch.arange(1, _N * _T + 1)).amax(1)
    n_known = views['known'].reshape(_B, _N * _T, 640).all(2).sum(1)
    assert torch.equal(ends, n_known.clamp(min=last_silent))
    assert (n_known < last_silent).any() and (n_known > last_silent).any()


def test_a_turn_that_is_not_yet_heard_to_its_end_is_open_with_all_its_motion_shown():
    views = _plan()

    n_heard = views['heard'].sum(1)
    before = views['shown'][:, _T : 2 * _T]
    is_boundary = n_heard < 2 * _T
    assert 10 < int(is_boundary.sum()) < _B // 2
    assert torch.equal(before.all(1), is_boundary)
    assert torch.equal(before.any(1), is_boundary)
    assert not views['shown'][:, :_T].any()


def test_shown_history_is_shown_up_to_the_plan():
    views = _plan(dataclasses.replace(_CONFIG, history='shown', persistence=0))

    n_shown = views['shown'].sum(1)
    assert torch.equal(views['shown'], torch.arange(_N * _T) < n_shown[:, None])


@pytest.mark.parametrize('n_turns', [1, 2])
def test_short_windows_keep_something_to_learn(n_turns):
    views = _plan(n_turns=n_turns)

    assert ((views['weight'] > 0) & ~views['shown']).any(1).all()
