"""A far server that is killed and started again, many times, while clients read."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from labnet.errors import LabError
from labnet.registry import DeviceNode
from labnet.session import Session
from tests.chain.far import DEVICE_WIRES, SPECTRUM, FarEnd, NearEnd

ROUNDS = 100
CLIENTS = 4


class Reader:
    """A client that asks without end, each time something else, and looks at the answer."""

    def __init__(self, session: Session, first: int) -> None:
        self.session = session
        self.answered = 0
        self.refused = 0
        self.wrong: list[str] = []
        self._number = float(first)
        self._stop = False
        self._pause: Deferred[None] | None = None
        self.done = Deferred.fromCoroutine(self._read())

    async def _read(self) -> None:
        while not self._stop:
            # No two clients have a number in common; few, as instruments remember messages.
            self._number = (self._number + CLIENTS) % (20 * CLIENTS)
            try:
                result = await self.session.call("double", self._number)
            except LabError:
                self.refused += 1
                await self._wait()
            else:
                self.answered += 1
                if result != 2 * self._number:
                    self.wrong.append(f"{result} for {self._number}")

    async def _wait(self) -> None:
        """Nothing can be had just now: not again before something changes."""
        self._pause = Deferred()
        await self._pause

    def go_on(self) -> None:
        """Something has changed."""
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.callback(None)

    async def stop(self) -> None:
        """Fires when the last call has its answer."""
        self._stop = True
        self.go_on()
        await self.done


class FaultTests(TestCase):
    """No call without an answer, none with another's, no lock left, memory flat."""

    timeout = 300

    async def begin(self, wire: str) -> None:
        self.far = FarEnd(DEVICE_WIRES[wire])
        self.addCleanup(lambda: Deferred.fromCoroutine(self.far.stop()))
        await self.far.start()
        self.near = NearEnd(self.far.wire, self.far.port)
        self.addCleanup(self.near.service.stopService)
        await self.near.up()

    def session(self, name: str) -> Session:
        return self.near.lab.open_session("test", name, device="lamp", name=name, timeout=30.0)

    async def kill_and_start(self) -> None:
        await self.far.kill()
        await self.near.down()
        await self.far.start()
        await self.near.up()

    async def restart(self, readers: list[Reader]) -> None:
        """One round: killed in the middle of calls, and started again."""
        await self.kill_and_start()
        seen = [reader.answered for reader in readers]
        for reader in readers:
            reader.go_on()
        probe = self.session("probe")
        while any(it.answered == before for it, before in zip(readers, seen, strict=True)):
            if self.far.wire.dials:  # which would not move for two
                assert (await probe.call("spectrum")).data.tolist() == SPECTRUM
            else:
                assert await probe.call("double", 1.0) == 2.0
        probe.close()

    async def check(self, wire: str) -> None:
        await self.begin(wire)
        holder = self.session("holder")
        clients = 1 if self.far.wire.dials else CLIENTS  # a module moves for one at a time
        readers = [Reader(self.session(f"client{n}"), n) for n in range(clients)]
        for _ in range(ROUNDS // 5):
            await self.restart(readers)
        before = self.objects()
        for round_ in range(ROUNDS - ROUNDS // 5):
            if round_ % 20 == 0:
                await holder.lock(["lamp.level"])
                await self.kill_and_start()
                self.assertIn("lamp.level", [hold.path for hold in holder.holdings()])
                self.assertEqual(self.far.lab.locks.count, 0 if self.far.wire.dials else 1)
                holder.unlock()
            await self.restart(readers)
        after = self.objects()
        for reader in readers:
            await reader.stop()
            self.assertEqual(reader.wrong, [])
            self.assertEqual(reader.session.outstanding, 0)
        self.check_nothing_left(self.near.node)
        self.assertLess(after - before, 400, "objects that were left in 80 rounds")

    def objects(self) -> int:
        gc.collect()
        return len(gc.get_objects())

    def check_nothing_left(self, node: DeviceNode) -> None:
        self.assertEqual(self.near.lab.locks.count, 0)
        self.assertTrue(node.queue.free)
        self.assertEqual(node.queue.condition, "")


def _test(wire: str) -> Callable[[FaultTests], Awaitable[None]]:
    def test(self: FaultTests) -> Awaitable[None]:
        return Deferred.fromCoroutine(self.check(wire))

    return test


for _wire in DEVICE_WIRES:
    setattr(FaultTests, f"test_{_wire}", _test(_wire))
