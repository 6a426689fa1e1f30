# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Any audio message, recognised by its fields, to one value: `AudioPacket`.

Responsible for what messages hold, and for bounds on it. Not for where a packet belongs in time:
that is `ingest`'s. Messages are duck-typed, never imported: two incompatible packages share the
name `audio_common_msgs`, and most machines have neither.
"""

import dataclasses
from typing import Any

import numpy as np

from timar_ros.bounds import MAX_SAMPLE, MAX_VOICE_MESSAGE_BYTES
from timar_ros.stream import pcm
from timar_ros.stream.array_layout import check_layout
from timar_ros.stream.audio_format import (
    AudioFormat,
    check_voice,
    format_from_info,
    format_from_text,
)
from timar_ros.stream.pcm import CHUNK_ENCODINGS, pcm_from_samples, samples_from_pcm
from timar_ros.strict import quoted, shortened

__all__ = [
    'AudioFormat',
    'AudioPacket',
    'bounded',
    'CHUNK_ENCODINGS',
    'describe_clipping',
    'format_from_info',
    'format_from_text',
    'mono_of',
    'packet_from_fields',
    'pcm_from_samples',
    'samples_from_pcm',
]


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
        samples: float32 `[n, channels]` in [-1, 1]; up to 4 from a publisher that overdrives.
        n_clipped: of these, how many were beyond 4 times full scale, and are cut to that.
        peak: the largest magnitude among those before.
    """

    stamp_ns: int | None
    first_sample: int | None
    sent_ns: int | None
    sample_rate_hz: int
    samples: np.ndarray
    n_clipped: int = 0
    peak: float = 0.0


# PortAudio's sample format codes and the array of mgonzs13's AudioData that each one fills
_PORTAUDIO = {
    1: ('float32_data', pcm.F32),
    2: ('int32_data', pcm.S32),
    8: ('int16_data', pcm.S16),
    16: ('int8_data', pcm.S8),
    32: ('uint8_data', pcm.U8),
}
# introlab's AudioFrame; 24 bits are packed or padded to 32
_FRAME_FORMATS = {
    'signed_8': pcm.S8,
    'signed_16': pcm.S16,
    'signed_24': pcm.S24_PACKED,
    'signed_padded_24': pcm.S32,
    'signed_32': pcm.S32,
    'unsigned_8': pcm.U8,
    'unsigned_16': pcm.U16,
    'unsigned_24': pcm.U24_PACKED,
    'unsigned_padded_24': pcm.U32,
    'unsigned_32': pcm.U32,
    'float': pcm.F32,
    'double': pcm.F64,
}
_STATE_IT = (
    "state it, e.g. 'S16LE,16000,1' (parameter user_audio_format or agent_audio_format, "
    'evaluate: --user-format or --agent-format)'
)


def bounded(packet: AudioPacket) -> AudioPacket:
    """
    Return a packet whose samples lie within 4 times full scale; the same where they do.

    Nothing that is made of them, a mean or another rate, can overflow then.

    Raises:
        ValueError: a sample is not finite.
    """
    samples = packet.samples
    if not samples.size:
        return packet
    peak = float(max(samples.max(), -samples.min()))  # NaN where one is
    if peak <= MAX_SAMPLE:
        return packet
    if not np.isfinite(samples).all():
        n_bad = int((~np.isfinite(samples)).sum())
        raise ValueError(
            f'samples must be finite, got {n_bad} of {samples.size} NaN or infinite; '
            'repair the publisher'
        )
    n_clipped = packet.n_clipped + int((np.abs(samples) > MAX_SAMPLE).sum())
    samples = np.clip(samples, -MAX_SAMPLE, MAX_SAMPLE)
    return dataclasses.replace(packet, samples=samples, n_clipped=n_clipped, peak=peak)


