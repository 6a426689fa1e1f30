# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Samples out of what a TTS sends as a file: a wav's header and trailer left out, others refused.

Responsible for where the samples of a wav that comes in pieces lie. Not for samples that were cut,
nor for wav files on disk.
"""

import dataclasses
import re
import struct

from timar_ros.bounds import MAX_UTTERANCE_MESSAGE_BYTES
from timar_ros.stream.foreign_formats import UNDECIDED, may_be_wave, other_format
from timar_ros.stream.riff_header import Header, is_name, is_wave, read_header

_KINDS = {(1, 16): 'pcm_s16le', (3, 32): 'pcm_f32le'}  # by codec and bits of a header
_HEADER = re.compile(rb'RIFF....WAVE(fmt |JUNK|bext|LIST)', re.DOTALL)
_HEADER_BYTES = 16  # that it matches
_TRAILERS = (
    b'LIST', b'C2PA', b'ID3 ', b'id3 ', b'bext', b'cue ', b'fact', b'smpl', b'inst', b'JUNK',
    b'junk', b'PAD ', b'FLLR', b'iXML', b'_PMX', b'axml', b'PEAK', b'afsp', b'acid',
)  # fmt: skip
_FIX = 'ask the TTS for pcm'
_FEWEST_TRAILER = 13  # bytes: a pad and a header's magic, size and form


@dataclasses.dataclass(frozen=True)
class Unwrapping:
    """
    What is known of the container that an utterance comes in, after one of its messages.

    Attributes:
        samples: the bytes of that message that are samples.
        begins: the first of them is the first of a sample: a header or nothing came before it.
        is_begun: it is known what the utterance is.
        is_wave: it is a wav.
        held: bytes of which more are needed to see what they are, such as half a header.
        left: bytes of samples that its header still counts; None = to the end.
        declared: bytes that it counts after those.
        skip: bytes of trailers that are still to come.
        n_headers: left out in that message.
        n_trailers: left out in that message.
    """

    samples: bytes = b''
    begins: bool = False
    is_begun: bool = False
    is_wave: bool = False
    held: bytes = b''
    left: int | None = None
    declared: int = 0
    skip: int = 0
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
    is_start = not before.is_begun
    begin = before.held + data if is_start else data
    if is_wave(begin):
        walk = _Walk(Unwrapping(is_begun=True, is_wave=True, left=0), form)
        return walk.through(begin)
    other = other_format(begin, form[0])
    if is_start and (other == UNDECIDED or may_be_wave(begin)):
        return Unwrapping(held=begin)
    if other not in (None, UNDECIDED):
        raise ValueError(f'expected {form[0]} samples, got {other}; {_FIX}')
    walk = _Walk(dataclasses.replace(before, is_begun=True), form)
    walk.begins = is_start and bool(before.held)
    return walk.through(before.held + data)


class _Walk:
    """One message's bytes in turn: headers, samples and trailers."""

    def __init__(self, before: Unwrapping, form: tuple):
        self.begins = False
        self._before, self._form = before, form
        self._left, self._declared, self._skip = before.left, before.declared, before.skip
        self._samples, self._held = bytearray(), b''
        self._n_headers = self._n_trailers = 0

    def through(self, data: bytes) -> Unwrapping:
        """Go through the bytes; return what is known after them."""
        while data:
            data = self._step(data)
        return dataclasses.replace(
            self._before, samples=bytes(self._samples), begins=self.begins, held=self._held,
            left=self._left, declared=self._declared, skip=self._skip, n_headers=self._n_headers,
            n_trailers=self._n_trailers,
        )  # fmt: skip

    def _step(self, data: bytes) -> bytes:
        """Take the first bytes, which are of one kind; return the others."""
        if self._skip:
            n = min(self._skip, len(data))
            self._skip -= n
            return data[n:]
        if self._left is None:
            return self._take_uncounted(data)
        if self._left:
            n = min(self._left, len(data))
            self._samples += data[:n]
            self._left -= n
            return data[n:]
        return self._take_after_samples(data)

    def _take_uncounted(self, data: bytes) -> bytes:
        n = len(data)
        if self._before.is_wave:  # another may follow
            found = _HEADER.search(data)
            half = data.find(b'RIFF', max(0, n - _HEADER_BYTES + 1))
            if found:
                n, self._left = found.start(), 0
            elif half >= 0:
                n, self._held = half, data[half:]
        self._samples += data[:n]
        return data[n + len(self._held) :]

    def _take_after_samples(self, data: bytes) -> bytes:
        if is_wave(data):
            return self._take_header(data)
        if len(data) < _FEWEST_TRAILER:
            self._held = data
            return b''
        if is_wave(data[1:]):  # samples of an odd size are padded, by most writers
            return data[1:]
        self._skip = _trailer_bytes(data, self._declared)
        self._declared = max(self._declared - self._skip, 0)
        self._n_trailers += bool(self._skip)
        if not self._skip:  # the header counted too few, such as its own message's only
            self._left = None
        return data

    def _take_header(self, data: bytes) -> bytes:
        try:
            header = read_header(data)
        except ValueError as error:
            raise ValueError(f'expected {self._form[0]} samples, got {error}; {_FIX}') from None
        if header is None:
            self._held = data
            return b''
        _check_format(header, self._form)
        self.begins = self.begins or not self._samples
        self._n_headers += 1
        self._left, self._declared = header.size, 0
        if header.size is not None and header.end is not None:
            end = header.begin + header.size
            self._declared = max(header.end - end - end % 2, 0)
        return data[header.begin :]


def _check_format(header: Header, form: tuple) -> None:
    encoding, channels, rate_hz = form
    if header.is_big_endian:
        raise ValueError(f'expected {encoding} samples, got a big-endian wav; {_FIX}')
    found = header.format
    if found is None:
        raise ValueError(f'expected {encoding} samples, got a wav without a fmt chunk; {_FIX}')
    kind = _KINDS.get((found.codec, found.bits), f'codec 0x{found.codec:04x} of {found.bits} bits')
    if (kind, found.channels, found.rate_hz) != form:
        raise ValueError(
            f'the message says {encoding}, {channels} channels, {rate_hz} Hz, the wav header in '
            f'its data {kind}, {found.channels} channels, {found.rate_hz} Hz; set the fields of '
            'the message to what the TTS sends'
        )


def _trailer_bytes(data: bytes, declared: int) -> int:
    """Return how long the chunk is that follows the samples, 0 where more samples do."""
    for pad in (0, 1):
        name = data[pad : pad + 4]
        if not is_name(name):
            continue
        if declared:
            return pad + declared
        end = pad + 8 + struct.unpack_from('<I', data, pad + 4)[0]
        is_known = name in _TRAILERS and end <= MAX_UTTERANCE_MESSAGE_BYTES
        if is_known or end in (len(data), len(data) - 1):
            return end + (end - pad) % 2
    return 0
