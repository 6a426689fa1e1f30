# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for the nodes of `conversation.launch.py` in one process, without launch_ros.

    python -m timar_ros.nodes.bringup robot:=nao microphone:=false

Not for what the nodes do.
"""

import importlib
import json
import sys

from timar_ros.nodes.arguments import ARGUMENTS, check_params_file
from timar_ros.nodes.environment import share_folder
from timar_ros.nodes.param_files import check_arguments, check_namespace
from timar_ros.nodes.running import construct, end, run
from timar_ros.retarget.robot import load_robot
from timar_ros.strict import did_you_mean, quoted

# Imported when they are wanted: not every robot has what each of them needs.
_CLASSES = {
    'microphone': 'MicrophoneNode',
    'speaker': 'SpeakerNode',
    'face': 'FaceNode',
    'neck': 'NeckNode',
    'conversation': 'ConversationNode',
}


def compose(wanted: dict[str, dict], namespace: str = '', params_file: str = '') -> dict:
    """
    Make nodes that work together.

    Args:
        wanted: name of each node, as its executable -> its parameters by name.
        namespace: of all of them.
        params_file: YAML with parameters; wins over those in `wanted`, as in a launch file.

    Returns:
        The nodes by name, not yet in an executor. Destroy them with `running.end`.

    Raises:
        ValueError, OSError, RuntimeError: one refuses its parameters; none is left then.
    """
    check_namespace(namespace)
    nodes = {}
    try:
        for name, params in wanted.items():
            module = importlib.import_module(f'timar_ros.nodes.{name}')
            # Not `parameter_overrides`, which would win over a file.
            words = [
                w for key, value in params.items() for w in ('-p', f'{key}:={json.dumps(value)}')
            ]
            words += ['--params-file', params_file] if params_file else []
            check_arguments(['--ros-args', *words])
            node_class = getattr(module, _CLASSES[name])
            options = {'namespace': namespace, 'cli_args': ['--ros-args', *words]}
            nodes[name] = _constructed(name, node_class, options)
    except BaseException:
        end(nodes.values())
        raise
    return nodes


def _constructed(name: str, node_class, options):
    try:
        return construct(node_class, **options)
    except ValueError as error:  # of several nodes, which one
        text = str(error)
        raise ValueError(text if text.startswith(f'{name} ') else f'{name}: {text}') from None


def wanted_nodes(values: dict[str, str]) -> dict[str, dict]:
    """Return which nodes arguments of these values ask for, each with its parameters."""
    conversation = {name: values[name] for name in ('checkpoint', 'device', 'timing')}
    params = {
        'microphone': {},
        'speaker': {},
        'face': {'port': int(values['face_port'])},
        'neck': {'robot': values['robot']},
        'conversation': conversation,
    }
    is_simulated = values['use_sim_time'] == 'true'
    return {
        name: {**given, 'use_sim_time': is_simulated}
        for name, given in params.items()
        if values.get(name, 'true') == 'true'
    }


def read_arguments(words) -> dict[str, str]:
    """
    Read `name:=value` words.

    Raises:
        ValueError: there is no such argument, or it has no such value.
    """
    known = {argument.name: argument for argument in ARGUMENTS}
    values = {name: argument.default for name, argument in known.items()}
    for word in words:
        name, is_given, value = word.partition(':=')
        if not is_given:
            raise ValueError(
                f'expected name:=value, got {quoted(word)}; names: {", ".join(known)}'
            )
        if name not in known:
            hint = did_you_mean(name, known) or f'; names: {", ".join(known)}'
            raise ValueError(f'unknown argument {quoted(name)}{hint}')
        choices = known[name].choices
        if choices and value not in choices:
            raise ValueError(f'{name} must be one of {", ".join(choices)}, got {quoted(value)}')
        values[name] = value
    port = values['face_port']
    if not (port.isdecimal() and len(port) < 6 and int(port) < 65536):
        raise ValueError(f'face_port must be 0 to 65535, got {quoted(port)}; 0: any free one')
    return values


def check_robot(values: dict[str, str]) -> None:
    """
    Refuse a robot that cannot be read, before the first node is made.

    Raises:
        FileNotFoundError, ValueError: one sentence of `load_robot`.
    """
    if values['neck'] == 'true':
        share = share_folder()
        load_robot(values['robot'], share / 'config' / 'robots')


def _help() -> str:
    width = max(len(argument.name) for argument in ARGUMENTS)
    lines = [f'  {a.name:<{width}}  {a.description} [{a.default}]' for a in ARGUMENTS]
    return '\n'.join(
        ['usage: python -m timar_ros.nodes.bringup [name:=value ...]', '', *lines, '']
    )


def main(args=None) -> None:
    """Run a robot until the end."""
    words = sys.argv[1:] if args is None else args
    if '-h' in words or '--help' in words:
        sys.stdout.write(_help())
        return

    def make():
        values = read_arguments(words)
        check_params_file(values['params_file'])
        check_robot(values)
        nodes = compose(wanted_nodes(values), values['namespace'], values['params_file'])
        return nodes.values()

    run('bringup', make, [])


if __name__ == '__main__':
    main()
