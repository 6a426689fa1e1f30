# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The bench's figures over many conversations: pooled, and as a table with people's range beside.

Knows which figures there are and what is wanted of a model; `figures` and `events` compute them.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from timar_ros.learn import events, metrics
from timar_ros.learn.figures import FROZEN_DEG_S, GROUPS, Answer, Figure, compute_figures

TITLES = {
    'real': 'what was really done (of simulated conversations: the teacher)',
    'model': 'the weights',
    'no user': "the weights, which hear silence for the user and don't see him",
    'no own': 'the weights, which hear silence for their own voice',
    'swapped': "the weights' answer to another conversation",
    'still': 'a frozen face, in the mean pose of the real one',
    'late': 'what was really done, 1 s late',
    'other': 'what was really done in another conversation',
    'wobble': 'a head that sways and a mouth that opens as it is loud',
    'rule': "a nod 700 ms after Ward and Tsukahara's cue, a mouth that opens as it is loud",
}
# Motion that was measured, or made from such.
RECORDED = ('real', 'late', 'other')
BASELINES = ('swapped', 'still', 'late', 'other', 'wobble', 'rule')
_NODS = (
    Figure('nod_f1', '', 'nods that answer cues', fooled_by='what nods all the time, in part'),
    Figure('nod_recall', '', 'cues that are answered', fooled_by='a nod every second'),
    Figure('nod_precision', '', 'nods that answer a cue', fooled_by='a single lucky nod'),
    Figure('nod_lag_s', 's', 'median time from cue to nod', 0.3, 1.2, 'about 0.7 s',
           'the window itself'),
    Figure('false_nods_per_minute', '/min', 'other nods, a minute of listening',
           fooled_by='a head that never nods'),
)  # fmt: skip
_DISTANCES = (
    Figure('fd_neck', '°²', 'FD of the neck to the real one', fooled_by='late, other'),
    Figure('mse_neck', '°²', 'MSE of the neck', fooled_by='a still head'),
    Figure('mse_jaw', '°²', 'MSE of the jaw', fooled_by='a mouth half open'),
)
_RECORDING = 'The recording'
GROUPS_OF_BENCH = {
    **{title: group for title, group in GROUPS.items() if title != _RECORDING},
    'Nods at planted cues': _NODS,
    'Distance to what was really done': _DISTANCES,
}
FIGURES = {figure.name: figure for group in GROUPS_OF_BENCH.values() for figure in group}
# What a model has to reach; where people's range is what is wanted, `Figure` has it.
GOALS: dict[str, tuple[float | None, float | None]] = {
    'head_speed_p50': (5, 20),
    'head_speed_p95': (23, 57),
    'power_share_0.2_1.1_hz': (0.71, 0.88),
    'power_share_7_hz': (None, 0.02),
    'seam_ratio': (None, 1.1),
    # not frozen
    'silent_head_speed': (0.1, None),
    'liveliness_ratio': (4, None),
    'lip_lag_ms': (-60, 40),
    'lip_correlation': (0.6, None),
    'mouth_rest_ratio': (None, 0.1),
    'nod_f1': (0.6, None),
    'nod_lag_s': (0.3, 1.2),
    'false_nods_per_minute': (None, 3),
}


@dataclasses.dataclass(frozen=True)
class Judged:
    """
    Figures of one motion in one conversation.

    Attributes:
        values: by name; None where one cannot be said.
        nods_s: when nods began: those while listening, and those that may answer a cue.
        cues_s: when the agent was invited to nod; None = nobody knows.
        listened_s: how long the agent was silent.
        duration_s: of the conversation.
    """

    values: dict[str, float | None]
    nods_s: tuple[float, ...]
    cues_s: tuple[float, ...] | None
    listened_s: float
    duration_s: float


def judge(
    answer: Answer, cues_s: np.ndarray | None, real: np.ndarray | None, is_recorded: bool = False
) -> Judged:
    """
    Compute all figures of one motion.

    Args:
        answer: the motion and the voices.
        cues_s: from `read_cues`.
        real: what was really done `[F, M]`, None if unknown.
        is_recorded: the motion was measured; eyelids that never move were not.
    """
    values, _ = compute_figures(answer)
    if is_recorded and not values['blinks_per_minute']:
        values['blinks_per_minute'] = None
    n = len(answer.motion)
    speaks = answer.activity(answer.agent_voice)
    nods = events.find_nods(answer.neck, answer.fps) if n > 2 * answer.fps else []
    starts_s = [nod.start_s for nod in nods]
    known = np.array([] if cues_s is None else cues_s)
    counted = [
        start_s
        for start_s in starts_s
        if not speaks[min(int(start_s * answer.fps), n - 1)]
        or events.may_answer(start_s - known).any()
    ]
    if real is not None:
        values |= _distances(answer, real)
    return Judged(
        values,
        tuple(counted),
        None if cues_s is None else tuple(known.tolist()),
        float((~speaks).sum() / answer.fps),
        n / answer.fps,
    )


def _distances(answer: Answer, real: np.ndarray) -> dict[str, float]:
    n = min(len(real), len(answer.motion))
    truth = dataclasses.replace(answer, motion=real[:n])
    neck, true_neck = np.rad2deg(answer.neck[:n]), np.rad2deg(truth.neck)
    jaw, true_jaw = (np.rad2deg(a.jaw[:n])[:, None] for a in (answer, truth))
    return {
        'fd_neck': metrics.frechet_distance(neck, true_neck),
        'mse_neck': metrics.mean_squared_error(neck, true_neck),
        'mse_jaw': metrics.mean_squared_error(jaw, true_jaw),
    }


