# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The bench of styles: every control that weights have is asked for, and shown side by side."""

import json

import numpy as np
import pytest
import scipy.io.wavfile

from timar_ros.learn import bench, bench_style
from timar_ros.learn.figures import Answer
from timar_ros.model.checkpoint import save_checkpoint
from timar_ros.motion import get_space

RATE_HZ = 16000
ARKIT = get_space('arkit55')


@pytest.fixture
def folder(tmp_path):
    """Write a conversation of 4 s."""
    folder = tmp_path / 'clips'
    folder.mkdir()
    for seed, voice in enumerate(('user', 'agent')):
        noise = np.random.default_rng(seed).standard_normal(4 * RATE_HZ)
        pcm = (3000 * noise * np.sin(np.arange(len(noise)) / 2000) ** 2).astype(np.int16)
        scipy.io.wavfile.write(folder / f'talk_{voice}.wav', RATE_HZ, pcm)
    return folder


def test_weights_are_asked_for_the_controls_that_they_have(make_config):
    plain = bench_style.style_variants(make_config('banded', style=False, personas=()))
    able = bench_style.style_variants(make_config('banded', style=True, personas=('ada', 'bo')))

    assert [variant.title for variant in plain] == ['gain 0.5', 'gain 1.5']
    assert {'happy 1', 'attitude -1', 'gain 1.5', 'ada', 'bo'} <= {v.title for v in able}
    assert next(v for v in able if v.title == 'bo').style.persona == 'bo'


def test_each_style_has_a_column_and_the_gain_moves_the_head_as_it_says(
    folder, tmp_path, make_model
):
    path = tmp_path / 'styled.safetensors'
    changes = {'cache': 'banded', 'level': 'causal', 'style': True, 'personas': ('ada', 'bo')}
    save_checkpoint(path, make_model(is_stub=False, **changes))
    arguments = [folder, '--checkpoint', path, '--out', tmp_path / 'out', '--short']
    arguments += ['--styles', 1, '--timing', 'reactive', '--processes', 1]

    assert bench.main([str(argument) for argument in arguments]) == 0

    lines = json.loads((tmp_path / 'out' / 'bench.json').read_text())['styles']
    titles = lines[0][1:]
    speeds = dict(
        zip(titles, map(float, next(x for x in lines if 'p50' in x[0])[1:]), strict=True)
    )
    assert titles[0] == 'model'
    assert {'happy 1', 'attitude 1', 'ada', 'bo'} <= set(titles)
    assert speeds['gain 0.5'] < speeds['model'] < speeds['gain 1.5']
    assert speeds['ada'] != speeds['bo']
    assert '| | model | happy 0.5 |' in (tmp_path / 'out' / 'bench.md').read_text().replace(
        '|  |', '| |'
    )


def test_a_smile_is_the_mean_of_its_channels():
    motion = np.zeros((50, 55), np.float32)
    motion[:, ARKIT.index('mouthSmileLeft')] = 0.2
    motion[:, ARKIT.index('mouthSmileRight')] = 0.4
    nobody = np.zeros(0, np.float32)

    figures = bench_style.face_figures(Answer(ARKIT, 25, 25, 0, motion, nobody, nobody))

    assert figures['smile'] == pytest.approx(0.3)
    assert figures['brows_up'] == 0.0
