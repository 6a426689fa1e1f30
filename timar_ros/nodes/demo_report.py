# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a recorded conversation came to: figures and a picture, from the bag alone.

Responsible for reading our topics, measuring and drawing. Not for judging the result.
"""

import dataclasses

import matplotlib
import numpy as np

from timar_ros.colors import VOICE_COLORS
from timar_ros.motion import quaternion_to_neck
from timar_ros.nodes.bag import read_bag
from timar_ros.nodes.convert import stamp_to_ns
from timar_ros.stream.audio import packet_from_fields
from timar_ros.stream.lips import lip_sync, voice_envelope

matplotlib.use('Agg')
from matplotlib import pyplot as plt  # noqa: E402

_LOUDNESS_HZ = 50.0
_LATE_SHARE = 0.05  # of plans; more, and the figures are those of a busy machine
_HOLE_FRAMES = 2.5  # frames further apart are not joined by a line


@dataclasses.dataclass
class Recorded:
    """
    A conversation as recorded.

    Attributes:
        start_ns: the earliest stamp of either voice; all times are relative to it.
        voices: 'user', 'agent' -> (samples float32 `[n]`, rate in Hz), placed by stamps.
        shown_s: `[F]`, when each frame was shown.
        neck: `[F, 3]` rad, FLAME axes.
        jaw_open: `[F]` rad.
        turns: `[F]`, turn of each frame.
        frame_rate: planned frames a second.
        n_plans: plans received.
        health: values of the last diagnostics with plans in them.
    """

    start_ns: int
    voices: dict
    shown_s: np.ndarray
    neck: np.ndarray
    jaw_open: np.ndarray
    turns: np.ndarray
    frame_rate: float
    n_plans: int
    health: dict


def read_recorded(path) -> Recorded:
    """
    Read a bag of a conversation.

    Raises:
        FileNotFoundError: there is no bag.
        ValueError: it holds no audio, or no motion.
    """
    chunks, frames, health = {'user': [], 'agent': []}, [], {}
    n_plans, frame_rate = 0, 25.0
    for topic, _, msg in read_bag(path):
        name = topic.lstrip('/')
        if name in ('user/audio', 'agent/audio'):
            chunks[name.split('/')[0]].append(packet_from_fields(msg))
        elif name == 'agent/motion':
            frames.append(msg)
        elif name == 'agent/motion_plan':
            n_plans, frame_rate = n_plans + 1, msg.frame_rate
        elif name == 'diagnostics':
            values = {pair.key: pair.value for pair in msg.status[0].values}
            if 'latency_p50_ms' in values:
                health = values
    if not any(chunks.values()):
        raise ValueError(f'{path}: expected audio on user/audio or agent/audio, got none')
    if not frames:
        raise ValueError(
            f'{path}: expected motion on agent/motion, got none; was the conversation node active?'
        )
    start_ns = min(packet.stamp_ns for packets in chunks.values() for packet in packets)
    neck = np.array([[m.neck.x, m.neck.y, m.neck.z, m.neck.w] for m in frames])
    return Recorded(
        start_ns=start_ns,
        voices={voice: _join(packets, start_ns) for voice, packets in chunks.items() if packets},
        shown_s=np.array([stamp_to_ns(m.header.stamp) - start_ns for m in frames]) / 1e9,
        neck=quaternion_to_neck(neck),
        jaw_open=np.array([m.jaw_open for m in frames]),
        turns=np.array([m.turn for m in frames]),
        frame_rate=frame_rate,
        n_plans=n_plans,
        health=health,
    )


def _join(packets, start_ns: int) -> tuple[np.ndarray, int]:
    """Lay packets of one rate on one timeline."""
    rate_hz = packets[0].sample_rate_hz
    starts = [round((p.stamp_ns - start_ns) * rate_hz / 1e9) for p in packets]
    ends = [start + len(p.samples) for start, p in zip(starts, packets, strict=True)]
    samples = np.zeros(max(ends), np.float32)
    for start, end, packet in zip(starts, ends, packets, strict=True):
        samples[start:end] = packet.samples.mean(axis=1)
    return samples, rate_hz


def summarise(recorded: Recorded, delay_s: float = 0.0) -> dict:
    """
    Measure a recorded conversation.

    Args:
        recorded: from `read_recorded`.
        delay_s: delay of the shown motion against the conversation (`timing: reactive`).

    Returns:
        Figures by name; times of a plan are those of the live node.
    """
    health = {name: float(value) for name, value in recorded.health.items()}
    summary = {
        'duration_s': round(max(len(x) / r for x, r in recorded.voices.values()), 2),
        'turns': int(health.get('turns', recorded.turns.max() + 1)),
        'plans': recorded.n_plans,
        'frames': len(recorded.shown_s),
    }
    for name in ('latency', 'engine', 'added'):
        for share in ('p50', 'p99'):
            summary[f'{name}_{share}_ms'] = health.get(f'{name}_{share}_ms')
    missed = ('late_plans', 'skipped_moments')
    summary['deadline_misses'] = int(sum(health.get(name, 0) for name in missed))
    summary['lost_samples'] = int(health.get('user_lost_samples', 0))
    summary['missing_user_frames'] = int(health.get('missing_user_frames', 0))
    if 'agent' in recorded.voices:
        samples, rate_hz = recorded.voices['agent']
        fps = recorded.frame_rate
        grid_s = np.arange(round(len(samples) / rate_hz * fps)) / fps
        jaw = np.interp(grid_s, recorded.shown_s - delay_s, recorded.jaw_open)
        lag = lip_sync(jaw, samples, rate_hz, fps)
        summary['lip_lag_ms'] = round(1000 * lag.lag_s, 1)
        summary['lip_correlation'] = round(lag.correlation, 3)
    speed = np.linalg.norm(np.diff(recorded.neck, axis=0), axis=1) * recorded.frame_rate
    summary['head_speed_p95_deg_s'] = round(float(np.rad2deg(np.percentile(speed, 95))), 1)
    return summary


def late_note(recorded: Recorded) -> str:
    """Return a warning where many plans were late, so that the figures mislead; else ''."""
    late = int(float(recorded.health.get('late_plans', 0)))
    n_plans = recorded.n_plans + late  # a late plan is not published
    if late <= _LATE_SHARE * n_plans:
        return ''
    return (
        f'{late} of {n_plans} plans were late: this machine is too busy, the figures below do not '
        'describe the model'
    )


def with_holes(times_s: np.ndarray, values: np.ndarray, frame_rate: float):
    """
    Break a line where frames are missing, so that it is not drawn straight across.

    Args:
        times_s: `[F]`, ascending.
        values: `[F]` or `[F, C]`.
        frame_rate: frames a second.

    Returns:
        Times and values with a NaN in each hole.
    """
    holes = np.flatnonzero(np.diff(times_s) > _HOLE_FRAMES / frame_rate) + 1
    return np.insert(times_s, holes, np.nan), np.insert(values, holes, np.nan, axis=0)


def draw(recorded: Recorded, path, delay_s: float = 0.0, title: str = '') -> None:
    """
    Draw voices, neck and mouth over the time of the conversation.

    Args:
        recorded: from `read_recorded`.
        path: of the picture.
        delay_s: as of `summarise`.
        title: above it.
    """
    end_s = max(len(samples) / rate for samples, rate in recorded.voices.values())
    lived_s = recorded.shown_s - delay_s
    figure, (voices, neck, mouth) = plt.subplots(
        3, 1, figsize=(13, 7.5), sharex=True, gridspec_kw={'height_ratios': [1.1, 1.4, 1]}
    )
    for sign, (voice, (samples, rate_hz)) in zip((1, -1), recorded.voices.items(), strict=False):
        loud = voice_envelope(samples, rate_hz, _LOUDNESS_HZ)
        time_s = np.arange(len(loud)) / _LOUDNESS_HZ
        loud = loud / max(loud.max(), 1e-9)
        voices.fill_between(time_s, sign * loud, color=VOICE_COLORS[voice], lw=0, label=voice)
    voices.set(ylabel='voices', yticks=[], ylim=(-1.1, 1.1))
    voices.legend(loc='upper right', ncol=2, frameon=False)
    line_s, degrees = with_holes(lived_s, np.rad2deg(recorded.neck), recorded.frame_rate)
    _, jaw = with_holes(lived_s, np.rad2deg(recorded.jaw_open), recorded.frame_rate)
    for axis, name, colour in (
        (0, 'nod (down +)', '#14213d'),
        (1, 'turn (left +)', '#009e73'),
        (2, 'tilt', '#9aa5b1'),
    ):
        neck.plot(line_s, degrees[:, axis], label=name, color=colour, lw=1.4)
    neck.axhline(0, color='0.85', lw=0.8, zorder=0)
    neck.set(ylabel='neck, degrees')
    neck.legend(loc='upper right', ncol=3, frameon=False)
    mouth.plot(line_s, jaw, color='#6a4c93', lw=1.2, label='jaw open')
    top = max(float(np.rad2deg(recorded.jaw_open.max())), 1.0)
    mouth.set_ylim(-0.05 * top, 1.1 * top)  # else a mouth that rests is magnified noise
    if 'agent' in recorded.voices:
        loud = voice_envelope(*recorded.voices['agent'], _LOUDNESS_HZ)
        time_s = np.arange(len(loud)) / _LOUDNESS_HZ
        mouth.fill_between(
            time_s, top * loud / max(loud.max(), 1e-9), color=VOICE_COLORS['agent'], alpha=0.25,
            lw=0, label="agent's voice",
        )  # fmt: skip
    mouth.set(ylabel='jaw, degrees', xlabel='s', xlim=(0, end_s))
    mouth.legend(loc='upper right', ncol=2, frameon=False)
    for axes in (voices, neck, mouth):
        axes.spines[['top', 'right']].set_visible(False)
    figure.suptitle(title, x=0.01, ha='left')
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
