"""labnet dials PyMoDAQ's real TCPServer plugin, of three versions, with its simulated devices.

The plugin reads one message at each tick of its timer and sleeps a tenth of a second before: it
takes four or five a second. What is broken in a version is left out here: in 3.6 nothing; a 5.1
plugin cannot send, so one test repairs it in its own process, and the others send unasked.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from labnet.device import Device, command
from labnet.devices.simulated.camera import Camera
from labnet.devices.simulated.powermeter import PowerMeter
from labnet.devices.simulated.spectrometer import Spectrometer
from labnet.devices.simulated.stage import Stage
from labnet.lab import Lab, ServeOptions
from labnet.values import LabeledArray
from labnet.wires.pymodaq.codec import Generation
from labnet.wires.pymodaq.dialler import Dialler, Options, dial
from tests.interop.lab import LabProcess, start_lab
from tests.interop.peers import PeerProcess, start

GENERATIONS = {"3.6.13": "B", "4.4.11": "C4", "5.1.13": "D"}
SLOW = 60.0  # s: Qt and all of PyMoDAQ, on a busy machine


class Cube(Device):
    """A detector of three dimensions."""

    @command(reads=True)
    def grab(self) -> LabeledArray:
        """Counts from 0."""
        return LabeledArray(np.arange(24.0).reshape(2, 3, 4), "cube", "V")


class DialCase(TestCase):
    """A lab in this process, a plugin in its own."""

    timeout = 240

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.lab = Lab(reactor=reactor)
        stage = Stage(10.0)
        for name, device in (
            ("stage", stage), ("camera", Camera(stage)), ("spectrometer", Spectrometer()),
            ("powermeter", PowerMeter()), ("cube", Cube()),
        ):  # fmt: skip
            self.lab.attach(name, device)
        self.addCleanup(self.lab.stop)

    async def plugin(self, version: str, kind: str, *arguments: str) -> PeerProcess:
        """A plugin that listens."""
        process = start(self, f"pymodaq-{version}", "pymodaq_server", kind, *arguments)
        await process.wait_for("ready", SLOW)
        return process

    async def dial(self, plugin: PeerProcess, device: str, version: str, **keys: Any) -> Dialler:
        """Offers a device to it, and waits until it has taken that."""
        generation = Generation[GENERATIONS[version]]
        dialler = await dial(
            self.lab,
            f"127.0.0.1:{await plugin.ask('port')}",
            ServeOptions("offer", device, drain=2.0),
            Options(generation=generation, **keys),
            self.reactor,
        )
        self.addCleanup(dialler.stop)
        await self.until(plugin, "clients", lambda clients: len(clients) == 1)
        return dialler

    async def until(self, plugin: PeerProcess, verb: str, accept: Any, *args: Any) -> Any:
        """Asks the plugin until it answers as wanted, for a time."""
        end = self.reactor.seconds() + 30.0
        while not accept(answer := await plugin.ask(verb, *args)):
            if self.reactor.seconds() > end:
                self.fail(f"{verb} stayed {answer!r}")
            await deferLater(self.reactor, 0.05)
        return answer

    async def changed(self, accept: Any) -> None:
        """Waits until something here is as wanted, for a time."""
        end = self.reactor.seconds() + 20.0
        while not accept():
            self.assertLess(self.reactor.seconds(), end)
            await deferLater(self.reactor, 0.02)

    async def status(self, plugin: PeerProcess, word: str, after: int = 0) -> Any:
        """The number of the first such status behind the first `after` lines."""
        seen = {id(line) for line in plugin.lines[:after]}

        def fits(line: str) -> bool:
            event = json.loads(line)
            return id(line) not in seen and (event.get("event"), event.get("word")) == (
                "status",
                word,
            )

        return json.loads(await plugin.wait_for_line(fits, word))["value"]

    async def ordered(self, plugin: PeerProcess, *order: Any, reply: str) -> Any:
        """What the plugin tells its module after an order."""
        before = len(plugin.lines)
        await plugin.ask("order", *order)
        return await self.status(plugin, reply, before)

    def told(self, plugin: PeerProcess, word: str) -> list[Any]:
        """The numbers of all statuses of a word."""
        events = map(json.loads, plugin.lines)
        return [event["value"] for event in events if event.get("word") == word]


class ActuatorTests(DialCase):
    async def check_moves(self, version: str, *arguments: str) -> None:
        plugin = await self.plugin(version, "move", *arguments)
        await self.dial(plugin, "stage", version, report=0.3)
        stage: Any = self.lab.devices()["stage"].device
        await self.until(plugin, "settings", lambda found: "velocity" in found)
        where = await self.ordered(plugin, "get_actuator_value", reply="get_actuator_value")
        self.assertEqual(where, 10.0)
        stage.store("velocity", 20.0)
        self.assertEqual(await self.ordered(plugin, "move_abs", 30.0, reply="move_done"), 30.0)
        on_the_way = self.told(plugin, "get_actuator_value")[1:]
        self.assertGreater(len(on_the_way), 1)
        self.assertEqual(on_the_way, sorted(on_the_way))
        self.assertEqual(await self.ordered(plugin, "move_rel", -5.0, reply="move_done"), 25.0)
        self.assertEqual(await self.ordered(plugin, "move_home", reply="move_done"), 0.0)
        self.assertEqual(stage.position, 0.0)

    async def test_moves_3_6(self) -> None:
        await self.check_moves("3.6.13")

    async def test_moves_4_4(self) -> None:
        await self.check_moves("4.4.11")

    async def test_moves_5_1(self) -> None:
        """With a plugin that has been given a way to send."""
        await self.check_moves("5.1.13", "0", "repaired")

    async def check_settings(self, version: str, *arguments: str) -> None:
        plugin = await self.plugin(version, "move", *arguments)
        await self.dial(plugin, "stage", version)
        stage: Any = self.lab.devices()["stage"].device
        found = await self.until(plugin, "settings", lambda found: "velocity" in found)
        self.assertEqual(found["velocity"], ["float", 100.0])
        self.assertEqual(found["units"], ["str", "mm"])
        if version != "3.6.13":
            self.assertEqual(await plugin.ask("units"), "mm")
        await plugin.ask("set_setting", ["velocity"], 12.5)
        await self.changed(lambda: stage.velocity == 12.5)
        session = self.lab.open_session("test", "here")
        await session.set("stage.velocity", 33.0)
        await self.until(plugin, "settings", lambda found: found["velocity"][1] == 33.0)
        self.assertEqual(stage.velocity, 33.0)

    async def test_settings_3_6(self) -> None:
        await self.check_settings("3.6.13")

    async def test_settings_4_4(self) -> None:
        await self.check_settings("4.4.11")

    async def test_settings_5_1(self) -> None:
        await self.check_settings("5.1.13", "0", "repaired")

    async def test_a_stop(self) -> None:
        plugin = await self.plugin("4.4.11", "move")
        await self.dial(plugin, "stage", "4.4.11")
        stage: Any = self.lab.devices()["stage"].device
        await self.until(plugin, "settings", lambda found: "velocity" in found)
        stage.store("velocity", 5.0)
        await plugin.ask("order", "move_abs", 90.0)
        await self.changed(lambda: stage.moving)
        await plugin.ask("order", "stop_motion")
        await self.changed(lambda: not stage.moving)
        infos = await self.until(plugin, "infos", lambda infos: "problem" in infos)
        self.assertIn("stopped at", infos["problem"])
        self.assertEqual(self.told(plugin, "move_done"), [])

    async def check_lock(self, version: str) -> None:
        """A refused move: the old position and the holder's name, and no ``move_done``."""
        plugin = await self.plugin(version, "move")
        await self.dial(plugin, "stage", version)
        await self.until(plugin, "settings", lambda found: "velocity" in found)
        other = self.lab.open_session("plesty", "127.0.0.1:5", name="alice")
        await other.lock(["stage"])
        where = await self.ordered(plugin, "move_abs", 30.0, reply="get_actuator_value")
        self.assertEqual(where, 10.0)
        infos = await self.until(plugin, "infos", lambda infos: "problem" in infos)
        self.assertIn("stage is locked by alice", infos["problem"])
        other.close()
        self.assertEqual(await self.ordered(plugin, "move_abs", 30.0, reply="move_done"), 30.0)
        self.assertEqual(len(self.told(plugin, "move_done")), 1)

    async def test_a_lock_3_6(self) -> None:
        await self.check_lock("3.6.13")

    async def test_a_lock_4_4(self) -> None:
        await self.check_lock("4.4.11")

    async def test_positions_unasked_5_1(self) -> None:
        """As it is shipped, a 5.1 plugin can but listen."""
        plugin = await self.plugin("5.1.13", "move")
        await self.dial(plugin, "stage", "5.1.13")
        await self.until(plugin, "settings", lambda found: "velocity" in found)
        session = self.lab.open_session("test", "here")
        before = len(plugin.lines)
        await session.call("stage.move_abs", 20.0)
        while await self.status(plugin, "get_actuator_value", before) != 20.0:
            before = len(plugin.lines)

    async def test_a_number_as_an_actuator(self) -> None:
        plugin = await self.plugin("4.4.11", "move")
        await self.dial(plugin, "powermeter.wavelength", "4.4.11")
        await self.until(plugin, "units", lambda units: units == "nm")
        meter: Any = self.lab.devices()["powermeter"].device
        answer = await self.ordered(plugin, "move_abs", 532.0, "nm", reply="move_done")
        self.assertEqual((answer, meter.wavelength), (532.0, 532.0))


