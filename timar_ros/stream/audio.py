# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Any audio message, recognised by its fields, to one value: `AudioPacket`.

Messages are duck-typed, never imported: two incompatible packages share the name
`audio_common_msgs`, and most machines have neither. Where a packet belongs in time is `ingest`'s
business, not this file's.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class AudioPacket:
    """
    A stretch of one voice as its publisher described it.

    Attributes:
        stamp_ns: when the first sample was captured (user) or is to be played (agent); None = the
            message has no stamp.
        first_sample: index of the first sample in the publisher's stream, counted per channel;
            None = the publisher does not count.
        sent_ns: when it was published; None = on arrival.
        sample_rate_hz: of each channel.
        samples: float32 `[n, channels]` in [-1, 1].
    """

    stamp_ns: int | None
    first_sample: int | None
    sent_ns: int | None
    sample_rate_hz: int
    samples: np.ndarray


class _Pcm(NamedTuple):
    """One way to write a sample: value = (stored - zero) / full_scale."""

    dtype: str
    zero: float
    full_scale: float


_F32 = _Pcm('<f4', 0, 1)
_S32 = _Pcm('<i4', 0, 2**31)
_S16 = _Pcm('<i2', 0, 2**15)
_S8 = _Pcm('<i1', 0, 2**7)
_U8 = _Pcm('<u1', 2**7, 2**7)

# encodings of AudioChunk, of GStreamer (ros-drivers AudioInfo) and of foxglove RawAudio
_PCM = {
    'pcm_s16le': _S16,
    'pcm_f32le': _F32,
    'S16LE': _S16,
    'S32LE': _S32,
    'F32LE': _F32,
    'S8': _S8,
    'U8': _U8,
    'pcm-s16': _S16,
}
CHUNK_ENCODINGS = ('pcm_s16le', 'pcm_f32le')

# PortAudio's sample format codes and the array of mgonzs13's AudioData that each one fills
_PORTAUDIO = {
    1: ('float32_data', _F32),
    2: ('int32_data', _S32),
    8: ('int16_data', _S16),
    16: ('int8_data', _S8),
    32: ('uint8_data', _U8),
}

_RATES_HZ = (4_000, 384_000)

_ONE_BYTE_FIX = (
    'the driver seems to send one byte of each 16-bit sample; '
    'let it publish both (numpy: samples.tobytes(), not a cast to uint8)'
)


@dataclasses.dataclass(frozen=True)
class AudioFormat:
    """
    What an `AudioData` message leaves out: rate, channels and encoding of its bytes.

    Attributes:
        sample_rate_hz: of each channel.
        channels: interleaved.
        encoding: 'S16LE', 'S32LE', 'F32LE', 'S8', 'U8' (GStreamer) or one of `CHUNK_ENCODINGS`.
    """

    sample_rate_hz: int
    channels: int
    encoding: str


def format_from_info(info: Any) -> AudioFormat:
    """
    Read the format of a stream of `AudioData` from its latched `AudioInfo` (ros-drivers).

    Raises:
        ValueError: the stream is compressed or its sample format is not known.
    """
    if info.coding_format.lower() not in ('wave', ''):
        raise ValueError(
            f"audio_info: expected coding_format 'wave', got {info.coding_format!r}; "
            'start the driver with format:=wave'
        )
    if info.sample_format not in _PCM:
        raise ValueError(
            f'audio_info: expected sample_format {_one_of(_PCM)}, got {info.sample_format!r}; '
            'start the driver with sample_format:=S16LE'
        )
    return AudioFormat(info.sample_rate, info.channels, info.sample_format)


def samples_from_pcm(data: Any, encoding: str, channels: int) -> np.ndarray:
    """
    Decode interleaved PCM bytes.

    Args:
        data: bytes, bytearray, array('B'), uint8 array, or a sequence of byte values.
        encoding: 'pcm_s16le', 'pcm_f32le' or a name of another package (`AudioFormat`).
        channels: number of interleaved channels, at least 1.

    Returns:
        float32 `[n, channels]`, full scale 1.

    Raises:
        ValueError: the encoding is unknown or the bytes are not whole frames of it.
    """
    if encoding not in _PCM:
        raise ValueError(
            f'encoding must be {_one_of(_PCM)}, got {encoding!r}; publish {CHUNK_ENCODINGS[0]}'
        )
    return _decode(_as_bytes(data), _PCM[encoding], channels, encoding)


