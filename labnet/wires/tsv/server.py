"""The server side of the TSV line protocol: many clients at once, one reply for each request.

It answers as the sm_bluesky instrument servers do, and does what they cannot: it serves all clients
at the same time, in order on each connection; a slow command holds up its own connection only; what
a client that has gone had waiting is forgotten; each request gets exactly one reply.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol, ITransport
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from labnet.errors import NotAllowed, UnknownName
from labnet.framing.lines import TOO_LONG, Line, LineSplitter
from labnet.lab import Host, ServeOptions
from labnet.logs import WireLog
from labnet.registry import Node
from labnet.session import Session
from labnet.transports.prompt import MESSAGES_A_TURN, Pace, close_now, read_now, write_now
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


@implementer(IHalfCloseableProtocol)
class TsvProtocol(Protocol):
    """One client's connection; most live for one line, so what costs is put off until needed."""

    _pace: Pace | None = None
    _session: Session | None = None
    _seen = False  # something has been received before
    _busy = False  # a request waits for its answer
    _ending = False  # nothing more will be received
    _closed = False

    def __init__(self, factory: TsvFactory, peer: IAddress | None) -> None:
        self.factory: TsvFactory = factory
        self._peer = peer
        self._splitter = LineSplitter(limit=factory.options.max_line)
        self._lines: deque[Line] = deque()
        self._replies: list[bytes] = []
        self._borrowed: set[_Borrowed] = set()

    # What arrives

    def connectionMade(self) -> None:
        if self.transport is not None:
            read_now(self.transport)

    def dataReceived(self, data: bytes) -> None:
        self._lines += self._splitter.feed(data)
        if not self._seen:
            self._seen = True
            if not self._handle(MESSAGES_A_TURN):
                return  # the only request of most connections
        self._paced().received(len(data))

    def _paced(self) -> Pace:
        pace = self._pace
        if pace is None:
            transport: ITransport | None = self.transport
            assert transport is not None
            pace = self._pace = Pace(transport, self._handle, self.factory.host.reactor)
        return pace

    def _handle(self, budget: int) -> bool:
        """Carries out at most `budget` lines; whether some are left that need not wait."""
        lines, replies = self._lines, self._replies
        remembered = self.factory.table.remembered
        while lines and budget and not self._busy:
            budget -= 1
            line = lines.popleft()
            action = remembered(line)
            if action is None:
                if line is TOO_LONG:
                    self._too_long()
                    return False
                assert isinstance(line, bytes)
                action = self.factory.table.action(line)
                if action is None:
                    continue
            answer = action(self)
            if answer.__class__ is bytes:
                replies.append(answer)
            elif isinstance(answer, Deferred):
                self._await(answer)
            else:
                self._finish()
                return False
        if replies:
            self._flush()
        if self._ending and not lines and not self._busy:
            self._finish()
        return bool(lines) and not self._busy

    def _await(self, answer: Deferred[bytes]) -> None:
        self._busy = True
        self._paced().hold()
        answer.addCallback(self._answered)

    def _answered(self, reply: bytes) -> None:
        self._busy = False
        if self._closed:
            return
        self._replies.append(reply)
        self._paced().release()  # carries out what waited, and sends this reply with the others
        if self._replies:
            self._flush()
        if self._ending and not self._lines and not self._busy:
            self._finish()

    def _flush(self) -> None:
        replies = self._replies
        data = b"".join(replies) if len(replies) > 1 else replies[0]
        replies.clear()
        if self.factory.log.debug_on:
            self.factory.log.sent(self.peer, data)
        if self._pace is not None:
            self._pace.write(data)
        elif self.transport is not None:
            write_now(self.transport, data)

    def _too_long(self) -> None:
        limit = self.factory.options.max_line
        self.factory.log.refused(self.peer, f"a line longer than {limit} bytes")
        self._replies.append(codec.LINE_TOO_LONG)
        self._finish()

    # The client, as actions see it

    @property
    def peer(self) -> str:
        """Where the client is, ``host:port``."""
        host = getattr(self._peer, "host", None)
        return f"{host}:{self._peer.port}" if host else "local"  # type: ignore[union-attr]

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

    # The end

    def readConnectionLost(self) -> None:
        """The client sends nothing more but may still read: answer what it has asked."""
        self._ending = True
        if not self._lines and not self._busy:
            self._finish()

    def writeConnectionLost(self) -> None:
        """We never half-close."""

    def _finish(self) -> None:
        """Sends what is ready and closes; nothing more is carried out."""
        if self._closed:
            return
        self._lines.clear()
        if self._replies:
            self._flush()
        self._closed = True
        if self._pace is not None:
            self._pace.close()
        elif self.transport is not None:
            if self._ending:
                close_now(self.transport)
            else:
                self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed = True
        self._lines.clear()
        if self._pace is not None:
            self._pace.stop()
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
        if self.log.debug_on or host not in self._hosts:
            if len(self._hosts) < 1000:
                self._hosts.add(host)
            self.log.connected(protocol.peer)
        return protocol

    def open_session(self, peer: str) -> Session:
        """A session of this listener; raises `UnknownName` when its device has gone."""
        common = self.common
        return self.host.open_session("tsv", peer, device=common.device, timeout=common.timeout)

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
            Deferred.fromCoroutine(self.listener.stop())

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
    )
    factory.listener = listener
    where = listener.port.getHost()
    port = getattr(where, "port", 7891)
    listener.example = f"sm-bluesky send ping --host {_reachable(where)} --port {port}"
    return listener


def _reachable(where: Any) -> str:
    host = getattr(where, "host", "127.0.0.1")
    return "127.0.0.1" if host in ("0.0.0.0", "::", "") else str(host)
