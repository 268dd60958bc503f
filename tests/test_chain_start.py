"""A lab that starts before the servers that its devices are."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from labnet import service
from labnet.errors import DeviceFault, NotConnected
from tests.chain.far import DEVICE_WIRES, FarEnd, NearEnd

PART = """
[serve bulb]
wire = tsv
listen = tcp:0:interface=127.0.0.1
device = lamp.bulb
[serve all]
wire = tsv
listen = tcp:0:interface=127.0.0.1
devices = *
"""


class StartTests(TestCase):
    """The far server is not there yet."""

    timeout = 60

    async def begin(self, more: str = "") -> None:
        self.far = FarEnd(DEVICE_WIRES["tsv"])
        await self.far.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.far.stop()))
        await self.far.kill()
        self.near = NearEnd(self.far.wire, self.far.port, more)
        self.addCleanup(self.near.service.stopService)

    async def test_the_lab_starts_and_says_why(self) -> None:
        await self.begin()
        await self.near.service.starting
        session = self.near.lab.open_session("test", "here", device="lamp")
        await self.near.until(lambda: "Connection refused" in self.near.node.queue.condition)
        error = await self.assertFailure(session.get("level"), NotConnected)
        self.assertIn(f"127.0.0.1:{self.far.port}", str(error))
        await self.far.start()
        await self.near.up()
        self.assertEqual((await session.get("level")).value, 1.0)

    async def test_listeners_of_parts_wait_for_it_and_others_do_not(self) -> None:
        self.patch(service, "OPENING", 0.2)
        await self.begin(PART)
        await self.near.service.starting
        part, whole = self.near.service.listeners()
        self.assertIsNone(part.listener)
        self.assertIsNotNone(whole.listener)
        await self.far.start()
        await self.near.up()
        listener = await part.started
        assert listener is not None
        client = part.wire.load_client()(f"127.0.0.1:{listener.port.getHost().port}")  # type: ignore[attr-defined]
        self.addCleanup(client.close)
        self.assertEqual((await client.get("age")).text, "3.0")
        await self.assertFailure(client.get("level"), DeviceFault)

    async def test_a_listener_that_waits_can_be_stopped(self) -> None:
        self.patch(service, "OPENING", 0.2)
        await self.begin(PART)
        await self.near.service.starting
        part = self.near.service.listeners()[0]
        await part.stopService()
        await self.far.start()
        await self.near.up()
        self.assertIsNone(part.listener)