def pcm_from_samples(samples: np.ndarray, encoding: str) -> bytes:
    """
    Encode samples for `AudioChunk.data`; integers round to nearest and clip at full scale.

    Args:
        samples: `[n, channels]` or `[n]`, full scale 1.
        encoding: 'pcm_s16le' or 'pcm_f32le'.

    Returns:
        Interleaved little-endian bytes.

    Raises:
        ValueError: the encoding is not one of AudioChunk's.
    """
    if encoding not in CHUNK_ENCODINGS:
        raise ValueError(f'encoding must be {_one_of(CHUNK_ENCODINGS)}, got {encoding!r}')
    samples = np.asarray(samples)
    if encoding == 'pcm_f32le':
        return samples.astype('<f4').tobytes()
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype('<i2').tobytes()


def mono_of(packet: AudioPacket, channel: str | int = 'mean') -> np.ndarray:
    """
    Check a packet and reduce it to the channel to be heard.

    Args:
        packet: as published.
        channel: 'mean' of all, or an index.

    Returns:
        float32 `[n]`.

    Raises:
        ValueError: an impossible rate, no channels, a channel that is not there, NaN or infinity.
    """
    samples, (low, high) = packet.samples, _RATES_HZ
    if not low <= packet.sample_rate_hz <= high:
        raise ValueError(
            f'sample rate must be {low} to {high} Hz, got {packet.sample_rate_hz}; fill in the '
            'rate of the device'
        )
    if samples.ndim != 2 or samples.shape[1] < 1:
        raise ValueError(
            f'samples must be [n, channels] with at least 1 channel, got {list(samples.shape)}; '
            'fill in the number of channels'
        )
    if channel != 'mean' and channel >= samples.shape[1]:
        raise ValueError(
            f'channel {channel} is to be heard, got {samples.shape[1]} channels; '
            f"choose 0 to {samples.shape[1] - 1} or 'mean'"
        )
    if not np.isfinite(samples).all():
        n_bad = int((~np.isfinite(samples)).sum())
        raise ValueError(
            f'samples must be finite, got {n_bad} of {samples.size} NaN or infinite; '
            'repair the publisher'
        )
    if channel != 'mean':
        return samples[:, channel]
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def packet_from_fields(msg: Any, audio_format: AudioFormat | None = None) -> AudioPacket:
    """
    Read any audio message this project knows; which one it is shows in its fields.

    Known are `timar_ros/AudioChunk`, `AudioData` and `AudioDataStamped` of ros-drivers,
    `AudioStamped` of mgonzs13, `naoqi_bridge_msgs/AudioBuffer` and `foxglove_msgs/RawAudio`.

    Args:
        msg: the message, or anything with its fields.
        audio_format: what was said on `audio_info`; needed by ros-drivers messages only.

    Returns:
        The packet; a stamp of zero stays zero (`VoiceIngest` knows whether that can be true).

    Raises:
        ValueError: no known fields, or contents that contradict the description.
    """
    for fields, read in _READERS:
        if all(hasattr(msg, field) for field in fields):
            return read(msg, audio_format)
    names = getattr(msg, 'get_fields_and_field_types', lambda: vars(msg))()
    raise ValueError(
        f'expected an audio message ({_one_of(" + ".join(f) for f, _ in _READERS)}), got '
        f'{type(msg).__name__} with {", ".join(names)}; publish timar_ros/AudioChunk'
    )


def _from_audio_chunk(msg: Any, audio_format: AudioFormat | None) -> AudioPacket:
    if msg.encoding not in CHUNK_ENCODINGS:
        raise ValueError(
            f'AudioChunk: encoding must be {_one_of(CHUNK_ENCODINGS)}, got {msg.encoding!r}; '
            'decode before publishing'
        )
    samples = samples_from_pcm(msg.data, msg.encoding, msg.channels)
    sent_ns = _nanoseconds(msg.sent) or None
    stamp_ns = _nanoseconds(msg.header.stamp)
    return AudioPacket(stamp_ns, int(msg.first_sample), sent_ns, int(msg.sample_rate), samples)


