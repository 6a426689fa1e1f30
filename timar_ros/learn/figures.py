# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The figures of one answered recording: which there are, what people have, and what fools them.

Formulas are those of `behaviour` and `events`; this file says which voice and which channels go
into them, and what the numbers are to be held against.
"""

import collections
from collections.abc import Callable
import dataclasses

import numpy as np

from timar_ros.learn import behaviour, events
from timar_ros.motion import MotionSpace, jaw_open_rad
from timar_ros.stream import lips
from timar_ros.stream.resample import SAMPLE_RATE_HZ


@dataclasses.dataclass(frozen=True)
class Figure:
    """
    What a figure means.

    Attributes:
        name: in report.json.
        unit: of the value; empty where it has none.
        text: what it is, for a reader who has not seen the code.
        lowest, highest: the range that people have, or that they accept; None = no bound known.
        people: where that range comes from, or what is known instead.
        fooled_by: what scores well without being good.
    """

    name: str
    unit: str
    text: str
    lowest: float | None = None
    highest: float | None = None
    people: str = ''
    fooled_by: str = ''

    def holds(self, value: float | None) -> bool | None:
        """Say whether a value is in the range; None where there is no range or no value."""
        if value is None or (self.lowest is None and self.highest is None):
            return None
        return not (
            (self.lowest is not None and value < self.lowest)
            or (self.highest is not None and value > self.highest)
        )


_SEATED = 'two seated people in conversation'
_TRACKED = 'three people, tracked by camera'
# Filters that run both ways over the head's motion need this much of it.
_SHORTEST_S = 1.5
# A head slower than this in silence is frozen, and no ratio to it says anything.
FROZEN_DEG_S = 0.05
GROUPS = {
    'The head': (
        Figure('head_speed_p50', '°/s', 'speed of the head, median', 5, 20, _SEATED,
               'any motion of that size'),
        Figure('head_speed_p95', '°/s', 'speed exceeded in 5 % of the time', 23, 57, _SEATED,
               'any motion of that size'),
        Figure('head_speed_p99', '°/s', 'speed exceeded in 1 % of the time', 32, 96, _SEATED,
               'any motion of that size'),
        Figure('head_speed_max', '°/s', 'fastest turn of the head', 64, 151, _SEATED,
               'one jump'),
        Figure('power_share_0.2_1.1_hz', '', 'share of head power in conversational movement',
               0.71, 0.88, _SEATED, 'a slow wobble'),
        Figure('power_share_7_hz', '', 'share of head power that is tremor', None, 0.015,
               _SEATED, 'a still head'),
        Figure('head_jerk', '°/s³', 'how abruptly the head moves, rms', None, 38500,
               _TRACKED + ', its noise included', 'a still head'),
        Figure('seam_ratio', '', 'steps of the head between turns, against those inside them',
               0.9, 1.1, _TRACKED, 'motion that ignores what is said'),
    ),
    'Stillness and liveliness': (
        Figure('silent_head_speed', '°/s', 'rms speed of the head while nobody speaks',
               people='people settle', fooled_by='a frozen head'),
        Figure('lively_head_speed', '°/s', 'rms speed of the head while somebody speaks',
               people='32 °/s: one seated person', fooled_by='a wobble'),
        Figure('liveliness_ratio', '', 'speed of the head: speech over silence', 1, None,
               'people settle in silence, but never freeze', 'a wobble driven by loudness'),
    ),
    'The mouth': (
        Figure('lip_lag_ms', 'ms', "how late the mouth is against the robot's voice", -60, 40,
               'what viewers accept (EBU R37)', 'a jaw driven by loudness'),
        Figure('lip_correlation', '', 'how well the mouth follows the loudness of the voice',
               0.6, None, '0.64 to 0.81: one speaker, motion capture, six clips',
               'a jaw driven by loudness'),
        Figure('mouth_rest_ratio', '', 'opening of the mouth in silence, against that in speech',
               None, 0.1, 'at most 0.002: one speaker, motion capture, six clips',
               'a mouth that opens wide'),
    ),
    'Answering the user': (
        Figure('nods_per_minute', '/min', 'nods of the head', 3, 16,
               'two people who stand in a group, one who sits', 'trembling at 1 to 7 Hz'),
        Figure('listening_nods_per_minute', '/min', 'nods a minute of listening alone',
               fooled_by='nodding all the time'),
        Figure('reaction_lag_s', 's', "how late the head moves after the user's loudness",
               fooled_by='chance, where the next line is small'),
        Figure('reaction_correlation', '', "how well it follows the user's loudness",
               people='0.09: one seated person', fooled_by='periodic motion'),
        Figure('mimicry_lag_s', 's', "how late the head moves after the user's head",
               people='about 0.6 s', fooled_by='chance, where the next line is small'),
        Figure('mimicry_correlation', '', "how well it follows the user's head",
               fooled_by='periodic motion'),
        Figure('blinks_per_minute', '/min', 'blinks', 15, 20, 'adults in conversation',
               'blinks at random'),
    ),
    'The recording': (
        Figure('user_speech_share', '', 'share of time in which the user speaks'),
        Figure('agent_speech_share', '', 'share of time in which the robot speaks'),
        Figure('overlap_share', '', 'share of time in which both speak'),
        Figure('silence_share', '', 'share of time in which nobody speaks'),
    ),
}  # fmt: skip
FIGURES = tuple(figure for group in GROUPS.values() for figure in group)


@dataclasses.dataclass(frozen=True)
class Answer:
    """
    What was shown in answer to a recording, on the grid of frames.

    Attributes:
        space: what the channels are.
        fps: frames a second.
        frames_per_turn: T.
        first_frame: number of the first frame on the grid of turns.
        motion: float32 `[F, M]`.
        user_voice, agent_voice: float32 `[n]` at 16 kHz from the first frame on; empty = none.
        user_motion: float32 `[F, M]`, the user's head on the same frames; None = nobody watched.
    """

    space: MotionSpace
    fps: int
    frames_per_turn: int
    first_frame: int
    motion: np.ndarray
    user_voice: np.ndarray
    agent_voice: np.ndarray
    user_motion: np.ndarray | None = None

    @property
    def neck(self) -> np.ndarray:
        """The head's rotation vectors `[F, 3]`, rad."""
        return self.motion[:, self.space.neck]

    @property
    def jaw(self) -> np.ndarray:
        """The jaw's opening `[F]`, rad."""
        return jaw_open_rad(self.space, self.motion)

    def activity(self, samples: np.ndarray) -> np.ndarray:
        """Say at which frames `[F]` a voice speaks."""
        speaks = np.zeros(len(self.motion), bool)
        if len(samples) and np.any(samples):
            found = behaviour.voice_activity(samples, SAMPLE_RATE_HZ, self.fps)[: len(speaks)]
            speaks[: len(found)] = found
        return speaks


