"""A server's end of a connection on which requests are answered one after the other.

Replies leave in the order of the requests, all that are ready in one write. A request that takes
time holds up its own connection only; what waits behind it is bounded, and forgotten when the
client goes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IReactorTime,
    ITransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from labnet.logs import Logger
from labnet.transports.prompt import (
    MESSAGES_A_TURN,
    USUAL_READ,
    Buffer,
    Pace,
    close_now,
    read_as_much,
    read_now,
    was_reset,
    write_now,
)

STREAM_FROM = 256 * 1024
"""Replies of so many bytes are sent piece by piece, as the client takes them."""

PIECE = 1024 * 1024
SHORT = 64 * 1024

REPLIES_A_TURN = 1024 * 1024
"""Bytes of replies that are gathered before they are written."""

LAST_WORDS = 10.0
"""Seconds after the end of a client's stream in which what it has asked may still be begun."""

M = TypeVar("M")
Reply = bytes | list[Buffer]
"""Bytes, or parts that are not joined, for what is long."""

Answer = Reply | Deferred[Any]


@implementer(IHalfCloseableProtocol)
class OrderedProtocol(Protocol, Generic[M]):
    """One client. Subclasses say how its bytes become messages, and what a message asks for.

    Most connections of some wires live for one request, so that what costs is put off until it is
    needed. A client that half-closes still gets its answers; then the connection is closed. As one
    that has gone looks the same at first, what it asked must begin soon, and is forgotten once a
    reply was refused.
    """

    _log = Logger()

    _pace: Pace | None = None
    _seen = False  # something has been received before
    _busy = False  # a request waits for its answer
    _streaming = False
    _large = False  # the last read was
    _last = False  # nothing more is received, or nothing more is carried out
    _closed = False
    _last_words: IDelayedCall | None = None

    def __init__(self, clock: IReactorTime, peer: IAddress | None) -> None:
        self._clock = clock
        self._peer = peer
        self._messages: deque[M] = deque()
        self._replies: list[Buffer] = []
        self._in_parts = False  # some of them are parts of one

    # For subclasses

    def split(self, data: bytes) -> Iterable[M]:
        """The messages that `data` completes."""
        raise NotImplementedError

    def begin(self, message: M) -> Answer:
        """Carries out a message; its reply, empty if it has none.

        A Deferred that fails is a mistake of the wire: it is logged and closes the connection.
        """
        raise NotImplementedError

    def ended(self) -> None:
        """The connection has ended."""

    @property
    def peer(self) -> str:
        """Where the client is, ``host:port``."""
        host = getattr(self._peer, "host", None)
        return f"{host}:{getattr(self._peer, 'port', '')}" if host else "local"

    def finish(self) -> None:
        """Nothing more is carried out; the connection closes when what is ready has been sent."""
        self._last = True
        self._messages.clear()

    def wind_up(self) -> None:
        """The listener stops: what is being carried out is answered, then the connection closes."""
        self.finish()
        self._send()

    def forget(self) -> None:
        """Drops the messages that wait, and the rest of a long reply."""
        self._messages.clear()
        self._replies.clear()
        self._streaming = False

    # What arrives

    def connectionMade(self) -> None:
        if self.transport is not None:
            read_now(self.transport)

    def dataReceived(self, data: bytes) -> None:
        if self._last:
            return
        size = len(data)
        if size >= USUAL_READ or self._large:
            self._large = read_as_much(self.transport, size)
        self._messages += self.split(data)
        if not self._seen:
            self._seen = True
            if not self._handle(MESSAGES_A_TURN):
                return
        self._paced().received(size)

    def arrived(self, messages: Iterable[M]) -> None:
        """Takes messages that were completed by something other than bytes."""
        self._messages += messages
        self._paced().received()

    def _paced(self) -> Pace:
        pace = self._pace
        if pace is None:
            transport: ITransport | None = self.transport
            assert transport is not None
            pace = self._pace = Pace(transport, self._handle, self._clock)
        return pace

    def _handle(self, budget: int) -> bool:
        """Carries out at most `budget` messages; whether some are left that need not wait."""
        messages, replies = self._messages, self._replies
        if self._last and messages and self.transport is not None and was_reset(self.transport):
            messages.clear()
        begin = self.begin
        room = REPLIES_A_TURN
        while messages and budget and room > 0 and not self._busy:
            budget -= 1
            answer = begin(messages.popleft())
            if answer.__class__ is bytes:
                replies.append(answer)
                room -= len(answer)
            elif isinstance(answer, Deferred):
                self._await(answer)
            else:
                room -= self._add(answer)
        self._send()
        return bool(messages) and not self._busy

    def _add(self, reply: Reply) -> int:
        """Puts a reply among those that are ready; its size."""
        if isinstance(reply, bytes):
            self._replies.append(reply)
            return len(reply)
        self._in_parts = True
        self._replies += reply
        return sum(map(len, reply))

    def _await(self, answer: Deferred[Any]) -> None:
        self._busy = True
        self._paced().hold()
        answer.addCallbacks(self._answered, self._broken)

    def _answered(self, reply: Reply) -> None:
        self._busy = False
        if self._closed:
            return
        self._add(reply)
        if self._last:
            self._send()  # shows whether the client is still there
        self._paced().release()  # carries out what waited, and sends this reply with the others
        self._send()

    def _broken(self, failure: Failure) -> None:
        self._log.failure("a request of {peer} failed", failure, peer=self.peer)
        self.finish()
        self._answered(b"")

    # What leaves

    def sent(self, data: bytes) -> None:
        """For subclasses: `data` is going to the client."""

    def _send(self) -> None:
        replies = self._replies
        if replies and not self._streaming:
            ready = replies.copy()
            replies.clear()  # first, as others may come while these leave
            if self._in_parts:
                self._send_parts(ready)
            elif data := b"".join(ready) if len(ready) > 1 else bytes(ready[0]):
                self.sent(data)
                self._write(data)
        if self._last and self._done():
            self._close()

    def _done(self) -> bool:
        return not (self._messages or self._busy or self._streaming or self._replies)

    def _write(self, data: bytes) -> None:
        if len(data) > STREAM_FROM:
            self._streaming = True
            self._paced().stream(self._pieces(data))
        elif self._pace is not None:
            self._pace.write(data)
        elif self.transport is not None:
            write_now(self.transport, data)

    def _pieces(self, data: Buffer) -> Iterator[memoryview]:
        yield from self._cut(memoryview(data))
        self._streaming = False

    def _cut(self, data: memoryview) -> Iterator[memoryview]:
        for start in range(0, len(data), PIECE):
            if not self._streaming:
                return
            yield data[start : start + PIECE]

    def _send_parts(self, parts: list[Buffer]) -> None:
        self._in_parts = False
        self.sent(bytes(parts[0]))
        self._streaming = True
        self._paced().stream(self._grouped(parts))

    def _grouped(self, parts: list[Buffer]) -> Iterator[Buffer]:
        """What is short goes together with the beginning of what follows it."""
        short = b""
        for part in parts:
            view = memoryview(part)
            short = b"".join((short, view[:SHORT]))
            if len(view) > SHORT:
                yield short
                yield from self._cut(view[SHORT:])
                short = b""
        if short and self._streaming:
            yield short
        self._streaming = False

    # The end

    def readConnectionLost(self) -> None:
        """The client sends nothing more but may still read: answer what it has asked."""
        self._last = True
        if self._pace is None and self._done() and not self._closed:
            self._closed = True
            if self.transport is not None:
                close_now(self.transport)
        else:
            self._send()
            if self._messages and not self._closed:
                self._last_words = self._clock.callLater(LAST_WORDS, self._too_late)

    def _too_late(self) -> None:
        self._last_words = None
        self.wind_up()

    def writeConnectionLost(self) -> None:
        """We never half-close."""

    def _close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._pace is not None:
            self._pace.close()
        elif self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._closed = self._last = True
        self._messages.clear()
        if self._last_words is not None:
            self._last_words.cancel()
            self._last_words = None
        if self._pace is not None:
            self._pace.stop()
        self.ended()


def first_time(seen: set[Any], host: Any, limit: int = 1000) -> bool:
    """Whether `host` has not connected before, as far as is remembered."""
    if host in seen:
        return False
    if len(seen) < limit:
        seen.add(host)
    return True
