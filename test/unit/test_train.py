# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The training loop: exact resume, the recipe's rules, and that it learns."""

import copy
import dataclasses
import json
import pathlib

import numpy as np
import pytest
import torch

from timar_ros.config_file import load_yaml
from timar_ros.learn import train, training
from timar_ros.model.checkpoint import load_checkpoint, read_config
from timar_ros.model.turn import MODALITIES, slots
from timar_ros.motion import get_space

_SPACE = get_space('arkit55')
_RECIPE_FILE = pathlib.Path(__file__).parents[2] / 'config' / 'train.yaml'
_TINY = {
    'frames_per_turn': 4, 'max_turns': 3, 'speech_width': 8, 'mel_bands': 8, 'token_width': 8,
    'width': 16, 'n_layers': 1, 'n_heads': 2, 'denoiser_width': 16, 'denoiser_blocks': 1,
}  # fmt: skip
_RECIPE = {
    'steps': 4, 'batch_size': 2, 'window_turns': 3, 'warmup_steps': 2, 'checkpoint_every': 2,
    'user_part_drop': 0.5, 'agent_prefix': 0.5,
}  # fmt: skip


def _make_run(**recipe):
    return training.RunConfig(model=_TINY, train=_RECIPE | recipe, shown_noise=0.1, guide=1.0)


class _Speech:
    """Windows of noise whose agent opens the jaw as the agent's voice is loud."""

    too_short = ()

    def __init__(self, seed=0):
        self._seed = seed

    def __getitem__(self, index):
        rng = np.random.default_rng((self._seed, index))
        turns, frames, channels = 3, 4, len(_SPACE.names)
        loud = rng.random((turns, frames)) < 0.5
        voice = rng.normal(size=(turns, frames, 640)) * np.where(loud, 1.0, 0.01)[..., None]
        motion = np.zeros((turns, frames, channels))
        motion[..., _SPACE.index('jawOpen')] = loud
        seen = torch.ones(turns, frames, dtype=torch.bool)
        float32 = torch.float32
        return {
            'user_speech': torch.zeros(turns, frames * 640),
            'agent_speech': torch.from_numpy(voice).reshape(turns, -1).to(float32),
            'user_motion': torch.zeros(turns, frames, channels),
            'agent_motion': torch.from_numpy(motion).to(float32),
            'user_seen': seen,
            'is_nodding': torch.from_numpy(loud),
            'quick_neck': torch.from_numpy(loud[..., None] * np.ones(3)),
            'style': torch.zeros(turns, 8),
            'persona': torch.zeros(turns, dtype=torch.int64),
            'channel_mask': torch.arange(channels) == _SPACE.index('jawOpen'),
        }


def _statistics():
    deviation = np.full(len(_SPACE.names), 1e-3, np.float32)
    mean = np.zeros(len(_SPACE.names), np.float32)
    mean[_SPACE.index('jawOpen')] = deviation[_SPACE.index('jawOpen')] = 0.5
    return mean, deviation


def _make_training(**recipe):
    return training.Training(_make_run(**recipe), _Speech(), _statistics())


def _weights(trained):
    return {**trained.model.state_dict()}, {**trained.mean_model.state_dict()}


def test_a_resumed_run_has_the_weights_of_one_that_was_not_interrupted(tmp_path):
    whole = _make_training()
    train.fit(whole, tmp_path / 'whole')
    first = _make_training(steps=2)
    train.fit(first, tmp_path / 'parts')

    resumed = _make_training()
    train.fit(resumed, tmp_path / 'parts')

    assert resumed.step == 4
    for ours, theirs in zip(_weights(resumed), _weights(whole), strict=True):
        for name, tensor in theirs.items():
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=0, msg=name)


def test_the_same_seed_gives_the_same_weights_and_another_does_not():
    def first_weights(seed):
        made = _make_training(seed=seed)
        made.advance()
        return made.model.z_proj.weight

    torch.testing.assert_close(first_weights(1), first_weights(1), rtol=0, atol=0)
    assert not torch.equal(first_weights(1), first_weights(2))


