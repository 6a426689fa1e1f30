# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""docs/reference.md and the shipped parameter files say what the nodes are."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from timar_ros.nodes.reference import params_class, reference

pytestmark = pytest.mark.graph

ROOT = Path(__file__).parents[2]
PATH = ROOT / 'docs' / 'reference.md'


def test_the_reference_is_up_to_date(domain_id, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain_id))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

    written = PATH.read_text(encoding='utf-8').splitlines()

    # Else: python -m timar_ros.nodes.reference docs/reference.md
    assert reference().splitlines() == written


@pytest.mark.parametrize('name', ['conversation.yaml', 'demo_head.yaml'])
def test_every_key_of_a_shipped_parameter_file_is_a_parameter(name):
    nodes = yaml.safe_load((ROOT / 'config' / name).read_text())

    assert nodes
    for pattern, content in nodes.items():
        fields = dataclasses.fields(params_class(pattern.removeprefix('/**/')))
        assert set(content['ros__parameters']) <= {field.name for field in fields}, pattern
