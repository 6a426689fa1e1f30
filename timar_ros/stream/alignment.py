# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where samples begin in PCM bytes that may have been cut in mid-sample.

Responsible for measuring, from the bytes alone, which of the possible beginnings is right. Not for
decoding, nor for what to do about it. PCM that is read from a wrong byte on is noise near full
scale, even if it was silent: the low byte of a sample takes the place of the high byte.
"""

import numpy as np

from timar_ros.bounds import MAX_SAMPLE

_LONGEST = 1_000_000  # bytes looked at
_TINIEST = 1e-7  # -140 dB
_FEWEST = 8  # frames
_CLEARLY = 1.3  # a beginning that changes less by this factor is the right one
# Where each byte is a sample, all beginnings are equally good, but for chance: within this factor,
# or 1 + this by the root of the number of frames, of at least so many.
_ALIKE, _CHANCE, _MANY = 1.1, 3.0, 50


def roughness(data: bytes, dtype: str, channels: int, start: int = 0) -> float:
    """
    Return the mean change from one sample to the next of PCM that is read from a byte on.

    Args:
        data: interleaved samples.
        dtype: of one sample, as NumPy names it: '<i2' or '<f4'.
        channels: interleaved.
        start: byte from which it is read.

    Returns:
        The mean of the absolute differences, full scale 1; 0 for fewer than two frames. A float
        that no recorder writes counts as a change from one bound to the other.
    """
    kind = np.dtype(dtype)
    n_frames = (min(len(data), _LONGEST) - start) // (kind.itemsize * channels)
    if n_frames < 2:
        return 0.0
    stored = np.frombuffer(data, kind, n_frames * channels, start).reshape(-1, channels)
    if kind.kind == 'i':
        return float(np.abs(np.diff(stored.astype(np.float32), axis=0)).mean()) / 2**15
    size = np.abs(stored)
    is_odd = ~((size == 0) | ((size > _TINIEST) & (size <= MAX_SAMPLE)))
    samples = np.where(is_odd, np.float32(0), stored)
    change = np.abs(np.diff(samples, axis=0)).mean()
    return float(change + 2 * MAX_SAMPLE * is_odd.mean())


def best_start(data: bytes, dtype: str, channels: int, expected: int = 0) -> int:
    """
    Return the byte at which the first whole sample begins.

    Args:
        data: interleaved samples, perhaps with the rest of a cut one before them.
        dtype: of one sample, as NumPy names it.
        channels: interleaved.
        expected: returned where no other beginning is clearly better, as in silence, and for a
            few samples, which prove nothing.
    """
    width = np.dtype(dtype).itemsize
    if len(data) < _FEWEST * width * channels:
        return expected
    found = [roughness(data, dtype, channels, start) for start in range(width)]
    best = int(np.argmin(found))
    return best if found[best] * _CLEARLY < found[expected % width] else expected


def is_cut(data: bytes, dtype: str, channels: int) -> bool | None:
    """
    Return whether bytes that are no whole samples were cut in mid-sample.

    Returns:
        True: one beginning gives a smoother signal than another; False: all are equally good, so
        they are something else, such as one byte of each sample; None: they are too few or too
        quiet for an answer.
    """
    width = np.dtype(dtype).itemsize
    found = [roughness(data, dtype, channels, start) for start in range(width)]
    n_frames = len(data) // (width * channels)
    if max(found) < 1e-3 or n_frames < _MANY:
        return None
    return min(found) * max(_ALIKE, 1 + _CHANCE / n_frames**0.5) < max(found)
