# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages without stamp and count whose times are swapped: the file has them right."""

from backports import zstd
import numpy as np
from numpy.testing import assert_array_equal
import pytest

from timar_ros.learn.bag_recording import read_bag
from timar_ros.stream.audio import format_from_text
from timar_ros.stream.bag_conversation import Listening
from timar_ros.stream.bag_storage import Filed
from timar_ros.stream.bag_topics import Topics

KIND = 'std_msgs/msg/Int16MultiArray'
LISTENING = Listening(formats={'user': format_from_text('S16LE,16000,1')})
MS = 10**6


@pytest.fixture
def heard(bags, tmp_path):
    """Return what is heard of chunks of 20 ms, received at times [ms], written in some order."""

    def read(received_ms, storage, order=None, is_packed=False):
        voice = bags.voice(1)[: 320 * len(received_ms)]
        with bags.Writer(tmp_path / 'bag', storage) as bag:
            layout = bag.make('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
            for i in range(len(received_ms)) if order is None else order:
                piece = voice[320 * i : 320 * (i + 1)]
                at_ns = bags.begin_ns + round(received_ms[i] * MS)
                message = bag.make(KIND, layout=layout, data=piece)
                data = bag.store.serialize_cdr(message, KIND)
                data = zstd.compress(bytes(data)) if is_packed else data
                bag.write_raw('/user/audio', KIND, at_ns, data)
        recording = read_bag(tmp_path / 'bag', bags.space, bags.lead_ns, Topics(), LISTENING)
        samples = np.rint(recording.voices['user'].samples * 32768).astype(int)
        return samples, voice.astype(int), recording.notes

    return read


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_message_that_was_asked_for_again_is_heard_before_the_next_one(heard, storage):
    received_ms = 20.0 * np.arange(60)
    received_ms[20] = received_ms[21] + 3  # one is late
    received_ms[40] = received_ms[44] + 5  # four came meanwhile

    samples, voice, notes = heard(received_ms, storage)

    assert_array_equal(samples[: len(voice)], voice)
    assert [note for note in notes if 'user: 5 messages were received before' in note]


def test_a_bag_in_good_order_gets_no_note(heard):
    samples, voice, notes = heard(20.0 * np.arange(60), 'mcap')

    assert_array_equal(samples[: len(voice)], voice)
    assert not [note for note in notes if 'received before' in note]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_a_file_without_any_order_is_read_by_its_times_with_a_note(heard, storage):
    order = np.random.default_rng(3).permutation(60).tolist()

    samples, voice, notes = heard(20.0 * np.arange(60), storage, order)

    assert_array_equal(samples[: len(voice)], voice)
    assert [note for note in notes if 'taken in the order of their times' in note]


def test_messages_that_were_compressed_one_by_one_may_be_out_of_turn_and_go_by_their_times(heard):
    order = list(range(60))
    order[20:22] = 21, 20  # two threads

    samples, voice, notes = heard(20.0 * np.arange(60), 'sqlite3', order, is_packed=True)

    assert_array_equal(samples[: len(voice)], voice)
    assert not [note for note in notes if 'received before' in note]


def test_only_the_topics_that_are_named_are_read_in_the_order_of_the_file():
    filed, times = Filed(['/a']), [0, 10, 30, 20, 40, 50]

    assert filed.delivered('/a', times) == [0, 10, 30, 30, 40, 50]
    assert filed.delivered('/b', times) == times
    assert dict(filed.n_moved) == {'/a': 1}


def test_times_that_go_back_by_more_than_a_second_are_another_recording():
    filed, times = Filed(['/a']), [0, 10, 3 * 10**9, 10**9, 2 * 10**9, 4 * 10**9, 5 * 10**9]

    assert filed.delivered('/a', times) == times
