# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Write docs/reference.md: every topic, service, launch argument and parameter, from the nodes.

    python -m timar_ros.nodes.reference docs/reference.md

Topics and services are those that nodes started for this have; parameters are their dataclasses;
bounds are the lines of bounds.py. What a topic is for is said here.
"""

import argparse
import contextlib
import dataclasses
import importlib
import inspect
import pathlib
import re
import sys

import rclpy
from rclpy.context import Context
from rclpy.parameter import Parameter

from timar_ros import bounds
from timar_ros.nodes.arguments import ARGUMENTS
from timar_ros.nodes.environment import share_folder
from timar_ros.nodes.params import allowed_text
from timar_ros.nodes.usage import value_text

# Node -> its parameters' class, and parameters with which it has the topics that it can have.
_NODES = {
    'conversation': ('ConversationParams', [{'activate_on_start': False}]),
    'microphone': ('MicrophoneParams', [{}]),
    'speaker': ('SpeakerParams', [{'playback': False}]),
    'neck': (
        'NeckParams',
        [
            {'output': 'trajectory', 'head_pose_hz': 25.0, 'additive': True},
            {'output': 'commands'},
            {'output': 'joint_targets'},
        ],
    ),
    'face': ('FaceParams', [{'port': 0}]),
    'replay': ('ReplayParams', [{'lockstep': True, 'clock': True}]),
}
_MODULES = {'conversation': 'loading'}
# Nodes of whatever ROS is here have these besides.
_OF_ROS = (
    '/rosout', '/parameter_events', '/clock', '~/get_parameters', '~/set_parameters',
    '~/set_parameters_atomically', '~/list_parameters', '~/describe_parameters',
    '~/get_parameter_types', '~/get_type_description', '~/transition_event', '~/change_state',
    '~/get_state', '~/get_available_states', '~/get_available_transitions',
    '~/get_transition_graph',
)  # fmt: skip
# No namespace goes before these.
_ABSOLUTE = ('/diagnostics', '/clock', '/tf', '/rosout', '/parameter_events')
_MEANINGS = {
    'agent/audio': "the robot's voice, stamped with its time of playback, published before that",
    'agent/motion': 'one frame at a time, each when it is due',
    'agent/motion_plan': 'all planned frames, published as soon as they are known',
    'agent/style': 'style of the motion, for weights that support it',
    'conversation/state': 'who speaks, and at which level',
    'face/action_units': 'FACS action units of the face',
    'face/blendshape_names': 'names of the 52 ARKit blendshapes; latched',
    'face/blendshapes': 'the 52 ARKit blendshapes, each frame at its time',
    'head_pose': 'orientation of the head',
    'joint_states': 'measured joint positions',
    'neck/base_orientation': 'orientation to add the motion to, for example of a gaze tracker',
    'neck/commands': 'positions for forward_command_controller',
    'neck/joint_targets': "positions and velocities, for a manufacturer's driver",
    'neck/joint_trajectory': 'for joint_trajectory_controller',
    'speaker/utterance': 'speech, as fast as it is generated; its stamps are ignored',
    'user/audio': "the user's voice, stamped with the time of capture",
    'user/head_motion': "the user's head, where a camera sees it",
    '/clock': 'simulated time',
    '/diagnostics': 'rates, counters and problems',
    '/tf': 'pose of the head relative to the base of its neck',
    '~/enable': 'start or stop smoothly',
    '~/pause': 'pause or resume the recording',
    '~/reset': 'start a new conversation',
    '~/state': 'who speaks, and at which level',
    '~/stop': 'stop speaking at once (barge-in)',
}
_CONDITIONS = {
    ('neck', 'neck/joint_trajectory'): '`output` trajectory',
    ('neck', 'neck/commands'): '`output` commands',
    ('neck', 'neck/joint_targets'): '`output` joint_targets',
    ('neck', 'neck/base_orientation'): '`additive`',
    ('neck', 'head_pose'): '`head_pose_hz` above 0',
    ('neck', '/tf'): '`tf`, where tf2_msgs is installed',
    ('face', 'face/action_units'): 'where hri_msgs is installed',
    ('replay', '/clock'): '`clock`',
    ('replay', 'agent/motion_plan'): '`lockstep`',
}
# Made only where a package is installed that need not be here.
_ELSEWHERE = {
    'neck': [('out', '/tf', 'tf2_msgs/TFMessage')],
    'face': [('out', 'face/action_units', 'hri_msgs/FacialActionUnits')],
}
_ORDER = {'in': 0, 'out': 1, 'service': 2}
_AUDIO = 'or any audio message'


def ends_of(name: str) -> list[tuple[str, str, str]]:
    """
    Start a node and look at its ends.

    Args:
        name: of the executable.

    Returns:
        ('in', 'out' or 'service'; topic; type), in order.
    """
    found = set(_ELSEWHERE.get(name, ()))
    for params in _NODES[name][1]:
        with _started(name, params) as node:
            own = node.get_fully_qualified_name()
            for kind, entries in (
                ('in', [(s.topic_name, s.msg_type) for s in node.subscriptions]),
                ('out', [(p.topic_name, p.msg_type) for p in node.publishers]),
                ('service', [(s.service_name, s.srv_type) for s in node.services]),
            ):
                for topic, message in entries:
                    topic = _relative(topic, own)
                    is_clock_of_ours = topic == '/clock' and kind == 'out'
                    if topic not in _OF_ROS or is_clock_of_ours:
                        found.add((kind, topic, _type_name(message)))
    return sorted(found, key=lambda end: (_ORDER[end[0]], end[1]))


@contextlib.contextmanager
def _started(name: str, params: dict):
    module = importlib.import_module(f'timar_ros.nodes.{name}')
    context = Context()
    rclpy.init(context=context)
    if name == 'replay':
        share = share_folder()
        params = {**params, 'user': str(share / 'config/demo/user.wav'), 'agent': ''}
        params['agent'] = str(share / 'config/demo/agent.wav')
    overrides = [Parameter(key, value=value) for key, value in params.items()]
    node_class = getattr(module, f'{name.capitalize()}Node')
    # Of another name, so that `~/x` is told from `name/x`.
    renamed = ['--ros-args', '-r', '__node:=its_own']
    node = node_class(context=context, parameter_overrides=overrides, cli_args=renamed)
    try:
        if name == 'conversation':  # hears and speaks when it is configured
            node.trigger_configure()
            node.trigger_activate()
        yield node
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def _relative(topic: str, own: str) -> str:
    if topic.startswith(own + '/'):
        return '~' + topic[len(own) :]
    return topic if topic in _ABSOLUTE else topic.lstrip('/')


def _type_name(message) -> str:
    return f'{message.__module__.split(".")[0]}/{message.__name__}'


def params_class(name: str):
    """Return the dataclass of a node's parameters."""
    module = importlib.import_module(f'timar_ros.nodes.{_MODULES.get(name, name)}')
    return getattr(module, _NODES[name][0])


