# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The face in a browser: what moves when, and what does not."""

import functools
import http.server
import threading
import time

from face_sleep import IS_ASLEEP
import numpy as np
import pytest

from timar_ros.nodes.face_server import FaceServer, ServerConfig
from timar_ros.nodes.face_wire import pack_state


def shown(browser, robot, **pose) -> np.ndarray:
    """Show a pose and return a picture of it."""
    robot.show(**pose)
    browser.wait_for(f'timar.log.newest === {robot.n_plans}')
    n = browser.ask('timar.log.n.frames')
    browser.wait_for(f'timar.log.n.frames > {n + 2}')
    return browser.picture()


def test_each_feature_moves_where_it_is_and_nowhere_else(browser, robot, changed):
    browser.open(f'{robot.server.url}?still&kiosk')
    neutral = shown(browser, robot)

    expected = {
        'mouth': {'jawOpen': 0.4},
        'eyes': {'eyeBlink': 1.0},
        'brows': {'browOuterUp': 0.9},
    }
    for moved, shapes in expected.items():
        picture = shown(browser, robot, **shapes)
        n = {region: changed(neutral, picture, region) for region in ('mouth', 'eyes', 'brows')}
        assert n.pop(moved) > 500, moved
        assert max(n.values()) < 30, (moved, n)


def test_the_head_turns_as_the_neck_does_or_not_at_all(browser, robot, changed):
    browser.open(f'{robot.server.url}?still&kiosk')
    neutral = shown(browser, robot)

    turned = shown(browser, robot, neck=(0.0, 0.3, 0.0))
    browser.open(f'{robot.server.url}?still&kiosk&head=0')
    held = shown(browser, robot, neck=(0.0, 0.3, 0.0))

    # The robot's left is at the viewer's right: the eyes go there with the face.
    center = [np.mean(np.nonzero(is_amber(picture))[1]) for picture in (neutral, turned)]
    assert center[0] == pytest.approx(320, abs=3)
    assert 30 < center[1] - center[0] < 80
    assert changed(neutral, held, 'nose') == 0
    assert changed(neutral, held, 'eyes') == 0


def is_amber(picture):
    """Return where the irises are."""
    red, green, blue = np.moveaxis(picture.astype(int), -1, 0)
    return (red > 190) & (green > 90) & (green < 215) & (blue < 110)


def test_a_silent_face_is_still_but_for_its_living_eyes(browser, robot, changed):
    browser.open(f'{robot.server.url}?kiosk')
    pictures = [shown(browser, robot)]
    n = browser.ask('timar.life.n')
    browser.wait_for(
        f'timar.life.n.blinks > {n["blinks"]} && timar.life.n.saccades > {n["saccades"] + 1}'
    )
    pictures += [browser.picture() for _ in range(4)]

    for region in ('mouth', 'brows', 'shell', 'nose'):
        n = [changed(pictures[0], picture, region) for picture in pictures[1:]]
        assert n == [0] * 4, region
    assert any(changed(pictures[0], picture, 'eyes') for picture in pictures[1:])


def test_nothing_is_drawn_anew_while_nothing_moves(browser, robot):
    browser.open(f'{robot.server.url}?still&kiosk')
    shown(browser, robot, jawOpen=0.2)

    n_frames, n_drawn = browser.ask('[timar.log.n.frames, timar.log.n.drawn]')
    browser.wait_for(f'timar.log.n.frames >= {n_frames + 30}')

    assert browser.ask('timar.log.n.drawn') == n_drawn


def test_a_face_whose_plan_has_ended_comes_to_rest(browser, robot, changed):
    browser.open(f'{robot.server.url}?still&kiosk')
    neutral = shown(browser, robot)
    opened = shown(browser, robot, jawOpen=0.5, neck=(0.2, 0.1, 0.0), seconds=3.0)

    last = 'timar.log.frames.at(-1)'
    still = [f'Math.abs({last}.{what}) < 1e-4' for what in ('jaw', 'yaw', 'pitch', 'roll')]
    browser.wait_for(' && '.join(still))
    rested = browser.picture()

    assert changed(neutral, opened, 'mouth') > 500
    for region in ('mouth', 'eyes', 'shell', 'nose'):
        assert changed(neutral, rested, region) == 0, region


