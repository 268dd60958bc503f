"""The connections of a HiSLIP client, and what it has under way on them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IPullProducer, ITCPTransport
from zope.interface import implementer

from labnet.errors import LabError, NotConnected
from labnet.framing.blocks import find_block
from labnet.transports.kept import ClientProtocol, no_answer
from labnet.transports.prompt import write_now
from labnet.wires.hislip import codec
from labnet.wires.hislip.codec import Message, MessageSplitter, Piece

Progress = Callable[[int, int], None]
"""Told how many bytes of a block have come or gone, and how many it has."""


class Channel(ClientProtocol):
    """One of the two connections."""

    def __init__(self, where: str, keepalive: bool, in_pieces: bool) -> None:
        super().__init__(where)
        self._keepalive = keepalive
        self._splitter = MessageSplitter(codec.ASYNC_LIMIT, in_pieces)
        self.received: Callable[[Message | Piece], None] = lambda message: None
        self.failed: Callable[[LabError], None] = lambda error: None

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(self._keepalive)

    def dataReceived(self, data: bytes) -> None:
        self._splitter.feed(data)
        while not self.spent:
            try:
                message = self._splitter.take()
            except codec.PoorlyFormed as error:
                self.failed(NotConnected(f"{self.where} does not speak HiSLIP: {error}"))
                return
            if message is None:
                return
            if isinstance(message, codec.Oversized):
                name = codec.type_name(message.type)
                self.failed(NotConnected(f"{self.where} sent {name} of {message.length} bytes"))
                return
            self.received(message)

    def send(self, data: bytes) -> None:
        """Sends whole messages."""
        assert self.transport is not None
        write_now(self.transport, data)

    def ended(self) -> None:
        self.failed(no_answer(self.where))


class Answer:
    """What comes for one message, and who waits for it."""

    __slots__ = ("block", "data", "ended", "progress", "waiting")

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False
        self.waiting: Deferred[bytearray] | None = None
        self.progress: Progress | None = None
        self.block: tuple[int, int] | None = None

    def grown(self) -> None:
        """Tells about a block in it; raises `DeviceFault` if there is none."""
        if self.progress is None:
            return
        if self.block is None:
            self.block = find_block(self.data)
        if self.block is not None and self.block[1] >= 0:
            start, length = self.block
            self.progress(min(len(self.data) - start, length), length)


@dataclass
class Request:
    """A request on the asynchronous channel; `late` is told of an answer that nobody waits for."""

    answer: int
    waiting: Deferred[Message]
    late: Callable[[Message], None] | None = None


@implementer(IPullProducer)
class Sending:
    """A long message on its way: `send` gets part by part, and whether it is the last one.

    The message is `pieces`, joined. `done` fires when all has been sent; cancelling it, or `fail`,
    keeps back the rest.
    """

    def __init__(
        self,
        pieces: Sequence[bytes],
        size: int,
        send: Callable[[Sequence[memoryview], bool], None],
        progress: Progress | None,
    ) -> None:
        self.done: Deferred[None] = Deferred(lambda _: None)
        self._pieces = deque(memoryview(piece) for piece in pieces)
        self._length = sum(map(len, pieces))
        self._size = size
        self._send = send
        self._progress = progress
        self._at = 0

    @property
    def complete(self) -> bool:
        """Whether the last part has been sent."""
        return self._at == self._length

    def resumeProducing(self) -> None:
        if self.done.called:
            return
        part = self._part()
        self._at += sum(map(len, part))
        self._send(part, self.complete)
        if self._progress is not None:
            self._progress(self._at, self._length)
        if self.complete and not self.done.called:
            self.done.callback(None)

    def _part(self) -> list[memoryview]:
        """The bytes of the next message."""
        part = []
        room = self._size
        while room and self._pieces:
            piece = self._pieces.popleft()
            if len(piece) > room:
                self._pieces.appendleft(piece[room:])
                piece = piece[:room]
            part.append(piece)
            room -= len(piece)
        return part

    def stopProducing(self) -> None:
        """The connection is lost; the link tells who waits."""

    def fail(self, error: LabError) -> None:
        """The rest is not sent."""
        if not self.done.called:
            self.done.errback(error)


class Watch:
    """A time limit for one Deferred after the other, for less than a timer each.

    The timer of an earlier one that was done in time goes on, and then waits for what is left.
    """

    def __init__(self, clock: Any) -> None:
        #: The last limit.
        self.seconds = 0.0
        self._clock = clock
        self._end = 0.0
        self._watched: Deferred[Any] | None = None
        self._late = False
        self._timer: IDelayedCall | None = None

    def begin(self, watched: Deferred[Any], seconds: float) -> None:
        """Cancels `watched` after so many seconds, unless `end` comes first."""
        self._watched, self._late, self.seconds = watched, False, seconds
        self._end = end = self._clock.seconds() + seconds
        timer = self._timer
        if timer is None:
            self._timer = self._clock.callLater(seconds, self._look)
        elif timer.getTime() > end:
            timer.reset(seconds)

    def end(self) -> bool:
        """It is done; whether it was cancelled from here."""
        self._watched = None
        return self._late

    def _look(self) -> None:
        self._timer = None
        watched = self._watched
        if watched is None:
            return
        left = self._end - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
            return
        self._late = True
        watched.cancel()

    def close(self) -> None:
        """Nothing is watched any more."""
        self._watched = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
