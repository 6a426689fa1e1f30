# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Recorded conversations: files on disk as voices and motion on one grid of frames.

Responsible for the two layouts of files that we train on, and for naming what is wrong in one.

A folder holds conversations, each of two voices and at least one motion:

    <clip>_speaker1.wav <clip>_speaker1.npz <clip>_speaker2.wav <clip>_speaker2.npz     DualTalk
    <clip>_user.wav     [<clip>_user.npz]   <clip>_agent.wav    <clip>_agent.npz        ours

A DualTalk npz has `exp [F, 50]` and `pose [F, 6]` = neck 3, jaw 3 at 25 fps. Ours has `motion
[F, C]`, `names [C]`, `fps` and perhaps `stamp_s [F]`; channels that a file lacks are not
trained. An agent's may also say how it is meant: `style [F, 7]` = happy, sad, angry, surprised,
afraid, disgusted (0..1) and attitude (-1..1), and `persona`, a name. Each speaker of DualTalk
whose motion is there is the agent once.
"""

from collections.abc import Mapping
import dataclasses
import fnmatch
import glob
import pathlib
from types import MappingProxyType

import numpy as np
import soxr

from timar_ros.learn.heads import Head, hold_against_voice, read_head, to_grid
from timar_ros.model.turn import EMOTIONS
from timar_ros.motion import MotionSpace
from timar_ros.stream.channels import MEAN, ChannelWatch, choose_channel, parse_channel
from timar_ros.stream.riff import read_layout
from timar_ros.stream.wav import read_duration_s, read_wav
from timar_ros.strict import why_no_file

_PARTIES = {'speaker1': 'speaker2', 'speaker2': 'speaker1', 'agent': 'user'}
_N_STYLE = len(EMOTIONS) + 1  # and attitude
# What is cut from a conversation is told from here on, s.
_TOLD_S = 0.08


@dataclasses.dataclass(frozen=True)
class Clip:
    """
    One conversation with one of its two people as the agent.

    Attributes:
        name: of the agent's files, without folder and ending.
        agent_wav, user_wav: the voices.
        agent_motion: float32 `[F, M]`, raw units, frame i shown at i / fps seconds.
        is_valid: bool `[M]`, the channels that the agent's file holds.
        user_motion: float32 `[F, M]`, or None if the user was not recorded.
        style: float32 `[F, 7]`, emotions and attitude of the agent; None = not said.
        persona: name of the agent's manner of moving; '' = not given.
        user_seen: bool `[F]`, where `user_motion` was seen; None = wherever it is there.
        agent_channel, user_channel: which channel of each wav is heard.
        notes: what was cut or is not known of it, a sentence each.
    """

    name: str
    agent_wav: pathlib.Path
    user_wav: pathlib.Path
    agent_motion: np.ndarray
    is_valid: np.ndarray
    user_motion: np.ndarray | None
    style: np.ndarray | None = None
    persona: str = ''
    user_seen: np.ndarray | None = None
    agent_channel: str | int = MEAN
    user_channel: str | int = MEAN
    notes: tuple[str, ...] = ()

    @property
    def n_frames(self) -> int:
        """Frames F that both voices and all motion cover."""
        return len(self.agent_motion)


def read_voice(
    path: pathlib.Path, sample_rate_hz: int = 16000, channel: str | int = MEAN
) -> np.ndarray:
    """
    Read a voice from a wav file of any rate and channel count.

    Args:
        path: of the wav.
        sample_rate_hz: wanted.
        channel: 'mean' of all channels, or the index of the one to hear.

    Returns:
        float32 `[n]` in [-1, 1].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no wav, holds no sound, samples that are not finite, or no such channel.
    """
    _check_there(pathlib.Path(path))
    samples, rate = read_wav(path)
    samples = choose_channel(samples, channel, str(path))
    samples = samples.mean(1) if samples.shape[1] > 1 else samples[:, 0]
    if rate != sample_rate_hz:
        samples = soxr.resample(samples, rate, sample_rate_hz)
    return samples


def read_motion(
    path: pathlib.Path, space: MotionSpace, fps: float = 25.0
) -> tuple[np.ndarray, np.ndarray]:
    """
    Read a motion file of either layout onto the grid of `fps` frames a second.

    `heads.to_grid` describes what happens to channels of the other space.

    Args:
        path: npz of DualTalk's layout or ours (see the module's text).
        space: the space wanted.
        fps: frames a second wanted; frame i is the motion at i / fps seconds, interpolated.

    Returns:
        Motion, float32 `[F, M]`, neutral where the file says nothing; and bool `[M]`, which
        channels it holds.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key is missing, a shape or name is wrong, or a value is NaN.
    """
    return to_grid(read_head(path), space, fps)[:2]


def style_of(head: Head, n_frames: int, fps: float = 25.0) -> tuple[np.ndarray | None, str]:
    """
    Return how an agent's motion is meant, from the file of that motion.

    Args:
        head: the agent's, from `read_head`.
        n_frames: F, frames wanted.
        fps: frames a second wanted.

    Returns:
        style float32 `[F, 7]` or None, and the persona or ''; None and '' where nothing is said.

    Raises:
        ValueError: a shape or value is wrong.
    """
    path, content = head.path, head.content
    persona = content.text('persona') if 'persona' in content else ''
    if 'style' not in content:
        return None, persona
    style = content.numbers('style', None, None, is_finite=False)
    n_stored = len(content.get('motion', style))
    if style.shape != (n_stored, _N_STYLE) or not n_stored:
        raise ValueError(
            f'{path}: expected style [{n_stored}, {_N_STYLE}] (six emotions and attitude, a row '
            f'for each frame of motion), got {list(style.shape)}'
        )
    lowest = np.append(np.zeros(_N_STYLE - 1), -1.0)
    if not ((style >= lowest) & (style <= 1.0)).all():  # refuses NaN too
        raise ValueError(
            f'{path}: expected emotions of 0 to 1 and an attitude of -1 to 1 in style, '
            f'got {np.min(style):g} to {np.max(style):g}'
        )
    rows = np.arange(n_frames) / fps * head.fps
    return style[np.minimum(rows.astype(int), len(style) - 1)].astype(np.float32), persona


def find_files(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """
    Return a folder's files in order, subfolders and folders that are linked to included.

    Args:
        folder: of clips.
        pattern: of names, with an ending in small letters; files may have it in capitals.
    """
    # rglob passes by linked folders, which is how people put data sets together.
    names = glob.iglob('**/*', root_dir=folder, recursive=True)
    suffix = pathlib.PurePath(pattern).suffix
    found = (folder / name for name in names if name.lower().endswith(suffix))
    return sorted(path for path in found if fnmatch.fnmatchcase(path.stem + suffix, pattern))


def find_beside(path: pathlib.Path) -> pathlib.Path:
    """Return a file whose ending may be in capitals, or `path` itself where there is none."""
    endings = (path.suffix, path.suffix.upper(), f'.{path.suffix[1:].capitalize()}')
    there = (path.with_suffix(ending) for ending in endings)
    return next((each for each in there if each.is_file()), path)


def open_clips(
    folder: pathlib.Path,
    space: MotionSpace,
    fps: float = 25.0,
    channels: Mapping[str, str | int] = MappingProxyType({}),
) -> tuple[list[Clip], dict[str, str]]:
    """
    Find the usable conversations of a folder; voices are read later, motion now.

    Args:
        folder: files named as in the module's text, subfolders included, linked ones too.
        space: the motion space to read into.
        fps: frames a second.
        channels: 'user', 'agent' -> 'mean' or the index of the channel to hear of their wavs.

    Returns:
        The clips in order of name, and why each other one was refused: name -> one sentence that
            names the file.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no usable clip.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder of clips at {folder}')
    clips, refused = [], {}
    for motion_path in find_files(folder, '*.npz'):
        stem, _, party = motion_path.stem.rpartition('_')
        if party not in _PARTIES:
            continue
        try:
            clip = _open_clip(motion_path, stem, party, space, fps)
            clips.append(_hear(clip, channels))
        except (ValueError, FileNotFoundError) as error:
            refused[motion_path.stem] = str(error)
    if not clips:
        reason = next(
            iter(refused.values()), 'no *_speaker1.npz, *_speaker2.npz or *_agent.npz in it'
        )
        raise ValueError(
            f'{folder}: expected clips of two people, got none that can be used: {reason}'
        )
    return clips, refused


