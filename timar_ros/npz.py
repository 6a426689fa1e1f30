# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Arrays out of npz files: headers are checked before anything is allocated, nothing is unpickled.

Responsible for the container, sizes, and the kinds and shapes that a caller asks for. Not for what
the numbers mean.
"""

from collections.abc import Iterator
import io
import math
import os
import pathlib
import struct
import zipfile

import numpy as np

from timar_ros.bounds import MAX_ARRAYS_BYTES
from timar_ros.strict import quoted, shortened

_MOST_ARRAYS = 20_000
_LARGEST_DIRECTORY = 8_000_000  # bytes that list the arrays of a file
_LARGEST_HEADER = 10_000  # of one array, as in NumPy
_KINDS = 'biufUS'
_END = struct.Struct('<4s4H2IH')


class Arrays:
    """
    The arrays of one npz.

    Args:
        path: the file.
        what: what the file should be, for messages.
        largest: most bytes of all of its arrays.

    Attributes:
        path: as given.
        names: of its arrays, in the file's order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, holds anything but plain arrays, or too much.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        what: str = 'an npz of plain arrays',
        largest: int = MAX_ARRAYS_BYTES,
    ):
        self.path = pathlib.Path(path)
        self._what = what
        self._read: dict[str, np.ndarray] = {}
        self._entries: dict[str, zipfile.ZipInfo] = {}
        try:
            with open(self.path, 'rb') as file:
                self._check_directory(file)
            self._archive = self._open(largest)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ValueError(f'{path}: cannot be read: {error.strerror or error}') from None

    @property
    def names(self) -> list[str]:
        """Of its arrays, in the order of the file."""
        return list(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def get(self, name: str, default: np.ndarray) -> np.ndarray:
        """Return an array, or a default where there is none of the name."""
        if name not in self:
            return default
        return self[name]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._entries:
            self._refuse(f'without {quoted(name)}; it has {self._has()}')
        if name not in self._read:
            self._read[name] = self._load(name)
        return self._read[name]

    def require(self, *names: str) -> None:
        """
        Check that arrays are there.

        Raises:
            ValueError: one is missing; the message lists those missing and those there.
        """
        missing = [name for name in names if name not in self._entries]
        if missing:
            self._refuse(f'without {", ".join(missing)}; it has {self._has()}')

    def numbers(self, name: str, *shape: int | None, is_finite: bool = True) -> np.ndarray:
        """
        Return an array of real numbers, as float64 or float32 if it is that.

        Args:
            name: of the array.
            shape: of each axis; None = any length.
            is_finite: refuse NaN and infinity.

        Raises:
            ValueError: it is missing, of another kind or shape, or not finite.
        """
        array = self[name]
        expected = f'[{", ".join("n" if n is None else str(n) for n in shape)}]'
        if (
            array.dtype.kind not in 'iuf'
            or array.ndim != len(shape)
            or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True))
        ):
            raise ValueError(
                f'{self.path}: expected {name} as numbers {expected}, got {array.dtype} '
                f'{list(array.shape)}'
            )
        if array.dtype != np.float32:
            array = array.astype(np.float64)
        if is_finite and not np.isfinite(array).all():
            raise ValueError(f'{self.path}: expected finite {name}, got NaN or infinity')
        return array

    def number(self, name: str) -> float:
        """
        Return a single finite number.

        Raises:
            ValueError: it is missing, or no such number.
        """
        array = self[name]
        if array.size != 1 or array.dtype.kind not in 'iuf' or not math.isfinite(array.item()):
            raise ValueError(
                f'{self.path}: expected {name} as one finite number, got {_shown(array)}'
            )
        return float(array.item())

    def texts(self, name: str) -> list[str]:
        """
        Return a list of texts.

        Raises:
            ValueError: it is missing, or no list of texts.
        """
        array = self[name]
        if array.ndim != 1 or array.dtype.kind not in 'US':
            raise ValueError(
                f'{self.path}: expected {name} as a list of texts, got {_shown(array)}'
            )
        if array.dtype.kind == 'S':
            array = np.char.decode(array, 'utf-8', 'replace')
        return array.tolist()

    def text(self, name: str) -> str:
        """
        Return a single text.

        Raises:
            ValueError: it is missing, or no text.
        """
        array = self[name]
        if array.ndim != 0 or array.dtype.kind not in 'US':
            raise ValueError(f'{self.path}: expected {name} as a text, got {_shown(array)}')
        item = array.item()
        return item if isinstance(item, str) else item.decode('utf-8', 'replace')

    def _has(self) -> str:
        return shortened(', '.join(self._entries), 200) or 'nothing'

    def _refuse(self, got: str):
        raise ValueError(f'{self.path}: expected {self._what}, got a file {got}')

    def _unreadable(self, why: str):
        self._refuse(
            f'that cannot be read as one ({why}); write it again with numpy.savez, not pickled'
        )

    def _check_directory(self, file) -> None:
        """Refuse an archive whose list of contents alone would fill the memory."""
        size = file.seek(0, io.SEEK_END)
        file.seek(max(size - 65_557, 0))
        tail = file.read()
        at = tail.rfind(b'PK\5\6')
        if at < 0 or at + _END.size > len(tail):
            self._unreadable('it is no zip archive, or was cut off')
        _, _, _, _, count, n_bytes, _, _ = _END.unpack_from(tail, at)
        if count > _MOST_ARRAYS or n_bytes > _LARGEST_DIRECTORY:
            self._unreadable(f'it lists {count:,} arrays in {n_bytes:,} bytes')

    def _open(self, largest: int) -> zipfile.ZipFile:
        """Open the archive, which stays open as long as this object lives."""
        try:
            archive = zipfile.ZipFile(self.path)
            entries = archive.infolist()
        # NOTE: whatever the bytes break: BadZipFile, struct.error, NotImplementedError ...
        except Exception:
            self._unreadable('its list of arrays is damaged')
        total = 0
        for entry in entries:
            name = entry.filename
            total += entry.file_size
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                self._unreadable(f'{quoted(name)} is packed in a way that numpy does not write')
            if entry.flag_bits & 1:
                self._unreadable(f'{quoted(name)} is encrypted')
            if name.endswith('.npy'):
                self._entries[name.removesuffix('.npy')] = entry
        if total > largest:
            raise ValueError(
                f'{self.path}: expected {self._what} of at most {largest:,} bytes, got '
                f'{total:,} when unpacked; give the right file'
            )
        return archive

    def _load(self, name: str) -> np.ndarray:
        entry = self._entries[name]
        try:
            with self._archive.open(entry) as file:
                dtype, shape, is_fortran, n_header = _read_header(file)
                n_bytes = _size(dtype, shape)
                there = entry.file_size - n_header
                if n_bytes != there:
                    raise _HeaderError(f'its header counts {n_bytes:,} bytes, it has {there:,}')
                data = file.read(n_bytes)
            if len(data) != n_bytes:
                raise _HeaderError('it was cut off')
            return np.frombuffer(data, dtype).reshape(shape, order='F' if is_fortran else 'C')
        except _HeaderError as error:
            self._unreadable(f'array {quoted(name)}: {error}')
        # NOTE: as in `_list`
        except Exception:
            self._unreadable(f'array {quoted(name)} is damaged')


