# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
An utterance that is still being delivered: samples of any rate in, the output's rate out.

Resampling waits until samples are taken, so that minutes delivered at once cost nothing at once.
When they sound is the schedule's business.
"""

import collections

import numpy as np

from timar_ros.stream.resample import Resampler


class Utterance:
    """
    A queue of samples that changes their rate; what is taken does not depend on the chunking.

    Args:
        rate_in_hz: of what is pushed.
        rate_out_hz: of what is taken.
        continues: it continues the audio before it, so that a gap between them is a fault.
    """

    def __init__(self, rate_in_hz: int, rate_out_hz: int, continues: bool = False):
        self.rate_in_hz = rate_in_hz
        self.continues = continues
        self.is_ended = False
        self._resampler = None
        self._margin = 0  # input on either side that an output may depend on
        if rate_in_hz != rate_out_hz:
            self._resampler = Resampler(rate_in_hz, rate_out_hz)
            self._margin = self._resampler.reach + 2
        self._pieces: collections.deque[np.ndarray] = collections.deque()  # pushed, not yet in use
        self._n_in = 0
        self._buffer = np.zeros(self._margin, np.float32)  # in use, from position _first on
        self._first = -self._margin
        self._next = 0  # output to be taken next

    @property
    def has_begun(self) -> bool:
        """Whether anything has been taken."""
        return self._next > 0

    @property
    def n_left(self) -> int:
        """Samples that can still be taken, of what has been pushed so far."""
        return max(self._outputs_before(self._n_in) - self._next, 0)

    @property
    def n_ready(self) -> int:
        """Samples that can be taken now; the last ones wait for what follows them, or `end`."""
        known = self._n_in if self.is_ended else self._n_in - self._margin
        return max(self._outputs_before(known) - self._next, 0)

    @property
    def n_pieces(self) -> int:
        """Pieces that were pushed and are not in use yet."""
        return len(self._pieces)

    @property
    def n_waiting(self) -> int:
        """Samples, at the rate they were pushed with, that are kept here."""
        return self._n_in - max(self._first, 0)

    def push(self, samples: np.ndarray) -> None:
        """
        Append float32 `[n]`.

        Raises:
            RuntimeError: it has ended.
        """
        if self.is_ended:
            raise RuntimeError('the utterance has ended; push to a new one')
        self._pieces.append(samples)
        self._n_in += len(samples)

    def end(self) -> None:
        """Mark the end: nothing follows, so the last samples become ready."""
        self.is_ended = True

    def take(self, n_samples: int) -> np.ndarray:
        """Take at most `n_samples` at the output's rate, float32 `[n]`."""
        n = min(n_samples, self.n_ready)
        if n == 0:
            return np.zeros(0, np.float32)
        outputs = np.arange(self._next, self._next + n)
        self._next += n
        if self._resampler is None:
            self._fill(self._next)
            taken, used = self._buffer[:n], self._next
        else:
            last = int(self._resampler.input_before(outputs[-1:])[0])
            self._fill(last + self._margin)
            taken = self._resampler.evaluate(self._buffer, self._first, outputs)
            used = last - self._margin
        self._buffer = self._buffer[max(used - self._first, 0) :]
        self._first = max(used, self._first)
        return taken

    def _outputs_before(self, position: int) -> int:
        if self._resampler is None or position <= 0:
            return max(position, 0)
        return self._resampler.first_output_from(position)

    def _fill(self, end: int) -> None:
        """Bring the input before position `end` into use; silence follows the last of it."""
        missing = end - (self._first + len(self._buffer))
        parts = [self._buffer]
        while missing > 0:
            if self._pieces:
                piece = self._pieces.popleft()
                if len(piece) > missing:  # minutes in one piece are not copied each time
                    self._pieces.appendleft(piece[missing:])
                    piece = piece[:missing]
            else:
                piece = np.zeros(missing, np.float32)
            parts.append(piece)
            missing -= len(piece)
        if len(parts) > 1:
            self._buffer = np.concatenate(parts)
