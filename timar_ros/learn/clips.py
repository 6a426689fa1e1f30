# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Recorded conversations: files on disk as voices and motion on one grid of frames.

Knows the two layouts of files that we train on, and says which file is wrong and how.

A folder holds conversations, each of two voices and at least one motion:

    <clip>_speaker1.wav <clip>_speaker1.npz <clip>_speaker2.wav <clip>_speaker2.npz     DualTalk
    <clip>_user.wav     [<clip>_user.npz]   <clip>_agent.wav    <clip>_agent.npz        ours

A DualTalk npz has `exp [F, 50]` and `pose [F, 6]` = neck 3, jaw 3 at 25 fps. Ours has `motion
[F, C]`, `names [C]`, `fps` and perhaps `stamp_s [F]`; channels that a file lacks are not
trained. An agent's may also say how it is meant: `style [F, 7]` = happy, sad, angry, surprised,
afraid, disgusted (0..1) and attitude (-1..1), and `persona`, a name. Each speaker of DualTalk
whose motion is there is the agent once.
"""

import dataclasses
import difflib
import glob
import pathlib
import zipfile

import numpy as np
import soxr

from timar_ros.model.turn import EMOTIONS
from timar_ros.motion import JAW_RAD_PER_JAW_OPEN, SPACES, MotionSpace, get_space
from timar_ros.stream.wav import read_duration_s, read_wav

_PARTIES = {'speaker1': 'speaker2', 'speaker2': 'speaker1', 'agent': 'user'}
_DUALTALK_FPS = 25.0
_N_STYLE = len(EMOTIONS) + 1  # and attitude
_DUALTALK_NAMES = get_space('flame56').names
# The one channel that both spaces have, under different names: here, there, factor.
_JAW = {
    'flame56': ('jaw_x', 'jawOpen', JAW_RAD_PER_JAW_OPEN),
    'arkit55': ('jawOpen', 'jaw_x', 1 / JAW_RAD_PER_JAW_OPEN),
}


@dataclasses.dataclass(frozen=True)
class Clip:
    """
    One conversation with one of its two people as the agent.

    Attributes:
        name: of the agent's files, without folder and ending.
        agent_wav, user_wav: the voices.
        agent_motion: float32 `[F, M]`, raw units, frame i shown at i / fps seconds.
        is_valid: bool `[M]`, the channels that the agent's file holds.
        user_motion: float32 `[F, M]`, or None if nobody watched the user.
        style: float32 `[F, 7]`, emotions and attitude of the agent; None = not said.
        persona: whose manner the agent has; '' = not said.
    """

    name: str
    agent_wav: pathlib.Path
    user_wav: pathlib.Path
    agent_motion: np.ndarray
    is_valid: np.ndarray
    user_motion: np.ndarray | None
    style: np.ndarray | None = None
    persona: str = ''

    @property
    def n_frames(self) -> int:
        """Frames F that both voices and all motion cover."""
        return len(self.agent_motion)


def read_voice(path: pathlib.Path, sample_rate_hz: int = 16000) -> np.ndarray:
    """
    Read a voice from a wav file of any rate and channel count.

    Returns:
        float32 `[n]` in [-1, 1], the mean of the channels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no wav, holds no sound, or samples that are not finite.
    """
    _check_there(pathlib.Path(path))
    samples, rate = read_wav(path)
    samples = samples.mean(1) if samples.shape[1] > 1 else samples[:, 0]
    if rate != sample_rate_hz:
        samples = soxr.resample(samples, rate, sample_rate_hz)
    return samples


def read_motion(
    path: pathlib.Path, space: MotionSpace, fps: float = 25.0
) -> tuple[np.ndarray, np.ndarray]:
    """
    Read a motion file of either layout onto the grid of `fps` frames a second.

    The jaw of the other space is converted (jaw_x = 0.35 rad · jawOpen); its expression is left
    out.

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
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no motion at {path}')
    content = _load(path)
    if {'exp', 'pose'} <= set(content):
        names, frames, stamp_s = _from_dualtalk(path, content)
    elif {'motion', 'names', 'fps'} <= set(content):
        names, frames, stamp_s = _from_named(path, content)
    else:
        raise ValueError(
            f'{path}: expected exp and pose (DualTalk), or motion, names and fps (ours), '
            f'got {", ".join(sorted(content)) or "nothing"}'
        )
    if not np.isfinite(frames).all():
        bad = int(np.flatnonzero(~np.isfinite(frames).all(1))[0])
        raise ValueError(
            f'{path}: expected finite motion, got NaN or infinite values at frame {bad}'
        )
    period_s = (stamp_s[-1] - stamp_s[0]) / max(len(stamp_s) - 1, 1)
    n_frames = int((stamp_s[-1] + (period_s or 1 / fps)) * fps + 1e-6)
    grid_s = np.arange(n_frames) / fps
    motion = np.tile(space.neutral, (n_frames, 1)).astype(np.float32)
    is_valid = np.zeros(len(space.names), bool)
    jaw, foreign_jaw, factor = _JAW[space.name]
    for column, name in enumerate(names):
        scale = 1.0
        if name == foreign_jaw and jaw not in names:
            name, scale = jaw, factor
        if name in space.names:
            channel = space.index(name)
            motion[:, channel] = scale * np.interp(grid_s, stamp_s, frames[:, column])
            is_valid[channel] = True
    if not is_valid.any():
        raise ValueError(
            f'{path}: none of its channels ({", ".join(names[:3])} ...) is in {space.name}'
        )
    return motion, is_valid


