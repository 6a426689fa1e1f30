# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Tiny configurations, seeded models whose output depends on everything, synthetic dialogue."""

import dataclasses
import pathlib
import sys

import pytest
import torch
from torch import nn

from timar_ros.config import TimarConfig
from timar_ros.model.checkpoint import save_checkpoint
from timar_ros.model.timar import TIMAR
from timar_ros.model.turn import Turn

# Modules that several tests share lie beside this one.
sys.path.insert(0, str(pathlib.Path(__file__).parent))
# Tensors as small as these only wait for a second thread.
torch.set_num_threads(1)

# One turn is 4 frames, 0.16 s, 2560 samples; the window holds 6 turns.
_TINY = TimarConfig(
    motion_space='flame56', frames_per_turn=4, max_turns=6, speech='logmel', speech_width=16,
    mel_bands=12, token_width=24, width=32, n_layers=2, n_heads=4, denoiser_width=24,
    denoiser_blocks=2, history='masked', positions='window', cache='rebuild',
)  # fmt: skip


class StubSpeech(nn.Module):
    """A fixed projection of the audio under each frame; fast, exact, no state."""

    is_local = False

    def __init__(self, config: TimarConfig):
        super().__init__()
        rng = torch.Generator().manual_seed(1)
        shape = (config.samples_per_frame, config.speech_width)
        self.register_buffer('projection', torch.randn(shape, generator=rng) / shape[0] ** 0.5)
        self.n_frames = config.frames_per_turn

    def forward(self, audio):
        """Encode audio `[B, S]` into features `[B, T, Q]`."""
        frames = audio.view(len(audio), self.n_frames, -1)
        return frames.to(self.projection.dtype) @ self.projection


def _make_config(cache: str = 'rebuild', **changes) -> TimarConfig:
    # As our own weights are, or as the published ones.
    ours = {}
    if cache == 'banded':
        ours = {
            'positions': 'turn',
            'frame_mix': True,
            'even_tokens': True,
            'style': True,
            'personas': ('ann', 'bo'),
            'nearness': ((-1, 1), (0, 8), (6, 24), ()),
        }
        if changes.get('history') != 'shown':
            ours['persistence'] = 5
    return dataclasses.replace(_TINY, cache=cache, **{**ours, **changes})


def _make_model(
    config: TimarConfig | None = None, seed: int = 0, is_stub: bool = True, **changes
) -> TIMAR:
    """Return a model none of whose weights is zero, so that nothing hides behind a zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # convolutions and norms draw their own first weights from it
        model = TIMAR(config or _make_config(**changes))
    if is_stub:
        model.speech = StubSpeech(model.config)
    rng = torch.Generator().manual_seed(seed)
    model.initialise(rng)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = 0.5 if name.endswith(('_learned', 'fake_latent', 'mask_token')) else 0.1
            spread = 1.0 if name.endswith('age_bias') else spread
            parameter += spread * torch.randn(parameter.shape, generator=rng)
        model.motion_mean += 0.1 * torch.randn(model.motion_mean.shape, generator=rng)
        model.motion_std += 0.5 * torch.rand(model.motion_std.shape, generator=rng)
        if model.config.persistence:
            model.motion_persistence.uniform_(0.2, 0.8, generator=rng)
    return model.requires_grad_(False).eval()


def _make_turns(
    config: TimarConfig, n_turns: int, seed: int = 0, batch: int = 1, is_partial: bool = False
) -> list[Turn]:
    """Return turns of noise; `is_partial`: some frames are not heard, not seen, or shown."""
    rng = torch.Generator().manual_seed(1000 + seed)
    style_rng = torch.Generator().manual_seed(2000 + seed)
    B, T, S, M = batch, config.frames_per_turn, config.samples_per_turn, config.n_channels

    def flags(share):
        return torch.rand((B, T), generator=rng) < share

    def make_style():
        if not config.style:
            return {}
        persona = torch.randint(3, (B,), generator=style_rng)
        return {'style': torch.rand((B, 8), generator=style_rng), 'persona': persona}

    def make_turn():
        return Turn(
            user_speech=torch.randn((B, S), generator=rng),
            user_heard=flags(0.7 if is_partial else 1.0),
            user_motion=torch.randn((B, T, M), generator=rng),
            user_seen=flags(0.7 if is_partial else 1.0),
            agent_speech=torch.randn((B, S), generator=rng),
            agent_motion=torch.randn((B, T, M), generator=rng),
            is_shown=flags(0.3 if is_partial else 0.0),
            **make_style(),
        )

    return [make_turn() for _ in range(n_turns)]


@pytest.fixture(scope='session')
def make_config():
    """Return the maker of tiny configurations; `cache` brings along what goes with it."""
    return _make_config


@pytest.fixture(scope='session')
def make_model():
    """Return the maker of tiny seeded models, from a configuration or changes of the tiny one."""
    return _make_model


@pytest.fixture(scope='session')
def make_turns():
    """Return the maker of synthetic dialogue."""
    return _make_turns


@pytest.fixture(scope='session')
def tiny_checkpoint(tmp_path_factory):
    """Return the path of a checkpoint of a tiny model with a real speech encoder."""
    path = tmp_path_factory.mktemp('checkpoint') / 'tiny.safetensors'
    save_checkpoint(path, _make_model(is_stub=False, cache='banded', level='causal'))
    return path
