# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A replayed recording can be paused, moved and sped up, and the graph's clock goes with it."""

import time

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter as ParameterMsg
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from scipy.io import wavfile
from std_srvs.srv import SetBool

from timar_ros.msg import AudioChunk
from timar_ros.nodes.convert import stamp_to_ns
from timar_ros.nodes.playhead import Playhead
from timar_ros.nodes.replay import ReplayNode
from timar_ros.stream.audio import packet_from_fields

pytestmark = pytest.mark.graph

RATE_HZ = 16000


class Player:
    """A replay node, what came of it, and hands on its controls."""

    def __init__(self, graph, path, **params):
        self.graph = graph
        self.node = graph.node('listener')
        self.chunks, self.clocks = [], []
        self.node.create_subscription(AudioChunk, 'user/audio', self.chunks.append, 500)
        self.node.create_subscription(
            Clock, '/clock', lambda m: self.clocks.append(stamp_to_ns(m.clock)), 500
        )
        given = {'user': path, 'turn_s': 0.4, 'tail_s': 0.1, **params}
        overrides = [Parameter(name, value=value) for name, value in given.items()]
        self.replay = graph.add(ReplayNode(context=graph.context, parameter_overrides=overrides))
        # Before a test asks for them: what is looked for then comes late in what plays.
        self._pause = graph.find_service(self.node, SetBool, 'replay/pause')
        self._set = graph.find_service(self.node, SetParameters, 'replay/set_parameters')

    def pause(self, is_paused=True):
        return self.graph.call(self._pause, data=is_paused)

    def set(self, **values):
        parameters = [Parameter(name, value=v).to_parameter_msg() for name, v in values.items()]
        assert all(isinstance(p, ParameterMsg) for p in parameters)
        return self.graph.call(self._set, parameters=parameters).results

    def positions_s(self):
        """Return where in the recording each chunk begins, as its stamp says."""
        starts = np.array([stamp_to_ns(m.header.stamp) for m in self.chunks])
        return (starts - self.replay.start_ns) / 1e9

    def finish(self):
        assert self.graph.spin_until(self.replay.done.done, 60)
        # what was published last may be under way yet
        last = 4 * RATE_HZ - 320
        assert self.graph.spin_until(lambda: self.chunks[-1].first_sample == last)


