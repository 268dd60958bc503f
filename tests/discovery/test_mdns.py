"""Announcing and browsing over the loopback interface, with zeroconf on both sides."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.trial.unittest import TestCase

from labnet.discovery.mdns import Announcer, Service, browse

LOOP = "127.0.0.1"
# Types of our own, so that nobody else on the machine answers.
ONE, TWO = f"_t1-{os.getpid() % 100000}._tcp", f"_t2-{os.getpid() % 100000}._tcp"
SECONDS = 2.5


class NetworkTests(TestCase):
    timeout = 60

    def announcer(self) -> Announcer:
        announcer = Announcer([LOOP], reactor)
        self.addCleanup(announcer.stop)
        return announcer

    def services(self, maker: str = "ACME") -> list[Service]:
        text = {"txtvers": "1", "Manufacturer": maker, "Model": "µ"}
        return [
            Service(kind, "ACME dmm 7", "labnet-test", port, (LOOP,), text)
            for port, kind in enumerate((ONE, TWO), 5000)
        ]

    async def browsed(self) -> dict[str, Service]:
        found = await browse([ONE, TWO], SECONDS, reactor, [LOOP])
        return {f"{service.kind} {service.name}": service for service in found}

    async def test_found_and_withdrawn(self) -> None:
        announcer = self.announcer()
        services = self.services()
        self.assertEqual(await announcer.start(services), services)
        found = await self.browsed()
        self.assertEqual(
            found, {f"{service.kind} ACME dmm 7": service for service in services}
        )
        await announcer.stop()
        self.assertEqual(await self.browsed(), {})

    async def test_a_name_that_is_taken(self) -> None:
        """All services of the second one get another name, and its host too."""
        await self.announcer().start(self.services())
        (one, two) = await self.announcer().start(self.services("other"))
        self.assertEqual((one.name, two.name), ("ACME dmm 7 (2)", "ACME dmm 7 (2)"))
        self.assertEqual((one.host, two.host), ("labnet-test-2", "labnet-test-2"))
        found = await self.browsed()
        self.assertEqual(
            {name: service.text["Manufacturer"] for name, service in found.items()},
            {
                f"{kind} {name}": maker
                for kind in (ONE, TWO)
                for name, maker in (("ACME dmm 7", "ACME"), ("ACME dmm 7 (2)", "other"))
            },
        )

    async def test_a_stop_during_the_start(self) -> None:
        announcer = self.announcer()
        starting = announcer.start(self.services())
        await gatherResults([starting, announcer.stop()])
        self.assertEqual(await self.browsed(), {})

    async def test_no_such_interface(self) -> None:
        announcer = Announcer(["203.0.113.9"], reactor)
        await self.assertFailure(announcer.start(self.services()), OSError)
        await announcer.stop()

    async def test_many_take_no_longer(self) -> None:
        """Two seconds each, one after the other, would be over the test's time."""
        services = [
            Service(ONE, f"device {number}", "labnet-test", 5000, (LOOP,)) for number in range(40)
        ]
        announcer: Any = self.announcer()
        self.assertEqual(await announcer.start(services), services)
        found = await self.browsed()
        self.assertGreater(len(found), 30)
