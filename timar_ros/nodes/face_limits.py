# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""
Which connection is closed when more browsers come than the face's server has room for.

Responsible for sharing connections and sockets between addresses. Not for opening or closing them.

No address can keep another one out: when all places are taken, one of the address that holds most
of them is closed. The robot's own screen (a browser on the same machine) always gets in.
"""

import collections
from collections.abc import Callable, Collection
import dataclasses
import ipaddress
from typing import Protocol

_IDLE_S = 5.0  # pages ping every second
# IPv6 gives a household, or an attacker, 2^64 addresses.
_IPV6_SITE_BITS = 64


class Holder(Protocol):
    """Who has a connection, or a socket."""

    address: str
    since_s: float  # when it came
    heard_s: float  # when it last sent something


def address_of(peer) -> str:
    """Return the address of a socket's `peername`: an IPv4 address, an IPv6 network, or ''."""
    try:
        address = ipaddress.ip_address(peer[0].partition('%')[0])
    except (TypeError, IndexError, AttributeError, ValueError):
        return ''  # gone already, or no internet socket
    if address.version == 4 or address.is_loopback:
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_SITE_BITS), strict=False))


def is_own_screen(address: str) -> bool:
    """Return whether an address of `address_of` is this machine's own browser."""
    return address in ('127.0.0.1', '::1')


@dataclasses.dataclass(frozen=True)
class Limits:
    """
    How many connections there are for all addresses together, and for one.

    Attributes:
        sockets: pages that are served at once.
        connections: of one address, besides its sockets. A browser opens up to six.
        all_connections: of all addresses, besides sockets.
        is_own_screen: returns whether an address is the robot's own screen.
    """

    sockets: int
    connections: int = 48
    all_connections: int = 256
    is_own_screen: Callable[[str], bool] = is_own_screen

    @property
    def full_text(self) -> str:
        """What a page reads that finds no place."""
        return f'{self.sockets} faces look already; raise max_clients\n'

    def connection_to_close(self, address: str, holders: Collection[Holder]) -> Holder | None:
        """Return which connection is closed so that one of `address` fits in, if one must be."""
        own = [holder for holder in holders if holder.address == address]
        if len(own) >= self.connections:
            return min(own, key=_since)
        if len(holders) >= self.all_connections:
            return min(self._of_busiest(holders), key=_since)
        return None

    def socket_to_close(
        self, address: str, holders: Collection[Holder], now_s: float
    ) -> tuple[bool, Holder | None]:
        """Return whether a socket of `address` fits in, and which other one is closed for that."""
        if len(holders) < self.sockets:
            return True, None
        quiet = [holder for holder in holders if now_s - holder.heard_s > _IDLE_S]
        if quiet:
            return True, min(quiet, key=lambda holder: holder.heard_s)
        n_own = sum(holder.address == address for holder in holders)
        busiest = self._of_busiest(holders)
        is_screen = self.is_own_screen(address) and not n_own
        # Otherwise two addresses would push each other out in turn.
        n_most = sum(holder.address == busiest[0].address for holder in busiest) if busiest else 0
        if n_most > n_own + 1 or (busiest and is_screen):
            return True, max(busiest, key=_since)
        return False, None

    def _of_busiest(self, holders: Collection[Holder]) -> list[Holder]:
        """Return all holders of the addresses that have most; between equals, not our own's."""
        n_of = collections.Counter(holder.address for holder in holders)

        def rank(address: str) -> tuple[int, bool]:
            return n_of[address], not self.is_own_screen(address)

        highest = max(map(rank, n_of), default=None)
        return [holder for holder in holders if rank(holder.address) == highest]


def _since(holder: Holder) -> float:
    return holder.since_s
