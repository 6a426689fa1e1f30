# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""One parameter file for many nodes, files that cannot be read, and names that ROS refuses."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from timar_ros.nodes.param_files import (
    GivenKeys,
    check_arguments,
    check_namespace,
    given_keys,
)
from timar_ros.nodes.params import declare, parameter

pytestmark = pytest.mark.graph

SHARED = """\
/**:
  ros__parameters:
    use_sim_time: false
    robot_name: anna
    base_frame: base_link
"""


@dataclasses.dataclass(frozen=True)
class LampParams:
    """A small node's parameters."""

    level: float = parameter(0.5, 'how bright', minimum=0, maximum=10)
    name: str = parameter('', 'what it is called')


def arguments(tmp_path, *texts):
    words = ['--ros-args']
    for i, text in enumerate(texts):
        path = tmp_path / f'{i}.yaml'
        path.write_text(text)
        words += ['--params-file', str(path)]
    return words


def declare_with(graph, args, name='lamp', **options):
    node = graph.node(name, cli_args=args, **options)
    warnings = []
    node.get_logger = lambda: type('Log', (), {'warning': staticmethod(warnings.append)})
    return declare(node, LampParams, cli_args=args), warnings


@pytest.mark.parametrize(
    ('pattern', 'name', 'is_meant'),
    [
        ('lamp', '/lamp', True),
        ('/lamp', '/lamp', True),
        ('lamp', '/hall/lamp', False),
        ('/**', '/hall/lamp', True),
        ('/**/lamp', '/lamp', True),
        ('/**/lamp', '/a/b/lamp', True),
        ('/**/lamps', '/lamp', False),
        ('/*', '/lamp', True),
        ('/*', '/hall/lamp', False),
        ('/*/lamp', '/hall/lamp', True),
        ('/*/lamp', '/lamp', False),
        ('/hall/**', '/hall/lamp', True),
        ('/hall/**', '/attic/lamp', False),
    ],
)
def test_sections_mean_the_nodes_that_rcl_gives_their_parameters_to(
    graph, tmp_path, pattern, name, is_meant
):
    args = arguments(tmp_path, f'{pattern}:\n  ros__parameters:\n    level: 3.0\n')
    namespace, _, base = name.rpartition('/')
    node = graph.node(base, namespace=namespace, cli_args=args)

    given = given_keys(name, args)

    assert ('level' in given.own | given.shared) == is_meant
    assert ('level' in node._parameter_overrides) == is_meant  # what rcl itself found


def test_keys_under_a_nodes_own_name_and_by_p_are_its_own_and_the_rest_is_shared(tmp_path):
    args = arguments(
        tmp_path,
        '/**:\n  lamp:\n    ros__parameters: {c: 1}\n  ros__parameters: {a: 1, b: 1, d: {e: 1}}\n',
        'lamps:\n  ros__parameters: {x: 1}\n',
        '/hall/lamp:\n  ros__parameters: {b: 2}\nother:\n  ros__parameters: {y: 1}\n',
    )
    args += ['-p', 'f:=1', '--param', 'lamp:g:=a:b', '--', '-p', 'h:=1']

    given = given_keys('/hall/lamp', args)

    assert given == GivenKeys(
        frozenset('bcfg'), frozenset({'a', 'd.e'}), ((str(tmp_path / '1.yaml'), '/lamps'),)
    )


def test_foreign_keys_for_all_nodes_are_warned_of_and_ignored(graph, tmp_path):
    text = SHARED + '    leve: 3.0\n    level: 2\n    qos_overrides: {a: {b: 1}}\n'

    params, warnings = declare_with(graph, arguments(tmp_path, text))

    assert params == LampParams(level=2.0)
    (warning,) = warnings
    assert warning == (
        "ignored: 'robot_name', 'base_frame', 'leve' (did you mean 'level'?), which a parameter "
        'file gives to all nodes and lamp does not have'
    )