def test_a_run_of_another_configuration_is_not_continued(tmp_path):
    train.fit(_make_training(steps=2), tmp_path)

    with pytest.raises(ValueError, match='same configuration, but train changed'):
        train.fit(_make_training(learning_rate=0.5), tmp_path)


def test_what_is_trained_is_what_the_nodes_load(tmp_path):
    trained = _make_training()

    train.fit(trained, tmp_path)

    model = load_checkpoint(tmp_path / 'model.safetensors')
    assert read_config(tmp_path / 'model.safetensors') == trained.run.model_config()
    for name, tensor in trained.mean_model.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=0, msg=name)
    np.testing.assert_array_equal(model.motion_mean, _statistics()[0])
    assert not list(tmp_path.glob('*.partial'))


def test_the_curve_holds_a_line_for_each_checkpoint(tmp_path):
    train.fit(_make_training(), tmp_path, held_out=_Speech(seed=1))

    lines = [json.loads(line) for line in (tmp_path / 'curve.jsonl').read_text().splitlines()]
    assert [line['step'] for line in lines] == [2, 4]
    assert all(np.isfinite(line['held_out']) for line in lines)


def test_biases_norms_and_the_diffusion_head_do_not_decay():
    made = _make_training()
    decayed, plain = made.optimizer.param_groups
    learned = [*made.model.named_parameters(), *made.guide.named_parameters()]
    names = {id(parameter): name for name, parameter in learned}

    assert decayed['weight_decay'] == 0.02 and plain['weight_decay'] == 0.0
    assert all(parameter.dim() > 1 for parameter in decayed['params'])
    assert not any(names[id(p)].startswith('diffloss.') for p in decayed['params'])
    assert len(decayed['params']) + len(plain['params']) == len(names)


def test_the_diffusion_head_learns_first_where_the_recipe_says_so():
    run = dataclasses.replace(_make_run(), head_first=1)
    made = training.Training(run, _Speech(), _statistics())

    def changed(before):
        after = made.model.state_dict()
        names = {name for name in before if not torch.equal(before[name], after[name])}
        return {name.startswith('diffloss.') for name in names}

    before = copy.deepcopy(made.model.state_dict())
    made.advance()
    assert changed(before) == {True}
    before = copy.deepcopy(made.model.state_dict())
    made.advance()
    assert changed(before) == {True, False}


def test_tokens_of_one_frame_begin_with_a_common_code():
    model = _make_training().model
    codes = model.encoder_pos_embed_learned.detach()[0]

    by_modality = torch.stack([codes[slots(modality, 4)] for modality in MODALITIES])
    distance = torch.cdist(by_modality[0], by_modality[3])
    assert torch.equal(distance.argmin(1), torch.arange(4))


def test_the_learning_rate_warms_up_and_stays():
    made = _make_training(steps=9, warmup_steps=3, learning_rate=0.3)
    rates = []

    for _ in range(5):
        made.advance()
        rates.append(made.optimizer.param_groups[0]['lr'])

    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3])


def test_the_learning_rate_falls_over_the_last_steps():
    run = dataclasses.replace(_make_run(steps=5, warmup_steps=1, learning_rate=0.4), cooldown=4)
    made = training.Training(run, _Speech(), _statistics())
    rates = []

    for _ in range(5):
        made.advance()
        rates.append(made.optimizer.param_groups[0]['lr'])

    assert rates == pytest.approx([0.4, 0.4, 0.3, 0.2, 0.1])


def test_mean_weights_follow_the_exponential_formula():
    made = _make_training(ema=0.05)
    before = made.mean_model.z_proj.weight.clone()

    made.advance()

    torch.testing.assert_close(
        made.mean_model.z_proj.weight, 0.05 * before + 0.95 * made.model.z_proj.weight
    )


