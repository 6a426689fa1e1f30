# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The demo: two recorded voices through the real nodes on real topics, in real time.

    python -m timar_ros.nodes.demo --out demo_out [--user u.wav --agent a.wav]

Replay, conversation, face and recorder run in one process and meet on DDS topics like any nodes.
The folder then holds the bag, motion.png and summary.json. The face is shown in a browser where
there is a display, and has an address where there is none.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import sys
import time
import webbrowser

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.parameter import Parameter

from timar_ros.nodes.bag import RecorderNode
from timar_ros.nodes.bringup import compose
from timar_ros.nodes.demo_report import draw, late_note, read_recorded, summarise
from timar_ros.nodes.environment import prepare, share_folder
from timar_ros.nodes.recording import read_voice
from timar_ros.nodes.replay import ReplayNode
from timar_ros.nodes.running import end
from timar_ros.outputs import check_own_files, has_keys
from timar_ros.strict import whole_number

_FACE_PORT = 8390
_PROGRESS_S = 5
_LOOK_S = 10.0  # what a browser may take to show the face before the voices begin
_TOPICS = {
    'user/audio': 'timar_ros/msg/AudioChunk',
    'agent/audio': 'timar_ros/msg/AudioChunk',
    'agent/motion_plan': 'timar_ros/msg/HeadMotionPlan',
    'agent/motion': 'timar_ros/msg/HeadMotion',
    'conversation/state': 'timar_ros/msg/ConversationState',
    '/diagnostics': 'diagnostic_msgs/msg/DiagnosticArray',
}


_FILES = ('bag', 'motion.png', 'summary.json')
# By this a folder is known again as the demo's, even one that was interrupted.
_MARK = '.timar_ros_demo'


def _is_own(folder: pathlib.Path) -> bool:
    return (folder / _MARK).exists() or has_keys(folder / 'summary.json', 'timing', 'plans')


def _parse(args) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.nodes.demo',
        description='Play two voices through the conversation node; keep what it answers.',
    )
    parser.add_argument('--out', type=pathlib.Path, default='demo_out', help='folder to write')
    parser.add_argument('--user', type=pathlib.Path, help="wav of the user's voice")
    parser.add_argument('--agent', type=pathlib.Path, help="wav of the agent's voice")
    parser.add_argument(
        '--timing', choices=('anticipate', 'reactive'), default='anticipate',
        help='plan while the user speaks, or answer each turn when it is over; %(default)s',
    )  # fmt: skip
    parser.add_argument('--checkpoint', default='', help='weights; default: those of the package')
    parser.add_argument(
        '--threads',
        type=whole_number(0, 256),
        default=0,
        help='CPU threads of the model; 0: as the conversation node decides',
    )
    return parser.parse_args(args)


def _options(**params) -> dict:
    return {'parameter_overrides': [Parameter(name, value=v) for name, v in params.items()]}


def _free_port() -> int:
    """Return the face's usual port, or 0 (any) where another robot has it."""
    try:
        with socket.create_server(('127.0.0.1', _FACE_PORT)):
            return _FACE_PORT
    except OSError:
        return 0


def show(executor, face, duration_s: float) -> None:
    """
    Open the face in a browser and wait until it is connected; or print how to see it.

    Args:
        executor: of all nodes.
        face: its node, which has logged its address.
        duration_s: of the conversation; the page is served until its end.
    """
    until = f'until the demo ends, in about {duration_s:.0f} s'
    has_display = os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
    if not has_display or not webbrowser.open(face.server.url):
        port = face.server.port
        print(
            f'the face is served {until}; to see it from another machine: ssh -L '
            f'{port}:127.0.0.1:{port} THIS_MACHINE',
            file=sys.stderr,
        )
        return
    print(f'the face is in your browser {until}', file=sys.stderr)
    until_s = time.monotonic() + _LOOK_S
    while not face.server.has_clients and time.monotonic() < until_s:
        executor.spin_once(timeout_sec=0.1)


def _start(executor, conversation) -> None:
    while conversation.is_starting:
        executor.spin_once(timeout_sec=0.5)
    if not conversation.is_active:
        raise RuntimeError('the conversation node could not start; its message above says why')