class _HeaderError(Exception):
    """An array's header is wrong; its text says how."""


def _read_header(file) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Read an array's header: dtype, shape, order, and how many bytes it takes itself."""
    begin = file.read(8)
    if begin[:6] != b'\x93NUMPY' or begin[6] not in (1, 2, 3):
        raise _HeaderError('it has no header of numpy')
    width, reader = {
        1: (2, np.lib.format.read_array_header_1_0),
        2: (4, np.lib.format.read_array_header_2_0),
        3: (4, np.lib.format.read_array_header_2_0),
    }[begin[6]]
    length = file.read(width)
    n = int.from_bytes(length, 'little')
    if n > _LARGEST_HEADER:
        raise _HeaderError(f'its header takes {n:,} bytes')
    shape, is_fortran, dtype = reader(io.BytesIO(length + file.read(n)))
    if dtype.hasobject or dtype.kind not in _KINDS:
        raise _HeaderError(
            'it holds Python objects, which could run code' if dtype.hasobject
            else f'it is of {shortened(str(dtype))}, expected numbers or texts'
        )  # fmt: skip
    return dtype, shape, is_fortran, 8 + width + n


def _size(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    if len(shape) > 32 or any(n < 0 for n in shape):
        raise _HeaderError(f'its shape is {quoted(shape)}')
    return math.prod(shape) * dtype.itemsize


def _shown(array: np.ndarray) -> str:
    if array.size == 1:
        return quoted(array.item())
    return f'{array.dtype} {list(array.shape)}'
