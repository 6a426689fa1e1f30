# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Answer a recording offline and judge the answer: motion.npz, report.json, report.html.

    python -m timar_ros.learn.evaluate --user U.wav --agent A.wav --out DIR
    python -m timar_ros.learn.evaluate --bag BAG --out DIR

Same inputs, options and seed: the same files, bit for bit. Runs as fast as the machine can.
"""

import argparse
from collections.abc import Callable, Sequence
import dataclasses
from fractions import Fraction
import hashlib
import json
import pathlib
import sys
import time

import numpy as np
import torch
from tqdm import tqdm

from timar_ros.bounds import MAX_MODEL_FACTOR
from timar_ros.command import end
from timar_ros.config import SamplingConfig, TimingConfig
from timar_ros.learn.bag_recording import read_bag
from timar_ros.learn.figures import Answer, compute_figures
from timar_ros.learn.heads import read_head
from timar_ros.learn.listening import add_listening_options, channels_of, listening_of
from timar_ros.learn.offline import answer_deliveries
from timar_ros.learn.recording import Recording, add_user_head, read_wavs
from timar_ros.learn.report import write_report
from timar_ros.learn.share import SHIPPED_CHECKPOINT, find_shared
from timar_ros.learn.timing_options import add_timing_choice, add_timing_options
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.model.precision import DTYPES
from timar_ros.model.timar import TIMAR
from timar_ros.model.turn import EMOTIONS
from timar_ros.outputs import check_own_files, has_keys
from timar_ros.stream.bag_topics import Topics
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.level import ClipLevel
from timar_ros.stream.resample import SAMPLE_RATE_HZ
from timar_ros.stream.style import MAX_EXPRESSIVENESS, NEUTRAL, AgentStyle
from timar_ros.strict import in_a_sentence, number, whole_number

_SECOND_NS = 1_000_000_000
_MS_NS = 1_000_000
_FILES = ('motion.npz', 'report.json', 'report.html')


def answer(
    model: TIMAR,
    recording: Recording,
    timing: TimingConfig,
    sampling: SamplingConfig,
    seed: int = 0,
    normalise: str = 'causal',
    progress: Callable[[float], object] = lambda seconds: None,
    style: AgentStyle | None = None,
) -> tuple[Answer, dict]:
    """
    Answer a recording as the live node would.

    Args:
        model: weights.
        recording: from `read_wavs` or `read_bag`.
        timing: when to plan.
        sampling: how to draw.
        seed: of the noise.
        normalise: 'causal', as live, or 'clip', the loudness of the whole recording as published.
        progress: called with the seconds done since the last call.
        style: how the agent is to be; None = not said.

    Returns:
        what was shown; and what happened, by name: `start_ns` (stamp of the first frame), the
            conversation's counters, and sentences on what was wrong.
    """
    levels = None
    if normalise == 'clip':
        levels = {
            name: ClipLevel.of(voice.samples[voice.is_present])
            for name, voice in recording.voices.items()
        }
    conversation = Conversation(model, timing, sampling, seed, clip_levels=levels, style=style)
    schedule, config = conversation.schedule, model.config
    first_frame = schedule.frame_at_or_before(recording.begin_ns)
    start_ns = schedule.frame_ns(first_frame)
    offset_s = Fraction(recording.begin_ns - start_ns, _SECOND_NS)
    n_frames = max(round((recording.length_s + offset_s) * config.fps), 1)
    refused: dict[str, int] = {}

    def count(text: str) -> None:
        refused[text] = refused.get(text, 0) + 1

    motion = answer_deliveries(
        conversation,
        recording.deliveries,
        first_frame,
        n_frames,
        recording.user_motion,
        progress,
        count,
    )
    silence = np.zeros(round(offset_s * SAMPLE_RATE_HZ), np.float32)
    voices = {
        name: np.concatenate([silence, voice.samples]) for name, voice in recording.voices.items()
    }
    ignored = [] if style is None else style.ignored_by(config)
    notes = [*recording.notes, *(f'these weights have not learned {name}' for name in ignored)]
    notes += [*(f'{n} packets refused: {text}' for text, n in refused.items())]
    nobody = np.zeros(0, np.float32)
    shown = Answer(
        space=model.space,
        fps=config.fps,
        frames_per_turn=config.frames_per_turn,
        first_frame=first_frame,
        motion=motion,
        user_voice=voices.get('user', nobody),
        agent_voice=voices.get('agent', nobody),
        user_motion=_user_motion(recording, model, start_ns, n_frames),
    )
    happened = {
        'start_ns': start_ns,
        'counters': conversation.counters(),
        'notes': list(dict.fromkeys(notes + _not_noted(conversation.take_warnings(), notes))),
    }
    return shown, happened


def _not_noted(warnings: list[str], notes: list[str]) -> list[str]:
    """Return the warnings of a conversation that no note of the recording has said already."""
    new = []
    for text in warnings:
        for voice in ('user', 'agent'):
            option = f'--{voice}-channel '
            if f'{voice}_channel:=' in text and any(option in note for note in notes):
                break
            text = text.replace(f'{voice}_channel:=', option)
        else:
            new.append(text)
    return new


def _user_motion(recording: Recording, model: TIMAR, start_ns: int, n_frames: int):
    """Return the user's head `[F, M]` on the frames of the answer, None if not recorded."""
    if recording.user_motion is None:
        return None
    stamps, frames = recording.user_motion
    grid_s = np.arange(n_frames) / model.config.fps
    stamp_s = (stamps - start_ns) / _SECOND_NS
    columns = [np.interp(grid_s, stamp_s, column) for column in frames.T]
    return np.stack(columns, axis=1).astype(np.float32)


