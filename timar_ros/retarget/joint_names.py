# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Which name in `joint_states` a joint of a robot's file may have.

Responsible for proposals that are safe to follow: a name that is another joint's, or that of a
velocity, would move the head by what it does not measure. Not for what is done about a name.
"""

import re

from timar_ros.strict import did_you_mean

# What a last word such as /velocity, .effort or _torque says that a value is.
_NO_ANGLE = frozenset(
    'velocity velocities vel speed effort efforts torque force acceleration accel acc jerk '
    'current voltage temperature temp stiffness'.split()
)


def joint_hint(name: str, reported, others) -> str:
    """
    Return `; did you mean 'x'?` for the name in `joint_states` that is most like a joint's.

    Args:
        name: of the joint, in the robot's file.
        reported: names in `joint_states`.
        others: names of the robot's other joints.
    """
    possible = [each for each in map(str, reported) if _may_be(name, each, others)]
    own = [each for each in possible if re.fullmatch(re.escape(name) + r'\W+position', each)]
    return f'; did you mean {own[0]!r}?' if own else did_you_mean(name, possible)


def _may_be(name: str, reported: str, others) -> bool:
    """Return whether a reported name may be that of an angle of a joint with another name."""
    numbers = [re.findall(r'\d+', each) for each in (name, reported)]
    last = re.findall(r'[a-z]+', reported.lower())[-1:]
    return numbers[0] == numbers[1] and not _NO_ANGLE & set(last) and reported not in others
