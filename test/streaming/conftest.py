# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Streams of audio packets, as publishers send them."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from timar_ros.stream.audio import AudioPacket
from timar_ros.stream.buffer import VoiceTrack
from timar_ros.stream.ingest import VoiceIngest

_BEGIN_NS = 1_700_000_000_000_000_000


def _noise(n, channels=1, seed=0):
    return (np.random.default_rng(seed).standard_normal((n, channels)) * 0.1).astype(np.float32)


def _packets(samples, chunk, rate_hz=16_000, begin_ns=_BEGIN_NS, is_counted=True, count=0):
    """Cut a stream as a good publisher does; `chunk` is a size or a function that draws one."""
    packets, start = [], 0
    while start < len(samples):
        n = chunk() if callable(chunk) else chunk
        packets.append(
            AudioPacket(
                stamp_ns=begin_ns + start * 1_000_000_000 // rate_hz,
                first_sample=count + start if is_counted else None,
                sent_ns=None,
                sample_rate_hz=rate_hz,
                samples=samples[start : start + n],
            )
        )
        start += n
    return packets


def _arrival_of(packet):
    return packet.stamp_ns + len(packet.samples) * 1_000_000_000 // packet.sample_rate_hz


def _ingest(role='user', **options):
    return VoiceIngest(role, VoiceTrack(), **options)


def _push_all(ingest, packets, lead_ms=None):
    for packet in packets:
        if lead_ms is None:
            ingest.push(packet, _arrival_of(packet))
        else:
            ingest.push(packet, packet.stamp_ns - lead_ms * 1_000_000)


def _read_all(ingest):
    track = ingest.track
    return track.read(track.begin, track.end - track.begin)


def _counted(ingest):
    return {name: n for name, n in ingest.counters.items() if n}


@pytest.fixture(scope='session')
def audio():
    """
    Return makers of streams and of what takes them.

    noise(n, channels, seed) -> samples; packets(samples, chunk, ...) -> a clean stream from a
    fixed moment on; change(packet, field=value) -> another packet; arrival_of(packet) -> ns,
    without delay; ingest(role) with a track of its own; push_all(ingest, packets, lead_ms) in
    order and on time, or announced so long ahead; read_all(ingest) -> samples and presence of all
    that is on its track; counted(ingest) -> its counters other than zero.
    """
    return SimpleNamespace(
        noise=_noise,
        packets=_packets,
        change=dataclasses.replace,
        arrival_of=_arrival_of,
        ingest=_ingest,
        push_all=_push_all,
        read_all=_read_all,
        counted=_counted,
    )
