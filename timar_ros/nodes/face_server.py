# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The web server of the face: a page, and a socket on which it hears what to show.

Knows HTTP, clients and their limits; knows nothing of ROS or of what the bytes mean. It trusts no
client: a page of another site, a flood, a stall or garbage costs that client its connection.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import ipaddress
import json
import math
import pathlib
import socket
import threading
import time
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, WSMsgType, web

PAGE_FOLDER = pathlib.Path(__file__).with_name('face_page')
_TYPES = {'.html': 'text/html', '.css': 'text/css', '.js': 'text/javascript'}
_MAX_MESSAGE_BYTES = 512  # pages send nothing but pings
_MAX_PINGS_A_SECOND, _MAX_BURST = 20, 40
_MAX_WAITING = 64  # messages for one client; one that takes fewer than come is dropped
_SEND_TIMEOUT_S = 5.0
_HEARTBEAT_S = 20.0
_CONNECTING_S = 1.0
_REQUEST_TIMEOUT_S = 20.0  # for a connection to become a socket, or to end
# A page takes one connection for its socket and up to six while it loads.
_CONNECTIONS_A_CLIENT = 8


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """
    Where to serve, and whom.

    Attributes:
        host: address to listen on; '127.0.0.1' is this machine only.
        port: TCP; 0 takes a free one.
        max_clients: sockets at once.
        allowed_hosts: names by which browsers may call this server besides its addresses.
    """

    host: str = '127.0.0.1'
    port: int = 8390
    max_clients: int = 8
    allowed_hosts: tuple[str, ...] = ()


class _Client:
    """One socket, what waits for it, and how many pings it may still send."""

    def __init__(self, request: web.Request, ws: web.WebSocketResponse):
        self.request = request
        self.ws = ws
        self.waiting = asyncio.Queue(_MAX_WAITING)
        self._tokens = _MAX_BURST
        self._counted_s = time.monotonic()

    def may_ping(self) -> bool:
        now_s = time.monotonic()
        self._tokens += (now_s - self._counted_s) * _MAX_PINGS_A_SECOND
        self._tokens = min(self._tokens, _MAX_BURST) - 1
        self._counted_s = now_s
        return self._tokens >= 0


class _Refusal(asyncio.Protocol):
    """A connection too many: closed at once."""

    def connection_made(self, transport):
        transport.abort()


