"""The VICP server and client over real sockets on the loopback interface."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from labnet.errors import NotConnected, TimedOut
from labnet.lab import Lab, ServeOptions
from labnet.wires.vicp.client import VicpClient
from labnet.wires.vicp.server import Options, listen
from tests.wires.vicp_toy import Recorded, message


class Raw(Protocol):
    """Collects what comes until the end."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.some: Deferred[None] = Deferred()
        self.lost: Deferred[Failure] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if not self.some.called:
            self.some.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(reason.type)


class SocketTests(TestCase):
    timeout = 20

    async def setUp(self) -> None:  # type: ignore[override]
        the_reactor: Any = reactor
        self.lab = Lab(reactor=reactor)
        self.device = Recorded(the_reactor)
        self.lab.attach("bench", self.device)
        common = ServeOptions(device="bench")
        self.listener = await listen(self.lab, "tcp:0", common, Options(), reactor)
        self.addCleanup(lambda: self.lab.stop(0.1))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.listener.stop()))
        self.port: int = self.listener.port.getHost().port  # type: ignore[attr-defined]

    def client(self, **options: Any) -> VicpClient:
        client = VicpClient("127.0.0.1", self.port, **options)
        self.addCleanup(client.close)
        return client

    async def raw(self) -> Raw:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        protocol: Raw = await connectProtocol(endpoint, Raw())
        self.addCleanup(lambda: protocol.lost)
        self.addCleanup(lambda: protocol.transport.loseConnection())  # type: ignore[union-attr]
        return protocol

    async def test_queries(self) -> None:
        client = self.client()
        self.assertEqual(await client.query("*IDN?"), "LECROY,SIM,LCRY0001,1.0")
        self.assertEqual(await client.status_byte(), 0)
        told: list[tuple[int, int]] = []
        block = await client.query_block(
            "TEST:BLOCK? 20000000", lambda *progress: told.append(progress)
        )
        self.assertEqual(block, self.device.block(20_000_000))
        self.assertEqual(told[-1], (20_000_000, 20_000_000))
        self.assertGreater(len(told), 10)

    async def test_many_clients_at_once(self) -> None:
        clients = [self.client() for _ in range(32)]
        for size in range(20):
            found = await gatherResults(
                [client.query_block(f"TEST:BLOCK? {size * n}") for n, client in enumerate(clients)]
            )
            self.assertEqual([len(block) for block in found], [size * n for n in range(32)])

    async def test_after_a_timeout(self) -> None:
        client = self.client()
        await client.query("*OPC?")
        await self.assertFailure(client.query("SLOW?", timeout=0.05), TimedOut)
        await client.clear()
        self.assertEqual(await client.query("*OPC?"), "1")

    async def test_urgent_poll(self) -> None:
        """In its place in the stream one way, beside the stream the other way."""
        client = await self.raw()
        transport: Any = client.transport
        handle: socket.socket = transport.getHandle()
        handle.send(message(b"*OPC?"))
        handle.send(b"S", socket.MSG_OOB)
        handle.send(message(b"*OPC?", 2))
        await client.some
        got = b""
        while not got:
            try:
                got = handle.recv(1, socket.MSG_OOB)
            except OSError:  # not there yet
                await deferLater(reactor, 0)
        self.assertEqual(got, b"\0")
        while len(client.received) < 20:
            await deferLater(reactor, 0)
        self.assertEqual(client.received, message(b"1\n") + message(b"1\n", 2))

    async def test_nonsense_is_reset(self) -> None:
        """pyvicp notices a reset only."""
        client = await self.raw()
        client.transport.write(b"\x81\2\1\0\0\0\0\0")  # type: ignore[union-attr]
        self.assertIs(await client.lost, ConnectionLost)
        self.assertEqual(await self.client().query("*OPC?"), "1")

    async def test_the_end_of_the_listener_is_a_reset(self) -> None:
        client, waiting = await self.raw(), self.client()
        await waiting.query("*OPC?")
        slow = waiting.query("SLOW?")
        client.transport.write(message(b"*OPC?"))  # type: ignore[union-attr]
        await client.some
        stopping = Deferred.fromCoroutine(self.listener.stop())
        self.assertIs(await client.lost, ConnectionLost)
        self.device.waits[0].callback("the last answer")
        self.assertEqual(await slow, '"the last answer"')
        await stopping
        await self.assertFailure(waiting.query("*OPC?"), NotConnected)
