# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Records of an mcap file: how they are laid out, and those inside of chunks.

Responsible for bytes. Not for which records a file has, nor for what channels mean.

Source: https://mcap.dev/spec.
"""

from collections.abc import Iterator
import dataclasses
import pathlib
import struct
import zlib

from timar_ros.bounds import MAX_BAG_RECORD_BYTES
from timar_ros.stream.bag_storage import Channel, Filed, Record
from timar_ros.stream.unpack import unpack
from timar_ros.strict import quoted

MAGIC = b'\x89MCAP0\r\n'
FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX, STATISTICS = (
    0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x0B,
)  # fmt: skip
DESCRIBING = (SCHEMA, CHANNEL, CHUNK_INDEX, STATISTICS)
HEAD = struct.Struct('<BQ')
MESSAGE_HEAD = struct.Struct('<HIqq')
CHUNK_HEAD = struct.Struct('<qqQI')


@dataclasses.dataclass(frozen=True)
class Plain:
    """Records as they lie in the file."""

    path: pathlib.Path
    begin: int
    end: int

    def bytes(self) -> tuple[bytes, str]:
        """Return the records, and what is wrong with them: nothing."""
        with open(self.path, 'rb') as file:
            file.seek(self.begin)
            return file.read(self.end - self.begin), ''


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Records in a chunk, compressed or not."""

    path: pathlib.Path
    begin: int
    end: int

    def bytes(self) -> tuple[bytes, str]:
        """Return the records, as far as they go, and what is wrong with them."""
        n = min(self.end - self.begin - 9, MAX_BAG_RECORD_BYTES)
        with open(self.path, 'rb') as file:
            file.seek(self.begin + 9)
            body = file.read(n)
        try:
            _, _, n_unpacked, checksum = CHUNK_HEAD.unpack_from(body)
            (length,) = struct.unpack_from('<I', body, 28)
            compression = body[32 : 32 + length].decode('ascii', 'replace')
            (n_packed,) = struct.unpack_from('<Q', body, 32 + length)
        except struct.error:
            return b'', 'its header is cut off'
        packed = body[40 + length :][:n_packed]
        problem = '' if len(packed) == n_packed else f'{len(packed):,} of {n_packed:,} bytes there'
        if compression in ('zstd', 'lz4'):
            largest = min(n_unpacked, MAX_BAG_RECORD_BYTES)
            data, damage = unpack(packed, compression, largest)
            problem = problem or damage
        elif compression:
            return b'', f'compressed as {quoted(compression)}, expected zstd, lz4 or nothing'
        else:
            data = packed
        if not problem and n_unpacked != len(data):
            problem = f'{len(data):,} of {n_unpacked:,} bytes there'
        if not problem and checksum and zlib.crc32(data) != checksum:
            problem = 'its checksum is wrong'
        return data, problem


@dataclasses.dataclass(frozen=True)
class StretchReader:
    """Reads the messages of one stretch in the order of time."""

    content: object
    channels: dict[int, Channel]

    def __call__(self, topics: set[str], filed: Filed) -> Iterator[Record]:
        """Read the messages of some topics."""
        wanted = {n: channel for n, channel in self.channels.items() if channel.topic in topics}
        data, _ = self.content.bytes()
        found: dict[Channel, list[Record]] = {}
        for code, begin, stop in inner_records(data):
            if code == MESSAGE and stop - begin >= MESSAGE_HEAD.size:
                number, _, log_ns, _ = MESSAGE_HEAD.unpack_from(data, begin)
                if number in wanted:
                    payload = data[begin + MESSAGE_HEAD.size : stop]
                    channel = wanted[number]
                    found.setdefault(channel, []).append((log_ns, begin, channel, payload))
        records = []
        for channel, each in found.items():
            times = filed.delivered(channel.topic, [record[0] for record in each])
            records += [(at, *record[1:]) for at, record in zip(times, each, strict=True)]
        return iter(sorted(records, key=lambda record: record[:2]))


def inner_records(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield code, begin and end of the content of each whole record."""
    position, size = 0, len(data)
    while position + 9 <= size:
        code, length = HEAD.unpack_from(data, position)
        position += 9
        if length > size - position or code == 0:
            return
        yield code, position, position + length
        position += length


class Fields:
    """Numbers and texts of a record, one after the other."""

    def __init__(self, body: bytes):
        self._body, self._position = body, 0

    def unpack(self, kinds: str) -> list:
        """Unpack: H a number of 2 bytes, s a text with its length before it."""
        return [self._number('H') if kind == 'H' else self._text() for kind in kinds]

    def _number(self, kind: str) -> int:
        (value,) = struct.unpack_from(f'<{kind}', self._body, self._position)
        self._position += struct.calcsize(f'<{kind}')
        return value

    def _text(self) -> str:
        begin = self._position + 4
        length = self._number('I')
        if begin + length > len(self._body):
            raise IndexError
        self._position = begin + length
        return self._body[begin : self._position].decode('utf-8', 'replace')
