# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What the model may see of a training window."""

import dataclasses

import numpy as np
import pytest
import torch

from timar_ros.config import PRESETS, TrainConfig
from timar_ros.learn.masking import draw_beginning, draw_mask_ratio, mask_windows, show_late
from timar_ros.motion import get_space

_MASKED = dataclasses.replace(PRESETS['mini'], frames_per_turn=10, history='masked')
_SHOWN = dataclasses.replace(_MASKED, history='shown', persistence=0)
_B, _N, _T, _M = 64, 4, 10, 55


def _windows():
    torch.manual_seed(0)
    return {
        'user_speech': torch.ones(_B, _N, _T * 640),
        'agent_speech': torch.ones(_B, _N, _T * 640),
        'user_motion': torch.randn(_B, _N, _T, _M),
        'agent_motion': torch.randn(_B, _N, _T, _M),
        'user_seen': torch.ones(_B, _N, _T, dtype=torch.bool),
        'channel_mask': torch.ones(_B, _M, dtype=torch.bool),
        'style': torch.rand(_B, _N, 8).clamp(0.01),
        'persona': torch.full((_B, _N), 3),
    }


def _mask_and_weight(config=_SHOWN, seed=0, shown_noise=None, **recipe):
    recipe = TrainConfig(**{'user_drop': 0.0, 'mask_min': 1.0} | recipe)
    rngs = [np.random.default_rng((seed, window)) for window in range(_B)]
    ratio = draw_mask_ratio(recipe, np.random.default_rng(seed))
    return mask_windows(_windows(), config, recipe, rngs, ratio, shown_noise)[:2]


def _mask(config=_SHOWN, seed=0, shown_noise=None, **recipe):
    return _mask_and_weight(config, seed, shown_noise, **recipe)[0]


def _flat(mask):
    return mask.reshape(_B, _N * _T)


def _first_false(mask):
    return (~mask).int().argmax(1)


def test_shown_history_ends_at_a_turn_and_all_after_it_is_hidden():
    is_shown = _flat(_mask().is_shown)

    first = _first_false(is_shown)
    expected = torch.arange(_N * _T) < first[:, None]
    assert torch.equal(is_shown, expected)
    assert set(first.tolist()) == {0, _T, 2 * _T, 3 * _T}


def test_masked_history_shows_nothing():
    assert not _mask(_MASKED).is_shown.any()


def test_first_frames_of_the_open_turn_may_be_shown():
    is_shown = _flat(_mask(agent_prefix=1.0).is_shown)

    first = _first_false(is_shown)
    assert torch.equal(is_shown, torch.arange(_N * _T) < first[:, None])
    assert set((first % _T).tolist()) == set(range(_T))


def test_first_frames_of_any_turn_may_be_shown_where_history_is_masked():
    is_shown = _mask(_MASKED, agent_prefix=0.5).is_shown

    n_shown = is_shown.sum(2)
    assert torch.equal(is_shown, torch.arange(_T) < n_shown[..., None])
    assert set(n_shown.flatten().tolist()) == set(range(_T + 1))
    assert 0.4 < (n_shown == 0).float().mean() < 0.7
    assert not is_shown.flatten(1).all(1).any()


def test_a_partly_heard_user_is_unknown_from_a_moment_on():
    turns = _mask(user_part_drop=1.0, agent_prefix=1.0)

    is_heard, is_shown = _flat(turns.user_heard), _flat(turns.is_shown)
    last = _first_false(is_heard)
    assert torch.equal(is_heard, torch.arange(_N * _T) < last[:, None])
    assert torch.equal(_flat(turns.user_seen), is_heard)
    lead = _first_false(is_shown) - last
    assert lead.min() >= 0 and lead.max() == 10  # at most 0.4 s of 25 fps


def test_what_was_not_heard_leaves_no_sound():
    turns = _mask(user_part_drop=1.0)

    is_sound = turns.user_speech.reshape(_B, _N, _T, 640).ne(0)
    assert torch.equal(is_sound.any(-1), turns.user_heard)
    assert torch.equal(is_sound.all(-1), turns.user_heard)


def test_a_user_may_be_unknown_after_the_open_turn():
    turns = _mask(user_turn_drop=1.0)

    open_turn = _first_false(_flat(turns.is_shown)) // _T
    expected = torch.arange(_N) <= open_turn[:, None]
    assert torch.equal(turns.user_heard.all(2), expected)
    assert torch.equal(turns.user_heard.any(2), expected)


def test_a_window_may_have_no_camera():
    has_camera = _mask(user_motion_drop=0.5).user_seen.flatten(1)

    assert torch.equal(has_camera.any(1), has_camera.all(1))
    assert 0.3 < has_camera.any(1).float().mean() < 0.7


def test_user_tokens_are_dropped_at_random_and_keep_their_sound():
    turns = _mask(user_drop=0.1)

    for tokens in (turns.user_heard, turns.user_seen):
        assert 0.87 < tokens.float().mean() < 0.93
    assert not torch.equal(turns.user_heard, turns.user_seen)
    assert turns.user_speech.ne(0).all()


