# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What is wrong with the measured joints, in a sentence for a person.

Responsible for the words. Not for what is believed (feedback.py).
"""

from timar_ros.retarget.feedback import Feedback
from timar_ros.retarget.neck import Neck
from timar_ros.retarget.robot import missing_joints_text

_SECOND_NS = 1_000_000_000
_SILENT_NS = 2 * _SECOND_NS
_MOST_NAMES = 8


def joint_trouble(neck: Neck, now_ns: int, reported, publishers) -> str:
    """
    Return what is wrong with `joint_states`, and what to do; empty if nothing is.

    Args:
        neck: whose joints are measured.
        now_ns: motion time.
        reported: names that `joint_states` had.
        publishers: names of the nodes that publish it.
    """
    missing, feedback = neck.missing_joints, neck.feedback
    waits = '' if neck.has_begun else '; nothing moves until then'
    uneven = uneven_text(feedback, now_ns, publishers)
    if uneven:
        return f'{uneven}{waits if missing else ""}'
    if missing:
        return missing_joints_text(neck.robot, missing, reported, feedback.unusable)
    contradiction = feedback.contradiction(now_ns)
    if contradiction and len(publishers) > 1:
        names = ', '.join(publishers[:_MOST_NAMES])
        return (
            f'{contradiction}: it has {len(publishers)} publishers ({names}) that contradict each '
            f'other; stop one, or remap it{waits}'
        )
    if contradiction:
        return f'{contradiction}: the sensor or its driver is at fault; check its wiring{waits}'
    if feedback.unusable:
        name, what = next(iter(feedback.unusable.items()))
        return (
            f'{name!r} is in joint_states, but its position is no number now ({what}): check the '
            f'hardware and its driver{waits}'
        )
    silent_ns = feedback.age_ns(now_ns)
    if silent_ns > _SILENT_NS:
        return (
            f'no positions came on joint_states for {silent_ns // _SECOND_NS} s: restart the '
            f'joint_state_broadcaster or the driver{waits}'
        )
    unrest = feedback.unrest(now_ns) if neck.is_enabled and not neck.has_begun else ''
    return f'{unrest}{waits}' if unrest else ''


def uneven_text(feedback: Feedback, now_ns: int, publishers) -> str:
    """
    Return that a message was refused lately as it had not one position for each name; else ''.

    Args:
        feedback: what was measured.
        now_ns: motion time.
        publishers: names of the nodes that publish `joint_states`.
    """
    uneven = feedback.uneven
    if uneven is None or now_ns - uneven.arrived_ns > _SILENT_NS:
        return ''
    names = ', '.join(publishers[:_MOST_NAMES])
    who = f' (publishers: {names})' if names else ''
    return (
        f'joint_states{who} has {uneven.n_names} names and {uneven.n_positions} positions in one '
        'message, which is refused as nobody can know whose each position is: publish one '
        'position for each name, joints without in a message of their own'
    )
