# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A robot in one process, as `conversation.launch.py` makes it in many."""

import os
import signal
import subprocess
import sys

import pytest
from sensor_msgs.msg import JointState

from timar_ros.msg import HeadMotionPlan
from timar_ros.nodes.arguments import ARGUMENTS, check_params_file
from timar_ros.nodes.bringup import compose, read_arguments, wanted_nodes
from timar_ros.nodes.running import end

pytestmark = pytest.mark.graph


@pytest.fixture
def bringup(domain_id):
    """Return the maker of robots as users start them; they are ended with the test."""
    started = []

    def start(**values):
        words = [f'{name}:={value}' for name, value in values.items()]
        process = subprocess.Popen(
            [sys.executable, '-m', 'timar_ros.nodes.bringup', *words],
            env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def test_a_robot_in_one_process_is_in_its_namespace_listens_and_ends(bringup, graph, checkpoint):
    process = bringup(
        namespace='one', robot='nao', checkpoint=checkpoint, face_port=0,
        microphone='false', speaker='false',
    )  # fmt: skip
    node, targets = graph.node('watcher'), []
    plan_pub = node.create_publisher(HeadMotionPlan, '/one/agent/motion_plan', 10)
    joints_pub = node.create_publisher(JointState, '/one/joint_states', 10)
    node.create_subscription(JointState, '/one/neck/joint_targets', targets.append, 10)

    def is_there():
        names = {f'{namespace}/{name}' for name, namespace in node.get_node_names_and_namespaces()}
        nodes = {'/one/conversation', '/one/face', '/one/neck'}
        return nodes <= names and plan_pub.get_subscription_count() == 2

    assert graph.spin_until(is_there, 60.0)
    assert graph.spin_until(joints_pub.get_subscription_count)
    process.send_signal(signal.SIGINT)

    assert process.wait(30) == 0
    assert targets == []  # nothing was said


@pytest.fixture
def robot(domain_id, monkeypatch):
    """Return the maker of composed nodes; they are ended with the test."""
    import rclpy

    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain_id))
    rclpy.init(args=[])
    made = {}

    def make(wanted, **options):
        made.update(compose(wanted, **options))
        return made

    yield make
    end(made.values())
    rclpy.try_shutdown()


