# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A process that cannot run in its environment says what to set; logs always find a place."""

import os
import pathlib
import tempfile

import pytest

from timar_ros.nodes import environment
from timar_ros.nodes.environment import prepare


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Start from an environment in which all is well, and restore it."""
    for name in ('ROS_LOG_DIR', 'ROS_HOME', 'ROS_DOMAIN_ID', 'RMW_IMPLEMENTATION'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'tmp'))
    (tmp_path / 'tmp').mkdir()
    monkeypatch.setattr(environment, 'share_folder', lambda: tmp_path)


def set_log_dir(monkeypatch):
    """Let prepare() change ROS_LOG_DIR, which monkeypatch then restores."""
    monkeypatch.setenv('ROS_LOG_DIR', '')


def test_a_home_that_can_be_written_gets_the_logs(capsys, tmp_path):
    prepare()

    assert (tmp_path / 'home' / '.ros' / 'log').is_dir()
    assert 'ROS_LOG_DIR' not in os.environ
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize(
    ('changes', 'reason'),
    [
        ({'HOME': None}, 'HOME is not set: '),
        ({'HOME': ''}, 'HOME is not set: '),
        ({'HOME': '/proc/none'}, '/proc/none/.ros/log cannot be written: '),
        ({'ROS_HOME': '/proc/none'}, '/proc/none/log cannot be written: '),
        ({'ROS_LOG_DIR': '/proc/none'}, '/proc/none cannot be written: '),
        ({'ROS_LOG_DIR': '~/x', 'HOME': None}, 'HOME is not set: '),
    ],
)
def test_logs_without_a_place_go_to_one_temporary_folder(
    monkeypatch, capsys, tmp_path, changes, reason
):
    chosen = []
    for _ in range(2):
        set_log_dir(monkeypatch)
        for name, value in changes.items():
            monkeypatch.delenv(name, False) if value is None else monkeypatch.setenv(name, value)
        prepare()
        chosen.append(os.environ['ROS_LOG_DIR'])

    assert chosen == [str(tmp_path / 'tmp' / f'timar_ros_log_{os.getuid()}')] * 2
    assert pathlib.Path(chosen[0]).stat().st_mode & 0o777 == 0o700
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines == [f'{reason}logs go to {chosen[0]}; set ROS_LOG_DIR to choose another folder'] * 2
    )


def test_a_link_of_the_name_of_the_temporary_folder_is_not_followed(monkeypatch, tmp_path):
    set_log_dir(monkeypatch)
    monkeypatch.delenv('HOME')
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'tmp' / f'timar_ros_log_{os.getuid()}').symlink_to(tmp_path / 'elsewhere')

    prepare()

    chosen = pathlib.Path(os.environ['ROS_LOG_DIR'])
    assert chosen.parent == tmp_path / 'tmp' and not chosen.is_symlink()


def test_without_any_folder_for_logs_the_variable_that_helps_is_named(monkeypatch):
    set_log_dir(monkeypatch)
    monkeypatch.delenv('HOME')
    monkeypatch.setattr(tempfile, 'tempdir', '/proc')

    with pytest.raises(ValueError, match='HOME is not set, .*; set ROS_LOG_DIR to a folder'):
        prepare()


@pytest.mark.parametrize('domain', ['233', '-1', 'x', '1.5', '٣', '9' * 5000])
def test_a_domain_that_dds_has_not_is_refused_in_a_short_sentence(monkeypatch, domain):
    monkeypatch.setenv('ROS_DOMAIN_ID', domain)

    with pytest.raises(ValueError, match='ROS_DOMAIN_ID must be .* 0 to 232, got ') as refused:
        prepare()

    assert len(str(refused.value)) < 300


@pytest.mark.parametrize('domain', ['', '0', '007', '232'])
def test_domains_that_dds_has_are_accepted(monkeypatch, domain):
    monkeypatch.setenv('ROS_DOMAIN_ID', domain)

    prepare()


def test_a_package_that_ros_does_not_find_is_named_with_what_to_source(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv('AMENT_PREFIX_PATH', '/nowhere')

    with pytest.raises(ValueError, match=r'AMENT_PREFIX_PATH is /nowhere; source install/setup'):
        environment.share_folder()
