# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The face's server against its clients: friendly, late, greedy, slow and hostile ones."""

import asyncio
import contextlib
import json
import re
import socket
import time

import aiohttp
from face_clients import address, look, run, status_of, told, wait_until
import pytest

from timar_ros.nodes.face_server import FaceServer, ServerConfig


def test_the_page_and_all_it_names_come_from_here_and_forbid_anything_else(serve):
    status, text, headers = run(status_of(serve()))

    assert status == 200
    assert '<canvas id="face"' in text
    assert "default-src 'none'" in headers['Content-Security-Policy']
    assert re.findall(r"""(?:src|href|url)[=(]["']?([^"' >)]*)""", text) == ['data:,']


@pytest.mark.parametrize(
    'path', ['nothing.js', '../face.py', '%2e%2e/face.py', '..%2fface.py', 'face_page/main.js']
)
def test_nothing_but_the_page_is_served(path, serve):
    status, text, _ = run(status_of(serve(), path))

    assert status == 404
    assert 'import' not in text


def test_a_page_is_told_what_is_in_force_and_then_all_that_comes(serve):
    server = serve()
    server.send('{"type": "settings"}', keep_as='settings')
    server.send(b'an older plan', keep_as='plan')
    server.send(b'the plan', keep_as='plan')
    server.send(b'a level that is gone')

    async def scenario():
        async with look(server) as ws:
            first = [await told(ws) for _ in range(3)]
            server.send(b'news')
            return first, await told(ws)

    first, news = run(scenario())
    assert first[0]['type'] == 'hello'
    assert first[1:] == [{'type': 'settings'}, b'the plan']
    assert news == b'news'


def test_a_ping_is_answered_with_the_time_of_the_stamps(serve):
    async def scenario():
        async with look(serve()) as ws:
            await told(ws)
            await ws.send_str('{"ping": 56.25}')
            return await told(ws)

    assert run(scenario()) == {'type': 'pong', 'ping': 56.25, 'clock_ms': 1234.0}


@pytest.mark.parametrize(
    'headers',
    [
        {'Origin': 'http://evil.example'},
        {'Origin': 'null'},
        {'Origin': ''},
        {'Origin': 'http://evil.example', 'Host': 'evil.example'},  # a name pointed at us
        {'Origin': 'http://localhost:1', 'Host': 'localhost:2'},
    ],
)
def test_pages_of_other_sites_get_no_socket(headers, serve):
    server = serve()

    async def scenario():
        with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
            async with look(server, **headers):
                pass
        return refusal.value.status

    assert run(scenario()) == 403
    assert server.counters['refused_origin'] == 1
    assert server.counters['clients'] == 0


def test_a_name_that_was_not_allowed_gets_no_page_and_one_that_was_gets_it(serve):
    server = serve(allowed_hosts=('robot.lab',))

    assert run(status_of(server, Host='evil.example'))[0] == 421
    assert 'allowed_hosts' in run(status_of(server, Host='evil.example'))[1]
    assert run(status_of(server, Host=f'robot.lab:{server.port}'))[0] == 200
    assert run(status_of(server, Host='[::1]:8390'))[0] == 200


@pytest.mark.parametrize(
    ('message', 'code'),
    [
        ('garbage', 1008),
        ('[1]', 1008),
        ('{"ping": "now"}', 1008),
        ('{"ping": true}', 1008),
        ('{"ping": NaN}', 1008),
        ('{"ping": 1e999}', 1008),
        (b'\x00\x01', 1008),
        ('{"ping": 1}' + ' ' * 600, 1009),
    ],
)
def test_a_client_that_sends_anything_but_pings_is_closed_and_others_stay(message, code, serve):
    server = serve()

    async def scenario():
        async with look(server) as good, look(server) as bad:
            await told(good)
            await told(bad)
            send = bad.send_bytes if isinstance(message, bytes) else bad.send_str
            await send(message)
            closed = await told(bad)
            server.send(b'still here')
            return closed, await told(good)

    assert run(scenario()) == (code, b'still here')


