# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for what a node publishes on /diagnostics: one status under its full name.

Adds what holds for every node: exceptions of its callbacks, a second node of the same name, and
several simulated clocks. Not for other faults of a node, which it reports itself.
"""

import socket

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from timar_ros.nodes.convert import stamp_from_ns
from timar_ros.nodes.publishers import PublisherWatch
from timar_ros.strict import shortened

_LONGEST = 500  # characters of a message or value


class Diagnostics:
    """
    Publish the status of one node.

    Call `publish` about once a second.

    Args:
        node: whose status it is.
    """

    def __init__(self, node):
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._n_exceptions = 0  # when last published
        self._has_twin = False
        self._clocks = PublisherWatch(node, '/clock', 'the time jumps to that of each in turn')

    def publish(self, values: dict, trouble: str = '', *, note: str = '', level=None) -> None:
        """
        Publish the status.

        Args:
            values: name -> value, shown in this order.
            trouble: what is wrong, in words; '' for nothing.
            note: shown where nothing is wrong; '' for 'ok'.
            level: of trouble; None: WARN.
        """
        node = self._node
        n_exceptions = exceptions_of(node)
        troubles = [trouble] if trouble else []
        if n_exceptions > self._n_exceptions:
            n_more = n_exceptions - self._n_exceptions
            troubles.append(f'callbacks fail, see the log ({n_more} more)')
        self._n_exceptions = n_exceptions
        if node.get_clock().ros_time_is_active:
            self._clocks.look()
            troubles += [self._clocks.problem] if self._clocks.problem else []
        twin = self._look_for_twin()
        if twin:
            troubles.append(twin)
        bad = level if trouble and level is not None else DiagnosticStatus.WARN
        status = DiagnosticStatus(
            name=node.get_fully_qualified_name(),
            hardware_id=hardware_id(node),
            level=bad if troubles else DiagnosticStatus.OK,
            message=shortened('; '.join(troubles) or note or 'ok', _LONGEST),
        )
        status.values = [
            KeyValue(key=key, value=shortened(str(value), _LONGEST))
            for key, value in {**values, 'callback_exceptions': n_exceptions}.items()
        ]
        array = DiagnosticArray(status=[status])
        array.header.stamp = stamp_from_ns(node.get_clock().now().nanoseconds)
        self._publisher.publish(array)

    def _look_for_twin(self) -> str:
        """Return a warning about another node of the same full name, '' if there is none."""
        node = self._node
        own = (node.get_name(), node.get_namespace())
        has_twin = node.get_node_names_and_namespaces().count(own) > 1
        name = node.get_fully_qualified_name()
        text = (
            f'two nodes are called {name}: end one of them, or give one a namespace of its own '
            '(a node that was killed still counts for up to 20 s)'
        )
        if has_twin != self._has_twin:
            self._has_twin = has_twin
            if has_twin:
                node.get_logger().warning(text)
            else:
                node.get_logger().info(f'one node is called {name} again')
        return text if has_twin else ''


def exceptions_of(node) -> int:
    """Return how many callbacks of a node have raised, as its executor counts them."""
    counts = getattr(node.executor, 'n_exceptions', None)
    return 0 if counts is None else counts[node]


def hardware_id(node) -> str:
    """Return what all nodes of one robot share: their namespace, or else this machine's name."""
    return node.get_namespace().strip('/') or socket.gethostname()
