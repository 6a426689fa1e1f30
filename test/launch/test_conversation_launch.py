# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The launch file, started for real by `ros2 launch`, where a ROS installation brings that."""

import importlib.util
import os
from pathlib import Path
import shutil
import signal
import subprocess
import time

from lifecycle_msgs.srv import GetState
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

LAUNCH_FILE = Path(__file__).parents[2] / 'launch' / 'conversation.launch.py'
ARGUMENTS = {'checkpoint', 'device', 'timing', 'namespace', 'params_file', 'use_sim_time'}


@pytest.fixture(autouse=True)
def launch_ros():
    reason = 'launch_ros comes with a ROS installation only'
    return pytest.importorskip('launch_ros', reason=reason)


@pytest.fixture
def arguments():
    """The arguments that the launch file declares, by name."""
    spec = importlib.util.spec_from_file_location('conversation_launch', LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {a.name: a for a in module.generate_launch_description().get_launch_arguments()}


@pytest.fixture
def launch():
    """Start the launch file with some arguments; at the end of the test nothing of it is left."""
    if shutil.which('ros2') is None:
        pytest.skip('the ros2 command comes with a ROS installation only')
    started = []

    def start(**values):
        command = ['ros2', 'launch', 'timar_ros', 'conversation.launch.py']
        command += [f'{name}:={value}' for name, value in values.items()]
        started.append(subprocess.Popen(command, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def executor():
    """Spin a node that watches the graph."""
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('watcher', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield executor
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def states_until(executor, node_name, wanted, timeout_s):
    """List the states that a lifecycle node goes through until the wanted one or the timeout."""
    client = executor.get_nodes()[0].create_client(GetState, f'{node_name}/get_state')
    states = []
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and states[-1:] != [wanted]:
        if client.wait_for_service(timeout_sec=1.0):
            answer = client.call_async(GetState.Request())
            executor.spin_until_future_complete(answer, timeout_sec=5.0)
            label = answer.result().current_state.label if answer.done() else 'no answer'
            states += [label] if states[-1:] != [label] else []
    return states


def test_every_launch_argument_is_described(arguments):
    undescribed = [name for name, a in arguments.items() if len(a.description.split()) < 3]

    assert set(arguments) >= ARGUMENTS
    assert undescribed == []


def test_launch_arguments_and_node_parameters_have_the_same_defaults(arguments):
    from timar_ros.nodes.loading import ConversationParams  # loads torch

    fields = ConversationParams.__dataclass_fields__
    for name in ('checkpoint', 'device', 'timing'):
        default = ''.join(part.text for part in arguments[name].default_value)
        assert default == fields[name].default, name


def test_the_launched_node_becomes_active_and_ends_cleanly(launch, executor):
    process = launch(namespace='launched')

    states = states_until(executor, '/launched/conversation', 'active', timeout_s=60)
    process.send_signal(signal.SIGINT)
    code = process.wait(timeout=20)

    assert states[-1:] == ['active']
    assert code == 0


def test_a_node_that_refuses_to_configure_lives_on_unconfigured(launch, executor):
    process = launch(namespace='refusing', checkpoint='/no/such/weights.safetensors')

    # It is unconfigured before it is told to configure, too: see that it stays so.
    states = states_until(executor, '/refusing/conversation', 'active', timeout_s=15)

    assert states[-1:] == ['unconfigured']
    assert process.poll() is None
