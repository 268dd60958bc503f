"""A PyRogue server: the devices of the lab as a tree, on three ports.

Programs written for PyRogue (its ``SimpleClient``, ``VirtualClient``, PyDM) work unchanged. What
labnet adds, no such program notices: requests of one client do not wait for those of another, what
can only be read cannot be written, and the commands under ``Locks`` take the lab's locks.
"""

from __future__ import annotations

import builtins
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet import errors
from labnet.errors import LabError
from labnet.lab import Host, ServeOptions
from labnet.logs import WireLog
from labnet.transports.listening import CannotListen
from labnet.transports.zmq import (
    Parts,
    Peer,
    PubPort,
    RouterPort,
    ZmqFactory,
    ZmqServerProtocol,
)
from labnet.wires.rogue import codec
from labnet.wires.rogue.codec import MAX_REPLY, MAX_REQUEST, BadRequest, NotPlain, RequestCache
from labnet.wires.rogue.pickles.bounds import REQUEST
from labnet.wires.rogue.protocol import RogueProtocol
from labnet.wires.rogue.tree import Tree

# ---- the lab's errors in the peer's words ----------------------------------------------------

Words = tuple[str, str]

VARIABLE_ERROR: Final = "pyrogue._Variable.VariableError"


def _as(kind: str) -> Callable[[Any], Words]:
    """A row: the class ``module.name``, and the lab's own sentence."""
    return lambda error: (kind, str(error))


def _out_of_range(error: errors.OutOfRange) -> Words:
    if error.choices:
        return VARIABLE_ERROR, str(error)
    low, high = error.low, error.high
    if isinstance(error.value, float):
        low, high = low if low is None else float(low), high if high is None else float(high)
    value = errors.quote(error.value)
    text = f"Value range error for {error.what}. Value={value}, Min={low}, Max={high}"
    return VARIABLE_ERROR, text


def _fault(error: errors.DeviceFault) -> Words:
    known = isinstance(getattr(builtins, error.kind, None), type)
    text = str(error)
    # PyRogue gives the text of a KeyError as Python does, in quotes.
    return f"{'builtins' if known else 'labnet'}.{error.kind}", (
        repr(text) if error.kind == "KeyError" else text
    )


ERRORS: Final[Mapping[type[Exception], Callable[[Any], Words]]] = {
    BadRequest: lambda error: (error.kind, str(error)),
    NotPlain: _as("builtins.TypeError"),
    errors.UnknownName: _as("builtins.KeyError"),
    errors.NotReadable: _as(VARIABLE_ERROR),
    errors.NotWritable: _as(VARIABLE_ERROR),
    errors.WrongType: _as(VARIABLE_ERROR),
    errors.OutOfRange: _out_of_range,
    errors.BadArguments: _as("builtins.TypeError"),
    errors.Locked: _as("labnet.Locked"),
    errors.TimedOut: _as("builtins.TimeoutError"),
    errors.Cancelled: _as("labnet.Cancelled"),
    errors.DeviceFault: _fault,
    errors.NotConnected: _as("builtins.ConnectionError"),
    errors.NotAllowed: _as("builtins.PermissionError"),
    errors.TooLarge: _as("builtins.ValueError"),
    LabError: _as("labnet.LabError"),
    CancelledError: lambda error: ("labnet.Cancelled", "the request was cancelled"),
}


def explain(error: Exception) -> Words | None:
    """The class and the text of an error reply; None for what nobody foresaw."""
    row = next((ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS), None)
    return None if row is None else row(error)


# ---- the listener ----------------------------------------------------------------------------

