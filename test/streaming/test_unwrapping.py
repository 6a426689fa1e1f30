# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A TTS that sends files: the samples of a wav are spoken, what is no samples is refused."""

import struct

import numpy as np
import pytest
from utterance_message import message

from timar_ros.stream.containers import Unwrapping, unwrap
from timar_ros.stream.foreign_formats import UNDECIDED, other_format
from timar_ros.stream.utterance_reader import UtteranceReader

MS = 1_000_000
FORM = ('pcm_s16le', 1, 24000)
TRAILER = b'LIST' + struct.pack('<I', 26) + b'INFOISFT' + bytes([200, 90] * 9)
PCM = (8000 * np.sin(np.arange(3000) / 9)).astype('<i2').tobytes()
MP3 = b''.join(
    b'\xff\xf3\x84\xc4' + np.random.default_rng(i).integers(0, 256, 188, np.uint8).tobytes()
    for i in range(20)
)
OTHERS = {
    'mp3': b'ID3\x04\0\0\0\0\0\x23' + MP3,
    'mp3 ': MP3,
    'Ogg': b'OggS\0\x02' + MP3,
    'FLAC': b'fLaC\0\0\0\x22' + MP3,
    'JSON': b'{"error": "the voice is not known"}',
    'JSON ': b'{\n  "detail": "quota"\n}',
}


def header(size, riff=None, channels=1, rate_hz=24000, codec=1, bits=16):
    frame = channels * bits // 8
    fmt = struct.pack('<HHIIHH', codec, channels, rate_hz, rate_hz * frame, frame, bits)
    riff = min(size + 36, 2**32 - 1) if riff is None else riff
    return b'RIFF%bWAVEfmt %b%bdata%b' % (
        struct.pack('<I', riff), struct.pack('<I', 16), fmt, struct.pack('<I', size)
    )  # fmt: skip


def spoken(reader, messages, begin_ms=0):
    packets = [reader.read(m, (begin_ms + 20 * i) * MS) for i, m in enumerate(messages)]
    packets = [p for p in packets if p is not None]
    firsts = [p.first_sample for p in packets]
    return np.concatenate([p.samples for p in packets])[:, 0] * 32768, firsts


