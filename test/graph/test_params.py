# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Parameters as a dataclass, on real nodes."""

import dataclasses
import subprocess
import sys

import pytest
import rclpy
from rclpy.parameter import Parameter

from timar_ros.nodes.params import declare, parameter

pytestmark = pytest.mark.graph


@dataclasses.dataclass(frozen=True)
class LampParams:
    """A small node's parameters."""

    colour: str = parameter('red', 'what it shines', choices=('red', 'green'), dynamic=True)
    level: float = parameter(0.5, 'how bright', unit='lm', minimum=0, maximum=10, dynamic=True)
    limit: float = parameter(8.0, 'never brighter', unit='lm', dynamic=True)
    bulbs: int = parameter(2, 'bulbs in it', minimum=1)
    rooms: tuple[str, ...] = parameter((), 'where it may shine')
    is_on: bool = parameter(True, 'shines at all')
    device: str = parameter('', 'name or index of the socket')

    def __post_init__(self):
        if self.level > self.limit:
            raise ValueError(f'level must be at most limit = {self.limit}, got {self.level}')


def declare_with(graph, overrides: dict, apply=None):
    given = [Parameter(name, value=value) for name, value in overrides.items()]
    node = graph.node('lamp', parameter_overrides=given)
    return node, declare(node, LampParams, apply)


def test_defaults_and_overrides_fill_the_dataclass(graph):
    _, params = declare_with(graph, {'colour': 'green', 'rooms': ['hall', 'attic']})

    assert params == LampParams(colour='green', rooms=('hall', 'attic'))


def test_an_integer_override_is_taken_for_a_float(graph):
    node, params = declare_with(graph, {'level': 3})

    assert (params.level, node.get_parameter('level').value) == (3.0, 3.0)


@pytest.mark.parametrize(
    ('name', 'given', 'meant'),
    [
        ('device', 2, '2'),
        ('device', -1, '-1'),
        ('bulbs', '5', 5),
        ('bulbs', 5.0, 5),
        ('level', '5', 5.0),
        ('level', '.5e1', 5.0),
        ('is_on', 'no', False),
        ('is_on', 'True', True),
        ('rooms', [1, 2], ('1', '2')),
    ],
)
def test_a_value_of_a_neighbouring_type_is_taken_for_what_it_can_only_mean(
    graph, name, given, meant
):
    node, params = declare_with(graph, {name: given})

    assert getattr(params, name) == meant
    assert type(getattr(params, name)) is type(meant)
    stored = node.get_parameter(name).value
    assert stored == (list(meant) if isinstance(meant, tuple) else meant)


def test_an_empty_list_which_ros_reads_as_no_value_is_an_empty_list(graph):
    node, params = declare_with(graph, {'rooms': None})

    assert params.rooms == ()


@pytest.mark.parametrize(
    ('name', 'value', 'taken'),
    [('level', 1, 1.0), ('level', '2.5', 2.5), ('colour', 'green', 'green')],
)
def test_a_change_to_a_neighbouring_type_is_taken_likewise(graph, name, value, taken):
    seen = []
    node, _ = declare_with(graph, {}, seen.append)
    if not hasattr(node, 'add_pre_set_parameters_callback'):
        pytest.skip('this ROS compares types before anybody can convert them')

    result = node.set_parameters([Parameter(name, value=value)])[0]

    assert result.successful, result.reason
    assert node.get_parameter(name).value == taken
    assert getattr(seen[-1], name) == taken


def test_every_parameter_describes_itself(graph):
    node, _ = declare_with(graph, {})

    descriptor = node.describe_parameter('level')

    assert descriptor.description == 'how bright (lm)'
    assert (descriptor.floating_point_range[0].from_value, descriptor.read_only) == (0.0, False)
    assert node.describe_parameter('bulbs').read_only
    assert node.describe_parameter('colour').additional_constraints == 'one of red, green'


@pytest.mark.parametrize(
    ('overrides', 'message'),
    [
        ({'colour': 'gren'}, "colour must be one of red, green, got 'gren'; did you mean 'green'"),
        ({'level': 11.0}, 'level must be at most 10 lm, got 11.0'),
        ({'level': float('nan')}, 'level must be finite, got nan'),
        ({'level': 'bright'}, "level must be a number, got 'bright'"),
        ({'bulbs': 0}, 'bulbs must be at least 1, got 0'),
        ({'bulbs': True}, 'bulbs must be a whole number, got True'),
        ({'bulbs': '5.5'}, "bulbs must be a whole number, got '5.5'"),
        ({'bulbs': 5.5}, 'bulbs must be a whole number, got 5.5'),
        ({'level': 'nan'}, "level must be a number, got 'nan'"),
        ({'level': '1_0'}, "level must be a number, got '1_0'"),
        ({'is_on': 1}, 'is_on must be true or false, got 1'),
        ({'is_on': 'maybe'}, "is_on must be true or false, got 'maybe'"),
        (
            {'device': True},
            r"""got True; put the text, .* device: '...' in a file, -p "device:='...'\"""",
        ),
        ({'device': 1.5}, 'device must be a text, got 1.5; .* quotes'),
        ({'rooms': 'hall'}, "rooms must be a list of texts, got 'hall'"),
        ({'levle': 1.0}, "lamp has no parameter 'levle'; did you mean 'level'"),
        ({'level': 9.0}, 'level must be at most limit = 8.0, got 9.0'),
    ],
)
def test_an_override_that_cannot_be_is_refused_with_the_reason(graph, overrides, message):
    with pytest.raises(ValueError, match=message):
        declare_with(graph, overrides)


