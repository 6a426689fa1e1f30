# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a microphone hears, as stamped audio: `ros2 run timar_ros microphone`, or `... --list`.

Knows the device and the topic. Where a block belongs in time is decided in `stream.capture`.
"""

import dataclasses
import queue
import sys
import time

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy

from timar_ros.bounds import MAX_CHANNELS
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
from timar_ros.nodes.params import declare, parameter
from timar_ros.nodes.running import construct, run
from timar_ros.stream.capture import Capture

_QUEUE_BLOCKS = 200  # 2 s or more; a longer stall loses audio, which the sample count then shows
_DIAGNOSE_S = 1.0
_MUTED_S = 10.0  # of exact zeros; even a quiet room makes a microphone's last bit move
_STALL_S = 3.0  # a fresh virtual device may take 2 s to deliver


@dataclasses.dataclass(frozen=True)
class MicrophoneParams:
    """Parameters of the microphone node."""

    device: str = parameter(
        '', 'name, part of a name, or index of the device; empty: the default device'
    )
    sample_rate_hz: int = parameter(
        16000,
        'preferred rate; a device that does not offer it runs at its default rate',
        unit='Hz',
        minimum=8000,
        maximum=192000,
    )
    channels: int = parameter(
        1, 'number of channels to open the device with', minimum=1, maximum=32
    )
    channel: int = parameter(0, 'index of the channel to publish; -1: all', minimum=-1, maximum=31)
    chunk_ms: int = parameter(
        10, 'length of the audio in one message', unit='ms', minimum=10, maximum=20
    )
    latency_ms: int = parameter(
        20, 'length of the buffer of the device', unit='ms', minimum=1, maximum=500
    )
    retry_s: float = parameter(
        1.0, 'time between attempts to reopen a lost device', unit='s', minimum=0.1, maximum=60.0
    )
    frame_id: str = parameter('microphone', 'frame_id of the published messages')

    def __post_init__(self):
        if self.channel >= self.channels:
            raise ValueError(
                f'channel must be below channels = {self.channels}, got {self.channel}; raise '
                'channels, or take a lower one'
            )
        if self.channel < 0 and self.channels > MAX_CHANNELS:
            raise ValueError(
                f'channels must be at most {MAX_CHANNELS} where all are published, got '
                f'{self.channels}; choose one with channel, or lower channels'
            )


@dataclasses.dataclass(frozen=True)
class _Block:
    """Samples `[n, channels]` that the device handed over, and the time."""

    frame: int  # index of the first frame since the stream was opened
    samples: np.ndarray
    arrived_ns: int  # on the monotonic clock
    age_ns: int | None  # of the first frame then, as the device tells it


class _Inbox:
    """The device's callback: copies blocks into a bounded queue and counts, nothing else."""

    def __init__(self):
        self.blocks = queue.Queue(maxsize=_QUEUE_BLOCKS)
        self.flags = 0
        self._frame = 0

    def take(self, indata, frames, times, status) -> None:
        self.flags += bool(status)
        if not frames:
            return
        age_ns = told_ns(times.currentTime - times.inputBufferAdcTime)
        block = _Block(self._frame, indata.copy(), time.monotonic_ns(), age_ns)
        self._frame += frames
        if not self.blocks.full():  # a block left out is a hole in the frames' count
            self.blocks.put_nowait(block)


