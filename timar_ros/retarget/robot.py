# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A robot's neck as data: one YAML file a robot, read strictly.

Responsible for the joints, their limits and where commands go; what does not make sense is
refused with the file, the key and the fix. Not for motion or ROS.
"""

import dataclasses
import math
from pathlib import Path

from timar_ros.retarget.joint_names import joint_hint
from timar_ros.strict import did_you_mean, quoted, read_yaml, shortened, why_no_file

# Rotations about x (forward), y (left), z (up) of REP-103; 'jaw' opens the mouth.
AXES = ('roll', 'pitch', 'yaw', 'jaw')
OUTPUTS = ('trajectory', 'commands', 'joint_targets')
LIMITS = ('position_rad', 'velocity_rad_s', 'acceleration_rad_s2', 'jerk_rad_s3')
_N_NAMES_SHOWN = 20
# More than any neck does, and less than the same in degrees: the unit is wrong.
_LARGEST = {
    'position_rad': 2 * math.pi,
    'velocity_rad_s': 50.0,
    'acceleration_rad_s2': 5_000.0,
    'jerk_rad_s3': 200_000.0,
}


@dataclasses.dataclass(frozen=True)
class Joint:
    """
    One joint of a neck: joint = offset_rad + sign * scale * angle about its axis.

    Attributes:
        name: as in `joint_states` and in the controller.
        axis: 'roll', 'pitch', 'yaw' (REP-103; positive pitch is nose down) or 'jaw' (opening).
        sign: 1, or -1 where the joint turns the other way.
        offset_rad: the joint where the head looks straight ahead (the mouth is closed).
        scale: joint radians for each radian of the head.
        is_continuous: it turns round and round; positions a whole turn apart are the same.
        lower_rad, upper_rad: limits of position; infinite for a continuous joint without.
        velocity_rad_s, acceleration_rad_s2, jerk_rad_s3: limits of magnitude.
        ours: names of the limits that the maker does not publish; we chose them.
    """

    name: str
    axis: str
    sign: int
    offset_rad: float
    scale: float
    lower_rad: float
    upper_rad: float
    velocity_rad_s: float
    acceleration_rad_s2: float
    jerk_rad_s3: float
    ours: tuple[str, ...]
    is_continuous: bool = False


@dataclasses.dataclass(frozen=True)
class Robot:
    """
    The neck of a robot.

    Attributes:
        name: of the file.
        description: which robot, and where the numbers come from.
        output: 'trajectory', 'commands' or 'joint_targets': what the robot listens to.
        topic: where it listens, relative to the robot's namespace.
        base_frame, head_frame: TF frames below and above the neck.
        joints: in the order of the controller.
        chain: rotation axes from the body to the head.
        source: path of the file.
    """

    name: str
    description: str
    output: str
    topic: str
    base_frame: str
    head_frame: str
    joints: tuple[Joint, ...]
    chain: tuple[str, ...]
    source: str

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names of the joints, in the order of the controller."""
        return tuple(joint.name for joint in self.joints)


def robot_names(folder: str | Path) -> list[str]:
    """Return the names of the robots that `folder` describes, sorted."""
    return sorted(path.stem for path in Path(folder).glob('*.yaml'))


