"""A PLESTY device server: one device on a ROUTER socket, or several as a bench agent has them.

Programs written for PLESTY (its ``DeviceTCPIPClient``, DEALER sockets; also REQ sockets) work
unchanged. What labnet adds, no PLESTY program notices: a request's ``id`` comes back in the reply;
``connect`` takes ``lease`` (s) and ``token``; a refusal names the holder of the lock; locks keep
others from writing, and end with the client that holds them.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from labnet import errors
from labnet.errors import LabError, UnknownName, shorten
from labnet.lab import Host, ServeOptions
from labnet.logs import WireLog
from labnet.registry import DeviceNode, Node
from labnet.session import Session
from labnet.transports.zmq import Parts, Peer, RouterPort, ZmqServerProtocol
from labnet.wires.plesty.codec import MAX_BODY, MAX_REPLY, Request, RequestCache
from labnet.wires.plesty.codec import failure as error_reply
from labnet.wires.plesty.protocol import PlestyProtocol
from labnet.wires.plesty.served import Claim, Served, claim

# ---- the lab's errors in the peer's words ----------------------------------------------------

#: Seconds by which a client's new connection may come before the end of its old one is noticed.
RECONNECTING = 1.0

Words = tuple[str, str]
Row = Callable[[Any, Request, Served | None], Words]


def _as(kind: str) -> Row:
    """A row: the bare class name `kind`, and the lab's own sentence."""
    return lambda error, request, served: (kind, str(error))


def _unknown(error: UnknownName, request: Request, served: Served | None) -> Words:
    if request.type not in ("query", "write") or served is None:
        return "AttributeError" if request.type == "call" else "KeyError", str(error)
    name = shorten(request.name)
    full = None if "." in name else served.full_key(name)
    text = f"Config parameter '{name}' is not registered."
    if full is not None:
        text = (
            f"Grouped parameter '{name}' requires full key format 'group_prefix.param_key', "
            f"for example '{full}'."
        )
    return "KeyError", repr(text)  # the peer's text of a KeyError has quotes around it


def _read_only(error: errors.NotWritable, request: Request, served: Served | None) -> Words:
    return "ValueError", f"Config parameter '{request.name}' is read-only and cannot be set."


def _wrong_type(error: errors.WrongType, request: Request, served: Served | None) -> Words:
    if request.type == "call":
        return "TypeError", str(error)
    value = shorten(str(error.value))
    return "ValueError", f"{error.what} Value {value} does not match expected type {error.kind}"


def _out_of_range(error: errors.OutOfRange, request: Request, served: Served | None) -> Words:
    value = f"Value {shorten(str(error.value))}"
    if error.choices:
        return "ValueError", f"{value} is not in allowed options: {list(error.choices)[:100]}"
    try:
        if error.low is not None and error.value < error.low:  # type: ignore[operator]
            return "ValueError", f"{value} is below minimum of {error.low}"
        if error.high is not None and error.value > error.high:  # type: ignore[operator]
            return "ValueError", f"{value} is above maximum of {error.high}"
    except (TypeError, ValueError):
        pass  # an array, or a value that a foreign server refused in its own way
    return "ValueError", str(error)


def _told(error: errors.DeviceFault) -> str:
    text = str(error)
    return repr(text) if error.kind == "KeyError" else text  # as in `_unknown`


ERRORS: Final[Mapping[type[LabError], Row]] = {
    UnknownName: _unknown,
    errors.NotReadable: _as("ValueError"),
    errors.NotWritable: _read_only,
    errors.WrongType: _wrong_type,
    errors.OutOfRange: _out_of_range,
    errors.BadArguments: _as("TypeError"),
    errors.Locked: _as("ResourceLockedError"),
    errors.TimedOut: lambda error, request, served: (
        "TimeoutError",
        f"Operation timed out: {error.why}" if error.why else "Operation timed out",
    ),
    errors.Cancelled: _as("CancelledError"),
    errors.DeviceFault: lambda error, request, served: (error.kind, _told(error)),
    errors.NotConnected: _as("ConnectionError"),
    errors.NotAllowed: _as("PermissionError"),
    errors.TooLarge: _as("ValueError"),
    LabError: _as("RuntimeError"),
}


def explain(error: LabError, request: Request, served: Served | None) -> Words:
    """The exception class and the text of an error reply."""
    row = next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)
    return row(error, request, served)


