# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Who publishes what audio, and how: drivers as they are, the broken ones included.

Each case makes messages of the types that the sourced overlay has; imports happen in functions,
because two overlays have packages of the same name.
"""

import array
from collections.abc import Callable
import dataclasses
import importlib

import numpy as np

_MP3 = b'ID3\x04' + bytes(range(250))


@dataclasses.dataclass(frozen=True)
class Case:
    """
    One driver.

    Attributes:
        type_name: of its messages.
        rate_hz, channels: of what it says.
        make: (message class, int16 samples `[n, channels]`, Time) -> message.
        info: fields of the AudioInfo that it latches, if it does.
        is_best_effort: its publisher may lose messages (SensorDataQoS).
        n_chunks: of 20 ms, in real time.
        n_heard: samples of it that can be heard, at 16 kHz.
        n_refused: messages of it that are refused.
    """

    type_name: str
    make: Callable
    rate_hz: int = 16000
    channels: int = 1
    info: dict | None = None
    is_best_effort: bool = False
    n_chunks: int = 30
    n_heard: int = 9600
    n_refused: int = 0


def _bytes(data: bytes) -> array.array:
    return array.array('B', data)


def _low_bytes(samples) -> array.array:
    """Return one byte of each sample, as a driver that casts to uint8 sends them."""
    return _bytes((samples >> 8).astype(np.uint8).tobytes())


def _audio_data(cls, samples, stamp):
    return cls(data=_bytes(samples.tobytes()))


def _stamped(encode):
    def make(cls, samples, stamp):
        msg = cls()
        msg.header.stamp = stamp
        msg.audio.data = encode(samples)
        return msg

    return make


def _mp3(cls, samples, stamp):
    return cls(data=_bytes(_MP3))


def _portaudio(code: int, field: str, encode):
    def make(cls, samples, stamp):
        msg = cls()
        msg.header.stamp = stamp
        msg.audio.info.format, msg.audio.info.rate = code, 16000
        msg.audio.info.channels, msg.audio.info.chunk = samples.shape[1], len(samples)
        setattr(msg.audio.audio_data, field, encode(samples.reshape(-1)))
        return msg

    return make


def _naoqi(cls, samples, stamp):
    msg = cls(frequency=48000, channel_map=_bytes(bytes([3, 5, 0, 2])))
    msg.header.stamp = stamp
    msg.data = array.array('h', samples.tobytes())
    return msg


def _raw_audio(encode):
    def make(cls, samples, stamp):
        data = encode(samples)
        return cls(
            timestamp=stamp, data=data, format='pcm-s16', sample_rate=16000, number_of_channels=1
        )

    return make


def _all_bytes(samples) -> array.array:
    return _bytes(samples.tobytes())


def _wave(rate_hz: int, channels: int) -> dict:
    return {
        'channels': channels, 'sample_rate': rate_hz, 'sample_format': 'S16LE',
        'bitrate': 16 * rate_hz * channels, 'coding_format': 'wave',
    }  # fmt: skip


# bytes are missing, which shows in the pace of the first hundred messages only
_HALF = {'n_chunks': 280, 'n_heard': 0, 'n_refused': 20}  # known after 4 s
_UNHEARD = {'n_heard': 0, 'n_refused': 30}
_DATA, _DATA_STAMPED = 'audio_common_msgs/msg/AudioData', 'audio_common_msgs/msg/AudioDataStamped'
_AUDIO_STAMPED = 'audio_common_msgs/msg/AudioStamped'


def _mgonzs13(code: int, field: str, encode, **options) -> Case:
    make = _portaudio(code, field, encode)
    return Case(_AUDIO_STAMPED, make, is_best_effort=True, **options)


CASES = {
    'ros_drivers': {
        'wave': Case(_DATA, _audio_data, info=_wave(16000, 1)),
        'wave_stamped': Case(_DATA_STAMPED, _stamped(_all_bytes), 48000, 2, info=_wave(48000, 2)),
        'mp3': Case(_DATA, _mp3, info={**_wave(16000, 1), 'coding_format': 'mp3'}, **_UNHEARD),
        'mp3_without_info': Case(_DATA, _mp3, **_UNHEARD),
        'one_byte': Case(_DATA_STAMPED, _stamped(_low_bytes), info=_wave(16000, 1), **_HALF),
    },
    'mgonzs13': {
        'float32': _mgonzs13(1, 'float32_data', lambda x: (x / 32768).astype(np.float32).tolist()),
        'int32': _mgonzs13(2, 'int32_data', lambda x: (x.astype(np.int32) << 16).tolist()),
        'int16': _mgonzs13(8, 'int16_data', np.ndarray.tolist),
        'int8': _mgonzs13(16, 'int8_data', lambda x: (x >> 8).tolist()),
        'uint8': _mgonzs13(32, 'uint8_data', lambda x: ((x >> 8) + 128).tolist()),
        'one_byte': _mgonzs13(8, 'int8_data', lambda x: (x >> 8).tolist(), **_UNHEARD),
    },
    'others': {
        'naoqi': Case('naoqi_bridge_msgs/msg/AudioBuffer', _naoqi, 48000, 4),
        'foxglove': Case('foxglove_msgs/msg/RawAudio', _raw_audio(_all_bytes)),
        'foxglove_one_byte': Case('foxglove_msgs/msg/RawAudio', _raw_audio(_low_bytes), **_HALF),
    },
}


def message_class(type_name: str):
    """Import a message class of the sourced overlay."""
    package, _, name = type_name.split('/')
    return getattr(importlib.import_module(f'{package}.msg'), name)


def chunk_of(said: np.ndarray, case: Case, index: int) -> np.ndarray:
    """Return int16 `[20 ms, channels]` of what a case says, from `said` `[n, 4]`, repeated."""
    n = case.rate_hz // 50
    at = np.arange(index * n, (index + 1) * n) % len(said)
    return said[at, : case.channels]
