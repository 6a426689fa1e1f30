# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
When a simulated clock has to wait for the conversation node: at its planning moments.

Knows the node's timing, as it says itself. Reads no clock.
"""

from rcl_interfaces.srv import GetParameters

from timar_ros.config import TimarConfig, TimingConfig
from timar_ros.stream.schedule import Schedule

_MS_NS = 1_000_000
# Planning moments lie on turns; how many frames a turn has does not matter to them.
_FPS = 25
_NAMES = ('timing', 'replan_hz', 'hearing_delay_ms', 'agent_lead_ms', 'plan_latency_ms')


def ask_timing(node, conversation: str):
    """
    Ask a conversation node for its timing.

    Args:
        node: that asks.
        conversation: name of the node asked.

    Returns:
        The client, and a function that starts the call and returns its future.
    """
    client = node.create_client(GetParameters, f'{conversation}/get_parameters')
    return client, lambda: client.call_async(GetParameters.Request(names=list(_NAMES)))


def timing_from(response) -> TimingConfig:
    """
    Read the answer to `ask_timing`.

    Raises:
        ValueError: the node asked is no conversation node.
    """
    values = response.values
    if len(values) != len(_NAMES) or values[0].string_value == '':
        raise ValueError('lockstep needs a conversation node; the node asked has no timing')
    return TimingConfig(
        timing=values[0].string_value,
        replan_hz=values[1].double_value,
        hearing_delay_ms=values[2].integer_value,
        agent_lead_ms=values[3].integer_value,
        plan_latency_ms=values[4].integer_value,
    )


class Lockstep:
    """
    The planning moments of a recording, and which of them a plan comes of.

    A plan comes of every moment from the first one on at which a sample of either voice counts
    (docs/design.md, Time); before it the clock need not wait.

    Args:
        timing: of the conversation node.
        turn_s: length of its turns.
    """

    def __init__(self, timing: TimingConfig, turn_s: float):
        config = TimarConfig(fps=_FPS, frames_per_turn=round(turn_s * _FPS))
        self._schedule = Schedule(config, timing)
        self.forget()

    def forget(self) -> None:
        """Begin anew, as the conversation does when the clock jumps."""
        self._first_turn: int | None = None
        # Per voice: when its first sample sounds, and from when on that is known.
        self._begins: dict[str, tuple[int, int]] = {}

    def note(self, voice: str, begin_ns: int, sent_ns: int) -> None:
        """Take note of audio that is published: stamp of its first sample, and when it is sent."""
        known = self._begins.get(voice)
        if known is None or begin_ns < known[0]:
            self._begins[voice] = begin_ns, sent_ns

    def next_moment(self, after_ns: int) -> int:
        """Return the first planning moment at `after_ns` or later."""
        return self._schedule.next_moment(after_ns)

    def expects_plan(self, moment_ns: int) -> bool:
        """Say whether a plan comes of a moment; ask for each, in order."""
        schedule = self._schedule
        if self._first_turn is None:
            turns = [
                schedule.turn_of(begin_ns)
                for voice, (begin_ns, sent_ns) in self._begins.items()
                if self._counts(voice, begin_ns, sent_ns, moment_ns)
            ]
            if not turns:
                return False
            self._first_turn = min(turns)
        if schedule.is_anticipating:
            return True
        return schedule.turn_of(schedule.heard_until(moment_ns)) > self._first_turn

    def _counts(self, voice: str, begin_ns: int, sent_ns: int, moment_ns: int) -> bool:
        schedule = self._schedule
        if voice == 'user':
            return begin_ns <= schedule.heard_until(moment_ns)
        is_open = schedule.turn_of(begin_ns) <= schedule.last_open_turn(moment_ns)
        return is_open and sent_ns <= moment_ns and begin_ns <= schedule.known_until(moment_ns)

    def answers(self, moment_ns: int, first_frame_ns: int) -> bool:
        """Say whether a plan that begins so is the one of a moment, or a later one."""
        return first_frame_ns >= moment_ns + self._schedule.timing.plan_latency_ms * _MS_NS
