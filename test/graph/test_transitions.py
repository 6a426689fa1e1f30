# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Life-cycle requests of any kind get an answer, and none ends the node."""

import functools

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import pytest
import rclpy
from rclpy.context import Context
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node

from timar_ros.nodes.executor import FaultTolerantExecutor
from timar_ros.nodes.transitions import AnsweringLifecycleNode, logged

pytestmark = pytest.mark.graph

# state -> transition id -> label and state after it, as rcl_lifecycle defines them
_MACHINE = {
    'unconfigured': {1: ('configure', 'inactive'), 5: ('shutdown', 'finalized')},
    'inactive': {
        2: ('cleanup', 'unconfigured'),
        3: ('activate', 'active'),
        6: ('shutdown', 'finalized'),
    },
    'active': {4: ('deactivate', 'inactive'), 7: ('shutdown', 'finalized')},
    'finalized': {},
}
_WAYS = {
    'unconfigured': [],
    'inactive': [1],
    'active': [1, 3],
    'finalized': [5],
}


class Managed(AnsweringLifecycleNode):
    """A node whose transitions fail as it is told to."""

    def __init__(self, **options):
        super().__init__('managed', **options)
        self.failing = None
        self.released = 0

    def release(self):
        self.released += 1

    @logged
    def on_configure(self, state):
        if self.failing == 'configure':
            raise KeyError('no such thing')
        return super().on_configure(state)

    @logged
    def on_activate(self, state):
        if self.failing == 'activate':
            raise KeyError('no such thing')
        return super().on_activate(state)


class Managers:
    """A managed node and two managers that send it requests."""

    def __init__(self, domain_id):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.node = Managed(context=self.context)
        self.managers = [Node(name, context=self.context) for name in ('first', 'second')]
        self.executor = FaultTolerantExecutor(context=self.context)
        for node in (self.node, *self.managers):
            self.executor.add_node(node)
        self.clients = [
            manager.create_client(ChangeState, 'managed/change_state') for manager in self.managers
        ]
        self.state_client = self.managers[0].create_client(GetState, 'managed/get_state')
        for client in (*self.clients, self.state_client):
            assert self.spin(client.service_is_ready)

    def spin(self, is_done, timeout_s=20.0):
        end_ns = self.node.get_clock().now().nanoseconds + int(timeout_s * 1e9)
        while not is_done() and self.node.get_clock().now().nanoseconds < end_ns:
            self.executor.spin_once(timeout_sec=0.05)
        return is_done()

    def ask(self, *transitions):
        """Send requests, in turn from the two managers, eight at once; return the answers."""
        answers = []
        for first in range(0, len(transitions), 8):  # a service holds ten
            futures = [
                self.clients[i % 2].call_async(ChangeState.Request(transition=transition))
                for i, transition in enumerate(transitions[first : first + 8])
            ]
            assert self.spin(lambda futures=futures: all(future.done() for future in futures))
            answers += [future.result().success for future in futures]
        return answers

    def state(self):
        future = self.state_client.call_async(GetState.Request())
        assert self.spin(future.done)
        return future.result().current_state.label

    def close(self):
        for node in (self.node, *self.managers):
            node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def managers(domain_id):
    managers = Managers(domain_id)
    yield managers
    managers.close()


@pytest.mark.parametrize('state', _MACHINE)
def test_every_transition_id_that_is_not_possible_is_refused_in_every_state(managers, state):
    for number in _WAYS[state]:
        assert managers.ask(Transition(id=number)) == [True]
    impossible = [number for number in range(256) if number not in _MACHINE[state]]

    answers = managers.ask(*(Transition(id=number) for number in impossible))

    assert answers == [False] * len(impossible)
    assert managers.state() == state
    assert managers.node.n_refused_transitions == len(impossible)
    assert not managers.executor.n_exceptions


def test_a_label_decides_where_there_is_one_as_in_rclcpp(managers):
    answers = managers.ask(
        Transition(id=99, label='configure'),
        Transition(id=3, label='configure'),
        Transition(id=3, label='x' * 1_000_000),
        Transition(label='activate'),
        Transition(label='deactivate'),
        Transition(label='transition_success'),
        Transition(label='shutdown'),
    )

    assert answers == [True, False, False, True, True, False, True]
    assert managers.state() == 'finalized'


def test_of_two_managers_that_ask_for_the_same_one_is_refused(managers):
    configure = managers.ask(*[Transition(id=1)] * 2)
    activate = managers.ask(*[Transition(id=3)] * 2)

    assert (sorted(configure), sorted(activate)) == ([False, True], [False, True])
    assert managers.state() == 'active'


def test_200_random_requests_follow_the_life_cycle(managers):
    rng, state = np.random.default_rng(0), 'unconfigured'
    for _ in range(200):
        number = int(rng.choice([1, 2, 3, 4, int(rng.integers(256))]))
        if number in (5, 6, 7):  # the end of it
            continue
        possible = _MACHINE[state].get(number)

        assert managers.ask(Transition(id=number)) == [possible is not None]
        state = possible[1] if possible else state
        assert managers.node.state_label == state

    assert managers.state() == state


@pytest.mark.parametrize(('failing', 'number'), [('configure', 1), ('activate', 3)])
def test_a_transition_that_raises_is_logged_and_leaves_the_node_unconfigured(
    managers, failing, number
):
    logged_texts = []
    managers.node.get_logger = lambda: type('', (), {'error': logged_texts.append})
    managers.node.failing = failing
    for before in range(1, number, 2):
        assert managers.ask(Transition(id=before)) == [True]

    assert managers.ask(Transition(id=number)) == [False]
    assert managers.state() == 'unconfigured'
    assert managers.node.released == 1
    assert len(logged_texts) == 1 and "KeyError: 'no such thing'" in logged_texts[0]
    managers.node.failing = None
    assert managers.ask(Transition(id=1)) == [True]


def test_an_event_that_cannot_be_published_is_a_refusal(managers):
    def fail(request, response):
        raise RuntimeError('Could not publish transition')

    node = managers.node
    node._service_change_state.callback = functools.partial(node._answer, fail)

    assert managers.ask(Transition(id=1)) == [False]
    assert managers.state() == 'unconfigured'
    assert not managers.executor.n_exceptions


def test_a_node_that_a_manager_has_configured_does_not_start_by_itself(managers):
    managers.node.start_by_itself()
    managers.node.trigger_configure()

    assert managers.spin(lambda: not managers.node.is_starting)
    assert managers.state() == 'inactive'
    assert not managers.executor.n_exceptions


def test_a_node_that_starts_by_itself_becomes_active(managers):
    managers.node.start_by_itself()
    assert managers.node.is_starting

    assert managers.spin(lambda: not managers.node.is_starting)
    assert managers.node._state_machine.current_state[0] == State.PRIMARY_STATE_ACTIVE


@pytest.mark.parametrize(
    ('is_final', 'advice'),
    [
        (False, 'when that is put right: ros2 lifecycle set /managed configure, then activate'),
        (True, 'start the node again without that'),
    ],
)
def test_a_refusal_to_configure_says_what_to_do_then(managers, is_final, advice):
    texts = []
    managers.node.get_logger = lambda: type('', (), {'error': texts.append})

    outcome = managers.node.refuse_to_configure(ValueError('no weights'), is_final)

    assert outcome == TransitionCallbackReturn.FAILURE
    assert texts == [f'cannot configure: no weights; {advice}']
    assert managers.node.released == 1
