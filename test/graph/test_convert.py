# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Messages and arrays."""

import subprocess
import sys

import numpy as np
import pytest

from timar_ros.motion import get_space
from timar_ros.nodes.convert import (
    audio_chunk,
    motion_from_msg,
    plan_from_msg,
    plan_to_msg,
    stamp_from_ns,
    stamp_to_ns,
)


def make_motion(space, n: int) -> np.ndarray:
    motion = np.random.default_rng(3).uniform(-0.5, 0.5, (n, space.n_channels))
    if space.jaw is not None:
        motion[:, space.jaw] = np.abs(motion[:, space.jaw]) * [1, 0, 0]
    return space.clamp(motion).astype(np.float32)


def make_plan(space, motion):
    n = len(motion)
    stamps = 7_000_000_000 + 40_000_000 * np.arange(n)
    frame = np.arange(n)
    return plan_to_msg(space, 4, 25.0, stamps, np.full(n, 7), frame, motion, 'torso'), stamps


@pytest.mark.parametrize('stamp_ns', [0, 1, 1_750_000_000_123_456_789, -1, -1_500_000_000])
def test_stamps_survive_the_round_trip_exactly(stamp_ns):
    assert stamp_to_ns(stamp_from_ns(stamp_ns)) == stamp_ns


@pytest.mark.parametrize('name', ['arkit55', 'flame56'])
def test_a_plan_survives_the_round_trip(name):
    space = get_space(name)
    motion = make_motion(space, 6)

    msg, stamps = make_plan(space, motion)
    stamps_back, motion_back = plan_from_msg(space, msg)

    np.testing.assert_array_equal(stamps_back, stamps)
    np.testing.assert_allclose(motion_back, motion, atol=1e-6)
    assert (msg.plan, msg.frame_rate, msg.header.frame_id) == (4, 25.0, 'torso')
    assert [(f.turn, f.frame) for f in msg.frames] == [(7, i) for i in range(6)]


def test_a_nod_is_a_rotation_about_the_y_axis_of_ros():
    space = get_space('arkit55')
    motion = space.neutral[None].copy()
    motion[0, space.neck] = [0.2, 0.0, 0.0]  # FLAME: nose down

    neck = make_plan(space, motion)[0].frames[0].neck

    np.testing.assert_allclose(
        [neck.x, neck.y, neck.z, neck.w], [0, np.sin(0.1), 0, np.cos(0.1)], atol=1e-7
    )


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_motion_that_is_not_finite_never_becomes_a_message(value):
    space = get_space('arkit55')
    motion = make_motion(space, 3)
    motion[1, 5] = value

    with pytest.raises(ValueError, match='frame 1 of 3 has NaN or infinity'):
        make_plan(space, motion)


def test_a_frame_with_nan_is_refused():
    space = get_space('arkit55')
    frame = make_plan(space, make_motion(space, 1))[0].frames[0]
    frame.neck.x = float('nan')

    with pytest.raises(ValueError, match='finite quaternion'):
        motion_from_msg(space, frame)


def test_a_plan_out_of_order_is_refused():
    space = get_space('arkit55')
    msg, _ = make_plan(space, make_motion(space, 3))
    msg.frames[1], msg.frames[2] = msg.frames[2], msg.frames[1]

    with pytest.raises(ValueError, match='stamps of plan 4 must increase'):
        plan_from_msg(space, msg)


def test_a_chunk_carries_its_samples_as_16_bit_integers():
    samples = np.array([0.0, 0.5, -1.0, 1.0, 2.0], np.float32)

    chunk = audio_chunk(samples, 16000, stamp_ns=5, first_sample=80, sent_ns=3)

    np.testing.assert_array_equal(
        np.frombuffer(chunk.data, '<i2'), [0, 16384, -32768, 32767, 32767]
    )
    assert (chunk.sample_rate, chunk.channels, chunk.encoding) == (16000, 1, 'pcm_s16le')
    assert (chunk.first_sample, chunk.header.stamp.nanosec, chunk.sent.nanosec) == (80, 5, 3)


def test_sound_that_is_not_finite_never_becomes_a_message():
    with pytest.raises(ValueError, match='samples must be finite'):
        audio_chunk(np.array([0.0, np.nan]), 16000, stamp_ns=0, first_sample=0)


@pytest.mark.parametrize('name', ['neck', 'face', 'microphone', 'speaker', 'replay'])
def test_nodes_without_a_model_do_not_load_torch(name):
    code = f'import sys, timar_ros.nodes.{name}; sys.exit("torch" in sys.modules)'

    assert subprocess.run([sys.executable, '-c', code], timeout=60).returncode == 0


@pytest.mark.parametrize(
    ('stamp_ns', 'sec', 'nanosec'),
    [
        (-1, -1, 999_999_999),
        ((2**31 - 1) * 10**9 + 5, 2**31 - 1, 5),
        (2**31 * 10**9, 2**31 - 1, 999_999_999),
        (2**63 - 1, 2**31 - 1, 999_999_999),
        (-(2**31) * 10**9, -(2**31), 0),
        (-(2**31) * 10**9 - 1, -(2**31), 0),
        (-(2**63), -(2**31), 0),
    ],
)
def test_times_that_no_stamp_can_hold_become_the_nearest_that_one_can(stamp_ns, sec, nanosec):
    stamp = stamp_from_ns(stamp_ns)

    assert (stamp.sec, stamp.nanosec) == (sec, nanosec)
