"""PyMoDAQ's real modules and its real client class, of three versions, dial labnet's API."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.trial.unittest import TestCase

from labnet.errors import DeviceFault, NotConnected
from labnet.wires.pymodaq.codec import Generation
from labnet.wires.pymodaq.control import Actuator, Grabber, Manners, Modules
from tests.interop.peers import PeerProcess, peer, start

#: What each version is recognised as when it says where it is, or sends a frame.
VERSIONS = {
    "3.6.13": {Generation.A, Generation.B},
    "4.4.11": {Generation.C4},
    "5.1.13": {Generation.D},
}
SLOW = 60.0  # s: Qt and all of PyMoDAQ, on a busy machine


class ControlCase(TestCase):
    """A port that modules dial."""

    timeout = 180

    async def listen(self, **manners: Any) -> int:
        """The port at which ``self.modules`` listens."""
        from twisted.internet import reactor

        self.modules = Modules(cast(Any, reactor), Manners(**manners))
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        port: Any = await endpoint.listen(self.modules)
        self.addCleanup(port.stopListening)
        self.addCleanup(self.modules.close)
        return int(port.getHost().port)

    async def started(self, version: str, driver: str, *arguments: object) -> PeerProcess:
        """A driver that is ready to dial."""
        process = start(self, f"pymodaq-{version}", driver, *map(str, arguments))
        await process.wait_for("ready", SLOW)
        return process

    async def dialled(self, kind: str) -> list[tuple[str, PeerProcess, Any]]:
        """The client class of each version, with made-up hardware, and the proxy for it."""
        for version in VERSIONS:
            peer(f"pymodaq-{version}")
        port = str(await self.listen())
        drivers = [
            start(self, f"pymodaq-{version}", "pymodaq_client", kind, port) for version in VERSIONS
        ]
        found = []
        for version, driver in zip(VERSIONS, drivers, strict=True):
            await driver.wait_for("ready", SLOW)
            await driver.ask("dial")
            found.append((version, driver, await self.modules.module()))
        return found

    async def actuators(self) -> list[tuple[str, PeerProcess, Actuator]]:
        """One of each version."""
        return await self.dialled("ACTUATOR")

    async def grabbers(self) -> list[tuple[str, PeerProcess, Grabber]]:
        """One of each version."""
        return await self.dialled("GRABBER")


class ClientClassTests(ControlCase):
    """PyMoDAQ's own TCPClient class; the hardware behind it is made up by the driver."""

    async def test_moves(self) -> None:
        for version, driver, actuator in await self.actuators():
            self.assertEqual(await actuator.position(), 1.25)
            self.assertLessEqual({actuator.generation} - {None}, VERSIONS[version])
            told: list[float] = []
            actuator.on_position = told.append
            self.assertEqual(await actuator.move_abs(3.25), 3.25)
            self.assertEqual(told, [1.75, 2.25, 2.75, 3.25])
            self.assertEqual(await actuator.move_rel(-0.25), 3.0)
            self.assertEqual(await actuator.move_home(), 0.0)
            self.assertEqual(await driver.ask("position"), 0.0)
            self.assertEqual(await actuator.stop(), 0.0)
            self.assertEqual(actuator.units, "mm")

    async def test_settings(self) -> None:
        for _, driver, actuator in await self.actuators():
            assert actuator.settings is not None
            values = {path: setting.value for path, setting in actuator.settings.walk()}
            self.assertEqual(
                values,
                {
                    ("units",): "mm",
                    ("epsilon",): 0.01,
                    ("velocity",): 1.5,
                    ("enabled",): True,
                    ("model",): "SIM & <check>",
                    ("mode",): "fast",
                    ("deep", "inner"): 7,
                },
            )
            self.assertEqual(await actuator.set(["velocity"], 12.5), 12.5)
            self.assertEqual(await driver.ask("setting", "velocity"), 12.5)
            self.assertEqual(await actuator.set(["deep", "inner"], 8), 8)
            self.assertEqual(await driver.ask("setting", "deep", "inner"), 8)
            changed: Deferred[Any] = Deferred()
            actuator.on_settings = changed.callback
            await driver.ask("set_setting", ["mode"], "slow")
            self.assertEqual(await changed, ("mode",))
            mode = actuator.settings.child("mode")
            assert mode is not None
            self.assertEqual(mode.value, "slow")
            await driver.ask("info", "temperature", "21.5")
            while not actuator.info:
                await actuator.position()
            self.assertEqual(actuator.info, {"temperature": "21.5"})

    async def test_frames(self) -> None:
        frames = {"0D": (1,), "1D": (100,), "2D": (20, 30), "ND": (3, 4, 5)}
        for version, driver, grabber in await self.grabbers():
            for dimension, shape in frames.items():
                await driver.ask("frame", dimension, shape)
                frame = await grabber.grab(cast(Any, dimension))
                left, right = frame.arrays
                self.assertEqual(np.squeeze(left).shape, np.squeeze(np.empty(shape)).shape)
                self.assertTrue(np.array_equal(left.ravel(), np.arange(left.size)))
                self.assertTrue(np.array_equal(right, left + 1))
                if version != "3.6.13" and dimension != "0D":
                    (data,) = frame.data
                    self.assertEqual(data.labels, ("left", "right"))
                    self.assertEqual([axis.units for axis in data.axes], ["um"] * len(shape))
            pushed: Deferred[Any] = Deferred()
            grabber.on_frame = pushed.callback
            await driver.ask("push_frame")
            self.assertEqual((await pushed).arrays[0].size, 60)

    async def test_unasked_positions_and_ends(self) -> None:
        for _, driver, actuator in await self.actuators():
            told: Deferred[Any] = Deferred()
            actuator.on_position = told.callback
            await driver.ask("push_position", 7.5)
            self.assertEqual(await told, 7.5)
            actuator.on_position = lambda value: None
            ended: Deferred[str] = Deferred()
            actuator.on_ended = ended.callback
            await driver.ask("quit")
            self.assertEqual(await ended, "it has said goodbye")
            await self.assertFailure(actuator.position(), NotConnected)

    async def test_killed_while_it_moves(self) -> None:
        for _, driver, actuator in await self.actuators():
            begun: Deferred[Any] = Deferred()
            actuator.on_position = begun.callback
            moving = actuator.move_abs(99.0)
            await begun
            actuator.on_position = lambda value: None
            await driver.kill()
            await self.assertFailure(moving, NotConnected)

    async def test_a_client_that_is_sent_away_notices(self) -> None:
        for _, driver, actuator in await self.actuators():
            await driver.wait_for("connected")
            actuator.close()
            ended: Deferred[str] = Deferred()
            actuator.on_ended = ended.callback
            self.assertEqual(await ended, "it was sent away")


