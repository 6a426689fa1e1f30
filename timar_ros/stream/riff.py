# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where in a wav its samples lie, and of which kind they are.

Responsible for chunks and headers: bits and channels decide the layout of samples, the file's own
length decides where it ends. Not for decoding the samples, which may not even be read here.
"""

import dataclasses
import pathlib
from typing import BinaryIO

import numpy as np

from timar_ros.bounds import MAX_CHANNELS, MAX_FILE_SAMPLES, SAMPLE_RATES_HZ
from timar_ros.stream.riff_header import (
    BODY_BYTES,
    EXTENSIBLE,
    FLOAT,
    MAGIC,
    PCM,
    PLACEHOLDER,
    HeaderChunks,
    is_name,
    is_wave,
    read_format,
)
from timar_ros.strict import quoted, why_no_file

_CODECS = {
    0x02: 'MS_ADPCM', 0x06: 'ALAW (G.711)', 0x07: 'MULAW (G.711)', 0x11: 'DVI_ADPCM (IMA)',
    0x16: 'G723_ADPCM', 0x31: 'GSM610', 0x40: 'G721_ADPCM', 0x50: 'MPEG', 0x55: 'MPEGLAYER3 (mp3)',
    0x64: 'G726_ADPCM', 0xFF: 'AAC', 0x160: 'WMA', 0x161: 'WMA', 0x2000: 'AC-3', 0xF1AC: 'FLAC',
}  # fmt: skip
# How a file begins that is called .wav and is none.
_OTHERS = {
    b'ID3': 'mp3', b'\xff\xfb': 'mp3', b'\xff\xf3': 'mp3', b'OggS': 'ogg', b'fLaC': 'flac',
    b'FORM': 'aiff', b'riff': 'w64', b'\x1aE\xdf\xa3': 'webm', b'.snd': 'au', b'caff': 'caf',
}  # fmt: skip
_MAX_CHUNKS = 10_000
_CONVERT = "convert it, e.g. 'ffmpeg -i IN -c:a pcm_s16le OUT.wav'"
_PIECE = 1 << 20  # bytes looked at together
_LARGEST_SEARCH = 2 * MAX_FILE_SAMPLES


@dataclasses.dataclass(frozen=True)
class Layout:
    """
    What is known of a wav before a sample is read.

    Attributes:
        rate_hz: of each channel.
        channels: interleaved.
        kind: 'i' integers (one byte: unsigned), 'f' floats.
        width: bytes of one sample.
        is_big_endian: of the samples.
        stretches: (offset, bytes) of what its data chunks hold, in the order of the file.
        notes: what of the file is not read, a sentence each.
    """

    rate_hz: int
    channels: int
    kind: str
    width: int
    is_big_endian: bool
    stretches: tuple[tuple[int, int], ...]
    notes: tuple[str, ...] = ()

    @property
    def n_frames(self) -> int:
        """Whole samples of every channel."""
        return sum(size for _, size in self.stretches) // (self.width * self.channels)


def read_layout(path: pathlib.Path) -> Layout:
    """
    Read the headers of a wav: RIFF, RIFX, RF64 or BW64, PCM or float, plain or extensible.

    Sizes that were not filled in (0, 2^32 - 1) and a file that was cut off are read as far as the
    file goes. Several data chunks, and wavs appended to each other, count as one sound.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no wav, of a codec, or its header is outside of what is accepted.
    """
    path = pathlib.Path(path)
    problem = why_no_file(path, 'recording', 'give the path of a wav file')
    if problem:
        raise FileNotFoundError(problem)
    try:
        with open(path, 'rb') as file:
            size = path.stat().st_size
            if not size:
                raise ValueError(f'{_expected(path)}an empty file; record it again')
            return _Walk(path, file, size).layout()
    except OSError as error:
        raise ValueError(f'{path}: cannot be read: {error.strerror or error}') from None


def _expected(path) -> str:
    return f'{path}: expected a PCM or float wav file, got '


class _Walk:
    """One walk over the chunks of a file."""

    def __init__(self, path: pathlib.Path, file: BinaryIO, size: int):
        self._path, self._file, self._size = path, file, size
        self._format: bytes | None = None
        self._stretches: list[tuple[int, int]] = []
        self._declared = 0
        self._rest = 0  # bytes after the last chunk
        self._misfit = ''  # where the chunks end too soon

    def layout(self) -> Layout:
        self._chunks(self._header(0))
        if self._format is None:
            self._refuse('it has no fmt chunk that says what its samples are')
        if not self._stretches:
            # A chunk before it has a wrong size.
            at = self._read(12, _PIECE).find(b'data')
            if at < 0 or at + 20 > self._size:
                self._refuse(self._misfit or 'it has no data chunk')
            self._rest = 0
            self._chunks(12 + at)
        return self._checked(self._format)

    def _chunks(self, position: int | None) -> None:
        for _ in range(_MAX_CHUNKS):
            if position is None or position + 8 > self._size:
                return
            position = self._chunk(position)
        self._refuse(f'it has more than {_MAX_CHUNKS} chunks')

    def _read(self, position: int, n: int) -> bytes:
        self._file.seek(position)
        return self._file.read(n)

    def _name_and_size(self, position: int) -> tuple[bytes, int]:
        return self._header_chunks.name_and_size(self._read(position, 8))

    def _refuse(self, why: str):
        raise ValueError(
            f'{_expected(self._path)}a file that cannot be read as one ({why}); {_CONVERT}'
        )

    def _header(self, position: int) -> int:
        begin = self._read(position, 12)
        magic, form = begin[:4], begin[8:]
        if not is_wave(begin):
            other = next((name for key, name in _OTHERS.items() if begin.startswith(key)), None)
            if magic in (b'RIFF', b'RIFX'):
                self._refuse(f'it is a RIFF file of {quoted(form)}')
            self._refuse(f'it is {other}' if other else f'it begins with {quoted(begin)}')
        self._header_chunks = HeaderChunks(begin)
        return position + 12

    def _chunk(self, position: int) -> int | None:
        """Take one chunk; return where the next one begins, None after the last."""
        name, size = self._name_and_size(position)
        if self._stretches and is_wave(self._read(position, 12)):
            return self._header(position)  # wavs appended to each other
        begin = position + 8
        if name == b'data':
            return self._take_data(begin, size)
        if not is_name(name) or begin + size > self._size:
            # Not a chunk: what follows the sound is no part of the wav.
            self._rest = self._size - position
            self._misfit = (
                f'no data chunk; at byte {position} {quoted(name)} counts {size} bytes, '
                f'{self._size - begin} are there'
            )
            return None
        body = self._read(begin, min(size, BODY_BYTES))
        if name == b'fmt ':
            if self._format is not None and self._format[:16] != body[:16]:
                self._refuse('it has two fmt chunks that disagree')
            self._format = self._format or body
        self._header_chunks.take(name, body)
        return self._after(begin + size, size)

    def _take_data(self, begin: int, size: int) -> int | None:
        there = self._size - begin
        size = self._header_chunks.data_bytes(size)
        is_unknown = size == 0 and not self._is_chunks(begin)
        if is_unknown or size > there:
            if not is_unknown and size < PLACEHOLDER:
                self._declared += size - there
            following = self._find_header(begin)
            if following is not None:
                self._stretches.append((begin, following - begin))
                return following
            size = there
        self._stretches.append((begin, size))
        return self._after(begin + size, size)

    def _find_header(self, begin: int) -> int | None:
        """Find the header of a wav that was appended to one whose size was not filled in."""
        if self._size - begin > _LARGEST_SEARCH:
            return None
        position = begin
        while position < self._size:
            at = self._read(position, _PIECE + 16).find(b'WAVEfmt ')
            if at >= 8 and self._read(position + at - 8, 4) in MAGIC:
                return position + at - 8
            position += _PIECE
        return None

    def _after(self, end: int, size: int) -> int:
        """Return where the next chunk begins: odd ones are padded, by most writers."""
        if size % 2 and not self._is_chunk(end):
            return end + 1
        return end

    def _is_chunk(self, position: int) -> bool:
        if position + 8 > self._size:
            return False
        name, size = self._name_and_size(position)
        return is_name(name) and (name == b'data' or position + 8 + size <= self._size)

    def _is_chunks(self, position: int) -> bool:
        """Return whether chunks, and nothing else, follow to the file's end."""
        for _ in range(_MAX_CHUNKS):
            if position + 8 > self._size:
                break
            if not self._is_chunk(position):
                return False
            name, size = self._name_and_size(position)
            if name == b'data':
                return True
            position = self._after(position + 8 + size, size)
        return True

    def _checked(self, body: bytes) -> Layout:
        order = self._header_chunks.order
        found = read_format(body, order)
        if found is None:
            self._refuse(f'its fmt chunk has {len(body)} bytes, expected 16 or more')
        codec, channels, rate_hz, align, bits = found
        if codec not in (PCM, FLOAT):
            name = _CODECS.get(codec, 'EXTENSIBLE' if codec == EXTENSIBLE else f'0x{codec:04x}')
            raise ValueError(
                f'{_expected(self._path)}a file that cannot be read as one (its samples are coded '
                f'as {name}); {_CONVERT}'
            )
        low, high = SAMPLE_RATES_HZ
        if not low <= rate_hz <= high:
            self._refuse_header(f'a sample rate of {low} to {high} Hz', rate_hz, channels, bits)
        if not 1 <= channels <= MAX_CHANNELS:
            self._refuse_header(f'1 to {MAX_CHANNELS} channels', channels, channels, bits)
        width = self._width(codec, bits, align, channels)
        layout = Layout(
            rate_hz, channels, 'f' if codec == FLOAT else 'i', width, order == '>',
            tuple(self._stretches), (),
        )  # fmt: skip
        if layout.n_frames * channels > MAX_FILE_SAMPLES:
            raise ValueError(
                f'{self._path}: expected at most {MAX_FILE_SAMPLES:,} samples, got '
                f"{layout.n_frames * channels:,}; use a part, e.g. 'ffmpeg -i IN -t 3600 OUT.wav'"
            )
        return dataclasses.replace(layout, notes=self._notes(layout))

    def _refuse_header(self, expected: str, got: int, channels: int, bits: int):
        begin = self._stretches[0][0] if self._stretches else 44
        kind = {8: 'u8', 24: 's24le', 32: 's32le'}.get(bits, 's16le')
        if channels > MAX_CHANNELS and self._stretches and got == channels <= 64:
            fix = "keep one, e.g. 'ffmpeg -i IN -af pan=mono|c0=c0 OUT.wav'"
        else:
            count = channels if 1 <= channels <= MAX_CHANNELS else 1
            fix = (
                f"its header is wrong; write it again with the true values, e.g. 'tail -c "
                f"+{begin + 1} IN | ffmpeg -f {kind} -ar 16000 -ac {count} -i - OUT.wav'"
            )
        raise ValueError(f'{self._path}: expected {expected}, got {got}; {fix}')

    def _width(self, codec: int, bits: int, align: int, channels: int) -> int:
        if codec == FLOAT:
            if bits not in (32, 64):
                self._refuse(f'floats of {bits} bits; expected 32 or 64')
            return bits // 8
        width = -(-bits // 8)
        if not bits and align and align % channels == 0:
            width = align // channels
        if width not in (1, 2, 3, 4, 8):
            self._refuse(f'integers of {bits} bits; expected 8 to 32, or 64')
        # 24 bits in 32: by the block, if what would be the lowest byte is empty throughout.
        if width == 3 and align == 4 * channels and self._are_low_bytes_empty():
            width = 4
        return width

    def _are_low_bytes_empty(self) -> bool:
        lowest = 3 if self._header_chunks.order == '>' else 0
        for begin, size in self._stretches:
            for share in (0.0, 0.5, 1.0):
                start = begin + int(share * max(size - _PIECE, 0)) // 4 * 4
                piece = self._read(start, min(_PIECE, begin + size - start) // 4 * 4)
                if any(piece[lowest::4]):
                    return False
        return True

    def _notes(self, layout: Layout) -> tuple[str, ...]:
        second = layout.rate_hz * layout.channels * layout.width
        notes = []
        if self._declared > second // 10:
            notes.append(
                f'{self._path.name}: cut off: its header counts '
                f'{layout.n_frames / layout.rate_hz + self._declared / second:.1f} s, '
                f'{layout.n_frames / layout.rate_hz:.1f} s are there'
            )
        if self._rest > second // 10:
            notes.append(
                f'{self._path.name}: {self._rest} bytes ({self._rest / second:.1f} s if they are '
                f'sound) follow the {layout.n_frames / layout.rate_hz:.1f} s that its header '
                "counts and are left out; to hear them: 'ffmpeg -ignore_length 1 -i IN OUT.wav'"
            )
        return tuple(notes)


def read_samples(path: pathlib.Path, layout: Layout) -> np.ndarray:
    """
    Read the samples that a layout describes, undecoded.

    Returns:
        `[n, channels]` of the file's integers or floats in this machine's byte order; integers
        of 24 bits are the upper bytes of 32.

    Raises:
        ValueError: the file cannot be read.
    """
    n = layout.n_frames * layout.channels
    order = '>' if layout.is_big_endian else '<'
    raw = np.empty(n * layout.width, np.uint8)
    try:
        with open(path, 'rb') as file:
            _fill(file, layout.stretches, raw)
    except OSError as error:
        raise ValueError(f'{path}: cannot be read: {error.strerror or error}') from None
    if layout.width == 3:
        wide = np.zeros((n, 4), np.uint8)
        wide[:, : 3 if layout.is_big_endian else None][:, -3:] = raw.reshape(n, 3)
        samples = wide.reshape(-1).view(f'{order}i4')
    elif layout.width == 1:
        samples = raw
    else:
        samples = raw.view(f'{order}{layout.kind}{layout.width}')
    return samples.astype(samples.dtype.newbyteorder('='), copy=False).reshape(-1, layout.channels)


def _fill(file: BinaryIO, stretches, raw: np.ndarray) -> None:
    view, done = memoryview(raw), 0
    for begin, size in stretches:
        file.seek(begin)
        take = min(size, len(view) - done)
        while take:
            n = file.readinto(view[done : done + take])
            if not n:
                raise OSError('the file became shorter while it was read')
            done, take = done + n, take - n
