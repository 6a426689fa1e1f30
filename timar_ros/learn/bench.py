# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The behaviour bench: weights against baselines on a folder of conversations, in one table.

    python -m timar_ros.learn.bench DIR [--checkpoint C] [--out OUT]

Answers are kept in OUT, so that a stopped run resumes. `bench_clip` describes the names of files;
docs/evaluation.md what each figure means, and which baseline scores well on it without being good.
"""

import argparse
from collections.abc import Iterator, Sequence
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import pathlib
import signal
import sys

import numpy as np
import threadpoolctl
import torch
from tqdm import tqdm

from timar_ros.bounds import MAX_MODEL_FACTOR
from timar_ros.command import end
from timar_ros.config import SamplingConfig, TimingConfig
from timar_ros.learn import behaviour, bench_table
from timar_ros.learn.bench_clip import (
    Case,
    Variant,
    ask,
    contestants,
    describe_case,
    find_cases,
    next_of,
    read_cues,
    read_real,
)
from timar_ros.learn.bench_style import face_figures, style_rows, style_variants
from timar_ros.learn.bench_table import TITLES, Judged
from timar_ros.learn.figures import Answer
from timar_ros.learn.listening import add_listening_options, channels_of
from timar_ros.learn.share import SHIPPED_CHECKPOINT, find_shared
from timar_ros.learn.timing_options import add_timing_choice, add_timing_options
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.model.timar import TIMAR
from timar_ros.npz import Arrays
from timar_ros.outputs import check_own_files, has_keys
from timar_ros.stream.channels import MEAN
from timar_ros.strict import in_a_sentence, number, whole_number

_MODEL = Variant('model')
_LISTENER = (Variant('no user', user_gain=0.0), Variant('no own', agent_gain=0.0))
# Asked about the first conversation alone.
_SEEDS = tuple(Variant(f'seed {seed}', seed=seed) for seed in (1, 2))
_QUIET = Variant('quiet', user_gain=0.25, agent_gain=0.25)  # -12 dB


@dataclasses.dataclass(frozen=True)
class Settings:
    """
    All that an answer depends on, beside the conversation and the variant.

    Attributes:
        checkpoint: path of the weights.
        digest: of the weights.
        timing: when to plan.
        temperature: of the drawing.
        device: torch device.
        answers: folder in which answers are kept.
        channels: voice -> which channel of its wav is heard, where that is not the mean.
    """

    checkpoint: str
    digest: str
    timing: TimingConfig
    temperature: float
    device: str
    answers: pathlib.Path
    channels: dict[str, int] = dataclasses.field(default_factory=dict)

    def path(self, case: Case, variant: Variant) -> pathlib.Path:
        """Return where an answer is kept; changed files, weights or times give another path."""
        voices = [case.user_wav, case.agent_wav] + ([case.user_npz] if case.user_npz else [])
        parts = [self.digest, dataclasses.asdict(self.timing), self.temperature]
        parts += [dataclasses.asdict(variant), [_digest(path) for path in voices]]
        parts += [dict(self.channels)] if self.channels else []
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]
        return self.answers / f'{case.name}_{variant.title.replace(" ", "_")}_{key}.npz'


@functools.lru_cache(1)
def _load(checkpoint: str, device: str) -> TIMAR:
    """Load the weights once in each process, which keeps to one thread."""
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    return load_checkpoint(checkpoint, device)


def _answer(case: Case, variant: Variant, settings: Settings) -> str:
    """Answer a conversation and keep the answer; return why there is none."""
    path = settings.path(case, variant)
    if path.is_file():
        return ''
    model = _load(settings.checkpoint, settings.device)
    try:
        sampling = SamplingConfig(temperature=settings.temperature)
        shown = ask(model, case, variant, settings.timing, sampling, settings.channels)
    except (ValueError, FileNotFoundError) as error:
        return str(error)
    unfinished = path.with_suffix(f'.{os.getpid()}.tmp')
    with open(unfinished, 'wb') as file:
        np.savez(
            file, motion=shown.motion, user_voice=shown.user_voice, agent_voice=shown.agent_voice
        )
    unfinished.replace(path)
    return ''


def _read_answer(path: pathlib.Path, model: TIMAR) -> Answer:
    arrays = Arrays(path)
    content = {name: arrays[name] for name in ('motion', 'user_voice', 'agent_voice')}
    config = model.config
    return Answer(model.space, config.fps, config.frames_per_turn, 0, **content)


def _work(jobs: list, n_processes: int) -> Iterator[tuple[Case, str]]:
    if n_processes == 1:
        for job in jobs:
            yield job[0], _answer(*job)
        return
    with concurrent.futures.ProcessPoolExecutor(
        n_processes, multiprocessing.get_context('spawn'), signal.signal,
        (signal.SIGINT, signal.SIG_DFL),  # Ctrl-C ends them without a traceback
    ) as workers:  # fmt: skip
        futures = {workers.submit(_answer, *job): job[0] for job in jobs}
        for future in concurrent.futures.as_completed(futures):
            yield futures[future], future.result()


def run(
    cases: list[Case], settings: Settings, n_processes: int = 1, is_short: bool = False
) -> tuple[dict[str, list[Judged]], dict[str, float], dict[str, str]]:
    """
    Answer conversations, make the baselines, judge all.

    Args:
        cases: from `find_cases`.
        settings: weights and times.
        n_processes: that answer at the same time.
        is_short: leave out what needs further answers of the model: the listener test, the seeds
            and the loudness.

    Returns:
        figures of every conversation, by contestant; figures of the model alone, by name; and why
            conversations are left out, by name.

    Raises:
        ValueError: no conversation can be answered.
    """
    variants = [_MODEL] if is_short else [_MODEL, *_LISTENER]
    jobs = [(case, variant, settings) for case in cases for variant in variants]
    jobs += [(cases[0], variant, settings) for variant in (*_SEEDS, _QUIET) if not is_short]
    failed = {}
    for case, reason in tqdm(_work(jobs, n_processes), 'answering', len(jobs), unit='answer'):
        if reason:
            failed[case.name] = reason
    model = _load(settings.checkpoint, settings.device)
    answers, truths = [], []
    for case in cases:
        if case.name in failed:
            continue
        try:
            truths.append(
                (read_real(case, model.space, model.config.fps), read_cues(case.truth_json))
            )
        except (ValueError, FileNotFoundError) as error:
            failed[case.name] = str(error)
            continue
        answers.append((case, _read_answer(settings.path(case, _MODEL), model)))
    if not answers:
        raise ValueError(
            f'none of the conversations can be answered: {next(iter(failed.values()))}'
        )
    judged: dict[str, list[Judged]] = {title: [] for title in TITLES}
    for i, ((case, own), (real, cues_s)) in enumerate(zip(answers, truths, strict=True)):
        other = next_of(answers, i)
        other_real = next_of(truths, i)
        motions = contestants(
            own, real, other and other[1].motion, None if other_real is None else other_real[0]
        )
        for variant in variants[1:]:
            motions[variant.title] = _read_answer(settings.path(case, variant), model).motion
        for title, motion in motions.items():
            shown = dataclasses.replace(own, motion=motion)
            is_recorded = title in bench_table.RECORDED
            judged[title].append(
                bench_table.judge(shown, cues_s, motions.get('real'), is_recorded)
            )
    alone = {} if is_short else _alone(answers, settings, model)
    return {title: clips for title, clips in judged.items() if clips}, alone, failed


def run_styles(cases: list[Case], settings: Settings, n_processes: int = 1) -> list[list[str]]:
    """
    Answer conversations in each style that the weights have.

    Args:
        cases: that can be answered; none of them without a style again if it was before.
        settings: weights and times.
        n_processes: that answer at the same time.

    Returns:
        the table of styles, as lines of cells.

    Raises:
        ValueError: a conversation cannot be answered.
    """
    model = _load(settings.checkpoint, settings.device)
    variants = [_MODEL, *style_variants(model.config)]
    jobs = [(case, variant, settings) for case in cases for variant in variants]
    for case, reason in tqdm(_work(jobs, n_processes), 'styles', len(jobs), unit='answer'):
        if reason:
            raise ValueError(f'{case.name}: {reason}')
    styles = {}
    for variant in variants:
        answers = [(c, _read_answer(settings.path(c, variant), model)) for c in cases]
        styles[variant.title] = [
            (bench_table.judge(a, read_cues(c.truth_json), None), face_figures(a))
            for c, a in answers
        ]
    return style_rows(styles)


def _alone(answers: list[tuple[Case, Answer]], settings: Settings, model: TIMAR) -> dict:
    """Measure what needs several answers to one conversation."""
    case, own = answers[0]

    def again(case: Case, variant: Variant) -> Answer:
        return _read_answer(settings.path(case, variant), model)

    figures = {}
    if settings.path(case, _QUIET).is_file():
        seeds = np.stack([own.neck, *(again(case, variant).neck for variant in _SEEDS)])
        quiet = again(case, _QUIET)
        figures |= {
            'diversity_neck_deg': behaviour.diversity(np.rad2deg(seeds)),
            'change_at_-12_db_neck': behaviour.relative_difference(quiet.neck, own.neck),
            'change_at_-12_db_jaw': _jaw_change(quiet, own),
        }
    for variant in _LISTENER:
        pairs = [(again(case, variant), own) for case, own in answers]
        title = variant.title.replace(' ', '_')
        necks = [behaviour.relative_difference(a.neck, b.neck) for a, b in pairs]
        figures[f'change_with_{title}_neck'] = float(np.mean(necks))
        jaws = [_jaw_change(*pair) for pair in pairs]
        figures[f'change_with_{title}_jaw'] = float(np.mean(jaws))
    return figures


def _jaw_change(changed: Answer, own: Answer) -> float:
    return behaviour.relative_difference(changed.jaw[:, None], own.jaw[:, None])


def _digest(path) -> str:
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def _report(options: argparse.Namespace, settings: Settings, cases: list[Case]) -> None:
    judged, alone, failed = run(cases, settings, options.processes, options.short)
    pooled = {title: bench_table.pool(clips) for title, clips in judged.items()}
    rows = {title: values for title, (values, _) in pooled.items()}
    lines = bench_table.table_rows(rows)
    clips = judged['model']
    duration_s = sum(clip.duration_s for clip in clips)
    n_cues = sum(len(clip.cues_s or ()) for clip in clips)
    timing = settings.timing
    plans = f' at {timing.replan_hz:g} Hz' if timing.timing == 'anticipate' else ''
    weights = f'{pathlib.Path(settings.checkpoint).name} ({settings.digest[:12]})'
    about = (
        f'{len(clips)} conversations, {duration_s / 60:.1f} min, {n_cues} cues; '
        f'{weights}, {timing.timing}{plans}'
    )
    legend = [f'{title}: {TITLES[title]}' for title in rows]
    extra = [f'{name}: {value:.3g}' for name, value in alone.items()]
    answered = {f1: rows[f1]['nod_f1'] for f1 in rows if rows[f1]['nod_f1'] is not None}
    rivals = {title: answered[title] for title in bench_table.BASELINES[:-1] if title in answered}
    if rivals:
        best = max(rivals, key=rivals.get)
        extra.append(f'best F1 of a baseline but the rule: {rivals[best]:.3g} ({best})')
    lags = [f'lags of answered cues, {title}:\n{bench_table.histogram(pooled[title][1])}'
            for title in ('real', 'model') if title in pooled and pooled[title][1]]  # fmt: skip
    left_out = [f'left out: {name}: {reason}' for name, reason in failed.items()]
    used = [case for case in cases if case.name not in failed]
    left_out += [
        f'note: {note}' for case in used for note in describe_case(case, settings.channels)
    ]
    styles = []
    if options.styles:
        styles = run_styles(used[: options.styles], settings, options.processes)
        left_out += ['', bench_table.as_text(styles)]
    text = '\n'.join(
        [about, bench_table.as_text(lines), '', *legend, '', *extra, *lags, *left_out]
    )
    print(text)
    content = {
        'about': about,
        'figures': rows,
        'alone': alone,
        'lags_s': {title: lags_s for title, (_, lags_s) in pooled.items()},
        'conversations': {
            title: [dataclasses.asdict(c) for c in js] for title, js in judged.items()
        },
        'left_out': failed,
        'styles': styles,
    }
    (options.out / 'bench.json').write_text(json.dumps(content, indent=1) + '\n', 'utf-8')
    listed = ''.join(f'- {line}\n' for line in [*legend, *extra])
    page = f'{about}. \\* = as wanted.\n\n{bench_table.as_markdown(lines)}\n{listed}'
    page += f'\n{bench_table.as_markdown(styles)}' if styles else ''
    (options.out / 'bench.md').write_text(page, 'utf-8')


def _parser() -> argparse.ArgumentParser:
    path = pathlib.Path
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.learn.bench',
        description='Weights against baselines on a folder of conversations.',
    )
    parser.add_argument('folder', type=path, help='<clip>_user.wav, <clip>_agent.wav, ...')
    parser.add_argument('--checkpoint', type=path, help='weights; the shipped ones by default')
    parser.add_argument(
        '--out', type=path, default=path('bench_out'), help='folder to write; %(default)s'
    )
    add_timing_choice(parser)
    add_timing_options(parser, ['replan_hz'])
    parser.add_argument(
        '--temperature', type=number(0, MAX_MODEL_FACTOR), default=SamplingConfig().temperature,
        help='variability of the motion; %(default)s',
    )  # fmt: skip
    add_listening_options(parser)
    parser.add_argument('--clips', type=whole_number(1), help='only the first of them, by name')
    parser.add_argument(
        '--short', action='store_true', help='without listener test, seeds and loudness'
    )
    parser.add_argument(
        '--styles', type=whole_number(0), default=0, metavar='N',
        help='answer the first N in each style, too',
    )  # fmt: skip
    parser.add_argument(
        '--processes', type=whole_number(1), default=os.cpu_count(),
        help='that answer clips at the same time; %(default)s',
    )  # fmt: skip
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    try:
        cases, left_out = find_cases(options.folder)
        for name, reason in left_out.items():
            print(f'left out: {name}: {reason}')
        checkpoint = options.checkpoint or find_shared(SHIPPED_CHECKPOINT)
        if not pathlib.Path(checkpoint).is_file():
            raise FileNotFoundError(f'no checkpoint at {checkpoint}; train one or leave it out')
        check_own_files(
            options.out,
            ('bench.json', 'bench.md'),
            lambda folder: has_keys(folder / 'bench.json', 'about', 'figures'),
            'bench',
        )
        answers = options.out / 'answers'
        answers.mkdir(parents=True, exist_ok=True)
        settings = Settings(
            str(checkpoint),
            _digest(checkpoint),
            TimingConfig(timing=options.timing, replan_hz=options.replan_hz),
            options.temperature,
            options.device,
            answers,
            {voice: each for voice, each in channels_of(options).items() if each != MEAN},
        )
        _report(options, settings, cases[: options.clips])
    except (OSError, ValueError) as error:
        print(f'bench: {in_a_sentence(error)}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    end('bench', main)
