# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Time: what is heard, known, shown, committed and planned at a planning moment (design.md, Time).

Pure functions of integer nanoseconds on one clock; nothing here reads a clock or a buffer. Turns,
frames and samples are counted from the clock's zero, so every recording has one grid.

    turn k            |<------------- turn_s ------------->|
    moments           ^      ^      ^      ^      ^        ^      (anticipate: replan_hz in a turn)
    at τ      heard ..........|τ - hearing_delay
              shown ................|τ + plan_latency      then blend, then the new draft
              known .......................|τ + agent_lead
"""

import dataclasses

from timar_ros.config import TimarConfig, TimingConfig

_SECOND_NS = 1_000_000_000
_MS_NS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Schedule:
    """
    The grid of a model and the rules of a timing.

    Attributes:
        config: gives frames a turn, frame rate and sample rate.
        timing: gives the delays.
    """

    config: TimarConfig
    timing: TimingConfig

    def __post_init__(self):
        if self.timing.hearing_delay_ms > 1000 * self.config.turn_s:
            raise ValueError(
                f'hearing_delay_ms must be at most a turn ({1000 * self.config.turn_s:.0f} ms), '
                f'got {self.timing.hearing_delay_ms}'
            )

    @property
    def is_anticipating(self) -> bool:
        """Whether turns are answered while they are spoken."""
        return self.timing.timing == 'anticipate'

    @property
    def open_turns(self) -> int:
        """
        How many turns are drafted together at most; the rest of a window is memory.

        Two with the usual delays: the present turn and the next, or at a turn's start the one
        just over and the present one.
        """
        if not self.is_anticipating:
            return 1
        # Where moments fall in a turn, to the nanosecond, recurs after `fps` turns.
        turns = range(2, 2 + self.config.fps)
        return max(self._count_open(moment) for turn in turns for moment in self._moments(turn))

    def _count_open(self, moment_ns: int) -> int:
        last = first = self.last_open_turn(moment_ns)
        while not self.is_over(first - 1, moment_ns):
            first -= 1
        return last - first + 1

    def frame_ns(self, frame: int) -> int:
        """Return when a frame (counted from zero) is lived."""
        return frame * _SECOND_NS // self.config.fps

    def turn_ns(self, turn: int) -> int:
        """Return when a turn starts."""
        return self.frame_ns(turn * self.config.frames_per_turn)

    def turn_of(self, stamp_ns: int) -> int:
        """Return the turn that a moment lies in."""
        return self.frame_at_or_before(stamp_ns) // self.config.frames_per_turn

    def frame_at_or_before(self, stamp_ns: int) -> int:
        """Return the last frame lived at a moment or before it."""
        frame = stamp_ns * self.config.fps // _SECOND_NS
        return frame + (self.frame_ns(frame + 1) <= stamp_ns)

    def frame_at_or_after(self, stamp_ns: int) -> int:
        """Return the first frame lived at a moment or after it."""
        frame = self.frame_at_or_before(stamp_ns)
        return frame + (self.frame_ns(frame) < stamp_ns)

    def samples_until(self, stamp_ns: int) -> int:
        """Return how many samples of the grid are stamped at a moment or before it."""
        return stamp_ns * self.config.sample_rate_hz // _SECOND_NS + 1

    def next_moment(self, after_ns: int) -> int:
        """Return the first planning moment at `after_ns` or later."""
        if not self.is_anticipating:
            delay = self.timing.hearing_delay_ms * _MS_NS
            turn = self.turn_of(after_ns - delay)
            return self.turn_ns(turn + (self.turn_ns(turn) + delay < after_ns)) + delay
        turn = self.turn_of(after_ns)
        return min(
            moment
            for candidate in (turn, turn + 1)
            for moment in self._moments(candidate)
            if moment >= after_ns
        )

    def _moments(self, turn: int) -> list[int]:
        start, end = self.turn_ns(turn), self.turn_ns(turn + 1)
        rate = self.timing.replan_hz
        if not rate:
            return [start]
        count = int((end - start) * rate / _SECOND_NS) + 1
        moments = [start + round(i * _SECOND_NS / rate) for i in range(count)]
        return [moment for moment in moments if moment < end]

    def heard_until(self, moment_ns: int) -> int:
        """Return the latest stamp of the user that counts as heard."""
        return moment_ns - self.timing.hearing_delay_ms * _MS_NS

    def known_until(self, moment_ns: int) -> int:
        """Return the latest playback stamp of the agent's voice that counts as known."""
        return moment_ns + self.timing.agent_lead_ms * _MS_NS

    def is_over(self, turn: int, moment_ns: int) -> bool:
        """Say whether all of a turn is heard by a moment, lost audio aside."""
        return self.turn_ns(turn + 1) <= self.heard_until(moment_ns)

    def is_known(self, turn: int, moment_ns: int) -> bool:
        """Say whether all that the agent says in a turn is known by a moment."""
        return self.turn_ns(turn + 1) <= self.known_until(moment_ns)

    def last_open_turn(self, moment_ns: int) -> int:
        """
        Return the last turn that is drafted at a moment.

        So that at all times a whole turn lies ahead, and motion until the next plan takes over:
        the next turn, but at a turn's very start the turn itself, which is all ahead then.
        """
        next_plan_ns = self.next_moment(moment_ns + 1) + self.timing.plan_latency_ms * _MS_NS
        last = self.turn_of(max(moment_ns + self.turn_ns(1), next_plan_ns) - 1)
        return min(last, self.turn_of(moment_ns) + 1)

    def first_planned_frame(self, moment_ns: int) -> int:
        """Return the first frame that a plan of this moment may still change."""
        ready_ns = moment_ns + self.timing.plan_latency_ms * _MS_NS
        return self.frame_at_or_after(ready_ns - self._show_delay_ns)

    def shown_ns(self, frame: int) -> int:
        """Return when a frame is shown live: when it is lived, or later in `reactive`."""
        return self.frame_ns(frame) + self._show_delay_ns

    def frame_shown_at(self, stamp_ns: int) -> int:
        """Return the frame that is shown live at a moment."""
        return self.frame_at_or_before(stamp_ns - self._show_delay_ns)

    @property
    def _show_delay_ns(self) -> int:
        if self.is_anticipating:
            return 0
        delay = self.timing.hearing_delay_ms + self.timing.plan_latency_ms
        return self.turn_ns(1) + delay * _MS_NS

    @property
    def blend_frames(self) -> int:
        """Frames over which a new plan takes over from the old one."""
        return round(self.timing.blend_ms * self.config.fps / 1000)
