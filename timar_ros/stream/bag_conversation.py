# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A recorded conversation out of a bag: the packets of both voices and the frames of heads, placed.

Responsible for what evaluate, replay and bag_to_clips take from a bag and in which order; they all
read it through here. Not for files (`bag`), nor for when a packet sounded (`placement`).
"""

import collections
from collections.abc import Iterator, Mapping
import dataclasses
import itertools
import math
import pathlib
from typing import Any

from timar_ros.bounds import MAX_RECORDING_S
from timar_ros.stream.audio import AudioFormat, AudioPacket, format_from_info, packet_from_fields
from timar_ros.stream.bag import Bag, Message
from timar_ros.stream.bag_storage import Filed
from timar_ros.stream.bag_topics import Topics, find_voices, info_topic
from timar_ros.stream.channels import MEAN, ChannelWatch, choose_channel
from timar_ros.stream.offset import OffsetWatch
from timar_ros.stream.own_clock import NO_STRAY_NS, duration_ns, last_stray_ns
from timar_ros.stream.placement import (
    N_OPENING,
    SAME_CLOCK_NS,
    Placed,
    Placer,
    Times,
    find_times,
    first_messages,
)

_SECOND_NS = 1_000_000_000
# How much of each stream is read before it is placed, at least; and how many messages at most.
_OPENING_NS = 10 * _SECOND_NS
_MOST_OPENING = 2_000
# A message is published at most so much earlier or later, against others, than it was recorded.
DISORDER_NS = 10 * _SECOND_NS
_MOST_PROBLEMS = 3
_STRAY = 'its time of recording contradicts its stamp, which those after it do not'
_FAR = 'its sound would lie more than 24 h after the begin; its time of recording is wrong'
# A frame of a head with more has another unit; as `learn/heads` has it for files.
_LARGEST_JAW, _LARGEST_BLENDSHAPE = 2 * math.pi, 10.0


@dataclasses.dataclass(frozen=True)
class Listening:
    """
    What the user states about a bag's voices where the bag does not.

    Attributes:
        lead_ns: how far ahead the agent's voice counts as known where neither its messages nor the
            bag can tell.
        channels: voice -> 'mean' or an index.
        formats: voice -> format of messages that do not state it.
        option: how a channel is chosen, with `{voice}` in it, up to its number, for notes.
    """

    lead_ns: int = 400_000_000
    channels: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
    formats: Mapping[str, AudioFormat] = dataclasses.field(default_factory=dict)
    option: str = '--{voice}-channel '


@dataclasses.dataclass(frozen=True)
class Heard:
    """A placed packet of a voice."""

    voice: str
    placed: Placed


@dataclasses.dataclass(frozen=True)
class Seen:
    """
    A frame of a head.

    Attributes:
        head: its name, as it was asked for.
        stamp_ns: when it was shown.
        content: fields of the HeadMotion.
    """

    head: str
    stamp_ns: int
    content: Any


class BagConversation:
    """
    Both voices of a bag and the heads that go with them.

    Args:
        path: the bag's folder, or a single .mcap or .db3 file.
        definitions: type -> text of our messages, for bags that bring none.
        topics: where the voices are.
        heads: name -> topic of each head that is wanted, where the bag has it.
        listening: what the bag does not say.

    Attributes:
        voices: 'user', 'agent' -> absolute topic, None where the bag has no such voice.
        heads: name -> absolute topic of each head that is there.
        begin_ns: stamp of the first sample of either voice.
        end_ns: end of the last one, as far as the last messages show.
        notes: what was wrong with it, a sentence each; more come while it is read.

    Raises:
        FileNotFoundError: there is no bag.
        ValueError: it cannot be read, or holds no audio; the message names what it holds.
    """

    def __init__(
        self,
        path: str | pathlib.Path,
        definitions: dict[str, str],
        topics: Topics,
        heads: Mapping[str, str],
        listening: Listening,
    ):
        self._path, self._definitions = pathlib.Path(path), definitions
        self._listening = listening
        self.notes: list[str] = []
        self._problems: dict[str, collections.Counter] = collections.defaultdict(
            collections.Counter
        )
        self._n_messages: collections.Counter = collections.Counter()
        with Bag(self._path, definitions) as bag:
            self.voices = find_voices(bag, topics)
            found = {name: bag.find_topic(topic) for name, topic in heads.items()}
            self.heads = {name: topic for name, topic in found.items() if topic}
            # one topic may hold both voices, in channels of its own each
            self._names: dict[str, list[str]] = {}
            for voice, topic in self.voices.items():
                if topic:
                    self._names.setdefault(topic, []).append(voice)
            self._formats = {
                voice: self._find_format(bag, voice, topic) for voice, topic in self._there()
            }
            openings = {voice: self._opening(bag, voice, topic) for voice, topic in self._there()}
            openings = {voice: opening for voice, opening in openings.items() if opening}
            self._strays = {voice: last_stray_ns(o) for voice, o in openings.items()}
            openings = {voice: [item for item in opening if item[0] > self._strays[voice]]
                        for voice, opening in openings.items()}  # fmt: skip
            if not openings:
                self._refuse_silence(bag)
            firsts = {voice: first_messages(opening) for voice, opening in openings.items()}
            # threads that compress messages write them out of turn; else the file has them as
            # they were delivered, which alone tells where those without stamp and count belong
            self._filed = frozenset(
                topic for topic, voices in self._names.items()
                if not bag.has_packed_messages
                and not any(packet.stamp_ns or packet.first_sample
                            for voice in voices for _, packet in firsts.get(voice, ()))
            )  # fmt: skip
            frames = {name: self._head_opening(bag, topic) for name, topic in self.heads.items()}
            self._times, notes = find_times(openings, frames)
            self.notes += notes
            self.begin_ns = min(
                placed.packet.stamp_ns
                for voice, first in firsts.items()
                for placed in self._placed(voice, first)
            )
            # where times of recording lie against those of the recording
            self._recorded = [min(r for o in firsts.values() for r, _ in o if r), self.begin_ns]
            _, last_ns = bag.span_ns
            self.end_ns = self._find_end(bag, last_ns)
            self._recorded += [last_ns, self.end_ns]
        self._problems.clear()
        self._n_messages.clear()

    def _there(self) -> list[tuple[str, str]]:
        """Return each voice that the bag has, and its topic."""
        return [(voice, topic) for voice, topic in self.voices.items() if topic]

    def _placer(self, voice: str, lead_ns: int | None = None) -> Placer:
        lead_ns = self._listening.lead_ns if lead_ns is None else lead_ns
        return Placer(voice, self._times[voice], lead_ns)

    def _placed(self, voice: str, packets: list[tuple[int, AudioPacket]]) -> Iterator[Placed]:
        placer = self._placer(voice)
        for received_ns, packet in packets:
            placed = placer.place(received_ns, packet)
            if placed is not None:
                yield placed

    def _find_format(self, bag: Bag, voice: str, topic: str) -> AudioFormat | None:
        """Return the format of messages without one: from audio_info, else the stated one."""
        stated, infos = self._listening.formats.get(voice), info_topic(bag, topic)
        if infos is None:
            return stated
        contents = (message.content for message in bag.messages({infos}) if message.content)
        info = next(contents, None)
        return stated if info is None else format_from_info(info)

    def _opening(self, bag: Bag, voice: str, topic: str) -> list[tuple[int, AudioPacket]]:
        """Return time of recording and packet of the first messages of a voice that have sound."""
        found: list[tuple[int, AudioPacket]] = []
        n_timed = first_ns = sound_ns = 0
        for message in bag.messages({topic}):
            packet = self._read(voice, message)
            if packet is not None:
                found.append((message.received_ns, packet))
                sound_ns += duration_ns(packet)
                if message.received_ns:
                    n_timed += 1
                    first_ns = first_ns or message.received_ns
            is_long = max(sound_ns // 6, message.received_ns - first_ns) >= _OPENING_NS
            if (n_timed >= N_OPENING and is_long) or len(found) >= _MOST_OPENING:
                break
        return found

    def _head_opening(self, bag: Bag, topic: str) -> list[tuple[int, int]]:
        messages = (message for message in bag.messages({topic}) if message.content)
        return [
            (message.received_ns, _stamp_of(message.content))
            for message in itertools.islice(messages, N_OPENING)
            if hasattr(message.content, 'header')
        ]

    def _find_end(self, bag: Bag, last_ns: int) -> int:
        """Return when the last sound ends, from the last messages."""
        lasts = collections.defaultdict(list)
        for message in bag.messages(set(self._names), last_ns - DISORDER_NS):
            for voice in self._names[message.topic]:
                packet = self._read(voice, message)
                if packet is not None and voice in self._times:
                    lasts[voice].append((message.received_ns, packet))
        ends = [placed.end_ns for voice, packets in lasts.items()
                for placed in self._placed(voice, packets)]  # fmt: skip
        base_ns = next(iter(self._times.values())).base_ns
        latest_ns = max(last_ns + base_ns, self.begin_ns + 1)
        if not self._is_within(latest_ns):  # some times are wrong: those of the rest tell
            ends = [item.placed.end_ns for item in self.items() if isinstance(item, Heard)]
            return max([*ends, self.begin_ns + 1])
        # a voice that ends elsewhere belongs to another recording: its clock jumped
        ends = [end for end in ends if self.begin_ns < end <= latest_ns + SAME_CLOCK_NS]
        return max(ends, default=latest_ns)

    def _is_within(self, time_ns: int) -> bool:
        return time_ns - self.begin_ns <= MAX_RECORDING_S * _SECOND_NS

    def _refuse_silence(self, bag: Bag) -> None:
        reasons = self.counted_problems() + bag.notes
        if not reasons:
            reasons = [
                f'{topic} ({bag.topics.get(topic, "?")}): {self._n_messages[voice]} messages '
                'were read, and none holds a sample'
                for voice, topic in self._there()
            ]
        raise ValueError(
            f'{self._path}: expected audio, got none that can be heard: {"; ".join(reasons)}'
        )

    def items(self, position_ns: int = 0, lead_ns: int | None = None) -> Iterator[Heard | Seen]:
        """
        Read the conversation in the order of its recording.

        Args:
            position_ns: leave out what was recorded well before, since the recording's start.
            lead_ns: replaces that of `listening`.
        """
        self._problems.clear()
        self._n_messages.clear()
        placers = {voice: self._placer(voice, lead_ns) for voice in self._times
                   if voice in self.voices}  # fmt: skip
        watches = {voice: ChannelWatch() for voice in placers}
        offsets = {voice: OffsetWatch() for voice in placers}
        heads = {topic: name for name, topic in self.heads.items()}
        after_ns = None if position_ns <= DISORDER_NS else self._recorded_at(position_ns)
        filed = Filed(self._filed)
        with Bag(self._path, self._definitions) as bag:
            for message in bag.messages({*self._names, *heads}, after_ns, filed):
                if message.topic in heads:
                    seen = self._see(heads[message.topic], message)
                    if seen is not None:
                        yield seen
                    continue
                for voice in self._names[message.topic]:
                    packet = self._read(voice, message, watches.get(voice))
                    if packet is None:
                        continue
                    if message.received_ns <= self._strays.get(voice, NO_STRAY_NS):
                        self._problems[voice][_STRAY] += 1
                        continue
                    placed = placers[voice].place(message.received_ns, packet)
                    self._note(placers[voice].notes)
                    if placed is not None and not self._is_within(placed.end_ns):
                        self._problems[voice][_FAR] += 1
                    elif placed is not None:
                        heard = placed.packet
                        offsets[voice].add(heard.samples, heard.sample_rate_hz)
                        yield Heard(voice, placed)
            self._note(bag.notes)
        self._note([text for topic, voices in self._names.items()
                    for text in filed.notes(topic, ' and '.join(voices))])  # fmt: skip
        for voice, watch in watches.items():
            finding = watch.finding(self._listening.option.format(voice=voice))
            self._note([f'{voice}: {finding}'] if finding else [])
            finding = offsets[voice].finding()
            self._note([f'{voice}: {finding}'] if finding else [])
        for placer in placers.values():
            placer.finish()
            self._note(placer.notes)

    def counted_problems(self, of_heads: bool = False) -> list[str]:
        """Return which messages were left out so far and why, the most frequent reasons first."""
        return [
            f'{name}: {count} of {self._n_messages[name]} messages left out: {problem}'
            for name, problems in self._problems.items()
            if (name not in self.voices) == of_heads
            for problem, count in problems.most_common(_MOST_PROBLEMS)
        ]

    def first_problems(self) -> list[str]:
        """Return why messages were left out so far, in the order of being noticed."""
        return [
            f'{name}: messages left out: {problem}'
            for name, problems in self._problems.items()
            for problem in itertools.islice(problems, _MOST_PROBLEMS)
        ]

    def _recorded_at(self, position_ns: int) -> int:
        """Return the time of recording some seconds before a position."""
        first_ns, begin_ns, last_ns, end_ns = self._recorded
        times = next(iter(self._times.values()))
        at_ns = self.begin_ns + position_ns
        if not times.is_recorders:  # simulated time may run faster or slower than the recorder's
            share = position_ns / max(end_ns - begin_ns, 1)
            at_ns = first_ns + round(share * (last_ns - first_ns))
        return at_ns - DISORDER_NS

    def _read(
        self, voice: str, message: Message, watch: ChannelWatch | None = None
    ) -> AudioPacket | None:
        """Decode a message; None where it holds no sound, or what is wrong with it is noted."""
        self._n_messages[voice] += 1
        channel = self._listening.channels.get(voice, MEAN)
        try:
            if message.content is None:
                raise ValueError(message.problem)
            packet = packet_from_fields(message.content, self._formats[voice])
            if not packet.samples.size or packet.sample_rate_hz <= 0:
                return None
            if watch is not None and channel == MEAN:
                watch.add(packet.samples)
            samples = choose_channel(packet.samples, channel, message.topic)
        except ValueError as error:
            self._problems[voice][str(error)] += 1
            return None
        return packet if channel == MEAN else dataclasses.replace(packet, samples=samples)

    def _see(self, head: str, message: Message) -> Seen | None:
        self._n_messages[_head_name(head)] += 1
        times: Times = self._times[head + '_head']
        try:
            if message.content is None:
                raise ValueError(message.problem)
            stamp_ns = times.place_stamp(_stamp_of(message.content), message.received_ns)
            if stamp_ns is None:
                raise ValueError('it has no stamp and was recorded before the clock ran')
            _check_units(message.content)
        except (ValueError, AttributeError) as error:
            self.blame(head, str(error))
            return None
        return Seen(head, stamp_ns, message.content)

    def blame(self, head: str, problem: str) -> None:
        """Count a frame of a head that cannot be used."""
        self._problems[_head_name(head)][problem] += 1

    def _note(self, notes: list[str]) -> None:
        self.notes += [note for note in notes if note not in self.notes]


def _head_name(head: str) -> str:
    return 'head motion' if head == 'user' else f'head motion of the {head}'


def _check_units(msg: Any) -> None:
    """Refuse a head frame whose values cannot have the units of a HeadMotion."""
    # no numbers in the text: messages left out for one reason are counted together
    if abs(msg.jaw_open) > _LARGEST_JAW:
        raise ValueError(
            'expected jaw_open in rad, got more than a turn; in degrees? Multiply it by pi / 180 '
            'before recording'
        )
    is_arkit = msg.expression_space == 'arkit52'
    if is_arkit and len(msg.expression) and max(msg.expression) > _LARGEST_BLENDSHAPE:
        raise ValueError(
            'expected blendshapes of 0 to 1, got more than 10; in percent? Divide them by 100 '
            'before recording'
        )


def _stamp_of(msg: Any) -> int:
    stamp = msg.header.stamp
    return int(stamp.sec) * _SECOND_NS + int(stamp.nanosec)
