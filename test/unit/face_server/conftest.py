# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""A face's server for a test."""

import contextlib
import pathlib
import sys

import pytest

pytest.importorskip('aiohttp', reason='no aiohttp here: pip install aiohttp')
sys.path.insert(0, str(pathlib.Path(__file__).parent))

from timar_ros.nodes.face_server import FaceServer, ServerConfig  # noqa: E402


@pytest.fixture
def serve():
    """Return the maker of servers on a free port, on a clock that shows 1234 ms."""
    with contextlib.ExitStack() as stack:

        def make(limits=None, **config) -> FaceServer:
            config = ServerConfig(**{'port': 0, **config})
            server = FaceServer(config, lambda: 1234.0, limits)
            stack.callback(server.close)
            return server

        yield make
