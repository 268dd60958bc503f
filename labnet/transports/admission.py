"""Who may connect: so many at a time, and only from the allowed networks."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from labnet.logs import Logger

Network = IPv4Network | IPv6Network

REMEMBERED = 256
"""Refused hosts that are remembered, so that each is logged once."""


class Admission:
    """Says whether one more connection is let in, and logs refusals without flooding the log.

    An empty `allow` lets everybody in. A peer without an IP address (a Unix socket) is let in: the
    socket's file says who may.
    """

    _log = Logger()

    def __init__(self, where: str, allow: Sequence[Network] = (), max_connections: int = 0) -> None:
        self.where = where
        self.allow = tuple(allow)
        self.max_connections = max_connections
        self._refused: set[str] = set()
        self._full = False

    def admits(self, host: str | None, others: int) -> bool:
        """May `host` connect, when `others` connections are open?"""
        return self.allows(host) and self.has_room(others)

    def allows(self, host: str | None) -> bool:
        """Is `host` in one of the allowed networks?"""
        if not self.allow or host is None or _within(host, self.allow):
            return True
        if host not in self._refused and len(self._refused) < REMEMBERED:
            self._refused.add(host)
            self._log.warn(
                "{where}: {host} is in none of the allowed networks; refused",
                where=self.where,
                host=host,
            )
        return False

    def has_room(self, others: int) -> bool:
        """Is there room beside `others`? (A `max_connections` of 0 is no limit.)"""
        full = 0 < self.max_connections <= others
        if full and not self._full:
            self._log.warn(
                "{where}: {count} connections are open (max_connections); further ones are refused",
                where=self.where,
                count=others,
            )
        self._full = full
        return not full


def _within(host: str, networks: Sequence[Network]) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)
