# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Play a recorded conversation, wavs or a bag, to the conversation node, on a clock of its own.

    ros2 launch timar_ros replay.launch.py bag:=my_bag lockstep:=true
    ros2 launch timar_ros replay.launch.py user:=u.wav agent:=a.wav rate:=0.5

`--show-args` describes the arguments; docs/evaluation.md how to pause, seek and compare.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, Shutdown
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

_BOOLEAN = ('true', 'false')
# Arguments that the replay node takes as they are, and the types of its parameters.
_PARAMETERS = {
    'user': str,
    'agent': str,
    'bag': str,
    'user_topic': str,
    'agent_topic': str,
    'user_motion_topic': str,
    'user_channel': str,
    'agent_channel': str,
    'user_audio_format': str,
    'agent_audio_format': str,
    'rate': float,
    'seek_s': float,
    'paused': bool,
    'lockstep': bool,
    'clock': bool,
    'wait_s': float,
}


def _end(_event, context):
    # Ctrl-C ends everything by itself, and being told so twice is an error to launch.
    return None if context.is_shutdown else [Shutdown(reason='the recording is over')]


def generate_launch_description():
    share = FindPackageShare('timar_ros')
    replay = Node(
        package='timar_ros',
        executable='replay',
        name='replay',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            {
                name: ParameterValue(LaunchConfiguration(name), value_type=kind)
                for name, kind in _PARAMETERS.items()
            },
        ],
        on_exit=_end,
    )
    conversation = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([share, 'launch', 'conversation.launch.py'])
        ),
        launch_arguments={
            'namespace': LaunchConfiguration('namespace'),
            'checkpoint': LaunchConfiguration('checkpoint'),
            'timing': LaunchConfiguration('timing'),
            'use_sim_time': LaunchConfiguration('clock'),
            'face': LaunchConfiguration('face'),
            'neck': LaunchConfiguration('neck'),
            'robot': LaunchConfiguration('robot'),
            # the recording is what is heard, not this room
            'microphone': 'false',
            'speaker': 'false',
        }.items(),
        condition=IfCondition(LaunchConfiguration('conversation')),
    )
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'user', default_value='', description="Wav of the user's voice; empty: silence"
            ),
            DeclareLaunchArgument(
                'agent', default_value='', description="Wav of the robot's voice; empty: silence"
            ),
            DeclareLaunchArgument(
                'bag',
                default_value='',
                description='A bag instead of wavs: its folder, or an .mcap or .db3 file',
            ),
            DeclareLaunchArgument(
                'user_topic',
                default_value='user/audio',
                description="Topic of the user's voice in the bag",
            ),
            DeclareLaunchArgument(
                'agent_topic',
                default_value='agent/audio',
                description="Topic of the robot's voice in the bag",
            ),
            DeclareLaunchArgument(
                'user_motion_topic',
                default_value='user/head_motion',
                description="Topic of the user's head in the bag",
            ),
            DeclareLaunchArgument(
                'user_channel',
                default_value='mean',
                description="Channel of the user's voice that is heard: mean of all, or an index",
            ),
            DeclareLaunchArgument(
                'agent_channel',
                default_value='mean',
                description="Channel of the robot's voice that is heard: mean of all, or an index",
            ),
            DeclareLaunchArgument(
                'user_audio_format',
                default_value='',
                description="Format of the user's messages in the bag that do not state theirs, "
                'such as S16LE,16000,1',
            ),
            DeclareLaunchArgument(
                'agent_audio_format',
                default_value='',
                description="Format of the robot's messages in the bag that do not state theirs",
            ),
            DeclareLaunchArgument(
                'rate', default_value='1.0', description='Recorded seconds a second, with a clock'
            ),
            DeclareLaunchArgument(
                'seek_s', default_value='0.0', description='Where in the recording to begin, in s'
            ),
            DeclareLaunchArgument(
                'paused', default_value='false', choices=_BOOLEAN, description='Begin it paused'
            ),
            DeclareLaunchArgument(
                'lockstep',
                default_value='false',
                choices=_BOOLEAN,
                description='Hold the clock at each planning moment until its plan has come',
            ),
            DeclareLaunchArgument(
                'clock',
                default_value='true',
                choices=_BOOLEAN,
                description='Publish /clock, which all other nodes then go by',
            ),
            DeclareLaunchArgument(
                'wait_s',
                default_value='60.0',
                description='How long to wait for a listener to each voice, in s',
            ),
            DeclareLaunchArgument(
                'conversation',
                default_value='true',
                choices=_BOOLEAN,
                description='Start the conversation node as well',
            ),
            DeclareLaunchArgument(
                'face',
                default_value='false',
                choices=_BOOLEAN,
                description='With it, serve the face for browsers',
            ),
            DeclareLaunchArgument(
                'neck',
                default_value='false',
                choices=_BOOLEAN,
                description='With it, move the neck',
            ),
            DeclareLaunchArgument(
                'robot',
                default_value='pan_tilt_roll',
                description='Whose neck: a name of config/robots, or the path of a YAML file',
            ),
            DeclareLaunchArgument(
                'checkpoint',
                default_value='',
                description='Weights: path of a .safetensors file; empty: the ones of the package',
            ),
            DeclareLaunchArgument(
                'timing',
                default_value='anticipate',
                choices=('anticipate', 'reactive'),
                description='anticipate (plan while the user speaks) or reactive (after it)',
            ),
            DeclareLaunchArgument(
                'namespace',
                default_value='',
                description='Put before the names of the nodes and of their topics',
            ),
            conversation,
            replay,
        ]
    )
