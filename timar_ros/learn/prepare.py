# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The pairs behind the first weights: real mouths, real heads and real voices, put together.

`python -m timar_ros.learn.prepare DATA OUT` writes clips of conversations that were never held:
the agent's words and mouth are one real speaker's (facegood), the user's words come from a
telephone call (calls), and both heads move as two real people did (multitpc). What ties a head to
a voice here is a rule, not a recording: the recorded path is walked faster and wider while its
owner speaks, less while listening, and hardly at all while both are silent.
"""

import argparse
import dataclasses
import pathlib

import numpy as np
import scipy.io.wavfile
import scipy.signal
import soxr
from tqdm import tqdm

from timar_ros.learn.clips import read_voice

_RATE_HZ = 16000
_FPS = 25
_HELD_OUT = '1114_3_15'
_HELD_OUT_HEAD_S = 100.0  # the end of each head track is kept for the held-out clip

# Face rig of facegood -> ARKit; several rig channels that feed one ARKit channel are added, then
# clipped to 1. `oh` and `oo` are whole mouth shapes: half of each is rounding, the rest the jaw's.
RIG_TO_ARKIT = {
    'jawOpen': {'mouth_stretch_c': 1.0},
    'mouthFunnel': {'mouth_oh_c': 0.5}
    | {f'mouth_funnel_{corner}': 0.25 for corner in ('dl', 'dr', 'ul', 'ur')},
    'mouthPucker': {'mouth_pucker_l': 0.5, 'mouth_pucker_r': 0.5, 'mouth_oo_c': 0.5},
    'mouthRollLower': {'mouth_suck_dl': 0.5, 'mouth_suck_dr': 0.5},
    'mouthRollUpper': {'mouth_suck_ul': 0.5, 'mouth_suck_ur': 0.5},
    'mouthShrugLower': {'mouth_chinRaise_u': 1.0},
} | {
    f'{arkit}{side}': {f'{rig}_{side[0].lower()}': 1.0}
    for side in ('Left', 'Right')
    for arkit, rig in (
        ('mouthPress', 'mouth_press'),
        ('mouthUpperUp', 'mouth_upperLipRaise'),
        ('mouthLowerDown', 'mouth_lowerLipDepress'),
        ('mouthStretch', 'mouth_lipStretch'),
        ('mouthSmile', 'mouth_lipCornerPull'),
    )
}
_MOUTH = tuple(RIG_TO_ARKIT)
_NECK = ('neck_x', 'neck_y', 'neck_z')

# Deviation of pitch, yaw and roll, rad: 0.7 of that of one standing in a group, which brings head
# speed while speaking into the range of two seated people (TIMAR.md §8).
_NECK_DEVIATION_RAD = 0.7 * np.deg2rad([4.3, 7.6, 3.0])
# How fast the recorded head path is walked, and how wide: both silent, listening, speaking.
_PACE = (0.25, 0.8, 1.35)
_WIDTH = (0.25, 0.7, 1.0)
_ACTIVITY_SMOOTHING_S = 0.5
# Silence kept around a phrase, s: the mouth opens before the sound and closes after it.
_MARGIN_S = 0.15


@dataclasses.dataclass(frozen=True)
class Phrase:
    """
    A stretch of one voice with silence at both ends, and the mouth that spoke it.

    Attributes:
        samples: float32 `[n]` at 16 kHz.
        mouth: float32 `[F, C]` ARKit channels `_MOUTH` at 25 fps from the first sample on; None if
            nobody filmed it.
        margin: samples of silence at each end, which may overlap a neighbour's.
    """

    samples: np.ndarray
    mouth: np.ndarray | None
    margin: int


def map_rig(weights: np.ndarray, names: list[str]) -> np.ndarray:
    """
    Turn face rig weights `[F, n]` into ARKit mouth channels `[F, C]`; channels not animated are 0.

    Formula: ARKit channel = min(1, Σ factor · rig channel), factors in `RIG_TO_ARKIT`.
    """
    columns = {name: weights[:, i].astype(np.float32) for i, name in enumerate(names)}
    silent = np.zeros(len(weights), np.float32)
    mixed = [
        sum(factor * columns.get(rig, silent) for rig, factor in recipe.items())
        for recipe in RIG_TO_ARKIT.values()
    ]
    return np.clip(np.stack(mixed, 1), 0.0, 1.0)


def loudness(samples: np.ndarray) -> np.ndarray:
    """Return the level of each 10 ms, dB relative to full scale, `[n // 160]`."""
    hop = _RATE_HZ // 100
    frames = samples[: len(samples) // hop * hop].reshape(-1, hop)
    return 10 * np.log10((frames**2).mean(1) + 1e-12)


def find_phrases(
    samples: np.ndarray, smallest_gap_s: float, floor_db: float = -45.0
) -> np.ndarray:
    """Return first and last sample of the phrases, int `[n, 2]`, that long gaps part."""
    hop = _RATE_HZ // 100
    edges = np.flatnonzero(np.diff(np.r_[0, loudness(samples) > floor_db, 0]))
    phrases: list[list[int]] = []
    for start, end in edges.reshape(-1, 2) * hop:
        if phrases and start - phrases[-1][1] < smallest_gap_s * _RATE_HZ:
            phrases[-1][1] = end
        else:
            phrases.append([start, end])
    return np.array([p for p in phrases if p[1] - p[0] > 0.08 * _RATE_HZ], int).reshape(-1, 2)


def cut_phrases(
    samples: np.ndarray,
    smallest_gap_s: float,
    mouth: np.ndarray | None = None,
    mouth_fps: float = 30.0,
    speed: float = 1.0,
) -> list[Phrase]:
    """Cut a recording into phrases, played `speed` times as fast and high, mouth included."""
    margin = int(min(_MARGIN_S, smallest_gap_s / 2) * _RATE_HZ)
    phrases = []
    for start, end in find_phrases(samples, smallest_gap_s):
        first, last = max(start - margin, 0), min(end + margin, len(samples))
        voice = soxr.resample(samples[first:last], _RATE_HZ * speed, _RATE_HZ)
        moving = None
        if mouth is not None:
            n_frames = int(len(voice) / _RATE_HZ * _FPS) + 1
            source = (first / _RATE_HZ + np.arange(n_frames) / _FPS * speed) * mouth_fps
            grid = np.arange(len(mouth))
            moving = np.stack([np.interp(source, grid, column) for column in mouth.T], 1)
            # The neighbours' mouths reach into the margins: close it there.
            from_edge = np.minimum(np.arange(n_frames), np.arange(n_frames)[::-1] - 1) / _FPS
            moving *= np.clip(from_edge / (_MARGIN_S / 2), 0, 1)[:, None]
        phrases.append(Phrase(voice.astype(np.float32), moving, int(margin / speed)))
    return phrases


def recolour(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give a voice another microphone: tilt, band limit, noise floor and level, all at random."""
    tilt = rng.uniform(-0.6, 0.6)
    samples = scipy.signal.lfilter([1.0, tilt], [1.0], samples)
    if rng.random() < 0.25:
        low_pass = scipy.signal.butter(6, 3400, fs=_RATE_HZ, output='sos')
        samples = scipy.signal.sosfilt(low_pass, samples)
    samples *= 0.1 / max(np.sqrt(np.mean(samples[np.abs(samples) > 1e-3] ** 2)), 1e-3)
    if rng.random() < 0.7:  # the rest is as silent as a synthesised voice
        samples = samples + rng.normal(size=len(samples)) * 0.1 * 10 ** (-rng.uniform(28, 60) / 20)
    return np.clip(samples * 10 ** (rng.uniform(-12, 3) / 20), -1, 1).astype(np.float32)


