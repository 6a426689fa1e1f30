# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A conversation played through faster than life: packets in the order of arrival, every moment.

Knows tiny weights, a dialogue, and how to measure what the head shows. Knows no fault.
"""

from collections.abc import Callable, Iterable
import copy
import dataclasses
import importlib.util
import os
import pathlib
import time

import numpy as np
from scipy.io import wavfile
import torch

from timar_ros.config import SamplingConfig, TimingConfig
from timar_ros.model.timar import TIMAR
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.conversation import VOICES, Conversation
from timar_ros.stream.noise import draw_noise
from timar_ros.stream.plan import Plan
from timar_ros.stream.resample import SAMPLE_RATE_HZ, Resampler
from timar_ros.stream.schedule import Schedule

_TEST = pathlib.Path(__file__).parents[1]
_DEMO = _TEST.parent / 'config' / 'demo'
SECOND_NS = 1_000_000_000
CHUNK_S = 0.02
# A whole number of turns since 1970, as stamps of a system clock are.
BEGIN_NS = 1_760_000_000 * SECOND_NS
TIMING = TimingConfig()
# Two turns of the window are open; of the two others one is remembered.
_SAMPLING = SamplingConfig(temperature=0.0, context_turns=1)
# The user's chunks arrive so long after their last sample.
_TRAVEL_NS = 5_000_000
_ANNOUNCE_NS = 100_000_000


def tiny_model() -> TIMAR:
    """
    Return weights that are quick, and whose memory reaches back one turn (`_SAMPLING`).

    One layer that attends to one committed turn: what was heard two turns ago is forgotten, not
    merely faded, but for the loudness. Motion that is still wrong then is the machinery's fault.
    The head is held 0.5 rad down and moves little: a jump to neutral would show.
    """
    spec = importlib.util.spec_from_file_location('timar_test_conftest', _TEST / 'conftest.py')
    conftest = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(conftest)
    changes = {
        'cache': 'banded',
        'level': 'causal',
        'frames_per_turn': 25,
        'max_turns': 4,
        'n_layers': 1,
        'even_tokens': False,  # as when docs/faults.md was written
        'persistence': 0,  # motion would remember where the head was, turn after turn
    }
    model = conftest._make_model(is_stub=False, **changes)
    model.motion_std[model.space.neck] *= 0.014
    model.motion_mean[model.space.neck] = torch.tensor([0.5, 0.0, 0.0])
    return model


def same_noise(seeds, first_turn, n_turns, *shape) -> torch.Tensor:
    """Draw the noise of turn 0 for every turn: conversations begun at other times compare."""
    noise = draw_noise(seeds, 0, 1, *shape)
    return noise.expand(noise.shape[0], n_turns, *noise.shape[2:])


class WatchedConversation(Conversation):
    """One that keeps its last draft `[n, M]`, from the plan's first frame on, before the blend."""

    def _take_over(self, first: int, motion: np.ndarray) -> np.ndarray:
        self.draft = motion
        return super()._take_over(first, motion)


def make_conversation(model: TIMAR) -> WatchedConversation:
    """Begin a conversation whose motion does not depend on how many turns it has had."""
    conversation = WatchedConversation(model, TIMING, _SAMPLING)
    conversation.engine._noise = same_noise
    return conversation


@dataclasses.dataclass(frozen=True)
class Event:
    """
    A packet that arrives.

    Attributes:
        arrival_ns: when.
        voice: 'user' or 'agent'.
        packet: what.
    """

    arrival_ns: int
    voice: str
    packet: AudioPacket

    @property
    def stamp_ns(self) -> int:
        """When its first sample was captured or is to be played."""
        return self.packet.stamp_ns


def read_dialogue() -> dict[str, np.ndarray]:
    """Return the demo's two voices, float32 at 16 kHz, equally long."""
    voices = {}
    for voice in VOICES:
        rate_hz, samples = wavfile.read(_DEMO / f'{voice}.wav')
        voices[voice] = Resampler(rate_hz).resample(samples / np.float32(32768))
    n = min(map(len, voices.values()))
    return {voice: samples[:n] for voice, samples in voices.items()}


def dialogue_events(
    dialogue: dict[str, np.ndarray], first_chunk: int, n_chunks: int
) -> Iterable[Event]:
    """
    Yield the packets of a dialogue, repeated for ever, as good publishers send them.

    Args:
        dialogue: of `read_dialogue`.
        first_chunk: 20 ms each, counted from `BEGIN_NS`.
        n_chunks: of each voice.
    """
    n, chunk_ns = round(CHUNK_S * SAMPLE_RATE_HZ), round(CHUNK_S * SECOND_NS)
    lead_ns = TIMING.agent_lead_ms * 1_000_000 + _ANNOUNCE_NS
    for index in range(first_chunk, first_chunk + n_chunks):
        stamp_ns = BEGIN_NS + index * chunk_ns
        for voice in VOICES:
            at = np.arange(index * n, (index + 1) * n) % len(dialogue[voice])
            arrival_ns = stamp_ns + chunk_ns + _TRAVEL_NS
            if voice == 'agent':
                arrival_ns = stamp_ns - lead_ns
            sent_ns = arrival_ns if voice == 'agent' else None
            packet = AudioPacket(
                stamp_ns, index * n, sent_ns, SAMPLE_RATE_HZ, dialogue[voice][at][:, None]
            )
            yield Event(arrival_ns, voice, packet)


