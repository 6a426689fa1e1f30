# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The training of a model, step by step, without files or commands.

Every step is a function of (weights, seed, step): windows, masks and noise are drawn from
them, each window's by its number, so that neither an interruption nor the number of processes
changes what is learned. Published recipe: docs/model.md §6, without the aliasing of windows.
"""

import copy
import dataclasses
import math
import pathlib

import numpy as np
import torch
from torch import nn
import torch.nn.functional as F

from timar_ros.config import PRESETS, TimarConfig, TrainConfig
from timar_ros.config_file import from_dict, to_dict
from timar_ros.learn.dataset import CHOICES, Windows
from timar_ros.learn.events import SLOWEST_FPS
from timar_ros.learn.guide import Guide
from timar_ros.learn.masking import draw_beginning, draw_mask_ratio, mask_windows
from timar_ros.learn.processes import Processes
from timar_ros.learn.rehearsal import show_own_plan
from timar_ros.model.timar import TIMAR
from timar_ros.model.turn import MODALITIES, slots
from timar_ros.stream.channels import parse_channel
from timar_ros.strict import quoted

_BETAS = (0.9, 0.95)
_PRECISIONS = {'float32': torch.float32, 'bfloat16': torch.bfloat16}
HELD_OUT_BATCHES = 8
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
        emphasis: by what factor the error of a group of channels (`MotionSpace.groups`) counts
            more than that of the others. A head that nods is one channel among fifty.
        chosen: shares of training windows by what they were chosen for (`dataset.Windows`).
        guide: weight of a second loss, for nods and quick movements (`guide.Guide`).
        raw_units: leave motion in the units of its space, as published, instead of bringing each
            channel to its own mean and deviation.
        channels: 'user', 'agent' -> which channel of their wavs is heard, an index from 0 on; the
            mean of all where nothing is said.
        cooldown: last steps, over which the learning rate falls to nothing; prolong a run before.
    """

    preset: str = 'mini'
    model: dict = dataclasses.field(default_factory=dict)
    train: dict = dataclasses.field(default_factory=dict)
    shown_noise: float = 0.0
    emphasis: dict = dataclasses.field(default_factory=dict)
    chosen: dict = dataclasses.field(default_factory=dict)
    guide: float = 0.0
    raw_units: bool = False
    head_first: int = 0
    cooldown: int = 0
    precision: str = 'float32'
    channels: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        if unknown := set(self.channels) - {'user', 'agent'}:
            raise ValueError(
                f'channels knows user and agent, got {quoted(sorted(map(str, unknown)))}'
            )
        for voice, channel in self.channels.items():
            try:
                parse_channel(channel)
            except ValueError as error:
                raise ValueError(f'channels: {voice}: {error}') from None
        for name, known in (('preset', PRESETS), ('precision', _PRECISIONS)):
            if getattr(self, name) not in known:
                raise ValueError(
                    f'{name} must be one of {", ".join(known)}, got {getattr(self, name)!r}'
                )
        if unknown := set(self.chosen) - set(CHOICES):
            raise ValueError(
                f'chosen knows {", ".join(CHOICES)}, got {", ".join(map(str, sorted(unknown)))}'
            )
        shares = list(self.chosen.values())
        if min(shares, default=0) < 0 or sum(shares) > 1:
            raise ValueError(
                f'chosen takes shares of 0 to 1, and of 1 at most together, got {self.chosen}'
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
        speech_encoder: frozen wav2vec2 for fresh weights; None where the model learns its own.
        device: torch device or its name.
        processes: that share each batch.
    """

    def __init__(
        self,
        run: RunConfig,
        windows: Windows,
        statistics: tuple[np.ndarray, ...],
        initial: TIMAR | None = None,
        device: str = 'cpu',
        processes: Processes | None = None,
        speech_encoder: nn.Module | None = None,
    ):
        self.run, self.windows, self.step = run, windows, 0
        self.processes = processes or Processes()
        self.train = run.train_config()
        torch.manual_seed(self.train.seed)  # modules draw their first weights from the global one
        if initial is None:
            self.model = TIMAR(run.model_config()).initialise()
            if speech_encoder is not None:
                self.model.speech.net.load_state_dict(speech_encoder.state_dict())
            if self.model.config.positions == 'turn':
                align_positions(self.model)
            for name, values in zip(_STATISTICS, statistics, strict=False):
                self.model.get_buffer(name).copy_(torch.from_numpy(values))
        else:
            self.model = copy.deepcopy(initial).float()
        groups = self.model.space.groups
        if unknown := set(run.emphasis) - set(groups):
            raise ValueError(
                f'emphasis: expected groups of {self.model.space.name} ({", ".join(groups)}), '
                f'got {", ".join(sorted(unknown))}'
            )
        self._group_weight = [float(run.emphasis.get(name, 1.0)) for name in groups]
        self.model.to(device).train()
        self.guide = Guide(self.model.config.width, run.guide).to(device)
        if run.guide and self.model.config.fps <= SLOWEST_FPS:
            raise ValueError(
                f'guide needs more than {SLOWEST_FPS} frames a second to see nods in, got '
                f'{self.model.config.fps}; set it to 0'
            )
        self.mean_model = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = make_optimizer(self.model, self.train, self.guide)

    def advance(self) -> dict[str, float]:
        """Take one optimiser step; return the loss, its parts and the gradient's norm."""
        train = self.train
        for group in self.optimizer.param_groups:
            group['lr'] = train.learning_rate * self._ramp()
        for name, parameter in self.model.named_parameters():
            if not name.startswith(_FROZEN):
                is_head = name.startswith('diffloss.')
                parameter.requires_grad_(is_head or self.step >= self.run.head_first)
        first = self.step * train.batch_size
        loss, parts = self._loss(self.model, self.windows, first, (train.seed, 1, self.step))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._average_gradients()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), train.clip_norm)
        self.optimizer.step()
        self.step += 1
        self._update_mean()
        return {name: float(value) for name, value in parts.items()} | {'gradient': float(norm)}

    @torch.no_grad()
    def evaluate(self, windows: Windows) -> float:
        """Return the mean loss of the mean weights; masks and noise are the same at every call."""
        losses = []
        for k in range(HELD_OUT_BATCHES):
            first = k * self.train.batch_size
            _, parts = self._loss(self.mean_model, windows, first, (0, 2, k))
            losses.append(float(parts['loss']))
        return float(np.mean(losses))

    def save(self, path: pathlib.Path) -> None:
        """Write everything that the next step depends on; never leaves half a file."""
        content = {
            'run': to_dict(self.run),
            'step': self.step,
            'model': self.model.state_dict(),
            'guide': self.guide.state_dict(),
            'mean_model': self.mean_model.state_dict(),
            'optimizer': self.optimizer.state_dict(),
        }
        partial = path.with_name(path.name + '.partial')
        torch.save(content, partial)
        partial.replace(path)

    def load(self, path: pathlib.Path) -> None:
        """
        Restore the state that `save` wrote, and continue from it.

        Raises:
            ValueError: the file belongs to a run of another configuration.
        """
        content = torch.load(path, map_location=self.model.device, weights_only=True)
        # A run may be prolonged; whatever else differs would make it another run.
        theirs = to_dict(RunConfig()) | content['run']  # of before a key was there
        ours, theirs = (_without_steps(x) for x in (to_dict(self.run), theirs))
        if ours != theirs:
            different = [name for name in ours if ours[name] != theirs.get(name)]
            raise ValueError(
                f'{path}: expected a run with the same configuration, but {", ".join(different)} '
                'changed; choose another --out, or start from its weights with --init'
            )
        self.model.load_state_dict(content['model'])
        self.guide.load_state_dict(content['guide'])
        self.mean_model.load_state_dict(content['mean_model'])
        self.optimizer.load_state_dict(content['optimizer'])
        self.step = content['step']

    def _ramp(self) -> float:
        rising = (self.step + 1) / max(self.train.warmup_steps, 1)
        falling = (self.train.steps - self.step) / max(self.run.cooldown, 1)
        return min(1.0, rising, falling)

    def _loss(self, model: TIMAR, windows: Windows, first: int, key: tuple[int, ...]):
        """Return this process's part of the loss of a batch, and its parts over all of them."""
        mine = self.processes.share(first, self.train.batch_size)
        noise = self.run.shown_noise * model.motion_std.cpu() if self.run.shown_noise else None
        rng = np.random.default_rng(key)  # the same in all processes
        ratio = draw_mask_ratio(self.train, rng)
        n_missing = draw_beginning(self.train, rng)
        batch = [windows.begin(i) if n_missing else windows[i] for i in mine]
        batch = torch.utils.data.default_collate(batch)
        n_turns = self.train.window_turns - n_missing
        batch = {k: v if k == 'channel_mask' else v[:, :n_turns] for k, v in batch.items()}
        rngs = [np.random.default_rng((*key, i - first)) for i in mine]
        turns, weight, before = mask_windows(batch, model.config, self.train, rngs, ratio, noise)
        generators = [torch.Generator().manual_seed(int(rng.integers(2**62))) for rng in rngs]
        turns, is_rehearsed = turns.to(model.device), rng.random() < self.train.rehearsal
        precision = _PRECISIONS[self.run.precision]
        guide = None
        if self.run.guide and model is self.model:
            guide = self.guide.of_batch(batch, model.space.neck)
        with torch.autocast(model.device.type, precision, precision != torch.float32):
            if is_rehearsed:
                before = before.to(model.device)
                turns = show_own_plan(model, turns, before, generators)
            loss, parts = model.loss(
                turns,
                generators,
                batch['channel_mask'].to(model.device),
                self.train.diffusion_repeat,
                weight.to(model.device),
                self._group_weight,
                guide,
            )
        # The mean of all frames is not the mean of the processes' means: some have more to learn.
        mine = (weight.to(model.device) * ~turns.is_shown).sum()
        everyone = mine.clone()
        self.processes.average([everyone])
        share = mine / everyone
        parts = {name: value * share for name, value in parts.items()}
        self.processes.average(list(parts.values()))
        return loss * share, parts

    def _average_gradients(self) -> None:
        if self.processes.n == 1:
            return
        parameters = [*self.model.parameters(), *self.guide.parameters()]
        learning = [p for p in parameters if p.requires_grad]
        for parameter in learning:
            if parameter.grad is None:  # nobody here had a use for it, others may
                parameter.grad = torch.zeros_like(parameter)
        self.processes.average([parameter.grad for parameter in learning])

    @torch.no_grad()
    def _update_mean(self) -> None:
        # A short run would otherwise keep its first, random weights in the mean.
        decay = min(self.train.ema, (1 + self.step) / (10 + self.step))
        mean, new = (list(model.parameters()) for model in (self.mean_model, self.model))
        torch._foreach_lerp_(mean, new, 1 - decay)


def make_optimizer(
    model: TIMAR, train: TrainConfig, guide: nn.Module | None = None
) -> torch.optim.AdamW:
    """
    Make AdamW without decay on biases, norms, the diffusion head and a `guide`.

    Frozen weights stay out.

    Source: docs/model.md §6; MAR's parameter groups.
    """
    decayed, plain = [], [] if guide is None else list(guide.parameters())
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
    Give the tokens of one frame a common code in all modalities.

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
