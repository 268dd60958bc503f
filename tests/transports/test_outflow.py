"""Long messages that leave as they are."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

from twisted.internet import reactor, tcp
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.errors import NotConnected
from labnet.transports.outflow import Outflow, Unit, plain_tcp

MEGABYTES = bytes(range(256)) * 20_000


def in_units(data: bytes, size: int, asked: list[int] | None = None) -> Iterator[Unit]:
    """Each unit is a header and a view of the data."""
    view = memoryview(data)
    for start in range(0, len(data), size):
        if asked is not None:
            asked.append(start)
        part = view[start : start + size]
        yield b"%08d" % len(part), part[:1], b"", part[1:]


def units_of(data: bytes) -> bytes:
    """What was sent as such units, all of which must be whole."""
    found = b""
    while data:
        size = int(data[:8])
        assert len(data) >= 8 + size, "a unit was cut"
        found += data[8 : 8 + size]
        data = data[8 + size :]
    return found


class Sink(Protocol):
    """The peer, which may not read for a while."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.wanted = 0
        self.enough: Deferred[None] = Deferred()
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.got += data
        if self.wanted and len(self.got) >= self.wanted and not self.enough.called:
            self.enough.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


class Source(Protocol):
    def __init__(self) -> None:
        self.gone: Deferred[None] = Deferred()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


class SocketTests(TestCase):
    """Over the loopback interface."""

    async def setUp(self) -> None:  # type: ignore[override]
        self.sink = Sink()
        factory = Factory()
        factory.buildProtocol = lambda address: self.sink  # type: ignore[assignment]
        port: Any = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        there = TCP4ClientEndpoint(reactor, "127.0.0.1", port.getHost().port)
        self.source: Any = await connectProtocol(there, Source())
        self.transport = self.source.transport
        while self.sink.transport is None:
            turn: Deferred[None] = Deferred()
            reactor.callLater(0, turn.callback, None)  # type: ignore[attr-defined]
            await turn
        self.addCleanup(self.end)

    async def end(self) -> None:
        self.transport.abortConnection()
        await self.source.gone
        await self.sink.gone

    async def test_all_of_it(self) -> None:
        self.assertIs(plain_tcp(self.transport), self.transport)
        for data, size in ((MEGABYTES, 1 << 20), (MEGABYTES, 5000), (b"x", 10), (b"", 10)):
            units = -(-len(data) // size)
            self.sink.got.clear()
            self.sink.wanted = len(data) + 8 * units
            self.sink.enough = Deferred()
            await Outflow(self.transport, in_units(data, size)).begin()
            if data:
                await self.sink.enough
            self.assertEqual(units_of(bytes(self.sink.got)), data)
            self.assertIsNone(self.transport.producer)

    async def test_order_with_other_writes(self) -> None:
        """It begins behind what was written before, and what comes after it is behind it."""
        before, after = b"%08d" % 3_000_000 + bytes(3_000_000), b"%08d" % 3 + b"end"
        self.sink.wanted = len(before) + len(MEGABYTES) + 8 + len(after)
        self.transport.write(before)
        await Outflow(self.transport, in_units(MEGABYTES, len(MEGABYTES))).begin()
        self.transport.write(after)
        await self.sink.enough
        self.assertEqual(units_of(bytes(self.sink.got)), bytes(3_000_000) + MEGABYTES + b"end")

    async def test_given_up(self) -> None:
        """The unit that has begun goes out whole, the others not at all."""
        self.sink.transport.pauseProducing()  # type: ignore[union-attr]
        asked: list[int] = []
        data = MEGABYTES * 4
        outflow = Outflow(self.transport, in_units(data, 1 << 20, asked))
        done = outflow.begin()
        self.assertFalse(done.called)
        self.assertLess(len(asked), 20)
        done.cancel()
        await self.assertFailure(done, CancelledError)
        self.assertIsNone(self.transport.producer)
        expected = len(asked) << 20
        self.sink.wanted = expected + 8 * len(asked)
        self.sink.transport.resumeProducing()  # type: ignore[union-attr]
        await self.sink.enough
        self.assertEqual(units_of(bytes(self.sink.got)), data[:expected])

    async def test_a_lost_connection(self) -> None:
        """The protocol says so, since the transport tells it."""
        self.sink.transport.pauseProducing()  # type: ignore[union-attr]
        outflow = Outflow(self.transport, in_units(MEGABYTES * 4, 1 << 20))
        done = outflow.begin()
        self.sink.transport.abortConnection()  # type: ignore[union-attr]
        await self.source.gone
        self.assertFalse(done.called)
        outflow.fail(NotConnected("lost"))
        await self.assertFailure(done, NotConnected)
        outflow.fail(NotConnected("again"))


class ElsewhereTests(SynchronousTestCase):
    """On transports that are no plain TCP."""

    def test_unit_by_unit(self) -> None:
        transport = StringTransport()
        self.assertIsNone(plain_tcp(transport))
        data = bytes(range(200))
        done = Outflow(transport, in_units(data, 64)).begin()
        sent = [len(transport.value())]
        while not done.called:
            transport.producer.resumeProducing()
            sent.append(len(transport.value()))
        self.assertEqual(sent, [0, 72, 144, 216, 232, 232])
        self.assertEqual(units_of(transport.value()), data)
        self.assertIsNone(transport.producer)

    def test_a_mistake_of_the_caller(self) -> None:
        def units() -> Iterator[Unit]:
            yield (b"one",)
            raise KeyError("progress")

        transport = StringTransport()
        done = Outflow(transport, units()).begin()
        transport.producer.resumeProducing()
        self.assertNoResult(done)
        transport.producer.resumeProducing()
        self.failureResultOf(done, KeyError)
        self.assertEqual(transport.value(), b"one")

    def test_a_broken_socket(self) -> None:
        """What was begun is left to the reactor, which meets the same error."""
        here, there = socket.socketpair()
        self.addCleanup(here.close)
        there.close()
        transport = tcp.Connection(here, Source(), _Reactor())  # type: ignore[arg-type]
        transport.connected = 1
        outflow = Outflow(transport, in_units(b"data", 10))
        done = outflow.begin()
        self.assertNoResult(done)
        self.assertIsInstance(transport.doWrite(), Exception)
        outflow.fail(NotConnected("lost"))
        self.failureResultOf(done, NotConnected)


class _Reactor:
    """Takes note of nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args: None
