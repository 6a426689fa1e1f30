# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The token layout of a turn and the mask of turns, against docs/model.md §2 and a naive loop."""

import dataclasses

import pytest
import torch

from timar_ros.model.turn import N_SEPARATORS, slots, stack_turns, turn_causal_mask


@pytest.mark.parametrize(
    ('modality', 'first', 'last'),
    [('user_speech', 2, 26), ('user_motion', 29, 53), ('agent_speech', 56, 80),
     ('agent_motion', 83, 107)],
)  # fmt: skip
def test_tokens_lie_where_the_published_layout_has_them(modality, first, last):
    assert slots(modality, 25) == slice(first, last + 1)


def test_separators_fill_what_the_modalities_leave():
    taken = set()
    for modality in ('user_speech', 'user_motion', 'agent_speech', 'agent_motion'):
        taken |= set(range(110)[slots(modality, 25)])

    assert sorted(set(range(110)) - taken) == [0, 1, 27, 28, 54, 55, 81, 82, 108, 109]
    assert N_SEPARATORS == 10


@pytest.mark.parametrize(('n_open', 'context'), [(1, None), (1, 0), (1, 2), (3, 2), (2, None)])
def test_the_mask_is_what_a_loop_over_turns_says(n_open, context):
    N, L = 6, 2

    mask = turn_causal_mask(N, L, n_open, context)

    for query in range(N * L):
        for key in range(N * L):
            q, k = query // L, key // L
            oldest = 0 if context is None else min(q, N - n_open) - context
            assert mask[query, key] == (oldest <= k <= q), (query, key)


def test_stacked_turns_carry_features_only_if_all_have_them(make_config, make_turns):
    first, second = make_turns(make_config(), 2)
    features = torch.zeros(1, 4, 16)
    known = [
        turn.__class__(**{**vars(turn), 'user_features': features}) for turn in (first, second)
    ]

    stacked = stack_turns([known[0], second])
    both = stack_turns(known)

    assert stacked.user_features is None
    assert both.user_features.shape == (1, 2, 4, 16)
    assert torch.equal(stacked.user_speech[:, 1], second.user_speech)


def test_a_style_that_one_turn_lacks_is_not_said_for_it(make_config, make_turns):
    first, second = make_turns(make_config('banded'), 2)
    silent = dataclasses.replace(second, style=None, persona=None)

    stacked = stack_turns([first, silent])

    assert torch.equal(stacked.style, torch.stack([first.style, torch.zeros(1, 8)], 1))
    assert torch.equal(stacked.persona[:, 0], first.persona)
    assert stacked.persona[:, 1].tolist() == [0]
    assert stack_turns([silent, silent]).style is None