def in_pieces(data, n, counting):
    """Messages of n bytes, counted by their bytes, by what is spoken, or not at all."""
    skipped = {'bytes': 0, 'samples': 44}.get(counting)
    return [
        message(data[i : i + n], 0 if skipped is None else max(i - skipped, 0) // 2)
        for i in range(0, len(data), n)
    ]


@pytest.mark.parametrize('counting', ['bytes', 'samples', 'no'])
@pytest.mark.parametrize('n', [20, 44, 1001, 1600, 10**6])
@pytest.mark.parametrize('size', [len(PCM), 0, 2**31 - 1, 2**32 - 1])
def test_of_a_wav_in_pieces_exactly_the_samples_are_spoken(size, n, counting):
    reader = UtteranceReader()

    out, firsts = spoken(reader, in_pieces(header(size) + PCM, n, counting))

    np.testing.assert_array_equal(out, np.frombuffer(PCM, '<i2'))
    assert reader.counters['cut_headers'] == 1
    if counting != 'no':
        assert firsts == sorted(set(firsts))


@pytest.mark.parametrize('n', [1001, 6050, 10**6])
@pytest.mark.parametrize('is_in_riff', [True, False])
@pytest.mark.parametrize('name', [b'LIST', b'C2PA'])
def test_what_follows_the_samples_of_a_wav_is_left_out(name, is_in_riff, n):
    trailer = name + TRAILER[4:]
    riff = len(PCM) + 36 + len(trailer) * is_in_riff
    reader = UtteranceReader()
    wav = header(len(PCM), riff) + PCM + trailer

    for utterance in range(2):
        messages = in_pieces(wav, n, 'bytes')
        out, _ = spoken(reader, messages, 5000 * utterance)
        np.testing.assert_array_equal(out, np.frombuffer(PCM, '<i2'))
    assert reader.counters['cut_trailers'] == 2


def test_a_header_on_every_message_is_left_out_of_each():
    reader = UtteranceReader()
    messages = [
        message(header(1000) + PCM[i : i + 1000], i // 2) for i in range(0, len(PCM), 1000)
    ]

    out, _ = spoken(reader, messages)

    np.testing.assert_array_equal(out, np.frombuffer(PCM, '<i2'))
    assert reader.counters['cut_headers'] == 6


def test_samples_beyond_a_header_that_counts_its_own_message_only_are_spoken():
    out, _ = spoken(
        UtteranceReader(), [message(header(1000) + PCM[:1000]), message(PCM[1000:], 500)]
    )

    np.testing.assert_array_equal(out, np.frombuffer(PCM, '<i2'))


@pytest.mark.parametrize(
    ('change', 'got'),
    [
        ({'rate_hz': 16000}, 'pcm_s16le, 1 channels, 16000 Hz'),
        ({'channels': 2}, 'pcm_s16le, 2 channels, 24000 Hz'),
        ({'codec': 3, 'bits': 32}, 'pcm_f32le, 1 channels, 24000 Hz'),
        ({'codec': 7, 'bits': 8}, 'codec 0x0007 of 8 bits, 1 channels, 24000 Hz'),
    ],
)
def test_a_header_that_contradicts_the_message_is_refused_with_both(change, got):
    with pytest.raises(ValueError, match=f'says pcm_s16le, 1 channels, 24000 Hz, .* {got};'):
        UtteranceReader().read(message(header(len(PCM), **change) + PCM), 0)


@pytest.mark.parametrize('kind', OTHERS)
@pytest.mark.parametrize('is_counting', [True, False])
def test_other_formats_are_refused_to_their_end_and_the_next_utterance_is_spoken(
    kind, is_counting
):
    reader = UtteranceReader()
    with pytest.raises(ValueError, match=f'expected pcm_s16le samples, got {kind.strip()}'):
        reader.read(message(OTHERS[kind]), 0)
    for i in range(1, 5):
        with pytest.raises(ValueError, match='got what continues bytes that were none; ask'):
            reader.read(message(MP3[70:1500], 500 * i * is_counting), 20 * i * MS)

    begin_ms = 200 if is_counting else 1500
    first = PCM[:1500], PCM[1500:]
    messages = [message(first[0]), message(first[1], 750 * is_counting)]
    out, _ = spoken(reader, messages, begin_ms)

    np.testing.assert_array_equal(out, np.frombuffer(PCM, '<i2'))


def test_quiet_bytes_that_a_sender_counts_on_from_what_was_refused_are_refused_too():
    reader = UtteranceReader()
    with pytest.raises(ValueError, match='got mp3'):
        reader.read(message(MP3), 0)
    with pytest.raises(ValueError, match='got what continues'):
        reader.read(message(bytes(2000), len(MP3) // 2), 20 * MS)


def test_random_samples_are_never_mistaken_for_a_file():
    data = np.random.default_rng(0).integers(0, 256, (100_000, 64), np.uint8)
    for begin in (b'', b'{"', b'ID3', b'\xff\xfb', b'Ogg'):
        for row in data[: 20_000 if begin else None]:
            sound = begin + row.tobytes()
            kind = other_format(sound, 'pcm_s16le')
            assert kind in (None, UNDECIDED)
            first = unwrap(Unwrapping(), sound, FORM)
            assert (first.held if kind else first.samples) == sound


def test_a_tone_that_repeats_at_the_distance_of_mp3_frames_is_spoken():
    period = np.frombuffer(MP3[:192], '<i2').astype(float)
    tone = (3000 * np.sin(2 * np.pi * np.arange(96) / 96)).astype('<i2')
    tone[:2] = period[:2]
    sound = tone.tobytes() * 20

    assert sound[:4] == MP3[:4] == sound[192:196]
    assert other_format(sound, 'pcm_s16le') is None


def test_a_voice_that_follows_an_error_text_at_once_is_spoken_in_full():
    reader = UtteranceReader()
    with pytest.raises(ValueError, match='got JSON'):
        reader.read(message(OTHERS['JSON']), 0)

    out, _ = spoken(reader, [message(PCM[:1500]), message(PCM[1500:], 750)], begin_ms=20)

    np.testing.assert_array_equal(out, np.frombuffer(PCM, '<i2'))
