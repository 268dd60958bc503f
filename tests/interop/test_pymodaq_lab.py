"""PyMoDAQ's modules, and a program like LabVIEW's, as devices of a running lab."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
from twisted.trial.unittest import TestCase

from tests.interop.lab import start_lab
from tests.interop.peers import DRIVERS, PeerError, PeerProcess, peer, start

SLOW = 60.0  # s: Qt and all of PyMoDAQ, on a busy machine
STORY = """
[lab]
name = story
[serve modules]
wire = pymodaq
listen = tcp:0
actuators = rotor
[serve rotor-plesty]
wire = plesty
listen = tcp://127.0.0.1:*
device = rotor
[serve rotor-tsv]
wire = tsv
listen = tcp:0
device = rotor
[serve rotor-scpi]
wire = scpi
listen = tcp:0
device = rotor
"""
MODULES = """
[serve modules]
wire = pymodaq
listen = tcp:0
actuators = stage
grabbers = camera
quiet = 0.5
[serve all]
wire = tsv
listen = tcp:0
devices = *
timeout = 2
"""


class StoryTests(TestCase):
    """One actuator, dialled in from PyMoDAQ, for programs of three other languages."""

    timeout = 180

    async def setUp(self) -> None:  # type: ignore[override]
        for name in ("plesty-0.6.0", "sm-bluesky", "pyvisa-py", "pymodaq-4.4.11"):
            peer(name)
        self.lab = start_lab(self, STORY)
        port = str(await self.lab.port("*", "pymodaq"))
        self.module = start(self, "pymodaq-4.4.11", "pymodaq_module", "move", port, "rotor")
        self.plesty = start(self, "plesty-0.6.0", "plesty_client")
        self.visa = start(self, "pyvisa-py", "visa_client")
        tsv = str(await self.lab.port("rotor", "tsv"))
        self.bluesky = start(self, "sm-bluesky", "sm_bluesky_client", "127.0.0.1", tsv, "20")
        await self.module.wait_for("initialized", SLOW)

    async def position(self) -> float:
        return float(await self.bluesky.ask("send", "get", "position"))

    async def connect(self) -> None:
        address = f"tcp://127.0.0.1:{await self.lab.port('rotor', 'plesty')}"
        await self.plesty.ask("connect", address, client_id="night-scan")
        resource = f"TCPIP::127.0.0.1::{await self.lab.port('rotor', 'scpi')}::SOCKET"
        await self.visa.ask("open", "rotor", resource, read_termination="\n", timeout=10_000)

    async def test_the_story(self) -> None:
        # Before it dials in the others are told so.
        failure = await self.assertFailure(self.bluesky.ask("send", "get", "position"), PeerError)
        self.assertIn("no module has dialled in yet", failure.text)
        await self.module.ask("dial")
        await self.lab.wait_for_line(lambda line: "rotor is the actuator" in line, "its arrival")
        await self.connect()

        # A PLESTY client moves it; sm_bluesky's client reads where it is.
        end = await self.plesty.ask("call", "move_abs", 20.0, limit=SLOW)
        self.assertLess(abs(end - 20.0), 1.5)  # the mock's own epsilon is 1
        self.assertLess(abs(await self.position() - 20.0), 1.5)
        self.assertLess(abs(await self.module.ask("position") - 20.0), 1.5)

        # A setting written there reaches the module.
        await self.plesty.ask("write", "settings.tau", 100)
        self.assertEqual(await self.module.ask("setting", "tau"), 100)

        # A pyvisa-py session takes its lock.
        self.assertEqual(await self.visa.ask("query", "rotor", "SYST:LOCK:REQ?"), "1")
        for refused in (
            self.plesty.ask("write", "settings.tau", 200),
            self.plesty.ask("call", "move_abs", 0.0),
        ):
            failure = await self.assertFailure(refused, PeerError)
            self.assertRegex(failure.text, r"is locked .*by .*\(scpi 127\.0\.0\.1:")
        self.assertEqual(await self.module.ask("setting", "tau"), 100)
        self.assertLess(abs(await self.plesty.ask("query", "position") - 20.0), 1.5)
        self.assertLess(abs(await self.position() - 20.0), 1.5)

        # Its user unticks the connection, and everybody is told. It comes back as the same device,
        # under the same lock, in another process: PyMoDAQ 4.4 crashes when it connects again.
        known = len(self.lab.lines)
        await self.module.ask("hang_up")
        await self.line_after(known, "rotor is not connected")
        failure = await self.assertFailure(self.bluesky.ask("send", "get", "position"), PeerError)
        self.assertRegex(failure.text, "rotor is not connected: ")
        await self.module.kill()
        port = str(await self.lab.port("*", "pymodaq"))
        self.module = start(self, "pymodaq-4.4.11", "pymodaq_module", "move", port, "rotor")
        await self.module.wait_for("initialized", SLOW)
        await self.module.ask("dial")
        await self.line_after(known, "rotor is the actuator")
        self.assertLess(abs(await self.position()), 1.5)
        failure = await self.assertFailure(self.plesty.ask("call", "move_abs", 0.0), PeerError)
        self.assertIn("is locked", failure.text)

        # It dies.
        known = len(self.lab.lines)
        await self.module.kill()
        await self.line_after(known, "rotor is not connected")

    async def line_after(self, known: int, words: str) -> None:
        """Waits for a line of the log that comes after so many."""
        while not any(words in line for line in self.lab.lines[known:]):
            await self.bluesky.ask("send", "ping")


class ModulesCase(TestCase):
    """A lab for modules, and sm_bluesky's client for all of it."""

    timeout = 180
    names = "stage"

    async def setUp(self) -> None:  # type: ignore[override]
        peer("sm-bluesky")
        self.lab = start_lab(self, MODULES.replace("= stage", f"= {self.names}"))
        self.port = await self.lab.port("*", "pymodaq")
        tsv = str(await self.lab.port("*", "tsv"))
        self.client = start(self, "sm-bluesky", "sm_bluesky_client", "127.0.0.1", tsv, "20")

    async def send(self, *command: object) -> str:
        answer: str = await self.client.ask("send", *command)
        return answer

    async def arrival(self, name: str, after: int = 0) -> None:
        """Waits until the module of that name is there; ``after`` so many lines of the log."""
        word = f" {name} is the "
        while not any(word in line for line in self.lab.lines[after:]):
            await self.send("ping")


