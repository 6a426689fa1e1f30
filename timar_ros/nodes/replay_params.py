# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Responsible for the parameters of the replay node. Not for replaying."""

import dataclasses

from timar_ros.nodes.params import parameter
from timar_ros.stream.audio import format_from_text
from timar_ros.stream.bag_conversation import Listening
from timar_ros.stream.bag_topics import Topics
from timar_ros.stream.channels import MEAN, parse_channel

_VOICES = ('user', 'agent')
_TOPICS = Topics()


@dataclasses.dataclass(frozen=True)
class ReplayParams:
    """Parameters of the replay node, each described by its own text."""

    user: str = parameter('', "wav of the user's voice; empty: silence")
    agent: str = parameter('', "wav of the agent's voice; empty: silence")
    bag: str = parameter('', 'bag to play instead of wavs: its folder, or an .mcap or .db3 file')
    user_topic: str = parameter(_TOPICS.user_audio, "topic of the user's voice in the bag")
    agent_topic: str = parameter(_TOPICS.agent_audio, "topic of the agent's voice in the bag")
    user_motion_topic: str = parameter(_TOPICS.user_motion, "topic of the user's head in the bag")
    user_channel: str = parameter(
        MEAN, "channel of the user's voice to use: an index from 0, or 'mean' of all"
    )
    agent_channel: str = parameter(MEAN, "like user_channel, for the agent's voice")
    user_audio_format: str = parameter(
        '',
        "format of the user's messages in a bag that carry none: encoding, rate and "
        "channels, such as 'S16LE,16000,1'; empty: none",
    )
    agent_audio_format: str = parameter('', "like user_audio_format, for the agent's messages")
    chunk_ms: int = parameter(
        20, 'length of the audio in one message, from a wav', unit='ms', minimum=1, maximum=10000
    )
    agent_lead_ms: int = parameter(
        400,
        "how long before it sounds the agent's voice is published; in lockstep the value of the "
        'conversation node is used',
        unit='ms',
        minimum=0,
        maximum=5000,
    )
    turn_s: float = parameter(
        1.0,
        'length of a turn of the weights; wavs start at a multiple of it on the clock',
        unit='s',
        minimum=0.04,
        maximum=60,
    )
    subscribers: int = parameter(
        1, 'number of subscribers of each voice to wait for', minimum=0, maximum=100
    )
    wait_s: float = parameter(
        10.0, 'longest wait for these subscribers', unit='s', minimum=0, maximum=3600
    )
    tail_s: float = parameter(
        2.0, 'time to keep running after the last sound', unit='s', minimum=0, maximum=3600
    )
    clock: bool = parameter(False, 'publish /clock, for nodes with use_sim_time')
    rate: float = parameter(
        1.0,
        'playback speed; values other than 1 need clock',
        minimum=0.01,
        maximum=100,
        dynamic=True,
    )
    seek_s: float = parameter(
        0.0,
        'start position in the recording; set at run time: jump there',
        unit='s',
        minimum=0,
        maximum=1e6,
        dynamic=True,
    )
    paused: bool = parameter(False, 'start paused; ~/pause (std_srvs/SetBool) pauses and resumes')
    lockstep: bool = parameter(
        False, 'stop the clock at each planning moment until its plan has arrived; needs clock'
    )
    lockstep_timeout_s: float = parameter(
        5.0, 'longest stop of the clock', unit='s', minimum=0.1, maximum=600
    )
    conversation: str = parameter(
        'conversation', 'name of the node whose plans lockstep waits for'
    )

    def __post_init__(self):
        for voice in _VOICES:
            for name, read in (('channel', parse_channel), ('audio_format', format_from_text)):
                try:
                    read(getattr(self, f'{voice}_{name}'))
                except ValueError as error:
                    raise ValueError(f'{voice}_{name}: {error}') from None
        is_wav = bool(self.user or self.agent)
        if is_wav and self.bag:
            raise ValueError('got wavs and a bag; give either user and agent, or bag')
        if not is_wav and not self.bag:
            raise ValueError(
                'user, agent and bag are all empty; give the wav of at least one voice, or a bag'
            )
        if (self.rate != 1.0 or self.lockstep) and not self.clock:
            raise ValueError(
                f'rate {self.rate:g} and lockstep {self.lockstep} need clock: true, and '
                'use_sim_time: true in all other nodes; without it stamps would run away from '
                'the clock'
            )

    @property
    def topics(self) -> Topics:
        """Which topics of the bag to play."""
        return Topics(self.user_topic, self.agent_topic, self.user_motion_topic)

    @property
    def listening(self) -> Listening:
        """What these parameters state about a recording's voices that the recording does not."""
        channels = {voice: parse_channel(getattr(self, f'{voice}_channel')) for voice in _VOICES}
        stated = {
            voice: format_from_text(getattr(self, f'{voice}_audio_format')) for voice in _VOICES
        }
        formats = {voice: each for voice, each in stated.items() if each is not None}
        return Listening(channels=channels, formats=formats, option='{voice}_channel:=')
