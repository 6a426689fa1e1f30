# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""The names by which browsers may call the robot, and where it serves."""

import socket

from face_clients import address, run, session, status_of
import pytest

from timar_ros.nodes.face_hosts import Authority, KnownHosts
from timar_ros.nodes.face_server import FaceServer, ServerConfig


async def policy_of(server) -> str:
    async with session() as client, client.get(address(server)) as response:
        return response.headers['Content-Security-Policy']


def is_known(host: str, allowed=(), machine='Robot-1') -> bool:
    authority = Authority.read(host)
    return authority is not None and KnownHosts(allowed, machine).are(authority)


@pytest.mark.parametrize(
    'host',
    [
        'localhost', 'LOCALHOST:8390', 'robot-1', 'ROBOT-1:8390', 'robot-1.', 'robot-1.local',
        'Robot-1.LOCAL:8390', 'robot-1.local.', '127.0.0.1', '192.168.1.7:8390', '[::1]',
        '[fe80::1]:8390', '[fe80::1%25eth0]:8390',
    ],
)  # fmt: skip
def test_the_machine_is_called_by_its_names_and_addresses_in_any_case(host):
    assert is_known(host)


@pytest.mark.parametrize(
    'host',
    [
        'evil.example', 'robot-2', 'robot-2.local', 'robot-1.lan', 'robot-1.local.evil.example',
        'x.robot-1.local', 'local', '127.0.0.1.evil.example', '[::1]evil', '[::1', '0x7f.1', '',
        'robot-1\n', 'ro bot', 'röbot', '１27.0.0.1',
    ],
)  # fmt: skip
def test_no_other_name_is_ours(host):
    assert not is_known(host)


@pytest.mark.parametrize('allowed', ['Kiosk.example', 'KIOSK.EXAMPLE.', ' kiosk.example'])
@pytest.mark.parametrize('host', ['kiosk.example', 'Kiosk.Example:8390', 'kiosk.example.'])
def test_allowed_names_are_compared_without_regard_to_case_and_final_dot(allowed, host):
    assert is_known(host, (allowed,))
    assert not is_known(f'x.{host}', (allowed,))


def test_a_machine_with_a_full_name_has_its_short_and_its_local_name_too():
    known = ('robot.lab.example', 'robot', 'robot.local')

    assert [is_known(host, machine='robot.lab.example') for host in known] == [True] * 3
    assert not is_known('lab.example', machine='robot.lab.example')


def test_a_name_of_other_letters_is_allowed_as_browsers_send_it():
    assert is_known('xn--kche-0ra.example', ('küche.example',))


def test_an_empty_name_in_the_list_allows_nothing():
    assert not is_known('', ('',))
    assert not is_known('.', ('',))


@pytest.mark.parametrize(
    'name', ['http://kiosk.example', 'kiosk.example:8390', '*.example', '*', 'a/b', 'x' * 5000]
)
def test_an_allowed_name_that_is_none_is_refused_with_what_to_write(name):
    with pytest.raises(ValueError, match='^allowed_hosts: expected a host name such') as refusal:
        KnownHosts((name,))

    assert len(str(refusal.value)) < 250


def test_a_tablet_gets_the_page_by_the_machines_own_local_name(serve):
    server = serve()
    host = f'{socket.gethostname().split(".")[0]}.local:{server.port}'

    assert run(status_of(server, Host=host))[0] == 200
    assert run(status_of(server, Host=f'not-{host}'))[0] == 421


@pytest.mark.parametrize('host', ['', ' '])
def test_a_host_that_is_left_empty_is_refused_as_it_would_serve_everybody(host):
    with pytest.raises(ValueError, match='host must be an address or a name of this machine'):
        FaceServer(ServerConfig(host=host, port=0), lambda: 0.0)


@pytest.mark.parametrize('host', ['x' * 5000, 'a\0b', '..', '256.1.1.1', 'no-such.invalid'])
def test_a_host_that_cannot_be_listened_on_is_refused_in_one_sentence(host):
    with pytest.raises(ValueError, match=r'^cannot serve the face on .* port 0 \(') as refusal:
        FaceServer(ServerConfig(host=host, port=0), lambda: 0.0)

    assert len(str(refusal.value)) < 300


def test_any_writing_of_everybodys_address_is_shown_with_the_machines_name(serve):
    for host in ('0.0.0.0', '0', '0x0'):
        assert f'//{socket.gethostname()}:' in serve(host=host).url


@pytest.mark.parametrize(
    ('written', 'origin'),
    [
        ('http://dashboard.example', 'http://dashboard.example'),
        ('HTTPS://Robot.local:8443/', 'https://robot.local:8443'),
        (' http://[::1]:8080 ', 'http://[::1]:8080'),
        ('http://bücher.example', 'http://xn--bcher-kva.example'),
    ],
)  # fmt: skip
def test_a_page_whose_origin_is_allowed_may_show_the_face_in_a_frame(serve, written, origin):
    server = serve(allowed_frames=(written, ''))

    policy = run(policy_of(server))

    assert policy.endswith(f"; frame-ancestors 'self' {origin}")


def test_without_allowed_frames_only_the_face_s_own_pages_may_frame_it(serve):
    assert run(policy_of(serve())).endswith("; frame-ancestors 'self'")


@pytest.mark.parametrize(
    'text',
    [
        '*',
        'http://*',
        'robot.local',
        'http://a/b',
        "http://a; script-src 'unsafe-inline'",
        'x:' * 999,
    ]
    + ['ftp://a', 'http://', 'http://a:99999', "'none'", 'http://a http://b'],
)
def test_an_allowed_frame_that_is_no_origin_is_refused_with_what_to_write(serve, text):
    with pytest.raises(ValueError, match='^allowed_frames: expected an origin such as') as refusal:
        serve(allowed_frames=(text,))

    assert len(str(refusal.value)) < 300
