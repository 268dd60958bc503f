"""Any wire to any wire: each ordered pair of client and device, with one labnet between them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from labnet.devices.remote import plesty, tsv
from labnet.wires.pymodaq import offering
from labnet.wires.rogue import mirror
from tests.chain.far import DEVICE_WIRES
from tests.chain.near import PEOPLE, PROGRAMS
from tests.chain.pairs import Chain, Outcome
from tests.chain.table import as_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "any-to-any.md"

#: What a pair cannot carry, for reasons that the page gives.
MISSING: dict[tuple[str, str], set[str]] = {
    **{(client, "pymodaq"): {"far_lock"} for client in PEOPLE},
    **{("pymodaq", device): {"lock", "far_lock"} for device in DEVICE_WIRES},
}
CLIENTS = (*PEOPLE, *PROGRAMS)

OUTCOMES: dict[tuple[str, str], Outcome] = {}


class ChainTests(TestCase):
    """A test for each pair, and one for the page that is made of them."""

    timeout = 600

    def setUp(self) -> None:
        self.patch(plesty, "SIGN_OF_LIFE", 0.3)
        self.patch(tsv, "SIGN_OF_LIFE", 0.3)
        self.patch(mirror, "TICK", 0.1)
        self.patch(offering, "FIRST_PAUSE", 0.05)

    async def outcome(self, client: str, device: str) -> Outcome:
        """What gets through; tried once in a run."""
        if (client, device) not in OUTCOMES:
            chain = Chain(client, device)
            try:
                await chain.begin()
                OUTCOMES[client, device] = await chain.outcome()
            finally:
                await chain.end()
        return OUTCOMES[client, device]

    async def check(self, client: str, device: str) -> None:
        outcome = await self.outcome(client, device)
        self.assertEqual(set(outcome.missing()), MISSING.get((client, device), set()))

    async def test_that_the_page_is_right(self) -> None:
        """The page in docs/ says what these tests found; LABNET_WRITE_DOCS=1 writes it anew."""
        for client in CLIENTS:
            for device in DEVICE_WIRES:
                await self.outcome(client, device)
        page = as_page(OUTCOMES)
        if os.environ.get("LABNET_WRITE_DOCS"):
            PAGE.write_text(page)
        self.assertEqual(PAGE.read_text(), page, "run this test with LABNET_WRITE_DOCS=1")


def _test(client: str, device: str) -> Callable[[ChainTests], Awaitable[None]]:
    def test(self: ChainTests) -> Awaitable[None]:
        return Deferred.fromCoroutine(self.check(client, device))

    return test


for _client in CLIENTS:
    for _device in DEVICE_WIRES:
        setattr(ChainTests, f"test_{_client}_to_{_device}", _test(_client, _device))
