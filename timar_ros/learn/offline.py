# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Answer a recording without a clock: what the live node would have shown, frame by frame.

Every planning moment is played through in order; what counts at a moment is decided by stamps
(docs/design.md, Time), so packets may be pushed early and nothing is heard before its time.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
from fractions import Fraction

import numpy as np

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.plan import Plan

# Small against every window of memory in the conversation, large against the cost of a call.
_CHUNK_S = Fraction(1, 50)
_SECOND_NS = 1_000_000_000


@dataclasses.dataclass(frozen=True)
class Delivery:
    """
    A packet of one voice, and when it comes into play.

    Attributes:
        packet: as published.
        due_ns: no sample of it counts at a planning moment before this.
        arrival_ns: when it arrived, on the clock of the stamps.
    """

    packet: AudioPacket
    due_ns: int
    arrival_ns: int


def deliver_voice(voice: str, samples: np.ndarray, rate_hz: int, lead_ns: int) -> list[Delivery]:
    """
    Cut a recorded voice that starts at 0 into packets, as a microphone or a speaker sends them.

    Args:
        voice: 'user', whose packets come when they are captured, or 'agent', whose packets are
            sent `lead_ns` before they are played.
        samples: `[n]` or `[n, channels]` in [-1, 1].
        rate_hz: of each channel.
        lead_ns: of the agent.

    Returns:
        the packets in order.
    """
    samples = np.asarray(samples, np.float32)
    samples = samples.reshape(len(samples), -1)
    n_chunk = max(round(rate_hz * _CHUNK_S), 1)
    deliveries = []
    for start in range(0, len(samples), n_chunk):
        piece = samples[start : start + n_chunk]
        stamp_ns = start * _SECOND_NS // rate_hz
        if voice == 'agent':
            sent_ns = due_ns = arrival_ns = stamp_ns - lead_ns
        else:
            sent_ns, due_ns = None, stamp_ns
            arrival_ns = (start + len(piece)) * _SECOND_NS // rate_hz
        packet = AudioPacket(stamp_ns, start, sent_ns, rate_hz, piece)
        deliveries.append(Delivery(packet, due_ns, arrival_ns))
    return deliveries


