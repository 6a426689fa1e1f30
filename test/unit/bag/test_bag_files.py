# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A bag is read whole and in order, whatever its files are called and wherever they lie."""

import os
import random
import shutil
import sqlite3
import sys

from backports import zstd
import numpy as np
import pytest
import yaml

from timar_ros.stream.bag import Bag

TOPIC = '/user/audio'
N = 26  # messages of a second each
NO_METADATA = (
    'the bag has no metadata.yaml (cut off, or not copied along); what its files hold is read'
)


@pytest.fixture
def write(bags, tmp_path):
    """Return a writer of one file: write(path, numbers of its messages)."""

    def write(path, numbers, storage='mcap', **chunk):
        folder = tmp_path / 'made'
        with bags.Writer(folder, storage) as bag:
            for i in numbers:
                bag.write_chunks(TOPIC, np.full(32, i, np.int16), begin_ns=i * 10**9, **chunk)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(next(p for p in folder.iterdir() if p.suffix in ('.mcap', '.db3')), path)
        metadata = yaml.safe_load((folder / 'metadata.yaml').read_text())
        shutil.rmtree(folder)
        return metadata

    return write


def told(path, bags, start_ns=None, topics=None):
    """Return the numbers of the messages as they are read, and the notes."""
    with Bag(path, bags.definitions) as bag:
        messages = list(bag.messages(topics or {TOPIC}, start_ns))
        assert [m.problem for m in messages if m.content is None] == []
        numbers = [int(np.asarray(m.content.data).view('<i2')[0]) for m in messages]
        if start_ns is None:
            assert bag.span_ns == tuple(
                n * 10**9 + 2_000_000 for n in (min(numbers), max(numbers))
            )
        return numbers, bag.notes


def metadata_of(parts, names, **changes):
    """Return one metadata.yaml for several files."""
    about = dict(parts[0]['rosbag2_bagfile_information'])
    count = sum(part['rosbag2_bagfile_information']['message_count'] for part in parts)
    about['relative_file_paths'] = list(names)
    about['message_count'] = count
    about['topics_with_message_count'][0]['message_count'] = count
    about |= changes
    return yaml.safe_dump({'rosbag2_bagfile_information': about})


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize(
    'name_of',
    [
        lambda k: f'talk_{k}',
        lambda k: f'{k}_talk_2026_05_01-10_{k:02d}_00',
        lambda k: f'talk_{"zyxwvutsrqponm"[k]}',
        lambda k: 'talk' if k == 0 else f'talk ({k})',
    ],
)
def test_split_bags_are_read_by_time_whatever_their_files_are_called(
    write, bags, tmp_path, storage, name_of
):
    ends = {'mcap': '.mcap', 'sqlite3': '.db3'}
    for k in range(13):
        write(tmp_path / 'bag' / (name_of(k) + ends[storage]), [2 * k, 2 * k + 1], storage)

    numbers, notes = told(tmp_path / 'bag', bags)

    assert numbers == list(range(N))
    assert notes == [NO_METADATA]
    assert told(tmp_path / 'bag', bags, start_ns=7 * 10**9)[0] == list(range(7, N))


def test_files_that_overlap_in_time_are_read_in_one_order(write, bags, tmp_path):
    order = list(range(N))
    random.Random(1).shuffle(order)
    for k in range(4):
        end = '.mcap' if k % 2 else '.db3'
        write(tmp_path / 'bag' / f'{k}{end}', order[k::4], 'mcap' if k % 2 else 'sqlite3')

    assert told(tmp_path / 'bag', bags)[0] == list(range(N))


def test_files_that_metadata_does_not_name_are_read_and_named(write, bags, tmp_path):
    parts = [
        write(tmp_path / 'bag' / f'talk_{k}.mcap', range(2 * k, 2 * k + 2)) for k in range(13)
    ]
    names = [f'talk_{k}.mcap' for k in range(12)]
    (tmp_path / 'bag' / 'metadata.yaml').write_text(metadata_of(parts[:12], names))

    numbers, notes = told(tmp_path / 'bag', bags)

    assert numbers == list(range(N))
    assert notes == [
        '1 files lie in the bag that metadata.yaml does not name: talk_12.mcap; they are read, too'
    ]


