# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the conversation node that need no graph: its worker, its frames, its health."""

import pathlib
import threading

import numpy as np
import pytest
from scipy.io import wavfile

from timar_ros.bounds import MAX_PLAN_FRAMES
from timar_ros.nodes.clockwatch import ClockWatch
from timar_ros.nodes.health import Health, percentiles
from timar_ros.nodes.hearing import message_class
from timar_ros.nodes.playout import FrameQueue
from timar_ros.nodes.speaking import Speaking
from timar_ros.nodes.worker import Worker
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.vad import SpeechDetector

FRAME_NS = 40_000_000
DEMO = pathlib.Path(__file__).parents[2] / 'config' / 'demo'


@pytest.fixture
def make_worker():
    """Return the maker of workers that are stopped after the test, and what they reported."""
    workers = []

    def make():
        refused, faults = [], []
        workers.append(Worker(refused.append, faults.append))
        return workers[-1], refused, faults

    yield make
    for worker in workers:
        worker.stop()


def test_jobs_are_done_in_order_in_one_thread(make_worker):
    worker, _, _ = make_worker()
    done, is_over = [], threading.Event()

    for i in range(100):
        worker.do(lambda i=i: done.append((i, threading.get_ident())))
    worker.do(is_over.set)

    assert is_over.wait(5)
    assert [i for i, _ in done] == list(range(100))
    assert len({thread for _, thread in done} | {threading.get_ident()}) == 2


def test_a_job_that_fails_is_told_and_the_next_one_done(make_worker):
    worker, refused, faults = make_worker()
    is_over = threading.Event()

    def refuse():
        raise ValueError('expected sound, got noise')

    worker.do(refuse)
    worker.do(lambda: 1 / 0)
    worker.do(is_over.set)

    assert is_over.wait(5)
    assert refused == ['expected sound, got noise']
    assert [trace.splitlines()[-1] for trace in faults] == ['ZeroDivisionError: division by zero']


def test_what_waits_is_bounded_in_bytes_and_orders_always_get_through(make_worker):
    worker, _, _ = make_worker()
    may_go_on, is_over = threading.Event(), threading.Event()
    worker.do(lambda: may_go_on.wait(5))

    accepted = [worker.do(lambda: None, n_bytes=1_000_000) for _ in range(20)]
    ordered = worker.do(is_over.set)
    may_go_on.set()

    assert (sum(accepted), worker.n_overflowed) == (15, 5)
    assert ordered
    assert is_over.wait(5)
    assert worker.do(lambda: None, n_bytes=1_000_000)


def test_stopping_drops_what_waits_and_joins():
    worker = Worker(print, print)
    done, may_go_on = [], threading.Event()
    worker.do(lambda: may_go_on.wait(5))
    for i in range(3):
        worker.do(lambda i=i: done.append(i))

    threading.Timer(0.1, may_go_on.set).start()
    worker.stop()

    assert done == []
    assert 'conversation' not in [thread.name for thread in threading.enumerate()]


def plan(first: int, n: int, tag: str):
    return [(FRAME_NS * i, f'{tag}{i}') for i in range(first, first + n)]


def test_the_message_in_hand_counts_as_one_that_waits():
    is_begun, may_end = threading.Event(), threading.Event()
    worker = Worker(print, print)

    def wait():
        is_begun.set()
        may_end.wait(20)

    try:
        assert worker.do(wait, n_bytes=10_000_000)
        assert is_begun.wait(20)
        second = worker.do(lambda: None, n_bytes=10_000_000)
        small = worker.do(lambda: None, n_bytes=1)
    finally:
        may_end.set()
    is_done = threading.Event()
    worker.do(is_done.set)
    assert is_done.wait(20)
    third = worker.do(lambda: None, n_bytes=10_000_000)
    worker.stop()

    assert (second, small, third) == (False, True, True)
    assert worker.n_overflowed == 1


def test_a_worker_does_not_keep_a_process_alive():
    worker = Worker(print, print)

    assert worker._thread.daemon
    worker.stop()


def test_a_newer_plan_replaces_frames_from_its_first_stamp_on():
    frames = FrameQueue()

    frames.replace(plan(0, 5, 'a'))
    frames.replace(plan(3, 2, 'b'))

    assert frames.due(FRAME_NS * 10) == ['a0', 'a1', 'a2', 'b3', 'b4']


def test_frames_are_due_once_and_at_their_time():
    frames = FrameQueue()
    frames.replace(plan(0, 4, 'a'))

    shown = [frames.due(FRAME_NS * i) for i in range(3)]
    frames.replace(plan(1, 4, 'b'))

    assert shown == [['a0'], ['a1'], ['a2']]
    assert frames.next_ns(-1) == 3 * FRAME_NS
    assert frames.due(FRAME_NS * 9) == ['b3', 'b4']
    assert frames.next_ns(-1) == -1


