# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Headers of wavs that lie: the file's length, bits and channels decide; nonsense is refused."""

import resource
import struct

import numpy as np
import pytest

from timar_ros.stream.wav import read_duration_s, read_pcm, read_wav

RATE = 16000
PCM = np.random.default_rng(7).integers(-9000, 9000, 4000).astype('<i2')
UNKNOWN = 0xFFFFFFFF


def chunk(name, body, size=None, is_padded=True):
    """Return a chunk; `size`: what its header says instead of the truth."""
    size = len(body) if size is None else size
    return name + struct.pack('<I', size) + body + b'\0' * (is_padded and len(body) % 2)


def fmt(codec=1, channels=1, rate=RATE, bits=16, align=None, byte_rate=None, extra=b''):
    align = channels * -(-bits // 8) if align is None else align
    byte_rate = rate * align % 2**32 if byte_rate is None else byte_rate
    values = struct.pack('<HHIIHH', codec, channels, rate, byte_rate, align, bits)
    return chunk(b'fmt ', values + extra)


def extensible(bits, valid, codec=1, align=None):
    guid = struct.pack('<H', codec) + bytes.fromhex('000000001000800000aa00389b71')
    return fmt(0xFFFE, bits=bits, align=align, extra=struct.pack('<HHI', 22, valid, 0) + guid)


def riff(*chunks, size=None, magic=b'RIFF'):
    body = b'WAVE' + b''.join(chunks)
    return magic + struct.pack('<I', len(body) if size is None else size) + body


def write(tmp_path, content):
    (tmp_path / 'x.wav').write_bytes(content)
    return tmp_path / 'x.wav'


DATA = PCM.tobytes()
LIST = chunk(b'LIST', b'INFOISFT\x0e\0\0\0Lavf61.7.100\0\0')


@pytest.mark.parametrize('size', [0, UNKNOWN, 0x7FFFFFFF, 0x7FFFF000, 2_000_000_000, 8001])
@pytest.mark.parametrize('riff_size', [0, 36, UNKNOWN])
def test_a_size_that_nobody_filled_in_ends_where_the_file_ends(tmp_path, size, riff_size):
    path = write(tmp_path, riff(fmt(), LIST, chunk(b'data', DATA, size), size=riff_size))

    np.testing.assert_array_equal(read_pcm(path)[0][:, 0], PCM)
    assert read_duration_s(path) == len(PCM) / RATE


def test_an_empty_data_chunk_before_other_chunks_is_no_sound(tmp_path):
    path = write(tmp_path, riff(fmt(), chunk(b'data', b''), LIST))

    with pytest.raises(ValueError, match='expected sound, got 0 samples'):
        read_pcm(path)


@pytest.mark.parametrize(
    'between', [b'', LIST, chunk(b'id3 ', bytes(7)), chunk(b'bext', bytes(602))]
)
def test_all_data_chunks_are_heard_in_their_order(tmp_path, between):
    first, second = chunk(b'data', DATA[:1001]), chunk(b'data', DATA[1001:])

    path = write(tmp_path, riff(LIST, fmt(), first, between, second, LIST))

    np.testing.assert_array_equal(read_pcm(path)[0][:, 0], PCM)


@pytest.mark.parametrize('size', [None, UNKNOWN])
def test_wavs_appended_to_each_other_are_heard_one_after_the_other(tmp_path, size):
    one = riff(fmt(), chunk(b'data', DATA, size))

    path = write(tmp_path, one + one)

    np.testing.assert_array_equal(read_pcm(path)[0][:, 0], np.tile(PCM, 2))


@pytest.mark.parametrize('is_padded', [True, False])
def test_an_odd_chunk_may_lack_its_padding(tmp_path, is_padded):
    odd = chunk(b'LIST', b'INFOx', is_padded=is_padded)

    path = write(tmp_path, riff(fmt(), odd, chunk(b'data', DATA)))

    np.testing.assert_array_equal(read_pcm(path)[0][:, 0], PCM)


@pytest.mark.parametrize('size', [0, 3, 24, 60, 128, 2000, 8034, 2**31, UNKNOWN])
def test_sound_behind_a_chunk_of_a_wrong_size_is_found(tmp_path, size):
    wrong = chunk(b'LIST', LIST[8:], size)

    path = write(tmp_path, riff(fmt(), wrong, chunk(b'data', DATA)))

    np.testing.assert_array_equal(read_pcm(path)[0][:, 0], PCM)


@pytest.mark.parametrize(
    ('align', 'byte_rate'), [(4, 64000), (1, 16000), (0, 0), (16, 32000), (2, 1), (65535, 7)]
)
@pytest.mark.parametrize('channels', [1, 2])
def test_bits_and_channels_decide_against_block_align_and_byte_rate(
    tmp_path, align, byte_rate, channels
):
    header = fmt(channels=channels, align=align, byte_rate=byte_rate)

    samples, rate_hz = read_pcm(write(tmp_path, riff(header, chunk(b'data', DATA))))

    assert rate_hz == RATE
    np.testing.assert_array_equal(samples, PCM.reshape(-1, channels))


WIDE = PCM.astype('<i4') << 8  # as samples of 24 bits
BYTES = {width: WIDE.reshape(-1, 1).view(np.uint8)[:, :width].tobytes() for width in (3,)}


@pytest.mark.parametrize(
    ('header', 'data'),
    [
        (fmt(bits=24), BYTES[3]),
        (fmt(bits=24, align=4), BYTES[3]),
        (fmt(bits=20, align=3), BYTES[3]),
        (extensible(24, 24), BYTES[3]),
        (extensible(24, 20), BYTES[3]),
        (extensible(32, 24), (WIDE << 8).tobytes()),
        (fmt(bits=24, align=4), (WIDE << 8).tobytes()),
        (fmt(bits=12), DATA),
        (fmt(bits=0, align=2), DATA),
        (fmt(bits=32), (WIDE << 8).tobytes()),
        (fmt(3, bits=32), (PCM / np.float32(32768)).astype('<f4').tobytes()),
        (fmt(3, bits=64), (PCM / 32768).astype('<f8').tobytes()),
        (extensible(32, 32, 3), (PCM / np.float32(32768)).astype('<f4').tobytes()),
    ],
)
def test_every_layout_of_samples_gives_the_same_signal(tmp_path, header, data):
    samples, _ = read_wav(write(tmp_path, riff(header, chunk(b'data', data))))

    np.testing.assert_array_equal(samples[:, 0], PCM / np.float32(32768))


@pytest.mark.parametrize(('bits', 'data'), [(16, PCM.astype('>i2')), (24, WIDE), (32, WIDE << 8)])
def test_rifx_is_big_endian_throughout(tmp_path, bits, data):
    raw = data.tobytes()
    if bits > 16:
        raw = data.astype('>i4').reshape(-1, 1).view(np.uint8)[:, 32 - bits >> 3 :].tobytes()
    body = struct.pack('>HHIIHH', 1, 1, RATE, RATE * bits // 8, bits // 8, bits)
    chunks = b''.join(
        name + struct.pack('>I', len(x)) + x for name, x in ((b'fmt ', body), (b'data', raw))
    )

    samples, _ = read_wav(write(tmp_path, b'RIFX' + bytes(4) + b'WAVE' + chunks))

    np.testing.assert_array_equal(samples[:, 0], PCM / np.float32(32768))


@pytest.mark.parametrize('magic', [b'RF64', b'BW64'])
@pytest.mark.parametrize('counted', [len(DATA), 0, 2**62])
def test_rf64_takes_its_size_from_ds64_and_from_the_file_where_that_lies(tmp_path, magic, counted):
    ds64 = chunk(b'ds64', struct.pack('<QQQI', 0, counted, 0, 0))

    path = write(
        tmp_path, riff(ds64, fmt(), chunk(b'data', DATA, UNKNOWN), size=UNKNOWN, magic=magic)
    )

    np.testing.assert_array_equal(read_pcm(path)[0][:, 0], PCM)


@pytest.mark.parametrize('read', [read_pcm, read_wav, read_duration_s])
@pytest.mark.parametrize(
    ('header', 'told'),
    [
        (fmt(rate=0), 'expected a sample rate of 4000 to 384000 Hz, got 0; .*ffmpeg -f s16le'),
        (fmt(rate=1), 'expected a sample rate .*, got 1;'),
        (fmt(rate=2**31), 'expected a sample rate .*, got 2147483648;'),
        (fmt(channels=0, align=2), 'expected 1 to 16 channels, got 0'),
        (fmt(channels=17), 'expected 1 to 16 channels, got 17; keep one'),
        (fmt(channels=65535, align=0), 'expected 1 to 16 channels, got 65535'),
        (fmt(bits=65535, align=2), 'integers of 65535 bits'),
        (fmt(bits=0, align=0), 'integers of 0 bits'),
        (fmt(3, bits=16), 'floats of 16 bits'),
        (fmt(7, bits=8), 'coded as MULAW .*ffmpeg -i IN -c:a pcm_s16le'),
        (fmt(6, bits=8), 'coded as ALAW .*ffmpeg -i IN -c:a pcm_s16le'),
        (fmt(0x55, bits=0, align=1), 'coded as MPEGLAYER3'),
        (fmt(0xFFFE, extra=bytes(24)), 'coded as EXTENSIBLE'),
        (chunk(b'fmt ', bytes(4)), 'its fmt chunk has 4 bytes'),
        (b'', 'it has no fmt chunk'),
        (fmt() + fmt(rate=8000), 'two fmt chunks that disagree'),
    ],
)
def test_a_header_outside_of_what_is_accepted_is_refused_by_name(tmp_path, read, header, told):
    path = write(tmp_path, riff(header, chunk(b'data', DATA)))

    with pytest.raises(ValueError, match=f'x.wav: .*{told}'):
        read(path)


def test_the_command_in_a_refusal_names_where_the_samples_begin(tmp_path):
    path = write(tmp_path, riff(LIST, fmt(rate=0), chunk(b'data', DATA)))

    with pytest.raises(ValueError, match=r'tail -c \+(\d+) IN') as caught:
        read_pcm(path)

    begin = int(str(caught.value).partition('tail -c +')[2].split()[0])
    assert path.read_bytes()[begin - 1 :] == DATA


@pytest.mark.parametrize('read', [read_pcm, read_duration_s])
def test_a_file_of_more_samples_than_a_bound_is_refused_before_it_is_read(tmp_path, read):
    path = write(tmp_path, riff(fmt(), chunk(b'data', b'', UNKNOWN)))
    with open(path, 'r+b') as file:
        file.truncate(4_200_000_000)  # a hole: takes no space
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(ValueError, match=r'at most 1,000,000,000 samples, got 2,099,999,978'):
        read(path)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000  # kB


def test_what_is_missing_or_left_out_of_a_wav_is_said_in_seconds(tmp_path):
    notes: list[str] = []
    read_pcm(write(tmp_path, riff(fmt(), chunk(b'data', DATA, 10 * 2 * RATE))), notes)
    read_pcm(write(tmp_path, riff(fmt(), chunk(b'data', DATA)) + b'\xff' * 64000), notes)

    assert notes == [
        'x.wav: cut off: its header counts 10.0 s, 0.2 s are there',
        'x.wav: 64000 bytes (2.0 s if they are sound) follow the 0.2 s that its header counts '
        "and are left out; to hear them: 'ffmpeg -ignore_length 1 -i IN OUT.wav'",
    ]


def test_a_wav_cut_off_anywhere_gives_what_is_there_or_one_sentence(tmp_path):
    whole = riff(LIST, fmt(), chunk(b'data', DATA[:40]), LIST)
    begin = whole.index(b'data') + 8

    for length in range(len(whole)):
        path = write(tmp_path, whole[:length])
        n = max(min(length - begin, 40) // 2, 0)
        if n:
            np.testing.assert_array_equal(read_pcm(path)[0][:, 0], PCM[:n])
        else:
            with pytest.raises(ValueError, match='x.wav: expected '):
                read_pcm(path)


def test_mutated_headers_end_in_samples_or_one_sentence(tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / 'x.wav'
    seeds = [
        riff(fmt(), LIST, chunk(b'data', DATA[:400])),
        riff(extensible(24, 20), chunk(b'fact', bytes(4)), chunk(b'data', BYTES[3][:600])),
        riff(
            chunk(b'ds64', bytes(28)), fmt(3, bits=32), chunk(b'data', bytes(400)), magic=b'RF64'
        ),
    ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    n_read = 0
    for i in range(5000):
        content = bytearray(seeds[i % len(seeds)])
        for at in rng.integers(0, 110, rng.integers(1, 5)):
            content[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
        path.write_bytes(content)
        try:
            samples, rate_hz = read_pcm(path)
        except ValueError as error:
            assert str(error).startswith(f'{path}: expected ')
            assert 'Error' not in str(error) and len(str(error)) < 600
        else:
            n_read += 1
            assert samples.size * samples.itemsize <= 4 * len(content) and rate_hz >= 4000
            assert read_duration_s(path) == len(samples) / rate_hz
    assert 500 < n_read < 4900
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 100_000  # kB