def compute_figures(answer: Answer) -> tuple[dict[str, float | None], dict[str, str]]:
    """
    Compute all figures of an answered recording.

    Returns:
        figure by name, in the order of `FIGURES`, None where it cannot be said; and for those why
            not, by name.
    """
    values: dict[str, float | None] = dict.fromkeys(figure.name for figure in FIGURES)
    if len(answer.motion) < _SHORTEST_S * answer.fps:
        return values, dict.fromkeys(values, f'the recording is shorter than {_SHORTEST_S:g} s')
    reasons: dict[str, str] = collections.defaultdict(lambda: 'none of it in this recording')

    def measure(names: str, formula: Callable[[], tuple[float, ...]]) -> None:
        """Take what a formula says, or the reason why it refuses."""
        try:
            results = formula()
        except ValueError as error:
            reasons.update(dict.fromkeys(names.split(), str(error)))
            return
        for name, value in zip(names.split(), results, strict=True):
            values[name] = float(value) if np.isfinite(value) else None

    neck, fps = answer.neck, answer.fps
    user, agent = answer.activity(answer.user_voice), answer.activity(answer.agent_voice)
    measure(
        'head_speed_p50 head_speed_p95 head_speed_p99 head_speed_max',
        lambda: tuple(behaviour.speed_figures(neck, fps).values()),
    )
    measure('power_share_0.2_1.1_hz power_share_7_hz', lambda: behaviour.power_shares(neck, fps))
    measure('head_jerk', lambda: (behaviour.rms_jerk(neck, fps),))
    measure('seam_ratio', lambda: (_seam_ratio(answer),))
    measure(
        'silent_head_speed lively_head_speed liveliness_ratio',
        lambda: _stillness(neck, user, agent, fps),
    )
    measure('nods_per_minute listening_nods_per_minute', lambda: _nods(neck, user, agent, fps))
    if agent.any():
        measure('lip_lag_ms lip_correlation', lambda: _lip_sync(answer))
        measure('mouth_rest_ratio', lambda: (behaviour.mouth_rest_ratio(answer.jaw, agent),))
    if user.any():
        measure('reaction_lag_s reaction_correlation', lambda: _reaction(answer))
    if answer.user_motion is not None:
        measure('mimicry_lag_s mimicry_correlation', lambda: _mimicry(answer))
    if 'eyeBlinkLeft' in answer.space.names:
        closed = answer.motion[:, answer.space.index('eyeBlinkLeft')]
        measure('blinks_per_minute', lambda: (events.blinks_per_minute(closed, fps),))
    measure(
        'user_speech_share agent_speech_share overlap_share silence_share',
        lambda: tuple(x.mean() for x in (user, agent, user & agent, ~user & ~agent)),
    )
    return values, {name: reasons[name] for name, value in values.items() if value is None}


