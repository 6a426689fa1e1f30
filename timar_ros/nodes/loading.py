# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The conversation node's parameters, and from them a model that is loaded and warmed up.

Responsible for finding the shipped weights and refusing weights that cannot run here. Not for the
conversation itself, nor for topics.
"""

import dataclasses

import numpy as np
import torch

from timar_ros.bounds import MAX_REPLANS_HZ
from timar_ros.config import HearingConfig, SamplingConfig, TimingConfig
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.model.precision import DTYPES
from timar_ros.model.timar import TIMAR
from timar_ros.nodes.environment import share_folder
from timar_ros.nodes.params import parameter
from timar_ros.stream.audio import AudioFormat, AudioPacket, format_from_text
from timar_ros.stream.channels import parse_channel
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.style import AgentStyle
from timar_ros.stream.vad import SpeechDetector
from timar_ros.stream.voices import VOICES

# Parameters up to which a second thread gains little, and on a busy robot waits for the first.
_SMALL = 20_000_000
_SHIPPED = 'config/models/mini.safetensors'
_TIMES = TimingConfig()
_DRAWING = SamplingConfig()
_EARS = HearingConfig()


@dataclasses.dataclass(frozen=True)
class ConversationParams:
    """Parameters of the conversation node, each described by its own text."""

    checkpoint: str = parameter('', 'weights: a .safetensors file; empty: those of the package')
    device: str = parameter('auto', 'where the model runs: auto, cpu, cuda or cuda:1')
    dtype: str = parameter(
        'auto',
        'type of the weights; auto: bfloat16 on a CPU that multiplies in it, else float32',
        choices=('auto', *DTYPES),
    )
    threads: int = parameter(
        0,
        'CPU threads of torch, in the whole process; 0: one for small weights, else its choice',
        minimum=0,
        maximum=256,
    )
    timing: str = parameter(
        _TIMES.timing,
        'anticipate: plan while the user speaks; reactive: answer each turn when it is over',
        choices=('anticipate', 'reactive'),
    )
    replan_hz: float = parameter(
        _TIMES.replan_hz,
        'plans a second; 0: at turn starts only',
        unit='Hz',
        minimum=0,
        maximum=MAX_REPLANS_HZ,
    )
    hearing_delay_ms: int = parameter(
        _TIMES.hearing_delay_ms,
        "how long the user's sound takes to arrive, its chunks included",
        unit='ms',
        minimum=0,
        maximum=1000,
    )
    agent_lead_ms: int = parameter(
        _TIMES.agent_lead_ms,
        "how far ahead the agent's own voice is announced",
        unit='ms',
        minimum=0,
        maximum=5000,
    )
    plan_latency_ms: int = parameter(
        _TIMES.plan_latency_ms,
        'what a plan may take until its first frame is shown',
        unit='ms',
        minimum=0,
        maximum=2000,
    )
    blend_ms: int = parameter(
        _TIMES.blend_ms,
        'over which a new plan takes over from the old one',
        unit='ms',
        minimum=0,
        maximum=1000,
    )
    seed: int = parameter(0, 'of the noise that motion is drawn from', minimum=0)
    temperature: float = parameter(
        _DRAWING.temperature,
        'how varied motion is; 1: as learned',
        minimum=0,
        maximum=2,
        dynamic=True,
    )
    cfg_scale: float = parameter(
        _DRAWING.cfg_scale,
        'how much the user counts; 1: as learned',
        minimum=0,
        maximum=5,
        dynamic=True,
    )
    persona: str = parameter('', 'name of a persona of the weights; empty: none')
    user_audio_type: str = parameter(
        'auto', "message type of user/audio, package/msg/Name; auto: the publishers'"
    )
    agent_audio_type: str = parameter(
        'auto', "message type of agent/audio, package/msg/Name; auto: the publishers'"
    )
    user_audio_format: str = parameter(
        '',
        'format of messages on user/audio that do not state theirs (AudioData without AudioInfo, '
        "std_msgs arrays): encoding, rate and channels, such as 'S16LE,16000,1'; empty: none",
    )
    agent_audio_format: str = parameter('', 'the same for agent/audio')
    user_channel: str = parameter(
        _EARS.user_channel,
        "channel of user/audio to hear: an index from 0 on, or 'mean' of all",
    )
    agent_channel: str = parameter(
        _EARS.agent_channel,
        "channel of agent/audio to hear: an index from 0 on, or 'mean' of all",
    )
    self_hearing: str = parameter(
        _EARS.self_hearing,
        "the robot's own voice in the user's microphone, while it speaks: off (an echo canceller "
        'does it), attenuate, or gate (the user counts as not heard)',
        choices=('off', 'attenuate', 'gate'),
    )
    self_hearing_db: float = parameter(
        _EARS.self_hearing_db, 'by how much to attenuate', unit='dB', minimum=0, maximum=100
    )
    self_hearing_hold_ms: int = parameter(
        _EARS.self_hearing_hold_ms,
        "how long the robot's voice lingers in the room and the drivers",
        unit='ms',
        minimum=0,
        maximum=2000,
    )
    max_jitter_ms: int = parameter(
        _EARS.max_jitter_ms,
        'stamps of audio nearer than this to the count of samples are taken to agree with it',
        unit='ms',
        minimum=1,
        maximum=250,
    )
    frame_id: str = parameter('', "frame of the neck's base, for the messages' headers")
    activate_on_start: bool = parameter(
        True, 'configure and activate by itself; False: wait for life-cycle transitions'
    )

    def __post_init__(self):
        self.timing_config()
        for voice in VOICES:
            for name, read in (('audio_format', format_from_text), ('channel', parse_channel)):
                try:
                    read(getattr(self, f'{voice}_{name}'))
                except ValueError as error:
                    raise ValueError(f'{voice}_{name}: {error}') from None

    def stated_formats(self) -> dict[str, AudioFormat | None]:
        """Return the format of each voice whose messages do not state theirs."""
        texts = {voice: getattr(self, f'{voice}_audio_format') for voice in VOICES}
        return {voice: format_from_text(text) for voice, text in texts.items()}

    def timing_config(self) -> TimingConfig:
        """Return when to plan."""
        return self._part(TimingConfig)

    def hearing_config(self) -> HearingConfig:
        """Return how the voices are heard."""
        return self._part(HearingConfig)

    def sampling_config(self) -> SamplingConfig:
        """Return how to draw."""
        return SamplingConfig(temperature=self.temperature, cfg_scale=self.cfg_scale)

    def _part(self, cls):
        return cls(**{field.name: getattr(self, field.name) for field in dataclasses.fields(cls)})


def load_model(params: ConversationParams) -> TIMAR:
    """
    Load the weights and try them on silence, so that the first plan is as fast as any.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: they are corrupt, or their motion is not finite, or the times do not fit them.
        RuntimeError: the device is not there or cannot hold them.
    """
    device = params.device
    if device == 'auto':
        device = 'cuda' if torch.cuda.is_available() else 'cpu'
    path = params.checkpoint
    if not path:
        path = share_folder() / _SHIPPED
    model = load_checkpoint(path, device, params.dtype)
    threads = params.threads
    if not threads and sum(p.numel() for p in model.parameters()) < _SMALL:
        threads = 1
    if threads:
        torch.set_num_threads(threads)
    _warm_up(begin_conversation(model, params), str(path))
    return model


def load_detector(logger) -> SpeechDetector | None:
    """Load the speech detector; None, and a line in the log, where it is not installed."""
    try:
        return SpeechDetector()
    except (FileNotFoundError, RuntimeError) as error:
        logger.info(f'~/state tells by loudness who speaks: {error}')
        return None


def begin_conversation(model: TIMAR, params: ConversationParams) -> Conversation:
    """
    Return a new conversation with a model and the settings of the parameters.

    Raises:
        ValueError: the weights have personas, but not the one wanted.
    """
    return Conversation(
        model,
        params.timing_config(),
        params.sampling_config(),
        params.seed,
        params.hearing_config(),
        style=AgentStyle(persona=params.persona) if params.persona else None,
    )


def _warm_up(conversation: Conversation, source: str) -> None:
    """Plan over silence until a turn is committed."""
    schedule = conversation.schedule
    begin_ns, end_ns = schedule.turn_ns(10), schedule.turn_ns(14)
    rate_hz = schedule.config.sample_rate_hz
    silence = np.zeros(((end_ns - begin_ns) * rate_hz // 1_000_000_000, 1), np.float32)
    conversation.push_audio('user', AudioPacket(begin_ns, 0, None, rate_hz, silence), end_ns)
    moment_ns, n_plans = begin_ns, 0
    while moment_ns < end_ns and not (n_plans >= 4 and conversation.counters()['turns']):
        moment_ns = conversation.next_plan_ns(moment_ns + 1)
        plan = conversation.plan(moment_ns)
        if plan is not None:
            conversation.accept(plan)
            n_plans += 1
        conversation.settle()
    if not n_plans or conversation.counters()['bad_plans']:
        raise ValueError(
            f'{source}: expected finite motion on silence, got NaN or infinity; the weights are '
            'damaged, or too large for this dtype: try float32'
        )
