# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The speaker node on a real sound server: what it announces is what sounds, when it says so."""

import time

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from scipy.signal import correlate, fftconvolve
from std_srvs.srv import Trigger

from timar_ros.msg import AudioChunk
from timar_ros.nodes.convert import audio_chunk
from timar_ros.nodes.speaker import SpeakerNode
from timar_ros.stream.audio import packet_from_fields

pytestmark = pytest.mark.graph

RATE_HZ = 48000


class Conversation:
    """A TTS that talks to the speaker node, and a listener to its announcements."""

    def __init__(self, graph, **params):
        self._graph = graph
        self.announced = []
        self.arrived_ns = []
        self._node = graph.node('tts')
        self._pub = self._node.create_publisher(
            AudioChunk, 'speaker/utterance', QoSProfile(depth=1000)
        )
        self._node.create_subscription(
            AudioChunk, 'agent/audio', self._on_announcement, QoSProfile(depth=200)
        )
        self._stop = self._node.create_client(Trigger, 'speaker/stop')
        params = {'device': 'robot', 'retry_s': 0.2, **params}
        overrides = [Parameter(name, value=value) for name, value in params.items()]
        self.speaker = graph.add(SpeakerNode(context=graph.context, parameter_overrides=overrides))
        assert graph.spin_until(
            lambda: (
                self._pub.get_subscription_count()
                and self._node.count_publishers('agent/audio')
                and self._stop.service_is_ready()
            )
        )
        graph.spin_for(1.0)  # the device's clock settles

    def _on_announcement(self, msg):
        self.arrived_ns.append(time.time_ns())
        self.announced.append(packet_from_fields(msg))

    def say(self, samples, rate_hz, first=0, chunk_s=1.0):
        n = round(chunk_s * rate_hz)
        for i in range(0, len(samples), n):
            chunk = audio_chunk(samples[i : i + n], rate_hz, stamp_ns=0, first_sample=first + i)
            self._pub.publish(chunk)

    def stop(self):
        """Call ~/stop; return the time of the call and the answer."""
        asked_ns = time.time_ns()
        future = self._stop.call_async(Trigger.Request())
        assert self._graph.spin_until(future.done)
        return asked_ns, future.result()

    def timeline(self):
        """Compose the announcements; return samples and the stamp of the first, in ns."""
        first = min(p.first_sample for p in self.announced)
        last = max(p.first_sample + len(p.samples) for p in self.announced)
        out = np.zeros(last - first, np.float32)
        for p in self.announced:
            out[p.first_sample - first :][: len(p.samples)] = p.samples[:, 0]
        return out, min(p.stamp_ns for p in self.announced)


def offsets_ms(announced, announced_ns, recorded, recorded_ns, window_s=0.1):
    """How much later than announced each window of the voice sounds."""
    n = round(window_s * RATE_HZ)
    reach = round(0.2 * RATE_HZ)
    offsets = []
    for start in range(0, len(announced) - n, n):
        part = announced[start : start + n]
        if np.sqrt(np.mean(part**2)) < 0.02:
            continue
        expected = round((announced_ns + start * 1e9 / RATE_HZ - recorded_ns) * RATE_HZ / 1e9)
        around = recorded[expected - reach : expected + n + reach]
        energy = fftconvolve(np.float64(around) ** 2, np.ones(n), 'valid')
        likeness = correlate(around, part, 'valid', 'fft') / np.sqrt(energy * (part @ part) + 1e-6)
        best = int(np.argmax(likeness))
        # inf: it did not sound as announced anywhere near
        offsets.append((best - reach) / RATE_HZ * 1e3 if likeness[best] > 0.9 else np.inf)
    return np.array(offsets)


