# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Clients of the face's server, from any address 127.0.0.x: browsers, raw TCP, raw WebSockets."""

import asyncio
import contextlib
import json
import re
import struct
import time

import aiohttp

SCREEN, GUEST, OTHER = '127.0.0.1', '127.0.0.2', '127.0.0.3'  # the first is the robot's own


def run(scenario, timeout_s=20.0):
    return asyncio.run(asyncio.wait_for(scenario, timeout_s))


def address(server, path=''):
    return f'http://127.0.0.1:{server.port}/{path}'


def session(source=SCREEN, **options):
    connector = aiohttp.TCPConnector(local_addr=(source, 0), **options)
    return aiohttp.ClientSession(connector=connector)


@contextlib.asynccontextmanager
async def look(server, source=SCREEN, **headers):
    """Open a socket as a browser on the server's own page does."""
    given = {'Origin': address(server).rstrip('/'), **headers}
    async with (
        session(source) as client,
        client.ws_connect(address(server, 'socket'), headers=given) as ws,
    ):
        yield ws


async def told(ws):
    """Return the next message, decoded, or the code with which the socket was closed."""
    message = await ws.receive(timeout=10)
    if message.type == aiohttp.WSMsgType.TEXT:
        return json.loads(message.data)
    is_told = message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.CLOSE)
    return message.data if is_told else ws.close_code


async def wait_until(is_done, timeout_s=10.0):
    deadline = time.monotonic() + timeout_s
    while not is_done():
        assert time.monotonic() < deadline, 'it did not come in time'
        await asyncio.sleep(0.01)


async def status_of(server, path='', source=SCREEN, **headers):
    async with (
        session(source) as client,
        client.get(address(server, path), headers=headers) as response,
    ):
        return response.status, await response.text(), response.headers


async def connect(server, source=SCREEN):
    """Return reader and writer of a bare connection."""
    return await asyncio.open_connection('127.0.0.1', server.port, local_addr=(source, 0))


async def answer_to(server, request: bytes, source=SCREEN) -> bytes:
    """Send bytes, and return the answer, head and body."""
    reader, writer = await connect(server, source)
    writer.write(request)
    head = await asyncio.wait_for(reader.readuntil(b'\r\n\r\n'), 10)
    length = re.search(rb'content-length: (\d+)', head.lower())
    body = await asyncio.wait_for(reader.readexactly(int(length[1])), 10) if length else b''
    writer.close()
    return head + body


def get(path='/', **headers) -> bytes:
    """Return the bytes of a request, after whose answer the connection ends."""
    lines = [f'{name}: {value}' for name, value in {'Connection': 'close', **headers}.items()]
    return '\r\n'.join([f'GET {path} HTTP/1.1', *lines, '', '']).encode()


def handshake(server, **headers) -> bytes:
    host = f'127.0.0.1:{server.port}'
    given = {
        'Host': host, 'Origin': f'http://{host}', 'Upgrade': 'websocket', 'Connection': 'Upgrade',
        'Sec-WebSocket-Version': 13, 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ==', **headers,
    }  # fmt: skip
    return get('/socket', **given)


def frame(opcode: int, payload=b'', is_last=True) -> bytes:
    """Return a WebSocket frame as a client sends it, masked with zeros."""
    assert len(payload) < 126
    return bytes([opcode | is_last << 7, 0x80 | len(payload)]) + b'\0' * 4 + payload


async def closing_code(reader) -> int | None:
    """Return the code with which the server closes a raw socket; None if it only ends it."""
    data = b''
    with contextlib.suppress(ConnectionError):
        while part := await asyncio.wait_for(reader.read(65536), 10):
            data += part
    while len(data) > 1:
        opcode, length, start = data[0] & 15, data[1], 2
        if length == 126:
            length, start = struct.unpack_from('>H', data, 2)[0], 4
        if opcode == 8:
            return struct.unpack_from('>H', data, start)[0]
        data = data[start + length :]
    return None


async def load_page(server, source=SCREEN) -> list[str]:
    """Get the page and all files that it names, as a browser does, over up to six connections."""
    async with session(source, limit=6) as client:
        done, waiting = [], {''}
        while waiting:
            texts = await asyncio.gather(*(_text(client, server, name) for name in waiting))
            done += waiting
            found = re.findall(r"""(?:src=|href=|from )["']\.?/?([\w.]+)["']""", ''.join(texts))
            waiting = set(found) - set(done)
        return done


async def _text(client, server, name) -> str:
    async with client.get(address(server, name)) as response:
        assert response.status == 200, name
        return await response.text()
