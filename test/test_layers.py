# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The laws of the source tree: who may import whom, sizes, names, licence headers."""

import ast
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEADER = ['# Copyright timar_ros contributors', '# SPDX-License-Identifier: Apache-2.0']
# What each layer may import of the others. A module at the top that is not named is a command: it
# may import all but nodes.
FOUNDATIONS = {'bounds', 'colors', 'command', 'npz', 'outputs', 'strict'}
LAYERS = {
    '__init__': set(),
    'bounds': set(),
    'colors': set(),
    'strict': set(),
    'command': {'strict'},
    'npz': {'bounds', 'strict'},
    'outputs': {'strict'},
    'motion': FOUNDATIONS,
    'config': {'motion', *FOUNDATIONS},
    'config_file': FOUNDATIONS,
    'model': {'config', 'config_file', 'motion', *FOUNDATIONS},
    'stream': {'config', 'motion', 'model', *FOUNDATIONS},
    'retarget': {'config', 'motion', 'model', 'stream', *FOUNDATIONS},
    'learn': {'config', 'config_file', 'motion', 'model', 'stream', 'retarget', *FOUNDATIONS},
    'nodes': {'config', 'motion', 'model', 'stream', 'retarget', 'msg', 'srv', *FOUNDATIONS},
}
COMMANDS = {'parity', 'benchmark'}
ROS = re.compile(r'^(rclpy|launch\w*|ament_\w+|\w+_(msgs|srvs|interfaces)|rosidl\w*|tf2\w*)$')
VAGUE_MODULE = re.compile(r'(^|_)(utils?|common|misc|helpers?|managers?|base)(_|$)')
VAGUE_CLASS = re.compile(r'^_?(Base[A-Z].*|.*(Manager|Helper|Utils?|Base))$')

SOURCES = sorted((ROOT / 'timar_ros').rglob('*.py'))
PYTHON = sorted(
    path
    for folder in ('timar_ros', 'config', 'launch', 'test', 'toolchain', '.')
    for path in ((ROOT / folder).glob('*.py') if folder == '.' else (ROOT / folder).rglob('*.py'))
)


def name_of(path):
    return str(path.relative_to(ROOT))


def layer_of(path):
    return path.relative_to(ROOT / 'timar_ros').with_suffix('').parts[0]


def imports_of(tree):
    """All modules that a file imports, at the top or later, as (line, dotted name)."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found += [(node.lineno, f'{node.module}.{alias.name}') for alias in node.names]
    return found


def forbidden_imports(path, tree):
    """Those imports of one file of the package that the laws forbid, as `line: reason`."""
    layer = layer_of(path)
    known = set(LAYERS) | COMMANDS | {'msg', 'srv'}
    allowed = (LAYERS[layer] | {layer}) if layer in LAYERS else known - {'nodes', 'msg', 'srv'}
    broken = []
    for line, name in imports_of(tree):
        top, *rest = name.split('.')
        if ROS.match(top) and layer != 'nodes':
            broken.append(f'{line}: {layer} imports {top}, which only nodes/ may')
        if top == 'timar_ros' and rest and rest[0] not in allowed:
            broken.append(f'{line}: {layer} imports timar_ros.{rest[0]}')
    return broken


def parse(path):
    return ast.parse(path.read_text(), filename=str(path))


@pytest.mark.parametrize('path', SOURCES, ids=name_of)
def test_modules_import_only_what_their_layer_may(path):
    assert forbidden_imports(path, parse(path)) == []


@pytest.mark.parametrize(
    ('file', 'line', 'is_forbidden'),
    [
        ('model/turn.py', 'from timar_ros.stream import engine', True),
        ('stream/engine.py', 'from timar_ros.model.turn import Turn', False),
        ('stream/engine.py', 'from timar_ros.stream import audio', False),
        ('learn/train.py', 'from timar_ros.nodes import replay', True),
        ('nodes/replay.py', 'import timar_ros.learn.metrics', True),
        ('nodes/replay.py', 'import rclpy', False),
        ('stream/audio.py', 'def f():\n    from sensor_msgs.msg import JointState', True),
        ('stream/audio.py', 'from timar_ros.msg import AudioChunk', True),
        ('parity.py', 'from timar_ros.learn import metrics', False),
        ('parity.py', 'from timar_ros.nodes import convert', True),
        ('config.py', 'from timar_ros import model', True),
    ],
)
def test_the_import_law_tells_right_from_wrong(file, line, is_forbidden):
    broken = forbidden_imports(ROOT / 'timar_ros' / file, ast.parse(line))

    assert bool(broken) == is_forbidden


def test_every_folder_and_top_module_belongs_to_a_layer():
    assert {layer_of(path) for path in SOURCES} <= set(LAYERS) | COMMANDS


@pytest.mark.parametrize('path', PYTHON, ids=name_of)
def test_imports_are_absolute(path):
    relative = [
        node.lineno
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]

    assert relative == []


@pytest.mark.parametrize('path', PYTHON, ids=name_of)
def test_files_have_at_most_400_lines(path):
    n_lines = len(path.read_text().splitlines())

    assert n_lines <= 400


@pytest.mark.parametrize('path', [p for p in PYTHON if p.stat().st_size], ids=name_of)
def test_files_open_with_the_two_lines_of_the_licence(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith('#!')]

    assert lines[:2] == HEADER


@pytest.mark.parametrize('path', SOURCES, ids=name_of)
def test_no_module_or_class_has_a_name_that_says_nothing(path):
    classes = [node.name for node in ast.walk(parse(path)) if isinstance(node, ast.ClassDef)]

    assert not any(VAGUE_MODULE.search(part) for part in path.with_suffix('').parts[-2:])
    assert [name for name in classes if VAGUE_CLASS.match(name)] == []


def test_the_package_itself_only_extends_its_path():
    tree = parse(ROOT / 'timar_ros' / '__init__.py')

    statements = [ast.unparse(node) for node in tree.body if not isinstance(node, ast.Expr)]
    assert statements == [
        'from pkgutil import extend_path',
        '__path__ = extend_path(__path__, __name__)',
    ]


def test_every_folder_with_tests_is_run_by_colcon():
    cmake = (ROOT / 'CMakeLists.txt').read_text()
    registered = set(re.findall(r'pytest_test\(\w+ (test/\S+)', cmake))

    tests = [path.relative_to(ROOT) for path in (ROOT / 'test').rglob('test_*.py')]
    forgotten = [
        str(path)
        for path in tests
        if not any(path == Path(r) or Path(r) in path.parents for r in registered)
    ]
    assert forgotten == []
