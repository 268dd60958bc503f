"""The lab is found by programs that know nothing of it: pyvisa-py, and a validator of schemas."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any, cast

from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.lab import ROOT, TWISTD, LabProcess, start_lab
from tests.interop.peers import DRIVERS, PeerProcess, peer, run_command
from tests.interop.processes import run

LAB = """
[device dmm]
driver = simulated.dmm
[device scope]
driver = simulated.scope
[serve scope-vicp]
wire = vicp
listen = tcp:1861
device = scope
[serve dmm-scpi]
wire = scpi
listen = tcp:5025
device = dmm
[discovery]
manufacturer = LeCroy (simulated)
device = scope
"""
MORE = """
[serve dmm-vxi11]
wire = vxi11
listen = tcp:9010
device = dmm
[serve dmm-hislip]
wire = hislip
listen = tcp:4880
device = dmm
"""
LISTING = """
from twisted.internet.task import react
import labnet

async def main(reactor):
    for found in await labnet.list_resources(timeout=3, reactor=reactor):
        print(found.name, found.manufacturer, found.model, found.serial)
    scope = labnet.open_resource(found.name, reactor=reactor)
    print(await scope.query("*IDN?"))
    await scope.close()

react(main)
"""
ANNOUNCED = re.compile(r"announced as .*; see (\S+)")


class DocumentTests(TestCase):
    """The identification document."""

    timeout = 60

    async def test_valid(self) -> None:
        peer("xmlschema")
        lab = start_lab(self, re.sub("tcp:[0-9]+", "tcp:0", LAB))
        line = await lab.wait_for_line(lambda line: "announced as" in line, "what is announced")
        found = ANNOUNCED.search(line)
        assert found is not None, line
        port = await lab.port("dmm", "scpi")
        for path, lines in (
            ("lxi/identification", ["LeCroy (simulated) SIM-SCOPE"]),
            (
                "devices/dmm/lxi/identification",
                ["LeCroy (simulated) SIM-DMM", f"TCPIP0::127.0.0.1::{port}::SOCKET"],
            ),
        ):
            done = await run_command(self, "xmlschema", "lxi_document", f"{found[1]}{path}")
            self.assertEqual(done.code, 0, done.errors)
            # The scope's own address begins with VICP::127.0.0.1, and a port that differs.
            shown = [line for line in done.text.splitlines() if not line.startswith("VICP::")]
            self.assertEqual(shown, lines)


class Networks:
    """Two machines, as far as the network can tell, and the cable between them.

    On one machine alone they could not be told apart: all who speak mDNS share a port there, and an
    answer to one of them may reach another.
    """

    HERE, THERE = "10.77.18.1", "10.77.18.2"

    def __init__(self, test: TestCase) -> None:
        self._test = test
        self.names = [f"labnet-{os.getpid()}-{end}" for end in "ab"]

    async def make(self) -> None:
        """SkipTest where this user may not."""
        for name in self.names:
            done = await run(self._test, "ip", "netns", "add", name)
            if done.code:
                raise SkipTest(f"a network namespace needs root: {done.errors.strip()}")
            self._test.addCleanup(lambda name=name: self._ip("netns", "delete", name))
        one, two = self.names
        await self._ip("-n", one, *["link", "add", "v0", "type", "veth", "peer", "name", "v1"])
        await self._ip("-n", one, *f"link set v1 netns {two}".split())
        for name, device, address in ((one, "v0", self.HERE), (two, "v1", self.THERE)):
            for command in (
                f"addr add {address}/24 brd + dev {device}",
                f"link set {device} up",
                "link set lo up",
                f"route add 224.0.0.0/4 dev {device}",
            ):
                await self._ip("-n", name, *command.split())

    async def _ip(self, *words: str) -> None:
        done = await run(self._test, "ip", *words)
        assert done.code == 0, (words, done.errors)

    def on(self, machine: int, *command: str) -> list[str]:
        """A command that runs on one of them."""
        return ["ip", "netns", "exec", self.names[machine], *command]


class VisaTests(TestCase):
    """pyvisa-py's list of resources, on another machine."""

    timeout = 120

    async def setUp(self) -> None:  # type: ignore[override]
        python = peer("pyvisa-py")
        if not Path("/usr/sbin/ip").exists() and not Path("/sbin/ip").exists():
            raise SkipTest("there is no command ip")
        networks = self.networks = Networks(self)
        await networks.make()
        file = Path(cast(Any, self).mktemp()).absolute()
        here = re.sub("listen = .*", rf"\g<0>:interface={networks.HERE}", MORE + LAB)
        file.write_text(f"{here}interfaces = *\n")
        self.lab = LabProcess()
        command = networks.on(0, *TWISTD, "labnet", "--config", str(file))
        self.lab.start(self, command, PYTHONPATH=str(ROOT))
        await self.lab.wait_for_line(lambda line: "announced as" in line, "what is announced")
        self.visa = PeerProcess("pyvisa-py elsewhere")
        driver = str(DRIVERS / "visa_client.py")
        self.visa.start(self, networks.on(1, python, driver))

    async def test_listed_and_opened(self) -> None:
        wanted = {
            "VICP::10.77.18.1::INSTR",
            "TCPIP::10.77.18.1::INSTR",
            "TCPIP::10.77.18.1::hislip0,4880::INSTR",
        }
        found: set[str] = set()
        for _ in range(4):  # pyvisa-py listens for one second only
            found |= set(await self.visa.ask("resources", limit=60))
            if found >= wanted:
                break
        self.assertEqual(found, wanted)
        for name in wanted - {"VICP::10.77.18.1::INSTR"}:
            await self.visa.ask("open", name, name, timeout=10_000, open_timeout=5000)
            answer = await self.visa.ask("query", name, "*IDN?")
            self.assertEqual(answer.strip(), "labnet,SIM-DMM,D0000001,1.0")
        await self.visa.ask("open", "scope", "VICP::10.77.18.1::INSTR", timeout=10_000)
        answer = await self.visa.ask("query", "scope", "*IDN?")
        self.assertEqual(answer.strip(), "labnet,SIM-SCOPE,O0000001,1.0")

    async def test_labnet_lists_it_too(self) -> None:
        """With what each instrument is, from the other machine."""
        file = Path(cast(Any, self).mktemp()).absolute()
        file.write_text(LISTING)
        command = self.networks.on(1, sys.executable, str(file))
        done = await run(self, *command, env={"PYTHONPATH": str(ROOT)})
        self.assertEqual(done.code, 0, done.errors)
        self.assertEqual(
            done.text.splitlines(),
            [
                "TCPIP0::10.77.18.1::5025::SOCKET LeCroy (simulated) SIM-DMM D0000001",
                "TCPIP0::10.77.18.1::hislip0::INSTR LeCroy (simulated) SIM-DMM D0000001",
                "TCPIP0::10.77.18.1::inst0::INSTR LeCroy (simulated) SIM-DMM D0000001",
                "VICP::10.77.18.1::INSTR LeCroy (simulated) SIM-SCOPE O0000001",
                "labnet,SIM-SCOPE,O0000001,1.0",
            ],
        )

    async def test_nothing_is_listed_after_the_end(self) -> None:
        await self.lab.stop()
        self.assertEqual(await self.visa.ask("resources", limit=60), [])
