# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The demo end to end, its bag read back, and what it measures on made signals."""

import json
import os
import subprocess
import sys
import time
import types

import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from scipy.io import wavfile
import yaml

from timar_ros.nodes.demo import show
from timar_ros.nodes.demo_report import Recorded, draw, late_note, summarise, with_holes
from timar_ros.nodes.face_server import FaceServer, ServerConfig
from timar_ros.stream.lips import lip_sync

pytestmark = pytest.mark.graph

RATE_HZ = 16000


# A browser that looks at the face until the demo ends, and counts the plans that it was told.
LOOKER = """#!{python}
import asyncio, pathlib, sys
import aiohttp

async def look(origin):
    n_plans = 0
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(origin + '/socket', headers={{'Origin': origin}}) as socket:
            async for message in socket:
                n_plans += message.type == aiohttp.WSMsgType.BINARY and message.data[0] == 1
    pathlib.Path(__file__).with_suffix('.told').write_text(str(n_plans))

asyncio.run(look(sys.argv[1].rstrip('/')))
"""


@pytest.fixture(scope='module')
def demo(tmp_path_factory, checkpoint, make_voice):
    """Run the demo once on 3 s of two voices; return its folder, voices and the process."""
    folder = tmp_path_factory.mktemp('demo')
    voices = {name: make_voice(3.0, seed) for seed, name in enumerate(('user', 'agent'))}
    for name, samples in voices.items():
        wavfile.write(folder / f'{name}.wav', RATE_HZ, samples)
    out = folder / 'out'
    looker = folder / 'looker.py'
    looker.write_text(LOOKER.format(python=sys.executable))
    looker.chmod(0o755)
    done = subprocess.run(
        [sys.executable, '-m', 'timar_ros.nodes.demo', '--out', str(out), '--threads', '1']
        + ['--user', str(folder / 'user.wav'), '--agent', str(folder / 'agent.wav')]
        + ['--checkpoint', str(checkpoint)],
        env={**os.environ, 'DISPLAY': ':0', 'BROWSER': f'{looker} %s &'},
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out, voices, done


def test_the_bag_is_one_of_rosbag2_and_holds_every_topic(demo):
    out, _, _ = demo

    with Reader(out / 'bag') as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
    metadata = yaml.safe_load((out / 'bag' / 'metadata.yaml').read_text())
    metadata = metadata['rosbag2_bagfile_information']

    assert (metadata['version'], metadata['storage_identifier']) == (9, 'mcap')
    assert set(counts) == {
        '/user/audio',
        '/agent/audio',
        '/agent/motion_plan',
        '/agent/motion',
        '/conversation/state',
        '/diagnostics',
    }
    assert counts['/user/audio'] == counts['/agent/audio'] == 160, 'to the end of the turn'
    assert min(counts.values()) > 0, counts


def test_the_bag_explains_itself_and_gives_the_voices_back(demo):
    out, voices, _ = demo

    # No definitions but those in the bag.
    with AnyReader([out / 'bag']) as reader:
        chunks = [
            reader.deserialize(data, connection.msgtype)
            for connection, _, data in reader.messages()
            if connection.topic == '/user/audio'
        ]

    samples = np.concatenate([np.frombuffer(chunk.data.tobytes(), '<f4') for chunk in chunks])
    np.testing.assert_array_equal(samples[: 3 * RATE_HZ], voices['user'])
    assert not samples[3 * RATE_HZ :].any()


def test_the_summary_says_what_was_played_and_what_it_cost(demo):
    out, _, done = demo

    summary = json.loads((out / 'summary.json').read_text())

    assert summary['duration_s'] == 3.2
    assert summary['turns'] >= 7
    assert summary['plans'] >= 5
    assert summary['latency_p99_ms'] >= summary['engine_p50_ms'] > 0
    assert all(name in done.stdout for name in summary)
    assert (out / 'motion.png').stat().st_size > 10_000


def test_the_face_opens_in_the_browser_and_follows_the_demo(demo):
    out, _, _ = demo
    told = out.parent / 'looker.told'

    deadline = time.monotonic() + 30
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.1)

    n_plans = json.loads((out / 'summary.json').read_text())['plans']
    # The recording ends while the nodes still talk: a last plan may reach the face alone.
    assert 0.5 * n_plans <= int(told.read_text()) <= n_plans + 2


