# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
TIMAR: turns of speech and motion in, the agent's motion out (arXiv 2512.15340).

Knows how a turn becomes tokens, how tokens become context and context becomes motion. Holds
weights only; the past is an argument. `draft_full_window` is the specification of `draft`.
"""

from collections.abc import Callable
import dataclasses

import torch
from torch import nn
import torch.nn.functional as F

from timar_ros.config import SamplingConfig, TimarConfig
from timar_ros.model.attention import NORM_EPS, Block, TurnCache
from timar_ros.model.diffusion import DiffusionHead, draw_diffusion, noise_scale
from timar_ros.model.nearness import windows_of_heads
from timar_ros.model.persistence import Persistence, foretell, last_shown, no_persistence
from timar_ros.model.speech import make_speech_encoder
from timar_ros.model.style import Style
from timar_ros.model.turn import (
    MODALITIES,
    N_SEPARATORS,
    Turn,
    join_turns,
    passes,
    slots,
    turn_causal_mask,
)
from timar_ros.motion import get_space


class TIMAR(nn.Module):
    """
    Causal turn-level masked autoregression with a diffusion head.

    Args:
        config: what the weights mean.

    Source: docs/model.md; arXiv 2512.15340, §3.
    """

    def __init__(self, config: TimarConfig):
        super().__init__()
        self.config = config
        self.space = get_space(config.motion_space)
        M, E, D, L = config.n_channels, config.token_width, config.width, config.tokens_per_turn
        self.register_buffer('motion_mean', torch.zeros(M))
        self.register_buffer('motion_std', torch.ones(M))
        self.speech = make_speech_encoder(config)
        self.motion_encoder = nn.Sequential(
            nn.Linear(M, E // 2), nn.ReLU(), nn.Linear(E // 2, E), nn.ReLU()
        )
        self.speech_projection = nn.Linear(config.speech_width, E)
        self.sep_tok_emb = nn.Embedding(N_SEPARATORS, E)
        self.fake_latent = nn.Parameter(torch.zeros(1, E))
        self.z_proj = nn.Linear(E, D)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, D))
        # Which sound belongs to which frame: ours gives it, the published model finds it.
        self.frame_mix = nn.Linear(3 * D, D) if config.frame_mix else None
        has_style = config.style or config.personas
        self.style = Style(D, config.style, len(config.personas)) if has_style else None
        self.persistence = None
        if config.persistence:
            self.persistence = Persistence(M, D, config.persistence)
            self.register_buffer('motion_persistence', no_persistence(config.persistence, M))
        self.z_proj_ln = nn.LayerNorm(D, eps=NORM_EPS)
        in_window = config.positions == 'window'
        n_slots = L * (config.max_turns if in_window else 1)
        self.encoder_pos_embed_learned = nn.Parameter(torch.zeros(1, n_slots, D))
        self.diffusion_pos_embed_learned = nn.Parameter(torch.zeros(1, n_slots, D))
        n_ages = 0 if in_window else config.max_turns
        first, near = windows_of_heads(config)
        self.encoder_blocks = nn.ModuleList(
            Block(D, config.n_heads, n_ages, near if layer else first)
            for layer in range(config.n_layers)
        )
        self.encoder_norm = nn.LayerNorm(D, eps=NORM_EPS)
        self.diffloss = DiffusionHead(
            M, D, config.denoiser_width, config.denoiser_blocks, self.space.groups.values()
        )

    def initialise(self, generator: torch.Generator | None = None) -> 'TIMAR':
        """Draw fresh weights: linear layers Xavier, embeddings normal of 0.02."""
        for name, parameter in self.named_parameters():
            if name.startswith('speech.net.'):
                continue  # foreign and frozen
            if name.startswith(('style.', 'persistence.')):
                nn.init.zeros_(parameter)
            elif name.endswith(('_learned', 'fake_latent', 'mask_token', 'sep_tok_emb.weight')):
                nn.init.normal_(parameter, std=0.02, generator=generator)
            elif parameter.dim() == 2 and 'age_bias' not in name:
                nn.init.xavier_uniform_(parameter, generator=generator)
            elif name.endswith('bias') and parameter.dim() == 1:
                nn.init.zeros_(parameter)
        self.diffloss.net._zero_modulation()
        return self

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.z_proj.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return self.z_proj.weight.dtype

    def make_cache(self, batch: int, capacity: int) -> TurnCache:
        """Return an empty cache for `capacity` turns, drafts included."""
        config = self.config
        head_width = config.width // config.n_heads
        return TurnCache.make(
            config.n_layers,
            batch,
            config.n_heads,
            capacity,
            config.tokens_per_turn,
            head_width,
            self.device,
            self.dtype,
        )

    def normalise(self, motion: torch.Tensor) -> torch.Tensor:
        """Bring motion `[..., M]` from units of the space to those of the network, in float32."""
        return (motion.float() - self.motion_mean) / self.motion_std

    def denormalise(self, motion: torch.Tensor) -> torch.Tensor:
        """Undo `normalise`, in float32."""
        return motion.float() * self.motion_std + self.motion_mean

    def encode_speech(self, turns: Turn) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of both voices, `[B, N, T, Q]` each; those known are not redone."""
        known = {'user': turns.user_features, 'agent': turns.agent_features}
        audio = {'user': turns.user_speech, 'agent': turns.agent_speech}
        missing = [voice for voice, features in known.items() if features is None]
        if missing:
            batch = torch.cat([audio[voice].flatten(0, 1) for voice in missing])  # [.., S]
            features = self.speech(batch)
            B, N = audio['user'].shape[:2]
            parts = features.view(len(missing), B, N, *features.shape[1:])
            known.update(zip(missing, parts, strict=True))
        return known['user'], known['agent']

    def embed(self, turns: Turn) -> torch.Tensor:
        """
        Turn N turns into tokens of the transformer's width, before positions.

        Args:
            turns: with the N axis.

        Returns:
            `[B, N, L, D]`.
        """
        B, N, T, M = turns.agent_motion.shape
        user_features, agent_features = self.encode_speech(turns)

        def embed_motion(motion, is_known):
            motion = torch.where(is_known[..., None], self.normalise(motion), 0.0).to(self.dtype)
            return self.motion_encoder(motion)  # [B, N, T, E]

        def null_unless(is_known, tokens):
            return torch.where(is_known[..., None], tokens, self.fake_latent)

        words = [
            null_unless(turns.user_heard, self.speech_projection(user_features)),
            null_unless(turns.user_seen, embed_motion(turns.user_motion, turns.user_seen)),
            self.speech_projection(agent_features),
            embed_motion(turns.agent_motion, turns.is_shown),
        ]
        separators = self.sep_tok_emb.weight.expand(B, N, -1, -1)  # [B, N, 10, E]
        pieces = [separators[:, :, :1]]
        for i, tokens in enumerate(words):
            opening, closing = separators[:, :, 1 + 2 * i, None], separators[:, :, 2 + 2 * i, None]
            pieces += [opening, tokens, closing]
        tokens = torch.cat([*pieces, separators[:, :, -1:]], dim=2)  # [B, N, L, E]
        z = self._even(self.z_proj(tokens))  # [B, N, L, D]
        agent = slots('agent_motion', T)
        masked = torch.where(turns.is_shown[..., None], z[:, :, agent], self.mask_token)
        if self.frame_mix is not None:
            others = [z[:, :, slots(modality, T)] for modality in MODALITIES[:3]]
            masked = masked + self._even(self.frame_mix(torch.cat(others, dim=-1)))
        if self.persistence is not None:
            motion = self.normalise(turns.agent_motion).to(self.dtype)
            masked = masked + self.persistence(motion, turns.is_shown)
        if self.style is not None:
            masked = masked + self.style(turns).to(masked.dtype)
        return torch.cat([z[:, :, : agent.start], masked, z[:, :, agent.stop :]], dim=2)

    def _even(self, tokens: torch.Tensor) -> torch.Tensor:
        """Bring tokens `[..., D]` to one size, so that what is added to them is seen."""
        is_even = self.config.even_tokens
        return F.layer_norm(tokens, tokens.shape[-1:], eps=NORM_EPS) if is_even else tokens

    def _positions(self, table: torch.Tensor, first_turn: int, n_turns: int) -> torch.Tensor:
        L = self.config.tokens_per_turn
        if self.config.positions == 'turn':
            return table.view(1, 1, L, -1)
        return table[:, first_turn * L : (first_turn + n_turns) * L].view(1, n_turns, L, -1)

    def encode(
        self,
        tokens: torch.Tensor,
        cache: TurnCache | None = None,
        may_attend: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """
        Run the transformer over turns: what each frame of the agent's motion is drawn from.

        Args:
            tokens: from `embed`, `[B, N, L, D]`.
            cache: the past; gets the keys of these turns as drafts. None = no past.
            may_attend: the specification's mask over these turns (`Attention.forward`).

        Returns:
            context z of the agent's frames, `[B, N, T, D]`.
        """
        _B, N, _L, _D = tokens.shape
        agent = slots('agent_motion', self.config.frames_per_turn)
        first = cache.n_turns if cache is not None else 0
        x = self.z_proj_ln(tokens + self._positions(self.encoder_pos_embed_learned, first, N))
        *blocks, last = self.encoder_blocks
        for layer, block in enumerate(blocks):
            x = block(x, cache, layer, may_attend)
        x = last(x, cache, len(blocks), may_attend, agent)  # nobody reads the other tokens
        positions = self._positions(self.diffusion_pos_embed_learned, first, N)
        return self.encoder_norm(x) + positions[:, :, agent]

    def loss(
        self,
        turns: Turn,
        generator: torch.Generator | list[torch.Generator] | None = None,
        channel_mask: torch.Tensor | None = None,
        repeat: int = 4,
        weight: torch.Tensor | None = None,
        group_weight: list[float] | None = None,
        guide: Callable | None = None,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """
        Compute the training loss over the agent frames that are not shown.

        Args:
            turns: with the N axis; `is_shown` says which agent frames the model sees.
            generator: draws diffusion steps and noise; a list of one for each window, on the CPU,
                draws the same for a window in whatever batch it is.
            channel_mask: bool `[B, M]`, True = the clip has this channel.
            repeat: how often each frame is diffused.
            weight: `[B, N, T]`, of each frame in the mean; 0 = not learned. None = 1.
            group_weight: of the squared error of each of the space's groups. None = 1.
            guide: a second loss, `(context [R, D], rows [R] of B·N·T) -> [R]`; None = none.

        Returns:
            the mean loss, with the guide's; and the detached means of its parts ('loss' without).

        Raises:
            ValueError: every frame is shown, or the window is longer than positions are learned.
        """
        B, N, T, M = turns.agent_motion.shape
        weight = torch.ones_like(turns.agent_motion[..., 0]) if weight is None else weight
        rows = (~turns.is_shown & (weight > 0)).flatten().nonzero()[:, 0]
        if len(rows) == 0:
            raise ValueError('loss needs at least one agent frame that is not shown, got none')
        z = self.encode(self.embed(turns), None, self.band(N))
        context = z.flatten(0, 2)[rows].repeat(repeat, 1)
        target = self.normalise(turns.agent_motion)
        if self.persistence is not None:
            expected, spread = self._foretell(turns)
            target = (target - expected) / spread
        target = target.flatten(0, 2)[rows].repeat(repeat, 1)
        valid = None
        if channel_mask is not None:
            valid = channel_mask[:, None].expand(B, N * T, M).flatten(0, 1)[rows].repeat(repeat, 1)
            target = torch.where(valid, target, 0.0)
        timestep, noise = draw_diffusion(generator, rows, repeat, (B, N * T, M))
        parts = self.diffloss.loss(target, context, timestep, noise, valid, group_weight)
        share = weight.flatten()[rows].repeat(repeat)
        share = share / share.sum()
        means = {name: (values * share).sum() for name, values in parts.items()}
        total = means['loss']
        if guide is not None:
            once = share[: len(rows)] * repeat
            means['guide'] = (guide(context[: len(rows)], rows) * once).sum()
            total = total + means['guide']
        return total, {name: value.detach() for name, value in means.items()}

    def _foretell(self, turns: Turn) -> tuple[torch.Tensor, torch.Tensor]:
        """Say where the agent's motion is expected, in normalised units (`foretell`)."""
        motion = self.normalise(turns.agent_motion)
        pose, _, lag = last_shown(motion, turns.is_shown)
        return foretell(self.motion_persistence, pose, lag)

    def band(self, n_turns: int) -> torch.Tensor | None:
        """Mask for windows longer than the model's; None where plain turn causality is enough."""
        if n_turns <= self.config.max_turns:
            return None
        if self.config.positions == 'window':
            raise ValueError(
                f'a window must have at most {self.config.max_turns} turns, got {n_turns}; its '
                'positions are learned slot by slot'
            )
        mask = turn_causal_mask(n_turns, self.config.tokens_per_turn, 1, self.config.max_turns - 1)
        return mask.to(self.device)

    def draft(
        self, turns: Turn, cache: TurnCache, noise: torch.Tensor, sampling: SamplingConfig
    ) -> torch.Tensor:
        """
        Draw the motion of the open turns on the committed past.

        Args:
            turns: the open turns, N axis included.
            cache: the past; only its draft slots change.
            noise: `[B, N, n_passes, steps + 1, T, M]`, standard normal.
            sampling: how to draw.

        Returns:
            motion float32 `[B, N, T, M]`; frames that are shown come back as they are.
        """
        return self.draw(turns, noise, sampling, lambda t: self.encode(self.embed(t), cache))

    def draft_full_window(
        self,
        past: Turn | None,
        turns: Turn,
        noise: torch.Tensor,
        sampling: SamplingConfig,
        context_turns: int | None = None,
    ) -> torch.Tensor:
        """
        Draw the motion of the open turns by one masked pass over everything: the specification.

        Args:
            past: turns before; `is_shown` says which of their agent frames the model sees.
                With window positions at most the window less the open turns, with turn positions
                all there ever were.
            turns: as of `draft`.
            noise: as of `draft`.
            sampling: as of `draft`.
            context_turns: how many turns back a turn sees; None = all.
        """
        n_open = turns.agent_motion.shape[1]

        def encode(open_turns):
            window = open_turns
            if past is not None:
                window = join_turns([past, open_turns], lambda column: torch.cat(column, dim=1))
            tokens = self.embed(window)
            B, N, L, D = tokens.shape
            may_attend = turn_causal_mask(N, L, n_open, context_turns).to(self.device)
            return self.encode(tokens, None, may_attend)[:, -n_open:]

        return self.draw(turns, noise, sampling, encode)

    def draw(
        self,
        turns: Turn,
        noise: torch.Tensor,
        sampling: SamplingConfig,
        encode: Callable[[Turn], torch.Tensor],
    ) -> torch.Tensor:
        """Draw frames pass by pass; `encode` gives the context of the open turns."""
        B, N, T, M = turns.agent_motion.shape
        given = turns.is_shown[..., None]
        motion = torch.where(given, turns.agent_motion, 0.0).float()
        is_shown = turns.is_shown
        for p, frames in enumerate(passes(T, sampling.n_passes)):
            seen = dataclasses.replace(turns, agent_motion=motion, is_shown=is_shown)
            null = None
            if sampling.cfg_scale != 1.0:
                nobody = torch.zeros_like(turns.user_heard)
                alone = dataclasses.replace(seen, user_heard=nobody, user_seen=nobody)
                null = encode(alone)[:, :, frames].flatten(0, 2)
            # The conditional pass comes last: its keys are what a commit keeps.
            context = encode(seen)[:, :, frames].flatten(0, 2)
            draws = noise[:, :, p, :, frames].permute(2, 0, 1, 3, 4).flatten(1, 3)  # [., R, M]
            drawn = self.diffloss.sample(
                context,
                draws,
                sampling.steps,
                noise_scale(self.config, noise.device) * sampling.temperature,
                null,
                sampling.cfg_scale,
                self.config.variance_bound,
            )
            drawn = drawn.view(B, N, -1, M)
            if self.persistence is not None:
                expected, spread = (x[:, :, frames] for x in self._foretell(seen))
                drawn = expected + spread * drawn
            drawn = self.denormalise(drawn)
            kept = torch.where(given[:, :, frames], motion[:, :, frames], drawn)
            motion = torch.cat(
                [motion[:, :, : frames.start], kept, motion[:, :, frames.stop :]], 2
            )
            if sampling.reveal:
                revealed = F.pad(is_shown.new_ones(frames.stop), (0, T - frames.stop))
                is_shown = turns.is_shown | revealed
        return motion
