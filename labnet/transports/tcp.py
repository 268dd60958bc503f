"""Stream listeners: from an endpoint string to an open port, and back to nothing.

Everything a wire's `listen` needs besides its factory: the addresses, who may connect, the socket
options of each connection, and an end that waits for the last one.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Any, Protocol, cast

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    ILoggingContext,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
    ITransport,
)
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from labnet.endpoints import complete_address
from labnet.transports.admission import Admission, Network
from labnet.transports.listening import CannotListen, why_not

DRAIN = 5.0
"""Seconds that a closing listener gives its connections to answer what is under way."""

KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds of silence, seconds between probes, probes: a vanished host is found in a minute."""


async def listen_tcp(
    factory: IProtocolFactory,
    endpoint: str,
    *,
    reactor: Any,
    allow: Sequence[Network] = (),
    max_connections: int = 0,
    drain: float = DRAIN,
    clock: IReactorTime | None = None,
) -> TcpListener:
    """Open the port that `endpoint` (a Twisted server endpoint string) names.

    A TCP or TLS endpoint without `interface=` means the loopback address, and the backlog is 128.
    Connections from outside `allow`, or beyond `max_connections` (0: no limit), are closed at once.
    `CannotListen` says in one line why a port could not be opened.
    """
    gate = _Gate(factory, Admission(endpoint, allow, max_connections))
    try:
        where = serverFromString(reactor, complete_address(endpoint))
        port = await where.listen(cast(IProtocolFactory, gate))
    except CannotListenError as error:
        raise CannotListen(endpoint, why_not(getattr(error.socketError, "errno", None)))
    except OSError as error:
        raise CannotListen(endpoint, error.strerror or str(error))
    except (ValueError, TypeError, KeyError):
        raise CannotListen(endpoint, "it is no endpoint such as tcp:7891")
    _set_keepalive_times(port)
    gate.admission.where = _address_of(endpoint, port)
    return TcpListener(gate, port, gate.admission.where, drain, clock or reactor)


class Terms(Protocol):
    """Who may connect, and how long a listener that stops waits for its connections."""

    @property
    def allow(self) -> Sequence[Network]: ...

    @property
    def max_connections(self) -> int: ...

    @property
    def drain(self) -> float: ...


async def serve_tcp(
    factory: IProtocolFactory, endpoint: str, terms: Terms, reactor: Any
) -> TcpListener:
    """`listen_tcp` under the terms of a section."""
    return await listen_tcp(
        factory,
        endpoint,
        reactor=reactor,
        allow=terms.allow,
        max_connections=terms.max_connections,
        drain=terms.drain,
    )


class TcpListener:
    """An open port and its connections.

    `address` is what was really bound, in the words of the configuration; `example` one line that a
    user can paste to try it, which the wire sets.
    """

    def __init__(
        self, gate: _Gate, port: IListeningPort, address: str, drain: float, clock: IReactorTime
    ) -> None:
        self.port = port
        self.address = address
        self.example = address
        self._gate = gate
        self._drain = drain
        self._clock = clock

    @property
    def host(self) -> str:
        """The address that was bound."""
        return str(getattr(self.port.getHost(), "host", "127.0.0.1"))

    @property
    def number(self) -> int:
        """The number of the port, 0 where it has none."""
        return int(getattr(self.port.getHost(), "port", 0))

    @property
    def reachable(self) -> str:
        """An address at which this machine reaches it."""
        return "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._gate.live)

    async def stop(self) -> None:
        """Close the port; return when the last connection has ended, at most `drain` s later.

        Protocols with a method `wind_up` are told to answer what is under way and to close; the
        others are closed once what is written has been sent.
        """
        await maybeDeferred(self.port.stopListening)
        if not self._gate.live:
            return
        gone = self._gate.when_empty()
        for connection in list(self._gate.live):
            connection.close()
        patience = self._clock.callLater(self._drain, self._gate.abort_all)
        try:
            await gone
        except CancelledError:
            self._gate.abort_all()
            raise
        finally:
            if patience.active():
                patience.cancel()


