# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Samples out of what a TTS sends as a file: a wav's header and trailer left out, others refused.

Responsible for recognising containers, codecs and error texts by their first bytes, and for where
the samples of a wav that comes in pieces lie. Not for samples that were cut, nor for wav files on
disk. Every test of first bytes is strict: ordinary PCM must never be mistaken for a file.
"""

import dataclasses
import re
import struct

from timar_ros.bounds import MAX_UTTERANCE_MESSAGE_BYTES
from timar_ros.stream.alignment import roughness
from timar_ros.strict import quoted

DTYPES = {'pcm_s16le': '<i2', 'pcm_f32le': '<f4'}
_KINDS = {(1, 16): 'pcm_s16le', (3, 32): 'pcm_f32le'}  # by codec and bits of a header
_EXTENSIBLE = 0xFFFE
_LONGEST_HEADER = 1_000_000  # bytes before the samples
_PLACEHOLDER = 1_900_000_000  # sizes from here on, and 0, were not known to the writer
_TRAILERS = (
    b'LIST', b'C2PA', b'ID3 ', b'id3 ', b'bext', b'cue ', b'fact', b'smpl', b'inst', b'JUNK',
    b'junk', b'PAD ', b'FLLR', b'iXML', b'_PMX', b'axml', b'PEAK', b'afsp', b'acid',
)  # fmt: skip
_JSON = re.compile(rb'\s{0,8}(\[\s{0,8})?\{\s{0,32}"')
_MARKUP = re.compile(rb'\s{0,8}<(!doctype|html|\?xml)[\s>]', re.IGNORECASE)
_FEWEST_TEXT, _MOST_TEXT = 8, 64  # bytes that must be text
_FEWEST_TRAILER = 9  # bytes: a pad, a name and a size
_NOISE = 0.25  # coded bytes read as samples change by more; no voice does
_MP3_KBPS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def other_format(data: bytes, encoding: str) -> str | None:
    """
    Return what bytes are that begin as no samples: 'mp3', 'Ogg', 'FLAC' or a text; None = samples.

    Args:
        data: a message's, from its first byte.
        encoding: what they should be.
    """
    if data[:3] == b'ID3' and len(data) >= 10:
        is_tag = data[3] in (2, 3, 4) and data[4] == 0 and not data[5] & 0x0F
        if is_tag and max(data[6:10]) < 0x80:
            return 'mp3'
    if data[:5] == b'OggS\0' and len(data) > 5 and data[5] < 8:
        return 'Ogg'
    if data[:4] == b'fLaC' and data[5:8] == b'\0\0\x22' and data[4] & 0x7F == 0:
        return 'FLAC'
    if _is_text(data):
        if _JSON.match(data):
            return f'JSON text {quoted(data[:80].decode("utf-8", "replace"))}'
        if _MARKUP.match(data):
            return f'a web page {quoted(data[:80].decode("utf-8", "replace"))}'
    return 'mp3' if _is_mp3(data, encoding) else None


def is_coded(data: bytes, encoding: str, channels: int) -> bool:
    """Return whether bytes in the midst of a message's sound can be no voice, or prove nothing."""
    if len(data) < 16 * channels * int(DTYPES[encoding][-1]):
        return True
    return _is_text(data) or roughness(data, DTYPES[encoding], channels) > _NOISE


def _is_text(data: bytes) -> bool:
    begin = data[:_MOST_TEXT]
    return (
        len(begin) >= _FEWEST_TEXT
        and all(b >= 0x20 or b in b'\t\r\n' for b in begin)
        and (_is_utf8(begin))
    )


def _is_utf8(begin: bytes) -> bool:
    try:
        begin.decode('utf-8')
    except UnicodeDecodeError as error:
        return error.reason == 'unexpected end of data'
    return True


