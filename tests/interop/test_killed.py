"""A far server in a process of its own that is killed (SIGKILL) again and again during reads."""

from __future__ import annotations

import signal
import sys

from twisted.trial.unittest import TestCase

from labnet.errors import LabError
from tests.chain.far import DEVICE_WIRES, NearEnd
from tests.interop.lab import ROOT
from tests.interop.processes import LineChild
from tests.test_chain_faults import CLIENTS, Reader


class FarProcess(LineChild):
    """The far end."""

    def __init__(self, test: TestCase, wire: str, port: int) -> None:
        super().__init__(f"far {wire}")
        command = [sys.executable, "-m", "tests.chain.server", wire, str(port)]
        self.start(test, command, PYTHONPATH=str(ROOT))

    def outReceived(self, data: bytes) -> None:
        self.feed(data)

    async def port(self) -> int:
        """Where it listens, once it does."""
        line = await self.wait_for_line(lambda line: line.startswith("listening"), "its port")
        return int(line.split()[1])


class KilledTests(TestCase):
    """Nobody waits without an answer, and nobody gets another's."""

    timeout = 600

    async def check(self, wire: str, rounds: int) -> None:
        far = FarProcess(self, wire, 0)
        port = await far.port()
        near = NearEnd(DEVICE_WIRES[wire], port)
        self.addCleanup(near.service.stopService)
        await near.up()
        sessions = [
            near.lab.open_session("test", f"client{n}", device="lamp", timeout=30.0)
            for n in range(CLIENTS)
        ]
        readers = [Reader(session, n) for n, session in enumerate(sessions)]
        for _ in range(rounds):
            far.signal("KILL")
            self.assertEqual(await far.end(), -signal.SIGKILL)
            await near.down()
            far = FarProcess(self, wire, port)
            await far.port()
            await near.up()
            for reader in readers:
                reader.go_on()
            while True:
                try:
                    self.assertEqual(await sessions[0].call("double", -1.0), -2.0)
                    break
                except LabError:
                    await near.up()
        for reader in readers:
            await reader.stop()
            self.assertEqual(reader.wrong, [])
            self.assertGreater(reader.answered, rounds // 2)
            self.assertEqual(reader.session.outstanding, 0)
        self.assertEqual(near.lab.locks.count, 0)

    async def test_plesty(self) -> None:
        await self.check("plesty", 100)

    async def test_hislip(self) -> None:
        await self.check("hislip", 10)

    async def test_tsv(self) -> None:
        await self.check("tsv", 10)