class DetectorTests(DialCase):
    async def frame(self, version: str, kind: str, device: str, **keys: Any) -> list[Any]:
        """What a plugin of a kind shows of a device."""
        arguments = ("0", "repaired") if version == "5.1.13" else ()
        plugin = await self.plugin(version, kind, *arguments)
        await self.dial(plugin, device, version, **keys)
        await plugin.ask("grab")
        event = await plugin.wait_for("data")
        self.axes = await plugin.ask("axes")
        frame: list[Any] = event["frame"]
        return frame

    async def check(self, version: str) -> None:
        (found,) = await self.frame(version, "2D", "camera")
        self.assertEqual((found["shapes"], found["dtypes"]), ([[512, 512]], ["<u2"]))
        self.assertGreater(found["sums"][0], 512 * 512 * 100)
        if version == "3.6.13":
            self.assertEqual(self.axes, [["x", "px", 512], ["y", "px", 512]])
        else:
            self.assertEqual(found["axes"], [["y", "px", 0, 512], ["x", "px", 1, 512]])
            self.assertEqual(found["dim"], "DataDim.Data2D")
        (found,) = await self.frame(version, "1D", "spectrometer")
        self.assertEqual((found["shapes"], found["dtypes"]), ([[2048]], ["<f8"]))
        if version == "3.6.13":
            self.assertEqual(self.axes, [["wavelength", "nm", 2048]])
        else:
            self.assertEqual(found["axes"], [["wavelength", "nm", 0, 2048]])
        (found,) = await self.frame(version, "0D", "powermeter", channels=("power",))
        meter: Any = self.lab.devices()["powermeter"].device
        self.assertAlmostEqual(found["sums"][0] / meter.power, 1.0, 1)

    async def test_0D_1D_2D_3_6(self) -> None:
        await self.check("3.6.13")

    async def test_0D_1D_2D_4_4(self) -> None:
        await self.check("4.4.11")

    async def test_0D_1D_2D_5_1(self) -> None:
        await self.check("5.1.13")

    async def test_ND(self) -> None:
        for version in ("4.4.11", "5.1.13"):
            (found,) = await self.frame(version, "2D", "cube")
            self.assertEqual((found["shapes"], found["sums"]), ([[2, 3, 4]], [276.0]))
            self.assertEqual((found["dim"], found["first"]), ("DataDim.DataND", [[0, 1, 2, 3]]))

    async def test_frames_unasked_5_1(self) -> None:
        plugin = await self.plugin("5.1.13", "2D")
        await self.dial(plugin, "camera", "5.1.13", push_frames=1.0)
        (found,) = (await plugin.wait_for("data"))["frame"]
        self.assertEqual(found["shapes"], [[512, 512]])


