"""Classes of real libraries as labnet's devices: QCoDeS, pymeasure, PLESTY and sm_bluesky.

The lab runs in the environment of these libraries; its clients are labnet's own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from labnet.errors import DeviceFault, LabError, NotWritable, OutOfRange
from labnet.wires.plesty.client import PlestyClient
from labnet.wires.scpi.client import ScpiClient
from labnet.wires.tsv.client import TsvClient
from tests.interop.lab import ROOT, TWISTD, LabProcess, start_lab
from tests.interop.peers import DRIVERS, peer, start
from tests.interop.processes import run
from tests.test_docs import blocks

MOCKS = "qcodes.instrument_drivers.mock_instruments"


class ObjectCase(TestCase):
    """A lab with one device, served over plesty and tsv."""

    timeout = 90

    def serve(self, section: str) -> LabProcess:
        python = peer("instruments")
        config = (
            f"[device it]\n{section}\n"
            "[serve it-plesty]\nwire = plesty\nlisten = tcp://127.0.0.1:*\n"
            "[serve it-tsv]\nwire = tsv\nlisten = tcp:0\n"
            "[serve it-scpi]\nwire = scpi\nlisten = tcp:0\n"
        )
        self.lab = start_lab(self, config, python, str(DRIVERS))
        return self.lab

    async def plesty(self) -> PlestyClient:
        port = await self.lab.port("it", "plesty", limit=60)
        client = PlestyClient(f"tcp://127.0.0.1:{port}", reactor=reactor)
        await client.connect()
        self.addCleanup(client.close)
        return client

    async def tsv(self) -> TsvClient:
        port = await self.lab.port("it", "tsv", limit=60)
        client = TsvClient(f"127.0.0.1:{port}", reactor=reactor)
        self.addCleanup(client.close)
        return client

    def described(self, client: PlestyClient) -> dict[str, Any]:
        """The records of all parameters by their names."""
        assert client.doc is not None
        groups = client.doc["parameters"]
        return {record["name"]: record for group in groups.values() for record in group}

    async def refused(self, deferred: Any, *kinds: type[LabError]) -> str:
        return str(await self.assertFailure(deferred, *kinds))


class QcodesTests(ObjectCase):
    """QCoDeS' mock instruments."""

    async def test_channels(self) -> None:
        self.serve(f"driver = {MOCKS}.DummyChannelInstrument")
        client = await self.plesty()
        names = await client.get_config_list()
        self.assertLessEqual({"A.temperature", "B.temperature", "F.dummy_text"}, set(names))
        await client.write("B.temperature", 77.5)
        self.assertEqual(await client.query("B.temperature"), 77.5)
        self.assertNotEqual(await client.query("A.temperature"), 77.5)
        said = await self.refused(client.write("B.temperature", 301.0), OutOfRange)
        self.assertIn("300", said)
        self.assertIsNone(await client.call("A.turn_on"))

    async def test_arrays_with_setpoints(self) -> None:
        self.serve(f"driver = {MOCKS}.DummyChannelInstrument")
        client = await self.plesty()
        for name, value in (("dummy_start", 1.0), ("dummy_stop", 2.0), ("dummy_n_points", 5)):
            await client.write(f"A.{name}", value)
        self.assertEqual(
            await client.query("A.dummy_sp_axis"), [1.0, 1.25, 1.5, 1.75, 2.0]
        )
        array = await client.query("A.dummy_parameter_with_setpoints")
        self.assertEqual((len(array["data"]), array["unit"]), (5, "some other unit"))
        (axis,) = array["axes"]
        self.assertEqual((axis["unit"], axis["values"][-1]), ("some unit", 2.0))

    async def test_units_choices_and_limits(self) -> None:
        self.serve(f"driver = {MOCKS}.MockDAC")
        client = await self.plesty()
        self.assertIn("ch01.voltage", await client.get_config_list())
        tsv = await self.tsv()
        await tsv.set("ch01.voltage", 1.5)
        self.assertEqual((await tsv.get("ch01.voltage")).text, "1.5")
        said = await self.refused(tsv.set("ch01.voltage", 2.5), DeviceFault)
        self.assertIn("2", said)
        await client.write("ch01.dac_output", "on")
        self.assertEqual(await client.query("ch01.dac_output"), "on")

    async def test_closed_and_opened_again(self) -> None:
        """QCoDeS keeps the names of its instruments: a second one needs the first closed."""
        self.serve(f"driver = {MOCKS}.DummyInstrument\ngates = a, b")
        client = await self.plesty()
        await client.write("a", 12.0)
        tsv = await self.tsv()
        await tsv.disconnect_hardware()
        await self.refused(client.query("a"), LabError)
        await tsv.connect_hardware()
        self.assertEqual(await client.query("a"), 0)


