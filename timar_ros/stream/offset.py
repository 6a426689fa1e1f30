# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A constant offset of a recording, as cheap microphones have: no sound, though it has power.

Responsible for measuring it, taking it off where loudness is measured, and the note about it. Not
for the model's input, from which `level` takes the running mean.
"""

import numpy as np

# Less does not count as speech: -55 dB of full scale.
_SMALLEST = 10 ** (-55 / 20)
# A recording of a few hertz and seconds may have a mean without an offset: noted is what is more.
_NOTED, _NOTED_S = 2e-3, 2.0
_LARGEST = 0.5  # more is another fault than an offset


class OffsetWatch:
    """The mean of one voice, from all of its samples that are not 0: silence may be filled in."""

    def __init__(self):
        self._total, self._n, self._length_s = 0.0, 0, 0.0

    def add(self, samples: np.ndarray, sample_rate_hz: int) -> None:
        """Add samples `[n, C]` of what is heard, or `[n]`."""
        self._total += float(np.sum(samples, dtype=np.float64))
        self._n += int(np.count_nonzero(samples))
        self._length_s += len(samples) / sample_rate_hz

    @property
    def offset(self) -> float:
        """The offset, of full scale; 0 where it is too small to matter."""
        mean = self._total / max(self._n, 1)
        return mean if abs(mean) >= _SMALLEST else 0.0

    def finding(self) -> str:
        """Return what is worth a note, one sentence; '' = nothing."""
        if not _NOTED <= abs(self.offset) < _LARGEST or self._length_s < _NOTED_S:
            return ''
        return (
            f'the recording has a DC offset of {self.offset:.3g} of full scale '
            f'({20 * np.log10(abs(self.offset)):.0f} dB); it is taken off before loudness is '
            'measured; a high-pass at 20 Hz in the recorder avoids it'
        )


def offset_of(samples: np.ndarray) -> float:
    """Return the offset of a voice `[n]`, 0 where it is too small to matter."""
    watch = OffsetWatch()
    watch.add(samples, 1)
    return watch.offset


def without_offset(samples: np.ndarray) -> np.ndarray:
    """Return a voice `[n]` without its offset, the same where it has none; 0 stays 0."""
    offset = offset_of(samples)
    return np.where(samples != 0, samples - offset, 0.0) if offset else samples
