"""Announcing and browsing over the loopback interface, with zeroconf on both sides."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import gatherResults
from twisted.python.monkey import MonkeyPatcher
from twisted.trial.unittest import TestCase

from labnet.discovery import mdns
from labnet.discovery.mdns import Announcer, Service, browse

LOOP = "127.0.0.1"
# Types of our own, so that nobody else on the machine answers.
ONE, TWO = f"_t1-{os.getpid() % 100000}._tcp", f"_t2-{os.getpid() % 100000}._tcp"
PATIENCE = 20.0  # for what must come


class NetworkTests(TestCase):
    timeout = 60

    def announcer(self) -> Announcer:
        announcer = Announcer([LOOP], reactor)
        self.addCleanup(announcer.stop)
        return announcer

    def services(self, maker: str = "ACME", name: str = "ACME dmm 7") -> list[Service]:
        text = {"txtvers": "1", "Manufacturer": maker, "Model": "µ"}
        return [
            Service(kind, name, "labnet-test", port, (LOOP,), text)
            for port, kind in enumerate((ONE, TWO), 5000)
        ]

    def alone(self) -> None:
        """Nobody of that name is there: it need not be listened for long."""
        self.patch(mdns, "LISTENING", 0.1)

    async def browsed(self, until: Sequence[Service]) -> dict[str, Service]:
        """Who is there, when those have been heard of."""
        wanted = [service.full_name for service in until]
        found = await browse([ONE, TWO], PATIENCE, reactor, [LOOP], wanted)
        return {f"{service.kind} {service.name}": service for service in found}

    def named(self, *services: Service) -> dict[str, Service]:
        return {f"{service.kind} {service.name}": service for service in services}

    async def test_found_and_withdrawn(self) -> None:
        """Withdrawn ones are not heard of when others are that would answer no sooner."""
        self.alone()
        announcer = self.announcer()
        services, others = self.services(), self.services(name="ACME dmm 8")
        named = await gatherResults([announcer.start(services), self.announcer().start(others)])
        self.assertEqual(named, [services, others])
        found = await self.browsed([*services, *others])
        self.assertEqual(found, self.named(*services, *others))
        await announcer.stop()
        self.assertEqual(await self.browsed(others), self.named(*others))

    async def test_a_name_that_is_taken(self) -> None:
        """All services of the second one get another name, and its host too."""
        with MonkeyPatcher((mdns, "LISTENING", 0.1)):
            await self.announcer().start(self.services())
        (one, two) = await self.announcer().start(self.services("other"))
        self.assertEqual((one.name, two.name), ("ACME dmm 7 (2)", "ACME dmm 7 (2)"))
        self.assertEqual((one.host, two.host), ("labnet-test-2", "labnet-test-2"))
        found = await self.browsed([*self.services(), one, two])
        self.assertEqual(
            {name: service.text["Manufacturer"] for name, service in found.items()},
            {
                f"{kind} {name}": maker
                for kind in (ONE, TWO)
                for name, maker in (("ACME dmm 7", "ACME"), ("ACME dmm 7 (2)", "other"))
            },
        )

    async def test_a_stop_during_the_start(self) -> None:
        self.alone()
        announcer = self.announcer()
        others = self.services(name="ACME dmm 8")
        starting = [announcer.start(self.services()), self.announcer().start(others)]
        await gatherResults([*starting, announcer.stop()])
        self.assertEqual(await self.browsed(others), self.named(*others))

    async def test_no_such_interface(self) -> None:
        announcer = Announcer(["203.0.113.9"], reactor)
        await self.assertFailure(announcer.start(self.services()), OSError)
        await announcer.stop()

    async def test_many_take_no_longer(self) -> None:
        """Two seconds each, one after the other, would be over the test's time."""
        self.alone()
        services = [
            Service(ONE, f"device {number}", "labnet-test", 5000, (LOOP,)) for number in range(40)
        ]
        announcer: Any = self.announcer()
        self.assertEqual(await announcer.start(services), services)
        self.assertEqual(await self.browsed(services), self.named(*services))
