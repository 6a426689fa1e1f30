# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Speech to mouth: a small network, learned from one real speaker, that must serve any voice.

Log-mel energies, 120 ms to either side, to the mouth channels of one frame. What differs between
voices is taken away (level, long-term spectrum) or varied in training (length of the vocal
tract, tilt), and a mouth closes where its voice is silent, whatever the network says.
"""

import dataclasses
import hashlib
import pathlib

import numpy as np
import soxr
import torch
from torch import nn

from timar_ros.learn.simulator.recorded import MOUTH_NAMES, Recording
from timar_ros.model.speech import mel_filters

_RATE_HZ = 16000
_FPS = 25
_BANDS = 26
_REACH = 6  # steps of 20 ms to either side
_HIDDEN = 96
_SIZES = (0.8, 0.9, 1.0, 1.12, 1.25)
# The sound is this much later than the mouth that the network learns from, s: measured by
# `lips.lip_sync` on facegood, where the jaw's lag is near zero; kept for other data.
_OPENS_BEFORE_S = 0.06
_CLOSES_AFTER_S = 0.08


def _log_mel(samples: np.ndarray) -> np.ndarray:
    """Return log-mel energies `[n // 160, bands]` in units of 20 dB, centred on each 10 ms."""
    window = np.hanning(400)
    padded = np.pad(samples.astype(np.float64), (200, 400))
    n_frames = len(samples) // 160
    frames = padded[np.arange(n_frames)[:, None] * 160 + np.arange(400)] * window
    power = np.abs(np.fft.rfft(frames, 512)) ** 2 / 400
    return np.log10(power @ mel_filters(_BANDS, 512, _RATE_HZ).numpy() + 1e-9) / 2


def hear(samples: np.ndarray) -> np.ndarray:
    """
    Turn a voice into what the network sees of each frame, float32 `[F, features]`.

    Formula: log-mel, less its mean over the loudest half of the frames that sound (level and
    long-term spectrum), floored 50 dB below, at 13 places within ±120 ms of the frame; and the
    loudness alone.
    """
    mel = _log_mel(samples)
    level = np.log10((10 ** (2 * mel)).sum(1))
    top = np.percentile(level, 98)
    # 10 dB a unit here.
    sounds = level > max(top - 3.0, -7.0)
    loud = (
        sounds & (level >= np.median(level[sounds])) if sounds.any() else np.ones(len(level), bool)
    )
    mel = np.maximum(mel - mel[loud].mean(0), -2.5)
    level = np.maximum(level - level[loud].mean(), -5.0) / 2
    features = np.concatenate([mel, level[:, None]], 1).astype(np.float32)
    n_frames = len(samples) * _FPS // _RATE_HZ
    steps = np.arange(n_frames)[:, None] * 4 + 2 * np.arange(-_REACH, _REACH + 1)
    padded = np.pad(features, ((2 * _REACH, 2 * _REACH), (0, 0)), mode='edge')
    steps = np.clip(steps + 2 * _REACH, 0, len(padded) - 1)
    return padded[steps].reshape(n_frames, -1)


def sounding(samples: np.ndarray) -> np.ndarray:
    """
    Tell how far a mouth may open, 0 to 1 `[F]`: it closes where its voice is silent.

    Open from 60 ms before the sound to 80 ms after it, with flanks of 80 ms; sound is what lies
    at most 32 dB below the voice's loud parts.
    """
    mel_power = (10 ** (2 * _log_mel(samples))).sum(1)
    level = np.log10(mel_power + 1e-12) * 10
    loud = (level > max(np.percentile(level, 98) - 32, -55)).astype(float)
    before, after = int(_OPENS_BEFORE_S * 100), int(_CLOSES_AFTER_S * 100)
    held = np.array(loud)
    for shift in range(1, before + 1):
        held[:-shift] = np.maximum(held[:-shift], loud[shift:])
    for shift in range(1, after + 1):
        held[shift:] = np.maximum(held[shift:], loud[:-shift])
    window = np.hanning(11)[1:-1]
    smooth = np.convolve(held, window / window.sum(), 'same')
    return smooth[np.arange(len(samples) * _FPS // _RATE_HZ) * 4]


@dataclasses.dataclass(frozen=True)
class Mouth:
    """
    A learned mouth.

    Attributes:
        network: features to mouth channels.
        mean, deviation: of the features.
    """

    network: nn.Module
    mean: torch.Tensor
    deviation: torch.Tensor

    def speak(self, samples: np.ndarray) -> np.ndarray:
        """Move to a clean voice: float `[n]` at 16 kHz -> `[F, C]`, `MOUTH_NAMES`, 0 to 1."""
        if len(samples) < 1600 or np.abs(samples).max() < 1e-3:
            return np.zeros((len(samples) * _FPS // _RATE_HZ, len(MOUTH_NAMES)), np.float32)
        features = (torch.from_numpy(hear(samples)) - self.mean) / self.deviation
        with torch.no_grad():
            mouth = self.network(features).clamp(0, 1).numpy()
        return (mouth * sounding(samples)[:, None]).astype(np.float32)


def _make_network(n_features: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(n_features, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU(),
        nn.Linear(_HIDDEN, len(MOUTH_NAMES)),
    )  # fmt: skip


def learn_mouth(
    recordings: list[Recording],
    seed: int = 0,
    n_steps: int = 3000,
    cache: pathlib.Path | None = None,
) -> Mouth:
    """
    Learn the mouth from recordings with a filmed one.

    Each recording is heard at five sizes of the vocal tract (0.8 to 1.25, its mouth moving as much
    faster), features get a random tilt and a little noise; squared error, each channel weighted by
    1 / (deviation + 0.05).

    Args:
        recordings: with mouths.
        seed: of weights and draws.
        n_steps: of Adam, 256 frames each.
        cache: folder where the weights of the same recordings are kept.
    """
    key = hashlib.sha256(f'{seed} {n_steps} {__doc__}'.encode())
    for recording in recordings:
        key.update(recording.samples.tobytes() + recording.mouth.tobytes())
    path = None if cache is None else pathlib.Path(cache) / f'mouth_{key.hexdigest()[:16]}.pt'
    if path is not None and path.is_file():
        kept = torch.load(path, weights_only=True)
        network = _make_network(len(kept['mean']))
        network.load_state_dict(kept['network'])
        return Mouth(network, kept['mean'], kept['deviation'])
    features, mouths = [], []
    for recording in recordings:
        for size in _SIZES:
            heard = hear(soxr.resample(recording.samples, _RATE_HZ * size, _RATE_HZ))
            place = np.arange(len(heard)) * size
            grid = np.arange(len(recording.mouth))
            moving = np.stack([np.interp(place, grid, c) for c in recording.mouth.T], 1)
            features.append(heard)
            mouths.append(moving.astype(np.float32))
    x, y = torch.from_numpy(np.concatenate(features)), torch.from_numpy(np.concatenate(mouths))
    mean, deviation = x.mean(0), x.std(0) + 0.05
    weight = 1 / (y.std(0) + 0.05)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _make_network(x.shape[1])
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps)
    slope = torch.linspace(-0.4, 0.4, _BANDS + 1)
    slope[-1] = 0
    slope = slope.repeat(2 * _REACH + 1)
    for _ in range(n_steps):
        rows = torch.randint(len(x), (256,), generator=generator)
        tilt = torch.randn(256, 1, generator=generator) * slope
        noise = 0.1 * torch.randn(256, x.shape[1], generator=generator)
        said = network((x[rows] + tilt - mean) / deviation + noise)
        loss = ((said - y[rows]).square() * weight).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    network.requires_grad_(False)
    if path is not None:
        kept = {'network': network.state_dict(), 'mean': mean, 'deviation': deviation}
        torch.save(kept, path)
    return Mouth(network, mean, deviation)