@dataclasses.dataclass
class Track:
    """One person's side of a conversation while it is put together."""

    samples: np.ndarray
    mouth: np.ndarray

    @classmethod
    def silent(cls, duration_s: float) -> 'Track':
        """Return a track on which nothing is said."""
        n_frames = int(duration_s * _FPS)
        n_samples = n_frames * _RATE_HZ // _FPS
        return cls(np.zeros(n_samples, np.float32), np.zeros((n_frames, len(_MOUTH)), np.float32))

    def say(self, phrase: Phrase, start_s: float) -> float:
        """Place a phrase; return when its sound ends, or infinity if there is no room."""
        latest_s = (len(self.samples) - len(phrase.samples)) / _RATE_HZ - 0.5
        if not phrase.margin / _RATE_HZ <= start_s < latest_s:
            return np.inf
        frame = round((start_s - phrase.margin / _RATE_HZ) * _FPS)
        first = frame * _RATE_HZ // _FPS
        end = first + len(phrase.samples)
        self.samples[first:end] += phrase.samples
        if phrase.mouth is not None:
            slot = self.mouth[frame : frame + len(phrase.mouth)]
            np.maximum(slot, phrase.mouth[: len(slot)], out=slot)
        return (end - phrase.margin) / _RATE_HZ


def converse(
    agent_phrases: list[Phrase],
    user_phrases: list[Phrase],
    duration_s: float,
    rng: np.random.Generator,
) -> tuple[Track, Track]:
    """
    Let agent and user take turns, with pauses, overlaps, backchannels and long silences.

    Gaps between turns are normal around 0.25 s (TIMAR.md §8: about 200 ms); a fifth are long.
    """
    agent, user = Track.silent(duration_s), Track.silent(duration_s)
    speaks_agent = rng.random() < 0.5
    now_s = rng.uniform(0.3, 3.0)
    n_agent = int(rng.integers(len(agent_phrases)))
    while now_s < duration_s:
        if speaks_agent:
            for _ in range(rng.integers(2, 14)):
                end_s = agent.say(agent_phrases[n_agent % len(agent_phrases)], now_s)
                n_agent += 1
                now_s = end_s + rng.choice([0.06, 0.15, 0.4]) * rng.uniform(0.7, 1.3)
            if rng.random() < 0.2 and np.isfinite(end_s):
                short = min(rng.choice(user_phrases, 4), key=lambda phrase: len(phrase.samples))
                user.say(short, end_s - rng.uniform(0.5, 2.0))
        else:
            end_s = user.say(user_phrases[rng.integers(len(user_phrases))], now_s)
            if rng.random() < 0.3 and np.isfinite(end_s):
                agent.say(agent_phrases[n_agent % len(agent_phrases)], end_s - rng.uniform(0.5, 2))
                n_agent += 1
        speaks_agent = not speaks_agent if rng.random() < 0.85 else speaks_agent
        is_long = rng.random() < 0.2
        now_s = end_s + (rng.uniform(2, 8) if is_long else max(rng.normal(0.25, 0.3), -0.5))
    return agent, user


