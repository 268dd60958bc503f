"""A network in memory: TCP connections on a test clock, with faults on request.

`MemoryReactor` is a `twisted.internet.task.Clock` on which servers listen and clients connect as on
a real reactor; every byte goes through protocols on both sides, and nothing happens until the clock
is advanced. What goes wrong on the way is up to `labnet.transports.faults`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import (
    CannotListenError,
    ConnectionAborted,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    TimeoutError,
    UserError,
)
from twisted.internet.interfaces import (
    IConnector,
    IDelayedCall,
    IHalfCloseableProtocol,
    IListeningPort,
    IReactorTCP,
    IReactorTime,
    ITCPTransport,
)
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from labnet.transports.faults import SEND_BUFFER, Direction, Faults, Flow, Way

FIRST_PORT = 40_000
"""Ports from here on are given to who listens at port 0."""


@implementer(ITCPTransport)
class MemoryTransport:
    """One end of a connection in memory, with the manners of Twisted's TCP transport."""

    out: Flow  # to the other end
    into: Flow  # from the other end
    protocol: Any

    def __init__(self, clock: IReactorTime, host: IPv4Address, peer: IPv4Address) -> None:
        self.connected = True
        self.disconnecting = False
        self._aborting = False
        self.producer: Any = None
        self.on_lost: Callable[[Failure], None] = lambda reason: None
        self._clock = clock
        self._host = host
        self._peer = peer
        self._streaming = False
        self._producer_paused = False
        self._read_closed = False
        self._write_closing = False
        self._write_closed = False
        self._options = {"no_delay": False, "keep_alive": False}

    # ITransport

    def write(self, data: bytes) -> None:
        if not self.connected or self._write_closed:
            return
        self.out.send(data)
        if self.out.size > SEND_BUFFER and self._streaming and not self._producer_paused:
            self._producer_paused = True
            self.producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        self.write(b"".join(data))

    def getHost(self) -> IPv4Address:
        return self._host

    def getPeer(self) -> IPv4Address:
        return self._peer

    def loseConnection(self) -> None:
        if self.connected and not self.disconnecting:
            self.disconnecting = True
            self.into.pause(True)
            self._clock.callLater(0, self._close)

    def loseWriteConnection(self) -> None:
        self._write_closing = True
        self._clock.callLater(0, self._close)

    def abortConnection(self) -> None:
        if self.connected and not self._aborting:
            self._aborting = self.disconnecting = True
            self.out.reset(ConnectionLost())
            self.into.stop()
            self._clock.callLater(0, self.lost, ConnectionAborted())

    def setTcpNoDelay(self, enabled: bool) -> None:
        self._options["no_delay"] = bool(enabled)

    def getTcpNoDelay(self) -> bool:
        return self._options["no_delay"]

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self._options["keep_alive"] = bool(enabled)

    def getTcpKeepAlive(self) -> bool:
        return self._options["keep_alive"]

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """As in Twisted: RuntimeError while another is registered."""
        if self.producer is not None:
            raise RuntimeError("a producer is registered already")
        if not self.connected:
            producer.stopProducing()
            return
        self.producer = producer
        self._streaming = streaming
        self._producer_paused = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        self.producer = None
        self._streaming = False
        self._close()

    # IPushProducer

    def pauseProducing(self) -> None:
        self.into.pause(True)

    def resumeProducing(self) -> None:
        if self.connected and not self.disconnecting:
            self.into.pause(False)

    def stopProducing(self) -> None:
        self.loseConnection()

    # What the network calls

    def received(self, data: bytes) -> None:
        """Bytes have come."""
        self.protocol.dataReceived(data)

    def drained(self) -> None:
        """The other end has taken some of what was written."""
        wanted = not self._streaming or self._producer_paused
        if self.out.size == 0 and self.producer is not None and wanted:
            self._producer_paused = False
            self.producer.resumeProducing()
        self._close()

    def ended(self, reason: Exception) -> None:
        """The other end sends nothing more."""
        half = isinstance(reason, ConnectionDone)
        if half and not self._write_closed and IHalfCloseableProtocol.providedBy(self.protocol):
            self._read_closed = True
            self.protocol.readConnectionLost()
            return
        self.out.finish(ConnectionDone())
        self.lost(reason)

    def lost(self, reason: Exception) -> None:
        """The connection is over at this end."""
        if not self.connected:
            return
        self.connected = False
        self.into.stop()
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stopProducing()
        failure = Failure(reason)
        self.protocol.connectionLost(failure)
        self.on_lost(failure)

    def _close(self) -> None:
        """Closes what is to be closed, once what was written is out of the way."""
        if not self.connected or self.producer is not None or self.out.size > SEND_BUFFER:
            return
        if self.disconnecting:
            self.out.finish(ConnectionDone())
            self.lost(ConnectionDone())
        elif self._write_closing and not self._write_closed:
            self._write_closed = True
            self.out.finish(ConnectionDone())
            if IHalfCloseableProtocol.providedBy(self.protocol):
                self.protocol.writeConnectionLost()
            if self._read_closed:
                self.lost(ConnectionDone())


