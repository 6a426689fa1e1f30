# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What a sender's bytes are, by the first of them, where they are no samples.

Responsible for recognising codecs, containers and texts. Not for wavs, whose samples can be used.
Every test is strict: ordinary PCM must never be mistaken for a file.
"""

import re

import numpy as np

from timar_ros.bounds import MAX_SAMPLE
from timar_ros.stream.alignment import roughness
from timar_ros.strict import quoted

UNDECIDED = 'undecided'  # there are too few bytes for an answer
DTYPES = {'pcm_s16le': '<i2', 'pcm_f32le': '<f4'}
# How files begin; '?' stands for any byte.
_BEGINNINGS = {
    'ID3': 'mp3', 'OggS\0': 'Ogg', 'fLaC': 'FLAC', '\x1aE\xdf\xa3': 'WebM', '\0\0\0?ftyp': 'MP4',
    'FORM????AIF': 'AIFF', '.snd\0\0': 'AU', 'caff\0\1': 'CAF', '#!AMR': 'AMR',
    'riff\x2e\x91\xcf\x11': 'W64',
}  # fmt: skip
_SHORTEST_BEGINNING = 5  # fewer bytes of these are not proof enough: silence begins so, too
_WAVES = ('RIFF????WAVE', 'RF64????WAVE', 'BW64????WAVE')
_JSON = re.compile(rb'\s{0,8}(\[\s{0,8})?\{\s{0,32}"')
_MARKUP = re.compile(rb'\s{0,8}<(!doctype|html|\?xml)[\s>]', re.IGNORECASE)
_FEWEST_TEXT, _MOST_TEXT = 8, 64  # bytes that must be text
_NOISE = 0.25  # coded bytes read as samples change by more; no voice does
_WRONG_BYTE = 0.1  # a voice read from another byte than its first changes by more
_CLEARLY = 1.3  # a voice read from the right byte on is smoother than from others by this factor
_FEWEST_FRAMES = 64  # fewer prove nothing
_SOFTEST = 1e-9  # of floats that are sound and not 0
_MOST_EXAMINED = 16_384  # bytes of a message
_MP3_KBPS = {
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def other_format(data: bytes, encoding: str) -> str | None:
    """
    Return what bytes are that begin as no samples, such as 'mp3', 'Ogg' or a text.

    Args:
        data: from the first byte of a message or an utterance.
        encoding: of samples, as expected.

    Returns:
        None for samples; `UNDECIDED` where more bytes are needed.
    """
    for beginning, name in _BEGINNINGS.items():
        found = _begins_as(data, beginning)
        if found == UNDECIDED and (beginning[0] != '\0' or len(data) >= _SHORTEST_BEGINNING):
            return UNDECIDED
        if found is True:
            return name if beginning != 'ID3' else _id3(data)
    if _is_text(data):
        return _text_kind(data, encoding)
    if len(data) < _FEWEST_TEXT and data.lstrip()[:1] in (b'{', b'<') and _is_printable(data):
        return UNDECIDED
    return _framed_kind(data, encoding)


def may_be_wave(data: bytes) -> bool:
    """Return whether bytes are the beginning of a wav, too few to be certain."""
    return any(_begins_as(data, beginning) == UNDECIDED for beginning in _WAVES)


def are_floats(data: bytes) -> bool:
    """
    Return whether bytes that are stated as int16 most probably are float32 of sound.

    Read as int16 these are loud noise. A voice in int16 is not taken for floats: every other
    sample would have to lie in one of two narrow ranges near half of full scale.

    Args:
        data: from the first byte of a sample.
    """
    data = data[:_MOST_EXAMINED]
    if roughness(data, '<i2', 1) < _NOISE:
        return False
    for start in (0, 2):
        floats = np.frombuffer(data, '<f4', (len(data) - start) // 4, start)
        size = np.abs(floats)
        is_sound = (size > _SOFTEST) & (size <= MAX_SAMPLE)
        is_of_both_signs = (floats < 0).any() and (floats > 0).any()
        is_long = len(floats) >= _FEWEST_FRAMES and is_sound.mean() > 0.5
        if is_long and is_of_both_signs and (is_sound | (size == 0)).all():
            return True
    return False


def is_coded(data: bytes, encoding: str, channels: int) -> bool:
    """Return whether bytes in the midst of a message's sound can be no voice, or prove nothing."""
    dtype = DTYPES[encoding]
    if len(data) < _FEWEST_FRAMES * channels * np.dtype(dtype).itemsize or _is_text(data):
        return True
    found = [roughness(data, dtype, channels, start) for start in range(np.dtype(dtype).itemsize)]
    is_voice = max(found) > _WRONG_BYTE and min(found) * _CLEARLY < max(found)
    return not is_voice or min(found) > _NOISE


