# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
A real browser for a test: Chromium without a window, driven over its DevTools protocol.

The browser is one for all tests, as its start takes seconds; each test opens its own page.
"""

import asyncio
import base64
import io
import json
import math
import os
from pathlib import Path
import shutil
import struct
import subprocess
import sys
import threading
import time

import numpy as np
from PIL import Image
import pytest

aiohttp = pytest.importorskip('aiohttp', reason='no aiohttp here: pip install aiohttp')
sys.path.insert(0, str(Path(__file__).parent))

from rclpy.parameter import Parameter  # noqa: E402

from timar_ros.motion import ARKIT_NAMES, get_space, neck_to_quaternion  # noqa: E402
from timar_ros.msg import AudioChunk, ConversationState, HeadMotionPlan  # noqa: E402
from timar_ros.nodes.convert import plan_to_msg  # noqa: E402
from timar_ros.nodes.face import FaceNode  # noqa: E402
from timar_ros.nodes.face_server import FaceServer, ServerConfig  # noqa: E402
from timar_ros.nodes.face_wire import pack_plan  # noqa: E402

_PROGRAMS = ('chromium', 'chromium-browser', 'google-chrome')
_FLAGS = (
    '--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage '
    '--disable-background-networking --disable-component-update --disable-sync --mute-audio '
    '--hide-scrollbars --remote-debugging-port=0'
).split()
SIZE = (640, 400)
FRAME_NS = 40_000_000
ARKIT = get_space('arkit55')


class Browser:
    """One page of a browser, and what goes wrong on it."""

    def __init__(self, program: str, folder: Path):
        self._folder = folder
        self._process = subprocess.Popen(
            [program, *_FLAGS, f'--user-data-dir={folder}', 'about:blank'],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._loop = asyncio.new_event_loop()
        self._n_calls = 0
        self._events = []
        self._run(self._connect())
        for domain in ('Page', 'Runtime', 'Log'):
            self.call(f'{domain}.enable')
        width, height = SIZE
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def call(self, method: str, **params) -> dict:
        """Call a method of the DevTools protocol."""
        return self._run(self._call(method, params))

    def open(self, url: str) -> None:
        """Open a page; wait until the face on it is drawn."""
        self._events.clear()
        self.call('Page.navigate', url=url)
        self.wait_for('window.timar && timar.log.n.frames > 3 && timar.link.isUp')

    def ask(self, expression: str):
        """Evaluate JavaScript on the page."""
        answer = self.call(
            'Runtime.evaluate', expression=expression, awaitPromise=True, returnByValue=True
        )
        assert 'exceptionDetails' not in answer, answer['exceptionDetails']
        return answer['result'].get('value')

    def wait_for(self, expression: str, timeout_s: float = 60.0):
        """Wait until JavaScript on the page is true."""
        deadline = time.monotonic() + timeout_s
        while not (value := self.ask(f'Boolean({expression})')):
            assert time.monotonic() < deadline, f'{expression} did not come true'
            time.sleep(0.05)
        return value

    def picture(self) -> np.ndarray:
        """Return the page as it is now, `[height, width, 3]`."""
        data = self.call('Page.captureScreenshot', format='png')['data']
        return _pixels(data)

    def film(self, duration_s: float) -> list[tuple[float, np.ndarray]]:
        """Return (when it was on the screen, s since 1970; pixels, half size) of each frame."""
        # Small, or filming would hold up what is filmed.
        look = {'format': 'jpeg', 'quality': 70, 'maxWidth': SIZE[0] // 2, 'everyNthFrame': 1}
        self.call('Page.startScreencast', **look)
        frames = self._run(self._collect(duration_s))
        self.call('Page.stopScreencast')
        return [(frame['metadata']['timestamp'], _pixels(frame['data'])) for frame in frames]

    def complaints(self) -> list[str]:
        """Return what the page threw, logged or was forbidden."""
        self.ask('0')  # collects what came
        kinds = ('Runtime.exceptionThrown', 'Log.entryAdded')
        return [json.dumps(e['params'])[:500] for e in self._events if e['method'] in kinds]

    def forgive(self) -> None:
        """Forget complaints so far, where they are what the test is about."""
        self.complaints()
        self._events.clear()

    def close(self) -> None:
        """End the browser."""
        self._run(self._session.close())
        self._loop.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _run(self, job):
        return self._loop.run_until_complete(asyncio.wait_for(job, 60))

    async def _connect(self) -> None:
        told = self._folder / 'DevToolsActivePort'
        while not told.exists() or len(told.read_text().split()) < 2:
            assert self._process.poll() is None, f'{self._process.args[0]} does not start'
            await asyncio.sleep(0.05)
        address = f'http://127.0.0.1:{told.read_text().split()[0]}/json/list'
        self._session = aiohttp.ClientSession()
        pages = []
        while not pages:
            async with self._session.get(address) as response:
                pages = [page for page in await response.json() if page['type'] == 'page']
        url = pages[0]['webSocketDebuggerUrl']
        self._socket = await self._session.ws_connect(url, max_msg_size=0)

    async def _send(self, method: str, params: dict) -> int:
        self._n_calls += 1
        await self._socket.send_json({'id': self._n_calls, 'method': method, 'params': params})
        return self._n_calls

    async def _call(self, method: str, params: dict) -> dict:
        number = await self._send(method, params)
        while True:
            message = await self._socket.receive_json()
            if message.get('id') == number:
                assert 'error' not in message, f'{method}: {message["error"]}'
                return message['result']
            if 'method' in message:
                self._events.append(message)

    async def _collect(self, duration_s: float) -> list[dict]:
        frames = []
        deadline = time.monotonic() + duration_s
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                message = await asyncio.wait_for(self._socket.receive_json(), left_s)
            except asyncio.TimeoutError:
                break
            if message.get('method') == 'Page.screencastFrame':
                frames.append(message['params'])
                number = {'sessionId': message['params']['sessionId']}
                await self._send('Page.screencastFrameAck', number)
        return frames


def _pixels(data: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert('RGB'))


def _is_usable(program):
    """
    Return whether a browser is one that sees this test's files.

    Ubuntu's is a snap, which sees no /tmp, or a script that starts one or asks for it.
    """
    if program is None or os.path.realpath(program).endswith('/snap'):
        return False
    with open(program, 'rb') as start:
        return b'/snap/' not in start.read(4096)


@pytest.fixture(scope='session')
def chromium(tmp_path_factory):
    """Yield a browser; skip where none is installed."""
    program = next(filter(_is_usable, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        pytest.skip(f'no {" or ".join(_PROGRAMS)} here that is no snap: apt-get install chromium')
    browser = Browser(program, tmp_path_factory.mktemp('chromium'))
    yield browser
    browser.close()


@pytest.fixture
def browser(chromium):
    """Yield the browser; a page that complained fails its test."""
    yield chromium
    assert chromium.complaints() == []
    chromium.call('Page.navigate', url='about:blank')


class Robot:
    """A face's server and whoever plans for it; its clock is the system's."""

    def __init__(self):
        self.server = FaceServer(ServerConfig(port=0), lambda: time.time_ns() / 1e6)
        self.n_plans = 0

    def show(self, seconds: float = 20.0, neck=(0.0, 0.0, 0.0), **shapes) -> None:
        """Hold a pose from a moment ago on; shapes by name, without a side for both."""
        self.perform(lambda t: shapes, seconds, neck, -0.2)

    def perform(self, shapes_at, seconds: float, neck=(0.0, 0.0, 0.0), begin_s=0.3) -> int:
        """Send one plan: shapes at each time from its begin, s; return the begin, ns."""
        self.n_plans += 1
        now_ns = time.time_ns()
        n = math.ceil(seconds * 25)
        begin_ns = now_ns + round(begin_s * 1e9)
        arkit = np.stack([make_arkit(**shapes_at(i / 25)) for i in range(n)])
        quaternion = np.tile(neck_to_quaternion(np.array(neck)), (n, 1))
        stamp_ns = begin_ns + FRAME_NS * np.arange(n)
        plan = pack_plan(self.n_plans, now_ns, stamp_ns, quaternion, arkit)
        self.server.send(plan, keep_as='plan')
        return begin_ns


def make_arkit(**shapes) -> np.ndarray:
    """Return blendshapes `[52]` by name; a name without a side is both sides."""
    arkit = np.zeros(52, np.float32)
    for name, value in shapes.items():
        sides = [f'{name}{side}' for side in ('', 'Left', 'Right')]
        columns = [ARKIT_NAMES.index(side) for side in sides if side in ARKIT_NAMES]
        assert columns, f'no blendshape {name}'
        arkit[columns] = value
    return arkit


@pytest.fixture(scope='module')
def make_robot():
    """Return the maker of servers of the face with nobody talking yet."""
    robots = []

    def make() -> Robot:
        robots.append(Robot())
        return robots[-1]

    yield make
    for robot in robots:
        robot.server.close()


@pytest.fixture
def robot():
    """Yield a server of the face with nobody talking yet."""
    robot = Robot()
    yield robot
    robot.server.close()


# Where features are in a picture of SIZE, as (rows, columns).
REGIONS = {
    'mouth': (slice(262, 352), slice(240, 400)),
    'eyes': (slice(122, 246), slice(165, 475)),
    'brows': (slice(50, 108), slice(165, 475)),
    'shell': (slice(0, 36), slice(0, 640)),
    'nose': (slice(208, 254), slice(295, 345)),
}


@pytest.fixture
def changed():
    """Return how many pixels of a region two pictures differ in."""

    def count(before: np.ndarray, after: np.ndarray, region: str) -> int:
        rows, columns = REGIONS[region]
        difference = before[rows, columns].astype(int) - after[rows, columns]
        return int((np.abs(difference).max(axis=-1) > 12).sum())

    return count


class Page:
    """A socket to the face, from another thread, as the browser's page is another program."""

    def __init__(self, port: int):
        self.got = []
        self._is_open, self._is_ending = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._look(f'http://127.0.0.1:{port}'))
        )
        self._thread.start()
        # Of what was said before it came, a page hears the newest only.
        assert self._is_open.wait(30), f'no socket on port {port}'

    async def _look(self, origin):
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f'{origin}/socket', headers={'Origin': origin}) as ws,
        ):
            while not self._is_ending.is_set():
                try:
                    message = await ws.receive(timeout=0.1)
                except asyncio.TimeoutError:
                    continue
                if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    return
                self.got.append(message.data)
                self._is_open.set()  # it was greeted

    def of_kind(self, kind: int) -> list[bytes]:
        """Return plans (1) or levels (2)."""
        packed = [data for data in self.got if isinstance(data, bytes)]
        return [data for data in packed if struct.unpack_from('<I', data) == (kind,)]

    def close(self) -> None:
        self._is_ending.set()
        self._thread.join()


