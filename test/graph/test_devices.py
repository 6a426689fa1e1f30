# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Sound devices that fail in every way, on a library that fails on purpose."""

import threading
import types

import numpy as np
import pytest
from rclpy.parameter import Parameter

from timar_ros.msg import AudioChunk
from timar_ros.nodes import devices, microphone
from timar_ros.nodes.devices import KeptStream, find_device
from timar_ros.nodes.microphone import MicrophoneNode
from timar_ros.stream.audio import packet_from_fields

pytestmark = pytest.mark.graph


class PortAudioError(Exception):
    """As sounddevice has it."""


class Stream:
    """A stream of the fake library."""

    active = True

    def __init__(self, **settings):
        self.settings = settings
        self.is_closed = False

    def start(self):
        pass

    def close(self):
        self.is_closed = True


def fake_library(rates_hz=(48000,)):
    """Make a library with a stereo microphone `ear` that has some rates only."""
    ear = {
        'index': 0, 'name': 'ear', 'hostapi': 0, 'max_input_channels': 2,
        'max_output_channels': 0, 'default_samplerate': 48000.0,
    }  # fmt: skip

    def check(samplerate, **settings):
        if samplerate not in rates_hz:
            raise PortAudioError('Invalid sample rate [PaErrorCode -9997]')

    def open_input(**settings):
        check(settings['samplerate'])
        return Stream(**settings)

    return types.SimpleNamespace(
        PortAudioError=PortAudioError,
        default=types.SimpleNamespace(device=(0, -1)),
        query_devices=lambda: [ear],
        check_input_settings=check,
        InputStream=open_input,
        _terminate=lambda: None,
        _initialize=lambda: None,
    )


@pytest.fixture
def library(monkeypatch):
    library = fake_library()
    for module in (devices, microphone):
        monkeypatch.setattr(module, 'import_sounddevice', lambda: library)
    return library


class Log:
    """Keeps what is logged."""

    def __init__(self):
        self.texts = []
        self.warning = self.info = self.texts.append


def keep(library, open_stream, serve):
    log = Log()
    return KeptStream(open_stream, serve, log, retry_s=0.01), log


@pytest.mark.parametrize('error', [RuntimeError('no context'), ValueError('NaN'), KeyError(3)])
def test_a_stream_is_opened_again_whatever_its_service_raises(library, error):
    opened, is_served = [], threading.Event()

    def serve(gone):
        if len(opened) < 3:
            raise error
        is_served.set()
        gone.wait()

    kept, log = keep(library, lambda on_finished: opened.append(Stream()) or opened[-1], serve)
    try:
        assert is_served.wait(20)
    finally:
        kept.close()

    assert [stream.is_closed for stream in opened] == [True, True, True]
    assert str(error.args[0]) in log.texts[0]
    assert kept.trouble == ''


def test_a_library_that_cannot_list_its_devices_is_asked_again(library):
    asked, is_served = [], threading.Event()

    def initialize():
        asked.append(1)
        if len(asked) < 3:
            raise PortAudioError('Host error [PaErrorCode -9999]')

    def open_stream(on_finished):
        if len(asked) < 4:
            raise PortAudioError('Error opening InputStream: Device unavailable [PaErrorCode -1]')
        return Stream()

    def serve(gone):
        is_served.set()
        gone.wait()

    library._initialize = initialize
    kept, log = keep(library, open_stream, serve)
    try:
        assert is_served.wait(20)
    finally:
        kept.close()

    assert log.texts[0] == 'the sound device fails: Device unavailable; trying again every 0.01 s'
    assert log.texts[-1] == 'the sound device is back'


@pytest.mark.parametrize('wanted', ['7', '-1', 'x' * 1_000_000, '٣'])
def test_a_device_that_is_not_there_is_refused_briefly_with_those_that_are(library, wanted):
    with pytest.raises(ValueError, match=r"^no input device '.{1,90}'; there are: 0 'ear'$"):
        find_device(wanted, 'input')
    with pytest.raises(ValueError, match='no default output device; there are: none'):
        find_device('', 'output')


