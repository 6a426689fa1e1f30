# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Messages of an utterance to packets of whole samples, wherever the sender cut its bytes.

Responsible for joining samples that two messages share. Not for which packets are one utterance
beyond that, nor for when they sound. HTTP chunks of a TTS end anywhere; forwarded as they come,
one half of a sample is in one message, the other half in the next.
"""

import dataclasses
import types
from typing import Any

import numpy as np

from timar_ros.bounds import MAX_UTTERANCE_MESSAGE_BYTES
from timar_ros.stream.alignment import best_start, is_cut
from timar_ros.stream.audio import AudioPacket, packet_from_fields
from timar_ros.stream.audio_format import check_voice
from timar_ros.stream.containers import Unwrapping, unwrap
from timar_ros.stream.delivery import UTTERANCE_PAUSE_NS, missing_samples
from timar_ros.stream.foreign_formats import DTYPES, are_floats, is_coded
from timar_ros.strict import quoted

_EXPIRY_NS = 2_000_000_000  # the other half of a sample does not come later than this


class UtteranceReader:
    """
    Read `AudioChunk` messages of one sender, in their order.

    Attributes:
        counters: what happened so far, by name.
    """

    def __init__(self):
        self._form: tuple = ()  # encoding, channels and rate of the last message
        self._rest = b''  # of a sample whose end has not come yet
        self._is_cut = False  # messages of this utterance end in mid-sample
        self._is_counting = False
        self._sender_next = 0  # the count that its next message should have, ...
        self._next = 0  # ... and what the next packet gets: of whole samples
        self._last_ns = 0
        self._wrapping = Unwrapping()  # the container that its bytes come in
        self._removed = 0.0  # frames of the last message that were no samples
        self._refused: tuple | None = None  # form, count and time of what was no samples
        self.counters = {
            'empty_messages': 0,  # without samples: ignored
            'cut_messages': 0,  # that end in mid-sample; the rest joined the next one
            'lost_half_samples': 0,  # whose other half did not come
            'cut_headers': 0,  # of wavs, left out
            'cut_trailers': 0,  # what follows the samples of a wav, left out
        }

    def read(self, msg: Any, now_ns: int) -> AudioPacket | None:
        """
        Read a message.

        Args:
            msg: an AudioChunk, or anything with its fields.
            now_ns: time of its arrival.

        Returns:
            Its whole samples, with the one that the message before began; None where it has none.

        Raises:
            ValueError: it contradicts itself, is too large, or holds no samples; it changes
                nothing then, but that what continues such bytes is refused too.
        """
        n_bytes = len(msg.data)
        if n_bytes == 0:
            self.counters['empty_messages'] += 1
            return None
        if n_bytes > MAX_UTTERANCE_MESSAGE_BYTES:
            raise ValueError(
                f'a message may have {MAX_UTTERANCE_MESSAGE_BYTES / 1e6:.0f} MB, got '
                f'{n_bytes / 1e6:.9g} MB; send an utterance in several messages'
            )
        if msg.encoding not in DTYPES:
            raise ValueError(
                f'encoding must be {" or ".join(DTYPES)}, got {quoted(msg.encoding)}; decode '
                'before publishing'
            )
        check_voice(msg.sample_rate, msg.channels)
        missing = self._missing(msg)
        wrapping = self._unwrap(msg, missing, now_ns)
        frame_bytes = _frame_bytes(msg)
        removed = (n_bytes - len(wrapping.samples)) / frame_bytes
        if wrapping.samples != bytes(msg.data):
            msg = _with_data(msg, wrapping.samples)
        if wrapping.begins:
            data, lost = msg.data, int(bool(self._rest))
        else:
            self._check_bytes(msg)
            data, lost = self._from_whole_sample(msg, missing, now_ns)
        n_samples = len(data) // frame_bytes
        self._check_label(msg, bytes(data), now_ns)
        rest = bytes(data[n_samples * frame_bytes :])
        continues = missing is not None and msg.first_sample > 0
        first = self._next + missing if continues else msg.first_sample
        if data is msg.data and not rest and first == msg.first_sample:
            packet = packet_from_fields(msg, max_bytes=MAX_UTTERANCE_MESSAGE_BYTES)
        else:
            packet = self._packet(msg, data[: n_samples * frame_bytes], first)

        self.counters['lost_half_samples'] += lost
        self.counters['cut_messages'] += bool(rest)
        self.counters['cut_headers'] += wrapping.n_headers
        self.counters['cut_trailers'] += wrapping.n_trailers
        is_going_on = missing is not None and not wrapping.begins
        self._is_cut = bool(rest) or (self._is_cut and is_going_on)
        self._wrapping, self._removed = dataclasses.replace(wrapping, samples=b''), removed
        self._refused = None
        self._rest = rest
        self._form = _form_of(msg)
        self._is_counting = msg.first_sample > 0
        self._sender_next = msg.first_sample + n_samples
        self._next = first + n_samples
        self._last_ns = now_ns
        return packet if n_samples else None

    def expire(self, now_ns: int) -> None:
        """Drop half a sample whose other half does not come any more."""
        if now_ns - self._last_ns >= _EXPIRY_NS:
            self.counters['lost_half_samples'] += bool(self._rest)
            self._rest, self._is_cut = b'', False

    def _unwrap(self, msg: Any, missing: int | None, now_ns: int) -> Unwrapping:
        """Find the samples among a message's bytes, or refuse it and what continues it."""
        data, form = bytes(msg.data), _form_of(msg)
        is_close = now_ns - self._last_ns < UTTERANCE_PAUSE_NS
        continues = missing is not None and (msg.first_sample > 0 or is_close)
        try:
            wrapping = unwrap(self._wrapping if continues else Unwrapping(), data, form)
            if not wrapping.n_headers and self._continues_refused(msg, data, now_ns):
                raise ValueError(
                    f'expected {msg.encoding} samples, got what continues bytes that were none; '
                    'ask the TTS for pcm'
                )
        except ValueError:
            self._refused = form, msg.first_sample, now_ns
            if not self._wrapping.is_begun:
                self._wrapping = Unwrapping()
            raise
        return wrapping

    def _continues_refused(self, msg: Any, data: bytes, now_ns: int) -> bool:
        if self._refused is None or self._refused[0] != _form_of(msg):
            return False
        _, first, last_ns = self._refused
        is_close = now_ns - last_ns < UTTERANCE_PAUSE_NS
        if msg.first_sample > first and is_close:
            return True
        # Senders that do not count, and those that stall, are known by what they send.
        can_continue = msg.first_sample > first or (msg.first_sample == first and is_close)
        return can_continue and is_coded(data, msg.encoding, msg.channels)

    def _check_bytes(self, msg: Any) -> None:
        """Refuse bytes that are no whole samples for another reason than a cut."""
        if self._is_cut or len(msg.data) % _frame_bytes(msg) == 0:
            return
        if is_cut(bytes(msg.data), DTYPES[msg.encoding], msg.channels) is False:
            raise ValueError(
                f'data must be samples of {_frame_bytes(msg)} bytes ({msg.channels} channels of '
                f'{msg.encoding}), got {len(msg.data)} bytes that are none at any offset; let the '
                'TTS send all bytes of each sample (numpy: samples.tobytes(), not a cast to uint8)'
            )

    def _check_label(self, msg: Any, data: bytes, now_ns: int) -> None:
        """Refuse float32 that are stated as int16: from a loudspeaker they are loud noise."""
        if msg.encoding == 'pcm_s16le' and are_floats(data):
            self._refused = _form_of(msg), msg.first_sample, now_ns
            raise ValueError(
                'expected pcm_s16le samples, got what most probably are float32; set encoding to '
                "'pcm_f32le'"
            )

    def _missing(self, msg: Any) -> int | None:
        """Return how many samples are missing before a message; None = it begins an utterance."""
        if _form_of(msg) != self._form:
            return None
        if not msg.first_sample:
            return None if self._is_counting else 0
        if self._is_cut and abs(msg.first_sample - self._sender_next) <= 1:
            return 0  # senders count a sample that they cut in either message
        surplus = msg.first_sample - self._sender_next
        if self._removed and abs(surplus - self._removed) <= 1:
            return 0  # senders that count bytes count those of a header, too
        return missing_samples(msg.first_sample, self._sender_next, msg.sample_rate)

    def _from_whole_sample(self, msg: Any, missing: int | None, now_ns: int) -> tuple[Any, int]:
        """Return the bytes from the first whole sample on, and how many halves are lost."""
        n_bytes, rest = len(msg.data), self._rest
        is_new = missing is None and not msg.first_sample
        if not (rest or self._is_cut or n_bytes % _frame_bytes(msg)) or (is_new and not rest):
            return msg.data, 0
        data = bytes(msg.data)
        if is_new:
            return data, 1
        if missing == 0 and msg.first_sample and now_ns - self._last_ns < UTTERANCE_PAUSE_NS:
            return rest + data, 0
        # In doubt: the sender does not count, or a message was lost, and with it where samples
        # begin.
        dtype = DTYPES[msg.encoding]
        if missing == 0:
            start = best_start(rest + data, dtype, msg.channels)
            if start == 0:
                return rest + data, 0
            start = (start - len(rest)) % np.dtype(dtype).itemsize  # nothing of the rest belongs
            return data[start:], bool(rest) + (start > 0)
        start = best_start(data, dtype, msg.channels)
        return data[start:], bool(rest) + (start > 0)

    @staticmethod
    def _packet(msg: Any, data: Any, first: int) -> AudioPacket:
        return packet_from_fields(
            _with_data(msg, data, first),
            max_bytes=2 * MAX_UTTERANCE_MESSAGE_BYTES,  # checked as it came
        )


def _with_data(msg: Any, data: Any, first: int | None = None) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        header=msg.header,
        sent=msg.sent,
        sample_rate=msg.sample_rate,
        channels=msg.channels,
        encoding=msg.encoding,
        first_sample=msg.first_sample if first is None else first,
        data=bytes(data),
    )


def _frame_bytes(msg: Any) -> int:
    return np.dtype(DTYPES[msg.encoding]).itemsize * msg.channels


def _form_of(msg: Any) -> tuple:
    return msg.encoding, msg.channels, msg.sample_rate