def save_motion(path: pathlib.Path, answer: Answer, start_ns: int) -> None:
    """
    Write motion.npz.

    It holds `motion [T, M]` in raw units, `names [M]`, `fps`, `stamp_s [T]` (time in the
    recording) and `start_ns`, the stamp of the first frame on the recording's own clock.
    """
    np.savez(
        path,
        motion=answer.motion,
        names=np.array(answer.space.names),
        fps=np.int64(answer.fps),
        stamp_s=np.arange(len(answer.motion)) / answer.fps,
        start_ns=np.int64(start_ns),
    )


def evaluate(options: argparse.Namespace) -> pathlib.Path:
    """
    Run the command.

    Returns:
        path of the report.

    Raises:
        FileNotFoundError: a recording or the weights are missing.
        ValueError: a recording, the weights or an option is refused.
    """
    _check_out(options)
    timing = _from_options(TimingConfig, options)
    sampling = _from_options(SamplingConfig, options)
    style = _from_options(AgentStyle, options)
    checkpoint = options.checkpoint or find_shared(SHIPPED_CHECKPOINT)
    if options.threads:
        torch.set_num_threads(options.threads)
    model = load_checkpoint(checkpoint, options.device, options.dtype)
    recording = _read(options, model, timing)
    began = time.monotonic()
    length_s = float(recording.length_s)
    # moments are played from a little before the recording to a little after it
    with _bar(length_s) as bar:
        shown, happened = answer(
            model,
            recording,
            timing,
            sampling,
            options.seed,
            options.normalise,
            lambda seconds: bar.update(min(seconds, bar.total - bar.n)),
            None if style == AgentStyle() else style,
        )
    took_s = time.monotonic() - began
    figures, reasons = compute_figures(shown)
    about = {
        'recording': recording.name,
        'duration_s': length_s,
        'n_frames': len(shown.motion),
        'voices': sorted(recording.deliveries),
        'channels': channels_of(options),
        'user_motion_frames': 0
        if recording.user_motion is None
        else len(recording.user_motion[0]),
        'checkpoint': pathlib.Path(checkpoint).name,
        'checkpoint_sha256': _digest(checkpoint),
        'motion_space': model.space.name,
        'timing': dataclasses.asdict(timing),
        'sampling': dataclasses.asdict(sampling),
        'style': dataclasses.asdict(style),
        'seed': options.seed,
        'normalise': options.normalise,
        **happened,
        'not_measured': reasons,
    }
    text = json.dumps({**figures, 'about': about}, indent=1, allow_nan=False)
    options.out.mkdir(parents=True, exist_ok=True)  # not before there is something to write
    (options.out / 'report.json').write_text(text + '\n', encoding='utf-8')
    save_motion(options.out / 'motion.npz', shown, happened['start_ns'])
    path = options.out / 'report.html'
    write_report(path, shown, figures, about)
    for note in happened['notes']:
        print(f'note: {note}')
    print(f'{path}: {length_s:.1f} s answered at {length_s / took_s:.1f} times real time')
    return path


def _check_out(options: argparse.Namespace) -> None:
    """Refuse to write over what this command did not write, its own input included."""

    def is_own(folder: pathlib.Path) -> bool:
        return has_keys(folder / 'report.json', 'about')

    check_own_files(options.out, _FILES, is_own, 'evaluate')
    given = [options.user, options.agent, options.user_motion]
    for path in filter(None, given):
        written = [options.out / name for name in _FILES if (options.out / name).exists()]
        if pathlib.Path(path).exists() and any(path.samefile(each) for each in written):
            raise ValueError(f'{path} would be written over; choose another --out')


