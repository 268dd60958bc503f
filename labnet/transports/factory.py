"""The factory of a listener, which knows when to say that a client has connected."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from labnet.logs import WireLog
from labnet.transports.ordered import OrderedProtocol, first_time


class WireFactory(Factory):
    """What the connections of one listener share; `log` is the wire's.

    Each host is shown in the log once: most clients of some wires connect for each request.
    """

    noisy = False

    def __init__(self, wire: str) -> None:
        self.log = WireLog(wire)
        self._hosts: set[Any] = set()

    def connection(self, peer: IAddress | None) -> OrderedProtocol[Any]:
        """The protocol of a new connection."""
        raise NotImplementedError

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self.connection(addr)
        if self.log.debug_on or first_time(self._hosts, getattr(addr, "host", None)):
            self.log.connected(protocol.peer)
        return protocol
