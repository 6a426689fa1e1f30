# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Messages of an mcap file, record by record in the order of the file.

Responsible for the container: records, chunks and channels, without its index, up to the end of a
file that may be cut off. Not for the order in time over files, nor for decoding.

Source: https://mcap.dev/spec.
"""

from collections import Counter
import dataclasses
import pathlib
import struct
from typing import BinaryIO

from timar_ros.bounds import MAX_BAG_RECORD_BYTES
from timar_ros.stream.bag_mcap_records import (
    CHANNEL,
    CHUNK,
    CHUNK_INDEX,
    DESCRIBING,
    FOOTER,
    HEAD,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    MESSAGE_INDEX,
    SCHEMA,
    STATISTICS,
    Chunk,
    Fields,
    Plain,
    StretchReader,
    inner_records,
)
from timar_ros.stream.bag_storage import Channel, Storage, Stretch
from timar_ros.strict import quoted, shortened

# Messages outside of chunks are taken together up to so many bytes.
_STRETCH_BYTES = 1 << 22
# Chunks are looked through when the file is opened. In a large file those behind so many bytes
# are not, if their message indexes say what they hold.
_LOOKED_THROUGH = 1 << 28


@dataclasses.dataclass(frozen=True)
class _Definitions:
    """Schemas and channels by their number, as known at some place of the file."""

    schemas: dict[int, tuple[str, str, str]]  # name, encoding, text
    channels: dict[int, tuple[str, str, int]]  # topic, encoding, schema


def open_mcap(path: pathlib.Path, name: str) -> Storage:
    """
    Look through an mcap file.

    Args:
        path: the file.
        name: for notes.

    Raises:
        ValueError: it is no mcap file.
        OSError: it cannot be read.
    """
    with open(path, 'rb', buffering=1 << 20) as file:
        walk = _Walk(path, name, file)
        walk.walk()
    return walk.storage()


class _Walk:
    """One walk over the records of a file."""

    def __init__(self, path: pathlib.Path, name: str, file: BinaryIO):
        self._path, self._name, self._file = path, name, file
        self._size = path.stat().st_size
        self._definitions = _Definitions({}, {})
        # (begin, end, counts by channel number, reader, definitions)
        self._stretches: list[tuple[int, int, Counter, object, _Definitions]] = []
        self._run: _Run | None = None
        self._looked_through = 0
        self._statistics: int | None = None
        self._chunk_offsets: list[int] = []
        self._notes: list[str] = []

    def walk(self) -> None:
        """Take every record; behind a damage, the chunks that the index at the end names."""
        if self._read(0, 8) != MAGIC:
            raise ValueError(f'it begins with {quoted(self._read(0, 8))}, which is no mcap')
        broken = self._records(8)
        if broken is None:
            return
        self._end_run()
        position, why = broken
        n_before = len(self._stretches)
        if self._find_index():
            for offset in sorted(set(self._chunk_offsets)):
                if offset > position:
                    self._records(offset, is_one=True)
        found = len(self._stretches) - n_before
        rest = f'{found} chunks behind it were found by the index' if found else ''
        self._notes.append(
            f'{self._name} breaks off at byte {position:,} of {self._size:,} ({why}); '
            f'{rest or "what came before is used"}'
        )

    def storage(self) -> Storage:
        """Return what was found."""
        storage, unknown = Storage(self._name, notes=self._notes), Counter()
        known: dict[int, dict[int, Channel]] = {}
        for begin, end, numbers, content, definitions in self._stretches:
            channels = {number: _channel(definitions, number) for number in numbers}
            unknown.update({n: numbers[n] for n, channel in channels.items() if channel is None})
            counts: Counter = Counter()
            for number, channel in channels.items():
                if channel is not None:
                    counts[channel] += numbers[number]
            if counts:
                if id(definitions) not in known:
                    known[id(definitions)] = {
                        n: channel
                        for n in definitions.channels
                        if (channel := _channel(definitions, n)) is not None
                    }
                reader = StretchReader(content, known[id(definitions)])
                storage.stretches.append(Stretch(begin, end, counts, reader))
        n_found = sum(sum(numbers.values()) for _, _, numbers, _, _ in self._stretches)
        if self._statistics is not None and self._statistics > n_found:
            self._notes.append(
                f'{self._name} counts {self._statistics} messages, {n_found} are there'
            )
        if unknown:
            self._notes.append(
                f'{self._name}: {sum(unknown.values())} messages left out, of channels that it '
                f'does not describe: {shortened(", ".join(map(str, sorted(unknown))))}'
            )
        return storage

    def _read(self, position: int, n: int) -> bytes:
        self._file.seek(position)
        return self._file.read(n)

    def _records(self, position: int, is_one: bool = False) -> tuple[int, str] | None:
        """Take records from a place on; return where and why they break off, None at the end."""
        while position + 9 <= self._size:
            code, length = HEAD.unpack(self._read(position, 9))
            end = position + 9 + length
            if code == MESSAGE and end <= self._size:
                self._take_message(position, end)
            elif code == CHUNK:
                self._end_run()
                self._take_chunk(position, end)
            elif code == 0:
                return position, 'zeros follow'
            elif code == FOOTER and end <= self._size:
                self._end_run()
                if self._read(end + 8, 8) != MAGIC:
                    return None
                # another file was appended to this one
                self._definitions, end = _Definitions({}, {}), end + 16
            elif code in DESCRIBING and end <= self._size and length <= MAX_BAG_RECORD_BYTES:
                self._take(code, self._read(position + 9, length))
            if end > self._size:
                return (
                    position,
                    f'a record of {length:,} bytes, {self._size - position - 9:,} left',
                )
            if is_one:
                return None
            position = end
        self._end_run()
        return position, 'no end record'

    def _take(self, code: int, body: bytes) -> None:
        """Take a record with descriptions; a damaged one is ignored."""
        try:
            if code == SCHEMA:
                number, *texts = Fields(body).unpack('Hsss')
                schemas, schema = self._definitions.schemas, tuple(texts)
                if number in schemas and schemas[number] != schema:
                    # numbered anew, by a careless merge; what came before keeps its own
                    self._end_run()
                    schemas = dict(schemas)
                    self._definitions = _Definitions(schemas, dict(self._definitions.channels))
                schemas[number] = schema
            elif code == CHANNEL:
                number, schema_number, topic, encoding = Fields(body).unpack('HHss')
                channels, channel = self._definitions.channels, (topic, encoding, schema_number)
                if number in channels and channels[number] != channel:
                    self._end_run()
                    channels = dict(channels)
                    self._definitions = _Definitions(dict(self._definitions.schemas), channels)
                channels[number] = channel
            elif code == CHUNK_INDEX:
                self._chunk_offsets += struct.unpack_from('<Q', body, 16)
            elif code == STATISTICS:
                self._statistics = (self._statistics or 0) + struct.unpack_from('<Q', body)[0]
        except (struct.error, IndexError):
            self._notes.append(f'{self._name}: a damaged record of kind {code} is left out')

    def _take_message(self, position: int, end: int) -> None:
        head = self._read(position + 9, MESSAGE_HEAD.size)
        n = end - position - 9
        if not MESSAGE_HEAD.size <= n <= MAX_BAG_RECORD_BYTES:
            self._notes.append(
                f'{self._name}: a message of {n:,} bytes at byte {position:,} is left out'
            )
            self._end_run()
            return
        number, _, log_ns, _ = MESSAGE_HEAD.unpack(head)
        if self._run is None or end - self._run.begin > _STRETCH_BYTES:
            self._end_run()
            self._run = _Run(position)
        self._run.add(number, log_ns, end)

    def _end_run(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            content = Plain(self._path, run.begin, run.end)
            self._add(run.first_ns, run.last_ns, run.counts, content)

    def _add(self, first_ns: int, last_ns: int, counts: Counter, content) -> None:
        self._stretches.append((first_ns, last_ns, counts, content, self._definitions))

    def _take_chunk(self, position: int, end: int) -> None:
        content = Chunk(self._path, position, min(end, self._size))
        if self._looked_through > _LOOKED_THROUGH:
            counts = self._indexed(end)
            head = self._read(position + 9, 16)
            if counts and len(head) == 16 and set(counts) <= set(self._definitions.channels):
                self._add(*struct.unpack('<qq', head), counts, content)
                return
        data, problem = content.bytes()
        self._looked_through += len(data)
        run = _Run(0)
        for code, begin, stop in inner_records(data):
            if code in (SCHEMA, CHANNEL):
                self._take(code, data[begin:stop])
            elif code == MESSAGE and stop - begin >= MESSAGE_HEAD.size:
                number, _, log_ns, _ = MESSAGE_HEAD.unpack_from(data, begin)
                run.add(number, log_ns, 0)
        if run.counts:
            self._add(run.first_ns, run.last_ns, run.counts, content)
        if problem and end <= self._size:
            self._notes.append(
                f'{self._name}: the chunk at byte {position:,}: {problem}; '
                f'{sum(run.counts.values())} messages in it are used'
            )

    def _indexed(self, position: int) -> Counter:
        """Return what a chunk holds by the message indexes behind it."""
        counts: Counter = Counter()
        while position + 9 <= self._size:
            code, length = HEAD.unpack(self._read(position, 9))
            if code != MESSAGE_INDEX or length < 6:
                break
            number, n_bytes = struct.unpack('<HI', self._read(position + 9, 6))
            counts[number] += n_bytes // 16
            position += 9 + length
        return +counts

    def _find_index(self) -> bool:
        """Read the summary at the file's end, which a damage in the middle leaves in place."""
        tail = self._read(max(self._size - 37, 0), 37)
        if len(tail) < 37 or tail[-8:] != MAGIC or tail[0] != FOOTER:
            return False
        (begin,) = struct.unpack_from('<Q', tail, 9)
        position = begin
        while begin and position + 9 <= self._size:
            code, length = HEAD.unpack(self._read(position, 9))
            if code in (0, FOOTER, CHUNK) or length > MAX_BAG_RECORD_BYTES:
                break
            self._take(code, self._read(position + 9, length))
            position += 9 + length
        return bool(self._chunk_offsets)


class _Run:
    """Counts messages that follow each other."""

    def __init__(self, begin: int):
        self.begin = self.end = begin
        self.first_ns, self.last_ns = 2**63 - 1, -(2**63)
        self.counts: Counter = Counter()

    def add(self, number: int, log_ns: int, end: int) -> None:
        self.first_ns, self.last_ns = min(self.first_ns, log_ns), max(self.last_ns, log_ns)
        self.counts[number] += 1
        self.end = end


def _channel(definitions: _Definitions, number: int) -> Channel | None:
    if number not in definitions.channels:
        return None
    topic, encoding, schema = definitions.channels[number]
    msgtype, kind, text = definitions.schemas.get(schema, ('', '', ''))
    if msgtype.count('/') == 1:  # as ROS 1 writes types
        msgtype = msgtype.replace('/', '/msg/')
    is_ours = kind in ('ros2msg', 'ros2idl', 'omgidl')
    return Channel(topic, msgtype, encoding, kind, text if is_ours else '')