class ConnectionTests(DialCase):
    async def test_leave_is_taken(self) -> None:
        """The plugin goes on, and takes the next one: it would be frozen after any other end."""
        for version in GENERATIONS:
            plugin = await self.plugin(version, "move")
            for _ in range(2):
                dialler = await self.dial(plugin, "stage", version)
                await self.until(plugin, "settings", lambda found: "velocity" in found)
                await dialler.stop()
                await self.until(plugin, "clients", lambda clients: clients == [])

    async def test_a_wrong_generation_does_no_harm(self) -> None:
        """Up to 4.4: the plugin refuses it or loses the client, and takes the right one later."""
        for version, wrong in (("3.6.13", "C4"), ("4.4.11", "B"), ("4.4.11", "D")):
            plugin = await self.plugin(version, "move")
            address = f"127.0.0.1:{await plugin.ask('port')}"
            common = ServeOptions("wrong", "stage", drain=2.0)
            options = Options(generation=Generation[wrong])
            dialler = await dial(self.lab, address, common, options, self.reactor)
            first = await dialler.offer.when_connected()
            while not first.spent:
                await plugin.ask("order", "get_actuator_value")
                await deferLater(self.reactor, 0.1)
            await dialler.stop()
            await self.until(plugin, "clients", lambda clients: clients == [])
            await self.dial(plugin, "stage", version)
            where = await self.ordered(plugin, "get_actuator_value", reply="get_actuator_value")
            self.assertEqual(where, 10.0)

    async def test_a_reset_is_survived(self) -> None:
        """What the system does for labnet when it is killed."""
        plugin = await self.plugin("4.4.11", "move")
        dialler = await self.dial(plugin, "stage", "4.4.11")
        await self.until(plugin, "settings", lambda found: "velocity" in found)
        connection = dialler.offer.connection
        assert connection is not None and connection.transport is not None
        connection.transport.abortConnection()  # type: ignore[attr-defined]
        await connection.when_lost
        await dialler.offer.when_connected()
        before = len(plugin.lines)
        await self.status(plugin, "Update_Status", before)
        await self.until(plugin, "clients", lambda clients: len(clients) == 1)
        where = await self.ordered(plugin, "get_actuator_value", reply="get_actuator_value")
        self.assertEqual(where, 10.0)

    async def test_a_program_that_ends_and_starts_again(self) -> None:
        plugin = await self.plugin("4.4.11", "move")
        port = await plugin.ask("port")
        dialler = await self.dial(plugin, "stage", "4.4.11")
        connection = dialler.offer.connection
        assert connection is not None
        gone: Deferred[None] = connection.when_lost
        await plugin.kill()
        await gone
        again = await self.plugin("4.4.11", "move", str(port))
        await dialler.offer.when_connected()
        await self.until(again, "clients", lambda clients: len(clients) == 1)
        where = await self.ordered(again, "get_actuator_value", reply="get_actuator_value")
        self.assertEqual(where, 10.0)


