# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Drivers that speak other messages than ours are heard, or refused with the fix; no stand-ins."""

import importlib.util
import pathlib

import numpy as np
import pytest

pytestmark = [pytest.mark.graph, pytest.mark.slow]


def _cases():
    path = pathlib.Path(__file__).parent / 'cases.py'
    spec = importlib.util.spec_from_file_location('cases', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


cases = _cases()
HEARD = [
    ('ros_drivers', 'wave'),
    ('ros_drivers', 'wave_stamped'),
    ('mgonzs13', 'float32'),
    ('mgonzs13', 'int32'),
    ('mgonzs13', 'int16'),
    ('mgonzs13', 'int8'),
    ('mgonzs13', 'uint8'),
    ('others', 'naoqi'),
    ('others', 'foxglove'),
]


@pytest.fixture
def said(recording):
    """Return what a case says, as full-scale float32 `[n, channels]`."""

    def say(overlay, name):
        case, spoken = cases.CASES[overlay][name], np.load(recording)
        chunks = [cases.chunk_of(spoken, case, i) for i in range(case.n_chunks)]
        stored = np.concatenate(chunks)
        if name.endswith('int8'):
            stored = stored >> 8 << 8
        return stored.astype(np.float32) / 32768

    return say


@pytest.mark.parametrize(('overlay', 'name'), HEARD)
def test_every_sample_arrives_as_it_was_said(hear, said, overlay, name):
    heard = hear(overlay)[name]

    case = cases.CASES[overlay][name]
    assert heard.types == [case.type_name], heard.log
    assert heard.rate_hz == case.rate_hz
    np.testing.assert_array_equal(heard.samples, said(overlay, name))


@pytest.mark.parametrize(('overlay', 'name'), HEARD)
def test_the_conversation_node_takes_all_of_it_and_answers(hear, overlay, name):
    heard = hear(overlay)[name]

    assert heard.values['user_samples'] == str(cases.CASES[overlay][name].n_heard), heard.log
    assert 'refused_messages' not in heard.values, heard.texts
    assert heard.n_plans > 1


# without stamps, a busy machine's late arrival is a hole
@pytest.mark.parametrize(('overlay', 'name'), HEARD[1:])
def test_stamped_audio_is_placed_without_a_hole(hear, overlay, name):
    heard = hear(overlay)[name]

    assert heard.values['user_lost_samples'] == '0', heard.log


@pytest.mark.parametrize(
    ('overlay', 'name', 'fix'),
    [
        ('ros_drivers', 'mp3', 'start the driver with format:=wave'),
        ('ros_drivers', 'mp3_without_info', 'bytes that look like mp3; start the driver with'),
        ('mgonzs13', 'one_byte', 'let it publish both'),
        ('ros_drivers', 'one_byte', 'let it publish all bytes of each sample'),
        ('others', 'foxglove_one_byte', 'let it publish all bytes of each sample'),
    ],
)
def test_what_cannot_be_heard_is_refused_with_the_fix(hear, overlay, name, fix):
    heard = hear(overlay)[name]

    n_refused = cases.CASES[overlay][name].n_refused
    assert int(heard.values['refused_messages']) >= n_refused, heard.log
    assert any(fix in text for text in heard.texts), heard.texts


def test_a_message_type_that_is_not_installed_is_named_with_the_fix(hear):
    heard = hear('others', is_sourced=False)['foxglove']

    assert heard.n_packets == 0
    assert any(
        'foxglove_msgs/msg/RawAudio cannot be imported' in text
        and 'source the workspace of foxglove_msgs' in text
        for text in heard.texts
    ), heard.log
