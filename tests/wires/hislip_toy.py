"""What the recorded HiSLIP clients talked to, and what the tests of that wire share."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Annotated, Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from labnet.device import Device, Identity, command, parameter
from labnet.lab import Lab, ServeOptions
from labnet.values import RAW_TEXT
from labnet.wires.hislip.codec import (
    HEADER_SIZE,
    Message,
    MessageSplitter,
    Oversized,
    Type,
    encode,
    encode_initialize,
)
from labnet.wires.hislip.server import HislipFactory, Options, listen

SYNCHRONOUS = frozenset((0, 2, 3, 6, 7, 8, 12))
"""Types that a client sends on the synchronous channel."""

OPENING = frozenset((Type.INITIALIZE, Type.ASYNC_INITIALIZE))

FIRST = 0xFFFFFF00


class Recorded(Device):
    """The instrument of ``tests/vectors/hislip.jsonl``."""

    identity = Identity("LABNET", "SIM", "0001", "0.1")
    triggers = parameter(int, initial=0, access="r", scpi="TEST:TRIGger")
    service_request = parameter(int, initial=0, access="r", scpi="")
    level = parameter(float, initial=1.0)

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._sunk = b""
        self.waits: list[Deferred[str]] = []

    @command(scpi="TEST:BLOCk?", reads=True)
    def block(self, size: int) -> bytes:
        """A block of so many bytes, counting up."""
        return bytes(range(256)) * (size // 256) + bytes(range(size % 256))

    @command(scpi="TEST:SINK")
    def sink(self, data: bytes) -> None:
        """Keeps a block."""
        self._sunk = data

    @command(scpi="TEST:SINK?", reads=True)
    def sunk(self) -> list[int]:
        """Length and CRC-32 of the block."""
        return [len(self._sunk), zlib.crc32(self._sunk)]

    @command(scpi="TEST:WAIT?", long=True, reads=True)
    async def wait(self, seconds: float) -> Annotated[str, RAW_TEXT]:
        """Answers after a time."""
        await deferLater(self._clock, seconds)
        return "done"

    @command(scpi="TEST:SRQ")
    def srq(self) -> None:
        """Asks for service."""
        self.service_request += 1

    @command(scpi="")
    def trigger(self) -> None:
        """Counts a trigger."""
        self.triggers += 1

    @command(scpi="SLOW?")
    def slow(self) -> Deferred[str]:
        """Ends when the test says so."""
        done: Deferred[str] = Deferred()
        self.waits.append(done)
        return done


def messages(data: bytes) -> list[Message]:
    """The messages in `data`, of which nothing may be left."""
    splitter = MessageSplitter(1 << 40)
    splitter.feed(data)
    found: list[Message] = []
    while (message := splitter.take()) is not None:
        assert not isinstance(message, Oversized)
        found.append(message)
    assert not splitter.pending
    return found


class Wire:
    """One connection to a server in memory."""

    def __init__(self, factory: HislipFactory, port: int = 40000) -> None:
        self.address = IPv4Address("TCP", "127.0.0.1", port)
        self.transport = StringTransport(peerAddress=self.address)
        self.server = factory.buildProtocol(self.address)
        self.server.makeConnection(self.transport)
        self.lost = False
        self._taken: list[Message] = []

    def send(self, data: bytes, split: str = "whole") -> None:
        """Delivers bytes, unless the server has closed the connection."""
        pieces: Iterable[bytes] = [data]
        if split == "bytewise":
            pieces = (data[at : at + 1] for at in range(len(data)))
        for piece in pieces:
            if not self.closed:
                self.server.dataReceived(piece)

    def received(self) -> list[Message]:
        """What has come back since the last time."""
        data = self.transport.value()
        self.transport.clear()
        taken, self._taken = self._taken, []
        return taken + messages(data)

    def next(self) -> Message | None:
        """The next message that has come back."""
        self._taken = self.received()
        return self._taken.pop(0) if self._taken else None

    @property
    def closed(self) -> bool:
        return bool(self.transport.disconnecting or self.transport.disconnected)

    def vanish(self) -> None:
        """The connection is lost."""
        if not self.lost:
            self.lost = True
            self.server.connectionLost(Failure(ConnectionLost()))


class Pair:
    """A client with both channels open."""

    def __init__(self, factory: HislipFactory, name: str = "hislip0", port: int = 40000) -> None:
        self.sync = Wire(factory, port)
        self.asyn = Wire(factory, port + 1)
        self.sync.send(encode_initialize(name))
        [opened] = self.sync.received()
        assert opened.type == Type.INITIALIZE_RESPONSE, opened
        self.number = opened.parameter & 0xFFFF
        self.asyn.send(encode(Type.ASYNC_INITIALIZE, 0, self.number))
        [paired] = self.asyn.received()
        assert paired.type == Type.ASYNC_INITIALIZE_RESPONSE, paired
        self.id = FIRST

    def write(self, data: bytes, delivered: int = 0, kind: int = Type.DATA_END) -> int:
        """Sends a message; its id."""
        number, self.id = self.id, self.id + 2 & 0xFFFFFFFF
        self.sync.send(encode(kind, delivered, number, data))
        return number

    def query(self, data: bytes, delivered: int = 0) -> bytes:
        """Sends a message; its answer."""
        number = self.write(data, delivered)
        answer = b""
        for message in self.sync.received():
            assert message.type in (Type.DATA, Type.DATA_END), message
            assert message.parameter == number
            answer += message.payload
        return answer

    def ask(self, type: int, control: int = 0, parameter: int = 0, payload: bytes = b"") -> Any:
        """A request on the asynchronous channel; its answer, None if there is none yet."""
        self.asyn.send(encode(type, control, parameter, payload))
        return self.asyn.next()

    def status(self, delivered: int = 0, number: int | None = None) -> int:
        """The status byte, as pyvisa-py asks for it."""
        answer = self.ask(
            Type.ASYNC_STATUS_QUERY, delivered, self.id if number is None else number
        )
        assert answer.type == Type.ASYNC_STATUS_RESPONSE, answer
        control: int = answer.control
        return control

    def lock(self, key: bytes = b"", milliseconds: int = 0) -> int | None:
        """The code of the answer to a lock request, None if it waits."""
        answer = self.ask(Type.ASYNC_LOCK, 1, milliseconds, key)
        return None if answer is None else int(answer.control)

    def unlock(self, number: int | None = None) -> int | None:
        """The code of the answer to a release, None if it waits."""
        number = self.id - 2 & 0xFFFFFFFF if number is None else number
        answer = self.ask(Type.ASYNC_LOCK, 0, number)
        return None if answer is None else int(answer.control)

    def vanish(self) -> None:
        """Both connections are lost."""
        self.sync.vanish()
        self.asyn.vanish()


class Bench:
    """A lab with a recorded instrument (and another one) behind HiSLIP, on a test clock."""

    def __init__(self, **options: Any) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.lab = Lab(self.reactor, self.reactor)
        self.device = Recorded(self.reactor)
        self.other = Recorded(self.reactor)
        self.lab.attach("sim", self.device)
        self.lab.attach("other", self.other)
        common = ServeOptions(name="h", devices={"hislip0": "sim", "hislip1": "other"})
        listening = Deferred.fromCoroutine(
            listen(self.lab, "tcp:4880", common, Options(**options), self.reactor)
        )
        listening.addErrback(Failure.raiseException)
        gate: Any = self.reactor.tcpServers[-1][1]
        self.factory: HislipFactory = gate._factory

    def pair(self, name: str = "hislip0") -> Pair:
        """A new client."""
        return Pair(self.factory, name)

    def wire(self) -> Wire:
        """A new connection on which nothing was said."""
        return Wire(self.factory)

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.reactor.advance(seconds)


def body(message: bytes) -> bytes:
    """The payload of a recorded message."""
    return message[HEADER_SIZE:]