# ---- the listener ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Options:
    """The keys of a section with ``wire = plesty``."""

    token: str = field(
        default="",
        metadata={"help": "several devices: what requests must carry as token, empty for nothing"},
    )
    max_request: int = field(
        default=MAX_BODY,
        metadata={"help": "longest request", "unit": "bytes", "limits": (1024, 1 << 30)},
    )
    max_reply: int = field(
        default=MAX_REPLY,
        metadata={"help": "longest reply", "unit": "bytes", "limits": (1024, 1 << 30)},
    )


class PlestyFactory(ZmqServerProtocol):
    """What the clients of one listener share: the devices, the options, the way out."""

    send: Callable[[Peer, list[bytes]], object]

    def __init__(self, host: Host, common: ServeOptions, options: Options) -> None:
        self.host = host
        self.common = common
        self.options = options
        self.requests = RequestCache(options.max_request)
        #: The key of ``connect`` that shows a lock token or asks for one.
        self.token_key = "lock_token" if options.token and common.device is None else "token"
        self.single: Served | None = None
        self._clients: dict[bytes, PlestyProtocol] = {}
        self._away: dict[bytes, IDelayedCall] = {}
        self._served: dict[str, Served] = {}
        #: Whether the listener stops: no device is asked any more.
        self.closing = False
        self._quiet: Deferred[None] | None = None
        self.wire_log = WireLog("plesty")
        if common.device is not None:
            self.single = self._serve_single(common.device)
        self.stop_watching = host.watch(self._devices_changed, self._devices_changed)

    def _devices_changed(self, node: DeviceNode) -> None:
        self._served.clear()
        if self.common.device is not None:
            try:
                self.single = self._serve_single(self.common.device)
            except UnknownName:
                self.single = None

    def _serve_single(self, path: str) -> Served:
        """The device of a section with only one."""
        return self._serve(path.rpartition(".")[2], path)

    def _serve(self, name: str, path: str) -> Served:
        first, *rest = path.split(".")
        top = self.host.devices().get(first)
        node = None if top is None else top.find(rest)
        if not isinstance(node, DeviceNode):
            raise UnknownName(name, self.names(), "device")
        return Served(name, node)

    def names(self) -> Iterable[str]:
        """The clients' names of the devices of a section with several."""
        return self.common.devices or self.host.devices()

    def device(self, name: str) -> Served:
        """The device that clients call `name`; raises `UnknownName`."""
        served = self._served.get(name)
        if served is None:
            known = self.names()
            if name not in known:
                raise UnknownName(name, known, "device")
            path = self.common.devices[name] if self.common.devices else name
            served = self._served[name] = self._serve(name, path)
        return served

    @property
    def several(self) -> bool:
        """Whether the listener is a bench of devices."""
        return self.common.device is None

    def explain(self, error: LabError, request: Request, served: Served | None) -> Words:
        """The exception class and the text of an error reply."""
        return explain(error, request, served)

    def claim(self, paths: Iterable[str]) -> Claim:
        """What a `resources` key means here; on a bench a name begins with the device's."""
        return claim(paths, self._resource)

    def _resource(self, path: str) -> tuple[Served, Node, str]:
        if not self.several:
            served = self.single
            if served is None:
                raise self.device_gone()
            return served, served.resource(path), ""
        name, _, rest = path.partition("/")
        served = self.device(name)
        return served, served.resource(rest), f"{name}/"

    def device_gone(self) -> LabError:
        """What clients are told while the one device is not in the lab."""
        return errors.NotConnected(f"the device {self.common.device} is not in the lab now")

    def describe_bench(self) -> dict[str, Any]:
        """What a bench says of itself."""
        return {
            "kind": "plesty-server-agent",
            "version": "labnet",
            "home": self.common.name,
            "fleet": sorted(self.names()),
            "commands": [],
            "requests": ["describe", "device", "connect", "disconnect", "help"],
        }

    # -- clients -----------------------------------------------------------------------------

    def open_session(self, client_id: str, address: str) -> Session:
        """A session for one client; others see it under its client_id.

        The lab's own register of names is left aside: a client of several PLESTY ports of one lab
        has the same name on all of them.
        """
        session = self.host.open_session(
            "plesty", address or client_id, timeout=self.common.timeout
        )
        session.name = client_id
        return session

    def makeConnection(self, port: RouterPort) -> None:
        """The port is open."""
        super().makeConnection(port)
        self.send = self._send_shown if self.wire_log.debug_on else port.reply

    def _send_shown(self, peer: Peer, frames: list[bytes]) -> bool:
        self.wire_log.sent(peer.address, frames[-1])
        return self.port.reply(peer, frames)

    def messageReceived(self, peer: Peer, parts: Parts) -> None:
        """A client has sent a message."""
        client = peer.data
        if client is None:
            client = self._arrived(peer)
            if client is None:
                return
        if self.wire_log.debug_on:
            self.wire_log.received(peer.address, parts[-1])
        client.received(parts)

    def _arrived(self, peer: Peer) -> PlestyProtocol | None:
        """The client of a new connection; None if this one is older than the client's own."""
        client = self._clients.get(peer.identity)
        if client is None:
            client = self._clients[peer.identity] = PlestyProtocol(self, peer)
        elif client.peer is not None and client.peer.alive and not peer.alive:
            return None
        else:
            self._stop_waiting(peer.identity)
            client.back(peer)
        peer.data = client
        self.wire_log.connected(peer.address)
        return client

    def peerLost(self, peer: Peer) -> None:
        """A client's connection has ended; one with locks may come back for them."""
        client, peer.data = peer.data, None
        self.wire_log.disconnected(peer.address)
        if client is None or client.peer is not peer:
            return
        if client.lost():
            self._wait_for(peer.identity, client, self.host.clock.seconds())
        else:
            self._clients.pop(peer.identity, None)

    def _wait_for(self, identity: bytes, client: PlestyProtocol, since: float) -> None:
        self._away[identity] = self.host.clock.callLater(
            max(self.host.grace / 2, 0.1), self._still_away, identity, client, since
        )

    def _stop_waiting(self, identity: bytes) -> None:
        call = self._away.pop(identity, None)
        if call is not None:
            call.cancel()

    def _still_away(self, identity: bytes, client: PlestyProtocol, since: float) -> None:
        """Forgets a client whose locks have ended.

        A connection from its host that has come since and said nothing may be this client's: while
        there is one, its locks stay.
        """
        del self._away[identity]
        owner = client.session.owner
        if owner.gone:
            del self._clients[identity]
            return
        age = self.host.clock.seconds() - since + RECONNECTING
        if self.port.silent_newcomers(client.session.peer, age):
            client.session.lab.locks.extend(owner, self.host.grace)
        self._wait_for(identity, client, since)

    def messageFailed(self, peer: Peer, parts: Parts, failure: Failure) -> None:
        """A message of too many parts, or one at which the server failed: its client is told."""
        if failure.check(errors.TooLarge):
            self.send(peer, [error_reply("ValueError", failure.getErrorMessage())])
        else:
            self.log_failure(failure)
            self.send(peer, [error_reply("RuntimeError", "the server failed at this request")])

    def log_failure(self, reason: Failure) -> None:
        """Logs what nobody foresaw."""
        self.log.failure("a PLESTY request was not answered", reason)

    def connectionLost(self, reason: Failure) -> None:
        """The port is closed."""
        self.close()

    async def drained(self, seconds: float) -> None:
        """Takes no more requests; returns when those under way are answered, or after `seconds`."""
        self.closing = True
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
        return any(client.waiting for client in self._clients.values())

    def answered(self) -> None:
        """A client has its answer, or does not wait for it any more."""
        quiet = self._quiet
        if quiet is not None and not quiet.called and not self._busy():
            quiet.callback(None)

    def close(self) -> None:
        """All clients are gone for good, and their locks with them."""
        self.stop_watching()
        for identity in list(self._away):
            self._stop_waiting(identity)
        for client in self._clients.values():
            client.close()
        self._clients.clear()


class PlestyListener:
    """A PLESTY device server that listens at `address`."""

    def __init__(self, factory: PlestyFactory, port: RouterPort) -> None:
        self._factory = factory
        self._port = port
        self.address = port.address
        self.example = (
            f"{shlex.quote(sys.executable or 'python')} -c "
            "'import zmq; s = zmq.Context().socket(zmq.DEALER); "
            f's.connect("{port.address}"); s.send_json({{"type": "describe"}}); '
            "print(s.recv_json())'"
        )

    async def stop(self) -> None:
        """Answers what is under way, then closes the port and ends the connections."""
        try:
            await self._factory.drained(self._factory.common.drain)
        finally:
            self._factory.close()
            await self._port.stop()


async def listen(
    host: Host, address: str, common: ServeOptions, options: Options, reactor: Any
) -> PlestyListener:
    """Serves one device, or several, at a ZMQ address; raises `CannotListen`, `UnknownName`."""
    factory = PlestyFactory(host, common, options)
    try:
        port = RouterPort(
            factory,
            address,
            reactor=reactor,
            allow=common.allow,
            max_connections=common.max_connections,
            max_message=2 * options.max_request,
        )
    except BaseException:
        factory.stop_watching()
        raise
    return PlestyListener(factory, port)
