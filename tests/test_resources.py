"""Clients by resource strings, and the list of what is there."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

import labnet
from labnet.config import parse_config
from labnet.devices.simulated.linktester import LinkTester
from labnet.discovery import mdns
from labnet.discovery.mdns import Service
from labnet.errors import BadArguments, LabError, Locked, NotConnected, TimedOut
from labnet.framing.xdr import encode_uint
from labnet.lab import Lab
from labnet.resources import (
    FoundResource,
    MessageClient,
    _Broadcasts,
    announced_resources,
    list_resources,
    open_resource,
)
from labnet.service import LabService
from labnet.testing import serve_on_loopback
from labnet.wires.vxi11.rpc import encode_reply


def _tell(told: list[tuple[int, int]], got: int, size: int) -> None:
    told.append((got, size))


METHODS = [name for name in vars(MessageClient) if not name.startswith("_")]


class OpenTests(SynchronousTestCase):
    def test_the_right_client(self) -> None:
        for text, kind, where in (
            ("TCPIP::10.0.0.5::inst1::INSTR", "Vxi11Client", "10.0.0.5"),
            ("TCPIP::10.0.0.5,1024::INSTR", "Vxi11Client", "10.0.0.5:1024"),
            ("TCPIP::10.0.0.5::hislip0", "HislipClient", "10.0.0.5:4880"),
            ("TCPIP::10.0.0.5::hislip1,4881", "HislipClient", "10.0.0.5:4881"),
            ("TCPIP::10.0.0.5::5025::SOCKET", "ScpiClient", "10.0.0.5:5025"),
            ("TCPIP::[::1]::5025::SOCKET", "ScpiClient", "[::1]:5025"),
            ("VICP::10.0.0.5", "VicpClient", "10.0.0.5:1861"),
            ("VICP::10.0.0.5,1862::INSTR", "VicpClient", "10.0.0.5:1862"),
        ):
            client = labnet.open_resource(text, timeout=2.5, reactor=reactor)
            self.assertEqual((type(client).__name__, client.where), (kind, where))
            self.assertEqual(client.timeout, 2.5)
            for method in METHODS:
                self.assertTrue(callable(getattr(client, method)), (kind, method))

    def test_options(self) -> None:
        options: dict[str, Any] = {"terminator": "CRLF", "max_response": 100, "reactor": reactor}
        client = cast(Any, open_resource("TCPIP::dmm::5025::SOCKET", **options))
        self.assertEqual(client.max_response, 100)

    def test_no_resource(self) -> None:
        self.assertRaises(BadArguments, open_resource, "GPIB0::5::INSTR")


class LoopbackTests(TestCase):
    """labnet's clients at labnet's servers."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        self.lab = Lab(reactor=reactor)
        self.addCleanup(lambda: self.lab.stop(0.1))
        self.lab.attach("link", LinkTester())

    async def opened(self, wire: str, pattern: str, **options: Any) -> MessageClient:
        served = await serve_on_loopback(
            self.lab, wire, device="link", reactor=reactor, **options
        )
        self.addCleanup(served.stop)
        client = open_resource(pattern.format(served.port), timeout=10, reactor=reactor)
        self.addCleanup(client.close)
        return client

    async def clients(self) -> list[MessageClient]:
        return [
            await self.opened("scpi", "TCPIP::127.0.0.1::{}::SOCKET"),
            await self.opened("vicp", "VICP::127.0.0.1,{}::INSTR"),
            await self.opened("hislip", "TCPIP::127.0.0.1::hislip0,{}::INSTR"),
            await self.opened("vxi11", "TCPIP::127.0.0.1,{}::inst0::INSTR", portmapper="none"),
        ]

    async def test_one_interface(self) -> None:
        for client in await self.clients():
            await client.connect()
            self.assertEqual(await client.query("*IDN?"), "labnet,SIM-LINK,L0000001,1.0")
            await client.write('TEST:ECHO? "x"')
            self.assertEqual((await client.read()).strip(), b'"x"')
            told: list[tuple[int, int]] = []
            progress = partial(_tell, told)
            block = await client.query_block("TEST:BLOCK? 100000", progress)
            self.assertEqual((len(block), told[-1]), (100_000, (100_000, 100_000)))
            await client.write_block("TEST:LOAD", bytes(1000))
            self.assertTrue((await client.query("TEST:LOAD:SUM?")).startswith("1000,"))
            await client.trigger()
            self.assertEqual(await client.query("*OPC?"), "1")
            self.assertEqual(await client.status_byte(), 0)
            await client.clear()
            self.assertEqual(await client.query("*OPC?"), "1")
            await client.close()

    async def test_timeouts(self) -> None:
        for client in await self.clients():
            slow = client.query("TEST:WAIT? 1000 S", timeout=0.2)
            error: LabError = await self.assertFailure(slow, TimedOut)
            self.assertEqual(error.visa_status, -1073807339)
            await client.clear()
            self.assertEqual(await client.query("*OPC?"), "1")

    async def test_locks(self) -> None:
        """Each wire's client keeps the others out, and none waits for ever."""
        clients = await self.clients()
        socket = clients[0]
        for holder in clients[1:]:
            await holder.lock(wait=5.0)
            error: Locked = await self.assertFailure(socket.lock(), Locked)
            self.assertEqual(error.visa_status, -1073807345)
            await holder.unlock()
            self.assertEqual(await holder.query("*OPC?"), "1")
            await socket.lock(wait=5.0)
            await socket.unlock()
            self.assertEqual(await socket.query("*OPC?"), "1")

    async def test_nobody_there(self) -> None:
        for client in await self.clients():
            dead = type(client)("127.0.0.1:9", timeout=2, reactor=reactor)  # type: ignore
            self.addCleanup(dead.close)
            error: LabError = await self.assertFailure(dead.query("*IDN?"), NotConnected)
            self.assertIn(error.visa_status, (-1073807343, -1073807194))


