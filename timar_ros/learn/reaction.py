# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How soon the head answers a change in what it hears, and whether new plans show as steps.

`python -m timar_ros.learn.reaction --user U.wav --agent A.wav` plants changes at random moments of
the user's audio: speech where there was none, silence where there was speech. The time until a
shown frame differs from the answer to the unchanged recording is the reaction time. It is decided
by stamps, so it is the same on every machine that meets its deadlines.
"""

import argparse
from collections.abc import Callable, Sequence
import dataclasses
import pathlib
import sys

import numpy as np
from tqdm import tqdm

from timar_ros.command import end
from timar_ros.config import TimingConfig
from timar_ros.learn.behaviour import head_steps, voice_activity
from timar_ros.learn.offline import answer_recording
from timar_ros.learn.share import SHIPPED_CHECKPOINT, find_shared
from timar_ros.learn.timing_options import add_timing_options
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.resample import SAMPLE_RATE_HZ, Resampler
from timar_ros.stream.wav import read_wav
from timar_ros.strict import in_a_sentence, number, whole_number

# What a person notices of a head, and how far a conversation is remembered.
DIFFERENCE_DEG = 0.5
_BEFORE_S = 9.0
_AFTER_S = 3.0


@dataclasses.dataclass(frozen=True)
class Reaction:
    """
    The answer to one planted change.

    Attributes:
        at_s: when the user's audio changed.
        is_onset: True = speech began, False = it ended.
        after_s: until a shown frame differed; None = not within 3 s.
    """

    at_s: float
    is_onset: bool
    after_s: float | None


def plant_change(
    user: np.ndarray, at: int, rng: np.random.Generator
) -> tuple[np.ndarray, bool] | None:
    """
    Change the user's audio from a sample on.

    Args:
        user: float32 `[n]` at 16 kHz.
        at: the first sample that changes.
        rng: chooses the speech that is put in.

    Returns:
        the changed audio, and whether speech was put in; None where the half second from `at` on
        is neither speech nor silence throughout.
    """
    fps = 25
    speaks = voice_activity(user, SAMPLE_RATE_HZ, fps)
    frame = at * fps // SAMPLE_RATE_HZ
    here = speaks[frame : frame + fps // 2]
    changed = user.copy()
    if here.all():
        changed[at:] = 0.0
        return changed, False
    if here.any():
        return None
    begins = np.flatnonzero(np.diff(speaks.astype(int)) == 1) + 1
    long = [begin for begin in begins if speaks[begin : begin + fps].all()]
    if not long:
        return None
    first = int(rng.choice(long)) * SAMPLE_RATE_HZ // fps
    speech = user[first : first + len(user) - at]
    changed[at : at + len(speech)] = speech
    return changed, True


def reaction_time(
    neck: np.ndarray, changed: np.ndarray, at_s: float, fps: int, difference_deg: float
) -> float | None:
    """
    Return the seconds from a change until the head is elsewhere than without it.

    Args:
        neck: rotation vectors `[T, 3]`, rad, without the change; frame i is shown at i / fps.
        changed: `[T, 3]`, with it.
        at_s: when it was made.
        fps: frames a second.
        difference_deg: what counts as elsewhere, angle between the two heads.
    """
    apart = head_steps(neck, changed)
    late = np.flatnonzero((apart > difference_deg) & (np.arange(len(apart)) >= at_s * fps))
    return float(late[0] / fps - at_s) if len(late) else None


def measure_reactions(
    make_conversation: Callable[[], Conversation],
    voices: dict[str, np.ndarray],
    n_changes: int,
    seed: int = 0,
    difference_deg: float = DIFFERENCE_DEG,
    progress: Callable[[], object] = lambda: None,
) -> list[Reaction]:
    """
    Plant changes in the user's audio and time the head's answers.

    Args:
        make_conversation: begins one; called twice for each change.
        voices: 'user' and 'agent', float32 at 16 kHz, at least 15 s.
        n_changes: how many; about half are onsets.
        seed: of where they are.
        difference_deg: what counts as an answer.
        progress: called after each change.

    Raises:
        ValueError: the recording is too short, or has not both speech and silence of the user.
    """
    rng = np.random.default_rng(seed)
    config = make_conversation().engine.model.config
    n = min(len(voice) for voice in voices.values())
    # A conversation begins with its first sample: a change falls anywhere in a turn only if it
    # comes after any time.
    shortest, after = round(_BEFORE_S * SAMPLE_RATE_HZ), round(_AFTER_S * SAMPLE_RATE_HZ)
    longest = shortest + config.samples_per_turn
    if n < longest + after + SAMPLE_RATE_HZ:
        raise ValueError(
            f'expected two voices of at least {_BEFORE_S + config.turn_s + _AFTER_S + 1:g} s, '
            f'got {n / SAMPLE_RATE_HZ:.1f} s'
        )
    reactions: list[Reaction] = []
    n_tries = 0
    while len(reactions) < n_changes:
        n_tries += 1
        if n_tries > 100 * n_changes:
            raise ValueError('expected speech and silence in the voice of the user, got only one')
        at, before = int(rng.integers(longest, n - after)), int(rng.integers(shortest, longest))
        planted = plant_change(voices['user'], at, rng)
        wanted = len(reactions) % 2 == 0
        if planted is None or planted[1] != wanted:
            continue
        cut = slice(at - before, at + after)
        necks = []
        for user in (voices['user'], planted[0]):
            conversation = make_conversation()
            heard = {'user': user[cut], 'agent': voices['agent'][cut]}
            motion = answer_recording(
                conversation, {name: (voice, SAMPLE_RATE_HZ) for name, voice in heard.items()}
            )
            necks.append(motion[:, conversation.space.neck])
        after_s = reaction_time(*necks, before / SAMPLE_RATE_HZ, config.fps, difference_deg)
        reactions.append(Reaction(at / SAMPLE_RATE_HZ, wanted, after_s))
        progress()
    return reactions


def measure_seams(
    conversation: Conversation, voices: dict[str, np.ndarray]
) -> tuple[float, float, int]:
    """
    Compare the head's steps where a new plan takes over with all others.

    Args:
        conversation: not used before, `anticipate`.
        voices: 'user' and 'agent', float32 at 16 kHz.

    Returns:
        p95 of the steps over which plans blend, p95 of the other steps (both in degrees), and the
        number of seams.
    """
    seams = []
    motion = answer_recording(
        conversation,
        {name: (voice, SAMPLE_RATE_HZ) for name, voice in voices.items()},
        on_plan=lambda plan: seams.append(plan.first_frame),
    )
    neck = motion[:, conversation.space.neck]
    return *compare_seams(neck, seams, conversation.schedule.blend_frames), len(seams)


def compare_seams(neck: np.ndarray, seams: Sequence[int], n_blend: int) -> tuple[float, float]:
    """
    Return p95 of a head's steps over which new plans blend in, and of the others, degrees.

    Args:
        neck: rotation vectors `[T, 3]`, rad.
        seams: the first frame of each plan.
        n_blend: over so many frames it takes over.

    Raises:
        ValueError: all steps are at seams, or none is.
    """
    steps = head_steps(neck[:-1], neck[1:])  # step i leads to frame i + 1
    is_seam = np.zeros(len(steps), bool)
    for first_frame in seams:
        is_seam[max(first_frame - 1, 0) : max(first_frame - 1 + max(n_blend, 1), 0)] = True
    if is_seam.all() or not is_seam.any():
        raise ValueError(
            f'expected frames at seams and frames between them, got {is_seam.sum()} of '
            f'{len(is_seam)} at seams; plan less often or blend faster'
        )
    return tuple(float(np.percentile(steps[of], 95)) for of in (is_seam, ~is_seam))


def _read_voice(path: pathlib.Path) -> np.ndarray:
    samples, rate_hz = read_wav(path)
    return Resampler(rate_hz).resample(samples.reshape(len(samples), -1).mean(1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.learn.reaction',
        description='How soon the head answers changes in what it hears, and how smoothly.',
    )
    for voice in ('user', 'agent'):
        parser.add_argument(f'--{voice}', type=pathlib.Path, help='wav (default: the demo)')
    parser.add_argument('--checkpoint', type=pathlib.Path, help='default: the shipped weights')
    parser.add_argument('--changes', type=whole_number(1), default=40, help='how many are planted')
    parser.add_argument(
        '--difference',
        type=number(0.01, 90),
        default=DIFFERENCE_DEG,
        help='by which the head has answered, degrees; %(default)s',
    )
    parser.add_argument(
        '--seed', type=whole_number(0), default=0, help='of the noise; %(default)s'
    )
    add_timing_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = _parser().parse_args(arguments)
    fields = {field.name for field in dataclasses.fields(TimingConfig)}
    try:
        timing = TimingConfig(**{k: v for k, v in vars(options).items() if k in fields})
        path = options.checkpoint or find_shared(SHIPPED_CHECKPOINT)
        model = load_checkpoint(path)
        voices = {
            voice: _read_voice(getattr(options, voice) or find_shared(f'config/demo/{voice}.wav'))
            for voice in ('user', 'agent')
        }

        def make_conversation() -> Conversation:
            return Conversation(model, timing, seed=options.seed)

        with tqdm(total=options.changes, unit='change', dynamic_ncols=True) as bar:
            reactions = measure_reactions(
                make_conversation, voices, options.changes, options.seed, options.difference,
                bar.update,
            )  # fmt: skip
        at_seams, elsewhere, n_seams = measure_seams(make_conversation(), voices)
    except (OSError, ValueError) as problem:
        print(f'reaction: {in_a_sentence(problem)}', file=sys.stderr)
        return 1
    never = sum(reaction.after_s is None for reaction in reactions)
    for name, wanted in (('speech begins', (True,)), ('ends', (False,)), ('all', (True, False))):
        times = [
            np.inf if reaction.after_s is None else reaction.after_s
            for reaction in reactions
            if reaction.is_onset in wanted
        ]
        p50, p95 = np.percentile(times, [50, 95], method='higher')
        print(f'{name:14} {len(times):4} changes   p50 {p50:.2f} s   p95 {p95:.2f} s')
    print(f'not answered within {_AFTER_S:g} s: {never}')
    print(
        f'{n_seams} seams: p95 of the step {at_seams:.2f} degrees, elsewhere {elsewhere:.2f}: '
        f'ratio {at_seams / elsewhere:.2f}'
    )
    return 0


if __name__ == '__main__':
    end('reaction', main)