class MemoryConnection:
    """Both ends of a connection, joined."""

    def __init__(
        self, clock: IReactorTime, faults: Faults, server: IPv4Address, client: IPv4Address
    ) -> None:
        self.server = MemoryTransport(clock, server, client)
        self.client = MemoryTransport(clock, client, server)
        self._clock = clock
        self._faults = faults
        self._join(self.client, self.server, faults.to_server)
        self._join(self.server, self.client, faults.to_client)
        faults.links.append(self)

    def _join(self, source: MemoryTransport, target: MemoryTransport, way: Direction) -> None:
        flow = Flow(self._clock, way, target.received, target.ended, source.drained)
        source.out = target.into = flow

    def begin(self, server: Any, client: Any) -> None:
        """Tells both protocols that they are connected."""
        self.server.protocol, self.client.protocol = server, client
        self.server.on_lost = self._server_gone
        server.makeConnection(self.server)
        client.makeConnection(self.client)

    def _server_gone(self, reason: Failure) -> None:
        self._forget()

    def _forget(self) -> None:
        if not self.server.connected and not self.client.connected and self in self._faults.links:
            self._faults.links.remove(self)

    def client_gone(self) -> None:
        """The client's end is over."""
        self._forget()

    def insert(self, data: bytes, way: Way) -> None:
        if way != "to_client":
            self.client.out.insert(data)
        if way != "to_server":
            self.server.out.insert(data)

    def cut(self) -> None:
        for end in (self.server, self.client):
            self._clock.callLater(0, end.lost, ConnectionLost())


@implementer(IListeningPort)
class MemoryPort:
    """Where a server listens in memory; `faults` befall all connections that are made to it."""

    def __init__(self, reactor: MemoryReactor, number: int, factory: Any, interface: str) -> None:
        self.number = number
        self.factory = factory
        self.faults = Faults()
        self._reactor = reactor
        self._interface = interface or "0.0.0.0"

    def startListening(self) -> None:
        """Raises CannotListenError when the port is taken."""
        if self.number in self._reactor.ports:
            taken = OSError(errno.EADDRINUSE, "Address already in use")
            raise CannotListenError(self._interface, self.number, taken)
        self._reactor.ports[self.number] = self
        self.factory.doStart()

    def stopListening(self) -> Deferred[None]:
        if self._reactor.ports.get(self.number) is self:
            del self._reactor.ports[self.number]
            self.factory.doStop()
        return succeed(None)

    def getHost(self) -> IPv4Address:
        return IPv4Address("TCP", self._interface, self.number)


