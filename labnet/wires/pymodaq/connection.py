"""The connection of one module: bytes to messages, in slices; what is no message ends it."""

from __future__ import annotations

from collections import deque
from typing import Any
from typing import Protocol as Interface

from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from labnet.transports.prompt import MESSAGES_A_TURN, Pace
from labnet.transports.receiving import USUAL_READ, read_at_most, receive_into
from labnet.wires.pymodaq.codec import (
    ANY,
    FROM_HARDWARE,
    Decoder,
    Identify,
    Infos,
    InfoXml,
    Kind,
    Message,
    Quit,
)
from labnet.wires.pymodaq.generations import Among, Generation
from labnet.wires.pymodaq.module import Clock, Manners, Module
from labnet.wires.pymodaq.primitives import Malformed

SLICE = 4096
"""Bytes that are read as messages at a time, beside arrays: they may be many small ones."""

DIRECT = 32 * 1024
"""Bytes of an array still to come, from which on it is received without a copy."""

DIRECT_A_TURN = 4 * 1024 * 1024

LONG = frozenset({Infos, InfoXml})
"""A tree that is shown anew may take as long as many other messages: one a turn."""

UNTOLD = frozenset({Generation.C1, Generation.C2, Generation.C3})
"""Generations that are taken for C3: what the older ones do not send is waited for in vain."""

GOODBYE = "it has said goodbye"


class Owner(Interface):
    """What a connection asks of those who listen."""

    manners: Manners
    clock: Clock

    def make(self, kind: Kind, line: ModuleConnection) -> Module:
        """A module has said what it is."""

    def refused(self, peer: str, reason: str) -> None:
        """The peer has sent what it must not, and is dropped."""

    def gone(self, line: ModuleConnection) -> None:
        """The connection has ended."""


