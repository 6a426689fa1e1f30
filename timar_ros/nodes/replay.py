# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The replay node: a recorded conversation on the topics of a live one, in real time.

Knows when to publish what `recording` has. With `clock` it is the graph's clock as well, at any
rate, for nodes with `use_sim_time`.
"""

import dataclasses

import rclpy
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from rosgraph_msgs.msg import Clock as ClockMsg

from timar_ros.msg import AudioChunk
from timar_ros.nodes.convert import stamp_from_ns
from timar_ros.nodes.params import declare, parameter
from timar_ros.nodes.recording import conversation_events, read_voice

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
# Where simulated time begins: 0 would mean "no time yet" to ROS.
_SIM_START_NS = 100 * _NS_PER_S
_CLOCK_STEP_NS = 10 * _NS_PER_MS


@dataclasses.dataclass(frozen=True)
class ReplayParams:
    """Parameters of the replay node; each says itself what it is."""

    user: str = parameter('', "wav of the user's voice; empty: silence")
    agent: str = parameter('', "wav of the agent's voice; empty: silence")
    chunk_ms: int = parameter(20, 'sound in one message', unit='ms', minimum=1, maximum=10000)
    agent_lead_ms: int = parameter(
        400, "how far ahead the agent's voice has to be known", unit='ms', minimum=0, maximum=5000
    )
    start_on_s: float = parameter(
        1.0,
        'the recording starts at a multiple of this on the clock: the turns of the weights',
        unit='s',
        minimum=0.01,
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

    def __post_init__(self):
        if not self.user and not self.agent:
            raise ValueError('user and agent are both empty; give the wav of at least one voice')
        if self.rate != 1.0 and not self.clock:
            raise ValueError(
                f'rate {self.rate:g} needs clock: true, and use_sim_time: true in all other '
                'nodes; without it stamps would run away from the clock'
            )


class ReplayNode(Node):
    """
    Play a recording once.

    Attributes:
        done: completes when the recording and its tail are over.

    Raises:
        FileNotFoundError: there is no such recording.
        ValueError: a parameter or a recording is refused.
    """

    def __init__(self, **node_options):
        super().__init__('replay', **node_options)
        self._params = declare(self, ReplayParams)
        paths = {'user': self._params.user, 'agent': self._params.agent}
        voices = {name: read_voice(path) for name, path in paths.items() if path}
        self._recording = {name: voices.get(name) for name in paths}
        self._duration_ns = max(voice.duration_ns for voice in voices.values())
        self._audio_pubs = {
            f'{name}/audio': self.create_publisher(
                AudioChunk, f'{name}/audio', QoSProfile(depth=500)
            )
            for name in voices
        }
        self._clock_pub = self.create_publisher(ClockMsg, '/clock', 100)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._begin_ns = self._steady_ns()
        self._events = None
        self._next = None
        self.start_ns = 0
        self.done = Future()
        self._wait_timer = self.create_timer(0.05, self._on_wait, clock=self._steady)

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
        """Return the time of the recording's stamps: simulated by us, or the node's."""
        if not self._params.clock:
            return self.get_clock().now().nanoseconds
        return _SIM_START_NS + round((self._steady_ns() - self._begin_ns) * self._params.rate)

    def _on_wait(self) -> None:
        """Start when each voice has its listeners, or the wait is over."""
        waited_s = (self._steady_ns() - self._begin_ns) / _NS_PER_S
        wanted = self._params.subscribers
        lonely = [t for t, p in self._audio_pubs.items() if p.get_subscription_count() < wanted]
        if lonely and waited_s < self._params.wait_s:
            return
        if lonely:
            self.get_logger().warning(
                f'fewer than {wanted} listen to {" and ".join(lonely)} after {waited_s:.0f} s; '
                'playing anyway'
            )
        self.destroy_timer(self._wait_timer)
        self._begin_ns = self._steady_ns()
        # Whole steps, with room to announce the agent's first words.
        step_ns = round(self._params.start_on_s * _NS_PER_S)
        ahead_ns = self._params.agent_lead_ms * _NS_PER_MS + _NS_PER_S // 2
        self.start_ns = -(-(self._now_ns() + ahead_ns) // step_ns) * step_ns
        self._events = conversation_events(
            self._recording['user'],
            self._recording['agent'],
            self.start_ns,
            self._params.chunk_ms,
            self._params.agent_lead_ms,
        )
        self._next = next(self._events, None)
        self.get_logger().info(f'playing {self.duration_s:.1f} s of conversation')
        self._play_timer = self.create_timer(1.0, self._on_play, clock=self._steady)
        self._on_play()

    def _on_play(self) -> None:
        """Publish what is due, tell the time, and come back for the next."""
        now_ns = self._now_ns()
        while self._next is not None and self.start_ns + self._next.at_ns <= now_ns:
            self._audio_pubs[self._next.topic].publish(self._next.msg)
            self._next = next(self._events, None)
        if self._params.clock:
            self._clock_pub.publish(ClockMsg(clock=stamp_from_ns(now_ns)))
        tail_ns = round(self._params.tail_s * _NS_PER_S)
        if self._next is None and now_ns > self.start_ns + self._duration_ns + tail_ns:
            self.destroy_timer(self._play_timer)
            self.get_logger().info('the recording is over')
            self.done.set_result(True)
            return
        until_ns = _CLOCK_STEP_NS
        if not self._params.clock:
            due_ns = self._next.at_ns + self.start_ns if self._next else now_ns + _CLOCK_STEP_NS
            until_ns = due_ns - now_ns
        self._play_timer.timer_period_ns = max(round(until_ns / self._params.rate), 100_000)
        self._play_timer.reset()


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
