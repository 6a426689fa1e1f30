# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A head's recorded motion, out of its file and held against the voice that it belongs to.

Responsible for both layouts of files, and for the rule by which a head fits its voice: one rule
for agent and user, in evaluate, bench, train and dualtalk. Not for what is made of it.

    motion [F, C], names [C], fps, perhaps stamp_s [F]      ours
    exp [F, 50], pose [F, 6] = neck 3, jaw 3, at 25 fps     DualTalk

The rule: a file without stamps lasts as long as its voice, within two frames; otherwise its rate
is not the one that it states, frames were lost, or it is another person's, and it is refused. With
stamps each frame is where its stamp says: what lies outside the conversation is cut, and times in
which the head was not seen are noted, in seconds.
"""

import dataclasses
import pathlib

import numpy as np

from timar_ros.bounds import MAX_FILE_SAMPLES
from timar_ros.motion import (
    JAW_RAD_PER_JAW_OPEN,
    SPACES,
    MotionSpace,
    frame_to_motion,
    get_space,
    jaw_open_rad,
    neck_to_quaternion,
)
from timar_ros.npz import Arrays
from timar_ros.strict import did_you_mean, quoted, shortened

_SECOND_NS = 1_000_000_000
_DUALTALK_FPS = 25.0
_DUALTALK_NAMES = get_space('flame56').names
# The one channel that both spaces have, under different names: here, there, factor.
_JAW = {
    'flame56': ('jaw_x', 'jawOpen', JAW_RAD_PER_JAW_OPEN),
    'arkit55': ('jawOpen', 'jaw_x', 1 / JAW_RAD_PER_JAW_OPEN),
}
_BLENDSHAPES = frozenset(get_space('arkit55').names[get_space('arkit55').expression])
# No head turns by a whole turn, and a blendshape is 0 to 1: a channel of which more than 1 % lies
# beyond these has another unit. A tracker's few wild frames have not.
_LARGEST_ANGLE, _LARGEST_BLENDSHAPE = 2 * np.pi, 10.0
_WILD_SHARE = 1.0  # percent
_LARGEST_OF_ALL = 1_000.0  # not even a wild one
# Rates of cameras and trackers.
_RATES = (
    10, 12, 12.5, 15, 20, 24000 / 1001, 24, 25, 30000 / 1001, 30, 48, 50, 60000 / 1001, 60, 90,
    100, 120,
)  # fmt: skip
# What two frames of 25 a second last; at higher rates the voice's file is no more exact than that.
_TOLERANCE_S = 0.08
# Motion that is shorter than its voice by less may have lost frames; by more it is something else.
_LOST_SHARE = 0.2
# As live: a tracker that drops a few frames is bridged, one that lost the face is not.
MAX_HOLE_S = 0.25
# As long as a recording may be, and as late as a stamp of any clock.
_LONGEST_S = MAX_FILE_SAMPLES / 16_000
_LATEST_S = 2.0**33


@dataclasses.dataclass(frozen=True)
class Head:
    """
    One person's head, as its file holds it.

    Attributes:
        path: file that it was read from.
        names: its channels.
        frames: `[F, C]`, finite, F at least 2.
        stamp_s: float64 `[F]`, rising, seconds from the beginning of the voice.
        fps: as the file states it.
        is_stamped: the file has stamps, and they differ from frame / fps by more than 1 ms.
        content: the arrays of the file.
    """

    path: pathlib.Path
    names: list[str]
    frames: np.ndarray
    stamp_s: np.ndarray
    fps: float
    is_stamped: bool
    content: Arrays

    @property
    def length_s(self) -> float:
        """Up to the end of the last frame."""
        period_s = (self.stamp_s[-1] - self.stamp_s[0]) / (len(self.stamp_s) - 1)
        return float(self.stamp_s[-1] + period_s)

    def holes(self) -> list[tuple[float, float]]:
        """Return begin and end, s, of the times without a frame that are too long to bridge."""
        # a microsecond more: stamps of decimal fractions are not exact
        ends = np.flatnonzero(np.diff(self.stamp_s) > MAX_HOLE_S + 1e-6)
        return [(float(self.stamp_s[i]), float(self.stamp_s[i + 1])) for i in ends]


def read_head(path: pathlib.Path) -> Head:
    """
    Read a head's file of either layout.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a key is missing, a shape or name is wrong, or a value is not finite.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no motion at {path}; give an npz with motion, names and fps')
    content = Arrays(path)
    if {'exp', 'pose'} <= set(content):
        names, frames, fps, stamp_s = _from_dualtalk(path, content)
    elif {'motion', 'names', 'fps'} <= set(content):
        names, frames, fps, stamp_s = _from_named(path, content)
    else:
        raise ValueError(
            f'{path}: expected exp and pose (DualTalk), or motion, names and fps (ours), '
            f'got {shortened(", ".join(sorted(content)), 200) or "nothing"}'
        )
    if not np.isfinite(frames).all():
        bad = int(np.flatnonzero(~np.isfinite(frames).all(1))[0])
        raise ValueError(
            f'{path}: expected finite motion, got NaN or infinite values at frame {bad}'
        )
    _check_units(path, names, frames)
    counted_s = np.arange(len(frames)) / fps
    is_stamped = stamp_s is not None and not np.allclose(stamp_s, counted_s, atol=1e-3, rtol=0)
    stamp_s = counted_s if stamp_s is None else np.asarray(stamp_s, np.float64)
    return Head(path, names, frames, stamp_s, fps, is_stamped, content)