def activity(samples: np.ndarray) -> np.ndarray:
    """Return how much a voice speaks at each frame, 0 to 1, smoothed over half a second."""
    level_db = loudness(samples)
    speaks = (level_db > max(level_db.max() - 35, -60)).astype(float)
    n_frames = len(samples) * _FPS // _RATE_HZ
    frames = np.interp(np.arange(n_frames) / _FPS, np.arange(len(speaks)) / 100, speaks)
    window = scipy.signal.windows.hann(int(2 * _ACTIVITY_SMOOTHING_S * _FPS) + 1)
    return np.clip(np.convolve(frames, window / window.sum(), 'same'), 0, 1)


def walk_head(
    path: np.ndarray, own: np.ndarray, other: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """
    Move along a recorded head path at a pace, and to a width, set by who speaks.

    Formula: neck(t) = width(t) · path(s(t)), ds/dt = pace(t) times a random 0.8 to 1.2 for the
    clip; pace and width are each max(silence + (speaking - silence) own(t), silence + (listening -
    silence) other(t)), with the values of `_PACE` and `_WIDTH`. In silence the head comes back to
    face the other one, and nearly rests.

    Args:
        path: `[F, 3]` rad at 25 fps, as `read_head_path` gives it.
        own: activity `[T]` of this person's voice.
        other: activity `[T]` of the other's voice.
        rng: draws pace and starting point.

    Returns:
        Neck `[T, 3]`, rad.
    """

    def by_activity(values: tuple[float, float, float]) -> np.ndarray:
        silence, listening, speaking = values
        return silence + np.maximum((speaking - silence) * own, (listening - silence) * other)

    position = np.cumsum(by_activity(_PACE) * rng.uniform(0.8, 1.2))
    position += rng.uniform(0, len(path) - position[-1] - 1)
    grid = np.arange(len(path))
    walked = np.stack([np.interp(position, grid, column) for column in path.T], 1)
    return by_activity(_WIDTH)[:, None] * walked


def read_head_path(file: pathlib.Path) -> np.ndarray:
    """
    Read a head of multitpc as a path for one seated person: `[F, 3]` rad at 25 fps.

    Low-passed at 6 Hz, slow turns to others (below 0.05 Hz) removed, each axis brought to
    `_NECK_DEVIATION_RAD`.
    """
    with np.load(file) as arrays:
        head, fps = arrays['rotvec'].astype(np.float64), float(arrays['fps'])
    for kind, edge_hz in (('low', 6.0), ('high', 0.05)):
        sections = scipy.signal.butter(2, edge_hz, kind, fs=fps, output='sos')
        head = scipy.signal.sosfiltfilt(sections, head, axis=0)
    times = np.arange(int(len(head) / fps * _FPS)) / _FPS * fps
    head = np.stack([np.interp(times, np.arange(len(head)), column) for column in head.T], 1)
    return head / head.std(0) * _NECK_DEVIATION_RAD


def write_clip(
    folder: pathlib.Path, name: str, tracks: dict[str, Track], necks: dict[str, np.ndarray | None]
) -> None:
    """
    Write one conversation in our layout (see `clips.py`).

    Args:
        folder: exists.
        name: of the clip.
        tracks: 'agent' and 'user'. The user's mouth is not filmed; only the agent's is written.
        necks: 'agent' and 'user', `[T, 3]` rad; None = nobody watched.
    """
    for party, track in tracks.items():
        path = folder / f'{name}_{party}'
        pcm = np.clip(np.round(track.samples * 32767), -32768, 32767).astype(np.int16)
        scipy.io.wavfile.write(path.with_suffix('.wav'), _RATE_HZ, pcm)
        neck = necks[party]
        if neck is None:
            continue
        channels = {channel: neck[:, i] for i, channel in enumerate(_NECK)}
        if party == 'agent':
            channels |= {channel: track.mouth[:, i] for i, channel in enumerate(_MOUTH)}
        motion = np.stack(list(channels.values()), 1).astype(np.float32)
        np.savez_compressed(
            path.with_suffix('.npz'), motion=motion, names=list(channels), fps=float(_FPS)
        )


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.learn.prepare',
        description='Write the clips of the first weights: OUT/train and OUT/held_out.',
    )
    parser.add_argument('data', type=pathlib.Path, help='folder with facegood, calls and multitpc')
    parser.add_argument('out', type=pathlib.Path, help='folder to write')
    parser.add_argument('--minutes', type=float, default=60.0, help='of conversation to make')
    parser.add_argument('--seed', type=int, default=0)
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(options.seed)
    paths = [read_head_path(file) for file in sorted((options.data / 'multitpc').glob('*.npz'))]
    calls = [read_voice(file) for file in sorted((options.data / 'calls').glob('*.wav'))]
    clips = sorted((options.data / 'facegood').glob('*.npz'))
    if len(paths) < 2 or not calls or not clips:
        raise ValueError(
            f'{options.data}: expected facegood/*.npz, calls/*.wav and two multitpc/*.npz, '
            f'got {len(clips)}, {len(calls)} and {len(paths)}'
        )
    for name in ('train', 'held_out'):
        (options.out / name).mkdir(parents=True, exist_ok=True)
    _write_held_out(options, paths, rng)
    n_held_out = int(_HELD_OUT_HEAD_S * _FPS)
    clips = [clip for clip in clips if clip.stem != _HELD_OUT]
    for n in tqdm(range(round(options.minutes)), unit='clip'):
        phrases = []
        for clip in rng.permutation(clips)[:2]:
            phrases += _cut_facegood(clip, speed=float(rng.choice([0.8, 0.9, 1.0, 1.1, 1.25])))
        speed = float(rng.uniform(0.85, 1.2))
        user_phrases = cut_phrases(calls[rng.integers(len(calls))], 0.4, speed=speed)
        agent, user = converse(phrases, user_phrases, 60.0, rng)
        active = activity(agent.samples), activity(user.samples)
        turned = rng.permutation(2)
        necks = {
            'agent': walk_head(paths[turned[0]][:-n_held_out], *active, rng),
            'user': walk_head(paths[turned[1]][:-n_held_out], *active[::-1], rng),
        }
        necks['user'] = necks['user'] if rng.random() < 0.7 else None
        agent.samples, user.samples = (recolour(x.samples, rng) for x in (agent, user))
        write_clip(options.out / 'train', f'{n:04d}', {'agent': agent, 'user': user}, necks)