def test_a_flood_of_pings_costs_the_connection(serve):
    server = serve()

    async def scenario():
        async with look(server) as ws:
            await told(ws)
            with contextlib.suppress(ConnectionError):
                for _ in range(500):
                    await ws.send_str('{"ping": 1}')
            answers = 0
            while isinstance(answer := await told(ws), dict):
                answers += answer['type'] == 'pong'
            return answers, answer

    answers, code = run(scenario())
    assert answers <= 45
    assert code in (1008, 1006)  # it may be gone before it reads why
    assert server.counters['closed_misbehaved'] == 1


def test_pings_as_a_page_sends_them_are_all_answered(serve):
    async def scenario():
        async with look(serve()) as ws:
            await told(ws)
            answers = []
            for i in range(30):
                await ws.send_str(json.dumps({'ping': i}))
                answers.append((await told(ws))['ping'])
            return answers

    assert run(scenario()) == list(range(30))


def test_only_so_many_may_look_and_one_that_leaves_makes_room(serve):
    server = serve(max_clients=2)

    async def scenario():
        async with look(server) as first:
            await told(first)
            async with look(server) as second:
                await told(second)
                with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
                    async with look(server):
                        pass
            await wait_until(lambda: server.counters['clients'] == 1)
            async with look(server) as third:
                return refusal.value.status, await told(third)

    status, hello = run(scenario())
    assert status == 503
    assert hello['type'] == 'hello'
    assert server.counters['refused_full'] == 1


def test_a_client_that_does_not_read_is_dropped_and_the_others_miss_nothing(serve):
    server = serve()
    sent = [i.to_bytes(4, 'little') * 50_000 for i in range(150)]  # 30 MB

    async def scenario():
        async with look(server) as good:
            reader, writer = await asyncio.open_connection('127.0.0.1', server.port, limit=1024)
            origin = address(server).rstrip('/')
            writer.write(
                f'GET /socket HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nOrigin: {origin}\r\n'
                'Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n'
                'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'.encode()
            )
            await reader.readuntil(b'\r\n\r\n')
            await wait_until(lambda: server.counters['clients'] == 2)
            await told(good)
            got = []
            for payload in sent:
                server.send(payload)
                got.append(await told(good))
            await wait_until(lambda: server.counters['clients'] == 1)
            writer.close()
            return got

    assert run(scenario()) == sent
    assert server.counters['closed_slow'] == 1


def test_an_end_of_the_node_closes_the_sockets_and_frees_the_port(serve):
    server = serve()

    async def scenario():
        async with look(server) as ws:
            await told(ws)
            ending = asyncio.get_running_loop().run_in_executor(None, server.close)
            code = await told(ws)
            await ending
            return code

    started = time.monotonic()
    assert run(scenario()) in (1001, 1000)  # closed in order
    assert time.monotonic() - started < 5
    again = serve(port=server.port)
    assert run(status_of(again))[0] == 200


def test_a_port_that_is_taken_is_named_with_the_way_out(serve):
    taken = serve().port

    with pytest.raises(ValueError, match=rf'port {taken} \(.*\); set port to a free one'):
        FaceServer(ServerConfig(port=taken), lambda: 0.0)


def test_others_in_the_network_reach_it_only_if_told_so(serve):
    server = serve()

    assert server.url == f'http://127.0.0.1:{server.port}/'
    assert server._socket.getsockname()[0] == '127.0.0.1'
    everywhere = serve(host='0.0.0.0')
    assert everywhere.url == f'http://{socket.gethostname()}:{everywhere.port}/'


def test_the_way_to_the_page_from_an_unknown_one_holds_below_a_path_of_a_proxy_too(serve):
    status, text, _ = run(status_of(serve(), 'gone.html'))

    assert status == 404
    assert 'gone.html' in text
    assert 'index.html' in text
    assert ' /' not in text
