# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag hold the voices and heads of a conversation."""

import dataclasses

from timar_ros.stream.audio_types import AUDIO_INFO, AUDIO_TYPES
from timar_ros.stream.bag import Bag
from timar_ros.strict import shortened


@dataclasses.dataclass(frozen=True)
class Topics:
    """Names of the topics to read, with or without their namespace."""

    user_audio: str = 'user/audio'
    agent_audio: str = 'agent/audio'
    user_motion: str = 'user/head_motion'


def find_voices(bag: Bag, topics: Topics) -> dict[str, str | None]:
    """
    Find both voices in a bag.

    Returns:
        'user', 'agent' -> absolute name of the topic, None where the bag has no such voice.

    Raises:
        ValueError: it has no audio, or lacks a topic that was asked for by name; the message
            says what it has.
    """
    names = {
        'user': bag.find_topic(topics.user_audio),
        'agent': bag.find_topic(topics.agent_audio),
    }
    there = [f'{topic} ({kind})' for topic, kind in sorted(bag.topics.items())]
    audio = [text for text in there if text.rpartition(' (')[2][:-1] in AUDIO_TYPES]
    hint = (
        f'it has audio on {shortened(", ".join(audio), 300)}: name it with --user-topic and '
        '--agent-topic (replay: user_topic, agent_topic)'
        if audio
        else f'it has {shortened(", ".join(there), 300) or "no messages at all"}'
    )
    # A voice may be missing because its file, or a part of it, is.
    hint = '; '.join([hint, *bag.notes])
    for voice, wanted in (('user', topics.user_audio), ('agent', topics.agent_audio)):
        if names[voice] is None and wanted != getattr(Topics(), f'{voice}_audio'):
            raise ValueError(f'{bag.path}: expected a topic {wanted}, got none; {hint}')
    if not any(names.values()):
        raise ValueError(
            f'{bag.path}: expected audio on {topics.user_audio} or {topics.agent_audio}, got '
            f'none; {hint}'
        )
    return names


def info_topic(bag: Bag, audio_topic: str) -> str | None:
    """
    Return the topic of the AudioInfo that describes `audio_topic`.

    That is `audio_info` in the same namespace, else the bag's only one, else None.
    """
    beside = audio_topic.rpartition('/')[0] + '/audio_info'
    infos = [topic for topic, kind in bag.topics.items() if kind == AUDIO_INFO]
    if beside in infos:
        return beside
    return infos[0] if len(infos) == 1 else None
