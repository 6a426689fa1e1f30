# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Clips in, weights out: `python -m timar_ros.learn.train CLIPS --out DIR`.

The command and its files; what a step does is `training.py`'s. On several GPUs, or machines:
`torchrun --nproc-per-node 8 -m timar_ros.learn.train CLIPS --out DIR --device cuda`.
"""

import argparse
from collections.abc import Mapping
import dataclasses
import json
import pathlib
from types import MappingProxyType

import numpy as np
import torch
from tqdm import tqdm

from timar_ros.command import end
from timar_ros.config import TimarConfig, TrainConfig
from timar_ros.config_file import load_yaml, to_dict
from timar_ros.learn.clips import open_clips
from timar_ros.learn.dataset import Windows, measure_persistence, motion_statistics
from timar_ros.learn.processes import Processes
from timar_ros.learn.share import find_shared
from timar_ros.learn.training import HELD_OUT_BATCHES, RunConfig, Training
from timar_ros.model.checkpoint import load_checkpoint, save_checkpoint
from timar_ros.model.published import read_speech_encoder
from timar_ros.motion import get_space
from timar_ros.outputs import check_own_files


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
    is_writer = training.processes.rank == 0
    curves = _open_curves(out) if is_writer else None
    steps, recent = training.train.steps, []
    bar = tqdm(
        total=steps, initial=training.step, unit='step', dynamic_ncols=True, disable=not is_writer
    )
    with bar:
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
            if is_writer:
                _write(training, out, line, curves)


def _write(training: Training, out: pathlib.Path, line: dict[str, float], curves) -> None:
    training.save(out / 'last.pt')
    save_checkpoint(out / 'model.safetensors', training.mean_model)
    with open(out / 'curve.jsonl', 'a', encoding='utf-8') as file:
        file.write(json.dumps({'step': training.step} | line) + '\n')
    if curves is not None:
        for name, value in line.items():
            curves.add_scalar(name, value, training.step)


def _make_windows(
    folder: pathlib.Path,
    config: TimarConfig,
    train: TrainConfig,
    n_windows: int,
    say,
    channels: Mapping[str, str | int],
    chosen: Mapping[str, float] = MappingProxyType({}),
) -> Windows:
    space = get_space(config.motion_space)
    clips, refused = open_clips(folder, space, config.fps, channels)
    windows = Windows(clips, config, train.window_turns, n_windows, train.seed, chosen)
    for name, reason in refused.items():
        say(f'left out {name}: {reason}')
    for name in windows.too_short:
        say(f'left out {name}: shorter than {train.window_turns} turns')
    for note in (note for clip in windows.clips for note in clip.notes):
        say(f'note: {note}')
    minutes = sum(clip.n_frames for clip in windows.clips) / config.fps / 60
    say(f'{folder}: {len(windows.clips)} clips, {minutes:.1f} minutes')
    return windows


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.learn.train',
        description='Train a TIMAR on a folder of conversations; continues a run found in --out.',
    )
    parser.add_argument('clips', type=pathlib.Path, help='folder of clips (see learn/clips.py)')
    parser.add_argument('--out', type=pathlib.Path, required=True, help='folder of this run')
    parser.add_argument(
        '--config', type=pathlib.Path, help='recipe; that of the shipped weights unless said'
    )
    parser.add_argument('--held-out', type=pathlib.Path, help='folder of clips to judge by')
    parser.add_argument('--init', type=pathlib.Path, help='checkpoint to begin from (fine-tuning)')
    parser.add_argument(
        '--speech', type=pathlib.Path, help='folder of the wav2vec2 encoder, for fresh weights'
    )
    parser.add_argument('--device', default='cpu', help='cpu, cuda, cuda:1')
    options = parser.parse_args(arguments)
    options.config = options.config or find_shared('config/train.yaml')
    processes, device = Processes.join(options.device)
    try:
        _train(options, processes, device)
    finally:
        processes.leave()


def _train(options: argparse.Namespace, processes: Processes, device: str) -> None:
    check_own_files(
        options.out,
        ('model.safetensors', 'last.pt', 'curve.jsonl'),
        lambda folder: (folder / 'last.pt').is_file(),
        'train',
    )
    run = load_yaml(RunConfig, options.config)
    train = run.train_config(f'{options.config}: train')
    torch.set_num_threads(train.threads)
    initial = encoder = None
    if options.init is not None:
        # Whatever the recipe says, the weights say what they are.
        initial = load_checkpoint(options.init, device)
        run = dataclasses.replace(run, model=to_dict(initial.config))
    elif options.speech is not None:
        encoder, speech_config = read_speech_encoder(options.speech)
        width = encoder.config.hidden_size
        own = {'speech_config': speech_config, 'speech_width': width, 'speech': 'wav2vec2'}
        run = dataclasses.replace(run, model=run.model | own)
    config = run.model_config(f'{options.config}: model')
    if initial is None and encoder is None and config.speech == 'wav2vec2':
        raise ValueError(
            'a wav2vec2 encoder is never trained from nothing; pass --speech with the folder of '
            'facebook/wav2vec2-large-960h-lv60-self, or --init with a checkpoint that holds one'
        )
    say = print if processes.rank == 0 else lambda _: None
    n_windows = train.steps * train.batch_size
    windows = _make_windows(options.clips, config, train, n_windows, say, run.channels, run.chosen)
    held_out = None
    if options.held_out is not None:
        n_windows = HELD_OUT_BATCHES * train.batch_size
        held_out = _make_windows(options.held_out, config, train, n_windows, say, run.channels)
    space = get_space(config.motion_space)
    statistics = motion_statistics(windows.clips, space)
    if run.raw_units:
        statistics = np.zeros_like(statistics[0]), np.ones_like(statistics[1])
    if config.persistence:
        late = round(config.fps * train.head_late_s / 2)  # the mean of those that are
        statistics += (
            measure_persistence(
                windows.clips, space, statistics, config.persistence, run.shown_noise, late
            ),
        )
    training = Training(run, windows, statistics, initial, device, processes, encoder)
    fit(training, options.out, held_out)


if __name__ == '__main__':
    end('train', main)
