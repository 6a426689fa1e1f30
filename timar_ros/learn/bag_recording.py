# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A bag as a recording: its messages as packets of two voices and frames of the user's head.

Knows which topics hold what and when each message counts: by its own stamps, and where it has
none by the time at which it was recorded.
"""

import collections
from fractions import Fraction
import pathlib
from typing import Any

import numpy as np

from timar_ros.learn.offline import Delivery
from timar_ros.learn.recording import Recording, compose_voice
from timar_ros.learn.share import find_shared
from timar_ros.motion import MotionSpace, frame_to_motion
from timar_ros.stream.audio import AudioFormat, AudioPacket, format_from_info, packet_from_fields
from timar_ros.stream.bag import Bag, Message, read_definitions
from timar_ros.stream.bag_topics import Topics, find_voices, info_topic

_SECOND_NS = 1_000_000_000
# Stamps further than this from the time of recording were made by another clock.
_SAME_CLOCK_NS = 60 * _SECOND_NS
# A user's stamps that go back by more, or ahead of the time of recording, are a clock that jumped.
_LARGEST_BACK_NS = 1 * _SECOND_NS
_LARGEST_AHEAD_NS = 8 * _SECOND_NS


def read_bag(path: pathlib.Path, space: MotionSpace, lead_ns: int, topics: Topics) -> Recording:
    """
    Read a conversation from a bag of ROS 2, mcap or sqlite3.

    Args:
        path: its folder, or a single .mcap or .db3 file.
        space: of the model, for the user's motion.
        lead_ns: how far ahead the agent's voice counts as known where neither its messages nor
            the bag can tell.
        topics: where the voices and the user's motion are.

    Raises:
        FileNotFoundError: there is no bag.
        ValueError: it cannot be read, or holds no audio; the message names what it holds.
    """
    definitions = read_definitions(find_shared('msg/AudioChunk.msg').parent)
    with Bag(path, definitions) as bag:
        names = find_voices(bag, topics)
        motion_topic = bag.find_topic(topics.user_motion)
        infos = {voice: info_topic(bag, topic) for voice, topic in names.items() if topic}
        wanted = {topic for topic in [*names.values(), *infos.values(), motion_topic] if topic}
        messages = collections.defaultdict(list)
        for message in bag.messages(wanted):
            messages[message.topic].append(message)
        notes = list(bag.notes)
    deliveries, formats = {}, {}
    for voice, topic in names.items():
        if not topic:
            notes.append(f'the bag has no {voice}/audio; the {voice} is taken to be silent')
            continue
        info = next((m.content for m in messages[infos[voice]] if m.content), None)
        formats[voice] = None if info is None else format_from_info(info)
        packets = _packets(voice, messages[topic], formats[voice], notes)
        if packets:
            deliveries[voice] = _deliveries(voice, packets, lead_ns, notes)
    if not any(deliveries.values()):
        raise ValueError(f'{path}: expected audio, got none that can be heard: {"; ".join(notes)}')
    spans = [_span(delivery) for feed in deliveries.values() for delivery in feed]
    begin_ns, end_ns = min(begin for begin, _ in spans), max(end for _, end in spans)
    length_s = Fraction(end_ns - begin_ns, _SECOND_NS)
    voices = {
        voice: compose_voice(voice, feed, begin_ns, length_s) for voice, feed in deliveries.items()
    }
    user_motion = _user_motion(messages[motion_topic], space, notes) if motion_topic else None
    name = pathlib.Path(path).name
    return Recording(name, deliveries, begin_ns, length_s, voices, user_motion, tuple(notes))


def _packets(
    voice: str, messages: list[Message], audio_format: AudioFormat | None, notes: list[str]
) -> list[tuple[int, AudioPacket]]:
    """Decode messages; return packets with the time of their recording, those that have sound."""
    packets, problems = [], collections.Counter()
    for message in messages:
        try:
            if message.content is None:
                raise ValueError(message.problem)
            packet = packet_from_fields(message.content, audio_format)
        except ValueError as error:
            problems[str(error)] += 1
            continue
        if packet.samples.size and packet.sample_rate_hz > 0:
            packets.append((message.received_ns, packet))
    for problem, count in problems.most_common(3):
        notes.append(f'{voice}: {count} of {len(messages)} messages left out: {problem}')
    return packets


def _deliveries(
    voice: str, packets: list[tuple[int, AudioPacket]], lead_ns: int, notes: list[str]
) -> list[Delivery]:
    """Say of each packet when it arrived and from when on it counts."""
    ahead_ns = [
        packet.stamp_ns - received_ns
        for received_ns, packet in packets
        if _is_stamped(packet, received_ns)
    ]
    nearest_ns = min(ahead_ns, key=abs, default=0)
    same_clock = abs(nearest_ns) <= _SAME_CLOCK_NS
    if not same_clock:
        notes.append(
            f'{voice}: stamps are {abs(nearest_ns) / 1e9:.0f} s and more from the time of '
            'recording, another clock (simulated?); stamps are used'
        )
        packets = [item for item in packets if _is_stamped(item[1], item[0])]
    deliveries = []
    for received_ns, packet in packets:
        length_ns = len(packet.samples) * _SECOND_NS // packet.sample_rate_hz
        stamp_ns = packet.stamp_ns
        if not _is_stamped(packet, received_ns):
            stamp_ns = received_ns - length_ns if voice == 'user' else received_ns
        arrival_ns = received_ns
        if not same_clock:
            arrival_ns = stamp_ns + length_ns if voice == 'user' else stamp_ns - lead_ns
        due_ns = stamp_ns
        if voice == 'agent':
            due_ns = arrival_ns if packet.sent_ns is None else packet.sent_ns
        deliveries.append(Delivery(packet, due_ns, arrival_ns))
    return _before_jump(voice, deliveries, notes)


def _is_stamped(packet: AudioPacket, received_ns: int) -> bool:
    # a zero stamp is a field left empty, unless the clock itself began at zero (simulation)
    return packet.stamp_ns is not None and (packet.stamp_ns != 0 or received_ns < _SAME_CLOCK_NS)


def _before_jump(voice: str, deliveries: list[Delivery], notes: list[str]) -> list[Delivery]:
    """Return what came before the clock jumped, which a live conversation would begin anew at."""
    back_ns = _LARGEST_BACK_NS if voice == 'user' else _SAME_CLOCK_NS
    last = None
    for i, delivery in enumerate(deliveries):
        begin_ns, end_ns = _span(delivery)
        if last is not None:
            waited_ns = max(delivery.arrival_ns - last[1], 0)
            is_back = begin_ns < last[0] - back_ns
            is_ahead = voice == 'user' and begin_ns - last[0] - waited_ns > _LARGEST_AHEAD_NS
            if is_back or is_ahead:
                jump_s = (begin_ns - last[0]) / _SECOND_NS
                notes.append(
                    f'{voice}: stamps jump by {jump_s:+.1f} s after {i} of {len(deliveries)} '
                    'messages; what follows is another recording and left out'
                )
                return deliveries[:i]
        last = max(end_ns, last[0] if last else end_ns), delivery.arrival_ns
    return deliveries


def _span(delivery: Delivery) -> tuple[int, int]:
    """Return when the first sample of a packet sounds, and when its last has sounded."""
    packet = delivery.packet
    length_ns = len(packet.samples) * _SECOND_NS // packet.sample_rate_hz
    begin_ns = packet.stamp_ns
    if begin_ns is None or (begin_ns == 0 and delivery.arrival_ns >= _SAME_CLOCK_NS):
        # what has no stamp was captured just before it came, or is played as it comes
        begin_ns = delivery.due_ns
    return begin_ns, begin_ns + length_ns


def _user_motion(
    messages: list[Message], space: MotionSpace, notes: list[str]
) -> tuple[np.ndarray, np.ndarray] | None:
    frames: dict[int, np.ndarray] = {}
    problems = collections.Counter()
    for message in messages:
        try:
            if message.content is None:
                raise ValueError(message.problem)
            stamp_ns, motion = _head_frame(message.content, space)
        except (ValueError, AttributeError) as error:
            problems[str(error)] += 1
            continue
        frames[stamp_ns or message.received_ns] = motion
    for problem, count in problems.most_common(3):
        notes.append(f'head motion: {count} of {len(messages)} messages left out: {problem}')
    if not frames:
        return None
    stamps = sorted(frames)
    return np.array(stamps, np.int64), np.stack([frames[stamp] for stamp in stamps])


def _head_frame(msg: Any, space: MotionSpace) -> tuple[int, np.ndarray]:
    quaternion = np.array([msg.neck.x, msg.neck.y, msg.neck.z, msg.neck.w])
    motion = frame_to_motion(space, quaternion, msg.jaw_open, msg.expression_space, msg.expression)
    stamp = msg.header.stamp
    return stamp.sec * _SECOND_NS + stamp.nanosec, motion
