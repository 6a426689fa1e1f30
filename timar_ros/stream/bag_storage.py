# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What all files of a bag have in common, for both kinds of storage.

Responsible for channels, stretches of messages, and their order in time over all files. Not for
how a storage keeps them, nor for decoding.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
import dataclasses
import heapq
import itertools


@dataclasses.dataclass(frozen=True)
class Channel:
    """
    One topic as one publisher recorded it.

    Attributes:
        topic: absolute name.
        msgtype: 'package/msg/Name'.
        encoding: of its messages; 'cdr' is ROS 2's.
        definition_format: 'ros2msg', 'ros2idl', another tool's, or '' where there is none.
        definition: text of the message's definition.
    """

    topic: str
    msgtype: str
    encoding: str = 'cdr'
    definition_format: str = ''
    definition: str = ''


# A message that was asked for again comes at most so much later, and this share of all at most.
_LONGEST_ASKING_NS = 1_000_000_000
_SWAPPED_SHARE = 0.2

# When it was recorded, where in its file it stands, its channel, its bytes: None if damaged.
Record = tuple[int, int, Channel, bytes | None]


class Filed:
    """
    Topics whose messages are read in the order of their file, where their times go back by little.

    A middleware that has to ask for a lost message again delivers it before the next one, which it
    got first: the file has them in the order of delivery, their times of reception are swapped.
    (Fast DDS of ROS 2 Jazzy: ros2/rosbag2#2058.)

    Args:
        topics: absolute names.

    Attributes:
        n_moved: messages of each topic that were given the time of the one before.
        n_left: of those whose times go back too often for that; they are read by their times.
    """

    def __init__(self, topics: Iterable[str] = ()):
        self._topics = frozenset(topics)
        self.n_moved: Counter = Counter()
        self.n_left: Counter = Counter()

    def delivered(self, topic: str, received: list[int]) -> list[int]:
        """
        Return when messages of a topic were delivered.

        Args:
            topic: of all of them.
            received: when each was received, ns, in the order of the file.
        """
        n_back = sum(a > b for a, b in itertools.pairwise(received))
        if topic not in self._topics or not n_back:
            return received
        if n_back > _SWAPPED_SHARE * len(received):
            self.n_left[topic] += n_back
            return received
        delivered = received[:1]
        for at_ns in received[1:]:
            is_late = delivered[-1] - _LONGEST_ASKING_NS <= at_ns < delivered[-1]
            self.n_moved[topic] += is_late
            delivered.append(delivered[-1] if is_late else at_ns)
        return delivered

    def notes(self, topic: str, voice: str) -> list[str]:
        """Return what was found of a topic, a sentence each; `voice` is whose it is."""
        texts = {
            'messages were received before the one ahead of them in the file; taken in its order, '
            'as they were delivered': self.n_moved[topic],
            'messages were received before the one ahead of them in the file, too many for losses '
            'on the way; taken in the order of their times': self.n_left[topic],
        }
        return [
            f'{voice}: {n} {text}; they have neither stamp nor count, by which to know'
            for text, n in texts.items()
            if n
        ]


@dataclasses.dataclass(frozen=True)
class Stretch:
    """
    Messages that lie together in a file.

    Attributes:
        begin_ns: when its first message was recorded, not the one that stands first.
        end_ns: when its last one was.
        counts: of each channel's messages.
        read: given the topics wanted, yields their records in the order of time, but for those
            that are `Filed`.
    """

    begin_ns: int
    end_ns: int
    counts: Counter
    read: Callable[[set[str], Filed], Iterator[Record]]


@dataclasses.dataclass
class Storage:
    """
    The channels and messages found in one file of a bag.

    Attributes:
        name: of the file, for people.
        stretches: all of its messages, in the order of the file.
        notes: what of it cannot be read, a sentence each.
    """

    name: str
    stretches: list[Stretch] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    @property
    def counts(self) -> Counter:
        """Messages of each channel."""
        return sum((stretch.counts for stretch in self.stretches), Counter())


def in_order_of_time(
    storages: list[Storage],
    topics: set[str],
    start_ns: int | None,
    drop: Callable[[str], None],
    filed: Filed,
) -> Iterator[tuple[int, Channel, bytes | None]]:
    """
    Read the messages of some topics in the order in which they were recorded.

    Memory holds the stretches that overlap in time, no more. A message that two files hold (one of
    them a copy) is given once.

    Args:
        storages: the files of one bag.
        topics: absolute names.
        start_ns: leave out what was recorded before.
        drop: called with the topic of each copy.
        filed: topics that are read in the order of the file.

    Yields:
        when it was recorded, its channel, its bytes: None if they are damaged.
    """
    ranked = [
        (stretch.begin_ns, rank, file, stretch)
        for rank, (file, stretch) in enumerate(
            (file, stretch)
            for file, storage in enumerate(storages)
            for stretch in storage.stretches
        )
        if any(channel.topic in topics for channel in stretch.counts)
        and (start_ns is None or stretch.end_ns >= start_ns)
    ]
    waiting = iter(sorted(ranked, key=lambda item: item[:2]))
    heap: list = []
    following = next(waiting, None)
    last_ns, given = None, []
    while following is not None or heap:
        while following is not None and (not heap or following[0] <= heap[0][0]):
            _, rank, file, stretch = following
            _push(heap, rank, file, iter(stretch.read(topics, filed)), start_ns)
            following = next(waiting, None)
        if not heap:
            continue
        log_ns, rank, _, file, channel, data, rest = heap[0]
        heapq.heappop(heap)
        _push(heap, rank, file, rest, start_ns)
        if log_ns != last_ns:
            last_ns, given = log_ns, []
        if any(f != file and t == channel.topic and d == data for f, t, d in given):
            drop(channel.topic)
            continue
        given.append((file, channel.topic, data))
        yield log_ns, channel, data


def _push(heap: list, rank: int, file: int, records: Iterator[Record], start_ns: int | None):
    if start_ns is not None:
        records = itertools.dropwhile(lambda record: record[0] < start_ns, records)
    for log_ns, position, channel, data in records:
        heapq.heappush(heap, (log_ns, rank, position, file, channel, data, records))
        return
