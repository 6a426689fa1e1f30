# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Clips as windows of whole turns, ready to be batched.

Responsible for cutting clips and normalising their loudness. Not for files (`clips.py`), nor for
what the model may see of a window (`masking.py`).
"""

from collections.abc import Mapping
import functools
from types import MappingProxyType

import numpy as np
import scipy.ndimage
import torch

from timar_ros.config import TimarConfig
from timar_ros.learn.behaviour import voice_activity
from timar_ros.learn.clips import Clip, read_voice
from timar_ros.learn.events import SLOWEST_FPS, find_nods, quick_motion
from timar_ros.model.persistence import fit_persistence
from timar_ros.model.turn import STYLE
from timar_ros.motion import MotionSpace, get_space
from timar_ros.stream.level import LevelState, normalise, normalise_clip

_SMALLEST_DEVIATION = {'1': 0.1, 'rad': 0.02}
_AT_REST = 1e-3
# What windows may be chosen for (`Windows`).
CHOICES = {
    'idle': 'joint silences of more than a second',
    'ends': 'joint silences of more than 1.2 s',
    'changes': 'a user who begins to speak, or stops',
    'nods': 'nods of the agent',
    'moods': 'an emotion or attitude of the agent',
    'attitudes': 'a user who stops while the agent has an attitude',
}
_MOOD = 0.3  # intensity, either way, from which on it counts
# Shorter clips cannot be filtered for nods.
_FEWEST_FRAMES = 25


class Windows(torch.utils.data.Dataset):
    """
    Windows of whole turns, cut at any frame; window i is a function of (seed, i) alone.

    So training resumes exactly by starting at another i, and several processes share the work by
    taking different i. Clips are drawn in proportion to the windows that they hold.

    Args:
        clips: from `open_clips`; those shorter than a window are left out and named in
            `too_short`.
        config: of the model: turn length, motion space and how loudness is normalised.
        n_turns: turns in a window.
        n_windows: length of this data set.
        seed: of the draw.
        chosen: shares of windows that are not drawn from everywhere, but so that their last turn
            but one (the present one at a planning moment) has what conversations have little of:
            'idle' (a moment of joint silence, half a second from any speech), 'ends' (0.7 s after
            the beginning of a joint silence of 1.2 s: what was said last was no cue),
            'changes' (the user begins to speak, or stops), 'nods' (the agent begins to nod),
            'moods' (an emotion or attitude is given), 'attitudes' (the user stops while an
            attitude is given: it decides who nods).
        cache_bytes: of memory for voices that were read (a minute of conversation has 8 MB); to
            read and level one again takes a tenth of a second.

    Raises:
        ValueError: no clip is as long as a window, one has a persona that the model lacks, or
            `chosen` asks for what no clip has.
    """

    def __init__(
        self,
        clips: list[Clip],
        config: TimarConfig,
        n_turns: int,
        n_windows: int,
        seed: int,
        chosen: Mapping[str, float] = MappingProxyType({}),
        cache_bytes: int = 4 * 2**30,
    ):
        n_frames = n_turns * config.frames_per_turn
        self.clips = [clip for clip in clips if clip.n_frames >= n_frames]
        self.too_short = [clip.name for clip in clips if clip.n_frames < n_frames]
        if not self.clips:
            raise ValueError(
                f'expected a clip of at least {n_turns} turns ({n_frames} frames), '
                f'the longest has {max((clip.n_frames for clip in clips), default=0)} frames'
            )
        for clip in self.clips:
            if config.personas and clip.persona and clip.persona not in config.personas:
                raise ValueError(
                    f'{clip.agent_wav.with_suffix(".npz")}: expected a persona of '
                    f'{", ".join(config.personas)}, got {clip.persona!r}; add it to '
                    "'personas' of the model"
                )
        self._config, self._n_turns, self._n_windows, self._seed = config, n_turns, n_windows, seed
        self._neck = get_space(config.motion_space).neck
        self._n_starts = np.cumsum([clip.n_frames - n_frames + 1 for clip in self.clips])
        longest = max(clip.n_frames for clip in self.clips) * config.samples_per_frame
        n_cached = cache_bytes // (2 * 4 * longest)  # two voices in float32
        self._voices = functools.lru_cache(n_cached)(self._read_voices)
        self._quick_neck = functools.cache(self._find_quick_neck)
        self._activity = functools.cache(self._find_activity)
        finders = {
            'idle': self._is_idle,
            'ends': self._falls_silent,
            'changes': self._user_changes,
            'nods': self._begins_nod,
            'moods': self._has_mood,
            'attitudes': self._asks_attitude,
        }
        # For each kind its share, and the windows, as counted in all, that it is drawn from.
        shares = {kind: share for kind, share in chosen.items() if share}
        starts = {kind: [] for kind in shares}
        for i in range(len(self.clips) if shares else 0):  # each clip is read once for all kinds
            for kind in shares:
                starts[kind].append(self._find_starts(i, finders[kind](i)))
        for kind in shares:
            if not sum(map(len, starts[kind])):
                raise ValueError(
                    f'expected clips with {CHOICES[kind]}, found none; leave {kind!r} out of '
                    "'chosen'"
                )
        self._chosen = [(share, np.concatenate(starts[kind])) for kind, share in shares.items()]

    def __len__(self) -> int:
        return self._n_windows

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((self._seed, index))
        start = int(rng.integers(self._n_starts[-1]))
        lot = rng.random()
        for share, starts in self._chosen:
            if 0 <= lot < share:
                start = int(rng.choice(starts))
            lot -= share
        return self.cut(*self._place(start))

    def begin(self, index: int) -> dict[str, torch.Tensor]:
        """Cut a window as `cut` does, at the beginning of a clip; which is up to (seed, index)."""
        rng = np.random.default_rng((self._seed, index))
        clip, _ = self._place(int(rng.integers(self._n_starts[-1])))
        return self.cut(clip, 0)

    def _place(self, start: int) -> tuple[int, int]:
        """Return clip and frame of a window's start, as counted in all."""
        clip = int(np.searchsorted(self._n_starts, start, 'right'))
        return clip, start - int(self._n_starts[clip - 1] if clip else 0)

    def cut(self, clip_index: int, first_frame: int) -> dict[str, torch.Tensor]:
        """
        Cut the window that begins at a frame of a clip.

        Returns:
            `user_speech`, `agent_speech` `[N, S]` normalised; `user_motion`, `agent_motion` `[N,
            T, M]` raw; `user_seen` bool `[N, T]`; `is_nodding` bool `[N, T]` and
            `quick_neck` `[N, T, 3]` deg (1 to 7 Hz), the agent's, 0 for a clip without a neck;
            `channel_mask` bool `[M]`, True = the channel is trained; `style` `[N, 8]`, the mean
            over each turn, and int64 `persona` `[N]`, as in `Turn`.
        """
        config, clip = self._config, self.clips[clip_index]
        turns = (self._n_turns, config.frames_per_turn)
        frames = slice(first_frame, first_frame + turns[0] * turns[1])
        samples = slice(*(edge * config.samples_per_frame for edge in (frames.start, frames.stop)))
        user_speech, agent_speech = self._voices(clip_index)
        user_motion = (
            np.zeros_like(clip.agent_motion) if clip.user_motion is None else clip.user_motion
        )
        user_seen = torch.full(turns, clip.user_motion is not None)
        if clip.user_seen is not None:
            user_seen = torch.from_numpy(clip.user_seen[frames].reshape(turns).copy())
        style = np.zeros((turns[0], len(STYLE)), np.float32)
        if clip.style is not None:
            style[:, 0] = 1.0
            style[:, 1:] = clip.style[frames].reshape(*turns, -1).mean(1)
        quick, is_nodding = self._quick_neck(clip_index)
        persona = 0
        if clip.persona in config.personas:
            persona = 1 + config.personas.index(clip.persona)
        return {
            'style': torch.from_numpy(style),
            'persona': torch.full(turns[:1], persona),
            'user_speech': torch.from_numpy(user_speech[samples].reshape(turns[0], -1).copy()),
            'agent_speech': torch.from_numpy(agent_speech[samples].reshape(turns[0], -1).copy()),
            'user_motion': torch.from_numpy(user_motion[frames].reshape(*turns, -1).copy()),
            'agent_motion': torch.from_numpy(clip.agent_motion[frames].reshape(*turns, -1).copy()),
            'user_seen': user_seen,
            'quick_neck': torch.from_numpy(quick[frames].reshape(*turns, -1).copy()),
            'is_nodding': torch.from_numpy(is_nodding[frames].reshape(turns).copy()),
            'channel_mask': torch.from_numpy(clip.is_valid.copy()),
        }

    def _find_activity(self, clip_index: int) -> np.ndarray:
        """Return at which frames of a clip the user and the agent speak, bool `[2, F]`."""
        config, n_frames = self._config, self.clips[clip_index].n_frames
        voices = self._voices(clip_index)
        rate_hz, fps = config.sample_rate_hz, config.fps
        return np.stack([voice_activity(voice, rate_hz, fps)[:n_frames] for voice in voices])

    def _is_idle(self, clip_index: int) -> np.ndarray:
        """Return for each frame of a clip, `[F]`, whether it is half a second from any speech."""
        speaks = self._activity(clip_index).any(0)
        return ~scipy.ndimage.binary_dilation(speaks, iterations=self._config.fps // 2)

    def _falls_silent(self, clip_index: int) -> np.ndarray:
        """
        Return for each frame of a clip, `[F]`, whether a joint silence of 1.2 s is 0.7 s old.

        The moments around it are those at which a head knows that nobody spoke on, and plans what
        it would do after a cue; from a silence's first frame on they would be one in eight.
        """
        speaks, fps = self._activity(clip_index).any(0), self._config.fps
        age, shortest = round(0.7 * fps), round(1.2 * fps)
        is_old = np.zeros(len(speaks), bool)
        for frame in np.flatnonzero(np.diff(speaks.astype(np.int8), prepend=0) < 0):
            silence = speaks[frame : frame + shortest]
            if len(silence) == shortest and not silence.any():
                is_old[frame + age] = True
        return is_old

    def _user_changes(self, clip_index: int) -> np.ndarray:
        """Return for each frame of a clip, `[F]`: 1 = the user begins, -1 = stops for 0.5 s."""
        speaks, _ = self._activity(clip_index)
        reach = self._config.fps // 4  # a clip's edges are no change
        speaks = scipy.ndimage.binary_closing(np.pad(speaks, reach, 'edge'), iterations=reach)
        speaks = speaks[reach:-reach].astype(np.int8)
        return np.diff(speaks, prepend=speaks[:1])

    def _find_quick_neck(self, clip_index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return what an agent's neck does quickly, `[F, 3]` degrees, and when it nods, `[F]`."""
        clip, fps = self.clips[clip_index], self._config.fps
        neck = clip.agent_motion[:, self._neck]
        quick, is_nodding = np.zeros_like(neck), np.zeros(clip.n_frames, bool)
        # Where nothing can be seen nothing is: a guide leaves such clips out.
        if (
            fps > SLOWEST_FPS
            and clip.n_frames > _FEWEST_FRAMES
            and clip.is_valid[self._neck].all()
        ):
            quick = np.rad2deg(quick_motion(neck, fps)).astype(np.float32)
            for nod in find_nods(neck, fps):
                is_nodding[round(nod.start_s * fps) : round(nod.end_s * fps)] = True
        return quick, is_nodding

    def _begins_nod(self, clip_index: int) -> np.ndarray:
        return np.diff(self._quick_neck(clip_index)[1].astype(np.int8), prepend=0) > 0

    def _has_mood(self, clip_index: int) -> np.ndarray:
        clip = self.clips[clip_index]
        if clip.style is None:
            return np.zeros(clip.n_frames, bool)
        return np.abs(clip.style).max(-1) >= _MOOD

    def _asks_attitude(self, clip_index: int) -> np.ndarray:
        style = self.clips[clip_index].style
        attitude = 0 if style is None else style[:, STYLE.index('attitude') - 1]
        return (np.abs(attitude) >= _MOOD) & (self._user_changes(clip_index) < 0)

    def _find_starts(self, clip_index: int, is_it: np.ndarray) -> np.ndarray:
        """Return a clip's windows, as counted in all, whose last turn but one has such a frame."""
        T = self._config.frames_per_turn
        n_starts = len(is_it) - self._n_turns * T + 1
        present = max(self._n_turns - 2, 0) * T
        in_turn = np.lib.stride_tricks.sliding_window_view(is_it[present:], T)
        first = int(self._n_starts[clip_index]) - n_starts
        return first + np.flatnonzero(in_turn[:n_starts].any(1))

    def _read_voices(self, clip_index: int) -> tuple[np.ndarray, np.ndarray]:
        # From the clip's start on, as a listener who was there from the start has them.
        clip, config = self.clips[clip_index], self._config
        n_samples = clip.n_frames * config.samples_per_frame
        voices = []
        wavs = (clip.user_wav, clip.user_channel), (clip.agent_wav, clip.agent_channel)
        for path, channel in wavs:
            voice = read_voice(path, config.sample_rate_hz, channel)
            if config.level == 'clip':
                voices.append(normalise_clip(voice)[:n_samples])
            else:
                voice = voice[:n_samples]
                voices.append(normalise(voice, np.ones(len(voice), bool), LevelState())[0])
        return voices[0], voices[1]


def motion_statistics(clips: list[Clip], space: MotionSpace) -> tuple[np.ndarray, np.ndarray]:
    """
    Measure mean and spread of each channel over the agents of all clips that hold it.

    Returns:
        mean `[M]` and standard deviation `[M]`, float32. A channel that hardly moves gets at least
        0.1 (blendshapes, FLAME) or 0.02 rad, or the loss would care for an invisible twitch as
        much as for the jaw. One that no clip holds, or that never moves, gets neutral and 1e-3:
        its drawn values stay at rest.
    """
    mean, deviation = space.neutral.astype(np.float64), np.full(len(space.names), _AT_REST)
    for channel in range(len(space.names)):
        columns = [clip.agent_motion[:, channel] for clip in clips if clip.is_valid[channel]]
        if columns and np.ptp(values := np.concatenate(columns).astype(np.float64)) > 0:
            smallest = _SMALLEST_DEVIATION[space.units[channel]]
            mean[channel], deviation[channel] = values.mean(), max(values.std(), smallest)
    return mean.astype(np.float32), deviation.astype(np.float32)


def measure_persistence(
    clips: list[Clip],
    space: MotionSpace,
    statistics: tuple[np.ndarray, np.ndarray],
    n_lags: int,
    noise: float,
    late: int = 0,
) -> np.ndarray:
    """
    Measure over all agents how far the neck gets from where it is shown.

    The face has no persistence: lips follow the voice and not their own past.

    Args:
        clips: from `open_clips`.
        space: of their motion.
        statistics: mean and deviation `[M]`, from `motion_statistics`.
        n_lags: frames ahead.
        noise: that training adds to what is shown, in deviations.
        late: by how many frames training shows the neck late.

    Returns:
        float32 `[2, n_lags, M]`, see `model.persistence.fit_persistence`.
    """
    mean, deviation = statistics
    is_neck = np.zeros(len(space.names), bool)
    is_neck[space.neck] = True
    motions = [((clip.agent_motion - mean) / deviation, clip.is_valid & is_neck) for clip in clips]
    return fit_persistence(motions, n_lags, noise, late)
