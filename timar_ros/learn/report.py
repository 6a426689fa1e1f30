# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
An answered recording as one HTML page that stands alone: curves, spectra, figures, a player.

Knows how to pack arrays into a page; `report.html` and its scripts draw them. Nothing is fetched,
and nothing in the page depends on when or where it was made.
"""

import base64
import html
import json
import pathlib

import numpy as np
import scipy.signal
import soxr

from timar_ros.colors import VOICE_COLORS
from timar_ros.learn import behaviour
from timar_ros.learn.figures import GROUPS, Answer, Figure
from timar_ros.motion import MotionSpace, jaw_open_rad
from timar_ros.stream import lips
from timar_ros.stream.resample import SAMPLE_RATE_HZ

_FOLDER = pathlib.Path(__file__).parent
_ENVELOPE_HZ = 50
# Sound is embedded at 16 kHz, longer recordings at 8 kHz, longer ones yet without.
_SOUND_HZ = ((150.0, 16000), (1200.0, 8000))
_QUIETEST_DB = -50.0
_MU = 255.0
_AXES = ('pitch', 'yaw', 'roll')


def write_report(
    path: pathlib.Path, answer: Answer, figures: dict[str, float | None], about: dict
) -> None:
    """
    Write the page.

    Args:
        path: of the file to write.
        answer: what was shown.
        figures: from `compute_figures`.
        about: what report.json says of how it was made.
    """
    page = (_FOLDER / 'report.html').read_text(encoding='utf-8')
    script = (_FOLDER / 'report.js').read_text(encoding='utf-8')
    script = script.replace(
        '{{heads}}', (_FOLDER / 'report_heads.js').read_text(encoding='utf-8').rstrip()
    )
    blocks = {
        'recording': html.escape(about['recording']),
        'subtitle': html.escape(_subtitle(about)),
        'tiles': _tiles(figures),
        'rows': _rows(figures, about['not_measured']),
        'notes': _notes(about['notes']),
        'settings': _settings(about),
        # the only thing that could end the block early
        'data': json.dumps(_data(answer), allow_nan=False).replace('</', '<\\/'),
        'script': script.rstrip(),
    }
    blocks |= {f'{voice}_color': color for voice, color in VOICE_COLORS.items()}
    for name, text in blocks.items():
        page = page.replace('{{' + name + '}}', text)
    path.write_text(page, encoding='utf-8')


def _data(answer: Answer) -> dict:
    """Return what the scripts draw."""
    n, fps = len(answer.motion), answer.fps
    speed = np.zeros(n)
    if n >= 32:
        speed[1:] = behaviour.head_speed(answer.neck, fps)
    columns = _head(answer.space, answer.motion) | {'speed': speed}
    user = answer.user_motion
    voices = {'user': answer.user_voice, 'agent': answer.agent_voice}
    duration_s = n / fps
    speech = {name: _runs(answer.activity(x), fps) for name, x in voices.items()}
    return {
        'fps': fps,
        'duration': duration_s,
        'begin': min((runs[0][0] for runs in speech.values() if runs), default=0.0),
        'motion': _pack(columns),
        'user': None if user is None else _pack(_head(answer.space, user)),
        'envelope': {'rate': _ENVELOPE_HZ} | {k: _envelope(x) for k, x in voices.items()},
        'speech': speech,
        'audio': _audio(voices, duration_s),
        'spectra': _spectra(np.rad2deg(answer.neck), fps),
    }


def _head(space: MotionSpace, motion: np.ndarray) -> dict[str, np.ndarray]:
    """Return what can be drawn of a head: angles in degrees, ARKit blendshapes where there are."""
    columns = dict(zip(_AXES, np.rad2deg(motion[:, space.neck]).T, strict=True))
    columns['jaw'] = np.rad2deg(jaw_open_rad(space, motion))
    if space.expression_space == 'arkit52':
        names = space.names[space.expression]
        columns |= dict(zip(names, motion[:, space.expression].T, strict=True))
    return columns


def _pack(columns: dict[str, np.ndarray]) -> dict:
    """Pack columns as int16 with a scale each, one after the other."""
    scales = [float(np.abs(x).max(initial=0.0)) / 32767 or 1.0 for x in columns.values()]
    stored = [np.rint(x / s) for x, s in zip(columns.values(), scales, strict=True)]
    data = np.concatenate(stored).astype('<i2').tobytes()
    n = len(next(iter(columns.values())))
    return {'names': list(columns), 'n': n, 'scale': scales, 'data': _base64(data)}


def _envelope(samples: np.ndarray) -> str:
    """Return loudness in 255 steps from -50 dB of full scale to the loudest."""
    if not len(samples):
        return ''
    level = lips.voice_envelope(samples, SAMPLE_RATE_HZ, _ENVELOPE_HZ)
    level_db = 20 * np.log10(level + 1e-9)
    loudest_db = max(level_db.max(), _QUIETEST_DB + 1)
    share = (level_db - _QUIETEST_DB) / (loudest_db - _QUIETEST_DB)
    return _base64(np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8).tobytes())


def _audio(voices: dict[str, np.ndarray], duration_s: float) -> dict | None:
    """Return both voices in 8-bit mu-law, at the rate that their length allows."""
    rate_hz = next((rate for longest, rate in _SOUND_HZ if duration_s <= longest), None)
    if rate_hz is None:
        return None
    packed = {}
    for name, samples in voices.items():
        if len(samples) and rate_hz != SAMPLE_RATE_HZ:
            samples = soxr.resample(samples, SAMPLE_RATE_HZ, rate_hz)
        x = np.clip(samples, -1, 1)
        y = np.sign(x) * np.log1p(_MU * np.abs(x)) / np.log1p(_MU)
        packed[name] = _base64((np.rint(127 * y) + 128).astype(np.uint8).tobytes())
    return {'rate': rate_hz} | packed


def _spectra(degrees: np.ndarray, fps: int) -> dict | None:
    """Return Welch's power densities, (°)²/Hz, with the windows of `behaviour.power_shares`."""
    if len(degrees) < 4 * fps:
        return None
    frequency, power = scipy.signal.welch(
        degrees, fps, nperseg=min(8 * fps, len(degrees)), detrend='linear', axis=0
    )
    return {'frequency': _rounded(frequency[1:])} | {
        name: _rounded(axis) for name, axis in zip(_AXES, power[1:].T, strict=True)
    }


