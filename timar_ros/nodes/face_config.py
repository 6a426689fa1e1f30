# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Where the face's server listens. Not what it does there."""

import dataclasses
import socket

from timar_ros.strict import quoted, shortened


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """
    Host, port, number of pages, accepted names and frames of the server.

    Attributes:
        host: address to listen on; '127.0.0.1' is this machine only.
        port: TCP; 0 takes a free one.
        max_clients: sockets at once.
        allowed_hosts: names by which browsers may call this server besides its addresses.
        allowed_frames: origins of other pages that may show the face in a frame.
    """

    host: str = '127.0.0.1'
    port: int = 8390
    max_clients: int = 8
    allowed_hosts: tuple[str, ...] = ()
    allowed_frames: tuple[str, ...] = ()


def listen(config: ServerConfig) -> socket.socket:
    """
    Return a socket that listens on the configured host and port.

    Raises:
        ValueError: the host is none of this machine's, or the port is taken.
    """
    if not config.host.strip():
        raise ValueError(
            f'host must be an address or a name of this machine, got {quoted(config.host)}; '
            "set '127.0.0.1' for this machine only, '0.0.0.0' for anyone in the network"
        )
    try:
        return socket.create_server(
            (config.host, config.port),
            family=socket.AF_INET6 if ':' in config.host else socket.AF_INET,
        )
    except (OSError, ValueError, TypeError) as error:  # the last two: a text that no name can be
        why = shortened(str(getattr(error, 'strerror', None) or error))
        raise ValueError(
            f'cannot serve the face on {quoted(config.host)} port {config.port} ({why});'
            ' set port to a free one (0: any), or host to an address of this machine'
        ) from None
