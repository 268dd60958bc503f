"""Waveforms of the simulated oscilloscope, read by a parser that was made for LeCroy's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from twisted.trial.unittest import TestCase

from labnet.wires.vicp.client import VicpClient
from tests.interop.lab import start_lab
from tests.interop.peers import peer, run_command

LAB = """
[device scope]
driver = simulated.scope
[serve scope-vicp]
wire = vicp
listen = tcp:0
"""


class ParserTests(TestCase):
    """lecroyparser."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        peer("lecroyparser")
        lab = start_lab(self, LAB)
        self.scope = VicpClient("127.0.0.1", await lab.port("scope", "vicp"), timeout=30)
        self.addCleanup(self.scope.close)

    async def parsed(self, query: str = "C1:WAVEFORM?") -> dict[str, Any]:
        """What the parser finds in the waveform that answers a query."""
        file = Path(self.mktemp()).absolute()
        file.write_bytes(await self.scope.query_block(query))
        done = await run_command(self, "lecroyparser", "lecroy_parser", str(file))
        self.assertEqual(done.code, 0, done.errors)
        found: dict[str, Any] = json.loads(done.text)
        return found

    async def test_the_calibration_signal(self) -> None:
        for words in ("CFMT DEF9,WORD,BIN;CORD HI", "CORD LO", "CFMT DEF9,BYTE,BIN"):
            await self.scope.write(words)
            await self.scope.write("TDIV 200US;MSIZ 20000;ARM;WAIT")
            found = await self.parsed()
            expected = {
                "templateName": "LECROY_2_3",
                "instrumentName": "SIM-SCOPE",
                "waveSource": "Channel 1",
                "timeBase": "200 us/div",
                "recordType": "single_sweep",
                "processingDone": "No Processing",
                "verticalCoupling": "DC1M",
                "points": 20_000,
            }
            self.assertEqual({name: found[name] for name in expected}, expected)
            self.assertApproximates(found["x"][0], -1e-3, 1e-9)
            self.assertApproximates(found["x"][1], 1e-3, 1e-6)
            self.assertApproximates(found["y"][0], 0.0, 0.05)
            self.assertApproximates(found["y"][1], 0.8, 0.01)  # where the screen ends
            (rising,) = found["rising"]  # the trigger, in the middle of the screen
            self.assertApproximates(rising, 10_000, 2)
            self.assertTrue(re.match(r"20\d\d-\d\d-\d\d ", found["triggerTime"]))

    async def test_another_channel(self) -> None:
        await self.scope.write("C3:VDIV 0.5;:C3:OFST 0.1;:TDIV 50US")
        found = await self.parsed("C3:WF?")
        self.assertEqual((found["waveSource"], found["timeBase"]), ("Channel 3", "50 us/div"))
        self.assertTrue(0.5 < found["y"][1] < 0.9, found)

    async def test_ten_million_points(self) -> None:
        await self.scope.write("MSIZ 10000000")
        told: list[tuple[int, int]] = []
        block = await self.scope.query_block("C2:WF?", lambda *got: told.append(got))
        self.assertEqual(told[-1], (20_000_346, 20_000_346))
        self.assertEqual((block[:8], len(block)), (b"WAVEDESC", 20_000_346))
