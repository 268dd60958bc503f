"""One client of a PLESTY listener: its requests in, its replies out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from labnet.errors import (
    BadArguments,
    LabError,
    Locked,
    NotAllowed,
    NotConnected,
    NotReadable,
    TimedOut,
    TooLarge,
)
from labnet.transports.zmq import Peer, split_envelope
from labnet.values import Reading
from labnet.wires.plesty import describe
from labnet.wires.plesty.codec import DEVICE_TYPES, NO_VALUE, Request, failure, request_of, success
from labnet.wires.plesty.dialect import BadRequest, NotSerializable
from labnet.wires.plesty.faults import holder_fields
from labnet.wires.plesty.holdings import Holdings
from labnet.wires.plesty.served import Claim, Served, from_json

if TYPE_CHECKING:
    from labnet.wires.plesty.server import PlestyFactory

MAX_OUTSTANDING: Final = 1000
"""Requests of one client that may wait for a device."""
REFUSED: Final = "Requested resources are not available"

_MADE_UP: Final = re.compile(r"client-[0-9a-f]{32}\Z")


def client_id_of(identity: bytes) -> str:
    """A client's name: its ZMQ identity as UTF-8, or in hexadecimal where it is none."""
    try:
        return identity.decode()
    except UnicodeDecodeError:
        return identity.hex()


def is_name(identity: bytes) -> bool:
    """Whether a client chose its identity, so that it can come back under it.

    The ROUTER names anonymous clients with a zero byte first; the peer's client makes up
    ``client-`` and 32 hexadecimal digits where its user gives no name.
    """
    return identity[:1] != b"\0" and _MADE_UP.match(client_id_of(identity)) is None


