# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Attention over this turn and the turns before it, with a cache of past turns' keys and values.

Knows turns only as blocks of L tokens. The masked path is the specification of the cached one.
"""

import dataclasses

import torch
from torch import nn
import torch.nn.functional as F

NORM_EPS = 1e-6
# So few turns without a cache take less time at once than turn by turn, on a CPU.
_FEW_TURNS = 5
_NEVER = -1e4  # as a score: its exponential is zero


@dataclasses.dataclass
class TurnCache:
    """
    Keys and values of the committed turns, and room for the turns being drafted.

    State schema:
        keys, values: `[n_layers, B, H, capacity·L, K]`, NaN until written; slots [0, n_turns·L)
            are committed, what is behind them is draft and means nothing.
        n_turns: committed turns.
        n_tokens: L.
    """

    keys: torch.Tensor
    values: torch.Tensor
    n_tokens: int
    n_turns: int = 0

    @classmethod
    def make(cls, n_layers, batch, n_heads, capacity, n_tokens, head_width, device, dtype):
        """Return an empty cache for `capacity` turns, drafts included."""
        shape = (n_layers, batch, n_heads, capacity * n_tokens, head_width)
        keys = torch.full(shape, float('nan'), device=device, dtype=dtype)
        return cls(keys, keys.clone(), n_tokens)

    @property
    def capacity(self) -> int:
        """Turns that fit, drafts included."""
        return self.keys.shape[3] // self.n_tokens

    def extend(self, layer: int, keys: torch.Tensor, values: torch.Tensor):
        """
        Write draft keys and values `[B, H, N·L, K]` behind the history; leave the history alone.

        Returns:
            keys and values of history and draft, `[B, H, (n_turns + N)·L, K]`.

        Raises:
            RuntimeError: there is no room.
        """
        start = self.n_turns * self.n_tokens
        end = start + keys.shape[2]
        if end > self.keys.shape[3]:
            raise RuntimeError(
                f'cache is full ({self.n_turns} of {self.capacity} turns, '
                f'{keys.shape[2] // self.n_tokens} more wanted); call drop_oldest() or reset() '
                'first'
            )
        self.keys[layer, :, :, start:end] = keys
        self.values[layer, :, :, start:end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def commit(self, n_turns: int = 1) -> None:
        """Make the first drafted turns history."""
        self.n_turns += n_turns
        assert self.n_turns <= self.capacity

    def drop_oldest(self, n_turns: int = 1) -> None:
        """Forget the oldest turns; what is left moves to the front."""
        first, last = n_turns * self.n_tokens, self.n_turns * self.n_tokens
        for buffer in (self.keys, self.values):
            buffer[:, :, :, : last - first] = buffer[:, :, :, first:last].clone()
        self.n_turns -= n_turns

    def reset(self) -> None:
        """Forget all turns."""
        self.n_turns = 0

    def clone(self) -> 'TurnCache':
        """Copy; the two then have nothing in common."""
        return dataclasses.replace(self, keys=self.keys.clone(), values=self.values.clone())


class Attention(nn.Module):
    """
    Multi-head attention by turns: both ways inside a turn, back to earlier turns.

    Args:
        width: D.
        n_heads: H.
        n_ages: ages of turns with a learned bias of their own for each head (turn-relative
            positions); 0 = none.
        nearness: bias `[H, L, n_ages, L]` of each query slot on the slots of a turn of each age,
            the oldest first, the same in all layers; None = none.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        n_ages: int = 0,
        nearness: torch.Tensor | None = None,
    ):
        super().__init__()
        self.n_heads = n_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.age_bias = nn.Parameter(torch.zeros(n_heads, n_ages)) if n_ages else None
        self.register_buffer('nearness', nearness, persistent=False)

    def _bias(self, n_keys: int, n_tokens: int, wanted: slice) -> torch.Tensor | None:
        """
        Bias `[1, H, 1 or wanted, n_keys]` on the keys of a query in the last of these turns.

        That of a query with fewer turns before it is the end of this.
        """
        if self.age_bias is None:
            return None
        n_turns = n_keys // n_tokens
        by_turn = self.age_bias[:, :n_turns].flip(-1)  # oldest turn first, as keys lie
        bias = by_turn.repeat_interleave(n_tokens, -1)[None, :, None, :]
        if self.nearness is None:
            return bias
        near = self.nearness[:, wanted].flatten(2)[..., -n_keys:]  # no copy: it lies as keys do
        return bias + near.to(bias.dtype)

    def forward(
        self,
        x: torch.Tensor,
        cache: TurnCache | None = None,
        layer: int = 0,
        may_attend: torch.Tensor | None = None,
        wanted: slice = slice(None),
    ) -> torch.Tensor:
        """
        Attend from the turns in `x` to themselves and to the turns in the cache.

        Args:
            x: `[B, N, L, D]`.
            cache: past turns; the keys of `x` are left in its draft slots. None = no past.
            layer: whose slots of the cache.
            may_attend: bool `[N·L, N·L]`; if given, one masked softmax over all tokens, without a
                cache: the specification.
            wanted: which tokens of each turn to answer for, all unless said.

        Returns:
            `[B, N, wanted, D]`.
        """
        B, N, L, D = x.shape
        qkv = self.qkv(x).view(B, N, L, 3, self.n_heads, -1).permute(3, 0, 4, 1, 2, 5)
        queries, keys, values = qkv.unbind(0)  # [B, H, N, L, K]
        keys, values = keys.flatten(2, 3), values.flatten(2, 3)  # [B, H, N·L, K]
        if may_attend is not None:
            allowed = may_attend.view(N, L, -1)[:, wanted].flatten(0, 1)
            near = self._near_all(N, wanted)
            out = self._attend_masked(queries[:, :, :, wanted], keys, values, allowed, near)
            return self.proj(out.permute(0, 2, 3, 1, 4).reshape(B, N, -1, D))
        if cache is None and self.age_bias is not None and N <= _FEW_TURNS and not x.is_cuda:
            near = self._near_all(N, wanted)
            out = self._attend_together(queries[:, :, :, wanted], keys, values, near)
            return self.proj(out.permute(0, 2, 3, 1, 4).reshape(B, N, -1, D))
        if cache is not None:
            keys, values = cache.extend(layer, keys, values)
        n_past = keys.shape[2] - N * L
        bias = self._bias(keys.shape[2], L, wanted)
        outputs = []
        for turn in range(N):  # a turn sees a prefix of the keys: no mask, and half the work
            end = n_past + (turn + 1) * L
            outputs.append(
                F.scaled_dot_product_attention(
                    queries[:, :, turn, wanted],
                    keys[:, :, :end],
                    values[:, :, :end],
                    attn_mask=None if bias is None else bias[..., -end:],
                )
            )
        out = torch.stack(outputs, dim=1)  # [B, N, H, wanted, K]
        return self.proj(out.transpose(2, 3).reshape(B, N, -1, D))

    def _near_all(self, n_turns: int, wanted: slice) -> torch.Tensor | None:
        """Nearness `[H, N·wanted, N·L]` of queries in N turns; later turns count as the own."""
        if self.nearness is None:
            return None
        turns = torch.arange(n_turns, device=self.nearness.device)
        n_ages = self.nearness.shape[2]
        ages = (turns[:, None] - turns[None, :]).clamp(0, n_ages - 1)
        near = self.nearness[:, wanted][:, :, n_ages - 1 - ages]  # [H, wanted, N, N, L]
        return near.permute(0, 2, 1, 3, 4).flatten(3).flatten(1, 2)

    def _attend_together(self, queries, keys, values, near) -> torch.Tensor:
        """
        Attend with queries `[B, H, N, l, K]` of N turns to keys `[B, H, N·L, K]` at once.

        Which turn sees which, and the bias of its age, are further channels of queries and keys:
        so they cost nothing beside the product itself.
        """
        B, H, N, n_queries, K = queries.shape
        turns = torch.arange(N, device=keys.device)
        ages = turns[:, None] - turns[None, :]
        seen = self.age_bias[:, ages.clamp(0, self.age_bias.shape[1] - 1)]  # [H, N, N]
        seen = torch.where(ages >= 0, seen, _NEVER).transpose(1, 2).to(keys.dtype)
        of_key = seen.repeat_interleave(keys.shape[2] // N, 1).expand(B, -1, -1, -1)
        own = torch.eye(N, dtype=keys.dtype, device=keys.device)[:, None]
        own = own.expand(B, H, N, n_queries, N)
        queries = torch.cat([queries * K**-0.5, own], dim=-1).flatten(2, 3)
        keys = torch.cat([keys, of_key], dim=-1)
        # The fused kernel wants values as wide as keys, and a mask without gradient.
        values, near = F.pad(values, (0, N)), None if near is None else near.to(keys.dtype)[None]
        out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=near, scale=1.0)
        return out[..., :K].unflatten(2, (N, -1))

    def _attend_masked(self, queries, keys, values, may_attend, near) -> torch.Tensor:
        """Attend with queries `[B, H, N, l, K]` of N turns to keys `[B, H, N·L, K]`."""
        B, H, N, _l, K = queries.shape
        scores = (queries.flatten(2, 3) * K**-0.5) @ keys.transpose(-1, -2)  # [B, H, N·l, N·L]
        if self.age_bias is not None:
            turns = torch.arange(N, device=scores.device)
            ages = (turns[:, None] - turns[None, :]).clamp(0, self.age_bias.shape[1] - 1)
            bias = self.age_bias[:, ages][:, :, None, :, None]  # [H, N, 1, N, 1]
            by_turn = scores.view(B, H, N, -1, N, keys.shape[2] // N)
            scores = (by_turn + bias.to(scores.dtype)).view(scores.shape)
        if near is not None:
            scores = scores + near.to(scores.dtype)
        scores = scores.masked_fill(~may_attend, float('-inf'))
        return (scores.softmax(-1).to(values.dtype) @ values).unflatten(2, (N, -1))


class Mlp(nn.Module):
    """Two linear layers with a GELU (erf) between, `[..., D]` -> `[..., D]`."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform each token alone."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A pre-norm transformer block; MLP ratio 4 (docs/model.md §3)."""

    def __init__(
        self, width: int, n_heads: int, n_ages: int = 0, nearness: torch.Tensor | None = None
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = Attention(width, n_heads, n_ages, nearness)
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x, cache=None, layer=0, may_attend=None, wanted=slice(None)) -> torch.Tensor:
        """Transform `[B, N, L, D]`; arguments and result as of `Attention.forward`."""
        x = x[:, :, wanted] + self.attn(self.norm1(x), cache, layer, may_attend, wanted)
        return x + self.mlp(self.norm2(x))
