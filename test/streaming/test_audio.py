# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
import array
from types import SimpleNamespace as Fields

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
import pytest

from timar_ros.stream.audio import (
    AudioFormat,
    format_from_info,
    mono_of,
    packet_from_fields,
    pcm_from_samples,
    samples_from_pcm,
)

STAMP = Fields(sec=1_700_000_000, nanosec=123_456_789)
STAMP_NS = 1_700_000_000_123_456_789
HEADER = Fields(stamp=STAMP, frame_id='')
STORED = np.array([[0, -32768], [16384, 32767], [1, -1]], '<i2')
VALUES = STORED / np.float32(32768)


def make_chunk(**changes):
    fields = {
        'header': HEADER,
        'sample_rate': 48_000,
        'channels': 2,
        'encoding': 'pcm_s16le',
        'first_sample': 960,
        'sent': Fields(sec=0, nanosec=0),
        'data': array.array('B', STORED.tobytes()),
    }
    return Fields(**(fields | changes))


def make_audio_stamped(format_code=8, channels=2, **arrays):
    empty = dict.fromkeys(
        ('float32_data', 'int32_data', 'int16_data', 'int8_data', 'uint8_data'), array.array('b')
    )
    info = Fields(format=format_code, channels=channels, rate=16_000, chunk=3)
    return Fields(header=HEADER, audio=Fields(audio_data=Fields(**(empty | arrays)), info=info))


def make_info(**changes):
    fields = {
        'channels': 2,
        'sample_rate': 16_000,
        'sample_format': 'S16LE',
        'bitrate': 128,
        'coding_format': 'wave',
    }
    return Fields(**(fields | changes))


def test_an_audio_chunk_says_everything():
    packet = packet_from_fields(make_chunk(sent=Fields(sec=7, nanosec=5)))

    assert packet.stamp_ns == STAMP_NS
    assert packet.first_sample == 960
    assert packet.sent_ns == 7_000_000_005
    assert packet.sample_rate_hz == 48_000
    assert packet.samples.dtype == np.float32
    assert_array_equal(packet.samples, VALUES)


def test_a_sent_time_of_zero_means_on_arrival():
    assert packet_from_fields(make_chunk()).sent_ns is None


@pytest.mark.parametrize(
    'data',
    [
        STORED.tobytes(),
        bytearray(STORED.tobytes()),
        array.array('B', STORED.tobytes()),
        np.frombuffer(STORED.tobytes(), np.uint8),
        list(STORED.tobytes()),
    ],
    ids=lambda data: type(data).__name__,
)
def test_bytes_may_come_in_any_container(data):
    assert_array_equal(packet_from_fields(make_chunk(data=data)).samples, VALUES)


def test_an_empty_chunk_is_a_packet_without_samples():
    packet = packet_from_fields(make_chunk(data=array.array('B')))

    assert packet.samples.shape == (0, 2)


@pytest.mark.parametrize('encoding', ['pcm_s16le', 'pcm_f32le'])
def test_samples_survive_encoding(encoding):
    samples = np.random.default_rng(0).uniform(-0.99, 0.99, (100, 3)).astype(np.float32)

    decoded = samples_from_pcm(pcm_from_samples(samples, encoding), encoding, 3)

    assert_allclose(decoded, samples, rtol=0, atol=0.5 / 32768 if encoding == 'pcm_s16le' else 0)


def test_encoding_as_integers_clips_instead_of_wrapping():
    encoded = pcm_from_samples(np.array([1.0, 2.0, -1.0, -2.0]), 'pcm_s16le')

    assert_array_equal(np.frombuffer(encoded, '<i2'), [32767, 32767, -32768, -32768])


def test_audio_data_takes_its_format_from_audio_info():
    audio_format = format_from_info(make_info())

    packet = packet_from_fields(Fields(data=array.array('B', STORED.tobytes())), audio_format)

    assert audio_format == AudioFormat(16_000, 2, 'S16LE')
    assert (packet.stamp_ns, packet.first_sample, packet.sample_rate_hz) == (None, None, 16_000)
    assert_array_equal(packet.samples, VALUES)


def test_audio_data_stamped_has_its_stamp():
    message = Fields(header=HEADER, audio=Fields(data=array.array('B', STORED.tobytes())))

    packet = packet_from_fields(message, AudioFormat(16_000, 2, 'S16LE'))

    assert packet.stamp_ns == STAMP_NS
    assert_array_equal(packet.samples, VALUES)


@pytest.mark.parametrize(
    ('encoding', 'stored'),
    [
        ('S16LE', np.array([-32768, 16384], '<i2')),
        ('S32LE', np.array([-(2**31), 2**30], '<i4')),
        ('F32LE', np.array([-1, 0.5], '<f4')),
        ('S8', np.array([-128, 64], 'i1')),
        ('U8', np.array([0, 192], 'u1')),
    ],
)
def test_gstreamer_sample_formats_are_decoded(encoding, stored):
    packet = packet_from_fields(Fields(data=stored.tobytes()), AudioFormat(8_000, 1, encoding))

    assert_array_equal(packet.samples, [[-1], [0.5]])


