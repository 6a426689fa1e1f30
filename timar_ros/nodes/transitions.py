# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Responsible for life-cycle requests: each gets an answer, and none ends the node.

Not for what a transition does. rclpy lets the exception of a transition that is not possible out
of its service, and swallows the one of a transition that failed.
"""

import functools
import traceback

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn

from timar_ros.nodes.throttle import ThrottledWarnings
from timar_ros.strict import quoted, shortened


class AnsweringLifecycleNode(LifecycleNode):
    """
    A life-cycle node that answers impossible requests with `success: false`.

    Attributes:
        n_refused_transitions: requests for what is not possible in the state of the moment.
        is_starting: it is about to configure and activate by itself.
    """

    def __init__(self, name: str, **node_options):
        super().__init__(name, **node_options)
        self.n_refused_transitions = 0
        self._transitions_log = ThrottledWarnings(self.get_logger())
        change = self._service_change_state.callback
        self._service_change_state.callback = functools.partial(self._answer, change)
        self._start_timer = None

    is_starting = property(lambda self: self._start_timer is not None)

    def start_by_itself(self) -> None:
        """Configure and activate once, in the executor, unless another node did so before."""
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._start_timer = self.create_timer(0.0, self._on_start, clock=steady)

    def _on_start(self) -> None:
        self.destroy_timer(self._start_timer)
        self._start_timer = None
        if self.state_label != 'unconfigured':
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    @property
    def state_label(self) -> str:
        """Name of the present state: unconfigured, inactive, active, finalized."""
        return self._state_machine.current_state[1]

    def on_error(self, state):
        """Free what a failed transition left; the node is unconfigured then."""
        self.release()
        return super().on_error(state)

    def refuse_to_configure(self, error: Exception, is_final: bool) -> TransitionCallbackReturn:
        """
        Log why, free what there is, and stay unconfigured.

        Args:
            error: its text is the reason.
            is_final: nothing can put it right while this node runs.
        """
        then = 'start the node again without that'
        if not is_final:
            name = self.get_fully_qualified_name()
            then = f'when that is put right: ros2 lifecycle set {name} configure, then activate'
        self.get_logger().error(f'cannot configure: {error}; {then}')
        self.release()
        return TransitionCallbackReturn.FAILURE

    def release(self) -> None:
        """Free all that transitions have made, wherever one of them failed."""

    def _answer(self, change, request, response):
        wanted = request.transition
        possible = {entry[1]: entry[0] for entry in self._state_machine.available_transitions}
        is_possible = wanted.label in possible if wanted.label else wanted.id in possible.values()
        if is_possible:
            try:
                return change(request, response)
            except Exception as error:  # e.g. the event could not be published
                reason = shortened(f'{type(error).__name__}: {error}', 200)
        else:
            reason = f'possible from {self.state_label}: {", ".join(possible) or "nothing"}'
        self.n_refused_transitions += 1
        what = quoted(wanted.label) if wanted.label else str(wanted.id)
        self._transitions_log.warn(f'refused life-cycle transition {what}; {reason}')
        response.success = False
        return response


def logged(transition):
    """Decorate a transition's callback: log the exception that rclpy would swallow."""

    @functools.wraps(transition)
    def call(node, state):
        try:
            return transition(node, state)
        except Exception:
            node.get_logger().error(
                f'{transition.__name__} failed:\n{shortened(traceback.format_exc(), 3000)}'
            )
            return TransitionCallbackReturn.ERROR

    return call
