# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The conversation node's life cycle, parameters and switches."""

import signal
import subprocess
import sys
import threading

from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import pytest
from rclpy.parameter import Parameter
from std_srvs.srv import SetBool, Trigger

pytestmark = pytest.mark.graph


@pytest.fixture
def call(partner):
    """Return a function that calls a service of the conversation node and returns the answer."""

    def call(cls, name, **fields):
        client = partner.graph.find_service(partner.node, cls, f'conversation/{name}')
        answer = partner.graph.call(client, **fields)
        partner.node.destroy_client(client)
        return answer

    return call


@pytest.fixture
def change(call):
    """Return a function that asks for a life-cycle transition; True if it was made."""

    def change(transition: int) -> bool:
        request = Transition(id=transition)
        return call(ChangeState, 'change_state', transition=request).success

    return change


def state_of(call) -> int:
    return call(GetState, 'get_state').current_state.id


def test_it_activates_by_itself(start_conversation, call):
    start_conversation()

    assert state_of(call) == State.PRIMARY_STATE_ACTIVE


def test_it_waits_for_transitions_if_told_so(start_conversation, call, change):
    start_conversation(activate_on_start=False)

    assert state_of(call) == State.PRIMARY_STATE_UNCONFIGURED
    assert change(Transition.TRANSITION_CONFIGURE)
    assert state_of(call) == State.PRIMARY_STATE_INACTIVE
    assert change(Transition.TRANSITION_ACTIVATE)
    assert state_of(call) == State.PRIMARY_STATE_ACTIVE


@pytest.mark.parametrize(
    ('params', 'message'),
    [
        ({'replan_herz': 4.0}, "no parameter 'replan_herz'; did you mean 'replan_hz'?"),
        ({'timing': 'anticipated'}, "got 'anticipated'; did you mean 'anticipate'?"),
        ({'agent_lead_ms': 100}, 'agent_lead_ms must be at least'),
        ({'agent_lead_ms': 9999}, 'agent_lead_ms must be at most 5000 ms, got 9999'),
    ],
)
def test_parameters_that_cannot_be_leave_it_unconfigured_and_say_why(
    start_conversation, partner, call, change, params, message
):
    start_conversation(**params)

    assert not change(Transition.TRANSITION_CONFIGURE)
    assert state_of(call) == State.PRIMARY_STATE_UNCONFIGURED
    assert partner.graph.spin_until(lambda: partner.diagnostics)
    assert message in partner.diagnostics[-1].status[0].message


def corrupt(good: bytes) -> bytes:
    return good[:-64] + b'\xff' * 64  # NaN in the last weights


