# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Plans, measurements and limits for tests of the neck, on the robot pan_tilt_roll."""

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from timar_ros.retarget.neck import Neck, NeckConfig
from timar_ros.retarget.robot import load_robot

FOLDER = Path(__file__).parents[1] / 'config' / 'robots'
ROBOT = load_robot('pan_tilt_roll', FOLDER)
MS = 1_000_000
FRAME = 40 * MS
START = 25 * 1_000_000 * FRAME
NEUTRAL = np.array([0.0, 0.0, 0.0, 1.0])


def nods(seconds, amplitude=0.2, frequency_hz=1.0, begin_ns=START):
    """Return stamps, heads and jaws of nods, the same at a moment whenever they begin."""
    stamps = begin_ns + np.arange(round(seconds * 25)) * FRAME
    time_s = (stamps - START) / 1e9
    pitch = amplitude * np.sin(2 * np.pi * frequency_hz * time_s)
    neck = Rotation.from_rotvec(pitch[:, None] * [0.0, 1.0, 0.0]).as_quat()
    return stamps, neck, np.zeros(len(stamps))


def still(seconds, begin_ns=START, neck=NEUTRAL):
    """Return stamps, heads and jaws of one pose."""
    stamps = begin_ns + np.arange(round(seconds * 25)) * FRAME
    return stamps, np.tile(neck, (len(stamps), 1)), np.zeros(len(stamps))


def see(neck, position, now_ns=START, names=ROBOT.joint_names):
    """Measure the joints at a place three times, over 50 ms."""
    for age_ms in (50, 25, 0):
        neck.see_joints(names, position, now_ns - age_ms * MS)


def make_neck(position=(0.0, 0.0, 0.0), robot=ROBOT, **config):
    """Return a neck whose joints were measured at `position` at START."""
    neck = Neck(robot, NeckConfig(**config))
    see(neck, position)
    return neck


def following(seconds=3.0):
    """Return a neck that nods since START, and the time now."""
    neck = make_neck()
    neck.push_plan(*nods(seconds + 5))
    now = START
    while now < START + seconds * 1e9:
        neck.update(now)
        now += 200 * MS
    return neck, now


def assert_within_limits(neck, since_ns, until_ns):
    """Assert that a motion keeps every limit between two times."""
    motion = neck.sample(np.arange(since_ns, until_ns, MS))
    for i, joint in enumerate(neck.robot.joints):
        position, velocity, acceleration, jerk = (part[:, i] for part in motion)
        assert position.min() >= joint.lower_rad and position.max() <= joint.upper_rad
        assert np.abs(velocity).max() <= joint.velocity_rad_s
        assert np.abs(acceleration).max() <= joint.acceleration_rad_s2
        assert np.abs(jerk).max() <= joint.jerk_rad_s3 * (1 + 1e-9)
