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

    checkpoint: str = parameter(
        '', 'path of the weights (.safetensors); empty: the ones in the package'
    )
    device: str = parameter(
        'auto', 'device that runs the model: auto (CUDA if there is any), cpu, cuda or cuda:1'
    )
    dtype: str = parameter(
        'auto',
        'number type of the weights; auto: bfloat16 on a CPU with bfloat16 units, else float32',
        choices=('auto', *DTYPES),
    )
    threads: int = parameter(
        0,
        "CPU threads of torch in this process; 0: one for small weights, else torch's default",
        minimum=0,
        maximum=256,
    )
    timing: str = parameter(
        _TIMES.timing,
        'anticipate: plan while the user speaks; reactive: answer each turn after it ends',
        choices=('anticipate', 'reactive'),
    )
    replan_hz: float = parameter(
        _TIMES.replan_hz,
        'plans per second; 0: one at the start of each turn',
        unit='Hz',
        minimum=0,
        maximum=MAX_REPLANS_HZ,
    )
    hearing_delay_ms: int = parameter(
        _TIMES.hearing_delay_ms,
        "delay from the user's sound to its arrival here, including the length of a chunk",
        unit='ms',
        minimum=0,
        maximum=1000,
    )
    agent_lead_ms: int = parameter(
        _TIMES.agent_lead_ms,
        "how long before it sounds the robot's voice arrives on agent/audio",
        unit='ms',
        minimum=0,
        maximum=5000,
    )
    plan_latency_ms: int = parameter(
        _TIMES.plan_latency_ms,
        'time from a planning moment to the first frame of its plan, which must be ready then',
        unit='ms',
        minimum=0,
        maximum=2000,
    )
    blend_ms: int = parameter(
        _TIMES.blend_ms,
        'length of the cross-fade from one plan to the next',
        unit='ms',
        minimum=0,
        maximum=1000,
    )
    seed: int = parameter(0, 'random seed of the motion', minimum=0)
    temperature: float = parameter(
        _DRAWING.temperature,
        'scale of the random variation of the motion; 1: as learned',
        minimum=0,
        maximum=2,
        dynamic=True,
    )
    cfg_scale: float = parameter(
        _DRAWING.cfg_scale,
        'weight of what is heard (classifier-free guidance); 1: as learned',
        minimum=0,
        maximum=5,
        dynamic=True,
    )
    persona: str = parameter('', 'a persona that the weights know, by name; empty: none')
    user_audio_type: str = parameter(
        'auto', "message type of user/audio, package/msg/Name; auto: the publisher's"
    )
    agent_audio_type: str = parameter(
        'auto', "message type of agent/audio, package/msg/Name; auto: the publisher's"
    )
    user_audio_format: str = parameter(
        '',
        'format of messages on user/audio that carry none (AudioData without AudioInfo, '
        "std_msgs arrays): encoding, rate and channels, such as 'S16LE,16000,1'; empty: none",
    )
    agent_audio_format: str = parameter('', 'like user_audio_format, for agent/audio')
    user_channel: str = parameter(
        _EARS.user_channel,
        "channel of user/audio to use: an index from 0, or 'mean' of all",
    )
    agent_channel: str = parameter(
        _EARS.agent_channel,
        "channel of agent/audio to use: an index from 0, or 'mean' of all",
    )
    self_hearing: str = parameter(
        _EARS.self_hearing,
        'treatment of user/audio while the robot speaks and its microphone hears it: off (an echo '
        'canceller removes it), attenuate, or gate (user/audio is ignored)',
        choices=('off', 'attenuate', 'gate'),
    )
    self_hearing_db: float = parameter(
        _EARS.self_hearing_db,
        'attenuation of user/audio while the robot speaks (self_hearing: attenuate)',
        unit='dB',
        minimum=0,
        maximum=100,
    )
    self_hearing_hold_ms: int = parameter(
        _EARS.self_hearing_hold_ms,
        "how long the robot's voice is still heard after it ends: echo and driver delay",
        unit='ms',
        minimum=0,
        maximum=2000,
    )
    max_jitter_ms: int = parameter(
        _EARS.max_jitter_ms,
        'largest difference between the stamps of audio and its count of samples that counts as '
        'jitter, not as a gap',
        unit='ms',
        minimum=1,
        maximum=250,
    )
    frame_id: str = parameter('', 'frame_id of the published messages: the base of the neck')
    activate_on_start: bool = parameter(
        True, 'true: configure and activate at the start; false: wait for life-cycle transitions'
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
