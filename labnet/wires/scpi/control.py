"""The control connection that belongs to a raw SCPI connection, as Keysight instruments have it.

On the raw socket there is neither device clear nor service request. So the client asks there with
``SYSTem:COMMunicate:TCPip:CONTrol?`` for a port and opens a second connection to it: a line ``DCL``
clears the raw connection and is answered by ``DCL``, and each service request comes as a line
``SRQ +<status byte>``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IAddress, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from labnet.framing.lines import LineSplitter

HEADER = "SYSTem:COMMunicate:TCPip:CONTrol"
"""The query for the port of the control connection."""

MAX_LINE = 256


@implementer(IPushProducer)
class ControlProtocol(Protocol):
    """The control connection: takes ``DCL``, tells ``SRQ``.

    While its client does not read, nothing is read from it either; a client that does not read what
    a service request would add to that loses the connection.
    """

    def __init__(self, port: ControlPort) -> None:
        self._port = port
        self._splitter = LineSplitter(limit=MAX_LINE)
        self._full = False

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.registerProducer(self, True)

    def pauseProducing(self) -> None:
        """The client does not take what it is told."""
        self._full = True
        transport: Any = self.transport
        transport.pauseProducing()

    def resumeProducing(self) -> None:
        """It has taken it."""
        self._full = False
        transport: Any = self.transport
        transport.resumeProducing()

    def stopProducing(self) -> None:
        """The transport is closed."""

    def dataReceived(self, data: bytes) -> None:
        for line in self._splitter.feed(data):
            if isinstance(line, bytes) and line.strip().upper() == b"DCL":
                self._port.clear()
                self._say(b"DCL\n")

    def service_requested(self, status_byte: int) -> None:
        """Tells the client that the instrument wants its attention."""
        if self._full:
            self.end()
            return
        self._say(b"SRQ +%d\n" % status_byte)

    def _say(self, line: bytes) -> None:
        assert self.transport is not None
        self.transport.write(line)

    def end(self) -> None:
        """Closes the connection; a client that does not read is not waited for."""
        transport: Any = self.transport
        transport.unregisterProducer()
        if self._full:
            transport.abortConnection()
        else:
            transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._port.lost(self)


class ControlPort:
    """Listens for the one control connection of a raw connection, from the same host only.

    `clear` is what a device clear does.
    """

    def __init__(self, reactor: Any, interface: str, host: str, clear: Callable[[], None]) -> None:
        self.clear = clear
        self._host = host
        self._control: ControlProtocol | None = None
        factory = _ControlFactory(self)
        self._listening = reactor.listenTCP(0, factory, backlog=1, interface=interface)

    @property
    def number(self) -> int:
        """The port to connect to."""
        return int(self._listening.getHost().port)

    def accept(self, host: str | None) -> ControlProtocol | None:
        """The protocol for a connection from `host`; None if there is one already."""
        if self._control is not None or host != self._host:
            return None
        self._control = ControlProtocol(self)
        return self._control

    def lost(self, control: ControlProtocol) -> None:
        """The control connection has ended; the client may open another one."""
        if control is self._control:
            self._control = None

    def service_requested(self, status_byte: int) -> None:
        """A reason for service has come up."""
        if self._control is not None:
            self._control.service_requested(status_byte)

    def close(self) -> None:
        """The raw connection has ended, and the control connection with it."""
        self._listening.stopListening()
        if self._control is not None and self._control.transport is not None:
            self._control.end()


class _ControlFactory(Factory):
    noisy = False

    def __init__(self, port: ControlPort) -> None:
        self._port = port

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return self._port.accept(getattr(addr, "host", None))
