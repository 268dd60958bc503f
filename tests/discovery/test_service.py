"""A lab with a section ``[discovery]``: what it announces, and its web server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.request import urlopen
from xml.etree import ElementTree

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from labnet.config import parse_config
from labnet.discovery import mdns
from labnet.discovery.mdns import Announcer, Service, browse
from labnet.discovery.schema import NAMESPACE
from labnet.service import LabService

CONFIG = """
[lab]
name = found
[device dmm]
driver = simulated.dmm
[device scope]
driver = simulated.scope
[serve dmm-scpi]
wire = scpi
listen = tcp:0
device = dmm
[serve scope-vicp]
wire = vicp
listen = tcp:0
device = scope
[serve tsv]
wire = tsv
listen = tcp:0
device = dmm
[discovery]
device = scope
manufacturer = LeCroy & sons
host = found-here
description = bench 3
"""
KINDS = ("_vicp-ctrl._tcp", "_lxi._tcp")


class LabTests(TestCase):
    timeout = 60

    def setUp(self) -> None:
        # Nobody of these names is there: it need not be listened for long.
        self.patch(mdns, "LISTENING", 0.1)

    async def start(self, config: str = CONFIG) -> LabService:
        self.ended: list[int] = []
        service = LabService(parse_config(config), self.ended.append)
        self.addCleanup(service.stopService)
        service.startService()
        await service.starting
        return service

    def read(self, url: str) -> Any:
        def get() -> bytes:
            with urlopen(url, timeout=10) as answer:
                return bytes(answer.read())

        return deferToThread(get)

    async def heard_of(self, services: Sequence[Service]) -> list[Service]:
        """Who is there, when these have been heard of."""
        names = [it.full_name for it in services]
        found: list[Service] = await browse(KINDS, 20, reactor, ["127.0.0.1"], names)
        return [it for it in found if it.full_name in names or it.host == "found-here"]

    async def test_everything(self) -> None:
        service = await self.start()
        discovery = service.discovery
        assert discovery is not None
        other = Service("_vicp-ctrl._tcp", "labnet test, another", "other", 1, ("127.0.0.1",))
        announcer = Announcer(["127.0.0.1"], reactor)
        self.addCleanup(announcer.stop)
        announced, _ = await gatherResults([discovery.announced, announcer.start([other])])
        kinds = {it.kind for it in announced}
        self.assertEqual(
            kinds,
            {"_http._tcp", "_lxi._tcp", "_scpi-raw._tcp", "_vicp-ctrl._tcp", "_labnet-tsv._tcp"},
        )
        mine = await self.heard_of([it for it in announced if it.kind in KINDS])
        self.assertEqual(len(mine), 2)
        for it in mine:
            self.assertEqual(it.text["Manufacturer"], "LeCroy & sons")
            self.assertEqual(it.text["Model"], "SIM-SCOPE")
        ports = {it.kind: it.port for it in mine}
        vicp: Any = service.listeners()[1].listener
        self.assertEqual(ports["_vicp-ctrl._tcp"], vicp.port.getHost().port)
        self.assertIn(f":{ports['_lxi._tcp']}/", discovery.url)
        await service.stopService()
        self.assertIsNone(service.discovery)
        found = await self.heard_of([other])  # it would answer no sooner
        self.assertEqual([it.name for it in found if it.host == announced[0].host], [])

    async def test_documents(self) -> None:
        service = await self.start()
        assert service.discovery is not None
        url = service.discovery.url
        root = ElementTree.fromstring(await self.read(f"{url}lxi/identification"))
        texts = {element.tag.partition("}")[2]: element.text for element in root}
        self.assertEqual((texts["Manufacturer"], texts["Model"]), ("LeCroy & sons", "SIM-SCOPE"))
        self.assertEqual(texts["UserDescription"], "bench 3")
        (other,) = root.iter(f"{{{NAMESPACE}}}DeviceURI")
        root = ElementTree.fromstring(await self.read(f"{other.text}/lxi/identification"))
        addresses = [e.text for e in root.iter(f"{{{NAMESPACE}}}InstrumentAddressString")]
        scpi: Any = service.listeners()[0].listener
        number = scpi.port.getHost().port
        self.assertEqual(addresses, [f"TCPIP0::127.0.0.1::{number}::SOCKET"])

    async def test_a_port_that_is_taken(self) -> None:
        listening: Any = reactor
        port = listening.listenTCP(0, Factory(), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        await self.start(f"{CONFIG}port = {port.getHost().port}\n")
        self.assertEqual(self.ended, [1])

    async def test_no_instruments(self) -> None:
        config = CONFIG.replace("wire = scpi", "wire = tsv").replace("wire = vicp", "wire = tsv")
        service = await self.start(config.replace("device = scope\nmanu", "manu"))
        assert service.discovery is not None
        announced = await service.discovery.announced
        self.assertEqual({it.kind for it in announced}, {"_labnet-tsv._tcp"})
        self.assertEqual(service.discovery.url, "")

    async def test_an_interface_that_is_not_there(self) -> None:
        service = await self.start(f"{CONFIG}interfaces = 203.0.113.9\n")
        self.assertEqual(self.ended, [1])
        self.assertIsNone(service.discovery)