def _mp3_frame_bytes(head: bytes) -> int:
    """Return the length of a layer III frame by its four bytes of header; 0 = it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2 or head[3] & 3 == 2:
        return 0
    version, kbps, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbps in (0, 15) or rate == 3:
        return 0
    factor = 144_000 if version == 3 else 72_000
    kbps = _MP3_KBPS[3 if version == 3 else 2][kbps]
    return factor * kbps // _MP3_RATES_HZ[version][rate] + (head[2] >> 1 & 1)


def _is_mp3(data: bytes, encoding: str) -> bool:
    position = n_frames = 0
    while n_frames < 4:
        head = data[position : position + 4]
        size = _mp3_frame_bytes(head)
        # Frames of one stream share version, layer and rate.
        if not size or head[1] != data[1] or (head[2] ^ data[2]) & 0x0C:
            break
        n_frames, position = n_frames + 1, position + size
    if n_frames < 2 or (n_frames < 3 and position + 4 <= len(data)):
        return False
    # A tone may repeat by chance at the same distance, but it is smooth, and not one byte mostly.
    span = data[: min(position, len(data))]
    is_padded = 2 * max(span.count(value) for value in set(span[4:64])) > len(span)
    return is_padded or roughness(span, DTYPES[encoding], 1) > _NOISE


@dataclasses.dataclass(frozen=True)
class Unwrapping:
    """
    What is known of the container that an utterance comes in, after one of its messages.

    Attributes:
        samples: the bytes of that message that are samples.
        begins: the first of them is the first of a sample, as a header ended before it.
        pending: a header whose end has not come yet.
        left: bytes of samples that its header still counts; None = to the end.
        declared: bytes that it counts after those.
        skip: bytes of trailers that are still to come.
        held: bytes after the samples, too few to see whether they begin a trailer.
        n_headers: left out in that message.
        n_trailers: left out in that message.
    """

    samples: bytes = b''
    begins: bool = False
    pending: bytes = b''
    left: int | None = None
    declared: int = 0
    skip: int = 0
    held: bytes = b''
    n_headers: int = 0
    n_trailers: int = 0


def unwrap(before: Unwrapping, data: bytes, form: tuple) -> Unwrapping:
    """
    Leave out of a message's bytes what is no samples.

    Args:
        before: after the message before it; a fresh one where an utterance begins.
        data: of the message.
        form: encoding, channels and rate of the message.

    Raises:
        ValueError: the bytes are no samples of that form.
    """
    if not before.pending:
        other = other_format(data, form[0])
        if other:
            raise ValueError(f'expected {form[0]} samples, got {other}; ask the TTS for pcm')
    if before.pending or _is_wave(data):
        return _after_header(before.pending + data, form)
    return _cut_trailer(
        dataclasses.replace(before, samples=b'', begins=False, n_headers=0, n_trailers=0), data
    )


def _is_wave(data: bytes) -> bool:
    return data[:4] in (b'RIFF', b'RIFX', b'RF64', b'BW64') and data[8:12] == b'WAVE'


def _after_header(data: bytes, form: tuple) -> Unwrapping:
    if data[:4] == b'RIFX':
        raise ValueError(f'expected {form[0]} samples, got a big-endian wav; ask the TTS for pcm')
    riff_size = struct.unpack('<I', data[4:8])[0]
    position, seen = 12, None
    while position + 8 <= len(data) and position <= _LONGEST_HEADER:
        name, size = data[position : position + 4], *struct.unpack_from('<I', data, position + 4)
        begin = position + 8
        if name == b'data':
            _check_format(seen, form)
            is_known = 0 < size < _PLACEHOLDER
            end = begin + size + size % 2
            is_declared = is_known and riff_size < _PLACEHOLDER
            wave = Unwrapping(
                begins=True,
                left=size if is_known else None,
                declared=max(8 + riff_size - end, 0) if is_declared else 0,
                n_headers=1,
            )
            return _cut_trailer(wave, data[begin:])
        if name == b'fmt ':
            seen = data[begin : begin + min(size, 40)]
        position = begin + size + size % 2
    if position > _LONGEST_HEADER:
        raise ValueError(
            f'expected {form[0]} samples, got a wav without a data chunk in its first '
            f'{_LONGEST_HEADER:,} bytes; ask the TTS for pcm'
        )
    return Unwrapping(pending=data)


def _check_format(body: bytes | None, form: tuple) -> None:
    encoding, channels, rate_hz = form
    if body is None or len(body) < 16:
        raise ValueError(
            f'expected {encoding} samples, got a wav without a fmt chunk; ask the TTS for pcm'
        )
    codec, header_channels, header_hz, _, _, bits = struct.unpack('<HHIIHH', body[:16])
    if codec == _EXTENSIBLE and len(body) >= 26:
        (codec,) = struct.unpack('<H', body[24:26])
    kind = _KINDS.get((codec, bits), f'codec 0x{codec:04x} of {bits} bits')
    if (kind, header_channels, header_hz) != form:
        raise ValueError(
            f'the message says {encoding}, {channels} channels, {rate_hz} Hz, the wav header in '
            f'its data {kind}, {header_channels} channels, {header_hz} Hz; set the fields of the '
            'message to what the TTS sends'
        )


def _cut_trailer(state: Unwrapping, data: bytes) -> Unwrapping:
    """Take the samples of a message whose header, if any, has been read."""
    left, declared, skip, n_trailers = state.left, state.declared, state.skip, state.n_trailers
    samples, held, position = b'', b'', 0
    data = state.held + data
    while position < len(data):
        if skip:
            n = min(skip, len(data) - position)
            skip, position = skip - n, position + n
        elif left is None:
            samples, position = samples + data[position:], len(data)
        elif left:
            n = min(left, len(data) - position)
            samples += data[position : position + n]
            left, position = left - n, position + n
        elif len(data) - position < _FEWEST_TRAILER:
            held, position = data[position:], len(data)
        else:
            skip = _trailer_bytes(data, position, declared)
            declared = max(declared - skip, 0)
            n_trailers += bool(skip)
            if not skip:  # the header counted too few, such as its own message's only
                left = None
    return dataclasses.replace(
        state, samples=samples, left=left, declared=declared, skip=skip, held=held,
        n_trailers=n_trailers,
    )  # fmt: skip


def _trailer_bytes(data: bytes, position: int, declared: int) -> int:
    """Return how long the chunk is that follows the samples, 0 where more samples do."""
    there = len(data) - position
    for pad in (0, 1):  # samples of an odd size are padded, by most writers
        begin = position + pad
        name = data[begin : begin + 4]
        if not all(0x20 <= value < 0x7F for value in name):
            continue
        if declared:
            return pad + declared
        end = pad + 8 + struct.unpack_from('<I', data, begin + 4)[0]
        is_known = name in _TRAILERS and end <= MAX_UTTERANCE_MESSAGE_BYTES
        if is_known or end in (there, there - 1):
            return end + (end - pad) % 2
    return 0
