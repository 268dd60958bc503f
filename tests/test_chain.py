"""Any wire to any wire: each ordered pair of client and device, with one labnet between them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from labnet.devices.remote import plesty, tsv
from labnet.wires.rogue import mirror
from tests.chain.far import DEVICE_WIRES
from tests.chain.near import PEOPLE
from tests.chain.pairs import Chain, Outcome
from tests.chain.table import as_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "any-to-any.md"

#: What a pair cannot carry: PyMoDAQ has neither commands besides moves nor locks.
MISSING: dict[tuple[str, str], set[str]] = {
    pair: {"command", "array", "error", "far_lock"} | ({"lock"} if pair[0] == "pymodaq" else set())
    for pair in product(PEOPLE, DEVICE_WIRES)
    if "pymodaq" in pair
}

OUTCOMES: dict[tuple[str, str], Outcome] = {}


class ChainTests(TestCase):
    """A test for each pair, and one for the page that is made of them."""

    timeout = 600

    def setUp(self) -> None:
        self.patch(plesty, "SIGN_OF_LIFE", 0.3)
        self.patch(tsv, "SIGN_OF_LIFE", 0.3)
        self.patch(mirror, "TICK", 0.1)

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
        for client in PEOPLE:
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


for _client in PEOPLE:
    for _device in DEVICE_WIRES:
        setattr(ChainTests, f"test_{_client}_to_{_device}", _test(_client, _device))
