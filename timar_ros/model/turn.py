# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
One turn of conversation: its values, its token layout, and which turn may see which.

Shape letters, for the whole project: `B` batch, `N` turns, `T` motion frames a turn, `S` audio
samples a turn, `L` tokens a turn (4T + 10), `W` tokens in the window (N·L), `D` model width,
`H` heads, `K` width a head, `M` motion channels, `E` token width, `Q` speech-feature width,
`U` denoiser width, `R` rows (frames taken together).
"""

import dataclasses
import math

import torch

# Tokens of one turn, T = frames of a modality (docs/model.md §2):
#
#   0      1        2..T+1       T+2   T+3      ...          2T+4  2T+5 ...         4T+8   4T+9
#   TURN | <user speech> T words </> | <user motion> T words </> | <agent speech> .. | ... | /TURN
#
# Ten separators: TURN, (open, close) of each of the four modalities, /TURN.
MODALITIES = ('user_speech', 'user_motion', 'agent_speech', 'agent_motion')
N_SEPARATORS = 2 + 2 * len(MODALITIES)
EMOTIONS = ('happy', 'sad', 'angry', 'surprised', 'afraid', 'disgusted')
# Whether a style is given at all, how much of each emotion (0..1), how the listener takes it
# (-1..1). Not given is not the same as neutral.
STYLE = ('is_given', *EMOTIONS, 'attitude')
_CONDITIONS = ('style', 'persona')


def slots(modality: str, n_frames: int) -> slice:
    """Return where the T tokens of a modality lie within a turn of L = 4T + 10 tokens."""
    start = 2 + MODALITIES.index(modality) * (n_frames + 2)
    return slice(start, start + n_frames)


def passes(n_frames: int, n_passes: int) -> list[slice]:
    """
    Say which frames each pass reveals, left to right, on a cosine schedule.

    Raises:
        ValueError: there are more passes than frames.
    """
    if n_passes > n_frames:
        raise ValueError(f'n_passes must be at most {n_frames} (frames a turn), got {n_passes}')
    ends, left = [], n_frames
    for i in range(n_passes):
        wanted = math.floor(n_frames * math.cos(math.pi / 2 * (i + 1) / n_passes))
        left = 0 if i == n_passes - 1 else max(1, min(left - 1, wanted))
        ends.append(n_frames - left)
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


def turn_causal_mask(
    n_turns: int, n_tokens: int, n_open: int = 1, context_turns: int | None = None
) -> torch.Tensor:
    """
    Say which token may attend to which: its own turn in both directions, and earlier turns.

    Args:
        n_turns: turns in the sequence.
        n_tokens: L, tokens a turn.
        n_open: the last turns, drafted together; all of them see the same past.
        context_turns: how many turns before itself (open turns: before the first open one) a turn
            sees; None = all.

    Returns:
        bool `[N·L, N·L]`, True = may attend.
    """
    query = torch.arange(n_turns)[:, None]
    key = torch.arange(n_turns)[None, :]
    may_attend = key <= query
    if context_turns is not None:
        first_open = n_turns - n_open
        may_attend &= key >= query.clamp(max=first_open) - context_turns
    return may_attend.repeat_interleave(n_tokens, 0).repeat_interleave(n_tokens, 1)


@dataclasses.dataclass(frozen=True)
class Turn:
    """
    What is known of one turn; with an `N` axis after `B`, of several turns in a row.

    Attributes:
        user_speech: `[B, S]` float, level-normalised; 0 where nothing was heard.
        user_heard: `[B, T]` bool; a False token is null to the model.
        user_motion: `[B, T, M]` in units of the motion space.
        user_seen: `[B, T]` bool; a False token is null to the model.
        agent_speech: `[B, S]` float, level-normalised; 0 is silence.
        agent_motion: `[B, T, M]` in units of the motion space, read where `is_shown`.
        is_shown: `[B, T]` bool; True = the model sees this frame, False = it draws it.
        style: `[B, 8]` how the agent is to be, as `STYLE` names it; None or zeros = not said.
        persona: int64 `[B]`, whose manner, counting `TimarConfig.personas` from 1; None or 0 =
            nobody's.
        user_features, agent_features: `[B, T, Q]` from the speech encoder, where they were
            computed ahead; None = encode the speech now.
    """

    user_speech: torch.Tensor
    user_heard: torch.Tensor
    user_motion: torch.Tensor
    user_seen: torch.Tensor
    agent_speech: torch.Tensor
    agent_motion: torch.Tensor
    is_shown: torch.Tensor
    style: torch.Tensor | None = None
    persona: torch.Tensor | None = None
    user_features: torch.Tensor | None = None
    agent_features: torch.Tensor | None = None

    def map(self, function) -> 'Turn':
        """Apply `function` to every tensor."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return Turn(**{k: None if v is None else function(v) for k, v in values.items()})

    def to(self, device) -> 'Turn':
        """Move every tensor to a device."""
        return self.map(lambda x: x.to(device, non_blocking=True))


def join_turns(turns: list[Turn], join) -> Turn:
    """
    Join values field by field.

    Args:
        turns: at least one.
        join: of tensors, e.g. `torch.stack` along N.

    Returns:
        one value; features that one of the turns lacks are computed anew for all, a style that
        some have is not said for the others.
    """
    values = {}
    for field in dataclasses.fields(Turn):
        column = [getattr(turn, field.name) for turn in turns]
        if any(value is None for value in column):
            column = _fill(field.name, column, turns)
        values[field.name] = None if column is None else join(column)
    return Turn(**values)


def _fill(name: str, column: list, turns: list[Turn]) -> list | None:
    said = [value for value in column if value is not None]
    if not said or name not in _CONDITIONS:
        return None
    n_turns_axis = said[0].dim() - (name == 'style')
    shapes = [
        (*turn.is_shown.shape[:n_turns_axis], *said[0].shape[n_turns_axis:]) for turn in turns
    ]
    return [
        said[0].new_zeros(shape) if value is None else value
        for value, shape in zip(column, shapes, strict=True)
    ]


def stack_turns(turns: list[Turn]) -> Turn:
    """Join N turns `[B, ...]` into one value `[B, N, ...]`."""
    return join_turns(turns, lambda column: torch.stack(column, dim=1))