def hold_against_voice(
    head: Head, voice_s: float, until_s: float | None = None
) -> tuple[Head, list[str]]:
    """
    Hold a head against its own voice, by the rule in this module's text.

    Args:
        head: from `read_head`.
        voice_s: how long its own voice is recorded.
        until_s: how long the conversation is, where it is longer: silence follows the shorter
            voice, and the head may be seen meanwhile.

    Returns:
        the head without what lies outside the conversation; and what was cut or not seen, a
        sentence each.

    Raises:
        ValueError: it cannot be this voice's; the message has the numbers and what to do.
    """
    until_s = max(voice_s, until_s or 0.0)
    tolerance_s = max(2 / head.fps, _TOLERANCE_S) + 1e-6
    if not head.is_stamped:
        states_stamps = 'stamp_s' in head.content
        ends = (voice_s, until_s) if states_stamps else (voice_s,)
        if any(abs(head.length_s - end_s) <= tolerance_s for end_s in ends):
            return head, []
        rate = _true_rate(head, voice_s, tolerance_s)
        if rate or head.length_s > voice_s or not states_stamps:
            raise ValueError(_misfit(head, voice_s, rate))
    is_inside = (head.stamp_s >= -tolerance_s) & (head.stamp_s < until_s + tolerance_s)
    unit = _unit_of_stamps(head, until_s + tolerance_s)
    if is_inside.sum() < 2 or unit:
        fix = unit or "subtract the time at which the voice's file begins"
        raise ValueError(
            f'{head.path}: expected stamp_s in seconds from the beginning of its voice, 0 to '
            f'{until_s:.2f}, got {head.stamp_s[0]:.2f} to {head.stamp_s[-1]:.2f}; {fix}'
        )
    notes = []
    first, last = head.stamp_s[0], head.length_s
    if first < -tolerance_s:
        notes.append(f'{-first:.1f} s of motion before its voice begins are cut')
    if last > until_s + tolerance_s:
        notes.append(f'{last - until_s:.1f} s of motion after its voice has ended are cut')
    kept = dataclasses.replace(
        head, frames=head.frames[is_inside], stamp_s=head.stamp_s[is_inside]
    )
    holes = kept.holes()
    if kept.stamp_s[0] > tolerance_s:
        holes.insert(0, (0.0, float(kept.stamp_s[0])))
    if kept.length_s < voice_s - tolerance_s:
        holes.append((kept.length_s, voice_s))
    if holes:
        lost_s, where = sum(b - a for a, b in holes), f'from {holes[0][0]:.1f} s on'
        if len(holes) > 1:
            where = f'{len(holes)} times, first {where}'
        notes.append(f'the head was not seen for {lost_s:.1f} of {voice_s:.1f} s ({where})')
    return kept, [f'{head.path.name}: {note}' for note in notes]


