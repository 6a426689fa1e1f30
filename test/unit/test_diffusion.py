# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The diffusion against docs/model.md §4, written out one number at a time."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from timar_ros.config import PRESETS
from timar_ros.model.denoiser import TimestepEmbedding
from timar_ros.model.diffusion import DiffusionHead, Schedule, cosine_alpha_bar, noise_scale
from timar_ros.motion import get_space

_M, _D = 6, 8
_GROUPS = [slice(0, 3), slice(3, 4), slice(4, 6)]


def _head(n_blocks=2):
    torch.manual_seed(0)
    head = DiffusionHead(_M, _D, 12, n_blocks, _GROUPS).double().requires_grad_(False)
    for parameter in head.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    return head


def _denoise(head, x, t, context):
    """Denoise rows at one step, on its own."""
    t = torch.full((len(x),), t)
    return head.net(x, head.net.modulate(t, head.net.cond_embed(context)))


def _randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _alpha_bar(t):
    """ᾱ of step t, by the product of capped betas."""

    def curve(u):
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    product = 1.0
    for i in range(t + 1):
        product *= 1 - min(1 - curve((i + 1) / 1000) / curve(i / 1000), 0.999)
    return product


@pytest.mark.parametrize('t', [0, 1, 250, 500, 749, 998, 999])
def test_alpha_bar_is_the_capped_cosine(t):
    assert cosine_alpha_bar()[t] == pytest.approx(_alpha_bar(t), rel=1e-12)


def test_five_steps_are_the_published_ones():
    assert Schedule.respaced(5).timesteps.tolist() == [0, 250, 500, 749, 999]


@pytest.mark.parametrize('steps', [2, 3, 5, 50])
def test_a_subset_reaches_the_noise_of_the_thousand_steps(steps):
    schedule = Schedule.respaced(steps)

    by_product = np.cumprod(1.0 - schedule.beta)

    np.testing.assert_allclose(by_product, cosine_alpha_bar()[schedule.timesteps], rtol=1e-7)


def test_the_posterior_mean_of_clean_motion_without_noise_is_that_of_the_step_before():
    # x_t = sqrt(ᾱ_t) x0 exactly: then the mean of x_{t-1} is sqrt(ᾱ_{t-1}) x0.
    schedule = Schedule.respaced(5)

    previous = np.append(1.0, schedule.alpha_bar[:-1])
    mean = schedule.mean_x0 + schedule.mean_x * np.sqrt(schedule.alpha_bar)

    np.testing.assert_allclose(mean, np.sqrt(previous), rtol=1e-9)


def test_the_first_variance_bound_takes_the_value_of_the_second():
    schedule = Schedule.respaced(5)

    assert schedule.log_beta_tilde[0] == schedule.log_beta_tilde[1]
    assert np.all(schedule.log_beta_tilde[1:] < schedule.log_beta[1:])


def _naive_loss(head, target, context, t, noise, mask):
    """One row, one channel after another."""
    schedule = Schedule(np.arange(1000))
    alpha_bar = float(schedule.alpha_bar[t])
    noisy = [math.sqrt(alpha_bar) * x + math.sqrt(1 - alpha_bar) * e
             for x, e in zip(target.tolist(), noise.tolist(), strict=True)]  # fmt: skip
    x0, logits = _denoise(head, torch.tensor([noisy], dtype=torch.float64), t, context[None])
    x0, logits = x0[0].tolist(), logits[0].tolist()
    mse = 0.0
    for group in _GROUPS:
        channels = [c for c in range(_M)[group] if mask[c]]
        mse += sum((target[c].item() - x0[c]) ** 2 for c in channels) / max(len(channels), 1)
    previous = float(schedule.alpha_bar[t - 1]) if t else 1.0
    beta = 1 - alpha_bar / previous
    beta_tilde = beta * (1 - previous) / (1 - alpha_bar)
    if t == 0:
        first, second = float(schedule.alpha_bar[0]), float(schedule.alpha_bar[1])
        beta_tilde = (1 - second / first) * (1 - first) / (1 - second)

    def cdf(x):
        return 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    bits = []
    for c in range(_M):
        if not mask[c]:
            continue
        x = target[c].item()
        f = (logits[c] + 1) / 2
        log_variance = f * math.log(beta) + (1 - f) * math.log(beta_tilde)
        a = beta * math.sqrt(previous) / (1 - alpha_bar)
        b = (1 - previous) * math.sqrt(1 - beta) / (1 - alpha_bar)
        ours = a * x0[c] + b * noisy[c]
        if t == 0:
            sigma = math.exp(0.5 * log_variance)
            up, low = cdf((x - ours + 1 / 255) / sigma), cdf((x - ours - 1 / 255) / sigma)
            share = up if x < -0.999 else 1 - low if x > 0.999 else up - low
            nats = -math.log(max(share, 1e-12))
        else:
            true = a * x + b * noisy[c]
            nats = 0.5 * (
                log_variance - math.log(beta_tilde) - 1
                + (beta_tilde + (true - ours) ** 2) / math.exp(log_variance)
            )  # fmt: skip
        bits.append(nats / math.log(2))
    vb = sum(bits) / max(len(bits), 1)
    return mse, vb


