# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Streams whose stated rate or number of channels contradicts time."""

import itertools

import numpy as np
import pytest

from timar_ros.stream.stated_rate import StatedRate, describe

BEGIN_NS = 1_700_000_000_000_000_000
MS = 1_000_000
FEW_MS = 3


def stream(audio, factor, chunk_ms=20, seconds=12, is_stamped=True, is_counted=True, rate=16_000):
    """Return packets that hold `factor` times the sound of their time, and their arrivals."""
    rng = np.random.default_rng(1)
    n = round(rate * chunk_ms / 1000 * factor)
    n_packets = seconds * 1000 // chunk_ms
    packets = audio.packets(audio.noise(n * n_packets), n, rate, is_counted=is_counted)
    timed = []
    for i, packet in enumerate(packets):
        stamp_ns = BEGIN_NS + i * chunk_ms * MS
        delay_ns = int((chunk_ms + rng.uniform(1, FEW_MS)) * MS)
        timed.append((audio.change(packet, stamp_ns=stamp_ns if is_stamped else None),
                      stamp_ns + delay_ns))  # fmt: skip
    return timed


def warnings_of(ingest, timed):
    texts = []
    for packet, arrival_ns in timed:
        ingest.push(packet, arrival_ns)
        texts += ingest.take_warnings()
    return texts + ingest.take_warnings(is_end=True)


@pytest.mark.parametrize('is_stamped', [True, False])
@pytest.mark.parametrize('is_counted', [True, False])
@pytest.mark.parametrize('factor', [1 / 3, 1.5, 2, 3, 6])
def test_a_wrong_rate_is_the_only_thing_that_is_said_of_a_stream(
    audio, factor, is_stamped, is_counted
):
    timed = stream(audio, factor, is_stamped=is_stamped, is_counted=is_counted)

    texts = warnings_of(audio.ingest(window_s=4.0), timed)

    assert texts == ['user audio: ' + describe('user', factor, 16_000, 1)]


@pytest.mark.parametrize('chunk_ms', [10, 100, 500, 1000])
@pytest.mark.parametrize('factor', [1 / 3, 2])
def test_messages_of_any_length_show_a_wrong_rate(audio, factor, chunk_ms):
    (text,) = warnings_of(audio.ingest(), stream(audio, factor, chunk_ms, 15))

    figure = '2.0' if factor == 2 else '0.33'
    assert f'samples come {figure} times as fast as the stated 16000 Hz, 1 channel' in text


def test_a_wrong_rate_is_named_with_what_it_may_be():
    text = describe('user', 2, 16_000, 1)
    assert text.startswith(
        'samples come 2.0 times as fast as the stated 16000 Hz, 1 channel: its format is stated '
        'wrongly (2 channels, or 32000 Hz); '
    )
    assert text.endswith('user_audio_format (evaluate: --user-format)')
    assert '(16000 Hz)' in describe('user', 1 / 3, 48_000, 1)
    assert 'one byte of each sample, or states a wrong' in describe('user', 1 / 2, 48_000, 2)


@pytest.mark.parametrize('is_stamped', [True, False])
@pytest.mark.parametrize('factor', [1 / 3, 2, 3])
def test_a_stream_of_a_wrong_rate_is_heard_as_fast_as_it_comes_once_that_is_known(
    audio, factor, is_stamped
):
    ingest = audio.ingest(window_s=4.0)
    timed = stream(audio, factor, seconds=14, is_stamped=is_stamped)

    warnings_of(ingest, timed)
    lost_before = ingest.counters['lost_samples']
    last_s = 4  # of 14
    _, is_present = ingest.track.read(ingest.track.end - last_s * 16_000, last_s * 16_000)

    assert ingest.counters['refused'] == 0 and lost_before < 16_000 * 5
    assert is_present.mean() > 0.99
    assert abs(ingest.track.end * 62_500 - (BEGIN_NS + 14_000 * MS)) < 250 * MS


@pytest.mark.parametrize('is_stamped', [True, False])
def test_a_driver_that_sends_one_byte_of_each_sample_is_refused(audio, is_stamped):
    ingest, texts = audio.ingest(), []

    for packet, arrival_ns in stream(audio, 1 / 2, is_stamped=is_stamped, is_counted=False):
        try:
            ingest.push(packet, arrival_ns)
        except ValueError as error:
            texts.append(str(error))

    assert len(texts) == ingest.counters['refused'] > 300
    assert 'let it publish all bytes of each sample' in texts[0]


def test_a_driver_that_was_corrected_is_heard_at_its_stated_rate(audio):
    ingest = audio.ingest()
    wrong, right = stream(audio, 2, seconds=6), stream(audio, 1, seconds=40)
    shift_ns = 6_000 * MS
    right = [(audio.change(p, stamp_ns=p.stamp_ns + shift_ns), a + shift_ns) for p, a in right]

    warnings_of(ingest, wrong)
    assert ingest.stated_rate.factor == 2
    texts = warnings_of(ingest, right)

    assert ingest.stated_rate.factor == 1
    assert texts == [
        'user audio: samples come as fast as the stated 16000 Hz now, and are heard so'
    ]