class FaceServer:
    """
    Serve the face from a thread of its own.

    Args:
        config: where and whom.
        now_ms: reads the clock of the stamps, ms; called in the server's thread.
    """

    def __init__(self, config: ServerConfig, now_ms):
        self._config = config
        self._now_ms = now_ms
        self._files = _read_page()
        self._hello = json.dumps({'type': 'hello', 'page': self._files.version})
        self._kept: dict[str, str | bytes] = {}
        self._clients: set[_Client] = set()
        self._connections = {}  # protocol -> when it connected, s
        self.counters = {
            'clients': 0,
            'refused_origin': 0,
            'refused_full': 0,
            'refused_connections': 0,
            'closed_misbehaved': 0,
            'closed_slow': 0,
        }
        self._loop = asyncio.new_event_loop()
        self._socket = _listen(config)
        self.port = self._socket.getsockname()[1]
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name='face server')
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the page is, for people."""
        host = self._config.host
        host = {'0.0.0.0': socket.gethostname(), '::': socket.gethostname()}.get(host, host)
        return f'http://{f"[{host}]" if ":" in host else host}:{self.port}/'

    @property
    def has_clients(self) -> bool:
        """Whether anybody looks."""
        return bool(self._clients)

    def send(self, payload: str | bytes, keep_as: str = '') -> None:
        """
        Send a message to every page; from any thread, without waiting.

        Args:
            payload: text or bytes, as they go out.
            keep_as: the newest of this kind is also what a new page is told first.
        """
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self._loop.call_soon_threadsafe(self._send, payload, keep_as)

    def close(self) -> None:
        """Close all sockets and end the thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._socket.close()
            self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=1024)
        app.router.add_get('/socket', self._on_socket)
        app.router.add_get('/{name:[a-z_]*(\\.[a-z]+)?}', self._on_file)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, keepalive_timeout=15)
        await runner.setup()
        server = await self._loop.create_server(
            lambda: self._admit(runner.server), sock=self._socket, backlog=16
        )
        try:
            while not self._stop.is_set():
                self._drop_idle_connections()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), 1.0)
        finally:
            server.close()
            for client in list(self._clients):
                await _close(client.ws, WSCloseCode.GOING_AWAY, b'the face node ends')
            for protocol in self._connections:
                if protocol.transport is not None:
                    protocol.transport.abort()  # a stalled one would hold up the end
            await runner.cleanup()

    # Connections

    def _admit(self, make_protocol):
        """Return a protocol for a new connection; TCP without an end is an attack, too."""
        now_s = time.monotonic()
        # One that was only just let in has no transport yet, one that is gone none any more.
        self._connections = {
            protocol: since
            for protocol, since in self._connections.items()
            if protocol.transport is not None or now_s - since < _CONNECTING_S
        }
        if len(self._connections) >= self._config.max_clients + _CONNECTIONS_A_CLIENT:
            self.counters['refused_connections'] += 1
            return _Refusal()
        protocol = make_protocol()
        self._connections[protocol] = now_s
        return protocol

    def _drop_idle_connections(self) -> None:
        in_use = {client.request.protocol for client in self._clients}
        for protocol, since in self._connections.items():
            is_old = time.monotonic() - since > _REQUEST_TIMEOUT_S
            if is_old and protocol.transport is not None and protocol not in in_use:
                protocol.transport.abort()

    # HTTP

    async def _on_file(self, request: web.Request) -> web.Response:
        if not self._is_known_host(request.host):
            raise web.HTTPMisdirectedRequest(text=self._unknown_host(request.host))
        name = request.match_info['name'] or 'index.html'
        if name not in self._files.content:
            raise web.HTTPNotFound(text=f'no {name[:40]} here; the face is at /\n')
        body, content_type = self._files.content[name]
        return web.Response(
            body=body, content_type=content_type, charset='utf-8', headers=_HEADERS
        )

    async def _on_socket(self, request: web.Request) -> web.StreamResponse:
        self._check_origin(request)
        if len(self._clients) >= self._config.max_clients:
            self.counters['refused_full'] += 1
            raise web.HTTPServiceUnavailable(
                text=f'{self._config.max_clients} faces look already; raise max_clients\n'
            )
        ws = web.WebSocketResponse(
            max_msg_size=_MAX_MESSAGE_BYTES, heartbeat=_HEARTBEAT_S, compress=False, timeout=1.0
        )
        client = _Client(request, ws)
        self._clients.add(client)  # before anything is awaited, or more would slip in
        self.counters['clients'] = len(self._clients)
        sender = None
        try:
            await ws.prepare(request)
            for payload in (self._hello, *self._kept.values()):
                client.waiting.put_nowait(payload)
            sender = self._loop.create_task(self._feed(client))
            await self._listen_to(client)
        finally:
            if sender is not None:
                sender.cancel()
            self._clients.discard(client)
            self.counters['clients'] = len(self._clients)
        return ws

    def _check_origin(self, request: web.Request) -> None:
        """Refuse pages of other sites: browsers let any of them open a socket to here."""
        origin = urlsplit(request.headers.get('Origin', ''))
        if self._is_known_host(request.host) and origin.netloc == request.host:
            return
        self.counters['refused_origin'] += 1
        raise web.HTTPForbidden(
            text='the socket is for the page served here: expected its Origin, '
            f'http://{request.host[:80]}\n'
        )

    def _is_known_host(self, host: str) -> bool:
        """Whether a browser may call us so: a name that an attacker points here is unknown."""
        name = (urlsplit(f'//{host}').hostname or '') if _is_plain(host) else ''
        if name in ('localhost', socket.gethostname().lower(), *self._config.allowed_hosts):
            return True
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(name)  # nobody can make a name out of a number
            return True
        return False

    def _unknown_host(self, host: str) -> str:
        return f'unknown host {host[:80]!r}; add it to the parameter allowed_hosts\n'

    # Sockets

    def _send(self, payload, keep_as: str) -> None:
        if keep_as:
            self._kept[keep_as] = payload
        for client in list(self._clients):
            try:
                client.waiting.put_nowait(payload)
            except asyncio.QueueFull:
                self._drop_slow(client)

    def _drop_slow(self, client: _Client) -> None:
        self.counters['closed_slow'] += 1
        self._clients.discard(client)
        if client.request.transport is not None:
            client.request.transport.abort()  # it would not read a farewell

    async def _feed(self, client: _Client) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            while True:
                payload = await client.waiting.get()
                send = client.ws.send_str if isinstance(payload, str) else client.ws.send_bytes
                try:
                    await asyncio.wait_for(send(payload), _SEND_TIMEOUT_S)
                except asyncio.TimeoutError:
                    return self._drop_slow(client)

    async def _listen_to(self, client: _Client) -> None:
        async for message in client.ws:
            sent = _ping_of(message) if message.type == WSMsgType.TEXT else None
            if sent is None or not client.may_ping():
                self.counters['closed_misbehaved'] += 1
                reason = b'expected at most 20 pings a second, {"ping": ms}'
                await _close(client.ws, WSCloseCode.POLICY_VIOLATION, reason)
                return
            pong = json.dumps({'type': 'pong', 'ping': sent, 'clock_ms': self._now_ms()})
            with contextlib.suppress(asyncio.QueueFull):
                client.waiting.put_nowait(pong)


@dataclasses.dataclass(frozen=True)
class _Page:
    content: dict[str, tuple[bytes, str]]  # name -> (bytes, type)
    version: str


_HEADERS = {
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'",
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Resource-Policy': 'same-origin',
    'Cache-Control': 'no-cache',
}


def _read_page() -> _Page:
    paths = sorted(path for path in PAGE_FOLDER.iterdir() if path.suffix in _TYPES)
    content = {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in paths}
    digest = hashlib.sha256(b''.join(body for body, _ in content.values())).hexdigest()
    return _Page(content, digest[:16])


def _listen(config: ServerConfig) -> socket.socket:
    try:
        return socket.create_server(
            (config.host, config.port),
            family=socket.AF_INET6 if ':' in config.host else socket.AF_INET,
        )
    except OSError as error:
        why = error.strerror or error
        raise ValueError(
            f'cannot serve the face on {config.host} port {config.port} ({why});'
            ' set port to a free one (0: any), or host to an address of this machine'
        ) from None


def _is_plain(host: str) -> bool:
    return 0 < len(host) < 256 and all(c.isalnum() or c in '.-_:[]' for c in host)


def _ping_of(message) -> float | None:
    """Return when a page sent its ping, by its own clock in ms; None if it is no ping."""
    try:
        content = json.loads(message.data)
    except ValueError:
        return None
    sent = content.get('ping') if isinstance(content, dict) else None
    if isinstance(sent, bool) or not isinstance(sent, int | float) or not math.isfinite(sent):
        return None
    return sent


async def _close(ws: web.WebSocketResponse, code: int, reason: bytes) -> None:
    with contextlib.suppress(asyncio.TimeoutError, ConnectionError, RuntimeError):
        await asyncio.wait_for(ws.close(code=code, message=reason), 2.0)
