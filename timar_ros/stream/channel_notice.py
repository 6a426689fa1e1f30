# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Channels that are not the voice, noticed live: inverted, silent, or the robot's own.

Responsible for gathering what `channels` judges, in little memory and time. Not for the judgement,
nor for choosing a channel. Warns, and changes nothing.
"""

import collections
from collections.abc import Iterable

import numpy as np

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.channels import MEAN, ChannelWatch, foreign_voice
from timar_ros.stream.resample import SAMPLE_RATE_HZ

# Channels are judged after this much sound of a voice, and once more after ten times that.
_JUDGED_AT = (3 * SAMPLE_RATE_HZ, 30 * SAMPLE_RATE_HZ)
# Voices are compared in bins of a quarter millisecond: speech lies below 2 kHz, mostly.
_BIN = 4  # grid samples
_BINS_HZ = SAMPLE_RATE_HZ // _BIN
_COMPARED = 6 * _BINS_HZ
_LEAST_SOUND = 2 * _BINS_HZ  # of the robot, in what is compared
_AUDIBLE = 10 ** (-50 / 20)
_MAX_PIECES = 4000  # of the robot's voice, that may lie ahead
_MAX_COMPARISONS = 5


class ChannelNotice:
    """
    Follow the channels of both voices of a conversation.

    Args:
        channels: what is heard of each voice, by name: 'mean' or an index.
    """

    def __init__(self, channels: dict[str, str | int]):
        self._channels = channels
        self._watches = {voice: ChannelWatch() for voice in channels}
        self._heard = dict.fromkeys(channels, 0)
        self._n_judged = dict.fromkeys(channels, 0)
        self._warnings: list[str] = []
        self._n_comparisons = 0
        self.reset()

    def reset(self) -> None:
        """Drop the samples gathered to compare the voices, because they start at another time."""
        self._user: list[tuple[int, np.ndarray]] = []  # first bin, and bins [n, C]
        self._n_user = 0
        # first bin, and bins [n, 1]
        self._agent: collections.deque[tuple[int, np.ndarray]] = collections.deque(
            maxlen=_MAX_PIECES
        )

    def take_warnings(self) -> list[str]:
        """Return texts worth logging since the last call."""
        warnings, self._warnings = self._warnings, []
        return warnings

    def add(self, voice: str, packet: AudioPacket, start: int) -> None:
        """
        Take a packet of a voice.

        Args:
            voice: 'user' or 'agent'.
            packet: that was accepted, with samples.
            start: grid index of its first sample.
        """
        self._watch(voice, packet)
        if self._n_comparisons >= _MAX_COMPARISONS:
            return
        first, bins = _to_bins(packet, start)
        if not len(bins):
            return
        if voice == 'agent':
            self._agent.append((first, bins.mean(axis=1, keepdims=True)))
            begin = self._user[0][0] if self._user else first - _COMPARED
            while self._agent and self._agent[0][0] + len(self._agent[0][1]) < begin:
                self._agent.popleft()
            return
        if self._user and self._user[-1][1].shape[1] != bins.shape[1]:
            self.reset()
        self._user.append((first, bins))
        self._n_user += len(bins)
        if self._n_user >= _COMPARED:
            self._compare()
            self._user, self._n_user = [], 0

    def _watch(self, voice: str, packet: AudioPacket) -> None:
        """Look at the channels of a voice among each other, where their mean is heard."""
        if self._channels[voice] != MEAN or self._n_judged[voice] == len(_JUDGED_AT):
            return
        self._watches[voice].add(packet.samples)
        self._heard[voice] += len(packet.samples) * SAMPLE_RATE_HZ // packet.sample_rate_hz
        if self._heard[voice] < _JUDGED_AT[self._n_judged[voice]]:
            return
        self._n_judged[voice] += 1
        finding = self._watches[voice].finding(f'{voice}_channel:=')
        if finding:
            self._n_judged[voice] = len(_JUDGED_AT)
            self._warnings.append(f'{voice} audio: {finding}')

    def _compare(self) -> None:
        """Note if the user's channels hold the robot's voice, once it has spoken enough."""
        begin = min(at for at, _ in self._user)
        agent = _compose(self._agent, begin, _COMPARED, 1)[:, 0]
        if (np.abs(agent) > _AUDIBLE).sum() < _LEAST_SOUND:
            return
        self._n_comparisons += 1
        user = _compose(self._user, begin, _COMPARED, self._user[0][1].shape[1])
        channel = self._channels['user']
        if channel != MEAN and channel >= user.shape[1]:
            return
        text = foreign_voice(user, agent, _BINS_HZ, channel, 'user_channel:=')
        if text:
            self._n_comparisons = _MAX_COMPARISONS
            self._warnings.append(f'user audio: {text}')


def _to_bins(packet: AudioPacket, start: int) -> tuple[int, np.ndarray]:
    """Return the first bin and the means over bins `[n, C]` of the samples in them."""
    n = len(packet.samples)
    n_bins = n * SAMPLE_RATE_HZ // (packet.sample_rate_hz * _BIN)
    edges = np.arange(n_bins) * n // max(n_bins, 1)
    if not n_bins:
        return 0, packet.samples[:0]
    sums = np.add.reduceat(packet.samples, edges, axis=0)
    return start // _BIN, sums / np.diff(edges, append=n)[:, None]


def _compose(
    pieces: Iterable[tuple[int, np.ndarray]], begin: int, n: int, width: int
) -> np.ndarray:
    """Put pieces of bins where they belong in `[n, width]`; silence elsewhere."""
    whole = np.zeros((n, width), np.float32)
    for at, piece in pieces:
        first, last = max(at, begin), min(at + len(piece), begin + n)
        if first < last:
            whole[first - begin : last - begin] = piece[first - at : last - at]
    return whole
