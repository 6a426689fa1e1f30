# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What can happen to an utterance on its way to the speaker, and how much of the next one is spoken.

Messages are read and scheduled as in the node, without ROS and in simulated time. Every sample has
a value of its own, so that it is known again where it is announced.
"""

from collections.abc import Callable
import dataclasses
import types

import numpy as np

from timar_ros.stream.playback import PlaybackSchedule
from timar_ros.stream.utterance_reader import UtteranceReader

RATE_HZ = 16_000
_S, _MS = 1_000_000_000, 1_000_000
_BEGIN_NS = 1_700_000_000 * _S
_CHUNK = RATE_HZ // 10
_TICK_NS = 10 * _MS
_NOBODYS = types.SimpleNamespace(sec=0, nanosec=0)
# Without a counter that must tell of it the next utterance is all that is looked at.
_USUAL = ('samples', 'withdrawn_samples', 'dropped_samples')


def message(samples, first: int, **fields) -> types.SimpleNamespace:
    """Return an AudioChunk's fields."""
    data = np.asarray(samples, '<i2').tobytes()
    given = {
        'header': types.SimpleNamespace(stamp=_NOBODYS), 'sent': _NOBODYS, 'channels': 1,
        'sample_rate': RATE_HZ, 'encoding': 'pcm_s16le', 'first_sample': first, 'data': data,
    }  # fmt: skip
    return types.SimpleNamespace(**(given | fields))


def utterance(begin: int, n: int = RATE_HZ) -> list[types.SimpleNamespace]:
    """Return a second of speech in ten messages; sample i has the value `begin + i`."""
    samples = np.arange(begin, begin + n)
    return [message(samples[i : i + _CHUNK], i) for i in range(0, n, _CHUNK)]


@dataclasses.dataclass(frozen=True)
class SpeakerFault:
    """
    One thing that happens to an utterance.

    Attributes:
        name: as the table has it.
        spoil: (messages of the utterance) -> what arrives instead of them.
        tells: counters that must have grown.
        is_stopped: the robot is stopped in its midst.
        step_s: by how much the clock is set in its midst.
    """

    name: str
    spoil: Callable[[list], list] = lambda messages: messages
    tells: tuple[str, ...] = ()
    is_stopped: bool = False
    step_s: float = 0.0


@dataclasses.dataclass(frozen=True)
class SpeakerRow:
    """
    What one fault did.

    Attributes:
        name: of the fault.
        spoken_s: of the utterance itself, of a second.
        next_sent_s, next_spoken_s: of the next one, sent half a second later.
        counters: that tell of it.
    """

    name: str
    spoken_s: float
    next_sent_s: float
    next_spoken_s: float
    counters: dict[str, int]


def _change(index: int, **fields):
    def spoil(messages):
        changed = list(messages)
        changed[index] = types.SimpleNamespace(**(vars(changed[index]) | fields))
        return changed

    return spoil


