# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Messages of a sqlite3 file (.db3), those of its journals included.

Responsible for the database: it is never written to, nor is anything beside it. Not for the order
in time over files, nor for decoding.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
import contextlib
import dataclasses
import os
import pathlib
import shutil
import sqlite3

import numpy as np

from timar_ros.bounds import MAX_BAG_RECORD_BYTES
from timar_ros.stream.bag_storage import Channel, Filed, Record, Storage, Stretch
from timar_ros.strict import quoted, shortened

MAGIC = b'SQLite format 3\0'
_JOURNALS = ('-wal', '-journal')
# A search for rows behind a damaged page leaps by one row more each time, then twice as far.
_SMALL_LEAPS, _LEAPS = 64, 100


def open_sqlite(path: pathlib.Path, name: str, scratch: pathlib.Path) -> Storage:
    """
    Look through a sqlite3 file.

    Args:
        path: the file.
        name: for notes.
        scratch: an empty folder; a file with a journal is copied there, to be merged with it.

    Raises:
        ValueError: it is no such file, or there is no space to copy it.
        OSError: it cannot be read.
    """
    with open(path, 'rb') as file:
        begin = file.read(16)
    if begin != MAGIC:
        raise ValueError(f'it begins with {quoted(begin)}, which is no sqlite3')
    path = _as_it_should_be(path, scratch)
    storage = Storage(name)
    try:
        with contextlib.closing(_connect(path)) as database:
            channels = _channels(database)
            rows = _rows(database, channels, storage)
    except sqlite3.Error as error:
        raise ValueError(f'it is no readable sqlite3: {error}') from None
    if rows:
        ids, stamps, topics = rows
        numbers, counts = np.unique(topics, return_counts=True)
        known = Counter()
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            known[channels[number]] += count
        reader = _Reader(path, ids, stamps, topics, channels)
        storage.stretches.append(Stretch(int(stamps.min()), int(stamps.max()), known, reader))
    return storage


