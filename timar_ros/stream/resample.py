# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Resampling as a function of position: an output sample depends on the samples around it alone.

A streaming resampler with state gives its output in blocks, and the blocks of soxr come late: up
to 118 ms at 8 kHz, 40 ms at 44.1 kHz, measured with chunks of 10 ms, which is more than the time
a plan waits for audio. It also cannot take back a hole when the missing chunk arrives after all.
Here output k is a dot product of the `2 * reach` samples around position k * rate_in / rate_out
with a windowed sinc, so that chunking, order and repetition of the input cannot matter, bitwise.
"""

import functools
import math

import numpy as np

from timar_ros.config import SAMPLE_RATE_HZ

# 24 zero crossings under a Kaiser window reach 1.5 ms to either side (3 ms from 8 kHz); flat
# within 0.1 dB to 0.81 of the lower Nyquist frequency, 75 dB down from 1.13 of it on.
_ZERO_CROSSINGS = 24
_KAISER_BETA = 7.5
_CUTOFF = 0.93
# Finer than this, phases of odd rates (44 101 Hz) are rounded: 1/2048 of a sample.
_MAX_PHASES = 1024
# Outputs at a time: the gathered windows stay in the processor's cache.
_BLOCK = 1024


class Resampler:
    """
    Samples of one rate, evaluated on the grid of another; has no state.

    Attributes:
        reach: input samples on either side that an output sample depends on.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int = SAMPLE_RATE_HZ):
        """Design the filter of a pair of rates; designs are kept, so this is cheap."""
        divisor = math.gcd(rate_in_hz, rate_out_hz)
        self._up = rate_out_hz // divisor
        self._down = rate_in_hz // divisor
        self._taps = _design(self._up, self._down)
        self.reach = self._taps.shape[1] // 2

    def first_output_from(self, position: int) -> int:
        """Return the index of the first output at or after an input position."""
        return -(-position * self._up // self._down)

    def input_before(self, outputs: np.ndarray) -> np.ndarray:
        """Return for each output index the input sample at or just before it."""
        return outputs * self._down // self._up

    def evaluate(self, samples: np.ndarray, first: int, outputs: np.ndarray) -> np.ndarray:
        """
        Compute output samples.

        Args:
            samples: float32 `[n]`, the input from position `first` on, zero where unknown.
            first: input position of samples[0].
            outputs: int64 `[k]`, indices of the outputs; `samples` must hold all input within
                `reach` of them.

        Returns:
            float32 `[k]`.
        """
        n_phases, width = self._taps.shape
        windows = np.lib.stride_tricks.sliding_window_view(samples, width)
        # in units of 1 / n_phases of an input sample, to nearest
        position = (outputs * (self._down * n_phases) + self._up // 2) // self._up
        window = position // n_phases - (self.reach - 1) - first
        phase = position % n_phases
        result = np.empty(len(outputs), np.float32)
        for start in range(0, len(outputs), _BLOCK):
            block = slice(start, start + _BLOCK)
            result[block] = np.einsum('kw,kw->k', windows[window[block]], self._taps[phase[block]])
        return result

    def resample(self, samples: np.ndarray) -> np.ndarray:
        """
        Resample a whole recording, silent before and after.

        Args:
            samples: float32 `[n]`.

        Returns:
            float32 `[ceil(n * rate_out / rate_in)]`.
        """
        padded = np.pad(np.asarray(samples, np.float32), self.reach + 1)
        outputs = np.arange(self.first_output_from(len(samples)))
        return self.evaluate(padded, -self.reach - 1, outputs)


@functools.lru_cache(maxsize=8)
def _design(up: int, down: int) -> np.ndarray:
    """Return the filter `[phases, 2 * reach]`: the taps for each fraction of an input sample."""
    narrowing = min(1.0, up / down)
    reach = math.ceil(_ZERO_CROSSINGS / narrowing)
    n_phases = min(up, _MAX_PHASES)
    fraction = np.arange(n_phases)[:, None] / n_phases
    distance = np.arange(-reach + 1, reach + 1)[None] - fraction
    window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0, 1 - (distance / reach) ** 2)))
    taps = np.sinc(narrowing * _CUTOFF * distance) * window
    # unit gain at 0 Hz in every phase, else a constant would come out with a tone on it
    return (taps / taps.sum(axis=1, keepdims=True)).astype(np.float32)
