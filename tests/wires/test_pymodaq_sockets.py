"""Modules on real sockets: large frames in odd pieces, and room that is announced but not used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, connectProtocol, serverFromString
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import cooperate
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from labnet.wires.pymodaq.codec import (
    Data,
    DataToExport,
    Done,
    Generation,
    Identify,
    encode_bytes,
)
from labnet.wires.pymodaq.control import Grabber, Manners, Modules

MEGABYTE = 1 << 20


class Raw(Protocol):
    """A module that answers any order with the bytes that it has, in pieces of `size`."""

    transport: Any

    def __init__(self, generation: Generation, answer: bytes = b"", size: int = 1 << 30) -> None:
        self.generation = generation
        self.answer = answer
        self.size = size
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.transport.write(encode_bytes(Identify("GRABBER"), self.generation))

    def dataReceived(self, data: bytes) -> None:
        answer, size = self.answer, self.size
        cooperate(
            self.transport.write(answer[at : at + size]) for at in range(0, len(answer), size)
        )

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(None)


class SocketTests(TestCase):
    """Over the loopback interface."""

    timeout = 60

    async def setUp(self) -> None:  # type: ignore[override]
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.modules = Modules(self.reactor, Manners(introduction=0.0))
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        self.port: Any = await endpoint.listen(self.modules)
        self.addCleanup(self.port.stopListening)

    async def module(self, raw: Raw) -> Grabber:
        where = f"tcp:127.0.0.1:{self.port.getHost().port}"
        await connectProtocol(clientFromString(self.reactor, where), raw)
        self.addCleanup(lambda: raw.lost)
        self.addCleanup(raw.transport.loseConnection)
        return await self.modules.grabber()

    async def test_large_frames_in_odd_pieces(self) -> None:
        random = np.random.default_rng(5)
        picture = random.random((1024, 1024))
        small = random.integers(0, 60000, (64, 64), dtype=np.uint16)
        for generation in (Generation.A, Generation.B, Generation.C4, Generation.D):
            parts = (
                Data("large", (picture,), dim="Data2D"),
                Data("small", (small, small + 1), dim="Data2D"),
            )
            answer = encode_bytes(Done(DataToExport("all", parts)), generation)
            for size in (1 << 30, 300_007, 70_001):
                grabber = await self.module(Raw(generation, answer, size))
                for _ in range(2):
                    arrays = (await grabber.grab("2D")).arrays
                    self.assertEqual(len(arrays), 3)
                    for array, sent in zip(arrays, (picture, small, small + 1), strict=True):
                        self.assertTrue(np.array_equal(array, sent), (generation, size))

    async def test_frames_that_were_kept_do_not_change(self) -> None:
        """Each frame has memory of its own."""
        raw = Raw(Generation.B)
        grabber = await self.module(raw)
        kept = []
        for number in range(3):
            data = Data("", (np.full((300, 300), float(number)),), dim="Data2D")
            raw.answer = encode_bytes(Done(DataToExport("", (data,))), Generation.B)
            kept.append((await grabber.grab("2D")).arrays[0])
        self.assertEqual([array[0, 0] for array in kept], [0.0, 1.0, 2.0])

    async def test_room_that_is_announced_is_not_taken(self) -> None:
        array = b"\0\0\0\4Done\0\0\0\1\0\0\0\5array\0\0\0\3<f8"
        size = 60 * MEGABYTE
        sizes = b"".join(it.to_bytes(4, "big") for it in (size, 1, size // 8))
        raws = [Raw(Generation.B, array + sizes + bytes(5000)) for _ in range(20)]
        grabbers = [await self.module(raw) for raw in raws]
        before = resident()
        waiting = [grabber.grab("1D") for grabber in grabbers]
        while not all(line._decoder.wanted for line in self.modules.connections):
            await pause(self.reactor)
        self.assertLess(resident() - before, 100 * MEGABYTE)
        for raw in raws:
            raw.transport.abortConnection()
        for grab in waiting:
            grab.addErrback(lambda failure: None)
        await gatherResults(waiting)


def resident() -> int:
    """Bytes of memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pause(reactor: Any) -> Deferred[None]:
    """The next turn of the reactor."""
    turn: Deferred[None] = Deferred()
    reactor.callLater(0, turn.callback, None)
    return turn