def answer_recording(
    conversation: Conversation,
    voices: dict[str, tuple[np.ndarray, int]],
    user_motion: tuple[np.ndarray, np.ndarray] | None = None,
    progress: Callable[[float], object] = lambda seconds: None,
    on_plan: Callable[[Plan], object] = lambda plan: None,
) -> np.ndarray:
    """
    Play a recording that starts at 0 through a fresh conversation.

    Args:
        conversation: not used before.
        voices: 'user' and 'agent', or one of them: samples `[n]` or `[n, channels]` in [-1, 1]
            and their rate in Hz. Each is followed by silence up to the end of the last turn. The
            agent's voice is known ahead as if sent agent_lead before.
        user_motion: stamps int64 `[F]` ns and frames `[F, M]` of the user's head, if known.
        progress: called with the seconds done since the last call.
        on_plan: called with every plan.

    Returns:
        float32 `[round(fps · longer voice), M]`, what was shown; lived time in `reactive`.

    Raises:
        ValueError: there is no audio, or a voice is not finite.
    """
    voices = {name: voice for name, voice in voices.items() if len(voice[0])}
    if not voices:
        raise ValueError('expected at least one voice with samples, got silence of no length')
    config, timing = conversation.engine.model.config, conversation.schedule.timing
    n_frames = round(max(Fraction(len(x), rate) for x, rate in voices.values()) * config.fps)
    n_turns = -(-n_frames // config.frames_per_turn)
    length_s = Fraction(n_turns * config.frames_per_turn, config.fps)
    deliveries = {}
    for name, (samples, rate_hz) in voices.items():
        if not np.isfinite(samples).all():
            raise ValueError(f'the voice of the {name} must be finite, got NaN or infinity')
        padded = pad_voice(samples, rate_hz, length_s)
        deliveries[name] = deliver_voice(name, padded, rate_hz, timing.agent_lead_ms * 1_000_000)
    return answer_deliveries(
        conversation, deliveries, 0, n_frames, user_motion, progress, on_plan=on_plan
    )


def pad_voice(samples: np.ndarray, rate_hz: int, length_s: Fraction) -> np.ndarray:
    """Follow samples `[n]` or `[n, channels]` by silence up to a length; a longer voice stays."""
    n_silence = max(round(length_s * rate_hz) - len(samples), 0)
    return np.concatenate([samples, np.zeros((n_silence, *samples.shape[1:]), samples.dtype)])


def answer_deliveries(
    conversation: Conversation,
    deliveries: dict[str, Sequence[Delivery]],
    first_frame: int,
    n_frames: int,
    user_motion: tuple[np.ndarray, np.ndarray] | None = None,
    progress: Callable[[float], object] = lambda seconds: None,
    on_refused: Callable[[str], object] = lambda text: None,
    on_plan: Callable[[Plan], object] = lambda plan: None,
) -> np.ndarray:
    """
    Play packets that have stamps of their own through a fresh conversation.

    Args:
        conversation: not used before.
        deliveries: of each voice, in the order of their arrival.
        first_frame: of the grid (`schedule`), the first one wanted.
        n_frames: how many are wanted.
        user_motion: stamps int64 `[F]` ns, rising, and frames `[F, M]` of the user's head.
        progress: called with the seconds done since the last call.
        on_refused: called with what was wrong with a packet; the conversation goes on without it,
            as it does live.
        on_plan: called with every plan.

    Returns:
        float32 `[n_frames, M]`, what was shown; the neutral head before the first plan.
    """
    schedule = conversation.schedule
    shown = np.tile(conversation.space.neutral, (n_frames, 1)).astype(np.float32)
    feeds = {voice: _due_packets(packets) for voice, packets in deliveries.items()}
    pending = {voice: next(feed, None) for voice, feed in feeds.items()}
    frames = iter(zip(*user_motion, strict=True)) if user_motion is not None else iter(())
    pending_frame = next(frames, None)
    # Later moments change nothing that is wanted, and would miss a user who is not recorded.
    end_ns = schedule.frame_ns(first_frame + n_frames)
    if not schedule.is_anticipating:  # answers a turn after its end
        last_turn = (first_frame + n_frames - 1) // schedule.config.frames_per_turn
        end_ns = schedule.next_moment(schedule.turn_ns(last_turn + 1))
    begin_ns = min(first[0] for first in pending.values() if first is not None)
    moment = schedule.next_moment(begin_ns)
    while moment <= end_ns:
        for voice, feed in feeds.items():
            while pending[voice] is not None and pending[voice][0] <= moment:
                delivery = pending[voice][1]
                try:
                    conversation.push_audio(voice, delivery.packet, delivery.arrival_ns)
                except ValueError as error:
                    on_refused(str(error))
                pending[voice] = next(feed, None)
        while pending_frame is not None and pending_frame[0] <= moment:
            stamp_ns, motion = pending_frame
            conversation.push_user_motion(int(stamp_ns), np.asarray(motion, np.float32))
            pending_frame = next(frames, None)
        plan = conversation.plan(moment)
        if plan is not None:
            conversation.accept(plan)
            on_plan(plan)
            offset = plan.first_frame - first_frame
            begin, end = np.clip([offset, offset + len(plan.motion)], 0, n_frames)
            shown[begin:end] = plan.motion[begin - offset : end - offset]
            shown[end:] = conversation.space.neutral
        conversation.settle()
        following = schedule.next_moment(moment + 1)
        progress((following - moment) / _SECOND_NS)
        moment = following
    return shown


def _due_packets(deliveries: Sequence[Delivery]) -> Iterator[tuple[int, Delivery]]:
    """
    Say by which moment each packet must be pushed, keeping the order of arrival.

    A packet that arrived before one that is due earlier goes first, and early.
    """
    due_ns = np.array([delivery.due_ns for delivery in deliveries], np.int64)
    due_ns = np.minimum.accumulate(due_ns[::-1])[::-1]
    return zip(due_ns.tolist(), deliveries, strict=True)