@pytest.fixture
def ramp(tmp_path):
    """Return the path of 4 s whose samples say where they are, and the samples."""
    samples = (np.arange(4 * RATE_HZ) // 4).astype(np.int16)
    path = tmp_path / 'ramp.wav'
    wavfile.write(path, RATE_HZ, samples)
    return str(path), samples


@pytest.fixture
def play(graph, ramp):
    return lambda **params: Player(graph, ramp[0], **params)


def test_while_paused_the_clock_stands_and_nothing_is_said(graph, play):
    player = play(clock=True, rate=2.0)
    assert graph.spin_until(lambda: len(player.chunks) > 20)

    assert player.pause().success
    graph.spin_for(0.1)  # what was under way arrives
    n_chunks, n_clocks = len(player.chunks), len(player.clocks)
    assert graph.spin_until(lambda: len(player.clocks) > n_clocks + 2)

    assert len(player.chunks) == n_chunks
    assert len(set(player.clocks[n_clocks:])) == 1
    assert player.pause(False).message.startswith('playing at')
    player.finish()
    np.testing.assert_allclose(player.positions_s(), np.arange(0, 4, 0.02), atol=1e-6)


def test_a_pause_without_a_clock_moves_the_rest_by_whole_turns(graph, play):
    player = play()
    assert graph.spin_until(lambda: len(player.chunks) > 20)
    first_ns = player.replay.start_ns

    player.pause()
    graph.spin_for(0.3)
    player.pause(False)
    n_before = len(player.chunks)
    player.finish()

    moved_ns = player.replay.start_ns - first_ns
    assert moved_ns > 0
    assert moved_ns % 400_000_000 == 0
    firsts = [m.first_sample for m in player.chunks]
    assert firsts == list(range(0, 4 * RATE_HZ, 320)), 'nothing twice, nothing lost'
    stamps = [stamp_to_ns(m.header.stamp) for m in player.chunks[n_before:]]
    expected = [player.replay.start_ns + f * 62_500 for f in firsts[n_before:]]
    assert stamps == expected


@pytest.mark.parametrize('target_s', [3.0, 0.2])
def test_seeking_goes_on_from_there_and_the_clock_with_it(graph, play, ramp, target_s):
    player = play(clock=True)
    assert graph.spin_until(lambda: len(player.chunks) > 50)
    n_before = len(player.chunks)

    assert player.set(seek_s=target_s)[0].successful
    player.finish()

    positions = player.positions_s()
    jump = int(np.flatnonzero(np.abs(np.diff(positions) - 0.02) > 1e-6)[0]) + 1
    assert jump >= n_before
    assert positions[jump] == pytest.approx(target_s, abs=0.021)
    np.testing.assert_allclose(np.diff(positions[jump:]), 0.02, atol=1e-6)
    assert positions[-1] == pytest.approx(3.98)
    clock_s = (np.array(player.clocks) - player.replay.start_ns) / 1e9
    jumps = np.abs(np.diff(clock_s)) > 0.5
    assert jumps.sum() <= 1
    if target_s < 1:
        assert np.diff(clock_s).min() < -0.5
    last = packet_from_fields(player.chunks[-1]).samples[:, 0] * 32768
    np.testing.assert_array_equal(last, ramp[1][-320:])


def test_while_a_place_is_looked_for_the_clock_stands(graph, play):
    player = play(clock=True)
    assert graph.spin_until(lambda: len(player.chunks) > 20)
    find = player.replay._recording.events

    def find_slowly(*where):
        time.sleep(1.0)
        return find(*where)

    player.replay._recording.events = find_slowly
    n_before = len(player.clocks)
    assert player.set(seek_s=2.0)[0].successful
    player.finish()

    clock_s = (np.array(player.clocks[n_before:]) - player.replay.start_ns) / 1e9
    there_s = clock_s[clock_s >= 2.0]
    assert there_s[0] == 2.0
    assert there_s[1] < 2.5


def test_the_same_place_can_be_sought_twice(graph, play):
    player = play(clock=True, rate=4.0)
    assert graph.spin_until(lambda: player.replay.played_s > 1.0)

    for _ in range(2):
        assert player.set(seek_s=0.5)[0].successful
        assert graph.spin_until(lambda: player.replay.played_s > 1.0)
    player.finish()

    assert (np.diff(player.positions_s()) < -0.3).sum() == 2


def test_a_recording_begins_where_it_is_told(graph, play):
    player = play(clock=True, seek_s=2.0, rate=4.0)

    player.finish()

    np.testing.assert_allclose(player.positions_s(), np.arange(2, 4, 0.02), atol=1e-6)


def test_behind_the_end_there_is_nowhere_to_go(graph, play):
    player = play(clock=True)
    assert graph.spin_until(lambda: len(player.chunks) > 5)

    result = player.set(seek_s=4.5)[0]

    assert not result.successful
    assert 'seek_s must be at most 4.00, the length of the recording' in result.reason
    with pytest.raises(ValueError, match='seek_s must be at most 4.00'):
        play(seek_s=9.0)


def test_the_rate_can_change_while_it_plays_with_a_clock_only(graph, play):
    player = play(clock=True, rate=0.5)
    assert graph.spin_until(lambda: len(player.chunks) > 5)

    assert player.set(rate=20.0)[0].successful
    began_ns = player.node.get_clock().now().nanoseconds
    player.finish()

    took_s = (player.node.get_clock().now().nanoseconds - began_ns) / 1e9
    assert took_s < 7, 'at the first rate it would have taken 8 s'
    np.testing.assert_allclose(player.positions_s(), np.arange(0, 4, 0.02), atol=1e-6)


def test_without_a_clock_the_rate_stays(graph, play):
    player = play()
    assert graph.spin_until(lambda: len(player.chunks) > 5)

    result = player.set(rate=2.0)[0]

    assert not result.successful
    assert 'need clock: true' in result.reason


def test_a_player_that_begins_paused_waits_to_be_let_go(graph, play):
    player = play(clock=True, paused=True, rate=8.0)
    assert graph.spin_until(lambda: len(player.clocks) > 3)

    assert not player.chunks
    player.pause(False)
    player.finish()
    assert len(player.chunks) == 200


def test_a_playhead_goes_at_its_rate_and_stands_when_told():
    head = Playhead(-1000, 2.0)

    assert head.position(5) == -1000
    head.resume(10)
    assert head.position(20) == -980
    head.set_rate(0.5, 20)
    assert head.position(40) == -970
    head.pause(40)
    assert head.position(99) == -970
    head.seek(7, 99)
    head.resume(100)
    assert head.position(104) == 9
