# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Incremental inference: draft the open turns, commit the finished one, settle what can wait.

Knows what a conversation remembers and when. Knows no clock, no audio stream and no ROS. The
specification of everything here is `TIMAR.draft_full_window`.

    draft(turns, state)   ->  motion of the open turns; no trace in the state
    commit(turn, state)   ->  the turn is history
    step(turn, state)     ->  draft and commit one turn
    settle(state)         ->  slide the window (off the critical path)
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools

import torch

from timar_ros.config import SamplingConfig, TimarConfig
from timar_ros.model.attention import TurnCache
from timar_ros.model.timar import TIMAR
from timar_ros.model.turn import Turn, stack_turns
from timar_ros.stream.noise import draw_noise, draw_smooth_noise

# What `rebase` keeps when its window is full (docs/model.md §7).
_REBASE_TURNS = 3


@dataclasses.dataclass
class ConversationState:
    """
    Everything a restart must forget.

    State schema:
        cache: keys and values of the remembered turns.
        tokens: `[B, n, L, D]`, these turns before positions, oldest first; n = 0 where the cache
            policy never rebuilds.
        seeds: one for each row of the batch.
        n_turns: turns committed since the start.
    """

    cache: TurnCache
    tokens: torch.Tensor
    seeds: tuple[int, ...]
    n_turns: int = 0

    def clone(self) -> 'ConversationState':
        """Copy; the two then go their own ways."""
        return dataclasses.replace(self, cache=self.cache.clone(), tokens=self.tokens.clone())


def _noise_of(config: TimarConfig) -> Callable[..., torch.Tensor]:
    if config.noise_spread:
        return functools.partial(draw_smooth_noise, spread=config.noise_spread)
    return draw_noise


