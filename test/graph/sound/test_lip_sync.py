# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
From a TTS to sound and mouth: the speaker plays into a real sound server, the shipped model moves.

Both are timed by what came out: the sound as the server's monitor recorded it, the mouth as its
frames were stamped, and arrived.
"""

import os
import pathlib
import time

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile

from timar_ros.msg import AudioChunk, HeadMotion
from timar_ros.nodes.conversation import ConversationNode
from timar_ros.nodes.convert import audio_chunk, stamp_to_ns
from timar_ros.nodes.speaker import SpeakerNode
from timar_ros.stream.lips import lip_sync
from timar_ros.stream.wav import read_wav

pytestmark = pytest.mark.graph

# `TIMAR_LIP_SYNC_S=60` in the environment for a longer run.
DURATION_S = float(os.environ.get('TIMAR_LIP_SYNC_S', 24))
_FPS = 25
_DEMO = pathlib.Path(__file__).parents[3] / 'config' / 'demo'
# Windows in which mouth and sound are compared.
_WINDOW_S, _HOP_S = 8.0, 1.0


def speech_of(duration_s: float) -> tuple[np.ndarray, int]:
    """Return the demo's agent, without its long pauses, for so long."""
    samples, rate_hz = read_wav(_DEMO / 'agent.wav')
    samples = samples[:, 0]
    frame = rate_hz // 10
    pieces = samples[: len(samples) // frame * frame].reshape(-1, frame)
    is_loud = np.sqrt((pieces**2).mean(1)) > 0.01
    near = np.convolve(is_loud, np.ones(7), 'same') > 0
    speech = pieces[near].reshape(-1)
    return np.resize(speech, round(duration_s * rate_hz)), rate_hz


def test_the_mouth_moves_with_the_sound_that_is_played(sound_server, graph, record_property):
    frames = {}
    listener = graph.node('listener')

    def on_motion(msg):
        frames[stamp_to_ns(msg.header.stamp)] = (time.time_ns(), msg.jaw_open)

    listener.create_subscription(HeadMotion, 'agent/motion', on_motion, QoSProfile(depth=500))
    pub = listener.create_publisher(AudioChunk, 'speaker/utterance', QoSProfile(depth=1000))
    overrides = [Parameter('device', value='robot'), Parameter('retry_s', value=0.2)]
    speaker = graph.add(SpeakerNode(context=graph.context, parameter_overrides=overrides))
    conversation = graph.add(ConversationNode(context=graph.context))
    assert graph.spin_until(
        lambda: conversation.is_active and pub.get_subscription_count() == 1, 30.0
    )
    graph.spin_for(1.0)  # the device's clock settles
    recording = sound_server.record()

    voice, rate_hz = speech_of(DURATION_S)
    for i in range(0, len(voice), rate_hz):
        pub.publish(audio_chunk(voice[i : i + rate_hz], rate_hz, stamp_ns=0, first_sample=i))
    graph.spin_for(DURATION_S + 2.0)
    sound, begin_ns = recording.stop()

    stamps = np.array(sorted(frames))
    jaw = np.array([frames[ns][1] for ns in stamps])
    lateness_ms = np.array([frames[ns][0] - ns for ns in stamps]) / 1e6
    grid_ns = np.arange(stamps[0], stamps[-1], 10**9 // _FPS)
    jaw = np.interp(grid_ns, stamps, jaw)
    sound = sound[round((grid_ns[0] - begin_ns) * recording.rate_hz / 1e9) :]
    found = []
    for start_s in np.arange(1.0, DURATION_S - _WINDOW_S, _HOP_S):
        of_jaw = slice(round(start_s * _FPS), round((start_s + _WINDOW_S) * _FPS))
        of_sound = slice(*(round(s * recording.rate_hz) for s in (start_s, start_s + _WINDOW_S)))
        found.append(lip_sync(jaw[of_jaw], sound[of_sound], recording.rate_hz, _FPS))
    lag_ms = np.array([lag.lag_s for lag in found]) * 1000

    told = {
        'mouth late p5, p50, p95 ms': np.round(np.percentile(lag_ms, [5, 50, 95])),
        'correlation': np.median([lag.correlation for lag in found]).round(2),
        'frames arrive p95 ms': np.percentile(lateness_ms, 95).round(1),
    }
    record_property('lip_sync', str(told))
    # EBU R37: the sound at most 40 ms before and 60 ms after the picture.
    assert np.percentile(lag_ms, 95, method='lower') <= 40, told
    assert np.percentile(lag_ms, 5, method='higher') >= -60, told
    assert speaker.counters['underruns'] == 0
