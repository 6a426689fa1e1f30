# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A TTS's files are understood or refused, wherever its messages cut them."""

import struct

import numpy as np
import pytest
from utterance_message import message

from timar_ros.stream.utterance_reader import UtteranceReader

MS = 1_000_000
VOICE = np.sin(np.arange(2000) / 9) * np.linspace(0, 1, 2000) * 8000
PCM = VOICE.astype('<i2').tobytes()
N_BYTES = len(PCM)
NOISE = np.random.default_rng(0).integers(0, 256, 40_000, np.uint8).tobytes()


def chunk(name, body, pad=b'\0'):
    return name + struct.pack('<I', len(body)) + body + pad * (len(body) % 2)


def wav(*before, after=b'', size=N_BYTES, riff=None, magic=b'RIFF'):
    fmt = chunk(b'fmt ', struct.pack('<HHIIHH', 1, 1, 24000, 48000, 2, 16))
    head = b'WAVE' + b''.join(before) + fmt + b'data' + struct.pack('<I', size)
    riff = len(head) + len(PCM) + len(after) if riff is None else riff
    return magic + struct.pack('<I', riff) + head + PCM + after


LIST = chunk(b'LIST', b'INFOISFT\x09\0\0\0timar_ros')
UNKNOWN = {'size': 2**32 - 1, 'riff': 2**32 - 1}
DS64 = chunk(b'ds64', struct.pack('<QQQI', 100, len(PCM), len(PCM) // 2, 0))
WAVS = {
    'plain': (wav(), 1),
    'trailer': (wav(after=LIST), 1),
    'trailer that the header does not count': (wav(riff=len(PCM) + 36) + LIST, 1),
    'two trailers': (wav(after=LIST + chunk(b'C2PA', NOISE[:3000])), 1),
    'chunks before the samples': (wav(chunk(b'bext', bytes(602)), LIST), 1),
    'an odd chunk without padding': (wav(chunk(b'JUNK', bytes(27), pad=b'')), 1),
    'unknown size': (wav(LIST, **UNKNOWN), 1),
    'RF64': (wav(DS64, magic=b'RF64', **UNKNOWN), 1),
    'two': (wav() + wav(), 2),
    'two with trailers': (wav(after=LIST) + wav(after=LIST), 2),
}


def aac(n):
    head = b'\xff\xf1\x58' + bytes([0x40 | 200 >> 11, 200 >> 3 & 0xFF, (200 & 7) << 5, 0xFC])
    return b''.join(head + NOISE[193 * i : 193 * (i + 1)] for i in range(n))


def mp3(n, first=b''):
    bodies = [NOISE[188 * i : 188 * (i + 1)] for i in range(n)]
    bodies[0] = first or bodies[0]
    return b''.join(b'\xff\xf3\x84\xc4' + body for body in bodies)


INFO = b'Info' + bytes(sorted(NOISE[:100])) + bytes(84)  # a first frame with a table, smooth
FILES = {
    'mp3': mp3(40),
    'mp3 ': mp3(40, INFO),
    'mp3  ': b'ID3\x04\0\0\0\0\0\x23' + mp3(40),
    'AAC': aac(40),
    'WebM': b'\x1aE\xdf\xa3\x9fB\x86\x81' + NOISE[:8000],
    'Ogg': b'OggS\0\x02' + NOISE[:8000],
    'FLAC': b'fLaC\0\0\0\x22' + NOISE[:40] + bytes(8000) + NOISE[:8000],
    'AIFF': b'FORM\0\x01\x77\x2eAIFF' + NOISE[:8000],
    'AU': b'.snd\0\0\0\x20' + NOISE[:8000],
    'text': b'event: error, the voice is unknown; choose one of anna, ben, carla and tell us why',
}


def pieces(data, rng, smallest):
    """Cut bytes at random: messages of 1 byte to 64 kB, all orders of magnitude alike."""
    position = 0
    while position < len(data):
        n = max(smallest, int(np.exp(rng.uniform(0, np.log(65536)))))
        yield position, data[position : position + n]
        position += n


def send(reader, data, rng, begin_ms=0, counting='bytes', smallest=1):
    """Return samples, their counts, the refusals and the time after the last message."""
    packets, refusals, now_ms = [], [], begin_ms
    for position, piece in pieces(data, rng, smallest):
        first = position // 2 if counting == 'bytes' else 0
        try:
            packets.append(reader.read(message(piece, first), now_ms * MS))
        except ValueError as error:
            refusals.append(str(error))
        now_ms += 5
    packets = [packet for packet in packets if packet is not None]
    samples = [packet.samples[:, 0] * 32768 for packet in packets] or [np.zeros(0)]
    firsts = [packet.first_sample for packet in packets]
    return np.concatenate(samples), firsts, refusals, now_ms


@pytest.mark.parametrize('counting', ['bytes', 'no'])
@pytest.mark.parametrize('name', WAVS)
def test_exactly_the_samples_of_a_wav_are_spoken_wherever_messages_end(name, counting):
    data, n_wavs = WAVS[name]
    wanted = np.frombuffer(PCM * n_wavs, '<i2')

    for seed in range(12):
        reader = UtteranceReader()
        out, firsts, refusals, _ = send(
            reader, data, np.random.default_rng(seed), counting=counting
        )
        assert refusals == []
        np.testing.assert_array_equal(out, wanted)
        assert reader.counters['cut_headers'] == n_wavs
        assert counting == 'no' or firsts == sorted(set(firsts))


def test_of_wavs_without_sizes_in_one_message_all_samples_are_spoken():
    data = wav(**UNKNOWN) + wav(**UNKNOWN)

    out, *_ = send(UtteranceReader(), data, np.random.default_rng(0), smallest=len(data))

    np.testing.assert_array_equal(out, np.frombuffer(PCM * 2, '<i2'))


@pytest.mark.parametrize('counting', ['bytes', 'no'])
@pytest.mark.parametrize('kind', FILES)
def test_a_file_without_samples_is_refused_by_name_wherever_messages_end(kind, counting):
    for seed in range(12):
        rng = np.random.default_rng(seed)
        reader = UtteranceReader()
        smallest = 64 if kind == 'text' else 1

        out, _, refusals, now_ms = send(reader, FILES[kind], rng, 0, counting, smallest)
        assert len(out) == 0
        assert f'got {kind.strip()}' in refusals[0]

        reader.expire((now_ms + 3000) * MS)
        out, *_ = send(reader, PCM, rng, now_ms + 3000, counting)
        np.testing.assert_array_equal(out, np.frombuffer(PCM, '<i2'))


def test_a_voice_that_begins_like_a_frame_of_mp3_is_spoken_once_it_is_seen_to_be_none():
    voice = b'\xff\xf3\x84\xc4' + PCM
    reader = UtteranceReader()

    out, firsts, refusals, _ = send(reader, voice, np.random.default_rng(1), smallest=100)

    assert refusals == [] and firsts[0] == 0
    np.testing.assert_array_equal(out, np.frombuffer(voice, '<i2'))


@pytest.mark.parametrize('first', [0x2C24, 0x4020, 0x7020])
def test_a_slow_sound_whose_bytes_are_all_printable_is_a_voice(first):
    rise = np.arange(first, first + 90, dtype='<i2')
    samples = np.concatenate([rise, rise[::-1]])

    out, _, refusals, _ = send(
        UtteranceReader(), samples.tobytes(), np.random.default_rng(0), smallest=400
    )

    assert refusals == []
    np.testing.assert_array_equal(out, samples)