@pytest.mark.parametrize('is_masked', [False, True])
def test_the_loss_of_each_row_is_the_formula(is_masked):
    head, steps = _head(), [0, 0, 0, 1, 2, 137, 500, 998, 999]
    R = len(steps)
    target, context, noise = _randn(R, _M), _randn(R, _D, seed=1), _randn(R, _M, seed=2)
    target[0, :2] = torch.tensor([-1.5, 1.5])  # beyond the range of the discretised likelihood
    mask = torch.ones(R, _M, dtype=torch.bool)
    if is_masked:
        mask[::2, 1] = mask[::2, 3] = False  # 3 is a group of its own

    parts = head.loss(target, context, torch.tensor(steps), noise, mask if is_masked else None)

    for r, t in enumerate(steps):
        mse, vb = _naive_loss(head, target[r], context[r], t, noise[r], mask[r].tolist())
        assert parts['mse'][r].item() == pytest.approx(mse, rel=1e-6), f't = {t}'
        assert parts['vb'][r].item() == pytest.approx(vb, rel=1e-6), f't = {t}'
        assert parts['loss'][r].item() == pytest.approx(mse + vb, rel=1e-6), f't = {t}'


def test_the_bound_trains_the_variance_only():
    head = _head()
    target, context, noise = _randn(4, _M), _randn(4, _D), _randn(4, _M, seed=2)
    linear = head.net.final_layer.linear.weight.requires_grad_()

    head.loss(target, context, torch.tensor([0, 3, 500, 999]), noise)['vb'].sum().backward()

    assert linear.grad[:_M].abs().max() == 0.0
    assert linear.grad[_M:].abs().min() > 0.0


@pytest.mark.parametrize(('temperature', 'cfg_scale'), [(1.0, 1.0), (0.5, 1.0), (1.0, 2.0)])
@pytest.mark.parametrize('steps', [2, 5])
def test_sampling_is_the_ancestral_loop(steps, temperature, cfg_scale):
    head, R = _head(), 3
    context, null = _randn(R, _D), _randn(R, _D, seed=1)
    noise = _randn(steps + 1, R, _M, seed=2)
    guided = null if cfg_scale != 1.0 else None

    drawn = head.sample(context, noise.float(), steps, temperature, guided, cfg_scale)

    schedule = Schedule.respaced(steps)
    for r in range(R):
        x = noise[0, r : r + 1]
        for draw, i in enumerate(range(steps - 1, -1, -1), start=1):
            t = int(schedule.timesteps[i])
            x0, logits = _denoise(head, x, t, context[r : r + 1])
            if guided is not None:
                nobody, _ = _denoise(head, x, t, null[r : r + 1])
                x0 = nobody + cfg_scale * (x0 - nobody)
            before = schedule.alpha_bar[i - 1] if i else 1.0
            beta = 1 - schedule.alpha_bar[i] / before
            x = (beta * math.sqrt(before) * x0 + (1 - before) * math.sqrt(1 - beta) * x) / (
                1 - schedule.alpha_bar[i]
            )
            f = (logits + 1) / 2
            log_variance = f * schedule.log_beta[i] + (1 - f) * schedule.log_beta_tilde[i]
            if i:
                x = x + temperature * torch.exp(log_variance / 2) * noise[draw, r : r + 1]
        torch.testing.assert_close(drawn[r].double(), x[0], rtol=0, atol=1e-5)


