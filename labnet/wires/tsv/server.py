"""The server side of the TSV line protocol: many clients at once, one reply for each request.

It answers as the sm_bluesky instrument servers do, and does what they cannot: it serves all clients
at the same time, in order on each connection; a slow command holds up its own connection only; what
a client that has gone had waiting is forgotten; each request gets exactly one reply.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory

from labnet.errors import NotAllowed, UnknownName
from labnet.framing.lines import Line, LineSplitter
from labnet.lab import Host, ServeOptions
from labnet.logs import WireLog
from labnet.registry import Node
from labnet.session import Session
from labnet.transports.ordered import OrderedProtocol, first_time
from labnet.transports.tcp import TcpListener, listen_tcp
from labnet.wires.tsv import codec
from labnet.wires.tsv.actions import Client
from labnet.wires.tsv.table import CommandTable


@dataclass(frozen=True)
class Options:
    """The keys of a ``[serve NAME]`` section with ``wire = tsv`` beyond the common ones."""

    max_line: int = field(
        default=1 << 20,
        metadata={
            "help": "longest request line; a longer one is answered once and closes the connection",
            "unit": "bytes",
            "limits": (64, 1 << 30),
        },
    )


class TsvProtocol(OrderedProtocol[Line]):
    """One client's connection, and the client as actions see it."""

    _session: Session | None = None

    def __init__(self, factory: TsvFactory, peer: IAddress | None) -> None:
        super().__init__(factory.host.reactor, peer)
        self.factory: TsvFactory = factory
        self.split = LineSplitter(limit=factory.options.max_line).feed  # type: ignore[method-assign]
        self._borrowed: set[_Borrowed] = set()

    def begin(self, message: Line) -> bytes | Deferred[bytes]:
        """The reply to a line; empty for a line that asks for nothing."""
        if self.factory.log.debug_on and isinstance(message, bytes):
            self.factory.log.received(self.peer, message)
        table = self.factory.table
        action = table.remembered(message)
        if action is None:
            if not isinstance(message, bytes):
                return self._too_long()
            action = table.action(message)
            if action is None:
                return b""
        answer = action(self)
        if answer is None:
            self.finish()
            return b""
        return answer

    def _too_long(self) -> bytes:
        limit = self.factory.options.max_line
        self.factory.log.refused(self.peer, f"a line longer than {limit} bytes")
        self.finish()
        return codec.LINE_TOO_LONG

    def sent(self, data: bytes) -> None:
        log = self.factory.log
        if log.debug_on:
            log.sent(self.peer, data)

    @property
    def session(self) -> Session:
        """The client's presence in the lab, opened when first asked for."""
        session = self._session
        if session is None:
            session = self._session = self.factory.open_session(self.peer)
        return session

    def borrow(self, token: str) -> Client:
        """A client that acts as the owner of `token` until `done`; raises `NotAllowed`."""
        session = self.factory.open_session(self.peer)
        session.show_token(token)
        borrowed = _Borrowed(self, session)
        self._borrowed.add(borrowed)
        return borrowed

    def done(self) -> None:
        """Of borrowed clients only."""

    def shut_down(self) -> None:
        """Ends the server as far as its policy goes; raises `NotAllowed`."""
        self.factory.shut_down(self.peer)

    def ended(self) -> None:
        for borrowed in list(self._borrowed):
            borrowed.done()
        if self._session is not None:
            self._session.close("the connection has ended", keep_leased=True)
        if self.factory.log.debug_on:
            self.factory.log.disconnected(self.peer)


class _Borrowed:
    """A client that acts as the owner of a token for one request."""

    def __init__(self, client: TsvProtocol, session: Session) -> None:
        self._client = client
        self.session = session

    def borrow(self, token: str) -> Client:
        raise NotAllowed("a request shows one token")

    def done(self) -> None:
        self._client._borrowed.discard(self)
        self.session.close("the request is done", keep_leased=True)

    def shut_down(self) -> None:
        self._client.shut_down()


class TsvFactory(Factory):
    """What the connections of one listener share."""

    noisy = False

    def __init__(self, host: Host, common: ServeOptions, options: Options) -> None:
        self.host = host
        self.common = common
        self.options = options
        self.log = WireLog("tsv")
        self.table = CommandTable(self._find, common.device, common.devices)
        self.listener: TcpListener | None = None
        self._hosts: set[str | None] = set()
        self._unwatch = host.watch(self._changed, self._changed)

    def _find(self, path: str) -> Node:
        first, *rest = path.split(".")
        device = self.host.devices().get(first)
        if device is None:
            raise UnknownName(first, self.host.devices(), "device")
        return device.find(rest)

    def _changed(self, device: Node) -> None:
        self.table.forget()

    def buildProtocol(self, addr: IAddress | None) -> Any:
        host = getattr(addr, "host", None)
        protocol = TsvProtocol(self, addr)
        if self.log.debug_on or first_time(self._hosts, host):
            self.log.connected(protocol.peer)
        return protocol

    def open_session(self, peer: str) -> Session:
        """A session of this listener; raises `UnknownName` when its device has gone."""
        common = self.common
        return self.host.open_session(
            "tsv", peer, device=common.device, reach=common.reach, timeout=common.timeout
        )

    def shut_down(self, peer: str) -> None:
        """Ends the listener or the lab, as configured; raises `NotAllowed`."""
        policy = self.common.allow_shutdown
        if policy == "no":
            raise NotAllowed(
                "shutdown is not allowed here; allow_shutdown = listener or lab in the"
                " configuration of this listener would allow it"
            )
        reason = f"shutdown from {peer} over tsv"
        if policy == "lab":
            self.host.shut_down(reason)
        elif self.listener is not None:
            self.log.logger.info("{name} ends: {reason}", name=self.common.name, reason=reason)
            stopped = Deferred.fromCoroutine(self.listener.stop())
            stopped.addErrback(lambda failure: self.log.logger.failure("it did not end", failure))

    def stopFactory(self) -> None:
        self._unwatch()


async def listen(
    host: Host, address: str, common: ServeOptions, options: Options, reactor: Any
) -> TcpListener:
    """Serves at `address`, a Twisted endpoint; `CannotListen` if that cannot be opened."""
    factory = TsvFactory(host, common, options)
    listener = await listen_tcp(
        factory,
        address,
        reactor=reactor,
        allow=common.allow,
        max_connections=common.max_connections,
        drain=common.drain,
    )
    factory.listener = listener
    where = listener.port.getHost()
    port = getattr(where, "port", 7891)
    listener.example = f"sm-bluesky send ping --host {_reachable(where)} --port {port}"
    return listener


def _reachable(where: Any) -> str:
    host = getattr(where, "host", "127.0.0.1")
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else str(host)
