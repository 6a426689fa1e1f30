# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The training loop: clips in, weights out, `python -m timar_ros.learn.train CLIPS --out DIR`.

Every step is a function of (weights, seed, step): windows, masks and noise are drawn anew from
them, so a run that was stopped goes on to the same weights as one that was not. Published
recipe: TIMAR.md §6, without the aliasing of windows.
"""

import argparse
import copy
import dataclasses
import json
import math
import pathlib
import sys

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from tqdm import tqdm

from timar_ros.config import PRESETS, TimarConfig, TrainConfig, from_dict, load_yaml, to_dict
from timar_ros.learn.clips import open_clips
from timar_ros.learn.dataset import Windows, measure_persistence, motion_statistics
from timar_ros.learn.masking import draw_mask_ratio, mask_windows
from timar_ros.model.checkpoint import load_checkpoint, save_checkpoint
from timar_ros.model.timar import TIMAR
from timar_ros.model.turn import MODALITIES, slots
from timar_ros.motion import get_space

_BETAS = (0.9, 0.95)
_PRECISIONS = {'float32': torch.float32, 'bfloat16': torch.bfloat16}
_HELD_OUT_BATCHES = 8
_STATISTICS = ('motion_mean', 'motion_std', 'motion_persistence')
_FROZEN = 'speech.net.'  # the wav2vec2 encoder, which is never trained
# Of the code that tokens of one frame share at the start: period of its slowest wave, and size
# beside embeddings of 0.02 and tokens of about 1.
_LONGEST_WAVE_FRAMES = 100.0
_CODE_SIZE = 0.5


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """
    One training run: which model, which recipe.

    Attributes:
        preset: of `timar_ros.config.PRESETS`.
        model: fields of TimarConfig that differ from the preset.
        train: fields of TrainConfig that differ from the published recipe.
        shown_noise: noise on frames that the model is shown, in standard deviations of each
            channel.
        precision: of the forward and backward pass; weights and optimiser stay float32.
        head_first: steps in which only the diffusion head learns. Its variance is so wrong at
            first that its gradient, fifty times that of the motion, would wreck the transformer.
        cooldown: last steps, over which the learning rate falls to nothing; prolong a run before.
    """

    preset: str = 'mini'
    model: dict = dataclasses.field(default_factory=dict)
    train: dict = dataclasses.field(default_factory=dict)
    shown_noise: float = 0.0
    head_first: int = 0
    cooldown: int = 0
    precision: str = 'float32'

    def __post_init__(self):
        for name, known in (('preset', PRESETS), ('precision', _PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f'{name} must be one of {", ".join(known)}, got {getattr(self, name)!r}'
                )

    def model_config(self, source: str = 'model') -> TimarConfig:
        """Return the preset with its differences."""
        return from_dict(TimarConfig, to_dict(PRESETS[self.preset]) | self.model, source)

    def train_config(self, source: str = 'train') -> TrainConfig:
        """Return the recipe."""
        return from_dict(TrainConfig, self.train, source)


class Training:
    """
    A model being trained: its weights, their running mean, the optimiser and the step.

    Args:
        run: model and recipe.
        windows: what to train on; window `step * batch_size + i` is in the batch of `step`.
        statistics: mean and deviation `[M]` of the motion, and its persistence where the model
            has it (`dataset.measure_persistence`).
        initial: weights to begin from, of the same configuration; None = fresh ones.
        device: torch device or its name.
    """

    def __init__(
        self,
        run: RunConfig,
        windows: Windows,
        statistics: tuple[np.ndarray, ...],
        initial: TIMAR | None = None,
        device: str = 'cpu',
    ):
        self.run, self.windows, self.step = run, windows, 0
        self.train = run.train_config()
        torch.manual_seed(self.train.seed)  # modules draw their first weights from the global one
        if initial is None:
            self.model = TIMAR(run.model_config()).initialise()
            if self.model.config.positions == 'turn':
                align_positions(self.model)
            for name, values in zip(_STATISTICS, statistics, strict=False):
                self.model.get_buffer(name).copy_(torch.from_numpy(values))
        else:
            self.model = copy.deepcopy(initial).float()
        self.model.to(device).train()
        self.mean_model = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = make_optimizer(self.model, self.train)

    def advance(self) -> dict[str, float]:
        """Take one optimiser step; return the loss, its parts and the gradient's norm."""
        train = self.train
        first = self.step * train.batch_size
        batch = [self.windows[first + i] for i in range(train.batch_size)]
        for group in self.optimizer.param_groups:
            group['lr'] = train.learning_rate * self._ramp()
        for name, parameter in self.model.named_parameters():
            if not name.startswith(_FROZEN):
                is_head = name.startswith('diffloss.')
                parameter.requires_grad_(is_head or self.step >= self.run.head_first)
        loss, parts = self._loss(self.model, batch, (train.seed, 1, self.step))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm)
        self.optimizer.step()
        self.step += 1
        self._update_mean()
        return {name: float(value) for name, value in parts.items()} | {'gradient': float(norm)}

    @torch.no_grad()
    def evaluate(self, windows: Windows) -> float:
        """Return the mean loss of the mean weights; masks and noise are the same at every call."""
        losses = []
        for k in range(_HELD_OUT_BATCHES):
            first = k * self.train.batch_size
            batch = [windows[first + i] for i in range(self.train.batch_size)]
            losses.append(float(self._loss(self.mean_model, batch, (0, 2, k))[0]))
        return float(np.mean(losses))

    def save(self, path: pathlib.Path) -> None:
        """Write everything that the next step depends on; never leaves half a file."""
        content = {
            'run': to_dict(self.run),
            'step': self.step,
            'model': self.model.state_dict(),
            'mean_model': self.mean_model.state_dict(),
            'optimizer': self.optimizer.state_dict(),
        }
        partial = path.with_name(path.name + '.partial')
        torch.save(content, partial)
        partial.replace(path)

    def load(self, path: pathlib.Path) -> None:
        """
        Go on where `save` left off.

        Raises:
            ValueError: the file belongs to a run of another configuration.
        """
        content = torch.load(path, map_location=self.model.device, weights_only=True)
        # A run may be prolonged; whatever else differs would make it another run.
        ours, theirs = (_without_steps(x) for x in (to_dict(self.run), content['run']))
        if ours != theirs:
            different = [name for name in ours if ours[name] != theirs.get(name)]
            raise ValueError(
                f'{path}: expected a run with the same configuration, but {", ".join(different)} '
                'changed; choose another --out, or start from its weights with --init'
            )
        self.model.load_state_dict(content['model'])
        self.mean_model.load_state_dict(content['mean_model'])
        self.optimizer.load_state_dict(content['optimizer'])
        self.step = content['step']

    def _ramp(self) -> float:
        rising = (self.step + 1) / max(self.train.warmup_steps, 1)
        falling = (self.train.steps - self.step) / max(self.run.cooldown, 1)
        return min(1.0, rising, falling)

    def _loss(self, model: TIMAR, batch: list[dict], key: tuple[int, ...]):
        windows = torch.utils.data.default_collate(batch)
        noise = self.run.shown_noise * model.motion_std.cpu() if self.run.shown_noise else None
        ratio = draw_mask_ratio(self.train, np.random.default_rng(key))
        rngs = [np.random.default_rng((*key, i)) for i in range(len(batch))]
        turns, weight = mask_windows(windows, model.config, self.train, rngs, ratio, noise)
        turns = turns.to(model.device)
        generator = torch.Generator(model.device).manual_seed(int(rngs[0].integers(2**62)))
        precision = _PRECISIONS[self.run.precision]
        with torch.autocast(model.device.type, precision, precision != torch.float32):
            return model.loss(
                turns,
                generator,
                windows['channel_mask'].to(model.device),
                self.train.diffusion_repeat,
                weight.to(model.device),
            )

    @torch.no_grad()
    def _update_mean(self) -> None:
        # A short run would otherwise keep its first, random weights in the mean.
        decay = min(self.train.ema, (1 + self.step) / (10 + self.step))
        mean, new = (list(model.parameters()) for model in (self.mean_model, self.model))
        torch._foreach_lerp_(mean, new, 1 - decay)


