# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a model costs on this machine, with random weights and full context.

    python -m timar_ros.benchmark --preset mini [--turns 20] [--threads 2] [--device auto] [--json]

Measures three ways to answer; the first two turn by turn in alternation, so that what else runs on
the machine slows both alike:

    cached       a `step` a turn on cached keys and values, as `timing: reactive` runs it
    full         the whole window each turn and all its frames drawn again, as published
    anticipate   `Conversation` with its defaults, replanning the open turns as it runs live

`critical` runs once the last sample is there, `background` before (the agent's voice is known
ahead, the user's is convolved as it comes in) and after (the window slides). `without_speech` is
the critical part less the speech encoder.
"""

import argparse
from collections.abc import Callable
import contextlib
import dataclasses
import json
import math
import resource

import numpy as np
import torch
from tqdm import tqdm

from timar_ros.command import end
from timar_ros.config import PRESETS, SamplingConfig, TimarConfig, TimingConfig
from timar_ros.model.precision import DTYPES
from timar_ros.model.stages import Stages, now_ms
from timar_ros.model.timar import TIMAR
from timar_ros.model.turn import Turn, stack_turns
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.engine import Engine
from timar_ros.stream.hearing import SpeechAhead
from timar_ros.stream.noise import draw_noise
from timar_ros.strict import whole_number

_MS_NS = 1_000_000
_CHUNK_MS = 20  # of audio, as a microphone sends it
_LISTEN_MS = 100  # how often the user's convolutions catch up
_WATCHED_TURNS = 3  # with a clock at each stage; not among the measured ones
_PERCENTILES = (50, 95, 99)


def make_random_model(config: TimarConfig, device: str, dtype: str) -> TIMAR:
    """Return a model whose weights are random, with the spread of fresh ones."""
    with torch.device('meta'):  # 700 million numbers are not drawn twice
        model = TIMAR(config)
    rng = torch.Generator().manual_seed(0)

    def draw(name, shape):
        if len(shape) < 2:  # norms begin as ones, biases as zeros
            return torch.full(shape, float(name.endswith(('weight', 'std'))))
        spread = 1.0 / math.sqrt(math.prod(shape[1:]))
        return torch.empty(shape).uniform_(-spread, spread, generator=rng)

    weights = {name: draw(name, tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(weights, assign=True)
    model = model.requires_grad_(False).to(device, DTYPES[dtype]).eval()
    model.motion_mean, model.motion_std = model.motion_mean.float(), model.motion_std.float()
    return model


def make_turn(config: TimarConfig, index: int) -> Turn:
    """Return a turn in which both speak noise and the user moves."""
    rng = torch.Generator().manual_seed(index)
    T, S, M = config.frames_per_turn, config.samples_per_turn, config.n_channels
    known = torch.ones((1, T), dtype=torch.bool)
    return Turn(
        user_speech=torch.randn((1, S), generator=rng),
        user_heard=known,
        user_motion=0.1 * torch.randn((1, T, M), generator=rng),
        user_seen=known,
        agent_speech=torch.randn((1, S), generator=rng),
        agent_motion=torch.zeros((1, T, M)),
        is_shown=~known,
    )


def _percentiles(times_ms: list[float]) -> dict[str, float]:
    return {f'p{p}': round(float(np.percentile(times_ms, p)), 3) for p in _PERCENTILES}


class Costs:
    """What turns cost, ms; watched turns only say in which stages."""

    def __init__(self, model: TIMAR):
        self.stages = Stages(model)
        self.critical: list[float] = []
        self.without_speech: list[float] = []
        self.background: list[float] = []

    def watch(self, is_watched: bool):
        """Time the stages of what runs inside, or do nothing."""
        return self.stages.watch() if is_watched else contextlib.nullcontext()

    def report(self) -> dict:
        """Return the figures under the names of docs/design.md, Commands."""
        return {
            'critical_ms': _percentiles(self.critical),
            'without_speech_ms': _percentiles(self.without_speech),
            'background_ms': _percentiles(self.background),
            'stages_ms': self.stages.p50(),
        }


class Cached:
    """The reactive protocol on a cache: `Engine.step`, with speech encoded ahead."""

    def __init__(self, model: TIMAR):
        self.engine = Engine(model)
        self.costs = Costs(model)
        self._device = model.device
        self._state = self.engine.new_state()
        self._user = SpeechAhead(model.speech, model.device)
        self._agent = SpeechAhead(model.speech, model.device)
        self._listen = model.config.sample_rate_hz * _LISTEN_MS // 1000

    def answer(self, index: int, turn: Turn, is_watched: bool = False) -> torch.Tensor:
        """Answer a turn; return its motion on the host."""
        times_ms = [now_ms(self._device)]
        agent = self._agent.features(index, turn.agent_speech)
        for n in range(self._listen, turn.user_speech.shape[1], self._listen):
            heard = turn.user_speech.clone()
            heard[:, n:] = 0.0
            self._user.listen(index, heard)
        times_ms.append(now_ms(self._device))
        with self.costs.watch(is_watched):
            user = self._user.features(index, turn.user_speech)
            times_ms.append(now_ms(self._device))
            turn = dataclasses.replace(turn, user_features=user, agent_features=agent)
            motion = self.engine.step(turn, self._state).cpu()
            times_ms.append(now_ms(self._device))
        self.engine.settle(self._state)
        self._user.forget_before(index + 1)
        self._agent.forget_before(index + 1)
        times_ms.append(now_ms(self._device))
        if not is_watched:
            before, speech, step, after = np.diff(times_ms)
            self.costs.critical.append(speech + step)
            self.costs.without_speech.append(step)
            self.costs.background.append(before + after)
        return motion


class FullWindow:
    """
    The published protocol: the whole window through the transformer, all its frames drawn.

    Speech of past turns is kept, as published. Attention takes for each turn the part of the
    window that it sees, without a mask: the fastest way that we have without a cache.
    """

    def __init__(self, model: TIMAR):
        self.costs = Costs(model)
        self._model, self._sampling = model, SamplingConfig()
        self._window: list[Turn] = []

    @torch.inference_mode()
    def listen(self, turn: Turn) -> None:
        """Make a turn the last one of the window, its speech encoded."""
        turn = turn.to(self._model.device)
        user, agent = self._model.speech(torch.cat([turn.user_speech, turn.agent_speech])).chunk(2)
        turn = dataclasses.replace(turn, user_features=user, agent_features=agent)
        self._window = [*self._window, turn][-self._model.config.max_turns :]

    @torch.inference_mode()
    def answer(self, index: int, turn: Turn, is_watched: bool = False) -> torch.Tensor:
        """Answer a turn; return its motion on the host."""
        device = self._model.device
        with self.costs.watch(is_watched):
            times_ms = [now_ms(device)]
            self.listen(turn)
            times_ms.append(now_ms(device))
            window = stack_turns(self._window)
            _B, N, T, M = window.agent_motion.shape
            noise = draw_noise((0,), index + 1 - N, N, 1, self._sampling.steps + 1, T, M)
            motion = self._model.draft(window, None, noise.to(device), self._sampling)[:, -1].cpu()
            times_ms.append(now_ms(device))
        if not is_watched:
            speech, rest = np.diff(times_ms)
            self.costs.critical.append(speech + rest)
            self.costs.without_speech.append(rest)
            self.costs.background.append(0.0)
        return motion


class Anticipating:
    """A whole conversation as it runs live: two voices in packets, a plan at each moment."""

    def __init__(self, model: TIMAR):
        self.timing = TimingConfig(timing='anticipate')
        self.conversation = Conversation(model, self.timing)
        self._config, self._device = model.config, model.device
        self._rng = np.random.default_rng(0)
        self._now_ns = 0
        self.begin()

    def begin(self) -> None:
        """Begin to measure, e.g. once the window is full."""
        self._stages = Stages(self.conversation.engine.model)
        self._plans_ms: list[float] = []
        self._busy: list[float] = []

    def live(self, is_watched: bool = False, max_plans: int | None = None) -> None:
        """Live through one turn."""
        start_ms, n_plans = now_ms(self._device), 0
        end_ns = self._now_ns + round(self._config.turn_s * 1e9)
        while self._now_ns < end_ns:
            self._speak()
            if self._now_ns % (_LISTEN_MS * _MS_NS) == 0:
                self.conversation.listen(self._now_ns)
            is_moment = self.conversation.next_plan_ns(self._now_ns) == self._now_ns
            if is_moment and n_plans != max_plans:
                n_plans += 1
                self._plan(is_watched)
                self.conversation.settle()
            self._now_ns += _CHUNK_MS * _MS_NS
        if not is_watched:
            self._busy.append((now_ms(self._device) - start_ms) / 1e3 / self._config.turn_s)

    def _plan(self, is_watched: bool) -> None:
        start_ms = now_ms(self._device)
        with self._stages.watch() if is_watched else contextlib.nullcontext():
            plan = self.conversation.plan(self._now_ns)
        if plan is not None:
            self.conversation.accept(plan)
        if not is_watched:
            self._plans_ms.append(now_ms(self._device) - start_ms)

    def _speak(self) -> None:
        rate = self._config.sample_rate_hz
        starts = {
            'user': self._now_ns - _CHUNK_MS * _MS_NS,
            'agent': self._now_ns + self.timing.agent_lead_ms * _MS_NS,
        }
        for voice, stamp_ns in starts.items():
            first = stamp_ns * rate // 1_000_000_000
            samples = 0.1 * self._rng.standard_normal((rate * _CHUNK_MS // 1000, 1))
            if first >= 0:
                packet = AudioPacket(
                    stamp_ns, first, self._now_ns, rate, samples.astype(np.float32)
                )
                self.conversation.push_audio(voice, packet, self._now_ns)

    def report(self) -> dict:
        """Return what a plan costs, and the share of real time that all of it takes."""
        return {
            'plan_ms': _percentiles(self._plans_ms),
            'stages_ms': self._stages.p50(),
            'replan_hz': self.timing.replan_hz,
            'open_turns': self.conversation.engine.open_turns,
            'context_turns': self.conversation.engine.context_turns,
            'real_time_factor': round(float(np.mean(self._busy)), 4),
        }


def measure(preset: str, turns: int, device: str, dtype: str, tell: Callable[[str], None]) -> dict:
    """
    Measure a preset.

    Args:
        preset: name in `config.PRESETS`.
        turns: measured turns, with full context.
        device: torch device.
        dtype: of the weights.
        tell: called with what is being done.

    Returns:
        the object of docs/design.md, Commands, ready for JSON.
    """
    model = make_random_model(PRESETS[preset], device, dtype)
    config = model.config
    cached, full = Cached(model), FullWindow(model)
    for k in range(config.max_turns):
        tell(f'filling the window, turn {k + 1} of {config.max_turns}')
        cached.answer(k, make_turn(config, k))
        full.listen(make_turn(config, k))
    # Of what runs live; the full window is there to compare with.
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    cached.costs = Costs(model)
    differences = []
    for i in range(turns + _WATCHED_TURNS):
        tell(f'turn {i + 1} of {turns + _WATCHED_TURNS}')
        index, is_watched = config.max_turns + i, i >= turns
        turn = make_turn(config, index)
        motions = [way.answer(index, turn, is_watched) for way in (cached, full)]
        differences.append(float((motions[0] - motions[1]).abs().max()))
    anticipating = _measure_anticipating(model, turns, tell)
    ways = {'cached': cached.costs.report(), 'full': full.costs.report()}
    busy_ms = np.mean(cached.costs.critical) + np.mean(cached.costs.background)
    return {
        **ways,
        'speedup': {
            name: round(ways['full'][f'{name}_ms']['p50'] / ways['cached'][f'{name}_ms']['p50'], 2)
            for name in ('critical', 'without_speech')
        },
        # Of the two ways' motion; the other policies mean another model than the full window.
        'max_abs_difference': max(differences) if config.cache == 'rebuild' else None,
        'anticipate': anticipating.report(),
        'real_time_factor': round(float(busy_ms) / 1e3 / config.turn_s, 4),
        'peak_rss_mb': round(peak_rss_mb, 1),
        'preset': preset,
        'parameters': sum(p.numel() for p in model.parameters()),
        'turns': turns,
        'threads': torch.get_num_threads(),
        'device': str(model.device),
        'dtype': dtype,
        'context_turns': cached.engine.context_turns,
    }


def _measure_anticipating(model: TIMAR, turns: int, tell: Callable[[str], None]) -> Anticipating:
    """Measure about as many plans as `turns`, at full context."""
    anticipating = Anticipating(model)
    for k in range(model.config.max_turns):
        tell(f'filling the window of a conversation, turn {k + 1} of {model.config.max_turns}')
        anticipating.live(max_plans=1)
    anticipating.begin()
    n = max(1, round(turns / max(1.0, anticipating.timing.replan_hz * model.config.turn_s)))
    for k in range(n):
        tell(f'planning ahead, turn {k + 1} of {n}')
        anticipating.live()
    anticipating.live(is_watched=True)
    return anticipating


def _print_report(report: dict) -> None:
    """Print the figures for people."""
    cached, full, ahead = (report[way] for way in ('cached', 'full', 'anticipate'))
    print(
        f'{report["preset"]}: {report["parameters"] / 1e6:.0f} M weights in {report["dtype"]} on '
        f'{report["device"]}, {report["threads"]} threads; {report["turns"]} turns with '
        f'{report["context_turns"]} before them\n\n{"ms":28}'
        + ''.join(f'{f"p{p}":>10}' for p in _PERCENTILES)
    )
    for name in ('critical', 'without_speech', 'background'):
        for way in ('cached', 'full'):
            values = report[way][f'{name}_ms'].values()
            print(f'{way + " " + name:28}' + ''.join(f'{value:10.1f}' for value in values))
    print(f'{"anticipate, a plan":28}' + ''.join(f'{v:10.1f}' for v in ahead['plan_ms'].values()))
    for way, stages in {'cached': cached, 'full': full, 'anticipate': ahead}.items():
        told = ', '.join(f'{name} {ms:.1f}' for name, ms in stages['stages_ms'].items())
        print(f'{way}, by stage: {told}')
    print(
        f'\nwith the cache {report["speedup"]["critical"]} times as fast as the full window, '
        f'{report["speedup"]["without_speech"]} without speech\nbusy '
        f'{report["real_time_factor"]:.0%} of real time, {ahead["real_time_factor"]:.0%} when '
        f'planning ahead at {ahead["replan_hz"]:g} Hz; peak memory {report["peak_rss_mb"]:.0f} MB'
    )


def main(args=None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog='python -m timar_ros.benchmark',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--preset', choices=list(PRESETS), default='mini')
    parser.add_argument('--turns', type=whole_number(1), default=20, help='measured turns')
    parser.add_argument('--threads', type=whole_number(1, 1024), default=2, help='CPU threads')
    parser.add_argument('--device', default='auto', help='auto, cpu, cuda, cuda:1')
    parser.add_argument('--dtype', choices=list(DTYPES), default='float32')
    parser.add_argument('--json', action='store_true', help='one JSON object and nothing else')
    options = parser.parse_args(args)
    has_gpu = torch.cuda.is_available()
    device = ('cuda' if has_gpu else 'cpu') if options.device == 'auto' else options.device
    if device.startswith('cuda') and not has_gpu:
        parser.error(f'--device {device} needs a GPU and a PyTorch with CUDA; there is none here')
    torch.set_num_threads(options.threads)
    with tqdm(bar_format='{desc}', leave=False, disable=options.json) as bar:
        report = measure(options.preset, options.turns, device, options.dtype, bar.set_description)
    if options.json:
        print(json.dumps(report))
    else:
        _print_report(report)
    return 0


if __name__ == '__main__':
    end('benchmark', main)
