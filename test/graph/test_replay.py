# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The replay node plays recordings as a microphone and a speaker would have."""

import time

import numpy as np
import pytest
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from scipy.io import wavfile

from timar_ros.learn.offline import answer_recording
from timar_ros.model.checkpoint import load_checkpoint
from timar_ros.msg import AudioChunk
from timar_ros.nodes.convert import motion_from_msg, plan_to_msg, stamp_to_ns
from timar_ros.nodes.recording import Voice, conversation_events
from timar_ros.nodes.replay import ReplayNode
from timar_ros.stream.audio import packet_from_fields
from timar_ros.stream.conversation import Conversation
from timar_ros.stream.voices import VOICES
from timar_ros.stream.wav import read_pcm

pytestmark = pytest.mark.graph

RATE_HZ = 16000


@pytest.fixture
def wav(tmp_path, make_voice):
    """Return the maker of wav files: 16 bits, mono unless told otherwise."""

    def make(name: str, seconds: float = 1.0, rate_hz: int = RATE_HZ, channels: int = 1, seed=0):
        samples = np.stack([make_voice(seconds, seed + c) for c in range(channels)], axis=1)
        path = tmp_path / f'{name}.wav'
        count = round(seconds * rate_hz)
        pcm = np.rint(np.resize(samples, (count, channels)) * 32767).astype(np.int16)
        wavfile.write(path, rate_hz, pcm)
        return str(path)

    return make


@pytest.fixture
def start_replay(graph):
    """Return the maker of replay nodes; parameters as keywords."""

    def start(**params) -> ReplayNode:
        given = {'turn_s': 0.4, 'tail_s': 0.1, **params}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        return graph.add(ReplayNode(context=graph.context, parameter_overrides=overrides))

    return start


@pytest.fixture
def listen(graph):
    """Return a function that keeps what comes on the audio topics, with its arrival."""
    node = graph.node('listener')

    def to(*voices):
        heard = {voice: [] for voice in voices}
        for voice in voices:

            def keep(msg, kept=heard[voice]):
                kept.append((node.get_clock().now().nanoseconds, msg))

            node.create_subscription(AudioChunk, f'{voice}/audio', keep, 500)
        return heard

    return to


def samples_of(chunks) -> np.ndarray:
    return np.concatenate([packet_from_fields(msg).samples for _, msg in chunks])


def as_floats(path) -> tuple[np.ndarray, int]:
    samples, rate_hz = read_pcm(path)
    return samples / np.float32(32768), rate_hz


def as_received(space, motion) -> np.ndarray:
    """Return motion `[n, M]` as messages carry it: jaw y and z are not sent."""
    numbers = np.arange(len(motion))
    msg = plan_to_msg(space, 1, 25.0, numbers, numbers, numbers, motion)
    return np.stack([motion_from_msg(space, frame)[1] for frame in msg.frames])


