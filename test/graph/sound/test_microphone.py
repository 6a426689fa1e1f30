# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The microphone node on the monitor of a real sound server that plays speech."""

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile
from scipy.signal import correlate, fftconvolve

from timar_ros.msg import AudioChunk
from timar_ros.nodes.devices import find_device, list_devices
from timar_ros.nodes.microphone import MicrophoneNode, main
from timar_ros.stream.audio import packet_from_fields
from timar_ros.stream.resample import Resampler

pytestmark = pytest.mark.graph


def start_microphone(graph, **params):
    """Start a microphone on the sink's monitor; return the list its packets will come in."""
    # A long buffer loses nothing where the tests' machine is busy.
    params = {'device': 'ear', 'retry_s': 0.2, 'latency_ms': 240, **params}
    chunks = []
    listener = graph.node('listener')
    listener.create_subscription(
        AudioChunk,
        'user/audio',
        lambda msg: chunks.append(packet_from_fields(msg)),
        QoSProfile(depth=100),
    )
    overrides = [Parameter(name, value=value) for name, value in params.items()]
    node = graph.add(MicrophoneNode(context=graph.context, parameter_overrides=overrides))
    assert graph.spin_until(lambda: len(chunks) > 50), 'the microphone publishes nothing'
    return node, chunks


def lag_and_likeness(long: np.ndarray, part: np.ndarray) -> tuple[int, float]:
    """Where `part` lies in `long`, and the normalised cross-correlation there."""
    energy = fftconvolve(np.float64(long) ** 2, np.ones(len(part)), 'valid')
    likeness = correlate(long, part, 'valid', 'fft') / np.sqrt(energy * (part @ part) + 1e-6)
    lag = int(np.argmax(likeness))
    return lag, float(likeness[lag])


def test_speech_that_is_played_arrives_sample_for_sample_with_the_time_it_sounded(
    sound_server, graph, speech
):
    voice, rate_hz = speech
    recording = sound_server.record()
    _, chunks = start_microphone(graph)

    chunks.clear()
    sound_server.play(voice, rate_hz)
    graph.spin_for(4.0)
    recorded, recorded_ns = recording.stop()

    assert {chunk.sample_rate_hz for chunk in chunks} == {16000}
    n_samples = np.array([len(chunk.samples) for chunk in chunks])
    stamps_ns = np.array([chunk.stamp_ns for chunk in chunks])
    firsts = np.array([chunk.first_sample for chunk in chunks])
    np.testing.assert_array_equal(n_samples, 160)
    np.testing.assert_array_equal(np.diff(firsts), 160)
    np.testing.assert_allclose(np.diff(stamps_ns), 10_000_000, atol=20_000)

    captured = np.concatenate([chunk.samples[:, 0] for chunk in chunks])
    _, likeness = lag_and_likeness(captured, voice[8000:40000])
    assert likeness > 0.97  # the server resamples twice

    part = captured[24000:40000]  # a second of speech, against the recording of the same sink
    at = 24000 // 160
    lag, likeness = lag_and_likeness(recorded, Resampler(16000, recording.rate_hz).resample(part))
    assert likeness > 0.99
    late_ms = (stamps_ns[at] - recorded_ns - lag * 1e9 / recording.rate_hz) / 1e6
    assert abs(late_ms) < 20.0, f'stamps are {late_ms:.1f} ms after the sound'


def test_one_channel_of_several_is_chosen(sound_server, graph, speech):
    voice, rate_hz = speech
    _, chunks = start_microphone(graph, channels=2, channel=1, chunk_ms=20)
    _, both = start_microphone(graph, channels=2, channel=-1)

    chunks.clear()
    both.clear()
    sound_server.play(voice, rate_hz)
    graph.spin_for(3.0)

    assert {chunk.samples.shape for chunk in chunks if len(chunk.samples) == 320} == {(320, 1)}
    assert (160, 2) in {chunk.samples.shape for chunk in both}
    captured = np.concatenate(
        [chunk.samples[:, 0] for chunk in chunks if len(chunk.samples) == 320]
    )
    assert lag_and_likeness(captured, voice[8000:24000])[1] > 0.97


def test_a_microphone_that_is_unplugged_is_heard_again_when_it_is_back(
    sound_server, graph, speech
):
    voice, rate_hz = speech
    _, chunks = start_microphone(graph)

    sound_server.unplug()
    graph.spin_for(1.0)
    before = chunks[-1]
    n_before = len(chunks)
    sound_server.plug_in()
    assert graph.spin_until(lambda: len(chunks) > n_before + 20), 'it does not come back'
    after = chunks[n_before]
    chunks.clear()
    sound_server.play(voice, rate_hz)
    graph.spin_for(3.5)

    hole = after.first_sample - before.first_sample - 160
    elapsed_s = (after.stamp_ns - before.stamp_ns) / 1e9 - 0.01
    assert elapsed_s > 0.9
    assert hole == pytest.approx(elapsed_s * 16000, abs=2)
    captured = np.concatenate([chunk.samples[:, 0] for chunk in chunks])
    assert lag_and_likeness(captured, voice[8000:40000])[1] > 0.97


def test_stamps_are_of_the_nodes_clock_and_in_the_past(sound_server, graph):
    node, chunks = start_microphone(graph, latency_ms=60)

    now_ns = node.get_clock().now().nanoseconds
    behind_ms = (now_ns - chunks[-1].stamp_ns) / 1e6

    assert 0 < behind_ms < 200
    sent_behind_ms = np.array([(c.sent_ns - c.stamp_ns) / 1e6 for c in chunks])
    assert np.all(sent_behind_ms > 0)
    assert np.percentile(sent_behind_ms, 95) < 60


def test_devices_are_listed_and_found_by_name_part_and_index(sound_server, capsys):
    main(['--list'])

    listed = capsys.readouterr().out
    assert re_index(listed, 'ear') == find_device('ear', 'input')['index']
    assert find_device('EA', 'input')['name'] == 'ear'
    assert find_device(str(re_index(listed, 'ear')), 'input')['name'] == 'ear'
    assert re_index(list_devices('output'), 'robot') == find_device('robot', 'output')['index']


def test_an_unknown_or_ambiguous_device_is_refused_with_those_there_are(sound_server):
    with pytest.raises(ValueError, match="no input device 'usb'; there are: .*'ear'"):
        find_device('usb', 'input')
    with pytest.raises(ValueError, match="2 input devices match 'r': .*give more of the name"):
        find_device('r', 'input')


def test_a_channel_beyond_the_channels_is_refused(graph):
    overrides = [Parameter('channel', value=2)]

    with pytest.raises(ValueError, match='channel must be below channels = 1, got 2'):
        MicrophoneNode(context=graph.context, parameter_overrides=overrides)


def re_index(listed: str, name: str) -> int:
    """Return the index that a device list gives a name."""
    (line,) = [line for line in listed.splitlines() if f'  {name}  ' in line]
    return int(line[1:].split()[0])
