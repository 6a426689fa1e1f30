# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The header of a wav: byte order, names and sizes of its chunks, and what its fmt chunk holds.

Responsible for these bytes, wherever they come from: a file, or messages. Not for where samples
end, nor for which formats are accepted.
"""

import struct
from typing import NamedTuple

MAGIC = (b'RIFF', b'RIFX', b'RF64', b'BW64')
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
# Sizes from here on were not known to the writer, who put 2e9, 2^31 - 1 or 2^32 - 1 there.
PLACEHOLDER = 1_900_000_000
BODY_BYTES = 64  # of a chunk, that `HeaderChunks.take` looks at
_GUID_TAIL = bytes.fromhex('000000001000800000aa00389b71')
_LONGEST = 1_000_000  # bytes before the samples


class Format(NamedTuple):
    """
    What a fmt chunk holds.

    Attributes:
        codec: `PCM`, `FLOAT` or another; that of the subformat where the chunk is extensible.
        channels: interleaved.
        rate_hz: of each channel.
        align: bytes of a sample of all channels.
        bits: of a sample of one channel.
    """

    codec: int
    channels: int
    rate_hz: int
    align: int
    bits: int


class Header(NamedTuple):
    """
    The header of a wav up to its samples.

    Attributes:
        is_big_endian: of all its numbers and samples.
        format: None where no whole fmt chunk comes before the samples.
        begin: offset of the samples.
        size: bytes of samples; None where the writer did not know it.
        end: offset of the end of the wav by its own count, padding included; None: unknown.
    """

    is_big_endian: bool
    format: Format | None
    begin: int
    size: int | None
    end: int | None


class HeaderChunks:
    """
    The chunks of one wav.

    Args:
        begin: its first 12 bytes.

    Attributes:
        order: '<' or '>', of all numbers.
        format_body: the beginning of the first fmt chunk, once it was taken.
    """

    def __init__(self, begin: bytes):
        self.order = '>' if begin[:4] == b'RIFX' else '<'
        self.format_body: bytes | None = None
        self._riff_bytes = struct.unpack(f'{self.order}I', begin[4:8])[0]
        self._data_bytes: int | None = None  # of RF64

    def name_and_size(self, head: bytes) -> tuple[bytes, int]:
        """Read the first 8 bytes of a chunk."""
        return head[:4], struct.unpack(f'{self.order}I', head[4:8])[0]

    def take(self, name: bytes, body: bytes) -> None:
        """Keep what a chunk before the samples says of them; `body` are its first bytes."""
        if name == b'fmt ' and self.format_body is None:
            self.format_body = body
        elif name == b'ds64' and len(body) >= 16:
            self._riff_bytes, self._data_bytes = struct.unpack('<QQ', body[:16])

    def data_bytes(self, size: int) -> int:
        """Return the size of a data chunk: of RF64, where there are 64 bits for it."""
        return self._data_bytes if size == 0xFFFFFFFF and self._data_bytes else size

    def header(self, begin: int, size: int) -> Header:
        """Return the header that ends at a data chunk."""
        size = self.data_bytes(size)
        is_known = 0 < size < PLACEHOLDER
        return Header(
            is_big_endian=self.order == '>',
            format=read_format(self.format_body or b'', self.order),
            begin=begin,
            size=size if is_known else None,
            end=8 + self._riff_bytes if is_known and self._riff_bytes < PLACEHOLDER else None,
        )


def is_wave(begin: bytes) -> bool:
    """Return whether bytes begin as a wav does; False for fewer than 12."""
    return begin[:4] in MAGIC and begin[8:12] == b'WAVE'


def is_name(name: bytes) -> bool:
    """Return whether four bytes can be the name of a chunk."""
    return len(name) == 4 and all(0x20 <= value < 0x7F for value in name)


def read_format(body: bytes, order: str) -> Format | None:
    """Read a fmt chunk; None where it is too short."""
    if len(body) < 16:
        return None
    codec, channels, rate_hz, _, align, bits = struct.unpack(f'{order}HHIIHH', body[:16])
    if codec == EXTENSIBLE and body[26:40] == _GUID_TAIL:
        (codec,) = struct.unpack(f'{order}H', body[24:26])
    return Format(codec, channels, rate_hz, align, bits)


def read_header(data: bytes) -> Header | None:
    """
    Read the header of a wav from its first bytes.

    Returns:
        None where more bytes are needed.

    Raises:
        ValueError: there are no samples where its chunks lead; what was found instead.
    """
    chunks, position = HeaderChunks(data), 12
    while position + 8 <= len(data):
        name, size = chunks.name_and_size(data[position : position + 8])
        begin = position + 8
        if name == b'data':
            return chunks.header(begin, size)
        position = begin + size
        if not is_name(name) or position > _LONGEST:
            raise ValueError(f'a wav without a data chunk in its first {_LONGEST:,} bytes')
        chunks.take(name, data[begin : begin + min(size, BODY_BYTES)])
        # Chunks of an odd size are padded, by most writers.
        following = data[position : position + 4]
        if size % 2 and len(following) == 4 and not is_name(following):
            position += 1
        elif size % 2 and len(following) < 4:
            return None
    return None
