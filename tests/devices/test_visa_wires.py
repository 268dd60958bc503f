"""What a section declares of a VISA instrument, as clients of four wires see it at a time."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from labnet.config import parse_config
from labnet.errors import DeviceFault, OutOfRange
from labnet.service import LabService
from labnet.wires.plesty.client import PlestyClient
from labnet.wires.rogue.client import RogueClient
from labnet.wires.scpi.client import ScpiClient
from labnet.wires.tsv.client import TsvClient
from tests.devices.scripted_instrument import Send, SocketInstrument

SECTION = """
[device meter]
driver = visa
resource = {resource}
parameter power = MEAS:POW?, float, W
parameter wavelength = SENS:WAV?, SENS:WAV {{value}}, float, nm, 400..1100
parameter range = SENS:RANG?, SENS:RANG {{value}}, LOW | HIGH
command zero = SENS:ZERO
[device twice]
driver = composite
parameter power = meter.power * 2, W
[serve plesty]
wire = plesty
listen = tcp://127.0.0.1:*
device = meter
[serve tsv]
wire = tsv
listen = tcp:0
device = meter
[serve scpi]
wire = scpi
listen = tcp:0
device = meter
[serve rogue]
wire = rogue
listen = tcp://127.0.0.1:0
devices = *
"""


class Meter(SocketInstrument):
    """A power meter with a wavelength and a range."""

    def __init__(self, test: TestCase) -> None:
        super().__init__(test)
        self.values = {b"WAV": b"633.0", b"RANG": b"LOW"}
        self.zeroed = 0
        self.answers[b"MEAS:POW?"] = b"1.5E-3\n"

    def received(self, message: bytes, send: Send) -> None:
        found = re.match(rb"SENS:(WAV|RANG)(\?| (.*))\Z", message)
        if found is None:
            self.zeroed += message == b"SENS:ZERO"
            super().received(message, send)
        elif found[3] is None:
            send(self.values[found[1]] + b"\n")
        else:
            self.values[found[1]] = found[3]


class WireTests(TestCase):
    """One instrument, four wires."""

    timeout = 30

    async def setUp(self) -> None:  # type: ignore[override]
        self.far = Meter(self)
        config = parse_config(SECTION.format(resource=self.far.resource))
        self.service = LabService(config, lambda status: None)
        self.addCleanup(self.service.stopService)
        self.service.startService()
        await self.service.starting
        found = {it.name: it.listener for it in self.service.listeners()}
        self.at = {name: self.port(it.address) for name, it in found.items() if it is not None}
        self.assertEqual(len(self.at), 4)

    def port(self, address: str) -> int:
        found = re.search(r":(\d+)\b", address)
        assert found is not None
        return int(found[1])

    def closed(self, client: Any) -> Any:
        self.addCleanup(client.close)
        return client

    async def test_plesty(self) -> None:
        client = self.closed(PlestyClient(f"tcp://127.0.0.1:{self.at['plesty']}"))
        await client.connect()
        records = {it["name"]: it for it in client.doc["parameters"]["default"]}
        wave = records["wavelength"]
        self.assertEqual((wave["unit"], wave["min_value"], wave["max_value"]), ("nm", 400, 1100))
        self.assertEqual(records["range"]["options"], ["LOW", "HIGH"])
        self.assertTrue(records["power"]["read_only"])
        await client.write("wavelength", 800)
        self.assertEqual(self.far.values[b"WAV"], b"800.0")
        await self.assertFailure(client.write("wavelength", 300), OutOfRange)
        await client.call("zero")
        self.assertEqual(self.far.zeroed, 1)

    async def test_tsv(self) -> None:
        client = self.closed(TsvClient(f"127.0.0.1:{self.at['tsv']}", reactor=reactor))
        self.assertEqual((await client.get("power")).text, "0.0015")
        await client.set("range", "HIGH")
        self.assertEqual(self.far.values[b"RANG"], b"HIGH")
        await self.assertFailure(client.set("range", "WIDE"), DeviceFault, OutOfRange)

    async def test_rogue(self) -> None:
        client = self.closed(RogueClient(f"127.0.0.1:{self.at['rogue']}"))
        self.assertEqual(await client.get("lab.meter.power"), 1.5e-3)
        self.assertEqual(await client.get("lab.twice.power"), 3e-3)
        await client.set("lab.meter.wavelength", 900.0)
        self.assertEqual(self.far.values[b"WAV"], b"900.0")
        unit = await client.request("lab.meter.wavelength", "units")
        low = await client.request("lab.meter.wavelength", "minimum")
        self.assertEqual((unit, low), ("nm", 400.0))

    async def test_scpi(self) -> None:
        client = self.closed(ScpiClient(f"127.0.0.1:{self.at['scpi']}"))
        self.assertEqual(await client.query("MEAS:POW?"), "1.5E-3")
        await client.write("SENS:WAV 700.0")
        self.assertEqual(await client.query("SENS:WAV?"), "700.0")

    async def test_all_at_a_time(self) -> None:
        """Everybody gets the answer to what they asked."""
        plesty = self.closed(PlestyClient(f"tcp://127.0.0.1:{self.at['plesty']}"))
        await plesty.connect()
        tsv = self.closed(TsvClient(f"127.0.0.1:{self.at['tsv']}", reactor=reactor))
        scpi = self.closed(ScpiClient(f"127.0.0.1:{self.at['scpi']}"))
        rogue = self.closed(RogueClient(f"127.0.0.1:{self.at['rogue']}"))
        for _ in range(20):
            found = await gatherResults(
                [
                    plesty.query("wavelength"),
                    tsv.get("power"),
                    scpi.query("SENS:RANG?"),
                    rogue.get("lab.meter.power"),
                    rogue.get("lab.twice.power"),
                ]
            )
            found[1] = found[1].text
            self.assertEqual(found, [633.0, "0.0015", "LOW", 1.5e-3, 3e-3])
