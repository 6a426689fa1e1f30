# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The face in a frame of a dashboard's page, which another port of the robot serves."""

import http.server
import threading
import time

import pytest

from timar_ros.nodes.face_server import FaceServer, ServerConfig


@pytest.fixture
def dashboard():
    """Serve one page; its `frame` is the address of what it shows."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            self.send_response(200)
            self.send_header('Content-Type', 'text/html')
            self.end_headers()
            self.wfile.write(f'<iframe src="{self.server.frame}"></iframe>'.encode())

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize('is_allowed', [True, False])
def test_only_a_page_that_is_allowed_shows_the_face_in_a_frame(browser, dashboard, is_allowed):
    origin = f'http://127.0.0.1:{dashboard.server_port}'
    frames = (origin,) if is_allowed else ('http://127.0.0.1:1',)
    face = FaceServer(ServerConfig(port=0, allowed_frames=frames), lambda: 0.0)
    dashboard.frame = f'{face.url}?kiosk'
    try:
        browser.call('Page.navigate', url=origin)
        until_s = time.monotonic() + (20 if is_allowed else 2)
        while not face.has_clients and time.monotonic() < until_s:
            time.sleep(0.05)
        assert face.has_clients == is_allowed
    finally:
        browser.call('Page.navigate', url='about:blank')
        browser.forgive()  # it logs what it refuses
        face.close()
