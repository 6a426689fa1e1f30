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
        '', "what is sent; empty: as the robot's file says", choices=('', *OUTPUTS, 'none')
    )
    topic: str = parameter(
        '', "where it is sent; empty: as the robot's file says, or neck/<output>"
    )
    feedback: bool = parameter(
        True,
        'move nothing before joint_states reports where the joints are; False: a robot without',
    )
    enable_on_start: bool = parameter(True, 'False: follow plans only after ~/enable')
    additive: bool = parameter(
        False, 'motion is an offset on neck/base_orientation, as a gaze tracker sends it'
    )
    gain: float = parameter(
        _FOLLOWING.gain, 'scales the rotation of the head', minimum=0, maximum=5, dynamic=True
    )
    rate_hz: float = parameter(
        100.0, 'of commands and joint_targets', unit='Hz', minimum=1, maximum=1000
    )
    head_pose_hz: float = parameter(
        0.0, 'of head_pose; 0: do not publish it', unit='Hz', minimum=0, maximum=1000
    )
    tf: bool = parameter(False, 'publish the head in /tf, too, at head_pose_hz')
    lead_ms: int = parameter(
        _FOLLOWING.lead_ms,
        'motion nearer than this is not changed any more',
        unit='ms',
        minimum=0,
        maximum=1000,
    )
    settle_ms: int = parameter(
        _FOLLOWING.settle_ms,
        'at least, from where the joints stand to the first point, at rest',
        unit='ms',
        minimum=100,
        maximum=5000,
    )
    glide_ms: int = parameter(
        _FOLLOWING.glide_ms,
        'over which a motion that begins at rest takes over',
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
        'motion of this frequency comes out half as large, without delay',
        unit='Hz',
        minimum=1,
        maximum=12,
    )
    moved_rad: float = parameter(
        _FOLLOWING.moved_rad,
        'a joint further than this from where it was sent is held or moved by another: the '
        'motion is led there, and from there back to the plans',
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
