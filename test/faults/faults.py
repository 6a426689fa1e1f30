# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What can go wrong with audio, as data: how packets are spoiled and which counters tell of it.

What is spoiled is the user's voice, unless a fault says otherwise.
"""

from collections.abc import Callable
import dataclasses

import numpy as np
from simulation import CHUNK_S, SECOND_NS, Event

from timar_ros.stream.resample import SAMPLE_RATE_HZ, Resampler

_MS = 1_000_000


@dataclasses.dataclass(frozen=True)
class Fault:
    """
    One thing that goes wrong.

    Attributes:
        name: as the table has it.
        spoil: (events of the fault, rng) -> what arrives instead of them.
        tells: counters that must have grown; `refused` are packets that raised.
        at_most: by how much other counters may have grown.
        after: (events after the fault) -> what arrives instead of those; the mended publisher may
            count anew.
        duration_s: of the fault.
        is_stalled, is_late: (seconds since the fault's begin) -> nobody plans then; or the plan
            comes too late.
        off_deg: how far it may be off the clean run, two turns after the fault's end.
        softer_db: by how much too soft the user may be heard then.
    """

    name: str
    spoil: Callable[[list[Event], np.random.Generator], list[Event]] = lambda events, rng: events
    tells: tuple[str, ...] = ()
    at_most: dict[str, int] = dataclasses.field(default_factory=dict)
    after: Callable[[list[Event]], list[Event]] = lambda events: events
    duration_s: float = 3.0
    is_stalled: Callable[[float], bool] = lambda seconds: False
    is_late: Callable[[float], bool] = lambda seconds: False
    off_deg: float = 0.3
    softer_db: float = 12.0


def _change(event: Event, arrival_ns: int | None = None, **fields) -> Event:
    arrival_ns = event.arrival_ns if arrival_ns is None else arrival_ns
    return Event(arrival_ns, event.voice, dataclasses.replace(event.packet, **fields))


def _user_only(spoil):
    """Spoil the user's events, leave the agent's."""

    def apply(events, rng):
        agent = [event for event in events if event.voice == 'agent']
        return agent + spoil([event for event in events if event.voice == 'user'], rng)

    return apply


def _lose(share: float):
    return lambda events, rng: [event for event in events if rng.random() >= share]


def _delay_up_to(delay_ms: int):
    def spoil(events, rng):
        delays = rng.integers(0, delay_ms * _MS, len(events))
        return [
            _change(event, event.arrival_ns + int(delay))
            for event, delay in zip(events, delays, strict=True)
        ]

    return spoil


def _stamp_on_arrival(delay_ns):
    """Stamp each packet as late as it comes, in order, as a driver without a sample clock."""

    def spoil(events, rng):
        changed, latest_ns = [], 0
        for index, event in enumerate(events):
            latest_ns = max(latest_ns, event.arrival_ns + int(delay_ns(index, rng)))
            late_ns = latest_ns - event.arrival_ns
            changed.append(_change(event, latest_ns, stamp_ns=event.stamp_ns + late_ns))
        return changed

    return spoil


def _repeat(events, rng):
    return events + [_change(event, event.arrival_ns + 30 * _MS) for event in events]


def _shuffle(n: int):
    """Let packets arrive in any order within groups of n, none before its time."""

    def spoil(events, rng):
        shuffled = []
        for begin in range(0, len(events), n):
            group = events[begin : begin + n]
            latest_ns = group[-1].arrival_ns
            for rank, at in enumerate(rng.permutation(len(group))):
                shuffled.append(_change(group[at], latest_ns + rank * 1000))
        return shuffled

    return spoil


def _shift_stamps(seconds: float):
    step_ns = round(seconds * SECOND_NS)
    return lambda events, rng: [
        _change(event, stamp_ns=event.stamp_ns + step_ns) for event in events
    ]


def _resample(rate_hz: int, channels: int):
    """Send the same sound at another rate, counted from 0."""

    def spoil(events, rng):
        first = events[0].packet
        samples = np.concatenate([event.packet.samples[:, 0] for event in events])
        samples = Resampler(first.sample_rate_hz, rate_hz).resample(samples)
        n, changed = round(rate_hz * CHUNK_S), []
        for index, event in enumerate(events):
            piece = samples[index * n : (index + 1) * n, None]
            changed.append(
                _change(
                    event,
                    first_sample=index * n,
                    sample_rate_hz=rate_hz,
                    samples=np.repeat(piece, channels, axis=1),
                )
            )
        return changed

    return spoil


def _write(value: float, every: int):
    """Put a value into one sample of every so manyth packet."""

    def spoil(events, rng):
        changed = list(events)
        for index in range(0, len(events), every):
            samples = events[index].packet.samples.copy()
            samples[rng.integers(len(samples))] = value
            changed[index] = _change(events[index], samples=samples)
        return changed

    return spoil


def _insert_empty(events, rng):
    empty = np.zeros((0, 1), np.float32)
    return events + [_change(event, samples=empty) for event in events[::2]]


def _join(events, rng):
    """Send all of it in one packet, when its last sample was captured."""
    samples = np.concatenate([event.packet.samples for event in events])
    return [_change(events[0], events[-1].arrival_ns, samples=samples)]


def _recount(events):
    """Count from 0 again, as a publisher restarted."""
    user = [event for event in events if event.voice == 'user']
    first = user[0].packet.first_sample
    agent = [event for event in events if event.voice == 'agent']
    return agent + [_change(e, first_sample=e.packet.first_sample - first) for e in user]


def _add_publisher(events, rng):
    """Let a second publisher say something else at the same time, with a count of its own."""
    other = []
    for index, event in enumerate(events):
        noise = 0.05 * rng.standard_normal(event.packet.samples.shape).astype(np.float32)
        n = len(noise)
        other.append(
            _change(event, event.arrival_ns + 30 * _MS, first_sample=index * n, samples=noise)
        )
    return events + other


def _nothing(events, rng):
    return []


def _announce_late(events, rng):
    """Let the robot's voice be known half a second after it sounded."""
    late = []
    for event in events:
        if event.voice == 'agent':
            arrival_ns = event.stamp_ns + 500 * _MS
            event = _change(event, arrival_ns, sent_ns=arrival_ns)
        late.append(event)
    return late


def _fill(value: float, channels: int = 1):
    """Let every sample be a value, of either sign in turn."""

    def spoil(events, rng):
        changed = []
        for event in events:
            samples = np.full((len(event.packet.samples), channels), value, np.float32)
            samples[1::2, 0] *= -1
            changed.append(_change(event, samples=samples))
        return changed

    return spoil


def _scale(factor: float):
    return lambda events, rng: [_change(e, samples=e.packet.samples * factor) for e in events]


def _integers(events, rng):
    """Send 16-bit integers as floats, with the noise that a microphone has in silence, too."""
    sounds = [(e, e.packet.samples) for e in events]
    return [_change(e, samples=x * 32768 + rng.normal(0, 8, x.shape)) for e, x in sounds]


def _both(first, second):
    return lambda events, rng: second(first(events, rng), rng)


def _scatter_stamps(early_ms: int, late_ms: int):
    """Do not count, and stamp each packet off by something in between."""

    def spoil(events, rng):
        offs = rng.uniform(early_ms * _MS, late_ms * _MS, len(events))
        return [
            _change(event, stamp_ns=event.stamp_ns + int(off), first_sample=None)
            for event, off in zip(events, offs, strict=True)
        ]

    return spoil


def _stamp_when_sent(n: int):
    """Send n packets as one, do not count, and stamp it when it is sent, as simple nodes do."""

    def spoil(events, rng):
        sent = []
        for begin in range(0, len(events), n):
            (joined,) = _join(events[begin : begin + n], rng)
            end_ns = joined.stamp_ns + len(joined.packet.samples) * SECOND_NS // SAMPLE_RATE_HZ
            sent.append(_change(joined, stamp_ns=end_ns, first_sample=None))
        return sent

    return spoil


def _claim(**fields):
    return lambda events, rng: [_change(event, **fields) for event in events]


def _uncounted(events):
    return [_change(e, first_sample=None) if e.voice == 'user' else e for e in events]


def _add_ring_buffer(events, rng):
    """Send, with the first packet, a minute that a driver had kept."""
    kept = np.full((61 * SAMPLE_RATE_HZ, 1), 0.05, np.float32)
    stamp_ns = events[0].stamp_ns - 61 * SECOND_NS
    return [_change(events[0], stamp_ns=stamp_ns, first_sample=None, samples=kept), *events]


def _lose_a_channel(events, rng):
    """Send in stereo, and nothing on the second channel."""
    return [_change(e, samples=np.pad(e.packet.samples, ((0, 0), (0, 1)))) for e in events]


def _shift_bytes(events, rng):
    """Lose half a sample: each one after it is made of the halves of two."""
    changed = []
    for event in events:
        data = (event.packet.samples * 32767).astype('<i2').tobytes()
        samples = np.frombuffer(data[1:] + data[:1], '<i2')[:, None] / np.float32(32768)
        changed.append(_change(event, samples=samples))
    return changed


def silences(duration_s: float) -> tuple[Fault, ...]:
    """Return nobody saying anything for so long, with silent packets and with none at all."""
    text = f'{duration_s / 60:g} min' if duration_s >= 60 else f'{duration_s:g} s'
    # How loud the voices are is learned anew after long silence, over seconds (`level`).
    options = {'duration_s': duration_s, 'off_deg': 1.0}
    return (
        Fault(f'{text} of silence, both voices', _scale(0), **options),
        Fault(
            f'{text} without a packet, both voices',
            _nothing,
            ('user_lost_samples',),
            **options,
        ),
    )


FAULTS = (
    *(
        Fault(
            f'{share:.0%} of chunks lost',
            _user_only(_lose(share)),
            ('user_lost_samples', 'missing_user_frames'),
        )
        for share in (0.05, 0.2, 0.5)
    ),
    Fault('50 % of chunks lost, both voices', _lose(0.5), ('user_lost_samples',)),
    Fault('network jitter to 200 ms', _user_only(_delay_up_to(200)), ('user_late_samples',)),
    Fault(
        'stamps jitter to 200 ms',
        _user_only(_stamp_on_arrival(lambda index, rng: rng.integers(0, 200 * _MS))),
        ('user_doubted',),
    ),
    Fault(
        'stalls of 0.4 s, twice, then all at once',
        _user_only(_stamp_on_arrival(lambda index, rng: 400 * _MS * (index % 75 == 10))),
        ('user_doubted', 'late_user_frames'),
        at_most={'user_lost_samples': 0, 'user_overlapped_samples': 0, 'user_reanchored': 0},
    ),
    Fault('every chunk twice', _repeat, ('user_repeated_samples', 'agent_repeated_samples')),
    Fault('chunks reordered, five by five', _user_only(_shuffle(5)), ('user_late_samples',)),
    Fault('stamps 5 s ahead', _user_only(_shift_stamps(5)), ('user_jumps',)),
    Fault('stamps 5 s behind', _user_only(_shift_stamps(-5)), ('user_jumps',)),
    Fault(
        'rate from 16 to 48 kHz, stereo', _user_only(_resample(48_000, 2)), ('user_rate_changes',)
    ),
    Fault('rate from 16 to 8 kHz', _user_only(_resample(8_000, 1)), ('user_rate_changes',)),
    Fault('NaN in every third chunk', _user_only(_write(np.nan, 3)), ('user_refused',)),
    Fault('infinity in every chunk', _user_only(_write(np.inf, 1)), ('user_refused',)),
    Fault('empty chunks in between', _insert_empty, ('user_empty', 'agent_empty')),
    Fault('one chunk of 10 s', _user_only(_join), ('missing_user_frames',), duration_s=10.0),
    Fault(
        'publisher restarted after 0.3 s',
        _user_only(_nothing),
        ('user_reanchored', 'missing_user_frames'),
        after=_recount,
        duration_s=0.3,
    ),
    Fault('two publishers on one topic', _user_only(_add_publisher), ('user_overlapped_samples',)),
    Fault('robot voice announced too late', _announce_late, ('agent_late_samples',)),
    Fault('every second plan too late', is_late=lambda seconds: round(5 * seconds) % 2 == 0),
    Fault('no plan for 3 s', tells=('plans',), is_stalled=lambda seconds: True),
    *(
        Fault(
            f'one packet of 20 ms of values of {value:g}{text}',
            _user_only(_fill(value, channels)),
            ('user_clipped_samples',),
            duration_s=CHUNK_S,
        )
        for value, channels, text in (
            (100, 1, ''), (32768, 1, ''), (3e38, 1, ''), (3e38, 2, ', stereo')
        )
    ),
    Fault(
        'integers sent as floats for 3 s', _user_only(_integers), ('user_clipped_samples',),
        softer_db=3.0,
    ),
    Fault(
        'values of 3e38 at 44.1 kHz for 0.2 s',
        _user_only(_both(_resample(44_100, 1), _fill(3e38))),
        ('user_clipped_samples', 'user_rate_changes'), duration_s=0.2,
    ),
    # The stream before it counted its samples: where the count ends there may be a small hole.
    Fault(
        'no count, stamps off by -26 to +49 ms',
        _user_only(_scatter_stamps(-26, 49)),
        after=_uncounted,
        at_most={'user_lost_samples': 800, 'user_overlapped_samples': 0, 'user_reanchored': 1},
    ),
    Fault(
        'no count, stamps of the arrival, packets of 160 ms',
        _user_only(_stamp_when_sent(8)),
        after=_uncounted,
        at_most={'user_lost_samples': 2560, 'user_overlapped_samples': 0, 'user_reanchored': 1},
    ),
    Fault(
        'no count, stamps of zero',
        _user_only(_claim(stamp_ns=0, first_sample=None)),
        at_most={'user_lost_samples': 0, 'user_jumps': 0},
    ),
    Fault('a packet of 61 s', _user_only(_add_ring_buffer), ('user_refused',)),
    *(
        Fault(
            f'a rate of {rate_hz} Hz',
            _user_only(_claim(sample_rate_hz=rate_hz)),
            ('user_refused', 'missing_user_frames'),
        )
        for rate_hz in (0, 2**31 - 1)
    ),
    Fault('stereo with a dead channel', _user_only(_lose_a_channel), at_most={'user_refused': 0}),
    Fault('half a sample lost, noise for 0.1 s', _user_only(_shift_bytes), duration_s=0.1),
)  # fmt: skip
