# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whether a voice speaks at a moment, and how loud, for ~/state.

Follows a voice in real time, so it reads what has come so far and never goes back; the
conversation has its own, more patient ears. Without a detector, loudness alone decides, and a loud
noise counts as speech.
"""

import dataclasses
import math

import numpy as np

from timar_ros.config import HearingConfig
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.buffer import VoiceTrack, index_of
from timar_ros.stream.channels import parse_channel
from timar_ros.stream.ingest import VoiceIngest
from timar_ros.stream.resample import SAMPLE_RATE_HZ
from timar_ros.stream.vad import SpeechDetector, SpeechState

_WINDOW = SAMPLE_RATE_HZ // 5  # samples, 200 ms: of the level, and the patience with late audio
_FLOOR_DB = -120.0
# Half way between a quiet room and soft speech; the slope says how sure one can be.
_SPEECH_DB, _SLOPE_DB = -45.0, 3.0
# Probabilities at which loudness begins to count as speech, and ends to.
_SPEAKS, _IS_SILENT = 0.6, 0.4


@dataclasses.dataclass(frozen=True)
class VoiceState:
    """How loud a voice is, dB of full scale, and how likely and whether it speaks."""

    level_db: float
    probability: float
    is_speaking: bool


class Speaking:
    """
    Follow one voice.

    Args:
        voice: 'user' or 'agent'.
        detector: of speech, None where there is none.
        hearing: how the conversation hears it; None = as it does by default.
    """

    def __init__(
        self,
        voice: str,
        detector: SpeechDetector | None,
        hearing: HearingConfig | None = None,
    ):
        hearing = hearing or HearingConfig()
        self._detector = detector
        self._track = VoiceTrack()
        channel = parse_channel(getattr(hearing, f'{voice}_channel'))
        self._ingest = VoiceIngest(voice, self._track, hearing.max_jitter_ms, channel)
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._ingest.reset()
        self._speech = SpeechState()
        self._next: int | None = None  # grid index up to which the detector has listened
        self._is_speaking = False

    def push(self, packet: AudioPacket, arrival_ns: int) -> None:
        """
        Take what the voice said.

        Raises:
            ValueError: the packet contradicts itself.
        """
        self._ingest.push(packet, arrival_ns)

    def at(self, now_ns: int) -> VoiceState:
        """Return the state of the voice at a moment; moments never fall, but for a reset."""
        now = index_of(now_ns)
        end = now if self._track.end is None else min(self._track.end, now)
        end = max(end, now - _WINDOW)  # what has not come by then is silence
        samples, is_present = self._track.read(end - _WINDOW, _WINDOW)
        # about the mean: a constant offset is no sound
        power = float(np.var(samples[is_present])) if is_present.any() else 0.0
        level_db = min(0.0, max(_FLOOR_DB, 10 * math.log10(power + 1e-12)))
        if self._detector is None:
            probability = 1 / (1 + math.exp(-(level_db - _SPEECH_DB) / _SLOPE_DB))
            self._is_speaking = probability > (_IS_SILENT if self._is_speaking else _SPEAKS)
            return VoiceState(level_db, probability, self._is_speaking)
        self._listen(end)
        return VoiceState(level_db, self._speech.probability, self._speech.is_speaking)

    def _listen(self, end: int) -> None:
        # After a pause of the caller, the last second tells who speaks now.
        start = max(end - SAMPLE_RATE_HZ, end - _WINDOW if self._next is None else self._next)
        if start < end:
            samples, _ = self._track.read(start, end - start)
            *_, self._speech = self._detector.listen(samples, self._speech)
            self._next = end
            self._track.forget_before(end - SAMPLE_RATE_HZ)