class ModuleTests(DialCase):
    """Whole modules of 4.4.11, whose hardware is the plugin: what a user has before the eyes."""

    async def module(self, kind: str, device: str, **keys: Any) -> PeerProcess:
        """A module that a device is offered to."""
        module = start(self, "pymodaq-4.4.11", "pymodaq_program", kind)
        await module.wait_for("ready", SLOW)
        await module.wait_for("initialized", SLOW)
        port = await self.until(module, "port", bool)
        dialler = await dial(
            self.lab, f"127.0.0.1:{port}", ServeOptions("offer", device, drain=2.0),
            Options(**keys), self.reactor,
        )  # fmt: skip
        self.addCleanup(dialler.stop)
        await self.until(module, "settings", bool)
        return module

    def events(self, module: PeerProcess, name: str) -> list[Any]:
        return [e["value"] for e in map(json.loads, module.lines) if e.get("event") == name]

    async def test_an_actuator(self) -> None:
        module = await self.module("move", "stage")
        stage: Any = self.lab.devices()["stage"].device
        self.assertEqual(await module.ask("units"), "mm")
        stage.store("velocity", 20.0)
        await module.ask("move", "move_abs", 30.0)
        done = await module.wait_for("done")
        self.assertEqual((done["value"], done["units"]), (30.0, "mm"))
        self.assertGreater(len([v for v in self.events(module, "value") if 10 < v < 30]), 1)

    async def test_its_settings(self) -> None:
        module = await self.module("move", "stage")
        stage: Any = self.lab.devices()["stage"].device
        await module.ask("set_setting", ["velocity"], 12.5)
        await self.changed(lambda: stage.velocity == 12.5)
        await self.lab.open_session("test", "here").set("stage.velocity", 33.0)
        await self.until(module, "settings", lambda found: found["velocity"][1] == 33.0)

    async def test_a_lock(self) -> None:
        module = await self.module("move", "stage")
        await self.lab.open_session("tsv", "127.0.0.1:5", name="bob").lock(["stage"])
        await module.ask("move", "move_abs", 30.0)
        infos = await self.until(module, "infos", lambda infos: "problem" in infos)
        self.assertIn("stage is locked by bob (tsv", infos["problem"])
        self.assertEqual(self.events(module, "done"), [])

    async def test_a_camera(self) -> None:
        module = await self.module("2D", "camera")
        await module.ask("snap")
        (found,) = (await module.wait_for("data"))["frame"]
        self.assertEqual((found["shapes"], found["dtypes"]), ([[512, 512]], ["<u2"]))
        self.assertEqual(found["axes"], [["y", "px", 0, 512], ["x", "px", 1, 512]])


