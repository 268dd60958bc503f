"""An endpoint whose server is the test."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IProtocol, IProtocolFactory, IStreamClientEndpoint
from twisted.internet.testing import StringTransportWithDisconnection
from zope.interface import implementer


@implementer(IStreamClientEndpoint)
class ScriptedEndpoint:
    """Connects at once to transports that the test reads and writes."""

    def __init__(self) -> None:
        self.protocols: list[Any] = []
        self.refusing = 0
        self.hanging = False

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        if self.hanging:
            return Deferred()
        if self.refusing:
            self.refusing -= 1
            return fail(ConnectionRefusedError("no"))
        protocol: Any = factory.buildProtocol(None)  # type: ignore[arg-type]
        transport = StringTransportWithDisconnection()
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.protocols.append(protocol)
        return succeed(protocol)

    @property
    def sent(self) -> bytes:
        """What the client has sent on its newest connection."""
        return bytes(self.protocols[-1].transport.value())

    @property
    def connected(self) -> bool:
        return bool(self.protocols[-1].transport.connected)

    def answer(self, data: bytes) -> None:
        self.protocols[-1].dataReceived(data)

    def hang_up(self) -> None:
        self.protocols[-1].transport.loseConnection()
