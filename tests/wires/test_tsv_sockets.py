"""The TSV server and client over real sockets on the loopback interface."""

from __future__ import annotations

import socket
import struct
from ipaddress import ip_network
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from labnet.device import Device, command, parameter
from labnet.errors import DeviceFault, NotConnected, TimedOut, UnknownName
from labnet.lab import Lab, ServeOptions
from labnet.transports.listening import CannotListen
from labnet.wires.tsv.client import TsvClient
from labnet.wires.tsv.server import Options, listen


class Stage(Device):
    """Waits for the test where a real one would move."""

    position = parameter(float, initial=1.5, limits=(0, 100))

    def __init__(self) -> None:
        self.moves: list[Deferred[str]] = []
        self.begun: list[Deferred[None]] = []

    @command
    def move(self) -> Deferred[str]:
        """Ends when the test says so."""
        done: Deferred[str] = Deferred()
        self.moves.append(done)
        for begun in self.begun:
            begun.callback(None)
        self.begun.clear()
        return done

    def when_begun(self) -> Deferred[None]:
        begun: Deferred[None] = Deferred()
        self.begun.append(begun)
        return begun

    @command
    def blob(self, size: int) -> str:
        """Many letters."""
        return "x" * size


class RawClient(Protocol):
    """Collects what comes; its Deferreds fire at so many bytes, and at the end."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Deferred[bytes] = Deferred()
        self._wanted: list[tuple[int, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        for entry in list(self._wanted):
            if len(self.received) >= entry[0]:
                self._wanted.remove(entry)
                entry[1].callback(bytes(self.received))

    def has(self, size: int) -> Deferred[bytes]:
        done: Deferred[bytes] = Deferred()
        self._wanted.append((size, done))
        self.dataReceived(b"")
        return done

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(bytes(self.received))


class SocketTestCase(TestCase):
    timeout = 10
    allow: tuple[Any, ...] = ()
    max_connections = 100
    shutdown: Any = "no"

    async def setUp(self) -> None:
        self.lab = Lab(reactor=reactor)
        self.stage = Stage()
        self.lab.attach("stage", self.stage)
        common = ServeOptions(
            device="stage",
            allow=self.allow,
            max_connections=self.max_connections,
            allow_shutdown=self.shutdown,
        )
        self.listener = await listen(self.lab, "tcp:0", common, Options(), reactor)
        self.addCleanup(lambda: self.lab.stop(0.1))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.listener.stop()))
        self.port: int = self.listener.port.getHost().port  # type: ignore[attr-defined]

    def client(self, **options: Any) -> TsvClient:
        client = TsvClient(f"127.0.0.1:{self.port}", **options)
        self.addCleanup(client.close)
        return client

    async def raw(self) -> RawClient:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)
        protocol: RawClient = await connectProtocol(endpoint, RawClient())
        self.addCleanup(lambda: protocol.lost)
        self.addCleanup(lambda: protocol.transport.loseConnection())  # type: ignore[union-attr]
        return protocol

    def write(self, client: RawClient, data: bytes) -> None:
        client.transport.write(data)  # type: ignore[union-attr]


class ClientAndServerTests(SocketTestCase):
    async def test_one_shot(self) -> None:
        client = self.client()
        await client.ping()
        self.assertEqual((await client.get("position")).text, "1.5")
        await client.set("position", 2)
        self.assertEqual((await client.send("position")).fields, ("2.0",))
        self.assertIn("move", await client.command_list())
        self.assertEqual(await client.connect_hardware(), "")
        with self.assertRaises(UnknownName):
            await client.send("mvoe")
        with self.assertRaises(DeviceFault) as caught:
            await client.set("position", 200)
        self.assertIn("takes 0 to 100", str(caught.exception))

    async def test_persistent(self) -> None:
        client = self.client(persistent=True)
        replies = await gatherResults([client.get("position") for _ in range(100)])
        self.assertEqual({reply.text for reply in replies}, {"1.5"})
        self.assertEqual(self.listener.connections, 1)
        self.assertEqual(await client.connect_hardware(), "")
        await client.ping()

    async def test_locks(self) -> None:
        client, other = self.client(), self.client(persistent=True)
        token = await client.lock("stage", "alice", lease=30)
        with self.assertRaises(DeviceFault) as caught:
            await other.set("position", 3)
        self.assertIn("by alice (tsv 127.0.0.1:", str(caught.exception))
        await client.with_token(token, "set", "position", 3)
        self.assertIn("alice", (await other.lock_info())[0])
        await client.unlock(token)
        await other.set("position", 4)
        await other.lock("stage")
        with self.assertRaises(DeviceFault):
            await client.set("position", 5)

    async def test_long_reply(self) -> None:
        reply = await self.client().send("blob", 5_000_000)
        self.assertEqual(len(reply.text), 5_000_000)

    async def test_a_slow_command_holds_up_nobody_else(self) -> None:
        client = self.client()
        begun = self.stage.when_begun()
        moving = client.send("move")
        await begun
        await client.ping()
        self.stage.moves[0].callback("there")
        self.assertEqual((await moving).text, "there")

    async def test_timeout(self) -> None:
        with self.assertRaises(TimedOut) as caught:
            await self.client().send("move", timeout=0.05)
        self.assertIn("'move' to 127.0.0.1", str(caught.exception))

    async def test_refused(self) -> None:
        await self.listener.stop()
        with self.assertRaises(NotConnected):
            await self.client().ping()
        with self.assertRaises(NotConnected):
            await self.client(persistent=True).ping()

    async def test_shutdown_refused(self) -> None:
        with self.assertRaises(DeviceFault):
            await self.client().shutdown()
        await self.client().ping()


class RawTests(SocketTestCase):
    async def test_half_close_is_answered(self) -> None:
        client = await self.raw()
        self.write(client, b"ping\nposition\npi")
        client.transport.loseWriteConnection()  # type: ignore[union-attr]
        self.assertEqual(await client.lost, b"1\t\n1\t1.5\n")

    async def test_half_close_during_a_slow_command(self) -> None:
        client = await self.raw()
        begun = self.stage.when_begun()
        self.write(client, b"move\nping\n")
        client.transport.loseWriteConnection()  # type: ignore[union-attr]
        await begun
        self.stage.moves[0].callback("there")
        self.assertEqual(await client.lost, b"1\tthere\n1\t\n")

    async def test_a_reset_connection_is_forgotten(self) -> None:
        first = await self.raw()
        begun = self.stage.when_begun()
        self.write(first, b"move\n")
        await begun
        second = await self.raw()
        self.write(second, b"move\n")
        await self.client().ping()
        handle = second.transport.getHandle()  # type: ignore[union-attr]
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        second.transport.abortConnection()  # type: ignore[union-attr]
        await second.lost
        await self.client().ping()
        self.stage.moves[0].callback("there")
        self.assertEqual(await first.has(8), b"1\tthere\n")
        self.assertEqual(len(self.stage.moves), 1)

    async def test_a_client_that_has_closed_is_forgotten_with_its_first_reply(self) -> None:
        client = await self.raw()
        begun = self.stage.when_begun()
        self.write(client, b"move\n" * 9)
        await begun
        client.transport.loseConnection()  # type: ignore[union-attr]
        await client.lost
        for _ in range(3):
            await deferLater(reactor, 0.05)
            for move in self.stage.moves:
                if not move.called:
                    move.callback("there")
        # The second has begun before the refusal of the first reply was there, no more of them.
        self.assertLessEqual(len(self.stage.moves), 2)

    async def test_stop_answers_what_is_under_way(self) -> None:
        client = await self.raw()
        begun = self.stage.when_begun()
        self.write(client, b"move\nping\n")
        await begun
        stopped = Deferred.fromCoroutine(self.listener.stop())
        await deferLater(reactor, 0.05)
        self.stage.moves[0].callback("there")
        self.assertEqual(await client.lost, b"1\tthere\n")
        await stopped

    async def test_thousands_of_lines(self) -> None:
        client = await self.raw()
        self.write(client, b"get\tposition\n" * 20_000)
        received = await client.has(20_000 * 6)
        self.assertEqual(received, b"1\t1.5\n" * 20_000)

    async def test_endless_line(self) -> None:
        client = await self.raw()
        self.write(client, b"x" * (3 << 20))
        self.assertTrue(b"0\tLine too long\n".startswith(await client.lost))

    async def test_nobody_is_held_up_by_a_flood(self) -> None:
        flood = await self.raw()
        self.write(flood, b"get\tposition\n" * 50_000)
        self.assertEqual((await self.client().get("position")).text, "1.5")
        self.assertLess(len(flood.received), 50_000 * 6)
        await flood.has(50_000 * 6)

    async def test_example(self) -> None:
        self.assertIn(str(self.port), self.listener.example)
        self.assertIn(str(self.port), self.listener.address)

    async def test_port_in_use(self) -> None:
        with self.assertRaises(CannotListen):
            await listen(self.lab, f"tcp:{self.port}", ServeOptions(), Options(), reactor)


class ShutdownTests(SocketTestCase):
    shutdown = "listener"

    async def test_the_listener_ends(self) -> None:
        await self.client().shutdown()
        with self.assertRaises(NotConnected):
            await self.client().ping()


class NotAllowedTests(SocketTestCase):
    allow = (ip_network("192.0.2.0/24"),)

    async def test_closed_at_once(self) -> None:
        with self.assertRaises(NotConnected):
            await self.client().ping()


class FullTests(SocketTestCase):
    max_connections = 1

    async def test_one_too_many(self) -> None:
        first = await self.raw()
        self.write(first, b"ping\n")
        await first.has(3)
        with self.assertRaises(NotConnected):
            await self.client().ping()