def make_optimizer(model: TIMAR, train: TrainConfig) -> torch.optim.AdamW:
    """
    Make AdamW without decay on biases, norms and the diffusion head; frozen weights stay out.

    Source: TIMAR.md §6; MAR's parameter groups.
    """
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        if name.startswith(_FROZEN):
            continue
        is_plain = parameter.dim() == 1 or name.endswith('bias') or name.startswith('diffloss.')
        (plain if is_plain else decayed).append(parameter)
    groups = [
        {'params': decayed, 'weight_decay': train.weight_decay},
        {'params': plain, 'weight_decay': 0.0},
    ]
    return torch.optim.AdamW(groups, lr=train.learning_rate, betas=_BETAS, fused=True)


@torch.no_grad()
def align_positions(model: TIMAR) -> None:
    """
    Give the tokens of one frame a common code, whatever their modality.

    Which sound belongs to which frame is then there from the start, instead of being found among
    110 x 110 pairs of slots; it shortens the first phase of training.
    """
    T, D = model.config.frames_per_turn, model.config.width
    frequency = torch.exp(-math.log(_LONGEST_WAVE_FRAMES) * torch.arange(D // 2) / (D // 2))
    angle = torch.arange(T)[:, None] * frequency  # [T, D/2]
    code = torch.cat([angle.sin(), angle.cos()], -1) * _CODE_SIZE
    for modality in MODALITIES:
        model.encoder_pos_embed_learned[0, slots(modality, T)] += F.pad(code, (0, D % 2))


def _without_steps(run: dict) -> dict:
    return run | {'train': {k: v for k, v in run['train'].items() if k != 'steps'}}


def _open_curves(folder: pathlib.Path):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(folder)


def fit(training: Training, out: pathlib.Path, held_out: Windows | None = None) -> None:
    """
    Train to the end of the recipe, writing checkpoints as it goes.

    `out/last.pt` holds the run, `out/model.safetensors` the mean weights as the nodes load them,
    `out/curve.jsonl` a line for each checkpoint; TensorBoard curves where it is installed.

    Args:
        training: continued if `out` holds an earlier state of it.
        out: folder.
        held_out: windows that are never trained on, for the curve.
    """
    out.mkdir(parents=True, exist_ok=True)
    if (out / 'last.pt').is_file():
        training.load(out / 'last.pt')
    curves = _open_curves(out)
    steps, recent = training.train.steps, []
    with tqdm(total=steps, initial=training.step, unit='step', dynamic_ncols=True) as bar:
        while training.step < steps:
            figures = training.advance()
            if not np.isfinite(figures['loss']):
                raise ValueError(
                    f'the loss became {figures["loss"]} at step {training.step}; '
                    'lower learning_rate, or look for bad clips'
                )
            recent.append(figures)
            bar.update()
            bar.set_postfix(loss=f'{np.mean([f["loss"] for f in recent[-50:]]):.3f}')
            if training.step % training.train.checkpoint_every and training.step < steps:
                continue
            line = {name: float(np.mean([f[name] for f in recent])) for name in figures}
            if held_out is not None:
                line['held_out'] = training.evaluate(held_out)
            recent = []
            training.save(out / 'last.pt')
            save_checkpoint(out / 'model.safetensors', training.mean_model)
            with open(out / 'curve.jsonl', 'a', encoding='utf-8') as file:
                file.write(json.dumps({'step': training.step} | line) + '\n')
            if curves is not None:
                for name, value in line.items():
                    curves.add_scalar(name, value, training.step)


def _make_windows(folder: pathlib.Path, config: TimarConfig, train: TrainConfig, n_windows: int):
    clips, refused = open_clips(folder, get_space(config.motion_space), config.fps)
    windows = Windows(clips, config, train.window_turns, n_windows, train.seed)
    for name, reason in refused.items():
        print(f'left out {name}: {reason}')
    for name in windows.too_short:
        print(f'left out {name}: shorter than {train.window_turns} turns')
    minutes = sum(clip.n_frames for clip in windows.clips) / config.fps / 60
    print(f'{folder}: {len(windows.clips)} clips, {minutes:.1f} minutes')
    return windows


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.learn.train',
        description='Train a TIMAR on a folder of conversations; continues a run found in --out.',
    )
    parser.add_argument('clips', type=pathlib.Path, help='folder of clips (see learn/clips.py)')
    parser.add_argument('--out', type=pathlib.Path, required=True, help='folder of this run')
    parser.add_argument('--config', type=pathlib.Path, default='config/train.yaml', help='recipe')
    parser.add_argument('--held-out', type=pathlib.Path, help='folder of clips to judge by')
    parser.add_argument('--init', type=pathlib.Path, help='checkpoint to begin from (fine-tuning)')
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1')
    options = parser.parse_args(arguments)
    run = load_yaml(RunConfig, options.config)
    config = run.model_config(f'{options.config}: model')
    train = run.train_config(f'{options.config}: train')
    torch.set_num_threads(train.threads)
    initial = load_checkpoint(options.init, options.device) if options.init else None
    if initial is not None and initial.config != config:
        raise ValueError(f'{options.init}: its configuration is not that of {options.config}')
    if initial is None and config.speech == 'wav2vec2':
        raise ValueError(
            'a wav2vec2 encoder is never trained from nothing; pass --init with a checkpoint '
            'that holds one (python -m timar_ros.model.convert)'
        )
    windows = _make_windows(options.clips, config, train, train.steps * train.batch_size)
    held_out = None
    if options.held_out is not None:
        n_windows = _HELD_OUT_BATCHES * train.batch_size
        held_out = _make_windows(options.held_out, config, train, n_windows)
    space = get_space(config.motion_space)
    statistics = motion_statistics(windows.clips, space)
    if config.persistence:
        lags, noise = config.persistence, run.shown_noise
        statistics += (measure_persistence(windows.clips, space, statistics, lags, noise),)
    fit(Training(run, windows, statistics, initial, options.device), options.out, held_out)


if __name__ == '__main__':
    try:
        main()
    except (ValueError, FileNotFoundError) as problem:
        sys.exit(f'train: {problem}')
