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

import pytest

pytest.importorskip('launch_ros', reason='launch_ros comes with a ROS installation only')
lifecycle_msgs = pytest.importorskip('lifecycle_msgs.msg')
lifecycle_srvs = pytest.importorskip('lifecycle_msgs.srv')
rclpy = pytest.importorskip('rclpy')

LAUNCH_FILE = Path(__file__).parents[2] / 'launch' / 'conversation.launch.py'


def declared_arguments():
    spec = importlib.util.spec_from_file_location('conversation_launch', LAUNCH_FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {a.name: a for a in module.generate_launch_description().get_launch_arguments()}


@pytest.fixture
def start():
    """Start the launch file with some arguments; stop it at the end of the test."""
    if shutil.which('ros2') is None:
        pytest.skip('the ros2 command comes with a ROS installation only')
    started = []

    def run(**arguments):
        command = ['ros2', 'launch', 'timar_ros', 'conversation.launch.py']
        command += [f'{name}:={value}' for name, value in arguments.items()]
        started.append(subprocess.Popen(command, start_new_session=True))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def node():
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('watcher', context=context)
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def state_of_conversation(node, namespace):
    """Ask the launched node for the name of its state; None while it does not answer."""
    client = node.create_client(lifecycle_srvs.GetState, f'{namespace}/conversation/get_state')
    executor = rclpy.executors.SingleThreadedExecutor(context=node.context)
    try:
        if not client.wait_for_service(timeout_sec=1.0):
            return None
        future = client.call_async(lifecycle_srvs.GetState.Request())
        executor.add_node(node)
        executor.spin_until_future_complete(future, timeout_sec=5.0)
        return future.result().current_state.label if future.done() else None
    finally:
        executor.shutdown()
        node.destroy_client(client)


def states_until(node, namespace, wanted, timeout_s):
    """Collect the states that the launched node goes through until it is in a wanted one."""
    seen = []
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and (not seen or seen[-1] not in wanted):
        state = state_of_conversation(node, namespace)
        if state and seen[-1:] != [state]:
            seen.append(state)
    return seen


def test_every_launch_argument_is_described():
    arguments = declared_arguments()

    assert {'checkpoint', 'device', 'timing', 'namespace', 'params_file', 'use_sim_time'} <= set(
        arguments
    )
    undescribed = [n for n, a in arguments.items() if len(a.description) < 10]
    assert undescribed == []


def test_launch_arguments_and_node_parameters_have_the_same_defaults():
    conversation = pytest.importorskip('timar_ros.nodes.conversation')
    parameters = {
        name: field.default
        for name, field in conversation.ConversationParams.__dataclass_fields__.items()
    }

    arguments = declared_arguments()

    for name in ('checkpoint', 'device', 'timing'):
        default = ''.join(part.text for part in arguments[name].default_value)
        assert default == parameters[name], name


def test_the_launched_node_becomes_active_and_ends_cleanly(start, node):
    launch = start(namespace='launched')

    states = states_until(node, '/launched', {'active'}, timeout_s=60)
    launch.send_signal(signal.SIGINT)
    code = launch.wait(timeout=20)

    assert states[-1:] == ['active']
    assert code == 0


def test_a_node_that_refuses_to_configure_lives_on_unconfigured(start, node):
    launch = start(namespace='refusing', checkpoint='/nowhere/to/be/found.safetensors')

    # it answers before it is told to configure, so the state must hold for a while
    states = states_until(node, '/refusing', {'active', 'inactive'}, timeout_s=15)

    assert states[-1:] == ['unconfigured']
    assert launch.poll() is None
