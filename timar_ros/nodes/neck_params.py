# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Parameters of the neck node.

Responsible for their defaults and ranges. Not for what they do.
"""

import dataclasses

from timar_ros.nodes.params import parameter
from timar_ros.retarget.neck_config import NeckConfig
from timar_ros.retarget.robot import OUTPUTS

_FOLLOWING = NeckConfig()


@dataclasses.dataclass(frozen=True)
class NeckParams:
    """Parameters of the neck node."""

    robot: str = parameter(
        'pan_tilt_roll', 'name of a robot in config/robots, or the path of a YAML file'
    )
    output: str = parameter(
        '', "type of the output; empty: from the robot's file", choices=('', *OUTPUTS, 'none')
    )
    topic: str = parameter(
        '', "topic of the output; empty: from the robot's file, or neck/<output>"
    )
    feedback: bool = parameter(
        True,
        'true: wait for joint_states before moving; false: for robots that publish none',
    )
    enable_on_start: bool = parameter(
        True, 'true: follow plans at once; false: only after ~/enable'
    )
    additive: bool = parameter(
        False, 'add the motion to neck/base_orientation, for example of a gaze tracker'
    )
    gain: float = parameter(
        _FOLLOWING.gain, 'scale of the rotation of the head', minimum=0, maximum=5, dynamic=True
    )
    rate_hz: float = parameter(
        100.0, 'rate of the outputs commands and joint_targets', unit='Hz', minimum=1, maximum=1000
    )
    head_pose_hz: float = parameter(
        0.0, 'rate of head_pose; 0: not published', unit='Hz', minimum=0, maximum=1000
    )
    tf: bool = parameter(False, 'publish the head in /tf as well, at head_pose_hz')
    lead_ms: int = parameter(
        _FOLLOWING.lead_ms,
        'motion due within this time is final: later plans do not change it',
        unit='ms',
        minimum=0,
        maximum=1000,
    )
    settle_ms: int = parameter(
        _FOLLOWING.settle_ms,
        'shortest time for the first move, from the measured position to the first target at rest',
        unit='ms',
        minimum=100,
        maximum=5000,
    )
    glide_ms: int = parameter(
        _FOLLOWING.glide_ms,
        'length of the fade-in of motion that starts from rest',
        unit='ms',
        minimum=100,
        maximum=10000,
    )
    stop_ms: int = parameter(
        _FOLLOWING.stop_ms,
        'time constant of a stop',
        unit='ms',
        minimum=20,
        maximum=2000,
    )
    smoothing_hz: float = parameter(
        _FOLLOWING.smoothing_hz,
        'cutoff (-6 dB) of the zero-phase low-pass filter on the motion',
        unit='Hz',
        minimum=1,
        maximum=12,
    )
    moved_rad: float = parameter(
        _FOLLOWING.moved_rad,
        'largest difference between target and measured joint; beyond it something else moves '
        'or holds the joint, and the motion restarts from the measured position',
        unit='rad',
        minimum=0.01,
        maximum=10,
    )

    def __post_init__(self):
        if self.tf and not self.head_pose_hz:
            raise ValueError('tf needs head_pose_hz above 0, got 0; set it to 25.0, for example')

    def neck_config(self) -> NeckConfig:
        """Return how to follow."""
        names = [field.name for field in dataclasses.fields(NeckConfig)]
        return NeckConfig(**{name: getattr(self, name) for name in names if hasattr(self, name)})