def _begins_as(data: bytes, beginning: str) -> bool | str:
    n = min(len(data), len(beginning))
    wanted = beginning.encode('latin-1')
    if any(wanted[i] not in (data[i], ord('?')) for i in range(n)):
        return False
    return True if n == len(beginning) else UNDECIDED


def _id3(data: bytes) -> str | None:
    if len(data) < 10:
        return UNDECIDED
    is_tag = data[3] in (2, 3, 4) and data[4] == 0 and not data[5] & 0x0F
    return 'mp3' if is_tag and max(data[6:10]) < 0x80 else None


def _text_kind(data: bytes, encoding: str) -> str | None:
    said = quoted(data[:80].decode('utf-8', 'replace'))
    if _JSON.match(data):
        return f'JSON text {said}'
    if _MARKUP.match(data):
        return f'a web page {said}'
    # The bytes of a loud, slow sound may all be printable, but it is smooth, which no text is.
    is_rough = roughness(data[:_MOST_TEXT], DTYPES[encoding], 1) > _WRONG_BYTE
    return f'text {said}' if is_rough and len(data) >= _MOST_TEXT else None


def _is_text(data: bytes) -> bool:
    begin = data[:_MOST_TEXT]
    return len(begin) >= _FEWEST_TEXT and _is_printable(begin) and _is_utf8(begin)


def _is_printable(data: bytes) -> bool:
    return all(b >= 0x20 or b in b'\t\r\n' for b in data)


def _is_utf8(begin: bytes) -> bool:
    try:
        begin.decode('utf-8')
    except UnicodeDecodeError as error:
        return error.reason == 'unexpected end of data'
    return True


def _mp3_frame_bytes(head: bytes) -> int:
    """Return the length of a layer III frame by its four bytes of header; 0 = it is none."""
    version, kbps, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if head[1] & 0xE6 != 0xE2 or head[3] & 3 == 2 or version == 1 or kbps in (0, 15) or rate == 3:
        return 0
    factor = 144_000 if version == 3 else 72_000
    kbps = _MP3_KBPS[3 if version == 3 else 2][kbps]
    return factor * kbps // _MP3_RATES_HZ[version][rate] + (head[2] >> 1 & 1)


def _aac_frame_bytes(head: bytes) -> int:
    """Return the length of an ADTS frame of AAC by its six bytes of header; 0 = it is none."""
    if head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 0x0F > 12:
        return 0
    size = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return size if size > 7 else 0


_FRAMED = {'mp3': (4, 0x0C, _mp3_frame_bytes), 'AAC': (6, 0x3C, _aac_frame_bytes)}


def _framed_kind(data: bytes, encoding: str) -> str | None:
    """Recognise a stream without a container, by frames that follow each other."""
    if data[:1] != b'\xff':
        return None
    answers = [_frames_kind(data, encoding, name) for name in _FRAMED]
    return next(filter(None, answers), None)


def _frames_kind(data: bytes, encoding: str, name: str) -> str | None:
    head_bytes, rate_bits, frame_bytes = _FRAMED[name]
    position = n_frames = 0
    while n_frames < 4 and position + head_bytes <= len(data):
        head = data[position : position + head_bytes]
        size = frame_bytes(head) if head[0] == 0xFF else 0
        # Frames of one stream share version, layer and rate.
        if not size or head[1] != data[1] or (head[2] ^ data[2]) & rate_bits:
            break
        n_frames, position = n_frames + 1, position + size
    is_all = position + head_bytes > len(data)
    if n_frames < 2:
        begins = len(data) >= head_bytes or len(data) < 2 or _can_begin(data, name)
        return UNDECIDED if is_all and begins else None
    if n_frames < 3 and not is_all:
        return None
    # A tone may repeat by chance at the same distance, but it is smooth, and not one byte mostly.
    span = data[: min(position, len(data))]
    is_padded = 2 * max(span.count(value) for value in set(span[4:64])) > len(span)
    is_noise = roughness(span, DTYPES[encoding], 1) > _NOISE
    if is_padded or is_noise:
        return name
    return UNDECIDED if is_all and n_frames < 4 else None


def _can_begin(data: bytes, name: str) -> bool:
    return data[1] & (0xE6 if name == 'mp3' else 0xF6) == (0xE2 if name == 'mp3' else 0xF0)
