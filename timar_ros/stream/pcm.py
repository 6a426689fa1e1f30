# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
PCM: interleaved samples as bytes, to float32 and back.

Responsible for encodings, and for bytes that are none. Not for messages. Sizes are checked before
anything is copied.
"""

import numbers
from typing import Any, NamedTuple

import numpy as np

from timar_ros.bounds import MAX_CHANNELS
from timar_ros.stream.alignment import is_cut
from timar_ros.strict import quoted


class Pcm(NamedTuple):
    """
    One way to write a sample: value = (stored - zero) / full_scale.

    Attributes:
        dtype: as it is decoded.
        zero: stored value of silence.
        full_scale: stored distance from silence to full scale.
        n_bytes: of a sample as it is stored.
    """

    dtype: str
    zero: float
    full_scale: float
    n_bytes: int


F32 = Pcm('<f4', 0, 1, 4)
F64 = Pcm('<f8', 0, 1, 8)
S32 = Pcm('<i4', 0, 2**31, 4)
S16 = Pcm('<i2', 0, 2**15, 2)
S8 = Pcm('<i1', 0, 2**7, 1)
U32 = Pcm('<u4', 2**31, 2**31, 4)
U16 = Pcm('<u2', 2**15, 2**15, 2)
U8 = Pcm('<u1', 2**7, 2**7, 1)
# 24 bits are decoded as the upper ones of 32.
S24_PACKED, U24_PACKED = S32._replace(n_bytes=3), U32._replace(n_bytes=3)
_PACKED = (S24_PACKED, U24_PACKED)

# encodings of AudioChunk, of GStreamer (ros-drivers AudioInfo) and of foxglove RawAudio
ENCODINGS = {
    'pcm_s16le': S16,
    'pcm_f32le': F32,
    'S16LE': S16,
    'S32LE': S32,
    'F32LE': F32,
    'S8': S8,
    'U8': U8,
    'pcm-s16': S16,
}
CHUNK_ENCODINGS = ('pcm_s16le', 'pcm_f32le')
# What an array of each element holds, where a message has numbers and not bytes.
_ARRAYS = {'h': S16, 'i': S32, 'l': S32, 'f': F32, 'd': F64, 'H': U16, 'I': U32, 'L': U32}

ONE_BYTE_FIX = (
    'the driver seems to send one byte of each 16-bit sample; '
    'let it publish both (numpy: samples.tobytes(), not a cast to uint8)'
)


def samples_from_pcm(data: Any, encoding: str, channels: int) -> np.ndarray:
    """
    Decode interleaved PCM bytes.

    Args:
        data: bytes, bytearray, array('B'), uint8 array, or a sequence of byte values; an array of
            wider numbers must hold those of the encoding.
        encoding: a name of `ENCODINGS`.
        channels: number of interleaved channels, 1 to 16.

    Returns:
        float32 `[n, channels]`, full scale 1.

    Raises:
        ValueError: the encoding is unknown or the bytes are not whole frames of it.
    """
    if encoding not in ENCODINGS:
        raise ValueError(
            f'encoding must be {one_of(ENCODINGS)}, got {quoted(encoding)}; '
            f'publish {CHUNK_ENCODINGS[0]}'
        )
    return decode(data, ENCODINGS[encoding], channels, encoding)


def pcm_from_samples(samples: np.ndarray, encoding: str) -> bytes:
    """
    Encode samples for `AudioChunk.data`; integers round to nearest and clip at full scale.

    Args:
        samples: `[n, channels]` or `[n]`, full scale 1.
        encoding: 'pcm_s16le' or 'pcm_f32le'.

    Returns:
        Interleaved little-endian bytes.

    Raises:
        ValueError: the encoding is not one of AudioChunk's.
    """
    if encoding not in CHUNK_ENCODINGS:
        raise ValueError(f'encoding must be {one_of(CHUNK_ENCODINGS)}, got {quoted(encoding)}')
    samples = np.asarray(samples)
    if encoding == 'pcm_f32le':
        return samples.astype('<f4').tobytes()
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype('<i2').tobytes()


def decode(data: Any, pcm: Pcm, channels: int, name: str, is_padded: bool = False) -> np.ndarray:
    """
    Decode interleaved samples.

    Args:
        data: as of `samples_from_pcm`.
        pcm: how a sample is stored.
        channels: interleaved.
        name: of that, for errors.
        is_padded: samples have 24 bits, in the lower bytes of 32.

    Returns:
        float32 `[n, channels]`, full scale 1; may hold NaN and infinity.

    Raises:
        ValueError: the bytes are not whole frames, or no bytes.
    """
    check_channels(channels)
    stored_bytes = _as_bytes(data, pcm, name)
    frame_bytes = channels * pcm.n_bytes
    if len(stored_bytes) % frame_bytes:
        hint = f'; {_cut_or_one_byte(stored_bytes, pcm, channels)}' if pcm.n_bytes > 1 else ''
        raise ValueError(
            f'data must be whole frames of {frame_bytes} bytes ({channels} channels of {name}), '
            f'got {len(stored_bytes)} bytes{hint}'
        )
    if pcm in _PACKED:
        wide = np.zeros((len(stored_bytes) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(stored_bytes, np.uint8).reshape(-1, 3)
        stored_bytes = wide.tobytes()
    stored = np.frombuffer(stored_bytes, dtype=pcm.dtype)
    if is_padded:
        stored = (stored.view('<u4') << np.uint32(8)).view(pcm.dtype)
    with np.errstate(over='ignore', invalid='ignore'):
        samples = stored.reshape(-1, channels).astype(np.float32)
    if pcm.zero:
        samples -= np.float32(pcm.zero)
    if pcm.full_scale != 1:
        samples *= np.float32(1 / pcm.full_scale)
    return samples


def check_channels(channels: int) -> None:
    """
    Check a number of channels.

    Raises:
        ValueError: it is no such number, or too large.
    """
    if channels < 1:
        raise ValueError(
            f'channels must be at least 1, got {quoted(channels)}; fill in the number of channels'
        )
    if channels > MAX_CHANNELS:
        raise ValueError(
            f'channels must be at most {MAX_CHANNELS}, got {quoted(channels)}; publish fewer'
        )


def size_of(data: Any) -> int:
    """
    Return how many bytes a field of a message holds, without copying it.

    Raises:
        ValueError: it is no sequence of bytes or numbers.
    """
    if isinstance(data, str):
        raise ValueError(f'data must be bytes, got text of {len(data)} characters')
    if isinstance(data, list | tuple):
        if data and not isinstance(data[0], numbers.Integral):
            raise ValueError(
                f'data must be bytes, got a list of {type(data[0]).__name__}, as of a '
                'ByteMultiArray; publish a UInt8MultiArray'
            )
        return len(data)
    try:
        return memoryview(data).nbytes
    except TypeError:
        raise ValueError(f'data must be bytes, got one {type(data).__name__}') from None


def one_of(names: Any) -> str:
    """Return names for an error, quoted."""
    return ', '.join(repr(name) for name in names)


def _as_bytes(data: Any, pcm: Pcm, name: str) -> bytes:
    size_of(data)
    if isinstance(data, list | tuple):
        try:
            return bytes(data)
        except (ValueError, TypeError):
            raise ValueError('data must be bytes, got a list of other values') from None
    view = memoryview(data)
    if view.itemsize > 1:
        kind = view.format.lstrip('<=@')
        if _ARRAYS.get(kind) != pcm:
            raise ValueError(
                f'data must be bytes or samples of {name}, got an array of '
                f'{_name_of(kind, view.itemsize)}; state the format that it has'
            )
    return view.tobytes()


def _cut_or_one_byte(data: bytes, pcm: Pcm, channels: int) -> str:
    """Return why bytes are no whole samples, as far as they show it."""
    cut_fix = (
        'they were cut in mid-sample: put the last bytes before those of the next message, and '
        'publish whole samples'
    )
    if pcm not in (S16, F32):
        return cut_fix
    cut = is_cut(data, pcm.dtype, channels)
    if cut is None:  # too few or too quiet to see it
        return f'either {cut_fix}; or {ONE_BYTE_FIX}'
    return cut_fix if cut else ONE_BYTE_FIX


def _name_of(kind: str, width: int) -> str:
    name = {'f': 'float', 'd': 'float'}.get(kind, 'int' if kind.islower() else 'uint')
    return f'{name}{8 * width}'
