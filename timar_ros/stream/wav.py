# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Wav files as samples: any rate, channel count and type of sample.

Knows what can be wrong with such a file and says so. What a voice is, mono or not, at which rate,
is for who reads it.
"""

import contextlib
import pathlib
import warnings

import numpy as np
import scipy.io.wavfile


def read_pcm(path: pathlib.Path) -> tuple[np.ndarray, int]:
    """
    Read a wav and leave 16-bit samples as they are, to be sent on without loss.

    A file that was cut off in the middle is read as far as it goes.

    Returns:
        `[n, channels]`, n >= 1, int16 or else float32 in [-1, 1], and the rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no wav, holds no sound, or samples that are not finite.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'no recording at {path}; give the path of a wav file')
    if not path.stat().st_size:
        raise ValueError(
            f'{path}: expected a PCM or float wav file, got an empty file; record it again'
        )
    try:
        rate_hz, samples = _read(path)
    # NOTE: scipy has no exception of its own for a file that is cut off or no wav at all.
    except Exception as error:
        raise ValueError(
            f'{path}: expected a PCM or float wav file, got a file that cannot be read as one '
            f"({error}); convert it, e.g. 'ffmpeg -i IN -c:a pcm_s16le OUT.wav'"
        ) from None
    if not samples.size:
        raise ValueError(f'{path}: expected sound, got 0 samples; record it again')
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == 'i' and samples.dtype != np.int16:
        samples = _of_full_scale_1(samples)
    elif samples.dtype.kind == 'f':
        samples = samples.astype(np.float32, copy=False)
        if not np.isfinite(samples).all():
            raise ValueError(f'{path}: expected finite samples, got NaN or infinity; repair it')
    return samples.reshape(len(samples), -1), rate_hz


def read_wav(path: pathlib.Path) -> tuple[np.ndarray, int]:
    """
    Read a wav as numbers of one type, to be worked on.

    Returns:
        float32 `[n, channels]` in [-1, 1], n >= 1, and the rate in Hz.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no wav, holds no sound, or samples that are not finite.
    """
    samples, rate_hz = read_pcm(path)
    return samples if samples.dtype == np.float32 else _of_full_scale_1(samples), rate_hz


def read_duration_s(path: pathlib.Path) -> float:
    """
    Tell how long a wav is, without reading its samples where that can be done.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no wav, or holds no sound.
    """
    # 24-bit files cannot be mapped; of others that cannot, reading tells what is wrong.
    with contextlib.suppress(Exception):
        rate_hz, samples = _read(path, mmap=True)
        if len(samples):
            return len(samples) / rate_hz
    samples, rate_hz = read_pcm(path)
    return len(samples) / rate_hz


def _read(path: pathlib.Path, mmap: bool = False) -> tuple[int, np.ndarray]:
    with warnings.catch_warnings():
        # chunks that are not sound, and a file cut off in the middle
        warnings.simplefilter('ignore', scipy.io.wavfile.WavFileWarning)
        rate_hz, samples = scipy.io.wavfile.read(path, mmap=mmap)
    return int(rate_hz), samples


def _of_full_scale_1(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