class PlestyProtocol:
    """Answers one client, which is known by its identity and may lose its connection.

    `peer` is the client's living connection. The answer to a request of an earlier connection is
    dropped, as the client would take it for another's.
    """

    __slots__ = (
        "client_id", "envelope", "factory", "holdings", "named", "parse", "peer", "session",
        "waiting",
    )  # fmt: skip

    def __init__(self, factory: PlestyFactory, peer: Peer) -> None:
        self.factory = factory
        self.peer: Peer | None = peer
        self.client_id = client_id_of(peer.identity)
        self.named = is_name(peer.identity)
        self.waiting = 0
        self.envelope: list[bytes] = []
        self.parse = factory.requests.parse
        self.begin(peer)

    def begin(self, peer: Peer) -> None:
        """A new session, without locks."""
        self.session = self.factory.open_session(self.client_id, peer.address)
        self.holdings = Holdings(self.session)

    # -- messages ----------------------------------------------------------------------------

    def received(self, frames: list[bytes]) -> None:
        """One message: a body, from a REQ socket with an envelope before it."""
        if len(frames) == 1:
            self.envelope = frames[:0]
            self.body_received(frames[0])
            return
        envelope, body = split_envelope(frames)
        self.envelope = envelope[:2]
        if len(body) == 1 and len(envelope) <= 2:
            self.body_received(body[0])
        else:
            self.send(failure("ValueError", "a request must be one message frame"))

    def body_received(self, body: bytes) -> None:
        """One request; whatever it holds, there is one reply."""
        try:
            request = self.parse(body)
        except BadRequest as error:
            self._refused(error.text)
            self.send(failure(error.kind, error.text, error.tail))
            return
        served = self.factory.single
        if served is not None:
            self.handle(request, served)
        elif self.factory.several:
            self._to_bench(request)
        else:
            self._refuse(self.factory.device_gone(), request, None)

    def _refused(self, reason: str) -> None:
        if self.peer is not None:
            self.factory.wire_log.refused(self.peer.address, reason)

    def send(self, body: bytes) -> None:
        """One reply, in an envelope where the request had one."""
        if self.peer is not None:
            self.factory.send(self.peer, [*self.envelope, body])

    def handle(self, request: Request, served: Served | None) -> None:
        """Answers a request to one device (None: to the listener as a whole)."""
        try:
            handler = _HANDLERS.get(request.type)
            if handler is None:
                raise BadRequest("ValueError", f"Unknown request type: {request.type}")
            timeout = request.timeout
            if timeout is not None and timeout <= 0:
                raise TimedOut(request.name, timeout)
            if request.resources and request.type != "connect":
                self._assert_held(request)
            if self.factory.closing and request.type in DEVICE_TYPES:
                raise NotConnected("the server is shutting down")
            if self.waiting >= MAX_OUTSTANDING and request.type in DEVICE_TYPES:
                raise TooLarge(f"{MAX_OUTSTANDING} requests of this client wait already")
            handler(self, request, served)
        except BadRequest as error:
            self.send(failure(error.kind, error.text, request.tail))
        except LabError as error:
            self._refuse(error, request, served)

    def _answer(self, request: Request, result: object) -> None:
        try:
            body = success(result, request.tail)
        except NotSerializable as error:
            body = failure(error.kind, str(error), request.tail)
        limit = self.factory.options.max_reply
        if len(body) > limit:
            text = f"the result of {request.name} is longer than {limit} bytes (max_reply)"
            body = failure("ValueError", text, request.tail)
        self.send(body)

    def _refuse(self, error: LabError, request: Request, served: Served | None) -> None:
        kind, text = self.factory.explain(error, request, served)
        told = NO_VALUE
        if isinstance(error, Locked):
            told = {"holder": holder_fields(error.holder)}
        self.send(failure(kind, text, request.tail, told))

    # -- what the device answers -------------------------------------------------------------

    def query(self, request: Request, served: Served) -> None:
        """The value of a parameter."""
        path = served.paths.get(request.name) or served.path(request.name)
        reading = self.session.get(path, request.timeout)
        if reading.called and reading.result.__class__ is Reading:
            self._answer(request, reading.result.value)
        else:
            self._wait(reading, request, served, _value_of)

    def write(self, request: Request, served: Served) -> None:
        """Sets a parameter; the answer is true."""
        kind = served.parameter(request.name).spec.kind
        path, value = served.path(request.name), from_json(kind, request.value)
        self._wait(self.session.set(path, value, request.timeout), request, served, _true)

    def call(self, request: Request, served: Served) -> None:
        """Runs an operation: a command of the device, or a stock one."""
        operation = served.operation(request.name)
        if operation is None:
            self._stock(request, served)
            return
        kwargs, timeout = dict(request.kwargs), request.timeout
        if "timeout" in kwargs and not operation.takes_timeout:
            timeout = _shorter(timeout, kwargs.pop("timeout"))
        if operation.takes_resources and "resources" not in kwargs:
            held = self.holdings.names()
            if held:
                kwargs["resources"] = held
        args, kwargs = operation.adapted(request.args, kwargs)
        result = self.session.call_with(operation.path, args, kwargs, timeout)
        self._wait(result, request, served, _itself)

    def _stock(self, request: Request, served: Served) -> None:
        if request.name in ("query", "write"):
            self.handle(_spelled_out(request), served)
        else:
            self._answer(request, served.stock(request.name, request.args, request.kwargs))

    def _wait(
        self,
        deferred: Deferred[Any],
        request: Request,
        served: Served,
        convert: Callable[[Any], Any],
    ) -> None:
        """Answers when the device has."""
        peer, envelope = self.peer, self.envelope
        self.waiting += 1

        def answered(result: Any) -> None:
            if peer is self.peer:
                self.waiting -= 1
                self._late(envelope, self._answer, request, convert(result))
                self.factory.answered()

        def failed(reason: Failure) -> None:
            if peer is self.peer:
                self.waiting -= 1
                self._late(envelope, self._failed, reason, request, served)
                self.factory.answered()

        deferred.addCallbacks(answered, failed)
        deferred.addErrback(self.factory.log_failure)

    def _late(self, envelope: list[bytes], answer: Callable[..., None], *args: Any) -> None:
        """Answers in the envelope of the request itself; others may have come since."""
        newest, self.envelope = self.envelope, envelope
        try:
            answer(*args)
        finally:
            self.envelope = newest

    def _failed(self, reason: Failure, request: Request, served: Served) -> None:
        error = reason.value
        if isinstance(error, NotReadable) and request.type == "query":
            # the peer answers for a write-only parameter too, with what was written last
            self._answer(request, served.parameter(request.name).state.reading.value)
        elif isinstance(error, LabError):
            self._refuse(error, request, served)
        else:
            self.factory.log_failure(reason)
            self.send(failure("RuntimeError", f"{request.name} failed", request.tail))

    # -- who is there ------------------------------------------------------------------------

    def connect(self, request: Request, served: Served | None) -> None:
        """Replaces the client's locks by those it asks for, all or none."""
        metadata = request.metadata
        lease = _lease(metadata.get("lease"))
        self._show(metadata.get(self.factory.token_key))
        claim = self.factory.claim(request.resources or ())
        result: dict[str, Any] = {"client_id": self.client_id, "resources": []}
        result["metadata"] = metadata
        if claim.unknown:
            refusal = result | {"unknown": list(claim.unknown)}
            self.send(failure("ResourceAllocationError", REFUSED, request.tail, refusal))
            return
        try:
            waiting = self.holdings.replace(claim, lease, _note(metadata))
        except Locked as error:
            self._refuse_lock(error, request, result)
            return
        if waiting is None:
            self._connected(request, result, claim)
        else:
            self._connect_later(waiting, request, result, claim)

    def _connected(self, request: Request, result: dict[str, Any], claim: Claim) -> None:
        result["resources"] = list(claim.leaves)
        if request.metadata.get(self.factory.token_key) is True:
            result["token"] = self.session.token
        self._answer(request, result)

    def _refuse_lock(self, error: Locked, request: Request, result: dict[str, Any]) -> None:
        refusal = result | {"holder": holder_fields(error.holder)}
        self.send(failure("ResourceAllocationError", REFUSED, request.tail, refusal))

    def _connect_later(
        self, waiting: Deferred[None], request: Request, result: dict[str, Any], claim: Claim
    ) -> None:
        """A device is asked for a lock of its own; the answer comes when it has said yes or no."""
        peer, envelope = self.peer, self.envelope
        self.waiting += 1

        def failed(reason: Failure) -> None:
            error = reason.value
            if isinstance(error, Locked):
                self._late(envelope, self._refuse_lock, error, request, result)
            elif isinstance(error, LabError):
                self._late(envelope, self._refuse, error, request, None)
            else:
                reason.raiseException()

        def still_here(outcome: Any) -> Any:
            if peer is not self.peer:
                raise CancelledError
            self.waiting -= 1
            return outcome

        waiting.addBoth(still_here)
        waiting.addCallbacks(
            lambda _: self._late(envelope, self._connected, request, result, claim), failed
        )
        waiting.addCallback(lambda _: self.factory.answered())
        waiting.addErrback(lambda gone: None if gone.check(CancelledError) else gone)
        waiting.addErrback(self.factory.log_failure)

    def _show(self, token: object) -> None:
        """Becomes the owner who has the lock token; True asks for one's own."""
        if isinstance(token, str):
            self.session.show_token(token)
            self.holdings.shared = True
        elif token is not None and token is not True:
            raise BadRequest("TypeError", "a lock token must be a string, or true to ask for one")

    def disconnect(self, request: Request, served: Served | None) -> None:
        """Gives the locks back; the client may go on without them."""
        self.holdings.release()
        if self.holdings.shared:
            self.session.close("disconnected")
            if self.peer is not None:
                self.begin(self.peer)
        self._answer(request, {"client_id": self.client_id})

    def _assert_held(self, request: Request) -> None:
        """A device request that names resources says that it holds them."""
        missing = self.holdings.missing(self.factory.claim(request.resources or ()))
        if missing:
            text = f"Client '{self.client_id}' requested unallocated resources: {missing[:20]}"
            raise BadRequest("ValueError", text)

    def lost(self) -> bool:
        """The connection is gone; whether the client may come back for its locks."""
        self.peer = None
        self.waiting = 0
        self.factory.answered()
        if self.named and self.session.holdings():
            self.session.lost()
            return not self.session.owner.gone
        self.session.close("the connection was lost")
        return False

    def close(self) -> None:
        """The client is gone for good."""
        if self.peer is None and not self.session.owner.gone:
            self.session.back()
        elif self.peer is not None:
            self.peer.data = None
            self.peer = None
        self.session.close("the listener was closed")

    def back(self, peer: Peer) -> None:
        """The client is there again, under its identity."""
        gone = self.peer is not None and not self.lost()
        self.peer = peer
        if gone or self.session.owner.gone:
            self.begin(peer)
        else:
            self.session.back()

    # -- what it is --------------------------------------------------------------------------

    def describe(self, request: Request, served: Served | None) -> None:
        """What the device can do, without asking it."""
        if served is None:
            self._answer(request, self.factory.describe_bench())
        else:
            self._answer(request, describe.describe(served.node))

    def help(self, request: Request, served: Served | None) -> None:
        """The device in words."""
        if served is None:
            text = "\n".join(["# Devices", *sorted(self.factory.names())]) + "\n"
        else:
            text = describe.help_text(served.node)
        self._answer(request, {"help": text})

    # -- several devices on one port ---------------------------------------------------------

    def _to_bench(self, request: Request) -> None:
        """A request to a listener with several devices, as a bench agent takes it."""
        try:
            if request.type != "describe":
                self._check_token(request)
            if request.type == "device":
                self._to_device(request)
            elif request.type in ("exec", "fetch"):
                text = f"{request.type} is not offered here; ask for describe or device"
                raise BadRequest("ValueError", text)
            elif request.type in ("query", "write", "call"):
                text = "this port serves several devices; name one in a 'device' request"
                raise BadRequest("ValueError", text)
            else:
                self.handle(request, None)
        except BadRequest as error:
            self.send(failure(error.kind, error.text, request.tail))
        except LabError as error:
            self._refuse(error, request, None)

    def _to_device(self, request: Request) -> None:
        served = self.factory.device(request.name)
        inner = request_of(request.inner)
        if request.tail != "}":
            inner.tail = request.tail
        self.handle(inner, served)

    def _check_token(self, request: Request) -> None:
        wanted = self.factory.options.token
        given = request.metadata.get("token") if request.type == "connect" else request.token
        if wanted:
            fits = isinstance(given, str) and compare_digest(
                given.encode("utf-8", "replace"), wanted.encode()
            )
            if not fits:
                self._refused("bad or missing token")
                raise NotAllowed("bad or missing token")