def test_the_published_mask_hides_one_share_of_every_window():
    is_shown = _flat(_mask(_MASKED, mask_min=0.7).is_shown)

    n_hidden = (~is_shown).sum(1)
    assert n_hidden.unique().numel() == 1
    assert 0.7 * _N * _T <= n_hidden[0] < _N * _T
    assert not torch.equal(is_shown[0], is_shown[1])


def test_the_mask_ratio_is_a_truncated_normal():
    rng = np.random.default_rng(0)
    drawn = [draw_mask_ratio(TrainConfig(), rng) for _ in range(2000)]

    assert all(0.7 <= ratio <= 1.0 for ratio in drawn)
    # Half a normal of deviation 0.25, cut at 1.2 deviations: mean 1 - 0.25·0.529
    assert np.mean(drawn) == pytest.approx(0.868, abs=0.006)


def test_noise_is_added_to_shown_frames_only():
    clean = _windows()['agent_motion']
    deviation = torch.zeros(_M)
    deviation[3] = 0.1

    turns = _mask(shown_noise=deviation)

    changed = (turns.agent_motion - clean).ne(0)
    assert torch.equal(changed[..., 3], turns.is_shown)
    assert not changed[..., 4:].any()


def test_the_same_generator_masks_alike():
    first, second = (_mask(seed=3, agent_prefix=0.5, user_part_drop=0.5) for _ in range(2))

    assert torch.equal(first.is_shown, second.is_shown)
    assert torch.equal(first.user_heard, second.user_heard)


def test_a_window_looks_the_same_in_whatever_batch_it_is():
    recipe = TrainConfig(planning=0.5, agent_prefix=0.5, user_part_drop=0.5)
    whole, _ = _mask_and_weight(_MASKED, planning=0.5, agent_prefix=0.5, user_part_drop=0.5)
    part = {name: value[10:20] for name, value in _windows().items()}
    recipe = dataclasses.replace(recipe, user_drop=0.0, mask_min=1.0)

    turns, _, _ = mask_windows(
        part, _MASKED, recipe, [np.random.default_rng((0, window)) for window in range(10, 20)]
    )

    for name in ('is_shown', 'user_heard', 'user_seen', 'agent_speech', 'style', 'persona'):
        assert torch.equal(getattr(turns, name), getattr(whole, name)[10:20]), name


def test_a_style_and_a_persona_are_each_left_out_at_random_for_a_whole_window():
    turns = _mask(style_drop=0.5)

    is_given = turns.style.ne(0).flatten(1)
    is_named = turns.persona.ne(0)
    for said in (is_given, is_named):
        assert torch.equal(said.any(1), said.all(1))
        assert 0.3 < said.any(1).float().mean() < 0.7
    assert not torch.equal(is_given.any(1), is_named.any(1))


def test_a_late_head_is_shown_late_and_drawn_in_time():
    frames = torch.arange(60.0)[:, None]
    is_shown = np.zeros(60, bool)
    is_shown[[0, 1, *range(20, 30)]] = True

    late = frames - show_late(frames, is_shown, late=4.5)

    assert torch.equal(late[:20], torch.zeros(20, 1))  # another turn's
    torch.testing.assert_close(late[20:30], torch.full((10, 1), 4.5))
    assert torch.equal(late[30:], torch.zeros(30, 1))


def test_a_head_that_began_late_shows_what_came_before_the_clip_as_its_first_frame():
    frames = torch.arange(8.0)[:, None]
    is_shown = np.arange(8) < 4

    shown = show_late(frames, is_shown, late=2.0)[:4, 0]

    assert shown.tolist() == [0.0, 0.0, 0.0, 1.0]


def test_only_the_neck_is_late_and_only_where_the_recipe_says_so():
    plain = _mask(_MASKED, planning=1.0)
    late = _mask(_MASKED, planning=1.0, head_late_s=0.2)

    neck = get_space('arkit55').neck
    face = slice(0, neck.start)
    assert torch.equal(plain.agent_motion, _windows()['agent_motion'])
    assert torch.equal(late.agent_motion[..., face], plain.agent_motion[..., face])
    is_moved = (late.agent_motion != plain.agent_motion)[..., neck].any(-1).flatten(1)
    assert 0.3 < is_moved.any(1).float().mean() < 0.7  # half of the heads are in time
    assert torch.equal(late.is_shown, plain.is_shown)


def test_a_share_of_batches_begins_a_conversation_and_has_two_turns_at_least():
    rng = np.random.default_rng(0)

    def missing(**recipe):
        return [draw_beginning(TrainConfig(**recipe), rng) for _ in range(300)]

    assert set(missing(window_turns=4)) == set(missing(window_turns=2, beginnings=1.0)) == {0}
    assert set(missing(window_turns=4, beginnings=1.0)) == {1, 2}
    assert 0.1 < np.mean(np.array(missing(window_turns=4, beginnings=0.2)) > 0) < 0.3
