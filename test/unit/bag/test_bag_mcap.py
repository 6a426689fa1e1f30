# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""An mcap file is read record by record: no index is needed or believed, damage is counted."""

import resource
import struct
import zlib

from backports import zstd
import lz4.frame
import numpy as np
import pytest

from timar_ros.stream import bag_mcap
from timar_ros.stream.bag import Bag

MAGIC = b'\x89MCAP0\r\n'
KIND = 'timar_ros/msg/AudioChunk'
TOPIC = '/user/audio'


def text(value):
    return struct.pack('<I', len(value)) + value.encode()


def record(code, body, length=None):
    return struct.pack('<BQ', code, len(body) if length is None else length) + body


def schema(number, name, definition, encoding='ros2msg'):
    return record(3, struct.pack('<H', number) + text(name) + text(encoding) + text(definition))


def channel(number, schema_number, topic=TOPIC, encoding='cdr'):
    head = struct.pack('<HH', number, schema_number)
    return record(4, head + text(topic) + text(encoding) + struct.pack('<I', 0))


def message(number, log_ns, data):
    return record(5, struct.pack('<HIqq', number, 0, log_ns, log_ns) + data)


def chunk(records, compression='', checksum=0, unpacked=None, packed=None, times=(0, 2**62)):
    data = {'': bytes, 'zstd': zstd.compress, 'lz4': lz4.frame.compress}[compression](records)
    head = struct.pack('<qqQI', *times, len(records) if unpacked is None else unpacked, checksum)
    size = struct.pack('<Q', len(data) if packed is None else packed)
    return record(6, head + text(compression) + size + data)


HEADER = record(1, text('') + text('a test'))
END = record(15, bytes(4)) + record(2, bytes(20)) + MAGIC


def file_of(*records, end=END):
    return MAGIC + HEADER + b''.join(records) + end


@pytest.fixture
def audio(bags, tmp_path):
    """Return a maker of messages: audio(i) -> bytes of an AudioChunk of the value i."""
    writer = bags.Writer(tmp_path / 'unused')

    def make(i, kind=KIND, n=4, **fields):
        return bytes(
            writer.store.serialize_cdr(
                writer.make(
                    kind,
                    header=writer.header(i * 10**9),
                    sample_rate=16000,
                    channels=1,
                    encoding='pcm_s16le',
                    first_sample=0,
                    sent=writer.time(0),
                    data=np.frombuffer(np.full(n, i, '<i2').tobytes(), np.uint8),
                    **fields,
                ),
                kind,
            )
        )

    return make


@pytest.fixture
def about(bags):
    """Return the records that describe `TOPIC` as channel 1."""
    return schema(1, KIND, bags.definitions[KIND]) + channel(1, 1)


@pytest.fixture
def read(bags, tmp_path):
    """Return a reader of a file's bytes: values of its messages, and notes."""

    def read(content, topics=(TOPIC,), start_ns=None):
        path = tmp_path / 'x.mcap'
        if content is not None:  # else it is there
            path.write_bytes(content)
        with Bag(path, bags.definitions) as bag:
            messages = list(bag.messages(set(topics), start_ns))
            values = [
                m.problem if m.content is None else int(np.asarray(m.content.data).view('<i2')[0])
                for m in messages
            ]
            return values, bag.notes

    return read


@pytest.mark.parametrize('compression', ['', 'zstd', 'lz4'])
@pytest.mark.parametrize('per_chunk', [0, 1, 7, 100])
def test_without_any_index_all_messages_are_read_in_order_of_time(
    read, about, audio, compression, per_chunk
):
    order = np.random.default_rng(2).permutation(50).tolist()
    messages = [message(1, i, audio(i)) for i in order]
    if per_chunk:
        parts = [b''.join(messages[k : k + per_chunk]) for k in range(0, 50, per_chunk)]
        messages = [chunk(part, compression) for part in parts]

    assert read(file_of(about, *messages)) == (list(range(50)), [])
    assert read(file_of(about, *messages), start_ns=20) == (list(range(20, 50)), [])


def test_channels_may_be_described_inside_of_chunks_or_in_the_summary_only(read, about, audio):
    first, second = message(1, 1, audio(1)), message(1, 2, audio(2))
    assert read(file_of(chunk(about + first), chunk(second))) == ([1, 2], [])
    summary = record(15, bytes(4)) + about + record(2, bytes(20)) + MAGIC
    assert read(file_of(chunk(first), second, end=summary)) == ([1, 2], [])


