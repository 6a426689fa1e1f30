# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A recorded bag as messages in the order of their publishing.

Responsible for AudioChunk and HeadMotion messages whose stamps are moved to where the recording is
played. Not for when each of them counts: that is `stream/bag_conversation.py`'s, for evaluate too.
Reads no clock.
"""

from collections.abc import Iterator
import heapq
import itertools

import numpy as np

from timar_ros.msg import AudioChunk, HeadMotion
from timar_ros.nodes.convert import audio_chunk, stamp_from_ns
from timar_ros.nodes.environment import share_folder
from timar_ros.nodes.recording import EARLY_NS, Event
from timar_ros.stream.bag import read_definitions
from timar_ros.stream.bag_conversation import (
    DISORDER_NS,
    BagConversation,
    Heard,
    Listening,
    Seen,
)
from timar_ros.stream.bag_topics import Topics


class BagRecording:
    """
    A conversation out of a bag of ROS 2, mcap or sqlite3.

    Args:
        path: its folder, or a single .mcap or .db3 file.
        topics: where the voices and the user's motion are.
        listening: what the bag does not say: channels and formats.

    Attributes:
        begin_ns: stamp of the first sample.
        duration_ns: from there to the end of the last one.
        message_types: relative topic -> message class, of what is in it.
        notes: what was wrong with it, a sentence each; they come while it is read.

    Raises:
        FileNotFoundError: there is no bag.
        ValueError: it cannot be read, or holds no audio; the message names what it holds.
    """

    def __init__(self, path, topics: Topics, listening: Listening | None = None):
        share = share_folder()
        self._conversation = BagConversation(
            path,
            read_definitions(share / 'msg'),
            topics,
            {'user': topics.user_motion},
            listening or Listening(),
        )
        self.notes: list[str] = []
        self.begin_ns = self._conversation.begin_ns
        self.duration_ns = max(self._conversation.end_ns - self.begin_ns, 1)
        self.message_types = {
            f'{voice}/audio': AudioChunk
            for voice, topic in self._conversation.voices.items()
            if topic
        }
        if self._conversation.heads:
            self.message_types['user/head_motion'] = HeadMotion

    def events(self, start_ns: int, position_ns: int, agent_lead_ms: int) -> Iterator[Event]:
        """
        Play the bag.

        Args:
            start_ns: stamp that the recording's first instant gets.
            position_ns: leave out what is over by then, since the recording's start.
            agent_lead_ms: how far ahead the agent's voice counts as known where neither its
                messages nor the bag state it.

        Yields:
            Events in the order of their times.
        """
        waiting: list = []
        counter = itertools.count()
        for item in self._conversation.items(position_ns, agent_lead_ms * 1_000_000):
            try:
                event, arrival_ns = self._event(item, start_ns)
            except (ValueError, AttributeError) as error:
                self._conversation.blame(item.head, str(error))
                continue
            self._collect_notes()
            if event.end_ns > position_ns:
                heapq.heappush(waiting, (event.at_ns, next(counter), event))
            sure_ns = arrival_ns - self.begin_ns - DISORDER_NS
            while waiting and waiting[0][0] <= sure_ns:
                yield heapq.heappop(waiting)[2]
        self._collect_notes()
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _collect_notes(self) -> None:
        known = self._conversation.notes + self._conversation.first_problems()
        self.notes += [note for note in known if note not in self.notes]

    def _event(self, item: Heard | Seen, start_ns: int) -> tuple[Event, int]:
        """Return the message of an item, and when it arrived."""
        if isinstance(item, Seen):
            return self._head_event(item, start_ns), item.stamp_ns
        placed, is_agent = item.placed, item.voice == 'agent'
        packet = placed.packet
        end_ns = at_ns = placed.end_ns - self.begin_ns
        sent_ns = 0
        if is_agent:
            at_ns = placed.due_ns - self.begin_ns - EARLY_NS
            sent_ns = start_ns + placed.due_ns - self.begin_ns
        msg = audio_chunk(
            packet.samples.astype(np.float32),
            packet.sample_rate_hz,
            stamp_ns=start_ns + packet.stamp_ns - self.begin_ns,
            first_sample=packet.first_sample,
            sent_ns=sent_ns,
            encoding=AudioChunk.PCM_F32LE,
        )
        return Event(at_ns, f'{item.voice}/audio', msg, end_ns), placed.arrival_ns

    def _head_event(self, seen: Seen, start_ns: int) -> Event:
        content, at_ns = seen.content, seen.stamp_ns - self.begin_ns
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