def load_robot(robot: str, folder: str | Path) -> Robot:
    """
    Read a robot, strictly.

    Args:
        robot: name of a robot in `folder`, or a path that ends in `.yaml`.
        folder: where the shipped robots lie.

    Raises:
        FileNotFoundError: there is no such robot or file; names the nearest known one.
        ValueError: the file is not YAML, or describes an impossible robot.
    """
    path = (
        Path(robot) if str(robot).endswith(('.yaml', '.yml')) else Path(folder) / f'{robot}.yaml'
    )
    if not _is_file(path):
        known = robot_names(folder)
        if path == Path(robot):
            fix = f'give a path, or one of {", ".join(known)}'
            raise FileNotFoundError(why_no_file(path, 'robot file', fix))
        raise FileNotFoundError(
            f'unknown robot {quoted(str(robot))}{did_you_mean(robot, known)}; shipped: '
            f'{", ".join(known)}; or give the path of a YAML file of your own'
        )
    return _robot(read_yaml(path), path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return False


def missing_joints_text(robot: Robot, missing, reported, unusable=()) -> str:
    """
    Explain what to do about joints whose position is unknown.

    Args:
        robot: from its file.
        missing: names of its joints of which `joint_states` never had a position.
        reported: names that it had.
        unusable: name -> what its position was instead of a number ('NaN', 'infinite',
            'missing'), for joints that `joint_states` names.
    """
    if not set(reported) and not unusable:
        return (
            "joint_states has not come yet, so nothing moves; start the robot's "
            'joint_state_broadcaster, or set the parameter feedback to false for a robot without'
        )
    named = [name for name in missing if name in unusable]
    if named:
        positions = '; '.join(
            f'{name!r} is in joint_states, but its position is {unusable[name]}' for name in named
        )
        return (
            f'{positions}; nothing moves until then: the hardware or its driver does not report '
            'positions yet'
        )
    names = ', '.join(repr(name) for name in missing)
    others = [name for name in robot.joint_names if name != missing[0]]
    shown = [shortened(str(name)) for name in sorted(reported)[:_N_NAMES_SHOWN]]
    return (
        f'{robot.source}: joints: {names} not in joint_states'
        f'{joint_hint(missing[0], reported, others)}; it has {", ".join(shown)}; correct the name '
        'there, or set the parameter feedback to false for a robot that does not report it; '
        'nothing moves until then'
    )


def _check_keys(mapping, required, optional, where: str) -> None:
    if not isinstance(mapping, dict):
        raise ValueError(f'{where}: expected keys with values, got {quoted(mapping)}')
    known = (*required, *optional)
    for key in mapping:
        if key not in known:
            hint = did_you_mean(key, known) or f'; known: {", ".join(known)}'
            raise ValueError(f'{where}: unknown key {quoted(key)}{hint}')
    for key in required:
        if key not in mapping:
            raise ValueError(f'{where}: missing key {key!r}; add it')


def _number(value, where: str) -> float:
    try:
        number = float(value) if type(value) in (int, float) else math.nan
    except OverflowError:  # an integer of hundreds of digits
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f'{where}: must be a finite number, got {quoted(value)}')
    return number


def _text(value, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'{where}: must be a text that is not empty, got {quoted(value)}')
    return value.strip()


def _choice(value, choices, where: str):
    if value not in choices:
        # Only a text or a number can be a misspelt choice; a list may be endless.
        hint = did_you_mean(value, choices) if isinstance(value, str | int | float) else ''
        raise ValueError(
            f'{where}: must be one of {", ".join(map(str, choices))}, got {quoted(value)}{hint}'
        )
    return value


def _robot(content, path: Path) -> Robot:
    required = ('description', 'output', 'topic', 'joints')
    _check_keys(content, required, ('base_frame', 'head_frame', 'chain'), str(path))
    entries = content['joints']
    if not isinstance(entries, list) or not entries:
        raise ValueError(
            f'{path}: joints: must be a list of at least one joint, got {quoted(entries)}'
        )
    joints = tuple(_joint(entry, f'{path}: joints[{i}]') for i, entry in enumerate(entries))
    for what in ('name', 'axis'):
        values = [getattr(joint, what) for joint in joints]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(
                f'{path}: joints: {what} {quoted(twice[0])} stands twice; each joint needs its own'
            )
    axes = [joint.axis for joint in joints if joint.axis != 'jaw']
    chain = content.get('chain', axes)
    is_list = isinstance(chain, list) and all(isinstance(axis, str) for axis in chain)
    if not is_list or sorted(chain) != sorted(axes):
        raise ValueError(
            f'{path}: chain: must name the axes of the joints ({", ".join(axes)}) from the body '
            f'to the head, got {quoted(chain)}'
        )
    return Robot(
        name=path.stem,
        description=_text(content['description'], f'{path}: description'),
        output=_choice(content['output'], OUTPUTS, f'{path}: output'),
        topic=_text(content['topic'], f'{path}: topic'),
        base_frame=_text(content.get('base_frame', 'neck_base'), f'{path}: base_frame'),
        head_frame=_text(content.get('head_frame', 'head'), f'{path}: head_frame'),
        joints=joints,
        chain=tuple(chain),
        source=str(path),
    )


