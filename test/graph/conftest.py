# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A private ROS graph for a test: its own context and domain, on this machine only."""

import os
import time

import pytest

rclpy = pytest.importorskip('rclpy', reason='no ROS 2 here: source env.sh, or a ROS installation')

from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402


class Graph:
    """Nodes of one private context, spun in the test's own thread."""

    def __init__(self, domain_id: int):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._nodes = []

    def node(self, name: str, cls=Node, **options):
        """Make a node; it is destroyed with the graph."""
        node = cls(name, context=self.context, **options)
        return self.add(node)

    def add(self, node):
        """Spin `node` with the others."""
        self._nodes.append(node)
        self._executor.add_node(node)
        return node

    def spin_until(self, is_done, timeout_s: float = 10.0) -> bool:
        """Spin until `is_done()`; False if that did not come in time."""
        deadline = time.monotonic() + timeout_s
        while not is_done():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return False
            self._executor.spin_once(timeout_sec=min(left_s, 0.05))
        return True

    def spin_for(self, duration_s: float) -> None:
        """Spin for a while."""
        self.spin_until(lambda: False, duration_s)

    def close(self) -> None:
        """Destroy every node and end the context."""
        for node in self._nodes:
            self._executor.remove_node(node)
            node.destroy_node()
        self._executor.shutdown()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture(scope='session')
def domain_id() -> int:
    """Return the domain that the test runner reserved, or one by process number."""
    return int(os.environ.get('ROS_DOMAIN_ID', 0)) or 1 + os.getpid() % 100


@pytest.fixture
def graph(domain_id, monkeypatch):
    """Yield a private graph that sees nothing beyond this machine."""
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    graph = Graph(domain_id)
    yield graph
    graph.close()
