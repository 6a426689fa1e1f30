# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Bags without definitions: those of ROS's own messages are known, others are found installed."""

import numpy as np
import pytest

from timar_ros.stream.audio_format import AudioFormat
from timar_ros.stream.bag_conversation import BagConversation, Heard, Listening
from timar_ros.stream.bag_topics import Topics
from timar_ros.stream.installed_types import find_definitions

SOUND = 'lab_audio_msgs/msg/Sound'
LAB = {
    SOUND: 'Frame frame # Sound\nstd_msgs/Header header\nuint8[] data',
    'lab_audio_msgs/msg/Frame': 'string<=20 name\nfloat64[3] place\nint32 LARGEST=3',
}


def install(prefix, definitions):
    for name, text in definitions.items():
        package, _, kind = name.split('/')
        folder = prefix / 'share' / package / 'msg'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f'{kind}.msg').write_text(text)


def heard(path, text_format=None):
    listening = Listening(formats={'user': text_format} if text_format else {})
    conversation = BagConversation(path, {}, Topics(user_audio='/mic/audio'), {}, listening)
    packets = [item.placed.packet for item in conversation.items() if isinstance(item, Heard)]
    return np.concatenate([packet.samples for packet in packets])[:, 0]


def test_an_array_of_std_msgs_is_read_without_its_definition(bags, tmp_path, monkeypatch):
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    kind, voice = 'std_msgs/msg/Int16MultiArray', bags.voice(1)
    with bags.Writer(tmp_path / 'bag', 'sqlite3') as bag:
        layout = bag.make('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
        for at in range(0, len(voice), 320):
            received_ns = bags.begin_ns + (at + 320) * 10**9 // bags.rate_hz
            bag.write('/mic/audio', kind, received_ns, layout=layout, data=voice[at : at + 320])
    bags.forget_definitions(tmp_path / 'bag')

    samples = heard(tmp_path / 'bag', AudioFormat(bags.rate_hz, 1, 'S16LE'))

    np.testing.assert_array_equal(samples * 32768, voice)


def write_lab(bags, path):
    voice = bags.voice(2)
    with bags.Writer(path, 'sqlite3', LAB) as bag:
        frame = bag.make('lab_audio_msgs/msg/Frame', name='a', place=np.zeros(3))
        for at in range(0, len(voice), 320):
            stamp_ns = bags.begin_ns + at * 10**9 // bags.rate_hz
            data = np.frombuffer(voice[at : at + 320].tobytes(), np.uint8)
            header = bag.header(stamp_ns)
            bag.write('/mic/audio', SOUND, stamp_ns, frame=frame, header=header, data=data)
    bags.forget_definitions(path)
    return voice


def test_a_definition_is_found_in_the_workspace_that_is_sourced(bags, tmp_path, monkeypatch):
    voice = write_lab(bags, tmp_path / 'bag')
    install(tmp_path / 'workspace', LAB)
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{tmp_path / "none"}:{tmp_path / "workspace"}')

    samples = heard(tmp_path / 'bag', AudioFormat(bags.rate_hz, 1, 'S16LE'))

    np.testing.assert_array_equal(samples * 32768, voice)


def test_of_a_type_that_is_nowhere_is_said_once_what_to_do(bags, tmp_path, monkeypatch):
    write_lab(bags, tmp_path / 'bag')
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))

    with pytest.raises(ValueError) as caught:
        heard(tmp_path / 'bag')

    text = str(caught.value)
    assert text.count('not in the bag') == 1
    assert f'{SOUND}, whose definition is not in the bag and not known here; source a' in text
    assert 'storage_id: mcap' in text and 'ros2 bag convert -i BAG -o mcap.yaml' in text


@pytest.mark.parametrize(
    'name',
    ['../msg/Sound', 'lab/../../msg/Sound', '/etc/msg/x', 'lab_audio_msgs/msg/../Sound', '',
     'lab_audio_msgs/srv/Sound', 'lab_audio_msgs/msg/' + 'S' * 5000, 'lab\0/msg/S'],
)  # fmt: skip
def test_a_name_that_is_none_becomes_no_path(name, tmp_path, monkeypatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    install(tmp_path, LAB)
    (tmp_path / 'share' / 'msg').mkdir()
    (tmp_path / 'share' / 'msg' / 'Sound.msg').write_text('uint8 a')

    assert find_definitions(name, lambda _: False) == {}


def test_a_definition_that_is_too_large_or_names_itself_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path))
    install(tmp_path, {'a/msg/Large': '#' * 200_000, 'a/msg/Self': 'Self again\n'})
    install(tmp_path, {f'a/msg/N{k}': f'N{k + 1} next\n' for k in range(200)})

    assert find_definitions('a/msg/Large', lambda _: False) == {}
    assert find_definitions('a/msg/N0', lambda _: False) == {}
    assert set(find_definitions('a/msg/Self', lambda _: False)) == {'a/msg/Self'}
