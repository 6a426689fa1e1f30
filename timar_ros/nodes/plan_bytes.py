# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A HeadMotionPlan from its bytes on the wire, cut to a bounded number of frames.

Responsible for how many frames are read. Not for whether they are a plan that can be shown.

A frame costs about 20 µs to become Python objects, so a plan of 300,000 frames would stall a node
for seconds before its callback sees how long it is. Here the rest is never read.
"""

import struct

from rclpy.serialization import deserialize_message

from timar_ros.bounds import MAX_PLAN_FRAMES
from timar_ros.msg import HeadMotionPlan

# Bytes before the fields: 0, 0 (big endian) or 1 (little endian) of plain CDR, and two of options.
_BYTE_ORDERS = {b'\x00\x00': '>', b'\x00\x01': '<'}
_BEFORE = 4


def plan_from_bytes(data: bytes, most: int = MAX_PLAN_FRAMES) -> tuple[HeadMotionPlan, int]:
    """
    Read a plan as a raw subscription gets it.

    Args:
        data: serialized, CDR.
        most: frames that are read, from the first on.

    Returns:
        the plan, and how many frames it had beyond those.
    """
    place, order = _place_of_count(data)
    n_frames = struct.unpack_from(f'{order}I', data, place)[0] if place else 0
    if n_frames <= most:
        return deserialize_message(data, HeadMotionPlan), 0
    # What stands behind the last frame is not looked at.
    shorter = b''.join((data[:place], struct.pack(f'{order}I', most), data[place + 4 :]))
    return deserialize_message(shorter, HeadMotionPlan), n_frames - most


def _place_of_count(data: bytes) -> tuple[int, str]:
    """Return where the number of frames stands, and its byte order; 0 if that is not known."""
    order = _BYTE_ORDERS.get(data[:2])
    # header.stamp (two int32), header.frame_id (length, then bytes), plan (8), frame_rate (4)
    if order is None or len(data) < _BEFORE + 12:
        return 0, ''
    (length,) = struct.unpack_from(f'{order}I', data, _BEFORE + 8)
    end_of_text = 12 + length
    place = _BEFORE + (end_of_text + 7) // 8 * 8 + 8 + 4
    return (place, order) if place + 4 <= len(data) else (0, '')
