# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The paper's benchmark on a folder of DualTalk: answer every clip turn by turn, print its table.

    python -m timar_ros.learn.dualtalk DIR --checkpoint C [--out OUT] [--corrupt KIND ...]

Each speaker with a motion file is the agent once. Results are kept clip by clip in OUT, so that a
stopped run resumes. Any number of clips makes a table, which states how many they are.
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

import threadpoolctl
import torch
from tqdm import tqdm

from timar_ros.command import end
from timar_ros.learn.corruption import KINDS, Corruption
from timar_ros.learn.dualtalk_clip import (
    FLAME,
    Case,
    Settings,
    find_cases,
    predict,
    read_whole_head,
    score,
)
from timar_ros.learn.dualtalk_table import format_table, make_row
from timar_ros.learn.share import SHIPPED_CHECKPOINT, find_shared
from timar_ros.model.checkpoint import load_checkpoint, read_config
from timar_ros.model.timar import TIMAR
from timar_ros.outputs import check_own_files, has_keys
from timar_ros.strict import in_a_sentence, number, parse_json, whole_number


@functools.lru_cache(1)
def _load(checkpoint: str, device: str) -> TIMAR:
    """Load the weights once in each process, which keeps to one thread."""
    torch.set_num_threads(1)
    threadpoolctl.threadpool_limits(1)
    return load_checkpoint(checkpoint, device)


def _run(case: Case, settings: Settings) -> tuple[str, dict[int, dict], str]:
    """Answer and score a clip; return its name, figures by context, and why there are none."""
    model = _load(settings.checkpoint, settings.device)
    figures = {}
    try:
        truth = read_whole_head(case.agent_npz, case.agent_wav, (FLAME,), model.config.fps)[0]
        for context, motion, partner in predict(model, case, settings):
            figures[context] = score(motion, truth, partner, model.space)
    except (ValueError, FileNotFoundError) as error:
        return case.name, figures, str(error)
    return case.name, figures, ''


def run_cases(
    cases: list[Case], settings: Settings, results: pathlib.Path, n_processes: int
) -> tuple[dict[int, list[dict]], dict[str, str]]:
    """
    Answer all cases that have no result yet.

    Args:
        cases: from `find_cases`.
        settings: weights, contexts, seed, faults.
        results: file to which each clip's result is added at once; what it holds already is taken.
        n_processes: that work at the same time.

    Returns:
        figures of every clip, by context; and why clips have none, by name.
    """
    done, failed = _read_results(results, settings.key), {}
    names = {case.name for case in cases}
    pending = []
    for case in cases:
        missing = tuple(n for n in settings.contexts if (case.name, n) not in done)
        if missing:
            pending.append((case, dataclasses.replace(settings, contexts=missing)))
    with open(results, 'a', encoding='utf-8') as file:
        bar = tqdm(
            _work(pending, n_processes),
            total=len(pending),
            unit='clip',
            desc='answering',
        )
        for name, figures, reason in bar:
            if reason:
                failed[name] = reason
            for n, values in figures.items():
                done[name, n] = values
                line = {'key': settings.key, 'clip': name, 'n': n, 'figures': values}
                file.write(json.dumps(line) + '\n')
            file.flush()
    by_context = {
        n: [values for (name, m), values in sorted(done.items()) if m == n and name in names]
        for n in settings.contexts
    }
    return by_context, failed


def _work(pending: list, n_processes: int) -> Iterator:
    if not pending:
        return
    if n_processes == 1:
        for case, wanted in pending:
            yield _run(case, wanted)
        return
    with concurrent.futures.ProcessPoolExecutor(
        n_processes, multiprocessing.get_context('spawn'), signal.signal,
        (signal.SIGINT, signal.SIG_DFL),  # Ctrl-C ends them without a traceback
    ) as pool:  # fmt: skip
        futures = [pool.submit(_run, case, wanted) for case, wanted in pending]
        for future in concurrent.futures.as_completed(futures):
            yield future.result()


