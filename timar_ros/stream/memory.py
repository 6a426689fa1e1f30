# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for what a reset of a conversation forgets, beside the engine's state.

Not for filling it: the conversation does.
"""

import dataclasses

from timar_ros.model.timar import TIMAR
from timar_ros.stream.hearing import SpeechAhead
from timar_ros.stream.level import LevelState
from timar_ros.stream.voices import VOICES


@dataclasses.dataclass
class Memory:
    """
    State of a conversation between plans.

    Schema:
        first_turn: turn of the grid at which the conversation began; None before its first sample.
        levels: loudness of each voice up to the last committed turn.
        ahead: what is encoded already of each voice's open turns.
        n_bad_plans: in a row up to now, not finite.
    """

    levels: dict[str, LevelState]
    ahead: dict[str, SpeechAhead]
    first_turn: int | None = None
    n_bad_plans: int = 0

    @classmethod
    def of(cls, model: TIMAR) -> 'Memory':
        """Return the memory of a conversation that begins."""
        return cls(
            levels={voice: LevelState() for voice in VOICES},
            ahead={voice: SpeechAhead(model.speech, model.device) for voice in VOICES},
        )
