# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A bag as a recording: the whole of both voices, and the heads that were seen.

Responsible for gathering what `bag_conversation` reads. Not for when it counts, nor for files.
"""

from collections.abc import Iterable
from fractions import Fraction
import pathlib

import numpy as np

from timar_ros.learn.offline import Delivery
from timar_ros.learn.recording import Recording, compose_voice, own_voice_notes
from timar_ros.learn.share import find_shared
from timar_ros.motion import MotionSpace, frame_to_motion
from timar_ros.stream.bag import read_definitions
from timar_ros.stream.bag_conversation import BagConversation, Heard, Listening, Seen
from timar_ros.stream.bag_topics import Topics

_SECOND_NS = 1_000_000_000
HeadFrames = tuple[np.ndarray, np.ndarray]


def read_bag(
    path: pathlib.Path,
    space: MotionSpace,
    lead_ns: int,
    topics: Topics,
    listening: Listening | None = None,
) -> Recording:
    """
    Read a conversation from a bag of ROS 2, mcap or sqlite3.

    Args:
        path: its folder, or a single .mcap or .db3 file.
        space: of the model, for the user's motion.
        lead_ns: how far ahead the agent's voice counts as known where neither its messages nor
            the bag states it.
        topics: where the voices and the user's motion are.
        listening: what the bag does not say: channels and formats; its `lead_ns` is not used.

    Raises:
        FileNotFoundError: there is no bag.
        ValueError: it cannot be read, or holds no audio; the message names what it holds.
    """
    heads = {'user': topics.user_motion}
    return read_bag_and_heads(path, space, lead_ns, topics, heads, listening)[0]


def read_bag_and_heads(
    path: pathlib.Path,
    space: MotionSpace,
    lead_ns: int,
    topics: Topics,
    heads: dict[str, str],
    listening: Listening | None = None,
) -> tuple[Recording, dict[str, HeadFrames]]:
    """
    Read a conversation and several heads.

    Args:
        path: as in `read_bag`.
        space: as in `read_bag`, for all heads.
        lead_ns: as in `read_bag`.
        topics: where the voices are.
        heads: name -> topic; 'user' is the recording's.
        listening: as in `read_bag`.

    Returns:
        the recording; and of each head that is there its stamps int64 `[F]` ns, rising, and
        frames `[F, M]`.

    Raises:
        FileNotFoundError, ValueError: as `read_bag`.
    """
    listening = listening or Listening()
    conversation = BagConversation(
        path, read_definitions(find_shared('msg/AudioChunk.msg').parent), topics, heads, listening
    )
    deliveries: dict[str, list[Delivery]] = {}
    frames: dict[str, dict[int, np.ndarray]] = {name: {} for name in conversation.heads}
    ends = []
    for item in conversation.items(lead_ns=lead_ns):
        if isinstance(item, Heard):
            placed = item.placed
            # as replay publishes it: the user's sound when it has ended, the agent's as it is sent
            arrival_ns = placed.end_ns if item.voice == 'user' else placed.due_ns
            delivery = Delivery(placed.packet, placed.due_ns, arrival_ns)
            deliveries.setdefault(item.voice, []).append(delivery)
            ends.append(placed.end_ns)
        else:
            try:
                frames[item.head][item.stamp_ns] = _motion(item, space)
            except (ValueError, AttributeError) as error:
                conversation.blame(item.head, str(error))
    for feed in deliveries.values():
        feed.sort(key=lambda delivery: delivery.arrival_ns)
    notes = conversation.notes + conversation.counted_problems()
    notes += [
        f'the bag has no {voice}/audio; the {voice} is taken to be silent'
        for voice, topic in conversation.voices.items()
        if topic is None
    ]
    notes += conversation.counted_problems(of_heads=True)
    begin_ns = conversation.begin_ns
    length_s = Fraction(max(ends) - begin_ns, _SECOND_NS)
    voices = {
        voice: compose_voice(voice, deliveries[voice], begin_ns, length_s)
        for voice in conversation.voices
        if voice in deliveries
    }
    notes += own_voice_notes(deliveries, voices, begin_ns, listening.option.format(voice='user'))
    seen = {name: _rising(found.items()) for name, found in frames.items() if found}
    recording = Recording(
        pathlib.Path(path).name,
        {voice: deliveries[voice] for voice in voices},
        begin_ns,
        length_s,
        voices,
        seen.get('user'),
        tuple(notes),
    )
    return recording, seen


def _rising(frames: Iterable[tuple[int, np.ndarray]]) -> HeadFrames:
    stamps, motion = zip(*sorted(frames, key=lambda frame: frame[0]), strict=True)
    return np.array(stamps, np.int64), np.stack(motion)


def _motion(seen: Seen, space: MotionSpace) -> np.ndarray:
    msg = seen.content
    quaternion = np.array([msg.neck.x, msg.neck.y, msg.neck.z, msg.neck.w])
    return frame_to_motion(space, quaternion, msg.jaw_open, msg.expression_space, msg.expression)