FIRST_BASE: Final = 9099
STEP: Final = 4
TRIES: Final = 25
BEAT: Final = 1.0
"""Seconds between two updates of ``Time``, by which clients see that the server lives."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_PORT: Final = re.compile(r"(tcp://.*):(\d+|\*)\Z")


@dataclass(frozen=True)
class Options:
    """The keys of a section with ``wire = rogue``."""

    root: str = field(
        default="lab", metadata={"help": "name of the root, with which all paths begin"}
    )
    inc_groups: tuple[str, ...] = field(
        default=(),
        metadata={"help": "only variables in one of these groups are published; empty: all"},
    )
    exc_groups: tuple[str, ...] = field(
        default=("NoServe",),
        metadata={"help": "variables in one of these groups are not published"},
    )
    strict_types: bool = field(
        default=True,
        metadata={"help": "whether an int is refused for a float, as PyRogue's servers do"},
    )
    max_request: int = field(
        default=MAX_REQUEST,
        metadata={"help": "longest request", "unit": "bytes", "limits": (1024, 1 << 30)},
    )
    max_reply: int = field(
        default=MAX_REPLY,
        metadata={"help": "longest reply", "unit": "bytes", "limits": (1024, 1 << 30)},
    )
    max_queued: int = field(
        default=1000,
        metadata={
            "help": "updates that wait for a slow subscriber; it misses those beyond",
            "limits": (1, 1_000_000),
        },
    )


class RequestPort(ZmqServerProtocol):
    """One of the two ports for requests: pickles, or JSON and text."""

    def __init__(self, server: RogueServer, text: bool) -> None:
        self._server = server
        options = server.tree.options
        bounds = replace(REQUEST, size=options.max_request)
        parse = codec.parse_text if text else lambda body: codec.parse_binary(body, bounds)
        self._requests = RequestCache(parse, options.max_request)
        self._encode = codec.text_reply if text else codec.binary_reply
        self._error = codec.text_error if text else codec.binary_error
        self._max_reply = options.max_reply
        self.max_request = options.max_request
        self._find = server.tree.find
        self._ready = server.tree.ready[text]
        self._publisher = server.tree.publisher
        self._wire_log = server.wire_log
        self.clients: set[RogueProtocol] = set()
        self.send: Callable[[Peer, list[bytes]], object] = lambda peer, parts: None

    def makeConnection(self, port: RouterPort) -> None:
        """The port is open."""
        super().makeConnection(port)
        self.send = self._send_shown if self._wire_log.debug_on else port.reply

    def _send_shown(self, peer: Peer, parts: list[bytes]) -> bool:
        self._wire_log.sent(peer.address, parts[-1])
        return self.port.reply(peer, parts)

    # Messages

    def messageReceived(self, peer: Peer, parts: Parts) -> None:
        """A client has sent a message; its reply goes out before the updates that it causes."""
        client = peer.data
        if client is None:
            client = self._arrived(peer)
        if self._wire_log.debug_on:
            self._wire_log.received(peer.address, parts[-1])
        publisher = self._publisher
        publisher.holding = True
        try:
            client.received(parts)
        finally:
            publisher.holding = False
            if publisher.parts:
                publisher.flush()

    def _arrived(self, peer: Peer) -> RogueProtocol:
        session = self._server.open_session(peer.address)
        client = peer.data = RogueProtocol(self, peer, session)
        self.clients.add(client)
        self._wire_log.connected(peer.address)
        return client

    def messageFailed(self, peer: Peer, parts: Parts, failure: Failure) -> None:
        """A message of too many parts, or one at which the server failed: its client is told."""
        assert isinstance(failure.value, Exception)
        empty = parts.index(b"") + 1 if b"" in parts[:3] else 0
        self.send(peer, [*parts[:empty], self.refusal(failure.value)])

    def peerLost(self, peer: Peer) -> None:
        """A client's connection has ended."""
        client, peer.data = peer.data, None
        if client is not None:
            self.clients.discard(client)
            client.close("the connection was lost")
            self._wire_log.disconnected(peer.address)
            self._server.answered()

    def connectionLost(self, reason: Failure) -> None:
        """The port is closed."""
        self.close()

    def close(self) -> None:
        """All clients are gone."""
        for client in self.clients:
            client.close("the listener was closed")
        self.clients.clear()

    # Requests

    def ask(self, client: RogueProtocol, body: bytes) -> Any:
        """What a request is answered, perhaps a Deferred of it; raises `LabError`."""
        ready = self._ready.get(body)
        if ready is not None:
            function, node, args = ready
            return function(node, client, *args)
        return self._ask(client, body)

    def _ask(self, client: RogueProtocol, body: bytes) -> Any:
        if self._server.closing:
            raise errors.NotConnected("the listener is closing")
        request = self._requests.get(body)
        node = self._find(request.path)
        if node is None:
            return None
        if request.path == codec.ROOT_PATH:
            return node.info()
        function = node.direct(request.attr, len(request.args))
        if function is not None and codec.is_simple(request) and len(body) <= codec.CACHED_LENGTH:
            if len(self._ready) >= codec.CACHED:
                self._ready.clear()
            self._ready[body] = function, node, request.args
        return node.ask(client, request.attr, request.args, request.kwargs)

    def encode(self, result: Any) -> bytes:
        """The reply with a result; raises `LabError` for one that cannot be sent."""
        body = self._encode(result)
        if len(body) > self._max_reply:
            raise errors.TooLarge(f"the reply is longer than {self._max_reply} bytes (max_reply)")
        return body

    def refusal(self, error: Exception) -> bytes:
        """The reply with an error."""
        words = explain(error)
        if words is None:
            self.log.failure("a Rogue request was not answered", Failure(error))
            words = "labnet.LabError", "the server failed at this request; its log says why"
        self._server.tree.root.log.add(*words)
        return self._error(*words)

    def too_many(self) -> bytes:
        """The reply to a client that does not wait for its answers."""
        return self.refusal(errors.TooLarge("too many requests of this client wait already"))

    def answered(self) -> None:
        """A request that had to wait has its answer."""
        self._publisher.flush()
        self._server.answered()


