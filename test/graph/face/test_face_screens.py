# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pages on real screens: several at once, cut off while they load, and what an engineer reads."""

import http.server
import re
import threading
import time

import pytest

from timar_ros.nodes.face_bundle import read_page
from timar_ros.nodes.face_wire import pack_state

WATCH = """
    window.shown = [];
    document.addEventListener('DOMContentLoaded', () => {
      const read = () => window.shown.push(document.getElementById('engineer').innerText);
      new MutationObserver(read).observe(document.getElementById('figures'), {childList: true});
    });
"""


@pytest.fixture
def watched(browser):
    """Yield a browser whose pages keep every text that the engineer's view has shown."""
    watch = browser.call('Page.addScriptToEvaluateOnNewDocument', source=WATCH)
    yield browser
    browser.call('Page.removeScriptToEvaluateOnNewDocument', **watch)


def figures_of(text: str) -> dict[str, str]:
    lines = text.splitlines()
    start = lines.index('frames')
    return dict(zip(lines[start::2], lines[start + 1 :: 2], strict=True))


def test_the_engineer_never_reads_a_figure_that_is_no_number(watched, robot):
    watched.open(f'{robot.server.url}?engineer')
    watched.wait_for('shown.length >= 3')  # nobody talks yet
    robot.show(jawOpen=0.3)
    robot.server.send(pack_state(time.time_ns(), 1, -20.0, -120.0))
    watched.wait_for("shown.at(-1).startsWith('user')")
    watched.wait_for('/plans\\n[0-9]/.test(shown.at(-1))')
    watched.ask('timar.log.clear()')  # as when the clock is set back
    n = watched.ask('shown.length')
    watched.wait_for(f'shown.length >= {n + 3}')

    shown = watched.ask('shown')
    assert not [text for text in shown if re.search('NaN|undefined|Infinity|null', text)]
    first, cleared = figures_of(shown[0]), figures_of(shown[n])
    assert [first[name] for name in ('frames', 'plans', 'lead', 'delivery', 'lips')] == ['–'] * 5
    assert (cleared['frames'], cleared['plans']) == ('–', '–')
    assert re.fullmatch(r'\d+ /s', figures_of(shown[-1])['frames'])
    assert shown[0].startswith('–\n')  # nobody has said who speaks


@pytest.fixture
def flaky_site():
    """Yield the address of a site that sends the page cut off at first, then whole."""
    body = read_page().files['index.html'].body
    n_sent = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802, the name is the library's
            self.send_response(200)
            self.send_header('Content-Type', 'text/html; charset=utf-8')
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if not n_sent else body)
            n_sent.append(self.path)

        def log_message(self, *_):
            pass

    site = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    thread = threading.Thread(target=site.serve_forever)
    thread.start()
    yield f'http://127.0.0.1:{site.server_address[1]}/', n_sent
    site.shutdown()
    thread.join()
    site.server_close()


def test_a_page_that_was_cut_off_loads_itself_again(browser, flaky_site):
    url, n_sent = flaky_site

    browser.call('Page.navigate', url=url)
    browser.wait_for('window.timar && timar.log.n.frames > 3')

    assert n_sent[:2] == ['/', '/']
    browser.call('Page.navigate', url='about:blank')
    browser.forgive()  # half a script, and no socket on that site


@pytest.mark.parametrize('n_screens', [3, 8])
def test_screens_that_load_at_the_same_moment_all_come_up(n_screens, chromium, robot):
    tabs = [
        chromium.call('Target.createTarget', url=f'{robot.server.url}?kiosk&{k}')
        for k in range(n_screens)
    ]

    deadline = time.monotonic() + 60
    while robot.server.counters['clients'] < n_screens:
        assert time.monotonic() < deadline, robot.server.counters
        time.sleep(0.05)
    for tab in tabs:
        chromium.call('Target.closeTarget', **tab)

    assert robot.server.counters['dropped_connections'] == 0


def test_a_screen_that_gave_way_comes_back_when_there_is_room(browser, make_robot):
    server = make_robot().server
    browser.open(f'{server.url}?kiosk')
    page = 'timar.link'
    n = browser.ask(f'{page}.n.opened')

    (client,) = server._clients
    server._loop.call_soon_threadsafe(server._part_from, client, 1013, b'another screen')

    browser.wait_for(f'{page}.n.opened > {n} && {page}.isUp')