class ModuleTests(ControlCase):
    """Whole modules with PyMoDAQ's own mock hardware; what is broken in a version is not asked."""

    async def module(self, version: str, kind: str, **manners: Any) -> PeerProcess:
        port = await self.listen(**manners)
        driver = await self.started(version, "pymodaq_module", kind, port, "rotor")
        await driver.wait_for("initialized", SLOW)
        await driver.ask("dial")
        return driver

    def assert_near(self, value: float, expected: float) -> None:
        self.assertLess(abs(value - expected), 1.5)  # the mock's own epsilon is 1

    async def test_4_4_moves(self) -> None:
        driver = await self.module("4.4.11", "move")
        actuator = await self.modules.actuator()
        self.assert_near(await actuator.position(), 0.0)
        self.assertEqual(actuator.units, "\u00b5m")
        self.assertIs(actuator.generation, Generation.C4)
        told: list[float] = []
        actuator.on_position = told.append
        end = await actuator.move_abs(20.0)
        self.assert_near(end, 20.0)
        self.assertGreater(len(told), 2)  # it says where it is on the way, unasked
        self.assert_near(await driver.ask("position"), end)
        # It answers nothing at all to a move to where it is: it is asked.
        self.assert_near(await actuator.move_abs(actuator.last or 0.0), end)

    async def test_4_4_settings(self) -> None:
        driver = await self.module("4.4.11", "move")
        actuator = await self.modules.actuator()
        self.assertEqual(await actuator.set(["tau"], 50), 50)
        self.assertEqual(await driver.ask("setting", "tau"), 50)
        self.assertEqual(await actuator.set(["scaling", "offset"], 1.5), 1.5)
        self.assertEqual(await driver.ask("setting", "scaling", "offset"), 1.5)

    async def test_5_1_says_where_it_is_and_that_it_cannot_move(self) -> None:
        await self.module("5.1.13", "move", quiet=0.3)
        actuator = await self.modules.actuator()
        self.assert_near(await actuator.position(), 0.0)
        self.assertIs(actuator.generation, Generation.D)
        fault = await self.assertFailure(actuator.move_abs(20.0), DeviceFault)
        self.assertIn("it does not move", str(fault))

    async def test_frames(self) -> None:
        for version in ("4.4.11", "5.1.13"):
            for kind in ("0D", "1D", "2D"):
                driver = await self.module(version, kind)
                grabber = await self.modules.grabber()
                frame = await grabber.grab(cast(Any, kind)).addTimeout(SLOW, self.clock())
                shown = {data.dim for data in frame.data}
                self.assertEqual(shown, {f"Data{kind}"}, version)
                await driver.kill()

    def clock(self) -> Any:
        from twisted.internet import reactor

        return reactor
