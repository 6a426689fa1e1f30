# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
The names by which browsers may call the face's server, and whether a socket's page is our own.

Responsible for Host and Origin headers, and for what users write of either. Not for answers.

A page of another site can make a browser send requests here, and the owner of a DNS name can let
it point here. Neither can use one of the accepted names.
"""

import ipaddress
import math
import re
import socket
from typing import NamedTuple

from timar_ros.strict import quoted

_AUTHORITY = re.compile(
    r'(?P<name>\[[0-9a-f:.]{2,45}(?:%25[\w.-]{1,16})?\]|[a-z0-9._-]{1,253})(?::(?P<port>\d{1,5}))?',
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS = {'http': 80, 'https': 443}
# To a page that gets no socket though nothing here refuses it.
NOT_PASSED_ON = (
    'the node would open a socket for this page, and none gets through: let the proxy pass '
    'WebSockets on (nginx: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; '
    'proxy_set_header Connection upgrade;)\n'
)


class Authority(NamedTuple):
    """
    Whom a request is for.

    Attributes:
        name: in lower case without a final dot, or an address without brackets.
        port: as written; None where it is the scheme's own.
    """

    name: str
    port: int | None

    @classmethod
    def read(cls, text: str) -> 'Authority | None':
        """Read `name` or `[address]`, with or without `:port`; None for any other text."""
        match = _AUTHORITY.fullmatch(text)
        if match is None:
            return None
        name, port = match['name'].lower(), match['port'] and int(match['port'])
        if port is not None and port > 65535:
            return None
        if name.startswith('['):
            name = name[1:-1].replace('%25', '%')
            return cls(name, port) if _is_address(name) else None
        if name.startswith('.') or '..' in name:
            return None
        return cls(name.removesuffix('.'), port)


class Refusal(NamedTuple):
    """Why a browser got no page or no socket, and when, on the monotonic clock."""

    text: str = ''
    at_s: float = -math.inf


class KnownHosts:
    """
    The names of this server: localhost, the machine's own, its addresses, and those allowed.

    Args:
        allowed: names besides, in upper or lower case.
        machine: this machine's host name.

    Raises:
        ValueError: an allowed name is no host name.
    """

    def __init__(self, allowed=(), machine: str = ''):
        machine = (machine or socket.gethostname()).lower().removesuffix('.')
        short = machine.split('.')[0]
        # A robot without a DNS server is found by its mDNS name, which is its host name in .local.
        self._names = {'localhost', machine, short, f'{short}.local'}
        # YAML has no empty list of texts, so people write [''].
        self._names.update(_host_name(name) for name in allowed if name.strip())

    def are(self, authority: Authority) -> bool:
        """Return whether a browser may call this server so."""
        # Nobody can let an address point elsewhere.
        return authority.name in self._names or _is_address(authority.name)

    def refusal(self, host: Authority) -> str:
        """Return why a browser gets nothing that calls this server so; '' if it may."""
        if self.are(host):
            return ''
        return f'unknown host {quoted(host.name)}; add it to the parameter allowed_hosts'

    def socket_refusal(self, host: Authority, origins: list[str]) -> str:
        """Return why a page with these Origin headers gets no socket; '' if it gets one."""
        refusal = self.refusal(host)
        if refusal or (len(origins) == 1 and is_same_origin(origins[0], host)):
            return refusal
        got = host.name if host.port is None else f'{host.name}:{host.port}'
        if not origins:
            return (
                'the socket is for the page served here: expected the header Origin, which '
                'browsers send, got none; let a proxy pass it on as it came (nginx: no '
                'proxy_set_header Origin)'
            )
        return (
            'the socket is for the page served here: expected the same host in Origin and Host, '
            f'got {quoted(origins)} and {quoted(got)}; let a proxy pass Host on as it came '
            '(nginx: proxy_set_header Host $http_host;)'
        )


def is_same_origin(origin: str, host: Authority) -> bool:
    """
    Return whether an Origin header is a web page of `host`, over http or https.

    A browser leaves the port out of Host only where it is the scheme's own; so do proxies that
    pass on the name alone (nginx's $host), whatever the port of the page is. Then names decide.
    """
    scheme, separator, rest = origin.partition('://')
    page = Authority.read(rest)
    if not separator or scheme.lower() not in _DEFAULT_PORTS or page is None:
        return False
    default = _DEFAULT_PORTS[scheme.lower()]
    return page.name == host.name and host.port in (None, page.port or default)


def frame_origins(texts) -> list[str]:
    """
    Return origins that may show the face in a frame, as a content security policy names them.

    Raises:
        ValueError: one is no origin such as 'http://dashboard.example:8080'.
    """
    return [_frame_origin(text.strip()) for text in texts if text.strip()]


def _frame_origin(text: str) -> str:
    scheme, separator, rest = text.removesuffix('/').partition('://')
    page = Authority.read(_as_ascii(rest))
    if not separator or scheme.lower() not in _DEFAULT_PORTS or page is None:
        raise ValueError(
            'allowed_frames: expected an origin such as http://dashboard.example:8080, got '
            f'{quoted(text)}; write scheme, name and port of the page, without path or wildcard'
        )
    name = f'[{page.name}]' if ':' in page.name else page.name
    return f'{scheme.lower()}://{name}' + ('' if page.port is None else f':{page.port}')


def _as_ascii(name: str) -> str:
    """Return a name as browsers send it; '' where that cannot be."""
    if name.isascii():
        return name
    try:
        return name.encode('idna').decode()
    except UnicodeError:
        return ''


def _host_name(text: str) -> str:
    """Return an allowed name as browsers send it."""
    authority = Authority.read(_as_ascii(text.strip()))
    if authority is None or authority.port is not None:
        raise ValueError(
            f'allowed_hosts: expected a host name such as kiosk.example, got {quoted(text)}; '
            'write the name alone, without scheme, port, path or wildcard'
        )
    return authority.name


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
