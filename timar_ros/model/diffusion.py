# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The diffusion: noise schedule, training loss, and sampling in a few of the thousand steps.

Predicts clean motion (x0) and learns its variance. Formulas: docs/model.md §4.
"""

import math

import numpy as np
import torch
from torch import nn

from timar_ros.config import TimarConfig
from timar_ros.model.denoiser import Denoiser
from timar_ros.motion import get_space

N_STEPS = 1000
_BIN = 1.0 / 255.0  # half-width of the bins of the discretised likelihood


def cosine_alpha_bar(n_steps: int = N_STEPS) -> np.ndarray:
    """Return ᾱ(t) of the capped cosine schedule, float64 `[n_steps]`."""

    def curve(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - curve((t + 1) / n_steps) / curve(t / n_steps), 0.999) for t in range(n_steps)]
    return np.cumprod(1.0 - np.array(betas))


class Schedule:
    """
    Coefficients of the diffusion on a subset of the thousand steps.

    Attributes (float64 `[n]`, in the order of `timesteps`, which ascend):
        timesteps: int, what the network is told.
        alpha_bar, beta: of the subset.
        mean_x0, mean_x: q(x_{t-1} | x_t, x0) has mean `mean_x0 x0 + mean_x x_t`.
        log_beta, log_beta_tilde: the bounds of the learned log variance.
    """

    def __init__(self, timesteps: np.ndarray):
        self.timesteps = timesteps
        self.alpha_bar = cosine_alpha_bar()[timesteps]
        previous = np.append(1.0, self.alpha_bar[:-1])
        self.beta = 1.0 - self.alpha_bar / previous
        self.mean_x0 = self.beta * np.sqrt(previous) / (1.0 - self.alpha_bar)
        self.mean_x = (1.0 - previous) * np.sqrt(1.0 - self.beta) / (1.0 - self.alpha_bar)
        beta_tilde = self.beta * (1.0 - previous) / (1.0 - self.alpha_bar)
        beta_tilde[0] = beta_tilde[1]  # β̃ of the first step is 0 and has no logarithm
        self.log_beta = np.log(self.beta)
        self.log_beta_tilde = np.log(beta_tilde)

    @classmethod
    def respaced(cls, n_steps: int) -> 'Schedule':
        """Keep `n_steps` of the thousand, t_i = round(i·999/(n-1))."""
        return cls(np.round(np.arange(n_steps) * (N_STEPS - 1) / (n_steps - 1)).astype(np.int64))


def _normal_cdf(x: torch.Tensor) -> torch.Tensor:
    # The tanh approximation belongs to the published loss; erf differs in the fourth digit.
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _discretised_nll(x, mean, log_sigma) -> torch.Tensor:
    """-log likelihood of x under a Gaussian integrated over bins of ±1/255, in nats."""
    inverse = torch.exp(-log_sigma)
    upper = _normal_cdf((x - mean + _BIN) * inverse)
    lower = _normal_cdf((x - mean - _BIN) * inverse)
    probability = torch.where(
        x < -0.999, upper, torch.where(x > 0.999, 1.0 - lower, upper - lower)
    )
    return -torch.log(probability.clamp(min=1e-12))


def draw_diffusion(
    generator: torch.Generator | list[torch.Generator] | None,
    rows: torch.Tensor,
    repeat: int,
    shape: tuple[int, int, int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """
    Draw the diffusion steps and the noise of some frames, each of them `repeat` times.

    Args:
        generator: on the device of `rows`; or one for each window, on the CPU: then a window's
            are the same in whatever batch it is.
        rows: int64 `[r]`, the frames wanted, counted over all windows.
        repeat: how often each is diffused.
        shape: windows, frames a window, channels.

    Returns:
        steps int64 `[repeat · r]` of 0..999 and noise `[repeat · r, M]`.
    """
    _, n_frames, n_channels = shape
    if not isinstance(generator, list):
        n = repeat * len(rows)
        timestep = torch.randint(N_STEPS, (n,), generator=generator, device=rows.device)
        noise = torch.randn((n, n_channels), generator=generator, device=rows.device)
        return timestep, noise
    steps = [torch.randint(N_STEPS, (repeat, n_frames), generator=own) for own in generator]
    noises = [torch.randn((repeat, n_frames, n_channels), generator=own) for own in generator]
    wanted = rows.cpu()
    timestep = torch.cat(steps, 1)[:, wanted].flatten()
    noise = torch.cat(noises, 1)[:, wanted].flatten(0, 1)
    return timestep.to(rows.device), noise.to(rows.device)


class DiffusionHead(nn.Module):
    """
    Draw motion frames given the transformer's output, and learn to.

    Args:
        n_channels: M.
        context_width: D.
        width, n_blocks: of the denoiser.
        groups: slices of the channels; a row's loss adds the groups' mean squared errors.
    """

    def __init__(self, n_channels, context_width, width, n_blocks, groups):
        super().__init__()
        self.net = Denoiser(n_channels, context_width, width, n_blocks)
        self.groups = list(groups)
        self._full = Schedule(np.arange(N_STEPS))
        self._respaced: dict[int, Schedule] = {}

    def _modulate(self, timestep, context) -> list[torch.Tensor]:
        embedded = self.net.cond_embed(context.to(self.net.cond_embed.weight.dtype))
        return self.net.modulate(timestep, embedded)

    def _denoise(self, x, modulations) -> tuple[torch.Tensor, torch.Tensor]:
        # Motion and loss stay float32: a frame rounded to a half type would be seen as jitter.
        x0, logits = self.net(x.to(modulations[0].dtype), modulations)
        return x0.float(), logits.float()

    def loss(self, target, context, timestep, noise, channel_mask=None, group_weight=None) -> dict:
        """
        Compute the training loss of rows.

        Args:
            target: clean motion `[R, M]`.
            context: transformer output `[R, D]`.
            timestep: int64 `[R]`, 0..999.
            noise: `[R, M]`.
            channel_mask: bool `[R, M]`, True = this channel has data; None = all have.
            group_weight: of each group's squared error; None = 1.

        Returns:
            'mse', 'vb' (bits) and their sum 'loss', each `[R]`.
        """
        R, M = target.shape

        def at(values):
            column = torch.as_tensor(values, dtype=target.dtype, device=target.device)
            return column[timestep][:, None]  # [R, 1]

        alpha_bar = at(self._full.alpha_bar)
        noisy = alpha_bar.sqrt() * target + (1 - alpha_bar).sqrt() * noise
        x0, logits = self._denoise(noisy, self._modulate(timestep, context))
        weight = torch.ones_like(target) if channel_mask is None else channel_mask.to(target.dtype)

        def mean(values, group=slice(None)):
            part = weight[:, group]
            return (values[:, group] * part).sum(-1) / part.sum(-1).clamp(min=1.0)

        group_weight = group_weight or [1.0] * len(self.groups)
        mse = sum(
            part * mean((target - x0) ** 2, group)
            for part, group in zip(group_weight, self.groups, strict=True)
        )
        mean_x0, mean_x = at(self._full.mean_x0), at(self._full.mean_x)
        true_mean = mean_x0 * target + mean_x * noisy
        our_mean = mean_x0 * x0.detach() + mean_x * noisy  # the bound trains the variance only
        low, high = at(self._full.log_beta_tilde), at(self._full.log_beta)
        fraction = (logits + 1) / 2
        log_variance = fraction * high + (1 - fraction) * low
        divergence = 0.5 * (
            -1.0
            + log_variance
            - low
            + torch.exp(low - log_variance)
            + (true_mean - our_mean) ** 2 * torch.exp(-log_variance)
        )
        nll = _discretised_nll(target, our_mean, 0.5 * log_variance)
        vb = mean(torch.where(timestep[:, None] == 0, nll, divergence)) / math.log(2.0)
        return {'mse': mse, 'vb': vb, 'loss': mse + vb}

    def sample(
        self,
        context,
        noise,
        steps,
        temperature=1.0,
        null_context=None,
        cfg_scale=1.0,
        variance_bound=0.0,
    ):
        """
        Draw motion by ancestral sampling.

        Args:
            context: transformer output `[R, D]`.
            noise: standard normal `[steps + 1, R, M]`; the first is x_T, then one a step from
                t = 999 down; the last is not used.
            steps: denoising steps.
            temperature: scales the noise of the steps; a number, or `[M]`.
            null_context: context without the user, for guidance.
            cfg_scale: guidance w.
            variance_bound: largest logit of the variance; 0 = none.

        Returns:
            motion float32 `[R, M]`.
        """
        if steps not in self._respaced:
            self._respaced[steps] = Schedule.respaced(steps)
        schedule = self._respaced[steps]
        # Filled on the device, not copied to it: a captured graph can hold it.
        timesteps = torch.stack(
            [torch.full((1,), int(t), device=context.device) for t in schedule.timesteps]
        )
        modulations = self._modulate(timesteps, context)  # of all steps at once
        null = None if null_context is None else self._modulate(timesteps, null_context)
        x = noise[0].float()
        for draw, i in enumerate(reversed(range(steps)), start=1):
            x0, logits = self._denoise(x, [m[i] for m in modulations])
            if variance_bound:
                logits = logits.clamp(-variance_bound, variance_bound)
            if null is not None:
                null_x0, _ = self._denoise(x, [m[i] for m in null])
                x0 = null_x0 + cfg_scale * (x0 - null_x0)
            x_mean = float(schedule.mean_x0[i]) * x0 + float(schedule.mean_x[i]) * x
            if i == 0:
                return x_mean
            fraction = (logits + 1) / 2
            log_variance = fraction * float(schedule.log_beta[i]) + (1 - fraction) * float(
                schedule.log_beta_tilde[i]
            )
            x = x_mean + torch.exp(0.5 * log_variance) * noise[draw] * temperature
        raise AssertionError('unreachable: the loop ends at step 0')


def noise_scale(config: TimarConfig, device: torch.device) -> torch.Tensor:
    """Return the temperature that a configuration's weights are drawn at, `[M]`."""
    # Filled on the device, as above.
    scale = torch.full((config.n_channels,), float(config.noise_scale), device=device)
    for name, own in config.noise_scales.items():
        scale[get_space(config.motion_space).index(name)] = float(own)
    return scale
