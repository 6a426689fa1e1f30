# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Speech encoders: the audio of one turn to one feature for each motion frame.

Each turn is encoded alone, without context, so it can stream. `wav2vec2` is frozen and
foreign, `logmel` is small, causal and learned with the model. An encoder works in two stages,
`convolve` (local in time, can run while samples come in) and `contextualise` (needs the turn).
"""

import math

import torch
from torch import nn
import torch.nn.functional as F

from timar_ros.config import TimarConfig
from timar_ros.model.speech_config import check_speech_config


def _redo_in_float32(convolution: nn.Conv1d, inputs: tuple, output: torch.Tensor) -> torch.Tensor:
    """
    Replace a grouped convolution's bfloat16 result on a CPU, for next to nothing of the encoder.

    On processors with AMX it is wrong by as much as it is large (oneDNN of torch 2.13).
    """
    (x,) = inputs
    if x.dtype != torch.bfloat16 or x.device.type != 'cpu':
        return output
    weight, bias = convolution.weight.float(), convolution.bias.float()
    return convolution._conv_forward(x.float(), weight, bias).to(x.dtype)


class Wav2Vec2Speech(nn.Module):
    """
    wav2vec 2.0 as TIMAR uses it: features interpolated to the frame rate before its transformer.

    Args:
        config: the transformers configuration, as a dict.
        n_frames: T, features a turn.

    Source: docs/model.md §3; arXiv 2006.11477.
    """

    def __init__(self, config: dict, n_frames: int):
        super().__init__()
        from transformers import Wav2Vec2Config, Wav2Vec2Model  # heavy, and not all need it

        self.n_frames = n_frames
        self.net = Wav2Vec2Model(Wav2Vec2Config(**check_speech_config(config)))
        self.net.eval().requires_grad_(False)
        self.net.encoder.pos_conv_embed.conv.register_forward_hook(_redo_in_float32)
        # Group norm reaches over all of the turn; layer norm leaves the convolutions local.
        self.is_local = self.net.config.feat_extract_norm == 'layer'
        kernels, strides = self.net.config.conv_kernel, self.net.config.conv_stride
        self.hop = math.prod(strides)
        self.receptive_field = 1 + sum(
            (kernel - 1) * math.prod(strides[:i]) for i, kernel in enumerate(kernels)
        )

    def train(self, mode: bool = True):
        """Stay in evaluation mode: the encoder is frozen."""
        return super().train(False)

    @torch.no_grad()
    def convolve(self, audio: torch.Tensor) -> torch.Tensor:
        """Turn audio `[B, n]` into convolution features `[B, frames, C]`."""
        return self.net.feature_extractor(audio.to(self.net.dtype)).transpose(1, 2)

    @torch.no_grad()
    def contextualise(self, frames: torch.Tensor) -> torch.Tensor:
        """Turn the convolution features of a whole turn into `[B, T, Q]`."""
        frames = F.interpolate(
            frames.transpose(1, 2), size=self.n_frames, mode='linear', align_corners=True
        ).transpose(1, 2)
        hidden, _ = self.net.feature_projection(frames)
        return self.net.encoder(hidden).last_hidden_state

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Encode audio `[B, S]` into features `[B, T, Q]`."""
        _B, _S = audio.shape
        return self.contextualise(self.convolve(audio))


def mel_filters(n_bands: int, n_fft: int, sample_rate_hz: int) -> torch.Tensor:
    """
    Return triangular filters `[n_fft // 2 + 1, n_bands]`, evenly spaced on the mel scale.

    mel = 2595 log10(1 + f / 700) (O'Shaughnessy), each triangle of peak 1.
    """
    top = 2595.0 * math.log10(1.0 + sample_rate_hz / 2 / 700.0)
    mels = torch.linspace(0.0, top, n_bands + 2, dtype=torch.float64, device='cpu')
    # On the CPU by name, so that a model may be laid out on the meta device.
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    bins = torch.linspace(
        0.0, sample_rate_hz / 2, n_fft // 2 + 1, dtype=torch.float64, device='cpu'
    )
    rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising, falling).clamp(min=0.0).float()


class LogMelSpeech(nn.Module):
    """
    Log mel energies and causal convolutions; feature i depends on no sample after frame i.

    Args:
        width: Q.
        n_bands: mel bands.
        sample_rate_hz: of the audio.
        samples_per_frame: audio samples under one motion frame.
    """

    _HOPS = 4  # mel frames under one motion frame
    _FFT = 512

    def __init__(self, width: int, n_bands: int, sample_rate_hz: int, samples_per_frame: int):
        super().__init__()
        if samples_per_frame % self._HOPS:
            raise ValueError(
                f'samples_per_frame must be a multiple of {self._HOPS}, got {samples_per_frame}'
            )
        self.is_local = False  # cheap enough to be computed at once
        self.hop = samples_per_frame // self._HOPS
        self.window_size = sample_rate_hz // 40  # 25 ms
        filters = mel_filters(n_bands, self._FFT, sample_rate_hz)
        self.register_buffer('filters', filters, persistent=False)
        window = torch.hann_window(self.window_size, periodic=False, device='cpu')
        self.register_buffer('window', window, persistent=False)
        self.fuse = nn.Conv1d(n_bands, width, kernel_size=2 * self._HOPS, stride=self._HOPS)
        self.mix = nn.ModuleList(nn.Conv1d(width, width, kernel_size=3) for _ in range(2))

    def convolve(self, audio: torch.Tensor) -> torch.Tensor:
        """Turn audio `[B, S]` into log mel energies `[B, 4T, bands]`, about unit scale."""
        # In float32 whatever the model's type: half types have no FFT and too little range.
        padded = F.pad(audio.float(), (self.window_size - self.hop, 0))
        frames = padded.unfold(-1, self.window_size, self.hop) * self.window.float()
        power = torch.fft.rfft(frames, self._FFT).abs().square() / self.window_size
        return torch.log(power @ self.filters.float() + 1e-4) / 4.0

    def contextualise(self, frames: torch.Tensor) -> torch.Tensor:
        """Turn log mel energies of a turn into features `[B, T, Q]`."""
        x = frames.to(self.fuse.weight.dtype).transpose(1, 2)  # [B, bands, 4T]
        x = self.fuse(F.pad(x, (self._HOPS, 0)))  # [B, Q, T]
        for convolution in self.mix:
            x = x + convolution(F.pad(F.gelu(x), (2, 0)))
        return x.transpose(1, 2)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Encode audio `[B, S]` into features `[B, T, Q]`."""
        _B, _S = audio.shape
        return self.contextualise(self.convolve(audio))


def make_speech_encoder(config: TimarConfig) -> nn.Module:
    """Return the speech encoder that a configuration names."""
    if config.speech == 'wav2vec2':
        return Wav2Vec2Speech(config.speech_config, config.frames_per_turn)
    return LogMelSpeech(
        config.speech_width, config.mel_bands, config.sample_rate_hz, config.samples_per_frame
    )
