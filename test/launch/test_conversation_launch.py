# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The launch file, started for real by `ros2 launch`, where a ROS installation brings that."""

import importlib.util
import itertools
import os
from pathlib import Path
import shutil
import signal
import subprocess
import time

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import JointState

from timar_ros.msg import AudioChunk, HeadMotionPlan
from timar_ros.nodes.arguments import ARGUMENTS
from timar_ros.nodes.convert import audio_chunk
from timar_ros.retarget.robot import robot_names

ROOT = Path(__file__).parents[2]
LAUNCH_FILE = ROOT / 'launch' / 'conversation.launch.py'
ASKED = 'robot checkpoint device timing microphone speaker face neck'.split()
ASKED += 'namespace params_file use_sim_time'.split()
HEADLESS = {'microphone': 'false', 'speaker': 'false', 'face_port': 0}


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

    def start(is_read=False, **values):
        command = ['ros2', 'launch', 'timar_ros', 'conversation.launch.py']
        command += [f'{name}:={value}' for name, value in values.items()]
        process = subprocess.Popen(
            command,
            start_new_session=True,
            stdout=subprocess.PIPE if is_read else None,
            stderr=subprocess.STDOUT if is_read else None,
            text=True,
        )
        started.append(process)
        return process

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

    assert set(arguments) >= set(ASKED)
    assert undescribed == []


def test_the_launch_file_offers_the_choices_that_there_are(arguments):
    for known in ARGUMENTS:
        assert tuple(arguments[known.name].choices or ()) == known.choices, known.name
    assert arguments['timing'].choices
    for name in robot_names(ROOT / 'config' / 'robots'):
        assert name in arguments['robot'].description


def test_launch_arguments_and_node_parameters_have_the_same_defaults(arguments):
    from timar_ros.nodes.loading import ConversationParams  # loads torch

    fields = ConversationParams.__dataclass_fields__
    for name in ('checkpoint', 'device', 'timing'):
        default = ''.join(part.text for part in arguments[name].default_value)
        assert default == fields[name].default, name


def test_the_launched_node_becomes_active_and_ends_cleanly(launch, executor):
    process = launch(namespace='launched', **HEADLESS)

    states = states_until(executor, '/launched/conversation', 'active', timeout_s=120)
    process.send_signal(signal.SIGINT)
    code = process.wait(timeout=60)

    assert states[-1:] == ['active']
    assert code == 0


def test_a_node_that_refuses_to_configure_lives_on_unconfigured(launch, executor):
    process = launch(namespace='refusing', checkpoint='/no/such/weights.safetensors', **HEADLESS)

    # It is unconfigured before it is told to configure, too: see that it stays so.
    states = states_until(executor, '/refusing/conversation', 'active', timeout_s=15)

    assert states[-1:] == ['unconfigured']
    assert process.poll() is None


@pytest.mark.parametrize('content', [None, 'folder', 'neck: ['])
def test_a_parameter_file_that_is_none_ends_the_launch_with_a_sentence(launch, tmp_path, content):
    path = tmp_path / 'mine.yaml'
    if content == 'folder':
        path.mkdir()
    elif content:
        path.write_text(content)

    process = launch(is_read=True, params_file=path, **HEADLESS)
    said = process.communicate(timeout=60)[0].splitlines()

    assert process.returncode == 1
    assert said[-1].startswith('[ERROR] [launch]: ') and 'params_file: ' in said[-1]
    assert str(path) in said[-1]
    assert not any('process started' in line for line in said)


def request(executor, node_name, transition):
    """Ask a lifecycle node for a transition; return whether it was made."""
    node = executor.get_nodes()[0]
    client = node.create_client(ChangeState, f'{node_name}/change_state')
    assert client.wait_for_service(timeout_sec=10.0)
    answer = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
    executor.spin_until_future_complete(answer, timeout_sec=60.0)
    return answer.result().success


def test_configured_by_hand_it_is_not_activated(launch, executor, tiny_checkpoint):
    given = {'namespace': 'twice', 'checkpoint': str(tiny_checkpoint), 'face': 'false', **HEADLESS}
    name = '/twice/conversation'
    launch(neck='false', **given)
    assert states_until(executor, name, 'active', timeout_s=120)[-1] == 'active'
    for transition in (
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
    ):
        assert request(executor, name, transition)

    assert states_until(executor, name, 'active', timeout_s=5) == ['inactive']