def _joint(entry, where: str) -> Joint:
    optional = ('sign', 'offset_rad', 'scale', 'continuous')
    _check_keys(entry, ('name', 'axis', 'limits'), optional, where)
    name = _text(entry['name'], f'{where}: name')
    where = f'{where} ({shortened(name)})'
    limits = entry['limits']
    is_continuous = entry.get('continuous', False)
    if not isinstance(is_continuous, bool):
        raise ValueError(
            f'{where}: continuous must be true (a joint without stops) or false, got '
            f'{quoted(is_continuous)}'
        )
    needed = LIMITS[1:] if is_continuous else LIMITS
    _check_keys(limits, needed, ('ours', 'position_rad'), f'{where}: limits')
    lower, upper = -math.inf, math.inf
    if 'position_rad' in limits:
        lower, upper = _range(limits['position_rad'], f'{where}: limits: position_rad')
        if not is_continuous:
            furthest = max(lower, upper, key=abs)
            _check_unit('position_rad', furthest, f'{where}: limits: position_rad')
    magnitudes = {key: _number(limits[key], f'{where}: limits: {key}') for key in LIMITS[1:]}
    for key, value in magnitudes.items():
        if value <= 0:
            raise ValueError(
                f'{where}: limits: {key} must be above 0 (it is a magnitude, for both ways), '
                f'got {value}'
            )
        _check_unit(key, value, f'{where}: limits: {key}')
    ours = limits.get('ours', [])
    if not isinstance(ours, list):
        raise ValueError(f'{where}: limits: ours must be a list of limits, got {quoted(ours)}')
    for limit in ours:
        _choice(limit, LIMITS, f'{where}: limits: ours')
    offset = _number(entry.get('offset_rad', 0.0), f'{where}: offset_rad')
    if not lower <= offset <= upper:
        raise ValueError(
            f'{where}: offset_rad {offset} lies outside position_rad [{lower}, {upper}]; it is '
            'the joint where the head looks straight ahead'
        )
    scale = _number(entry.get('scale', 1.0), f'{where}: scale')
    if scale <= 0:
        raise ValueError(
            f'{where}: scale must be above 0, got {scale}; use sign: -1 to turn round'
        )
    return Joint(
        name=name,
        axis=_choice(entry['axis'], AXES, f'{where}: axis'),
        sign=_choice(entry.get('sign', 1), (1, -1), f'{where}: sign'),
        offset_rad=offset,
        scale=scale,
        lower_rad=lower,
        upper_rad=upper,
        velocity_rad_s=magnitudes['velocity_rad_s'],
        acceleration_rad_s2=magnitudes['acceleration_rad_s2'],
        jerk_rad_s3=magnitudes['jerk_rad_s3'],
        ours=tuple(ours),
        is_continuous=is_continuous,
    )


def _check_unit(key: str, value: float, where: str) -> None:
    """Refuse a limit so large that it must be in degrees."""
    largest = _LARGEST[key]
    if abs(value) <= largest:
        return
    unit = key.partition('_')[2].replace('_', '/').replace('s2', 's²').replace('s3', 's³')
    turns = abs(value) / (2 * math.pi)
    per = unit.replace('rad', ' turns', 1)
    raise ValueError(
        f'{where}: {value:g} {unit} is {turns:.3g}{per}; are these degrees? At most '
        f'{largest:.6g} {unit} is accepted'
        + ('; a joint that turns without end is continuous: true' if key == LIMITS[0] else '')
    )


def _range(position, where: str) -> tuple[float, float]:
    if not isinstance(position, list) or len(position) != 2:
        raise ValueError(f'{where} must be [lowest, highest], got {quoted(position)}')
    lower, upper = (_number(value, where) for value in position)
    if not lower < upper:
        raise ValueError(
            f'{where} is the wrong way round: {lower} is not below {upper}; write '
            f'[{min(lower, upper)}, {max(lower, upper)}]'
        )
    return lower, upper
