# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""How phrases end: lower, higher, slower or softer than the program that spoke them ends all."""

import dataclasses

import numpy as np
import scipy.signal

_RATE_HZ = 16000
_END_S, _RAMP_S = 0.45, 0.25
_GRAIN, _SEARCH = 320, 128  # of `lengthen`, samples: 20 ms, and 8 ms either way


@dataclasses.dataclass(frozen=True)
class Ending:
    """
    What happens to the last 0.45 s of a phrase.

    Attributes:
        speed: that it is played at after 0.25 s; pitch goes with it.
        stretch: factor of its length, pitch kept.
        softer_db: at its very end.
    """

    speed: float
    stretch: float = 1.0
    softer_db: float = 0.0


ENDINGS = {
    # The end of a thought: 7 semitones lower, longer and softer. An answer is welcome.
    'fall': Ending(0.68, softer_db=5),
    # The same, nearer to what real voices do: 4 semitones.
    'dip': Ending(0.8, 1.2, 3),
    'rise': Ending(1.4),
    'level': Ending(1.2),
    # A little faster, against the fall that programs end everything with.
    'plain': Ending(1.08),
    # Of a turn's last words, which nobody nods at; 'final' and 'low' also when a speaker goes on.
    'final': Ending(0.95, softer_db=1),
    'low': Ending(0.85, softer_db=3),
    'drawn': Ending(1.0, 1.5, 3),
    'faint': Ending(0.9, 1.3, 8),
}


def end_phrase(samples: np.ndarray, ending: str) -> np.ndarray:
    """
    Let the end of a phrase be heard in its pitch, length and loudness.

    Args:
        samples: float `[n]` at 16 kHz.
        ending: of `ENDINGS`.

    Returns:
        float32 samples; their number differs.

    Source: Ward and Tsukahara 2000 (low pitch cues backchannels); Klatt 1976 (final lengthening).
    """
    how = ENDINGS[ending]
    n_end = min(int(_END_S * _RATE_HZ), len(samples) // 2)
    start = len(samples) - n_end
    end = samples[start:] if how.stretch == 1 else lengthen(samples[start:], how.stretch)
    end = _change_speed(end, how.speed)
    end = end * 10 ** (-np.linspace(0, how.softer_db, len(end)) / 20)
    fade = min(160, len(end))
    end[len(end) - fade :] *= np.linspace(1, 0, fade)
    return np.concatenate([samples[:start], end]).astype(np.float32)


def _change_speed(samples: np.ndarray, speed: float) -> np.ndarray:
    """Play `[n]` ever faster or slower, at `speed` from 0.25 s on."""
    n = len(samples)
    # Time as a function of place in the source: dt/dx = 1 / speed(x).
    ramp = np.minimum(np.arange(n) / (_RAMP_S * _RATE_HZ), 1.0)
    times = np.cumsum(1.0 / (1.0 + (speed - 1.0) * ramp))
    place = np.interp(np.arange(1, int(times[-1]) + 1), times, np.arange(n))
    # Oversampled fourfold, linear interpolation is clean enough.
    fine = scipy.signal.resample_poly(samples, 4, 1)
    return np.interp(place * 4, np.arange(len(fine)), fine)


def lengthen(samples: np.ndarray, factor: float) -> np.ndarray:
    """
    Make `[n]` longer by a factor without changing its pitch.

    Source: Verhelst and Roelands 1993 (WSOLA): grains of 20 ms overlap by half, each taken where
        it goes on best from the one before.
    """
    n, hop = len(samples), _GRAIN // 2
    padded = np.pad(samples.astype(float), (_SEARCH, 2 * _GRAIN + _SEARCH))
    window = np.hanning(_GRAIN + 1)[:-1]
    longer = np.zeros(int(n * factor) + _GRAIN)
    place = _SEARCH  # of the last grain
    for start in range(0, int(n * factor), hop):
        wanted = _SEARCH + min(int(start / factor), n)
        if start:
            around = padded[wanted - _SEARCH : wanted + _SEARCH + _GRAIN]
            goes_on = padded[place + hop : place + hop + _GRAIN]
            place = wanted - _SEARCH + int(np.correlate(around, goes_on).argmax())
        longer[start : start + _GRAIN] += window * padded[place : place + _GRAIN]
    longer[:hop] += samples[:hop] * window[hop:]  # nothing overlaps the first half grain
    return longer[: int(n * factor)]
