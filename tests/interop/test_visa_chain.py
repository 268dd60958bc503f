"""The whole chain: a simulated instrument, labnet, a VISA wire, labnet, and plesty-lib's client."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from tests.interop.lab import LabProcess, start_lab
from tests.interop.peers import DRIVERS, PeerError, PeerProcess, peer, start

# pyvisa-py knows no port but 1861 for VICP, so that lab has a loopback address of its own.
VICP_HOST = "127.0.18.62"
FAR = f"""
[lab]
drain = 1
[device dmm]
driver = simulated.dmm
[device linktester]
driver = simulated.linktester
[serve vxi11]
wire = vxi11
listen = tcp:0
portmapper = none
devices = inst0: dmm, inst1: linktester
[serve hislip]
wire = hislip
listen = tcp:0
devices = hislip0: dmm, hislip1: linktester
[serve socket]
wire = scpi
listen = tcp:0
device = dmm
[serve vicp]
wire = vicp
listen = tcp:1861:interface={VICP_HOST}
device = dmm
"""
NEAR = """
[lab]
drain = 1
[device meter]
driver = visa
resource = {resource}
parameter volts = MEAS:VOLT:DC?, float, V, -1000..1000
parameter range = SENS:VOLT:DC:RANG?, SENS:VOLT:DC:RANG {{value}}, float, V, 0.1..1000
command identify = *IDN?, str
[device ratio]
driver = composite
parameter millivolts = meter.volts * 1000, mV
parameter span = meter.range * 1000, mV
[serve meter-plesty]
wire = plesty
listen = tcp://127.0.0.1:*
device = meter
[serve ratio-plesty]
wire = plesty
listen = tcp://127.0.0.1:*
device = ratio
[serve meter-hislip]
wire = hislip
listen = tcp:0
devices = hislip0: meter
"""


class ChainTests(TestCase):
    """A PLESTY client reads a multimeter behind a VISA resource of another lab."""

    timeout = 90

    async def labs(self, wire: str, resource: str) -> LabProcess:
        """The far lab, and the near one whose instrument is served there over `wire`."""
        peer("instruments")
        peer("plesty-0.6.0")
        self.far = start_lab(self, FAR)
        port = await self.far.port("dmm" if wire == "scpi" else "*", wire) if wire != "vicp" else 0
        if wire == "vicp":
            await self.far.port("dmm", "vicp")
        text = NEAR.format(resource=resource.format(port=port))
        # pyvisa-py finds VICP by pyvicp, which that environment has.
        self.near = start_lab(self, text, peer("instruments"), str(DRIVERS))
        return self.near

    async def client(self, device: str = "meter", **options: Any) -> PeerProcess:
        driver = start(self, "plesty-0.6.0", "plesty_client")
        address = f"tcp://127.0.0.1:{await self.near.port(device, 'plesty')}"
        await driver.ask("connect", address, **options)
        return driver

    async def check(self, wire: str, resource: str) -> None:
        await self.labs(wire, resource)
        client = await self.client()
        self.assertIn("labnet,SIM-DMM", await client.ask("proxy", "identity"))
        description = await client.ask("describe")
        records = {it["name"]: it for it in description["doc"]["parameters"]["default"]}
        self.assertEqual(records["volts"]["unit"], "V")
        self.assertEqual(records["range"]["max_value"], 1000)
        self.assertIsInstance(await client.ask("query", "volts"), float)
        self.assertIs(await client.ask("write", "range", 10.0), True)
        self.assertEqual(await client.ask("query", "range"), 10.0)
        failure = await self.assertFailure(client.ask("write", "range", 5000.0), PeerError)
        self.assertIn("1000", failure.text)
        self.assertIn("SIM-DMM", await client.ask("proxy", "identify"))
        others = await gatherResults([client.ask("query", "volts") for _ in range(5)])
        self.assertEqual(len(others), 5)

    async def test_vxi11(self) -> None:
        await self.check("vxi11", "TCPIP::127.0.0.1,{port}::inst0::INSTR")

    async def test_hislip(self) -> None:
        await self.check("hislip", "TCPIP::127.0.0.1::hislip0,{port}::INSTR")

    async def test_socket(self) -> None:
        await self.check("scpi", "TCPIP::127.0.0.1::{port}::SOCKET")

    async def test_vicp(self) -> None:
        await self.check("vicp", f"VICP::{VICP_HOST}::INSTR")

    async def test_a_composite_and_its_locks(self) -> None:
        """Who holds a composite keeps others off what it is made of."""
        await self.labs("scpi", "TCPIP::127.0.0.1::{port}::SOCKET")
        mine = await self.client("ratio", resources=["span"], client_id="mine")
        await mine.ask("write", "span", 1000.0)
        self.assertEqual(await mine.ask("query", "span"), 1000.0)
        other = await self.client("meter", client_id="other")
        self.assertEqual(await other.ask("query", "range"), 1.0)
        failure = await self.assertFailure(other.ask("write", "range", 10.0), PeerError)
        self.assertIn("mine", failure.text)
        volts, millivolts = await gatherResults(
            [other.ask("query", "volts"), mine.ask("query", "millivolts")]
        )
        self.assertApproximates(volts * 1000, millivolts, 10)
        await mine.ask("close")
        await other.ask("write", "range", 10.0)
        self.assertEqual(await other.ask("query", "range"), 10.0)

    async def test_from_hislip_to_hislip(self) -> None:
        """VISA at both ends, and labnet twice between."""
        peer("pyvisa-py")
        await self.labs("hislip", "TCPIP::127.0.0.1::hislip0,{port}::INSTR")
        port = await self.near.port("*", "hislip")
        visa = start(self, "pyvisa-py", "visa_client")
        await visa.ask("open", "it", f"TCPIP::127.0.0.1::hislip0,{port}::INSTR")
        self.assertIn("SIM-DMM", await visa.ask("query", "it", "*IDN?"))
        float(await visa.ask("query", "it", "MEAS:VOLT:DC?"))