def test_files_that_are_missing_are_counted_and_named(write, bags, tmp_path):
    parts = [write(tmp_path / 'bag' / f'{k}.mcap', [k]) for k in range(3)]
    (tmp_path / 'bag' / 'metadata.yaml').write_text(
        metadata_of(parts, ['0.mcap', '1.mcap', '2.mcap'])
    )
    (tmp_path / 'bag' / '1.mcap').unlink()

    numbers, notes = told(tmp_path / 'bag', bags)

    assert numbers == [0, 2]
    assert notes == [
        'metadata.yaml names 3 files, 1 of them are not there: 1.mcap',
        'metadata.yaml counts 3 messages on /user/audio, 2 are there',
    ]


@pytest.mark.parametrize('folder', ['data', 'data/deeper'])
@pytest.mark.parametrize('named', ['{}', 'elsewhere/{}', '/recorded/on/another/robot/{}'])
def test_files_that_were_moved_are_found_by_their_names(write, bags, tmp_path, folder, named):
    parts = [write(tmp_path / 'bag' / folder / f'{k}.mcap', [k]) for k in range(3)]
    names = [named.format(f'{k}.mcap') for k in range(3)]
    (tmp_path / 'bag' / 'metadata.yaml').write_text(metadata_of(parts, names))

    assert told(tmp_path / 'bag', bags) == ([0, 1, 2], [])


def test_the_folder_around_a_bag_will_do_unless_it_holds_several(write, bags, tmp_path):
    write(tmp_path / 'all' / 'monday' / 'talk.mcap', [1, 2])

    numbers, notes = told(tmp_path / 'all', bags)

    assert numbers == [1, 2] and notes[-1] == "its files lie in the subfolder 'monday'"
    write(tmp_path / 'all' / 'tuesday' / 'talk.mcap', [3, 4])
    with pytest.raises(ValueError, match=r'got 2 in its subfolders \(monday, tuesday\); give the'):
        told(tmp_path / 'all', bags)


def test_a_bag_is_found_by_its_metadata_file(write, bags, tmp_path):
    part = write(tmp_path / 'bag' / 'x.mcap', [1])
    (tmp_path / 'bag' / 'metadata.yaml').write_text(metadata_of([part], ['x.mcap']))

    assert told(tmp_path / 'bag' / 'metadata.yaml', bags) == ([1], [])


@pytest.mark.parametrize(
    'changes',
    [
        {'offered_qos_profiles': []},
        {'offered_qos_profiles': 'no: [yaml'},
        {'offered_qos_profiles': [{'history': 'unheard_of'}]},
        {'type': 'std_msgs/msg/String'},
        {'serialization_format': ''},
        {'type_description_hash': 'RIHS01_00'},
    ],
)
def test_what_metadata_says_of_qos_and_types_does_not_matter(write, bags, tmp_path, changes):
    part = write(tmp_path / 'bag' / 'x.mcap', range(5))
    about = part['rosbag2_bagfile_information']['topics_with_message_count'][0]
    about['topic_metadata'] |= changes
    (tmp_path / 'bag' / 'metadata.yaml').write_text(metadata_of([part], ['x.mcap']))

    assert told(tmp_path / 'bag', bags) == (list(range(5)), [])


@pytest.mark.parametrize(
    'changes',
    [
        {'duration': {'nanoseconds': 0}},
        {'duration': {'nanoseconds': 2**62}, 'starting_time': {}},
        {'version': 99, 'storage_identifier': 'rosbag_v2'},
        {'compression_mode': 'FILE', 'compression_format': 'lz9'},
        {'message_count': 'many', 'files': 'none'},
    ],
)
def test_what_metadata_says_of_times_and_storage_does_not_matter(write, bags, tmp_path, changes):
    part = write(tmp_path / 'bag' / 'x.mcap', range(5))
    (tmp_path / 'bag' / 'metadata.yaml').write_text(metadata_of([part], ['x.mcap'], **changes))

    assert told(tmp_path / 'bag', bags) == (list(range(5)), [])


@pytest.mark.parametrize(
    'content',
    ['', 'hello', '- 1', 'rosbag2_bagfile_information: 3', '\t: {', '[' * 5000, 'x' * 1_100_000],
)
def test_a_metadata_file_that_is_none_costs_a_note_only(write, bags, tmp_path, content):
    write(tmp_path / 'bag' / 'x.mcap', range(5))
    (tmp_path / 'bag' / 'metadata.yaml').write_text(content)

    numbers, notes = told(tmp_path / 'bag', bags)

    assert numbers == list(range(5))
    assert len(notes) == 1 and 'metadata.yaml cannot be used (' in notes[0]