def describe_clipping(packet: AudioPacket) -> str:
    """Return what is wrong with a packet of which samples were clipped, one sentence."""
    return (
        f'samples should be within -1..1, got {packet.peak:.3g}; what is beyond {MAX_SAMPLE:g} is '
        'cut to that, and does not count as the loudness of the voice; integers sent as floats? '
        'Divide them by 32768 (16 bits)'
    )


def mono_of(packet: AudioPacket, channel: str | int = 'mean') -> np.ndarray:
    """
    Check a packet and reduce it to the channel to be heard.

    Args:
        packet: as published.
        channel: 'mean' of all, or an index.

    Returns:
        float32 `[n]`, within 4 times full scale.

    Raises:
        ValueError: an impossible rate, no channels, a channel that is not there, NaN or infinity.
    """
    samples = bounded(packet).samples
    if samples.ndim != 2 or samples.shape[1] < 1:
        raise ValueError(
            f'samples must be [n, channels] with at least 1 channel, got {list(samples.shape)}; '
            'fill in the number of channels'
        )
    check_voice(packet.sample_rate_hz, samples.shape[1])
    if channel != 'mean' and channel >= samples.shape[1]:
        raise ValueError(
            f'channel {channel} is to be heard, got {samples.shape[1]} channels; '
            f"choose 0 to {samples.shape[1] - 1} or 'mean'"
        )
    if channel != 'mean':
        return samples[:, channel]
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def packet_from_fields(
    msg: Any,
    audio_format: AudioFormat | None = None,
    max_bytes: int = MAX_VOICE_MESSAGE_BYTES,
) -> AudioPacket:
    """
    Read an audio message of any supported type, recognised by its fields.

    Known are `timar_ros/AudioChunk`, `AudioData` and `AudioDataStamped` of ros-drivers,
    `AudioStamped` of mgonzs13, `naoqi_bridge_msgs/AudioBuffer`, `foxglove_msgs/RawAudio` and
    `audio_utils_msgs/AudioFrame`; with a stated format arrays of std_msgs, too.

    Args:
        msg: the message, or anything with its fields.
        audio_format: what was said on `audio_info`, or stated by the user; for messages that hold
            nothing but samples.
        max_bytes: that a message may hold.

    Returns:
        The packet; a stamp of zero stays zero (`StampReader` decides whether that can be true).

    Raises:
        ValueError: no known fields, contents that contradict the description, or more than is
            accepted of anything; nothing large was computed.
    """
    try:
        for fields, read in _READERS:
            if all(hasattr(msg, field) for field in fields):
                return bounded(read(msg, audio_format, max_bytes))
        names = getattr(msg, 'get_fields_and_field_types', lambda: vars(msg))()
    # NOTE: fields of a known name may be of any type in a stranger's message.
    except (TypeError, AttributeError, OverflowError, KeyError, IndexError) as error:
        raise ValueError(
            f'{_type_name(msg)} is no audio message, though its fields are called like those of '
            f'one ({shortened(str(error))}); publish timar_ros/AudioChunk'
        ) from None
    raise ValueError(
        f'expected an audio message ({pcm.one_of(" + ".join(f) for f, _ in _READERS)}), got '
        f'{_type_name(msg)} with {shortened(", ".join(names), 200)}; publish timar_ros/AudioChunk'
    )


def _from_audio_chunk(msg: Any, audio_format: AudioFormat | None, max_bytes: int) -> AudioPacket:
    if msg.encoding not in CHUNK_ENCODINGS:
        raise ValueError(
            f'AudioChunk: encoding must be {pcm.one_of(CHUNK_ENCODINGS)}, got '
            f'{quoted(msg.encoding)}; decode before publishing'
        )
    n_bytes = pcm.size_of(msg.data)
    _check_message(n_bytes, max_bytes, msg.sample_rate, msg.channels)
    samples = samples_from_pcm(msg.data, msg.encoding, msg.channels)
    sent_ns = _nanoseconds(msg.sent) or None
    stamp_ns = _nanoseconds(msg.header.stamp)
    return AudioPacket(stamp_ns, int(msg.first_sample), sent_ns, int(msg.sample_rate), samples)


