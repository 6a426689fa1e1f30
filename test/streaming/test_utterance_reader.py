# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages of a TTS whose bytes were cut anywhere: every whole sample comes out once."""

import numpy as np
import pytest
from utterance_message import message

from timar_ros.bounds import MAX_UTTERANCE_MESSAGE_BYTES
from timar_ros.stream.audio import pcm_from_samples
from timar_ros.stream.utterance_reader import UtteranceReader

RATE_HZ = 24000
MS = 1_000_000


def voice(n, channels=1, seed=0):
    """Voice-like: most of its power below 1 kHz, as little as -40 dB at times."""
    rng = np.random.default_rng(seed)
    smooth = np.convolve(rng.standard_normal(n + 40), np.hanning(40), 'valid')[:n]
    loud = 0.01 + 0.3 * np.sin(np.arange(n) / 3000) ** 2
    samples = loud * smooth / np.abs(smooth).max()
    return np.stack([samples / (k + 1) for k in range(channels)], 1).astype(np.float32)


def cuts(n_bytes, rng, longest):
    """Random places to cut so many bytes, with both ends."""
    places = [0]
    while places[-1] < n_bytes:
        places.append(min(places[-1] + int(rng.integers(1, longest)), n_bytes))
    return places


def as_packets(packets):
    return np.concatenate([packet.samples for packet in packets if packet is not None])