def _bar(length_s: float) -> tqdm:
    form = '{desc} {percentage:3.0f} % {bar} {n:.1f} of {total:.1f} s, {elapsed} + {remaining}'
    return tqdm(total=length_s, desc='answering', bar_format=form, mininterval=0.5)


def _read(options: argparse.Namespace, model: TIMAR, timing: TimingConfig) -> Recording:
    lead_ns = timing.agent_lead_ms * _MS_NS
    if options.bag is not None:
        if options.user or options.agent or options.user_motion:
            raise ValueError('give --bag, or --user and --agent, got both')
        topics = Topics(options.user_topic, options.agent_topic, options.user_motion_topic)
        return read_bag(options.bag, model.space, lead_ns, topics, listening_of(options))
    if not options.user or not options.agent:
        raise ValueError('give --user and --agent, the wavs of both voices, or --bag')
    config = model.config
    turn_s = Fraction(config.frames_per_turn, config.fps)
    head = options.user_motion and read_head(options.user_motion)  # an error before the wavs
    recording = read_wavs(
        options.user, options.agent, lead_ns, turn_s, channels=channels_of(options)
    )
    return add_user_head(recording, head, model.space) if head else recording


def _from_options(cls, options: argparse.Namespace):
    names = [field.name for field in dataclasses.fields(cls) if hasattr(options, field.name)]
    return cls(**{name: getattr(options, name) for name in names})


def _digest(path: pathlib.Path) -> str:
    with open(path, 'rb') as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.learn.evaluate',
        description='Answer a recorded conversation and judge the answer.',
    )
    path, sampling, topics = pathlib.Path, SamplingConfig(), Topics()
    parser.add_argument('--user', type=path, help="wav of the user's voice")
    parser.add_argument('--agent', type=path, help="wav of the robot's voice")
    parser.add_argument('--user-motion', type=path, help="npz of the user's head, if known")
    add_listening_options(parser, has_formats=True)
    parser.add_argument('--bag', type=path, help='a bag instead: folder, .mcap or .db3')
    parser.add_argument(
        '--user-topic', default=topics.user_audio, help="the user's voice in the bag; %(default)s"
    )
    parser.add_argument(
        '--agent-topic', default=topics.agent_audio,
        help="the robot's voice in the bag; %(default)s",
    )  # fmt: skip
    parser.add_argument(
        '--user-motion-topic', default=topics.user_motion,
        help="the user's head in the bag; %(default)s",
    )  # fmt: skip
    add_timing_choice(parser)
    add_timing_options(parser)
    factor = number(0, MAX_MODEL_FACTOR)
    parser.add_argument(
        '--temperature', type=factor, default=sampling.temperature,
        help='variability of the motion; 1: as learned; %(default)s',
    )  # fmt: skip
    parser.add_argument(
        '--cfg-scale', type=factor, default=sampling.cfg_scale,
        help='weight of what is heard; 1: as learned; %(default)s',
    )  # fmt: skip
    parser.add_argument(
        '--steps', type=whole_number(2, 1000), default=sampling.steps,
        help='denoising steps; %(default)s',
    )  # fmt: skip
    emotions = ', '.join((NEUTRAL, *EMOTIONS))
    parser.add_argument('--emotion', default='', help=f'of the head: {emotions}; default: none')
    parser.add_argument(
        '--intensity', type=number(0, 1), default=0.0, help='of the emotion, 0 to 1; %(default)s'
    )
    parser.add_argument(
        '--attitude', type=number(-1, 1), default=0.0,
        help='towards what is heard: -1 rejects, 1 approves; %(default)s',
    )  # fmt: skip
    parser.add_argument(
        '--expressiveness', type=number(0, MAX_EXPRESSIVENESS), default=1.0,
        help='gain of the motion; 1: as learned; %(default)s',
    )  # fmt: skip
    parser.add_argument('--persona', default='', help='of the weights: a manner of moving')
    parser.add_argument(
        '--normalise',
        choices=('causal', 'clip'),
        default='causal',
        help='loudness: by what came before, as live, or of the whole clip, as published',
    )
    parser.add_argument('--checkpoint', type=path, help='weights; the shipped ones by default')
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    parser.add_argument(
        '--dtype', default='auto', choices=('auto', *DTYPES), help='of the weights, as live'
    )
    parser.add_argument(
        '--threads', type=whole_number(0, 1024), default=0, help="CPU threads; 0: torch's choice"
    )
    parser.add_argument(
        '--seed', type=whole_number(0), default=0, help='of the noise; %(default)s'
    )
    parser.add_argument('--out', type=path, required=True, help='folder for the three files')
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    try:
        evaluate(_parser().parse_args(arguments))
    except (OSError, ValueError) as error:
        print(f'evaluate: {in_a_sentence(error)}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    end('evaluate', main)
