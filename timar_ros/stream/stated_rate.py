# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Whether samples come as fast as their stated rate, judged by the pace of their messages.

Responsible for noticing a stream whose stated rate, or number of channels, contradicts time:
stereo labelled as one channel, 16 kHz labelled 48 kHz, a driver that sends one byte of each
sample; and for the rate at which it is heard then, that at which its samples come. Not for where
samples belong, nor for jitter, loss, pauses and drift: they contradict nothing.

The bytes alone are valid samples, so only their pace shows it: the sound that came, at the stated
rate, rises with time along a straight line whose slope is not 1.
"""

from collections.abc import Sequence
import dataclasses
import itertools
import math

import numpy as np

from timar_ros.bounds import MAX_CHANNELS, SAMPLE_RATES_HZ
from timar_ros.stream.audio import AudioPacket

# Standard rates, any of which may be stated for any other; and what whole numbers of channels or
# of bytes a sample make of a rate.
_RATES_HZ = (8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000)
_WHOLE = (2, 3, 4, 5, 6, 8)
_HALF = 1 / 2
# Up to here the pace may be drift or the share that was lost.
_SMALLEST = 1.2
_PRECISION = 0.04  # of a factor
_SHORTEST_S, _LONGEST_S = 4.0, 15.0
_FEWEST, _MOST = 8, 4096
_JUDGED_EVERY_S = 0.25
# The sound is this share of all of it from the straight line, at most, and a message more.
_STRAIGHT = 0.1
# A slow pace is no random loss where so many messages stay this much closer to the straight line
# than loss would let them (a random walk), or so few come in turn, within this share of it.
_MANY, _QUIET = 100, 0.25
_FEW, _REGULAR = 12, 0.3
# Two publishers at once send by turns: one stream alone has this share of steps of its own pace,
# and no difference between every other step beyond these many standard errors.
_OWN_PACE, _OWN_SHARE, _TURN_ERRORS = 0.4, 0.8, 5.0
# No clock of the day has shown less: it is simulated, and may run at any speed.
_SIMULATED_NS = 10**18
_EVEN = 0.01  # steps that differ by less are even
_LARGEST_HOLE_S = 10.0
_LEAST_S = 1e-6
_FIRST_FEW = 6  # messages that do not show a pace yet


@dataclasses.dataclass(frozen=True)
class _Step:
    """A message: when it came, when it ended by its stamp (None without), and the sound so far."""

    arrival_s: float
    stamp_s: float | None
    sound_s: float
    length_s: float


class StatedRate:
    """
    Compare the sound of one voice with the time that it takes.

    Args:
        role: 'user' or 'agent'; an agent's messages come as they are sent, only stamps are times.

    Attributes:
        factor: by which samples come faster than stated; 1 while nothing is known to be wrong.
    """

    def __init__(self, role: str):
        self._role = role
        self.factor = 1.0
        self._is_off = self._is_idle = False
        self._forget()

    def _forget(self) -> None:
        self._steps: list[_Step] = []
        self._format: tuple[int, int] | None = None
        self._first_ns = 0
        self._next_count = self._n_missing = 0
        self._judged_s = 0.0

    def turn_off(self) -> None:
        """Judge no more: a reader of the whole recording has done so."""
        self._is_off = self._is_idle = True

    def correct(self, packet: AudioPacket) -> AudioPacket:
        """
        Return a packet with the rate at which it was found to come.

        Raises:
            ValueError: half of its samples come: they may be single bytes, which are noise.
        """
        is_ours = (packet.sample_rate_hz, packet.samples.shape[1]) == self._format
        if is_ours and self.factor == _HALF:
            raise ValueError(describe(self._role, _HALF, *self._format))
        return with_rate(packet, self.factor) if is_ours else packet

    @property
    def may_be_wrong(self) -> bool:
        """Whether what is odd about the stream may be due to its stated rate."""
        slope = self._slopes()[1] if len(self._steps) > 2 else None
        is_odd = slope is not None and not 1 / _SMALLEST < slope / self.factor < _SMALLEST
        return is_odd and self._is_one()

    @property
    def is_new(self) -> bool:
        """Whether too little has come to show a pace."""
        return not self._is_idle and len(self._steps) < _FIRST_FEW

    def add(
        self, packet: AudioPacket, arrival_ns: int, last_count: int | None = None
    ) -> str | None:
        """
        Take the next message.

        Args:
            packet: with at least one sample.
            arrival_ns: when it came; 0 where that is not known.
            last_count: `first_sample` of the message before it; the same again is no count.

        Returns:
            what is wrong, or right again, a sentence, once; samples have another rate then.
        """
        counts = packet.first_sample not in (None, last_count)
        n, channels = packet.samples.shape
        stated = packet.sample_rate_hz, channels
        time_ns = arrival_ns or packet.stamp_ns or 0
        self._is_idle = self._is_off or time_ns < _SIMULATED_NS
        if self._is_idle:
            return None
        length_s = n / packet.sample_rate_hz
        is_stamped = bool(packet.stamp_ns)
        if self._steps:
            last = self._steps[-1]
            is_other = (last.stamp_s is not None) != is_stamped
            is_back = (time_ns - self._first_ns) * 1e-9 < last.arrival_s - 1
            if stated != self._format:
                self.factor = 1.0
            if stated != self._format or is_other or is_back:
                self._forget()
        if not self._steps:
            self._format, self._first_ns = stated, time_ns
            self._next_count = packet.first_sample or 0
        heard_s = self._steps[-1].sound_s if self._steps else 0.0
        sound_s = heard_s + self._new_sound(packet.first_sample if counts else None, n) / stated[0]
        stamp_s = (packet.stamp_ns - self._first_ns) * 1e-9 if is_stamped else None
        arrival_s = (time_ns - self._first_ns) * 1e-9
        self._steps.append(_Step(arrival_s, stamp_s, sound_s, length_s))
        del self._steps[:-_MOST]
        if arrival_s - self._judged_s < _JUDGED_EVERY_S:
            return None
        self._judged_s = arrival_s
        while len(self._steps) > 2 * _FEWEST and arrival_s - self._steps[0].arrival_s > _LONGEST_S:
            del self._steps[0]
        factor = self._judge()
        if factor is None or factor == self.factor:
            return None
        self.factor = factor
        if factor == 1:
            return f'samples come as fast as the stated {stated[0]} Hz now, and are heard so'
        return describe(self._role, factor, *stated)

    def _new_sound(self, count: int | None, n: int) -> int:
        """Return by how many samples a message of `n` continues the sound, lost ones with it."""
        hole = 0 if count is None else count - self._next_count
        if hole < 0 and n <= self._n_missing:  # it came late, and was taken to be lost
            self._n_missing -= n
            return 0
        # a count that goes back otherwise is one of fewer samples than came, or of another stream
        hole = hole if 0 < hole < _LARGEST_HOLE_S * self._format[0] else 0
        self._n_missing += hole
        self._next_count = (self._next_count + hole if count is None else count) + n
        return hole + n

    def _slopes(self) -> tuple[float | None, float | None]:
        """Return the sound a second, by stamps and by arrivals; None where none can be known."""
        slopes = []
        for times in ([s.stamp_s for s in self._steps], [s.arrival_s for s in self._steps]):
            first, last = times[0], times[-1]
            sound_s = self._steps[-1].sound_s - self._steps[0].sound_s
            is_known = first is not None and last > first
            slopes.append(sound_s / (last - first) if is_known else None)
        return slopes[0], slopes[1]

    def _judge(self) -> float | None:
        """Return the factor that shows now; None where none does for certain."""
        by_stamp, by_arrival = self._slopes()
        if self._role == 'agent':
            by_arrival = by_stamp  # it may be sent long before it sounds
        if by_arrival is None:
            return None
        if 1 / _SMALLEST < by_arrival < _SMALLEST:  # the driver was corrected, if it was wrong
            return 1.0 if self._steps[-1].arrival_s - self._steps[0].arrival_s > 10 else None
        times = [s.stamp_s if self._role == 'agent' else s.arrival_s for s in self._steps]
        factor = self._factor(times)
        if factor is None or by_stamp is None or self._role == 'agent':
            return factor
        is_alike = abs(by_stamp / factor - 1) < 2 * _PRECISION
        # stamps of a driver that computes them from its samples; others are off for a while only
        is_computed = abs(by_stamp - 1) < _PRECISION and times[-1] - times[0] > _LONGEST_S / 2
        return factor if is_alike or is_computed else None

    def _factor(self, times: Sequence[float]) -> float | None:
        """Return the simple factor by which sound comes faster than these times; None = none."""
        steps, rate_hz = self._steps, self._format[0]
        elapsed = times[-1] - times[0]
        if len(steps) < _FEWEST or elapsed < _SHORTEST_S or not self._is_one():
            return None
        t, sound = np.array(times), np.array([step.sound_s for step in steps])
        slope, offset = np.polyfit(t, sound, 1)
        far = np.abs(sound - offset - slope * t).max()
        if far > _STRAIGHT * (sound[-1] - sound[0]) + steps[-1].length_s:
            return None
        factors = [*_WHOLE, *(1 / each for each in _WHOLE), 1.5, 1 / 1.5]
        factors += [each / rate_hz for each in _RATES_HZ]
        factors = [each for each in factors if not 1 / _SMALLEST < each < _SMALLEST]
        factor = min(factors, key=lambda each: abs(slope / each - 1))
        if abs(slope / factor - 1) > _PRECISION:
            return None
        if factor < 1 and not self._is_regular(factor):
            return None
        return factor

    def _is_regular(self, factor: float) -> bool:
        """Return whether each message of a slow stream comes in its turn; lossy ones do not."""
        is_stamped = self._slopes()[0] is not None
        times = [s.stamp_s if is_stamped else s.arrival_s for s in self._steps]
        t, sound = np.array(times), np.array([step.sound_s for step in self._steps])
        n, turns = len(t) - 1, np.diff(t) * factor / np.maximum(np.diff(sound), _LEAST_S)
        if n >= _MANY:
            line = np.polyval(np.polyfit(t, sound, 1), t)
            off = math.sqrt(((sound - line) ** 2).mean()) * n / (sound[-1] - sound[0])
            return off < _QUIET * math.sqrt(n * (1 - factor) / 15)
        return n >= _FEW and bool(np.abs(turns - 1).max() < _REGULAR)

    def _is_one(self) -> bool:
        """Return whether stamps step like those of one publisher, not of two by turns."""
        by_stamp, _ = self._slopes()
        if by_stamp is None or by_stamp < _SMALLEST:
            return True
        steps = [(b.stamp_s - a.stamp_s) * by_stamp / (b.sound_s - a.sound_s)
                 for a, b in itertools.pairwise(self._steps) if b.sound_s > a.sound_s]  # fmt: skip
        n_own = sum(abs(step - 1) < _OWN_PACE for step in steps)
        if n_own < _OWN_SHARE * len(steps):
            return False
        n = round(by_stamp)
        if n < 2 or len(steps) < 4 * n:
            return True
        turns = np.array(steps[: len(steps) // n * n]).reshape(-1, n)
        error = np.median(np.abs(turns - turns.mean(0))) / math.sqrt(len(turns))
        return bool(np.ptp(turns.mean(0)) <= max(_TURN_ERRORS * error, _EVEN))


def describe(role: str, factor: float, rate_hz: int, channels: int) -> str:
    """Return what is wrong with a voice whose samples come faster than stated by a factor."""
    if factor == _HALF:
        return (
            f'expected {rate_hz} samples a second, got half as many; the driver sends one byte of '
            'each sample, or states a wrong rate or channel count; let it publish all bytes of '
            f'each sample, or correct {role}_audio_format (evaluate: --{role}-format)'
        )
    causes = []
    n_channels, true_hz = factor * channels, round(factor * rate_hz)
    if abs(n_channels - round(n_channels)) < 0.01 and 1 <= round(n_channels) <= MAX_CHANNELS:
        causes.append('1 channel' if round(n_channels) == 1 else f'{round(n_channels)} channels')
    if SAMPLE_RATES_HZ[0] <= true_hz <= SAMPLE_RATES_HZ[1]:
        causes.append(f'{true_hz} Hz')
    figure = f'{factor:.1f}' if factor > 1 else f'{factor:.2f}'
    stated = '1 channel' if channels == 1 else f'{channels} channels'
    return (
        f'samples come {figure} times as fast as the stated {rate_hz} Hz, '
        f'{stated}: its format is stated wrongly ({", or ".join(causes) or "rate or channels"}); '
        f'it is heard as {true_hz} Hz; correct the driver, or, where messages state no format, '
        f'{role}_audio_format (evaluate: --{role}-format)'
    )


def with_rate(packet: AudioPacket, factor: float) -> AudioPacket:
    """Return a packet with its stated rate times a factor, where that is a rate."""
    rate_hz = round(packet.sample_rate_hz * factor)
    if factor == 1 or not SAMPLE_RATES_HZ[0] <= rate_hz <= SAMPLE_RATES_HZ[1]:
        return packet
    return dataclasses.replace(packet, sample_rate_hz=rate_hz)
