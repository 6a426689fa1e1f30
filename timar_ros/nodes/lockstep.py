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
    The planning moments of a recording.

    Args:
        timing: of the conversation node.
        turn_s: length of its turns.
        start_ns: stamp of the recording's first instant.
        has_agent: whether the agent's voice is in it.
    """

    def __init__(self, timing: TimingConfig, turn_s: float, start_ns: int, has_agent: bool):
        config = TimarConfig(fps=_FPS, frames_per_turn=round(turn_s * _FPS))
        self._schedule = Schedule(config, timing)
        first_ns = start_ns
        if timing.timing == 'reactive':
            first_ns += self._schedule.turn_ns(1) + timing.hearing_delay_ms * _MS_NS
        elif has_agent:  # whose first words are known ahead, within the turns that are drafted
            first_ns -= min(timing.agent_lead_ms * _MS_NS, self._schedule.turn_ns(1))
        else:
            first_ns += timing.hearing_delay_ms * _MS_NS
        self._first_ns = first_ns

    def next_moment(self, after_ns: int) -> int:
        """Return the first moment at `after_ns` or later that a plan comes of."""
        return self._schedule.next_moment(max(after_ns, self._first_ns))

    def answers(self, moment_ns: int, first_frame_ns: int) -> bool:
        """Say whether a plan that begins so is the one of a moment, or a later one."""
        return first_frame_ns >= moment_ns + self._schedule.timing.plan_latency_ms * _MS_NS
