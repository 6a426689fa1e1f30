# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What goes over the face's socket, byte by byte; `face_page/wire.js` reads it. Back come pings.

Little endian, each array aligned to its element. Stamps are ms of the node's clock in float64,
which is exact to 0.3 µs in this century.

    plan     uint32 1 | uint32 n | float64 plan | float64 sent | float64 stamp [n]
             | float32 neck [n, 4] x y z w, REP-103 | float32 arkit [n, 52]
    level    uint32 2 | uint32 n | float64 start [n] | float32 ms [n] | float32 dB [n]
"""

import json
import math
import struct

import numpy as np

_PLAN, _LEVEL = 1, 2
_KIND_AND_LENGTH = struct.Struct('<II')
_NUMBER_AND_SENT = struct.Struct('<dd')


def pack_plan(
    number: int, sent_ns: int, stamp_ns: np.ndarray, neck: np.ndarray, arkit: np.ndarray
) -> bytes:
    """
    Pack a plan.

    Args:
        number: of the plan.
        sent_ns: the node's clock now.
        stamp_ns: int64 `[n]`, when each frame is shown.
        neck: `[n, 4]` x, y, z, w, REP-103.
        arkit: `[n, 52]`.
    """
    return b''.join(
        (
            _KIND_AND_LENGTH.pack(_PLAN, len(stamp_ns)),
            _NUMBER_AND_SENT.pack(float(number), sent_ns / 1e6),
            np.asarray(stamp_ns / 1e6, '<f8').tobytes(),
            np.asarray(neck, '<f4').tobytes(),
            np.asarray(arkit, '<f4').tobytes(),
        )
    )


def pack_levels(start_ns: np.ndarray, span_ms: np.ndarray, level_db: np.ndarray) -> bytes:
    """Pack how loud the robot's voice is from each of `[n]` starts on, for so long."""
    return b''.join(
        (
            _KIND_AND_LENGTH.pack(_LEVEL, len(level_db)),
            np.asarray(start_ns / 1e6, '<f8').tobytes(),
            np.asarray(span_ms, '<f4').tobytes(),
            np.asarray(level_db, '<f4').tobytes(),
        )
    )


def pack_state(stamp_ns: int, state: int, user_db: float, agent_db: float) -> str:
    """Pack who speaks, as ConversationState counts it, and how loud."""
    return json.dumps(
        {
            'type': 'state',
            'stamp_ms': stamp_ns / 1e6,
            'state': state,
            'user_db': round(user_db, 1),
            'agent_db': round(agent_db, 1),
        }
    )


def read_ping(text: str) -> float | None:
    """Return when a page sent its ping, by its own clock in ms; None if it is no ping."""
    try:
        content = json.loads(text)
        sent = content.get('ping') if isinstance(content, dict) else None
        is_number = isinstance(sent, int | float) and not isinstance(sent, bool)
        return sent if is_number and math.isfinite(sent) else None
    except (ValueError, OverflowError, RecursionError):
        return None
