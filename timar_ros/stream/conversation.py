# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A conversation from stamped audio to planned motion: buffers, schedule and engine put together.

The live node and the offline evaluator both run this, so that a recording gives the same motion
in both. Reads no clock: the caller says which planning moment it is. One thread at a time.

    push_audio ... push_user_motion ...      as it arrives
    plan = plan(moment)                      at each planning moment
    accept(plan)                             unless it came too late to be shown
    settle()                                 when there is time
"""

import numpy as np
import torch

from timar_ros.config import HearingConfig, SamplingConfig, TimingConfig
from timar_ros.model.timar import TIMAR
from timar_ros.model.turn import Turn
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.engine import Engine
from timar_ros.stream.level import ClipLevel, LevelState
from timar_ros.stream.memory import Memory
from timar_ros.stream.motion_track import MotionTrack
from timar_ros.stream.plan import Plan, PlanInForce, glide, stitch
from timar_ros.stream.schedule import Schedule
from timar_ros.stream.style import AgentStyle, Expressiveness, StyleTrack
from timar_ros.stream.voices import VOICES, Voices

# From the pose in which it was switched on to that of the first plans.
_WAKING_S = 1.0
# So many plans in a row that are not finite come from a memory that is not.
_MAX_BAD_PLANS = 3
_HEALED = (
    f'planned motion was NaN or infinite {_MAX_BAD_PLANS} times in a row; the memory of the '
    'conversation is forgotten, and it begins again'
)


class Conversation:
    """
    One conversation with a model.

    Args:
        model: weights; `TIMAR.config.sample_rate_hz` must be the grid's 16 kHz.
        timing: when to plan.
        sampling: how to draw.
        seed: of the noise.
        hearing: how the voices are heard.
        clip_levels: loudness of the whole recording by voice, as the published protocol has it;
            None = each sample by what came up to it, the only way there is live.
        style: of the agent until `push_style` sets another; None = not given.

    Raises:
        ValueError: the weights have no persona of this name.
    """

    def __init__(
        self,
        model: TIMAR,
        timing: TimingConfig | None = None,
        sampling: SamplingConfig | None = None,
        seed: int = 0,
        hearing: HearingConfig | None = None,
        clip_levels: dict[str, ClipLevel] | None = None,
        style: AgentStyle | None = None,
    ):
        self.schedule = Schedule(model.config, timing or TimingConfig())
        self.engine = Engine(model, sampling, open_turns=self.schedule.open_turns)
        self.space = model.space
        self._config = model.config
        self._seed = seed
        self._window_s = model.config.max_turns * model.config.turn_s
        self.hearing = hearing or HearingConfig()
        self._voices = Voices(self.schedule, self.hearing, clip_levels)
        self._user_motion = MotionTrack(model.config.n_channels)
        self._in_force = PlanInForce(self.space.neutral)
        if style is not None:
            style.check(model.config)
        self._styles = StyleTrack(style)
        self._expressiveness = Expressiveness(self.space, model.config.fps)
        self._n_plans = 0
        self._has_moved = False
        self._awake_at = 0
        self._warnings: list[str] = []
        names = 'plans turns resets clock_jumps missing_user_frames late_user_frames bad_plans'
        self._counts = dict.fromkeys(names.split(), 0)
        self._begin()

    def _begin(self) -> None:
        self._memory = Memory.of(self.engine.model)
        self._state = self.engine.new_state(self._seed)
        self._last_moment: int | None = None
        self._last_answered: int | None = None

    def reset(self) -> None:
        """Start again with the next sample; the head continues from its current pose."""
        self._voices.reset()
        self._user_motion.clear()
        self._counts['resets'] += 1
        self._begin()

    def follow(self, other: 'Conversation') -> None:
        """Continue from the motion that another conversation of the same weights shows."""
        self._in_force, self._has_moved = other._in_force, other._has_moved
        self._awake_at = other._awake_at
        self._n_plans = other._n_plans
        self._styles, self._expressiveness = other._styles, other._expressiveness

    def push_audio(self, voice: str, packet: AudioPacket, arrival_ns: int) -> None:
        """
        Take a packet of one voice.

        Args:
            voice: 'user' or 'agent'.
            packet: any rate, any channels.
            arrival_ns: when it came, on the clock of the stamps.

        Raises:
            ValueError: the packet contradicts itself; nothing was taken.
        """
        self._voices.push(voice, packet, arrival_ns)

    def push_user_motion(
        self, stamp_ns: int, motion: np.ndarray, now_ns: int | None = None
    ) -> None:
        """Take a frame `[M]` of the head; ValueError: it is stamped far ahead of `now_ns`."""
        self._user_motion.write(stamp_ns, motion, now_ns)

    def push_style(self, stamp_ns: int, style: AgentStyle) -> None:
        """
        Let the agent be so from a moment on; later plans follow, a reset does not change it.

        Raises:
            ValueError: the weights have no persona of this name.
        """
        style.check(self._config)
        self._styles.write(stamp_ns, style)

    def next_plan_ns(self, after_ns: int) -> int:
        """Return the first planning moment at `after_ns` or later."""
        return self.schedule.next_moment(after_ns)

    def counters(self) -> dict[str, int]:
        """Return what happened so far, by name."""
        return {**self._counts, **self._voices.counters()}

    def take_warnings(self) -> list[str]:
        """Return texts worth logging since the last call."""
        warnings, self._warnings = self._warnings, []
        return warnings + self._voices.take_warnings()

    def plan(self, moment_ns: int) -> Plan | None:
        """
        Plan the motion at a planning moment, from all that was pushed and counts by then.

        Moments may be left out, never repeated. A moment before the last one, or more than a
        window after it, is a jump of the clock: the conversation starts again.

        Args:
            moment_ns: from `next_plan_ns`.

        Returns:
            the plan, or None before the first sound of a voice. It takes effect by `accept`.
        """
        self._follow_clock(moment_ns)
        if self._memory.first_turn is None:
            self._memory.first_turn = self._voices.find_start(moment_ns)
            if self._memory.first_turn is None:
                return None
        if self.schedule.is_anticipating:
            while self.schedule.is_over(self._next_turn, moment_ns):
                self._commit(self._next_turn, moment_ns)
            first, motion = self._draft(moment_ns)
        else:
            newest = self.schedule.turn_of(self.schedule.heard_until(moment_ns)) - 1
            if newest < self._next_turn:
                return None
            while self._next_turn < newest:  # moments that were left out
                self._commit(self._next_turn, moment_ns)
            first, motion = self._answer(newest, moment_ns)
        if not np.all(np.isfinite(motion)):
            self._recover()
            return None
        self._memory.n_bad_plans = 0
        return self._make_plan(moment_ns, first, self.space.clamp(motion))

    def _recover(self) -> None:
        """Forget all after a few plans in a row that are not finite: nothing else heals them."""
        self._counts['bad_plans'] += 1
        self._memory.n_bad_plans += 1
        if self._memory.n_bad_plans >= _MAX_BAD_PLANS:
            self._counts['resets'] += 1
            self._begin()
            self._warnings.append(_HEALED)

    def accept(self, plan: Plan) -> None:
        """Put a plan in force; its frames count as shown from here on."""
        self._in_force.replace(plan.first_frame, plan.drawn)
        self._expressiveness.accept(plan.first_frame, plan.gains)
        self._has_moved = True
        self._last_answered = plan.first_frame // self._config.frames_per_turn

    def rest(self, moment_ns: int, shown_ns: int | None = None) -> Plan:
        """
        Return a plan that only glides to rest: the head is switched off, or its clock was set.

        Args:
            moment_ns: now.
            shown_ns: if the clock was just set, the current time on the clock before that: the
                glide starts at the pose shown then. None = the clock was not set.
        """
        first = self.schedule.first_planned_frame(moment_ns)
        before = self._in_force.read(first - 2, 2)
        if shown_ns is not None:
            before = self._in_force.read(self.schedule.frame_shown_at(shown_ns), 1)
            held = self.schedule.frame_shown_at(moment_ns)  # until the glide; it may be set again
            self._in_force.replace(held, np.repeat(before, first - held, axis=0))
        self._last_answered = None
        return self._number(moment_ns, first, glide(before, self.space.neutral, self._config.fps))

    def settle(self) -> None:
        """Do what can wait until the plan is out: slide the window, forget what is past."""
        self.engine.settle(self._state)
        if self._memory.first_turn is None:
            return
        turn = self._next_turn
        self._voices.forget_before(turn - 1)  # the turn before lingers in the room
        self._user_motion.forget_before(self.schedule.turn_ns(turn - 1))
        for in_force in (self._in_force, self._expressiveness):
            in_force.forget_before((turn - 1) * self._config.frames_per_turn)
        for ahead in self._memory.ahead.values():
            ahead.forget_before(turn)

    def listen(self, now_ns: int) -> None:
        """
        Encode ahead what counts by now of the turn being spoken; changes nothing but the cost.

        With `wav2vec2` this takes most of the speech encoding off the critical path: the user's
        convolutions run as samples come, the agent's voice is known before it sounds.
        """
        if self._memory.first_turn is None:
            return
        levels = self._memory.levels
        for turn in range(self._next_turn, self.schedule.turn_of(now_ns) + 1):
            after = {}
            for voice in VOICES:
                audio, _, after[voice] = self._hear(voice, turn, now_ns, levels[voice])
                ahead = self._memory.ahead[voice]
                if voice == 'agent' and self.schedule.is_known(turn, now_ns):
                    ahead.features(turn, audio)
                else:
                    ahead.listen(turn, audio)
            levels = after

    @property
    def _next_turn(self) -> int:
        """The first turn of the grid that is not committed."""
        return self._memory.first_turn + self._state.n_turns

    def _follow_clock(self, moment_ns: int) -> None:
        last, self._last_moment = self._last_moment, moment_ns
        if last is None:
            return
        if not 0 < moment_ns - last <= self._window_s * 1e9:
            self._counts['clock_jumps'] += 1
            self.reset()
            self._last_moment = moment_ns

    def _hear(self, voice: str, turn: int, moment_ns: int, level: LevelState):
        """Return audio `[1, S]` at even loudness, what of it is present, and the level after."""
        samples, is_present, level = self._voices.read(voice, turn, moment_ns, level)
        return torch.from_numpy(samples)[None], is_present, level

    def _turn(self, turn: int, moment_ns: int, levels: dict, n_shown: int) -> tuple[Turn, dict]:
        """
        Assemble what counts of a turn at this moment.

        Args:
            turn: of the grid.
            moment_ns: planning moment.
            levels: loudness of both voices up to this turn.
            n_shown: how many of its first frames are shown.

        Returns:
            the turn, and the loudness up to its end.
        """
        T = self._config.frames_per_turn
        speech, features, after = {}, {}, {}
        for voice in VOICES:
            speech[voice], is_present, after[voice] = self._hear(
                voice, turn, moment_ns, levels[voice]
            )
            features[voice] = self._memory.ahead[voice].features(turn, speech[voice])
            if voice == 'user':
                is_heard = is_present.reshape(T, -1).all(-1)
        grid = [self.schedule.frame_ns(turn * T + i) for i in range(T)]
        seen_until = self.schedule.heard_until(moment_ns)
        user_motion, is_seen = self._user_motion.read(grid, seen_until)
        shown = self._in_force.read(turn * T, T)
        style = self._styles.read(moment_ns)
        value = Turn(
            user_speech=speech['user'],
            user_heard=torch.from_numpy(is_heard)[None],
            user_motion=torch.from_numpy(user_motion)[None],
            user_seen=torch.from_numpy(is_seen)[None],
            agent_speech=speech['agent'],
            agent_motion=torch.from_numpy(shown)[None],
            is_shown=(torch.arange(T) < n_shown)[None],
            user_features=features['user'],
            agent_features=features['agent'],
            **({} if style is None else style.tensors(self._config)),
        )
        return value, after

    def _commit(self, turn: int, moment_ns: int) -> None:
        T = self._config.frames_per_turn
        value, self._memory.levels = self._turn(turn, moment_ns, self._memory.levels, T)
        self._count_turn(value)
        self.engine.commit(value, self._state)

    def _count_turn(self, value: Turn) -> None:
        self._counts['turns'] += 1
        if self._voices.has_user:
            self._counts['missing_user_frames'] += int((~value.user_heard).sum())

    def _draft(self, moment_ns: int) -> tuple[int, np.ndarray]:
        """Draft the open turns; return the first frame to plan and the motion from there on."""
        T = self._config.frames_per_turn
        planned = self.schedule.first_planned_frame(moment_ns)
        first_turn = self._next_turn
        levels, turns = self._memory.levels, []
        for turn in range(first_turn, self.schedule.last_open_turn(moment_ns) + 1):
            value, levels = self._turn(turn, moment_ns, levels, planned - turn * T)
            turns.append(value)
            if self._voices.has_user:
                # Null in this plan, though their time had come: what makes live differ.
                n_due = self.schedule.frame_at_or_before(self.schedule.heard_until(moment_ns))
                is_due = value.user_heard[0, : max(n_due - turn * T, 0)]
                self._counts['late_user_frames'] += int((~is_due).sum())
        drawn = self.engine.draft(turns, self._state)
        motion = drawn[0].flatten(0, 1).cpu().numpy()  # [N·T, M]
        first = max(planned, first_turn * T)
        for seam in range(T, len(motion), T):
            motion = stitch(motion, seam, first - first_turn * T, self.schedule.blend_frames)
        return first, self._take_over(first, motion[first - first_turn * T :])

    def _take_over(self, first: int, motion: np.ndarray) -> np.ndarray:
        """Blend a draft in; the neck of a head that has not moved yet takes longer."""
        if not self._has_moved:
            self._awake_at = first + round(_WAKING_S * self._config.fps)
        n_blend, n_waking = self.schedule.blend_frames, self._awake_at - first
        taken = self._in_force.blend(first, motion, n_blend)
        if n_waking > n_blend:
            neck = self.space.neck
            taken[:, neck] = self._in_force.blend(first, motion, n_waking)[:, neck]
        return taken

    def _answer(self, turn: int, moment_ns: int) -> tuple[int, np.ndarray]:
        """Answer a turn that is over, in the published protocol."""
        T = self._config.frames_per_turn
        value, self._memory.levels = self._turn(turn, moment_ns, self._memory.levels, 0)
        self._count_turn(value)
        motion = self.engine.step(value, self._state)[0].cpu().numpy()
        # Turns in a row are never blended; a turn that finds the head elsewhere, in the glide
        # after a missed plan or a reset, is.
        follows = self._last_answered == turn - 1 or not self._has_moved
        n_blend = 0 if follows else self.schedule.blend_frames
        return turn * T, self._in_force.blend(turn * T, motion, n_blend)

    def _make_plan(self, moment_ns: int, first: int, motion: np.ndarray) -> Plan:
        self._counts['plans'] += 1
        before = self._in_force.read(first - 2, 2)
        tail = glide(np.concatenate([before, motion])[-2:], self.space.neutral, self._config.fps)
        return self._number(moment_ns, first, np.concatenate([motion, self.space.clamp(tail)]))

    def _number(self, moment_ns: int, first: int, motion: np.ndarray) -> Plan:
        """Stamp, number and show frames `[n, M]` that begin at a frame of the grid."""
        T = self._config.frames_per_turn
        style = self._styles.read(moment_ns) or AgentStyle()
        gains = self._expressiveness.gains(first, len(motion), style.expressiveness)
        self._n_plans += 1
        frames = np.arange(first, first + len(motion))
        begin = self._memory.first_turn
        if begin is None:
            begin = first // T
        return Plan(
            plan=self._n_plans,
            moment_ns=moment_ns,
            first_frame=first,
            motion=self._expressiveness.apply(motion, gains),
            drawn=motion.astype(np.float32),
            gains=gains,
            stamp_ns=np.array([self.schedule.shown_ns(int(f)) for f in frames], np.int64),
            turn=np.maximum(frames // T - begin, 0),
            frame=frames % T,
            fps=self._config.fps,
        )
