# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What happens to a voice between mouth and model: room, microphone, telephone, noise, level."""

import numpy as np
import scipy.signal
import soxr

_RATE_HZ = 16000


def reverberate(samples: np.ndarray, decay_s: float, rng: np.random.Generator) -> np.ndarray:
    """
    Put a voice into a room.

    The impulse response is the direct sound and a tail of white noise that falls by 60 dB in
    `decay_s`, beginning 5 ms later, 14 dB below the direct sound in energy (a mouth at about a
    metre). The direct sound is not delayed.

    Source: Moorer 1979 (reverberation as exponentially decaying noise).
    """
    n_tail = int(decay_s * _RATE_HZ)
    tail = rng.normal(size=n_tail) * 10 ** (-3 * np.arange(n_tail) / n_tail)
    tail *= 10 ** (-14 / 20) / np.sqrt((tail**2).sum())
    response = np.concatenate([[1.0], np.zeros(int(0.005 * _RATE_HZ)), tail])
    return scipy.signal.fftconvolve(samples, response)[: len(samples)]


def telephone(samples: np.ndarray) -> np.ndarray:
    """Send a voice through a telephone: 300 to 3400 Hz at 8 kHz (ITU-T G.712), and back."""
    band = scipy.signal.butter(4, (300, 3400), 'bandpass', fs=_RATE_HZ, output='sos')
    narrow = soxr.resample(scipy.signal.sosfilt(band, samples), _RATE_HZ, 8000)
    back = soxr.resample(narrow, 8000, _RATE_HZ)
    return np.pad(back, (0, max(len(samples) - len(back), 0)))[: len(samples)]


def record(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Record a voice with a random chain.

    Half of the voices in a room of 0.15 to 0.5 s; a spectral tilt of ±0.5 (first-order); a
    fifth through a telephone; 60 % with noise 28 to 60 dB below the voice, white or falling by
    6 dB an octave; level -32 to -14 dB of full scale while it speaks.

    Args:
        samples: float `[n]` at 16 kHz.
        rng: draws all of it.

    Returns:
        float32 `[n]` in [-1, 1].
    """
    if rng.random() < 0.5:
        samples = reverberate(samples, rng.uniform(0.15, 0.5), rng)
    samples = scipy.signal.lfilter([1.0, rng.uniform(-0.5, 0.5)], [1.0], samples)
    if rng.random() < 0.2:
        samples = telephone(samples)
    loud = samples[np.abs(samples) > 0.02]
    samples = samples * (0.1 / np.sqrt((loud**2).mean()) if len(loud) else 1.0)
    if rng.random() < 0.6:
        noise = rng.normal(size=len(samples))
        if rng.random() < 0.5:
            noise = scipy.signal.lfilter([0.31], [1.0, -0.95], noise)
        samples = samples + noise * 0.1 * 10 ** (-rng.uniform(28, 60) / 20)
    gain = 10 ** (rng.uniform(-12, 6) / 20)
    return np.clip(samples * gain, -1, 1).astype(np.float32)
