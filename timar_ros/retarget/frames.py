# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The frames of the plans in force: stamped orientations and jaw angles.

A newer plan replaces everything from its own first stamp on.

Responsible for refusing NaN and frames out of order. Not for robots or clocks.
"""

import dataclasses

import numpy as np

NEUTRAL = np.array([0.0, 0.0, 0.0, 1.0])


@dataclasses.dataclass(frozen=True)
class HeadFrames:
    """
    Frames of one or more plans, in order.

    Attributes:
        stamp_ns: int64 `[n]`, increasing: when each is shown.
        neck: `[n, 4]` unit quaternions (x, y, z, w), REP-103 axes.
        jaw_open_rad: `[n]`, at least 0.
    """

    stamp_ns: np.ndarray
    neck: np.ndarray
    jaw_open_rad: np.ndarray

    @classmethod
    def none(cls) -> 'HeadFrames':
        """Return no frames."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))

    @classmethod
    def checked(cls, stamp_ns, neck, jaw_open_rad) -> 'HeadFrames':
        """
        Return the frames of one plan.

        Raises:
            ValueError: something is not finite, has a wrong shape or is out of order.
        """
        stamp_ns = np.asarray(stamp_ns, np.int64)
        neck = np.asarray(neck, np.float64)
        jaw = np.asarray(jaw_open_rad, np.float64)
        n = len(stamp_ns)
        if n == 0 or neck.shape != (n, 4) or jaw.shape != (n,):
            raise ValueError(
                f'a plan must have n > 0 stamps, n quaternions and n jaw angles, got {n}, '
                f'{neck.shape} and {jaw.shape}'
            )
        if np.any(np.diff(stamp_ns) <= 0):
            raise ValueError('the frames of a plan must be in order of their stamps; sort them')
        if not np.all(np.isfinite(jaw)):
            raise ValueError('jaw_open must be finite, got NaN or infinity; drop the plan instead')
        return cls(stamp_ns, unit_quaternion(neck, 'neck'), np.maximum(jaw, 0.0))

    def __len__(self) -> int:
        return len(self.stamp_ns)

    def replaced_by(self, newer: 'HeadFrames') -> 'HeadFrames':
        """Return these frames up to the first of `newer`, then `newer`."""
        return self._where(self.stamp_ns < newer.stamp_ns[0])._followed_by(newer)

    def since(self, time_ns: int) -> 'HeadFrames':
        """Return the frames from `time_ns` on."""
        return self._where(self.stamp_ns >= time_ns)

    def until(self, time_ns: int) -> 'HeadFrames':
        """Return the frames up to `time_ns`, and the first one after it."""
        n = int(np.searchsorted(self.stamp_ns, time_ns)) + 1
        return self._where(np.arange(len(self)) < n)

    def _where(self, keep: np.ndarray) -> 'HeadFrames':
        return HeadFrames(self.stamp_ns[keep], self.neck[keep], self.jaw_open_rad[keep])

    def _followed_by(self, other: 'HeadFrames') -> 'HeadFrames':
        pairs = (
            (getattr(self, field.name), getattr(other, field.name))
            for field in dataclasses.fields(self)
        )
        return HeadFrames(*(np.concatenate(pair) for pair in pairs))


def unit_quaternion(quaternion: np.ndarray, what: str) -> np.ndarray:
    """
    Return quaternions `[..., 4]` of norm 1.

    Raises:
        ValueError: one is not finite or has no direction; `what` names it.
    """
    norm = np.linalg.norm(quaternion, axis=-1, keepdims=True)
    if not np.all(np.isfinite(norm)) or np.any(norm < 1e-6):
        raise ValueError(
            f'{what} must be finite quaternions (x, y, z, w) of norm 1, got a NaN, an infinity or '
            'a zero; the neutral head is (0, 0, 0, 1)'
        )
    return quaternion / norm
