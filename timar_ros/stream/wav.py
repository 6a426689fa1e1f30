# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Wav files as samples: any rate, channel count and type of sample.

Responsible for full scale and for what samples may be. Not for the layout of the file (`riff`),
nor for what a voice is: mono or not, at which rate.
"""

import pathlib

import numpy as np

from timar_ros.stream.riff import Layout, read_layout, read_samples


def read_pcm(path: pathlib.Path, notes: list[str] | None = None) -> tuple[np.ndarray, int]:
    """
    Read a wav and leave 16-bit samples as they are, to be sent on without loss.

    A file that was cut off in the middle is read as far as it goes.

    Args:
        path: the file.
        notes: gets a sentence about each part of the file that is not read.

    Returns:
        `[n, channels]`, n >= 1, int16 or else float32 in [-1, 1], and the rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no wav, holds no sound, or samples that are not finite; or its rate,
            channels or length are beyond `bounds`.
    """
    layout = _sounding(path)
    samples = read_samples(path, layout)
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == 'i' and samples.dtype != np.int16:
        samples = _of_full_scale_1(samples)
    elif samples.dtype.kind == 'f':
        with np.errstate(over='ignore'):  # becomes infinite, and is refused
            samples = samples.astype(np.float32, copy=False)
        if not np.isfinite(samples).all():
            raise ValueError(f'{path}: expected finite samples, got NaN or infinity; repair it')
    if notes is not None:
        notes.extend(layout.notes)
    return samples, layout.rate_hz


def read_wav(path: pathlib.Path, notes: list[str] | None = None) -> tuple[np.ndarray, int]:
    """
    Read a wav as numbers of one type, to be worked on.

    Args:
        path: the file.
        notes: gets a sentence about each part of the file that is not read.

    Returns:
        float32 `[n, channels]` in [-1, 1], n >= 1, and the rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `read_pcm`.
    """
    samples, rate_hz = read_pcm(path, notes)
    return samples if samples.dtype == np.float32 else _of_full_scale_1(samples), rate_hz


def read_duration_s(path: pathlib.Path, notes: list[str] | None = None) -> float:
    """
    Return how long a wav is, without reading its samples.

    Args:
        path: the file.
        notes: gets a sentence about each part of the file that is not read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no wav, holds no sound, or is beyond `bounds`.
    """
    layout = _sounding(path)
    if notes is not None:
        notes.extend(layout.notes)
    return layout.n_frames / layout.rate_hz


def _sounding(path: pathlib.Path) -> Layout:
    layout = read_layout(path)
    if not layout.n_frames:
        raise ValueError(f'{path}: expected sound, got 0 samples; record it again')
    return layout


def _of_full_scale_1(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
