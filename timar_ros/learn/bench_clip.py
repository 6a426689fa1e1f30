# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A conversation of the bench: its files, the model's answers to it, and the baselines beside them.

    <clip>_agent.wav <clip>_user.wav     both voices (or <clip>_caller.wav; or DualTalk's names)
    [<clip>_agent.npz] [<clip>_user.npz] real motion of either, as `clips` reads it
    [<clip>_truth.json]                  what was planted: {"cues": [{"t_s": seconds, ...}, ...]}
"""

from collections.abc import Mapping, Sequence
import dataclasses
from fractions import Fraction
import pathlib
from types import MappingProxyType

import numpy as np

from timar_ros.config import SamplingConfig, TimingConfig
from timar_ros.learn import baselines
from timar_ros.learn.clips import find_beside, find_files
from timar_ros.learn.evaluate import answer
from timar_ros.learn.figures import Answer
from timar_ros.learn.heads import hold_against_voice, read_head, to_grid
from timar_ros.learn.recording import Recording, add_user_head, read_wavs
from timar_ros.model.timar import TIMAR
from timar_ros.motion import MotionSpace
from timar_ros.stream.channels import describe_recording
from timar_ros.stream.style import AgentStyle
from timar_ros.stream.wav import read_duration_s, read_wav
from timar_ros.strict import read_json

_MS_NS = 1_000_000
# Party that is the agent -> names of the other one.
_OTHERS = {'agent': ('user', 'caller'), 'speaker1': ('speaker2',), 'speaker2': ('speaker1',)}
_LATE_S = 1.0


@dataclasses.dataclass(frozen=True)
class Case:
    """
    Files of one conversation with one of its people as the agent; None where there is none.

    Attributes:
        name: of the agent's files, without ending.
        agent_wav, user_wav: the voices.
        agent_npz, user_npz: what their heads really did.
        truth_json: what was planted.
    """

    name: str
    agent_wav: pathlib.Path
    user_wav: pathlib.Path
    agent_npz: pathlib.Path | None
    user_npz: pathlib.Path | None
    truth_json: pathlib.Path | None


@dataclasses.dataclass(frozen=True)
class Variant:
    """
    One way to ask the model.

    Attributes:
        title: how it is called in the table.
        seed: of the noise.
        user_gain, agent_gain: on the voices; 0 = silence. Who has no voice is not seen either.
        style: how the agent is to be.
    """

    title: str
    seed: int = 0
    user_gain: float = 1.0
    agent_gain: float = 1.0
    style: AgentStyle = AgentStyle()


def find_cases(folder: pathlib.Path) -> tuple[list[Case], dict[str, str]]:
    """
    List the conversations of a folder, subfolders included.

    Returns:
        the cases in order of name, and why each other voice is left out, by name.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds no conversation.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f'no folder of conversations at {folder}')
    cases, left_out = [], {}
    for agent_wav in find_files(folder, '*.wav'):
        clip, _, party = agent_wav.stem.rpartition('_')
        if party not in _OTHERS:
            continue
        names = [
            find_beside(agent_wav.with_name(f'{clip}_{other}.wav')) for other in _OTHERS[party]
        ]
        user_wav = next((path for path in names if path.is_file()), None)
        agent_npz = _existing(agent_wav.with_suffix('.npz'))
        if user_wav is None:
            left_out[agent_wav.stem] = f'no {names[0].name}'
        elif party != 'agent' and agent_npz is None:
            left_out[agent_wav.stem] = 'its motion is not known, so the other one is the agent'
        else:
            cases.append(
                Case(
                    agent_wav.stem,
                    agent_wav,
                    user_wav,
                    agent_npz,
                    _existing(user_wav.with_suffix('.npz')),
                    _existing(agent_wav.with_name(f'{clip}_truth.json')),
                )
            )
    if not cases:
        found = next((f'{name}: {reason}' for name, reason in left_out.items()), 'no such file')
        raise ValueError(
            f'{folder}: expected <clip>_user.wav and <clip>_agent.wav, got none ({found})'
        )
    return cases, left_out


def _existing(path: pathlib.Path) -> pathlib.Path | None:
    path = find_beside(path)
    return path if path.is_file() else None


def read_cues(path: pathlib.Path | None) -> np.ndarray | None:
    """
    Read when the agent was invited to nod, s; None where nothing is said of it.

    Raises:
        ValueError: the file is not of the layout in the module's text.
    """
    if path is None:
        return None
    try:
        cues = [float(cue['t_s']) for cue in read_json(path)['cues']]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f'{path}: expected {{"cues": [{{"t_s": seconds}}, ...]}}, got {error!r}'
        ) from None
    return np.array(sorted(cues))


