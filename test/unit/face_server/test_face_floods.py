# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Clients that take what belongs to others: connections, sockets, frames. Others get in."""

import asyncio
import contextlib
import re
import socket

import aiohttp
from face_clients import (
    GUEST,
    OTHER,
    SCREEN,
    address,
    closing_code,
    connect,
    frame,
    handshake,
    load_page,
    look,
    run,
    status_of,
    told,
    wait_until,
)
import pytest

from timar_ros.nodes.face_limits import Limits

PING, PONG, TEXT, MORE = 9, 10, 1, 0


@contextlib.asynccontextmanager
async def raw_socket(server):
    """Open a socket whose frames the test writes itself."""
    reader, writer = await connect(server)
    writer.write(handshake(server))
    await reader.readuntil(b'\r\n\r\n')
    yield reader, writer
    writer.close()


async def flood(writer, part: bytes):
    with contextlib.suppress(ConnectionError):
        for _ in range(100):
            writer.write(part)
            await asyncio.wait_for(writer.drain(), 10)


@pytest.mark.parametrize(
    ('first', 'frames'),
    [
        (b'', frame(PING, b'x') * 20),
        (b'', frame(PONG) * 20),
        (frame(TEXT, is_last=False), frame(MORE, is_last=False) * 1000),
        (b'', frame(TEXT, b'{"ping": 1}') * 20),
    ],
    ids=['pings of the protocol', 'pongs', 'empty continuations', 'pings of the page'],
)
def test_a_flood_of_frames_costs_the_connection(first, frames, serve):
    server = serve()

    async def scenario():
        async with raw_socket(server) as (reader, writer):
            writer.write(first)
            sending = asyncio.create_task(flood(writer, frames))
            await wait_until(lambda: server.counters['clients'] == 0)
            code = await closing_code(reader)
            sending.cancel()
            return code

    assert run(scenario()) in (1008, None)  # None: it was gone before it could be read
    assert server.counters['closed_misbehaved'] == 1


def test_a_ping_of_the_protocol_is_answered(serve):
    async def scenario():
        async with raw_socket(serve()) as (reader, writer):
            writer.write(frame(PING, b'hello'))
            await reader.readuntil(b'\x8a\x05hello')

    run(scenario())


@pytest.mark.parametrize('number', ['1' + '0' * 400, '-1' + '0' * 310, '[' * 500])
def test_a_number_that_no_clock_shows_is_closed_with_a_code(number, serve, caplog):
    server = serve()

    async def scenario():
        async with look(server) as ws:
            await told(ws)
            await ws.send_str(f'{{"ping": {number}}}')
            return await told(ws)

    assert run(scenario()) == 1008
    assert server.counters['closed_misbehaved'] == 1
    assert caplog.records == []


def test_a_header_without_an_end_costs_its_sender_the_connection(serve):
    server = serve()

    async def scenario():
        _, writer = await connect(server)
        with pytest.raises((ConnectionError, asyncio.TimeoutError)):
            for _ in range(2000):
                writer.write(b'a' * 10_000)
                await asyncio.wait_for(writer.drain(), 2)
        return await status_of(server)

    assert run(scenario())[0] == 200


@pytest.mark.parametrize('n_trickling', [20, 200])
def test_trickling_connections_keep_neither_their_own_address_nor_another_out(n_trickling, serve):
    server = serve()

    async def scenario():
        trickling = [await connect(server, GUEST) for _ in range(n_trickling)]
        for _, writer in trickling:
            writer.write(b'GET / HT')
        pages = [await load_page(server, source) for source in (GUEST, OTHER, SCREEN) * 3]
        for source in (GUEST, OTHER, SCREEN):
            async with look(server, source) as ws:
                await told(ws)
        for _, writer in trickling:
            writer.close()
        return pages

    assert [page[0] for page in run(scenario())] == [''] * 9
    assert (
        server.counters['dropped_connections'] == max(0, n_trickling + 4 - 48) or n_trickling > 48
    )


def test_an_address_has_a_bounded_number_of_connections_and_the_oldest_gives_way(serve):
    server = serve(Limits(sockets=8, connections=5))
    silent = [
        socket.create_connection(('127.0.0.1', server.port), source_address=(GUEST, 0))
        for _ in range(12)
    ]

    async def scenario():
        await wait_until(lambda: server.counters['dropped_connections'] == 7)
        return await status_of(server)

    assert run(scenario())[0] == 200
    is_open = []
    for connection in silent:
        connection.settimeout(0.05)
        try:
            is_open.append(connection.recv(1) != b'')
        except TimeoutError:
            is_open.append(True)
        connection.close()
    assert is_open == [False] * 7 + [True] * 5


@contextlib.asynccontextmanager
async def sockets_of(server, *sources):
    async with contextlib.AsyncExitStack() as stack:
        all_of_them = []
        for source in sources:
            all_of_them.append(await stack.enter_async_context(look(server, source)))
            await told(all_of_them[-1])
        yield all_of_them


async def is_let_in(server, source) -> bool:
    try:
        async with look(server, source) as ws:
            return (await told(ws))['type'] == 'hello'
    except aiohttp.WSServerHandshakeError as refusal:
        assert refusal.status == 503
        return False


@pytest.mark.parametrize('source', [GUEST, SCREEN])
def test_an_address_that_has_all_sockets_gives_one_up_for_another(source, serve):
    server = serve(max_clients=4)

    async def scenario():
        async with sockets_of(server, *[source] * 4) as held:
            got_in = await is_let_in(server, OTHER)
            return got_in, await told(held[3])

    assert run(scenario()) == (True, 1013)  # 1013: try again later
    assert server.counters['closed_for_others'] == 1


def test_addresses_with_equally_many_sockets_do_not_push_each_other_out(serve):
    server = serve(max_clients=2)

    async def scenario():
        async with sockets_of(server, GUEST, '127.0.0.9'):
            return await is_let_in(server, OTHER)

    assert run(scenario()) is False
    assert server.counters['refused_full'] == 1


@pytest.mark.parametrize('n_places', [1, 3])
def test_the_robots_own_screen_always_gets_a_socket(n_places, serve):
    server = serve(max_clients=n_places)
    guests = [f'127.0.0.{i}' for i in range(2, 2 + n_places)]

    async def scenario():
        async with sockets_of(server, *guests), look(server) as screen:
            hello = await told(screen)
            guests_try = [await is_let_in(server, OTHER) for _ in range(3)]
            await screen.send_str('{"ping": 1}')
            return hello['type'], guests_try, (await told(screen))['type']

    assert run(scenario()) == ('hello', [False] * 3, 'pong')


@pytest.mark.parametrize('n_screens', [2, 8])
def test_screens_that_load_at_the_same_moment_all_come_up(n_screens, serve):
    server = serve()

    async def screen():
        names = await load_page(server)
        async with look(server) as ws:
            assert (await told(ws))['type'] == 'hello'
            await asyncio.sleep(0.2)
        return names

    async def scenario():
        return await asyncio.gather(*(screen() for _ in range(n_screens)))

    assert len(run(scenario())) == n_screens
    assert server.counters['dropped_connections'] == 0


def test_thousands_of_connections_in_a_row_leave_nothing_behind(serve):
    server = serve()

    async def scenario():
        for i in range(1000):
            _, writer = await connect(server, f'127.0.0.{2 + i % 50}')
            writer.close()
        await wait_until(lambda: not server._connections)
        return await status_of(server)

    status, text, _ = run(scenario())
    assert status == 200
    assert re.search('<canvas', text)
    assert address(server) == server.url
