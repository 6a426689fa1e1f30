# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
What `make` does on a machine that lacks Debian packages: toolchain/prepare_machine.sh.

The machine is a folder: PATH holds a few real tools and doubles of sudo, apt-get and apt-cache
that write down how they were called.
"""

import os
from pathlib import Path
import pty
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]
_TOOLS = 'bash cat chmod dirname env grep head mktemp readlink rm sed sleep tail true uniq'
_DOUBLES = {
    'id': 'echo $FAKE_UID',
    'uname': 'echo Linux x86_64',
    'ldconfig': 'cat "$FAKE/libraries"',
    # -n: without a password; -v: ask for one
    'sudo': """
echo "sudo $*" >> "$FAKE/calls"
if [ "$FAKE_SUDO" = password ] && [ "$1" = -n ]; then
  echo 'sudo: a password is required' >&2
  exit 1
fi
if [ "$1" = -v ]; then exit; fi
if [ "$1" = -n ]; then shift; fi
exec "$@"
""",
    'apt-cache': """
if [ $# = 1 ]; then cat "$FAKE/lists"; exit; fi
if grep -qx "$2" "$FAKE/offered"; then candidate=1.0; else candidate='(none)'; fi
echo "  Candidate: $candidate"
""",
    'apt-get': """
echo "$DEBIAN_FRONTEND apt-get $*" >> "$FAKE/calls"
if [ -s "$FAKE/locked" ]; then
  sed -i 1d "$FAKE/locked"
  echo 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7' >&2
  exit 100
fi
case " $* " in
  *' update '*)
    if [ -e "$FAKE/no_network" ]; then echo 'E: Failed to fetch it' >&2; exit 100; fi
    cat "$FAKE/offered_after_update" >> "$FAKE/offered" ;;
  *' install '*)
    installing=
    for word; do
      if [ -z "$installing" ]; then
        if [ "$word" = install ]; then installing=1; fi
        continue
      fi
      if ! grep -qx -e "$word" "$FAKE/offered"; then
        echo "E: Unable to locate package $word" >&2
        exit 100
      fi
      if [ -e "$FAKE/useless" ]; then continue; fi
      : > "$FAKE/bin/$word"
      chmod +x "$FAKE/bin/$word"
    done ;;
esac
""",
}


class Machine:
    """A machine of files below one folder, and what was called on it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.bin = folder / 'bin'
        self.bin.mkdir()
        for tool in _TOOLS.split():
            (self.bin / tool).symlink_to(shutil.which(tool))
        for name, body in _DOUBLES.items():
            self.add(name, body)
        self.add('python3', f'exec {sys.executable} -I -S "$@"')
        self.write('offered', 'g++ cmake pulseaudio pulseaudio-utils chromium')
        (self.folder / 'lists').write_text(' 500 http://debian.test main amd64 Packages\n')
        for name in ('libraries', 'offered_after_update', 'calls', 'locked'):
            self.write(name)

    def add(self, name: str, body: str = '') -> None:
        """Install a program, a shell script."""
        program = self.bin / name
        program.unlink(missing_ok=True)  # a link leads to the real tool
        program.write_text(f'#!/bin/bash\n{body}\n')
        program.chmod(0o755)

    def write(self, name: str, words: str = '') -> None:
        (self.folder / name).write_text(''.join(f'{word}\n' for word in words.split()))

    def prepare(self, *groups, uid=0, sudo='free', stdin=subprocess.DEVNULL, **env):
        """Run prepare_machine.sh; stdin may be a terminal, which is stderr then too."""
        process = subprocess.run(
            [ROOT / 'toolchain' / 'prepare_machine.sh', 'python3', *groups],
            env={
                'PATH': str(self.bin), 'FAKE': str(self.folder), 'FAKE_UID': str(uid),
                'FAKE_SUDO': sudo, 'LOCK_PAUSE_S': '0', **env,
            },
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if stdin is subprocess.DEVNULL else stdin,
            text=True,
            timeout=60,
        )  # fmt: skip
        return process.returncode, process.stdout

    @property
    def calls(self) -> list[str]:
        return (self.folder / 'calls').read_text().splitlines()

    def installed(self) -> list[list[str]]:
        """Return the packages of each `apt-get install`."""
        return [call.split(' install ')[1].split() for call in self.calls if ' install ' in call]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_what_is_missing_is_named_with_its_purpose_and_installed_as_root(machine):
    code, text = machine.prepare('build')

    assert code == 0
    assert 'g++                 compiles the ROS messages\n' in text
    assert 'cmake               builds them\n' in text
    assert machine.installed() == [['g++', 'cmake']]
    assert not any(call.startswith('sudo') for call in machine.calls)