def ask(
    model: TIMAR,
    case: Case,
    variant: Variant,
    timing: TimingConfig,
    sampling: SamplingConfig,
    channels: Mapping[str, str | int] = MappingProxyType({}),
) -> Answer:
    """
    Let the model answer a conversation, or one in which a voice is missing or quieter.

    Args:
        model: weights.
        case: from `find_cases`.
        variant: how to ask.
        timing: when to plan.
        sampling: how to draw.
        channels: voice -> which channel of its wav is heard.

    Returns:
        the answer, with the voices as they are in the files.

    Raises:
        FileNotFoundError, ValueError: a file is missing or refused.
    """
    config = model.config
    turn_s = Fraction(config.frames_per_turn, config.fps)
    lead_ns = timing.agent_lead_ms * _MS_NS
    recording = read_wavs(case.user_wav, case.agent_wav, lead_ns, turn_s, channels=channels)
    if case.user_npz is not None and variant.user_gain:
        recording = add_user_head(recording, read_head(case.user_npz), model.space)
    altered = _at_level(recording, {'user': variant.user_gain, 'agent': variant.agent_gain})
    style = None if variant.style == AgentStyle() else variant.style
    return answer(model, altered, timing, sampling, variant.seed, style=style)[0]


def _at_level(recording: Recording, gains: dict[str, float]) -> Recording:
    """Return the recording with its voices heard louder or softer; `voices` stay what they are."""
    deliveries = {
        name: [
            dataclasses.replace(
                delivery,
                packet=dataclasses.replace(
                    delivery.packet, samples=delivery.packet.samples * np.float32(gains[name])
                ),
            )
            for delivery in feed
        ]
        for name, feed in recording.deliveries.items()
    }
    return dataclasses.replace(recording, deliveries=deliveries)


def read_real(case: Case, space: MotionSpace, fps: float) -> np.ndarray | None:
    """
    Read what the agent's head really did `[F, M]`, neutral where it was not measured.

    Raises:
        ValueError: it cannot be the head of the agent's voice.
    """
    if case.agent_npz is None:
        return None
    head, _ = hold_against_voice(read_head(case.agent_npz), read_duration_s(case.agent_wav))
    return to_grid(head, space, fps)[0]


def describe_case(case: Case, channels: Mapping[str, str | int]) -> list[str]:
    """Return notes on what is cut from a conversation, missing or odd, a sentence each."""
    agent_s, user_s = (read_duration_s(wav) for wav in (case.agent_wav, case.user_wav))
    until_s, sounds = max(agent_s, user_s), [read_wav(case.user_wav), read_wav(case.agent_wav)]
    found = describe_recording(*sounds, channels, '--{voice}-channel ')
    notes = [f'{case.name}: {note}' for note in found]
    if case.user_npz is not None:
        notes += hold_against_voice(read_head(case.user_npz), user_s, until_s)[1]
    if case.agent_npz is not None:
        head, more = hold_against_voice(read_head(case.agent_npz), agent_s)
        notes += more
        if until_s - head.length_s > 1:
            notes.append(
                f'{case.agent_npz.name}: real motion is known for {head.length_s:.1f} of '
                f'{until_s:.1f} s; what follows is judged as the same motion backwards'
            )
    return notes


def contestants(
    own: Answer,
    real: np.ndarray | None,
    other_answer: np.ndarray | None,
    other_real: np.ndarray | None,
) -> dict[str, np.ndarray]:
    """
    Make the motion of everyone who is to be held against the model.

    Args:
        own: the model's answer, with the voices.
        real: what was really done `[F, M]`, None if unknown.
        other_answer: the model's answer to another conversation; None = there is no other, and
            the halves of its own are exchanged.
        other_real: likewise of the real motion.

    Returns:
        motion `[F, M]` by name, all as long as the answer.
    """
    n, fps, space = len(own.motion), own.fps, own.space
    shown = {}
    if real is not None:
        real = baselines.fit_length(real, n)
        shown['real'] = real
    shown['model'] = own.motion
    other = np.roll(own.motion, n // 2, axis=0) if other_answer is None else other_answer
    shown['swapped'] = baselines.fit_length(other, n)
    mean = None if real is None else real.mean(0)
    shown['still'] = baselines.hold_still(space, n, mean)
    if real is not None:
        shown['late'] = baselines.delay(real, round(_LATE_S * fps))
        other = np.roll(real, n // 2, axis=0) if other_real is None else other_real
        shown['other'] = baselines.fit_length(other, n)
    voices = own.user_voice, own.agent_voice
    shown['wobble'] = baselines.wobble(space, n, fps, *voices)
    shown['rule'] = baselines.nod_by_rule(space, n, fps, *voices)
    return shown


def next_of(items: Sequence, i: int):
    """Return the item after the i-th, in a ring; None where that is the same."""
    return items[(i + 1) % len(items)] if len(items) > 1 else None
