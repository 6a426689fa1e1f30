# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Requests that are malformed, foreign or garbage: each gets an answer, none a traceback."""

import logging

from face_clients import answer_to, get, handshake, run, status_of
import pytest

SECURITY_HEADERS = {
    b'content-security-policy', b'x-content-type-options', b'referrer-policy',
    b'cross-origin-resource-policy',
}  # fmt: skip
NO_HOSTS = ['', '[', ']', '[1]', 'http://[', '[::1', '[::1]evil', 'a b', 'a,b', 'name:port', '..']


def status(answer: bytes) -> int:
    return int(answer.split(b' ', 2)[1])


def headers_of(answer: bytes) -> dict[bytes, bytes]:
    lines = answer.split(b'\r\n\r\n')[0].split(b'\r\n')[1:]
    return {name.lower(): value for name, _, value in (line.partition(b': ') for line in lines)}


@pytest.mark.parametrize('host', [*NO_HOSTS, 'name:99999', '[fe80::1%25]', '[::g]', 'n' * 300])
def test_a_host_that_cannot_be_one_is_a_bad_request_for_page_and_socket(host, serve, caplog):
    server = serve()

    page = run(answer_to(server, get(Host=host)))
    socket = run(answer_to(server, handshake(server, Host=host)))

    assert [status(page), status(socket)] == [400, 400]
    assert caplog.records == []
    assert server.counters['refused_requests'] == 2


def test_a_host_of_bytes_that_are_no_text_is_a_bad_request(serve, caplog):
    answer = run(answer_to(serve(), get(Host='x').replace(b'x', b'\xff\xfe')))

    assert status(answer) == 400
    assert caplog.records == []


def test_a_request_with_two_hosts_or_none_is_a_bad_request(serve, caplog):
    server = serve()
    two = get(Host='localhost\r\nHost: evil.example')

    assert status(run(answer_to(server, two))) == 400
    assert status(run(answer_to(server, get()))) == 400
    assert caplog.records == []


@pytest.mark.parametrize(
    'origin',
    [
        'http://[', 'http://]', '[', '[1]', 'http://[1]', '//{host}', 'ftp://{host}',
        'file://{host}', 'ws://{host}', 'chrome-extension://{host}', 'http://{host}/',
        'http://{host}#', 'http://user@{host}', 'http://{host}, http://{host}', 'http:{host}',
        'http://{host}.evil.example', 'http://{host}\xff', '\xff', 'http://[::1]evil',
    ],
)  # fmt: skip
def test_an_origin_that_is_not_our_own_page_gets_no_socket(origin, serve, caplog):
    server = serve()
    origin = origin.format(host=f'127.0.0.1:{server.port}')
    request = handshake(server).replace(
        f'Origin: http://127.0.0.1:{server.port}'.encode(), b'Origin: ' + origin.encode('latin-1')
    )

    answer = run(answer_to(server, request))

    assert status(answer) == 403
    assert caplog.records == []
    assert server.counters['refused_origin'] == 1


@pytest.mark.parametrize(
    ('origin', 'host'),
    [
        ('http://localhost:8390', 'localhost:8390'),
        ('https://kiosk.example', 'Kiosk.Example'),  # behind a proxy that ends TLS
        ('https://kiosk.example', 'kiosk.example:443'),
        ('http://kiosk.example.', 'kiosk.example.'),
        ('HTTP://KIOSK.example:80', 'kiosk.example'),
        ('http://[::1]:8390', '[::1]:8390'),
    ],
)
def test_our_own_page_gets_a_socket_by_http_and_https_in_any_case(origin, host, serve):
    server = serve(allowed_hosts=('kiosk.EXAMPLE',))

    answer = run(answer_to(server, handshake(server, Host=host, Origin=origin)))

    assert status(answer) == 101


@pytest.mark.parametrize(
    'garbage',
    [
        b'garbage\r\n\r\n',
        b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03' + b'\0' * 200,  # TLS
        b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
        b'GET / HTTP/1.1\r\nHost localhost\r\n\r\n',
        b'GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n',
        b'GET / HTTP/9.9\r\nHost: localhost\r\n\r\n',
        b'GET /' + b'a' * 20_000 + b' HTTP/1.1\r\nHost: localhost\r\n\r\n',
    ],
)
def test_garbage_is_a_bad_request_without_a_line_in_the_log(garbage, serve, caplog):
    server = serve()

    answer = run(answer_to(server, garbage))

    assert status(answer) == 400
    assert caplog.records == []
    assert set(headers_of(answer)) >= SECURITY_HEADERS
    assert run(status_of(server))[0] == 200


@pytest.mark.parametrize('header', ['Upgrade', 'Connection', 'Sec-WebSocket-Version'])
def test_a_handshake_of_bytes_that_are_no_text_is_a_bad_request(header, serve, caplog):
    server = serve()
    request = handshake(server, **{header: 'spoilt'}).replace(b'spoilt', b'web\xb3socket')

    assert status(run(answer_to(server, request))) == 400
    assert caplog.records == []
    assert server.counters['clients'] == 0


def test_every_answer_forbids_what_browsers_may_forbid_and_names_no_version(serve):
    server = serve(max_clients=0)  # no place for any socket
    host = f'127.0.0.1:{server.port}'
    answers = [
        run(answer_to(server, request))
        for request in (
            get(Host=host),
            get('/nothing.js', Host=host),
            get(Host='evil.example'),
            get(Host='['),
            get(Host=host).replace(b'GET', b'POST'),
            handshake(server, Origin='http://evil.example'),
            handshake(server),
            handshake(server, Upgrade='nothing'),
            b'garbage\r\n\r\n',
        )
    ]

    assert [status(a) for a in answers] == [200, 404, 421, 400, 405, 403, 503, 400, 400]
    for answer in answers:
        headers = headers_of(answer)
        assert set(headers) >= SECURITY_HEADERS, status(answer)
        assert headers[b'server'] == b'timar_ros'
        assert b'aiohttp' not in answer.lower()


def test_a_server_that_is_full_tells_when_to_try_again(serve):
    server = serve(max_clients=0)

    assert int(headers_of(run(answer_to(server, handshake(server))))[b'retry-after']) >= 1


def test_what_the_server_cannot_answer_is_logged_once_a_second_without_a_traceback(serve, caplog):
    server = serve()
    server._hosts = None  # a fault of ours

    answers = [run(answer_to(server, get(Host='localhost'))) for _ in range(20)]

    assert {status(answer) for answer in answers} == {500}
    lines = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert 1 <= len(lines) <= 3
    assert all('AttributeError' in r.getMessage() and not r.exc_info for r in lines)
