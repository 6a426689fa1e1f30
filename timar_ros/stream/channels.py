# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Which channel of a recording is the voice: choosing one, and noticing channels that are not it.

Responsible for channels that cancel each other, that are silent, or that hold the other person's
voice. Not for where the samples belong in time. Pure functions of samples; findings depend on the
sound as a whole, not on the chunks in which it came.
"""

from collections.abc import Mapping

import numpy as np
import scipy.fft

from timar_ros.stream.offset import OffsetWatch
from timar_ros.stream.resample import SAMPLE_RATE_HZ, Resampler
from timar_ros.strict import quoted, shortened

MEAN = 'mean'
# Channels of a correlation below this cancel each other in their mean, wherever it loses half of
# the amplitude of the loudest one.
_INVERTED = -0.7
_LOST_ENERGY = 0.25
# A channel 60 dB below the loudest one holds nothing.
_SILENT = 1e-6
# Correlation of two voices, at the best delay up to the longest: different people stay below 0.2,
# a loopback channel comes near 1.
_FOREIGN = 0.5
_LOOPBACK = 0.8
_LONGEST_DELAY_S = 0.5
_SHORTEST_S = 3.0
COMPARED_S = 60  # whose voice a channel holds shows within this


def parse_channel(value: str | int) -> str | int:
    """
    Read which channel is to be heard: 'mean' of all, or an index from 0 on, as number or text.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = value.strip() if isinstance(value, str) else ''
    if text == MEAN:
        return MEAN
    if text.isascii() and text.isdigit() and len(text) < 6:
        return int(text)
    raise ValueError(f"channel must be 'mean' or an index from 0 on, got {quoted(value)}")


def choose_channel(samples: np.ndarray, channel: str | int, source: str) -> np.ndarray:
    """
    Keep one channel of `[n, channels]`; 'mean' keeps all, for `mono_of` to average.

    Args:
        samples: interleaved channels as columns.
        channel: from `parse_channel`.
        source: whose samples these are, for the error.

    Returns:
        `[n, 1]`, or the samples as they are.

    Raises:
        ValueError: there is no such channel.
    """
    if channel == MEAN:
        return samples
    if channel >= samples.shape[1]:
        n = samples.shape[1]
        there = f'channel 0 alone; choose 0 or {MEAN!r}' if n == 1 else (
            f'{n} channels; choose 0 to {n - 1} or {MEAN!r}'
        )  # fmt: skip
        raise ValueError(f'{shortened(source, 300)}: expected channel {channel}, got {there}')
    return samples[:, channel : channel + 1]


class ChannelWatch:
    """
    How the channels of one voice correlate, from all samples so far.

    State schema:
        gram: float64 `[C, C]`, sums of products of channels; None before the first sample.
        total: float64 `[C]`, sums of samples.
        n_samples: of each channel.
    """

    def __init__(self):
        """Begin without samples."""
        self.gram: np.ndarray | None = None
        self.total = np.zeros(0)
        self.n_samples = 0

    def add(self, samples: np.ndarray) -> None:
        """Add samples `[n, C]`; another number of channels C resets, mono is not measured."""
        if self.gram is None or len(self.gram) != samples.shape[1]:
            self.gram, self.n_samples = np.zeros((samples.shape[1],) * 2), 0
            self.total = np.zeros(samples.shape[1])
        if samples.shape[1] > 1 and len(samples) and np.isfinite(samples).all():
            wide = samples.astype(np.float64)
            self.gram += wide.T @ wide
            self.total += wide.sum(0)
            self.n_samples += len(samples)

    def finding(self, option: str) -> str:
        """
        Return what is wrong with the mean of the channels, one sentence; '' = nothing.

        Args:
            option: how a channel is chosen here, up to its number, such as '--user-channel '.
        """
        if self.gram is None or len(self.gram) < 2:
            return ''
        # about the means: a constant offset is no sound
        gram = self.gram - np.outer(self.total, self.total) / max(self.n_samples, 1)
        energy = np.diag(gram) * (np.diag(gram) > 1e-9 * np.diag(self.gram))  # not rounding
        if not energy.max() > 0:
            return ''
        is_silent = energy <= _SILENT * energy.max()
        scale = np.sqrt(np.maximum(energy, np.finfo(float).tiny))
        correlation = gram / np.outer(scale, scale)
        correlation[is_silent] = correlation[:, is_silent] = 0.0
        loudest = int(energy.argmax())
        in_mean = gram.sum() / len(energy) ** 2 / energy.max()
        if correlation.min() < _INVERTED and in_mean < _LOST_ENERGY:
            i, j = sorted(map(int, np.unravel_index(correlation.argmin(), correlation.shape)))
            # the loudest of the pair, the first where they are equal
            best = i if energy[i] >= 0.999 * energy[j] else j
            left = f'{100 * np.sqrt(max(in_mean, 0.0)):.0f} %'
            return (
                f'channels {i} and {j} are inverted (correlation {correlation[i, j]:.2f}) and '
                f'cancel: their mean has {left} of the amplitude; choose {option}{best}'
            )
        if is_silent.any():
            which = ', '.join(str(i) for i in np.flatnonzero(is_silent))
            names = f'channel {which} is' if is_silent.sum() == 1 else f'channels {which} are'
            return (
                f'{names} silent, which makes the mean of {len(energy)} channels softer; '
                f'choose {option}{loudest} to hear one alone'
            )
        return ''


