# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""What goes over the face's socket, read byte by byte as the page does."""

import json
import struct

import numpy as np

from timar_ros.nodes.face_levels import FaceLevels
from timar_ros.nodes.face_wire import pack_plan, pack_state
from timar_ros.stream.audio import AudioPacket

NOW_NS = 1_795_365_367_080_493_201  # float64 ms are exact to 0.3 us here


def packet(samples, stamp_ns, rate_hz=16000) -> AudioPacket:
    return AudioPacket(
        stamp_ns=stamp_ns, first_sample=0, sent_ns=None, sample_rate_hz=rate_hz, samples=samples
    )


def unpack_levels(data):
    kind, n = struct.unpack_from('<II', data)
    start = np.frombuffer(data, '<f8', n, 8)
    span = np.frombuffer(data, '<f4', n, 8 + 8 * n)
    level = np.frombuffer(data, '<f4', n, 8 + 12 * n)
    assert len(data) == 8 + 16 * n
    return kind, start, span, level


def test_a_plan_is_laid_out_as_the_page_reads_it():
    rng = np.random.default_rng(0)
    stamp_ns = NOW_NS + 40_000_000 * np.arange(7)
    neck, arkit = rng.random((7, 4)), rng.random((7, 52))

    data = pack_plan(12, NOW_NS, stamp_ns, neck, arkit)

    assert struct.unpack_from('<IIdd', data) == (1, 7, 12.0, NOW_NS / 1e6)
    np.testing.assert_allclose(np.frombuffer(data, '<f8', 7, 24), stamp_ns / 1e6, rtol=0)
    np.testing.assert_array_equal(
        np.frombuffer(data, '<f4', 28, 80).reshape(7, 4), neck.astype(np.float32)
    )
    np.testing.assert_array_equal(
        np.frombuffer(data, '<f4', 7 * 52, 192).reshape(7, 52), arkit.astype(np.float32)
    )
    assert len(data) == 192 + 7 * 52 * 4


def test_levels_are_those_of_20_ms_blocks_at_their_times():
    amplitude = np.repeat([0.5, 0.05, 0.0], 320)
    samples = (amplitude * np.where(np.arange(960) % 2, 1, -1)).astype(np.float32)[:, None]
    levels = FaceLevels()

    levels.push(packet(samples, NOW_NS), arrival_ns=0)
    kind, start, span, level = unpack_levels(levels.take())

    assert kind == 2
    np.testing.assert_allclose(start - NOW_NS / 1e6, [0.0, 20.0, 40.0], atol=1e-3)
    np.testing.assert_allclose(span, 20.0)
    np.testing.assert_allclose(level, [-6.02, -26.02, -120.0], atol=0.01)
    assert levels.take() == b''


def test_packets_of_any_length_rate_and_channels_are_gathered():
    levels = FaceLevels()

    levels.push(packet(np.full((480, 2), 0.1, np.float32), NOW_NS, 48000), 0)  # 10 ms
    levels.push(packet(np.full((1203, 1), 0.1, np.float32), None, 24000), NOW_NS)  # 50.125 ms
    levels.push(packet(np.zeros((0, 1), np.float32), NOW_NS), 0)
    _, start, span, level = unpack_levels(levels.take())

    np.testing.assert_allclose(start - NOW_NS / 1e6, [0.0, 0.0, 16.7, 33.4], atol=0.05)
    np.testing.assert_allclose(span, [10.0, 16.7, 16.7, 16.7], atol=0.05)
    np.testing.assert_allclose(level, -20.0, atol=0.01)


def test_the_state_is_json_with_its_time():
    state = json.loads(pack_state(NOW_NS, 3, -21.04, -33.0))

    assert state == {
        'type': 'state',
        'stamp_ms': NOW_NS / 1e6,
        'state': 3,
        'user_db': -21.0,
        'agent_db': -33.0,
    }