@pytest.fixture
def look():
    """Return the maker of pages that look at the face on a port."""
    pages = []

    def make(port: int) -> Page:
        pages.append(Page(port))
        return pages[-1]

    yield make
    for page in pages:
        page.close()


class Talker:
    """Who plans and speaks, on a graph."""

    def __init__(self, graph):
        self.graph = graph
        self.node = graph.node('talker')
        self.plan_pub = self.node.create_publisher(HeadMotionPlan, 'agent/motion_plan', 10)
        self.audio_pub = self.node.create_publisher(AudioChunk, 'agent/audio', 200)
        self.state_pub = self.node.create_publisher(ConversationState, 'conversation/state', 10)
        self.n_plans = 0

    def now_ns(self) -> int:
        return self.node.get_clock().now().nanoseconds

    def start(self, **params) -> FaceNode:
        """Start a face on a free port, and wait until it hears."""
        overrides = [Parameter(name, value=v) for name, v in {'port': 0, **params}.items()]
        face = self.graph.add(FaceNode(context=self.graph.context, parameter_overrides=overrides))
        self.meet()
        return face

    def meet(self) -> None:
        publishers = (self.plan_pub, self.audio_pub, self.state_pub)
        assert self.graph.spin_until(
            lambda: all(p.get_subscription_count() for p in publishers), 60.0
        )

    def plan(self, motion, begin_ns, space=ARKIT) -> HeadMotionPlan:
        """Return the message of a plan with frames of motion `[n, M]`."""
        self.n_plans += 1
        n = len(motion)
        stamp_ns = begin_ns + FRAME_NS * np.arange(n)
        zeros = np.zeros(n, int)
        return plan_to_msg(space, self.n_plans, 25.0, stamp_ns, zeros, zeros, motion)

    def say(self, plan) -> None:
        self.plan_pub.publish(plan)

    def keep(self, cls, topic, qos=10) -> list:
        """Return the list that what comes on a topic goes into."""
        kept = []
        self.node.create_subscription(cls, topic, kept.append, qos)
        return kept


@pytest.fixture
def talker(graph):
    """Return who plans and speaks."""
    return Talker(graph)