@implementer(IConnector)
class MemoryConnector:
    """A connection on its way."""

    def __init__(
        self, reactor: MemoryReactor, where: IPv4Address, factory: Any, timeout: float
    ) -> None:
        self._reactor = reactor
        self._where = where
        self._factory = factory
        self._timeout = timeout
        self._calls: list[IDelayedCall] = []
        self._connection: MemoryConnection | None = None
        self._direction: Direction | None = None

    def connect(self) -> None:
        """Begins the attempt."""
        self._factory.doStart()
        self._factory.startedConnecting(self)
        port = self._reactor.ports.get(self._where.port)
        delay = 0.0
        if port is not None:
            self._direction = port.faults.to_server
            self._direction.waiting.add(self)
            delay = self._direction.delay
        self._calls = [
            self._reactor.callLater(delay, self.wake),
            self._reactor.callLater(self._timeout, self._failed, TimeoutError()),
        ]

    def wake(self) -> None:
        """The attempt arrives, if nothing holds it up."""
        port = self._reactor.ports.get(self._where.port)
        if port is None or port.faults.refusing:
            self._failed(ConnectionRefusedError())
        elif not port.faults.to_server.hang and not port.faults.to_server.drop:
            self._settle()
            self._connected(port)

    def _connected(self, port: MemoryPort) -> None:
        here = self._reactor.next_address()
        server = port.factory.buildProtocol(here)
        client = self._factory.buildProtocol(self._where)
        if server is None or client is None:
            self._failed(ConnectionRefusedError())
            return
        self._connection = MemoryConnection(self._reactor, port.faults, port.getHost(), here)
        self._connection.client.on_lost = self._lost
        self._connection.begin(server, client)

    def _lost(self, reason: Failure) -> None:
        if self._connection is not None:
            self._connection.client_gone()
        self._factory.clientConnectionLost(self, reason)
        self._factory.doStop()

    def _failed(self, error: Exception) -> None:
        self._settle()
        self._factory.clientConnectionFailed(self, Failure(error))
        self._factory.doStop()

    def _settle(self) -> None:
        if self._direction is not None:
            self._direction.waiting.discard(self)
        for call in self._calls:
            if call.active():
                call.cancel()

    def stopConnecting(self) -> None:
        self._failed(UserError())

    def disconnect(self) -> None:
        if self._connection is None:
            self.stopConnecting()
        else:
            self._connection.client.loseConnection()

    def getDestination(self) -> IPv4Address:
        return self._where


@implementer(IReactorTCP)
class MemoryReactor(Clock):
    """A clock with a TCP network in it, for one test: nothing in it touches a socket.

    Listen at ``tcp:0`` and connect to ``127.0.0.1:<port>`` (any IPv4 address will do), give it as
    the reactor, and `advance` it. Each timer runs at its own time, however far one advances.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ports: dict[int, MemoryPort] = {}
        self._last_port = FIRST_PORT
        self._last_client = 50_000

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> MemoryPort:
        if not port:
            self._last_port += 1
            port = self._last_port
        listening = MemoryPort(self, port, factory, interface)
        listening.startListening()
        return listening

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30.0,
        bindAddress: tuple[str, int] | None = None,
    ) -> MemoryConnector:
        connector = MemoryConnector(self, IPv4Address("TCP", host, port), factory, timeout)
        connector.connect()
        return connector

    def next_address(self) -> IPv4Address:
        """The address of the next client."""
        self._last_client += 1
        return IPv4Address("TCP", "127.0.0.1", self._last_client)

    def advance(self, amount: float) -> None:
        """Time passes, from one timer to the next."""
        end = self.seconds() + amount
        for call in iter(self._next_call, None):
            if call.getTime() > end:
                break
            super().advance(max(0.0, call.getTime() - self.seconds()))
        super().advance(max(0.0, end - self.seconds()))

    def _next_call(self) -> IDelayedCall | None:
        return min(self.getDelayedCalls(), key=lambda call: call.getTime(), default=None)

    def until(self, fired: Callable[[], bool], within: float) -> bool:
        """Time passes until `fired()`, for at most `within` seconds; whether it did."""
        end = self.seconds() + within
        while not fired():
            call = self._next_call()
            if call is None or call.getTime() > end:
                self.advance(max(0.0, end - self.seconds()))
                break
            super().advance(max(0.0, call.getTime() - self.seconds()))
        return fired()