def _as_it_should_be(path: pathlib.Path, scratch: pathlib.Path) -> pathlib.Path:
    """
    Return the file, or a copy where it cannot be read as it lies there.

    A journal beside it holds messages that are not in it yet, or undoes some that are there too
    early. A last page that was cut would be read with zeros for what is missing.
    """
    beside = [path.with_name(path.name + end) for end in _JOURNALS]
    beside = [journal for journal in beside if journal.is_file() and journal.stat().st_size]
    n_bytes = path.stat().st_size
    page = _page_size(path)
    if not beside and n_bytes % page == 0:
        return path
    needed = sum(file.stat().st_size for file in (path, *beside))
    free = shutil.disk_usage(scratch).free
    if needed > free:
        why = f'{beside[0].name} beside it holds messages' if beside else 'it was cut off'
        raise ValueError(
            f'{why}; to read it {needed / 1e9:.1f} GB are needed in {scratch.parent.parent}, '
            f'{free / 1e9:.1f} are free; set TMPDIR to a folder with more space'
        )
    copy = scratch / 'copy.db3'
    for file in (path, *beside):
        shutil.copyfile(file, copy.with_name(copy.name + file.name.removeprefix(path.name)))
    if beside:
        database = sqlite3.connect(copy)
        with contextlib.closing(database), contextlib.suppress(sqlite3.Error):
            database.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()  # reading merges, too
    else:
        os.truncate(copy, n_bytes // page * page)
    return copy


def _page_size(path: pathlib.Path) -> int:
    with open(path, 'rb') as file:
        head = file.read(18)
    size = int.from_bytes(head[16:18], 'big')
    return size if size >= 512 else 65536


def _connect(path: pathlib.Path) -> sqlite3.Connection:
    # Immutable: nothing is written beside the file, and its folder may be read-only.
    database = sqlite3.connect(
        f'{path.absolute().as_uri()}?mode=ro&immutable=1', uri=True, check_same_thread=False
    )
    database.text_factory = lambda text: text.decode('utf-8', 'replace')
    database.execute('PRAGMA trusted_schema=OFF')
    database.execute('PRAGMA writable_schema=ON')  # else nothing of a file that was cut is read
    return database


def _columns(database: sqlite3.Connection, table: str) -> set[str]:
    # A view could hold an endless query.
    found = database.execute(
        "SELECT count(*) FROM sqlite_master WHERE type='table' AND name=?", (table,)
    ).fetchone()
    if not found[0]:
        return set()
    return {row[1] for row in database.execute(f'PRAGMA table_info({table})')}


def _channels(database: sqlite3.Connection) -> dict[int, Channel]:
    missing = [
        table
        for table, needed in (
            ('topics', {'id', 'name', 'type', 'serialization_format'}),
            ('messages', {'topic_id', 'timestamp', 'data'}),
        )
        if not needed <= _columns(database, table)
    ]
    if missing:
        raise ValueError(f'it is a sqlite3 database without the table {" and ".join(missing)}')
    definitions: dict[str, tuple[str, str]] = {}
    if {'topic_type', 'encoding', 'encoded_message_definition'} <= _columns(
        database, 'message_definitions'
    ):
        with contextlib.suppress(sqlite3.Error):  # damaged: ours are used
            for msgtype, kind, text in database.execute(
                'SELECT topic_type, encoding, encoded_message_definition FROM message_definitions '
                'ORDER BY rowid DESC'
            ):
                definitions[str(msgtype)] = str(kind or ''), str(text or '')
    return {
        int(number): Channel(
            str(name), str(msgtype), str(encoding or 'cdr'), *definitions.get(msgtype, ('', ''))
        )
        for number, name, msgtype, encoding in database.execute(
            'SELECT id, name, type, serialization_format FROM topics'
        )
        if isinstance(number, int)
    }


def _rows(database: sqlite3.Connection, channels: dict[int, Channel], storage: Storage):
    """Return row, time and topic of all messages that can be read; pages may be damaged."""
    ids, stamps, topics = array('q'), array('q'), array('q')
    unknown, damages, last, leap = 0, [], -(2**62), 0
    while leap < _LEAPS:
        ahead = leap if leap <= _SMALL_LEAPS else _SMALL_LEAPS << (leap - _SMALL_LEAPS)
        try:
            # By rows, not by the index of times, which may be damaged or leave some out.
            for row, number, stamp in database.execute(
                'SELECT rowid, topic_id, timestamp FROM messages NOT INDEXED WHERE rowid > ? '
                'ORDER BY rowid',
                (last + ahead,),
            ):
                if row <= last:
                    raise sqlite3.DatabaseError('its rows are in disorder')
                leap, last = 0, row
                if number in channels and isinstance(stamp, int):
                    ids.append(row)
                    stamps.append(stamp)
                    topics.append(number)
                else:
                    unknown += 1
            break
        except sqlite3.DatabaseError as error:
            if not leap:
                damages.append((len(ids), str(error)))
            leap, last = leap + 1, max(last, 0)
    if damages:
        n, why = damages[0]
        rest = f'{len(ids) - n} behind it are used' if len(ids) > n else 'what came before is used'
        storage.notes.append(
            f'{storage.name} breaks off after {n} messages ({shortened(why)}); {rest}; '
            f"'sqlite3 {storage.name} .recover | sqlite3 NEW.db3' may find more"
        )
    if unknown:
        storage.notes.append(
            f'{storage.name}: {unknown} messages left out, of no topic or without a time'
        )
    return (np.array(ids), np.array(stamps), np.array(topics)) if ids else None


@dataclasses.dataclass(frozen=True)
class _Reader:
    """Reads the messages of one file in the order of time."""

    path: pathlib.Path
    ids: np.ndarray
    stamps: np.ndarray
    topics: np.ndarray
    channels: dict[int, Channel]

    def __call__(self, topics: set[str], filed: Filed) -> Iterator[Record]:
        numbers = [n for n, channel in self.channels.items() if channel.topic in topics]
        rows = np.flatnonzero(np.isin(self.topics, numbers))
        stamps = self.stamps.copy()
        for number in numbers:
            of_topic = rows[self.topics[rows] == number]
            topic = self.channels[number].topic
            stamps[of_topic] = filed.delivered(topic, stamps[of_topic].tolist())
        rows = rows[np.lexsort((self.ids[rows], stamps[rows]))]
        with contextlib.closing(_connect(self.path)) as database:
            for row in rows.tolist():
                data = _data(database, int(self.ids[row]))
                channel = self.channels[int(self.topics[row])]
                yield int(stamps[row]), int(self.ids[row]), channel, data


def _data(database: sqlite3.Connection, row: int) -> bytes | None:
    """Return a message; None where its page is damaged, or it is too large."""
    try:
        found = database.execute(
            'SELECT CASE WHEN length(data) <= ? THEN data END FROM messages WHERE rowid = ?',
            (MAX_BAG_RECORD_BYTES, row),
        ).fetchone()
    except sqlite3.Error:
        return None
    return found[0] if found and isinstance(found[0], bytes) else None
