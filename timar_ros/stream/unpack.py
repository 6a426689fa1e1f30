# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Compressed bytes, unpacked within bounds and as far as they go.

Responsible for zstd and lz4 in memory, and zstd from file to file. Not for what is inside.
"""

from collections.abc import Iterator
import pathlib
import sys

ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
_PIECE = 1 << 20
# A file that unpacks to more than this is no recording: silence packs to a hundredth.
_LARGEST_RATIO, _ALWAYS_ALLOWED = 300, 1 << 26


def _decompressor(kind: str):
    # rosbags, which decodes messages, brings both packages along.
    try:
        if kind == 'lz4':
            import lz4.frame

            return lz4.frame.LZ4FrameDecompressor()
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        return zstd.ZstdDecompressor()
    except ImportError:
        package = 'lz4' if kind == 'lz4' else 'backports.zstd'
        raise _BrokenError(f"to unpack it, install a package: 'pip install {package}'") from None


def unpack(data: bytes, kind: str, largest: int) -> tuple[bytes, str]:
    """
    Unpack bytes, as far as they go.

    Args:
        data: packed.
        kind: 'zstd' or 'lz4'.
        largest: most bytes to unpack to; what is beyond is left out.

    Returns:
        what came out, and what was wrong with it: '' for nothing.
    """
    pieces, done, problem = [], 0, ''
    try:
        for piece in _pieces([data], kind):
            pieces.append(piece[: largest - done])
            done += len(piece)
            if done > largest:
                problem = f'it unpacks to more than {largest:,} bytes'
                break
    except ValueError as error:
        problem = str(error)
    return b''.join(pieces), problem


def unpack_file(packed: pathlib.Path, out: pathlib.Path) -> str:
    """
    Unpack a zstd file into another, as far as it goes.

    Returns:
        what was wrong with it: '' for nothing.

    Raises:
        ValueError: nothing can be unpacked, or there is no space for it.
    """
    largest = _ALWAYS_ALLOWED + _LARGEST_RATIO * packed.stat().st_size
    done, problem = 0, ''
    try:
        with open(packed, 'rb') as file, open(out, 'wb') as target:
            try:
                for piece in _pieces(iter(lambda: file.read(_PIECE), b''), 'zstd'):
                    done += len(piece)
                    if done > largest:
                        raise ValueError(
                            f'it unpacks to more than {_LARGEST_RATIO} times its size; if it is a '
                            f"recording all the same, unpack it: 'zstd -d {packed.name}'"
                        )
                    target.write(piece)
            except _BrokenError as error:
                problem = str(error)
    except OSError as error:
        raise ValueError(
            f'it cannot be unpacked to {out.parent.parent} after {done:,} bytes '
            f'({error.strerror or error}); set TMPDIR to a folder with more space'
        ) from None
    if problem and not done:
        raise ValueError(f'nothing of it can be unpacked ({problem})')
    return problem


class _BrokenError(ValueError):
    """The packed data is damaged or ends too soon."""


def _pieces(source, kind: str) -> Iterator[bytes]:
    """Unpack one frame after the other, in pieces of bounded size."""
    decompressor, is_complete = _decompressor(kind), True
    for data in source:
        while data or not (is_complete or decompressor.needs_input):
            if decompressor.eof:
                decompressor = _decompressor(kind)
            try:
                piece = decompressor.decompress(data, max_length=_PIECE)
            # NOTE: each library has an exception of its own, lz4's is RuntimeError.
            except Exception as error:
                raise _BrokenError(f'damaged: {error}') from None
            is_complete = decompressor.eof
            data = decompressor.unused_data or b'' if is_complete else b''
            if piece:
                yield piece
            elif not is_complete and decompressor.needs_input:
                break
    if not is_complete:
        raise _BrokenError('it is cut off')
