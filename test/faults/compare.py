# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A conversation with a fault beside the same conversation without it, and what the head made of it.

Times are seconds since `BEGIN_NS`.
"""

import dataclasses

from faults import Fault
import numpy as np
from simulation import (
    BEGIN_NS,
    CHUNK_S,
    SECOND_NS,
    Event,
    Stage,
    dialogue_events,
    largest_blend_step,
    largest_step_deg,
)

from timar_ros.stream.level import FLOOR

# "Right again within two turns"; the tiny model's turn.
SETTLED_S = 2.0
# Played after the fault, to see whether the motion is right again.
AFTER_S = 5.0
# No call may take longer, on a busy machine too: that would be a hang.
_HANG_MS = 5000.0
# Other sounds make other motion: so much further may its own largest frame take the head.
_OTHER_DEG = 0.5
# A blend is exact: only rounding of float32 is left, some 1e-5 degrees.
JUMP_DEG = 0.001
_MOST_KIB = 4096.0


@dataclasses.dataclass(frozen=True)
class Row:
    """
    What one fault did.

    Attributes:
        name: of the fault.
        duration_s: how long it lasted.
        step_deg, clean_step_deg: the largest angle between two frames in a row, with the fault
            and without it.
        more_deg: how much larger the step with it may be (`largest_blend_step` of twice `off_deg`,
            and what the head may do by itself).
        jump_deg: how much further a frame of a new plan was from the plan before it than a blend
            takes it (`Stage`).
        off_deg: how far the head was off the clean run at most.
        right_deg: how far, from two turns after the fault's end on.
        softer_db: how much softer than without the fault the user is heard, `AFTER_S` after its
            end, since the voice is remembered as that much louder.
        right_after_s: when, after the fault's end, it was off for the last time.
        peak_kib: audio and motion held.
        slowest_ms: the longest call.
        counters: those that differ from the clean run's, and by how much.
    """

    name: str
    duration_s: float
    step_deg: float
    clean_step_deg: float
    more_deg: float
    jump_deg: float
    off_deg: float
    right_deg: float
    softer_db: float
    right_after_s: float
    peak_kib: float
    slowest_ms: float
    counters: dict[str, int]


def ns_of(seconds: float) -> int:
    """Return a time as a stamp."""
    return BEGIN_NS + round(seconds * SECOND_NS)


def arriving(dialogue: dict[str, np.ndarray], from_s: float, to_s: float) -> list[Event]:
    """Return what arrives from one time on and before another, of a dialogue without fault."""
    first, last = round((from_s - 1) / CHUNK_S), round((to_s + 1) / CHUNK_S)
    events = dialogue_events(dialogue, max(first, 0), last - max(first, 0))
    begin_ns = ns_of(from_s) if from_s > 0 else 0
    return [event for event in events if begin_ns <= event.arrival_ns < ns_of(to_s)]


def play_clean(stage: Stage, dialogue: dict[str, np.ndarray], from_s: float, to_s: float) -> Stage:
    """Play a stage on; all that arrives before `from_s` it has heard."""
    stage.play(arriving(dialogue, from_s, to_s), ns_of(to_s))
    return stage


def play_fault(
    stage: Stage,
    dialogue: dict[str, np.ndarray],
    fault: Fault,
    begin_s: float,
    rng: np.random.Generator,
) -> Stage:
    """Play a stage on with a fault, and `AFTER_S` more; what came before is spoiled by nobody."""
    begin_ns, end_ns = ns_of(begin_s), ns_of(begin_s + fault.duration_s)
    until_s = begin_s + fault.duration_s + AFTER_S
    events = arriving(dialogue, begin_s, until_s)
    during = [event for event in events if begin_ns <= event.stamp_ns < end_ns]
    after = [event for event in events if event.stamp_ns >= end_ns]
    stage.play(
        [event for event in events if event.stamp_ns < begin_ns]
        + fault.spoil(during, rng)
        + fault.after(after),
        ns_of(until_s),
        lambda ns: begin_ns <= ns < end_ns and fault.is_stalled((ns - begin_ns) / SECOND_NS),
        lambda ns: begin_ns <= ns < end_ns and fault.is_late((ns - begin_ns) / SECOND_NS),
    )
    return stage


def row_of(fault: Fault, begin_s: float, faulty: Stage, clean: Stage) -> Row:
    """Compare two stages that have played to `AFTER_S` after a fault's end, one without it."""
    schedule = clean.conversation.schedule
    frames = [
        schedule.frame_at_or_after(ns_of(begin_s + seconds))
        for seconds in (0.0, fault.duration_s, fault.duration_s + AFTER_S)
    ]
    shown, right = (_shown_deg(stage, frames[0], frames[2]) for stage in (faulty, clean))
    off = np.linalg.norm(shown - right, axis=-1)
    fps, n_fault = schedule.config.fps, frames[1] - frames[0]
    wrong = np.flatnonzero(off > fault.off_deg)
    before, after = clean.conversation.counters(), faulty.conversation.counters()
    return Row(
        name=fault.name,
        duration_s=fault.duration_s,
        step_deg=largest_step_deg(shown),
        clean_step_deg=largest_step_deg(right),
        # A blend takes the head to where a fault leads it, and back, never a jump; while it lasts,
        # from one plan that is off to another that is off the other way.
        more_deg=_OTHER_DEG + largest_blend_step(schedule) * 2 * float(off.max()),
        jump_deg=faulty.jump_deg,
        off_deg=float(off.max()),
        right_deg=float(off[n_fault + round(SETTLED_S * fps) :].max()),
        softer_db=_loudness_db(faulty) - _loudness_db(clean),
        right_after_s=max(wrong[-1] + 1 - n_fault, 0) / fps if len(wrong) else 0.0,
        peak_kib=faulty.peak_kib,
        slowest_ms=max(faulty.plan_ms),
        counters={name: n - before[name] for name, n in after.items() if n != before[name]},
    )