def test_apt_get_asks_nothing_and_removes_nothing(machine):
    machine.prepare('build')

    (call,) = machine.calls
    assert call.startswith('noninteractive apt-get ')
    assert {'-y', '--no-remove', 'Dpkg::Options::=--force-confold'} <= set(call.split())


def test_nothing_is_said_or_called_where_nothing_is_missing(machine):
    machine.add('g++')
    machine.add('cmake')

    assert machine.prepare('build') == (0, '')
    assert machine.calls == []


def test_what_a_target_does_not_need_does_not_stop_it(machine):
    machine.add('g++')
    machine.add('cmake')
    machine.write('offered')

    assert machine.prepare('build', uid=1000, sudo='password') == (
        0,
        '',
    )  # no PortAudio, no browser


def test_another_user_takes_sudo_that_needs_no_password(machine):
    code, text = machine.prepare('build', uid=1000)

    assert code == 0
    assert '(apt-get, with sudo)' in text
    assert machine.installed()[-1] == ['g++', 'cmake']
    assert all(call.startswith('sudo -n ') for call in machine.calls if call.startswith('sudo'))


def test_without_a_terminal_no_password_is_asked_for_and_the_command_is_named(machine):
    code, text = machine.prepare('build', uid=1000, sudo='password')

    assert code == 1
    assert 'sudo apt-get update && sudo apt-get install g++ cmake\n' in text
    assert machine.calls == ['sudo -n true']


def test_the_named_command_has_the_optional_packages_too(machine):
    _, text = machine.prepare('build', 'tests', uid=1000, sudo='password')

    assert text.rstrip().endswith('pulseaudio pulseaudio-utils chromium')
    assert 'sudo apt-get install g++ cmake ' in text


def test_on_a_terminal_sudo_may_ask(machine):
    ours, theirs = pty.openpty()
    try:
        code, _ = machine.prepare('build', uid=1000, sudo='password', stdin=theirs)
        said = os.read(ours, 4096).decode()
    finally:
        os.close(ours)
        os.close(theirs)

    assert code == 0
    assert 'sudo may ask for your password' in said
    assert 'sudo -v' in machine.calls
    assert machine.installed()[-1] == ['g++', 'cmake']


def test_ci_is_never_asked_even_on_a_terminal(machine):
    ours, theirs = pty.openpty()
    try:
        code, _ = machine.prepare('build', uid=1000, sudo='password', stdin=theirs, CI='true')
    finally:
        os.close(ours)
        os.close(theirs)

    assert code == 1
    assert machine.calls == ['sudo -n true']


def test_without_sudo_the_command_is_named_for_root(machine):
    (machine.bin / 'sudo').unlink()

    code, text = machine.prepare('build', uid=1000)

    assert code == 1
    assert '  apt-get update && apt-get install g++ cmake (as root)\n' in text


def test_lists_are_updated_only_where_they_lack_a_package(machine):
    machine.write('offered', 'cmake')
    machine.write('offered_after_update', 'g++')

    assert machine.prepare('build')[0] == 0
    assert [' update' in call for call in machine.calls] == [True, False]


def test_a_failed_update_is_said_and_what_can_be_had_is_tried(machine):
    machine.write('offered', 'cmake')
    machine.write('no_network')

    code, text = machine.prepare('build')

    assert code == 1
    assert 'apt-get update failed' in text
    assert 'E: Failed to fetch it' in text
    assert 'E: Unable to locate package g++' in text
    assert '  apt-get update && apt-get install g++ cmake\n' in text


