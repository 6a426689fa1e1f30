# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Parameters of a node from one frozen dataclass: descriptors, ranges, overrides, later changes.

Responsible for how a dataclass field becomes a ROS parameter, and for refusing values outside its
range or choices and parameters that the node does not have. Not for what they mean. What a file
gives to all nodes (`/**`) may be another node's: it is warned of, and left alone.
"""

import dataclasses
import math
import re
import sys
import typing

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    ParameterType,
    SetParametersResult,
)
from rclpy.parameter import Parameter

from timar_ros.nodes.param_files import given_keys
from timar_ros.nodes.param_texts import chosen, written_values
from timar_ros.strict import did_you_mean, quoted, shortened

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
# Of one value and of many, in error messages.
_NOUNS = {
    bool: ('true or false', 'true and false'),
    int: ('a whole number', 'whole numbers'),
    float: ('a number', 'numbers'),
    str: ('a text', 'texts'),
}
_LONGEST_NUMBER = 30  # characters
_NUMBER = r'[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?'
_WORDS = {'true': True, 'yes': True, 'on': True, 'false': False, 'no': False, 'off': False}
_MOST_NAMED = 5  # of foreign names, in one warning
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


def allowed_text(meta) -> str:
    """Return which values the metadata of a parameter allow: 'one of a, b', '1 to 5' or ''."""
    if meta['choices']:
        return 'one of ' + _listed(meta['choices'])
    lowest, highest = meta['min'], meta['max']
    if lowest is None and highest is None:
        return ''
    if highest is None or math.isinf(highest):
        return f'at least {lowest}'
    return f'{lowest} to {highest}'


def declare(node, cls, apply=None, cli_args=None):
    """
    Declare every field of `cls` as a parameter of `node`.

    Call once, in the node's constructor. All fields are declared, those with a refused override
    with their default, so that tools can show them in any case.

    Args:
        node: an rclpy node.
        cls: a frozen dataclass; fields are bool, int, float, str or tuples of one of them, with
            metadata as `parameter` makes it. Its `__post_init__` may refuse contradictions. A
            tuple of numbers needs at least one: ROS cannot infer the type of an empty list.
        apply: called with the new `cls` after a dynamic parameter was set, in the executor.
        cli_args: those that the node's constructor got besides the command line.

    Returns:
        `cls` filled with the defaults and the node's overrides.

    Raises:
        ValueError: an override is of the wrong type, out of range, contradicts another, or is
            addressed to this node, which has no such parameter; one sentence for each.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    # rclpy has no public way to see overrides of parameters that nobody declared.
    overrides = {name: param.value for name, param in node._parameter_overrides.items()}
    full_name = node.get_fully_qualified_name()
    written = written_values(full_name, [*sys.argv[1:], *(cli_args or ())])
    values, problems = {}, []
    for name, field in fields.items():
        values[name] = field.default
        if name in overrides:
            source = chosen(written.get(name, []), overrides[name])
            texts, path = source or ((), '')
            try:
                values[name] = _checked(field, hints[name], overrides[name], texts)
            except ValueError as error:
                problems.append(f'{path}: {error}' if path else str(error))
        node.declare_parameter(
            name,
            _to_ros(values[name], hints[name]),
            _descriptor(field, hints[name]),
            ignore_override=True,
        )
    unknown = [
        name
        for name in overrides
        if not node.has_parameter(name) and not name.startswith(_RCLPY_PREFIXES)
    ]
    problems += _refused(node, unknown, fields, cli_args)
    try:
        current = cls(**values)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError('; '.join(problems))
    _follow_changes(node, current, fields, hints, apply or (lambda _: None))
    return current


def _listed(choices) -> str:
    return ', '.join(str(choice) or "''" for choice in choices)


def _converted(param, fields, hints):
    try:
        value = _checked(fields[param.name], hints[param.name], param.value)
    except ValueError:
        return param  # refused later, with the reason
    return Parameter(param.name, value=_to_ros(value, hints[param.name]))


def _refused(node, unknown: list[str], fields, cli_args) -> list[str]:
    """Return why parameters are refused that the node does not have; warn of those of others."""
    given = given_keys(node.get_fully_qualified_name(), [*sys.argv[1:], *(cli_args or ())])
    foreign = [name for name in unknown if name in given.shared]
    if foreign:
        texts = [_foreign(name, fields) for name in foreign[:_MOST_NAMED]]
        texts += [f'{len(foreign) - _MOST_NAMED} more'] if len(foreign) > _MOST_NAMED else []
        node.get_logger().warning(
            f'ignored: {", ".join(texts)}, which a parameter file gives to all nodes and '
            f'{node.get_name()} does not have'
        )
    for path, name in given.near[:_MOST_NAMED]:
        node.get_logger().warning(
            f'{path} has a section {quoted(name)} and none for this node; did you mean '
            f'{node.get_name()!r}?'
        )
    full = node.get_fully_qualified_name()
    for path, name in given.elsewhere[:_MOST_NAMED]:
        node.get_logger().warning(
            f'{path} has a section for {quoted(name)}, which does not reach {full}; write '
            f"'{full}:' or '/**/{node.get_name()}:'"
        )
    return [_unknown(node, name, fields) for name in unknown if name not in given.shared]


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

    def convert(parameters):
        # Before ROS compares types, which would refuse 1 for 1.0.
        return [_converted(p, fields, hints) if p.name in fields else p for p in parameters]

    if hasattr(node, 'add_pre_set_parameters_callback'):  # Iron and later
        node.add_pre_set_parameters_callback(convert)
    node.add_on_set_parameters_callback(on_set)
    if applies_after:
        node.add_post_set_parameters_callback(lambda parameters: take(changed(parameters)))


