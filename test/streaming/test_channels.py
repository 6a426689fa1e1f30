# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Channels that are not the voice are noticed, and which one is heard can be said."""

import numpy as np
from numpy.testing import assert_array_equal
import pytest

from timar_ros.stream.channels import (
    ChannelWatch,
    choose_channel,
    correlation_of,
    foreign_voice,
    parse_channel,
)

RATE_HZ = 16_000


def voice(seed: int) -> np.ndarray:
    """Make 4 s of voice-like noise, float32 `[64000]`, syllables at 4 Hz."""
    noise = np.random.default_rng(seed).standard_normal(4 * RATE_HZ)
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * np.arange(len(noise)) / RATE_HZ + seed)
    return (0.1 * noise * syllables).astype(np.float32)


def finding(*columns, chunk=None):
    watch, samples = ChannelWatch(), np.stack(columns, 1)
    for start in range(0, len(samples), chunk or len(samples)):
        watch.add(samples[start : start + (chunk or len(samples))])
    return watch.finding('--user-channel ')


def test_inverted_channels_are_noticed_with_the_channel_to_choose():
    text = finding(voice(1), -voice(1))

    assert 'channels 0 and 1 are inverted (correlation -1.00)' in text
    assert text.endswith('choose --user-channel 0')


def test_of_two_inverted_channels_the_louder_one_is_advised():
    text = finding(0.9 * voice(1), -voice(1) + 0.01 * voice(2))

    assert text.endswith('choose --user-channel 1')


def test_two_inverted_channels_among_six_that_are_heard_well_are_no_matter():
    x = voice(1)

    assert finding(x, -x, x, x, x, x) == ''


def test_silent_channels_are_noticed_and_noise_is_not_silence():
    x = voice(1)
    noise = 1e-2 * np.random.default_rng(0).standard_normal(len(x)).astype(np.float32)

    assert finding(0 * x, x).startswith('channel 0 is silent')
    assert finding(0 * x, x).endswith('choose --user-channel 1 to hear one alone')
    assert finding(x, 0 * x, 0 * x).startswith('channels 1, 2 are silent')
    assert finding(noise, x) == ''


@pytest.mark.parametrize('columns', [1, 2, 6])
def test_plain_recordings_give_no_finding(columns):
    x = voice(1)

    assert finding(*[np.roll(x, i) + 0.1 * voice(2 + i) for i in range(columns)]) == ''
    assert finding(*[voice(i) for i in range(columns)]) == ''
    assert finding(*[0 * x] * columns) == ''


@pytest.mark.parametrize('chunk', [1, 7, 320, 4_099])
def test_findings_do_not_depend_on_the_chunks(chunk):
    x = voice(1)[:8_000]

    assert finding(x, -x, 0 * x, chunk=chunk) == finding(x, -x, 0 * x)


def test_a_stream_that_changes_its_channels_is_looked_at_again():
    watch = ChannelWatch()
    watch.add(np.stack([voice(1), -voice(1)], 1))
    watch.add(voice(1)[:, None])

    assert watch.finding('user_channel:=') == ''


def test_a_copy_is_found_at_any_delay_up_to_half_a_second():
    x = voice(1)

    for delay in (-8_000, -31, 0, 400, 8_000):
        late = np.zeros_like(x)
        late[max(delay, 0) : len(x) + min(delay, 0)] = x[max(-delay, 0) : len(x) - max(delay, 0)]
        assert correlation_of(late, -0.3 * x, RATE_HZ) > 0.75, delay
    assert correlation_of(x, voice(2), RATE_HZ) < 0.3
    assert correlation_of(x, 0 * x, RATE_HZ) == 0.0
    assert correlation_of(x[:100], x[:100], RATE_HZ) == 0.0, 'too short to say'


def test_a_channel_that_holds_the_robots_voice_is_named_with_the_one_to_choose():
    user, agent = voice(1), voice(2)
    mics = [0.1 * np.roll(user, k) + 0.3 * agent for k in range(4)]
    array = np.stack([user, *mics, 3 * agent], 1)

    text = foreign_voice(array, agent, RATE_HZ, 'mean', 'user_channel:=')

    assert "the robot's own voice (correlation 0.9" in text
    assert text.endswith('channel 5 holds it (1.00); choose user_channel:=0')
    assert foreign_voice(array, agent, RATE_HZ, 0, 'user_channel:=') == ''
    assert foreign_voice(array, agent, RATE_HZ, 5, 'user_channel:=') != ''


def test_a_soft_loopback_channel_is_noticed_as_a_part_of_the_mean():
    user, agent = voice(1), voice(2)
    array = np.stack([user, user, 0.3 * agent], 1)

    text = foreign_voice(array, agent, RATE_HZ, 'mean', '--user-channel ')

    assert text.startswith("the robot's own voice is part of what is heard of the user")
    assert text.endswith('channel 2 holds it (1.00); choose --user-channel 0')


def test_the_same_recording_twice_is_asked_about():
    x = voice(1)

    text = foreign_voice(x[:, None], x, RATE_HZ, 'mean', '--user-channel ')

    assert 'the same recording twice' in text


@pytest.mark.parametrize('value', ['mean', ' mean ', 0, 5, '0', '12'])
def test_a_channel_is_mean_or_an_index(value):
    expected = value.strip() if 'mean' in str(value) else int(value)

    assert parse_channel(value) == expected


@pytest.mark.parametrize('value', ['left', '', '-1', -1, True, 1.0, None, '9' * 1000, '²'])
def test_other_channels_are_refused_with_what_was_given(value):
    with pytest.raises(ValueError, match="channel must be 'mean' or an index from 0 on, got") as e:
        parse_channel(value)
    assert len(str(e.value)) < 200


def test_one_channel_is_kept_as_a_column_and_a_missing_one_is_refused():
    stereo = np.stack([voice(1), voice(2)], 1)

    assert_array_equal(choose_channel(stereo, 1, 'x.wav'), stereo[:, 1:])
    assert choose_channel(stereo, 'mean', 'x.wav') is stereo
    with pytest.raises(ValueError, match=r'x.wav: expected channel 2, got 2 channels; choose 0'):
        choose_channel(stereo, 2, 'x.wav')
    with pytest.raises(ValueError, match="got channel 0 alone; choose 0 or 'mean'"):
        choose_channel(stereo[:, :1], 1, 'x.wav')