@pytest.mark.parametrize('name', ['lamp', '/lamp', '/**/lamp', '/**: {lamp'])
def test_a_misspelt_key_under_the_nodes_own_name_is_refused(graph, tmp_path, name):
    end = '}' if '{' in name else ''
    text = f'{name}: {{ros__parameters: {{levle: 1.0}}}}{end}\n'
    args = arguments(tmp_path, SHARED, text)

    with pytest.raises(ValueError, match=r"^lamp has no parameter 'levle'; did you mean 'level'"):
        declare_with(graph, args)


def test_a_key_that_is_given_both_to_all_nodes_and_by_name_is_refused(graph, tmp_path):
    args = arguments(tmp_path, SHARED, 'lamp: {ros__parameters: {robot_name: bert}}\n')

    with pytest.raises(ValueError, match="lamp has no parameter 'robot_name'"):
        declare_with(graph, args)


def test_a_thousand_foreign_keys_and_one_of_a_megabyte_give_a_short_warning(graph, tmp_path):
    keys = ''.join(f'    key_{i}: {i}\n' for i in range(1000))
    text = SHARED + f'    {"x" * 900}: {"y" * 900_000}\n' + keys

    _, (warning,) = declare_with(graph, arguments(tmp_path, text))

    assert len(warning) < 500
    assert '998 more' in warning


def test_a_misspelt_nodes_name_is_warned_of(graph, tmp_path):
    args = arguments(tmp_path, '/**/lamps: {ros__parameters: {level: 1.0}}\n')

    params, (warning,) = declare_with(graph, args)

    assert params == LampParams()
    assert "has a section '/**/lamps' and none for this node; did you mean 'lamp'?" in warning


@pytest.mark.parametrize('section', ['lamp', '/lamp', '/attic/lamp', '/*/*/lamp'])
def test_a_section_for_another_namespace_is_warned_of_with_names_that_reach_the_node(
    graph, tmp_path, section
):
    text = '{}: {{ros__parameters: {{level: 1.0}}}}\n'
    args = arguments(tmp_path, text.format(section))

    params, (warning,) = declare_with(graph, args, namespace='/hall')

    assert params == LampParams()
    name = '/' + section.lstrip('/')
    assert f"has a section for '{name}', which does not reach /hall/lamp; write" in warning
    remedies = [word.strip("':") for word in warning.split('write ')[1].split(' or ')]
    assert remedies == ['/hall/lamp', '/**/lamp']
    for remedy in remedies:
        args = arguments(tmp_path, text.format(remedy) + text.format(section))
        assert declare_with(graph, args, namespace='/hall') == (LampParams(level=1.0), [])


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'there is no such file; correct the path'),
        ('folder', 'cannot be read: .*directory'),
        (b'lamp: [1', 'not valid YAML: .*line 1'),
        (b'\x00\xff\xfe', 'not valid YAML'),
        (b'just text', "expected the name of a node, below it 'ros__parameters:'.* 'just text'"),
        (b'lamp: {level: 1}', "expected the name of a node.* got 1 below '/lamp/level'"),
        (b'lamp: {ros__parameters: [1]}', "expected 'name: value' below 'ros__parameters:'"),
        (b'[' * 5000, 'not valid YAML'),
        (b'#' * 1_000_001, 'at most 1 MB'),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_sentence(tmp_path, content, message):
    path = tmp_path / 'lamp.yaml'
    if content == 'folder':
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)

    with pytest.raises((ValueError, FileNotFoundError), match=message) as refusal:
        check_arguments(['--ros-args', '--params-file', str(path)])

    assert str(path) in str(refusal.value)
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    'rule',
    [
        '__ns:=r-6',
        '__ns:=/a//b',
        '__ns:=6',
        '__ns:=a',
        '__node:=a-b',
        'a:=a b//c',
        'a:=/6x',
        'a:=b/',
        'a:=ä',
    ],
)
def test_a_name_that_ros_does_not_allow_is_refused_with_one_that_it_allows(rule):
    with pytest.raises(ValueError, match='a name of letters, digits and _') as refusal:
        check_arguments(['--ros-args', '-r', rule])

    given, example = rule.split(':=')[0], str(refusal.value).split('for example ')[1]
    check_arguments(['--ros-args', '--remap', f'{given}:={example}'])