def test_the_address_of_the_face_is_printed_once_with_how_long_it_is_served(demo):
    _, _, done = demo

    assert (done.stdout + done.stderr).count('http://') == 1
    assert 'the face is in your browser until the demo ends, in about 3 s' in done.stderr


def test_without_a_display_the_demo_says_where_the_face_is(monkeypatch, capsys):
    monkeypatch.delenv('DISPLAY', raising=False)
    monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
    server = FaceServer(ServerConfig(port=0), lambda: 0.0)

    show(None, types.SimpleNamespace(server=server), 42.3)
    server.close()

    assert capsys.readouterr().err == (
        'the face is served until the demo ends, in about 42 s; to see it from another machine: '
        f'ssh -L '
        f'{server.port}:127.0.0.1:{server.port} THIS_MACHINE\n'
    )


def test_a_recording_that_is_not_there_is_told_in_a_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'timar_ros.nodes.demo', '--out', str(tmp_path), '--user', 'x.wav'],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'demo: no recording at x.wav; give the path of a wav file'
    )


def make_recorded(make_voice, late_s: float) -> Recorded:
    """A mouth that follows a voice's syllables so much later, shown 0.5 s after it was lived."""
    frame_s = np.arange(250) / 25
    mouth = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * (frame_s - late_s) * (1 + 0.02 * frame_s))
    time_s = np.arange(10 * RATE_HZ) / RATE_HZ
    noise = np.random.default_rng(0).standard_normal(len(time_s))
    syllables = 0.5 + 0.5 * np.sin(2 * np.pi * 4 * time_s * (1 + 0.02 * time_s))
    return Recorded(
        start_ns=0,
        voices={'agent': ((0.1 * noise * syllables).astype(np.float32), RATE_HZ)},
        shown_s=frame_s + 0.5,
        neck=np.zeros((250, 3)),
        jaw_open=0.2 * mouth,
        turns=np.arange(250) // 25,
        frame_rate=25.0,
        n_plans=50,
        health={'turns': '10', 'late_plans': '2', 'skipped_moments': '1'},
    )


@pytest.mark.parametrize('late_s', [0.0, 0.06])
def test_lip_lag_is_measured_in_lived_time(make_voice, late_s):
    summary = summarise(make_recorded(make_voice, late_s), delay_s=0.5)

    assert summary['lip_lag_ms'] == pytest.approx(1000 * late_s, abs=15)
    assert summary['lip_correlation'] > 0.8
    assert (summary['turns'], summary['plans'], summary['deadline_misses']) == (10, 50, 3)


def test_the_picture_is_drawn_of_one_voice_too(make_voice, tmp_path):
    draw(make_recorded(make_voice, 0.0), tmp_path / 'motion.png')

    assert (tmp_path / 'motion.png').read_bytes()[:4] == b'\x89PNG'


def test_a_mouth_that_never_moves_has_no_lag(make_voice):
    lag = lip_sync(np.zeros(100), make_voice(4.0), RATE_HZ)

    assert (lag.lag_s, lag.correlation) == (0.0, 0.0)


def test_many_late_plans_are_said_and_a_few_are_not(make_voice):
    recorded = make_recorded(make_voice, 0.0)
    few = late_note(recorded)
    recorded.n_plans, recorded.health['late_plans'] = 11, '187'

    assert few == ''
    assert late_note(recorded).startswith('187 of 198 plans were late: this machine is too busy')


def test_a_line_breaks_where_frames_are_missing():
    times_s = np.array([0.0, 0.04, 0.5, 0.54])

    line_s, values = with_holes(times_s, np.arange(4.0), 25.0)

    np.testing.assert_array_equal(line_s, [0.0, 0.04, np.nan, 0.5, 0.54])
    np.testing.assert_array_equal(values, [0.0, 1.0, np.nan, 2.0, 3.0])
