# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A recorded conversation to clips that can be trained on: `... learn.bag_to_clips BAG OUT`.

The agent is the person whose head is to be learned: both voices must be in the bag, and that
person's head (HeadMotion, from a tracker or a robot). Responsible for cutting a recording
where the head was not seen. Not for reading bags (`bag_recording.py`).
"""

import argparse
import dataclasses
import filecmp
import pathlib
import tempfile

import numpy as np
import scipy.io.wavfile

from timar_ros.command import end
from timar_ros.learn.bag_recording import read_bag_and_heads
from timar_ros.learn.listening import add_listening_options, listening_of
from timar_ros.learn.recording import Recording
from timar_ros.motion import SPACES, MotionSpace, get_space
from timar_ros.stream.bag_conversation import Listening
from timar_ros.stream.bag_topics import Topics
from timar_ros.stream.resample import SAMPLE_RATE_HZ

_FPS = 25
_SECOND_NS = 1_000_000_000
_LEAD_NS = 400_000_000  # of no consequence here: a voice counts when it sounds
# As in the node: a tracker that drops a few frames is bridged, one that lost the face is not.
_MAX_HOLE_NS = 250_000_000
_ENDINGS = ('user.wav', 'agent.wav', 'user.npz', 'agent.npz')
_SHORTEST_S = 5.0  # a training window of the shipped weights


@dataclasses.dataclass(frozen=True)
class Track:
    """
    One head of a recording.

    Attributes:
        stamp_ns: int64 `[F]`, rising.
        motion: float32 `[F, M]`.
    """

    stamp_ns: np.ndarray
    motion: np.ndarray


def seen_spans(stamp_ns: np.ndarray) -> list[tuple[int, int]]:
    """Return begin and end, ns, of the times in which a head was seen without a long gap."""
    if len(stamp_ns) < 2:
        return []
    ends = np.flatnonzero(np.diff(stamp_ns) > _MAX_HOLE_NS)
    firsts, lasts = np.append(0, ends + 1), np.append(ends, len(stamp_ns) - 1)
    return [(int(stamp_ns[a]), int(stamp_ns[b])) for a, b in zip(firsts, lasts, strict=True)]


def moving_channels(space: MotionSpace, motion: np.ndarray) -> np.ndarray:
    """
    Return which channels a head track holds, bool `[M]`.

    Neck and jaw always. Of the expression those that ever leave neutral: messages without an
    expression, or with one of another space, are read as neutral.
    """
    holds = (motion != space.neutral).any(0)
    holds[space.neck] = True
    holds[space.jaw if space.jaw is not None else space.index('jawOpen')] = True
    return holds


def clip_name(path: pathlib.Path) -> str:
    """Return what a bag's clips are called: its folder's whole name, or its file's."""
    path = path.resolve()
    if path.is_dir():
        return path.name
    name = path.name.removesuffix('.zstd')
    if name == 'metadata.yaml':
        return path.parent.name
    return name.removesuffix('.mcap').removesuffix('.db3')


def write_clips(
    path: pathlib.Path,
    out: pathlib.Path,
    space: MotionSpace,
    topics: Topics,
    agent_motion: str,
    listening: Listening | None = None,
) -> list[str]:
    """
    Write the clips of a bag, `<bag>_<n>_{user,agent}.{wav,npz}` (`learn/clips.py`).

    Nothing is written over: the numbers of a bag with the same name are followed by the next ones.

    Args:
        path: of the bag.
        out: folder.
        space: that the heads are written in.
        topics: where the voices and the user's head are.
        agent_motion: topic of the agent's head.
        listening: what the bag does not say: channels and formats.

    Returns:
        what was written and what not, a sentence each.

    Raises:
        FileNotFoundError: there is no bag.
        ValueError: it lacks a voice or the agent's head, or nothing of it is long enough.
    """
    heads = {'user': topics.user_motion, 'agent': agent_motion}
    recording, seen = read_bag_and_heads(path, space, _LEAD_NS, topics, heads, listening)
    for voice in ('user', 'agent'):
        if voice not in recording.voices:
            raise ValueError(
                f'{path}: expected two voices, got no {voice}/audio; a clip needs both people, '
                'the one who is silent too (name topics with --user-topic, --agent-topic)'
            )
    if 'agent' not in seen:
        raise ValueError(
            f'{path}: expected the head of the agent on {agent_motion} (timar_ros/HeadMotion), '
            'got none; it is what is to be learned: record it, or name it with '
            '--agent-motion-topic'
        )
    agent = Track(*seen['agent'])
    user = Track(*seen['user']) if 'user' in seen else None
    told = list(recording.notes)
    end_ns = recording.begin_ns + round(recording.length_s * _SECOND_NS)
    spans = [
        (max(begin, recording.begin_ns), min(end, end_ns))
        for begin, end in seen_spans(agent.stamp_ns)
    ]
    long = [span for span in spans if span[1] - span[0] >= _SHORTEST_S * _SECOND_NS]
    if not long:
        raise ValueError(
            f'{path}: expected the head of the agent for {_SHORTEST_S:g} s without a hole of '
            f'{_MAX_HOLE_NS // 1_000_000} ms while there is sound, got '
            f'{max((max(end - begin, 0) for begin, end in spans), default=0) / 1e9:.1f} s'
        )
    if len(long) < len(spans):
        told.append(f'{len(spans) - len(long)} parts shorter than {_SHORTEST_S:g} s left out')
    kept_s, all_s = sum(b - a for a, b in long) / _SECOND_NS, float(recording.length_s)
    if all_s - kept_s > 1:
        told.append(
            f"{all_s - kept_s:.1f} of {all_s:.1f} s left out: the agent's head was not seen, or "
            'for less than that'
        )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.bag_to_clips_', dir=out) as scratch:
        for begin_ns, last_ns in long:
            files = _write_clip(pathlib.Path(scratch), recording, space, agent, user, begin_ns,
                                last_ns)  # fmt: skip
            n_frames = (last_ns - begin_ns) * _FPS // _SECOND_NS + 1
            name, is_new = _keep(files, out, clip_name(path))
            length = f'{n_frames / _FPS:.1f} s'
            told.append(f'{name}: {length}' if is_new else f'{name}: {length}, is there already')
            if user is not None and 'user.npz' not in files:
                told.append(f"{name}: the user's head was not seen throughout, left out")
    return told


