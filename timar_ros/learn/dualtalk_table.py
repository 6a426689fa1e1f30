# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The paper's table: published rows and scales, and means over as many clips as there are."""

import dataclasses

import numpy as np

GROUPS = ('exp', 'jaw', 'pose')
# Column -> name of the figure in `metrics.evaluate_clip`, and the factor for each group.
COLUMNS = {
    'FD': ('fid', (1, 1e3, 1e2)),
    'P-FD': ('p_fid', (1, 1e3, 1e2)),
    'MSE': ('mse', (10, 1e3, 1e2)),
    'SID': ('sid', (1, 1, 1)),
    'SID reverse': ('reverse_sid', (1, 1, 1)),
    'rPCC': ('rpcc', (1e2, 10, 10)),
}

# TIMAR (arXiv 2512.15340), scaled as printed; the reverse SID is not published.
PUBLISHED = {
    'TIMAR n=0': '9.61/1.51/2.98 10.91/1.63/3.27 3.94/1.15/1.73 3.42/2.33/1.84 - 4.51/1.19/2.26',
    'TIMAR n=3': '9.11/1.57/3.06 10.13/1.66/3.28 3.61/1.09/1.63 3.51/2.34/1.86 - 4.19/1.19/2.19',
    'TIMAR n=7': '8.97/1.57/3.08 9.93/1.65/3.28 3.58/1.07/1.61 3.53/2.35/1.85 - 4.12/1.22/2.18',
    'TIMAR ood n=7': (
        '20.23/2.56/4.50 21.34/2.66/4.72 6.17/1.48/2.18 2.93/2.04/1.52 - 6.26/1.57/2.77'
    ),
    'DualTalk n=7': (
        '10.92/1.69/3.43 12.09/1.79/3.68 4.09/1.18/1.99 3.31/2.26/1.74 - 4.81/1.25/2.20'
    ),
    # TIMAR with another head, and without causality
    'MLP head': '9.48/1.67/3.36 10.45/1.76/3.56 3.43/1.12/1.71 3.50/2.34/1.77 - 4.40/1.38/2.41',
    'bidirectional': (
        '9.12/1.82/3.04 10.13/1.91/3.25 3.67/1.18/1.62 3.54/2.27/1.86 - 4.12/1.40/2.21'
    ),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """
    Means over clips.

    Attributes:
        n_clips: how many predictions there are.
        means: unscaled mean by the figure's name; None where no clip has it.
        counts: over how many clips each mean is taken.
    """

    n_clips: int
    means: dict[str, float | None]
    counts: dict[str, int]


def make_row(clips: list[dict[str, float]]) -> Row:
    """Average the figures of clips; a clip that lacks one does not count for it."""
    names = {f'{figure}_{group}' for figure, _ in COLUMNS.values() for group in GROUPS}
    names |= {name for clip in clips for name in clip}
    values = {name: [clip[name] for clip in clips if name in clip] for name in sorted(names)}
    means = {name: float(np.mean(found)) if found else None for name, found in values.items()}
    return Row(len(clips), means, {name: len(found) for name, found in values.items()})


def format_table(rows: dict[str, Row]) -> str:
    """
    Write rows as a table in the published scales, the published rows below.

    Args:
        rows: by title.

    Returns:
        Text with a line for each row and a note on every figure that fewer clips have.
    """
    head = ['exp/jaw/pose', 'clips', *COLUMNS]
    lines = [[title, str(row.n_clips), *_cells(row)] for title, row in rows.items()]
    published = [[title, '', *text.split()] for title, text in PUBLISHED.items()]
    table = [head, *lines, *published]
    widths = [max(len(line[i]) for line in table) for i in range(len(head))]
    texts = ['  '.join(x.ljust(w) for x, w in zip(line, widths, strict=True)) for line in table]
    rule = '-' * len(texts[0])
    texts = [texts[0], rule, *texts[1 : 1 + len(lines)], rule, *texts[1 + len(lines) :]]
    return '\n'.join([text.rstrip() for text in texts] + _shortages(rows))


def _cells(row: Row) -> list[str]:
    cells = []
    for figure, factors in COLUMNS.values():
        values = [row.means[f'{figure}_{group}'] for group in GROUPS]
        parts = [
            '-' if value is None else f'{value * factor:.2f}'
            for value, factor in zip(values, factors, strict=True)
        ]
        cells.append('/'.join(parts))
    return cells


def _shortages(rows: dict[str, Row]) -> list[str]:
    """Say which figures are means over fewer clips than the row has; none at all shows as -."""
    notes = []
    for title, row in rows.items():
        fewer = {}
        for column, (figure, _) in COLUMNS.items():
            counts = [row.counts[f'{figure}_{group}'] for group in GROUPS]
            if any(0 < count < row.n_clips for count in counts):
                fewer[column] = '/'.join(map(str, counts))
        if fewer:
            told = ', '.join(f'{column} {counts}' for column, counts in fewer.items())
            notes.append(f'{title}: of {row.n_clips} clips, these have fewer: {told}')
    return notes
