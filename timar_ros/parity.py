# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Prove that our model is the published one, on reference vectors of the published implementation.

    python -m timar_ros.parity DIR [--dtype float32] [--device cpu]

Prints `name max_abs_diff` for each item; exit code 1 if one exceeds 1e-4. Sizes, window, steps
and heads are read from the folder. Half types are reported, not judged.
"""

import argparse
from collections.abc import Iterator
import dataclasses
import pathlib
import sys

import numpy as np
import torch

from timar_ros.command import end
from timar_ros.config import SamplingConfig
from timar_ros.learn.metrics import evaluate_clip
from timar_ros.model.checkpoint import DTYPES
from timar_ros.model.convert import load_published
from timar_ros.model.timar import TIMAR, passes
from timar_ros.model.turn import Turn
from timar_ros.npz import Arrays
from timar_ros.stream.engine import Engine
from timar_ros.strict import in_a_sentence, read_json

BOUND = 1e-4
_FILES = ('TIMAR.pth', 'config.json', 'inputs.npz', 'outputs.npz', 'wav2vec2/config.json')
_MODE_KEYS = {
    'num_iter', 'mask_history_agent', 'use_random_orders', 'max_context_time', 'temperature',
    'cfg', 'cfg_schedule',
}  # fmt: skip


def _normalise_clip(pcm: np.ndarray) -> np.ndarray:
    """Normalise a whole recording, as the published data code does (docs/model.md §3)."""
    audio = pcm.astype(np.float32) / 32768.0
    return ((audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)).astype(np.float32)


def _turns(model: TIMAR, inputs: Arrays) -> list[Turn]:
    config = model.config
    T, S = config.frames_per_turn, config.samples_per_turn
    user, agent = (
        _normalise_clip(inputs.numbers(f'pcm_{voice}', None)) for voice in ('user', 'agent')
    )
    seen = inputs.numbers('motion_user', None, config.n_channels)
    motion = torch.from_numpy(seen.astype(np.float32))
    n_turns = min(len(user) // S, len(agent) // S, len(motion) // T)
    if not n_turns:
        raise ValueError(f'{inputs.path}: expected at least one turn of {S} samples, got none')
    known = torch.ones(1, T, dtype=torch.bool)
    return [
        Turn(
            user_speech=torch.from_numpy(user[None, k * S : (k + 1) * S]),
            user_heard=known,
            user_motion=motion[None, k * T : (k + 1) * T],
            user_seen=known,
            agent_speech=torch.from_numpy(agent[None, k * S : (k + 1) * S]),
            agent_motion=torch.zeros(1, T, config.n_channels),
            is_shown=~known,
        )
        for k in range(n_turns)
    ]


def _recorded_noise(outputs: Arrays, mode: str):
    """Return a noise source that plays back what the published implementation drew."""

    def draw(seeds, first_turn, n_turns, n_passes, n_draws, n_frames, n_channels):
        noise = torch.zeros(len(seeds), n_turns, n_passes, n_draws, n_frames, n_channels)
        for p, frames in enumerate(passes(n_frames, n_passes)):
            for draw in range(n_draws):
                name = f'{mode}/noise/{first_turn}/{p}/{draw}'
                n = len(range(n_frames)[frames])
                recorded = outputs.numbers(name, n, n_channels)
                noise[0, 0, p, draw, frames] = torch.from_numpy(recorded.astype(np.float32))
        return noise

    return draw


def _run_mode(model: TIMAR, turns, settings: dict, outputs, mode: str, steps: int) -> np.ndarray:
    is_known = isinstance(settings, dict) and set(settings) <= _MODE_KEYS
    is_constant = settings.get('cfg_schedule', 'constant') == 'constant'
    if not is_known or not is_constant or settings.get('use_random_orders'):
        raise ValueError(
            f'mode {mode}: expected only {sorted(_MODE_KEYS)} with constant guidance and frames '
            f'left to right, got {settings}'
        )
    history = 'masked' if settings['mask_history_agent'] else 'shown'
    model.config = dataclasses.replace(model.config, history=history)
    context = None
    if 'max_context_time' in settings:
        context = round(settings['max_context_time'] / model.config.turn_s) - 1
    sampling = SamplingConfig(
        steps=steps,
        temperature=settings.get('temperature', 1.0),
        cfg_scale=settings.get('cfg', 1.0),
        n_passes=settings['num_iter'],
        reveal=False,
        context_turns=context,
    )
    engine = Engine(model, sampling, noise=_recorded_noise(outputs, mode))
    state = engine.new_state()
    return torch.cat([engine.step(turn, state)[0] for turn in turns]).cpu().numpy()


def _loss_rows(model: TIMAR, outputs: Arrays) -> dict[str, np.ndarray]:
    names = ('target', 'z', 't', 'noise')
    arrays = [outputs[f'loss/{name}'] for name in names]
    rows = [torch.from_numpy(array.copy()).to(model.device) for array in arrays]
    with torch.no_grad():
        return {k: v.float().cpu().numpy() for k, v in model.diffloss.loss(*rows).items()}


def compare(folder, dtype: str = 'float32', device: str = 'cpu') -> Iterator[tuple[str, float]]:
    """
    Compare our model with every item of a reference folder.

    Args:
        folder: laid out as the project's own `test/reference`.
        dtype: of our weights.
        device: torch device.

    Yields:
        name of the item and the largest absolute difference (inf where one is not finite).

    Raises:
        FileNotFoundError: a file of the layout is missing.
        ValueError: the weights or a mode are of a kind that we do not have.
    """
    folder = pathlib.Path(folder)
    missing = [name for name in _FILES if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f'{folder}: expected a reference folder, missing {missing}')
    config = read_json(folder / 'config.json')
    if not all(isinstance(config.get(key), dict) for key in ('model', 'modes')):
        raise ValueError(f"{folder / 'config.json'}: expected the objects 'model' and 'modes'")
    model = load_published(folder / 'TIMAR.pth', folder / 'wav2vec2', folder / 'config.json')
    mean, std = model.motion_mean, model.motion_std
    model = model.to(device, DTYPES[dtype])
    model.motion_mean, model.motion_std = mean.to(device), std.to(device)
    steps = int(config['model'].get('num_sampling_steps', 5))
    inputs, outputs = Arrays(folder / 'inputs.npz'), Arrays(folder / 'outputs.npz')
    turns = _turns(model, inputs)
    with torch.no_grad():
        features = model.speech(turns[0].user_speech.to(device))
        tokens = model.speech_projection(features)[0].float().cpu().numpy()
    yield 'speech_tokens_turn0', _difference(tokens, outputs['speech_tokens_turn0'])
    for mode, settings in config['modes'].items():
        motion = _run_mode(model, turns, settings, outputs, mode, steps)
        yield f'{mode}/motion', _difference(motion, outputs[f'{mode}/motion'])
    for name, rows in _loss_rows(model, outputs).items():
        yield f'loss/{name}', _difference(rows, outputs[f'loss/{name}'])
    if (folder / 'metrics.npz').is_file():
        expected = read_json(folder / 'metrics.json')
        clips = Arrays(folder / 'metrics.npz')
        predicted, true, partner = (
            clips.numbers(name, None, model.space.n_channels)
            for name in ('prediction', 'ground_truth', 'partner')
        )
        ours = evaluate_clip(predicted, true, partner, model.space)
        for name, value in expected.items():
            yield f'metrics/{name}', _difference(np.array(ours[name]), np.array(value))


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    if ours.shape != theirs.shape or not np.all(np.isfinite(ours)):
        return float('inf')
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())


def main(args=None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog='python -m timar_ros.parity', description=__doc__)
    parser.add_argument('folder', help='reference vectors')
    parser.add_argument('--dtype', choices=list(DTYPES), default='float32')
    parser.add_argument('--device', default='cpu')
    options = parser.parse_args(args)
    worst = 0.0
    try:
        for name, difference in compare(options.folder, options.dtype, options.device):
            print(f'{name} {difference:.3e}')
            worst = max(worst, difference)
    except (OSError, ValueError) as error:
        print(f'parity: {in_a_sentence(error)}', file=sys.stderr)
        return 1
    if options.dtype != 'float32':
        return 0  # shown, not judged
    is_equal = worst <= BOUND
    # Not among the items, which programs read line by line.
    verdict = f'largest {worst:.1e}, bound {BOUND:.0e}: {"equal" if is_equal else "different"}'
    print(verdict, file=sys.stderr)
    return int(not is_equal)


if __name__ == '__main__':
    end('parity', main)