def _shown_deg(stage: Stage, first: int, last: int) -> np.ndarray:
    """Return what was shown of `[first, last)`; a head for which nothing is planned is at rest."""
    shown = stage.neck_deg()[first - stage.first_frame : last - stage.first_frame]
    return np.pad(shown, ((0, last - first - len(shown)), (0, 0)))


def _loudness_db(stage: Stage) -> float:
    """Return how loud the user is remembered to be, as the mean power, dB."""
    level = stage.conversation._memory.levels['user'].voice
    return 10 * float(np.log10(level.energy / level.weight + FLOOR))


def problems(fault: Fault, row: Row) -> list[str]:
    """Return what a fault should not have done."""
    found = []
    if not row.jump_deg <= JUMP_DEG:
        found.append(f'a plan began {row.jump_deg:.2f} degrees further off than a blend does')
    if row.step_deg > row.clean_step_deg + row.more_deg:
        found.append(
            f'the head moved {row.step_deg:.2f} degrees in a frame, without the fault '
            f'{row.clean_step_deg:.2f}; {row.more_deg:.2f} more are allowed'
        )
    if not row.right_deg <= fault.off_deg:
        found.append(
            f'two turns after its end the head is {row.right_deg:.3f} degrees off, '
            f'{fault.off_deg} are allowed'
        )
    if not row.softer_db <= fault.softer_db:
        found.append(
            f'{AFTER_S:g} s after its end the user is heard {row.softer_db:.1f} dB too soft, '
            f'{fault.softer_db:g} are allowed'
        )
    found += [f'{name} does not tell of it' for name in fault.tells if name not in row.counters]
    for name, most in fault.at_most.items():
        n = row.counters.get(name, 0)
        if n > most:
            found.append(f'{name} grew by {n}, {most} are allowed')
    if row.peak_kib > _MOST_KIB:
        found.append(f'{row.peak_kib:.0f} KiB are held, at most {_MOST_KIB:.0f} were expected')
    if row.slowest_ms > _HANG_MS:
        found.append(f'a plan took {row.slowest_ms:.0f} ms')
    return found


def table(rows: list[Row]) -> str:
    """Return rows as a Markdown table."""
    lines = [
        '| fault | lasts s | largest step ° (without) | off at most ° | off two turns later ° '
        '| right again after s | heard softer by dB | held KiB | slowest plan ms '
        '| counters that tell |',
        '|---|---|---|---|---|---|---|---|---|---|',
    ]
    for row in rows:
        counters = ', '.join(f'{name} {n:+d}' for name, n in row.counters.items())
        lines.append(
            f'| {row.name} | {row.duration_s:g} | {row.step_deg:.2f} ({row.clean_step_deg:.2f}) '
            f'| {row.off_deg:.2f} | {row.right_deg:.3f} | {row.right_after_s:.2f} '
            f'| {row.softer_db:.1f} | {row.peak_kib:.0f} | {row.slowest_ms:.0f} | {counters} |'
        )
    return '\n'.join(lines)
