# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Voices of a recording whose clock, rate or times of recording are not what they seem."""

import numpy as np
import pytest

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.placement import Placer, Times, find_times

S = 1_000_000_000
MS = 1_000_000
WALL = 1_700_000_000 * S
CHUNK = 20 * MS
LEAD = 400 * MS


def voice(name, off_s=0.0, n=400, factor=1.0, is_stamped=True, count=False, speed=1.0, sent=False):
    """Return times of recording and packets; stamps are `off_s` off, recorded at a speed."""
    size, found = round(320 * factor), []
    ahead_ns = LEAD if name == 'agent' else -CHUNK - 3 * MS
    for i in range(n):
        at_ns = i * CHUNK
        stamp_ns = WALL + at_ns + round(off_s * S)
        received_ns = WALL + round((at_ns - ahead_ns) / speed)
        samples = np.full((size, 1), i / 1000, np.float32)
        packet = AudioPacket(
            stamp_ns if is_stamped else None,
            i * size if count else None,
            stamp_ns - ahead_ns if sent else None,
            16_000,
            samples,
        )
        found.append((received_ns, packet))
    return found


def place(voices, heads=None):
    """Return stamps of all packets after the recording's true begin, by voice, and the notes."""
    times, notes = find_times(voices, heads or {})
    stamps = {}
    for name, packets in voices.items():
        placer = Placer(name, times[name], LEAD)
        placed = [placer.place(*item) for item in packets]
        placer.finish()
        notes += placer.notes
        stamps[name] = np.array([p.packet.stamp_ns - WALL for p in placed])
    return stamps, notes


TRUE = np.arange(400) * CHUNK


@pytest.mark.parametrize('odd', ['user', 'agent'])
@pytest.mark.parametrize('off_s', [37, -37])
def test_a_voice_in_tai_is_placed_where_it_was_recorded_to_the_sample(odd, off_s):
    voices = {name: voice(name, off_s if name == odd else 0) for name in ('user', 'agent')}

    stamps, notes = place(voices)

    np.testing.assert_array_equal(stamps['user'], TRUE)
    np.testing.assert_array_equal(stamps['agent'], TRUE)
    (note,) = notes
    assert note.startswith(f'{odd}: stamps are {off_s:+d}.000 s off throughout')
    assert 'as a clock in TAI is; it is placed 37.000 s' in note


@pytest.mark.parametrize(('off_s', 'moved_ms'), [(-5, 3), (0.3, 3), (12, 3)])
def test_a_user_by_another_clock_is_placed_by_its_times_of_recording(off_s, moved_ms):
    stamps, notes = place({'user': voice('user', off_s), 'agent': voice('agent')})

    np.testing.assert_array_equal(stamps['user'], TRUE + moved_ms * MS)
    np.testing.assert_array_equal(stamps['agent'], TRUE)
    assert len(notes) == 1 and notes[0].startswith('user: stamps are ')


def test_an_agent_whose_time_of_sending_was_stamped_keeps_its_lead():
    stamps, notes = place({'user': voice('user'), 'agent': voice('agent', 12, sent=True)})

    np.testing.assert_array_equal(stamps['agent'], TRUE)
    assert notes[0].startswith('agent: stamps are +12.000 s off throughout')


def test_both_voices_by_one_other_clock_are_placed_by_their_stamps_with_their_heads():
    voices = {'user': voice('user', 37), 'agent': voice('agent', 37)}
    heads = {'user': [(WALL + i * 40 * MS, WALL + i * 40 * MS) for i in range(50)]}

    times, notes = find_times(voices, heads)
    stamps, _ = place(voices)

    np.testing.assert_array_equal(stamps['user'], TRUE + 37 * S)
    np.testing.assert_array_equal(stamps['agent'], TRUE + 37 * S)
    assert 'user: stamps are 37 s from the time of recording, another clock' in notes[0]
    assert times['user_head'].shift_ns == 37 * S