class ModuleConnection(Protocol):
    """One connection. The module is made when it has said what it is."""

    transport: Any

    def __init__(self, owner: Owner, address: IAddress | None) -> None:
        self.peer, self.host = _names(address)
        self.module: Module | None = None
        self._owner = owner
        self._reason = ""
        self._messages: deque[Message] = deque()
        self._data: deque[memoryview | bytes] = deque()
        self._pace: Pace | None = None
        self._watch: IDelayedCall | None = None
        self._heard = 0.0
        self._large = False  # the last frame was
        manners = owner.manners
        among = ANY if manners.generation is None else frozenset({manners.generation})
        self._decoder = Decoder(FROM_HARDWARE, among, manners.max_message)

    @property
    def among(self) -> Among:
        """The generations that it may be of."""
        return self._decoder.among

    @property
    def generation(self) -> Generation | None:
        """Its generation, if that is known."""
        return self._decoder.generation

    def connectionMade(self) -> None:
        self._pace = Pace(self.transport, self._handle, self._owner.clock)  # type: ignore[arg-type]
        # One that never says what it is has begun a message that never ends.
        self._look_out()

    def dataReceived(self, data: bytes) -> None:
        assert self._pace is not None
        self._heard = self._owner.clock.seconds()
        self._data.append(data)
        self._pace.received(len(data))
        if self._decoder.wanted >= DIRECT:
            self._receive()
            if not self._large:
                self._expect(True)
        elif self._large and len(data) >= SLICE:
            self._expect(False)

    def _expect(self, large: bool) -> None:
        """More frames like this one: only the beginning of a large one is read in the usual way."""
        self._large = large
        read_at_most(self.transport, SLICE if large else USUAL_READ)

    def _receive(self) -> None:
        """Takes the rest of a large array from the socket to where it belongs."""
        assert self._pace is not None
        decoder, left = self._decoder, DIRECT_A_TURN
        while left > 0 and not (self._data or self._reason or self._pace.held):
            room = decoder.room
            size = 0 if room is None else receive_into(self.transport, room)
            if not size:
                break
            left -= size
            self._messages.extend(decoder.took(size))
        if self._messages:
            self._pace.received()

    # Messages

    def _handle(self, budget: int) -> bool:
        """Handles some of what has come; whether there is more."""
        messages = self._messages
        while budget > 0 and not self._reason:
            if not messages and not (self._data and self._read()):
                break
            while messages and budget > 0 and not self._reason:
                message = messages.popleft()
                self._dispatch(message)
                budget -= MESSAGES_A_TURN if type(message) in LONG else 1
        if self._decoder.inside and self._watch is None and not self._reason:
            self._look_out()
        return bool(messages or self._data) and not self._reason

    def _read(self) -> bool:
        """Reads a slice of what has come; true, as there is some."""
        data = self._data.popleft()
        wanted = self._decoder.wanted
        size = wanted if wanted > SLICE else SLICE
        if len(data) > size:
            view = memoryview(data)
            self._data.appendleft(view[size:])
            data = view[:size]
        self._messages.extend(self._decoder.feed(data))
        if self._decoder.fault and not self._messages:
            self.drop(self._decoder.fault)
        return True

    def _dispatch(self, message: Message) -> None:
        if self.module is None:
            if isinstance(message, Identify):
                self._look_away()
                self.module = self._owner.make(message.kind, self)
            else:
                self.drop("it does not say what it is")
        elif isinstance(message, Quit):
            self._end(GOODBYE)
        else:
            try:
                self.module.received(message)
            except Malformed as error:
                self.drop(str(error))
        if self._decoder.fault and not self._messages:
            self.drop(self._decoder.fault)

    def send(self, data: bytes) -> None:
        """Sends an order."""
        if self._pace is not None and not self._reason:
            self._pace.write(data)

    # Messages that do not end

    def _look_out(self) -> None:
        self._heard = self._owner.clock.seconds()
        self._watch = self._owner.clock.callLater(self._owner.manners.stall, self._look)

    def _look_away(self) -> None:
        watch, self._watch = self._watch, None
        if watch is not None and watch.active():
            watch.cancel()

    def _look(self) -> None:
        self._watch = None
        if self.module is not None and not self._decoder.inside:
            return
        left = self._heard + self._owner.manners.stall - self._owner.clock.seconds()
        if left > 1e-6:
            self._watch = self._owner.clock.callLater(left, self._look)
        elif self.module is None:
            self.drop("it does not say what it is")
        else:
            self.drop(f"it has stopped inside a message{self._perhaps()}")

    def _perhaps(self) -> str:
        """What a user may do about a message that does not end."""
        if self._owner.manners.generation is None and self.among <= UNTOLD:
            return "; if it is of PyMoDAQ 4.1, set generation = C1 or C2 in the section"
        came = self._decoder.pending - self._decoder.wanted
        return f" ({came} bytes of it came)"

    # The end

    def drop(self, reason: str) -> None:
        """Ends the connection because of what the peer has done; for no reason without a word."""
        if not self._reason:
            if reason:
                self._owner.refused(self.peer, reason)
            self._end(f"its connection was closed: {reason}" if reason else "it was sent away")

    def _end(self, reason: str) -> None:
        """With a reset: at a mere end of the stream PyMoDAQ's own programs read on for ever."""
        self._reason = reason
        self._data.clear()
        self._messages.clear()
        self.transport.abortConnection()

    def wind_up(self) -> None:
        """The listener stops."""
        if not self._reason:
            self._end("the listener has stopped")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._pace is not None:
            self._pace.stop()
        self._look_away()
        if not self._reason:
            inside = self._decoder.inside
            self._reason = "it has gone inside a message" if inside else "its connection is lost"
        self._data.clear()
        if self.module is not None:
            self.module.lose(self._reason)
        self._owner.gone(self)


def _names(address: Any) -> tuple[str, str]:
    """``host:port`` and the host of an address; of one that has none, what it is called."""
    host = getattr(address, "host", None)
    if host is None:
        return "a local socket", ""
    return f"{host}:{address.port}", str(host)
