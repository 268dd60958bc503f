"""Sections ``[dial NAME]``: their keys, their services, and programs that dial in scripts."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from labnet.config import ConfigError, parse_config
from labnet.devices.simulated.stage import Stage
from labnet.lab import Lab as KernelLab
from labnet.lab import ServeOptions
from labnet.reference import describe_options
from labnet.service import DiallerService, Lab, LabService
from labnet.tap import summary
from labnet.wires.pymodaq.codec import Generation
from labnet.wires.pymodaq.dialler import Options as PymodaqOptions
from labnet.wires.table import WIRES, Wire
from tests import fake_wire

TEXT = """[lab]
name = bench
drain = 1
[device stage]
driver = simulated.stage
[device meter]
driver = simulated.powermeter
[serve out]
wire = fake
listen = tcp:0
device = stage
[dial out]
wire = pymodaq
device = stage
connect = 10.0.0.7:6342
as = ACTUATOR
generation = b
report = 0.5
timeout = 3
"""


#: What a module that dials has beside ``dial``.
PORT = 7001
Options = fake_wire.Options


class FakeDialler:
    """One that has begun."""

    def __init__(self, asked: tuple[Any, ...]) -> None:
        self.asked = asked
        self.address = asked[1]
        self.example = "start the program"
        self.stopped = False

    async def stop(self) -> None:
        """Ends."""
        self.stopped = True


async def dial(*asked: Any) -> FakeDialler:
    """Begins."""
    return FakeDialler(asked)


class KeyTests(SynchronousTestCase):
    def setUp(self) -> None:
        fake_wire.install(self)

    def refused(self, old: str, new: str) -> str:
        self.assertIn(old, TEXT)
        text = new.join(TEXT.rsplit(old, 1))
        return str(self.assertRaises(ConfigError, parse_config, text, "lab.ini"))

    def test_whole(self) -> None:
        (dial,) = parse_config(TEXT).dials
        self.assertEqual((dial.name, dial.wire.name, dial.device), ("out", "pymodaq", "stage"))
        self.assertEqual((dial.connect, dial.keys.timeout), ("10.0.0.7:6342", 3))
        self.assertEqual(
            dial.options, PymodaqOptions(as_="ACTUATOR", generation=Generation.B, report=0.5)
        )

    def test_defaults(self) -> None:
        text = "[device a]\ndriver = simulated.stage\n[dial x]\nwire = pymodaq\n"
        (dial,) = parse_config(text).dials
        self.assertEqual((dial.device, dial.connect), ("a", "127.0.0.1:6341"))
        self.assertEqual((dial.keys.timeout, dial.options), (10.0, PymodaqOptions()))

    def test_mistakes(self) -> None:
        for old, new, why in (
            ("wire = pymodaq", "wire = fake", "programs of fake wait for no devices; those of"),
            ("wire = pymodaq", "wire = pymodak", "unknown wire 'pymodak'; did you mean 'pymodaq'?"),
            ("as = ACTUATOR", "as = MOTOR", "[dial out] as: 'MOTOR' is not one of"),
            ("as = ACTUATOR", "az = ACTUATOR", "unknown key 'az'"),
            ("generation = b", "generation = E", "'E' is not one of A, B, C1"),
            ("device = stage", "device = stages", "no device 'stages'; did you mean 'stage'?"),
            ("device = stage\n", "", "the key 'device' is missing"),
            ("report = 0.5", "report = 0", "outside 0.01 to 3600 s"),
            ("[dial out]", "[dial]", "the section has no name; write [dial NAME]"),
        ):
            problem = self.refused(old, new)
            self.assertIn(why, problem)
            self.assertTrue(problem.startswith("lab.ini:"))

    def test_the_reference_has_them(self) -> None:
        rows = {(row.section, row.key): row for row in describe_options()}
        self.assertEqual(rows["dial NAME", "connect"].type, "text")
        own = rows["dial NAME, wire = pymodaq", "as"]
        self.assertEqual((own.type, own.default), ("ACTUATOR | GRABBER | auto", "auto"))
        generation = rows["dial NAME, wire = pymodaq", "generation"]
        self.assertEqual((generation.type, generation.default), ("A | B | C1 | C2 | C3 | C4 | D",
                                                                 "C4"))  # fmt: skip

    def test_the_summary_has_them(self) -> None:
        self.assertRegex(summary(parse_config(TEXT)), r"stage +pymodaq +to 10\.0\.0\.7:6342")


class ServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        fake_wire.install(self)
        WIRES["fake"] = Wire("fake", "tests.fake_wire", "", 7000, "", dialler="tests.test_dial")
        self.patch(fake_wire, "listen", self.dial)
        self.patch(sys.modules[__name__], "dial", self.dial)
        self.clock: Any = MemoryReactorClock()
        self.diallers: list[FakeDialler] = []
        self.problem: Exception | None = None

    async def dial(self, *asked: Any) -> FakeDialler:
        if self.problem is not None:
            raise self.problem
        self.diallers.append(FakeDialler(asked))
        return self.diallers[-1]

    def service(self, text: str) -> LabService:
        service = LabService(
            parse_config(text, "lab.ini"),
            make_lab=lambda **policy: KernelLab(self.clock, self.clock, **policy),
        )
        service.startService()
        self.successResultOf(service.starting)
        return service

    TEXT = TEXT.partition("[serve out]")[0] + (
        "[serve out]\nwire = fake\ndevice = stage\n"
        "[dial out]\nwire = fake\ndevice = stage\nconnect = there:9\ntimeout = 3\n"
    )

    def test_it_dials(self) -> None:
        service = self.service(self.TEXT)
        listener, dialler = self.diallers
        host, address, common, options, reactor = dialler.asked
        self.assertIs(host, service.lab)
        self.assertIs(reactor, self.clock)
        self.assertEqual(address, "there:9")
        self.assertEqual(common, ServeOptions("out", "stage", timeout=3, drain=1))
        self.assertEqual(options, fake_wire.Options())
        self.successResultOf(service.stopService())
        self.assertTrue(dialler.stopped and listener.stopped)

    def test_what_cannot_be_offered_is_one_line(self) -> None:
        self.problem = ValueError("stage is no such thing")
        ends: list[int] = []
        service = LabService(
            parse_config(self.TEXT, "lab.ini"),
            ends.append,
            make_lab=lambda **policy: KernelLab(self.clock, self.clock, **policy),
        )
        service.startService()
        self.clock.advance(1)
        self.assertEqual(ends, [1])
        (*_, problem) = service._problems
        self.assertEqual(
            problem, "lab.ini:14: [dial out] connect: there:9: stage is no such thing"
        )


class ScriptTests(SynchronousTestCase):
    def test_a_script_that_dials(self) -> None:
        reactor: Any = MemoryReactorClock()
        lab = Lab(clock=reactor, reactor=reactor)
        lab.add("stage", Stage(clock=Clock()))
        service = lab.dial("pymodaq", device="stage", as_="ACTUATOR", generation=Generation.A)
        self.assertIsInstance(service, DiallerService)
        service.startService()
        self.assertEqual(reactor.tcpClients[0][:2], ("127.0.0.1", 6341))
        service.stopService()
        with self.assertRaises(ValueError):
            lab.dial("tsv", device="stage")
