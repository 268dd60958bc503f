"""Questions and answers over one DEALER socket, in a protocol that has no request numbers.

One request is in flight at a time, unless the server echoes the ``id`` of requests: then up to
`MAX_IN_FLIGHT` are. A request without an answer in time wears the socket out: nothing more is sent
on it, and once nothing is in flight a new socket takes its place. So a late answer is never taken
for the answer to another request, and nothing old reaches a server that comes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any, Final, Protocol

from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from labnet.errors import (
    BadArguments,
    DeviceFault,
    LabError,
    NotConnected,
    TimedOut,
    TooLarge,
)
from labnet.wires.plesty.codec import BadReply, Reply, encode_request, parse_reply
from labnet.wires.plesty.dialect import NotSerializable
from labnet.wires.plesty.faults import lab_error

MAX_IN_FLIGHT: Final = 64
"""Requests sent before their answers, to a server that echoes ``id``."""
MAX_WAITING: Final = 10_000
"""Requests kept until they can be sent."""


class Link(Protocol):
    """A socket: what `Conversation` needs of it."""

    def send(self, frames: Sequence[bytes]) -> None:
        """Sends one message."""

    def close(self) -> Deferred[None]:
        """Closes the socket, sending nothing more; fires when the peer can see it."""


class _Request:
    """A request on its way: what it asks, who waits for the answer and how long that may take."""

    __slots__ = ("answer", "fields", "heard", "id", "limit", "mark", "timer", "type", "what")

    def __init__(self, type: str, fields: Mapping[str, Any], what: str, limit: float) -> None:
        self.type = type
        self.fields = fields
        self.what = what
        self.limit = limit
        self.id = 0
        self.heard = 0
        self.mark = ""
        self.timer: IDelayedCall | None = None
        self.answer: Deferred[Any] | None = Deferred(self._given_up)

    def _given_up(self, _: Deferred[Any]) -> None:
        """The caller has cancelled; an answer that is still to come keeps its place."""
        self.answer = None


class Conversation:
    """Requests in, results out; `dial` opens a socket that hands its messages to a function.

    `worn` is called when the socket has been closed for want of an answer, or when a request waits
    and nothing was released since; it should call `open`, greet the server with `first` and then
    `release` the requests that wait, or `fail` them.
    """

    def __init__(
        self,
        dial: Callable[[Callable[[Sequence[bytes]], None]], Link],
        worn: Callable[[], None],
        clock: IReactorTime,
    ) -> None:
        self._dial = dial
        self._worn_out = worn
        self._clock = clock
        self._link: Link | None = None
        self._closing: Deferred[None] = succeed(None)
        self._worn = False
        self._released = False
        self._renewing = False
        self._last_id = 0
        self._heard = 0
        self._waiting: deque[_Request] = deque()
        self._flying: dict[int, _Request] = {}
        self._listening: list[Deferred[None]] = []
        self.numbered = False
        """Whether the server echoes the ``id`` of requests."""
        self.owed = 0
        """Requests that the server may still answer though nobody waits any more."""

    # -- the socket --------------------------------------------------------------------------

    def open(self) -> None:
        """A fresh socket; nothing that waits is sent before `release`."""
        self._worn = self._released = False
        link: Link | None = None

        def received(frames: Sequence[bytes]) -> None:
            if link is self._link and link is not None:
                self._received(frames)

        link = self._dial(received)
        self._link = link

    def hang_up(self) -> Deferred[None]:
        """Closes the socket; what is in flight fails, what waits goes on waiting."""
        link, self._link = self._link, None
        self._released = self._worn = False
        flying, self._flying = self._flying, {}
        self.owed += len(flying)
        for request in flying.values():
            self._finish(request, NotConnected(f"the connection was closed under {request.what}"))
        if link is not None:
            self._closing = maybeDeferred(link.close)
        self._tell_quiet()
        return self._closing

    def release(self) -> None:
        """The server has been greeted: what waits may go."""
        self._released, self._renewing = True, False
        self._pump()

    def fail(self, error: LabError) -> None:
        """Everything that waits fails with `error`."""
        self._renewing = False
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            self._finish(request, error)

    # -- requests ----------------------------------------------------------------------------

    def first(
        self, type: str, fields: Mapping[str, Any], limit: float, number: bool = False
    ) -> Deferred[Any]:
        """A request that goes before all that wait, for when nothing is in flight.

        With `number` its ``id`` shows whether the server echoes one.
        """
        request = _Request(type, fields, type, limit)
        answer = request.answer
        assert answer is not None
        self._send(request, number or self.numbered)
        return answer

    def last_of_all(self, name: str) -> Deferred[Any]:
        """Asks for a parameter that does not exist; the answer is known by its `name`.

        It is for a socket under a name that was used before: answers without it are late ones, as
        many as are `owed`. It has no time limit.
        """
        request = _Request("query", {"param": name, "timeout": None}, name, inf)
        request.mark = name
        answer = request.answer
        assert answer is not None
        self._send(request, False)
        return answer

    def quiet(self) -> Deferred[None]:
        """Fires when nothing is in flight, at the latest when its time limit has passed."""
        if not self._flying:
            return succeed(None)
        self._listening.append(Deferred())
        return self._listening[-1]

    def submit(
        self, type: str, fields: Mapping[str, Any], what: str, limit: float
    ) -> Deferred[Any]:
        """A request in its turn; its time limit of `limit` seconds runs once it has been sent."""
        if len(self._waiting) >= MAX_WAITING:
            return fail(TooLarge(f"{MAX_WAITING} requests wait to be sent already"))
        request = _Request(type, fields, what, limit)
        answer = request.answer
        assert answer is not None
        self._waiting.append(request)
        self._pump()
        if not self._released:
            self._renew()
        return answer

    def _pump(self) -> None:
        window = MAX_IN_FLIGHT if self.numbered else 1
        while self._waiting and self._released and not self._worn and len(self._flying) < window:
            request = self._waiting.popleft()
            if request.answer is not None:
                self._send(request, self.numbered)

    def _send(self, request: _Request, number: bool) -> None:
        if self._link is None:
            self._finish(request, NotConnected(f"not connected; {request.what} was not sent"))
            return
        self._last_id += 1
        request.id = self._last_id
        try:
            body = encode_request(request.type, request.fields, request.id if number else 0)
        except NotSerializable:
            text = f"{request.what}: a value or argument has no form in JSON"
            self._finish(request, BadArguments(text))
            return
        request.heard = self._heard
        if request.limit < inf:
            request.timer = self._clock.callLater(request.limit, self._expired, request)
        self._flying[request.id] = request
        self._link.send([body])

    # -- answers -----------------------------------------------------------------------------

    def _received(self, frames: Sequence[bytes]) -> None:
        self._heard += 1
        try:
            if len(frames) != 1:
                raise BadReply(f"the server's reply has {len(frames)} parts instead of one")
            reply = parse_reply(frames[0])
        except BadReply as error:
            self._confused(str(error))
            return
        request = self._asked(reply)
        if request is not None:
            self._answered(request, reply)
        self._next()

    def _asked(self, reply: Reply) -> _Request | None:
        """The request that `reply` answers; None for one that nobody waits for any more."""
        if reply.has_id:
            request = self._flying.pop(reply.id, None) if type(reply.id) is int else None
            self.numbered = self.numbered or request is not None
            return request
        if len(self._flying) > 1:
            self.numbered = False
            self._confused("the server's reply does not say which request it answers")
            return None
        if not self._flying:
            return None
        number, request = next(iter(self._flying.items()))
        if request.mark not in reply.text and self.owed > 0:
            self.owed -= 1  # late, and nobody waits for it any more
            return None
        return self._flying.pop(number)

    def _answered(self, request: _Request, reply: Reply) -> None:
        if reply.failed:
            self._finish(request, lab_error(reply, request.what, request.fields.get("timeout")))
        else:
            self._finish(request, reply.result)

    def _confused(self, text: str) -> None:
        """An answer that breaks the protocol: it may have been anybody's."""
        flying, self._flying = self._flying, {}
        self._worn = True
        for request in flying.values():
            self._finish(request, DeviceFault(text, "ProtocolError"))
        self._next()

    def _expired(self, request: _Request) -> None:
        request.timer = None
        if self._flying.pop(request.id, None) is None:
            return
        self.owed += 1
        if not self.numbered or request.heard == self._heard:
            self._worn = True
        self._finish(request, TimedOut(request.what, request.limit))
        self._next()

    @property
    def free(self) -> bool:
        """Whether the answer to a `first` request could be told from others."""
        return self.numbered or not self._flying

    def _tell_quiet(self) -> None:
        listening, self._listening = self._listening, []
        for deferred in listening:
            deferred.callback(None)

    def _next(self) -> None:
        if not self._flying:
            self._tell_quiet()
        if self._worn and not self._flying:
            self.hang_up()
            self._renew()
        else:
            self._pump()

    def _renew(self) -> None:
        if not self._renewing:
            self._renewing = True
            self._worn_out()

    def _finish(self, request: _Request, result: Any) -> None:
        timer, request.timer = request.timer, None
        if timer is not None and timer.active():
            timer.cancel()
        answer, request.answer = request.answer, None
        if answer is None:
            return
        if isinstance(result, LabError):
            answer.errback(result)
        else:
            answer.callback(result)
