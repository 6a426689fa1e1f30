# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The speaker's schedule against a plain reference, on thousands of random deliveries.

The reference keeps every sample in lists and dictionaries and does everything again each time. It
is written from docs/audio.md and the docstrings, and shares the resampler with the schedule, no
more.
"""

import math

import numpy as np
import pytest

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.playback import PlaybackSchedule
from timar_ros.stream.resample import Resampler

RATE_HZ = 4000
LEAD_MS, JITTER_MS, SLACK_MS, CHUNK_MS = 400, 50, 500, 100
MS = RATE_HZ // 1000  # samples
QUEUE_S = 3
BEGIN_MS, SPAN_MS = 100_000, 200_000  # tests begin there, and none leaves the span
N_SEQUENCES = 600


class PlainUtterance:
    def __init__(self, rate_hz, continues):
        self.rate_hz, self.continues = rate_hz, continues
        self.samples = np.zeros(0, np.float32)
        self.n_taken, self.is_over = 0, False
        same = rate_hz == RATE_HZ
        self.resampler = None if same else Resampler(rate_hz, RATE_HZ)
        self.held_back = 0 if same else self.resampler.reach + 2

    def n_ready(self):
        n = len(self.samples) - (0 if self.is_over else self.held_back)
        return max(math.ceil(n * RATE_HZ / self.rate_hz) - self.n_taken, 0)

    def n_left(self):
        return math.ceil(len(self.samples) * RATE_HZ / self.rate_hz) - self.n_taken

    def take(self, n):
        whole = self.samples if self.resampler is None else self.resampler.resample(self.samples)
        taken = whole[self.n_taken :][: min(n, self.n_ready())]
        self.n_taken += len(taken)
        return taken


class PlainSchedule:
    """Time in ms, positions in samples of the output."""

    def __init__(self):
        self.utterances = []
        # Sample that was announced for each position, in the end.
        self.sounds = np.zeros(SPAN_MS * MS, np.float32)
        self.end = 0
        self.expected_first = self.last_first = None
        self.last_push = self.last_announce = 0
        self.is_stopped = False
        self.since_stop = np.zeros(0, np.float32)
        self.since_stop_s = 0
        self.counters = dict.fromkeys(PlaybackSchedule(RATE_HZ).counters, 0)

    def n_left(self):
        return sum(u.n_left() for u in self.utterances)

    def push(self, samples, rate_hz, first, now):
        """Return whether it was refused."""
        if len(samples) == 0:
            return False
        n_out = round(len(samples) * RATE_HZ / rate_hz)
        elapsed = now - self.last_push
        is_unheard = self.end + self.n_left() > now * MS
        hole = 0
        if self.expected_first is None:
            continues = False
        elif first == 0:
            continues = is_unheard and self.last_first == 0
        else:
            hole = first - self.expected_first
            continues = 0 <= hole <= 10 * rate_hz and (elapsed < 1000 or is_unheard)
        self.expected_first, self.last_first = first + len(samples), first
        self.last_push = now
        if self.is_stopped:
            if continues and first and elapsed < 500 and not self.has_fallen_silent():
                self.counters['dropped_samples'] += n_out
                loud = np.flatnonzero(np.abs(samples) > 1e-3)
                self.since_stop_s = (
                    (len(samples) - 1 - loud[-1]) / rate_hz
                    if len(loud)
                    else self.since_stop_s + len(samples) / rate_hz
                )
                return False
            self.is_stopped = continues = False
        if continues:
            self.counters['lost_samples'] += round(hole * RATE_HZ / rate_hz)
        if self.n_left() / RATE_HZ + len(samples) / rate_hz > QUEUE_S:
            self.counters['refused_samples'] += n_out
            return True
        last = self.utterances[-1] if self.utterances else None
        if last is None or last.is_over or not continues or last.rate_hz != rate_hz:
            if last is not None:
                last.is_over = True
            last = PlainUtterance(rate_hz, continues)
            self.utterances.append(last)
        last.samples = np.concatenate([last.samples, samples])
        return False

    def has_fallen_silent(self):
        return self.since_stop_s >= 2

    def announce(self, now):
        if now < self.last_announce - 100:
            self.last_push = min(self.last_push, now)
            if self.end > now * MS:
                self.counters['clock_steps'] += 1
                again = self.sounds[self.last_announce * MS : self.end].copy()
                self.silence(now * MS)
                if len(again):
                    front = PlainUtterance(RATE_HZ, False)
                    front.samples, front.is_over = again, True
                    self.utterances.insert(0, front)
        self.last_announce = now
        while self.utterances:
            head = self.utterances[0]
            if head.n_ready() == 0 and not head.is_over:
                if head.n_taken:
                    is_last_moment = self.end < (now + LEAD_MS + 20) * MS
                else:
                    is_last_moment = now - self.last_push > 20
                if not is_last_moment:
                    return
                head.is_over = True
            if head.n_ready() == 0:
                self.utterances.pop(0)
                continue
            if self.end < (now + LEAD_MS) * MS:
                start = (now + LEAD_MS + JITTER_MS) * MS
                if head.n_taken or head.continues:
                    self.counters['underruns'] += 1
                    self.counters['underrun_samples'] += start - self.end
                self.end = start
            if self.end >= (now + LEAD_MS + JITTER_MS + SLACK_MS) * MS:
                return
            taken = head.take(CHUNK_MS * MS)
            self.sounds[self.end : self.end + len(taken)] = taken
            self.end += len(taken)
            self.counters['samples'] += len(taken)

    def stop(self, now):
        self.counters['dropped_samples'] += self.n_left()
        self.utterances = []
        self.is_stopped, self.since_stop_s = True, 0
        self.silence(now * MS)

    def silence(self, start):
        self.sounds[start : self.end] = 0.0
        self.end = min(self.end, start)


class Pair:
    """Schedule and reference, given the same; what a listener of the schedule has heard."""

    def __init__(self):
        self.schedule = PlaybackSchedule(
            RATE_HZ, LEAD_MS, JITTER_MS, SLACK_MS, CHUNK_MS, max_queue_s=QUEUE_S
        )
        self.plain = PlainSchedule()
        self.heard = np.zeros(SPAN_MS * MS, np.float32)
        self.now = BEGIN_MS

    def push(self, samples, rate_hz, first):
        packet = AudioPacket(None, first, None, rate_hz, samples[:, None])
        is_refused = False
        try:
            self.schedule.push(packet, self.now * 1_000_000)
        except ValueError:
            is_refused = True
        assert is_refused == self.plain.push(samples, rate_hz, first, self.now)
        self.announce()

    def announce(self):
        self.listen(self.schedule.announce(self.now * 1_000_000))
        self.plain.announce(self.now)

    def stop(self):
        withdrawn = self.schedule.stop(self.now * 1_000_000)
        self.listen(withdrawn)
        self.plain.stop(self.now)

    def listen(self, packets):
        for p in packets:
            assert p.stamp_ns == round(p.first_sample * 1e9 / RATE_HZ)
            self.heard[p.first_sample :][: len(p.samples)] = p.samples[:, 0]

    def wait(self, duration_ms):
        for _ in range(0, duration_ms, 20):
            self.now += 20
            self.announce()

    def set_clock_back(self, step_ms):
        # What sounded before is over, whatever time the clock shows; less than 100 ms are no step.
        over = self.plain.last_announce * MS if step_ms > 100 else 0
        for sounds in (self.heard, self.plain.sounds):
            sounds[:over] = 0.0
        self.now -= step_ms
        self.announce()

    def compare(self):
        counters = {**self.schedule.counters}
        # Counted where they were published, silence of pauses included: not what is compared.
        counters.pop('withdrawn_samples')
        expected = {**self.plain.counters}
        expected.pop('withdrawn_samples')
        assert counters == expected
        used = np.flatnonzero((self.heard != 0) | (self.plain.sounds != 0))
        np.testing.assert_allclose(self.heard[used], self.plain.sounds[used], rtol=0, atol=1e-6)


class Sender:
    """A TTS that does everything wrong at times."""

    def __init__(self, rng):
        self.rng = rng
        self.is_counting = rng.random() < 0.75
        self.rates_hz = [RATE_HZ] if rng.random() < 0.5 else [RATE_HZ, 8000, 11025]
        self.rate_hz = rng.choice(self.rates_hz)
        self.first = 0

    def chunk(self):
        """Return samples, rate and count of the next message."""
        rng, kind = self.rng, self.rng.random()
        if kind < 0.15:
            self.first = 0
        elif kind < 0.2:
            self.first += int(rng.integers(1, 400_000))  # jumps
        elif kind < 0.3:
            self.first += int(rng.integers(1, 5000))  # a message was lost
        elif kind < 0.33:
            self.first = int(rng.integers(0, self.first + 1))
        if rng.random() < 0.1:
            self.rate_hz = rng.choice(self.rates_hz)
        n = int(rng.choice([0, 1, 7, 60, 800, 4000, 12000], p=[0.1, 0.1, 0.1, 0.1, 0.3, 0.2, 0.1]))
        samples = rng.uniform(-1, 1, n).astype(np.float32)
        if rng.random() < 0.2:
            samples[:] = 0.0
        first, self.first = self.first, self.first + n
        return samples, int(self.rate_hz), first if self.is_counting else 0


def play(seed: int) -> Pair:
    """Deliver, wait, stop and set the clock at random."""
    rng = np.random.default_rng(seed)
    pair, sender = Pair(), Sender(rng)
    for _ in range(int(rng.integers(3, 25))):
        pair.now += int(rng.choice([0, 5, 10, 30, 100, 450, 600, 1500]))
        kind = rng.random()
        if kind < 0.7:
            pair.push(*sender.chunk())
        elif kind < 0.8:
            pair.stop()
        elif kind < 0.84:
            pair.set_clock_back(int(rng.choice([50, 150, 900, 5000, 20_000])))
        else:
            pair.announce()
    return pair


@pytest.mark.parametrize('block', range(5))
def test_the_schedule_does_what_the_plain_reference_does(block):
    n = N_SEQUENCES // 5
    for seed in range(block * n, (block + 1) * n):
        pair = play(seed)
        pair.wait(1500)
        try:
            pair.compare()
        except AssertionError as error:
            raise AssertionError(f'seed {seed}: {error}') from None


@pytest.mark.parametrize('pause_ms', [0, 4000])
def test_whatever_came_before_the_next_utterance_is_spoken_in_full(pause_ms):
    for seed in range(300):
        pair = play(10_000 + seed)
        pair.wait(pause_ms)
        voice = np.random.default_rng(seed).uniform(-1, 1, 2400).astype(np.float32)
        is_counting = pair.plain.last_first != 0
        before_ms = max(pair.plain.end / MS - pair.now, 0) + 1000 * pair.plain.n_left() / RATE_HZ

        if pair.plain.n_left() / RATE_HZ > QUEUE_S - 1:
            continue
        pair.push(np.zeros(0, np.float32), RATE_HZ, 0)
        for i in range(0, len(voice), 800):
            pair.push(voice[i:][:800], RATE_HZ, i if is_counting or pause_ms else 0)
        pair.wait(round(before_ms) + 1000)

        starts = np.flatnonzero(pair.heard == voice[0])
        found = [s for s in starts if np.array_equal(pair.heard[s:][: len(voice)], voice)]
        assert len(found) == 1, f'seed {seed}: it is not announced as it was said'
