# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for the arguments of `conversation.launch.py` and of `bringup`, and what they may be.

Not for what they do; loads nothing.
"""

import dataclasses

from timar_ros.nodes.environment import share_folder
from timar_ros.strict import quoted, read_yaml, why_no_file

_YES_NO = ('true', 'false')


def _default_params() -> str:
    try:
        return str(share_folder() / 'config/conversation.yaml')
    except ValueError:  # said where the program starts
        return ''


@dataclasses.dataclass(frozen=True)
class Argument:
    """
    One argument; everything is text, as launch has it.

    Attributes:
        name: as in `name:=value`.
        default: where nothing is said.
        description: one sentence.
        choices: the only values allowed, if any.
    """

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


ARGUMENTS = (
    Argument(
        'robot',
        'pan_tilt_roll',
        'The neck: ari, demo_head, icub, inmoov, nao, pan_tilt, pan_tilt_roll, pepper, poppy, '
        'reachy2, stretch, tiago, or the path of a YAML file of your own',
    ),
    Argument(
        'checkpoint',
        '',
        'Path of the weights (.safetensors); empty: the ones in the package',
    ),
    Argument(
        'device',
        'auto',
        'Device that runs the model: auto (CUDA if there is any), cpu, cuda or cuda:1',
    ),
    Argument(
        'timing',
        'anticipate',
        'anticipate (plan while the user speaks) or reactive (answer each turn after it ends)',
        ('anticipate', 'reactive'),
    ),
    Argument('microphone', 'true', "Publish user/audio from this machine's microphone", _YES_NO),
    Argument('speaker', 'true', "Play speaker/utterance on this machine's loudspeaker", _YES_NO),
    Argument('face', 'true', 'Serve the face for browsers, and publish blendshapes', _YES_NO),
    Argument(
        'face_port',
        '8390',
        'TCP port of the face, a different one for each robot; 0: any free port',
    ),
    Argument(
        'neck', 'true', 'Move the neck, within its limits, after joint_states has arrived', _YES_NO
    ),
    Argument('namespace', '', 'Namespace of the nodes and of their topics'),
    Argument(
        'params_file',
        _default_params(),
        'YAML file with parameters of the nodes; overrides the arguments above',
    ),
    Argument('use_sim_time', 'false', 'Take the time from /clock', _YES_NO),
)


def check_params_file(path: str) -> None:
    """
    Check that a file holds node parameters.

    Raises:
        ValueError: it is missing, a folder, not YAML, or holds no parameters; one sentence.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        fix = 'give the path of a YAML file, or leave it out'
        raise ValueError(f'params_file: {why_no_file(path, "YAML file", fix)}') from None
    except ValueError as error:
        raise ValueError(f'params_file: {error}') from None
    names = list(content) if isinstance(content, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f'params_file: {path}: expected node names with ros__parameters below each, got '
            f'{quoted(content)}; see config/conversation.yaml of this package'
        )
