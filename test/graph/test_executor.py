# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A node outlives callbacks that raise."""

import time

from builtin_interfaces.msg import Time
import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Int64
from std_srvs.srv import Trigger

from timar_ros.nodes.diagnostics import Diagnostics
from timar_ros.nodes.executor import FaultTolerantExecutor

pytestmark = pytest.mark.graph


class Robot:
    """Two nodes under test in one executor, and what the first of them has logged."""

    def __init__(self, domain_id):
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain_id)
        self.node, self.other = (Node(name, context=self.context) for name in ('one', 'two'))
        self.executor = FaultTolerantExecutor(context=self.context)
        for node in (self.node, self.other):
            self.executor.add_node(node)
        self.logged = []
        self.node.get_logger = lambda: self

    def error(self, text):
        self.logged.append(text)

    def spin(self, is_done, timeout_s=20.0):
        end_s = time.monotonic() + timeout_s
        while not is_done() and time.monotonic() < end_s:
            self.executor.spin_once(timeout_sec=0.05)
        return is_done()

    def close(self):
        for node in (self.node, self.other):
            node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def robot(domain_id):
    robot = Robot(domain_id)
    yield robot
    robot.close()


def test_a_timer_that_always_raises_floods_nothing_and_others_run(robot):
    ticks = []

    def fail():
        raise TypeError('x' * 1_000_000)

    robot.node.create_timer(0.001, fail)
    robot.other.create_timer(0.001, lambda: ticks.append(1))

    assert robot.spin(lambda: robot.executor.n_exceptions[robot.node] >= 100)
    assert len(ticks) >= 50
    assert robot.executor.n_exceptions[robot.other] == 0
    assert len(robot.logged) <= 1 + 20 // 5
    assert len(robot.logged[0]) < 2000
    assert 'test_executor.py' in robot.logged[0] and 'TypeError: xxx' in robot.logged[0]
    assert 'fail' in robot.logged[0]  # the trace


@pytest.mark.parametrize('error', [ValueError('no'), MemoryError(), RecursionError('deep')])
def test_a_subscription_that_raised_takes_the_next_message(robot, error):
    taken = []

    def take(msg):
        if msg.data == 0:
            raise error
        taken.append(msg.data)

    robot.node.create_subscription(Int64, 'numbers', take, 10)
    publisher = robot.other.create_publisher(Int64, 'numbers', 10)
    assert robot.spin(publisher.get_subscription_count)
    for number in (0, 1, 0, 2):
        publisher.publish(Int64(data=number))

    assert robot.spin(lambda: taken == [1, 2])
    assert robot.executor.n_exceptions[robot.node] == 2


def test_an_exception_whose_text_raises_is_counted_as_any_other(robot):
    class StrangeError(Exception):
        def __str__(self):
            raise KeyError(1)

    def fail():
        raise StrangeError

    robot.node.create_timer(0.001, fail)

    assert robot.spin(lambda: robot.executor.n_exceptions[robot.node] >= 3)
    assert 'StrangeError' in robot.logged[0]


def test_a_service_that_raised_answers_the_next_request(robot):
    calls = []

    def answer(request, response):
        calls.append(1)
        if len(calls) == 1:
            raise KeyError('first')
        response.success = True
        return response

    robot.node.create_service(Trigger, 'ask', answer)
    client = robot.other.create_client(Trigger, 'ask')
    assert robot.spin(client.service_is_ready)
    first = client.call_async(Trigger.Request())
    assert robot.spin(lambda: len(calls) == 1)
    second = client.call_async(Trigger.Request())

    assert robot.spin(second.done)
    assert second.result().success and not first.done()


@pytest.mark.parametrize('wish', [KeyboardInterrupt, SystemExit])
def test_the_wish_to_end_is_no_fault(robot, wish):
    def leave():
        raise wish

    robot.node.create_timer(0.001, leave)

    with pytest.raises(wish):
        robot.spin(lambda: False)
    assert not robot.executor.n_exceptions


def test_a_context_that_is_shut_down_in_a_callback_is_an_end_and_no_fault(robot):
    publisher = robot.node.create_publisher(Int64, 'numbers', 10)

    def end():
        rclpy.shutdown(context=robot.context)
        publisher.publish(Int64())  # "publisher's context is invalid"

    robot.node.create_timer(0.001, end)
    robot.spin(lambda: not robot.context.ok())
    for _ in range(10):  # the race of a wait that begins after the end
        robot.executor.spin_once(timeout_sec=0.0)

    assert not robot.context.ok()
    assert not robot.executor.n_exceptions
    assert robot.logged == []


def test_a_wait_that_always_fails_ends_the_process_instead_of_a_busy_loop(robot, monkeypatch):
    def fail(timeout_sec):
        raise RuntimeError('failed to initialize wait set')

    monkeypatch.setattr(robot.executor, 'wait_for_ready_callbacks', fail)

    with pytest.raises(RuntimeError, match='wait set'):
        robot.spin(lambda: False)
    assert robot.executor.n_exceptions[robot.node] == 100


def test_a_simulated_clock_that_is_negative_or_beyond_all_stamps_is_survived(domain_id):
    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    executor = FaultTolerantExecutor(context=context)
    simulated = Node(
        'simulated',
        context=context,
        parameter_overrides=[Parameter('use_sim_time', value=True)],
    )
    clock = Node('clock', context=context)
    publisher = clock.create_publisher(Clock, '/clock', 10)
    for node in (simulated, clock):
        executor.add_node(node)

    def now_ns():
        return simulated.get_clock().now().nanoseconds

    def tell(sec, nanosec, until):
        deadline_s = time.monotonic() + 20
        while not until() and time.monotonic() < deadline_s:
            publisher.publish(Clock(clock=Time(sec=sec, nanosec=nanosec)))
            executor.spin_once(timeout_sec=0.02)
        return until()

    diagnostics = Diagnostics(simulated)
    try:
        assert tell(-5, 0, lambda: executor.n_exceptions[simulated] > 0)
        assert tell(2**31 - 1, 4_000_000_000, lambda: now_ns() == (2**31 + 3) * 10**9)
        diagnostics.publish({})  # with the last stamp that a message can hold
        assert tell(7, 0, lambda: now_ns() == 7 * 10**9)
    finally:
        for node in (simulated, clock):
            node.destroy_node()
        rclpy.try_shutdown(context=context)
