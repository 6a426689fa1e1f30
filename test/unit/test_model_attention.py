# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Attention by turns equals one masked softmax; the cache slices, drops and refuses."""

import pytest
import torch

from timar_ros.model.attention import Attention, Block, TurnCache
from timar_ros.model.nearness import make_nearness
from timar_ros.model.turn import MODALITIES, slots, turn_causal_mask

_B, _L, _D, _H = 2, 5, 16, 4


def _block(n_ages=0):
    torch.manual_seed(0)
    block = Block(_D, _H, n_ages).double().requires_grad_(False)
    if n_ages:
        block.attn.age_bias.normal_()
    return block


def _tokens(n_turns):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(_B, n_turns, _L, _D, generator=rng, dtype=torch.float64)


def _cache(capacity):
    return TurnCache.make(1, _B, _H, capacity, _L, _D // _H, 'cpu', torch.float64)


# Up to five turns with ages go at once, more turn by turn.
@pytest.mark.parametrize('n_turns', [1, 5, 6])
@pytest.mark.parametrize('n_ages', [0, 6])
def test_attention_by_prefixes_equals_one_masked_softmax(n_ages, n_turns):
    block, x = _block(n_ages), _tokens(n_turns)

    expected = block(x, may_attend=turn_causal_mask(n_turns, _L))

    torch.testing.assert_close(block(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('n_ages', [0, 6])
@pytest.mark.parametrize('pieces', [[1, 1, 1, 1, 1, 1], [2, 1, 3], [5, 1]])
def test_attention_on_a_cache_equals_attention_at_once(n_ages, pieces):
    block, x, cache = _block(n_ages), _tokens(6), _cache(6)
    expected = block(x, may_attend=turn_causal_mask(6, _L))

    outputs = []
    for part in x.split(pieces, dim=1):
        outputs.append(block(part, cache))
        cache.commit(part.shape[1])

    torch.testing.assert_close(torch.cat(outputs, 1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('n_ages', [0, 6])
def test_wanted_tokens_are_those_of_all_tokens(n_ages):
    block, x, wanted = _block(n_ages), _tokens(3), slice(1, 4)
    everything = block(x, may_attend=turn_causal_mask(3, _L))

    masked = block(x, may_attend=turn_causal_mask(3, _L), wanted=wanted)

    torch.testing.assert_close(masked, everything[:, :, wanted], rtol=0, atol=1e-12)
    torch.testing.assert_close(block(x, wanted=wanted), masked, rtol=0, atol=1e-12)


def test_a_cache_gets_the_keys_of_all_tokens_whichever_are_wanted():
    block, x = _block(), _tokens(2)
    some, every = _cache(2), _cache(2)

    block(x, some, wanted=slice(1, 2))
    block(x, every)

    assert torch.equal(some.keys, every.keys) and torch.equal(some.values, every.values)
    assert not some.keys.isnan().any()


def test_attention_equals_a_loop_over_queries():
    attention = Attention(_D, _H, 3).double().requires_grad_(False)
    attention.age_bias.normal_()
    x = _tokens(3)
    queries, keys, values = attention.qkv(x).view(_B, 3 * _L, 3, _H, -1).unbind(2)
    expected = torch.zeros(_B, 3 * _L, _H, _D // _H, dtype=torch.float64)
    for b in range(_B):
        for head in range(_H):
            for q in range(3 * _L):
                last = (q // _L + 1) * _L
                scores = torch.stack(
                    [
                        queries[b, q, head] @ keys[b, k, head] / (_D // _H) ** 0.5
                        + attention.age_bias[head, q // _L - k // _L]
                        for k in range(last)
                    ]
                )
                expected[b, q, head] = scores.softmax(0) @ values[b, :last, head]
    expected = attention.proj(expected.flatten(2)).view(_B, 3, _L, _D)

    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-12)


def test_a_cache_is_born_nan_and_hands_out_only_what_was_written():
    cache = _cache(3)
    assert cache.keys.isnan().all() and cache.values.isnan().all()
    ones = torch.ones(_B, _H, _L, _D // _H, dtype=torch.float64)

    keys, values = cache.extend(0, ones, 2 * ones)

    assert torch.equal(keys, ones) and torch.equal(values, 2 * ones)


def test_a_draft_is_overwritten_by_the_next():
    cache = _cache(2)
    ones = torch.ones(_B, _H, _L, _D // _H, dtype=torch.float64)
    cache.extend(0, ones, ones)

    keys, _ = cache.extend(0, 3 * ones, ones)

    assert torch.equal(keys, 3 * ones)


def test_dropping_the_oldest_keeps_the_others_in_order():
    cache = _cache(4)
    for turn in range(4):
        full = torch.full((_B, _H, _L, _D // _H), float(turn), dtype=torch.float64)
        cache.extend(0, full, -full)
        cache.commit()

    cache.drop_oldest(3)
    keys, values = cache.extend(0, full + 1, full)

    assert cache.n_turns == 1
    assert keys[0, 0, :, 0].tolist() == [3.0] * _L + [4.0] * _L
    assert values[0, 0, :_L, 0].tolist() == [-3.0] * _L


def test_a_full_cache_says_what_to_do():
    cache = _cache(2)
    ones = torch.ones(_B, _H, 2 * _L, _D // _H, dtype=torch.float64)
    cache.extend(0, ones, ones)
    cache.commit(2)

    with pytest.raises(RuntimeError, match=r'full \(2 of 2 turns, 2 more wanted\); call drop_'):
        cache.extend(0, ones, ones)
    cache.reset()

    assert cache.extend(0, ones, ones)[0].shape[2] == 2 * _L


def test_a_head_looks_at_its_window_in_time_first():
    T, n_ages = 3, 2
    near = make_nearness([(0, 2), (4, 5), ()], n_ages, T)

    modality = [None] * (4 * T + 10)
    for name in MODALITIES:
        for frame, slot in enumerate(range(4 * T + 10)[slots(name, T)]):
            modality[slot] = frame
    for head, window in enumerate([(0, 2), (4, 5), ()]):
        for query, own in enumerate(modality):
            for age in range(n_ages):
                for key, other in enumerate(modality):
                    is_inside = not window or own is None or other is None
                    if not is_inside:
                        is_inside = window[0] <= own - other + age * T <= window[1]
                    expected = 0.0 if is_inside else -6.0
                    assert near[head, query, n_ages - 1 - age, key] == expected, (
                        head,
                        query,
                        age,
                        key,
                    )


@pytest.mark.parametrize('n_turns', [1, 4, 6])
def test_attention_with_windows_equals_one_masked_softmax_and_a_cache(n_turns):
    T, n_heads = 2, 2
    L = 4 * T + 10
    torch.manual_seed(0)
    near = make_nearness([(0, 2), (1, 3)], 6, T).double()
    attention = Attention(8, n_heads, 6, near).double()
    torch.nn.init.normal_(attention.age_bias)
    x = torch.randn(2, n_turns, L, 8, dtype=torch.float64)
    cache = TurnCache.make(1, 2, n_heads, n_turns, L, 4, 'cpu', torch.float64)

    expected = attention(x, may_attend=turn_causal_mask(n_turns, L))

    torch.testing.assert_close(attention(x), expected, rtol=0, atol=1e-12)
    some = slice(3, 7)
    torch.testing.assert_close(attention(x, wanted=some), expected[:, :, some], rtol=0, atol=1e-12)
    for n in range(n_turns):
        out = attention(x[:, n : n + 1], cache)
        cache.commit()
        torch.testing.assert_close(out, expected[:, n : n + 1], rtol=0, atol=1e-12)