def test_stamps_that_a_driver_computes_from_a_wrong_rate_do_not_hide_it(audio):
    timed = [
        (audio.change(packet, stamp_ns=BEGIN_NS + i * 40 * MS), arrival_ns)
        for i, (packet, arrival_ns) in enumerate(stream(audio, 2, seconds=15))
    ]

    texts = warnings_of(audio.ingest(window_s=30.0), timed)

    assert any('samples come 2.0 times as fast' in text for text in texts)


def _paused(timed):
    return [item for i, item in enumerate(timed) if i // 40 % 2]


def _in_bursts(timed):
    return [
        (p, timed[min(i // 50 * 50 + 49, len(timed) - 1)][1]) for i, (p, _) in enumerate(timed)
    ]


def _reordered(timed):
    """Groups of five are delivered backwards."""
    groups = [timed[i : i + 5][::-1] for i in range(0, len(timed), 5)]
    return [(p, max(a for _, a in group)) for group in groups for p, _ in group]


def _stalled(timed):
    """Nothing arrives for 3 s, then all of it at twice the speed."""
    begin, end = timed[100][1], timed[250][1]
    return [(p, end + (a - end) // 2 if begin < a < end else a) for p, a in timed]


def _drifting(timed):
    return [(p, a + (a - BEGIN_NS) // 1000) for p, a in timed]


def _simulated(timed):
    return [(p, (a - BEGIN_NS) // 2 + 1_000_000_000) for p, a in timed]


def _with_another(timed):
    both = timed + [(p, a + 9 * MS) for p, a in timed]
    return sorted(both, key=lambda item: item[1])


# two publishers without stamps and counts are, to all that is known, one of twice the rate
@pytest.mark.parametrize(
    ('change', 'is_stamped'),
    [
        *itertools.product(
            [_paused, _in_bursts, _reordered, _stalled, _drifting, _simulated], [True, False]
        ),
        (_with_another, True),
    ],
)
def test_a_stream_of_the_right_rate_is_never_taken_for_a_wrong_one(audio, change, is_stamped):
    watch = StatedRate('user')
    timed = change(stream(audio, 1, is_stamped=is_stamped, is_counted=False, seconds=20))
    if change is _simulated:
        timed = [(audio.change(p, stamp_ns=a if is_stamped else None), a) for p, a in timed]

    assert [watch.add(packet, arrival_ns) for packet, arrival_ns in timed] == ([None] * len(timed))


@pytest.mark.parametrize('share', [0.5, 1 / 3])
@pytest.mark.parametrize('chunk_ms', [10, 100])
def test_random_loss_is_not_taken_for_a_slow_rate(audio, share, chunk_ms):
    for seed in range(3):
        rng, watch = np.random.default_rng(seed), StatedRate('user')
        timed = stream(audio, 1, chunk_ms, 30, is_counted=False)
        assert not any(watch.add(p, a) for p, a in timed if rng.random() < share)


@pytest.mark.parametrize('change', [_reordered, _in_bursts, _drifting])
def test_a_count_whose_messages_come_out_of_order_is_of_the_right_rate(audio, change):
    watch, last_count = StatedRate('user'), None

    for packet, arrival_ns in change(stream(audio, 1, seconds=20)):
        assert watch.add(packet, arrival_ns, last_count) is None
        last_count = packet.first_sample


def test_loss_that_the_count_shows_is_no_wrong_rate(audio):
    watch = StatedRate('user')

    assert not any(watch.add(p, a) for p, a in stream(audio, 1, seconds=15)[::2])


def test_an_agent_may_be_sent_faster_than_it_sounds_but_not_stamped_so(audio):
    timed = stream(audio, 2)
    ahead = [(audio.change(p, stamp_ns=BEGIN_NS + i * 40 * MS), a)
             for i, (p, a) in enumerate(timed)]  # fmt: skip

    assert not any(StatedRate('agent').add(p, a) for p, a in ahead)
    watch = StatedRate('agent')
    assert any(watch.add(p, a) for p, a in timed)


def test_a_sentence_waits_for_the_pace_only_as_long_as_the_pace_is_odd(audio):
    ingest = audio.ingest()
    timed = stream(audio, 1, seconds=2, is_counted=False)
    for packet, arrival_ns in timed[:10] + timed[13:]:
        ingest.push(packet, arrival_ns)

    (text,) = ingest.take_warnings()

    assert 'got a hole of 0.060 s' in text


def test_in_simulated_time_no_sentence_waits(audio):
    ingest = audio.ingest()
    packets = audio.packets(audio.noise(32_000), 320, begin_ns=50_000 * MS, is_counted=False)

    audio.push_all(ingest, packets[:10] + packets[13:60])

    assert any('got a hole of 0.060 s' in text for text in ingest.take_warnings())


@pytest.mark.parametrize('factor', [1, 2])
def test_two_publishers_that_count_and_frozen_stamps_break_nothing(audio, factor):
    watch, last_count = StatedRate('user'), None
    one = stream(audio, factor, seconds=10)
    two = [(audio.change(p, first_sample=p.first_sample + 3_000), a + 7 * MS) for p, a in one]
    frozen = [(audio.change(p, stamp_ns=BEGIN_NS), a + 20_000 * MS) for p, a in one]

    for packet, arrival_ns in sorted(one + two, key=lambda item: item[1]) + frozen:
        watch.add(packet, arrival_ns, last_count)
        last_count = packet.first_sample
    assert watch.factor in (1, factor)