def test_the_last_draw_and_temperature_zero_leave_the_noise_unused():
    head, context, noise = _head(), _randn(3, _D), _randn(6, 3, _M, seed=2).float()
    unused, steps = noise.clone(), noise.clone()
    unused[5] = float('nan')
    steps[1:] = 7.0

    assert torch.equal(head.sample(context, unused, 5), head.sample(context, noise, 5))
    assert torch.equal(head.sample(context, steps, 5, 0.0), head.sample(context, noise, 5, 0.0))
    assert not torch.equal(head.sample(context, steps, 5), head.sample(context, noise, 5))


def test_steps_modulated_at_once_are_modulated_as_one_by_one():
    net, context = _head().net, _randn(3, 12)
    steps = torch.tensor([0, 250, 999])

    at_once = net.modulate(steps[:, None], context)

    for i, t in enumerate(steps):
        alone = net.modulate(t.repeat(3), context)
        for layer, modulation in enumerate(alone):
            torch.testing.assert_close(at_once[layer][i], modulation, rtol=0, atol=1e-12)


def test_a_fresh_head_is_the_identity_of_its_modulation():
    head = DiffusionHead(_M, _D, 12, 2, _GROUPS)

    x0, logits = _denoise(head, torch.randn(3, _M), 5, torch.randn(3, _D))

    assert x0.abs().max() == 0.0 and logits.abs().max() == 0.0


def test_a_diffusion_step_is_embedded_as_cosines_then_sines():
    embedding = TimestepEmbedding(8)
    seen = []
    embedding.mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    embedding(torch.tensor([0, 750]))

    for row, t in enumerate((0, 750)):
        angles = [t * math.exp(-math.log(10000) * i / 128) for i in range(128)]
        expected = [math.cos(a) for a in angles] + [math.sin(a) for a in angles]
        np.testing.assert_allclose(seen[0][row], expected, rtol=0, atol=1e-4)


def test_a_bound_on_the_variance_stops_frames_that_fly_off_and_changes_no_others():
    rng = torch.Generator().manual_seed(5)
    head = DiffusionHead(4, 8, 16, 1, [slice(0, 4)])
    context = torch.randn((6, 8), generator=rng)
    noise = torch.randn((6, 6, 4), generator=rng)

    with torch.no_grad():
        usual = [head.sample(context, noise, 5, variance_bound=bound) for bound in (0.0, 1.0)]
        head.net.final_layer.linear.bias[4:] = 60.0  # a logit as over-confident weights have it
        free, bound = (head.sample(context, noise, 5, variance_bound=b) for b in (0.0, 1.0))

    torch.testing.assert_close(usual[0], usual[1], rtol=0, atol=0)
    assert not free.isfinite().all() or free.abs().max() > 1e3
    assert bound.abs().max() < 10


def test_a_channel_may_have_its_own_noise_scale():
    lid = get_space('arkit55').index('eyeBlinkLeft')
    config = dataclasses.replace(
        PRESETS['mini'], noise_scale=0.3, noise_scales={'eyeBlinkLeft': 1.5}
    )

    scale = noise_scale(config, torch.device('cpu'))

    assert scale.shape == (55,)
    assert scale[lid] == 1.5
    assert torch.equal(scale[torch.arange(55) != lid], torch.full((54,), 0.3))


def test_noise_is_scaled_channel_by_channel():
    head, context, noise = _head(), _randn(4, _D), _randn(3, 4, _M, seed=1)
    scale = torch.tensor([0.3, 0.3, 1.5, 0.3, 0.0, 0.3], dtype=torch.float64)
    scaled = torch.cat([noise[:1], noise[1:] * scale])

    drawn = head.sample(context, noise.float(), 2, scale.float())

    expected = head.sample(context, scaled.float(), 2)
    torch.testing.assert_close(drawn, expected, rtol=0, atol=1e-5)
    assert (drawn - head.sample(context, noise.float(), 2, 0.3)).abs().max() > 0.01
