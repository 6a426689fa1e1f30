# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The speaker node against hostile and broken utterances: the next one is spoken in full."""

import array
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_srvs.srv import Trigger

from timar_ros.msg import AudioChunk
from timar_ros.nodes.convert import audio_chunk
from timar_ros.nodes.speaker import SpeakerNode
from timar_ros.stream.audio import packet_from_fields

pytestmark = pytest.mark.graph

RATE_HZ = 48000


class Tts:
    """Sends messages to a speaker that plays nothing, and listens to what it announces."""

    def __init__(self, graph, reliability=ReliabilityPolicy.RELIABLE, **params):
        self.graph = graph
        self.announced, self.statuses = [], []
        node = graph.node('tts')
        qos = QoSProfile(depth=10_000, reliability=reliability)
        self._pub = node.create_publisher(AudioChunk, 'speaker/utterance', qos)
        node.create_subscription(
            AudioChunk,
            'agent/audio',
            lambda msg: self.announced.append(packet_from_fields(msg)),
            QoSProfile(depth=1000),
        )
        node.create_subscription(
            DiagnosticArray, '/diagnostics', lambda msg: self.statuses.append(msg.status[0]), 10
        )
        params = {'playback': False, 'agent_lead_ms': 100, 'slack_ms': 5000, **params}
        overrides = [Parameter(name, value=value) for name, value in params.items()]
        self.speaker = graph.add(SpeakerNode(context=graph.context, parameter_overrides=overrides))
        self.client = graph.find_service(node, Trigger, 'speaker/stop')
        assert graph.spin_until(
            lambda: self._pub.get_subscription_count() and node.count_publishers('agent/audio')
        )

    def send(self, msg):
        self._pub.publish(msg)

    def say(self, samples, rate_hz=RATE_HZ, n=4800, encoding='pcm_s16le'):
        for i in range(0, len(samples), n):
            options = {'stamp_ns': 0, 'first_sample': i, 'encoding': encoding}
            self.send(audio_chunk(samples[i : i + n], rate_hz, **options))

    def said(self):
        """Announced samples, in order."""
        return np.concatenate(
            [np.zeros(0, np.float32), *(p.samples[:, 0] for p in self.announced)]
        )

    def await_counter(self, name, value):
        assert self.graph.spin_until(lambda: self.speaker.counters[name] >= value), (
            f'{name} is {self.speaker.counters[name]}, expected {value}'
        )

    def assert_speaks(self):
        """Say a new utterance and compare what is announced of it, sample for sample."""
        voice = np.random.default_rng(1).uniform(-0.3, 0.3, 9600).astype(np.float32)
        self.announced.clear()
        self.say(voice)
        for _ in range(200):
            self.graph.spin_for(0.02)
            said = self.said()[-len(voice) :]
            if len(said) == len(voice) and np.allclose(said, voice, atol=1 / 32767):
                return
        raise AssertionError('the next utterance is not spoken in full')


def chunk(data=b'', rate_hz=RATE_HZ, channels=1, encoding='pcm_s16le', first=0):
    return AudioChunk(
        data=array.array('B', data),
        sample_rate=rate_hz,
        channels=channels,
        encoding=encoding,
        first_sample=first,
    )


def f32(*values):
    return np.array(values, '<f4').tobytes()


