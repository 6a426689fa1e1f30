# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The face behind a proxy that serves it below a path of its own."""

import contextlib
import re
import socket
import socketserver
import threading

from face_sleep import IS_ASLEEP
import pytest


class Proxy(socketserver.ThreadingTCPServer):
    """Passes connections on, without the prefix of their first request's path."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, port):
        super().__init__(('127.0.0.1', 0), None)
        self.port = port
        self.passes_sockets = True
        self.host = None  # what it makes of the Host header; None: as it came
        self.url = f'http://127.0.0.1:{self.server_address[1]}/face/'

    def finish_request(self, request, client_address):
        begin = request.recv(65536)
        path = begin.split(b'\r\n')[0]
        if b' /face' not in path or (b'/socket' in path and not self.passes_sockets):
            return
        with socket.create_connection(('127.0.0.1', self.port)) as robot:
            if self.host:
                begin = re.sub(rb'\r\nHost: [^\r]*', b'\r\nHost: ' + self.host, begin, count=1)
            # Of a connection that is used again, the second path would keep the prefix.
            begin = begin.replace(b'Connection: keep-alive', b'Connection: close', 1)
            robot.sendall(re.sub(rb' /face/?', b' /', begin, count=1))
            back = threading.Thread(target=pump, args=(robot, request), daemon=True)
            back.start()
            pump(request, robot)


def pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(robot):
    server = Proxy(robot.server.port)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize('end', ['/', '', '/index.html'])
def test_the_face_moves_below_a_path_of_a_proxy(browser, robot, proxy, end):
    browser.open(f'{proxy.url.removesuffix("/")}{end}?still&kiosk')

    robot.show(jawOpen=0.4)

    browser.wait_for(f'timar.log.newest === {robot.n_plans}')


def test_a_face_that_has_never_reached_its_robot_falls_asleep_and_wakes_when_it_does(
    browser, proxy
):
    proxy.passes_sockets = False
    browser.call('Page.navigate', url=f'{proxy.url}?kiosk')

    browser.wait_for('window.timar && timar.log.n.frames > 3')
    browser.wait_for(IS_ASLEEP)
    n_opened = browser.ask('timar.link.n.opened')
    proxy.passes_sockets = True
    browser.wait_for('timar.link.isUp && timar.face.drawn[0] < 0.01')

    assert n_opened == 0
    browser.forgive()  # it logs that no socket opened


def test_the_face_moves_behind_a_proxy_that_leaves_the_port_out_of_host(browser, robot, proxy):
    proxy.host = b'127.0.0.1'  # nginx: proxy_set_header Host $host;
    browser.open(f'{proxy.url}?still&kiosk')

    robot.show(jawOpen=0.4)

    browser.wait_for(f'timar.log.newest === {robot.n_plans}')


def test_a_page_that_the_node_refuses_shows_why_until_it_is_not_refused(browser, robot, proxy):
    proxy.host = b'localhost:1'
    browser.call('Page.navigate', url=f'{proxy.url}?kiosk&engineer')

    browser.wait_for("window.timar && document.getElementById('why').textContent")
    why = browser.ask("document.getElementById('why').textContent")
    browser.wait_for("document.getElementById('link').textContent.startsWith('no connection: ')")

    assert 'expected the same host in Origin and Host' in why
    assert "'localhost:1'" in why
    assert not browser.ask("document.getElementById('why').hidden")
    assert robot.server.counters['refused_origin'] > 0

    proxy.host = None
    browser.wait_for('timar.link.isUp')
    browser.wait_for("document.getElementById('why').hidden")
    assert browser.ask("document.getElementById('why').textContent") == ''
    browser.wait_for("document.getElementById('link').textContent === 'connected'")
    browser.forgive()  # it logs what was refused