def test_two_launches_of_one_name_are_both_active_and_say_that_they_are_two(
    launch, executor, tiny_checkpoint
):
    node, said = executor.get_nodes()[0], []
    node.create_subscription(
        DiagnosticArray, '/diagnostics', lambda array: said.extend(array.status), 100
    )
    given = {'namespace': 'twice', 'checkpoint': str(tiny_checkpoint), 'face': 'false', **HEADLESS}
    launch(neck='false', **given)
    assert states_until(executor, '/twice/conversation', 'active', timeout_s=120)[-1] == 'active'
    launch(neck='false', **given)

    def names(message):
        return {status.name for status in said[-4:] if status.message.startswith(message)}

    twins = 'two nodes are called /twice/conversation'
    assert spin_until(executor, lambda: names(twins) == {'/twice/conversation'})
    states = states_until(executor, '/twice/conversation', 'inactive', timeout_s=5)
    assert states == ['active']


class Body:
    """A robot's joints, which are where they are sent, and its plans."""

    def __init__(self, node, namespace, joints):
        self.joints, self.position = joints, [0.0] * len(joints)
        self.plans, self.targets = [], []
        self._node = node
        self._joints_pub = node.create_publisher(JointState, f'/{namespace}/joint_states', 10)
        node.create_subscription(JointState, f'/{namespace}/neck/joint_targets', self._take, 10)
        node.create_subscription(
            HeadMotionPlan, f'/{namespace}/agent/motion_plan', self.plans.append, 10
        )
        node.create_timer(0.05, self._tell)

    @property
    def is_seen(self):
        """Whether its neck hears where the joints are."""
        return self._joints_pub.get_subscription_count() > 0

    def _take(self, msg):
        self.targets.append(msg)
        self.position = list(msg.position)

    def _tell(self):
        msg = JointState(name=self.joints, position=self.position)
        msg.header.stamp = self._node.get_clock().now().to_msg()
        self._joints_pub.publish(msg)


def spin_until(executor, is_done, timeout_s=120.0):
    deadline = time.monotonic() + timeout_s
    while not is_done() and time.monotonic() < deadline:
        executor.spin_once(timeout_sec=0.1)
    return is_done()


def test_two_robots_side_by_side_do_not_hear_each_other(launch, executor, tiny_checkpoint):
    node = executor.get_nodes()[0]
    nao = Body(node, 'left', ['HeadYaw', 'HeadPitch'])
    inmoov = Body(node, 'right', ['head_leftright', 'head_updown', 'head_tilt', 'jaw'])
    audio_pub = node.create_publisher(AudioChunk, '/left/user/audio', 100)
    given = {'checkpoint': str(tiny_checkpoint), **HEADLESS}

    processes = [
        launch(namespace='left', robot='nao', **given),
        launch(namespace='right', robot='inmoov', **given),
    ]
    for name in ('/left/conversation', '/right/conversation'):
        assert states_until(executor, name, 'active', timeout_s=120)[-1] == 'active'
    assert spin_until(executor, audio_pub.get_subscription_count)
    first_samples = itertools.count(0, 320)
    node.create_timer(0.02, lambda: audio_pub.publish(chunk(node, next(first_samples))))

    assert spin_until(executor, lambda: len(nao.plans) > 5 and nao.targets)
    assert spin_until(executor, lambda: inmoov.is_seen)
    for process in processes:
        process.send_signal(signal.SIGINT)
    codes = [process.wait(timeout=60) for process in processes]

    assert list(nao.targets[0].name) == nao.joints
    assert inmoov.plans == []  # nobody spoke to it
    assert inmoov.targets == []
    assert codes == [0, 0]


def chunk(node, first_sample):
    """Return 20 ms of noise that were just heard."""
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 320).astype(np.float32)
    heard_ns = node.get_clock().now().nanoseconds - 20_000_000
    return audio_chunk(noise, 16000, stamp_ns=heard_ns, first_sample=first_sample)