def _read_results(path: pathlib.Path, key: str) -> dict[tuple[str, int], dict]:
    """Return what earlier runs left, by clip and context; a line cut off in writing is dropped."""
    done = {}
    if path.is_file():
        for text in path.read_text(encoding='utf-8').splitlines():
            try:
                line = parse_json(text, str(path))
                if line['key'] == key:
                    done[line['clip'], line['n']] = line['figures']
            except (ValueError, KeyError, TypeError):  # cut off, or not of this command
                continue
    return done


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    path = pathlib.Path
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.learn.dualtalk',
        description="The paper's table on a folder of DualTalk.",
    )
    parser.add_argument('folder', type=path, help='*_speaker1.wav, .npz and *_speaker2.wav, .npz')
    parser.add_argument('--checkpoint', type=path, help='weights; the shipped ones by default')
    parser.add_argument(
        '--out', type=path, default=path('dualtalk_out'), help='folder; %(default)s'
    )
    parser.add_argument(
        '--context',
        type=whole_number(0),
        nargs='+',
        default=[0, 1, 3, 7],
        metavar='N',
        help='how many past turns are remembered, a column of the table each; 0 1 3 7',
    )
    parser.add_argument(
        '--seed', type=whole_number(0), default=0, help='of the noise; %(default)s'
    )
    parser.add_argument(
        '--normalise', choices=('clip', 'causal'), help='loudness; as the weights were trained'
    )
    parser.add_argument('--corrupt', nargs='+', default=[], choices=KINDS, metavar='KIND',
                        help=', '.join(KINDS))  # fmt: skip
    parser.add_argument(
        '--share', type=number(0, 1), default=0.3, help='of time in bursts; %(default)s'
    )
    parser.add_argument(
        '--burst-s',
        type=number(0.04, 3600),
        default=1.0,
        help='mean length of a burst; %(default)s',
    )
    parser.add_argument(
        '--snr-db', type=number(-100, 200), default=60.0, help='of noise; %(default)s'
    )
    parser.add_argument('--clips', type=whole_number(1), help='only the first of them, by name')
    parser.add_argument(
        '--processes',
        type=whole_number(1),
        default=os.cpu_count(),
        help='that answer clips at the same time; %(default)s',
    )
    parser.add_argument('--device', default='cpu', help='cpu or cuda')
    try:
        return _print_table(parser.parse_args(arguments))
    except (OSError, ValueError) as error:
        print(f'dualtalk: {in_a_sentence(error)}', file=sys.stderr)
        return 1


def _is_own(folder: pathlib.Path) -> bool:
    results = folder / 'results.jsonl'  # empty where the first clip was not done
    is_empty = results.is_file() and not results.stat().st_size
    return is_empty or has_keys(results, 'key', 'clip', 'figures')


def _print_table(options: argparse.Namespace) -> int:
    check_own_files(options.out, ('results.jsonl', 'table.json'), _is_own, 'dualtalk')
    checkpoint = options.checkpoint or find_shared(SHIPPED_CHECKPOINT)
    config = read_config(checkpoint)
    cases, left_out = find_cases(options.folder)
    contexts = tuple(n for n in options.context if n < config.max_turns)
    if not contexts:
        raise ValueError(
            f'expected --context of 0 to {config.max_turns - 1}, as these weights remember, got '
            f'{" ".join(map(str, options.context))}'
        )
    settings = Settings(
        checkpoint=str(checkpoint),
        digest=hashlib.sha256(pathlib.Path(checkpoint).read_bytes()).hexdigest(),
        contexts=contexts,
        seed=options.seed,
        normalise=options.normalise or config.level,
        corruption=Corruption(
            tuple(sorted(options.corrupt)), options.share, options.burst_s, options.snr_db
        ),
        device=options.device,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    clips, failed = run_cases(
        cases[: options.clips], settings, options.out / 'results.jsonl', options.processes
    )
    rows = {f'here n={n}': make_row(figures) for n, figures in clips.items()}
    faults = ' '.join(settings.corruption.kinds) or 'none'
    lines = [
        f'{options.folder}: {len(cases)} predictions possible (published: 1066 test, 754 ood), '
        f'loudness {settings.normalise}, faults: {faults}, seed {settings.seed}',
        format_table(rows),
    ]
    if config.motion_space != FLAME.name:
        lines.append(f'{config.motion_space} weights: the neck and the opening of the jaw alone')
    for n in set(options.context) - set(contexts):
        lines.append(f'n={n} is left out: the weights remember {config.max_turns - 1} turns')
    lines += [f'left out: {name}: {reason}' for name, reason in (left_out | failed).items()]
    print('\n'.join(lines))
    table = {title: dataclasses.asdict(row) for title, row in rows.items()}
    (options.out / 'table.json').write_text(json.dumps(table, indent=1) + '\n', encoding='utf-8')
    return 0 if any(clips.values()) else 1


if __name__ == '__main__':
    end('dualtalk', main)
