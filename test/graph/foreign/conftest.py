# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Other packages' audio messages, generated for real: an overlay workspace each, built once a run.

Two of the packages have the same name, so whoever speaks or hears one of them is a process of its
own, in whose environment that overlay alone is sourced: `talk.py` and `listen.py`.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

_HERE = pathlib.Path(__file__).parent

# Their fields, as ROS.md and the packages' documentation have them. package -> message -> fields
_OVERLAYS = {
    'ros_drivers': {
        'audio_common_msgs': {
            'AudioData': 'uint8[] data',
            'AudioDataStamped': 'std_msgs/Header header\naudio_common_msgs/AudioData audio',
            'AudioInfo': 'uint8 channels\nuint32 sample_rate\nstring sample_format\n'
            'uint32 bitrate\nstring coding_format',
        }
    },
    'mgonzs13': {
        'audio_common_msgs': {
            'Audio': 'audio_common_msgs/AudioData audio_data\naudio_common_msgs/AudioInfo info',
            'AudioData': 'float32[] float32_data\nint32[] int32_data\nint16[] int16_data\n'
            'int8[] int8_data\nuint8[] uint8_data',
            'AudioInfo': 'int32 format\nint32 channels\nint32 rate\nint32 chunk',
            'AudioStamped': 'std_msgs/Header header\naudio_common_msgs/Audio audio',
        }
    },
    'others': {
        'naoqi_bridge_msgs': {
            'AudioBuffer': 'std_msgs/Header header\nuint16 frequency\nuint8[] channel_map\n'
            'int16[] data',
        },
        'foxglove_msgs': {
            'RawAudio': 'builtin_interfaces/Time timestamp\nuint8[] data\nstring format\n'
            'uint32 sample_rate\nuint32 number_of_channels',
        },
    },
}

_PACKAGE_XML = """<?xml version="1.0"?>
<package format="3">
  <name>{name}</name>
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

_CMAKE_LISTS = """cmake_minimum_required(VERSION 3.16)
project({name})
find_package(ament_cmake REQUIRED)
find_package(builtin_interfaces REQUIRED)
find_package(std_msgs REQUIRED)
find_package(rosidl_default_generators REQUIRED)
rosidl_generate_interfaces({name} {messages} DEPENDENCIES builtin_interfaces std_msgs)
ament_package()
"""


def _write_package(folder: pathlib.Path, name: str, messages: dict[str, str]) -> None:
    (folder / 'msg').mkdir(parents=True)
    for message, fields in messages.items():
        (folder / 'msg' / f'{message}.msg').write_text(fields + '\n')
    (folder / 'package.xml').write_text(_PACKAGE_XML.format(name=name))
    files = ' '.join(f'msg/{message}.msg' for message in messages)
    (folder / 'CMakeLists.txt').write_text(_CMAKE_LISTS.format(name=name, messages=files))


@pytest.fixture(scope='session')
def build_overlay(tmp_path_factory):
    """Return a function that builds an overlay, once, and returns its install folder."""
    if shutil.which('colcon') is None:
        pytest.skip('no colcon here: source env.sh, or install colcon-common-extensions')
    built = {}

    def build(name: str) -> pathlib.Path:
        if name not in built:
            root = tmp_path_factory.mktemp(name)
            for package, messages in _OVERLAYS[name].items():
                _write_package(root / 'src' / package, package, messages)
            command = ['colcon', '--log-base', 'log', 'build', '--base-paths', 'src']
            done = subprocess.run(
                [*command, '--cmake-args', '-DCMAKE_CXX_FLAGS=-O0', '-DCMAKE_C_FLAGS=-O0'],
                cwd=root, capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            built[name] = root / 'install'
        return built[name]

    return build


@pytest.fixture(scope='session')
def recording(tmp_path_factory) -> pathlib.Path:
    """Return the path of what all talkers say: int16 `[n, 4]`, noise, no sample like another."""
    path = tmp_path_factory.mktemp('recording') / 'said.npy'
    noise = np.random.default_rng(5).integers(-20_000, 20_000, (28_800, 4), dtype=np.int16)
    np.save(path, noise)
    return path


def _in_overlay(install: pathlib.Path | None, script: str, *arguments) -> list[str]:
    command = [sys.executable, str(_HERE / script), *map(str, arguments)]
    if install is None:
        return command
    return ['bash', '-c', f'source {install}/local_setup.bash && exec "$@"', '_', *command]


@pytest.fixture(scope='session')
def hear(build_overlay, recording, checkpoint, domain_id, tmp_path_factory):
    """
    Return a function that lets the talkers of an overlay speak to conversation nodes.

    hear(name, is_sourced=True) -> what happened, by case of `talk.py`: `types` subscribed to,
    `n_packets`, `samples` (float32 `[n, channels]`) and `rate_hz` as heard through
    `VoiceSubscription`, and of the conversation node its log `texts`, its last diagnostic
    `values` and `n_plans`. is_sourced: the listeners' environment has the overlay, too.
    """
    heard = {}

    def run(name: str, is_sourced: bool = True):
        if (name, is_sourced) not in heard:
            install, out = build_overlay(name), tmp_path_factory.mktemp(f'heard_{name}')
            environment = {
                **os.environ,
                'ROS_DOMAIN_ID': str(domain_id),
                'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST',
                'OMP_NUM_THREADS': '1',
            }
            talker = subprocess.Popen(
                _in_overlay(install, 'talk.py', name, recording),
                env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                listener = subprocess.run(
                    _in_overlay(
                        install if is_sourced else None, 'listen.py', name, checkpoint, out
                    ),
                    env=environment, capture_output=True, text=True, timeout=120,
                )  # fmt: skip
            finally:
                _, talked = talker.communicate('')  # its input ends, and so does it
            assert listener.returncode == 0, listener.stderr + talked
            heard[name, is_sourced] = {
                case: SimpleNamespace(
                    **of, samples=np.load(out / f'{case}.npy'), log=listener.stderr + talked
                )
                for case, of in json.loads((out / 'heard.json').read_text()).items()
            }
        return heard[name, is_sourced]

    return run
