# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Hours of conversation, one fault after the other, faster than life; may be stopped at any time.

A fault comes every half minute or so. The clean run that it is compared with is a copy of the
conversation made just before, so hours of faults behind it are part of both. Conversations of
different seeds run side by side, each in a process of its own.
"""

import dataclasses
import multiprocessing
import os
import pathlib
import pickle
import sys
import time

from compare import AFTER_S, Row, ns_of, play_clean, play_fault, problems, row_of
from faults import FAULTS, Fault, silences
import numpy as np
from simulation import (
    CHUNK_S,
    Stage,
    make_conversation,
    read_dialogue,
    resident_mib,
    tiny_model,
)
import torch

_PAUSE_S = (10.0, 50.0)
# What is still looked at of what was shown.
_KEPT_S = 2.0
_SAVE_EVERY_S = 60.0
# One fault in so many is ten minutes long.
_LONG_EVERY = 60


@dataclasses.dataclass
class Sample:
    """What the process looks like at a time of the conversation."""

    at_s: float
    rss_mib: float
    held_kib: float
    plan_ms: float


class Soak:
    """
    A conversation, the faults it went through, and what it costs.

    Attributes:
        at_s: length of the conversation so far.
        rows: what each fault did, in order.
        found: (time in s, problem) of those that did what they should not.
        samples: one for each fault.
    """

    def __init__(self, model, seed: int = 0):
        """Begin."""
        self.at_s, self.rows, self.found, self.samples = 0.0, [], [], []
        self._stage = Stage(make_conversation(model))
        self._rng = np.random.default_rng(seed)
        self._queue: list[int] = []

    def go_on(self, dialogue: dict[str, np.ndarray]) -> None:
        """Converse for a while, then meet the next fault."""
        chunks = round(self._rng.uniform(*_PAUSE_S) / CHUNK_S)
        begin_s = round(self.at_s + chunks * CHUNK_S, 6)
        fault = self._next_fault()
        stage = play_clean(self._stage, dialogue, self.at_s, begin_s)
        schedule = stage.conversation.schedule
        stage.forget_before(schedule.frame_at_or_after(ns_of(begin_s - _KEPT_S)))
        plan_ms = float(np.median(stage.plan_ms)) if stage.plan_ms else float('nan')
        stage.plan_ms, stage.peak_kib = [], 0.0
        end_s = round(begin_s + fault.duration_s + AFTER_S, 6)
        clean = play_clean(stage.fork(), dialogue, begin_s, end_s)
        play_fault(stage, dialogue, fault, begin_s, self._rng)
        row = row_of(fault, begin_s, stage, clean)
        stage.jump_deg = 0.0
        self.rows.append(row)
        self.found += [(begin_s, f'{fault.name}: {text}') for text in problems(fault, row)]
        self.samples.append(Sample(end_s, resident_mib(), stage.peak_kib, plan_ms))
        self.at_s = end_s

    def _next_fault(self) -> Fault:
        """Take each fault once, in random order, then again; now and then a long silence."""
        if len(self.rows) % _LONG_EVERY == _LONG_EVERY - 1:
            return silences(600.0)[len(self.rows) // _LONG_EVERY % 2]
        if not self._queue:
            self._queue = self._rng.permutation(len(FAULTS)).tolist()
        return FAULTS[self._queue.pop()]

    def save(self, path: pathlib.Path) -> None:
        """Write all of it but the weights, at once or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix('.new')
        with open(new, 'wb') as file:
            _Pickler(file, self._stage.conversation.engine.model).dump(self)
        os.replace(new, path)


def load(path: pathlib.Path, model) -> Soak:
    """Read what `save` wrote, for the same weights."""
    with open(path, 'rb') as file:
        return _Unpickler(file, model).load()


class _Pickler(pickle.Pickler):
    """Leaves the weights out."""

    def __init__(self, file, model):
        super().__init__(file)
        self._parts = {id(model): 'model', id(model.speech): 'speech'}

    def persistent_id(self, obj):
        return self._parts.get(id(obj))


class _Unpickler(pickle.Unpickler):
    """Puts the weights back."""

    def __init__(self, file, model):
        super().__init__(file)
        self._parts = {'model': model, 'speech': model.speech}

    def persistent_load(self, pid):
        return self._parts[pid]


def run(n_conversations: int, hours: float, folder: pathlib.Path) -> list[Soak]:
    """
    Converse until so many hours are full, from where a run before this one was stopped.

    Args:
        n_conversations: number of processes, one conversation each.
        hours: of each conversation.
        folder: of what is done so far, and how it went.
    """
    tasks = [(seed, hours, _state(folder, seed)) for seed in range(n_conversations)]
    with multiprocessing.get_context('spawn').Pool(n_conversations) as pool:
        pool.starmap(_converse, tasks)
    model = tiny_model()
    return [load(state, model) for _, _, state in tasks]


def _state(folder: pathlib.Path, seed: int) -> pathlib.Path:
    return folder / f'soak-{seed}.pickle'


def _converse(seed: int, hours: float, state: pathlib.Path) -> None:
    torch.set_num_threads(1)  # tensors as small as these only wait for a second one
    model, dialogue, saved = tiny_model(), read_dialogue(), time.monotonic()
    soak = load(state, model) if state.exists() else Soak(model, seed)
    while soak.at_s < 3600 * hours:
        soak.go_on(dialogue)
        if time.monotonic() - saved > _SAVE_EVERY_S:
            soak.save(state)
            saved = time.monotonic()
            text = f'conversation {seed}: {soak.at_s / 3600:.2f} h, {len(soak.found)} problems\n'
            sys.stdout.write(text)
            sys.stdout.flush()
    soak.save(state)


def worst(rows: list[Row]) -> list[tuple[int, Row]]:
    """Return for each fault how often it came, and the worst of each figure."""
    merged = []
    for name in dict.fromkeys(row.name for row in rows):
        of = [row for row in rows if row.name == name]
        figures = {
            field.name: max(getattr(row, field.name) for row in of)
            for field in dataclasses.fields(Row)
            if field.type is float
        }
        counters = {key: sum(row.counters.get(key, 0) for row in of) for key in of[0].counters}
        merged.append((len(of), Row(name=name, counters=counters, **figures)))
    return merged