def _runs(speaks: np.ndarray, fps: int) -> list[list[float]]:
    edges = np.flatnonzero(np.diff(np.r_[0, speaks.astype(int), 0]))
    return (edges.reshape(-1, 2) / fps).tolist()


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f'{value:.4g}') for value in values]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode('ascii')


def _subtitle(about: dict) -> str:
    timing = about['timing']
    plans = f' at {timing["replan_hz"]:g} Hz' if timing['timing'] == 'anticipate' else ''
    return (
        f'{about["duration_s"]:.1f} s, answered by {about["checkpoint"]} '
        f'({about["motion_space"]}), {timing["timing"]}{plans}, seed {about["seed"]}'
    )


def _tiles(figures: dict[str, float | None]) -> str:
    """Return who spoke how much, and the figures that matter most."""
    shares = [figures[f'{who}_share'] or 0.0 for who in ('user_speech', 'agent_speech', 'overlap')]
    user, agent, both = shares[0] - shares[2], shares[1] - shares[2], shares[2]
    parts = (('var(--user)', user), ('#7b5aa6', both), ('var(--agent)', agent))
    bar = ''.join(
        f'<span style="width:{100 * x:.2f}%;background:{color}"></span>' for color, x in parts
    )
    tiles = [
        f'<div><div class="small">user {100 * user:.0f} %, both {100 * both:.0f} %, '
        f'robot {100 * agent:.0f} %, nobody {100 * (1 - user - both - agent):.0f} %</div>'
        f'<div class="bar">{bar}</div></div>'
    ]
    known = {figure.name: figure for group in GROUPS.values() for figure in group}
    for name in ('head_speed_p95', 'liveliness_ratio', 'lip_lag_ms', 'nods_per_minute'):
        figure, value = known[name], figures[name]
        mark = {True: ' in', False: ' out', None: ''}[figure.holds(value)]
        people = f'people: {_range(figure)}' if _range(figure) else ''
        tiles.append(
            f'<div class="tile{mark}"><b>{_number(value)}</b> {figure.unit}'
            f'<div class="small">{html.escape(_title(figure))}{"; " if people else ""}{people}'
            '</div></div>'
        )
    return ''.join(tiles)


