# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages whose time of recording is wrong: a few cost themselves, none the recording."""

import numpy as np
import pytest

from timar_ros.learn.bag_recording import read_bag
from timar_ros.stream.bag_topics import Topics

KIND = 'timar_ros/msg/AudioChunk'
S, MS = 10**9, 10**6
N = 60


@pytest.fixture
def recorded(bags, tmp_path):
    """Return what is heard of chunks of 20 ms if some are recorded at other times, [s]."""

    def read(wrong_s, has_agent=False):
        voice = bags.voice(1)[: 320 * N]
        with bags.Writer(tmp_path / 'bag') as bag:
            for i in range(N):
                at_ns = bags.begin_ns + 20 * MS * i
                fields = {
                    'header': bag.header(at_ns), 'sample_rate': 16000, 'channels': 1,
                    'encoding': 'pcm_s16le', 'first_sample': 320 * i, 'sent': bag.time(0),
                    'data': np.frombuffer(voice[320 * i : 320 * (i + 1)].tobytes(), np.uint8),
                }  # fmt: skip
                wrong_ns = round(wrong_s.get(i, 0) * S)
                bag.write('/user/audio', KIND, wrong_ns + at_ns + 20 * MS, **fields)
                if has_agent:
                    bag.write('/agent/audio', KIND, at_ns - 400 * MS, **fields)
        recording = read_bag(tmp_path / 'bag', bags.space, bags.lead_ns, Topics())
        samples = np.rint(recording.voices['user'].samples * 32768).astype(int)
        return samples, voice.astype(int), recording.notes

    return read


@pytest.mark.parametrize('off_s', [-20, -86_400, -1.6e9])
def test_a_message_that_was_recorded_too_early_costs_itself_alone(recorded, off_s):
    samples, voice, notes = recorded({30: off_s})

    missing = np.zeros(len(voice), bool)
    missing[320 * 30 : 320 * 31] = True
    np.testing.assert_array_equal(samples[~missing], voice[~missing])
    assert any('1 of 60 messages left out: its time of recording contradicts' in n for n in notes)


@pytest.mark.parametrize('off_s', [20, 86_400, 7e9])
def test_a_message_that_was_recorded_too_late_costs_itself_alone(recorded, off_s):
    samples, voice, _ = recorded({30: off_s})

    missing = np.zeros(len(voice), bool)
    missing[320 * 30 : 320 * 31] = True
    assert len(samples) == len(voice)
    np.testing.assert_array_equal(samples[~missing], voice[~missing])


def test_sound_beyond_the_longest_recording_is_left_out_with_its_number(recorded, monkeypatch):
    monkeypatch.setattr('timar_ros.stream.bag_conversation.MAX_RECORDING_S', 1)

    samples, voice, notes = recorded({})

    assert len(samples) == 16000
    np.testing.assert_array_equal(samples, voice[:16000])
    text = 'user: 10 of 60 messages left out: its sound would lie more than 24 h after the begin'
    assert any(note.startswith(text) for note in notes), notes


def test_a_third_recorded_in_1970_neither_takes_years_nor_memory(recorded, bags):
    of_1970 = {i: 5 - bags.begin_ns / S for i in range(40, N)}

    samples, _, notes = recorded(of_1970, has_agent=True)

    assert len(samples) <= 320 * N + 16000
    assert notes