def _open_clip(path: pathlib.Path, stem: str, party: str, space: MotionSpace, fps: float) -> Clip:
    agent_wav = find_beside(path.with_suffix('.wav'))
    user_wav = find_beside(path.with_name(f'{stem}_{_PARTIES[party]}.wav'))
    user_npz = find_beside(user_wav.with_suffix('.npz'))
    agent = read_head(path)
    notes: list[str] = []
    agent_s, user_s = (_duration_s(wav, notes) for wav in (agent_wav, user_wav))
    agent, more = hold_against_voice(agent, agent_s)
    notes += more
    agent_motion, is_valid, is_seen = to_grid(agent, space, fps)
    if not is_seen.all():
        raise ValueError(f'{notes[-1]}; split the clip there: what is learned must be known')
    lengths = [len(agent_motion), *(int(duration * fps + 1e-6) for duration in (agent_s, user_s))]
    user_motion = user_seen = None
    if user_npz.is_file():
        user = read_head(user_npz)
        try:
            user, more = hold_against_voice(user, user_s)
        except ValueError as error:
            notes.append(f'{error}; the user counts as not seen')
        else:
            notes += more
            user_motion, _, user_seen = to_grid(user, space, fps)
            if not user.is_stamped:  # of two frames more or less
                lengths.append(len(user_motion))
    n_frames = min(lengths)
    cut_s = max(agent_s, user_s) - n_frames / fps
    if cut_s > _TOLD_S:
        notes.append(
            f'{path.name}: {cut_s:.1f} of {max(agent_s, user_s):.1f} s are cut: not all of both '
            'voices and the head is recorded until then'
        )
    if user_motion is not None:
        n_missing = max(n_frames - len(user_motion), 0)
        user_seen = np.pad(user_seen[:n_frames], (0, n_missing))
        user_motion = np.pad(user_motion[:n_frames], ((0, n_missing), (0, 0)), 'edge')
    return Clip(
        path.stem,
        agent_wav,
        user_wav,
        agent_motion[:n_frames],
        is_valid,
        user_motion,
        *style_of(agent, n_frames, fps),
        user_seen,
        notes=tuple(notes),
    )


def _hear(clip: Clip, channels: Mapping[str, str | int]) -> Clip:
    """Return a clip whose voices are heard by these channels, with notes on what is odd."""
    notes = list(clip.notes)
    for voice, wav in (('user', clip.user_wav), ('agent', clip.agent_wav)):
        channel = parse_channel(channels.get(voice, MEAN))
        n_channels = read_layout(wav).channels
        choose_channel(np.zeros((0, n_channels)), channel, str(wav))  # refuses one not there
        if n_channels > 1 and channel == MEAN:
            watch = ChannelWatch()
            watch.add(read_wav(wav)[0])
            if finding := watch.finding(f'channels of the recipe, {voice}: '):
                notes.append(f'{wav.name}: {finding}')
    return dataclasses.replace(
        clip,
        user_channel=parse_channel(channels.get('user', MEAN)),
        agent_channel=parse_channel(channels.get('agent', MEAN)),
        notes=tuple(notes),
    )


def _duration_s(path: pathlib.Path, notes: list[str]) -> float:
    _check_there(path)
    return read_duration_s(path, notes)


def _check_there(path: pathlib.Path) -> None:
    problem = why_no_file(path, 'voice', 'each clip needs the wav of both people')
    if problem:
        raise FileNotFoundError(problem)
