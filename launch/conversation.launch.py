# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Launch a robot in conversation: microphone, speaker, conversation, neck and face, each at choice.

`ros2 launch timar_ros conversation.launch.py --show-args` describes the arguments. The
conversation node has a life cycle: it is configured, then activated. The others have none.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, RegisterEventHandler
from launch.conditions import IfCondition
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode, Node
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from lifecycle_msgs.msg import Transition

from timar_ros.nodes.arguments import ARGUMENTS


def generate_launch_description():
    conversation = LifecycleNode(
        **_named('conversation'),
        parameters=_parameters(
            activate_on_start=False,
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
            *_life_cycle(conversation),
            _optional('microphone'),
            _optional('speaker'),
            _optional('face', port=_value('face_port', int)),
            _optional('neck', robot=_value('robot', str)),
        ]
    )


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


def _life_cycle(node):
    """Configure, then activate; `autostart` does that too, but from Jazzy on only."""

    def change_to(transition):
        return EmitEvent(
            event=ChangeState(
                lifecycle_node_matcher=matches_action(node), transition_id=transition
            )
        )

    def after_configuring(outcome, action):
        return RegisterEventHandler(
            OnStateTransition(
                target_lifecycle_node=node,
                start_state='configuring',
                goal_state=outcome,
                entities=[action],
            )
        )

    return [
        after_configuring('inactive', change_to(Transition.TRANSITION_ACTIVATE)),
        after_configuring(
            'unconfigured',
            LogInfo(
                msg='conversation could not be configured: its message above says why; when that'
                ' is put right: ros2 lifecycle set /conversation configure (with its namespace,'
                ' if any), then activate'
            ),
        ),
        node,
        change_to(Transition.TRANSITION_CONFIGURE),
    ]
