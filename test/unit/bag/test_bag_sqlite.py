# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Sqlite3 files: damaged pages cost their messages only, and nothing in the file is executed."""

import pathlib
import shutil
import sqlite3

import numpy as np
import pytest

from timar_ros.stream.bag import Bag

TOPIC = '/user/audio'
N = 200


@pytest.fixture
def write(bags, tmp_path):
    """Return a writer of one .db3 file: messages of a second each, of so many samples."""

    def write(path, n_samples=200, order=range(N)):
        folder = tmp_path / 'made'
        with bags.Writer(folder, 'sqlite3') as bag:
            for i in order:
                kind = 'timar_ros/msg/AudioChunk'
                samples = np.random.default_rng(i).integers(1, 9000, n_samples).astype(np.int16)
                samples[0] = i
                bag.write(
                    TOPIC, kind, i * 10**9, header=bag.header(i * 10**9), sample_rate=16000,
                    channels=1, encoding='pcm_s16le', first_sample=0, sent=bag.time(0),
                    data=np.frombuffer(samples.tobytes(), np.uint8),
                )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(next(folder.glob('*.db3')), path)
        shutil.rmtree(folder)
        return path

    return write


def read(path, bags, n_samples=200):
    """Return the numbers of the messages that are whole, the problems of others, and notes."""
    numbers, problems = [], []
    with Bag(path, bags.definitions) as bag:
        for message in bag.messages({TOPIC}):
            if message.content is None:
                problems.append(message.problem)
                continue
            samples = np.asarray(message.content.data).view('<i2')
            i = int(samples[0])
            expected = np.random.default_rng(i).integers(1, 9000, n_samples).astype(np.int16)
            np.testing.assert_array_equal(samples[1:], expected[1:])
            numbers.append(i)
        return numbers, problems, bag.notes


def pages(path):
    content = path.read_bytes()
    return content, int.from_bytes(content[16:18], 'big')


def execute(path, *statements):
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement)
    database.close()


@pytest.mark.parametrize('name', ['a#b.db3', 'what?.db3', '100%.db3', 'ü & ö.db3', 'x.sqlite'])
def test_any_file_name_will_do(write, bags, tmp_path, name):
    path = write(tmp_path / 'folder of #1?' / name)

    assert read(path, bags) == (list(range(N)), [], [])


def test_messages_that_were_written_in_disorder_are_read_in_order_of_time(write, bags, tmp_path):
    order = np.random.default_rng(1).permutation(N).tolist()

    assert read(write(tmp_path / 'x.db3', order=order), bags)[0] == list(range(N))


def test_an_index_of_times_that_omits_messages_is_not_believed(write, bags, tmp_path):
    path = write(tmp_path / 'x.db3')
    execute(
        path,
        'PRAGMA writable_schema=ON',
        "UPDATE sqlite_master SET sql='CREATE INDEX timestamp_idx ON messages (timestamp) WHERE "
        "timestamp < 9' WHERE name='timestamp_idx'",
    )

    assert read(path, bags)[0] == list(range(N))


@pytest.mark.parametrize('n_samples', [200, 900, 4000])
@pytest.mark.parametrize('fill', [0, 0xFF, 0x55])
def test_a_page_that_is_damaged_costs_its_own_messages_only(
    write, bags, tmp_path, n_samples, fill
):
    content, size = pages(write(tmp_path / 'x.db3', n_samples))
    last, n_most = len(content) // size, 0
    for page in range(last // 2, last // 2 + 6):
        broken = bytearray(content)
        broken[page * size : (page + 1) * size] = bytes([fill]) * size
        (tmp_path / 'y.db3').write_bytes(broken)
        try:
            numbers, problems, notes = read(tmp_path / 'y.db3', bags, n_samples)
        except AssertionError:
            # in the middle of a long message, which has no checksum
            assert n_samples > 2000
            continue
        assert numbers == sorted(numbers)
        assert len(numbers) + len(problems) == N or 'breaks off after' in notes[0]
        n_most = max(n_most, len(numbers))
        assert len(numbers) > N // 2
    assert n_most < N or n_samples > 2000


@pytest.mark.parametrize('n_samples', [200, 4000])
def test_of_a_file_cut_between_pages_whole_messages_are_read(write, bags, tmp_path, n_samples):
    content, size = pages(write(tmp_path / 'x.db3', n_samples))
    n_pages = len(content) // size
    for kept in range(n_pages // 2, n_pages, max(n_pages // 20, 1)):
        (tmp_path / 'y.db3').write_bytes(content[: kept * size])
        numbers, problems, notes = read(tmp_path / 'y.db3', bags, n_samples)  # compares samples
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > N * (kept - 16) // n_pages
        assert notes or problems or len(numbers) == N


@pytest.mark.parametrize(
    'statement',
    [
        'CREATE VIEW messages AS WITH RECURSIVE c(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM c)'
        " SELECT id, 1 AS topic_id, id AS timestamp, x'00' AS data FROM c",
        'CREATE TABLE messages (id INTEGER PRIMARY KEY, text)',
        'CREATE TABLE other (id)',
    ],
)
def test_what_is_no_table_of_messages_is_refused(write, bags, tmp_path, statement):
    path = write(tmp_path / 'x.db3')
    execute(path, 'DROP TABLE messages', statement)

    with pytest.raises(ValueError, match='sqlite3 database without the table messages'):
        read(path, bags)


@pytest.mark.parametrize(
    ('values', 'note'),
    [
        ("99, 5, x'00'", '1 messages left out, of no topic or without a time'),
        ("1, NULL, x'00'", '1 messages left out, of no topic or without a time'),
        ("1, 'soon', x'00'", '1 messages left out, of no topic or without a time'),
    ],
)
def test_rows_that_are_no_messages_are_counted(write, bags, tmp_path, values, note):
    path = write(tmp_path / 'x.db3')
    execute(
        path,
        'CREATE TABLE m (id INTEGER PRIMARY KEY, topic_id, timestamp, data)',
        'INSERT INTO m SELECT * FROM messages',
        'DROP TABLE messages',
        'ALTER TABLE m RENAME TO messages',
        f'INSERT INTO messages (topic_id, timestamp, data) VALUES ({values})',
    )

    numbers, _, notes = read(path, bags)

    assert numbers == list(range(N)) and note in notes[0]


@pytest.mark.parametrize('data', ["'text'", '7', 'NULL', 'zeroblob(300000000)'])
def test_a_message_that_is_none_or_too_large_is_left_out(write, bags, tmp_path, data):
    path = write(tmp_path / 'x.db3')
    execute(
        path,
        'CREATE TABLE m (id INTEGER PRIMARY KEY, topic_id, timestamp, data)',
        'INSERT INTO m SELECT * FROM messages',
        'DROP TABLE messages',
        'ALTER TABLE m RENAME TO messages',
        f'INSERT INTO messages (topic_id, timestamp, data) VALUES (1, 1, {data})',
    )

    numbers, problems, _ = read(path, bags)

    assert numbers == list(range(N))
    assert problems == ['cannot be read: the file is damaged there']


def test_a_bag_in_the_write_ahead_mode_without_its_journal_is_read(write, bags, tmp_path):
    path = write(tmp_path / 'x.db3')
    execute(path, 'PRAGMA journal_mode=WAL')
    for end in ('-wal', '-shm'):
        pathlib.Path(f'{path}{end}').unlink(missing_ok=True)

    assert read(path, bags) == (list(range(N)), [], [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ['x.db3']
