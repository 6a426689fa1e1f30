# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A clip of DualTalk under the published protocol: find it, answer it turn by turn, score it.

Responsible for the protocol (model.md §5) on one clip. Not for choosing or distributing clips.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import hashlib
import json
import pathlib
import zlib

import numpy as np
import torch

from timar_ros.config import SamplingConfig
from timar_ros.learn.clips import find_beside, find_files, read_voice
from timar_ros.learn.corruption import Corruption
from timar_ros.learn.heads import hold_against_voice, read_head, to_grid
from timar_ros.learn.metrics import evaluate_clip
from timar_ros.model.timar import TIMAR
from timar_ros.model.turn import Turn
from timar_ros.motion import MotionSpace, get_space, jaw_open_rad
from timar_ros.stream.engine import Engine
from timar_ros.stream.level import LevelState, normalise, normalise_clip
from timar_ros.stream.wav import read_duration_s

FLAME = get_space('flame56')
# What can be compared of weights that do not speak FLAME: `evaluate_clip` leaves out groups that
# a space does not have.
_NECK_AND_JAW = dataclasses.replace(FLAME, expression=None)
_OTHER = {'speaker1': 'speaker2', 'speaker2': 'speaker1'}


@dataclasses.dataclass(frozen=True)
class Case:
    """
    One clip with one of its speakers as the agent.

    Attributes:
        name: of the agent's files, without ending.
        agent_wav, agent_npz, user_wav: files that are there.
        user_npz: None if the user was not recorded.
    """

    name: str
    agent_wav: pathlib.Path
    agent_npz: pathlib.Path
    user_wav: pathlib.Path
    user_npz: pathlib.Path | None


