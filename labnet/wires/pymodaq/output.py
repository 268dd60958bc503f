"""What one connection sends: messages in their order, long ones as they are, none cut by another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from labnet.errors import NotConnected
from labnet.transports.outflow import Outflow
from labnet.transports.prompt import write_now
from labnet.wires.pymodaq.codec import Parts

LONG = 1 << 16
"""From this size on (bytes) a message is handed to the socket without being copied."""
WAITING = 16 << 20
"""Bytes of messages that may wait for the other side to read."""


@implementer(IPushProducer)
class Output:
    """The sending half of a connection; `overflowed` is called when too much waits."""

    def __init__(self, transport: Any, overflowed: Callable[[], None]) -> None:
        self.full = False
        self._transport = transport
        self._overflowed = overflowed
        self._outflow: Outflow | None = None
        self._queue: deque[Parts] = deque()
        self._queued = 0
        self._room: list[Deferred[None]] = []
        self._closing = False
        transport.registerProducer(self, True)

    def send(self, parts: Parts) -> None:
        """Sends a message behind those that were sent before."""
        if self._closing:
            return
        size = sum(map(len, parts))
        if self._outflow is not None or self.full:
            self._queued += size
            if self._queued > WAITING:
                self._overflowed()
                return
        if self._outflow is not None:
            self._queue.append(parts)
        elif size < LONG:
            write_now(self._transport, b"".join(parts))
        else:
            self._begin(parts)

    def _begin(self, parts: Parts) -> None:
        self._transport.unregisterProducer()
        self.full = True
        self._outflow = outflow = Outflow(self._transport, self._units(parts))
        outflow.begin().addBoth(self._ended)

    def _units(self, parts: Parts) -> Iterator[Parts]:
        """A long message, and those that have come behind it meanwhile."""
        yield parts
        while self._queue:
            yield self._queue.popleft()

    def _ended(self, result: object) -> None:
        self._outflow = None
        if isinstance(result, Failure):
            return  # the connection is lost
        if self._closing:
            self._transport.loseConnection()
        else:
            self._transport.registerProducer(self, True)
            self.resumeProducing()

    def until_room(self) -> Deferred[None]:
        """Fires when the other side has taken what was sent."""
        if not self.full:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._room.append(waiting)
        return waiting

    def close(self) -> None:
        """Closes the connection behind what has been sent."""
        self._closing = True
        self._forget()
        if self._outflow is None:
            self._transport.unregisterProducer()
            self._transport.loseConnection()

    def lost(self) -> None:
        """The connection has ended."""
        self._closing = True
        self._forget()
        self._queue.clear()
        if self._outflow is not None:
            self._outflow.fail(NotConnected("the connection has ended"))

    def _forget(self) -> None:
        room, self._room = self._room, []
        for waiting in room:
            waiting.addErrback(lambda failure: failure.trap(CancelledError) and None)
            waiting.cancel()

    def pauseProducing(self) -> None:
        """The other side does not take what has been sent."""
        self.full = True

    def resumeProducing(self) -> None:
        """There is room again."""
        self.full = False
        self._queued = 0
        room, self._room = self._room, []
        for waiting in room:
            waiting.callback(None)

    def stopProducing(self) -> None:
        """The connection is closing."""
