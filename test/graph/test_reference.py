# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""docs/reference.md says what the nodes are."""

from pathlib import Path

import pytest

from timar_ros.nodes.reference import reference

pytestmark = pytest.mark.graph

PATH = Path(__file__).parents[2] / 'docs' / 'reference.md'


def test_the_reference_is_up_to_date(domain_id, monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(domain_id))
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')

    written = PATH.read_text(encoding='utf-8').splitlines()

    # Else: python -m timar_ros.nodes.reference docs/reference.md
    assert reference().splitlines() == written
