# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The robot hears itself: keep its own voice out of what the user is taken to have said.

A microphone near a loudspeaker hears the robot. When it speaks is known, from the timeline of
playback; nothing is known of the room, so this is a gate and no echo canceller.
"""

import numpy as np

from timar_ros.config import HearingConfig
from timar_ros.stream.offset import without_offset

_BLOCK = 160  # samples, 10 ms
# A voice below this is no voice: dither and codec noise of a silent TTS stream.
_ACTIVE_RMS = 10 ** (-55 / 20)


def margin(config: HearingConfig, sample_rate_hz: int) -> int:
    """Return how many samples before a stretch decide about it, a multiple of the block."""
    samples = config.self_hearing_hold_ms * sample_rate_hz // 1000
    return -(-samples // _BLOCK) * _BLOCK


def agent_sounds(agent: np.ndarray, n_margin: int) -> np.ndarray:
    """
    Say where the agent's own voice may be in the user's microphone.

    Args:
        agent: its samples `[n_margin + n]`, zero where it says nothing; n a multiple of 160.
        n_margin: samples before the stretch; sound is held on for as long (room and drivers).

    Returns:
        bool `[n]`.
    """
    blocks = without_offset(agent).reshape(-1, _BLOCK)
    is_active = np.sqrt((blocks.astype(np.float64) ** 2).mean(-1)) > _ACTIVE_RMS
    n_hold = n_margin // _BLOCK
    count = np.concatenate([[0], np.cumsum(is_active)])
    last = np.arange(n_hold, len(is_active))
    held = count[last + 1] - count[last - n_hold] > 0
    return np.repeat(held, _BLOCK)


def without_self(
    user: np.ndarray, is_present: np.ndarray, sounds: np.ndarray, config: HearingConfig
) -> tuple[np.ndarray, np.ndarray]:
    """
    Gate or attenuate the user's channel where the agent sounds.

    Args:
        user: samples `[n]`.
        is_present: bool `[n]`, what arrived.
        sounds: bool `[n]`, from `agent_sounds`.
        config: what to do.

    Returns:
        samples and presence; gated samples count as not heard, so the model takes them as null.
    """
    if config.self_hearing == 'gate':
        is_present = is_present & ~sounds
        return np.where(is_present, user, 0.0).astype(np.float32), is_present
    gain = np.where(sounds, 10 ** (-config.self_hearing_db / 20), 1.0)
    return (user * gain).astype(np.float32), is_present