def _foreign(name: str, fields) -> str:
    hint = did_you_mean(name, fields).lstrip('; ')
    return f'{quoted(name)} ({hint})' if hint else quoted(name)


def _unknown(node, name: str, fields) -> str:
    hint = did_you_mean(name, fields) or f'; known: {", ".join(fields)}'
    return f'{node.get_name()} has no parameter {quoted(name)}{hint}'


def _checked(field, kind, value, texts=()):
    """Return `value` as the field's type; `texts`: its elements as they were written."""
    meta = field.metadata
    is_tuple = typing.get_origin(kind) is tuple
    element = typing.get_args(kind)[0] if is_tuple else kind
    if is_tuple and isinstance(value, bool | int | float | str):
        raise ValueError(
            f'{field.name} must be a list of {_NOUNS[element][1]}, got {quoted(value)}'
        )
    elements = list(value or ()) if is_tuple else [value]  # rcl reads [] as no value
    if is_tuple and element is str:
        elements = [text for text in elements if text != '']  # see _to_ros
    read, elements = elements, [_meant(v, element, meta.get('choices') or ()) for v in elements]
    unit = f' {meta["unit"]}' if meta.get('unit') else ''
    for i, v in enumerate(elements):
        text = texts[i] if element is str and len(texts) == len(read) else ''
        if text and type(read[i]) is int and text != v:
            raise ValueError(
                f'{field.name} must be a text, got {quoted(text)} without quotes, which ROS reads '
                f'as {v}{_quotes(field, text, is_tuple)}'
            )
        if type(v) is not element:
            one, many = _NOUNS[element]
            expected = f'a list of {many}' if is_tuple else one
            raise ValueError(
                f'{field.name} must be {expected}, got {quoted(v)}'
                f'{_remedy(field, element, v, text, is_tuple)}'
            )
        if element is float and not math.isfinite(v):
            raise ValueError(f'{field.name} must be finite, got {v}')
        lowest, highest = meta.get('min'), meta.get('max')
        if lowest is not None and v < lowest:
            raise ValueError(f'{field.name} must be at least {lowest}{unit}, got {v}')
        if highest is not None and v > highest:
            raise ValueError(f'{field.name} must be at most {highest}{unit}, got {v}')
        choices = meta.get('choices') or ()
        if choices and v not in choices:
            raise ValueError(
                f'{field.name} must be one of {_listed(choices)}, got {quoted(v)}'
                f'{did_you_mean(v, choices)}'
            )
    return tuple(elements) if is_tuple else elements[0]


def _meant(value, kind, choices=()):
    """
    Convert a value of a similar type if that is unambiguous; else return it unchanged.

    YAML takes 5 for a whole number where 5.0 or '5' is meant, and off for False; shells
    take quotes away.
    """
    is_whole = type(value) is int
    if kind is str and is_whole:
        return str(value)
    if kind is str and isinstance(value, bool):
        alike = _read_as(value, choices)
        return alike[0] if len(alike) == 1 else value
    if kind is float and is_whole and abs(value) < 2**53:
        return float(value)
    if kind is int and type(value) is float and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if type(value) is str and len(value) < _LONGEST_NUMBER:
        if kind is int and re.fullmatch(r'[-+]?\d+', value, re.ASCII):
            return int(value)
        if kind is float and re.fullmatch(_NUMBER, value, re.ASCII):
            return float(value)
        if kind is bool:
            return _WORDS.get(value.lower(), value)
    return value


def _read_as(value: bool, choices) -> list[str]:
    """Return the choices that YAML 1.1 reads as `value` where they have no quotes."""
    return [choice for choice in choices if _WORDS.get(choice.lower()) is value]


def _remedy(field, kind, value, text: str, is_tuple: bool) -> str:
    """Return how to write text that YAML takes for something else; `text` as written, or ''."""
    if kind is not str or not isinstance(value, bool | float):
        return ''
    choices = field.metadata.get('choices') or ()
    if choices and text not in choices:
        return f'; expected one of {_listed(choices)}, in quotes'
    return _quotes(field, text, is_tuple)


def _quotes(field, text: str, is_tuple: bool) -> str:
    if not text:
        text = '...'
        hint = 'put the text, as it was written first, in quotes'
    else:
        text, hint = shortened(text), 'text that looks like that needs quotes'
    quotes = f"['{text}']" if is_tuple else f"'{text}'"
    return f'; {hint}: {field.name}: {quotes} in a file, -p "{field.name}:={quotes}"'


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
        descriptor.additional_constraints = 'one of ' + _listed(meta['choices'])
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
