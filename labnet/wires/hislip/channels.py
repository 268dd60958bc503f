"""The connections of a HiSLIP client, and what it has asked on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred

from labnet.errors import LabError, NotConnected
from labnet.transports.kept import ClientProtocol, no_answer
from labnet.transports.prompt import USUAL_READ, read_as_much, write_now
from labnet.wires.hislip import codec
from labnet.wires.hislip.codec import Message, MessageSplitter, Piece


class Channel(ClientProtocol):
    """One of the two connections."""

    def __init__(self, where: str, keepalive: bool, in_pieces: bool) -> None:
        super().__init__(where, keepalive)
        self._large = False  # the last read was
        self._splitter = MessageSplitter(codec.ASYNC_LIMIT, in_pieces)
        self.received: Callable[[Message | Piece], None] = lambda message: None
        self.failed: Callable[[LabError], None] = lambda error: None

    def dataReceived(self, data: bytes) -> None:
        size = len(data)
        if size >= USUAL_READ or self._large:
            self._large = read_as_much(self.transport, size)
        if not self.spent:
            whole = self._splitter.whole(data)
            if whole is not None:
                self.received(whole)
                return
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


@dataclass
class Request:
    """A request on the asynchronous channel; `late` is told of an answer that nobody waits for."""

    answer: int
    waiting: Deferred[Message]
    late: Callable[[Message], None] | None = None