def start(graph, **params):
    overrides = [Parameter(name, value=value) for name, value in params.items()]
    return graph.add(MicrophoneNode(context=graph.context, parameter_overrides=overrides))


def trouble_of(graph, node):
    assert graph.spin_until(lambda: node._stream.trouble)
    return node._stream.trouble


def test_more_channels_than_the_device_has_are_named(graph, library):
    node = start(graph, channels=6, channel=5, retry_s=0.1)

    assert trouble_of(graph, node).startswith("'ear' has 2 channels, and channels is 6; lower")


def test_a_rate_that_the_device_has_not_is_replaced_by_its_own(graph, library):
    node = start(graph, sample_rate_hz=16000, device=0)

    assert graph.spin_until(lambda: node._rate_hz == 48000)
    assert node._stream.trouble == ''


def test_a_device_that_opens_at_no_rate_is_named_with_the_reason(graph, library):
    library.InputStream = lambda **settings: fake_library(rates_hz=()).InputStream(**settings)
    node = start(graph, retry_s=0.1)

    expected = "'ear' cannot be opened at 48000 Hz with 1 channels (Invalid sample rate); if"
    assert trouble_of(graph, node).startswith(expected)


def test_samples_that_are_not_finite_are_published_as_silence_and_counted(graph, library):
    heard = []
    listener = graph.node('listener')
    listener.create_subscription(
        AudioChunk, 'user/audio', lambda msg: heard.append(packet_from_fields(msg)), 100
    )
    node = start(graph, sample_rate_hz=48000, channels=2)
    assert graph.spin_until(lambda: node._audio_pub.get_subscription_count())
    block = np.full((480, 2), 0.5, np.float32)
    block[7, 0] = np.nan
    block[9, 0] = np.inf
    block[11, 1] = np.nan  # of the other channel
    times = types.SimpleNamespace(currentTime=1.0, inputBufferAdcTime=0.99)

    def is_heard():
        node._inbox.take(block, 480, times, None)
        node._inbox.take(block[:0], 0, times, None)
        return heard

    assert graph.spin_until(is_heard)

    expected = np.full(480, 0.5)
    expected[[7, 9]] = 0.0
    np.testing.assert_allclose(heard[0].samples[:, 0], expected, atol=1e-4)
    assert node._bad_samples >= 2
    assert node._stream.trouble == ''


def test_ten_seconds_of_exact_zeros_are_a_warning_until_there_is_any_sound(graph, library):
    troubles = []
    node = start(graph, sample_rate_hz=48000, channels=2)
    node._diagnostics.publish = lambda shown, trouble: troubles.append(trouble)
    times = types.SimpleNamespace(currentTime=1.0, inputBufferAdcTime=0.99)
    second = np.zeros((48000, 2), np.float32)

    def trouble_after(block, n=1):
        for _ in range(n):
            node._inbox.take(block, len(block), times, None)
        assert graph.spin_until(node._inbox.blocks.empty)
        troubles.clear()
        graph.spin_for(0.1)  # the last block is on its way
        node._on_diagnose()
        return troubles[-1]

    def is_served():
        node._inbox.take(second[:480], 480, times, None)
        return node._zeros_s

    assert graph.spin_until(is_served)
    assert 'digital silence' not in trouble_after(second, 8)
    assert 'only digital silence for 1' in trouble_after(second, 3)
    second[:, 1] = 0.5  # the channel that is not published
    assert 'is the source muted?' in trouble_after(second)
    second[-1, 0] = 1e-5
    assert 'digital silence' not in trouble_after(second)
    second[:] = np.nan  # a fault of its own
    assert 'digital silence' not in trouble_after(second, 12)


def test_no_more_channels_are_published_than_a_voice_may_have(graph, library):
    with pytest.raises(ValueError, match='channels must be at most 16 where all are published'):
        start(graph, channels=17, channel=-1)
