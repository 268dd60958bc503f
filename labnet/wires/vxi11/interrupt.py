"""The server's end of the interrupt channel: a connection to the client for service requests.

Each request is a call without an answer. What the client sends back is thrown away: some answer.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from labnet.framing.xdr import encode_opaque
from labnet.transports.prompt import write_now
from labnet.wires.vxi11.codec import VERSION, Channel, Procedure, Program
from labnet.wires.vxi11.rpc import encode_call

CONNECT_TIMEOUT = 3.0
"""Seconds that the client may take to accept the connection."""


@implementer(IPushProducer)
class InterruptChannel(Protocol):
    """One interrupt channel; `alive` until it is closed from either side."""

    transport: Any

    def __init__(self) -> None:
        self.alive = False
        self._full = False
        self._xid = 0

    def connectionMade(self) -> None:
        self.alive = True
        self.transport.setTcpNoDelay(True)
        self.transport.setTcpKeepAlive(True)
        self.transport.registerProducer(self, True)

    def request_service(self, handle: bytes) -> None:
        """Tells the client; a request more is dropped while it does not read those before."""
        if self.alive and not self._full:
            self._xid = self._xid + 1 & 0xFFFFFFFF
            procedure = Procedure.DEVICE_INTR_SRQ
            call = encode_call(
                self._xid, Program.INTERRUPT, VERSION, procedure, encode_opaque(handle)
            )
            write_now(self.transport, call)

    def dataReceived(self, data: bytes) -> None:
        """Nothing is expected."""

    def close(self) -> None:
        """The core connection has ended, or the client wants no channel any more."""
        if self.alive:
            self.alive = False
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.alive = False

    # IPushProducer

    def pauseProducing(self) -> None:
        self._full = True

    def resumeProducing(self) -> None:
        self._full = False

    def stopProducing(self) -> None:
        self.alive = False


class _Factory(Factory):
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> InterruptChannel:
        return InterruptChannel()


def connect_channel(where: Channel, reactor: Any) -> Deferred[InterruptChannel]:
    """Connects to the client; fails with what Twisted fails with."""
    endpoint = TCP4ClientEndpoint(reactor, where.address, where.port, CONNECT_TIMEOUT)
    connected: Any = endpoint.connect(_Factory())
    return connected  # type: ignore[no-any-return]
