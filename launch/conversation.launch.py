# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Launch the conversation node and bring it to life: configure it, then activate it.

`ros2 launch timar_ros conversation.launch.py --show-args` describes the arguments.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, EmitEvent, LogInfo, RegisterEventHandler
from launch.events import matches_action
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import LifecycleNode
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare
from lifecycle_msgs.msg import Transition


def generate_launch_description():
    conversation = LifecycleNode(
        package='timar_ros',
        executable='conversation',
        name='conversation',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            {
                'activate_on_start': False,
                'checkpoint': ParameterValue(LaunchConfiguration('checkpoint'), value_type=str),
                'device': ParameterValue(LaunchConfiguration('device'), value_type=str),
                'timing': ParameterValue(LaunchConfiguration('timing'), value_type=str),
                'use_sim_time': ParameterValue(
                    LaunchConfiguration('use_sim_time'), value_type=bool
                ),
            },
            LaunchConfiguration('params_file'),
        ],
    )
    is_conversation = matches_action(conversation)
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'checkpoint',
                default_value='',
                description='Weights: path of a .safetensors file; empty: the ones of the package',
            ),
            DeclareLaunchArgument(
                'device',
                default_value='auto',
                description='Where the model runs: auto, cpu, cuda or cuda:1',
            ),
            DeclareLaunchArgument(
                'timing',
                default_value='anticipate',
                description='anticipate (plan while the user speaks) or reactive (after it)',
            ),
            DeclareLaunchArgument(
                'namespace',
                default_value='',
                description='Put before the names of the node and of its topics',
            ),
            DeclareLaunchArgument(
                'use_sim_time',
                default_value='false',
                description='Take the time from /clock: true or false',
            ),
            DeclareLaunchArgument(
                'params_file',
                default_value=PathJoinSubstitution(
                    [FindPackageShare('timar_ros'), 'config', 'conversation.yaml']
                ),
                description='YAML with parameters of the node; wins over the arguments above',
            ),
            # autostart would do the following, but from Jazzy on only
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=conversation,
                    start_state='configuring',
                    goal_state='inactive',
                    entities=[
                        EmitEvent(
                            event=ChangeState(
                                lifecycle_node_matcher=is_conversation,
                                transition_id=Transition.TRANSITION_ACTIVATE,
                            )
                        )
                    ],
                )
            ),
            RegisterEventHandler(
                OnStateTransition(
                    target_lifecycle_node=conversation,
                    start_state='configuring',
                    goal_state='unconfigured',
                    entities=[
                        LogInfo(
                            msg='conversation could not be configured: its message above says why;'
                            ' when that is put right: ros2 lifecycle set /conversation configure'
                        )
                    ],
                )
            ),
            conversation,
            EmitEvent(
                event=ChangeState(
                    lifecycle_node_matcher=is_conversation,
                    transition_id=Transition.TRANSITION_CONFIGURE,
                )
            ),
        ]
    )