def test_frames_far_ahead_fill_no_memory_and_those_due_first_are_kept():
    frames = FrameQueue()
    for plan in range(40):
        frames.replace([(10**9 * plan + n, (plan, n)) for n in range(2000)])

    assert len(frames) == MAX_PLAN_FRAMES
    due = frames.due(10**18)
    assert due == [(0, n) for n in range(2000)] + [(1, n) for n in range(1000)]
    frames.replace([(2 * 10**18, 'good')])
    assert frames.due(3 * 10**18) == ['good']


def test_a_plan_of_now_replaces_a_queue_that_is_full_of_frames_far_ahead():
    frames = FrameQueue()
    frames.replace([(10**18 + n, 'far') for n in range(10_000)])
    frames.replace([(n, 'near') for n in range(3)])

    assert frames.due(2 * 10**18) == ['near'] * 3


@pytest.mark.parametrize(
    ('step_ms', 'is_set'),
    [(0, False), (-40, False), (400, False), (-60, True), (600, True), (-5_000, True)],
)
def test_a_clock_that_was_set_is_told_from_one_that_runs(step_ms, is_set):
    steady_ns = 0
    watch = ClockWatch(7 * 10**9, lambda: steady_ns)

    steady_ns = 100_000_000
    step_ns = watch.look(7 * 10**9 + steady_ns + step_ms * 1_000_000)
    steady_ns = 200_000_000
    again_ns = watch.look(7 * 10**9 + steady_ns + step_ms * 1_000_000)

    assert step_ns == (step_ms * 1_000_000 if is_set else 0)
    assert again_ns == 0


def look(health, counters, at_s):
    return health.look(counters, {'pending_jobs': 3}, ('plans',), at_s)


def test_health_warns_while_a_trouble_grows_and_only_then():
    health = Health()

    first, _ = look(health, {'plans': 10, 'late_plans': 0}, 1.0)
    second, _ = look(health, {'plans': 14, 'late_plans': 2}, 2.0)
    third, values = look(health, {'plans': 20, 'late_plans': 2}, 3.0)

    assert [first, second, third] == ['', 'plans come too late to be shown (2 more)', '']
    assert (values['plans_hz'], values['late_plans'], values['pending_jobs']) == (6.0, 2, 3)


def test_percentiles_of_nothing_are_left_out():
    assert percentiles([], 'latency') == {}
    assert percentiles([1.0, 2.0, 3.0], 'latency')['latency_p50_ms'] == 2.0


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('AudioChunk', 'must look like'),
        ('timar_ros/msg/AudioChink', 'cannot be imported here'),
        ('no_such_msgs/msg/Audio', 'install or source the workspace of no_such_msgs'),
    ],
)
def test_message_types_that_cannot_be_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        message_class(name)


def test_the_level_is_that_of_the_last_200_ms_by_stamps():
    speaking = Speaking('user', None)
    tone = np.tile(np.float32([[0.1], [-0.1]]), (8000, 1))  # -20 dB of full scale
    speaking.push(AudioPacket(10**9, 0, None, 16000, tone), 2 * 10**9)

    states = [speaking.at(round(s * 1e9)) for s in (0.9, 1.5, 2.1, 2.5)]

    np.testing.assert_allclose([s.level_db for s in states], [-120, -20, -20, -120], atol=0.01)
    assert [s.is_speaking for s in states] == [False, True, True, False]


def test_a_constant_offset_of_a_microphone_is_silence():
    speaking = Speaking('user', None)
    offset = np.full((16000, 1), 0.03, np.float32)
    speaking.push(AudioPacket(10**9, 0, None, 16000, offset), 2 * 10**9)

    state = speaking.at(2 * 10**9)

    assert state.level_db < -100
    assert not state.is_speaking


def test_speech_is_told_from_noise_and_silence_as_it_comes():
    rate_hz, voice = wavfile.read(DEMO / 'user.wav')
    voice = voice[4 * rate_hz : 10 * rate_hz, None] / np.float32(32768)  # speaks from 0.6 to 4.9 s
    noise = 0.05 * np.random.default_rng(0).standard_normal(voice.shape).astype(np.float32)
    speaking = {name: Speaking('user', SpeechDetector()) for name in ('voice', 'noise')}

    told = {name: [] for name in speaking}
    for i in range(59):  # a tenth of a second at a time, as it comes
        first, stamp_ns = i * rate_hz // 10, 10**9 + i * 10**8
        for name, samples in (('voice', voice), ('noise', noise)):
            piece = samples[first : first + rate_hz // 10]
            speaking[name].push(AudioPacket(stamp_ns, first, None, rate_hz, piece), stamp_ns)
            told[name].append(speaking[name].at(stamp_ns + 10**8).is_speaking)

    assert not any(told['noise'])
    assert not any(told['voice'][:5])
    assert sum(told['voice'][10:45]) > 28
    assert not any(told['voice'][55:])
