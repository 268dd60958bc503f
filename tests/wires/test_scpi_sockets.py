"""The raw SCPI server and client over real sockets on the loopback interface."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from labnet.errors import DeviceFault, NotConnected, TimedOut
from labnet.lab import Lab, ServeOptions
from labnet.wires.scpi.client import ScpiClient
from labnet.wires.scpi.server import Options, listen
from tests.wires.test_scpi_server import Bench


class Raw(Protocol):
    """Collects what comes until the end, or until it has seen so many bytes."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.lost: Deferred[bytes] = Deferred()
        self.wanted: list[tuple[int, Deferred[bytes]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        for entry in list(self.wanted):
            if len(self.received) >= entry[0]:
                self.wanted.remove(entry)
                entry[1].callback(bytes(self.received))

    def has(self, size: int) -> Deferred[bytes]:
        done: Deferred[bytes] = Deferred()
        self.wanted.append((size, done))
        self.dataReceived(b"")
        return done

    def connectionLost(self, reason: Any = None) -> None:
        self.lost.callback(bytes(self.received))


class SocketTestCase(TestCase):
    timeout = 10
    options = Options()

    async def setUp(self) -> None:
        self.lab = Lab(reactor=reactor)
        self.bench = Bench()
        self.lab.attach("bench", self.bench)
        common = ServeOptions(device="bench")
        self.listener = await listen(self.lab, "tcp:0", common, self.options, reactor)
        self.addCleanup(lambda: self.lab.stop(0.1))
        self.addCleanup(lambda: Deferred.fromCoroutine(self.listener.stop()))
        self.port: int = self.listener.port.getHost().port  # type: ignore[attr-defined]

    def client(self, **options: Any) -> ScpiClient:
        client = ScpiClient(f"127.0.0.1:{self.port}", **options)
        self.addCleanup(client.close)
        return client

    async def raw(self, port: int = 0) -> Raw:
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port or self.port)
        protocol: Raw = await connectProtocol(endpoint, Raw())
        self.addCleanup(lambda: protocol.lost)
        self.addCleanup(lambda: protocol.transport.loseConnection())  # type: ignore[union-attr]
        return protocol

    def write(self, client: Raw, data: bytes) -> None:
        client.transport.write(data)  # type: ignore[union-attr]


class ClientAndServerTests(SocketTestCase):
    async def test_queries(self) -> None:
        client = self.client()
        self.assertEqual(await client.identity(), ("ACME", "PSU2", "0", "1.0"))
        await client.write("VOLT 2.5")
        self.assertEqual(await client.query("VOLT?"), "2.5")
        answers = await gatherResults([client.query(f"TRIG:COUN {n};COUN?") for n in range(100)])
        self.assertEqual(answers, [str(n) for n in range(100)])
        await client.write("FOO")
        self.assertEqual(await client.errors(), [(-113, "Undefined header")])

    async def test_keepalive(self) -> None:
        for wanted in (True, False):
            client = self.client(keepalive=wanted)
            await client.connect()
            transport: Any = client._protocol and client._protocol.transport
            self.assertEqual(bool(transport.getTcpKeepAlive()), wanted)

    async def test_blocks(self) -> None:
        client = self.client()
        data = bytes(range(256)) * 40_000
        await client.write_block("DATA", data)
        told: list[tuple[int, int]] = []
        block = await client.query_block("DATA?", lambda got, of: told.append((got, of)))
        self.assertEqual(block, data)
        self.assertEqual(told[-1], (len(data), len(data)))
        self.assertEqual(await client.query('DISP:TEXT "a\nb";TEXT?'), '"a\nb"')

    async def test_errors_are_checked(self) -> None:
        client = self.client(check_errors=True)
        await client.write("VOLT 1")
        with self.assertRaises(DeviceFault) as caught:
            await client.write("VOLT 99")
        self.assertEqual(caught.exception.number, -222)

    async def test_a_late_answer_is_dropped(self) -> None:
        for options in ({}, {"marker": "*IDN?"}):
            client = self.client(**options)
            await client.connect()
            with self.assertRaises(TimedOut) as caught:
                await client.query("SLOW?", timeout=0.05)
            self.assertIn(f"'SLOW?' to 127.0.0.1:{self.port}", str(caught.exception))
            answer = client.query("*IDN?")
            self.bench.waits[-1].callback("late")
            self.assertEqual(await answer, "ACME,PSU2,0,1.0")

    async def test_a_query_without_an_answer(self) -> None:
        client = self.client()
        with self.assertRaises(TimedOut):
            await client.query("FOO?", timeout=0.05)
        self.assertEqual(await client.query("*OPC?"), "1")

    async def test_the_server_goes(self) -> None:
        client = self.client()
        await client.query("*OPC?")
        await self.listener.stop()
        with self.assertRaises(NotConnected):
            await client.query("*OPC?", timeout=2)


class RawTests(SocketTestCase):
    options = Options(control=True)

    async def test_netcat(self) -> None:
        client = await self.raw()
        self.write(client, b"*IDN?\n")
        client.transport.loseWriteConnection()  # type: ignore[union-attr]
        self.assertEqual(await client.lost, b"ACME,PSU2,0,1.0\n")

    async def test_a_large_block_after_half_close(self) -> None:
        client = await self.raw()
        self.write(client, b"BLOB? 5000000\n*OPC?\n")
        client.transport.loseWriteConnection()  # type: ignore[union-attr]
        self.assertEqual(len(await client.lost), 5_000_000 + 9 + 1 + 2)

    async def test_a_slow_reader_does_not_hold_up_others(self) -> None:
        slow = await self.raw()
        slow.transport.pauseProducing()  # type: ignore[union-attr]
        self.write(slow, b"BLOB? 20000000\n" * 3)
        self.assertEqual(await self.client().query("*OPC?"), "1")
        slow.transport.resumeProducing()  # type: ignore[union-attr]
        await slow.has(3 * (20_000_000 + 11))

    async def test_a_control_connection_that_is_not_read(self) -> None:
        client = await self.raw()
        self.write(client, b"SYST:COMM:TCP:CONT?\n")
        number = await client.has(3)
        while not number.endswith(b"\n"):
            number = await client.has(len(number) + 1)
        control = socket.create_connection(("127.0.0.1", int(number)))
        self.addCleanup(control.close)
        control.setblocking(False)
        asked = 0
        for _ in range(200):
            try:
                asked += control.send(b"DCL\n" * 65536)
            except BlockingIOError:
                pass
            await deferLater(reactor, 0.005)
        self.assertLess(asked, 40 << 20)  # more is not taken from one who does not read
        client.transport.loseConnection()  # type: ignore[union-attr]
        await client.lost

    async def test_control_connection(self) -> None:
        client = await self.raw()
        self.write(client, b"SYST:COMM:TCP:CONT?\n")
        number = await client.has(3)
        while not number.endswith(b"\n"):
            number = await client.has(len(number) + 1)
        control = await self.raw(int(number))
        self.write(control, b"DCL\n")
        self.assertEqual(await control.has(4), b"DCL\n")
        self.write(client, b"*ESE 1;*SRE 32;*OPC\n")
        self.assertEqual(await control.has(12), b"DCL\nSRQ +96\n")
        client.transport.loseConnection()  # type: ignore[union-attr]
        await control.lost