def test_a_head_by_a_clock_of_its_own_is_moved():
    heads = {'user': [(WALL + i * 40 * MS, WALL + 37 * S + i * 40 * MS) for i in range(50)]}

    times, notes = find_times({'user': voice('user')}, heads)

    assert times['user_head'].shift_ns == -37 * S
    assert 'head motion of the user: stamps are +37.000 s' in notes[0]


def _announced_at_once(voices):
    first_ns = voices['agent'][0][0]
    voices['agent'] = [(first_ns + i * MS, p) for i, (_, p) in enumerate(voices['agent'])]


def _written_at_once(voices):
    for name, packets in voices.items():
        voices[name] = [(WALL + 20 * S + i * MS // 10, p) for i, (_, p) in enumerate(packets)]


def _without_times(voices):
    for name, packets in voices.items():
        voices[name] = [(0, p) for _, p in packets]


def _with_times_of_the_stamps(voices):
    voices['agent'] = [(p.stamp_ns, p) for _, p in voices['agent']]
    voices['user'] = [(p.stamp_ns + CHUNK, p) for _, p in voices['user']]


def _one_late(voices):
    voices['user'][200] = (voices['user'][200][0] + 9 * S, voices['user'][200][1])


@pytest.mark.parametrize(
    'change',
    [_announced_at_once, _written_at_once, _without_times, _with_times_of_the_stamps, _one_late],
)
def test_stamps_that_can_be_true_stay_and_get_no_note(change):
    voices = {'user': voice('user', n=500), 'agent': voice('agent', n=500)}
    change(voices)

    times, notes = find_times(voices, {})

    assert (set(times.values()), notes) == ({Times()}, [])


@pytest.mark.parametrize(
    ('is_stamped', 'count'), [(True, True), (True, False), (False, True), (False, False)]
)
@pytest.mark.parametrize('factor', [1 / 4, 2, 3])
def test_a_recorded_voice_of_a_wrong_rate_is_as_long_as_it_was_and_noted_first(
    factor, is_stamped, count
):
    user = voice('user', factor=factor, is_stamped=is_stamped, count=count)
    stamps, notes = place({'user': user, 'agent': voice('agent')})

    lag = 0 if is_stamped else 3 * MS
    np.testing.assert_allclose(stamps['user'], TRUE + lag, atol=MS)
    np.testing.assert_array_equal(stamps['agent'], TRUE)
    (note,) = notes
    assert note.startswith('user audio: samples come ')
    assert f'it is heard as {round(16_000 * factor)} Hz' in note


def test_stamps_show_a_wrong_rate_where_times_of_recording_are_not_real():
    user = [(0, packet) for _, packet in voice('user', factor=2)]

    stamps, notes = place({'user': user})

    np.testing.assert_array_equal(stamps['user'], TRUE)
    assert 'samples come 2.0 times as fast' in notes[0]


def test_a_recording_of_another_that_was_played_twice_as_fast_has_no_wrong_rate():
    stamped = {name: voice(name, n=800, speed=2) for name in ('user', 'agent')}
    unstamped = {name: voice(name, n=800, speed=2, is_stamped=False) for name in ('user', 'agent')}

    assert {t.rate_factor for t in find_times(stamped, {})[0].values()} == {1}
    times, (note,) = find_times(unstamped, {})
    assert {t.rate_factor for t in times.values()} == {1}
    assert note.startswith('samples of both voices come 2.00 times as fast as stated')


def test_voices_recorded_by_a_slow_clock_are_placed_by_their_samples_with_a_note():
    voices = {
        name: [(r // S * S, p) for r, p in voice(name, is_stamped=False)]
        for name in ('user', 'agent')
    }

    stamps, notes = place(voices)

    for found in stamps.values():
        np.testing.assert_array_equal(np.diff(found), CHUNK)
        assert abs(found[0]) < S
    assert len(notes) == 2
    assert 'times of recording come in steps of 1.0 s' in notes[0]