def test_the_model_learns_to_open_the_jaw_where_the_voice_is_loud():
    made = _make_training(steps=300, batch_size=8, learning_rate=0.01, warmup_steps=20, ema=0.9)

    before = made.evaluate(_Speech(seed=1))
    for _ in range(150):
        figures = made.advance()

    assert made.evaluate(_Speech(seed=1)) < 0.5 * before
    assert figures['mse'] < 0.6


def test_the_shipped_recipe_is_a_valid_run():
    run = load_yaml(training.RunConfig, _RECIPE_FILE)

    assert run.model_config().motion_space == 'arkit55'
    assert run.train_config().mask_min == 1.0


def test_a_wrong_key_of_the_recipe_is_named():
    run = dataclasses.replace(_make_run(), train={'learning_rat': 0.1})

    with pytest.raises(ValueError, match="unknown key 'learning_rat'; did you mean"):
        run.train_config()
    with pytest.raises(ValueError, match='precision must be one of float32, bfloat16'):
        training.RunConfig(precision='float64')


@pytest.mark.parametrize(('group', 'factor'), [('mouth', 3.0), ('neck', 1.0)])
def test_the_error_of_a_group_that_is_emphasised_counts_more(group, factor):
    # The mouth is all that these windows have.
    run = dataclasses.replace(_make_run(), emphasis={group: 3.0})

    plain = _make_training().advance()
    parts = training.Training(run, _Speech(), _statistics()).advance()

    assert parts['mse'] == pytest.approx(factor * plain['mse'], rel=1e-6)
    assert parts['vb'] == pytest.approx(plain['vb'], rel=1e-6)


def test_a_group_that_does_not_exist_is_not_emphasised():
    run = dataclasses.replace(_make_run(), emphasis={'nose': 2.0})

    with pytest.raises(ValueError, match='expected groups of arkit55 .eyes, mouth, brows, neck.'):
        training.Training(run, _Speech(), _statistics())


class _Nods(_Speech):
    """The same, with a neck, which nods as the agent's voice is loud."""

    def __getitem__(self, index):
        window = super().__getitem__(index)
        window['channel_mask'][_SPACE.neck] = True
        return window


def test_the_guide_makes_the_context_tell_who_nods():
    run = _make_run(steps=80, learning_rate=0.02, warmup_steps=1, batch_size=8)
    made = training.Training(run, _Nods(), _statistics())

    wrong = [made.advance()['guide'] for _ in range(80)]

    assert np.mean(wrong[-5:]) < 0.4 * wrong[0]


def test_the_guide_is_as_heavy_as_is_said_and_no_part_of_the_loss_that_is_told():
    light, heavy, none = (
        training.Training(
            dataclasses.replace(_make_run(), guide=weight), _Nods(), _statistics()
        ).advance()
        for weight in (1.0, 3.0, 0.0)
    )

    assert heavy['guide'] == pytest.approx(3 * light['guide'], rel=1e-6)
    assert light['loss'] == none['loss']
    assert light['gradient'] != pytest.approx(none['gradient'])
    assert 'guide' not in none


def test_a_clip_without_a_neck_does_not_teach_that_nobody_nods():
    assert training.Training(_make_run(), _Speech(), _statistics()).advance()['guide'] == 0.0


def test_a_guide_needs_motion_in_which_nods_can_be_seen():
    run = dataclasses.replace(_make_run(), model=_TINY | {'fps': 10})

    with pytest.raises(ValueError, match='guide needs more than 14 frames a second .* got 10'):
        training.Training(run, _Speech(), _statistics())


@pytest.mark.parametrize('shares', [{'idle': -0.1}, {'nods': 1.2}, {'idle': 0.6, 'nods': 0.6}])
def test_shares_of_windows_are_shares(shares):
    with pytest.raises(ValueError, match='chosen takes shares of 0 to 1'):
        training.RunConfig(chosen=shares)


def test_windows_are_chosen_for_what_is_known():
    with pytest.raises(ValueError, match='chosen knows idle, ends, .* attitudes, got laughs'):
        training.RunConfig(chosen={'laughs': 0.1})
