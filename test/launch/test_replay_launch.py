# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The launch file of the replay node, where a ROS installation brings `ros2 launch`."""

import ast
import importlib.util
from pathlib import Path
import shutil
import subprocess

import numpy as np
import pytest
from scipy.io import wavfile

LAUNCH_FILE = Path(__file__).parents[2] / 'launch' / 'replay.launch.py'


@pytest.fixture
def arguments():
    """The arguments that the launch file declares, by name."""
    pytest.importorskip('launch_ros', reason='launch_ros comes with a ROS installation only')
    spec = importlib.util.spec_from_file_location('replay_launch', LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {a.name: a for a in module.generate_launch_description().get_launch_arguments()}


def declared():
    """The same, out of the file's syntax tree: name -> its default, and its description."""
    found = {}
    for node in ast.walk(ast.parse(LAUNCH_FILE.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'DeclareLaunchArgument':
            wanted = ('default_value', 'description')
            given = {k.arg: k.value.value for k in node.keywords if k.arg in wanted}
            found[node.args[0].value] = given['default_value'], given['description']
    return found


def test_every_launch_argument_is_described():
    undescribed = [name for name, (_, text) in declared().items() if len(text.split()) < 3]

    assert {'user', 'agent', 'bag', 'rate', 'lockstep', 'clock', 'seek_s'} <= set(declared())
    assert undescribed == []


def test_what_the_launch_file_sets_are_parameters_of_the_node():
    pytest.importorskip('rclpy', reason='no ROS 2 here: source env.sh')
    from timar_ros.nodes.replay_params import ReplayParams

    fields = ReplayParams.__dataclass_fields__
    of_others = set('conversation checkpoint timing namespace face neck robot'.split())
    # a launched replay is the graph's clock, and waits for weights to be loaded
    differ = {'clock', 'wait_s'}
    for name, (default, _) in declared().items():
        if name in of_others:
            continue
        assert name in fields
        if name not in differ:
            kind = type(fields[name].default)
            value = default == 'true' if kind is bool else kind(default)
            assert value == fields[name].default, name


def test_topics_of_a_bag_can_be_named_as_the_node_asks_for_it():
    assert {'user_topic', 'agent_topic', 'user_motion_topic'} <= set(declared())


def test_the_channel_that_is_heard_can_be_said_as_the_node_asks_for_it():
    assert {'user_channel', 'agent_channel'} <= set(declared())


def test_what_it_passes_on_are_arguments_of_the_conversations_launch_file():
    pytest.importorskip('rclpy', reason='no ROS 2 here: source env.sh')
    from timar_ros.nodes.arguments import ARGUMENTS

    tree = ast.parse(LAUNCH_FILE.read_text())
    passed = [
        {key.value for key in keyword.value.func.value.keys}
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '').startswith('Include')
        for keyword in node.keywords
        if keyword.arg == 'launch_arguments'
    ]

    assert len(passed) == 1
    assert passed[0] <= {argument.name for argument in ARGUMENTS}
    assert {'use_sim_time', 'microphone', 'speaker'} <= passed[0]


def test_the_arguments_are_those_that_ros_sees(arguments):
    assert set(arguments) >= set(declared())


def test_a_launched_replay_plays_to_its_end_and_takes_all_down(tmp_path, arguments):
    if shutil.which('ros2') is None:
        pytest.skip('the ros2 command comes with a ROS installation only')
    wavfile.write(tmp_path / 'user.wav', 16000, np.zeros(8000, np.int16))

    done = subprocess.run(
        ['ros2', 'launch', 'timar_ros', 'replay.launch.py', f'user:={tmp_path / "user.wav"}']
        + ['conversation:=false', 'wait_s:=0.5', 'rate:=4.0'],
        timeout=60,
    )

    assert done.returncode == 0