def test_all_samples_arrive_in_order_and_at_their_time(graph, start_replay, listen, wav):
    heard = listen('user', 'agent')
    user, agent = wav('user', 0.73), wav('agent', 0.5, 44100, channels=2, seed=3)
    replay = start_replay(user=user, agent=agent)

    assert graph.spin_until(replay.done.done)

    for voice, path in (('user', user), ('agent', agent)):
        rate_hz, pcm = wavfile.read(path)
        chunks = heard[voice]
        played = np.rint(samples_of(chunks) * 32768)
        np.testing.assert_array_equal(played[: len(pcm)], pcm.reshape(len(pcm), -1))
        assert len(played) == round(0.8 * rate_hz), 'up to the end of the second turn'
        assert not played[len(pcm) :].any()
        first = [msg.first_sample for _, msg in chunks]
        stamps = [stamp_to_ns(msg.header.stamp) for _, msg in chunks]
        expected = [replay.start_ns + f * 10**9 // rate_hz for f in first]
        assert stamps == expected, voice
    late_ms = [(at - stamp_to_ns(m.header.stamp)) / 1e6 - 20 for at, m in heard['user'][:-1]]
    assert min(late_ms) > -1
    announced_ms = [(stamp_to_ns(m.header.stamp) - at) / 1e6 for at, m in heard['agent']]
    assert min(announced_ms) > 0
    sent_ms = [
        (stamp_to_ns(m.header.stamp) - stamp_to_ns(m.sent)) / 1e6 for _, m in heard['agent']
    ]
    assert max(sent_ms) <= 400.001


def test_a_recording_starts_on_a_turn(graph, start_replay, listen, wav):
    listen('user')
    replay = start_replay(user=wav('user', 0.1))

    assert graph.spin_until(replay.done.done)

    assert replay.start_ns % 400_000_000 == 0


def test_the_clock_runs_at_the_rate_asked_for(graph, start_replay, listen, wav):
    heard = listen('user')
    times = []
    node = graph.node('watch')
    node.create_subscription(Clock, '/clock', lambda m: times.append(stamp_to_ns(m.clock)), 500)
    replay = start_replay(user=wav('user', 2.0), clock=True, rate=4.0)
    assert graph.spin_until(lambda: replay.start_ns)
    began_ns = node.get_clock().now().nanoseconds

    assert graph.spin_until(replay.done.done)

    took_s = (node.get_clock().now().nanoseconds - began_ns) / 1e9
    simulated_s = (times[-1] - times[0]) / 1e9
    assert simulated_s > 2
    # not faster; slower on a busy machine
    assert simulated_s / 8 < took_s < simulated_s
    assert times == sorted(times)
    assert graph.spin_until(lambda: len(samples_of(heard['user'])) == 2 * RATE_HZ)


@pytest.mark.parametrize(
    ('params', 'error', 'message'),
    [
        ({}, ValueError, 'user, agent and bag are all empty'),
        ({'user': 'x.wav', 'bag': 'x'}, ValueError, 'got wavs and a bag'),
        ({'bag': 'none'}, FileNotFoundError, 'no bag at none'),
        ({'user': 'none.wav'}, FileNotFoundError, 'no recording at none.wav'),
        ({'user': __file__}, ValueError, 'expected a PCM or float wav'),
        ({'user': 'x.wav', 'rate': 2.0}, ValueError, 'need clock: true'),
        ({'user': 'x.wav', 'lockstep': True}, ValueError, 'need clock: true'),
        ({'user': 'x.wav', 'chunk': 20}, ValueError, "did you mean 'chunk_ms'"),
    ],
)
def test_what_cannot_be_played_is_refused(start_replay, params, error, message):
    with pytest.raises(error, match=message):
        start_replay(**params)


@pytest.mark.parametrize('timing', ['anticipate', 'reactive'])
def test_in_lockstep_every_frame_equals_the_one_offline(
    graph, start_conversation, partner, start_replay, wav, checkpoint, timing
):
    node = start_conversation(timing=timing)
    paths = wav('user', 4.0, seed=1), wav('agent', 3.3, 22050, seed=5)
    assert graph.spin_until(lambda: node.is_active)
    publish = node._plan_pub.publish
    # Whoever gets a plan may move the clock on before the node's own thread goes on.
    node._plan_pub.publish = lambda plan: (publish(plan), time.sleep(0.02))
    lockstep = {'clock': True, 'lockstep': True, 'tail_s': 1.0}
    replay = start_replay(user=paths[0], agent=paths[1], **lockstep)

    assert graph.spin_until(replay.done.done, 60)
    graph.spin_for(0.2)

    conversation = Conversation(
        load_checkpoint(checkpoint, dtype='auto'), node._params.timing_config()
    )
    voices = {name: as_floats(path) for name, path in zip(VOICES, paths, strict=True)}
    offline = as_received(conversation.space, answer_recording(conversation, voices))
    delay_ns = node.schedule.shown_ns(0)
    frames = (partner.stamps() - delay_ns - replay.start_ns) // 40_000_000
    assert replay.n_timeouts == 0
    np.testing.assert_array_equal(np.diff(frames), 1)
    assert set(frames) >= set(range(10, 100)), (frames[0], frames[-1])
    live = dict(zip(frames.tolist(), partner.motion(), strict=True))
    for frame in range(frames[0], 100):
        np.testing.assert_allclose(
            live[frame], offline[frame], atol=1e-5, err_msg=f'frame {frame}'
        )


def test_in_lockstep_the_clock_waits_for_the_node_between_its_plans_too(
    graph, start_conversation, start_replay, wav
):
    node = start_conversation(timing='reactive')
    assert graph.spin_until(lambda: node.is_active)
    replay = start_replay(user=wav('user', 2.0), clock=True, lockstep=True)
    ask, asked_ns = replay._ask, []

    def ask_and_note():
        asked_ns.append(replay._playhead.position(0))
        return ask()

    replay._ask = ask_and_note
    assert graph.spin_until(replay.done.done, 60)

    assert asked_ns[-1] > 2_000_000_000
    assert np.diff(asked_ns).max() <= 200_000_000


def test_without_a_partner_lockstep_says_so(graph, start_replay, wav):
    replay = start_replay(
        user=wav('user', 0.2), clock=True, lockstep=True, subscribers=0, wait_s=0.3
    )

    assert graph.spin_until(replay.done.done)

    assert replay.done.result() is False


def test_events_of_a_voice_alone_begin_with_it():
    voice = Voice(np.zeros((1600, 1), np.int16), RATE_HZ)

    user = [event.at_ns for event in conversation_events(voice, None, 0, turn_s=0.12)]
    agent = [event.at_ns for event in conversation_events(None, voice, 0, turn_s=0.12)]

    assert user == [20_000_000 * (i + 1) for i in range(6)]
    assert agent == [20_000_000 * i - 500_000_000 for i in range(6)]


@pytest.mark.parametrize('position_ns', [0, 1, 20_000_000, 50_000_001, 100_000_000])
def test_what_is_over_is_left_out_and_the_rest_as_it_was(position_ns):
    samples = np.arange(1600, dtype=np.int16)[:, None]
    voices = Voice(samples, RATE_HZ), Voice(samples[:1103], 11025)
    whole = [event for event in conversation_events(*voices, 0) if event.end_ns > position_ns]

    events = list(conversation_events(*voices, 0, position_ns=position_ns))

    assert events == whole