@pytest.mark.parametrize(
    ('code', 'field', 'stored'),
    [
        (1, 'float32_data', array.array('f', [-1, 0.5])),
        (2, 'int32_data', array.array('i', [-(2**31), 2**30])),
        (8, 'int16_data', array.array('h', [-32768, 16384])),
        (16, 'int8_data', array.array('b', [-128, 64])),
        (32, 'uint8_data', array.array('B', [0, 192])),
    ],
)
def test_audio_stamped_is_decoded_by_its_portaudio_code(code, field, stored):
    packet = packet_from_fields(make_audio_stamped(code, 1, **{field: stored}))

    assert (packet.stamp_ns, packet.first_sample) == (STAMP_NS, None)
    assert packet.sample_rate_hz == 16_000
    assert_array_equal(packet.samples, [[-1], [0.5]])


def test_an_audio_stamped_without_values_is_a_packet_without_samples():
    assert packet_from_fields(make_audio_stamped()).samples.shape == (0, 2)


def test_a_naoqi_buffer_has_as_many_channels_as_its_map():
    message = Fields(
        header=HEADER,
        frequency=48_000,
        channel_map=array.array('B', [3, 5, 0, 2]),
        data=array.array('h', range(0, 8)),
    )

    packet = packet_from_fields(message)

    assert (packet.stamp_ns, packet.sample_rate_hz) == (STAMP_NS, 48_000)
    assert_array_equal(packet.samples * 32768, [[0, 1, 2, 3], [4, 5, 6, 7]])


def test_foxglove_raw_audio_is_decoded():
    message = Fields(
        timestamp=STAMP,
        data=array.array('B', STORED.tobytes()),
        format='pcm-s16',
        sample_rate=16_000,
        number_of_channels=2,
    )

    packet = packet_from_fields(message)

    assert (packet.stamp_ns, packet.sample_rate_hz) == (STAMP_NS, 16_000)
    assert_array_equal(packet.samples, VALUES)


@pytest.mark.parametrize(
    ('message', 'text'),
    [
        (make_chunk(encoding='opus'), "encoding must be 'pcm_s16le', 'pcm_f32le', got 'opus'"),
        (make_chunk(encoding='S16LE'), "got 'S16LE'; decode before publishing"),
        (make_chunk(channels=0), 'channels must be at least 1, got 0'),
        (make_chunk(data=bytes(11)), r'frames of 4 bytes \(2 channels of pcm_s16le\), got 11'),
        (make_chunk(channels=1, data=bytes(641)), 'got 641 bytes; .* one byte of each 16-bit'),
        (make_chunk(encoding='pcm_f32le', data=bytes(12)), 'whole frames of 8 bytes'),
        (Fields(data=bytes(8)), 'expected an AudioInfo on audio_info first, got none'),
        (Fields(data=b'ID3\x04' + bytes(99)), 'look like mp3; .* format:=wave'),
        (Fields(data=b'\xff\xfb\x90' + bytes(99)), 'look like mp3; .* format:=wave'),
        (make_audio_stamped(4), r'format must be one of 1 \(float32_data\).*, got 4'),
        (
            make_audio_stamped(8, uint8_data=array.array('B', bytes(6))),
            'promises int16_data, got values in uint8_data; .* one byte of each 16-bit sample',
        ),
        (make_audio_stamped(8, int16_data=array.array('h', [1, 2, 3])), '2 channels of int16'),
        (make_audio_stamped(8, channels=0, int16_data=array.array('h', [1])), 'got 0'),
        (Fields(data='hello'), 'must be bytes, got text'),
        (Fields(linear=1, angular=2), 'got SimpleNamespace with linear, angular'),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_fix(message, text):
    with pytest.raises(ValueError, match=text):
        packet_from_fields(message)


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'coding_format': 'mp3'}, "expected coding_format 'wave', got 'mp3'.*format:=wave"),
        ({'sample_format': 'S24LE'}, "got 'S24LE'; start the driver with sample_format:=S16LE"),
    ],
)
def test_compressed_and_unknown_streams_are_refused_by_their_info(changes, text):
    with pytest.raises(ValueError, match=text):
        format_from_info(make_info(**changes))


def test_channels_are_averaged_or_one_is_chosen():
    packet = packet_from_fields(make_chunk())

    assert_allclose(mono_of(packet), VALUES.mean(axis=1), atol=1e-7)
    assert_array_equal(mono_of(packet, 1), VALUES[:, 1])
    with pytest.raises(ValueError, match="channel 2 .* got 2 channels; choose 0 to 1 or 'mean'"):
        mono_of(packet, 2)
