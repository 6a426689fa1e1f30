# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Answer a recording without a clock: what the live node would have shown, frame by frame.

The recording is pushed whole, then every planning moment is played through in order; what counts
at a moment is decided by stamps (DESIGN.md §5), so nothing is heard before its time.
"""

from collections.abc import Callable

import numpy as np

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.conversation import Conversation

# Small against every window of memory in the conversation, large against the cost of a call.
_CHUNK_S = 0.02
_SECOND_NS = 1_000_000_000


def answer_recording(
    conversation: Conversation,
    voices: dict[str, tuple[np.ndarray, int]],
    user_motion: tuple[np.ndarray, np.ndarray] | None = None,
    progress: Callable[[float], object] = lambda seconds: None,
) -> np.ndarray:
    """
    Play a recording that starts at 0 through a fresh conversation.

    Args:
        conversation: not used before.
        voices: 'user' and 'agent', or one of them: samples `[n]` or `[n, channels]` in [-1, 1]
            and their rate in Hz. The agent's voice is known ahead as if sent agent_lead before.
        user_motion: stamps int64 `[F]` ns and frames `[F, M]` of the user's head, if known.
        progress: called with the seconds done since the last call.

    Returns:
        float32 `[round(fps · longer voice), M]`, what was shown; lived time in `reactive`.

    Raises:
        ValueError: there is no audio, or a voice is not finite.
    """
    if not any(len(samples) for samples, _ in voices.values()):
        raise ValueError('expected at least one voice with samples, got silence of no length')
    schedule = conversation.schedule
    length_s = max(len(samples) / rate for samples, rate in voices.values())
    fps = conversation.engine.model.config.fps
    shown = np.tile(conversation.space.neutral, (round(length_s * fps), 1)).astype(np.float32)
    feeds = {voice: _Feed(voice, *recorded) for voice, recorded in voices.items()}
    motion_feed = iter(zip(*user_motion, strict=True)) if user_motion is not None else iter(())
    pending = next(motion_feed, None)
    lead_ns = schedule.timing.agent_lead_ms * 1_000_000
    # `reactive` answers the last turn after its end.
    end_ns = round(length_s * _SECOND_NS) + 2 * schedule.turn_ns(1)
    moment = schedule.next_moment(0)
    while moment <= end_ns:
        for voice, feed in feeds.items():
            feed.push_until(conversation, moment, lead_ns if voice == 'agent' else 0)
        while pending is not None and pending[0] <= moment:
            conversation.push_user_motion(int(pending[0]), np.asarray(pending[1], np.float32))
            pending = next(motion_feed, None)
        plan = conversation.plan(moment)
        if plan is not None:
            conversation.accept(plan)
            begin, end = max(plan.first_frame, 0), plan.first_frame + len(plan.motion)
            n = max(min(end, len(shown)) - begin, 0)
            shown[begin : begin + n] = plan.motion[begin - plan.first_frame :][:n]
            shown[begin + n :] = conversation.space.neutral
        conversation.settle()
        following = schedule.next_moment(moment + 1)
        progress((following - moment) / _SECOND_NS)
        moment = following
    return shown


class _Feed:
    """One recorded voice, pushed in chunks as its time comes."""

    def __init__(self, voice: str, samples: np.ndarray, rate_hz: int):
        samples = np.asarray(samples, np.float32)
        self._samples = samples.reshape(len(samples), -1)
        self._voice = voice
        self._rate_hz = rate_hz
        self._n_pushed = 0

    def push_until(self, conversation: Conversation, moment_ns: int, lead_ns: int) -> None:
        """Push all chunks that end at `moment_ns + lead_ns` or before."""
        n_chunk = max(round(self._rate_hz * _CHUNK_S), 1)
        while self._n_pushed < len(self._samples):
            start = self._n_pushed
            stop = min(start + n_chunk, len(self._samples))
            if stop * _SECOND_NS // self._rate_hz > moment_ns + lead_ns:
                return
            stamp_ns = start * _SECOND_NS // self._rate_hz
            packet = AudioPacket(
                stamp_ns=stamp_ns,
                first_sample=start,
                sent_ns=max(stamp_ns - lead_ns, 0) if lead_ns else stamp_ns,
                sample_rate_hz=self._rate_hz,
                samples=self._samples[start:stop],
            )
            conversation.push_audio(self._voice, packet, moment_ns)
            self._n_pushed = stop