class PymeasureTests(ObjectCase):
    """A pymeasure class with channels, behind pyvisa-sim."""

    SECTION = (
        "driver = instruments.Supply\nadapter = GPIB0::7::INSTR\n"
        f"argument visa_library = {DRIVERS}/supply.yaml@sim\n"
        'argument read_termination = "\\n"\nargument write_termination = "\\n"'
    )

    async def test_properties(self) -> None:
        self.serve(self.SECTION)
        client = await self.plesty()
        self.assertEqual(await client.identity(), "Example,Supply,S-7,1.2")
        records = self.described(client)
        limit = records["limit"]
        self.assertEqual((limit["min_value"], limit["max_value"], limit["unit"]), (0.1, 5, "A"))
        self.assertEqual(records["tracking"]["options"], ["NONE", "SER", "PAR"])
        self.assertEqual(records["on"]["dtype"], "bool")
        self.assertEqual(await client.query("current"), 0.25)
        await client.write("limit", 2.5)
        self.assertEqual(await client.query("limit"), 2.5)
        await self.refused(client.write("limit", 9.0), OutOfRange)
        await self.refused(client.write("current", 1.0), NotWritable)
        await client.write("on", True)
        self.assertIs(await client.query("on"), True)

    async def test_channels_and_methods(self) -> None:
        self.serve(self.SECTION)
        client = await self.plesty()
        await client.write("ch_2.voltage", 12.5)
        self.assertEqual(await client.query("ch_2.voltage"), 12.5)
        self.assertEqual(await client.query("ch_1.voltage"), 0.0)
        self.assertEqual(await client.call("ramp", 8, steps=4), 8.0)
        port = await self.lab.port("it", "scpi")
        scpi = ScpiClient(f"127.0.0.1:{port}")
        self.addCleanup(scpi.close)
        self.assertEqual(await scpi.query("CURR?"), "0.25")

    async def test_a_fake_of_the_library(self) -> None:
        self.serve("driver = pymeasure.instruments.fakes.SwissArmyFake\nwait = 0")
        client = await self.plesty()
        self.assertEqual(await client.query("voltage"), 10)
        await client.write("output_voltage", 3.5)
        self.assertEqual(await client.query("output_voltage"), 3.5)


class PlestyTests(ObjectCase):
    """The device that plesty's own server serves in the other tests."""

    async def test_parameters_and_operations(self) -> None:
        self.serve("driver = instruments.Bench")
        client = await self.plesty()
        self.assertEqual(await client.identity(), "Example,Bench,B-0001,1.0")
        records = self.described(client)
        self.assertEqual(records["wavelength"]["unit"], "nm")
        self.assertEqual(records["power_unit"]["options"], ["W", "DBM"])
        await client.write("wavelength", 633)  # an int will do, other than for plesty's own
        self.assertEqual(await client.query("wavelength"), 633.0)
        await client.write("MOTOR.position", -2.0)
        self.assertEqual(await client.query("MOTOR.position"), -2.0)
        await self.refused(client.write("wavelength", 1.0), OutOfRange)
        await self.refused(client.write("serial", "x"), NotWritable)
        self.assertEqual(await client.add(2, b=40), 42)
        self.assertEqual(await client.bare(), 42)
        self.assertEqual(await client.call("measure_power", samples=20), {"power": 0.02})
        said = await self.refused(client.boom("ValueError", "too hot"), DeviceFault)
        self.assertIn("too hot", said)

    async def test_over_another_wire(self) -> None:
        self.serve("driver = instruments.Bench")
        tsv = await self.tsv()
        self.assertEqual((await tsv.send("add", 1, 2)).text, "3.0")
        await tsv.set("averaging", 20)
        self.assertEqual((await tsv.get("averaging")).text, "20")


class SmBlueskyTests(ObjectCase):
    """The motor that sm_bluesky's own server serves in the other tests."""

    async def test_commands(self) -> None:
        self.serve("driver = instruments.QuietMotor\nstart = 1.5")
        tsv = await self.tsv()
        self.assertEqual((await tsv.send("position")).text, "1.5")
        self.assertEqual((await tsv.send("move_abs", 2.5)).text, "Moved to 2.5")
        self.assertEqual((await tsv.send("limits")).fields, ("-10.0", "10.0", "mm"))
        self.assertEqual((await tsv.send("silent")).text, "")
        said = await self.refused(tsv.send("fail", "no vacuum"), DeviceFault)
        self.assertIn("no vacuum", said)
        names = await tsv.command_list()
        self.assertLessEqual({"move_abs", "position", "echo"}, set(names))

    async def test_from_plesty(self) -> None:
        self.serve("driver = instruments.QuietMotor")
        client = await self.plesty()
        self.assertEqual(await client.move_abs("3"), "Moved to 3")
        self.assertEqual(await client.position(), "3.0")

    async def test_a_mistake_in_the_section(self) -> None:
        python = peer("instruments")
        lab = start_lab(
            self, "[device it]\ndriver = instruments.QuietMoto\n", python, str(DRIVERS)
        )
        self.assertEqual(await lab.end(), 1)
        self.assertIn("did you mean 'QuietMotor'?", lab.errors)


class ScriptTests(TestCase):
    """Objects that a script has made."""

    timeout = 90

    async def test_added(self) -> None:
        script = start(self, "instruments", "added_objects", PYTHONPATH=str(ROOT))
        found = await script.wait_for("done", limit=60)
        self.assertEqual(
            found,
            {
                "event": "done", "voltage": 1.25, "supply": 2.0, "bench": 3.0, "motor": "2.5",
                "identity": "Example,Supply,S-7,1.2",
            },
        )  # fmt: skip
        self.assertEqual(await script.end(), 0)


class PageTests(TestCase):
    """The page of the documentation: its sections can be used as they stand."""

    timeout = 90

    async def test_sections(self) -> None:
        python = peer("instruments")
        page = ROOT / "docs" / "devices.md"
        found = [block for block in blocks(page) if block.mark == "check: instruments"]
        self.assertEqual(len(found), 1)
        for block in found:
            file = Path(self.mktemp()).absolute()
            file.write_text(block.text)
            done = await run(
                self, python, *TWISTD[1:], "labnet", "--check", "--config", str(file),
                env={"PYTHONPATH": f"{ROOT}{os.pathsep}{DRIVERS}"},
            )  # fmt: skip
            self.assertEqual(done.code, 0, done.errors + done.text)
            self.assertIn("instruments.QuietMotor", done.text)