def test_messages_that_metadata_counts_and_no_file_holds_are_missed(write, bags, tmp_path):
    part = write(tmp_path / 'bag' / 'x.mcap', range(5))
    topics = part['rosbag2_bagfile_information']['topics_with_message_count']
    other = {**topics[0], 'message_count': 400}
    other['topic_metadata'] = {**topics[0]['topic_metadata'], 'name': '/agent/audio'}
    content = yaml.safe_load(metadata_of([part], ['x.mcap']))
    about = content['rosbag2_bagfile_information']['topics_with_message_count']
    about[0]['message_count'] = 9
    about.append(other)
    (tmp_path / 'bag' / 'metadata.yaml').write_text(yaml.safe_dump(content))

    numbers, notes = told(tmp_path / 'bag', bags)

    assert numbers == list(range(5))
    assert notes == [
        'metadata.yaml counts 400 messages on /agent/audio, its files hold none',
        'metadata.yaml counts 9 messages on /user/audio, 5 are there',
    ]


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('kept', ['packed', 'both', 'unpacked'])
@pytest.mark.parametrize('named', ['packed', 'unpacked', None])
def test_packed_files_are_read_also_half_unpacked(write, bags, tmp_path, storage, kept, named):
    end = '.mcap' if storage == 'mcap' else '.db3'
    parts = [write(tmp_path / 'bag' / f'{k}{end}', [2 * k, 2 * k + 1], storage) for k in range(3)]
    for k in (0, 1):
        plain = tmp_path / 'bag' / f'{k}{end}'
        packed = plain.with_name(plain.name + '.zstd')
        packed.write_bytes(zstd.compress(plain.read_bytes()))
        if kept == 'packed' or (k == 0 and kept == 'both'):
            plain.unlink()
        elif kept == 'unpacked':
            packed.unlink()
    if named:
        names = [f'{k}{end}' + '.zstd' * (named == 'packed') for k in range(3)]
        (tmp_path / 'bag' / 'metadata.yaml').write_text(metadata_of(parts, names))

    numbers, notes = told(tmp_path / 'bag', bags)

    assert numbers == list(range(6))
    copies = [note for note in notes if 'in two files' in note]
    assert copies == ['2 messages on /user/audio are in two files of the bag; used once'] * (
        kept == 'both'
    )
    assert len(notes) == len(copies) + (named is None)


