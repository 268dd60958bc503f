"""Long messages on their way out, as they are: neither joined nor copied.

Twisted's `transport.write` keeps what it is given, joins it to what waits already, and offers the
socket 128 KiB a turn. For messages of megabytes that costs more than the sending; so an `Outflow`
hands its buffers to the socket itself, as many as it takes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

SENT_A_TURN = 4 * 1024 * 1024
"""Bytes that are sent before others have their turn."""

Unit = Sequence[bytes | memoryview]
"""Buffers that go out whole or not at all."""


def take_buffers(rest: deque[memoryview], size: int) -> list[memoryview]:
    """Takes so many bytes, or what there is, out of `rest`."""
    taken = []
    while size and rest:
        piece = rest.popleft()
        if len(piece) > size:
            rest.appendleft(piece[size:])
            piece = piece[:size]
        taken.append(piece)
        size -= len(piece)
    return taken


def plain_tcp(transport: Any) -> tcp.Connection | None:
    """The transport if it is Twisted's own for TCP, without TLS, whose socket may be used."""
    if (
        isinstance(transport, tcp.Connection)
        and type(transport).write is tcp.Connection.write
        and type(transport).writeSomeData is tcp.Connection.writeSomeData
        and not transport.TLS
    ):
        return transport
    return None


@implementer(IPullProducer)
class Outflow:
    """Sends `units` one after the other, as the peer takes them; each is asked for when it is due.

    `done` fires when all have been handed to the system. Cancelling it, or `fail`, keeps back the
    units that have not begun. The transport may have no other producer meanwhile.
    """

    def __init__(self, transport: Any, units: Iterator[Unit]) -> None:
        self.done: Deferred[None] = Deferred(lambda _: self._give_up())
        self._transport = transport
        self._plain = plain_tcp(transport)
        self._units = units
        self._left: list[memoryview] = []  # of the unit that has begun

    def begin(self) -> Deferred[None]:
        """Starts; gives `done`."""
        self._transport.registerProducer(self, False)
        return self.done.addBoth(self._ended)

    def fail(self, error: Exception) -> None:
        """What has not begun is not sent."""
        if not self.done.called:
            self._give_up()
            self.done.errback(error)

    def _give_up(self) -> None:
        left, self._left = self._left, []
        if left:
            self._transport.write(b"".join(left))

    def _ended(self, result: Any) -> Any:
        self._transport.unregisterProducer()
        return result

    def resumeProducing(self) -> None:
        """The transport has nothing queued."""
        if self.done.called:
            return
        if self._plain is None:
            self._send_unit()
        elif not (self._plain.dataBuffer or self._plain._tempDataBuffer):
            self._send(self._plain)

    def _begin_unit(self) -> bool:
        """Takes the next unit; whether there is one."""
        try:
            unit = next(self._units, None)
        except Exception:  # of a callback of the caller's
            self.done.errback()
            return False
        if unit is None:
            self.done.callback(None)
            return False
        self._left = [memoryview(piece) for piece in unit if piece]
        return not self.done.called

    def _send_unit(self) -> None:
        if self._begin_unit():
            left, self._left = self._left, []
            self._transport.write(b"".join(left))

    def _send(self, plain: tcp.Connection) -> None:
        room = SENT_A_TURN
        while room > 0 and (self._left or self._begin_unit()):
            try:
                sent = plain.socket.sendmsg(self._left)
            except BlockingIOError:
                break
            except OSError:
                self._give_up()  # the reactor meets the same error and ends the connection
                return
            self._took(sent)
            room -= sent
        if not self.done.called:
            plain.startWriting()

    def _took(self, sent: int) -> None:
        left = self._left
        while left and sent >= len(left[0]):
            sent -= len(left.pop(0))
        if sent:
            left[0] = left[0][sent:]

    def stopProducing(self) -> None:
        """The connection is lost; the protocol tells who waits."""