def test_messages_of_channels_that_nobody_describes_are_counted(read, about, audio):
    content = file_of(about, message(1, 1, audio(1)), message(9, 2, audio(2)))
    note = 'x.mcap: 1 messages left out, of channels that it does not describe: 9'

    assert read(content) == ([1], [note])


def test_an_index_that_omits_or_invents_is_not_believed(read, about, audio):
    chunks = [chunk(message(1, i, audio(i)), times=(i, i)) for i in range(4)]
    index = record(7, struct.pack('<HI', 1, 0))
    offsets = struct.pack('<qqQQIQ', 0, 0, 2**60, 2**60, 0, 0)
    lying = record(8, offsets + text('') + bytes(16))
    summary = record(15, bytes(4)) + lying + record(2, bytes(20)) + MAGIC

    content = file_of(about, chunks[0], index, *chunks[1:], end=summary)

    assert read(content) == ([0, 1, 2, 3], [])


def test_times_in_the_head_of_a_chunk_are_not_believed(read, about, audio):
    early = chunk(message(1, 1, audio(1)) + message(1, 4, audio(4)), times=(9, 9))
    late = chunk(message(1, 2, audio(2)) + message(1, 3, audio(3)), times=(0, 0))

    assert read(file_of(about, early, late)) == ([1, 2, 3, 4], [])
    assert read(file_of(about, early, late), start_ns=3) == ([3, 4], [])


@pytest.mark.parametrize(
    ('encoding', 'schema_encoding'),
    [('json', 'jsonschema'), ('protobuf', 'protobuf'), ('ros1', 'ros1msg'), ('', ''), ('x', 'x')],
)
def test_channels_of_other_tools_do_not_disturb_ours(
    read, about, audio, encoding, schema_encoding
):
    other = schema(7, 'example.Note', '\x0a\x00', schema_encoding) + channel(7, 7, '/n', encoding)
    messages = [message(1, i, audio(i)) + message(7, i, b'{}') for i in range(3)]

    content = file_of(other, about, chunk(b''.join(messages)))

    assert read(content) == ([0, 1, 2], [])
    (problem, *_), _ = read(content, ['/n'])
    assert problem == f'encoded as {encoding or "nothing"}, expected cdr (ROS 2)'


def test_of_two_channels_of_one_topic_the_one_of_ros_gives_the_type(bags, about, audio, tmp_path):
    other = schema(7, 'example.Sound', '{}', 'jsonschema') + channel(7, 7, TOPIC, 'json')
    messages = [message(7, i, b'{}') for i in range(5)] + [message(1, 6, audio(6))]
    (tmp_path / 'x.mcap').write_bytes(file_of(about, other, *messages))

    with Bag(tmp_path / 'x.mcap', bags.definitions) as bag:
        assert bag.topics == {TOPIC: KIND}


def test_each_channel_is_read_by_its_own_definition_of_the_same_type(bags, read, about, audio):
    changed = bags.definitions[KIND].replace('uint8 channels', 'uint8 gain\nuint8 channels')
    second = schema(2, KIND, changed) + channel(2, 2)
    plain = audio(2)
    at = plain.index(struct.pack('<I', 16000)) + 4
    with_gain = plain[:at] + b'\7' + plain[at : at + 1] + plain[at + 2 :]  # gain takes padding

    content = file_of(about, message(1, 1, audio(1)), second, message(2, 2, with_gain))

    assert read(content) == ([1, 2], [])


@pytest.mark.parametrize('per_chunk', [False, True])
def test_a_number_that_is_given_anew_means_the_new_channel_from_there_on(
    bags, read, about, audio, per_chunk
):
    anew = schema(1, 'std_msgs/msg/Empty', '') + channel(1, 1, '/other')
    messages = [message(1, 1, audio(1)), message(1, 2, audio(2))]
    if per_chunk:
        messages = [chunk(m) for m in messages]

    assert read(file_of(about, messages[0], anew, messages[1])) == ([1], [])


def test_files_appended_to_each_other_are_read_one_after_the_other(read, about, audio):
    first = file_of(about, message(1, 1, audio(1)))
    second = file_of(chunk(about + message(1, 2, audio(2)), 'zstd'))

    assert read(first + second) == ([1, 2], [])


