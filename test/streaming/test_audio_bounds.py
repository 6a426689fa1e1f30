# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What is accepted of a stranger's audio message, and what is said of the rest."""

import array
import tracemalloc
from types import SimpleNamespace as Fields

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
import pytest

from timar_ros.bounds import MAX_VOICE_MESSAGE_BYTES
from timar_ros.stream.audio import AudioPacket, format_from_text, mono_of, packet_from_fields
from timar_ros.stream.audio_format import format_from_info

TIME = Fields(sec=1_700_000_000, nanosec=5)
HEADER = Fields(stamp=TIME, frame_id='')
S16 = format_from_text('S16LE,16000,1')
# full scale down, half up
HALVES = [[-1.0], [0.5]]


def make_chunk(**changes):
    fields = {
        'header': HEADER,
        'sample_rate': 16_000,
        'channels': 1,
        'encoding': 'pcm_s16le',
        'first_sample': 0,
        'sent': Fields(sec=0, nanosec=0),
        'data': array.array('B', bytes(640)),
    }
    return Fields(**(fields | changes))


def make_floats(values, channels=1):
    data = np.asarray(values, '<f4').tobytes()
    return make_chunk(encoding='pcm_f32le', channels=channels, data=array.array('B', data))


def make_frame(fmt, data, n=2, channels=1):
    return Fields(
        header=HEADER,
        format=fmt,
        channel_count=channels,
        sampling_frequency=16_000,
        frame_sample_count=n,
        data=array.array('B', data),
    )


def make_array(kind, values):
    return Fields(layout=Fields(dim=[], data_offset=0), data=array.array(kind, values))


@pytest.mark.parametrize('rate_hz', [0, 1, 3_999, 384_001, 2**31 - 1, 2**32 - 1, 10**8 + 7])
def test_a_rate_outside_its_bounds_is_refused_by_every_reader(rate_hz):
    frame = make_frame('signed_16', bytes(4))
    frame.sampling_frequency = rate_hz
    messages = [
        make_chunk(sample_rate=rate_hz),
        frame,
        Fields(header=HEADER, frequency=rate_hz, channel_map=b'\x00', data=array.array('h', [0])),
        Fields(
            timestamp=TIME,
            data=bytes(4),
            format='pcm-s16',
            sample_rate=rate_hz,
            number_of_channels=1,
        ),
    ]

    for message in messages:
        with pytest.raises(ValueError, match=f'must be 4000 to 384000 Hz, got {rate_hz}'):
            packet_from_fields(message)


@pytest.mark.parametrize('channels', [17, 255])
def test_more_channels_than_a_device_has_are_refused(channels):
    with pytest.raises(ValueError, match=f'channels must be at most 16, got {channels}'):
        packet_from_fields(make_chunk(channels=channels, data=bytes(2 * channels)))


def test_a_message_that_is_too_large_is_refused_before_it_is_copied():
    message = make_chunk(data=array.array('B', bytes(MAX_VOICE_MESSAGE_BYTES + 2)))

    tracemalloc.start()
    with pytest.raises(ValueError, match=r'may hold 4 MB, got 4.000002 MB; send the sound in'):
        packet_from_fields(message)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 100_000
    assert len(packet_from_fields(message, max_bytes=10**7).samples) == 2_000_001


def test_samples_beyond_four_times_full_scale_are_cut_and_counted():
    packet = packet_from_fields(make_floats([0.5, 4.0, -5.0, 3e38, 1.0]))

    assert_array_equal(packet.samples[:, 0], np.float32([0.5, 4.0, -4.0, 4.0, 1.0]))
    assert packet.n_clipped == 2
    assert packet.peak == pytest.approx(3e38)


