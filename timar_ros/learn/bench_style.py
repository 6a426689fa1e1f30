# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whether styles do what they say, and nothing else: the bench's conversations answered in each.

A smile has to grow with the intensity of happy, nods with attitude, the whole head with
expressiveness; lips have to stay in time with the voice throughout.
"""

from collections.abc import Sequence

import numpy as np

from timar_ros.config import TimarConfig
from timar_ros.learn.bench_clip import Variant
from timar_ros.learn.bench_table import Judged, pool
from timar_ros.learn.figures import Answer
from timar_ros.stream.style import AgentStyle

_ASKED = {
    'happy 0.5': AgentStyle('happy', 0.5),
    'happy 1': AgentStyle('happy', 1.0),
    'sad 1': AgentStyle('sad', 1.0),
    'attitude -1': AgentStyle(attitude=-1.0),
    'attitude 1': AgentStyle(attitude=1.0),
    'gain 0.5': AgentStyle(expressiveness=0.5),
    'gain 1.5': AgentStyle(expressiveness=1.5),
}
# Mean of channels: what a feeling does to a face.
_FACE = {
    'smile': ('mouthSmileLeft', 'mouthSmileRight'),
    'frown': ('mouthFrownLeft', 'mouthFrownRight'),
    'brows_up': ('browInnerUp',),
    'brows_down': ('browDownLeft', 'browDownRight'),
}
_FIGURES = (
    'nods_per_minute', 'nod_recall', 'false_nods_per_minute', 'head_speed_p50', 'head_speed_p95',
    'lip_lag_ms', 'lip_correlation', 'mouth_rest_ratio', 'blinks_per_minute',
)  # fmt: skip


def style_variants(config: TimarConfig) -> list[Variant]:
    """List the styles that weights can be asked for; expressiveness is there for all weights."""
    styles = {title: style for title, style in _ASKED.items() if not style.ignored_by(config)} | {
        name: AgentStyle(persona=name) for name in config.personas
    }
    return [Variant(title, style=style) for title, style in styles.items()]


def face_figures(answer: Answer) -> dict[str, float]:
    """Return how much of each expression a face shows on average, 0..1, where it has them."""
    names = answer.space.names
    return {
        figure: float(np.mean([answer.motion[:, names.index(channel)] for channel in channels]))
        for figure, channels in _FACE.items()
        if set(channels) <= set(names)
    }


def style_rows(
    styles: dict[str, Sequence[tuple[Judged, dict[str, float]]]],
) -> list[list[str]]:
    """
    Lay out the table of styles.

    Args:
        styles: by title, 'model' for none: what was judged of each conversation, and its face.

    Returns:
        lines of cells, the head first.
    """
    pooled = {title: pool([judged for judged, _ in clips])[0] for title, clips in styles.items()}
    lines = [['', *styles]]
    for name in _FACE:
        found = [[face[name] for _, face in clips if name in face] for clips in styles.values()]
        if all(found):
            lines.append([name, *(f'{np.mean(values):.3f}' for values in found)])
    for name in _FIGURES:
        values = [row[name] for row in pooled.values()]
        if any(value is not None for value in values):
            lines.append([name, *('-' if v is None else f'{v:.2f}' for v in values)])
    return lines
