"""Large arrays go from the socket to their place."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from labnet.transports.receiving import USUAL_READ, read_at_most, receive_into

SIZE = 8 * 1024 * 1024


class Filling(Protocol):
    """Takes the first bytes as they come, and the rest into its room."""

    transport: Any

    def __init__(self) -> None:
        self.room = memoryview(bytearray(SIZE))
        self.at = 0
        self.direct = 0
        self.full: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.room[self.at : self.at + len(data)] = data
        self.at += len(data)
        while size := receive_into(self.transport, self.room[self.at :]):
            self.at += size
            self.direct += size
        if self.at == SIZE and not self.full.called:
            self.full.callback(None)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class SocketTests(TestCase):
    """Over the loopback interface."""

    timeout = 20

    async def test_all_of_it_in_order(self) -> None:
        from twisted.internet import reactor

        server = Filling()
        factory: Any = Factory()
        factory.buildProtocol = lambda addr: server
        factory.noisy = False
        port: Any = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(factory)
        self.addCleanup(port.stopListening)
        where = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
        client: Any = await connectProtocol(where, Protocol())
        sent = bytes(range(256)) * (SIZE // 256)
        client.transport.write(sent)
        await server.full
        self.assertTrue(server.room == sent)
        self.assertGreater(server.direct, 0)
        self.assertEqual(receive_into(server.transport, server.room), 0)  # nothing has come
        client.transport.loseConnection()
        await server.lost
        self.assertEqual(receive_into(server.transport, server.room), 0)


    async def test_reading_little(self) -> None:
        from twisted.internet import reactor

        sizes: list[int] = []
        ended: Deferred[None] = Deferred()

        class Reading(Protocol):
            transport: Any

            def connectionMade(self) -> None:
                read_at_most(self.transport, 1000)

            def dataReceived(self, data: bytes) -> None:
                sizes.append(len(data))
                if len(sizes) == 2:
                    read_at_most(self.transport, USUAL_READ)

            def connectionLost(self, reason: Failure = connectionDone) -> None:
                ended.callback(None)

        port: Any = await serverFromString(reactor, "tcp:0:interface=127.0.0.1").listen(
            Factory.forProtocol(Reading)
        )
        self.addCleanup(port.stopListening)
        where = clientFromString(reactor, f"tcp:127.0.0.1:{port.getHost().port}")
        client: Any = await connectProtocol(where, Protocol())
        client.transport.write(bytes(SIZE))
        client.transport.loseConnection()
        await ended
        self.assertEqual((sizes[:2], sum(sizes)), ([1000, 1000], SIZE))
        self.assertGreater(max(sizes), 1000)


class OtherTransportTests(SynchronousTestCase):
    """Where there is no plain socket."""

    def test_none_and_memory(self) -> None:
        for transport in (None, StringTransport()):
            self.assertEqual(receive_into(transport, memoryview(bytearray(9))), 0)
            read_at_most(transport, 9)