@pytest.mark.parametrize(
    'rule',
    [
        '__ns:=/', '__ns:=/a/b', '__node:=x_1', 'a:=~/b', 'a:=/b/c', 'a:=b', 'lamp:a:=b',
        'lamp:__ns:=/a',
    ],
)  # fmt: skip
def test_names_that_ros_allows_are_not_refused(graph, rule):
    args = ['--ros-args', '-r', rule]

    check_arguments(args)
    graph.node('lamp', cli_args=args)


@pytest.mark.parametrize('namespace', ['r-6', '/r-6', 'a//b', '/a/', '6', 'a b', '//', 'ä', '~x'])
def test_a_namespace_that_ros_does_not_allow_is_refused_with_one_that_it_allows(namespace):
    with pytest.raises(ValueError, match='^namespace: expected .* for example ') as refusal:
        check_namespace(namespace)

    check_namespace(str(refusal.value).split('for example ')[1])


@pytest.mark.parametrize('namespace', ['', '/', 'a', '/a', 'a/b', '/a/b_2'])
def test_namespaces_that_ros_allows_are_not_refused(graph, namespace):
    check_namespace(namespace)
    graph.node('lamp', namespace=namespace)


def test_arguments_that_are_not_of_ros_are_not_looked_at():
    check_arguments(['--params-file', '/nowhere', '-r', 'a:=b c', '--ros-args', '--', '-p', 'x'])
    with pytest.raises(ValueError, match='-p x: expected name:=value'):
        check_arguments(['--ros-args', '-p', 'x'])


