# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Where a recording is being played: position, rate, pause and jumps, against a steady clock.

Knows numbers only; whoever asks says what the steady clock shows. Times are ns, positions are
since the recording's start and negative before it.
"""


class Playhead:
    """
    A position that moves.

    Args:
        position_ns: at first; it stands until `resume`.
        rate: recorded seconds a second.

    Attributes:
        is_paused: it stands.
    """

    def __init__(self, position_ns: int, rate: float = 1.0):
        self._then_ns, self._since_ns, self._rate = position_ns, 0, rate
        self.is_paused = True

    def position(self, steady_ns: int) -> int:
        """Return where it is."""
        if self.is_paused:
            return self._then_ns
        return self._then_ns + round((steady_ns - self._since_ns) * self._rate)

    def pause(self, steady_ns: int) -> None:
        """Stand still."""
        self._then_ns, self.is_paused = self.position(steady_ns), True

    def resume(self, steady_ns: int) -> None:
        """Go on from here."""
        if self.is_paused:
            self._since_ns, self.is_paused = steady_ns, False

    def set_rate(self, rate: float, steady_ns: int) -> None:
        """Go faster or slower from here on."""
        self._then_ns, self._since_ns = self.position(steady_ns), steady_ns
        self._rate = rate

    def seek(self, position_ns: int, steady_ns: int) -> None:
        """Be elsewhere at once, moving or standing as before."""
        self._then_ns, self._since_ns = position_ns, steady_ns
