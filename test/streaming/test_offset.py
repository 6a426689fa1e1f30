# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A constant offset of a microphone is no sound: not as speech, as a channel, nor as an echo."""

import re

import numpy as np
from numpy.testing import assert_array_equal
import pytest

from timar_ros.learn.behaviour import voice_activity
from timar_ros.learn.simulator.recorded import find_phrases
from timar_ros.stream.channels import ChannelWatch, correlation_of, describe_recording
from timar_ros.stream.lips import voice_envelope
from timar_ros.stream.offset import OffsetWatch, offset_of, without_offset
from timar_ros.stream.self_hearing import agent_sounds

RATE = 16_000


def make_voice(seed=0):
    """Four seconds: 1 s of nothing but hiss, 1 s of sound, 2 s of hiss."""
    rng = np.random.default_rng(seed)
    voice = rng.normal(scale=2e-4, size=4 * RATE)
    sound = rng.normal(scale=0.1, size=RATE)
    voice[RATE : 2 * RATE] += sound - sound.mean()
    return voice.astype(np.float32)


@pytest.mark.parametrize('offset', [0.005, -0.03, 0.1])
def test_an_offset_does_not_count_as_speech(offset):
    voice = make_voice()

    speaks = voice_activity(voice + np.float32(offset), RATE)

    assert_array_equal(speaks, voice_activity(voice, RATE))
    assert 24 < speaks.sum() < 32


def test_an_offset_of_a_part_of_a_recording_does_not_count_as_speech():
    voice = make_voice() + np.float32(0.03)
    voice[int(2.5 * RATE) :] -= np.float32(0.03)  # another microphone

    speaks = voice_activity(voice, RATE)

    assert speaks[25:50].all()
    assert not speaks[:22].any()
    assert speaks[53:].sum() <= 4  # the step at 2.5 s


def test_the_loudness_of_a_voice_without_an_offset_is_its_power_alone():
    voice = make_voice()

    envelope = voice_envelope(voice, RATE, 100)

    plain = voice_envelope(voice - voice.mean(), RATE, 100)
    assert offset_of(voice) == 0
    np.testing.assert_allclose(envelope, plain, rtol=0.05)
    assert without_offset(voice) is voice


def test_an_offset_is_taken_off_sound_and_not_put_into_silence():
    voice = make_voice() + np.float32(0.02)
    voice[:RATE] = 0

    clean = without_offset(voice)

    assert_array_equal(clean[:RATE], 0)
    assert abs(clean[RATE:].mean()) < 1e-3


def test_phrases_of_a_recording_with_an_offset_are_found():
    voice = make_voice() + np.float32(0.02)

    assert_array_equal(find_phrases(voice, 0.5) // 1600, [[10, 20]])


def test_an_offset_of_the_robots_voice_does_not_close_the_ears():
    voice = make_voice() + np.float32(0.02)

    sounds = agent_sounds(voice, 1600)

    assert sounds[RATE : 2 * RATE - 1600].all()
    assert not sounds[: RATE - 3200].any()
    assert not sounds[2 * RATE + 1600 :].any()


def test_voices_that_share_an_offset_only_are_not_alike():
    one, other = (make_voice(seed) * 0.1 + np.float32(0.05) for seed in (1, 2))

    assert correlation_of(one, other, RATE) < 0.2


@pytest.mark.parametrize('offsets', [(0.1, -0.1), (0.0, 0.1)])
def test_channels_are_judged_by_their_sound_and_not_by_their_offset(offsets):
    both = np.stack([make_voice(), make_voice()], 1)
    watch, plain = ChannelWatch(), ChannelWatch()

    watch.add((both + np.float32(offsets)).astype(np.float32))
    plain.add(both)

    assert watch.finding('channel:=') == plain.finding('channel:=') == ''


def test_a_channel_that_holds_an_offset_alone_is_silent():
    watch = ChannelWatch()
    watch.add(np.stack([make_voice(), np.full(4 * RATE, 0.1, np.float32)], 1))

    assert 'channel 1 is silent' in watch.finding('channel:=')


def test_an_offset_is_noted_with_its_size_and_what_avoids_it():
    voice = make_voice()
    with_offset = (voice[:, None] + np.float32(0.005), RATE)

    (note,) = describe_recording(with_offset, None, {}, '--{voice}-channel ')
    none = describe_recording((voice[:, None], RATE), None, {}, '--{voice}-channel ')

    assert re.match(
        r'user: the recording has a DC offset of 0.00\d+ of full scale \(-4\d dB\)', note
    )
    assert 'high-pass' in note
    assert none == []


def test_what_is_overdriven_or_short_has_no_offset_to_note():
    watch = OffsetWatch()
    watch.add(np.full(RATE, 0.01), RATE)
    overdriven = OffsetWatch()
    overdriven.add(np.full(4 * RATE, 3.0), RATE)

    assert watch.finding() == overdriven.finding() == ''