@pytest.mark.parametrize('encoding', ['pcm_s16le', 'pcm_f32le'])
@pytest.mark.parametrize('channels', [1, 2, 6])
@pytest.mark.parametrize('counting', ['floor', 'ceil', 'each message for itself', 'not at all'])
def test_bytes_that_were_cut_anywhere_give_the_samples_of_those_that_were_not(
    encoding, channels, counting
):
    samples = voice(6000, channels)
    data = pcm_from_samples(samples, encoding)
    frame = channels * (2 if encoding == 'pcm_s16le' else 4)
    reader = UtteranceReader()
    whole = reader.read(message(data, 0, encoding, channels), 0).samples
    for seed in range(8):
        reader, packets, own = UtteranceReader(), [], 0
        places = cuts(len(data), np.random.default_rng(seed), longest=4000)
        for i, (lo, hi) in enumerate(zip(places, places[1:], strict=False)):
            first = {
                'floor': lo // frame,
                'ceil': -(-lo // frame),
                'each message for itself': own,
                'not at all': 0,
            }[counting]
            own += (hi - lo) // frame
            packets.append(
                reader.read(message(data[lo:hi], first, encoding, channels), i * 20 * MS)
            )
        np.testing.assert_array_equal(as_packets(packets), whole)
        assert reader.counters['lost_half_samples'] == 0
        if counting != 'not at all':
            firsts = [p.first_sample for p in packets if p is not None]
            lengths = [len(p.samples) for p in packets if p is not None]
            np.testing.assert_array_equal(firsts, np.cumsum([0, *lengths[:-1]]))


@pytest.mark.parametrize('is_counting', [True, False])
@pytest.mark.parametrize('pause_ms', [20, 1500, 5000])
def test_the_utterance_after_one_that_ended_in_half_a_sample_is_read_in_full(
    is_counting, pause_ms
):
    data = pcm_from_samples(voice(3000), 'pcm_s16le')
    reader = UtteranceReader()
    reader.read(message(data[:2001]), 0)
    reader.read(message(data[2001:4003], 1000 if is_counting else 0), 20 * MS)
    counted = {name: n for name, n in reader.counters.items() if n}
    assert counted == {'cut_messages': 2}

    now_ns = (20 + pause_ms) * MS
    reader.expire(now_ns)
    next_one = reader.read(message(data), now_ns)

    np.testing.assert_array_equal(next_one.samples, voice_as_read(data))
    assert next_one.first_sample == 0
    assert reader.counters['lost_half_samples'] == 1


def voice_as_read(data):
    return np.frombuffer(data, '<i2').astype(np.float32)[:, None] / 32768


@pytest.mark.parametrize('encoding', ['pcm_s16le', 'pcm_f32le'])
@pytest.mark.parametrize('is_counting', [True, False])
def test_after_a_lost_message_of_cut_bytes_the_rest_is_no_noise(encoding, is_counting):
    samples = voice(20000)
    data = pcm_from_samples(samples, encoding)
    width = len(data) // 20000
    for seed in range(20):
        rng = np.random.default_rng(seed)
        places = cuts(len(data), rng, longest=6000)
        lost = int(rng.integers(1, len(places) - 2))
        reader, packets = UtteranceReader(), []
        for i, (lo, hi) in enumerate(zip(places, places[1:], strict=False)):
            if i == lost:
                continue
            first = lo // width if is_counting else 0
            packets.append(reader.read(message(data[lo:hi], first, encoding), i * 20 * MS))

        out = as_packets(packets)[:, 0]
        n_before = places[lost] // width
        n_after = (len(data) - places[lost + 1]) // width
        np.testing.assert_allclose(out[:n_before], samples[:n_before, 0], atol=1 / 32768)
        np.testing.assert_allclose(out[-n_after:], samples[-n_after:, 0], atol=1 / 32768)
        assert len(out) - n_before - n_after in (0, 1)


def test_messages_without_samples_change_nothing():
    data = pcm_from_samples(voice(3000), 'pcm_s16le')
    reader = UtteranceReader()

    packets = [
        reader.read(message(b'', rate_hz=0, channels=0, encoding=''), 0),
        reader.read(message(data[:2001]), 0),
        reader.read(message(b'', 7), 10 * MS),
        reader.read(message(data[2001:], 1000), 20 * MS),
        reader.read(message(b'', 3000), 30 * MS),
    ]

    assert [packet is None for packet in packets] == [True, False, True, False, True]
    np.testing.assert_array_equal(as_packets(packets), voice_as_read(data))
    assert reader.counters['empty_messages'] == 3


def test_a_message_of_one_byte_is_kept_for_the_next_one():
    data = pcm_from_samples(voice(100), 'pcm_s16le')
    reader = UtteranceReader()

    packets = [reader.read(message(data[i : i + 1], i // 2), i * MS) for i in range(len(data))]

    assert [packet is None for packet in packets] == [True, False] * 100
    np.testing.assert_array_equal(as_packets(packets), voice_as_read(data))


@pytest.mark.parametrize(
    'change',
    [
        {'encoding': 'mp3'},
        {'encoding': 'x' * 1_000_000},
        {'channels': 0},
        {'rate_hz': 2**31 - 1},
        {'rate_hz': 0},
    ],
)
def test_a_refused_message_in_mid_utterance_changes_nothing(change):
    data = pcm_from_samples(voice(3000), 'pcm_s16le')
    reader = UtteranceReader()
    packets = [reader.read(message(data[:2001]), 0)]

    with pytest.raises(ValueError, match=r'.{10,300}') as refusal:
        reader.read(message(data[2001:3000], 1000, **change), 10 * MS)
    packets.append(reader.read(message(data[2001:], 1000), 20 * MS))

    assert len(str(refusal.value)) < 400
    np.testing.assert_array_equal(as_packets(packets), voice_as_read(data))


def test_a_message_beyond_the_bound_is_refused_before_it_is_decoded():
    with pytest.raises(
        ValueError, match='may have 64 MB, got 70.4 MB; send an utterance in several'
    ):
        UtteranceReader().read(message(range(int(1.1 * MAX_UTTERANCE_MESSAGE_BYTES))), 0)


def test_one_byte_of_each_sample_is_refused_with_the_cause():
    pcm = np.frombuffer(pcm_from_samples(voice(4001), 'pcm_s16le'), '<i2')

    with pytest.raises(
        ValueError, match='got 4001 bytes that are none at any offset; let the TTS'
    ):
        UtteranceReader().read(message(pcm.astype(np.uint8).tobytes()), 0)