def _topics(name: str) -> list[str]:
    lines = ['| | topic | type | |', '|---|---|---|---|']
    for kind, topic, message in ends_of(name):
        meaning = _MEANINGS[topic]
        if kind == 'in' and topic.endswith('/audio'):
            meaning += f'; {_AUDIO}'
        condition = _CONDITIONS.get((name, topic))
        meaning += f' ({condition})' if condition else ''
        lines.append(f'| {kind} | `{topic}` | `{message}` | {meaning} |')
    return lines


def _parameters(name: str) -> list[str]:
    lines = ['| parameter | default | |', '|---|---|---|']
    for field in dataclasses.fields(params_class(name)):
        meta = field.metadata
        notes = [allowed_text(meta), 'may change while it runs' if meta['dynamic'] else '']
        text = '; '.join(filter(None, [meta['description'], *notes]))
        unit = f' {meta["unit"]}' if meta['unit'] else ''
        lines.append(f'| `{field.name}` | {_shown(field.default)}{unit} | {_cell(text)} |')
    return lines


def _shown(value) -> str:
    return f'`{value_text(value)}`'


def _cell(text: str) -> str:
    return text.replace('|', '\\|')


def _arguments() -> list[str]:
    share = share_folder()
    lines = ['| argument | default | |', '|---|---|---|']
    for argument in ARGUMENTS:
        text = argument.description
        text += f'; one of {", ".join(argument.choices)}' if argument.choices else ''
        default = argument.default.replace(f'{share}/', '')
        lines.append(f'| `{argument.name}` | {_shown(default)} | {_cell(text)} |')
    return lines


def _bounds() -> list[str]:
    lines = ['| bound | most | |', '|---|---|---|']
    for name, meaning in re.findall(
        r'^([A-Z]\w+) = .*?  # (.+)$', inspect.getsource(bounds), re.M
    ):
        value = getattr(bounds, name)
        if isinstance(value, tuple):
            shown = ' to '.join(f'{each:,}' for each in value)
        elif isinstance(value, int | float):
            shown = f'{value:,}'
        else:
            continue
        lines.append(f'| `{name}` | {shown} | {_cell(meaning)} |')
    return lines


def reference() -> str:
    """Return the text of docs/reference.md."""
    lines = [
        '<!-- Written by `python -m timar_ros.nodes.reference docs/reference.md` -->',
        '# Topics, services, arguments and parameters',
        '',
        'Names are relative: a namespace goes before them, `~` is the node. Audio topics take',
        "other packages' messages by their fields. Every parameter describes itself, too: `ros2",
        'param describe`.',
        '',
        'One parameter file can serve many nodes: names under `/**` that a node does not have are',
        "ignored with a warning. Under the node's own name and by `-p` every name must be right.",
        "`1` is taken for `1.0`, and `2` for the text `'2'`, where only that can be meant.",
        '',
        '## Arguments of `conversation.launch.py` and `python -m timar_ros.nodes.bringup`',
        '',
        *_arguments(),
    ]
    for name in _NODES:
        lines += ['', f'## {name}', '', *_topics(name), '', *_parameters(name)]
    lines += [
        '',
        '## Bounds of what is accepted',
        '',
        'More is refused with the bound in the message, or cut or clipped, and counted.',
        '',
        *_bounds(),
    ]
    return '\n'.join(lines) + '\n'


def main(args=None) -> None:
    """Write the reference to a file, or to the standard output."""
    parser = argparse.ArgumentParser(prog='python -m timar_ros.nodes.reference')
    parser.add_argument('path', nargs='?', type=pathlib.Path, help='default: standard output')
    given = parser.parse_args(args)
    text = reference()
    if given.path:
        given.path.write_text(text, encoding='utf-8')
    else:
        sys.stdout.write(text)


if __name__ == '__main__':
    main()
