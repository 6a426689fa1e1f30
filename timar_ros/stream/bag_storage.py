# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What all files of a bag have in common, for both kinds of storage.

Responsible for channels, stretches of messages, and their order in time over all files. Not for
how a storage keeps them, nor for decoding.
"""

from collections import Counter
from collections.abc import Callable, Iterator
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


# When it was recorded, where in its file it stands, its channel, its bytes: None if damaged.
Record = tuple[int, int, Channel, bytes | None]


@dataclasses.dataclass(frozen=True)
class Stretch:
    """
    Messages that lie together in a file.

    Attributes:
        begin_ns: when its first message was recorded, not the one that stands first.
        end_ns: when its last one was.
        counts: of each channel's messages.
        read: given the topics wanted, yields their records in the order of time.
    """

    begin_ns: int
    end_ns: int
    counts: Counter
    read: Callable[[set[str]], Iterator[Record]]


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
    storages: list[Storage], topics: set[str], start_ns: int | None, drop: Callable[[str], None]
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
            _push(heap, rank, file, iter(stretch.read(topics)), start_ns)
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
