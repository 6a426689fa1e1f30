# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The conversation node: two voices in, head motion out.

Knows topics, life cycle and the node's clock. Callbacks only append; one worker thread hears and
plans, in the order in which things came.

    executor:  messages -> jobs       planning moments -> jobs       frames -> agent/motion
    worker:    jobs -> Session -> agent/motion_plan, whose frames go back to the executor
"""

import collections
import functools
import time

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_srvs.srv import SetBool, Trigger

from timar_ros.msg import ConversationState, HeadMotion, HeadMotionPlan, HeadStyle
from timar_ros.nodes import loading
from timar_ros.nodes.clock_jumps import ClockJumps
from timar_ros.nodes.convert import stamp_to_ns, state_to_msg
from timar_ros.nodes.diagnostics import Diagnostics
from timar_ros.nodes.health import Health, session_health
from timar_ros.nodes.hearing import VoiceSubscription
from timar_ros.nodes.latched import LatchedOrNotSubscription
from timar_ros.nodes.message_size import held_bytes, too_large
from timar_ros.nodes.params import declare
from timar_ros.nodes.playout import FrameQueue
from timar_ros.nodes.running import construct, run
from timar_ros.nodes.session import Session, style_key
from timar_ros.nodes.throttle import ThrottledWarnings
from timar_ros.nodes.transitions import AnsweringLifecycleNode, logged
from timar_ros.nodes.worker import Worker
from timar_ros.stream.voices import VOICES
from timar_ros.strict import quoted, shortened

_WATCH_S = 0.1
_DIAGNOSE_S = 1.0
_LISTEN_BEFORE_NS = 80_000_000  # speech is encoded ahead while no plan is due so soon
# Audio that arrived before a planning moment is heard before it, however the executor orders
# callbacks; a flood of audio puts a plan off by at most so many rounds.
_MAX_DRAIN_ROUNDS = 50
_LONGEST_TRACE = 3000  # characters
_LONGEST_STALL_NS = 60_000_000_000  # after a longer one the clock was set


class ConversationNode(AnsweringLifecycleNode):
    """
    Listen to a conversation and move the agent's head in it.

    Attributes:
        schedule: of the conversation, None before the first activation.
        is_active: it listens and plans.
    """

    def __init__(self, **node_options):
        super().__init__('conversation', **node_options)
        self._refusal = ''
        self._params = None
        try:
            self._params = declare(
                self, loading.ConversationParams, self._on_params, node_options.get('cli_args')
            )
        except ValueError as error:
            self._refusal = str(error)
        self.schedule = self._model = self._worker = self._session = None
        self._voices = {}
        self._entities = []
        self._styles = None
        self._frames = FrameQueue()
        self._plans = collections.deque()  # from the worker's thread
        self._log = ThrottledWarnings(self.get_logger())
        self._warn = self._log.warn
        self._counts = collections.Counter()  # the executor's
        self._worker_counts = collections.Counter()
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._next_moment_ns = self._due_ns = 0
        self._drain_rounds = self._n_heard_then = 0
        self._drained = self.create_guard_condition(self._on_drained)
        self._diagnostics, self._health = Diagnostics(self), Health()
        self.create_service(SetBool, '~/enable', self._on_enable)
        self.create_service(Trigger, '~/reset', self._on_reset)
        self.create_timer(_DIAGNOSE_S, self._on_diagnose, clock=self._steady)
        if self._refusal or self._params.activate_on_start:
            self.start_by_itself()

    is_active = property(lambda self: self._worker is not None)

    # Life cycle

    @logged
    def on_configure(self, state):
        """Load the weights, warm up, and begin to be found by publishers."""
        try:
            if self._refusal:
                raise ValueError(self._refusal)
            self._model = loading.load_model(self._params)
            self._detector = loading.load_detector(self.get_logger())
            for voice in VOICES:
                self._voices[voice] = VoiceSubscription(
                    self,
                    f'{voice}/audio',
                    getattr(self._params, f'{voice}_audio_type'),
                    functools.partial(self._on_audio, voice),
                    functools.partial(self._on_audio_info, voice),
                )
        except (OSError, ValueError, RuntimeError) as error:
            return self.refuse_to_configure(error, is_final=bool(self._refusal))
        if self._params.persona and not self._model.config.personas:
            name = quoted(self._params.persona)
            self._warn(f'these weights have no personas; persona {name} ignored')
        self._plan_pub = self.create_lifecycle_publisher(HeadMotionPlan, 'agent/motion_plan', 10)
        self._motion_pub = self.create_lifecycle_publisher(HeadMotion, 'agent/motion', 50)
        self._state_pub = self.create_lifecycle_publisher(ConversationState, '~/state', 10)
        any_qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._entities = [
            self.create_subscription(HeadMotion, 'user/head_motion', self._on_user_motion, any_qos)
        ]
        self._styles = LatchedOrNotSubscription(
            self, HeadStyle, 'agent/style', self._on_style, key_of=style_key
        )
        config = self._model.config
        self.get_logger().info(
            f'configured: {config.motion_space}, {config.turn_s:g} s turns on '
            f'{self._model.device}, timing {self._params.timing}'
        )
        return super().on_configure(state)

    @logged
    def on_activate(self, state):
        """Start a new conversation."""
        params = self._params
        conversation = loading.begin_conversation(self._model, params)
        self.schedule = conversation.schedule
        outlets = (self._now_ns, self._publish_plan, self._warn)
        previous = self._session
        formats = params.stated_formats()
        self._session = Session(
            conversation, self._detector, params.frame_id, *outlets, previous, formats
        )
        self._worker = Worker(self._on_refused, self._on_fault)
        self._frames.clear()
        self._plans.clear()
        self._next_moment_ns = self.schedule.next_moment(self._now_ns() + 1)
        self._plan_timer = self.create_timer(1.0, self._on_plan_timer)
        self._frame_timer = self.create_timer(1 / self.schedule.config.fps, self._on_frame_timer)
        self._arm(self._plan_timer, self._next_moment_ns)
        self._watch_timer = self.create_timer(_WATCH_S, self._on_watch, clock=self._steady)
        self._clock_jumps = ClockJumps(self, lambda: self._now_ns(), self._on_jump)
        self._styles.take_latched()
        self.get_logger().info('active: a new conversation begins with the next sound')
        return super().on_activate(state)

    @logged
    def on_deactivate(self, state):
        """Glide to rest and forget the conversation."""
        self._stop(glide=True)
        self.get_logger().info('inactive')
        return super().on_deactivate(state)

    @logged
    def on_cleanup(self, state):
        """Free the model."""
        self._free()
        return super().on_cleanup(state)

    @logged
    def on_shutdown(self, state):
        """Glide to rest, and free everything."""
        self._stop(glide=True)
        self._free()
        return super().on_shutdown(state)

    def destroy_node(self):
        """Join the worker's thread, then go."""
        self._stop(glide=False)
        super().destroy_node()
        # rclpy leaves its services, and with them the node, on the graph until they are collected.
        self._state_machine.destroy_when_not_in_use()

    def release(self) -> None:
        """Free all that transitions have made, wherever one of them failed."""
        self._stop(glide=False)
        self._free()

    def _stop(self, glide: bool) -> None:
        if self._worker is None:
            return
        self._worker.stop()
        if glide:
            self._session.rest()
        self._worker = None
        self._clock_jumps.close()
        for timer in (self._plan_timer, self._frame_timer, self._watch_timer):
            self.destroy_timer(timer)

    def _free(self) -> None:
        self._model = self._session = None
        for voice in self._voices.values():
            voice.close()
        self._voices = {}
        for entity in self._entities:
            self.destroy_subscription(entity)
        if self._styles is not None:
            self._styles.close()
        self._styles = None
        if self._entities:
            for publisher in (self._plan_pub, self._motion_pub, self._state_pub):
                self.destroy_lifecycle_publisher(publisher)
        self._entities = []

    # Input: append, nothing else

    def _on_audio(self, voice: str, msg) -> None:
        if self._worker is None:
            return
        self._counts[f'{voice}_messages'] += 1
        now_ns = self._now_ns()
        if not now_ns:
            self._warn(
                'use_sim_time is set and no /clock has come; audio is dropped until it does'
            )
            return
        job, n_bytes = functools.partial(self._session.hear, voice, msg, now_ns), held_bytes(msg)
        problem = too_large(n_bytes)
        if problem:
            self._counts['refused_messages'] += 1
            self._warn(f'{voice} audio: {problem}')
        elif not self._worker.do(job, n_bytes):
            self._warn('the worker is behind by minutes of audio; the newest is dropped')

    def _on_audio_info(self, voice: str, info) -> None:
        if self._worker is not None:
            job = functools.partial(self._session.describe, voice, info)
            self._worker.do(job, n_bytes=held_bytes(info))

    def _on_user_motion(self, msg: HeadMotion) -> None:
        if self._worker is not None:
            self._worker.do(functools.partial(self._session.see, msg), n_bytes=held_bytes(msg))

    def _on_style(self, msg: HeadStyle) -> None:
        if self._worker is not None:
            now_ns, persona = self._now_ns(), self._params.persona
            job = functools.partial(self._session.restyle, msg, now_ns, persona)
            self._worker.do(job, n_bytes=held_bytes(msg))

    def _on_params(self, params: loading.ConversationParams) -> None:
        self._params = params
        if self._worker is not None:
            self._worker.do(lambda: self._session.set_sampling(params.sampling_config()))

    def _on_enable(self, request, response):
        word = 'enabled' if request.data else 'disabled: gliding to rest'
        return self._order(lambda: self._session.enable(request.data), word, response)

    def _on_reset(self, _, response):
        return self._order(lambda: self._session.reset(), 'a new conversation begins', response)

    def _order(self, job, done: str, response):
        response.success = self.is_active
        response.message = done if response.success else 'not active; activate the node first'
        if response.success:
            self._worker.do(job)
            self.get_logger().info(done)
        return response

    # Time

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _arm(self, timer, at_ns: int) -> None:
        timer.timer_period_ns = max(at_ns - self._now_ns(), 1000)
        timer.reset()

    def _on_plan_timer(self) -> None:
        if self._clock_jumps.look():
            return
        now_ns, moment_ns = self._now_ns(), self._next_moment_ns
        if moment_ns <= now_ns:
            if now_ns - moment_ns > _LONGEST_STALL_NS:
                moment_ns = self.schedule.next_moment(now_ns - _LONGEST_STALL_NS)
            following_ns = self.schedule.next_moment(moment_ns + 1)
            while following_ns <= now_ns:
                self._session.n_passed_moments += 1
                moment_ns = following_ns
                following_ns = self.schedule.next_moment(moment_ns + 1)
            self._due_ns, self._next_moment_ns = moment_ns, following_ns
            self._drain_rounds, self._n_heard_then = 0, self._n_heard()
            self._drained.trigger()
        self._arm(self._plan_timer, self._next_moment_ns)

    def _n_heard(self) -> int:
        return sum(self._counts[f'{voice}_messages'] for voice in VOICES)

    def _on_drained(self) -> None:
        if self._worker is None or not self._due_ns:
            return
        n_heard, self._drain_rounds = self._n_heard(), self._drain_rounds + 1
        if n_heard != self._n_heard_then and self._drain_rounds < _MAX_DRAIN_ROUNDS:
            self._n_heard_then = n_heard
            self._drained.trigger()
            return
        self._session.newest_moment_ns = self._due_ns
        self._worker.do(functools.partial(self._session.plan, self._due_ns))
        self._due_ns = 0

    def _on_frame_timer(self) -> None:
        if self._clock_jumps.look():
            return
        while self._plans:
            self._frames.replace(self._plans.popleft())
        now_ns = self._now_ns()
        for frame in self._frames.due(now_ns):
            self._counts['frames'] += 1
            self._motion_pub.publish(frame)
        soon_ns = now_ns + 1_000_000_000 // self.schedule.config.fps
        self._arm(self._frame_timer, min(soon_ns, self._frames.next_ns(soon_ns)))

    def _on_watch(self) -> None:
        self._clock_jumps.look()
        now_ns = self._now_ns()
        self._worker.do(functools.partial(self._publish_state, now_ns), n_bytes=1)
        if self._next_moment_ns - now_ns > _LISTEN_BEFORE_NS:
            self._worker.do(functools.partial(self._session.listen, now_ns), n_bytes=1)

    def _on_jump(self, step_ns: int) -> None:
        if self._worker is None:
            return
        now_ns = self._now_ns()
        self._frames.clear()
        self._plans.clear()
        self._session.newest_moment_ns = self._due_ns = 0
        self._worker.do(functools.partial(self._session.jump, now_ns, step_ns))
        self._next_moment_ns = self.schedule.next_moment(now_ns + 1)
        self._arm(self._plan_timer, self._next_moment_ns)
        self._arm(self._frame_timer, now_ns)

    # Output, in the worker's thread

    def _publish_plan(self, msg: HeadMotionPlan) -> None:
        # First of all it is in force: in lockstep the clock goes on as soon as it is out.
        self._plans.append([(stamp_to_ns(frame.header.stamp), frame) for frame in msg.frames])
        self._plan_pub.publish(msg)

    def _publish_state(self, now_ns: int) -> None:
        self._state_pub.publish(state_to_msg(now_ns, **self._session.voices(now_ns)))

    def _on_refused(self, text: str) -> None:
        self._worker_counts['refused_messages'] += 1
        self._warn(text)

    def _on_fault(self, trace: str) -> None:
        if self.context.ok():
            self._worker_counts['faults'] += 1
            self._log.error(
                'a job failed, and a new conversation begins',
                details=lambda: shortened(trace, _LONGEST_TRACE),
            )
            self._session.reset()

    # Health

    def _on_diagnose(self) -> None:
        if self._styles is not None:
            self._styles.match()
        for voice in list(self._voices.values()):
            voice.match()
            if voice.crowd:
                self._warn(voice.crowd)
        counters, figures = dict(self._counts + self._worker_counts), {}
        counters['refused_transitions'] = self.n_refused_transitions
        if self._worker is not None:
            of_session, figures = session_health(self._session, self._worker)
            counters = {**of_session, **counters}
        rates = ('user_messages', 'agent_messages', 'plans', 'frames')
        trouble, shown = self._health.look(counters, figures, rates, time.monotonic())
        unheard = [voice.problem for voice in self._voices.values() if voice.problem]
        trouble = '; '.join([*unheard, *([trouble] if trouble else [])])
        if self._worker is None:
            error = DiagnosticStatus.ERROR
            self._diagnostics.publish(shown, self._refusal, note='not active', level=error)
        else:
            self._diagnostics.publish(shown, trouble)


def main(args=None):
    """Run the node until a signal."""
    params = loading.ConversationParams
    run('conversation', lambda: [construct(ConversationNode)], args, params=params)


if __name__ == '__main__':
    main()
