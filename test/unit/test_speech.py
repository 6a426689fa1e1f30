# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Speech encoders: one feature a frame, local or causal as they claim, in every type."""

import json
import math
import pathlib

import numpy as np
import pytest
import torch

from timar_ros.model.speech import LogMelSpeech, Wav2Vec2Speech, mel_filters

_WAV2VEC2 = pathlib.Path(__file__).parents[1] / 'reference' / 'wav2vec2' / 'config.json'


def _wav2vec2(n_frames=25, **changes):
    torch.manual_seed(0)
    return Wav2Vec2Speech({**json.loads(_WAV2VEC2.read_text()), **changes}, n_frames)


def _logmel(width=16):
    torch.manual_seed(0)
    return LogMelSpeech(width, 12, 16000, 640).requires_grad_(False)


def _audio(n=16000, batch=2):
    return torch.randn((batch, n), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(('n_samples', 'n_frames'), [(16000, 25), (2560, 4), (32000, 50)])
def test_there_is_one_feature_for_each_motion_frame(n_samples, n_frames):
    audio = _audio(n_samples)

    assert _logmel()(audio).shape == (2, n_frames, 16)
    assert _wav2vec2(n_frames)(audio).shape == (2, n_frames, 48)


def test_a_logmel_feature_depends_on_no_later_sample():
    encoder, audio = _logmel(), _audio()
    features = encoder(audio)

    for frame in (0, 7, 24):
        later = audio.clone()
        later[:, (frame + 1) * 640 :] += 5.0
        earlier = audio.clone()
        earlier[:, frame * 640 : (frame + 1) * 640] += 5.0

        assert torch.equal(encoder(later)[:, : frame + 1], features[:, : frame + 1])
        assert (encoder(earlier)[:, frame] - features[:, frame]).abs().max() > 1e-3


def test_mel_energies_are_those_of_a_naive_loop():
    encoder, audio = _logmel(), _audio(1280, 1)
    n_fft, size, hop = 512, 400, 160
    filters = mel_filters(12, n_fft, 16000).numpy()
    samples = np.concatenate([np.zeros(size - hop), audio[0].numpy()])
    window = [0.5 - 0.5 * math.cos(2 * math.pi * i / (size - 1)) for i in range(size)]
    expected = []
    for i in range(8):
        spectrum = np.fft.rfft(samples[i * hop : i * hop + size] * window, n_fft)
        power = np.abs(spectrum) ** 2 / size
        expected.append(np.log(power @ filters + 1e-4) / 4)

    np.testing.assert_allclose(encoder.convolve(audio)[0], expected, rtol=0, atol=1e-5)


def test_mel_filters_are_triangles_of_peak_one_on_the_mel_scale():
    filters = mel_filters(10, 4096, 16000)
    top = 2595 * math.log10(1 + 8000 / 700)

    for band in range(10):
        centre_hz = 700 * (10 ** (top * (band + 1) / 11 / 2595) - 1)
        bin_hz = 16000 / 4096
        assert abs(filters[:, band].argmax() * bin_hz - centre_hz) <= bin_hz
        assert 0.9 < filters[:, band].max() <= 1.0


def test_a_tone_is_heard_in_the_band_around_it():
    encoder = LogMelSpeech(8, 40, 16000, 640)
    t = torch.arange(16000) / 16000
    for frequency_hz in (300, 1000, 3000):
        energies = encoder.convolve(torch.sin(2 * math.pi * frequency_hz * t)[None])[0, 10]

        mel = 2595 * math.log10(1 + frequency_hz / 700)
        band = mel / (2595 * math.log10(1 + 8000 / 700)) * 41 - 1
        assert abs(int(energies.argmax()) - band) < 1.0


def test_silence_is_finite():
    silence = torch.zeros(1, 16000)

    for encoder in (_logmel(), _wav2vec2()):
        assert encoder(silence).isfinite().all()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_types_hear_nearly_the_same(dtype):
    audio = _audio()
    for make in (_logmel, _wav2vec2):
        full = make()(audio)

        half = make().to(dtype)(audio)

        assert half.dtype == dtype
        torch.testing.assert_close(half.float(), full, rtol=0, atol=0.25)


def test_convolutions_with_layer_norm_are_local_and_with_group_norm_are_not():
    local, whole = _wav2vec2(), _wav2vec2(feat_extract_norm='group', do_stable_layer_norm=False)
    assert local.is_local and not whole.is_local
    assert (local.hop, local.receptive_field) == (320, 400)
    audio = _audio()

    frames = local.convolve(audio)
    for first, end in ((0, 1), (3, 10), (48, 49)):
        part = local.convolve(audio[:, first * 320 : (end - 1) * 320 + 400])
        torch.testing.assert_close(part, frames[:, first:end], rtol=0, atol=1e-5)


def test_the_foreign_encoder_stays_frozen_and_in_evaluation_mode():
    encoder = _wav2vec2(hidden_dropout=0.5).train()
    audio = _audio()

    assert not any(module.training for module in encoder.modules())
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    assert torch.equal(encoder(audio), encoder(audio))


def test_frames_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match='samples_per_frame must be a multiple of 4, got 642'):
        LogMelSpeech(16, 12, 16000, 642)
