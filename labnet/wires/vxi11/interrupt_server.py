"""The client's end of the interrupt channel: it listens, and the instrument connects.

What arrives are calls without an answer (VXI-11 section B.6.14). They are not answered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from labnet.framing.xdr import Record, RecordSplitter, XdrError
from labnet.transports.listening import CannotListen, why_not
from labnet.wires.vxi11 import codec
from labnet.wires.vxi11.codec import Procedure, Program
from labnet.wires.vxi11.rpc import Call, read_call

_REQUEST = (Program.INTERRUPT, Procedure.DEVICE_INTR_SRQ)


class _Interrupts(Protocol):
    def __init__(self, serviced: Callable[[bytes], None]) -> None:
        self._splitter = RecordSplitter(codec.OVERHEAD)
        self._serviced = serviced

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        for record in self._splitter.feed(data):
            self._received(record)
        if self._splitter.fault:
            self.transport.loseConnection()

    def _received(self, record: Record) -> None:
        try:
            call = read_call(record)
            if isinstance(call, Call) and (call.program, call.procedure) == _REQUEST:
                self._serviced(call.arguments().opaque(codec.MAX_HANDLE))
        except XdrError:
            pass  # nobody to tell


class InterruptServer(Factory):
    """Listens at `interface` for one instrument, which is at the address `peer`.

    `serviced` is called with the handle of each service request.
    """

    noisy = False

    def __init__(
        self, interface: str, peer: str, serviced: Callable[[bytes], None], reactor: Any
    ) -> None:
        self._peer = peer
        self._serviced = serviced
        self._protocols: list[_Interrupts] = []
        try:
            self._port = reactor.listenTCP(0, self, backlog=1, interface=interface)
        except CannotListenError as error:
            why = why_not(getattr(error.socketError, "errno", None))
            raise CannotListen(f"tcp:0:interface={interface}", why) from None

    @property
    def port(self) -> int:
        """The port to which the instrument is to connect."""
        return int(self._port.getHost().port)

    def buildProtocol(self, addr: IAddress | None) -> Any:
        """Only the instrument itself, and only once."""
        if self._protocols or getattr(addr, "host", self._peer) != self._peer:
            return None
        protocol = _Interrupts(self._serviced)
        self._protocols.append(protocol)
        return protocol

    def close(self) -> Any:
        """Stops listening and ends the connection."""
        for protocol in self._protocols:
            if protocol.transport is not None:
                protocol.transport.loseConnection()
        return self._port.stopListening()