def test_attachments_metadata_and_unknown_records_are_passed_over(read, about, audio):
    others = record(9, bytes(5000)) + record(12, bytes(30)) + record(0x99, bytes(7))

    assert read(file_of(others, about, others, message(1, 1, audio(1)), others)) == ([1], [])


@pytest.mark.parametrize('compression', ['', 'zstd', 'lz4'])
def test_of_a_file_cut_off_at_any_byte_all_before_the_cut_is_read(read, about, audio, compression):
    loose, inside = message(1, 1, audio(1)), message(1, 2, audio(2)) + message(1, 3, audio(3))
    whole = file_of(about, loose, chunk(inside, compression))
    ends = [whole.index(loose) + len(loose), len(whole) - len(END)]
    if not compression:
        begin = whole.index(inside)
        ends.insert(1, begin + len(inside) // 2)

    begin = whole.index(loose)
    for length in [*range(len(MAGIC), begin, 61), *range(begin, len(whole))]:
        is_whole = length >= len(whole) - len(MAGIC)
        try:
            values, notes = read(whole[:length])
        except ValueError as error:
            assert length < ends[0] and 'breaks off at byte' in str(error)
        else:
            n = sum(length >= end for end in ends)
            least = 3 if n == len(ends) else n
            assert values == [1, 2, 3][: len(values)] and len(values) >= least
            assert is_whole or f' of {length:,} ' in notes[-1] and 'breaks off' in notes[-1]


def test_a_file_whose_tail_is_zeros_is_read_up_to_there(read, about, audio):
    values, notes = read(file_of(about, message(1, 1, audio(1)), end=bytes(5000)))

    assert values == [1]
    assert 'zeros follow' in notes[0] and 'what came before is used' in notes[0]


@pytest.mark.parametrize('length', [2**62, 2**64 - 1, 10**6])
def test_chunks_behind_a_damage_are_found_by_the_index(read, about, audio, length):
    chunks = [chunk(message(1, i, audio(i))) for i in range(4)]
    damaged = struct.pack('<BQ', 12, length) + bytes(10)
    body = MAGIC + HEADER + about + chunks[0] + damaged
    offsets = [len(body), len(body) + len(chunks[1])]
    body += chunks[1] + chunks[2]
    summary = b''.join(
        record(8, struct.pack('<qqQQ', 0, 0, offset, 0) + bytes(40)) for offset in offsets
    )
    footer = record(2, struct.pack('<QQI', len(body), 0, 0))

    values, notes = read(body + summary + footer + MAGIC)

    assert values == [0, 1, 2]
    assert '2 chunks behind it were found by the index' in notes[0]


@pytest.mark.parametrize('compression', ['', 'zstd', 'lz4'])
def test_a_wrong_checksum_is_said_and_the_messages_are_used(read, about, audio, compression):
    records = message(1, 1, audio(1))

    right = read(file_of(about, chunk(records, compression, zlib.crc32(records))))
    values, notes = read(file_of(about, chunk(records, compression, 12345)))

    assert right == ([1], []) and values == [1]
    assert 'its checksum is wrong; 1 messages in it are used' in notes[0]


@pytest.mark.parametrize(
    'damage',
    [
        {'compression': 'zstd', 'unpacked': 2**62},
        {'compression': 'zstd', 'unpacked': 10},
        {'compression': '', 'packed': 2**62},
        {'compression': '', 'unpacked': 2**63},
    ],
)
def test_sizes_of_a_chunk_that_lie_cost_a_note_only(read, about, audio, damage):
    broken = chunk(message(1, 1, audio(1)), **damage)

    values, notes = read(file_of(about, broken, message(1, 2, audio(2))))

    assert values == ([2] if damage.get('unpacked') == 10 else [1, 2])
    assert len(notes) == 1 and 'x.mcap: the chunk at byte' in notes[0]


def test_of_many_damaged_chunks_a_few_are_named_and_the_others_counted(read, about, audio):
    chunks = [chunk(message(1, i, audio(i)), checksum=7) for i in range(40)]

    values, notes = read(file_of(about, *chunks))

    assert values == list(range(40))
    assert len(notes) == 6 and notes[-1] == 'and 35 notes more of this kind'


@pytest.mark.parametrize('compression', ['bzip3', 'zstd', 'lz4'])
def test_a_chunk_that_cannot_be_unpacked_is_counted_and_the_others_read(
    read, about, audio, compression
):
    head = struct.pack('<qqQI', 0, 0, 100, 0) + text(compression)
    body = head + struct.pack('<Q', 9) + b'123456789'

    values, (note,) = read(file_of(about, record(6, body), message(1, 2, audio(2))))

    assert values == [2]
    assert 'the chunk at byte' in note and '0 messages in it are used' in note


def test_a_chunk_that_unpacks_to_gigabytes_takes_bounded_memory(read, about, audio):
    packer = zstd.ZstdCompressor()
    bomb = b''.join([packer.compress(bytes(1 << 20)) for _ in range(1024)] + [packer.flush()])
    head = struct.pack('<qqQI', 0, 0, 2**40, 0) + text('zstd') + struct.pack('<Q', len(bomb))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    values, notes = read(file_of(about, record(6, head + bomb), message(1, 2, audio(2))))

    assert values == [2]
    assert 'it unpacks to more than 268,435,456 bytes' in notes[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 700_000  # kB


def test_a_message_that_unpacks_to_gigabytes_is_left_out(read, about, audio):
    packer = zstd.ZstdCompressor()
    bomb = b''.join([packer.compress(bytes(1 << 20)) for _ in range(100)] + [packer.flush()])

    values, _ = read(file_of(about, message(1, 1, bomb), message(1, 2, audio(2))))

    assert values == [
        'cannot be decoded: compressed, and it unpacks to more than 64,000,000 bytes', 2,
    ]  # fmt: skip


def test_statistics_that_count_more_than_is_there_are_said(read, about, audio):
    statistics = record(11, struct.pack('<QHIIIIqqI', 400, 1, 1, 0, 0, 0, 0, 0, 0))
    end = record(15, bytes(4)) + statistics + record(2, bytes(20)) + MAGIC

    content = file_of(about, message(1, 1, audio(1)), end=end)
    assert read(content) == ([1], ['x.mcap counts 400 messages, 1 are there'])


@pytest.mark.parametrize('definition', ['', 'uint8[ data', 'x' * 2_000_000, '\0', 'no/Type x'])
def test_a_definition_that_cannot_be_read_is_replaced_by_ours(read, audio, definition):
    about = schema(1, KIND, definition) + channel(1, 1)

    assert read(file_of(about, message(1, 1, audio(1)))) == ([1], [])


def test_a_type_that_is_not_known_is_refused_by_name(read):
    about = schema(1, 'other_msgs/msg/Sound', 'uint8[ data') + channel(1, 1)

    values, _ = read(file_of(about, message(1, 1, bytes(20))))

    assert values[0].startswith('/user/audio holds other_msgs/msg/Sound, whose definition is')
    assert 'in a form that cannot be read' in values[0] and len(values[0]) < 400


def test_large_messages_of_other_topics_are_not_kept_in_memory(read, about, audio, tmp_path):
    image = schema(2, 'sensor_msgs/msg/Image', '') + channel(2, 2, '/camera')
    with open(tmp_path / 'x.mcap', 'wb') as file:
        file.write(MAGIC + HEADER + about + image)
        for i in range(12):
            file.write(chunk(message(2, i, bytes(8_000_000)) + message(1, i, audio(i))))
        file.write(END)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    values, _ = read(None)

    assert values == list(range(12))
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak
    assert used < 30_000  # kB, of 96 MB


def test_in_a_large_file_only_chunks_without_an_index_are_looked_through(
    read, about, audio, monkeypatch
):
    monkeypatch.setattr(bag_mcap, '_LOOKED_THROUGH', -1)
    looked = []
    original = bag_mcap.Chunk.bytes
    monkeypatch.setattr(
        bag_mcap.Chunk, 'bytes', lambda self: looked.append(self.begin) or original(self)
    )
    records = [
        chunk(message(1, i, audio(i)), times=(i, i)) + record(7, struct.pack('<HIqq', 1, 16, i, 0))
        for i in range(4)
    ]
    records.append(chunk(message(1, 4, audio(4)), times=(4, 4)))

    assert read(file_of(about, *records), start_ns=3) == ([3, 4], [])
    assert len(looked) == 3  # the last one at once, then the two that are wanted
