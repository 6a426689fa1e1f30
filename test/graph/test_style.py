# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Style on a real graph: agent/style and the persona parameter of the conversation node."""

import numpy as np
import pytest
from std_msgs.msg import Header

from timar_ros.model.checkpoint import load_checkpoint, save_checkpoint
from timar_ros.msg import HeadStyle
from timar_ros.nodes.convert import stamp_from_ns
from timar_ros.nodes.session import style_from_msg
from timar_ros.stream.audio import packet_from_fields
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.style import AgentStyle

pytestmark = pytest.mark.graph


@pytest.fixture
def start(start_conversation):
    """Return a starter of the node; the texts that it warns of are kept in `told`."""

    def start(**params):
        node = start_conversation(**params)
        node.told, keep = [], node._warn
        node._warn = lambda text: (node.told.append(text), keep(text))
        return node

    return start


@pytest.fixture
def say(graph, partner):
    """Return a function that publishes a style and waits until the node has taken it."""
    publisher = partner.node.create_publisher(HeadStyle, 'agent/style', 10)

    def say(**fields):
        taken = []
        restyle = partner.conversation._session.restyle
        partner.conversation._session.restyle = lambda *args: (taken.append(1), restyle(*args))
        assert graph.spin_until(lambda: publisher.get_subscription_count() > 0)
        publisher.publish(HeadStyle(**({'emotion': 'neutral', 'expressiveness': 1.0} | fields)))
        assert graph.spin_until(lambda: bool(taken))
        partner.tell()

    return say


def _plans_offline(path, node, events, start_ns, styles=(), style=None):
    conversation = Conversation(
        load_checkpoint(path, dtype='auto'), node._params.timing_config(), style=style
    )
    for event in events:
        packet = packet_from_fields(event.msg)
        conversation.push_audio(event.topic.split('/')[0], packet, start_ns + event.at_ns)
    for stamp_ns, said in styles:
        conversation.push_style(stamp_ns, said)
    plans, moment_ns = {}, start_ns - 1_000_000_000
    while moment_ns < start_ns + 1_500_000_000:
        moment_ns = conversation.next_plan_ns(moment_ns + 1)
        plan = conversation.plan(moment_ns)
        if plan is not None:
            conversation.accept(plan)
            plans[plan.plan] = plan
        conversation.settle()
    return plans


def _assert_equal(partner, expected):
    assert len(partner.plans) >= 5
    for msg in partner.plans:
        plan = expected[msg.plan]
        neck = partner.motion(msg.frames)[:, 53:]
        np.testing.assert_allclose(neck, plan.motion[:, 53:], atol=1e-5, err_msg=f'{msg.plan}')


def test_a_stamped_style_holds_from_its_stamp_on(start, say, partner, make_voice, checkpoint):
    node = start()
    partner.meet()
    start_ns = partner.next_turn_ns()
    events = partner.chunks(make_voice(1.2, 1), make_voice(1.2, 2), start_ns)
    stamp_ns = start_ns + 600_000_000
    style = AgentStyle('angry', 1.0, -1.0, 0.5, 'bo')

    say(
        header=Header(stamp=stamp_from_ns(stamp_ns)),
        emotion='angry', intensity=1.0, attitude=-1.0, expressiveness=0.5, persona='bo',
    )  # fmt: skip
    partner.play(events, start_ns)

    expected = _plans_offline(checkpoint, node, events, start_ns, [(stamp_ns, style)])
    plain = _plans_offline(checkpoint, node, events, start_ns)
    _assert_equal(partner, expected)
    moved = [n for n in plain if np.abs(plain[n].motion - expected[n].motion).max() > 1e-3]
    assert min(plain[n].moment_ns for n in moved) >= stamp_ns and len(moved) >= 3


def test_a_persona_parameter_is_followed(start, partner, make_voice, checkpoint):
    node = start(persona='ann')
    partner.meet()
    start_ns = partner.next_turn_ns()
    events = partner.chunks(make_voice(1.2, 1), make_voice(1.2, 2), start_ns)

    partner.play(events, start_ns)

    style = AgentStyle(persona='ann')
    _assert_equal(partner, _plans_offline(checkpoint, node, events, start_ns, style=style))


@pytest.mark.parametrize(
    ('fields', 'text'),
    [
        ({'emotion': 'hapy'}, "unknown emotion 'hapy'; known: neutral, happy"),
        ({'persona': 'eve'}, "unknown persona 'eve'; known: ann, bo"),
        ({'expressiveness': 9.0}, 'expressiveness must be 0 to 2, got 9'),
    ],
)
def test_a_style_that_means_nothing_is_warned_of_and_ignored(start, say, partner, fields, text):
    node = start()
    partner.meet()

    say(**fields)

    assert any(text in told for told in node.told)
    assert node.is_active
    assert node._session._conversation._styles.read(partner.time_ns) is None


def test_an_unknown_persona_parameter_fails_to_configure(start, partner, graph):
    node = start(persona='eve')

    graph.spin_until(lambda: not node.is_starting)

    assert not node.is_active


def test_weights_that_know_no_style_say_so_once(start, say, partner, make_model, tmp_path):
    model = make_model(
        is_stub=False, cache='banded', level='causal', frames_per_turn=10, style=False, personas=()
    )
    save_checkpoint(tmp_path / 'plain.safetensors', model)
    node = start(checkpoint=str(tmp_path / 'plain.safetensors'))
    partner.meet()

    for _ in range(3):
        say(emotion='happy', intensity=1.0, persona='ann')

    assert [text for text in node.told if 'emotion' in text] == [
        'these weights have not learned emotion; agent/style goes without'
    ]
    assert sum('persona' in text for text in node.told) == 1


def test_a_style_without_a_stamp_holds_from_its_arrival():
    msg = HeadStyle(emotion='sad', intensity=0.5, attitude=0.25, expressiveness=1.0)

    stamp_ns, style = style_from_msg(msg, 123, 'ann')

    assert stamp_ns == 123
    assert style == AgentStyle('sad', 0.5, 0.25, 1.0, 'ann')
