# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The replay node: a recorded conversation on the topics of a live one.

Plays in real time, or is the graph's clock for nodes with `use_sim_time`: at any rate, or in
lockstep, where the clock waits at each planning moment until the plan has come. Can be paused and
moved. What to publish when is `recording`'s and `recording_bag`'s.

    the graph's time = start_ns + position of the playhead
"""

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.task import Future
from rosgraph_msgs.msg import Clock as ClockMsg
from std_srvs.srv import SetBool

from timar_ros.msg import HeadMotionPlan
from timar_ros.nodes.convert import stamp_from_ns, stamp_to_ns
from timar_ros.nodes.lockstep import Lockstep, ask_timing, timing_from
from timar_ros.nodes.params import declare
from timar_ros.nodes.playhead import Playhead
from timar_ros.nodes.recording import WavRecording
from timar_ros.nodes.recording_bag import BagRecording
from timar_ros.nodes.replay_params import ReplayParams
from timar_ros.nodes.running import construct, run

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
# Where simulated time begins for wavs: 0 would mean "no time yet" to ROS.
_SIM_START_NS = 100 * _NS_PER_S
_CLOCK_STEP_NS = 10 * _NS_PER_MS
_STEPS_AT_ONCE = 20
# A clock that stands is told again, for whoever missed it.
_REPEAT_NS = 100 * _NS_PER_MS


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
        self._params = params = declare(
            self, ReplayParams, self._on_params, node_options.get('cli_args')
        )
        if params.bag:
            self._recording = BagRecording(params.bag, params.topics, params.listening)
        else:
            self._recording = WavRecording(
                params.user,
                params.agent,
                params.chunk_ms,
                params.turn_s,
                params.listening.channels,
            )
        self._duration_ns = self._recording.duration_ns
        self._seek_ns(params.seek_s)  # told before anything is started
        self._pubs = {
            topic: self.create_publisher(kind, topic, QoSProfile(depth=500))
            for topic, kind in self._recording.message_types.items()
        }
        self._clock_pub = self.create_publisher(ClockMsg, '/clock', 100)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._begin_ns = self._steady_ns()
        self._playhead = Playhead(0, params.rate)
        self._is_paused = params.paused
        self._events = self._next = self._lockstep = self._timing = self._arrived = None
        self._held_ns = self._told_ns = self._moment_ns = 0
        self._n_notes = 0
        self.start_ns = self.n_timeouts = 0
        self.done = Future()
        self.create_service(SetBool, '~/pause', self._on_pause)
        self.add_on_set_parameters_callback(self._check_seek)
        self._seeks_after_setting = hasattr(self, 'add_post_set_parameters_callback')  # Jazzy on
        if self._seeks_after_setting:
            self.add_post_set_parameters_callback(self._on_set)
        if params.lockstep:
            self._client, self._ask = ask_timing(self, params.conversation)
            self._asked = None
            self.create_subscription(HeadMotionPlan, 'agent/motion_plan', self._on_plan, 100)
        self._timer = self.create_timer(0.05, self._on_wait, clock=self._steady)

    @property
    def duration_s(self) -> float:
        """Length of the recording."""
        return self._duration_ns / _NS_PER_S

    @property
    def played_s(self) -> float:
        """Where in the recording it is."""
        position_ns = self._position_ns() if self._events is not None else 0
        return max(0.0, min(position_ns, self._duration_ns) / _NS_PER_S)

    def _steady_ns(self) -> int:
        return self._steady.now().nanoseconds

    def _tick_ns(self) -> int:
        """Return the clock that moves the playhead: without /clock of ours, the node's."""
        return self._steady_ns() if self._params.clock else self.get_clock().now().nanoseconds

    def _position_ns(self) -> int:
        return self._playhead.position(self._tick_ns())

    def _lead_ms(self) -> int:
        return (self._timing or self._params).agent_lead_ms

    # Beginning

    def _on_wait(self) -> None:
        """Start when each voice has its listeners, or the wait is over."""
        waited_s = (self._steady_ns() - self._begin_ns) / _NS_PER_S
        wanted = self._params.subscribers
        voices = {topic: pub for topic, pub in self._pubs.items() if topic.endswith('/audio')}
        lonely = [t for t, pub in voices.items() if pub.get_subscription_count() < wanted]
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
        if self._params.lockstep and self._timing is None:
            self.get_logger().error(
                f'no node {self._params.conversation!r} to keep step with; start it first, or '
                'play without lockstep'
            )
            self.done.set_result(False)
            return
        if self._timing is not None:
            self._lockstep = Lockstep(self._timing, self._params.turn_s)
        if self._params.clock:
            # bags keep their stamps, wavs have none
            self.start_ns = self._recording.begin_ns or self._turn_after(_SIM_START_NS)
        state = ', paused' if self._is_paused else ''
        self.get_logger().info(f'playing {self.duration_s:.1f} s of conversation{state}')
        seek_ns = self._seek_ns(self._params.seek_s)
        self._go_to(seek_ns, before_ns=self._ahead_ns())
        callback = self._on_step if self._lockstep else self._on_play
        self._timer = self.create_timer(0.001, callback, clock=self._steady)

    def _ahead_ns(self) -> int:
        """Return how long before a position to begin: the agent's first words are announced."""
        return self._lead_ms() * _NS_PER_MS + _NS_PER_S // 2

    def _turn_after(self, stamp_ns: int) -> int:
        turn_ns = round(self._params.turn_s * _NS_PER_S)
        return -(-(stamp_ns + self._ahead_ns()) // turn_ns) * turn_ns

    # Moving

    def _seek_ns(self, seek_s: float) -> int:
        if seek_s > self.duration_s:
            raise ValueError(
                f'seek_s must be at most {self.duration_s:.2f}, the length of the recording, '
                f'got {seek_s:g}'
            )
        return round(seek_s * _NS_PER_S)

    def _go_to(self, position_ns: int, before_ns: int = 0) -> None:
        """Continue from a position; with `clock`, start `before_ns` earlier."""
        tick_ns = self._tick_ns()
        if self._params.clock:
            begin_ns = position_ns - before_ns
        else:
            # stamps go with the system's clock: the recording's start is put to where they fit
            turn_ns = round(self._params.turn_s * _NS_PER_S)
            self.start_ns = self._turn_after(tick_ns - position_ns // turn_ns * turn_ns)
            begin_ns = tick_ns - self.start_ns
        self._resume_ns = position_ns
        self._events = self._recording.events(self.start_ns, position_ns, self._lead_ms())
        self._next = next(self._events, None)
        if self._params.clock:
            # to find the place in a bag takes a while, in which the clock stands
            tick_ns = self._tick_ns()
        self._playhead.seek(begin_ns, tick_ns)
        if self._lockstep:
            self._lockstep.forget()
            self._held_ns, self._arrived = 0, None
            self._moment_ns = self._lockstep.next_moment(self.start_ns + begin_ns)
        elif not self._is_paused:
            self._playhead.resume(tick_ns)
        if self._params.clock:
            self._tell(self.start_ns + begin_ns)

    def _check_seek(self, parameters) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == 'seek_s' and isinstance(parameter.value, float | int):
                try:
                    self._seek_ns(parameter.value)
                except ValueError as error:
                    return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_set(self, parameters) -> None:
        """Seek to `seek_s` each time that it is set, even to an unchanged value."""
        for parameter in parameters:
            if parameter.name == 'seek_s' and self._events is not None:
                self.get_logger().info(f'going to {parameter.value:g} s')
                self._go_to(self._seek_ns(parameter.value))

    def _on_params(self, params: ReplayParams) -> None:
        before, self._params = self._params, params
        self._playhead.set_rate(params.rate, self._tick_ns())
        if not self._seeks_after_setting and params.seek_s != before.seek_s:
            self._go_to(self._seek_ns(params.seek_s))

    def _on_pause(self, request, response):
        response.success = True
        tick_ns = self._tick_ns()
        if request.data != self._is_paused:
            self._is_paused = request.data
            if self._events is None or self._lockstep:
                pass
            elif request.data:
                self._playhead.pause(tick_ns)
            elif self._params.clock:
                self._playhead.resume(tick_ns)
            else:
                self._go_to(max(self._playhead.position(tick_ns), self._resume_ns))
        response.message = f'{"paused" if self._is_paused else "playing"} at {self.played_s:.2f} s'
        self.get_logger().info(response.message)
        return response

    # Playing

    def _publish_until(self, position_ns: int) -> None:
        while self._next is not None and self._next.at_ns <= position_ns:
            event = self._next
            self._pubs[event.topic].publish(event.msg)
            if self._lockstep and event.topic.endswith('/audio'):
                stamps = stamp_to_ns(event.msg.header.stamp), stamp_to_ns(event.msg.sent)
                self._lockstep.note(event.topic.split('/')[0], *stamps)
            self._next = next(self._events, None)
        for note in self._recording.notes[self._n_notes :]:
            self._n_notes += 1
            self.get_logger().warning(note)

    def _tell(self, stamp_ns: int) -> None:
        self._told_ns = self._steady_ns()
        self._clock_pub.publish(ClockMsg(clock=stamp_from_ns(stamp_ns)))

    def _end_if_over(self, position_ns: int) -> bool:
        tail_ns = round(self._params.tail_s * _NS_PER_S)
        if self._next is not None or position_ns <= self._duration_ns + tail_ns:
            return False
        self.destroy_timer(self._timer)
        self.get_logger().info('the recording is over')
        self.done.set_result(True)
        return True

    def _on_play(self) -> None:
        """Publish what is due and the time, and set the timer for the next step."""
        position_ns = self._position_ns()
        if not self._is_paused:
            self._publish_until(position_ns)
        if self._params.clock:
            self._tell(self.start_ns + position_ns)
        if self._end_if_over(position_ns):
            return
        until_ns = _CLOCK_STEP_NS
        if self._is_paused:
            until_ns = _REPEAT_NS if self._params.clock else _CLOCK_STEP_NS
        elif not self._params.clock and self._next is not None:
            until_ns = self._next.at_ns - position_ns
        self._timer.timer_period_ns = max(round(until_ns / self._params.rate), 100_000)
        self._timer.reset()

    def _on_step(self) -> None:
        """Advance to the next planning moment and wait there for its plan."""
        if self._held_ns:
            self._hold()
            return
        if self._arrived is not None:
            waited_ns = self._steady_ns() - self._told_ns
            timeout_ns = self._params.lockstep_timeout_s * _NS_PER_S
            if not self._arrived.done() and waited_ns < timeout_ns:
                return
            self._arrived = None
        sim_ns = self.start_ns + self._playhead.position(0)
        if self._is_paused:
            if self._steady_ns() - self._told_ns > _REPEAT_NS:
                self._tell(sim_ns)
            return
        for _ in range(_STEPS_AT_ONCE):
            sim_ns = min(sim_ns + _CLOCK_STEP_NS, self._moment_ns)
            self._playhead.seek(sim_ns - self.start_ns, 0)
            self._publish_until(sim_ns - self.start_ns)
            if self._end_if_over(sim_ns - self.start_ns):
                return
            if sim_ns == self._moment_ns:
                if self._lockstep.expects_plan(self._moment_ns):
                    # Its answer comes behind all that was published before: the node has heard
                    # that, and may know of the moment. (DDS acknowledges seconds later.)
                    self._arrived = self._ask()
                    self._held_ns = self._steady_ns()
                    return
                self._release()
            self._tell(sim_ns)
        # Far from the next moment the node has to follow, too: a clock that runs ahead jumps.
        self._arrived = self._ask()

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
        elif self._arrived is not None:
            if self._arrived.done():
                self._arrived = None
                self._tell(self._moment_ns)
        elif now_ns - self._told_ns > _REPEAT_NS:
            self._tell(self._moment_ns)

    def _release(self) -> None:
        self._held_ns, self._arrived = 0, None
        self._moment_ns = self._lockstep.next_moment(self._moment_ns + 1)

    def _on_plan(self, msg: HeadMotionPlan) -> None:
        if self._held_ns and self._lockstep.answers(
            self._moment_ns, stamp_to_ns(msg.header.stamp)
        ):
            self._release()
            self._on_step()


def main(args=None):
    """Play a recording, then end."""
    nodes = []

    def make():
        nodes.append(construct(ReplayNode))
        return nodes

    def is_over() -> bool:
        return nodes[0].done.done()

    run('replay', make, args, is_over, params=ReplayParams)
    if nodes and nodes[0].done.done() and not nodes[0].done.result():
        raise SystemExit(1)  # its last message says why


if __name__ == '__main__':
    main()
