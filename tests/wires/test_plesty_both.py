"""labnet's PLESTY client with labnet's PLESTY server, without sockets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import (
    LabError,
)
from labnet.transports.zmq import Peer
from labnet.wires.plesty.client import PlestyBench, PlestyClient
from labnet.wires.plesty.codec import success
from labnet.wires.plesty.server import Options
from tests.wires.plesty_fakes import FakeLink
from tests.wires.plesty_toy import ToyServer


class LabnetServer(SynchronousTestCase):
    """labnet's client with labnet's server, without sockets between them."""

    def joined(self, client_class: Any, server: ToyServer, **options: Any) -> Any:
        """A client of `server`."""

        class Joined(client_class):  # type: ignore[misc]
            def _dial(self, received: Callable[[Sequence[bytes]], None]) -> Any:
                return Wire(server, self.client_id, received)

        return Joined("tcp://fake", reactor=server.clock, **options)

    def result(self, server: ToyServer, coroutine: Any) -> Any:
        deferred = Deferred.fromCoroutine(coroutine)
        for _ in range(100):
            server.clock.advance(0.01)
        return self.successResultOf(deferred)

    def test_everything(self) -> None:
        server = ToyServer(Clock())
        client = self.joined(PlestyClient, server, resources=["laser"], client_id="exp")
        self.result(server, client.connect())
        self.assertEqual(client.resources, ("laser",))
        self.assertTrue(client._talk.numbered)

        async def use() -> list[Any]:
            await client.write("MOTOR.position", 2)
            nap = client.nap(0.2)
            return [
                await client.query("motor.position"),
                await client.identity(),
                await client.get_config_list(),
                await client.add(1, b=2),
                await nap,
            ]

        position, identity, names, total, nap = self.result(server, use())
        self.assertEqual((position, total, nap), (2.0, 3, 0.2))
        self.assertEqual(identity, "PLESTY,ToyDevice,TOY-0001,1.0")
        self.assertIn("wavelength", names)
        other = self.joined(PlestyClient, server, resources=["laser"])
        error = self.failed(server, other.connect())
        self.assertEqual(error.holder.name, "exp")
        self.result(server, client.close())
        self.assertEqual(server.lab.locks.count, 0)

    def failed(self, server: ToyServer, coroutine: Any) -> Any:
        deferred = Deferred.fromCoroutine(coroutine)
        for _ in range(100):
            server.clock.advance(0.01)
        return self.failureResultOf(deferred, LabError).value

    def test_a_bench(self) -> None:
        server = ToyServer(Clock(), Options(token="sesame"), device=None)
        bench = self.joined(PlestyBench, server, token="sesame")
        self.result(server, bench.connect())
        self.assertEqual(bench.description["fleet"], ["toy"])

        async def use() -> list[Any]:
            toy = bench.device("toy")
            await toy.describe()
            return [await toy.add(1), await toy.query("averaging"), await toy.nap(0.1)]

        self.assertEqual(self.result(server, use()), [2, 10, 0.1])

        async def wrong() -> None:
            await bench.device("nope").query("x")

        self.assertIsInstance(self.failed(server, wrong()), LabError)
        self.result(server, bench.close())


class Wire:
    """One connection between a client and a server without a socket, with a turn between."""

    def __init__(
        self, server: ToyServer, name: str, received: Callable[[Sequence[bytes]], None]
    ) -> None:
        self.server = server
        self.peer: Peer = server.peer(name)
        self.received = received
        self.pending = False
        self.open = True

    def send(self, frames: Sequence[bytes]) -> bool:
        self.server.factory.messageReceived(self.peer, list(frames))
        self._look()
        return True

    def _look(self) -> None:
        """Replies that are there, now and for as long as the connection lasts."""
        if not self.pending:
            self.pending = True
            self.server.clock.callLater(0.005, self._deliver)

    def _deliver(self) -> None:
        self.pending = False
        for body in self.server.port.taken(self.peer):
            self.received([body])
        if self.open:
            self._look()

    def close(self) -> Deferred[None]:
        self.open = False
        self.server.lose(self.peer)
        closed: Deferred[None] = Deferred()
        self.server.clock.callLater(0.001, closed.callback, None)
        return closed


class Bytes(SynchronousTestCase):
    """The helpers of this file's fakes."""

    def test_reply(self) -> None:
        got: list[bytes] = []
        FakeLink("x", lambda frames: got.extend(frames)).reply(1)
        self.assertEqual(got, [success(1)])