LAB = """
[lab]
name = interop
[device stage]
driver = simulated.stage
[serve stage-tsv]
wire = tsv
listen = tcp:0
device = stage
[dial stage]
wire = pymodaq
device = stage
connect = 127.0.0.1:{port}
as = ACTUATOR
generation = {generation}
"""


class WholeLabTests(DialCase):
    """A lab in a process of its own, by its configuration."""

    async def lab_for(self, plugin: PeerProcess, version: str) -> LabProcess:
        port = await plugin.ask("port")
        lab = start_lab(self, LAB.format(port=port, generation=GENERATIONS[version]))
        await self.until(plugin, "clients", lambda clients: clients == ["ACTUATOR"])
        return lab

    async def test_a_lab_that_stops(self) -> None:
        for version in GENERATIONS:
            plugin = await self.plugin(version, "move")
            lab = await self.lab_for(plugin, version)
            await self.until(plugin, "settings", lambda found: "velocity" in found)
            await lab.stop()
            await self.until(plugin, "clients", lambda clients: clients == [])

    async def test_a_lab_that_is_killed(self) -> None:
        """The plugin loses one client and goes on; a closed connection would freeze it."""
        for version in GENERATIONS:
            plugin = await self.plugin(version, "move", "0", "repaired" * (version == "5.1.13"))
            lab = await self.lab_for(plugin, version)
            await lab.kill()
            await self.until(plugin, "clients", lambda clients: clients == [])
            await self.lab_for(plugin, version)
            where = await self.ordered(plugin, "get_actuator_value", reply="get_actuator_value")
            self.assertEqual(where, 0.0)
