# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Which clock recorded stamps belong to, and what packets are worth that have none."""

import numpy as np
import pytest

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.placement import Placer, Times, find_times

S = 1_000_000_000
MS = 1_000_000
WALL = 1_700_000_000 * S
LEAD = 400 * MS
CHUNK = 20 * MS


def packet(stamp_ns, first_sample=None, sent_ns=None, value=0.1):
    samples = np.full((320, 1), value, np.float32)
    return AudioPacket(stamp_ns, first_sample, sent_ns, 16_000, samples)


def voice(begin_ns, recorded_ns, n=50, lead_ns=0, count=False):
    """Return times of recording and packets of a second of sound, 1 ms of delay."""
    return [
        (
            recorded_ns + i * CHUNK + (CHUNK if not lead_ns else -lead_ns) + MS,
            packet(begin_ns and begin_ns + i * CHUNK, 320 * i if count else None, value=i / 100),
        )
        for i in range(n)
    ]


def place(name, times, packets, lead_ns=LEAD):
    placer = Placer(name, times, lead_ns)
    placed = [placer.place(*item) for item in packets]
    placer.finish()
    return placer, placed


def test_stamps_of_the_recorders_clock_stay_what_they_are():
    voices = {'user': voice(WALL, WALL), 'agent': voice(WALL, WALL, lead_ns=2 * S)}

    times, notes = find_times(voices, {'user': [(WALL + 5 * MS, WALL)]})

    assert set(times.values()) == {Times()}
    assert notes == []


def test_voices_of_one_other_clock_are_placed_by_their_stamps():
    voices = {'user': voice(7 * S, WALL), 'agent': voice(8 * S, WALL + S, lead_ns=LEAD)}

    times, notes = find_times(voices, {})
    _, placed = place('user', times['user'], voices['user'])

    assert placed[0].packet.stamp_ns == 7 * S
    assert placed[0].arrival_ns == 7 * S + CHUNK
    assert len(notes) == 2 and 'another clock (simulated?); stamps are used' in notes[0]


@pytest.mark.parametrize('odd', ['user', 'agent'])
def test_a_voice_of_another_clock_than_the_rest_is_moved_to_the_recorders(odd):
    begins = {'user': WALL, 'agent': WALL} | {odd: 7 * S}
    voices = {
        'user': voice(begins['user'], WALL),
        'agent': voice(begins['agent'], WALL, lead_ns=LEAD),
    }

    times, notes = find_times(voices, {})
    _, placed = place(odd, times[odd], voices[odd])

    # where it was recorded: a millisecond late, and the lead of the agent is not known
    expected = WALL + MS - (LEAD if odd == 'agent' else 0)
    assert [p.packet.stamp_ns - expected for p in placed[:3]] == [0, CHUNK, 2 * CHUNK]
    (note,) = notes
    assert note.startswith(f'{odd}: stamps are -169999999') and note.endswith('moved by that')


def test_a_voice_without_stamps_keeps_one_of_another_clock_with_it():
    voices = {'user': voice(0, WALL), 'agent': voice(7 * S, WALL, lead_ns=LEAD)}

    times, _ = find_times(voices, {})
    first = {name: place(name, times[name], voices[name])[1][0] for name in voices}

    assert first['user'].packet.stamp_ns == WALL + MS
    assert abs(first['agent'].packet.stamp_ns - (WALL - LEAD)) <= 2 * MS


def test_a_head_of_another_clock_is_moved_to_that_of_the_voices():
    voices = {'user': voice(WALL, WALL), 'agent': voice(WALL, WALL, lead_ns=LEAD)}
    frames = [(WALL + i * 40 * MS, 9 * S + i * 40 * MS) for i in range(20)]

    times, notes = find_times(voices, {'user': frames})

    assert times['user_head'].place_stamp(9 * S, WALL) == WALL
    assert times['user_head'].place_stamp(0, WALL + S) == WALL + S
    assert len(notes) == 1 and notes[0].startswith('head motion of the user: stamps are')


def test_times_of_recording_before_the_clock_ran_do_not_count():
    packets = [(0, item[1]) for item in voice(100 * S, 100 * S, 10)]
    packets += voice(100 * S, 100 * S)[10:]

    times, notes = find_times({'user': packets}, {})
    placer, placed = place('user', times['user'], packets)

    assert [p.packet.stamp_ns for p in placed] == [100 * S + i * CHUNK for i in range(50)]
    assert notes == placer.notes == []


def test_what_has_neither_stamp_nor_time_is_left_out_and_counted():
    packets = [(0, packet(0)) for _ in range(4)] + voice(0, 5 * S)

    times, _ = find_times({'user': packets}, {})
    placer, placed = place('user', times['user'], packets)

    assert placed[:4] == [None] * 4
    assert placed[4].packet.stamp_ns == 5 * S + MS
    assert placer.notes == [
        'user: 4 of 54 messages left out: they have no stamp and were recorded before the clock '
        'ran'
    ]


@pytest.mark.parametrize('count', [None, 0, 7])
def test_streams_that_do_not_count_get_counts_that_agree_with_their_places(count):
    packets = [(r, packet(p.stamp_ns, count)) for r, p in voice(WALL, WALL)]
    del packets[20:25]  # 100 ms are lost

    _, placed = place('user', Times(), packets)

    counts = [p.packet.first_sample - placed[0].packet.first_sample for p in placed]
    stamps = [p.packet.stamp_ns - WALL for p in placed]
    assert [c * 62_500 for c in counts] == stamps
    assert stamps[19:21] == [19 * CHUNK, 25 * CHUNK]


def test_a_stream_that_repeats_its_count_is_unbroken_at_rates_that_no_sample_of_ours_meets():
    samples = np.full((512, 1), 0.1, np.float32)
    stamps = [WALL + i * 512 * S // 44_100 for i in range(40)]
    packets = [(t + 13 * MS, AudioPacket(t, 5, None, 44_100, samples)) for t in stamps]

    _, placed = place('user', Times(), packets)

    assert set(np.diff([p.packet.first_sample for p in placed])) == {512}


def test_a_publishers_own_count_stays():
    packets = voice(WALL, WALL, count=True)

    _, placed = place('user', Times(), packets)

    assert [p.packet for p in placed] == [p for _, p in packets]


def test_what_is_left_after_a_jump_of_the_clock_is_another_recording():
    packets = voice(WALL, WALL) + voice(WALL + 900 * S, WALL + 2 * S)

    placer, placed = place('user', Times(), packets)

    assert [p is None for p in placed] == [False] * 50 + [True] * 50
    assert 'stamps jump by +899.0 s after 50 of 100 messages' in placer.notes[0]


def test_the_agent_may_go_back_to_what_it_has_not_said_yet():
    packets = voice(WALL + 9 * S, WALL, 10, lead_ns=LEAD)
    packets += voice(WALL + 2 * S, WALL + S, 10, lead_ns=LEAD)

    placer, placed = place('agent', Times(), packets)

    assert None not in placed and placer.notes == []
    assert all(p.packet.sent_ns == p.due_ns == p.arrival_ns for p in placed)
