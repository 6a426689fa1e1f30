# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
One TCP connection to the face's server, before HTTP or a WebSocket makes anything of its bytes.

Responsible for how much a client may send, and for what answers to garbage look like. Not for how
many connections there are (`face_limits`) nor for what is served (`face_server`).
"""

import asyncio
from collections.abc import Callable
import contextlib
import logging
import time

from aiohttp import web

from timar_ros.nodes.face_limits import address_of

# A page sends a request or two of about 1 kB (8 kB with many cookies), then pings of 50 bytes.
_MAX_BYTES_A_SECOND, _MAX_BURST_BYTES = 4_000, 65_536
_LOG_EVERY_S = 1.0
_KEEP_ALIVE_S = 15

HEADERS = {
    'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-cache',
    'Server': 'timar_ros',  # aiohttp would name its version and Python's
}


class Allowance:
    """
    How much of something a client may still use.

    Args:
        rate: allowed a second, on the long run.
        burst: allowed at once.
    """

    def __init__(self, rate: float, burst: float):
        self._rate, self._burst = rate, burst
        self._left = burst
        self._counted_s = time.monotonic()

    def take(self, amount: float = 1) -> bool:
        """Use up an amount; return whether that was still allowed."""
        now_s = time.monotonic()
        self._left += (now_s - self._counted_s) * self._rate
        self._left = min(self._left, self._burst) - amount
        self._counted_s = now_s
        return self._left >= 0


class Connection(asyncio.Protocol):
    """
    Filter between a transport and its HTTP protocol: stops more data than a page sends.

    Counts bytes, so that it holds for all of HTTP and for all frames of a WebSocket.

    Args:
        http: the protocol behind.
        on_open: called with this once it is connected.
        on_flood: called with this when it has sent too much; nothing is read any more.
        on_end: called with this once it is closed.
    """

    def __init__(self, http: asyncio.Protocol, on_open, on_flood, on_end):
        self.http = http
        self.address = ''
        self.since_s = self.heard_s = time.monotonic()
        self._on_open, self._on_flood, self._on_end = on_open, on_flood, on_end
        self._transport = None
        self._bytes = Allowance(_MAX_BYTES_A_SECOND, _MAX_BURST_BYTES)
        self._is_flood = False

    def connection_made(self, transport):
        """Begin."""
        self._transport = transport
        self.address = address_of(transport.get_extra_info('peername'))
        self.http.connection_made(transport)
        self._on_open(self)

    def data_received(self, data):
        """Pass on what is allowed."""
        if self._is_flood:
            self._pause_reading()  # the protocol behind has resumed it
            return
        self.heard_s = time.monotonic()
        self._is_flood = not self._bytes.take(len(data))
        # The first part of a flood still gets its answer: 400 for a header of megabytes.
        self.http.data_received(data[:_MAX_BURST_BYTES])
        if self._is_flood:
            self._pause_reading()
            self._on_flood(self)

    def _pause_reading(self) -> None:
        with contextlib.suppress(RuntimeError):  # closed by what it sent
            self._transport.pause_reading()

    def eof_received(self):
        """Pass on the end of what the client sends."""
        return self.http.eof_received()

    def pause_writing(self):
        """Pass on that the client does not read."""
        self.http.pause_writing()

    def resume_writing(self):
        """Pass on that the client reads again."""
        self.http.resume_writing()

    def connection_lost(self, exc):
        """End."""
        self._on_end(self)
        self.http.connection_lost(exc)

    def close(self) -> None:
        """Close it without waiting for the client."""
        if self._transport.get_write_buffer_size():
            self._transport.abort()  # it would not read the rest
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close it at once; what was not sent yet is lost."""
        self._transport.abort()


class HttpProtocol(web.RequestHandler):
    """
    aiohttp's protocol, whose answers to garbage have our headers and leave no traceback.

    Args:
        server: of an `AppRunner`.
        on_error: called with the status of each such answer.
    """

    __slots__ = ('_on_error',)

    def __init__(self, server: web.Server, loop, on_error: Callable[[int], None]):
        super().__init__(
            server,
            loop=loop,
            logger=_LOGGER,
            access_log=None,
            keepalive_timeout=_KEEP_ALIVE_S,
            lingering_time=1.0,
        )
        self._on_error = on_error

    def handle_error(self, request, status=500, exc=None, message=None):
        """Answer a request that is not HTTP, or that raised an exception here."""
        self._on_error(status)
        if status >= 500:
            _LOGGER.error('cannot answer a request: %r', exc)
        if request.writer.output_size > 0:
            raise ConnectionError('part of another answer is out already')
        response = web.Response(status=status, text=f'{status}\n', headers=HEADERS)
        response.force_close()
        return response


class _Briefly(logging.Filter):
    """Let one line a second through, without tracebacks: clients decide how often they fail."""

    def __init__(self):
        super().__init__()
        self._logged_s = -_LOG_EVERY_S

    def filter(self, record: logging.LogRecord) -> bool:
        now_s = time.monotonic()
        if now_s - self._logged_s < _LOG_EVERY_S:
            return False
        self._logged_s = now_s
        error = record.exc_info[1] if record.exc_info else None
        record.msg, record.args = f'{record.getMessage()[:200]}', ()
        if isinstance(error, BaseException):
            record.msg += f' ({type(error).__name__}: {str(error)[:200]})'
        record.exc_info = record.exc_text = None
        return True


_LOGGER = logging.getLogger(__name__)
_LOGGER.addFilter(_Briefly())


def log_of_loop(loop, context: dict) -> None:
    """Log what an event loop could not handle; an asyncio exception handler."""
    _LOGGER.error('%s: %r', context.get('message'), context.get('exception'))