def test_chunks_that_end_in_mid_sample_are_joined_and_counted(graph):
    tts = Tts(graph, sample_rate_hz=24000)
    voice = np.random.default_rng(0).integers(-9000, 9000, 24000).astype('<i2')
    data, rng, at = voice.tobytes(), np.random.default_rng(1), 0
    while at < len(data):
        n = int(rng.integers(2000, 9000))
        tts.send(chunk(data[at : at + n], 24000, first=at // 2))
        at += n

    tts.await_counter('samples', len(voice))
    assert graph.spin_until(lambda: len(tts.said()) >= len(voice))

    np.testing.assert_array_equal(tts.said(), voice.astype(np.float32) / 32768)
    assert tts.speaker.counters['cut_messages'] > 1
    assert tts.speaker.counters['lost_half_samples'] == 0


HOSTILE = {
    'empty': chunk(),
    'empty and not filled in': AudioChunk(),
    'half a sample': chunk(b'\x01'),
    'rate 0': chunk(bytes(200), rate_hz=0),
    'rate 10^8+7': chunk(bytes(200), rate_hz=10**8 + 7),
    'rate 2^32-1': chunk(bytes(200), rate_hz=2**32 - 1),
    'no channels': chunk(bytes(200), channels=0),
    '255 channels': chunk(bytes(510), channels=255),
    'no such encoding': chunk(bytes(200), encoding='mp3'),
    'a megabyte of encoding': chunk(bytes(200), encoding='x' * 1_000_000),
    'NaN': chunk(f32(0, np.nan), encoding='pcm_f32le'),
    '3e38 in stereo': chunk(f32(*[3e38] * 960), channels=2, encoding='pcm_f32le'),
    '3e38 at 44.1 kHz': chunk(f32(*[3e38, -3e38] * 441), 44100, encoding='pcm_f32le'),
    'a count at its end': chunk(bytes(200), first=2**64 - 1),
}


def test_after_any_hostile_message_the_next_utterance_is_spoken_in_full(graph):
    tts = Tts(graph)
    for name, msg in HOSTILE.items():
        for n in (1, 3):
            for _ in range(n):
                tts.send(msg)
            try:
                tts.assert_speaks()
            except AssertionError as error:
                raise AssertionError(f'{n} messages of {name}: {error}') from None

    counters = tts.speaker.counters
    assert counters['empty_messages'] == 8
    assert counters['lost_half_samples'] == 2
    assert counters['refused_messages'] == 4 * 8
    assert counters['clipped_samples'] == 4 * (960 + 882)
    assert counters['failures'] == 0


def test_diagnostics_name_what_was_lost(graph):
    tts = Tts(graph)
    voice = np.full(9600, 0.1, np.float32)

    tts.send(audio_chunk(voice, RATE_HZ, stamp_ns=0, first_sample=0))
    tts.send(audio_chunk(voice, RATE_HZ, stamp_ns=0, first_sample=14400))
    tts.send(chunk(bytes(2), encoding='mp3'))

    def problems():
        return ' '.join(status.message for status in tts.statuses)

    assert graph.spin_until(lambda: 'refused' in problems() and 'missing' in problems())
    values = {v.key: v.value for v in tts.statuses[-1].values}
    assert (values['lost_samples'], values['refused_messages']) == ('4800', '1')
    assert graph.spin_until(lambda: tts.statuses[-1].message == 'ok')


def test_a_stop_at_any_moment_leaves_the_next_utterance_whole(graph):
    tts = Tts(graph)
    voice = np.full(96000, 0.1, np.float32)
    for pause_s in (0.0, 0.01, 0.05, 0.2):
        tts.say(voice, n=2400)
        graph.spin_for(pause_s)
        assert graph.call(tts.client).success
        tts.assert_speaks()


def test_a_minute_in_bursts_is_announced_without_a_hole(graph):
    tts = Tts(graph, sample_rate_hz=16000)
    minute = np.random.default_rng(0).integers(-9000, 9000, 60 * 16000).astype('<i2')

    tts.send(chunk(minute.tobytes(), 16000))
    for i in range(0, len(minute), 320):
        tts.send(chunk(minute[i : i + 320].tobytes(), 16000, first=len(minute) + i))
    schedule = tts.speaker._schedule
    assert graph.spin_until(
        lambda: schedule.counters['samples'] + schedule._queue.n_left == 2 * len(minute)
    ), 'messages are lost'
    assert graph.spin_until(lambda: len(tts.said()) >= 5 * 16000)

    said = tts.said()
    np.testing.assert_array_equal(said, minute[: len(said)].astype(np.float32) / 32768)
    assert tts.speaker.counters['refused_messages'] == 0
    assert tts.speaker.counters['lost_samples'] == 0


def test_a_best_effort_sender_is_heard(graph):
    tts = Tts(graph, reliability=ReliabilityPolicy.BEST_EFFORT)
    deadline = time.monotonic() + 10
    while not tts.announced and time.monotonic() < deadline:
        tts.send(audio_chunk(np.full(480, 0.1), RATE_HZ, stamp_ns=0, first_sample=0))
        graph.spin_for(0.1)

    assert tts.announced, 'it is not heard'


def test_announcing_that_fails_is_counted_and_the_next_utterance_spoken(graph, monkeypatch):
    tts = Tts(graph)

    def fail(now_ns):
        raise MemoryError('no room')

    with monkeypatch.context() as patch:
        patch.setattr(tts.speaker._schedule, 'announce', fail)
        tts.say(np.full(4800, 0.1, np.float32))
        tts.await_counter('failures', 1)

    tts.assert_speaks()
