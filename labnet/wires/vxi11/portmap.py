"""A client of port mappers: where is a program, and for servers: this is where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory, Protocol

from labnet.errors import DeviceFault, LabError
from labnet.framing.xdr import XdrError, XdrReader
from labnet.transports.dialing import GIVEN_UP, client_endpoint, not_connected, shown_address
from labnet.transports.turns import limited
from labnet.wires.vxi11.connection import QuirkyConnection, RpcConnection
from labnet.wires.vxi11.rpc import (
    PORTMAPPER,
    PORTMAPPER_PORT,
    PORTMAPPER_VERSION,
    Mapping,
    Port,
    read_mappings,
)

MAX_REPLY = 64 * 1024

T = TypeVar("T")
P = TypeVar("P", bound=Protocol)


class _Factory(Factory):
    noisy = False

    def __init__(self, build: Callable[[], Protocol]) -> None:
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return self._build()


async def dial(
    host: str, port: int, build: Callable[[], P], timeout: float, reactor: Any
) -> P:
    """A connection to a port of a host; `NotConnected` if there is none."""
    address = f"[{host}]" if ":" in host else host
    endpoint = client_endpoint(f"{address}:{port}", port, reactor, timeout)
    try:
        protocol: Any = await endpoint.connect(_Factory(build))
    except GIVEN_UP:
        raise CancelledError from None
    except Exception as error:
        raise not_connected(error, shown_address(address, port))
    return protocol  # type: ignore[no-any-return]


class PortmapClient:
    """The port mapper of one host, over TCP; each call has a connection of its own.

    Methods fail with `NotConnected` where none answers, `TimedOut` after `timeout` seconds,
    `DeviceFault` for an answer that is none.
    """

    def __init__(
        self,
        host: str,
        port: int = PORTMAPPER_PORT,
        *,
        timeout: float = 5.0,
        reactor: Any = None,
    ) -> None:
        if reactor is None:
            from twisted.internet import reactor
        self.where = shown_address(f"[{host}]" if ":" in host else host, port)
        self.timeout = timeout
        self._host = host
        self._port = port
        self._clock = reactor

    def get_port(self, mapping: Mapping) -> Deferred[int]:
        """The port of a program, 0 if it is not known; the port in `mapping` does not matter."""
        return self._call(Port.GETPORT, mapping._replace(port=0), XdrReader.uint)

    def set(self, mapping: Mapping) -> Deferred[bool]:
        """Registers a program; False if that is refused."""
        return self._call(Port.SET, mapping, XdrReader.uint).addCallback(bool)

    def unset(self, mapping: Mapping) -> Deferred[bool]:
        """Takes a program's ports back."""
        return self._call(Port.UNSET, mapping, XdrReader.uint).addCallback(bool)

    def dump(self) -> Deferred[list[Mapping]]:
        """All that is registered."""
        return self._call(Port.DUMP, None, read_mappings)

    def is_open(self, port: int) -> Deferred[bool]:
        """Whether somebody listens at that port of the host."""
        return Deferred.fromCoroutine(self._is_open(port))

    async def _is_open(self, port: int) -> bool:
        try:
            protocol = await dial(
                self._host, port, lambda: RpcConnection("", MAX_REPLY), self.timeout, self._clock
            )
        except LabError:
            return False
        protocol.abort()
        return True

    def _call(
        self, procedure: Port, mapping: Mapping | None, read: Callable[[XdrReader], T]
    ) -> Deferred[T]:
        work = self._work(procedure, b"" if mapping is None else mapping.encode(), read)
        return limited(work, f"asking the port mapper at {self.where}", self.timeout, self._clock)

    async def _work(
        self, procedure: Port, arguments: bytes, read: Callable[[XdrReader], T]
    ) -> T:
        connection = await dial(
            self._host,
            self._port,
            lambda: QuirkyConnection(self.where, MAX_REPLY),
            self.timeout,
            self._clock,
        )
        try:
            results = await connection.call(
                PORTMAPPER, PORTMAPPER_VERSION, procedure, arguments
            )
            return read(results)
        except XdrError as error:
            raise DeviceFault(f"{self.where}: {error}") from None
        finally:
            connection.close()
