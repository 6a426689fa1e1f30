# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Faults of microphones, cameras and networks, put into a clip in bursts, seeded.

Pure functions on arrays. Kinds and amounts are those of TIMAR's robustness tests: a share of the
time in bursts whose lengths are geometric with a mean of 1 s.
"""

from collections.abc import Callable
import dataclasses
import zlib

import numpy as np

# In the order in which they are put in, as in the released code.
KINDS = (
    'user_voice_noise',
    'user_voice_silence',
    'agent_voice_noise',
    'agent_voice_silence',
    'user_motion_noise',
    'user_motion_drop',
)


@dataclasses.dataclass(frozen=True)
class Corruption:
    """
    One fault, or several at once.

    Attributes:
        kinds: of `KINDS`; none = a clean clip.
        share: of the time that is in bursts, 0 to 1.
        mean_s: mean length of a burst.
        snr_db: of the noise on a voice, against the power of the whole clip.
    """

    kinds: tuple[str, ...] = ()
    share: float = 0.3
    mean_s: float = 1.0
    snr_db: float = 60.0

    def __post_init__(self):
        unknown = [kind for kind in self.kinds if kind not in KINDS]
        if unknown:
            raise ValueError(f'corruptions are {", ".join(KINDS)}, got {unknown[0]!r}')
        if not 0 <= self.share <= 1:
            raise ValueError(f'share must be within 0..1, got {self.share}')

    def apply(
        self,
        voices: dict[str, np.ndarray],
        user_motion: np.ndarray | None,
        sample_rate_hz: int,
        fps: float,
        seed: int,
        name: str,
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
        """
        Put the faults into a clip.

        Args:
            voices: 'user' and 'agent', float32 `[n]` before normalisation; not changed.
            user_motion: float32 `[F, M]`, or None; not changed.
            sample_rate_hz: of the voices.
            fps: frames a second.
            seed: of the bursts and the noise.
            name: of the clip: each has its own bursts, whichever others are there.

        Returns:
            voices and user motion.
        """
        voices = dict(voices)
        for kind in sorted(self.kinds, key=KINDS.index):
            rng = np.random.default_rng((seed, zlib.crc32(f'{name} {kind}'.encode())))
            party, what, fault = kind.split('_')
            if what == 'voice':
                make = silence if fault == 'silence' else self._noise
                is_burst = self._bursts(len(voices[party]), sample_rate_hz, rng)
                voices[party] = make(voices[party], is_burst, rng)
            elif user_motion is not None:
                make: Callable = hold if fault == 'drop' else shake
                is_burst = self._bursts(len(user_motion), fps, rng)
                user_motion = make(user_motion, is_burst, rng)
        return voices, user_motion

    def _bursts(self, n: int, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
        return bursts(n, self.share, max(int(self.mean_s * rate_hz), 1), rng)

    def _noise(self, samples, is_burst, rng):
        return noise(samples, is_burst, rng, self.snr_db)


def bursts(n: int, share: float, mean_length: int, rng: np.random.Generator) -> np.ndarray:
    """
    Draw when a fault is there.

    Formula: outside a burst, one begins at each instant with probability share / mean_length; its
    length is geometric with that mean. Less than `share` of the time is covered, share / (1 +
    share) on average, as in the released code.

    Returns:
        bool `[n]`.
    """
    if share >= 1:
        return np.ones(n, bool)
    is_burst = np.zeros(n, bool)
    at = 0
    while share > 0:
        at += int(rng.geometric(share / mean_length)) - 1
        if at >= n:
            break
        length = int(rng.geometric(1 / mean_length))
        is_burst[at : at + length] = True
        at += length
    return is_burst


def hold(motion: np.ndarray, is_burst: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """Lose frames `[F, M]`: the last one before holds; the first frame is never lost."""
    kept = np.where(is_burst, 0, np.arange(len(motion)))
    return motion[np.maximum.accumulate(kept)]


def shake(motion: np.ndarray, is_burst: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Add Gaussian noise to frames `[F, M]`, as large as the clip's channels vary on average.

    The released code takes the mean deviation of the channels over the whole data set.
    """
    deviation = float(motion.std(0).mean())
    drawn = deviation * rng.standard_normal(motion.shape)
    return np.where(is_burst[:, None], motion + drawn, motion).astype(motion.dtype)


def silence(samples: np.ndarray, is_burst: np.ndarray, _rng: np.random.Generator) -> np.ndarray:
    """Make samples `[n]` silent."""
    return np.where(is_burst, 0, samples).astype(samples.dtype)


def noise(
    samples: np.ndarray, is_burst: np.ndarray, rng: np.random.Generator, snr_db: float
) -> np.ndarray:
    """Add white noise to samples `[n]`, `snr_db` below the power of the whole voice."""
    power = max(float(np.mean(samples.astype(np.float64) ** 2)), 1e-12) / 10 ** (snr_db / 10)
    drawn = np.sqrt(power) * rng.standard_normal(len(samples))
    return np.where(is_burst, samples + drawn, samples).astype(samples.dtype)
