# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Action units for other faces: on hri_msgs, generated for real in an overlay workspace."""

import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.graph

_PACKAGE = """<?xml version="1.0"?>
<package format="3">
  <name>hri_msgs</name>
  <version>1.0.0</version>
  <description>Messages for a test</description>
  <maintainer email="timar_ros@example.org">timar_ros contributors</maintainer>
  <license>Apache-2.0</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <depend>std_msgs</depend>
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""
_CMAKE = """cmake_minimum_required(VERSION 3.16)
project(hri_msgs)
find_package(ament_cmake REQUIRED)
find_package(std_msgs REQUIRED)
find_package(rosidl_default_generators REQUIRED)
rosidl_generate_interfaces(hri_msgs msg/FacialActionUnits.msg DEPENDENCIES std_msgs)
ament_package()
"""
_FIELDS = 'std_msgs/Header header\nfloat32[99] intensity\nfloat32[99] confidence\n'


@pytest.fixture(scope='module')
def overlay(tmp_path_factory) -> Path:
    """Return the install folder of hri_msgs."""
    if shutil.which('colcon') is None:
        pytest.skip('no colcon here: source env.sh, or install colcon-common-extensions')
    root = tmp_path_factory.mktemp('hri')
    package = root / 'src' / 'hri_msgs'
    (package / 'msg').mkdir(parents=True)
    (package / 'package.xml').write_text(_PACKAGE)
    (package / 'CMakeLists.txt').write_text(_CMAKE)
    (package / 'msg' / 'FacialActionUnits.msg').write_text(_FIELDS)
    flags = ['--cmake-args', '-DCMAKE_CXX_FLAGS=-O0', '-DCMAKE_C_FLAGS=-O0']
    done = subprocess.run(
        ['colcon', '--log-base', 'log', 'build', '--base-paths', 'src', *flags],
        cwd=root, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return root / 'install'


def test_action_units_are_published_by_number_where_hri_msgs_is(overlay, domain_id):
    script = Path(__file__).with_name('units.py')
    in_overlay = f'source {overlay}/local_setup.bash && exec "$@"'

    done = subprocess.run(
        ['bash', '-c', in_overlay, '_', sys.executable, script],
        env={
            **os.environ,
            'ROS_DOMAIN_ID': str(domain_id),
            'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
        },
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    # inner brow, lip corner; and the head turned left by half of what counts as fully
    assert said['units'] == {'1': [0.5, 1.0], '12': [0.25, 1.0], '51': [pytest.approx(0.5), 1.0]}
    assert abs(said['stamp_s'] - time.time()) < 60