def test_a_parameter_file_wins_over_arguments_as_in_a_launch_file(robot, tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text('/**/neck:\n  ros__parameters:\n    gain: 0.5\n    robot: icub\n')

    nodes = robot(
        {'neck': {'robot': 'nao', 'feedback': False}}, namespace='a', params_file=str(path)
    )

    neck = nodes['neck']
    assert neck.get_fully_qualified_name() == '/a/neck'
    values = [neck.get_parameter(name).value for name in ('robot', 'gain', 'feedback')]
    assert values == ['icub', 0.5, False]


def test_the_shipped_parameter_file_is_taken_by_every_node(robot):
    values = read_arguments(['microphone:=false', 'speaker:=false', 'face_port:=0'])

    nodes = robot(wanted_nodes(values), params_file=values['params_file'])

    assert sorted(nodes) == ['conversation', 'face', 'neck']


def test_arguments_say_which_nodes_there_are_and_with_what():
    plain = wanted_nodes(read_arguments([]))
    few = wanted_nodes(read_arguments(['face:=false', 'robot:=nao', 'use_sim_time:=true']))

    assert list(plain) == ['microphone', 'speaker', 'face', 'neck', 'conversation']
    assert list(few) == ['microphone', 'speaker', 'neck', 'conversation']
    assert few['neck'] == {'robot': 'nao', 'use_sim_time': True}
    assert plain['face'] == {'port': 8390, 'use_sim_time': False}


@pytest.mark.parametrize(
    ('word', 'text'),
    [
        ('robt:=nao', "unknown argument 'robt'; did you mean 'robot'?"),
        ('microphon:=false', "unknown argument 'microphon'; did you mean 'microphone'?"),
        ('qqq:=1', "unknown argument 'qqq'; names: robot, checkpoint"),
        ('robot', "expected name:=value, got 'robot'; names: robot, checkpoint"),
        ('--robot=nao', "expected name:=value, got '--robot=nao'"),
        ('timing:=later', "timing must be one of anticipate, reactive, got 'later'"),
        ('face_port:=http', "face_port must be 0 to 65535, got 'http'"),
        ('face_port:=70000', "face_port must be 0 to 65535, got '70000'"),
        ('face_port:=' + '9' * 5000, 'face_port must be 0 to 65535, got'),
        ('robot' + 'x' * 10**6, "expected name:=value, got 'robotxxx"),
    ],
)
def test_an_argument_that_is_none_is_refused(word, text):
    with pytest.raises(ValueError) as refused:
        read_arguments([word])

    assert text in str(refused.value)
    assert len(str(refused.value)) < 500


def test_an_unknown_robot_ends_the_program_with_one_sentence(bringup):
    process = bringup(robot='neo', microphone='false', speaker='false', face_port=0)

    text = process.communicate(timeout=60)[0]

    assert process.returncode == 1
    assert text.startswith("bringup: unknown robot 'neo'; did you mean 'nao'?"), 'no face before'
    assert text.count('\n') == 1


@pytest.mark.parametrize(
    ('content', 'text'),
    [
        (
            None,
            'params_file: no YAML file at {path}; give the path of a YAML file, or leave it out',
        ),
        ('folder', 'params_file: {path}: cannot be read: '),
        ('neck: [', 'params_file: {path}: not valid YAML: '),
        ('[' * 3000, 'params_file: {path}: not valid YAML: '),
        (
            '- neck',
            'params_file: {path}: expected node names with ros__parameters below each, got [',
        ),
        ('', 'params_file: {path}: expected node names with ros__parameters below each, got None'),
        (
            '5: {}',
            'params_file: {path}: expected node names with ros__parameters below each, got {',
        ),
        (b'\x00\xff', 'params_file: {path}: not valid YAML: '),
    ],
    ids=['none', 'folder', 'broken', 'deep', 'list', 'empty', 'number', 'binary'],
)
def test_a_parameter_file_that_is_none_is_refused_in_one_sentence(tmp_path, content, text):
    path = tmp_path / 'mine.yaml'
    if content == 'folder':
        path.mkdir()
    elif content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ValueError) as refused:
        check_params_file(str(path))

    assert str(refused.value).startswith(text.replace('{path}', str(path)))
    assert '\n' not in str(refused.value) and len(str(refused.value)) < 500


def test_the_shipped_parameter_file_is_one(tmp_path):
    check_params_file(read_arguments([])['params_file'])


def test_a_missing_parameter_file_ends_bringup_with_one_sentence(bringup):
    process = bringup(params_file='/no/such.yaml', microphone='false', speaker='false')

    text = process.communicate(timeout=60)[0]

    assert (process.returncode, text.count('\n')) == (1, 1)
    assert text.startswith('bringup: params_file: no YAML file at /no/such.yaml')


def test_every_argument_is_described():
    assert all(len(argument.description.split()) >= 4 for argument in ARGUMENTS)


def test_a_value_in_a_file_that_ros_reads_as_another_is_refused_with_node_and_file(tmp_path):
    path = tmp_path / 'my.yaml'
    path.write_text(
        'neck: {ros__parameters: {gain: 0.5}}\nmicrophone: {ros__parameters: {device: 1E5}}\n'
    )
    ended = subprocess.run(
        [sys.executable, '-m', 'timar_ros.nodes.bringup', f'params_file:={path}', 'face:=false'],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        f'bringup: microphone: {path}: device must be a text, got 100000.0; text that looks like '
        "that needs quotes: device: '1E5' in a file, -p \"device:='1E5'\""
    )