def _spin(executor, replay) -> None:
    """Spin until the recording is over, and print the progress."""
    told_s = -_PROGRESS_S
    while not replay.done.done():
        executor.spin_once(timeout_sec=0.5)
        now_s = int(replay.played_s)
        if now_s >= told_s + _PROGRESS_S:
            told_s = now_s
            # A line of its own: warnings of the nodes come in between.
            print(f'{now_s} s of {replay.duration_s:.0f} s', file=sys.stderr, flush=True)


def play(args: argparse.Namespace, voices: dict[str, str], duration_s: float) -> float:
    """
    Play and record one conversation.

    Args:
        args: of the command line.
        voices: 'user', 'agent' -> path of a wav, '' for silence.
        duration_s: of the longer one.

    Returns:
        Delay of the shown motion against the conversation, s.

    Raises:
        FileNotFoundError, ValueError: a recording is refused.
        RuntimeError: the conversation node refuses to start.
    """
    nodes, others, recorder = {}, [], None
    rclpy.init(args=[])
    try:
        executor = SingleThreadedExecutor()
        params = {name: getattr(args, name) for name in ('timing', 'checkpoint', 'threads')}
        nodes = compose({'face': {'port': _free_port()}, 'conversation': params})
        others.append(recorder := RecorderNode(args.out / 'bag', _TOPICS))
        for node in (recorder, *nodes.values()):
            executor.add_node(node)
        conversation = nodes['conversation']
        _start(executor, conversation)
        show(executor, nodes['face'], duration_s)
        # Conversation and recorder both listen before it begins, and so does the face.
        schedule = conversation.schedule
        params = {'turn_s': schedule.turn_ns(1) / 1e9, 'subscribers': 2}
        others.append(replay := ReplayNode(**_options(**voices, **params)))
        executor.add_node(replay)
        _spin(executor, replay)
        return schedule.shown_ns(0) / 1e9
    finally:
        if recorder is not None:
            recorder.close()  # whatever ended it: a bag without its index cannot be read
        end([*nodes.values(), *others])
        rclpy.try_shutdown()


def main(args=None) -> None:
    """Run the demo and print its summary."""
    args = _parse(args)
    # A demo is nobody else's business, and two of them must not talk to each other.
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    os.environ.setdefault('ROS_DOMAIN_ID', str(1 + os.getpid() % 100))
    try:
        prepare()
    except ValueError as error:
        raise SystemExit(f'demo: {error}') from None
    voices = {'user': args.user, 'agent': args.agent}
    if not any(voices.values()):
        folder = share_folder() / 'config' / 'demo'
        voices = {voice: folder / f'{voice}.wav' for voice in voices}
    try:
        # Read before anything is loaded, so that a wrong path is refused at once.
        heard = [read_voice(path) for path in voices.values() if path]
        duration_s = max(voice.duration_ns for voice in heard) / 1e9
        check_own_files(args.out, _FILES, _is_own, 'the demo')
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / _MARK).touch()
        shutil.rmtree(args.out / 'bag', ignore_errors=True)
        for name in ('motion.png', 'summary.json'):  # of an earlier run, beside a new bag
            (args.out / name).unlink(missing_ok=True)
        paths = {name: str(path or '') for name, path in voices.items()}
        delay_s = play(args, paths, duration_s)
        recorded = read_recorded(args.out / 'bag')
    except (FileNotFoundError, ValueError, RuntimeError) as error:
        raise SystemExit(f'demo: {error}') from None
    except (KeyboardInterrupt, ExternalShutdownException):
        raise SystemExit('demo: interrupted') from None
    summary = {'timing': args.timing, **summarise(recorded, delay_s)}
    (args.out / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n')
    names = ' and '.join(path.name for path in voices.values() if path)
    note = late_note(recorded)
    title = f'{names}, answered live ({args.timing})'
    draw(recorded, args.out / 'motion.png', delay_s, '\n'.join(filter(None, [title, note])))
    width = max(map(len, summary))
    for name, value in summary.items():
        print(f'{name:<{width}}  {value}')
    print(f'\n{args.out}: bag/ (mcap), motion.png, summary.json')
    if note:
        print(note.replace('below', 'above'))


if __name__ == '__main__':
    main()