def test_a_value_of_a_megabyte_is_shortened_in_its_refusal(graph):
    for name in ('colour', 'bulbs', 'level', 'is_on', 'rooms', 'x' * 1_000_000):
        with pytest.raises(ValueError, match=r'^.{20,400}$'):
            declare_with(graph, {name: 'y' * 1_000_000})


def test_a_refused_override_leaves_all_parameters_declared(graph):
    node = graph.node('lamp', parameter_overrides=[Parameter('level', value=11.0)])

    with pytest.raises(ValueError, match='at most 10'):
        declare(node, LampParams)

    assert node.get_parameter('level').value == 0.5
    assert node.get_parameter('is_on').value is True


def test_a_dynamic_parameter_is_applied_after_it_was_set(graph):
    seen = []
    node, params = declare_with(graph, {}, seen.append)

    results = node.set_parameters([Parameter('level', value=4.0)])

    assert results[0].successful
    assert seen == [dataclasses.replace(params, level=4.0)]


@pytest.mark.parametrize(
    ('name', 'value', 'reason'),
    [
        ('colour', 'blue', 'colour must be one of red, green'),
        ('level', 9.0, 'level must be at most limit'),
        ('limit', float('inf'), 'limit must be finite'),
        ('bulbs', 3, 'read-only'),
        ('level', 'bright', 'type'),
    ],
)
def test_a_change_that_cannot_be_is_refused_and_nothing_applied(graph, name, value, reason):
    seen = []
    node, _ = declare_with(graph, {}, seen.append)
    before = node.get_parameter(name).value

    result = node.set_parameters([Parameter(name, value=value)])[0]

    assert not result.successful
    assert reason in result.reason
    assert (node.get_parameter(name).value, seen) == (before, [])


def test_parameters_of_rclpy_itself_are_no_strangers(graph):
    _, params = declare_with(graph, {'use_sim_time': True})

    assert params == LampParams()


def test_an_unknown_key_of_a_yaml_file_is_refused(graph, tmp_path):
    path = tmp_path / 'lamp.yaml'
    path.write_text('lamp:\n  ros__parameters:\n    colur: green\n')
    node = graph.node('lamp', cli_args=['--ros-args', '--params-file', str(path)])

    with pytest.raises(ValueError, match="no parameter 'colur'; did you mean 'colour'"):
        declare(node, LampParams)


@pytest.mark.parametrize('value', ['3', "'true'"])
def test_a_parameter_of_rclpy_of_a_wrong_type_ends_a_program_with_one_sentence(value):
    command = [sys.executable, '-m', 'timar_ros.nodes.neck', '--ros-args']
    ended = subprocess.run(
        [*command, '-p', f'use_sim_time:={value}'], capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("neck: Trying to set parameter 'use_sim_time' to")
    assert len(ended.stderr.splitlines()) == 1


def test_the_graph_is_private(graph):
    assert not rclpy.ok()
    assert graph.context.ok()


def test_an_empty_choice_is_shown_as_an_empty_text(graph):
    @dataclasses.dataclass(frozen=True)
    class Output:
        output: str = parameter('', 'what is sent', choices=('', 'trajectory', 'none'))

    node = graph.node('sender', parameter_overrides=[Parameter('output', value='x')])

    with pytest.raises(ValueError) as refused:
        declare(node, Output)

    assert str(refused.value) == "output must be one of '', trajectory, none, got 'x'"


@dataclasses.dataclass(frozen=True)
class SwitchParams:
    """Texts some of which YAML reads as true or false."""

    mode: str = parameter('gate', 'what it does', choices=('off', 'gate'))
    both: str = parameter('gate', 'what it does', choices=('off', 'no', 'gate'))


def test_a_choice_that_yaml_reads_as_a_bool_needs_no_quotes(graph, tmp_path):
    path = tmp_path / 'switch.yaml'
    path.write_text('/**: {ros__parameters: {mode: off}}\n')
    node = graph.node('switch', cli_args=['--ros-args', '--params-file', str(path)])

    assert declare(node, SwitchParams) == SwitchParams(mode='off')


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('mode', True, 'mode must be a text, got True; expected one of off, gate'),
        (
            'both',
            False,
            'both must be a text, got False; expected one of off, no, gate, in quotes',
        ),
    ],
)
def test_a_bool_that_means_no_choice_or_two_is_refused(graph, name, value, message):
    node = graph.node('switch', parameter_overrides=[Parameter(name, value=value)])

    with pytest.raises(ValueError, match=message):
        declare(node, SwitchParams)
