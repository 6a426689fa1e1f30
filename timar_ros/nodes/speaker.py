# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The agent's voice: utterances in, announced on `agent/audio` ahead of time, and played on time.

Knows the device, the topics and the service. When what sounds is decided in `stream.playback`.
"""

import dataclasses
import sys
import time
import traceback

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_srvs.srv import Trigger

from timar_ros.msg import AudioChunk
from timar_ros.nodes.convert import audio_chunk
from timar_ros.nodes.devices import (
    KeptStream,
    find_device,
    import_sounddevice,
    list_devices,
    open_stream,
    told_ns,
)
from timar_ros.nodes.diagnostics import Diagnostics
from timar_ros.nodes.matching import MatchedSubscription
from timar_ros.nodes.params import declare, parameter
from timar_ros.nodes.running import construct, run
from timar_ros.nodes.throttle import ThrottledWarnings
from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.playback import PlaybackCursor, PlaybackSchedule
from timar_ros.stream.utterance_reader import UtteranceReader

_PUMP_S = 0.01  # how often what waits is looked at
_BLOCK_MS = 10  # what the device takes at once
_STALL_S = 3.0
_MAX_BURST = 10_000  # messages: a TTS may deliver minutes at once, in pieces of 20 ms
_DIAGNOSE_S = 1.0
# Counters whose growth means that something is wrong now, with what to say of it.
_TROUBLE = {
    'underruns': 'speech comes too slowly',
    'device_underruns': 'the device ran empty',
    'refused_messages': 'messages are refused, see the log',
    'lost_samples': 'messages of an utterance are missing, by its count of samples',
    'lost_half_samples': 'halves of samples are missing',
    'clipped_samples': 'samples are far beyond full scale',
    'failures': 'announcing failed, see the log',
}


@dataclasses.dataclass(frozen=True)
class SpeakerParams:
    """Parameters of the speaker node."""

    playback: bool = parameter(
        True, 'true: play the sound here; false: only publish agent/audio, for robots that play it'
    )
    device: str = parameter(
        '', 'name, part of a name, or index of the device; empty: the default device'
    )
    sample_rate_hz: int = parameter(
        48000, 'rate of the device and of agent/audio', unit='Hz', minimum=8000, maximum=192000
    )
    channels: int = parameter(
        2, 'number of channels of the device; all of them play the voice', minimum=1, maximum=32
    )
    latency_ms: int = parameter(
        40,
        'length of the buffer of the device; a stop does not wait for it',
        unit='ms',
        minimum=1,
        maximum=500,
    )
    extra_latency_ms: int = parameter(
        0,
        'additional delay that the device does not report (Bluetooth, amplifiers)',
        unit='ms',
        minimum=0,
        maximum=1000,
    )
    agent_lead_ms: int = parameter(
        400,
        'shortest time from a message on agent/audio to its sound',
        unit='ms',
        minimum=0,
        maximum=5000,
    )
    jitter_ms: int = parameter(
        50,
        'additional delay of the start of an utterance, against uneven delivery',
        unit='ms',
        minimum=0,
        maximum=2000,
    )
    slack_ms: int = parameter(
        500,
        'time by which agent/audio is published before agent_lead_ms requires it',
        unit='ms',
        minimum=100,
        maximum=5000,
    )
    retry_s: float = parameter(
        1.0, 'time between attempts to reopen a lost device', unit='s', minimum=0.1, maximum=60.0
    )
    frame_id: str = parameter('speaker', 'frame_id of the published messages')


class SpeakerNode(Node):
    """Schedules `speaker/utterance`, announces it on `agent/audio`, plays it; `~/stop` ends it."""

    def __init__(self, **options):
        super().__init__('speaker', **options)
        params = self._params = declare(self, SpeakerParams, cli_args=options.get('cli_args'))
        self._schedule = PlaybackSchedule(
            params.sample_rate_hz,
            agent_lead_ms=params.agent_lead_ms,
            jitter_ms=params.jitter_ms,
            slack_ms=params.slack_ms,
        )
        self._cursor = PlaybackCursor(self._schedule, params.latency_ms + _BLOCK_MS)
        self._reader = UtteranceReader()
        self._warnings = ThrottledWarnings(self.get_logger())
        self._refused = 0
        self._failures = 0
        self._flags = 0  # underruns of the device
        self._diagnosed: dict[str, int] = {}  # counters when last diagnosed
        self._n_filled = 0  # blocks that the device took
        reliable = ReliabilityPolicy.RELIABLE
        self._audio_pub = self.create_publisher(
            AudioChunk, 'agent/audio', QoSProfile(depth=100, reliability=reliable)
        )
        self._utterances = MatchedSubscription(
            self, AudioChunk, 'speaker/utterance', self._on_utterance, _MAX_BURST
        )
        self.create_service(Trigger, '~/stop', self._on_stop)
        self._diagnostics = Diagnostics(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)  # goes on where the node's clock is set
        self.create_timer(_PUMP_S, self._announce, clock=steady)
        self.create_timer(_DIAGNOSE_S, self._on_diagnose, clock=steady)
        self._stream = None
        if params.playback:
            self._sd = import_sounddevice()
            self._stream = KeptStream(self._open, self._serve, self.get_logger(), params.retry_s)

    def destroy_node(self):
        """Close the device, then the node."""
        if self._stream is not None:
            self._stream.close()
        super().destroy_node()

    @property
    def counters(self) -> dict:
        """What happened so far, by name."""
        return {
            **self._schedule.counters,
            **self._reader.counters,
            'refused_messages': self._refused,
            'failures': self._failures,
            'device_underruns': self._flags,
            'resyncs': self._cursor.resyncs,
        }

    def _on_utterance(self, msg: AudioChunk) -> None:
        now_ns = self._now_ns()
        before = self.counters
        try:
            packet = self._reader.read(msg, now_ns)
            if packet is not None:
                self._schedule.push(packet, now_ns)
        except ValueError as error:
            self._refused += 1
            self._warnings.warn(f'refused {self._refused} utterance messages, this one: {error}')
        self._tell_losses(before)
        self._announce()

    def _tell_losses(self, before: dict) -> None:
        after = self.counters
        if after['cut_messages'] and not before['cut_messages']:
            self.get_logger().warning(
                'messages on speaker/utterance end in mid-sample, as HTTP chunks do; the rest of '
                'each is joined with the next message'
            )
        if after['cut_headers'] and not before['cut_headers']:
            self.get_logger().warning(
                'messages on speaker/utterance hold a wav with its header; only its samples are '
                'spoken; ask the TTS for pcm'
            )
        lost = after['lost_samples'] - before['lost_samples']
        if lost:
            rate_hz = self._params.sample_rate_hz
            self._warnings.warn(
                f'{lost / rate_hz:.2f} s are missing in the midst of an utterance, by its count '
                f'of samples ({after["lost_samples"] / rate_hz:.2f} s so far); the rest is spoken'
            )

    def _on_stop(self, _request, response):
        packets = self._schedule.stop(self._now_ns())
        if self._stream is not None:
            self._stream.flush()
        self._publish(packets)
        withdrawn_s = sum(len(p.samples) for p in packets) / self._params.sample_rate_hz
        response.success = True
        response.message = f'withdrew {withdrawn_s:.2f} s of speech'
        return response

    def _announce(self) -> None:
        try:
            self._announce_due()
        except Exception as error:  # whatever it is, the next utterance is spoken
            self._failures += 1
            self._schedule.stop(self._now_ns())
            self._warnings.error(
                f'announcing failed, and what waits is dropped: {type(error).__name__}: {error}',
                traceback.format_exc,
            )

    def _announce_due(self) -> None:
        now_ns = self._now_ns()
        if now_ns <= 0:  # simulated time has not begun
            return
        self._cursor.observe_clock(time.monotonic_ns(), now_ns)
        underruns = self._schedule.counters['underruns']
        self._publish(self._schedule.announce(now_ns))
        counters = self._schedule.counters
        if counters['underruns'] != underruns:
            silence_s = counters['underrun_samples'] / self._params.sample_rate_hz
            self._warnings.warn(
                f'speech came too slowly: {counters["underruns"]} underruns, {silence_s:.2f} s of '
                'silence in all'
            )

    def _publish(self, packets: list[AudioPacket]) -> None:
        for packet in packets:
            self._audio_pub.publish(
                audio_chunk(
                    packet.samples,
                    packet.sample_rate_hz,
                    stamp_ns=packet.stamp_ns,
                    first_sample=packet.first_sample,
                    sent_ns=packet.sent_ns,
                    frame_id=self._params.frame_id,
                )
            )

    def _on_diagnose(self) -> None:
        self._utterances.match()
        self._reader.expire(self._now_ns())
        counters, before = self.counters, self._diagnosed
        self._diagnosed = counters
        grown = {name: counters[name] - before.get(name, 0) for name in _TROUBLE}
        troubles = [f'{_TROUBLE[name]} ({n} more)' for name, n in grown.items() if n > 0]
        if self._stream is not None and self._stream.trouble:
            troubles.insert(0, self._stream.trouble)
        self._diagnostics.publish(counters, '; '.join(troubles))

    def _now_ns(self) -> int:
        return self.get_clock().now().nanoseconds

    def _open(self, on_finished):
        params = self._params
        device = find_device(params.device, 'output')
        wanted = {
            'device': device['index'],
            'channels': min(params.channels, device['max_output_channels']),
            'dtype': 'float32',
            'samplerate': params.sample_rate_hz,
        }
        try:
            self._sd.check_output_settings(**wanted)
        except self._sd.PortAudioError as error:
            raise ValueError(
                f'{device["name"]!r} does not play {params.sample_rate_hz} Hz ({error}); set '
                f'sample_rate_hz to {device["default_samplerate"]:.0f}'
            ) from error
        self._cursor.restart()
        stream = open_stream(
            self._sd.OutputStream,
            device,
            channels=wanted['channels'],
            samplerate=params.sample_rate_hz,
            blocksize=params.sample_rate_hz * _BLOCK_MS // 1000,
            latency=params.latency_ms / 1000,
            callback=self._fill,
            finished_callback=on_finished,
        )
        self.get_logger().info(f'speaking on {device["name"]!r} at {params.sample_rate_hz} Hz')
        return stream

    def _fill(self, outdata, frames, times, status) -> None:
        """Hand the device its next samples; in the device's thread."""
        self._flags += bool(status)
        delay_ns = told_ns(times.outputBufferDacTime - times.currentTime)
        called_ns = time.monotonic_ns() + self._params.extra_latency_ms * 1_000_000
        samples = self._cursor.render(frames, called_ns, delay_ns)
        outdata[:] = samples[:, None]
        self._n_filled += 1

    def _serve(self, gone) -> None:
        filled = self._n_filled
        while not gone.wait(_STALL_S):
            if self._n_filled == filled:
                raise TimeoutError(f'the sound device took nothing for {_STALL_S:g} s')
            filled = self._n_filled


def main(args=None):
    """Run the node, or list the devices."""
    arguments = sys.argv[1:] if args is None else args
    if '--list' in arguments:
        sys.stdout.write(list_devices('output') + '\n')
        return
    options = {'--list': 'list the sound devices that can be used, and end'}
    run('speaker', lambda: [construct(SpeakerNode)], args, params=SpeakerParams, options=options)


if __name__ == '__main__':
    main()