class Stage:
    """
    A head that shows what is planned, and what can be measured of it.

    Attributes:
        refused: packets that raised.
        peak_kib: the most that the conversation held of audio and motion at a moment.
        plan_ms: what each plan cost, with what can wait.
        jump_deg: by how much more than a blend may, a frame of a new plan left the plan before it.
        first_frame: of those shown that are still known.
    """

    def __init__(self, conversation: WatchedConversation, begin_ns: int = BEGIN_NS):
        """Begin just before `begin_ns`."""
        self.conversation = conversation
        self.refused, self.peak_kib, self.jump_deg = 0, 0.0, 0.0
        self.plan_ms: list[float] = []
        self._schedule = conversation.schedule
        self.first_frame = self._schedule.frame_at_or_after(begin_ns)
        self._frames: list[np.ndarray] = []
        self._moment_ns = conversation.next_plan_ns(begin_ns)

    def play(
        self,
        events: Iterable[Event],
        until_ns: int,
        is_stalled: Callable[[int], bool] = lambda moment_ns: False,
        is_late: Callable[[int], bool] = lambda moment_ns: False,
    ) -> None:
        """
        Push what arrives, in that order, and plan at every moment before `until_ns`.

        Args:
            events: in any order; all of them are pushed in the end.
            until_ns: last moment.
            is_stalled: moments that nobody finds time to plan at.
            is_late: moments whose plan comes too late to be shown.
        """
        waiting = sorted(events, key=lambda event: event.arrival_ns)
        position = 0
        while self._moment_ns < until_ns:
            moment_ns = self._moment_ns
            if not is_stalled(moment_ns):
                while position < len(waiting) and waiting[position].arrival_ns <= moment_ns:
                    self._push(waiting[position])
                    position += 1
                self._plan(moment_ns, is_late(moment_ns))
            self._moment_ns = self.conversation.next_plan_ns(moment_ns + 1)
        for event in waiting[position:]:
            self._push(event)

    def fork(self) -> 'Stage':
        """Copy all but the weights; the two then go their own ways."""
        model = self.conversation.engine.model
        return copy.deepcopy(self, {id(part): part for part in (model, model.speech)})

    def forget_before(self, frame: int) -> None:
        """Forget what was shown before a frame of the grid."""
        n = max(frame - self.first_frame, 0)
        self._frames, self.first_frame = self._frames[n:], self.first_frame + n

    def _push(self, event: Event) -> None:
        try:
            self.conversation.push_audio(event.voice, event.packet, event.arrival_ns)
        except ValueError:
            self.refused += 1

    def _plan(self, moment_ns: int, is_late: bool) -> None:
        started = time.perf_counter()
        plan = self.conversation.plan(moment_ns)
        if plan is not None and not is_late:
            self._look_at_seam(plan)
            self.conversation.accept(plan)
            self._show(plan)
        self.conversation.settle()
        self.plan_ms.append(1000 * (time.perf_counter() - started))
        self.peak_kib = max(self.peak_kib, held_kib(self.conversation))

    def _look_at_seam(self, plan: Plan) -> None:
        """
        Compare a plan with what would be shown without it, frame by frame of the blend.

        Against the draft itself: in a single frame two drafts may differ by any angle, when a few
        more frames of a voice are heard. That is the model's doing, which a blend must not hide
        from this measure, nor be held responsible for.
        """
        n = self._schedule.blend_frames + 1
        at = plan.first_frame - self.first_frame
        shown = self._frames[at : at + n]
        rest = self.conversation.space.neutral
        old = np.array(shown + [rest] * (n - len(shown)))
        neck = self.conversation.space.neck
        way, gone = (
            np.rad2deg(np.linalg.norm((motion[:n] - old)[:, neck], axis=-1))
            for motion in (self.conversation.draft, plan.motion)
        )
        most = largest_blend_step(self._schedule) * np.arange(1, n + 1) * way
        self.jump_deg = max(self.jump_deg, float((gone - most).max()))

    def _show(self, plan: Plan) -> None:
        assert np.isfinite(plan.motion).all()
        at = plan.first_frame - self.first_frame
        rest = self.conversation.space.neutral
        self._frames += [rest] * (at - len(self._frames))
        self._frames[at:] = list(plan.motion)

    def neck_deg(self) -> np.ndarray:
        """Return what the head shows from `first_frame` on: rotation vectors `[n, 3]`, degrees."""
        return np.rad2deg(np.array(self._frames)[:, self.conversation.space.neck])


def held_kib(conversation: Conversation) -> float:
    """Return how much audio and motion a conversation holds, KiB."""
    voices, n_bytes = conversation._voices, conversation._in_force._motion.nbytes
    for ingest in voices._ingests.values():
        for track in (ingest.track, *(run.native for run in ingest._runs)):
            n_bytes += sum(piece[3].nbytes + 100 for piece in track._pieces)
    n_bytes += sum(frame.nbytes for frame in conversation._user_motion._frames)
    return n_bytes / 1024


def largest_blend_step(schedule: Schedule) -> float:
    """Return the largest share of the way from one plan to the next that a frame takes."""
    return 1 / (schedule.blend_frames + 1)


def largest_step_deg(neck_deg: np.ndarray) -> float:
    """Return the largest angle between two frames in a row, degrees."""
    return float(np.linalg.norm(np.diff(neck_deg, axis=0), axis=-1).max())


def resident_mib() -> float:
    """Return how much memory this process occupies, MiB."""
    pages = int(pathlib.Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / 2**20
