# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A name on the graph is not code: what may be imported by the name of a message type."""

import os
import pathlib
import sys
import types

import pytest

pytest.importorskip('rclpy', reason='no ROS 2 here: source env.sh, or a ROS installation')

from std_msgs.msg import String  # noqa: E402

from timar_ros.msg import AudioChunk  # noqa: E402
from timar_ros.nodes.hearing import VoiceSubscription  # noqa: E402
from timar_ros.nodes.message_class import message_class  # noqa: E402


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a ROS package: its msg module, and what the index lists."""

    def make(package: str, code: str, listed: str | None):
        (tmp_path / package).mkdir()
        (tmp_path / package / '__init__.py').write_text('')
        (tmp_path / package / 'msg.py').write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        if listed is not None:
            index = tmp_path / 'share/ament_index/resource_index/rosidl_interfaces'
            index.mkdir(parents=True)
            (index / package).write_text(listed)
            paths = f'{tmp_path}{os.pathsep}{os.environ["AMENT_PREFIX_PATH"]}'
            monkeypatch.setenv('AMENT_PREFIX_PATH', paths)

    return make


def test_installed_interfaces_are_found_by_name():
    assert message_class('timar_ros/msg/AudioChunk') is AudioChunk
    assert message_class('std_msgs/msg/String') is String


@pytest.mark.parametrize(
    'name',
    [
        'unittest.__main__/msg/Sound',
        'this/msg/Sound',
        'antigravity/msg/Sound',
        'os/msg/Sound',
        '__main__/msg/Sound',
        'std_msgs/msg/__class__',
        'std_msgs/msg/NoSuchThing',
        'std_msgs/srv/String',
        'std_msgs/msg/String/msg/String',
        '../std_msgs/msg/String',
        'std_msgs/String',
        '',
        'a' * 1_000_000 + '/msg/A',
    ],
)
def test_nothing_else_is_imported(name, monkeypatch):
    def refuse(module, *_):
        raise AssertionError(f'imports {module}')

    monkeypatch.setattr('importlib.import_module', refuse)
    with pytest.raises(ValueError) as refusal:
        message_class(name)
    assert len(str(refusal.value)) < 400


def test_a_module_of_that_name_without_interfaces_is_not_run(install, tmp_path):
    install('made_of_code', f'open({str(tmp_path / "ran")!r}, "w")', listed=None)

    with pytest.raises(ValueError, match='no package made_of_code with interfaces is installed'):
        message_class('made_of_code/msg/Sound')
    assert not (tmp_path / 'ran').exists()
    assert 'made_of_code' not in sys.modules


@pytest.mark.parametrize('code', ['raise SystemExit(2)', 'raise RuntimeError("broken")', '1 / 0'])
def test_an_installation_that_fails_to_import_is_refused(install, code):
    install('broken_msgs', code, listed='msg/Sound.msg\n')

    with pytest.raises(ValueError, match='broken_msgs/msg/Sound cannot be imported here'):
        message_class('broken_msgs/msg/Sound')


def test_a_message_that_the_index_does_not_list_is_refused(install):
    install('some_msgs', 'Sound = Noise = object', listed='msg/Sound.msg\nmsg/Sound.idl\n')

    assert message_class('some_msgs/msg/Sound') is object
    with pytest.raises(ValueError, match='package some_msgs has no such message'):
        message_class('some_msgs/msg/Noise')


class FakeNode:
    """A node on a graph that a test makes up; subscriptions fail while `n_failures` lasts."""

    def __init__(self):
        self.offered, self.subscribed, self.errors, self.n_failures = [], [], [], 0

    def resolve_topic_name(self, topic):
        return f'/{topic}'

    def get_publishers_info_by_topic(self, _):
        quality = types.SimpleNamespace(reliability=1)
        same = {'qos_profile': quality, 'node_name': 'stranger', 'node_namespace': '/'}
        return [types.SimpleNamespace(topic_type=kind, **same) for kind in self.offered]

    def create_subscription(self, cls, topic, callback, qos):
        if self.n_failures:
            self.n_failures -= 1
            raise RuntimeError('Failed to create subscription: invalid allocator')
        subscription = types.SimpleNamespace(cls=cls, callback=callback)
        self.subscribed.append(subscription)
        return subscription

    def destroy_subscription(self, subscription):
        self.subscribed.remove(subscription)

    def get_logger(self):
        return types.SimpleNamespace(error=self.errors.append)

    @property
    def heard(self):
        return [subscription.cls for subscription in self.subscribed]


@pytest.fixture
def node():
    return FakeNode()


def subscription_of(node, type_name='auto'):
    return VoiceSubscription(node, 'user/audio', type_name, lambda msg: None, print)


STRING, CHUNK = 'std_msgs/msg/String', 'timar_ros/msg/AudioChunk'
INT16 = 'std_msgs/msg/Int16MultiArray'


def test_a_type_that_would_run_code_is_refused_once_and_shown_in_diagnostics(node):
    node.offered = ['unittest.__main__/msg/Sound']
    voice = subscription_of(node)
    for _ in range(3):
        voice.match()

    assert node.heard == [AudioChunk]
    assert len(node.errors) == 1
    assert 'unittest.__main__/msg/Sound' in voice.problem
    assert 'must look like' in voice.problem


def test_audio_chunk_is_heard_beside_a_foreign_type_that_was_there_before(node):
    node.offered = [STRING]
    voice = subscription_of(node)
    assert node.heard == [String]

    node.offered = [STRING, CHUNK]
    for _ in range(20):
        voice.match()
        assert node.heard == [AudioChunk]
    assert 'another type is heard' in voice.problem

    node.offered = [CHUNK]
    voice.match()
    assert voice.problem == ''


def test_a_refused_type_is_tried_again_when_the_published_types_change(node):
    node.offered, node.n_failures = [CHUNK], 5
    voice = subscription_of(node)
    for _ in range(10):
        voice.match()
    assert node.heard == [AudioChunk]

    node.offered = ['nobody_has/msg/This']
    voice.match()
    assert 'nobody_has/msg/This' in voice.problem
    node.offered = [CHUNK]
    voice.match()

    assert node.heard == [AudioChunk]
    assert voice.problem == ''


def test_a_failure_of_a_moment_is_no_refusal(node):
    node.offered = [STRING]
    voice = subscription_of(node)

    node.offered, node.n_failures = [CHUNK], 1
    voice.match()
    voice.match()

    assert node.heard == [AudioChunk]
    assert node.errors == []


def test_the_ghost_of_a_killed_publisher_does_not_deafen(node):
    node.offered = [CHUNK, INT16]  # the first was killed, and is still in the graph
    voice = subscription_of(node)
    heard = []
    for _ in range(12):
        voice.match()
        heard += [cls.__name__ for cls in node.heard]
        for subscription in node.subscribed:
            if subscription.cls.__name__ == 'Int16MultiArray':
                subscription.callback(object())

    assert heard[-1] == 'Int16MultiArray'
    assert heard.index('Int16MultiArray') <= 5


def test_a_type_that_was_asked_for_wins(node):
    node.offered = [CHUNK, STRING]
    voice = subscription_of(node, STRING)
    for _ in range(10):
        voice.match()

    assert node.heard == [String]


def test_files_of_the_index_are_really_there():
    prefixes = map(pathlib.Path, os.environ['AMENT_PREFIX_PATH'].split(os.pathsep))
    index = 'share/ament_index/resource_index/rosidl_interfaces/timar_ros'
    assert any((prefix / index).is_file() for prefix in prefixes)
