"""A running lab that serves PLESTY, with plesty-lib's own clients."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import TestCase

from tests.interop.lab import start_lab
from tests.interop.peers import PeerError, PeerProcess, peer, start

GRACE = 1.0
SOON = 3.0  # s: the rest is for a busy machine


def serve(*devices: str) -> str:
    """A device and a listener for each name."""
    section = """
[device {0}]
driver = simulated.{0}
[serve {0}-plesty]
wire = plesty
listen = tcp://127.0.0.1:*
device = {0}
"""
    return "".join(map(section.format, devices))


class LabCase(TestCase):
    """A running lab that keeps locks of lost clients for a time of grace, and its clients."""

    timeout = 60
    version = "0.6.0"
    devices: tuple[str, ...] = ("stage",)
    grace = GRACE

    async def setUp(self) -> None:  # type: ignore[override]
        peer(f"plesty-{self.version}")
        self.lab = start_lab(self, f"[locks]\ngrace = {self.grace}\n" + serve(*self.devices))

    async def address(self, device: str = "stage") -> str:
        return f"tcp://127.0.0.1:{await self.lab.port(device, 'plesty')}"

    def driver(self) -> PeerProcess:
        return start(self, f"plesty-{self.version}", "plesty_client")

    async def client(self, device: str = "stage", **options: Any) -> PeerProcess:
        """A client that is connected."""
        driver = self.driver()
        await driver.ask("connect", await self.address(device), **options)
        return driver

    async def refused(self, client: PeerProcess, *question: Any, **options: Any) -> str:
        """The text of the error that a client raises for an error reply."""
        failure = await self.assertFailure(client.ask(*question, **options), PeerError)
        self.assertEqual(failure.type, "RuntimeError")
        return str(failure.details["text"])

    async def until_served(self, client: PeerProcess, holder: str) -> tuple[int, float]:
        """How often a client was refused because of the holder, and when it was served."""
        refused = 0
        while True:
            try:
                await client.ask("write", "velocity", 100.0)
            except PeerError as failure:
                self.assertRegex(failure.text, rf"by {holder} \(plesty 127\.0\.0\.1:")
                refused += 1
            else:
                return refused, time.monotonic()
