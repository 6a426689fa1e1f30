# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Container bytes in what should be plain samples: a TTS's HTTP answer, passed on as a file.

Responsible for the header of a wav, which is left out, and for other containers, which are named.
Not for recordings (wav.py).
"""

import struct
from typing import Any

# A header is shorter; then `data` is looked for no further.
_LONGEST_HEADER = 4096
_UNFILLED = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # sizes that a streaming server leaves in a header
_FORMATS = {'pcm_s16le': (1, 16), 'pcm_f32le': (3, 32)}
_EXTENSIBLE = 0xFFFE


def without_header(data: Any, encoding: str, channels: int, rate_hz: int) -> Any:
    """
    Return the samples of a message that begins with the header of a wav; others unchanged.

    What follows the samples inside the same message (LIST, id3) is left out, too.

    Args:
        data: bytes of the message.
        encoding: 'pcm_s16le' or 'pcm_f32le', as the message states it.
        channels: as the message states them.
        rate_hz: likewise.

    Raises:
        ValueError: the header contradicts the message, or the bytes are another container.
    """
    begin = bytes(data[:_LONGEST_HEADER])
    name = _other_container(begin)
    if name:
        raise ValueError(
            f'data must be samples ({encoding}), got {name}; ask the TTS for raw PCM, or decode '
            'before publishing'
        )
    if begin[:4] != b'RIFF' or begin[8:12] != b'WAVE':
        return data
    at = begin.find(b'fmt ', 12), begin.find(b'data', 12)
    if not 0 < at[0] < at[1] - 23 or at[1] + 8 > len(begin):
        raise ValueError('data must be samples, got a wav whose header is not whole; send raw PCM')
    kind, n, hz, _, _, bits = struct.unpack_from('<HHIIHH', begin, at[0] + 8)
    is_kind = kind in (_FORMATS[encoding][0], _EXTENSIBLE)
    if (is_kind, n, hz, bits) != (True, channels, rate_hz, _FORMATS[encoding][1]):
        raise ValueError(
            f'the message states {encoding}, {channels} channels, {rate_hz} Hz, the wav header in '
            f'its data {bits} bits of format {kind}, {n} channels, {hz} Hz; state what is sent'
        )
    (size,) = struct.unpack_from('<I', begin, at[1] + 4)
    end = len(data) if size in _UNFILLED else min(at[1] + 8 + size, len(data))
    return data[at[1] + 8 : end]


def _other_container(begin: bytes) -> str:
    if begin[:3] == b'ID3' and len(begin) > 9 and begin[3] in (2, 3, 4) and begin[4] < 5:
        return 'mp3'
    for magic, name in ((b'OggS\0', 'Ogg'), (b'fLaC\0', 'FLAC')):
        if begin.startswith(magic):
            return name
    text = begin[:64]
    if text[:2] == b'{"' and len(text) > 16 and all(32 <= byte < 127 for byte in text):
        return 'JSON text, perhaps an error of the TTS'
    return ''
