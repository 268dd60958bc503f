"""The identification document and the web server around it."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.trial.unittest import SynchronousTestCase

from labnet.discovery.lxi import About, Network, network_at, site
from labnet.discovery.schema import NAMESPACE, SCHEMA
from labnet.specs import Identity
from tests.discovery.test_records import IDENTITIES, LISTENERS, LOOP

NAMES = {"l": NAMESPACE}
TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
BASE = "http://127.0.0.1:8080"


def about(description: str = "bench <A> & co") -> About:
    return About(["dmm", "scope"], LISTENERS, IDENTITIES.__getitem__, "lab", description)


class DocumentTests(SynchronousTestCase):
    def document(self, path: str = "dmm", **options: str) -> ElementTree.Element:
        network = Network(LOOP, "lo", "255.0.0.0")
        data = about(**options).document(path, BASE, network)
        self.assertTrue(data.startswith(b'<?xml version="1.0" encoding="UTF-8"?>'))
        return ElementTree.fromstring(data)

    def test_the_order_of_the_schema(self) -> None:
        names = [element.tag.partition("}")[2] for element in self.document()]
        self.assertEqual(
            names,
            ["Manufacturer", "Model", "SerialNumber", "FirmwareRevision", "ManufacturerDescription",
             "ConnectedDevices", "UserDescription", "IdentificationURL", "Interface", "LXIVersion",
             "LXIExtendedFunctions"],
        )  # fmt: skip
        places = [SCHEMA.index(f'name="{name}"') for name in names]
        self.assertEqual(places, sorted(places))

    def test_the_identity(self) -> None:
        root = self.document()
        self.assertEqual(root.tag, f"{{{NAMESPACE}}}LXIDevice")
        self.assertEqual(root.findtext("l:Manufacturer", "", NAMES), "ACME")
        self.assertEqual(root.findtext("l:FirmwareRevision", "", NAMES), "1.0")
        self.assertEqual(root.findtext("l:UserDescription", "", NAMES), "bench <A> & co")
        self.assertEqual(
            root.findtext("l:IdentificationURL", "", NAMES), f"{BASE}/lxi/identification"
        )

    def test_the_interface(self) -> None:
        interface = self.document().find("l:Interface", NAMES)
        assert interface is not None
        self.assertEqual(interface.get("InterfaceType"), "LXI")
        self.assertEqual(interface.get(TYPE), "NetworkInformation")
        names = [found.text for found in interface.findall("l:InstrumentAddressString", NAMES)]
        self.assertEqual(names[0], "TCPIP0::127.0.0.1::hislip0,4881::INSTR")
        self.assertEqual(interface.findtext("l:Hostname", "", NAMES), "lab.local")
        self.assertEqual(interface.findtext("l:SubnetMask", "", NAMES), "255.0.0.0")

    def test_hislip(self) -> None:
        function = self.document().find("l:LXIExtendedFunctions/l:Function", NAMES)
        assert function is not None
        self.assertEqual(function.get("FunctionName"), "LXI HiSLIP")
        self.assertEqual(function.findtext("l:Port", "", NAMES), "4881")

    def test_other_devices(self) -> None:
        uris = self.document().findall("l:ConnectedDevices/l:DeviceURI", NAMES)
        self.assertEqual([uri.text for uri in uris], [f"{BASE}/devices/scope"])
        other = self.document("scope")
        self.assertIsNone(other.find("l:ConnectedDevices", NAMES))
        url = other.findtext("l:IdentificationURL", "", NAMES)
        self.assertEqual(url, f"{BASE}/devices/scope/lxi/identification")

    def test_letters_that_xml_has_not(self) -> None:
        root = self.document(description="a\0b\x1b")
        self.assertEqual(root.findtext("l:UserDescription", "", NAMES), "a b ")

    def test_networks(self) -> None:
        self.assertEqual(network_at("127.0.0.1").mask, "255.0.0.0")
        self.assertEqual(network_at("203.0.113.9"), Network("203.0.113.9"))


class SiteTests(SynchronousTestCase):
    def get(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        """Status, content type and body."""
        channel: Any = site(about()).buildProtocol(None)
        transport = StringTransportWithDisconnection(IPv4Address("TCP", LOOP, 8080))
        transport.protocol = channel
        transport.hostAddr = IPv4Address("TCP", LOOP, 8080)
        channel.makeConnection(transport)
        channel.dataReceived(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
        head, _, body = transport.value().decode().partition("\r\n\r\n")
        status = re.match(r"HTTP/1\.\d (\d+)", head)
        kind = re.search(r"(?im)^content-type: ([^;\r]*)", head)
        assert status is not None
        return int(status[1]), kind[1] if kind else "", body

    def test_documents(self) -> None:
        for path, model in (
            ("/lxi/identification", "D.1"),
            ("/devices/scope/lxi/identification", "WS"),
            ("/devices/dmm/lxi/identification", "D.1"),
        ):
            status, kind, body = self.get(path)
            self.assertEqual((status, kind), (200, "text/xml"))
            root = ElementTree.fromstring(body)
            self.assertEqual(root.findtext("l:Model", "", NAMES), model)

    def test_the_schema(self) -> None:
        self.assertEqual(self.get("/lxi/identification.xsd"), (200, "text/xml", SCHEMA))
        location = f"{NAMESPACE} {BASE}/lxi/identification.xsd"
        self.assertIn(location, self.get("/lxi/identification")[2])

    def test_the_page(self) -> None:
        status, kind, body = self.get("/")
        self.assertEqual((status, kind), (200, "text/html"))
        self.assertIn("VICP::127.0.0.1::INSTR", body)
        self.assertIn("bench &lt;A&gt; &amp; co", body)

    def test_what_is_not_there(self) -> None:
        for path in ("/nothing", "/lxi/other", "/devices/nobody/lxi/identification", "/lxi/../x"):
            self.assertEqual(self.get(path)[0], 404, path)
        self.assertEqual(self.get("/lxi/identification", "POST")[0], 405)

    def test_no_way_for_markup(self) -> None:
        maker = Identity("<script>", "x", "1", "1")
        page = About(["dmm"], LISTENERS, lambda path: maker, "lab").page(BASE, Network(LOOP))
        self.assertNotIn(b"<script>", page)