class MicrophoneNode(Node):
    """Publishes `user/audio` from a sound device, and tries again when the device goes away."""

    def __init__(self, **options):
        super().__init__('microphone', **options)
        self._params = declare(self, MicrophoneParams, cli_args=options.get('cli_args'))
        self._sd = import_sounddevice()
        qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        self._audio_pub = self.create_publisher(AudioChunk, 'user/audio', qos)
        self._capture = Capture(self._params.sample_rate_hz, self._params.chunk_ms)
        self._rate_hz = self._params.sample_rate_hz
        self._bad_samples = 0  # NaN or infinite: silence is published instead
        self._zeros_s = 0.0  # how long nothing but exact zeros came
        self._diagnosed = (0, 0)  # lost and bad samples when last diagnosed
        self._inbox = _Inbox()
        self._diagnostics = Diagnostics(self)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_DIAGNOSE_S, self._on_diagnose, clock=steady)
        self._stream = KeptStream(self._open, self._serve, self.get_logger(), self._params.retry_s)

    def destroy_node(self):
        """Close the device, then the node."""
        self._stream.close()
        super().destroy_node()

    def _open(self, on_finished):
        params = self._params
        device = find_device(params.device, 'input')
        if params.channels > device['max_input_channels']:
            raise ValueError(
                f'{device["name"]!r} has {device["max_input_channels"]} channels, and channels is '
                f'{params.channels}; lower channels, and channel if it is among those'
            )
        wanted = {'device': device['index'], 'channels': params.channels, 'dtype': 'float32'}
        self._rate_hz = params.sample_rate_hz
        try:
            self._sd.check_input_settings(samplerate=self._rate_hz, **wanted)
        except self._sd.PortAudioError:
            self._rate_hz = int(device['default_samplerate'])
        self._inbox = _Inbox()
        stream = open_stream(
            self._sd.InputStream,
            device,
            channels=params.channels,
            samplerate=self._rate_hz,
            blocksize=self._rate_hz * params.chunk_ms // 1000,
            latency=params.latency_ms / 1000,
            callback=self._inbox.take,
            finished_callback=on_finished,
        )
        self._capture.restart(self._rate_hz)
        channels = f'channel {params.channel}' if params.channel >= 0 else 'all channels'
        its_own = '' if self._rate_hz == params.sample_rate_hz else ', its own rate'
        self.get_logger().info(
            f'listening to {device["name"]!r} at {self._rate_hz} Hz{its_own}, {channels} of '
            f'{params.channels}'
        )
        return stream

    def _serve(self, gone) -> None:
        silent_since = time.monotonic()
        while not gone.is_set():
            try:
                block = self._inbox.blocks.get(timeout=0.1)
            except queue.Empty:
                if time.monotonic() - silent_since > _STALL_S:
                    raise TimeoutError(
                        f'the sound device delivered nothing for {_STALL_S:g} s'
                    ) from None
                continue
            silent_since = time.monotonic()
            self._publish(block)

    def _publish(self, block: _Block) -> None:
        node_ns = self.get_clock().now().nanoseconds
        if node_ns == 0 or not self.context.ok():  # simulated time has not begun; or it is over
            return
        lost_before, steps_before = self._capture.lost_samples, self._capture.clock_steps
        place = self._capture.place(
            block.frame,
            len(block.samples),
            block.arrived_ns,
            block.age_ns,
            time.monotonic_ns(),
            node_ns,
        )
        self._tell_losses(lost_before, steps_before)
        if place is None:
            return
        channel = self._params.channel
        samples = block.samples if channel < 0 else block.samples[:, channel]
        self._zeros_s = 0.0 if samples.any() else self._zeros_s + len(samples) / self._rate_hz
        is_bad = ~np.isfinite(samples)
        if is_bad.any():
            self._bad_samples += int(is_bad.sum())
            samples = np.where(is_bad, np.float32(0), samples)
        self._audio_pub.publish(
            audio_chunk(
                samples,
                self._rate_hz,
                stamp_ns=place.stamp_ns,
                first_sample=place.first_sample,
                sent_ns=node_ns,
                frame_id=self._params.frame_id,
            )
        )

    def _on_diagnose(self) -> None:
        capture = self._capture
        counters = {
            'sample_rate_hz': self._rate_hz,
            'lost_samples': capture.lost_samples,
            'bad_samples': self._bad_samples,
            'device_flags': self._inbox.flags,
            'clock_steps': capture.clock_steps,
            'drift_ppm': round(capture.drift_ppm, 1),
        }
        lost, bad = self._diagnosed
        self._diagnosed = capture.lost_samples, self._bad_samples
        troubles = [self._stream.trouble] if self._stream.trouble else []
        if capture.lost_samples > lost:
            troubles.append(f'audio is lost ({capture.lost_samples - lost} samples more)')
        if self._bad_samples > bad:
            troubles.append(f'the device delivers NaN ({self._bad_samples - bad} samples more)')
        if self._zeros_s >= _MUTED_S and not self._stream.trouble:
            troubles.append(
                f'only digital silence for {self._zeros_s:.0f} s: is the source muted? Check its '
                'switch, mute and volume (pactl list sources), and the parameter channel'
            )
        trouble = '; '.join(troubles)
        self._diagnostics.publish(counters, trouble)

    def _tell_losses(self, lost_before: int, steps_before: int) -> None:
        lost = self._capture.lost_samples - lost_before
        if lost:
            self.get_logger().warning(
                f'lost {lost / self._rate_hz * 1e3:.0f} ms of audio ({self._inbox.flags} device '
                f'flags); {self._capture.lost_samples / self._rate_hz:.2f} s since the start'
            )
        if self._capture.clock_steps != steps_before:
            self.get_logger().warning("the node's clock was set; stamps follow it")


def main(args=None):
    """Run the node, or list the devices."""
    arguments = sys.argv[1:] if args is None else args
    if '--list' in arguments:
        sys.stdout.write(list_devices('input') + '\n')
        return
    options = {'--list': 'list the sound devices that can be used, and end'}
    run(
        'microphone',
        lambda: [construct(MicrophoneNode)],
        args,
        params=MicrophoneParams,
        options=options,
    )


if __name__ == '__main__':
    main()
