"""The plesty wire of a running lab: clients that are lost, and what becomes of their locks."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.protocols.portforward import ProxyFactory

from tests.interop.peers import PeerProcess, start
from tests.interop.plesty_case import GRACE, SOON, LabCase


class Network(ProxyFactory):
    """A network between a client and the lab, which a test can break."""

    noisy = False

    def __init__(self, port: int) -> None:
        super().__init__("127.0.0.1", port)
        self.links: list[Any] = []

    def buildProtocol(self, addr: Any) -> Any:
        self.links.append(super().buildProtocol(addr))
        return self.links[-1]

    def fail(self) -> None:
        """All connections are reset; libzmq makes new ones by itself."""
        links, self.links = self.links, []
        for link in links:
            link.transport.abortConnection()


class LossTests(LabCase):
    """Clients that are lost for a while, and for good."""

    devices = ("stage", "linktester")

    async def distant(self, **options: Any) -> PeerProcess:
        """A client behind a network."""
        self.network = Network(await self.lab.port("stage", "plesty"))
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        self.entrance: Any = await endpoint.listen(self.network)
        self.addCleanup(self.entrance.stopListening)
        self.addCleanup(self.network.fail)
        driver = self.driver()
        address = f"tcp://127.0.0.1:{self.entrance.getHost().port}"
        await driver.ask("connect", address, **options)
        return driver

    async def when_the_lab_has_waited(self, seconds: float) -> None:
        """Fires when so much time has passed in the lab."""
        tester = await self.client("linktester")
        self.assertEqual(await tester.ask("call", "wait", seconds), "done")

    async def test_connection_that_comes_back_keeps_the_lock(self) -> None:
        """Though the program does not know, and asks for nothing meanwhile."""
        one = await self.distant(client_id="one", resources=["stage"])
        other = await self.client(client_id="two")
        self.network.fail()
        await self.when_the_lab_has_waited(2.5 * GRACE)
        self.assertIn("by one", await self.refused(other, "call", "move_abs", 1.0))
        self.assertEqual(await one.ask("call", "move_abs", 2.0), 2.0)
        await self.when_the_lab_has_waited(1.5 * GRACE)
        self.assertIn("by one", await self.refused(other, "call", "move_abs", 1.0))

    async def test_program_that_comes_back_keeps_the_lock(self) -> None:
        one = await self.client(client_id="one", resources=["stage"])
        other = await self.client(client_id="two")
        await one.kill()
        again = await self.client(client_id="one", resources=["stage"])
        await self.when_the_lab_has_waited(1.5 * GRACE)
        self.assertIn("by one", await self.refused(other, "call", "move_abs", 1.0))
        self.assertEqual(await again.ask("call", "move_abs", 2.0), 2.0)

    async def test_connection_that_does_not_come_back(self) -> None:
        await self.distant(client_id="one", resources=["stage"])
        other = await self.client(client_id="two")
        await self.entrance.stopListening()
        lost = time.monotonic()
        self.network.fail()
        refused, when = await self.until_served(other, "one")
        self.assertGreater(refused, 0)
        self.assertGreaterEqual(when - lost, GRACE)
        self.assertLess(when - lost, GRACE + SOON)

    async def test_stopped_program_keeps_the_lock_until_it_ends(self) -> None:
        """Its system still answers for it."""
        one = await self.client(client_id="one", resources=["stage"])
        other = await self.client(client_id="two")
        one.signal("STOP")
        await self.when_the_lab_has_waited(1.5 * GRACE)
        self.assertIn("by one", await self.refused(other, "call", "move_abs", 1.0))
        killed = time.monotonic()
        await one.kill()
        _, when = await self.until_served(other, "one")
        self.assertGreaterEqual(when - killed, GRACE)
        self.assertLess(when - killed, GRACE + SOON)


class NamelessTests(LabCase):
    """Clients that could not come back for their locks: nobody waits for them."""

    grace = 600.0

    async def freed_at_once(self, holder: PeerProcess) -> None:
        other = await self.client(client_id="two")
        await self.refused(other, "call", "move_abs", 1.0)
        killed = time.monotonic()
        await holder.kill()
        _, when = await self.until_served(other, "[^ ]+")
        self.assertLess(when - killed, SOON)

    async def test_made_up_name(self) -> None:
        """Without a client_id the peer's client makes up one."""
        await self.freed_at_once(await self.client(resources=["stage"]))

    async def test_no_name(self) -> None:
        holder = start(self, "plesty-0.6.0", "zmq_req", await self.address())
        reply = await holder.ask("request", {"type": "connect", "resources": ["stage"]})
        self.assertEqual(reply["status"], "ok")
        await self.freed_at_once(holder)
