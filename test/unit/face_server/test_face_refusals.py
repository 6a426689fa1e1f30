# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Pages behind proxies: which get a socket, and that those without one can learn why."""

import time

from face_clients import answer_to, get, handshake, look, run, status_of
import pytest

from timar_ros.nodes.face_hosts import Authority, KnownHosts

OTHER_PAGE = {'Host': 'kiosk.example:8390', 'Origin': 'https://kiosk.example:9443'}


def status(answer: bytes) -> int:
    return int(answer.split(b' ', 2)[1])


def question(**headers) -> bytes:
    return get('/socket', **headers).replace(b'GET', b'POST', 1)


def body(answer: bytes) -> str:
    return answer.partition(b'\r\n\r\n')[2].decode()


@pytest.mark.parametrize(
    'origin',
    [
        'http://kiosk.example:8080', 'https://kiosk.example:9443', 'https://KIOSK.example.:9443',
        'http://kiosk.example', 'https://kiosk.example',
    ],
)  # fmt: skip
def test_a_page_gets_a_socket_where_a_proxy_leaves_the_port_out_of_host(origin, serve):
    server = serve(allowed_hosts=('kiosk.example',))

    answer = run(answer_to(server, handshake(server, Host='kiosk.example', Origin=origin)))

    assert status(answer) == 101


@pytest.mark.parametrize(
    ('host', 'origin'),
    [
        ('kiosk.example', 'http://evil.example:8080'),
        ('kiosk.example', 'http://kiosk.example.evil.example'),
        ('kiosk.example', 'ftp://kiosk.example:8080'),
        ('kiosk.example:8390', 'http://kiosk.example:8080'),
        ('kiosk.example:8390', 'http://kiosk.example'),
        ('evil.example', 'http://evil.example:8080'),
    ],
)
def test_another_name_or_another_stated_port_gets_no_socket(host, origin, serve):
    server = serve(allowed_hosts=('kiosk.example',))

    answer = run(answer_to(server, handshake(server, Host=host, Origin=origin)))

    assert status(answer) == 403


def test_a_page_that_asks_learns_why_it_gets_no_socket_and_is_not_counted(serve):
    server = serve(allowed_hosts=('kiosk.example',))

    refused = run(answer_to(server, handshake(server, **OTHER_PAGE)))
    asked = run(answer_to(server, question(**OTHER_PAGE)))

    assert [status(refused), status(asked)] == [403, 403]
    assert body(refused) == body(asked)
    assert 'expected the same host in Origin and Host' in body(asked)
    assert "['https://kiosk.example:9443'] and 'kiosk.example:8390'" in body(asked)
    assert 'nginx: proxy_set_header Host $http_host;' in body(asked)
    assert server.counters['refused_origin'] == 1


def test_a_page_that_nobody_refuses_learns_that_the_proxy_passes_no_sockets_on(serve):
    server = serve()
    host = f'127.0.0.1:{server.port}'

    answer = run(answer_to(server, question(Host=host, Origin=f'http://{host}')))

    assert status(answer) == 200
    assert 'proxy_set_header Upgrade $http_upgrade;' in body(answer)


def test_a_page_for_which_there_is_no_place_learns_that(serve):
    server = serve(max_clients=1)
    host = f'127.0.0.1:{server.port}'

    async def scenario():
        async with look(server) as ws:
            await ws.receive()
            return await answer_to(server, question(Host=host, Origin=f'http://{host}'))

    answer = run(scenario())
    assert status(answer) == 503
    assert body(answer) == '1 faces look already; raise max_clients\n'


def test_the_last_refusal_is_kept_with_its_time(serve):
    server = serve()
    assert time.monotonic() - server.refusal.at_s > 1e6

    assert run(status_of(server, Host='evil.example'))[0] == 421

    assert server.refusal.text == (
        "unknown host 'evil.example'; add it to the parameter allowed_hosts"
    )
    assert 0 <= time.monotonic() - server.refusal.at_s < 60
    assert server.counters['refused_host'] == 1
    run(answer_to(server, handshake(server, Host='localhost:1', Origin='http://evil.example')))
    assert "['http://evil.example'] and 'localhost:1'" in server.refusal.text


def test_a_socket_without_origin_is_told_that_origin_is_missing():
    refusal = KnownHosts().socket_refusal(Authority('localhost', 8390), [])

    assert 'expected the header Origin' in refusal and 'Host' not in refusal
