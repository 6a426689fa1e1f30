# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for the agent's style over time: emotion, attitude, persona and expressiveness.

Not for how the model uses it. Emotion, attitude and persona are inputs of the model, if its
weights were trained with them. Expressiveness is a gain on the sampled motion: the past that the
model sees is without it.
"""

import bisect
import dataclasses
import math

import numpy as np
import torch

from timar_ros.config import TimarConfig
from timar_ros.model.turn import EMOTIONS, STYLE
from timar_ros.motion import MotionSpace
from timar_ros.stream.plan import PlanInForce
from timar_ros.strict import did_you_mean, quoted, shortened

NEUTRAL = 'neutral'
MAX_EXPRESSIVENESS = 2.0
# The gain takes as long as a gesture to change by 1; a step of it would be a jump of the head.
_GAIN_PER_S = 1.0
# Left as learned: what shapes the sounds, closes the lips and closes the eyes. FLAME's expression
# mixes all of it, so there only the neck has the gain.
_AS_LEARNED = ('jaw', 'mouth', 'tongue', 'eyeBlink', 'exp_')
_NOT_LIPS = ('mouthSmile', 'mouthFrown', 'mouthDimple')
_MAX_STYLES = 1000
_MAX_NAMED = 20  # names that a message lists


@dataclasses.dataclass(frozen=True)
class AgentStyle:
    """
    How the agent is to be.

    Attributes:
        emotion: 'neutral' or one of `model.turn.EMOTIONS`; '' = not said.
        intensity: of the emotion, 0..1.
        attitude: how the listener takes what it hears, -1 rejecting .. 1 approving.
        expressiveness: gain of motion about the neutral pose, 0..2; 1 = as learned.
        persona: one of the weights' names; '' = none.

    Raises:
        ValueError: a value is out of its range, or no emotion has that name.
    """

    emotion: str = ''
    intensity: float = 0.0
    attitude: float = 0.0
    expressiveness: float = 1.0
    persona: str = ''

    def __post_init__(self):
        known = (NEUTRAL, *EMOTIONS)
        if self.emotion and self.emotion not in known:
            raise ValueError(_unknown('emotion', self.emotion, known))
        for name, low, high in (
            ('intensity', 0.0, 1.0),
            ('attitude', -1.0, 1.0),
            ('expressiveness', 0.0, MAX_EXPRESSIVENESS),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f'{name} must be {low:g} to {high:g}, got {value:g}')

    def check(self, config: TimarConfig) -> None:
        """
        Compare with what the weights have learned.

        Raises:
            ValueError: they have personas, but none of this name.
        """
        if self.persona and config.personas and self.persona not in config.personas:
            raise ValueError(_unknown('persona', self.persona, config.personas))

    def ignored_by(self, config: TimarConfig) -> list[str]:
        """Return the names of the controls that are set but that these weights ignore."""
        asked = []
        if not config.style:
            has_emotion = self.emotion not in ('', NEUTRAL) and self.intensity > 0
            asked += ['emotion'] * has_emotion + ['attitude'] * (self.attitude != 0)
        if self.persona and not config.personas:
            asked.append('persona')
        return asked

    def tensors(self, config: TimarConfig) -> dict[str, torch.Tensor]:
        """Return `style` and `persona` of a `Turn` of one conversation."""
        style = torch.zeros(1, len(STYLE))
        style[0, 0] = float(bool(self.emotion or self.attitude))
        if self.emotion in EMOTIONS:
            style[0, STYLE.index(self.emotion)] = self.intensity
        style[0, STYLE.index('attitude')] = self.attitude
        persona = 0
        if self.persona in config.personas:
            persona = 1 + config.personas.index(self.persona)
        return {'style': style, 'persona': torch.tensor([persona])}


class StyleTrack:
    """
    Styles by when they hold from.

    Args:
        initial: held until the first one; None = nothing is said.
    """

    def __init__(self, initial: AgentStyle | None = None):
        self._initial = initial
        self._stamps: list[int] = []
        self._styles: list[AgentStyle] = []

    def write(self, stamp_ns: int, style: AgentStyle) -> None:
        """Let a style hold from a moment on; of two with one stamp the later written holds."""
        at = bisect.bisect_right(self._stamps, stamp_ns)
        self._stamps.insert(at, stamp_ns)
        self._styles.insert(at, style)
        if len(self._stamps) <= _MAX_STYLES:
            return
        if at < _MAX_STYLES:  # not the newest: forget the one that lies furthest ahead
            del self._stamps[-1], self._styles[-1]
        else:
            self._initial = self._styles[0]
            del self._stamps[0], self._styles[0]

    def read(self, moment_ns: int) -> AgentStyle | None:
        """Return the style that holds at a moment, None where nothing is said."""
        at = bisect.bisect_right(self._stamps, moment_ns)
        return self._styles[at - 1] if at else self._initial


class Expressiveness:
    """
    The gain on drawn motion, frame by frame; it changes gradually, and outlasts single plans.

    Args:
        space: says which channels have it: neck, brows, eyes, cheeks, nose, smile, frown and
            dimples; not jaw, lips, tongue and blinks, which stay as learned.
        fps: frames a second.
    """

    def __init__(self, space: MotionSpace, fps: int):
        self._space, self._step = space, _GAIN_PER_S / fps
        self.has_gain = np.array(
            [n.startswith(_NOT_LIPS) or not n.startswith(_AS_LEARNED) for n in space.names]
        )
        self._in_force = PlanInForce(np.ones(1))

    def gains(self, first_frame: int, n: int, wanted: float) -> np.ndarray:
        """Return the gain of `n` frames `[n, 1]`, on its way to the one that is wanted."""
        now = float(self._in_force.read(first_frame - 1, 1)[0, 0])
        way = np.arange(1, n + 1, dtype=np.float32)[:, None] * self._step
        return now + np.clip(wanted - now, -way, way)

    def apply(self, motion: np.ndarray, gains: np.ndarray) -> np.ndarray:
        """Return motion `[n, M]` with its gain, inside the limits of the channels."""
        neutral = self._space.neutral
        gained = self._space.clamp(neutral + gains * (motion - neutral))
        return np.where(self.has_gain, gained, motion).astype(np.float32)

    def accept(self, first_frame: int, gains: np.ndarray) -> None:
        """Let gains `[n, 1]` hold from a frame on; after the last of them the gain is 1."""
        self._in_force.replace(first_frame, gains)

    def forget_before(self, frame: int) -> None:
        """Drop the gains of frames before this one, which are not read any more."""
        self._in_force.forget_before(frame)


def _unknown(kind: str, name: str, known) -> str:
    names = ', '.join(shortened(each) for each in known[:_MAX_NAMED])
    return f'unknown {kind} {quoted(name)}; known: {names}{did_you_mean(name, known)}'
