# Copyright timar_ros contributors
# SPDX-License-Identifier: Apache-2.0
"""Who gives way when places are short, by address."""

import dataclasses

import pytest

from timar_ros.nodes.face_limits import Limits, address_of, is_own_screen


@dataclasses.dataclass(frozen=True)
class Holder:
    address: str
    since_s: float
    heard_s: float = 100.0


def holders(*addresses):
    return [Holder(address, float(i)) for i, address in enumerate(addresses)]


@pytest.mark.parametrize(
    ('peer', 'address'),
    [
        (('127.0.0.1', 5), '127.0.0.1'),
        (('192.168.1.7', 5), '192.168.1.7'),
        (('::1', 5, 0, 0), '::1'),
        (('::ffff:10.0.0.1', 5, 0, 0), '10.0.0.1'),
        (('2001:db8:1:2:3:4:5:6', 5, 0, 0), '2001:db8:1:2::/64'),
        (('fe80::1%eth0', 5, 0, 2), 'fe80::/64'),
        (None, ''),
        ('', ''),
        (('@unix',), ''),
    ],
)
def test_an_address_is_a_machine_of_ipv4_or_a_network_of_ipv6(peer, address):
    assert address_of(peer) == address


def test_only_this_machine_is_its_own_screen():
    assert is_own_screen('127.0.0.1')
    assert is_own_screen('::1')
    assert not is_own_screen('127.0.0.2')
    assert not is_own_screen('')


def test_nothing_is_closed_while_there_is_room():
    limits = Limits(sockets=3, connections=3, all_connections=5)

    assert limits.connection_to_close('a', holders('a', 'a', 'b', 'b')) is None
    assert limits.socket_to_close('a', holders('a', 'b'), 100.0) == (True, None)


def test_an_address_with_too_many_connections_loses_its_own_oldest():
    those = holders('b', 'a', 'a', 'a')

    assert Limits(3, connections=3).connection_to_close('a', those) is those[1]
    assert Limits(3, connections=3).connection_to_close('b', those) is None


def test_when_all_connections_are_taken_the_busiest_address_loses_its_oldest():
    those = holders('b', 'a', 'a', 'c')

    assert Limits(3, all_connections=4).connection_to_close('d', those) is those[1]


def test_when_everybody_has_one_connection_our_own_screen_keeps_its_one():
    those = holders('127.0.0.1', 'a', 'b', 'c')

    assert Limits(3, all_connections=4).connection_to_close('d', those) is those[1]


def test_a_socket_that_has_been_quiet_longest_gives_way_first():
    those = [Holder('a', 0.0, 99.0), Holder('b', 1.0, 93.0), Holder('c', 2.0, 92.0)]

    assert Limits(3).socket_to_close('b', those, 100.0) == (True, those[2])
    assert Limits(3).socket_to_close('d', those, 97.5) == (True, those[2])
    assert Limits(3).socket_to_close('d', those, 97.0) == (False, None)


@pytest.mark.parametrize(
    ('held', 'newcomer', 'given_up'),
    [
        ('aaa', 'b', 2),  # the newest of the address that has most
        ('aab', 'c', 1),
        ('aab', 'b', None),  # would only swap
        ('aab', 'a', None),
        ('abc', 'd', None),
    ],
)
def test_sockets_are_shared_between_addresses_until_a_change_is_a_swap(held, newcomer, given_up):
    those = holders(*held)

    fits, other = Limits(3).socket_to_close(newcomer, those, 100.0)

    assert fits == (given_up is not None)
    assert other is (those[given_up] if fits else None)


@pytest.mark.parametrize(('held', 'given_up'), [('a', 0), ('abc', 2), ('aab', 1)])
def test_our_own_screen_gets_a_socket_whoever_has_them(held, given_up):
    those = holders(*held)
    limits = Limits(len(held), is_own_screen=lambda address: address == 'screen')

    assert limits.socket_to_close('screen', those, 100.0) == (True, those[given_up])


def test_our_own_screen_is_not_pushed_out_by_others():
    those = holders('a', 'screen')
    limits = Limits(2, is_own_screen=lambda address: address == 'screen')

    assert limits.socket_to_close('b', those, 100.0) == (False, None)


def test_a_place_for_nobody_is_given_to_nobody():
    assert Limits(0).socket_to_close('127.0.0.1', [], 0.0) == (False, None)