def _from_portaudio(msg: Any, audio_format: AudioFormat | None, max_bytes: int) -> AudioPacket:
    audio = getattr(msg, 'audio', msg)
    info = audio.info
    if info.format not in _PORTAUDIO:
        codes = ', '.join(f'{code} ({name})' for code, (name, _) in _PORTAUDIO.items())
        raise ValueError(f'AudioStamped: format must be one of {codes}, got {info.format}')
    field, kind = _PORTAUDIO[info.format]
    values = getattr(audio.audio_data, field)
    filled = [n for n, _ in _PORTAUDIO.values() if len(getattr(audio.audio_data, n))]
    if filled and field not in filled:
        raise ValueError(
            f'AudioStamped: format {info.format} promises {field}, got values in '
            f'{" and ".join(filled)}; '
            + (pcm.ONE_BYTE_FIX if 'int8' in filled[0] else f'fill {field}')
        )
    _check_message(len(values) * kind.n_bytes, max_bytes, info.rate, info.channels)
    stored = np.asarray(values, dtype=kind.dtype)
    samples = pcm.decode(stored.tobytes(), kind, info.channels, field)
    return AudioPacket(_stamp_of(msg), None, None, int(info.rate), samples)


def _from_audio_data(msg: Any, audio_format: AudioFormat | None, max_bytes: int) -> AudioPacket:
    data = msg.audio.data if hasattr(msg, 'audio') else msg.data
    _check_bytes(msg, data)
    if hasattr(msg, 'info'):
        audio_format = format_from_info(msg.info)
    if audio_format is None:
        first = bytes(data[:3] if isinstance(data, list | tuple) else memoryview(data)[:3])
        is_mp3 = first == b'ID3' or (len(first) > 1 and first[0] == 255 and first[1] >= 0xE0)
        raise ValueError(
            f'{_type_name(msg)} does not say its format: expected an AudioInfo on audio_info '
            'first, got '
            + ('none, and bytes that look like mp3; ' if is_mp3 else 'none; ')
            + 'start the driver with format:=wave and remap its audio_info'
            + ('' if is_mp3 else f', or {_STATE_IT}')
        )
    return _from_stated(msg, data, audio_format, max_bytes)


def _from_array(msg: Any, audio_format: AudioFormat | None, max_bytes: int) -> AudioPacket:
    _check_bytes(msg, msg.data)
    if audio_format is None:
        raise ValueError(
            f'{_type_name(msg)} holds numbers and not their format: expected a stated one, got '
            f'none; {_STATE_IT}'
        )
    packet = _from_stated(msg, msg.data, audio_format, max_bytes)
    try:
        check_layout(msg.layout, len(msg.data), packet.samples.size, audio_format.channels)
    except ValueError as error:
        raise ValueError(f'{_type_name(msg)}: {error}') from None
    return packet


def _check_bytes(msg: Any, data: Any) -> None:
    try:
        pcm.size_of(data)
    except ValueError as error:
        raise ValueError(
            f'{_type_name(msg)} is no audio: {error}; remap its topic, or publish '
            'timar_ros/AudioChunk'
        ) from None


def _from_stated(msg: Any, data: Any, audio_format: AudioFormat, max_bytes: int) -> AudioPacket:
    encoding, channels = audio_format.encoding, audio_format.channels
    _check_message(pcm.size_of(data), max_bytes, audio_format.sample_rate_hz, channels)
    samples = samples_from_pcm(data, encoding, channels)
    return AudioPacket(_stamp_of(msg), None, None, int(audio_format.sample_rate_hz), samples)