@dataclasses.dataclass(frozen=True)
class Settings:
    """
    All that a result depends on, beside the clip.

    Attributes:
        checkpoint: path of the weights.
        digest: of the weights.
        contexts: numbers n of past turns that are remembered.
        seed: of noise and corruptions.
        normalise: 'clip', as published, or 'causal'.
        corruption: what is done to the clips.
        device: torch device.
    """

    checkpoint: str
    digest: str
    contexts: tuple[int, ...]
    seed: int
    normalise: str
    corruption: Corruption
    device: str = 'cpu'

    @property
    def key(self) -> str:
        """Names results that may be averaged: those of equal weights, seed and faults."""
        values = [self.digest, self.seed, self.normalise, dataclasses.asdict(self.corruption)]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def find_cases(folder: pathlib.Path) -> tuple[list[Case], dict[str, str]]:
    """
    List the predictions that a folder of DualTalk allows.

    Returns:
        the cases in order of name, and why each other speaker is left out, by name.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no case at all.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder of DualTalk at {folder}')
    cases, left_out = [], {}
    for agent_wav in find_files(folder, '*_speaker[12].wav'):
        clip, _, speaker = agent_wav.stem.rpartition('_')
        user_wav = find_beside(agent_wav.with_name(f'{clip}_{_OTHER[speaker]}.wav'))
        agent_npz, user_npz = (
            find_beside(path.with_suffix('.npz')) for path in (agent_wav, user_wav)
        )
        if not user_wav.is_file():
            left_out[agent_wav.stem] = f'no {user_wav.name}'
        elif not agent_npz.is_file():
            left_out[agent_wav.stem] = f'no {agent_npz.name}, its true motion'
        else:
            watched = user_npz if user_npz.is_file() else None
            cases.append(Case(agent_wav.stem, agent_wav, agent_npz, user_wav, watched))
    if not cases:
        raise ValueError(
            f'{folder}: expected *_speaker1.wav, *_speaker2.wav and their .npz, got '
            + (f'none that fit together: {next(iter(left_out.values()))}' if left_out else 'none')
        )
    return cases, left_out


def read_whole_head(
    npz: pathlib.Path, wav: pathlib.Path, spaces: Sequence[MotionSpace], fps: float
) -> list[np.ndarray]:
    """
    Read a speaker's head, held against its voice, in several spaces.

    Returns:
        motion `[F, M]` in each space.

    Raises:
        ValueError: it cannot be the head of this voice, or was not seen throughout: the protocol
            has no frames that are unknown.
    """
    head, notes = hold_against_voice(read_head(npz), read_duration_s(wav))
    grids = [to_grid(head, space, fps) for space in spaces]
    if not grids[0][2].all():
        raise ValueError(f'{notes[-1]}; the protocol has no frames that are unknown')
    return [motion for motion, _, _ in grids]


def predict(
    model: TIMAR, case: Case, settings: Settings
) -> Iterator[tuple[int, np.ndarray, np.ndarray | None]]:
    """
    Answer a clip turn after turn with the true motion of the user, for each context.

    Yields:
        n, the agent's motion `[F, M]` in the model's space, and the user's true motion in FLAME
            `[F, 56]`, None if unknown.

    Raises:
        ValueError: a file is wrong, holds NaN, or is shorter than a turn; or the weights draw
            what is not finite.
    """
    config = model.config
    T, S, M = config.frames_per_turn, config.samples_per_turn, config.n_channels
    rate_hz, fps = config.sample_rate_hz, config.fps
    voices = {
        'user': read_voice(case.user_wav, rate_hz),
        'agent': read_voice(case.agent_wav, rate_hz),
    }
    seen = partner = None
    if case.user_npz is not None:
        spaces = model.space, FLAME
        seen, partner = read_whole_head(case.user_npz, case.user_wav, spaces, fps)
    voices, seen = settings.corruption.apply(voices, seen, rate_hz, fps, settings.seed, case.name)
    for name, samples in voices.items():
        if settings.normalise == 'clip':
            voices[name] = normalise_clip(samples)
        else:
            voices[name] = normalise(samples, np.ones(len(samples), bool), LevelState())[0]
    n_turns = min(len(samples) // S for samples in voices.values())
    if seen is not None:
        n_turns = min(n_turns, len(seen) // T)
    if not n_turns:
        raise ValueError(f'{case.name}: shorter than a turn of {config.turn_s:g} s')
    known = torch.ones(1, T, dtype=torch.bool)
    motion = np.zeros((n_turns * T, M), np.float32) if seen is None else seen
    nobody = torch.zeros(1, T, M)
    encoder = Engine(model)
    turns = []
    for k in range(n_turns):
        speech = {
            name: torch.from_numpy(samples[None, k * S : (k + 1) * S].copy())
            for name, samples in voices.items()
        }
        turn = Turn(
            user_speech=speech['user'],
            user_heard=known,
            user_motion=torch.from_numpy(motion[None, k * T : (k + 1) * T].copy()),
            user_seen=known if seen is not None else ~known,
            agent_speech=speech['agent'],
            agent_motion=nobody,
            is_shown=~known,
            # encoded once for all contexts
            user_features=encoder.encode_speech(speech['user']),
            agent_features=encoder.encode_speech(speech['agent']),
        )
        turns.append(turn)
    for context in settings.contexts:
        engine = Engine(model, SamplingConfig(context_turns=context))
        state = engine.new_state(zlib.crc32(f'{settings.seed} {case.name}'.encode()))
        answered = [engine.step(turn, state)[0].cpu().numpy() for turn in turns]
        answer = np.concatenate(answered)
        if not np.isfinite(answer).all():
            raise ValueError(f'{case.name}: the weights drew NaN or infinity at n={context}')
        yield context, answer, partner


def score(prediction: np.ndarray, truth: np.ndarray, partner, space: MotionSpace) -> dict:
    """
    Compute the published figures of one prediction.

    Args:
        prediction: `[F, M]` in `space`.
        truth: what the agent really did, `[F, 56]`, FLAME.
        partner: the user's motion `[F, 56]`, or None: then there is no P-FD and no rPCC.
        space: of the prediction. Other than FLAME: neck and jaw opening alone are compared.

    Returns:
        Figure by name, unscaled.
    """
    scored = FLAME
    if space.name != FLAME.name:
        flame = np.zeros((len(prediction), FLAME.n_channels), np.float32)
        flame[:, FLAME.neck] = prediction[:, space.neck]
        flame[:, FLAME.jaw.start] = jaw_open_rad(space, prediction)
        prediction, scored = flame, _NECK_AND_JAW
    clips = (prediction, truth, truth if partner is None else partner)
    figures = evaluate_clip(*(np.asarray(clip, np.float32) for clip in clips), scored)
    if partner is None:
        of_pairs = ('p_fid_', 'rpcc_')
        figures = {k: v for k, v in figures.items() if not k.startswith(of_pairs)}
    return figures
