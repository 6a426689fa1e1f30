# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Channels that are not the voice are noticed while the conversation runs."""

import numpy as np
import pytest

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.channel_notice import ChannelNotice

MEAN = {'user': 'mean', 'agent': 'mean'}


def make_voice(seconds, seed, rate_hz=16_000):
    rng = np.random.default_rng(seed)
    n = int(seconds * rate_hz)
    noise = np.convolve(rng.standard_normal(n), np.ones(40) / 40, 'same')
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(n) / rate_hz + seed)
    return (noise * syllables).astype(np.float32)


def warnings_of(user, agent=None, rate_hz=16_000, chunk=320, channels=MEAN):
    """Play user `[n, C]` and agent `[n]` in chunks, the agent announced 0.4 s ahead."""
    notice = ChannelNotice(channels)
    lead = 20
    for k in range(-lead, len(user) // chunk):
        ahead = slice((k + lead) * chunk, (k + lead + 1) * chunk)
        grid = 16_000 * chunk // rate_hz
        if agent is not None and len(agent[ahead]):
            packet = AudioPacket(None, None, None, rate_hz, agent[ahead, None])
            notice.add('agent', packet, 10**9 + (k + lead) * grid)
        if k >= 0:
            packet = AudioPacket(None, None, None, rate_hz, user[k * chunk : (k + 1) * chunk])
            notice.add('user', packet, 10**9 + k * grid)
    return notice.take_warnings()


@pytest.mark.parametrize('rate_hz', [16_000, 48_000])
def test_inverted_channels_are_noticed_with_the_parameter(rate_hz):
    voice = make_voice(5, 1, rate_hz)

    (warning,) = warnings_of(np.stack([voice, -voice], 1), rate_hz=rate_hz)

    assert warning.startswith('user audio: channels 0 and 1 are inverted')
    assert 'choose user_channel:=0' in warning


def test_a_dead_channel_is_noticed():
    voice = make_voice(5, 1)

    (warning,) = warnings_of(np.stack([np.zeros_like(voice), voice], 1))

    assert 'channel 0 is silent' in warning


def test_a_channel_that_holds_the_robots_voice_is_noticed():
    user, agent = make_voice(20, 1), make_voice(20, 2)
    loopback = np.concatenate([np.zeros(800, np.float32), agent[:-800]])  # 50 ms later

    (warning,) = warnings_of(np.stack([user, loopback], 1), agent)

    assert "the robot's own voice" in warning
    assert 'choose user_channel:=0' in warning


@pytest.mark.parametrize('channels', [MEAN, {'user': 0, 'agent': 'mean'}])
def test_two_people_in_good_channels_are_nothing_to_notice(channels):
    user, agent = make_voice(20, 1), make_voice(20, 2)
    both = np.stack([user, 0.9 * user + 0.01 * make_voice(20, 3)], 1)

    assert warnings_of(both, agent, channels=channels) == []


def test_the_chosen_channel_decides_what_is_noticed():
    user, agent = make_voice(20, 1), make_voice(20, 2)

    assert warnings_of(np.stack([user, agent], 1), agent, channels={'user': 0, 'agent': 0}) == []
    (warning,) = warnings_of(
        np.stack([user, agent], 1), agent, channels={'user': 1, 'agent': 'mean'}
    )
    assert "is the robot's own voice" in warning


def test_little_is_kept_however_long_the_robot_speaks():
    notice = ChannelNotice(MEAN)
    for k in range(5_000):
        samples = np.zeros((320, 1), np.float32)
        notice.add('agent', AudioPacket(None, None, None, 16_000, samples), k * 320)

    assert sum(len(bins) for _, bins in notice._agent) < 7 * 4_000


def test_a_robots_voice_that_ends_before_all_that_the_user_said_is_no_fault():
    notice = ChannelNotice(MEAN)
    voice = make_voice(1, 1)[:, None]

    notice.add('user', AudioPacket(None, None, None, 16_000, voice), 10**9)
    notice.add('agent', AudioPacket(None, None, None, 16_000, voice), 10**9 - 48_000)

    assert notice.take_warnings() == []
