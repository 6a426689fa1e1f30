# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
From one activation to the next deactivation: what is heard goes in, plans come out.

Everything here runs in the worker's thread, job by job. Topics and clocks are the node's: it hands
in functions for both.
"""

import collections
import dataclasses
import time

from timar_ros.config import SamplingConfig
from timar_ros.msg import HeadStyle
from timar_ros.nodes.convert import motion_from_msg, plan_to_msg, stamp_to_ns
from timar_ros.nodes.speaking import Speaking, VoiceState
from timar_ros.stream.audio import AudioFormat, format_from_info, packet_from_fields
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.plan import Plan
from timar_ros.stream.style import AgentStyle
from timar_ros.stream.vad import SpeechDetector
from timar_ros.stream.voices import VOICES

_N_TIMES = 1000


@dataclasses.dataclass
class Times:
    """
    What the last plans cost, ms; appended to by the worker, read by anyone.

    Attributes:
        latency: from the planning moment to the plan being published, on the node's clock.
        engine: of that, the time inside the conversation.
        added: the rest: timers, waiting, messages.
    """

    latency: collections.deque = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=_N_TIMES)
    )
    engine: collections.deque = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=_N_TIMES)
    )
    added: collections.deque = dataclasses.field(
        default_factory=lambda: collections.deque(maxlen=_N_TIMES)
    )


class Session:
    """
    Run one conversation for the node.

    Args:
        conversation: new, or reset.
        detector: of speech, None where there is none.
        frame_id: of the neck's base, for the messages.
        now_ns: reads the node's clock.
        publish: called with each plan's message.
        warn: called with each text worth a warning.
        previous: session that has left the head where this one finds it, None before the first.
        stated: formats of voices whose messages do not state theirs.
    """

    def __init__(
        self,
        conversation: Conversation,
        detector: SpeechDetector | None,
        frame_id: str,
        now_ns,
        publish,
        warn,
        previous: 'Session | None' = None,
        stated: dict[str, AudioFormat | None] | None = None,
    ):
        if previous is not None:
            conversation.follow(previous._conversation)
        self.times = Times()
        self.counters = conversation.counters()
        self.n_late_plans = 0
        self.n_skipped_moments = 0
        # Written by the executor alone: the newest planning moment requested, and how many
        # had passed before they could be.
        self.newest_moment_ns = 0
        self.n_passed_moments = 0
        self._conversation = conversation
        self._frame_id = frame_id
        self._now_ns = now_ns
        self._publish = publish
        self._warn = warn
        self._is_enabled = True
        self._n_clock_jumps = 0
        self._formats = {}
        self._stated = stated or {}
        self._ignored = set() if previous is None else previous._ignored
        self._speaking = {
            voice: Speaking(voice, detector, conversation.hearing) for voice in VOICES
        }

    def hear(self, voice: str, msg, arrival_ns: int) -> None:
        """
        Take an audio message of any known type.

        Raises:
            ValueError: it contradicts itself, or its format is not known.
        """
        if not self._is_enabled:
            return
        audio_format = self._formats.get(voice) or self._stated.get(voice)
        try:
            packet = packet_from_fields(msg, audio_format)
        except ValueError as error:
            raise ValueError(f'{voice} audio: {error}') from None
        self._conversation.push_audio(voice, packet, arrival_ns)
        self._speaking[voice].push(packet, arrival_ns)

    def describe(self, voice: str, info) -> None:
        """
        Take the format that a driver states for its audio (`audio_common_msgs/AudioInfo`).

        Raises:
            ValueError: the audio is compressed or its format unknown.
        """
        self._formats.pop(voice, None)
        self._formats[voice] = format_from_info(info)

    def see(self, msg) -> None:
        """
        Take one frame of the user's head.

        Raises:
            ValueError: it is not finite, its expression is malformed, or it is stamped far ahead.
        """
        stamp_ns, motion = motion_from_msg(self._conversation.space, msg)
        now_ns = self._now_ns()
        self._conversation.push_user_motion(stamp_ns or now_ns, motion, now_ns)

    def restyle(self, msg, arrival_ns: int, persona: str) -> None:
        """
        Move so from a moment on.

        Args:
            msg: HeadStyle.
            arrival_ns: when it came.
            persona: where it names none.

        Raises:
            ValueError: a value is out of its range, or a name unknown; nothing changes.
        """
        stamp_ns, style = style_from_msg(msg, arrival_ns, persona)
        self._conversation.push_style(stamp_ns, style)
        for control in style.ignored_by(self._conversation.schedule.config):
            if control not in self._ignored:
                self._ignored.add(control)
                self._warn(f'these weights have not learned {control}; agent/style goes without')

    def plan(self, moment_ns: int) -> None:
        """Plan for one moment, unless a newer one already waits; then do what can wait."""
        if not self._is_enabled:
            return
        if moment_ns < self.newest_moment_ns:
            self.n_skipped_moments += 1
            return
        started = time.perf_counter()
        plan = self._conversation.plan(moment_ns)
        engine_ms = 1000 * (time.perf_counter() - started)
        if plan is not None:
            if self._now_ns() <= plan.stamp_ns[0]:
                self._put_in_force(plan)
            else:
                self.n_late_plans += 1
                self._warn(
                    f'a plan came after its first frame was due: {engine_ms:.0f} ms of planning; '
                    'the current plan continues; this machine is too slow or too busy: end other '
                    'programs, or raise plan_latency_ms, or take smaller weights'
                )
            latency_ms = (self._now_ns() - moment_ns) / 1e6
            self.times.latency.append(latency_ms)
            self.times.engine.append(engine_ms)
            self.times.added.append(latency_ms - engine_ms)
        self._conversation.settle()
        self._look_back()

    def listen(self, now_ns: int) -> None:
        """Encode what has come meanwhile, so that the next plan need not; changes no plan."""
        if self._is_enabled:
            self._conversation.listen(now_ns)

    def rest(self, shown_ns: int | None = None) -> None:
        """Glide to rest from where the head is, or was at a moment before the clock was set."""
        if self._conversation.counters()['plans']:
            self._put_in_force(self._conversation.rest(self._now_ns(), shown_ns))
            self._look_back()

    def reset(self) -> None:
        """Start a new conversation; the head continues from its current pose."""
        self._conversation.reset()
        for speaking in self._speaking.values():
            speaking.reset()
        self._look_back()

    def jump(self, now_ns: int, step_ns: int) -> None:
        """Follow a clock that was set by `step_ns`; the head glides from its current pose."""
        config = self._conversation.schedule.config
        is_anew = not 0 < step_ns <= config.max_turns * config.turn_s * 1e9
        if now_ns > step_ns:  # the first tick of a simulated clock is no jump
            self._n_clock_jumps += 1
            then = 'a new conversation starts' if is_anew else 'the conversation continues'
            self._warn(f'the clock jumped by {step_ns / 1e9:.3f} s; {then}')
        if is_anew:
            self.reset()
        self.rest(now_ns - step_ns)

    def enable(self, is_enabled: bool) -> None:
        """Plan and listen, or glide to rest and then do neither."""
        if is_enabled == self._is_enabled:
            return
        if not is_enabled:
            self.rest()
        self.reset()
        self._is_enabled = is_enabled

    def set_sampling(self, sampling: SamplingConfig) -> None:
        """Draw differently from the next plan on."""
        self._conversation.engine.sampling = sampling

    def voices(self, now_ns: int) -> dict[str, VoiceState]:
        """Return the state of both voices at a moment."""
        return {voice: self._speaking[voice].at(now_ns) for voice in VOICES}

    def _put_in_force(self, plan: Plan) -> None:
        msg = plan_to_msg(
            self._conversation.space,
            plan.plan,
            plan.fps,
            plan.stamp_ns,
            plan.turn,
            plan.frame,
            plan.motion,
            self._frame_id,
        )
        self._publish(msg)
        self._conversation.accept(plan)

    def _look_back(self) -> None:
        self.counters = self._conversation.counters()
        self.counters['clock_jumps'] += self._n_clock_jumps
        for text in self._conversation.take_warnings():
            self._warn(text)


def style_key(msg: HeadStyle):
    """Return what two messages of the same style have in common."""
    manner = msg.emotion, msg.intensity, msg.attitude, msg.expressiveness, msg.persona
    return stamp_to_ns(msg.header.stamp), hash(manner)


def style_from_msg(msg: HeadStyle, arrival_ns: int, persona: str) -> tuple[int, AgentStyle]:
    """
    Return from when on a style holds, ns, and the style.

    Args:
        msg: as published; without a stamp it holds from its arrival.
        arrival_ns: when it came.
        persona: where the message names none.

    Raises:
        ValueError: a value is out of its range, or there is no such emotion.
    """
    style = AgentStyle(
        msg.emotion, msg.intensity, msg.attitude, msg.expressiveness, msg.persona or persona
    )
    return stamp_to_ns(msg.header.stamp) or arrival_ns, style