def start(name, *args, domain_id):
    return subprocess.Popen(
        [sys.executable, '-m', f'timar_ros.nodes.{name}', '--ros-args', *args],
        env={**os.environ, 'ROS_DOMAIN_ID': str(domain_id)},
        cwd=pathlib.Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_nodes_start_with_a_file_that_all_nodes_share(tmp_path, domain_id):
    path = tmp_path / 'all.yaml'
    path.write_text(SHARED)
    given = ('--params-file', str(path), '-p')
    running = [
        start('neck', *given, 'gain:=1', domain_id=domain_id),
        start('speaker', *given, 'playback:=false', domain_id=domain_id),
    ]
    try:
        for process in running:
            warned = process.stdout.readline()  # it waits, however busy the machine is
            assert "ignored: 'robot_name'" in warned, f'{process.args}: {warned}'
        time.sleep(0.5)
        assert [process.poll() for process in running] == [None, None]
    finally:
        for process in running:
            process.send_signal(signal.SIGINT)
        for process in running:
            process.communicate(timeout=30)


def test_nodes_refuse_a_missing_file_and_their_own_misspelt_keys_in_one_line(domain_id):
    runs = [
        start('microphone', '--params-file', '/nowhere.yaml', domain_id=domain_id),
        start('replay', '-p', 'bagg:=x', domain_id=domain_id),
    ]
    outputs = [process.communicate(timeout=60)[0] for process in runs]

    assert [process.returncode for process in runs] == [1, 1], outputs
    assert outputs[0].startswith('microphone: /nowhere.yaml: there is no such file; correct')
    assert outputs[1].startswith("replay: replay has no parameter 'bagg'; did you mean 'bag'?")
    assert [len(output.splitlines()) for output in outputs] == [1, 1]


@pytest.mark.parametrize('above', ['/**', '/hall', 'hall'])
def test_a_section_below_parameters_is_refused_as_rcl_would_with_what_works(
    graph, tmp_path, above
):
    own, inner = (
        '  ros__parameters: {use_sim_time: false}\n',
        '  lamp: {ros__parameters: {level: 3}}\n',
    )
    args = arguments(tmp_path, f'{above}:\n{own}{inner}')

    with pytest.raises(Exception, match='creating param namespace'):
        graph.node('rcl', cli_args=args)
    with pytest.raises(ValueError) as refusal:
        check_arguments(args)

    path = '/' + above.strip('/')
    assert str(refusal.value).startswith(f"{args[-1]}: section 'lamp' stands below the ros__par")
    assert str(refusal.value).endswith(f"or at the top level as '{path}/lamp:'")
    check_arguments(arguments(tmp_path, f'{above}:\n{inner}{own}'))
    name = path.replace('**', '')
    top = arguments(tmp_path, f'{above}:\n{own}{path}/lamp: {{ros__parameters: {{level: 3}}}}\n')
    node = graph.node('lamp', namespace=name, cli_args=top)
    assert node._parameter_overrides['level'].value == 3


def written(tmp_path, graph, *words, node='lamp'):
    """Return what a node makes of a text after `-p`, or of one in a file."""
    args = arguments(tmp_path, *[w for w in words if ':=' not in w])
    args += [part for w in words if ':=' in w for part in ('-p', w)]
    return declare_with(graph, args, node)[0].name


@pytest.mark.parametrize('text', ['1E5', '12E4', 'yes', '007', '0x12', '08', '+7', '1e2', 'off'])
def test_text_that_ros_reads_as_another_value_is_refused_with_what_was_written(
    graph, tmp_path, text
):
    words = f"""name: '{text}' in a file, -p "name:='{text}'\""""
    with pytest.raises(ValueError) as refusal:
        written(tmp_path, graph, f'name:={text}')
    assert str(refusal.value).startswith('name must be a text, got ')
    assert str(refusal.value).endswith(words)

    with pytest.raises(ValueError) as refusal:
        written(tmp_path, graph, f'/**/lamp: {{ros__parameters: {{name: {text}}}}}')
    assert str(refusal.value).startswith(f'{tmp_path / "0.yaml"}: name must be a text, got ')
    assert str(refusal.value).endswith(words)


@pytest.mark.parametrize('text', ['7', '16000', '-3', "'007'", '"0x12"', '!!str 0x12', '1_000'])
def test_text_that_ros_reads_as_it_stands_is_taken(graph, tmp_path, text):
    meant = text.replace('!!str ', '').strip('\'"')
    assert written(tmp_path, graph, f'name:={text}') == meant
    assert written(tmp_path, graph, f'lamp: {{ros__parameters: {{name: {text}}}}}') == meant


def test_the_text_that_wins_is_the_one_compared(graph, tmp_path):
    file = 'lamp: {ros__parameters: {name: 007}}'
    other = 'lamb: {ros__parameters: {name: 0x7}}'
    assert written(tmp_path, graph, file, other, 'name:=7') == '7'
    assert written(tmp_path, graph, file, 'name:=eight') == 'eight'
    with pytest.raises(ValueError, match=r"0.yaml: name must be a text, got '007' without quotes"):
        written(tmp_path, graph, file, other, 'lamb:name:=7')


def test_a_program_ends_on_a_nested_section_with_one_sentence_without_rcls_places(tmp_path):
    args = arguments(
        tmp_path, '/**:\n  ros__parameters: {gain: 1.0}\n  neck: {ros__parameters: {gain: 0.5}}\n'
    )
    for words in (args, ['--ros-args', '-p', 'gain:=[1, 0x']):
        ended = subprocess.run(
            [sys.executable, '-m', 'timar_ros.nodes.neck', *words],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert ended.returncode == 1
        last = ended.stderr.splitlines()[-1]
        assert last.startswith('neck: ')
        assert '.c:' not in last
