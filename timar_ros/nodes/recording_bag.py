# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A recorded bag as messages in the order of their publishing.

Every audio message becomes an AudioChunk; stamps are moved to where the recording is played. What
has no stamp takes the time at which it was recorded. Reads no clock.
"""

from collections.abc import Iterator
import heapq
import itertools
import pathlib

from ament_index_python.packages import get_package_share_directory
import numpy as np

from timar_ros.msg import AudioChunk, HeadMotion
from timar_ros.nodes.convert import audio_chunk, stamp_from_ns, stamp_to_ns
from timar_ros.nodes.recording import EARLY_NS, Event
from timar_ros.stream.audio import format_from_info, packet_from_fields
from timar_ros.stream.bag import Bag, Message, read_definitions
from timar_ros.stream.bag_topics import Topics, find_voices, info_topic

_NS_PER_S = 1_000_000_000
# Stamps further than this from the time of recording were made by another clock.
_SAME_CLOCK_NS = 60 * _NS_PER_S
# A message is published at most so much earlier or later, against others, than it was recorded.
_DISORDER_NS = 10 * _NS_PER_S
# Stamps are snapped to the count of samples within this.
_JITTER_NS = 20_000_000
# The first words of both voices are within so much of each other, or one of them is late.
_OPENING_NS = 2 * _NS_PER_S


class BagRecording:
    """
    A conversation out of a bag of ROS 2, mcap or sqlite3.

    Args:
        path: its folder, or a single .mcap or .db3 file.
        topics: where the voices and the user's motion are.

    Attributes:
        begin_ns: stamp of the first sample.
        duration_ns: from there to the last message.
        message_types: relative topic -> message class, of what is in it.
        notes: what was wrong with it, a sentence each; they come while it is read.

    Raises:
        FileNotFoundError: there is no bag.
        ValueError: it cannot be read, or holds no audio; the message names what it holds.
    """

    def __init__(self, path, topics: Topics):
        self._path = pathlib.Path(path)
        share = pathlib.Path(get_package_share_directory('timar_ros'))
        self._definitions = read_definitions(share / 'msg')
        self.notes: list[str] = []
        with Bag(self._path, self._definitions) as bag:
            names = find_voices(bag, topics)
            self._voices = {topic: voice for voice, topic in names.items() if topic}
            self._motion_topic = bag.find_topic(topics.user_motion)
            self._formats = {
                topic: format_from_info(info)
                for topic in self._voices
                for info in [_first(bag, info_topic(bag, topic))]
                if info is not None
            }
            opening = self._opening(bag)
            _, end_ns = bag.span_ns
        received_ns, stamp_ns = opening[0][0], opening[0][1]
        self._same_clock = abs(stamp_ns - received_ns) <= _SAME_CLOCK_NS
        self.begin_ns = min(stamp for _, stamp in opening)
        shift_ns = 0 if self._same_clock else stamp_ns - received_ns
        self.duration_ns = max(end_ns + shift_ns - self.begin_ns, 1)
        self._shift_ns = shift_ns
        # topic -> end of the last packet, in ns and in samples
        self._counts: dict[str, tuple[int, int]] = {}
        self.message_types = {f'{voice}/audio': AudioChunk for voice in self._voices.values()}
        if self._motion_topic:
            self.message_types['user/head_motion'] = HeadMotion

    def _opening(self, bag: Bag) -> list[tuple[int, int]]:
        """Return times of recording and stamps of the first messages of the voices."""
        found: list[tuple[int, int]] = []
        problem = ''
        for message in bag.messages(set(self._voices)):
            if found and message.received_ns > found[0][0] + _OPENING_NS:
                break
            try:
                packet = self._packet(message)
            except ValueError as error:
                problem = f': {error}'
                continue
            if len(packet.samples):
                found.append((message.received_ns, self._stamp_ns(message, packet)))
        if not found:
            raise ValueError(f'{self._path}: expected audio, got none that can be heard{problem}')
        return found

    def events(self, start_ns: int, position_ns: int, agent_lead_ms: int) -> Iterator[Event]:
        """
        Play the bag.

        Args:
            start_ns: stamp that the recording's first instant gets.
            position_ns: leave out what is over by then, since the recording's start.
            agent_lead_ms: how far ahead the agent's voice counts as known where neither its
                messages nor the bag can tell.

        Yields:
            Events in the order of their times.
        """
        wanted = {*self._voices, *([self._motion_topic] if self._motion_topic else [])}
        after_ns = None
        if position_ns > _DISORDER_NS:
            after_ns = self.begin_ns + position_ns - self._shift_ns - _DISORDER_NS
        lead_ns = agent_lead_ms * 1_000_000
        self._counts = {}
        waiting: list = []
        with Bag(self._path, self._definitions) as bag:
            counter = itertools.count()
            for message in bag.messages(wanted, after_ns):
                event = self._event(message, start_ns, lead_ns)
                if event is not None and event.end_ns > position_ns:
                    heapq.heappush(waiting, (event.at_ns, next(counter), event))
                sure_ns = message.received_ns + self._shift_ns - self.begin_ns - _DISORDER_NS
                while waiting and waiting[0][0] <= sure_ns:
                    yield heapq.heappop(waiting)[2]
            self.notes += [note for note in bag.notes if note not in self.notes]
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _event(self, message: Message, start_ns: int, lead_ns: int) -> Event | None:
        try:
            if message.topic == self._motion_topic:
                return self._motion_event(message, start_ns)
            return self._audio_event(message, start_ns, lead_ns)
        except (ValueError, AttributeError) as error:
            note = f'{message.topic}: messages left out: {error}'
            if note not in self.notes:
                self.notes.append(note)
            return None

    def _packet(self, message: Message):
        if message.content is None:
            raise ValueError(message.problem)
        return packet_from_fields(message.content, self._formats.get(message.topic))

    def _stamp_ns(self, message: Message, packet) -> int:
        if packet.stamp_ns:
            return packet.stamp_ns
        is_user = self._voices[message.topic] == 'user'
        length_ns = len(packet.samples) * _NS_PER_S // max(packet.sample_rate_hz, 1)
        return message.received_ns - (length_ns if is_user else 0)

    def _audio_event(self, message: Message, start_ns: int, lead_ns: int) -> Event | None:
        packet = self._packet(message)
        if not len(packet.samples) or packet.sample_rate_hz <= 0:
            return None
        voice = self._voices[message.topic]
        begin_ns = self._stamp_ns(message, packet) - self.begin_ns
        end_ns = begin_ns + len(packet.samples) * _NS_PER_S // packet.sample_rate_hz
        at_ns, sent_ns = end_ns, 0
        if voice == 'agent':
            sent_ns = packet.sent_ns
            if sent_ns is None:
                sent_ns = message.received_ns
                if not self._same_clock:
                    sent_ns = begin_ns + self.begin_ns - lead_ns
            sent_ns -= self.begin_ns
            at_ns = sent_ns - EARLY_NS
        msg = audio_chunk(
            packet.samples.astype(np.float32),
            packet.sample_rate_hz,
            stamp_ns=start_ns + begin_ns,
            first_sample=self._count(message.topic, begin_ns, packet),
            sent_ns=start_ns + sent_ns if voice == 'agent' else 0,
            encoding=AudioChunk.PCM_F32LE,
        )
        return Event(at_ns, f'{voice}/audio', msg, end_ns)

    def _count(self, topic: str, begin_ns: int, packet) -> int:
        """Return the packet's first sample, counted here where its publisher did not."""
        if packet.first_sample is not None:
            return packet.first_sample
        expected_ns, count = self._counts.get(topic, (begin_ns, 0))
        gap_ns = begin_ns - expected_ns
        if abs(gap_ns) > _JITTER_NS:
            count = max(count + gap_ns * packet.sample_rate_hz // _NS_PER_S, 0)
            expected_ns = begin_ns
        n = len(packet.samples)
        self._counts[topic] = expected_ns + n * _NS_PER_S // packet.sample_rate_hz, count + n
        return count

    def _motion_event(self, message: Message, start_ns: int) -> Event:
        if message.content is None:
            raise ValueError(message.problem)
        content = message.content
        at_ns = (stamp_to_ns(content.header.stamp) or message.received_ns) - self.begin_ns
        msg = HeadMotion(
            turn=int(content.turn),
            frame=int(content.frame),
            jaw_open=float(content.jaw_open),
            expression_space=content.expression_space,
            expression=np.asarray(content.expression, np.float32).tolist(),
        )
        msg.header.stamp = stamp_from_ns(start_ns + at_ns)
        for axis in 'xyzw':
            setattr(msg.neck, axis, float(getattr(content.neck, axis)))
        return Event(at_ns, 'user/head_motion', msg, at_ns + 1)


def _first(bag: Bag, topic: str | None):
    messages = bag.messages({topic}) if topic else ()
    return next((message.content for message in messages if message.content), None)