def _cut_facegood(file: pathlib.Path, speed: float) -> list[Phrase]:
    with np.load(file) as arrays:
        mouth = map_rig(arrays['weights'], arrays['names'].tolist())
        return cut_phrases(
            read_voice(file.with_suffix('.wav')), 0.3, mouth, float(arrays['fps']), speed
        )


def _write_held_out(options, paths: list[np.ndarray], rng: np.random.Generator) -> None:
    """Write the clip nobody trains on: real running speech, then 15 s of silence."""
    file = options.data / 'facegood' / f'{_HELD_OUT}.npz'
    voice = read_voice(file.with_suffix('.wav'))
    with np.load(file) as arrays:
        mouth = map_rig(arrays['weights'], arrays['names'].tolist())
        source = np.arange(len(mouth)) / float(arrays['fps'])
    agent = Track.silent(len(voice) / _RATE_HZ + 15.0)
    user = Track.silent(len(voice) / _RATE_HZ + 15.0)
    agent.samples[: len(voice)] = voice
    times = np.arange(len(agent.mouth)) / _FPS
    agent.mouth[:] = np.stack([np.interp(times, source, c, right=0.0) for c in mouth.T], 1)
    active = activity(agent.samples), activity(user.samples)
    neck = walk_head(paths[0][-int(_HELD_OUT_HEAD_S * _FPS) :], *active, rng)
    write_clip(
        options.out / 'held_out', _HELD_OUT, {'agent': agent, 'user': user},
        {'agent': neck, 'user': None},
    )  # fmt: skip


if __name__ == '__main__':
    main()
