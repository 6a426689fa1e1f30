# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Parameters of a node from one frozen dataclass: descriptors, ranges, overrides, later changes.

Knows how a dataclass field becomes a ROS parameter. Refuses values outside a field's range or
choices, and parameters that the node does not have; knows nothing of what they mean.
"""

import dataclasses
import difflib
import math
import typing

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)

_TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
    tuple[bool, ...]: ParameterType.PARAMETER_BOOL_ARRAY,
    tuple[int, ...]: ParameterType.PARAMETER_INTEGER_ARRAY,
    tuple[float, ...]: ParameterType.PARAMETER_DOUBLE_ARRAY,
    tuple[str, ...]: ParameterType.PARAMETER_STRING_ARRAY,
}
# Given to every node by rclpy itself; a parameter file may set them before rclpy declares them.
_RCLPY_PREFIXES = ('qos_overrides.', 'use_sim_time', 'start_type_description_service')


def parameter(
    default,
    description: str,
    *,
    unit: str = '',
    minimum=None,
    maximum=None,
    choices: tuple = (),
    dynamic: bool = False,
):
    """
    Declare one field of a node's parameter dataclass.

    Args:
        default: of the type of the field.
        description: one line for `ros2 param describe`.
        unit: of the value, '' where it has none.
        minimum: smallest value allowed, inclusive; for a tuple, of each element.
        maximum: largest value allowed, inclusive.
        choices: the only values allowed, if any.
        dynamic: True if it may change while the node runs; otherwise it is read-only.
    """
    return dataclasses.field(
        default=default,
        metadata={
            'description': description,
            'unit': unit,
            'min': minimum,
            'max': maximum,
            'choices': choices,
            'dynamic': dynamic,
        },
    )


def declare(node, cls, apply=None):
    """
    Declare every field of `cls` as a parameter of `node`.

    Call once, in the node's constructor. All fields are declared, those with a refused override
    with their default, so that tools can show them whatever the outcome.

    Args:
        node: an rclpy node.
        cls: a frozen dataclass; fields are bool, int, float, str or tuples of one of them, with
            metadata as `parameter` makes it. Its `__post_init__` may refuse contradictions. A
            tuple of numbers needs at least one: ROS cannot tell the type of an empty list.
        apply: called with the new `cls` after a dynamic parameter was set, in the executor.

    Returns:
        `cls` filled with the defaults and the node's overrides.

    Raises:
        ValueError: an override is of the wrong type, out of range, contradicts another, or names
            no parameter of this node; one sentence for each.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    # rclpy has no public way to see overrides of parameters that nobody declared.
    overrides = {name: param.value for name, param in node._parameter_overrides.items()}
    values, problems = {}, []
    for name, field in fields.items():
        values[name] = field.default
        if name in overrides:
            try:
                values[name] = _checked(field, hints[name], overrides[name])
            except ValueError as error:
                problems.append(str(error))
        node.declare_parameter(
            name,
            _to_ros(values[name], hints[name]),
            _descriptor(field, hints[name]),
            ignore_override=True,
        )
    for name in overrides:
        if not node.has_parameter(name) and not name.startswith(_RCLPY_PREFIXES):
            problems.append(_unknown(node, name, fields))
    try:
        current = cls(**values)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError('; '.join(problems))
    _follow_changes(node, current, fields, hints, apply or (lambda _: None))
    return current


def _follow_changes(node, current, fields, hints, apply) -> None:
    """Check every later change against the whole dataclass, then hand the new one to `apply`."""
    applies_after = hasattr(node, 'add_post_set_parameters_callback')  # Jazzy and later

    def changed(parameters):
        own = [param for param in parameters if param.name in fields]
        new = {p.name: _checked(fields[p.name], hints[p.name], p.value) for p in own}
        return dataclasses.replace(current, **new) if new else current

    def on_set(parameters):
        try:
            wanted = changed(parameters)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if not applies_after:
            take(wanted)
        return SetParametersResult(successful=True)

    def take(wanted):
        nonlocal current
        if wanted != current:
            current = wanted
            apply(current)

    node.add_on_set_parameters_callback(on_set)
    if applies_after:
        node.add_post_set_parameters_callback(lambda parameters: take(changed(parameters)))


def _unknown(node, name: str, fields) -> str:
    close = difflib.get_close_matches(name, list(fields), n=1)
    hint = f'did you mean {close[0]!r}?' if close else f'known: {", ".join(fields)}'
    return f'{node.get_name()} has no parameter {name!r}; {hint}'


def _checked(field, kind, value):
    """Return `value` as the field's type; ValueError says what was expected and what came."""
    meta = field.metadata
    is_tuple = typing.get_origin(kind) is tuple
    element = typing.get_args(kind)[0] if is_tuple else kind
    if is_tuple and isinstance(value, bool | int | float | str):
        raise ValueError(f'{field.name} must be a list of {element.__name__}, got {value!r}')
    elements = list(value) if is_tuple else [value]
    if is_tuple and element is str:
        elements = [text for text in elements if text != '']  # see _to_ros
    if element is float:  # YAML writes 5 where 5.0 is meant
        elements = [float(v) if type(v) is int else v for v in elements]
    unit = f' {meta["unit"]}' if meta.get('unit') else ''
    for v in elements:
        if type(v) is not element:
            expected = f'a list of {element.__name__}' if is_tuple else element.__name__
            raise ValueError(f'{field.name} must be {expected}, got {value!r}')
        if element is float and not math.isfinite(v):
            raise ValueError(f'{field.name} must be finite, got {v}')
        lowest, highest = meta.get('min'), meta.get('max')
        if lowest is not None and v < lowest:
            raise ValueError(f'{field.name} must be at least {lowest}{unit}, got {v}')
        if highest is not None and v > highest:
            raise ValueError(f'{field.name} must be at most {highest}{unit}, got {v}')
        choices = meta.get('choices') or ()
        if choices and v not in choices:
            close = difflib.get_close_matches(str(v), [str(c) for c in choices], n=1)
            hint = f'; did you mean {close[0]!r}?' if close else ''
            known = ', '.join(map(str, choices))
            raise ValueError(f'{field.name} must be one of {known}, got {v!r}{hint}')
    return tuple(elements) if is_tuple else elements[0]


def _to_ros(value, kind):
    if typing.get_origin(kind) is not tuple:
        return value
    # rclpy takes an empty list for bytes; [''] is ROS's usual way to say "no strings".
    return list(value) or ([''] if typing.get_args(kind)[0] is str else [])


def _descriptor(field, kind) -> ParameterDescriptor:
    meta = field.metadata
    descriptor = ParameterDescriptor(
        name=field.name,
        type=_TYPES[kind],
        description=meta['description'] + (f' ({meta["unit"]})' if meta.get('unit') else ''),
        read_only=not meta.get('dynamic', False),
    )
    if meta.get('choices'):
        descriptor.additional_constraints = 'one of ' + ', '.join(map(str, meta['choices']))
    lowest, highest = meta.get('min'), meta.get('max')
    if lowest is None and highest is None:
        return descriptor
    if kind is float:
        low = -math.inf if lowest is None else float(lowest)
        high = math.inf if highest is None else float(highest)
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high)]
    elif kind is int:
        low = -(2**63) if lowest is None else lowest
        high = 2**63 - 1 if highest is None else highest
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high)]
    return descriptor