class RogueServer:
    """What the ports of one listener share."""

    def __init__(self, host: Host, common: ServeOptions, options: Options) -> None:
        if not _NAME.match(options.root):
            raise LabError(f"root = {options.root}: a letter, then letters, digits and _")
        self.host = host
        self.common = common
        self.wire_log = WireLog("rogue")
        self.closing = False
        self.tree = Tree(host, common, options)
        try:
            self.tree.check()
        except LabError:
            self.tree.close()
            raise
        self.binary = RequestPort(self, text=False)
        self.text = RequestPort(self, text=True)
        self._beat: IDelayedCall | None = None
        self._quiet: Deferred[None] | None = None
        self._stop_watching = host.watch(self.tree.refresh, self.tree.refresh)

    def open_session(self, address: str) -> Any:
        """A session for one connection."""
        return self.host.open_session(
            "rogue", address or "a client", reach=self.common.reach, timeout=self.common.timeout
        )

    def start_beating(self) -> None:
        """From now on subscribers see once a second that the server lives."""
        self._beat = self.host.clock.callLater(BEAT, self.start_beating)
        self.tree.root.beat()

    async def drained(self, seconds: float) -> None:
        """Takes no more requests; returns when those under way are answered, or after `seconds`."""
        self.closing = True
        self.tree.forget_ready()
        if not self._busy():
            return
        quiet: Deferred[None] = Deferred()
        self._quiet = quiet
        patience = self.host.clock.callLater(seconds, quiet.callback, None)
        try:
            await quiet
        finally:
            self._quiet = None
            if patience.active():
                patience.cancel()

    def _busy(self) -> bool:
        return any(client.busy for client in (*self.binary.clients, *self.text.clients))

    def answered(self) -> None:
        """A client has its answer, or is gone."""
        quiet = self._quiet
        if quiet is not None and not quiet.called and not self._busy():
            quiet.callback(None)

    def close(self) -> None:
        """Nothing more is served."""
        if self._beat is not None:
            self._beat.cancel()
            self._beat = None
        self._stop_watching()
        self.tree.publisher.close()  # clients that go now free locks, which is news
        self.binary.close()
        self.text.close()
        self.tree.close()


class RogueListener:
    """A PyRogue server that listens at `address` and at the two ports above it."""

    def __init__(
        self, server: RogueServer, factory: ZmqFactory, address: str, ports: tuple[Any, ...]
    ) -> None:
        self._server = server
        self._factory = factory
        self._ports = ports
        self.address = address
        text = re.sub(r"\d+$", lambda found: str(int(found[0]) + 2), address)
        root = server.tree.root.name
        self.example = (
            f"{shlex.quote(sys.executable or 'python')} -c "
            "'import zmq; s = zmq.Context().socket(zmq.REQ); "
            f's.connect("{text.replace("*", "127.0.0.1")}"); '
            f's.send_json({{"path": "{root}.LocalTime", "attr": "get"}}); '
            "print(s.recv_string())'"
        )
        server.start_beating()

    def clients(self) -> list[RogueProtocol]:
        """Those that are connected to the ports for requests and have asked for something."""
        return [*self._server.binary.clients, *self._server.text.clients]

    async def stop(self) -> None:
        """Answers what is under way, then closes the ports and ends the connections."""
        try:
            await self._server.drained(self._server.common.drain)
        finally:
            self._server.close()
            await self._factory.stop()


def bases(address: str) -> tuple[str, list[int]]:
    """The address without its port, and the base ports to try; raises `CannotListen`."""
    found = _PORT.match(address)
    if found is None:
        raise CannotListen(address, "a Rogue listener needs an address such as tcp://127.0.0.1:9099")
    if found[2] in ("0", "*"):
        return found[1], [FIRST_BASE + STEP * number for number in range(TRIES)]
    if int(found[2]) > 65533:
        raise CannotListen(address, "its last port would be above 65535")
    return found[1], [int(found[2])]


async def listen(
    host: Host, address: str, common: ServeOptions, options: Options, reactor: Any
) -> RogueListener:
    """Serves one device, or several, at a ZMQ address; raises `CannotListen`, `UnknownName`.

    The port is the base of three; 0 stands for the first of 9099, 9103, ... 9195 where all three
    are free.
    """
    where, tried = bases(address)
    server = RogueServer(host, common, options)
    try:
        for base in tried:
            try:
                factory, ports = _open(server, reactor, where, base)
            except CannotListen:
                if base == tried[-1]:
                    raise
                continue
            return RogueListener(server, factory, f"{where}:{base}", ports)
        raise CannotListen(address, "no base port is free")
    except BaseException:
        server.close()
        raise


def _open(
    server: RogueServer, reactor: Any, where: str, base: int
) -> tuple[ZmqFactory, tuple[Any, ...]]:
    """All three ports or none; raises `CannotListen`."""
    common, options = server.common, server.tree.options
    factory = ZmqFactory(reactor)
    shared: dict[str, Any] = {
        "factory": factory, "allow": common.allow, "max_connections": common.max_connections,
    }  # fmt: skip
    try:
        updates = PubPort(f"{where}:{base}", high_water_mark=options.max_queued, **shared)
        longest = 2 * options.max_request
        binary = RouterPort(server.binary, f"{where}:{base + 1}", max_message=longest, **shared)
        text = RouterPort(server.text, f"{where}:{base + 2}", max_message=longest, **shared)
    except BaseException:
        factory.close()
        raise
    server.tree.publisher.connect(updates, updates.peers.open)
    return factory, (updates, binary, text)