@pytest.mark.parametrize('spoil', [lambda good: good[: len(good) // 2], corrupt, lambda _: b'{}'])
def test_a_corrupt_checkpoint_is_refused_and_a_good_one_then_taken(
    start_conversation, call, change, checkpoint, tmp_path, spoil
):
    path = tmp_path / 'weights.safetensors'
    path.write_bytes(spoil(checkpoint.read_bytes()))
    start_conversation(checkpoint=str(path), activate_on_start=False)

    assert not change(Transition.TRANSITION_CONFIGURE)
    assert state_of(call) == State.PRIMARY_STATE_UNCONFIGURED
    path.write_bytes(checkpoint.read_bytes())
    assert change(Transition.TRANSITION_CONFIGURE)


def test_a_missing_checkpoint_or_device_is_refused(start_conversation, call, change, tmp_path):
    start_conversation(checkpoint=str(tmp_path / 'none.safetensors'), activate_on_start=False)

    assert not change(Transition.TRANSITION_CONFIGURE)
    assert state_of(call) == State.PRIMARY_STATE_UNCONFIGURED


def test_switches_of_an_inactive_node_say_so(start_conversation, call):
    start_conversation(activate_on_start=False)

    answers = [call(SetBool, 'enable', data=True), call(Trigger, 'reset')]

    assert [(a.success, a.message) for a in answers] == [
        (False, 'not active; activate the node first')
    ] * 2


def test_it_can_be_activated_again_and_again(start_conversation, partner, change, make_voice):
    start_conversation()
    partner.meet()
    for _ in range(20):
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert change(Transition.TRANSITION_ACTIVATE)

    partner.converse(make_voice(0.8))

    assert len(partner.plans) >= 3
    assert sum(thread.name == 'conversation' for thread in threading.enumerate()) == 1


def test_it_can_be_configured_again_after_cleanup(start_conversation, call, change):
    start_conversation(activate_on_start=False)
    for _ in range(3):
        assert change(Transition.TRANSITION_CONFIGURE)
        assert change(Transition.TRANSITION_ACTIVATE)
        assert change(Transition.TRANSITION_DEACTIVATE)
        assert change(Transition.TRANSITION_CLEANUP)

    assert state_of(call) == State.PRIMARY_STATE_UNCONFIGURED


def test_destroyed_it_leaves_no_service_on_the_graph(start_conversation, partner, graph):
    def is_offered() -> bool:
        services = partner.node.get_service_names_and_types()
        return '/conversation/change_state' in dict(services)

    node = start_conversation(activate_on_start=False)
    assert graph.spin_until(is_offered)
    graph.remove(node)

    assert graph.spin_until(lambda: not is_offered(), 5.0)


def test_deactivation_glides_to_rest(start_conversation, partner, change, make_voice):
    node = start_conversation()
    partner.meet()
    partner.converse(make_voice(0.8))
    assert len(partner.plans) >= 3

    n_plans = len(partner.plans)
    assert change(Transition.TRANSITION_DEACTIVATE)
    partner.graph.spin_until(lambda: len(partner.plans) > n_plans, 2.0)

    last = partner.motion(partner.plans[-1].frames)
    assert len(partner.plans) == n_plans + 1
    np.testing.assert_allclose(last[-1], node._model.space.neutral, atol=1e-6)


def test_disabled_it_glides_to_rest_and_says_nothing_more(
    start_conversation, partner, call, make_voice
):
    node = start_conversation()
    partner.meet()
    partner.converse(make_voice(1.2))
    assert len(partner.frames) >= 10

    assert call(SetBool, 'enable', data=False).success
    partner.advance(2.0)
    n_frames = len(partner.frames)
    partner.converse(make_voice(0.8))

    neck = partner.motion()[:, 53:]
    assert len(partner.frames) == n_frames
    np.testing.assert_array_equal(np.diff(partner.stamps()), 40_000_000)
    np.testing.assert_allclose(partner.motion()[-1], node._model.space.neutral, atol=1e-6)
    assert np.abs(np.diff(neck[-30:], axis=0)).max() < 0.15


def test_enabled_again_it_answers_again(start_conversation, partner, call, make_voice):
    start_conversation()
    partner.meet()
    call(SetBool, 'enable', data=False)
    call(SetBool, 'enable', data=True)

    partner.converse(make_voice(0.8))

    assert len(partner.plans) >= 3


def test_reset_begins_a_new_conversation_and_the_head_goes_on(
    start_conversation, partner, call, make_voice
):
    start_conversation()
    partner.meet()
    partner.converse(make_voice(2.4))
    assert partner.frames[-1].turn >= 5

    assert call(Trigger, 'reset').success
    partner.converse(make_voice(0.8, 2))

    turns = [frame.turn for frame in partner.frames]
    assert turns[-1] < 3, turns
    assert np.abs(np.diff(partner.motion()[:, 53:], axis=0)).max() < 0.25


def test_sampling_may_change_while_it_runs_and_structure_may_not(
    start_conversation, partner, make_voice
):
    node = start_conversation()
    partner.meet()

    results = node.set_parameters(
        [
            Parameter('temperature', value=0.0),
            Parameter('temperature', value=9.0),
            Parameter('timing', value='reactive'),
        ]
    )
    partner.converse(make_voice(0.4))

    assert [result.successful for result in results] == [True, False, False]
    assert node._session._conversation.engine.sampling.temperature == 0.0


def test_the_process_ends_cleanly_on_interrupt(checkpoint, domain_id):
    args = ['--ros-args', '-p', f'checkpoint:={checkpoint}', '-p', 'threads:=1']
    process = subprocess.Popen(
        [sys.executable, '-m', 'timar_ros.nodes.conversation', *args],
        stderr=subprocess.PIPE,
        text=True,
    )
    log = ''
    while 'active: ' not in log:
        line = process.stderr.readline()
        assert line, f'the node ended by itself:\n{log}'
        log += line
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=20)[1]

    assert (process.returncode, 'Traceback' in rest) == (0, False), rest
