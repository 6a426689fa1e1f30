# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
`pip install` of the parts that need no ROS: the model, the engine, training and evaluation.

On ROS the package is built by colcon from CMakeLists.txt, which ignores this file.
"""

from pathlib import Path
import xml.etree.ElementTree as ElementTree

from setuptools import find_packages, setup

package = ElementTree.parse(Path(__file__).with_name('package.xml')).getroot()

setup(
    name='timar_ros',
    version=package.findtext('version'),
    description=' '.join(package.findtext('description').split()),
    license='Apache-2.0',
    packages=find_packages(include=['timar_ros*'], exclude=['timar_ros.nodes*']),
    package_data={'timar_ros.learn': ['*.html', '*.js']},
    python_requires='>=3.10',
    install_requires=[
        'torch',
        'numpy',
        'scipy',
        'pyyaml',
        'safetensors',
        'soxr',
        'tqdm',
        'rosbags',
        'threadpoolctl',
    ],  # fmt: skip
    extras_require={'wav2vec2': ['transformers']},
)
