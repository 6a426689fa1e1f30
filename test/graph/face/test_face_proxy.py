# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The face behind a proxy that serves it below a path of its own."""

import contextlib
import socket
import socketserver
import threading

import pytest


class Proxy(socketserver.ThreadingTCPServer):
    """Passes connections on, without the prefix of their first request's path."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, port):
        super().__init__(('127.0.0.1', 0), None)
        self.port = port

    def finish_request(self, request, client_address):
        begin = request.recv(65536)
        if b' /face/' not in begin.split(b'\r\n')[0]:
            return
        with socket.create_connection(('127.0.0.1', self.port)) as robot:
            robot.sendall(begin.replace(b' /face/', b' /', 1))
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
    yield f'http://127.0.0.1:{server.server_address[1]}/face/'
    server.shutdown()
    server.server_close()


def test_the_face_moves_below_a_path_of_a_proxy(browser, robot, proxy):
    browser.open(f'{proxy}?still&kiosk')

    robot.show(jawOpen=0.4)

    browser.wait_for(f'timar.log.newest === {robot.n_plans}')