def _unit_of_stamps(head: Head, until_s: float) -> str:
    """Say what to do with stamps that are no seconds, but would fit if they were; or nothing."""
    begin, end = head.stamp_s[0], head.stamp_s[-1]
    if end <= 5 * until_s or begin < 0:
        return ''
    period = (end - begin) / (len(head.frames) - 1)
    units = {head.fps: 'are they frame numbers? Divide by fps', 1e3: 'milliseconds? Divide by 1e3',
             1e6: 'microseconds? Divide by 1e6'}  # fmt: skip
    for factor, fix in units.items():
        if end / factor <= until_s and 0.5 < period * head.fps / factor < 2:
            return fix if fix.startswith('are') else f'are they {fix}'
    return ''


def _true_rate(head: Head, voice_s: float, tolerance_s: float) -> float | None:
    """Return the rate of a camera at which the frames last as long as the voice, if any."""
    n_frames = len(head.frames)
    rate = min(_RATES, key=lambda rate: abs(n_frames / rate - voice_s))
    return rate if abs(n_frames / rate - voice_s) <= tolerance_s else None


def _misfit(head: Head, voice_s: float, rate: float | None) -> str:
    n_frames, short_s = len(head.frames), voice_s - head.length_s
    text = (
        f'{head.path}: expected motion as long as its voice, within two frames, got {n_frames} '
        f'frames at {head.fps:g} fps, {head.length_s:.2f} s, for {voice_s:.2f} s of sound'
    )
    may_have_lost = 0 < short_s < _LOST_SHARE * voice_s
    if rate:
        without = ' and leave stamp_s out' if 'stamp_s' in head.content else ''
        text += f'; is its true frame rate {rate:.5g}? Then write that as fps{without}'
        return text + (
            '. Or were frames lost? Then add stamp_s, when each frame was shown'
            if may_have_lost and not without
            else ''
        )
    if may_have_lost:
        return (
            f'{text}; were frames lost, or did the camera stop {short_s:.2f} s before the '
            'microphone? Add stamp_s, when each frame was shown in s from the beginning of the '
            'voice'
        )
    return (
        f'{text}; is it the motion of this voice? Give that, cut it to the voice, or write its '
        f'true frame rate as fps ({n_frames / voice_s:.4g} if it is all of it)'
    )


