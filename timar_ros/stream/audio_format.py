# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for the format of audio that is stated beside it, by an AudioInfo or by the user.

Not for messages that state their own format.
"""

import dataclasses
from typing import Any

from timar_ros.bounds import SAMPLE_RATES_HZ
from timar_ros.stream import pcm
from timar_ros.strict import quoted


@dataclasses.dataclass(frozen=True)
class AudioFormat:
    """
    What a message leaves out that holds nothing but samples: rate, channels and encoding.

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
    if not hasattr(info, 'coding_format') or not hasattr(info, 'sample_format'):
        raise ValueError(
            'audio_info: expected the AudioInfo of ros-drivers, with coding_format and '
            'sample_format, got another; state the format by a parameter, e.g. '
            "'S16LE,16000,1'"
        )
    if info.coding_format.lower() not in ('wave', ''):
        raise ValueError(
            f"audio_info: expected coding_format 'wave', got {quoted(info.coding_format)}; "
            'start the driver with format:=wave'
        )
    if info.sample_format not in pcm.ENCODINGS:
        raise ValueError(
            f'audio_info: expected sample_format {pcm.one_of(pcm.ENCODINGS)}, got '
            f'{quoted(info.sample_format)}; start the driver with sample_format:=S16LE'
        )
    return AudioFormat(info.sample_rate, info.channels, info.sample_format)


def format_from_text(text: str) -> AudioFormat | None:
    """
    Read a stated format: encoding, rate in Hz and channels, such as 'S16LE,16000,1'.

    Returns:
        the format; None for an empty text.

    Raises:
        ValueError: it is none, or not one that can be heard.
    """
    if not text.strip():
        return None
    encoding, rate, channels = ([part.strip() for part in text.split(',')] + ['', '', ''])[:3]
    is_whole = rate.isascii() and rate.isdigit() and channels.isascii() and channels.isdigit()
    if encoding not in pcm.ENCODINGS or not is_whole or text.count(',') != 2 or len(text) > 50:
        raise ValueError(
            'an audio format must be encoding, rate in Hz and channels, such as '
            f"'S16LE,16000,1', with an encoding of {pcm.one_of(pcm.ENCODINGS)}; got {quoted(text)}"
        )
    check_voice(int(rate), int(channels))
    return AudioFormat(int(rate), int(channels), encoding)


def check_voice(rate_hz: int, channels: int) -> None:
    """
    Check a rate and a number of channels against their bounds.

    Raises:
        ValueError: one of them lies outside.
    """
    low, high = SAMPLE_RATES_HZ
    if not low <= rate_hz <= high:
        raise ValueError(
            f'sample rate must be {low} to {high} Hz, got {quoted(rate_hz)}; fill in the '
            'rate of the device'
        )
    pcm.check_channels(channels)