def test_of_a_file_that_was_being_packed_when_the_power_failed_all_is_read(write, bags, tmp_path):
    write(tmp_path / 'bag' / 'x.mcap', range(N))
    packed = zstd.compress((tmp_path / 'bag' / 'x.mcap').read_bytes())
    (tmp_path / 'bag' / 'x.mcap.zstd').write_bytes(packed[: len(packed) // 2])

    numbers, notes = told(tmp_path / 'bag', bags)

    assert numbers == list(range(N))
    assert notes[1] == (
        'x.mcap.zstd cannot be read: nothing of it can be unpacked (it is cut off)'
    )


@pytest.mark.parametrize('name', ['talk.mcap.zstd', 'talk.zst', 'talk'])
def test_one_packed_file_is_read_whatever_it_is_called(write, bags, tmp_path, name):
    write(tmp_path / 'x.mcap', range(3))
    (tmp_path / name).write_bytes(zstd.compress((tmp_path / 'x.mcap').read_bytes()))

    assert told(tmp_path / name, bags) == ([0, 1, 2], [])


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
def test_messages_packed_one_by_one_are_read_without_metadata(bags, tmp_path, storage):
    with bags.Writer(tmp_path / 'bag', storage) as bag:
        pack, bag.write_raw = bag.write_raw, lambda topic, kind, ns, data: pack(
            topic, kind, ns, zstd.compress(data)
        )  # fmt: skip
        for i in range(5):
            bag.write_chunks(TOPIC, np.full(32, i, np.int16), begin_ns=i * 10**9)
    (tmp_path / 'bag' / 'metadata.yaml').unlink()

    assert told(tmp_path / 'bag', bags)[0] == list(range(5))


def test_a_file_that_unpacks_to_gigabytes_is_refused_in_time(bags, tmp_path):
    packer = zstd.ZstdCompressor()
    pieces = [packer.compress(bytes(1 << 20)) for _ in range(200)] + [packer.flush()]
    (tmp_path / 'x.mcap.zstd').write_bytes(b''.join(pieces))

    with pytest.raises(
        ValueError, match=r"unpacks to more than 300 times .* 'zstd -d x.mcap.zstd"
    ):
        told(tmp_path / 'x.mcap.zstd', bags)


def test_broken_files_of_a_split_bag_are_named_and_the_others_read(write, bags, tmp_path):
    write(tmp_path / 'bag' / '0.mcap', [0, 1])
    (tmp_path / 'bag' / '1.mcap').write_bytes(b'')
    (tmp_path / 'bag' / '2.mcap').write_bytes(b'hello, this is no bag')
    (tmp_path / 'bag' / '3.db3').write_bytes(b'SQLite format 3\0' + bytes(100))
    (tmp_path / 'bag' / '._0.mcap').write_bytes(b'\0\5\26\7')  # macOS leaves such beside a copy

    numbers, notes = told(tmp_path / 'bag', bags)

    assert numbers == [0, 1]
    assert notes[1] == '1.mcap cannot be read: it is empty'
    assert notes[2].startswith("2.mcap cannot be read: it begins with b'hello, t', expected mcap")
    assert notes[3].startswith('3.db3 cannot be read: it is a sqlite3 database without')
    assert len(notes) == 4


@pytest.mark.parametrize(
    ('name', 'content', 'message'),
    [
        ('x.mcap', b'#ROSBAG V2.0\n', 'it is a bag of ROS 1: .*rosbags-convert'),
        ('x.mcap', b'\x1f\x8b\x08', "packed with gzip: 'gunzip"),
        ('x.db3', b'version https://git-lfs.github.com/spec/v1', "Git LFS: 'git lfs pull"),
        ('x.mcap.lz4', b'\x04"M\x18', "unpack it: 'lz4 -d x.mcap.lz4"),
        ('x.mcap.zstd', b'hello', 'begins with b.hello., which is no zstd'),
    ],
)
@pytest.mark.parametrize('is_folder', [True, False])
def test_a_refusal_names_what_the_file_is_and_what_to_do(
    bags, tmp_path, name, content, message, is_folder
):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ValueError, match=message):
        told(tmp_path if is_folder else tmp_path / name, bags)


@pytest.mark.parametrize('is_checkpointed', [True, False])
@pytest.mark.parametrize('is_read_only', [True, False])
def test_messages_in_a_journal_are_read_and_nothing_is_written_beside_it(
    write, bags, tmp_path, is_checkpointed, is_read_only
):
    write(tmp_path / 'x.db3', range(3), 'sqlite3')
    write(tmp_path / 'y.db3', range(3, 6), 'sqlite3')
    folder = tmp_path / 'bag'
    folder.mkdir()
    with sqlite3.connect(tmp_path / 'x.db3') as database:
        database.execute('PRAGMA journal_mode=WAL')
        database.execute('PRAGMA wal_autocheckpoint=0')
        database.execute('ATTACH ? AS other', (str(tmp_path / 'y.db3'),))
        database.execute(
            'INSERT INTO messages (topic_id, timestamp, data) '
            'SELECT topic_id, timestamp, data FROM other.messages'
        )
        database.commit()
        if is_checkpointed:
            database.execute('PRAGMA wal_checkpoint(PASSIVE)')
        for end in ('', '-wal', '-shm'):
            shutil.copy(tmp_path / f'x.db3{end}', folder)
    if is_read_only:
        os.chmod(folder, 0o555)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}

    try:
        assert told(folder, bags)[0] == list(range(6))
        assert before == {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}
    finally:
        os.chmod(folder, 0o755)


def test_a_transaction_that_was_cut_short_is_undone_by_its_journal(write, bags, tmp_path):
    write(tmp_path / 'x.db3', range(3), 'sqlite3')
    folder = tmp_path / 'bag'
    folder.mkdir()
    with sqlite3.connect(tmp_path / 'x.db3', isolation_level=None) as database:
        database.execute('PRAGMA cache_size=1')
        database.execute('PRAGMA cache_spill=1')
        database.execute('BEGIN')
        database.execute('DELETE FROM messages')
        database.executemany(
            'INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)',
            [(i, bytes(3000)) for i in range(200)],
        )
        for end in ('', '-journal'):
            shutil.copy(tmp_path / f'x.db3{end}', folder)
        database.execute('ROLLBACK')

    assert told(folder, bags)[0] == [0, 1, 2]


def test_without_the_package_that_unpacks_a_sentence_names_it(write, bags, tmp_path, monkeypatch):
    write(tmp_path / 'x.mcap', range(3))
    (tmp_path / 'x.mcap.zstd').write_bytes(zstd.compress((tmp_path / 'x.mcap').read_bytes()))
    for name in ('backports', 'backports.zstd', 'compression', 'compression.zstd'):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ValueError, match="install a package: 'pip install backports.zstd'"):
        told(tmp_path / 'x.mcap.zstd', bags)
