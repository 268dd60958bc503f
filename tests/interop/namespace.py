"""A network of its own for a test, in which every port is free and broadcasts reach nobody else."""

from __future__ import annotations

import os
from itertools import count

from twisted.trial.unittest import SkipTest, TestCase

from tests.interop.peers import tool
from tests.interop.processes import run

_NUMBERS = count()


class Namespace:
    """A network namespace with a loopback and one interface, whose address is `ADDRESS`.

    Skips the test where this user may not make one; where ``CI=true`` it fails it.
    """

    ADDRESS = "10.77.19.1"
    BROADCAST = "10.77.19.255"

    def __init__(self, test: TestCase) -> None:
        self._test = test
        self.name = f"labnet-{os.getpid()}-{next(_NUMBERS)}"

    async def make(self) -> None:
        tool("ip")
        done = await run(self._test, "ip", "netns", "add", self.name)
        if done.code:
            why = f"a network namespace needs root: {done.errors.strip()}"
            raise AssertionError(why) if os.environ.get("CI") == "true" else SkipTest(why)
        self._test.addCleanup(lambda: self._ip("netns", "delete", self.name))
        for words in (
            "link set lo up",
            "link add out0 type veth peer name away0",  # a cable whose other end hangs loose
            f"addr add {self.ADDRESS}/24 brd + dev out0",
            "link set out0 up",
            "link set away0 up",
            "route add default dev out0",
        ):
            await self._ip("-n", self.name, *words.split())

    async def _ip(self, *words: str) -> None:
        done = await run(self._test, "ip", *words)
        assert done.code == 0, (words, done.errors)

    def inside(self, *command: str) -> list[str]:
        """A command that runs there."""
        return ["ip", "netns", "exec", self.name, *command]
