# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What the stamp of an audio message means: nothing, the time of capture, or the time of arrival.

Responsible for reading one stamp, live and from recordings alike. Not for placing samples: that is
`ingest`'s, and no samples or rates are used here.
"""

# Messages in a row that must agree before their stamps are read otherwise, and how much sound
# they must hold where their publisher counts its samples: who counts deserves more patience.
_N_AGREE = 10
# As many in a row, where each is early by no more than jitter may be, and by half of its length.
_N_SHORT = 50
_COUNTED_NS = 5_000_000_000
# The first message of all may be stamped zero and mean it if it arrived so soon after its end.
_ZERO_NS = 1_000_000_000
# A clock may be another one's by so much; stamps that are further off have no arrival beside them.
_OTHER_CLOCK_NS = 60_000_000_000


class StampReader:
    """
    Read the stamps of one voice, in the order of arrival.

    A stamp of zero is a field left empty. It counts as a time only where nothing contradicts it:
    for the user's first message if it also arrived at the beginning of time, for the agent's if it
    was known before time began.

    What the user says cannot arrive before it has ended. Where messages do so one after the other,
    their publisher stamps them on arrival, and they are moved to where they can have been
    captured. A publisher that counts its samples is believed for 5 s of such messages, one that
    does not until the first; of messages so short that jitter could explain it until the 50th in a
    row. Where from the first message on not even its beginning can be true, the publisher has
    another clock, and messages are moved by what that is ahead.

    Args:
        role: 'user' or 'agent'.
        max_jitter_ms: a message may end this much after its arrival and still be believed.

    Attributes:
        shift_ns: by how much stamps are moved back now, 0 or more.
        is_recorded: the clocks were compared in the whole recording, and stay as they are.
    """

    def __init__(self, role: str, max_jitter_ms: int = 20):
        self._is_user = role == 'user'
        self._jitter_ns = max_jitter_ms * 1_000_000
        self._has_said = False
        self.is_recorded = False
        self._was_right = False  # ever: what is ahead later is a clock that jumped
        self.reset()

    def reset(self) -> None:
        """Forget the stream; a warning that was given is not given again."""
        self.shift_ns = 0
        self._is_first = True
        self._n_early = self._n_true = self._n_in_a_row = 0
        self._was_believed = self._is_other_clock = False
        self._largest_ns = self._disbelieved_ns = 0

    def read(
        self, stamp_ns: int | None, length_ns: int, arrival_ns: int, is_counted: bool = False
    ) -> int | None:
        """
        Return when the first sample was captured or is to be played, by the stamp.

        Args:
            stamp_ns: of the message; None or 0 where it has none.
            length_ns: of its sound.
            arrival_ns: when it arrived, on the clock of the stamps.
            is_counted: its publisher counts samples.

        Returns:
            ns; None = the message has no stamp.
        """
        is_first, self._is_first = self._is_first, False
        if stamp_ns is None:
            return None
        if stamp_ns == 0:
            return 0 if self._is_true_zero(is_first, length_ns, arrival_ns) else None
        if self._is_user:
            self._compare(stamp_ns + length_ns - arrival_ns, length_ns, is_counted)
        return stamp_ns - self.shift_ns

    def take_warning(self) -> str | None:
        """Return once what is wrong with the stamps, None if nothing is or it has been said."""
        if self._has_said or not self.shift_ns or self._n_early < _N_AGREE:
            return None
        self._has_said = True
        if self._is_other_clock:
            return (
                f'stamps are {self.shift_ns / 1e9:.3f} s ahead of arrival, by another clock; they '
                'are placed that much earlier; set the clocks of both machines'
            )
        return (
            'stamps should be those of the capture, got messages that end '
            f'{self._largest_ns / 1e9:.3f} s after they arrived, as if stamped on arrival; they '
            f'are placed {self.shift_ns / 1e9:.3f} s earlier; let the driver stamp the first '
            'sample, or set the clocks of both machines'
        )

    def _is_true_zero(self, is_first: bool, length_ns: int, arrival_ns: int) -> bool:
        if not self._is_user:
            return arrival_ns < 0
        return is_first and arrival_ns <= length_ns + _ZERO_NS

    def _compare(self, early_ns: int, length_ns: int, is_counted: bool) -> None:
        """Follow whether messages of the user end after their arrival, and by how much."""
        if early_ns > length_ns + self._jitter_ns:
            self._follow_clock(early_ns)
            return  # not even its beginning can be true: another clock, not another meaning
        self._was_right |= not self._is_other_clock
        if early_ns <= min(self._jitter_ns, length_ns // 2):
            self._n_true += 1
            self._n_in_a_row = 0
            if self._n_early < _N_AGREE or self._n_true >= _N_AGREE:
                self._is_other_clock, self._was_right = False, True
                self.shift_ns = self._n_early = self._largest_ns = self._disbelieved_ns = 0
                self._was_believed = True
            return
        if self._is_other_clock:
            return
        self._n_true = 0
        self._n_early += 1
        self._n_in_a_row += 1
        self._disbelieved_ns += length_ns
        self._largest_ns = max(self._largest_ns, early_ns)
        is_long = early_ns > self._jitter_ns
        is_proven = self._n_early >= _N_AGREE if is_long else self._n_in_a_row >= _N_SHORT
        if is_counted:
            is_proven &= self._disbelieved_ns >= _COUNTED_NS
        # a stamp of the arrival is early by nearly the whole message, jitter seldom by half of it
        is_likely = 2 * early_ns >= length_ns and not (is_counted or self._was_believed)
        is_likely &= is_long
        if is_proven or is_likely:
            self.shift_ns = self._largest_ns

    def _follow_clock(self, early_ns: int) -> None:
        """Take the clock of a publisher for another one, if it was never right."""
        if self.is_recorded or self._was_right or early_ns > _OTHER_CLOCK_NS:
            return
        self._is_other_clock = True
        self._n_early += 1
        self._n_true = self._n_in_a_row = 0
        # the message that was on its way for the least time tells most
        self.shift_ns = self._largest_ns = max(self._largest_ns, early_ns)