def _write_clip(
    folder: pathlib.Path,
    recording: Recording,
    space: MotionSpace,
    agent: Track,
    user: Track | None,
    begin_ns: int,
    last_ns: int,
) -> dict[str, pathlib.Path]:
    """Write the files of one clip; return them by the ends of their names."""
    files = {}
    n_frames = (last_ns - begin_ns) * _FPS // _SECOND_NS + 1
    for voice, heard in recording.voices.items():
        first = (begin_ns - recording.begin_ns) * SAMPLE_RATE_HZ // _SECOND_NS
        samples = heard.samples[first : first + n_frames * SAMPLE_RATE_HZ // _FPS]
        files[f'{voice}.wav'] = folder / f'{voice}.wav'
        scipy.io.wavfile.write(files[f'{voice}.wav'], SAMPLE_RATE_HZ, samples)
    grid_ns = begin_ns + np.arange(n_frames) * _SECOND_NS // _FPS
    heads = {'agent.npz': agent}
    if user is not None and any(
        a <= begin_ns and b >= last_ns for a, b in seen_spans(user.stamp_ns)
    ):
        heads['user.npz'] = user
    for ending, head in heads.items():
        files[ending] = folder / ending
        _write_head(files[ending], space, head, grid_ns)
    return files


def _keep(files: dict[str, pathlib.Path], out: pathlib.Path, name: str) -> tuple[str, bool]:
    """Move the files of a clip to the first free number; return its name, and if it is new."""
    n = 0
    while True:
        stem = f'{name}_{n:02d}'
        there = {ending: out / f'{stem}_{ending}' for ending in _ENDINGS}
        there = {ending: path for ending, path in there.items() if path.exists()}
        if not there:
            break
        if set(there) == set(files) and all(
            filecmp.cmp(files[ending], path, shallow=False) for ending, path in there.items()
        ):
            return stem, False
        n += 1
    for ending, path in files.items():
        path.replace(out / f'{stem}_{ending}')
    return stem, True


def _write_head(path: pathlib.Path, space: MotionSpace, head: Track, grid_ns: np.ndarray) -> None:
    holds = moving_channels(space, head.motion)
    at_s, grid_s = ((ns - grid_ns[0]) / _SECOND_NS for ns in (head.stamp_ns, grid_ns))
    columns = [np.interp(grid_s, at_s, head.motion[:, i]) for i in np.flatnonzero(holds)]
    names = np.array(space.names)[holds]
    np.savez(path, motion=np.stack(columns, 1).astype(np.float32), names=names, fps=float(_FPS))


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    topics = Topics()
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.learn.bag_to_clips',
        description='Turn a bag of a conversation into clips for python -m timar_ros.learn.train.',
    )
    parser.add_argument('bag', type=pathlib.Path, help='folder, .mcap or .db3')
    parser.add_argument('out', type=pathlib.Path, help='folder of clips')
    parser.add_argument('--space', default='arkit55', choices=sorted(SPACES), help='%(default)s')
    parser.add_argument('--user-topic', default=topics.user_audio, help='%(default)s')
    parser.add_argument('--agent-topic', default=topics.agent_audio, help='%(default)s')
    parser.add_argument('--user-motion-topic', default=topics.user_motion, help='%(default)s')
    parser.add_argument('--agent-motion-topic', default='agent/motion', help='%(default)s')
    add_listening_options(parser, has_formats=True)
    options = parser.parse_args(arguments)
    listening = listening_of(options)
    read = Topics(options.user_topic, options.agent_topic, options.user_motion_topic)
    space = get_space(options.space)
    lines = write_clips(
        options.bag, options.out, space, read, options.agent_motion_topic, listening
    )
    print('\n'.join(lines))


if __name__ == '__main__':
    end('bag_to_clips', main)