def pool(clips: Sequence[Judged]) -> tuple[dict[str, float | None], tuple[float, ...]]:
    """
    Sum up one contestant's figures over conversations.

    Figures of nods are counted over all cues together, liveliness is a ratio of means; the others
    are means weighted by duration, over the conversations that have them.

    Returns:
        figure by name, None where no conversation has it; and the lags of answered cues, s.
    """
    pooled: dict[str, float | None] = {}
    for name in FIGURES:
        known = [clip for clip in clips if clip.values.get(name) is not None]
        weights = [clip.duration_s for clip in known]
        values = [clip.values[name] for clip in known]
        pooled[name] = float(np.average(values, weights=weights)) if known else None
    silent, lively = pooled['silent_head_speed'], pooled['lively_head_speed']
    is_alive = silent is not None and lively is not None and silent >= FROZEN_DEG_S
    pooled['liveliness_ratio'] = lively / silent if is_alive else None
    known = [clip for clip in clips if clip.cues_s is not None]
    if not known:
        return pooled, ()
    nods, cues, begin_s = [], [], 0.0
    for clip in known:  # one after the other, far enough apart
        nods += [begin_s + time_s for time_s in clip.nods_s]
        cues += [begin_s + time_s for time_s in clip.cues_s]
        begin_s += clip.duration_s + 60.0
    match = events.match_events(nods, cues, sum(clip.listened_s for clip in known))
    pooled |= {
        'nod_f1': match.f1 if cues else None,
        'nod_recall': match.recall if cues else None,
        'nod_precision': match.precision if nods else None,
        'nod_lag_s': float(np.median(match.lags_s)) if match.lags_s else None,
        'false_nods_per_minute': match.false_per_minute,
    }
    return pooled, match.lags_s


def is_reached(name: str, value: float | None) -> bool | None:
    """Say whether a value is what is wanted of a model; None where nothing is, or no value."""
    if name not in GOALS or value is None:
        return None
    return Figure(name, '', '', *GOALS[name]).holds(value)


def fools(name: str, rows: dict[str, dict]) -> list[str]:
    """Say which baselines reach what is wanted, or else what people have."""
    figure = FIGURES[name]
    judge_value = (lambda v: is_reached(name, v)) if name in GOALS else figure.holds
    return [who for who in BASELINES if who in rows and judge_value(rows[who][name])]


def count_reached(rows: dict[str, dict]) -> list[str]:
    """Count each contestant's goals reached, of those that anyone has a value for."""
    known = [name for name in GOALS if any(row[name] is not None for row in rows.values())]
    counts = [sum(bool(is_reached(name, row[name])) for name in known) for row in rows.values()]
    return [f'{count} of {len(known)}' for count in counts]


def table_rows(rows: dict[str, dict]) -> list[list[str]]:
    """
    Lay out the table.

    Args:
        rows: pooled figures by contestant, in the order of the columns.

    Returns:
        lines of cells, the head first; a line of one cell is the title of a group.
    """
    lines = [['', 'people', 'wanted', *rows, 'fooled by']]
    for title, group in GROUPS_OF_BENCH.items():
        known = [f for f in group if any(row[f.name] is not None for row in rows.values())]
        lines += [[title]] if known else []
        for figure in known:
            name = f'{figure.name} {figure.unit}'.strip()
            cells = [_mark(figure.name, values[figure.name]) for values in rows.values()]
            people = _range(figure.lowest, figure.highest)
            goal = _range(*GOALS.get(figure.name, (None, None)))
            lines.append([name, people, goal, *cells, ', '.join(fools(figure.name, rows))])
    lines.append(['goals reached', '', '', *count_reached(rows), ''])
    return lines


def as_text(lines: list[list[str]]) -> str:
    """Write `table_rows` for a terminal; * = as wanted."""
    whole = [line for line in lines if len(line) > 1]
    widths = [max(len(line[i]) for line in whole) for i in range(len(lines[0]))]
    texts = []
    for line in lines:
        if len(line) == 1:
            texts.append(f'-- {line[0]}')
            continue
        first = [line[0].ljust(widths[0])]
        middle = [x.rjust(w) for x, w in zip(line[1:-1], widths[1:-1], strict=True)]
        texts.append('  '.join([*first, *middle, line[-1]]).rstrip())
    return '\n'.join(texts)


def as_markdown(lines: list[list[str]]) -> str:
    """Write `table_rows` in Markdown."""
    n = len(lines[0])
    texts = [f'| {" | ".join(lines[0])} |', '|' + '---|' * n]
    for line in lines[1:]:
        cells = [f'**{line[0]}**', *[''] * (n - 1)] if len(line) == 1 else line
        texts.append(f'| {" | ".join(cells)} |')
    return '\n'.join(texts) + '\n'


def histogram(lags_s: Sequence[float]) -> str:
    """Write the lags of answered cues as a line for each 0.1 s of 0.3 to 1.2 s."""
    counts, edges = events.lag_histogram(lags_s)
    return '\n'.join(
        f'{edge:.1f} s {"#" * int(n)} {n}' for n, edge in zip(counts, edges[:-1], strict=True)
    )


def _mark(name: str, value: float | None) -> str:
    return _number(value) + ('*' if is_reached(name, value) else ' ')


def _range(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ''
    if low is None:
        return f'<= {_number(high)}'
    return f'>= {_number(low)}' if high is None else f'{_number(low)}..{_number(high)}'


def _number(value: float | None) -> str:
    if value is None:
        return '-'
    if abs(value) >= 1000:
        return f'{value:.0f}'
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    text = f'{value:.{digits}f}'
    return text.rstrip('0').rstrip('.') if '.' in text else text
