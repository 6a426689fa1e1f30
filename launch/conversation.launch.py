# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Launch a robot in conversation: microphone, speaker, conversation, neck and face, each at choice.

`ros2 launch timar_ros conversation.launch.py --show-args` describes the arguments. The
conversation node has a life cycle: it configures and activates itself once, and from then on
obeys requests from any client. A launch file that sends requests would reach every node of that
name.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from timar_ros.nodes.arguments import ARGUMENTS, check_params_file


def generate_launch_description():
    conversation = Node(
        **_named('conversation'),
        parameters=_parameters(
            checkpoint=_value('checkpoint', str),
            device=_value('device', str),
            timing=_value('timing', str),
        ),
    )
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(
                    argument.name,
                    default_value=argument.default,
                    description=argument.description,
                    choices=argument.choices or None,
                )
                for argument in ARGUMENTS
            ),
            OpaqueFunction(function=_check_params_file),
            conversation,
            _optional('microphone'),
            _optional('speaker'),
            _optional('face', port=_value('face_port', int)),
            _optional('neck', robot=_value('robot', str)),
        ]
    )


def _check_params_file(context):
    # launch_ros only warns of a file that is missing, and the robot starts without its parameters.
    check_params_file(LaunchConfiguration('params_file').perform(context))


def _named(name):
    namespace = LaunchConfiguration('namespace')
    return {
        'package': 'timar_ros',
        'executable': name,
        'name': name,
        'namespace': namespace,
        'output': 'screen',
    }


def _value(name, value_type):
    return ParameterValue(LaunchConfiguration(name), value_type=value_type)


def _parameters(**own):
    own['use_sim_time'] = _value('use_sim_time', bool)
    return [own, LaunchConfiguration('params_file')]


def _optional(name, **parameters):
    return Node(
        **_named(name),
        condition=IfCondition(LaunchConfiguration(name)),
        parameters=_parameters(**parameters),
    )
