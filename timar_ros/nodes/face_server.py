# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The web server of the face: a page, and a socket on which it hears what to show.

Responsible for HTTP, sockets and what clients may do. Not for ROS or for what the bytes mean. It
trusts no client: a page of another site, a flood, a stall or garbage costs that client its
connection.
"""

import asyncio
import contextlib
import ipaddress
import json
import socket
import threading
import time

from aiohttp import WSCloseCode, WSMsgType, web

from timar_ros.nodes.face_bundle import read_page
from timar_ros.nodes.face_config import ServerConfig, listen
from timar_ros.nodes.face_connection import (
    HEADERS,
    Allowance,
    Connection,
    HttpProtocol,
    log_of_loop,
)
from timar_ros.nodes.face_hosts import (
    NOT_PASSED_ON,
    Authority,
    KnownHosts,
    Refusal,
    frame_origins,
)
from timar_ros.nodes.face_limits import Limits
from timar_ros.nodes.face_wire import read_ping
from timar_ros.strict import quoted

_MAX_MESSAGE_BYTES = 512  # pages send nothing but pings
_MAX_PINGS_A_SECOND, _MAX_BURST = 20, 40
_MAX_WAITING = 64  # messages for one client; one that takes fewer than come is dropped
_SEND_TIMEOUT_S = 5.0
_HEARTBEAT_S = 20.0
_REQUEST_TIMEOUT_S = 20.0  # for a connection to become a socket, or to end
_FAREWELL_S = 2.0
# asyncio accepts as many in a row, and only then is any of them counted or closed.
_ACCEPTED_AT_ONCE = 64
_BACKLOG = 1024  # of the kernel; where it is full, a browser's connection waits for a second
_RETRY_AFTER_S = 2
_END_TIMEOUT_S = 10.0


class _Client:
    """One socket, what waits for it, and how many frames it may still send."""

    def __init__(self, connection: Connection, ws: web.WebSocketResponse):
        self.connection = connection
        self.address = connection.address
        self.ws = ws
        self.since_s = self.heard_s = time.monotonic()
        self.waiting = asyncio.Queue(_MAX_WAITING)
        self.frames = Allowance(_MAX_PINGS_A_SECOND, _MAX_BURST)
        self.farewell: asyncio.Task | None = None


class FaceServer:
    """
    Serve the face from a thread of its own.

    Args:
        config: where and whom.
        now_ms: reads the clock of the stamps, ms; called in the server's thread.
        limits: how clients share what there is; None: `max_clients` of the configuration.

    Raises:
        ValueError: the address or the port cannot be served on, or an allowed name is none.
    """

    def __init__(self, config: ServerConfig, now_ms, limits: Limits | None = None):
        self._now_ms = now_ms
        self._limits = limits or Limits(config.max_clients)
        self._hosts = KnownHosts(config.allowed_hosts)
        self._page = read_page(frames=frame_origins(config.allowed_frames))
        self._hello = json.dumps({'type': 'hello', 'page': self._page.version})
        self._kept: dict[str, str | bytes] = {}
        self._clients: set[_Client] = set()
        self._connections: dict[asyncio.Protocol, Connection] = {}  # by what speaks HTTP on it
        self._farewells: set[asyncio.Task] = set()
        self.counters = {
            'clients': 0,
            'refused_host': 0,
            'refused_origin': 0,
            'refused_full': 0,
            'refused_requests': 0,
            'dropped_connections': 0,
            'closed_misbehaved': 0,
            'closed_slow': 0,
            'closed_for_others': 0,
        }
        self.refusal = Refusal()
        self._host = config.host
        self._socket = listen(config)
        address, self.port, *_ = self._socket.getsockname()
        self._is_anywhere = ipaddress.ip_address(address.partition('%')[0]).is_unspecified
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(log_of_loop)
        self._stop = asyncio.Event()
        # A daemon: a constructor that is interrupted has nobody who would end it.
        self._thread = threading.Thread(target=self._run, name='face server', daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Address of the page, to print."""
        host = socket.gethostname() if self._is_anywhere else self._host
        return f'http://{f"[{host}]" if ":" in host else host}:{self.port}/'

    @property
    def has_clients(self) -> bool:
        """Whether any page is connected."""
        return bool(self._clients)

    def send(self, payload: str | bytes, keep_as: str = '') -> None:
        """
        Send a message to every page; from any thread, without waiting.

        Args:
            payload: text or bytes, as they go out.
            keep_as: kind of message; the latest of each kind is kept and sent to pages that
                connect later. '' = not kept.
        """
        with contextlib.suppress(RuntimeError):  # closed meanwhile
            self._loop.call_soon_threadsafe(self._send, payload, keep_as)

    def close(self) -> None:
        """Close all sockets and end the thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stop.set)
        if self._thread.ident is None:
            self._socket.close()
        else:
            self._thread.join(_END_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._socket.close()
            self._loop.close()

    async def _serve(self) -> None:
        app = web.Application(client_max_size=1024)
        app.router.add_get('/socket', self._on_socket)
        app.router.add_post('/socket', self._on_question)
        app.router.add_get('/{name:[a-z_]*(\\.[a-z]+)?}', self._on_file)
        app.on_response_prepare.append(self._add_headers)
        runner = web.AppRunner(app, handle_signals=False)
        await runner.setup()
        server = await self._loop.create_server(
            lambda: self._new_connection(runner.server),
            sock=self._socket,
            backlog=_ACCEPTED_AT_ONCE,
        )
        self._socket.listen(_BACKLOG)
        try:
            while not self._stop.is_set():
                self._drop_old_connections()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), 1.0)
        finally:
            server.close()
            for client in list(self._clients):
                self._part_from(client, WSCloseCode.GOING_AWAY, b'the face node ends')
            if self._farewells:
                await asyncio.wait(self._farewells)
            for connection in list(self._connections.values()):
                connection.abort()  # a stalled one would hold up the end
            await runner.cleanup()
            left = asyncio.all_tasks() - {asyncio.current_task()}
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=_FAREWELL_S)

    # Connections

    def _new_connection(self, server: web.Server) -> Connection:
        http = HttpProtocol(server, self._loop, self._count_error)
        return Connection(http, self._on_open, self._on_flood, self._on_end)

    def _on_open(self, connection: Connection) -> None:
        old = self._limits.connection_to_close(connection.address, self._without_socket())
        if old is not None:
            self._drop(old)
        self._connections[connection.http] = connection

    def _on_end(self, connection: Connection) -> None:
        self._connections.pop(connection.http, None)

    def _on_flood(self, connection: Connection) -> None:
        for client in self._clients:
            if client.connection is connection:
                self._close_misbehaved(client)
                return
        self.counters['dropped_connections'] += 1
        self._loop.call_later(1.0, connection.abort)

    def _without_socket(self) -> list[Connection]:
        in_use = {client.connection for client in self._clients}
        return [each for each in self._connections.values() if each not in in_use]

    def _drop_old_connections(self) -> None:
        for connection in self._without_socket():
            if time.monotonic() - connection.since_s > _REQUEST_TIMEOUT_S:
                self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        self.counters['dropped_connections'] += 1
        self._on_end(connection)
        connection.close()

    def _count_error(self, status: int) -> None:
        self.counters['refused_requests'] += 1

    # HTTP

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(HEADERS)
        response.headers['Content-Security-Policy'] = self._page.content_security_policy

    async def _on_file(self, request: web.Request) -> web.Response:
        host = self._host_of(request)
        refusal = self._hosts.refusal(host)
        if refusal:
            self._note_refusal('refused_host', refusal)
            raise web.HTTPMisdirectedRequest(text=f'{refusal}\n')
        name = request.match_info['name'] or 'index.html'
        if name not in self._page.files:
            raise web.HTTPNotFound(text=f'no {name[:40]} here; the page is index.html\n')
        file = self._page.files[name]
        return web.Response(body=file.body, content_type=file.content_type, charset='utf-8')

    async def _on_question(self, request: web.Request) -> web.Response:
        """Say why a page gets no socket: browsers do not show it the answer to a handshake."""
        refusal = self._socket_refusal(request)
        if refusal:
            raise web.HTTPForbidden(text=f'{refusal}\n')
        if len(self._clients) >= self._limits.sockets:
            raise web.HTTPServiceUnavailable(text=self._limits.full_text)
        return web.Response(text=NOT_PASSED_ON)

    async def _on_socket(self, request: web.Request) -> web.StreamResponse:
        refusal = self._socket_refusal(request)
        if refusal:
            self._note_refusal('refused_origin', refusal)
            raise web.HTTPForbidden(text=f'{refusal}\n')
        ws = web.WebSocketResponse(
            max_msg_size=_MAX_MESSAGE_BYTES,
            heartbeat=_HEARTBEAT_S,
            compress=False,
            timeout=1.0,
            autoping=False,  # frames that it answers by itself are not counted
        )
        connection = self._connections.get(request.protocol)
        if connection is None or not _is_handshake(ws, request):
            self.counters['refused_requests'] += 1
            raise web.HTTPBadRequest(text='expected a WebSocket handshake\n')
        self._make_room(connection)
        client = _Client(connection, ws)
        self._clients.add(client)  # before anything is awaited, or more would slip in
        self._count_clients()
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
            self._count_clients()
        if client.farewell is not None:
            await asyncio.wait({client.farewell})
        return ws

    def _make_room(self, connection: Connection) -> None:
        fits, other = self._limits.socket_to_close(
            connection.address, self._clients, time.monotonic()
        )
        if not fits:
            self.counters['refused_full'] += 1
            raise web.HTTPServiceUnavailable(
                headers={'Retry-After': str(_RETRY_AFTER_S)},
                text=self._limits.full_text,
            )
        if other is not None:
            self.counters['closed_for_others'] += 1
            self._part_from(other, WSCloseCode.TRY_AGAIN_LATER, b'another screen needs the place')

    def _host_of(self, request: web.Request) -> Authority:
        headers = request.headers.getall('Host', [])
        host = Authority.read(headers[0]) if len(headers) == 1 else None
        if host is None:
            self.counters['refused_requests'] += 1
            raise web.HTTPBadRequest(
                text=f'expected a Host header such as localhost:8390, got {quoted(headers)}\n'
            )
        return host

    def _socket_refusal(self, request: web.Request) -> str:
        """Return why a page gets no socket: browsers let pages of any site open one to here."""
        origins = request.headers.getall('Origin', [])
        return self._hosts.socket_refusal(self._host_of(request), origins)

    def _note_refusal(self, counter: str, text: str) -> None:
        self.counters[counter] += 1
        self.refusal = Refusal(text, time.monotonic())

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
        self._count_clients()
        client.connection.abort()  # it would not read a farewell

    def _close_misbehaved(self, client: _Client) -> None:
        self.counters['closed_misbehaved'] += 1
        reason = b'expected at most 20 pings a second, {"ping": ms}'
        self._part_from(client, WSCloseCode.POLICY_VIOLATION, reason)

    def _part_from(self, client: _Client, code: int, reason: bytes) -> None:
        """Close a socket in order, without making other pages wait."""
        self._clients.discard(client)
        self._count_clients()
        client.farewell = self._loop.create_task(_say_farewell(client, code, reason))
        self._farewells.add(client.farewell)
        client.farewell.add_done_callback(self._farewells.discard)

    def _count_clients(self) -> None:
        self.counters['clients'] = len(self._clients)

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
            sent = read_ping(message.data) if message.type == WSMsgType.TEXT else None
            is_control = message.type in (WSMsgType.PING, WSMsgType.PONG)
            if not client.frames.take() or (sent is None and not is_control):
                self._close_misbehaved(client)
                return
            if sent is not None:
                client.heard_s = time.monotonic()
                pong = json.dumps({'type': 'pong', 'ping': sent, 'clock_ms': self._now_ms()})
                with contextlib.suppress(asyncio.QueueFull):
                    client.waiting.put_nowait(pong)
            elif message.type == WSMsgType.PING:
                with contextlib.suppress(asyncio.TimeoutError, ConnectionError, RuntimeError):
                    await asyncio.wait_for(client.ws.pong(message.data), _SEND_TIMEOUT_S)


def _is_handshake(ws: web.WebSocketResponse, request: web.Request) -> bool:
    try:
        return bool(ws.can_prepare(request))
    except UnicodeError:  # it quotes headers, which may be no text
        return False


async def _say_farewell(client: _Client, code: int, reason: bytes) -> None:
    with contextlib.suppress(asyncio.TimeoutError, ConnectionError, RuntimeError):
        await asyncio.wait_for(client.ws.close(code=code, message=reason), _FAREWELL_S)
    asyncio.get_running_loop().call_later(_FAREWELL_S, client.connection.abort)