def _from_portaudio(msg: Any, audio_format: AudioFormat | None) -> AudioPacket:
    audio = getattr(msg, 'audio', msg)
    info = audio.info
    if info.format not in _PORTAUDIO:
        codes = ', '.join(f'{code} ({name})' for code, (name, _) in _PORTAUDIO.items())
        raise ValueError(f'AudioStamped: format must be one of {codes}, got {info.format}')
    field, pcm = _PORTAUDIO[info.format]
    values = getattr(audio.audio_data, field)
    filled = [n for n, _ in _PORTAUDIO.values() if len(getattr(audio.audio_data, n))]
    if filled and field not in filled:
        raise ValueError(
            f'AudioStamped: format {info.format} promises {field}, got values in '
            f'{" and ".join(filled)}; '
            + (_ONE_BYTE_FIX if 'int8' in filled[0] else f'fill {field}')
        )
    stored = np.asarray(values, dtype=pcm.dtype)
    samples = _decode(stored.tobytes(), pcm, info.channels, field)
    return AudioPacket(_stamp_of(msg), None, None, int(info.rate), samples)


def _from_audio_data(msg: Any, audio_format: AudioFormat | None) -> AudioPacket:
    data = _as_bytes(msg.audio.data if hasattr(msg, 'audio') else msg.data)
    if hasattr(msg, 'info'):
        audio_format = format_from_info(msg.info)
    if audio_format is None:
        is_mp3 = data[:3] == b'ID3' or (len(data) > 1 and data[0] == 255 and data[1] >= 0xE0)
        raise ValueError(
            'AudioData does not say its format: expected an AudioInfo on audio_info first, got '
            + ('none, and bytes that look like mp3; ' if is_mp3 else 'none; ')
            + 'start the driver with format:=wave and remap its audio_info'
        )
    encoding, channels = audio_format.encoding, audio_format.channels
    samples = samples_from_pcm(data, encoding, channels)
    return AudioPacket(_stamp_of(msg), None, None, int(audio_format.sample_rate_hz), samples)


def _from_naoqi(msg: Any, audio_format: AudioFormat | None) -> AudioPacket:
    stored = np.asarray(msg.data, dtype='<i2')
    samples = _decode(stored.tobytes(), _S16, len(msg.channel_map), 'int16')
    return AudioPacket(_stamp_of(msg), None, None, int(msg.frequency), samples)


def _from_raw_audio(msg: Any, audio_format: AudioFormat | None) -> AudioPacket:
    if msg.format != 'pcm-s16':
        raise ValueError(f"RawAudio: format must be 'pcm-s16', got {msg.format!r}; publish that")
    samples = samples_from_pcm(msg.data, msg.format, msg.number_of_channels)
    stamp_ns = _nanoseconds(msg.timestamp)
    return AudioPacket(stamp_ns, None, None, int(msg.sample_rate), samples)


# the first whose fields are all there; AudioStamped has a header and an audio as AudioDataStamped
_READERS = (
    (('encoding', 'first_sample', 'sample_rate', 'data'), _from_audio_chunk),
    (('number_of_channels', 'format', 'data'), _from_raw_audio),
    (('frequency', 'channel_map', 'data'), _from_naoqi),
    (('audio_data', 'info'), _from_portaudio),
    (('header', 'audio'), lambda msg, audio_format: _from_stamped(msg, audio_format)),
    (('data',), _from_audio_data),
)


def _from_stamped(msg: Any, audio_format: AudioFormat | None) -> AudioPacket:
    read = _from_portaudio if hasattr(msg.audio, 'audio_data') else _from_audio_data
    return read(msg, audio_format)


def _decode(data: bytes, pcm: _Pcm, channels: int, name: str) -> np.ndarray:
    if channels < 1:
        raise ValueError(f'channels must be at least 1, got {channels}; fill the message in')
    frame_bytes = channels * np.dtype(pcm.dtype).itemsize
    if len(data) % frame_bytes:
        hint = f'; {_ONE_BYTE_FIX}' if frame_bytes > channels else ''
        raise ValueError(
            f'data must be whole frames of {frame_bytes} bytes ({channels} channels of {name}), '
            f'got {len(data)} bytes{hint}'
        )
    stored = np.frombuffer(data, dtype=pcm.dtype).reshape(-1, channels)
    samples = stored.astype(np.float32)
    if pcm.zero:
        samples -= np.float32(pcm.zero)
    if pcm.full_scale != 1:
        samples *= np.float32(1 / pcm.full_scale)
    return samples


def _as_bytes(data: Any) -> bytes:
    if isinstance(data, str):
        raise ValueError(f'data must be bytes, got text of {len(data)} characters')
    if isinstance(data, list | tuple):
        return bytes(data)
    return memoryview(data).tobytes()


def _stamp_of(msg: Any) -> int | None:
    return _nanoseconds(msg.header.stamp) if hasattr(msg, 'header') else None


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def _one_of(names: Any) -> str:
    return ', '.join(repr(name) for name in names)