class LabViewTests(ModulesCase):
    """A program without settings that sends big-endian numbers, in both editions."""

    async def arrives(self, name: str, kind: str, generation: str) -> PeerProcess:
        """The program, when it is the device."""
        known = len(self.lab.lines)
        process = PeerProcess(f"like LabVIEW ({generation})")
        script = str(DRIVERS / "labview_like.py")
        process.start(self, [sys.executable, script, kind, generation, str(self.port)])
        await self.arrival(name, known)
        return process

    async def leaves(self, process: PeerProcess, name: str) -> None:
        known = len(self.lab.lines)
        await process.kill()
        while not any(f"{name} is not connected" in line for line in self.lab.lines[known:]):
            await self.send("ping")

    async def test_moves(self) -> None:
        for generation in ("A", "B"):
            process = await self.arrives("stage", "ACTUATOR", generation)
            for command, answer in (
                (("stage.move_abs", 3.25), "3.25"),
                (("stage.move_rel", -1), "2.25"),
                (("stage.move_abs", 2.25), "2.25"),
            ):
                self.assertEqual(await self.send(*command), answer, (generation, command))
            await self.leaves(process, "stage")

    async def test_frames(self) -> None:
        for generation in ("A", "B"):
            process = await self.arrives("camera", "GRABBER", generation)
            self.assertEqual(await self.numbers("0D"), [0.0, 1.0])
            line = np.squeeze(await self.numbers("1D"))
            self.assertEqual(line.tolist(), [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5]])
            picture = np.array(await self.numbers("2D"))
            self.assertTrue(np.array_equal(picture[0], np.arange(12).reshape(3, 4)))
            self.assertTrue(np.array_equal(picture[1], picture[0] + 1))
            await self.leaves(process, "camera")

    async def numbers(self, dimension: str) -> Any:
        fields = (await self.send("camera.grab", dimension)).split("\t")
        return [json.loads(field) for field in fields]


class ManyTests(ModulesCase):
    """Real clients of all versions at once; one stops answering."""

    names = "a, b, c"

    async def test_all_versions_in_one_lab(self) -> None:
        drivers = {}
        for name, version in zip("abc", ("3.6.13", "4.4.11", "5.1.13"), strict=True):
            peer_name = f"pymodaq-{version}"
            driver = start(self, peer_name, "pymodaq_client", "ACTUATOR", str(self.port))
            await driver.wait_for("ready", SLOW)
            await driver.ask("dial")
            await self.arrival(name)
            drivers[name] = driver
        for name in "abc":
            self.assertEqual(await self.send(f"{name}.move_abs", 3.5), "3.5")
            self.assertEqual(await drivers[name].ask("position"), 3.5)
        self.assertEqual(await self.send("set", "b.settings.velocity", 2.5), "2.5")
        self.assertEqual(await drivers["b"].ask("setting", "velocity"), 2.5)
        await drivers["b"].ask("set_setting", ["velocity"], 3.5)
        while await self.send("get", "b.settings.velocity") != "3.5":
            pass
        drivers["c"].signal("STOP")
        self.assertEqual(await self.send("get", "b.position"), "3.5")
        failure = await self.assertFailure(
            self.client.ask("send", "get", "c.position", limit=SLOW), PeerError
        )
        self.assertIn("c.position exceeded 2.0s limit", failure.text)
        self.assertEqual(await self.send("get", "a.position"), "3.5")
        drivers["c"].signal("CONT")
