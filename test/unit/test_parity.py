# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Our model is the published one, on vectors of the published implementation; others are not."""

import json
import pathlib
import shutil
import sys

import numpy as np
import pytest
import torch

from timar_ros import parity

_REFERENCE = pathlib.Path(__file__).parents[1] / 'reference'


@pytest.fixture
def folder(tmp_path):
    """Return a copy of the reference folder, without metrics, which take longest."""
    copy = tmp_path / 'reference'
    shutil.copytree(_REFERENCE, copy, ignore=shutil.ignore_patterns('metrics.*'))
    for path in copy.rglob('*'):
        path.chmod(0o755)
    return copy


def _change_weights(folder, change):
    content = torch.load(folder / 'TIMAR.pth', weights_only=False)  # our own, known file
    change(content)
    torch.save(content, folder / 'TIMAR.pth')


def _keep_modes(folder, *names):
    config = json.loads((folder / 'config.json').read_text())
    config['modes'] = {name: config['modes'][name] for name in names}
    (folder / 'config.json').write_text(json.dumps(config))


def test_every_item_agrees_with_the_published_implementation():
    items = dict(parity.compare(_REFERENCE))

    modes = ('paper', 'history', 'iterative', 'context2', 'cool', 'cfg')
    wanted = {'speech_tokens_turn0', *(f'{mode}/motion' for mode in modes)}
    wanted |= {'loss/mse', 'loss/vb', 'loss/loss'}
    assert wanted <= set(items)
    if sys.version_info < (3, 11):  # the k-means of older scikit-learn starts elsewhere
        items = {name: value for name, value in items.items() if 'sid' not in name}
    far = {name: difference for name, difference in items.items() if not difference <= 1e-4}
    assert far == {}


def test_the_command_prints_a_line_an_item_and_succeeds(folder, capsys):
    _keep_modes(folder, 'paper', 'iterative')

    assert parity.main([str(folder)]) == 0

    printed = capsys.readouterr()
    verdict = printed.err.strip().split('\n')[-1]
    assert verdict.startswith('largest ') and verdict.endswith(', bound 1e-04: equal')
    lines = printed.out.strip().split('\n')
    assert [line.split()[0] for line in lines] == [
        'speech_tokens_turn0', 'paper/motion', 'iterative/motion', 'loss/mse', 'loss/vb',
        'loss/loss',
    ]  # fmt: skip
    assert all(float(line.split()[1]) <= 1e-4 for line in lines)


@pytest.mark.parametrize(
    'name',
    ['encoder_blocks.1.mlp.fc2.weight', 'encoder_pos_embed_learned', 'fake_latent',
     'diffloss.net.res_blocks.0.in_ln.bias', 'speech_projection.bias'],
)  # fmt: skip
def test_a_changed_weight_is_noticed(folder, name, capsys):
    _keep_modes(folder, 'cfg')

    def change(content):
        content['model_ema'][name].view(-1)[5] += 0.3

    _change_weights(folder, change)

    assert parity.main([str(folder)]) == 1
    printed = capsys.readouterr()
    assert printed.err.strip().endswith(': different')
    lines = printed.out.strip().split('\n')
    values = [float(line.split()[1]) for line in lines]
    assert max(values) > 1e-4


def test_the_evaluated_weights_are_the_averaged_ones(folder):
    _keep_modes(folder, 'paper')

    def change(content):
        for tensor in content['model'].values():
            tensor.zero_()

    _change_weights(folder, change)

    assert parity.main([str(folder)]) == 0


def test_nan_and_missing_frames_count_as_failure(folder, capsys):
    _keep_modes(folder, 'paper')
    with np.load(folder / 'outputs.npz') as outputs:
        arrays = dict(outputs)
    arrays['paper/motion'] = arrays['paper/motion'][:-1]
    np.savez(folder / 'outputs.npz', **arrays)

    assert parity.main([str(folder)]) == 1
    assert 'paper/motion inf' in capsys.readouterr().out

    _change_weights(folder, lambda content: content['model_ema']['z_proj.bias'].fill_(np.nan))
    assert parity.main([str(folder)]) == 1


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_types_are_reported_not_judged(folder, dtype, capsys):
    _keep_modes(folder, 'paper')

    assert parity.main([str(folder), '--dtype', dtype]) == 0

    line = capsys.readouterr().out.split('\n')[1]
    assert line.startswith('paper/motion') and 1e-4 < float(line.split()[1]) < 1.0


def test_an_incomplete_folder_is_refused(folder, capsys):
    (folder / 'inputs.npz').unlink()

    assert parity.main([str(folder)]) == 1
    assert "missing ['inputs.npz']" in capsys.readouterr().err


def test_a_mode_that_we_do_not_have_is_refused(folder, capsys):
    config = json.loads((folder / 'config.json').read_text())
    config['modes'] = {'odd': {'num_iter': 3, 'mask_history_agent': True, 'use_random_orders': 1}}
    (folder / 'config.json').write_text(json.dumps(config))

    assert parity.main([str(folder)]) == 1
    assert 'mode odd: expected only' in capsys.readouterr().err