def _cut_anywhere(messages):
    """Send the same bytes as HTTP chunks of 1,001 bytes."""
    data = b''.join(each.data for each in messages)
    pieces = range(0, len(data), 1001)
    return [message([], i // 2, data=data[i : i + 1001]) for i in pieces]


def _floats(*values):
    return {'encoding': 'pcm_f32le', 'data': np.tile(values, _CHUNK).astype('<f4').tobytes()}


SPEAKER_FAULTS = (
    SpeakerFault('nothing'),
    SpeakerFault('a message lost', lambda m: m[:4] + m[5:], ('lost_samples',)),
    SpeakerFault('every second message lost', lambda m: m[::2], ('lost_samples',)),
    SpeakerFault('its beginning lost', lambda m: m[3:]),
    SpeakerFault('its end lost', lambda m: m[:-3]),
    SpeakerFault('all but one message lost', lambda m: m[4:5]),
    SpeakerFault('bytes cut in mid-sample, as HTTP chunks are', _cut_anywhere, ('cut_messages',)),
    SpeakerFault(
        'half of its last sample lost',
        lambda m: [*m[:-1], message([], m[-1].first_sample, data=m[-1].data[:-1])],
        ('lost_half_samples',),
    ),
    SpeakerFault(
        'an empty message before it', lambda m: [message([], 0), *m], ('empty_messages',)
    ),
    SpeakerFault(
        'nothing but empty messages', lambda m: [message([], 0)] * 10, ('empty_messages',)
    ),
    SpeakerFault('a message of rate 0', _change(4, sample_rate=0), ('refused_messages',)),
    SpeakerFault(
        'a message of rate 2^31-1', _change(4, sample_rate=2**31 - 1), ('refused_messages',)
    ),
    SpeakerFault('another rate in its midst', _change(4, sample_rate=22_050)),
    SpeakerFault('no channels', _change(4, channels=0), ('refused_messages',)),
    SpeakerFault('an encoding of 1 MB', _change(4, encoding='x' * 10**6), ('refused_messages',)),
    SpeakerFault('a message of NaN', _change(4, **_floats(np.nan)), ('refused_messages',)),
    SpeakerFault(
        'a message of 3e38 in stereo', _change(4, channels=2, **_floats(3e38, 3e38)),
        ('clipped_samples',),
    ),
    SpeakerFault('a count that begins from 0', _change(4, first_sample=0)),
    SpeakerFault('a count of 2^64-1', _change(4, first_sample=2**64 - 1)),
    SpeakerFault(
        '11 minutes of it at once',
        lambda m: [message(np.ones(RATE_HZ * 61), i * RATE_HZ * 61) for i in range(11)],
        ('refused_messages', 'refused_samples'),
    ),
    SpeakerFault('a stop in its midst', is_stopped=True),
    SpeakerFault('the clock set by 5 s in its midst', step_s=5.0),
    SpeakerFault('the clock set by -5 s in its midst', tells=('clock_steps',), step_s=-5.0),
)  # fmt: skip


class _Listener:
    """Delivers messages to a speaker, and remembers the value of all that it announces."""

    def __init__(self):
        self.schedule, self.reader = PlaybackSchedule(RATE_HZ), UtteranceReader()
        self.now_ns, self.n_refused = _BEGIN_NS, 0
        self._said: dict[int, int] = {}  # position on the timeline -> value; a stop takes back
        self._over: set[int] = set()  # heard before the clock was set

    def deliver(self, messages, fault: SpeakerFault) -> None:
        for index, each in enumerate(messages):
            try:
                packet = self.reader.read(each, self.now_ns)
                if packet is not None:
                    self.schedule.push(packet, self.now_ns)
            except ValueError:
                self.n_refused += 1
            if index == 6 and fault.is_stopped:
                self._listen(self.schedule.stop(self.now_ns))
            if index == 6:
                self._set_clock(fault.step_s)
            self.wait(0.02)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * _S / _TICK_NS)):
            self._listen(self.schedule.announce(self.now_ns))
            self.now_ns += _TICK_NS

    def values(self) -> set[int]:
        """Return the values of all samples that sound."""
        return self._over | set(self._said.values())

    def counters(self) -> dict[str, int]:
        counters = {**self.schedule.counters, **self.reader.counters}
        return {**counters, 'refused_messages': self.n_refused}

    def _set_clock(self, step_s: float) -> None:
        if step_s < 0:
            now = self.schedule.index(self.now_ns)
            self._over |= {value for at, value in self._said.items() if at < now}
            self._said = {at: value for at, value in self._said.items() if at >= now}
        self.now_ns += round(step_s * _S)

    def _listen(self, packets) -> None:
        for packet in packets:
            values = np.round(packet.samples[:, 0] * 32768).astype(int).tolist()
            self._said.update(enumerate(values, packet.first_sample))


def play_speaker_fault(fault: SpeakerFault) -> SpeakerRow:
    """Deliver an utterance with a fault, and half a second later another one without."""
    one, following, listener = utterance(100), utterance(100 - 2**15), _Listener()
    listener.deliver(fault.spoil(one), fault)
    listener.wait(0.5)
    listener.deliver(following, SPEAKER_FAULTS[0])
    listener.wait(605 if listener.schedule._queue.n_left > 60 * RATE_HZ else 8)
    values = listener.values()
    spoken = (len(values & set(range(begin, begin + RATE_HZ))) for begin in (100, 100 - 2**15))
    spoken_s, next_spoken_s = (n / RATE_HZ for n in spoken)
    counters = {n: k for n, k in listener.counters().items() if k and n not in _USUAL}
    return SpeakerRow(fault.name, spoken_s, 1.0, next_spoken_s, counters)


def speaker_problems(fault: SpeakerFault, row: SpeakerRow) -> list[str]:
    """Return what a fault should not have done."""
    found = [f'{name} does not tell of it' for name in fault.tells if name not in row.counters]
    if row.next_spoken_s != row.next_sent_s:
        found.append(
            f'{row.next_spoken_s:.3f} s of the next utterance are spoken, '
            f'{row.next_sent_s:.3f} s were sent'
        )
    return found


def speaker_table(rows: list[SpeakerRow]) -> str:
    """Return rows as a Markdown table."""
    lines = [
        '| what happens to an utterance | spoken of it s | spoken of the next one s (sent) '
        '| counters that tell |',
        '|---|---|---|---|',
    ]
    for row in rows:
        counters = ', '.join(f'{name} {n}' for name, n in row.counters.items())
        lines.append(
            f'| {row.name} | {row.spoken_s:.3f} '
            f'| {row.next_spoken_s:.3f} ({row.next_sent_s:.3f}) | {counters} |'
        )
    return '\n'.join(lines)
