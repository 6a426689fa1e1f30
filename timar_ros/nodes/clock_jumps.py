# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for noticing that a node's clock was set, be it the system's or a simulated one.

Not for what follows from it.
"""

from rclpy.clock import JumpThreshold
from rclpy.duration import Duration

from timar_ros.nodes import clockwatch


class ClockJumps:
    """
    Watch a node's clock. A simulated clock reports a jump by itself, the system's is compared.

    Args:
        node: whose clock it is.
        read_ns: returns what that clock shows, ns.
        on_jump: called with by how much the clock was set, ns.
    """

    def __init__(self, node, read_ns, on_jump):
        self._clock = node.get_clock()
        self._read_ns = read_ns
        self._on_jump = on_jump
        self._watch = clockwatch.ClockWatch(read_ns())
        forward = Duration(nanoseconds=clockwatch.FORWARD_NS)
        threshold = JumpThreshold(min_forward=forward, min_backward=Duration(nanoseconds=-1))
        self._handle = self._clock.create_jump_callback(
            threshold, post_callback=self._on_simulated_jump
        )

    def look(self) -> bool:
        """Compare the system's clock; True where it was set since the last look."""
        step_ns = self._watch.look(self._read_ns())
        if not step_ns or self._clock.ros_time_is_active:
            return False
        self._on_jump(step_ns)
        return True

    def close(self) -> None:
        """Stop watching."""
        self._handle.unregister()

    def _on_simulated_jump(self, jump) -> None:
        if self._clock.ros_time_is_active:
            self._on_jump(jump.delta.nanoseconds)