@pytest.mark.parametrize('rate_hz', [16_000, 44_100])
def test_no_finite_samples_become_infinite_in_stereo_or_at_another_rate(audio, rate_hz):
    signs = np.where(np.random.default_rng(0).random((rate_hz // 50, 2)) < 0.5, -3e38, 3e38)
    ingest = audio.ingest()

    ingest.push(
        AudioPacket(0, 0, None, rate_hz, np.full((rate_hz // 50, 2), 3e38, np.float32)), 20_000_000
    )
    ingest.push(
        AudioPacket(20_000_000, rate_hz // 50, None, rate_hz, signs.astype(np.float32)), 40_000_000
    )

    heard, _ = audio.read_all(ingest)
    assert np.isfinite(heard).all()
    assert np.abs(heard).max() < 8
    assert ingest.counters['clipped_samples'] == 4 * (rate_hz // 50)
    assert any('samples should be within -1..1, got 3e+38' in t for t in ingest.take_warnings())


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_refused_with_their_number(value):
    with pytest.raises(ValueError, match='samples must be finite, got 1 of 3 NaN or infinite'):
        packet_from_fields(make_floats([0.0, value, 1.0]))
    with pytest.raises(ValueError, match='got 1 of 2 NaN or infinite'):
        mono_of(AudioPacket(0, 0, None, 16_000, np.array([[0.0], [value]], np.float32)))


def test_a_packet_longer_than_a_minute_is_refused(audio):
    ingest = audio.ingest()
    (packet,) = audio.packets(audio.noise(61 * 4_000), 61 * 4_000, 4_000)

    with pytest.raises(ValueError, match='may hold 60 s of sound, got 61 s'):
        ingest.push(packet, audio.arrival_of(packet))
    assert audio.counted(ingest) == {'refused': 1}


@pytest.mark.parametrize(
    ('data', 'text'),
    [
        (7, 'must be bytes, got one int'),
        (7.5, 'must be bytes, got one float'),
        (True, 'must be bytes, got one bool'),
        (None, 'must be bytes, got one NoneType'),
        ('hello', 'must be bytes, got text of 5 characters'),
        ([b'\x00', b'\x01'], 'a list of bytes, as of a ByteMultiArray'),
        ([0.5, 0.25], 'a list of float'),
        ([300, -1], 'a list of other values'),
    ],
)
def test_data_that_is_no_bytes_is_refused_by_what_it_is(data, text):
    with pytest.raises(ValueError, match=text):
        packet_from_fields(Fields(data=data), S16)


@pytest.mark.parametrize(
    'changes',
    [
        {'header': None},
        {'sample_rate': 'fast'},
        {'channels': None},
        {'sent': 3},
        {'first_sample': None},
        {'sample_rate': float('nan')},
        {'encoding': ['pcm_s16le']},
    ],
)
def test_known_names_of_fields_with_other_contents_are_a_refusal_and_no_fault(changes):
    with pytest.raises(ValueError):
        packet_from_fields(make_chunk(**changes))


@pytest.mark.parametrize(
    ('fmt', 'data'),
    [
        ('signed_8', b'\x80\x40'),
        ('signed_16', b'\x00\x80\x00\x40'),
        ('signed_24', b'\x00\x00\x80\x00\x00\x40'),
        ('signed_padded_24', b'\x00\x00\x80\xff\x00\x00\x40\x00'),
        ('signed_32', b'\x00\x00\x00\x80\x00\x00\x00\x40'),
        ('unsigned_8', b'\x00\xc0'),
        ('unsigned_16', b'\x00\x00\x00\xc0'),
        ('unsigned_24', b'\x00\x00\x00\x00\x00\xc0'),
        ('unsigned_padded_24', b'\x00\x00\x00\x00\x00\x00\xc0\x00'),
        ('unsigned_32', b'\x00\x00\x00\x00\x00\x00\x00\xc0'),
        ('float', np.array([-1, 0.5], '<f4').tobytes()),
        ('double', np.array([-1, 0.5], '<f8').tobytes()),
    ],
)
def test_an_audio_frame_is_read_in_each_of_its_formats(fmt, data):
    packet = packet_from_fields(make_frame(fmt, data))

    assert (packet.sample_rate_hz, packet.first_sample) == (16_000, None)
    assert packet.stamp_ns == 1_700_000_000_000_000_005
    assert_allclose(packet.samples, HALVES, atol=1e-6)


def test_an_audio_frame_keeps_its_channels_apart():
    data = np.array([[1, 2], [3, 4], [5, 6]], '<i2').tobytes()

    packet = packet_from_fields(make_frame('signed_16', data, n=3, channels=2))

    assert_array_equal(packet.samples * 32768, [[1, 2], [3, 4], [5, 6]])


@pytest.mark.parametrize(
    ('frame', 'text'),
    [
        (make_frame('opus', bytes(4)), "format must be 'signed_8', .*, got 'opus'"),
        (make_frame('signed_16', bytes(6)), 'frame_sample_count says 2 samples, got 3'),
        (make_frame('signed_16', bytes(4), channels=0), 'channels must be at least 1'),
    ],
)
def test_an_audio_frame_that_contradicts_itself_is_refused(frame, text):
    with pytest.raises(ValueError, match=text):
        packet_from_fields(frame)


@pytest.mark.parametrize(
    ('message', 'stated'),
    [
        (make_array('h', [-32768, 16384]), 'S16LE,16000,1'),
        (make_array('B', b'\x00\x80\x00\x40'), 'S16LE,16000,1'),
        (make_array('f', [-1.0, 0.5]), 'F32LE,16000,1'),
        (make_array('i', [-(2**31), 2**30]), 'S32LE,16000,1'),
        (Fields(data=array.array('B', b'\x00\x80\x00\x40')), 'S16LE, 16000, 1'),
    ],
)
def test_an_array_is_heard_where_its_format_is_stated(message, stated):
    packet = packet_from_fields(message, format_from_text(stated))

    assert (packet.stamp_ns, packet.sample_rate_hz) == (None, 16_000)
    assert_array_equal(packet.samples, HALVES)


def test_an_array_without_a_stated_format_is_refused_with_the_parameter():
    with pytest.raises(ValueError, match="a stated one, .*'S16LE,16000,1' .*user_audio_f"):
        packet_from_fields(make_array('h', [1, 2]))


def test_an_array_of_other_numbers_than_stated_is_refused():
    with pytest.raises(ValueError, match='samples of S16LE, got an array of float64'):
        packet_from_fields(make_array('d', [0.5, 0.25]), S16)


@pytest.mark.parametrize(
    'text', ['S16LE', 'S16LE,16000', '16000,1,S16LE', 'S16LE,fast,1', 'mp3,16000,1', 'S16LE,1,1,1']
)
def test_a_stated_format_that_is_none_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match="such as 'S16LE,16000,1'"):
        format_from_text(text)


def test_a_stated_format_keeps_the_bounds():
    assert format_from_text(' ') is None
    with pytest.raises(ValueError, match='4000 to 384000 Hz, got 1000'):
        format_from_text('S16LE,1000,1')
    with pytest.raises(ValueError, match='at most 16, got 99'):
        format_from_text('S16LE,16000,99')


def test_the_audio_info_of_another_package_is_refused_and_no_fault():
    with pytest.raises(ValueError, match='expected the AudioInfo of ros-drivers'):
        format_from_info(Fields(format=8, channels=1, rate=16_000, chunk=512))


def test_strangers_text_is_quoted_briefly():
    huge = 'x' * 1_000_000
    messages = [
        make_chunk(encoding=huge),
        make_frame(huge, bytes(4)),
        Fields(timestamp=TIME, data=b'', format=huge, sample_rate=16_000, number_of_channels=1),
        Fields(**{f'field_{i}': 0 for i in range(10_000)}),
    ]

    for message in messages:
        with pytest.raises(ValueError) as refusal:
            packet_from_fields(message)
        assert len(str(refusal.value)) < 800


def test_bytes_cut_in_mid_sample_are_called_so():
    wave = np.round(8000 * np.sin(np.arange(4_000) * 0.05)).astype('<i2').tobytes()

    with pytest.raises(ValueError, match='cut in mid-sample: put the last bytes before'):
        packet_from_fields(make_chunk(data=array.array('B', wave[:-1])))