def test_the_lock_of_another_program_is_waited_for(machine):
    machine.write('locked', 'three times busy')

    code, text = machine.prepare('build')

    assert code == 0
    assert text.count('waiting for it') == 1
    assert len(machine.installed()) == 4


def test_the_lock_is_not_waited_for_without_end(machine):
    machine.write('locked', 'busy ' * 200)

    code, text = machine.prepare('build')

    assert code == 1
    assert 'Could not get lock' in text
    assert len(machine.calls) < 70


def test_of_optional_packages_each_that_can_be_had_comes_and_the_others_are_named(machine):
    machine.add('g++')
    machine.add('cmake')
    machine.write('libraries', 'libportaudio.so.2 libasound_module_pcm_pulse.so')
    machine.write('offered', 'pulseaudio pulseaudio-utils')

    (machine.folder / 'lists').write_text('')

    code, text = machine.prepare('build', 'tests')

    assert code == 0
    assert machine.installed()[-3:] == [['pulseaudio'], ['pulseaudio-utils'], ['chromium']]
    assert (
        text.rstrip().splitlines()[-1].split() == 'chromium tests of the face in a browser'.split()
    )
    assert 'E: Unable to locate package chromium' in text


def test_an_optional_package_that_is_not_offered_costs_no_update_and_no_password(machine):
    machine.add('g++')
    machine.add('cmake')
    machine.write('libraries', 'libportaudio.so.2 libasound_module_pcm_pulse.so')
    machine.add('pulseaudio')
    machine.add('pactl')
    machine.write('offered')

    code, text = machine.prepare('build', 'tests', uid=1000)

    assert code == 0
    assert 'apt-get has no chromium here' in text
    assert machine.calls == []


def test_without_root_optional_packages_are_named_and_the_target_goes_on(machine):
    machine.add('g++')
    machine.add('cmake')

    code, text = machine.prepare('build', 'tests', uid=1000, sudo='password')

    assert code == 0
    assert 'tests of the face in a browser' in text
    assert 'pulseaudio pulseaudio-utils chromium\n' in text
    assert machine.calls == ['sudo -n true']


def test_where_no_test_may_be_skipped_the_optional_packages_are_a_must(machine):
    machine.add('g++')
    machine.add('cmake')
    machine.write('offered', 'pulseaudio pulseaudio-utils')

    code, text = machine.prepare('build', 'tests', STRICT='1')

    assert code == 1
    assert 'could not install' in text
    assert 'optional' not in text


def test_pulseaudio_is_not_put_in_the_place_of_pipewire(machine):
    machine.add('g++')
    machine.add('cmake')
    machine.add('pipewire-pulse')
    machine.write('libraries', 'libportaudio.so.2 libasound_module_pcm_pulse.so')

    _, text = machine.prepare('build', 'tests')

    assert machine.installed() == [['pulseaudio-utils', 'chromium']]
    assert 'pulseaudio is not installed beside PipeWire' in text


@pytest.mark.parametrize(
    'snap', ['exec /snap/bin/chromium "$@"', 'echo "requires the snap /snap/"']
)
def test_a_browser_that_is_a_snap_counts_as_none(machine, snap):
    machine.add('chromium-browser', snap)

    machine.prepare('tests')

    assert 'chromium' in machine.installed()[0]


def test_a_python_that_is_too_old_is_refused_before_anything_is_installed(machine):
    machine.add(
        'python3',
        f'if [[ $2 == *version_info* ]]; then exit 1; fi; exec {sys.executable} "$@"',
    )

    code, text = machine.prepare('build')

    assert code == 1
    assert 'expected Python 3.10 to 3.13' in text
    assert machine.calls == []


def test_an_installed_package_that_does_not_help_is_no_endless_loop(machine):
    machine.write('useless')

    code, text = machine.prepare('build')

    assert code == 1
    assert 'still missing' in text