def correlation_of(one: np.ndarray, other: np.ndarray, rate_hz: int) -> float:
    """
    Return how far one voice is a copy of another, 0 to 1, at the best delay up to half a second.

    Args:
        one: float32 `[n]`.
        other: float32 `[m]`; begins at the same time. The shorter one decides how much counts.
        rate_hz: of both.
    """
    n = min(len(one), len(other))
    if n < _SHORTEST_S * rate_hz:
        return 0.0
    one, other = (x[:n] - x[:n].mean(dtype=np.float64) for x in (one, other))
    energy = float(np.sqrt((one @ one) * (other @ other)))
    if not energy > 0:
        return 0.0
    size, delay = scipy.fft.next_fast_len(2 * n, real=True), round(_LONGEST_DELAY_S * rate_hz)
    spectrum = scipy.fft.rfft(one, size) * np.conj(scipy.fft.rfft(other, size))
    products = scipy.fft.irfft(spectrum, size)
    return float(np.abs(np.append(products[: delay + 1], products[-delay:])).max() / energy)


def foreign_voice(
    channels: np.ndarray, agent: np.ndarray, rate_hz: int, channel: str | int, option: str
) -> str:
    """
    Return a note if the user's voice is in fact the robot's own, one sentence; '' = it is not.

    Args:
        channels: `[n, C]`, all channels of the user.
        agent: `[m]`, the robot's voice from the same moment on, at the same rate.
        rate_hz: of both.
        channel: what is heard of the user.
        option: how a channel is chosen here, up to its number, such as '--user-channel '.
    """
    heard = choose_channel(channels, channel, 'user').mean(1)
    alike = correlation_of(heard, agent, rate_hz)
    each = [alike]
    if channels.shape[1] > 1:
        each = [correlation_of(column, agent, rate_hz) for column in channels.T]
    worst = int(np.argmax(each))
    is_in_mean = channel == MEAN and channels.shape[1] > 1 and each[worst] >= _LOOPBACK
    if alike < _FOREIGN and not is_in_mean:
        return ''
    text = f"what is heard of the user is the robot's own voice (correlation {alike:.2f})"
    if alike < _FOREIGN:
        text = "the robot's own voice is part of what is heard of the user"
    loud = np.abs(channels).max(0, initial=0) > 0
    usable = [i for i, value in enumerate(each) if value < _FOREIGN and loud[i]]
    if not usable:
        return (
            f'{text}; is it the same recording twice, or a microphone that hears the '
            'loudspeaker? Record the user apart, or choose another channel'
        )
    best = min(usable, key=lambda i: (round(each[i], 1), i))
    return f'{text}: channel {worst} holds it ({each[worst]:.2f}); choose {option}{best}'


def describe_recording(
    user: tuple[np.ndarray, int] | None,
    agent: tuple[np.ndarray, int] | None,
    channels: Mapping[str, str | int],
    option: str,
) -> list[str]:
    """
    Return what is wrong with the channels of two voices that start together, a sentence each.

    Args:
        user: samples float32 `[n, C]` and rate; None where there is no such voice.
        agent: likewise.
        channels: voice -> what is heard of it; 'mean' where nothing is said.
        option: how a channel is chosen here, with `{voice}` in it, up to its number.
    """
    notes, sounds = [], {'user': user, 'agent': agent}
    for voice, sound in sounds.items():
        if sound is not None and channels.get(voice, MEAN) == MEAN:
            watch = ChannelWatch()
            watch.add(sound[0])
            finding = watch.finding(option.format(voice=voice))
            notes += [f'{voice}: {finding}'] if finding else []
        if sound is not None:
            offset = OffsetWatch()
            offset.add(choose_channel(sound[0], channels.get(voice, MEAN), voice), sound[1])
            notes += [f'{voice}: {offset.finding()}'] if offset.finding() else []
    if user is None or agent is None:
        return notes
    heard = {}
    for voice, (samples, rate_hz) in sounds.items():
        columns = choose_channel(samples[: COMPARED_S * rate_hz], channels.get(voice, MEAN), voice)
        columns = columns if voice == 'user' else columns.mean(1, keepdims=True)
        resampler = Resampler(rate_hz)
        heard[voice] = np.stack([resampler.resample(column) for column in columns.T], 1)
    text = foreign_voice(
        heard['user'], heard['agent'][:, 0], SAMPLE_RATE_HZ, MEAN, option.format(voice='user')
    )
    return notes + ([f'user: {text}'] if text else [])
