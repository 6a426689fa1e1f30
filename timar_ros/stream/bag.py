# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Messages out of a bag, mcap or sqlite3, without a ROS installation.

Responsible for a bag as one sequence of messages, however many files hold it, and for saying in
numbers what of it cannot be read. Not for what a message means.
"""

from collections import Counter
from collections.abc import Iterator
import dataclasses
import pathlib
import tempfile
from typing import Any

from timar_ros.stream.bag_files import BagFiles, find_bag_files, is_packed
from timar_ros.stream.bag_mcap import MAGIC as _MCAP
from timar_ros.stream.bag_mcap import open_mcap
from timar_ros.stream.bag_sqlite import MAGIC as _SQLITE
from timar_ros.stream.bag_sqlite import open_sqlite
from timar_ros.stream.bag_storage import Channel, Filed, Storage, in_order_of_time
from timar_ros.stream.bag_types import BagTypes
from timar_ros.stream.unpack import ZSTD_MAGIC, unpack_file
from timar_ros.strict import quoted, shortened

_MOST_NOTES = 5  # of one file
_OTHERS = {
    b'#ROSBAG': "a bag of ROS 1: 'rosbags-convert --src FILE --dst FOLDER'",
    b'\x1f\x8b': "packed with gzip: 'gunzip FILE'",
    b'PK': "a zip: 'unzip FILE'",
    b'\x04\x22\x4d\x18': "packed with lz4: 'lz4 -d FILE'",
    b'version https://git-lfs': "a pointer of Git LFS: 'git lfs pull'",
}


def read_definitions(folder: pathlib.Path, package: str = 'timar_ros') -> dict[str, str]:
    """Read the .msg files of a folder: type -> text."""
    return {f'{package}/msg/{path.stem}': path.read_text() for path in folder.glob('*.msg')}


@dataclasses.dataclass(frozen=True)
class Message:
    """
    One message of a bag.

    Attributes:
        topic: absolute name.
        received_ns: when it was recorded.
        content: its fields as attributes; None if it could not be decoded.
        problem: why not.
    """

    topic: str
    received_ns: int
    content: Any
    problem: str = ''


class Bag:
    """
    A bag to read from, in a `with`.

    Args:
        path: its folder, its metadata.yaml, or a single .mcap or .db3 file; packed by zstd or not.
        own_definitions: type -> text of our messages, for bags that bring none.

    Attributes:
        path: as given.
        notes: faults in spite of which it was read, a sentence each.

    Raises:
        FileNotFoundError: there is no bag.
        ValueError: it cannot be read at all.
    """

    def __init__(self, path: pathlib.Path, own_definitions: dict[str, str]):
        self.path = pathlib.Path(path)
        self.notes: list[str] = []
        self._types = BagTypes(own_definitions)
        self._files: BagFiles | None = None
        self._storages: list[Storage] = []
        self._counts: Counter[Channel] = Counter()
        self._scratch: tempfile.TemporaryDirectory | None = None

    def __enter__(self) -> 'Bag':
        try:
            self._files = find_bag_files(self.path)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ValueError(f'{self.path}: cannot be read: {error.strerror or error}') from None
        self.notes += self._files.notes
        self._scratch = tempfile.TemporaryDirectory(prefix='bag_', ignore_cleanup_errors=True)
        try:
            self._open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception) -> None:
        self._storages = []
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def _open(self) -> None:
        problems = []
        for i, path in enumerate(self._files.paths):
            scratch = pathlib.Path(self._scratch.name, str(i))
            scratch.mkdir()
            try:
                storage = _open_file(path, scratch, self.notes)
            except (ValueError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else None
                problems.append(f'{path.name} cannot be read: {reason or error}')
                continue
            self._storages.append(storage)
            self.notes += _few(storage.notes)
            problems += _few(storage.notes)
        self._storages.sort(key=lambda s: min((x.begin_ns for x in s.stretches), default=0))
        self._counts = sum((storage.counts for storage in self._storages), Counter())
        if not self._counts and problems:
            raise ValueError(
                f'{self.path}: cannot be read as a bag of ROS 2 ({"; ".join(problems[:3])})'
            )
        self.notes += _few([text for text in problems if text not in self.notes])
        for topic, (counted, there) in self._missing().items():
            if not there:
                self.notes.append(
                    f'metadata.yaml counts {counted} messages on {topic}, its files hold none'
                )

    @property
    def topics(self) -> dict[str, str]:
        """Absolute name of each topic that holds a message -> its message type."""
        # What ROS 2 can decode, and is recorded most, stands for the topic.
        order = sorted(self._counts.items(), key=lambda item: (item[0].encoding == 'cdr', item[1]))
        return {channel.topic: channel.msgtype for channel, _ in order}

    @property
    def has_packed_messages(self) -> bool:
        """Whether a message that was read had been compressed by itself, perhaps out of turn."""
        return self._types.has_packed

    @property
    def span_ns(self) -> tuple[int, int]:
        """When its first and its last message were recorded."""
        filled = [stretch for storage in self._storages for stretch in storage.stretches]
        return (
            min((stretch.begin_ns for stretch in filled), default=0),
            max((stretch.end_ns for stretch in filled), default=0),
        )

    def find_topic(self, name: str) -> str | None:
        """
        Find a topic by its name in any namespace.

        Returns:
            its absolute name, or None if there is none.

        Raises:
            ValueError: several namespaces have it.
        """
        wanted = '/' + name.strip('/')
        if wanted in self.topics:
            return wanted
        found = sorted(topic for topic in self.topics if topic.endswith(wanted))
        if len(found) > 1:
            raise ValueError(
                f'{self.path}: expected one topic {name}, got '
                f'{shortened(", ".join(found), 300)}; give the full name of one'
            )
        return found[0] if found else None

    def messages(
        self, topics: set[str], start_ns: int | None = None, filed: Filed | None = None
    ) -> Iterator[Message]:
        """
        Read the messages of some topics in the order of their recording.

        All that is there is read; where metadata.yaml counts more, a note says so.

        Args:
            topics: absolute names.
            start_ns: leave out what was recorded before.
            filed: topics that are read in the order of the file, where it is that of delivery.

        Yields:
            Messages; those that cannot be decoded hold the reason.
        """
        for topic, (counted, there) in self._missing().items():
            if topic in topics and there:
                self._note(
                    f'metadata.yaml counts {counted} messages on {topic}, {there} are there'
                )
        copies: Counter[str] = Counter()
        records = in_order_of_time(
            self._storages,
            topics,
            start_ns,
            lambda topic: copies.update([topic]),
            filed or Filed(),
        )
        for received_ns, channel, data in records:
            try:
                content = self._types.decode(channel, data)
            except ValueError as error:
                yield Message(channel.topic, received_ns, None, str(error))
            else:
                yield Message(channel.topic, received_ns, content)
        for topic, count in copies.items():
            self._note(f'{count} messages on {topic} are in two files of the bag; used once')

    def _missing(self) -> dict[str, tuple[int, int]]:
        """Return topics of which metadata.yaml counts more than is there: both counts."""
        there: Counter[str] = Counter()
        for channel, count in self._counts.items():
            there[channel.topic] += count
        return {
            topic: (counted, there[topic])
            for topic, counted in self._files.counts.items()
            if there[topic] < counted
        }

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _few(notes: list[str]) -> list[str]:
    """Return the first notes, and how many more there are."""
    if len(notes) <= _MOST_NOTES:
        return notes
    return [*notes[:_MOST_NOTES], f'and {len(notes) - _MOST_NOTES} notes more of this kind']


def _open_file(path: pathlib.Path, scratch: pathlib.Path, notes: list[str]) -> Storage:
    """Read through one file of a bag, by its content and not by its name."""
    name, is_unpacked = path.name, False
    with open(path, 'rb') as file:
        begin = file.read(32)
    if begin.startswith(ZSTD_MAGIC):
        out = scratch / 'unpacked'
        problem = unpack_file(path, out)
        if problem:
            notes.append(f'{name} breaks off ({problem}); what came before is used')
        path, is_unpacked = out, True
        with open(path, 'rb') as file:
            begin = file.read(32)
    elif is_packed(path) and begin:
        raise ValueError(f'it begins with {quoted(begin[:8])}, which is no zstd')
    if begin.startswith(_MCAP):
        return open_mcap(path, name)
    if begin.startswith(_SQLITE):
        return open_sqlite(path, name, scratch)
    if not begin:
        raise ValueError('it is empty')
    other = next((what for magic, what in _OTHERS.items() if begin.startswith(magic)), None)
    inside = 'unpacked, it' if is_unpacked else 'it'
    raise ValueError(
        f'{inside} is {other}' if other
        else f'{inside} begins with {quoted(begin[:8])}, expected mcap or sqlite3'
    )  # fmt: skip
