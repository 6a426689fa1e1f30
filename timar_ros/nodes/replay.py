# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The replay node: a recorded conversation on the topics of a live one.

Plays in real time, or is the graph's clock for nodes with `use_sim_time`: at any rate, or in
lockstep, where the clock waits at each planning moment until the plan has come. What to publish
when is `recording`'s.
"""

import dataclasses

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from rosgraph_msgs.msg import Clock as ClockMsg

from timar_ros.msg import AudioChunk, HeadMotionPlan
from timar_ros.nodes.convert import stamp_from_ns, stamp_to_ns
from timar_ros.nodes.lockstep import Lockstep, ask_timing, timing_from
from timar_ros.nodes.params import declare, parameter
from timar_ros.nodes.recording import conversation_events, read_voice

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
# Where simulated time begins: 0 would mean "no time yet" to ROS.
_SIM_START_NS = 100 * _NS_PER_S
_CLOCK_STEP_NS = 10 * _NS_PER_MS
_STEPS_AT_ONCE = 20
# A held clock is told again, for whoever missed it.
_REPEAT_NS = 100 * _NS_PER_MS


@dataclasses.dataclass(frozen=True)
class ReplayParams:
    """Parameters of the replay node; each says itself what it is."""

    user: str = parameter('', "wav of the user's voice; empty: silence")
    agent: str = parameter('', "wav of the agent's voice; empty: silence")
    chunk_ms: int = parameter(20, 'sound in one message', unit='ms', minimum=1, maximum=10000)
    agent_lead_ms: int = parameter(
        400,
        "how far ahead the agent's voice has to be known; in lockstep the conversation says it",
        unit='ms',
        minimum=0,
        maximum=5000,
    )
    turn_s: float = parameter(
        1.0,
        'length of a turn of the weights: the recording starts at a multiple of it on the clock',
        unit='s',
        minimum=0.04,
        maximum=60,
    )
    subscribers: int = parameter(
        1, 'how many subscribers of each voice to wait for', minimum=0, maximum=100
    )
    wait_s: float = parameter(10.0, 'how long to wait for them', unit='s', minimum=0, maximum=3600)
    tail_s: float = parameter(
        2.0, 'how long to go on after the last sound', unit='s', minimum=0, maximum=3600
    )
    clock: bool = parameter(False, 'publish /clock, for nodes with use_sim_time')
    rate: float = parameter(
        1.0, 'speed of the simulated clock; needs clock', minimum=0.01, maximum=100
    )
    lockstep: bool = parameter(
        False, 'hold the clock at each planning moment until its plan has come; needs clock'
    )
    lockstep_timeout_s: float = parameter(
        5.0, 'how long to hold it at most', unit='s', minimum=0.1, maximum=600
    )
    conversation: str = parameter('conversation', 'node whose plans lockstep waits for')

    def __post_init__(self):
        if not self.user and not self.agent:
            raise ValueError('user and agent are both empty; give the wav of at least one voice')
        if (self.rate != 1.0 or self.lockstep) and not self.clock:
            raise ValueError(
                f'rate {self.rate:g} and lockstep {self.lockstep} need clock: true, and '
                'use_sim_time: true in all other nodes; without it stamps would run away from '
                'the clock'
            )


class ReplayNode(Node):
    """
    Play a recording once.

    Attributes:
        done: completes when the recording and its tail are over.
        start_ns: stamp of the recording's first instant, 0 before it is known.
        n_timeouts: planning moments whose plan did not come in time, in lockstep.

    Raises:
        FileNotFoundError: there is no such recording.
        ValueError: a parameter or a recording is refused.
    """

    def __init__(self, **node_options):
        super().__init__('replay', **node_options)
        self._params = declare(self, ReplayParams)
        paths = {'user': self._params.user, 'agent': self._params.agent}
        self._voices = {name: read_voice(path) if path else None for name, path in paths.items()}
        self._duration_ns = max(voice.duration_ns for voice in self._voices.values() if voice)
        self._audio_pubs = {
            f'{name}/audio': self.create_publisher(
                AudioChunk, f'{name}/audio', QoSProfile(depth=500)
            )
            for name, voice in self._voices.items()
            if voice
        }
        self._clock_pub = self.create_publisher(ClockMsg, '/clock', 100)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._begin_ns = self._steady_ns()
        self._sim_ns = _SIM_START_NS
        self._events = self._next = self._lockstep = self._timing = None
        self._held_ns = self._told_ns = self._moment_ns = 0
        self.start_ns = self.n_timeouts = 0
        self.done = Future()
        if self._params.lockstep:
            self._client, self._ask = ask_timing(self, self._params.conversation)
            self._asked = None
            self.create_subscription(HeadMotionPlan, 'agent/motion_plan', self._on_plan, 100)
        self._timer = self.create_timer(0.05, self._on_wait, clock=self._steady)

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return self._duration_ns / _NS_PER_S

    @property
    def played_s(self) -> float:
        """How much of it was played."""
        played_ns = self._now_ns() - self.start_ns if self._events is not None else 0
        return max(0.0, min(played_ns, self._duration_ns) / _NS_PER_S)

    def _steady_ns(self) -> int:
        return self._steady.now().nanoseconds

    def _now_ns(self) -> int:
        """Return the time of the recording's stamps: the node's clock, or the one that we are."""
        if not self._params.clock:
            return self.get_clock().now().nanoseconds
        if self._params.lockstep:
            return self._sim_ns
        return _SIM_START_NS + round((self._steady_ns() - self._begin_ns) * self._params.rate)

    def _on_wait(self) -> None:
        """Start when each voice has its listeners, or the wait is over."""
        waited_s = (self._steady_ns() - self._begin_ns) / _NS_PER_S
        wanted = self._params.subscribers
        lonely = [t for t, p in self._audio_pubs.items() if p.get_subscription_count() < wanted]
        is_ready = not lonely and (not self._params.lockstep or self._has_timing())
        if not is_ready and waited_s < self._params.wait_s:
            return
        if lonely:
            self.get_logger().warning(
                f'fewer than {wanted} listen to {" and ".join(lonely)} after {waited_s:.0f} s; '
                'playing anyway'
            )
        self.destroy_timer(self._timer)
        self._start()

    def _has_timing(self) -> bool:
        """Ask the conversation node once it is there."""
        if self._asked is None and self._client.service_is_ready():
            self._asked = self._ask()
        if self._asked is not None and self._asked.done() and self._timing is None:
            self._timing = timing_from(self._asked.result())
        return self._timing is not None

    def _start(self) -> None:
        self._begin_ns = self._steady_ns()
        # Whole turns, with room to announce the agent's first words.
        turn_ns = round(self._params.turn_s * _NS_PER_S)
        lead_ms = (self._timing or self._params).agent_lead_ms
        ahead_ns = lead_ms * _NS_PER_MS + _NS_PER_S // 2
        self.start_ns = -(-(self._now_ns() + ahead_ns) // turn_ns) * turn_ns
        self._events = conversation_events(
            self._voices['user'],
            self._voices['agent'],
            self.start_ns,
            self._params.chunk_ms,
            lead_ms,
            self._params.turn_s,
        )
        self._next = next(self._events, None)
        self.get_logger().info(f'playing {self.duration_s:.1f} s of conversation')
        callback = self._on_play
        if self._params.lockstep:
            if self._timing is None:
                self._refuse(f'no node {self._params.conversation!r} to keep step with')
                return
            has_agent = self._voices['agent'] is not None
            self._lockstep = Lockstep(self._timing, self._params.turn_s, self.start_ns, has_agent)
            self._moment_ns = self._lockstep.next_moment(0)
            callback = self._on_step
        self._timer = self.create_timer(0.001, callback, clock=self._steady)

    def _refuse(self, text: str) -> None:
        self.get_logger().error(f'{text}; start it first, or play without lockstep')
        self.done.set_result(False)

    def _publish_until(self, now_ns: int) -> None:
        while self._next is not None and self.start_ns + self._next.at_ns <= now_ns:
            self._audio_pubs[self._next.topic].publish(self._next.msg)
            self._next = next(self._events, None)

    def _tell(self, now_ns: int) -> None:
        self._told_ns = self._steady_ns()
        self._clock_pub.publish(ClockMsg(clock=stamp_from_ns(now_ns)))

    def _end_if_over(self, now_ns: int) -> bool:
        tail_ns = round(self._params.tail_s * _NS_PER_S)
        if self._next is not None or now_ns <= self.start_ns + self._duration_ns + tail_ns:
            return False
        self.destroy_timer(self._timer)
        self.get_logger().info('the recording is over')
        self.done.set_result(True)
        return True

    def _on_play(self) -> None:
        """Publish what is due, tell the time, and come back for the next."""
        now_ns = self._now_ns()
        self._publish_until(now_ns)
        if self._params.clock:
            self._tell(now_ns)
        if self._end_if_over(now_ns):
            return
        until_ns = _CLOCK_STEP_NS
        if not self._params.clock and self._next is not None:
            until_ns = self.start_ns + self._next.at_ns - now_ns
        self._timer.timer_period_ns = max(round(until_ns / self._params.rate), 100_000)
        self._timer.reset()

    def _on_step(self) -> None:
        """Go on to the next planning moment and wait there for its plan."""
        if self._held_ns:
            self._hold()
            return
        for _ in range(_STEPS_AT_ONCE):
            self._sim_ns = min(self._sim_ns + _CLOCK_STEP_NS, self._moment_ns)
            self._publish_until(self._sim_ns)
            if self._end_if_over(self._sim_ns):
                return
            if self._sim_ns == self._moment_ns:
                # What was sent before the moment lies with its subscribers before they know of it.
                for publisher in self._audio_pubs.values():
                    publisher.wait_for_all_acked(Duration(seconds=1))
                self._held_ns = self._steady_ns()
                self._tell(self._sim_ns)
                return
            self._tell(self._sim_ns)

    def _hold(self) -> None:
        now_ns = self._steady_ns()
        if now_ns - self._held_ns > self._params.lockstep_timeout_s * _NS_PER_S:
            self.n_timeouts += 1
            played_s = (self._moment_ns - self.start_ns) / _NS_PER_S
            self.get_logger().warning(
                f'no plan came of {played_s:.2f} s within {self._params.lockstep_timeout_s:g} s '
                f'({self.n_timeouts} so far); going on without it'
            )
            self._release()
        elif now_ns - self._told_ns > _REPEAT_NS:
            self._tell(self._sim_ns)

    def _release(self) -> None:
        self._held_ns = 0
        self._moment_ns = self._lockstep.next_moment(self._moment_ns + 1)

    def _on_plan(self, msg: HeadMotionPlan) -> None:
        if self._held_ns and self._lockstep.answers(
            self._moment_ns, stamp_to_ns(msg.header.stamp)
        ):
            self._release()
            self._on_step()


def main(args=None):
    """Play a recording, then end."""
    rclpy.init(args=args)
    node = None
    try:
        node = ReplayNode()
        rclpy.spin_until_future_complete(node, node.done)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'replay: {error}') from None
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


if __name__ == '__main__':
    main()
