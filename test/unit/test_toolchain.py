# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The rest of the set-up: what pip shows, what make's targets need, what package.xml names."""

import ast
from pathlib import Path
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def pip(tmp_path):
    """Return a call of pip.sh whose pip prints what it is given and ends with a code."""

    def run(*lines, code=0):
        folder = tmp_path / '.venv' / 'bin'
        folder.mkdir(parents=True)
        said = ''.join(f"echo '{line}' >&2\n" for line in lines)
        (folder / 'python').write_text(f'#!/bin/bash\necho "$*"\n{said}exit {code}\n')
        (folder / 'python').chmod(0o755)
        return subprocess.run(
            [ROOT / 'toolchain' / 'pip.sh', 'install', 'x'],
            cwd=tmp_path, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    return run


def test_of_a_failed_pip_the_reason_is_shown_without_the_flood(pip):
    ended = pip(
        'WARNING: Location file:///x/simple/torch/ is ignored: it is no folder.',
        'ERROR: No matching distribution found for x',
        '  DEPRECATION: empy is being installed using the legacy method',
        code=3,
    )

    assert ended.returncode == 1
    first, *hint = ended.stderr.splitlines()
    assert first == 'ERROR: No matching distribution found for x'
    assert hint == [line for line in hint if 'WARNING' not in line and 'DEPRECATION' not in line]
    assert 'run make again' in ended.stderr
    assert ended.stdout == '-m pip --quiet --disable-pip-version-check install x\n'


def test_a_pip_that_succeeds_succeeds(pip):
    ended = pip('WARNING: something else')

    assert (ended.returncode, ended.stderr) == (0, 'WARNING: something else\n')


@pytest.mark.parametrize(
    ('target', 'groups'),
    [('demo', 'build'), ('check', 'build'), ('setup', 'build sound'), ('test', 'build tests'),
     ('demo test', 'build tests')],
)  # fmt: skip
def test_each_target_names_what_it_needs(target, groups):
    if shutil.which('make') is None:
        pytest.skip('no make here')
    plan = subprocess.run(
        ['make', '--dry-run', '--no-print-directory', *target.split()],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip

    (call,) = [line for line in plan.splitlines() if 'prepare_machine.sh' in line]
    assert call.split()[1:] == ['python3', *groups.split()]


def _dependencies():
    package = ElementTree.parse(ROOT / 'package.xml').getroot()
    return [depend.text for depend in package if depend.tag.endswith('depend')]


def test_package_xml_names_each_dependency_once_and_none_that_only_pip_has():
    names = _dependencies()

    assert sorted(names) == sorted(set(names))
    assert [name for name in names if name.endswith('-pip')] == []


def test_all_that_the_code_imports_comes_by_rosdep_or_with_the_robots_requirements():
    by_rosdep = {name.removeprefix('python3-') for name in _dependencies()}
    requirements = (ROOT / 'toolchain' / 'robot.txt').read_text()
    by_pip = set(re.findall(r'^\w+', requirements, re.MULTILINE))
    by_hand = {'torch', 'transformers'}  # README, "On your robot"; published weights
    asked_first = {'compression', 'hri_msgs', 'tf2_msgs'}  # the code does without
    known = sys.stdlib_module_names | by_rosdep | by_pip | by_hand | asked_first | {'timar_ros'}

    unknown = {
        f'{path.relative_to(ROOT)}: {name}'
        for path in (ROOT / 'timar_ros').rglob('*.py')
        for name in _imported(path)
        if name not in known
    }

    assert unknown == set()


def _imported(path):
    """Return the top names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split('.')[0]
