"""Real servers of plesty-lib and sm-bluesky as devices of a lab."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from labnet.config import parse_config
from labnet.errors import DeviceFault, Locked, NotAllowed, NotConnected, OutOfRange, UnknownName
from labnet.registry import ParameterNode
from labnet.service import LabService
from labnet.session import Session
from labnet.updates import Update
from tests.interop.peers import start

BACK = 30.0


class RemoteCase(TestCase):
    """A lab in this process with one device: a peer's own server."""

    timeout = 60

    async def attach(self, section: str) -> Session:
        """A client of the lab, once the device is connected."""
        text = f"[device far]\nretry = 0.1\nprobe = 0.5\n{section}\n"
        self.service = LabService(parse_config(text))
        self.service.startService()
        self.addCleanup(self.service.stopService)
        assert self.service.lab is not None
        self.lab = self.service.lab
        self.session = self.lab.open_session("test", "here", device="far", timeout=10.0)
        self.heard: list[Update] = []
        self._waiting: list[Deferred[None]] = []
        self.session.subscribe([self.lab.devices()["far"]], self._changed)  # type: ignore[list-item]
        await self.up()
        return self.session

    def _changed(self, updates: list[Update]) -> None:
        self.heard += updates
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)

    async def _change(self) -> None:
        self._waiting.append(Deferred())
        await self._waiting[-1]

    async def up(self) -> None:
        while self.lab.devices()["far"].queue.unavailable is not None:
            await self._change()

    async def down(self) -> None:
        while self.lab.devices()["far"].queue.unavailable is None:
            await self._change()

    def node(self, path: str) -> Any:
        return self.session.resolve(path)


class PlestyTests(RemoteCase):
    """plesty-lib's DeviceTCPIPServer."""

    version = "0.6.0"

    async def begin(self, keys: str = "") -> Session:
        self.server = start(self, f"plesty-{self.version}", "plesty_server")
        address = (await self.server.wait_for("listening"))["address"]
        address = address.replace("*", "127.0.0.1").replace("0.0.0.0", "127.0.0.1")
        return await self.attach(f"driver = plesty\naddress = {address}\n{keys}")

    async def test_described_by_itself(self) -> None:
        session = await self.begin()
        identity = self.lab.devices()["far"].identity
        self.assertEqual(str(identity), "Example,Bench,B-0001,1.0")
        wavelength = self.node("wavelength")
        assert isinstance(wavelength, ParameterNode)
        self.assertEqual(wavelength.spec.kind.name, "float")
        self.assertEqual(wavelength.spec.limits and wavelength.spec.limits.low, 185.0)
        self.assertEqual((await session.set("wavelength", 633.0)).value, 633.0)
        self.assertEqual((await session.get("wavelength")).value, 633.0)
        self.assertEqual((await session.set("MOTOR.position", 2.5)).value, 2.5)
        self.assertEqual(await session.call("add", 2, b=40), 42)

    async def test_errors_keep_their_words(self) -> None:
        session = await self.begin()
        await self.assertFailure(session.set("wavelength", 1.0), OutOfRange)
        await self.assertFailure(session.get("nope"), UnknownName)
        error = await self.assertFailure(session.call("boom", "RuntimeError", "bang"), DeviceFault)
        self.assertEqual((str(error), error.kind), ("bang", "RuntimeError"))

    async def test_its_locks_are_taken(self) -> None:
        session = await self.begin("client_id = bench-lab\nresources = axis")
        await session.lock(["far"])
        other = start(self, f"plesty-{self.version}", "plesty_client")
        address = self.service.config.devices[0].options["address"]
        from tests.interop.peers import PeerError

        await self.assertFailure(other.ask("connect", address, resources=["axis/x"]), PeerError)
        session.unlock()
        await session.get("wavelength")
        await other.ask("connect", address, resources=["axis/x"])
        error = await self.assertFailure(session.lock(["far"]), NotAllowed, Locked)
        self.assertIn("not available", str(error))
        self.assertEqual(session.holdings(), [])


class SmBlueskyTests(RemoteCase):
    """A subclass of sm_bluesky's AbstractInstrumentServer."""

    async def begin(self, keys: str = "") -> Session:
        self.server = start(self, "sm-bluesky", "sm_bluesky_server")
        self.port = (await self.server.wait_for("listening"))["port"]
        return await self.attach(f"driver = tsv\naddress = 127.0.0.1:{self.port}\n{keys}")

    async def test_commands(self) -> None:
        session = await self.begin("silent = silent")
        self.assertEqual(await session.call("move_abs", "2.5"), "Moved to 2.5")
        self.assertEqual(await session.call("limits"), ["-10.0", "10.0", "mm"])
        self.assertIsNone(await session.call("silent"))
        self.assertNotIn("shutdown", self.lab.devices()["far"].children)
        error = await self.assertFailure(session.call("fail", "bad thing"), DeviceFault)
        self.assertEqual(str(error), "bad thing")

    async def test_declared_parameters(self) -> None:
        session = await self.begin("parameter at = position, move_abs {value}, float, mm, -10..10")
        await session.set("at", 1.5)
        self.assertEqual((await session.get("at")).value, 1.5)
        await self.assertFailure(session.set("at", 11.0), OutOfRange)
        self.assertEqual(self.node("at").spec.unit, "mm")

    async def test_killed(self) -> None:
        session = await self.begin()
        await session.call("position")
        await self.server.kill()
        await self.down()
        await self.assertFailure(session.call("position"), NotConnected)