def _rows(figures: dict[str, float | None], reasons: dict[str, str]) -> str:
    rows = []
    for title, group in GROUPS.items():
        rows.append(f'<tr class="group"><td colspan="5">{html.escape(title)}</td></tr>')
        for figure in group:
            value = figures[figure.name]
            mark = {True: ('in', 'inside'), False: ('out', 'outside'), None: ('', '')}
            kind, word = mark[figure.holds(value)]
            reason = html.escape(reasons.get(figure.name, ''))
            people = f'{_range(figure)}<br>' if _range(figure) else ''
            rows.append(
                f'<tr><td>{html.escape(_title(figure))}<br><code>{figure.name}</code></td>'
                f'<td class="value">{_number(value)} <span>{figure.unit}</span></td>'
                f'<td><span class="mark {kind}">{word}</span>{_gauge(figure, value)}'
                f'<small>{reason}</small></td>'
                f'<td class="people">{people}<small>{html.escape(figure.people)}</small></td>'
                f'<td><small>{html.escape(figure.fooled_by)}</small></td></tr>'
            )
    return '\n'.join(rows)


def _gauge(figure: Figure, value: float | None) -> str:
    """Draw where a value lies against the range of people."""
    if figure.holds(value) is None:
        return ''
    low, high = figure.lowest, figure.highest
    low = 0.0 if low is None and high > 0 else low
    high = 2 * low if high is None else high
    span = (high - low) or 1.0
    left, right = low - 0.5 * span, high + 0.5 * span
    x = 4 + 112 * min(max((value - left) / (right - left), 0.0), 1.0)
    color = 'var(--good)' if figure.holds(value) else 'var(--odd)'
    return (
        '<svg width="120" height="14" style="display:block" aria-hidden="true">'
        '<rect x="4" y="5" width="112" height="4" rx="2" fill="#e8eaed"/>'
        '<rect x="32" y="5" width="56" height="4" rx="2" fill="#bfdcc8"/>'
        f'<circle cx="{x:.1f}" cy="7" r="4.5" fill="{color}"/></svg>'
    )


def _title(figure: Figure) -> str:
    return figure.text[0].upper() + figure.text[1:]


def _range(figure: Figure) -> str:
    low, high = figure.lowest, figure.highest
    if low is None and high is None:
        return ''
    if low is None:
        return f'at most {_number(high)}'
    if high is None:
        return f'at least {_number(low)}'
    return f'{_number(low)} to {_number(high)}'


def _number(value: float | None) -> str:
    """Write a number with three digits that count, thousands apart."""
    if value is None:
        return '&ndash;'
    if abs(value) >= 1000:
        return f'{value:,.0f}'.replace(',', '&#8239;')
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
    text = f'{value:.{digits}f}'
    text = text.rstrip('0').rstrip('.') if '.' in text else text
    return text.replace('-', '&minus;')


def _notes(notes: list[str]) -> str:
    if not notes:
        return ''
    items = ''.join(f'<li>{html.escape(note)}</li>' for note in notes)
    return f'<section class="card"><h2>Worth knowing</h2><ul>{items}</ul></section>'


def _settings(about: dict) -> str:
    counts = {name: n for name, n in about['counters'].items() if n}
    values = {
        'weights': f'{about["checkpoint"]}, sha256 {about["checkpoint_sha256"][:16]}',
        'timing': about['timing'],
        'sampling': {k: v for k, v in about['sampling'].items() if v is not None},
        'loudness': {'causal': 'by what came before, as live', 'clip': 'of the whole recording'}[
            about['normalise']
        ],
        "frames of the user's head": about['user_motion_frames'] or 'none',
        'first frame at': f"{about['start_ns'] / 1e9:.2f} s of the recording's clock",
        'counted': counts,
    }
    return ''.join(
        f'<dt>{html.escape(name)}</dt><dd>{html.escape(_plain(value))}</dd>'
        for name, value in values.items()
    )


def _plain(value) -> str:
    if isinstance(value, dict):
        return ', '.join(f'{name} {_plain(v)}' for name, v in value.items())
    return f'{value:g}' if isinstance(value, float) else str(value)
