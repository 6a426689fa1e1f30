# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which type weights run in, and that the smaller one moves the head alike."""

import numpy as np
import pytest
import torch

from timar_ros.config import TimingConfig
from timar_ros.learn.offline import answer_recording
from timar_ros.learn.recording import read_wav
from timar_ros.learn.share import SHIPPED_CHECKPOINT, find_shared
from timar_ros.model import precision
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.stream.conversation import Conversation


@pytest.mark.parametrize(
    ('flags', 'device', 'dtype'),
    [
        ({'avx2', 'avx512_bf16'}, 'cpu', torch.bfloat16),
        ({'avx2', 'amx_bf16'}, 'cpu', torch.bfloat16),
        ({'avx2', 'avx512f'}, 'cpu', torch.float32),
        (set(), 'cpu', torch.float32),
        ({'avx512_bf16'}, 'cuda:0', torch.float32),
    ],
)
def test_auto_is_bfloat16_where_the_cpu_multiplies_in_it(monkeypatch, flags, device, dtype):
    monkeypatch.setattr(precision, '_cpu_flags', lambda: flags)

    assert precision.find_dtype('auto', device) == dtype


def test_a_type_that_is_named_is_taken_at_its_word(monkeypatch):
    monkeypatch.setattr(precision, '_cpu_flags', lambda: {'avx512_bf16'})

    assert precision.find_dtype('float32', 'cpu') == torch.float32
    with pytest.raises(ValueError, match="dtype must be auto or one of .* got 'int8'"):
        precision.find_dtype('int8', 'cpu')


def test_the_shipped_head_moves_alike_in_either_type():
    voices, moved = {}, {}
    for voice in ('user', 'agent'):
        samples, rate_hz = read_wav(find_shared(f'config/demo/{voice}.wav'))
        voices[voice] = samples[: 6 * rate_hz, 0], rate_hz
    for dtype in ('float32', 'bfloat16'):
        model = load_checkpoint(find_shared(SHIPPED_CHECKPOINT), dtype=dtype)
        moved[dtype] = answer_recording(Conversation(model, TimingConfig(), seed=0), voices)

    neck = model.space.neck
    apart_deg = np.rad2deg(np.abs(moved['float32'] - moved['bfloat16'])[:, neck])
    assert np.rad2deg(np.ptp(moved['float32'][:, neck], axis=0)).max() > 1.0, 'it moves'
    # A frame of a quick turn may come out nearer to the one before it or the one after.
    assert apart_deg.max() < 2.0
    assert np.percentile(apart_deg, 95) < 0.2
    assert np.median(apart_deg) < 0.05


@pytest.mark.parametrize(
    ('device', 'reason'),
    [
        ('tpu', "device must be cpu, cuda or cuda:1, got 'tpu'"),
        ('cuda:x', "device must be cpu, cuda or cuda:1, got 'cuda:x'"),
        ('', "device must be cpu, cuda or cuda:1, got ''"),
        ('cuda:99', "device must be there, got 'cuda:99' where torch finds"),
    ],
)
def test_a_device_that_is_not_there_is_refused_in_one_sentence(device, reason):
    with pytest.raises(ValueError, match=reason):
        load_checkpoint(find_shared(SHIPPED_CHECKPOINT), device)