_HANDLERS: Final[dict[str, Callable[[PlestyProtocol, Request, Any], None]]] = {
    "query": PlestyProtocol.query,
    "write": PlestyProtocol.write,
    "call": PlestyProtocol.call,
    "connect": PlestyProtocol.connect,
    "disconnect": PlestyProtocol.disconnect,
    "describe": PlestyProtocol.describe,
    "help": PlestyProtocol.help,
}


def _value_of(reading: Reading) -> Any:
    return reading.value


def _true(result: object) -> bool:
    return True


def _itself(result: Any) -> Any:
    return result


def _spelled_out(request: Request) -> Request:
    """A call of the operation ``query`` or ``write`` as the request of that type."""
    names = ("key",) if request.name == "query" else ("key", "value")
    given = dict(zip(names, request.args, strict=False)) | request.kwargs
    if len(request.args) > len(names) or set(given) != set(names):
        raise BadArguments(f"usage: {request.name} {' '.join(names)}")
    if not isinstance(given["key"], str):
        raise BadArguments("the key of a parameter must be a string")
    spelled = Request(request.name)
    spelled.name, spelled.value = given["key"], given.get("value")
    spelled.timeout, spelled.tail = request.timeout, request.tail
    return spelled


def _shorter(timeout: float | None, given: object) -> float | None:
    """The time limit of a call whose keyword arguments hold one too; it must not be over."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise BadArguments("timeout must be a number of seconds")
    if not given > 0:
        raise TimedOut("the call", float(given))
    return float(given) if timeout is None else min(timeout, float(given))


def _lease(given: object) -> float:
    """The `lease` key of ``connect``: seconds after which locks end unless renewed."""
    if given is None:
        return 0.0
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise BadRequest("TypeError", "lease must be a number of seconds")
    if not 0 <= given < math.inf:
        raise BadRequest("ValueError", "lease must be 0 or a positive number of seconds")
    return float(given)


def _note(metadata: dict[str, Any]) -> str:
    """What others are told about the purpose of a lock, where the client says."""
    words = [metadata[key] for key in ("user", "purpose", "note") if key in metadata]
    return ", ".join(word for word in words if isinstance(word, str))[:200]
