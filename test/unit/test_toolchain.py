# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The other parts of the set-up: what pip shows, and what each of make's targets needs."""

from pathlib import Path
import shutil
import subprocess

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
