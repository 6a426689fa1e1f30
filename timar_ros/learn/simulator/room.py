# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What happens to a voice between mouth and model: room, microphone, telephone, noise, level."""

import numpy as np
import scipy.signal
import soxr

_RATE_HZ = 16000
_LEVEL = 0.1  # of voices in the chain, rms of full scale


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
    """Send a voice through a telephone: 300 to 3400 Hz (ITU-T G.712), 8 kHz, mu-law (G.711)."""
    band = scipy.signal.butter(4, (300, 3400), 'bandpass', fs=_RATE_HZ, output='sos')
    narrow = soxr.resample(scipy.signal.sosfilt(band, samples), _RATE_HZ, 8000)
    coded = np.round(127 * np.log1p(255 * np.abs(narrow).clip(0, 1)) / np.log(256)) / 127
    narrow = np.sign(narrow) * np.expm1(coded * np.log(256)) / 255
    back = soxr.resample(narrow, 8000, _RATE_HZ)
    return np.pad(back, (0, max(len(samples) - len(back), 0)))[: len(samples)]


def stir(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Add what is heard of somebody between words: breath, cloth, keys.

    4 to 12 times a minute 0.2 to 1.2 s of noise, in a band within 300 to 6000 Hz, swelling and
    dying away, 32 to 58 dB below the voice (a real telephone call has them at 43 to 60). Nobody
    answers them.
    """
    samples, minutes = samples.copy(), len(samples) / _RATE_HZ / 60
    for start in rng.integers(len(samples), size=rng.poisson(minutes * rng.uniform(4, 12))):
        low_hz = rng.uniform(300, 2000)
        band = (low_hz, low_hz * rng.uniform(1.5, 3.0))
        sections = scipy.signal.butter(2, band, 'bandpass', fs=_RATE_HZ, output='sos')
        length_s = rng.uniform(0.2, 1.2)
        noise = scipy.signal.sosfilt(sections, rng.normal(size=int(length_s * _RATE_HZ)))
        noise *= np.hanning(len(noise)) * _LEVEL * 10 ** (-rng.uniform(32, 58) / 20) / noise.std()
        slot = samples[start : start + len(noise)]
        slot += noise[: len(slot)]
    return samples


def record(samples: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Record a voice with a random chain.

    Half with breath and keys (`stir`); half in a room of 0.15 to 0.8 s; a spectral tilt of ±0.5
    (first-order); 60 % with noise 28 to 60 dB below the voice, white or falling by 6 dB an octave;
    a third through a telephone; level -32 to -14 dB of full scale while it speaks.

    Args:
        samples: float `[n]` at 16 kHz.
        rng: draws all of it.

    Returns:
        float32 `[n]` in [-1, 1].
    """
    samples = _even(samples)
    if rng.random() < 0.5:
        samples = stir(samples, rng)
    if rng.random() < 0.5:
        samples = reverberate(samples, rng.uniform(0.15, 0.8), rng)
    samples = _even(scipy.signal.lfilter([1.0, rng.uniform(-0.5, 0.5)], [1.0], samples))
    if rng.random() < 0.6:
        noise = rng.normal(size=len(samples))
        if rng.random() < 0.5:
            noise = scipy.signal.lfilter([0.31], [1.0, -0.95], noise)
        samples = samples + noise * _LEVEL * 10 ** (-rng.uniform(28, 60) / 20)
    if rng.random() < 1 / 3:
        samples = _even(telephone(samples))
    gain = 10 ** (rng.uniform(-12, 6) / 20)
    return np.clip(samples * gain, -1, 1).astype(np.float32)


def _even(samples: np.ndarray) -> np.ndarray:
    """Bring a voice to one level, -20 dB of full scale where it is loud; silence stays."""
    loud = samples[np.abs(samples) > 0.02]
    return samples * (_LEVEL / np.sqrt((loud**2).mean()) if len(loud) else 1.0)
