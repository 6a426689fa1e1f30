# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for noticing a driver that sends half of the bytes of each sample, by its pace.

Not for other faults of a stream. The bytes alone are valid samples, so only their pace shows it.
"""

import collections

_N_MESSAGES = 100  # near half the announced rate for so long


class HalfRateWatch:
    """Compare the sound of a stream without a count with the time that it takes."""

    def __init__(self):
        self._advances: collections.deque[float] = collections.deque(maxlen=_N_MESSAGES)
        self._last = 0

    def check(self, now: int, length: int, rate_hz: int) -> None:
        """
        Take the next message.

        Args:
            now: its time, in grid samples.
            length: of its sound, in grid samples.
            rate_hz: as announced.

        Raises:
            ValueError: the stream has half of the announced rate.
        """
        self._advances.append((now - self._last) / length)
        self._last = now
        # regularly twice too late is no loss: random loss would leave longer holes, too
        mean_advance = sum(self._advances) / _N_MESSAGES
        is_half = 1.9 < mean_advance < 2.1 and max(self._advances) < 3
        if is_half and len(self._advances) == _N_MESSAGES:
            raise ValueError(
                f'expected {rate_hz} samples a second, got half as many; the driver sends '
                'one byte a sample, or states a wrong rate or channel count; let it publish all '
                'bytes of each sample'
            )