def read_style(
    path: pathlib.Path, n_frames: int, fps: float = 25.0
) -> tuple[np.ndarray | None, str]:
    """
    Read how an agent's motion is meant, from the file of that motion.

    Args:
        path: npz.
        n_frames: F, frames wanted.
        fps: frames a second wanted.

    Returns:
        style float32 `[F, 7]` or None, and the persona or ''; None and '' where nothing is said.

    Raises:
        ValueError: a shape or value is wrong.
    """
    content = _load(path)
    persona = str(content.get('persona', ''))
    if 'style' not in content:
        return None, persona
    style, n_stored = content['style'], len(content.get('motion', content['style']))
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
    rows = np.arange(n_frames) / fps * float(content.get('fps', fps))
    return style[np.minimum(rows.astype(int), len(style) - 1)].astype(np.float32), persona


def find_files(folder: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    """Return a folder's files in order, subfolders and folders that are linked to included."""
    # rglob passes by linked folders, which is how people put data sets together.
    names = glob.iglob(f'**/{pattern}', root_dir=folder, recursive=True)
    return sorted(folder / name for name in names)


def open_clips(
    folder: pathlib.Path, space: MotionSpace, fps: float = 25.0
) -> tuple[list[Clip], dict[str, str]]:
    """
    Find the usable conversations of a folder; voices are read later, motion now.

    Args:
        folder: files named as in the module's text, subfolders included, linked ones too.
        space: the motion space to read into.
        fps: frames a second.

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
            clips.append(_open_clip(motion_path, stem, party, space, fps))
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
    agent_wav = path.with_suffix('.wav')
    user_wav = path.with_name(f'{stem}_{_PARTIES[party]}.wav')
    agent_motion, is_valid = read_motion(path, space, fps)
    lengths = [len(agent_motion)]
    durations_s = [_duration_s(wav) for wav in (agent_wav, user_wav)]
    ratio = len(agent_motion) / fps / durations_s[0]
    if not 0.9 < ratio < 1.1:
        raise ValueError(
            f'{path}: expected motion as long as its voice, got {len(agent_motion)} frames at '
            f'{fps:g} fps for {durations_s[0]:.1f} s of sound; is its true frame rate '
            f'{ratio * fps:.0f}?'
        )
    user_motion = None
    if user_wav.with_suffix('.npz').is_file():
        user_motion = read_motion(user_wav.with_suffix('.npz'), space, fps)[0]
        lengths.append(len(user_motion))
    n_frames = min(lengths + [int(duration * fps + 1e-6) for duration in durations_s])
    return Clip(
        path.stem,
        agent_wav,
        user_wav,
        agent_motion[:n_frames],
        is_valid,
        None if user_motion is None else user_motion[:n_frames],
        *read_style(path, n_frames, fps),
    )


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f'{path}: expected an npz of plain arrays, got a file that cannot be read as one '
            f'({error}); write it again with numpy.savez'
        ) from None


def _from_dualtalk(path: pathlib.Path, content: dict) -> tuple[list, np.ndarray, np.ndarray]:
    expression, pose = content['exp'], content['pose']
    if expression.ndim != 2 or expression.shape[1:] != (50,) or pose.shape != (len(expression), 6):
        raise ValueError(
            f'{path}: expected exp [F, 50] and pose [F, 6], '
            f'got {list(expression.shape)} and {list(pose.shape)}'
        )
    _check_not_empty(path, expression)
    frames = np.concatenate([expression, pose[:, 3:], pose[:, :3]], 1)  # pose is neck, then jaw
    return list(_DUALTALK_NAMES), frames, np.arange(len(frames)) / _DUALTALK_FPS


def _from_named(path: pathlib.Path, content: dict) -> tuple[list, np.ndarray, np.ndarray]:
    frames, names, fps = content['motion'], content['names'].tolist(), float(content['fps'])
    if frames.ndim != 2 or frames.shape[1] != len(names):
        raise ValueError(
            f'{path}: expected motion [F, {len(names)}], a column for each name, '
            f'got {list(frames.shape)}'
        )
    _check_not_empty(path, frames)
    if not 0 < fps < 1000:
        raise ValueError(f'{path}: expected fps in frames a second, got {fps:g}')
    known = {name for space in SPACES.values() for name in space.names}
    unknown = [name for name in names if name not in known]
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), known, n=1)
        hint = f'; did you mean {close[0]!r}?' if close else ''
        raise ValueError(f'{path}: unknown channel {unknown[0]!r}{hint}')
    stamp_s = content.get('stamp_s', np.arange(len(frames)) / fps)
    if stamp_s.shape != (len(frames),) or not (np.diff(stamp_s) > 0).all() or stamp_s[0] < 0:
        raise ValueError(
            f'{path}: expected stamp_s [{len(frames)}], rising seconds of the voice, '
            f'got {list(stamp_s.shape)} from {stamp_s[0]:g} to {stamp_s[-1]:g}'
        )
    return names, frames, stamp_s


def _check_not_empty(path: pathlib.Path, frames: np.ndarray) -> None:
    if not len(frames):
        raise ValueError(f'{path}: expected motion, got no frames')


def _duration_s(path: pathlib.Path) -> float:
    _check_there(path)
    return read_duration_s(path)


def _check_there(path: pathlib.Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f'no voice at {path}; each clip needs the wav of both people')