@implementer(ILoggingContext)
class _Gate:
    """The factory that the port sees: lets connections in and knows those that are open."""

    noisy = False

    def __init__(self, factory: IProtocolFactory, admission: Admission) -> None:
        self._factory = factory
        self.admission = admission
        self.live: set[_Connection] = set()
        self._waiting: list[Deferred[None]] = []
        self.doStart = factory.doStart
        self.doStop = factory.doStop

    def buildProtocol(self, addr: IAddress) -> Any:
        """A protocol in all cases: under TLS there is no other way to say no."""
        if self.admission.admits(getattr(addr, "host", None), len(self.live)):
            protocol = self._factory.buildProtocol(addr)
            if protocol is not None:
                return _Connection(self, protocol)
        return _Refused()

    def logPrefix(self) -> str:
        """As the wire's factory would be called in the log."""
        return type(self._factory).__name__

    def when_empty(self) -> Deferred[None]:
        """Fires when the last connection has ended."""
        empty: Deferred[None] = Deferred()
        self._waiting.append(empty)
        return empty

    def ended(self, connection: _Connection) -> None:
        """`connection` has been lost."""
        self.live.discard(connection)
        if not self.live:
            waiting, self._waiting = self._waiting, []
            for empty in waiting:
                empty.callback(None)

    def abort_all(self) -> None:
        """Drop the connections that did not end by themselves."""
        for connection in list(self.live):
            connection.transport.abortConnection()


class _Connection:
    """Stands between a transport and its protocol at the beginning and the end, not between."""

    transport: Any

    def __init__(self, gate: _Gate, protocol: IProtocol) -> None:
        self._gate = gate
        self._protocol = protocol
        self.dataReceived = protocol.dataReceived
        directlyProvides(self, providedBy(protocol))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    def makeConnection(self, transport: ITransport) -> None:
        self.transport = transport
        self._gate.live.add(self)
        _set_options(transport)
        self._protocol.makeConnection(transport)

    def connectionLost(self, reason: Failure) -> None:
        try:
            self._protocol.connectionLost(reason)
        finally:
            self._gate.ended(self)

    def close(self) -> None:
        """Close after what is under way or written; a registered producer must not put that off."""
        wind_up = getattr(self._protocol, "wind_up", None)
        if wind_up is not None:
            wind_up()
            return
        try:
            self.transport.unregisterProducer()
        except RuntimeError:
            pass  # some transports mind when there is none
        self.transport.loseConnection()


class _Refused:
    """A connection that ends when it begins."""

    def makeConnection(self, transport: Any) -> None:
        transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Too late to matter."""

    def connectionLost(self, reason: Failure) -> None:
        """As intended."""


def _set_options(transport: Any) -> None:
    for name in ("setTcpNoDelay", "setTcpKeepAlive"):
        set_option = getattr(transport, name, None)  # a Unix socket has none
        if set_option is not None:
            set_option(True)


def _set_keepalive_times(port: Any) -> None:
    """On the listening socket: Linux and the BSDs hand them on to what it accepts."""
    listening = getattr(port, "socket", None)
    if listening is None or listening.family not in (socket.AF_INET, socket.AF_INET6):
        return
    for name, value in KEEPALIVE.items():
        option = getattr(socket, name, None)
        if option is not None:
            listening.setsockopt(socket.IPPROTO_TCP, option, value)


def _address_of(endpoint: str, port: IListeningPort) -> str:
    """The endpoint as a user would write it, with the port number and interface really bound."""
    kind = endpoint.partition(":")[0]
    host = port.getHost()
    number, interface = getattr(host, "port", None), getattr(host, "host", "")
    if kind not in ("tcp", "tcp4", "tcp6", "ssl") or number is None:
        return endpoint
    escaped = interface.replace(":", "\\:")
    return f"{kind}:{number}:interface={escaped}"