class Engine:
    """
    Run a TIMAR turn by turn.

    Args:
        model: weights.
        sampling: how motion is drawn.
        open_turns: how many turns may be drafted together.
        noise: what draws the noise, signature of `draw_noise`; None = what the weights want.

    Raises:
        ValueError: the window is too small for that many open turns.
    """

    def __init__(
        self,
        model: TIMAR,
        sampling: SamplingConfig | None = None,
        open_turns: int = 1,
        noise: Callable[..., torch.Tensor] | None = None,
    ):
        self.model = model
        self.sampling = sampling or SamplingConfig()
        self.open_turns = open_turns
        self._noise = noise or _noise_of(model.config)
        room = model.config.max_turns - open_turns
        wanted = self.sampling.context_turns
        self.context_turns = room if wanted is None else wanted
        if not 0 <= self.context_turns <= room:
            raise ValueError(
                f'context_turns must be 0 to {room} (window of {model.config.max_turns} turns '
                f'less {open_turns} open), got {self.context_turns}'
            )

    def new_state(self, seed: int | Sequence[int] = 0) -> ConversationState:
        """Begin a conversation; a sequence of seeds begins a batch of them."""
        seeds = (seed,) if isinstance(seed, int) else tuple(seed)
        config = self.model.config
        cache = self.model.make_cache(len(seeds), self.context_turns + self.open_turns)
        tokens = torch.empty(
            (len(seeds), 0, config.tokens_per_turn, config.width),
            device=self.model.device,
            dtype=self.model.dtype,
        )
        return ConversationState(cache, tokens, seeds)

    @torch.inference_mode()
    def encode_speech(self, audio: torch.Tensor) -> torch.Tensor:
        """
        Encode the voice of a turn ahead of time, for `Turn.user_features` or `agent_features`.

        Args:
            audio: `[B, S]`, level-normalised.

        Returns:
            `[B, T, Q]`.
        """
        return self.model.speech(audio.to(self.model.device))

    @torch.inference_mode()
    def draft(self, turns: Sequence[Turn], state: ConversationState) -> torch.Tensor:
        """
        Draw the motion of the open turns, given all that was committed.

        Call as often as something new was heard; the state is as before, bit for bit.

        Args:
            turns: 1 to `open_turns` turns in a row, the first of them following the committed
                ones. Frames that are shown are seen by the model and come back unchanged.
            state: the conversation so far.

        Returns:
            agent motion float32 `[B, N, T, M]` on the model's device, units of the motion space.

        Raises:
            ValueError: a shape or type differs from the checkpoint's or the state's.
        """
        if not 1 <= len(turns) <= self.open_turns:
            raise ValueError(
                f'draft takes 1 to {self.open_turns} open turns, got {len(turns)}; make the '
                'engine with more open_turns'
            )
        for turn in turns:
            self._check(turn, state)
        self.settle(state)
        return self._draft(self._prepare(turns), state)

    @torch.inference_mode()
    def commit(self, turn: Turn, state: ConversationState) -> None:
        """
        Make a turn history: what later turns see of it is fixed from here on.

        Args:
            turn: as finally heard; `agent_motion` is what was shown, whatever `is_shown` says.
            state: changed in place.

        Raises:
            ValueError: as `draft`.
        """
        self._check(turn, state)
        self.settle(state)
        self._commit(self._prepare([turn]), state, reuse=False)

    @torch.inference_mode()
    def step(self, turn: Turn, state: ConversationState) -> torch.Tensor:
        """
        Answer one turn of conversation with the agent's motion, and make it history.

        Args:
            turn: both voices and the user's motion.
            state: the conversation so far; changed in place.

        Returns:
            agent motion float32 `[B, T, M]`, units of the motion space.

        Raises:
            ValueError: as `draft`.
        """
        self._check(turn, state)
        self.settle(state)
        turns = self._prepare([turn])
        motion = self._draft(turns, state)
        # Where history is masked, a single pass without visible frames *is* the history. Whether
        # frames are visible is asked on the host only: asking a device would stall it.
        on_host = turn.is_shown.device.type == 'cpu'
        reuse = (
            self.model.config.history == 'masked'
            and self.sampling.n_passes == 1
            and on_host
            and not turn.is_shown.any()
        )
        self._commit(dataclasses.replace(turns, agent_motion=motion), state, reuse)
        return motion[:, 0]

    @torch.inference_mode()
    def settle(self, state: ConversationState) -> None:
        """
        Slide the window if a commit has filled it; does nothing otherwise.

        Call it after the motion was handed on. If nobody does, the next call does it first.
        """
        cache = state.cache
        if cache.n_turns <= self.context_turns:
            return
        policy = self.model.config.cache
        if policy == 'banded':
            cache.drop_oldest(cache.n_turns - self.context_turns)
            return
        keep = self.context_turns
        if policy == 'rebase':
            keep = min(_REBASE_TURNS, keep)
        state.tokens = state.tokens[:, state.tokens.shape[1] - keep :].clone()
        cache.reset()
        if keep:
            self.model.encode(state.tokens, cache)
            cache.commit(keep)

    def _prepare(self, turns: Sequence[Turn]) -> Turn:
        """Stack turns on the device, with the features of both voices."""
        stacked = stack_turns(list(turns)).to(self.model.device)
        user, agent = self.model.encode_speech(stacked)
        return dataclasses.replace(stacked, user_features=user, agent_features=agent)

    def _draft(self, turns: Turn, state: ConversationState) -> torch.Tensor:
        config = self.model.config
        noise = self._noise(
            state.seeds,
            state.n_turns,
            turns.agent_motion.shape[1],
            self.sampling.n_passes,
            self.sampling.steps + 1,
            config.frames_per_turn,
            config.n_channels,
        ).to(self.model.device, non_blocking=True)
        return self.model.draft(turns, state.cache, noise, self.sampling)

    def _commit(self, turn: Turn, state: ConversationState, reuse: bool) -> None:
        """Commit a prepared turn; `reuse` = the draft slots already hold it."""
        is_visible = self.model.config.history == 'shown'
        turn = dataclasses.replace(turn, is_shown=torch.full_like(turn.is_shown, is_visible))
        rebuilds = self.model.config.cache != 'banded'
        if rebuilds or not reuse:
            tokens = self.model.embed(turn)
            if not reuse:
                self.model.encode(tokens, state.cache)
            if rebuilds:
                state.tokens = torch.cat([state.tokens, tokens], dim=1)
        state.cache.commit()
        state.n_turns += 1

    def _check(self, turn: Turn, state: ConversationState) -> None:
        config = self.model.config
        B, T, S = len(state.seeds), config.frames_per_turn, config.samples_per_turn
        frames, motion = (B, T), (B, T, config.n_channels)
        wanted = {
            'user_speech': ((B, S), torch.float32),
            'user_heard': (frames, torch.bool),
            'user_motion': (motion, torch.float32),
            'user_seen': (frames, torch.bool),
            'agent_speech': ((B, S), torch.float32),
            'agent_motion': (motion, torch.float32),
            'is_shown': (frames, torch.bool),
        }
        for name, (shape, dtype) in wanted.items():
            value = getattr(turn, name)
            if tuple(value.shape) != shape or value.dtype != dtype:
                raise ValueError(
                    f'{name} must be {str(dtype)[6:]} {list(shape)}, got {str(value.dtype)[6:]} '
                    f'{list(value.shape)}; a turn is {config.turn_s:g} s: {T} frames, {S} samples '
                    f'at {config.sample_rate_hz} Hz'
                )
        for name in ('user_features', 'agent_features'):
            value = getattr(turn, name)
            if value is not None and tuple(value.shape) != (B, T, config.speech_width):
                raise ValueError(
                    f'{name} must be {[B, T, config.speech_width]} or None, got '
                    f'{list(value.shape)}; make them with encode_speech or SpeechAhead'
                )