def test_the_voice_sounds_when_it_was_announced_to(sound_server, graph, speech):
    voice, rate_hz = speech
    recording = sound_server.record()
    conversation = Conversation(graph)

    conversation.say(voice, rate_hz)
    graph.spin_for(5.0)
    recorded, recorded_ns = recording.stop()

    offsets = offsets_ms(*conversation.timeline(), recorded, recorded_ns)
    assert len(offsets) > 20
    assert np.percentile(offsets, 5, method='higher') > -40.0, offsets
    assert np.percentile(offsets, 95, method='lower') < 60.0, offsets
    lead_ms = [(p.stamp_ns - p.sent_ns) / 1e6 for p in conversation.announced]
    assert min(lead_ms) >= 400.0
    assert conversation.speaker.counters['underruns'] == 0


def test_a_stop_is_heard_within_50_ms_and_withdrawn(sound_server, graph):
    rng = np.random.default_rng(0)
    hum = rng.uniform(-0.3, 0.3, 6 * RATE_HZ).astype(np.float32)
    recording = sound_server.record()
    conversation = Conversation(graph)
    conversation.say(hum, RATE_HZ)
    graph.spin_for(2.0)

    asked_ns, answer = conversation.stop()
    graph.spin_for(1.5)
    recorded, recorded_ns = recording.stop()

    last_ns = recorded_ns + np.flatnonzero(np.abs(recorded) > 0.01)[-1] * 1e9 / RATE_HZ
    heard_ms = (last_ns - asked_ns) / 1e6
    assert 0.0 < heard_ms < 50.0, f'{heard_ms:.1f} ms were heard after the stop'
    out, out_ns = conversation.timeline()
    told_ns = out_ns + np.flatnonzero(np.abs(out) > 0.01)[-1] * 1e9 / RATE_HZ
    assert abs(told_ns - last_ns) / 1e6 < 50.0
    assert answer.success
    assert 'withdrew' in answer.message


def test_a_speaker_that_is_unplugged_plays_on_time_when_it_is_back(sound_server, graph, speech):
    voice, rate_hz = speech[0][: 2 * speech[1]], speech[1]
    conversation = Conversation(graph)

    sound_server.unplug()
    graph.spin_for(0.5)
    sound_server.plug_in()
    recording = sound_server.record()
    graph.spin_for(1.0)
    conversation.say(voice, rate_hz)
    graph.spin_for(2.7)
    recorded, recorded_ns = recording.stop()

    offsets = offsets_ms(*conversation.timeline(), recorded, recorded_ns)
    assert len(offsets) > 12
    assert np.percentile(np.abs(offsets), 95, method='lower') < 40.0, offsets


def test_without_playback_the_announcements_are_the_same(graph):
    rng = np.random.default_rng(0)
    voice = rng.uniform(-0.3, 0.3, RATE_HZ).astype(np.float32)
    conversation = Conversation(graph, playback=False)

    conversation.say(voice, RATE_HZ, chunk_s=0.1)
    graph.spin_until(lambda: sum(len(p.samples) for p in conversation.announced) >= RATE_HZ)

    out, _ = conversation.timeline()
    np.testing.assert_allclose(out, voice, atol=1 / 32767)
    sent_ns = np.array([p.sent_ns for p in conversation.announced])
    stamps_ns = np.array([p.stamp_ns for p in conversation.announced])
    assert ((stamps_ns - sent_ns) / 1e6).min() >= 400.0
    late_ms = (np.array(conversation.arrived_ns) - sent_ns) / 1e6
    assert np.percentile(late_ms, 95) < 50.0


def test_a_message_that_is_no_audio_is_refused_and_the_next_one_spoken(graph):
    conversation = Conversation(graph, playback=False)
    bad = audio_chunk(np.zeros(100), RATE_HZ, stamp_ns=0, first_sample=0)
    bad.encoding = 'mp3'

    conversation._pub.publish(bad)
    conversation.say(np.full(4800, 0.25, np.float32), RATE_HZ)
    assert graph.spin_until(lambda: conversation.announced)

    assert conversation.speaker.counters['refused_messages'] == 1
    np.testing.assert_allclose(conversation.timeline()[0], 0.25, atol=1e-4)