def to_grid(
    head: Head, space: MotionSpace, fps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Bring a head onto the grid of `fps` frames a second.

    The jaw of the other space is converted (jaw_x = 0.35 rad · jawOpen); its expression is left
    out.

    Returns:
        motion, float32 `[G, M]`, frame i at i / fps, neutral where the file says nothing; bool
        `[M]`, which channels it holds; and bool `[G]`, where the head was seen.

    Raises:
        ValueError: it holds no channel of the space.
    """
    stamp_s, names = head.stamp_s, head.names
    if head.length_s > _LONGEST_S:
        raise ValueError(
            f'{head.path}: expected stamp_s in seconds from the beginning of its voice, up to '
            f'{_LONGEST_S:.0f}, got {stamp_s[0]:g} to {stamp_s[-1]:g}'
        )
    n_frames = max(int(head.length_s * fps + 1e-6), 0)
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
            motion[:, channel] = scale * np.interp(grid_s, stamp_s, head.frames[:, column])
            is_valid[channel] = True
    if not is_valid.any():
        raise ValueError(
            f'{head.path}: none of its channels ({shortened(", ".join(names[:3]))} ...) is in '
            f'{space.name}'
        )
    is_seen = grid_s > stamp_s[0] - max(2 / head.fps, _TOLERANCE_S)
    for begin_s, end_s in head.holes():
        is_seen &= (grid_s <= begin_s + 1e-6) | (grid_s >= end_s - 1e-6)
    return motion, is_valid, is_seen


def to_live(head: Head, space: MotionSpace) -> tuple[np.ndarray, np.ndarray]:
    """
    Return a head as a live node gets it: frame by frame, with a plain jaw.

    Jaw y and z are neutral; of another motion space neck and jaw alone are taken.

    Returns:
        stamps int64 `[F]` ns and frames float32 `[F, M]`.

    Raises:
        ValueError: its channels are not those of one motion space.
    """
    source = next((s for s in SPACES.values() if set(head.names) <= set(s.names)), None)
    if source is None:
        raise ValueError(
            f'{head.path}: its names, {shortened(", ".join(head.names[:3]))} ..., are not those '
            f'of {" or ".join(SPACES)}'
        )
    frames = np.tile(source.neutral, (len(head.frames), 1))
    frames[:, [source.index(name) for name in head.names]] = head.frames
    quaternions = neck_to_quaternion(frames[:, source.neck])
    jaws = jaw_open_rad(source, frames)
    converted = [
        frame_to_motion(space, quaternion, jaw, source.expression_space, frame[source.expression])
        for quaternion, jaw, frame in zip(quaternions, jaws, frames, strict=True)
    ]
    stamps = np.rint(head.stamp_s * _SECOND_NS).astype(np.int64)
    return stamps, np.array(converted, np.float32).reshape(len(stamps), space.n_channels)


def _from_dualtalk(path: pathlib.Path, content: Arrays) -> tuple:
    expression, pose = (
        content.numbers(name, None, None, is_finite=False) for name in ('exp', 'pose')
    )
    if expression.shape[1] != 50 or pose.shape != (len(expression), 6):
        raise ValueError(
            f'{path}: expected exp [F, 50] and pose [F, 6], '
            f'got {list(expression.shape)} and {list(pose.shape)}'
        )
    _check_count(path, expression)
    frames = np.concatenate([expression, pose[:, 3:], pose[:, :3]], 1)  # pose is neck, then jaw
    return list(_DUALTALK_NAMES), frames, _DUALTALK_FPS, None


def _from_named(path: pathlib.Path, content: Arrays) -> tuple:
    names, fps = content.texts('names'), content.number('fps')
    frames = content.numbers('motion', None, None, is_finite=False)
    if frames.shape[1] != len(names):
        raise ValueError(
            f'{path}: expected motion [F, {len(names)}], a column for each name, '
            f'got {list(frames.shape)}'
        )
    _check_count(path, frames)
    if not len(frames) / _LONGEST_S < fps < 1000:
        raise ValueError(f'{path}: expected fps in frames a second, got {fps:g}')
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f'{path}: expected each channel once in names, got {quoted(twice)} twice')
    known = {name for space in SPACES.values() for name in space.names}
    unknown = [name for name in names if name not in known]
    if unknown:
        hint = did_you_mean(unknown[0], known)
        hint = hint or f'; its names are not those of {" or ".join(SPACES)}'
        raise ValueError(f'{path}: unknown channel {quoted(unknown[0])}{hint}')
    stamp_s = None
    if 'stamp_s' in content:
        stamp_s = content.numbers('stamp_s', None, is_finite=False)
    if stamp_s is not None and (
        stamp_s.shape != (len(frames),)
        or not (np.abs(stamp_s) < _LATEST_S).all()  # refuses NaN too
        or not (np.diff(stamp_s) > 0).all()
    ):
        raise ValueError(
            f'{path}: expected stamp_s [{len(frames)}], finite and rising seconds of the voice, '
            f'got {list(stamp_s.shape)}'
            + (f' from {stamp_s.flat[0]:g} to {stamp_s.flat[-1]:g}' if stamp_s.size else '')
        )
    return names, frames, fps, stamp_s


def _check_units(path: pathlib.Path, names: list[str], frames: np.ndarray) -> None:
    """Refuse angles that cannot be in rad, and blendshapes that cannot be of 0 to 1."""
    size = np.abs(frames)
    usual = np.percentile(size, 100 - _WILD_SHARE, axis=0)
    for column, name in enumerate(names):
        if name.startswith(('neck_', 'jaw_')):
            limit, unit = _LARGEST_ANGLE, 'rad, less than a turn'
            fix = 'in degrees? Multiply neck and jaw by pi / 180'
        elif name in _BLENDSHAPES:
            limit, unit = _LARGEST_BLENDSHAPE, '0 to 1'
            fix = 'in percent? Divide the blendshapes by 100'
        else:
            continue
        largest = float(size[:, column].max())
        if usual[column] > limit:
            raise ValueError(f'{path}: expected {name} in {unit}, got up to {largest:.4g}; {fix}')
        if largest > _LARGEST_OF_ALL:
            bad = int(size[:, column].argmax())
            raise ValueError(
                f'{path}: expected {name} in {unit}, got {largest:.4g} at frame {bad}; leave '
                'that frame out, and give stamp_s'
            )


def _check_count(path: pathlib.Path, frames: np.ndarray) -> None:
    if not len(frames):
        raise ValueError(f'{path}: expected motion, got no frames')
    if len(frames) < 2:
        raise ValueError(f'{path}: expected motion, got one frame; a pose does not move')