def service(kind: str, port: int, address: str = "10.0.0.5", **text: str) -> Service:
    return Service(kind, "ACME dmm 7", "dmm", port, (address,), text)


class AnnouncedTests(SynchronousTestCase):
    def test_names_and_models(self) -> None:
        text = {"Manufacturer": "ACME", "model": "dmm", "SerialNumber": "7", "FirmwareVersion": "1"}
        found = announced_resources(
            [
                service("_hislip._tcp", 4881, **text),
                service("_vxi-11._tcp", 111, **text),
                service("_scpi-raw._tcp", 5025),
                service("_vicp-ctrl._tcp", 1861, **text),
                service("_lxi._tcp", 80, **text),
            ]
        )
        self.assertEqual(
            [resource.name for resource in found],
            [
                "TCPIP0::10.0.0.5::hislip0,4881::INSTR",
                "TCPIP0::10.0.0.5::inst0::INSTR",
                "TCPIP0::10.0.0.5::5025::SOCKET",
                "VICP::10.0.0.5::INSTR",
            ],
        )
        first = FoundResource(found[0].name, "ACME dmm 7", "ACME", "dmm", "7", "1")
        self.assertEqual(found[0], first)
        self.assertEqual(found[2].model, "")

    def test_oscilloscopes_by_their_maker(self) -> None:
        found = announced_resources(
            [
                service("_lxi._tcp", 80, "10.0.0.6", MANUFACTURER="LeCroy, Inc."),
                service("_lxi._tcp", 80, "10.0.0.7"),
            ]
        )
        self.assertEqual([resource.name for resource in found], ["VICP::10.0.0.6::INSTR"])


class BroadcastTests(SynchronousTestCase):
    def test_question_and_answers(self) -> None:
        asking = _Broadcasts(["10.0.0.255", "127.255.255.255"])
        sent: list[tuple[bytes, tuple[str, int]]] = []

        class Transport:
            def setBroadcastAllowed(self, allowed: bool) -> None:
                assert allowed

            def write(self, data: bytes, where: tuple[str, int]) -> None:
                sent.append((data, where))

        asking.transport = Transport()  # type: ignore[assignment]
        asking.startProtocol()
        where = [address for _, address in sent]
        self.assertEqual(where, [("10.0.0.255", 111), ("127.255.255.255", 111)])
        self.assertEqual(len(sent[0][0]), 56)
        self.assertEqual(sent[0][0][40:52], bytes.fromhex("000607af0000000100000006"))
        for host, answer in (
            ("10.0.0.5", encode_reply(1, encode_uint(1024))),
            ("10.0.0.6", encode_reply(1, encode_uint(0))),  # has no VXI-11
            ("10.0.0.7", encode_reply(1, status=1)),
            ("10.0.0.8", b"\0\0\0\0nonsense"),
            ("10.0.0.5", encode_reply(1, encode_uint(1024))),
        ):
            asking.datagramReceived(answer[4:], (host, 111))
        self.assertEqual(list(asking.hosts), ["10.0.0.5"])


class ListTests(TestCase):
    """A lab that is announced on the loopback interface."""

    timeout = 60

    async def test_names_and_models(self) -> None:
        self.patch(mdns, "LISTENING", 0.1)  # nobody of these names is there
        config = parse_config(
            "[device scope]\ndriver = simulated.scope\n"
            "[serve vicp]\nwire = vicp\nlisten = tcp:0\n[serve scpi]\nwire = scpi\nlisten = tcp:0\n"
            "[discovery]\nmanufacturer = Sim & co\n"
        )
        service = LabService(config)
        self.addCleanup(service.stopService)
        service.startService()
        await service.starting
        assert service.discovery is not None
        await service.discovery.announced
        found: list[FoundResource] = await list_resources(
            timeout=2.5, interfaces=["127.0.0.1"], reactor=reactor
        )
        mine = [it for it in found if it.manufacturer == "Sim & co"]
        vicp: Any = service.listeners()[0].listener
        scpi: Any = service.listeners()[1].listener
        self.assertEqual(
            [resource.name for resource in mine],
            [
                f"TCPIP0::127.0.0.1::{scpi.port.getHost().port}::SOCKET",
                f"VICP::127.0.0.1,{vicp.port.getHost().port}::INSTR",
            ],
        )
        self.assertEqual({(it.model, it.serial) for it in mine}, {("SIM-SCOPE", "O0000001")})
        client = open_resource(mine[0].name, reactor=reactor)
        self.addCleanup(client.close)
        self.assertEqual(await client.query("*IDN?"), "labnet,SIM-SCOPE,O0000001,1.0")

    async def test_nobody_is_no_error(self) -> None:
        listing: Deferred[Any] = list_resources(
            timeout=0.1, interfaces=["203.0.113.9"], reactor=reactor
        )
        self.assertEqual(await listing, [])

    async def test_no_interface(self) -> None:
        for interface in ("eth0", "::1", ""):
            with self.assertRaises(BadArguments) as caught:
                await list_resources(interfaces=[interface], reactor=reactor)
            self.assertIn(repr(interface), str(caught.exception))