def _seam_ratio(answer: Answer) -> float:
    first_seam = -answer.first_frame % answer.frames_per_turn
    return behaviour.seam_ratio(answer.neck[first_seam:], answer.frames_per_turn)


def _stillness(neck, user, agent, fps) -> tuple[float, float, float]:
    found = behaviour.stillness(neck, user, agent, fps)
    is_alive = found['silent'] >= FROZEN_DEG_S and np.isfinite(found['lively'])
    return found['silent'], found['lively'], found['ratio'] if is_alive else float('nan')


def _nods(neck, user, agent, fps) -> tuple[float, float]:
    nods = events.find_nods(neck, fps)
    listens = user & ~agent
    heard = [nod for nod in nods if listens[int(nod.start_s * fps)]]
    minutes, listening_minutes = len(neck) / fps / 60, listens.sum() / fps / 60
    per_minute = len(heard) / listening_minutes if listening_minutes else float('nan')
    return len(nods) / minutes, per_minute


def _lip_sync(answer: Answer) -> tuple[float, float]:
    lag = lips.lip_sync(answer.jaw, answer.agent_voice, SAMPLE_RATE_HZ, answer.fps)
    # A mouth that does not move has no lag.
    return 1000 * lag.lag_s if lag.correlation else float('nan'), lag.correlation


def _reaction(answer: Answer) -> tuple[float, float]:
    loudness = lips.voice_envelope(answer.user_voice, SAMPLE_RATE_HZ, answer.fps)
    speed = behaviour.head_speed(answer.neck, answer.fps)
    lag = lips.cross_lag(speed, loudness, answer.fps, -1.0, 3.0)
    return lag.lag_s if lag.correlation else float('nan'), lag.correlation


def _mimicry(answer: Answer) -> tuple[float, float]:
    user_neck = answer.user_motion[:, answer.space.neck]
    speeds = (behaviour.head_speed(neck, answer.fps) for neck in (answer.neck, user_neck))
    lag = lips.cross_lag(*speeds, answer.fps, -2.0, 2.0)
    return lag.lag_s if lag.correlation else float('nan'), lag.correlation