def _from_naoqi(msg: Any, audio_format: AudioFormat | None, max_bytes: int) -> AudioPacket:
    _check_message(2 * len(msg.data), max_bytes, msg.frequency, len(msg.channel_map))
    stored = np.asarray(msg.data, dtype='<i2')
    samples = pcm.decode(stored.tobytes(), pcm.S16, len(msg.channel_map), 'int16')
    return AudioPacket(_stamp_of(msg), None, None, int(msg.frequency), samples)


def _from_raw_audio(msg: Any, audio_format: AudioFormat | None, max_bytes: int) -> AudioPacket:
    if msg.format != 'pcm-s16':
        raise ValueError(
            f"RawAudio: format must be 'pcm-s16', got {quoted(msg.format)}; publish that"
        )
    channels = msg.number_of_channels
    _check_message(pcm.size_of(msg.data), max_bytes, msg.sample_rate, channels)
    samples = samples_from_pcm(msg.data, msg.format, channels)
    stamp_ns = _nanoseconds(msg.timestamp)
    return AudioPacket(stamp_ns, None, None, int(msg.sample_rate), samples)


def _from_audio_frame(msg: Any, audio_format: AudioFormat | None, max_bytes: int) -> AudioPacket:
    if msg.format not in _FRAME_FORMATS:
        raise ValueError(
            f'AudioFrame: format must be {pcm.one_of(_FRAME_FORMATS)}, got {quoted(msg.format)}; '
            "set the capture node's format to signed_16"
        )
    kind, rate_hz, channels = _FRAME_FORMATS[msg.format], msg.sampling_frequency, msg.channel_count
    _check_message(pcm.size_of(msg.data), max_bytes, rate_hz, channels)
    is_padded = 'padded' in msg.format
    samples = pcm.decode(msg.data, kind, channels, msg.format, is_padded)
    if len(samples) != msg.frame_sample_count:
        raise ValueError(
            f'AudioFrame: frame_sample_count says {msg.frame_sample_count} samples, got '
            f'{len(samples)} of {channels} channels of {msg.format}; correct the format or the '
            'count'
        )
    return AudioPacket(_stamp_of(msg), None, None, int(rate_hz), samples)


def _from_stamped(msg: Any, audio_format: AudioFormat | None, max_bytes: int) -> AudioPacket:
    read = _from_portaudio if hasattr(msg.audio, 'audio_data') else _from_audio_data
    return read(msg, audio_format, max_bytes)


# the first whose fields are all there; AudioStamped has a header and an audio as AudioDataStamped
_READERS = (
    (('encoding', 'first_sample', 'sample_rate', 'data'), _from_audio_chunk),
    (('number_of_channels', 'format', 'data'), _from_raw_audio),
    (('channel_count', 'sampling_frequency', 'format', 'data'), _from_audio_frame),
    (('frequency', 'channel_map', 'data'), _from_naoqi),
    (('audio_data', 'info'), _from_portaudio),
    (('header', 'audio'), _from_stamped),
    (('layout', 'data'), _from_array),
    (('data',), _from_audio_data),
)


def _check_message(n_bytes: int, max_bytes: int, rate_hz: int, channels: int) -> None:
    """Refuse a message before anything is made of it."""
    if n_bytes > max_bytes:
        raise ValueError(
            f'a message may hold {max_bytes / 1e6:.0f} MB, got {n_bytes / 1e6:.9g} MB; send the '
            'sound in several messages'
        )
    check_voice(rate_hz, channels)


def _type_name(msg: Any) -> str:
    """Return the ROS name of a message's type, such as 'std_msgs/Int64', as far as it shows."""
    name = getattr(msg, '__msgtype__', None)  # of messages out of a bag
    if isinstance(name, str):
        return shortened(name.replace('/msg/', '/'))
    package, dot, _ = type(msg).__module__.partition('.msg.')
    return shortened(f'{package}/{type(msg).__name__}' if dot else type(msg).__name__)


def _stamp_of(msg: Any) -> int | None:
    return _nanoseconds(msg.header.stamp) if hasattr(msg, 'header') else None


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)
