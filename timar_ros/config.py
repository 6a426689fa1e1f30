# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Configurations: what weights mean, how to sample, when to plan, how to train; and strict YAML.

Responsible for the fields and which values contradict each other. Not for torch or ROS.
"""

import dataclasses

from timar_ros import bounds
from timar_ros.motion import get_space
from timar_ros.strict import did_you_mean, quoted

SAMPLE_RATE_HZ = 16_000  # of a model's audio; stream.resample brings all audio to it
_LONGEST_MS = 60_000  # as far ahead as a voice may be announced


def _one_of(name: str, value, allowed) -> None:
    if value not in allowed:
        raise ValueError(
            f'{name} must be one of {", ".join(map(str, allowed))}, got {quoted(value)}'
            f'{did_you_mean(value, allowed)}'
        )


def _between(name: str, value, low, high) -> None:
    _at_least(name, value, low)
    if not value <= high:
        raise ValueError(f'{name} must be at most {high}, got {quoted(value)}')


def _at_least(name: str, value, minimum) -> None:
    if not value >= minimum:
        raise ValueError(f'{name} must be at least {minimum}, got {quoted(value)}')


def _check_taps(taps: dict) -> None:
    windows = [window for own in taps.values() for window in (own if _is_list(own) else [None])]
    if not all(_is_list(window) and all(type(n) is int for n in window) for window in windows):
        raise ValueError(f'taps must be windows [first, last] by modality, got {quoted(taps)}')


def _is_list(value) -> bool:
    return isinstance(value, list | tuple)


@dataclasses.dataclass(frozen=True)
class TimarConfig:
    """
    What the weights of a TIMAR mean. The defaults are the published `large`.

    Attributes:
        motion_space: name of the space in `timar_ros.motion` (M channels).
        fps: motion frames a second.
        frames_per_turn: T; a turn lasts T / fps seconds.
        sample_rate_hz: of the audio that the speech encoder takes: 16000, as in the paper.
        max_turns: turns in the window, the current one included.
        speech: 'wav2vec2' (frozen) or 'logmel' (learned with the model).
        speech_width: Q, width of a speech feature.
        speech_config: the transformers configuration of a wav2vec2; empty for logmel.
        mel_bands: of logmel.
        token_width, width, n_layers, n_heads: E, D, blocks and heads of the transformer.
        denoiser_width, denoiser_blocks: U and blocks of the diffusion head.
        frame_mix: the agent-motion token of a frame also carries the other three tokens of that
            frame (ours; the published model leaves all of it to attention).
        even_tokens: tokens are brought to one size before position, mask, style and `frame_mix`
            are added to them (ours; features of speech are a hundred times as large as these).
        nearness: windows in time of the attention's heads, first and last frame before a token's
            own (negative = after it), in turn; an empty one = everything: a head need not find
            where to look. None at all = as published; ours, with positions 'turn'.
        taps: windows of the first block's heads instead, each on one modality alone: modality ->
            [first, last] of each head, n_heads in all. A moment in the user's voice is then
            located to the frame, and the head sees how it was moving. None = as the other blocks.
        noise_spread: deviation, in frames, of the window of the noise: changing slowly, it leaves
            each frame's own distribution unchanged; 0 = white, as published.
        noise_scale: the temperature that these weights are best drawn at; the one of
            SamplingConfig is relative to it.
        noise_scales: the same for channels that have their own, by name: lids that blink in a
            calm head.
        variance_bound: largest logit of the variance, either way, that motion is drawn with:
            beyond 1 rare frames fly off (ours; 0 = none, as published).
        persistence: number of frames after the last shown one that are drawn as a change from
            it; 0 = drawn independently, as published (model/persistence.py).
        style: the model takes emotion and attitude (`Turn.style`).
        personas: names of the manners of moving that it learned (`Turn.persona` counts from 1).
        history: what the agent's own past looks like to the model: 'masked' (as published) or
            'shown' (what was really shown).
        positions: 'window' (a learned vector for each slot of the window, as published) or 'turn'
            (slot within the turn, and an attention bias for each age of a turn).
        cache: 'rebuild', 'rebase' or 'banded' (docs/architecture.md, Memory).
        level: 'causal' (running) or 'clip' (whole recording, as published) loudness normalisation
            that the weights were trained on.
    """

    motion_space: str = 'flame56'
    fps: int = 25
    frames_per_turn: int = 25
    sample_rate_hz: int = SAMPLE_RATE_HZ
    max_turns: int = 8
    speech: str = 'wav2vec2'
    speech_width: int = 1024
    speech_config: dict = dataclasses.field(default_factory=dict)
    mel_bands: int = 64
    token_width: int = 1024
    width: int = 1024
    n_layers: int = 32
    n_heads: int = 16
    denoiser_width: int = 1024
    denoiser_blocks: int = 3
    frame_mix: bool = False
    even_tokens: bool = False
    nearness: tuple[tuple[int, ...], ...] = ()
    taps: dict = dataclasses.field(default_factory=dict)
    noise_spread: float = 0.0
    noise_scale: float = 1.0
    noise_scales: dict = dataclasses.field(default_factory=dict)
    variance_bound: float = 0.0
    persistence: int = 0
    style: bool = False
    personas: tuple[str, ...] = ()
    history: str = 'masked'
    positions: str = 'window'
    cache: str = 'rebuild'
    level: str = 'clip'

    def __post_init__(self):
        space = get_space(self.motion_space)
        for name, scale in self.noise_scales.items():
            space.index(name)
            if type(scale) not in (int, float):
                raise ValueError(f'noise_scales must be numbers, got {quoted(scale)}')
            _between(f'noise_scales[{name!r}]', scale, 0, bounds.MAX_MODEL_FACTOR)
        _one_of('speech', self.speech, ('wav2vec2', 'logmel'))
        _one_of('history', self.history, ('masked', 'shown'))
        _one_of('positions', self.positions, ('window', 'turn'))
        _one_of('cache', self.cache, ('rebuild', 'rebase', 'banded'))
        _one_of('level', self.level, ('causal', 'clip'))
        for name, (low, high) in bounds.MODEL_SIZES.items():
            _between(name, getattr(self, name), low, high)
        for name in 'noise_spread noise_scale variance_bound persistence'.split():
            _between(name, getattr(self, name), 0, bounds.MAX_MODEL_FACTOR)
        n_tokens = self.max_turns * self.tokens_per_turn
        if n_tokens > bounds.MAX_WINDOW_TOKENS:
            raise ValueError(
                f'max_turns of frames_per_turn must be at most {bounds.MAX_WINDOW_TOKENS} tokens '
                f'in all, got {n_tokens}'
            )
        for name in ('personas', 'nearness'):
            if len(getattr(self, name)) > bounds.MAX_MODEL_NAMES:
                raise ValueError(f'{name} must be at most {bounds.MAX_MODEL_NAMES}, got more')
        if self.nearness and self.positions != 'turn':
            raise ValueError(f"nearness needs positions 'turn', got {self.positions!r}")
        _check_taps(self.taps)
        n_taps = sum(map(len, self.taps.values()))
        if self.taps and (not self.nearness or n_taps != self.n_heads):
            raise ValueError(
                f'taps need nearness, and a window [first, last] for each of {self.n_heads} '
                f'heads, got {quoted(self.taps)}'
            )
        for window in (*self.nearness, *(w for own in self.taps.values() for w in own)):
            if len(window) not in (0, 2) or list(window) != sorted(window):
                raise ValueError(
                    f'nearness takes [first, last] frames or [], got {quoted(list(window))}'
                )
        if self.persistence and self.history != 'masked':
            raise ValueError(
                "persistence needs history 'masked': it continues what is shown of the open "
                f'turns alone; got {self.history!r}'
            )
        if '' in self.personas or len(set(self.personas)) < len(self.personas):
            raise ValueError(f'personas must be different names, got {quoted(self.personas)}')
        if self.width % self.n_heads:
            raise ValueError(
                f'width must be a multiple of n_heads, got {self.width} and {self.n_heads}'
            )
        if self.sample_rate_hz != SAMPLE_RATE_HZ:
            raise ValueError(
                f'sample_rate_hz must be {SAMPLE_RATE_HZ}, the rate that all audio is brought to '
                f'before it reaches a model; got {self.sample_rate_hz}'
            )
        if self.sample_rate_hz % self.fps:
            raise ValueError(
                f'fps must divide {self.sample_rate_hz}, the samples of a second, so that a frame '
                f'is a whole number of samples; got {self.fps}'
            )
        if (self.cache == 'banded') != (self.positions == 'turn'):
            raise ValueError(
                "cache 'banded' and positions 'turn' need each other: a cache that only drops "
                f'turns needs positions that do not move; got {self.cache!r}, {self.positions!r}'
            )

    @property
    def n_channels(self) -> int:
        """M, channels of a motion frame."""
        return get_space(self.motion_space).n_channels

    @property
    def samples_per_frame(self) -> int:
        """Audio samples under one motion frame."""
        return self.sample_rate_hz // self.fps

    @property
    def samples_per_turn(self) -> int:
        """S, audio samples in one turn."""
        return self.samples_per_frame * self.frames_per_turn

    @property
    def tokens_per_turn(self) -> int:
        """L, four modalities of T tokens and ten separators (docs/model.md §2)."""
        return 4 * self.frames_per_turn + 10

    @property
    def turn_s(self) -> float:
        """Length of a turn, s."""
        return self.frames_per_turn / self.fps


_LARGE_WAV2VEC2 = {
    'hidden_size': 1024, 'num_hidden_layers': 24, 'num_attention_heads': 16,
    'intermediate_size': 4096, 'feat_extract_norm': 'layer', 'do_stable_layer_norm': True,
    'conv_bias': True,
}  # fmt: skip

PRESETS = {
    'mini': TimarConfig(
        motion_space='arkit55', speech='logmel', speech_width=128, token_width=192, width=256,
        n_layers=5, n_heads=8, denoiser_width=256, denoiser_blocks=3, frame_mix=True,
        even_tokens=True, noise_spread=3.0, variance_bound=1.0, persistence=12,
        history='masked', positions='turn', cache='banded', level='causal',
    ),
    'base': TimarConfig(width=768, n_layers=24, n_heads=12, speech_config=_LARGE_WAV2VEC2),
    'large': TimarConfig(speech_config=_LARGE_WAV2VEC2),
    'huge': TimarConfig(width=1280, n_layers=40, speech_config=_LARGE_WAV2VEC2),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """
    How motion is drawn; may change at run time.

    Attributes:
        steps: denoising steps out of 1000.
        temperature: scales the noise of every step but the first draw.
        cfg_scale: guidance w; null + w (cond - null).
        n_passes: passes that reveal a turn's frames (`num_iter`).
        reveal: later passes see what the passes before wrote; False is the released behaviour.
        context_turns: past turns that are remembered at most; None = as many as the window holds.
    """

    steps: int = 5
    temperature: float = 1.0
    cfg_scale: float = 1.0
    n_passes: int = 1
    reveal: bool = True
    context_turns: int | None = None

    def __post_init__(self):
        _between('steps', self.steps, 2, 1_000)
        _between('n_passes', self.n_passes, 1, 1_000)
        _between('temperature', self.temperature, 0.0, bounds.MAX_MODEL_FACTOR)
        _between('cfg_scale', self.cfg_scale, 0.0, bounds.MAX_MODEL_FACTOR)
        if self.context_turns is not None:
            _at_least('context_turns', self.context_turns, 0)


@dataclasses.dataclass(frozen=True)
class TimingConfig:
    """
    When to plan, what counts as heard, known and shown (docs/design.md, Time). Times in ms.

    Attributes:
        timing: 'anticipate' or 'reactive'.
        replan_hz: planning moments a second inside a turn; 0 = at turn starts only.
        hearing_delay_ms: how long the user's sound takes to arrive, chunks included.
        agent_lead_ms: how far ahead the agent's own voice is known.
        plan_latency_ms: time from a planning moment to the first frame of its plan.
        blend_ms: over which a new plan takes over from the old one.
    """

    timing: str = 'anticipate'
    replan_hz: float = 5.0
    hearing_delay_ms: int = 80
    agent_lead_ms: int = 400
    plan_latency_ms: int = 80
    blend_ms: int = 80

    def __post_init__(self):
        _one_of('timing', self.timing, ('anticipate', 'reactive'))
        for name in 'replan_hz hearing_delay_ms agent_lead_ms plan_latency_ms blend_ms'.split():
            most = bounds.MAX_REPLANS_HZ if name == 'replan_hz' else _LONGEST_MS
            _between(name, getattr(self, name), 0, most)
        if self.timing == 'reactive':
            return
        period_ms = 1000 / self.replan_hz if self.replan_hz else 0.0
        if self.agent_lead_ms < period_ms + self.plan_latency_ms:
            raise ValueError(
                f'agent_lead_ms must be at least 1000 / replan_hz + plan_latency_ms = '
                f'{period_ms + self.plan_latency_ms:.0f}, got {self.agent_lead_ms}: lips could '
                'not be in time; raise agent_lead_ms or replan_hz, or lower plan_latency_ms'
            )


@dataclasses.dataclass(frozen=True)
class HearingConfig:
    """
    How the two voices are heard.

    Attributes:
        self_hearing: 'off' (an echo canceller did it, or there is none to hear), 'attenuate' or
            'gate' (the user counts as not heard) while the robot speaks.
        self_hearing_db: by how much to attenuate.
        self_hearing_hold_ms: how long the robot's voice lingers in the room and the drivers.
        max_jitter_ms: stamps nearer than this to the sample count are taken to agree with it.
        user_channel: of the user's voice: 'mean' of all, or the index of the one to hear.
        agent_channel: likewise, of the robot's voice.
    """

    self_hearing: str = 'off'
    self_hearing_db: float = 20.0
    self_hearing_hold_ms: int = 200
    max_jitter_ms: int = 20
    user_channel: str = 'mean'
    agent_channel: str = 'mean'

    def __post_init__(self):
        _one_of('self_hearing', self.self_hearing, ('off', 'attenuate', 'gate'))
        _at_least('self_hearing_db', self.self_hearing_db, 0)
        _at_least('self_hearing_hold_ms', self.self_hearing_hold_ms, 0)
        _at_least('max_jitter_ms', self.max_jitter_ms, 1)


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """
    The training recipe (docs/model.md §6); the defaults are the published one where it says.

    Attributes:
        seed: of weights, masks, noise and order.
        steps: optimiser steps in all.
        batch_size: windows a step.
        window_turns: turns in a training window.
        learning_rate, warmup_steps, weight_decay, clip_norm, ema: of AdamW and the running mean.
        mask_mean, mask_sd, mask_min: truncated normal of the share of agent frames masked.
        user_drop: probability of each user token to be null.
        user_turn_drop: probability that the user's last turn is null as a whole (anticipation).
        user_part_drop: probability that the user's last turn is heard only up to a moment.
        user_motion_drop: probability that a window has no user motion at all.
        agent_prefix: probability that the open turn's first frames are already shown.
        planning: probability that a window ends at a planning moment: its last turns are open,
            the user is heard, the agent's voice known and motion shown up to where they would be
            live (docs/design.md, Time); what lies beyond is not learned.
        planning_weight: of the frames that such a plan is seen for in the loss, until the next
            has taken over; all others have 1.
        head_late_s: by how much the head that is shown at a planning moment may be late
            (`masking.show_late`): half of them by something from 0 to this, the others are not.
        rehearsal: probability that a batch is shown what the model planned at the moment before
            (`rehearsal.show_own_plan`).
        beginnings: probability that a batch is of conversations that have just begun: of the first
            turns of clips.
        style_drop: probability that a window's emotion and attitude are not given; likewise its
            persona.
        diffusion_repeat: how often each masked row is diffused a step.
        checkpoint_every: steps between two checkpoints.
        threads: of torch.
    """

    seed: int = 0
    steps: int = 20000
    batch_size: int = 256
    window_turns: int = 8
    learning_rate: float = 1e-4
    warmup_steps: int = 1000
    weight_decay: float = 0.02
    clip_norm: float = 3.0
    ema: float = 0.9999
    mask_mean: float = 1.0
    mask_sd: float = 0.25
    mask_min: float = 0.7
    user_drop: float = 0.1
    user_turn_drop: float = 0.0
    user_part_drop: float = 0.0
    user_motion_drop: float = 0.0
    agent_prefix: float = 0.0
    planning: float = 0.0
    planning_weight: float = 1.0
    head_late_s: float = 0.0
    rehearsal: float = 0.0
    beginnings: float = 0.0
    style_drop: float = 0.1
    diffusion_repeat: int = 4
    checkpoint_every: int = 500
    threads: int = 2
