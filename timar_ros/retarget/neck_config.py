# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
How a neck follows.

Responsible for the settings and their defaults. Not for limits: those are the robot's.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class NeckConfig:
    """
    How a neck follows. Times in ms.

    Attributes:
        knot_ms: between two points of a trajectory; 40 is a frame of 25 fps.
        horizon_knots: points ahead that are found at once.
        lead_ms: what a solution takes to reach the joints; motion nearer than that is held fixed.
        settle_ms: at least, from the measured position to the first point, at rest, when the neck
            takes over.
        glide_ms: over which a motion that begins at rest takes over from it.
        stop_ms: time constant of the velocity after a stop.
        smoothing_hz: motion of this frequency comes out half as large (without delay).
        gain: scales the head's rotation; 1 is as planned.
        moved_rad: a joint further from where it was sent is held, or moved by another.
    """

    knot_ms: int = 40
    horizon_knots: int = 50
    lead_ms: int = 40
    settle_ms: int = 500
    glide_ms: int = 800
    stop_ms: int = 150
    smoothing_hz: float = 8.0
    gain: float = 1.0
    moved_rad: float = 0.15