def test_a_page_that_comes_late_shows_the_plan_in_force(browser, robot, changed):
    browser.open(f'{robot.server.url}?still&kiosk')
    neutral = shown(browser, robot)
    robot.show(jawOpen=0.5, seconds=60)

    browser.open(f'{robot.server.url}?still&kiosk')
    browser.wait_for('timar.face.opening > 0.1')

    assert changed(neutral, browser.picture(), 'mouth') > 500


def test_a_lost_robot_falls_asleep_and_wakes_when_its_node_is_back(browser, robot, changed):
    browser.open(f'{robot.server.url}?kiosk')
    robot.show()
    port = robot.server.port
    awake = browser.ask('timar.link.n.opened')

    robot.server.close()
    browser.wait_for('!timar.link.isUp')
    browser.wait_for(IS_ASLEEP)
    asleep = browser.picture()
    robot.server = FaceServer(ServerConfig(port=port), lambda: time.time_ns() / 1e6)
    browser.wait_for('timar.link.isUp')
    browser.wait_for('timar.face.drawn[0] < 0.01')
    robot.show(jawOpen=0.5)
    browser.wait_for('timar.face.opening > 0.1')

    assert browser.ask('timar.link.n.opened') == awake + 1
    assert changed(asleep, browser.picture(), 'eyes') > 2000
    browser.forgive()  # it logs that the node was away


def test_a_kiosk_shows_the_face_only_and_the_engineer_what_is_behind_it(browser, robot):
    def wait_until_visible(selector, is_visible):
        style = f"getComputedStyle(document.querySelector('{selector}'))"
        shown = f"({style}.opacity !== '0' && {style}.display !== 'none')"
        browser.wait_for(f'{shown} === {str(is_visible).lower()}')

    browser.open(f'{robot.server.url}?kiosk')
    wait_until_visible('#controls', False)
    wait_until_visible('#engineer', False)

    browser.open(robot.server.url)
    wait_until_visible('#controls', True)
    browser.call('Input.dispatchKeyEvent', type='keyDown', key='e', text='e')
    wait_until_visible('#engineer', True)
    robot.show(jawOpen=0.3)
    robot.server.send(pack_state(time.time_ns(), 3, -20.0, -30.0))
    browser.wait_for("document.getElementById('who').textContent === 'both'")
    browser.wait_for("document.getElementById('figures').textContent.includes('round trip')")
    assert browser.ask("document.getElementById('link').textContent") == 'connected'


@pytest.fixture
def other_site(tmp_path):
    """Yield the address of a page that is not ours."""
    (tmp_path / 'index.html').write_text('<!doctype html><title>elsewhere</title>')
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    site = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield f'http://localhost:{site.server_address[1]}/'
    site.shutdown()
    thread.join()
    site.server_close()


def test_a_page_of_another_site_gets_no_socket(chromium, robot, other_site):
    chromium.call('Page.navigate', url=other_site)
    chromium.wait_for("document.title === 'elsewhere'")

    outcome = chromium.ask(
        f"""new Promise((resolve) => {{
          const socket = new WebSocket('ws://127.0.0.1:{robot.server.port}/socket');
          socket.onopen = () => resolve('open');
          socket.onerror = () => resolve('refused');
        }})"""
    )

    assert outcome == 'refused'
    assert robot.server.counters['refused_origin'] == 1


@pytest.mark.parametrize('size', [(320, 480), (1920, 1080), (800, 480)])
def test_the_whole_head_fits_on_any_screen(size, browser, robot):
    width, height = size
    metrics = {'deviceScaleFactor': 1, 'mobile': False}
    browser.call('Emulation.setDeviceMetricsOverride', width=width, height=height, **metrics)
    try:
        browser.open(f'{robot.server.url}?still&kiosk')
        picture = shown(browser, robot, jawOpen=0.3)
    finally:
        browser.call('Emulation.setDeviceMetricsOverride', width=640, height=400, **metrics)

    is_head = picture.max(axis=-1) > 100
    rows, columns = np.nonzero(is_head.any(axis=1))[0], np.nonzero(is_head.any(axis=0))[0]
    assert picture.shape == (height, width, 3)
    assert rows[0] > 0
    assert rows[-1] < height - 1
    assert columns[0] > 0
    assert columns[-1] < width - 1
    assert max(np.ptp(rows) / height, np.ptp(columns) / width) > 0.8
