"""PLESTY server and client on real sockets on loopback."""

from __future__ import annotations

import json
import socket
from ipaddress import ip_network
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from labnet.device import Device, command, parameter
from labnet.errors import DeviceFault, LabError, Locked, NotConnected, TimedOut, UnknownName
from labnet.lab import Lab, ServeOptions
from labnet.transports.listening import CannotListen
from labnet.transports.zmq import DealerConnection
from labnet.wires.plesty.client import PlestyBench, PlestyClient
from labnet.wires.plesty.server import Options, PlestyListener, listen


class Bench(Device):
    """A device with an operation that waits until it is told."""

    level = parameter(float, limits=(0.0, 10.0), initial=1.0)

    def __init__(self) -> None:
        self.waiting: list[Deferred[str]] = []
        self.laser = Device()
        self.called: Deferred[None] = Deferred()

    @command(reads=True)
    def wait(self) -> Deferred[str]:
        self.waiting.append(Deferred())
        called, self.called = self.called, Deferred()
        called.callback(None)
        return self.waiting[-1]

    @command(reads=True)
    def big(self, n: int) -> str:
        return "x" * n


class BlockingBench(Device):
    """The same level behind a thread."""

    blocking = True
    level = parameter(float, initial=1.0)

    @command
    def double(self, value: float) -> float:
        return 2 * value


class SocketCase(TestCase):
    """A lab with one served device."""

    timeout = 20

    async def setUp(self) -> None:
        self.lab = Lab(reactor=reactor, grace=0.3)
        self.device = Bench()
        self.lab.attach("bench", self.device)
        self.addCleanup(self.lab.stop)
        self.listener = await self.serve(device="bench", drain=0.5)

    async def serve(self, options: Options | None = None, **common: Any) -> PlestyListener:
        listener = await listen(
            self.lab,
            "tcp://127.0.0.1:*",
            ServeOptions(name="test", **common),
            options or Options(),
            reactor,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop()))
        return listener

    def client(self, client_class: Any = PlestyClient, **options: Any) -> Any:
        options.setdefault("address", self.listener.address)
        client = client_class(reactor=reactor, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client

    def raw(self, name: bytes = b"") -> tuple[DealerConnection, list[Deferred[Any]]]:
        """A socket, and what comes on it one after the other."""
        coming: list[Deferred[Any]] = [Deferred() for _ in range(20)]
        ahead = iter(coming)
        socket_ = DealerConnection(
            self.listener.address,
            lambda parts: next(ahead).callback(json.loads(parts[-1])),
            identity=name or None,
            reactor=reactor,
        )
        self.addCleanup(socket_.close)
        return socket_, coming

    async def freed(self) -> None:
        """Waits until nothing is locked any more."""
        free: Deferred[None] = Deferred()

        def changed(change: Any) -> None:
            if not self.lab.locks.count and not free.called:
                free.callback(None)

        if self.lab.locks.count:
            self.lab.locks.subscribe(changed)
            await free


class Everyday(SocketCase):
    """What programs do every day."""

    async def test_session(self) -> None:
        client = await self.client(resources=["laser"]).connect()
        self.assertEqual(client.resources, ("laser",))
        self.assertIs(await client.write("level", 2), True)
        self.assertEqual(await client.query("level"), 2.0)
        self.assertEqual(len(await client.big(1_000_000)), 1_000_000)
        self.assertIn("wait", client.methods)
        self.assertIn("level", await client.help())
        with self.assertRaises(UnknownName):
            await client.query("nope")
        await client.close()
        self.assertEqual(self.lab.locks.count, 0)

    async def test_many_requests_at_once(self) -> None:
        client = await self.client().connect()
        results = await gatherResults([client.big(number) for number in range(300)])
        self.assertEqual([len(result) for result in results], list(range(300)))

    async def test_a_thread_of_its_own(self) -> None:
        self.lab.attach("blocking", BlockingBench())
        listener = await self.serve(device="blocking")
        client = await self.client(address=listener.address).connect()
        results = await gatherResults([client.double(number) for number in range(100)])
        self.assertEqual(results, [2.0 * number for number in range(100)])
        self.assertEqual(await client.query("level"), 1.0)

    async def test_a_bench(self) -> None:
        listener = await self.serve(Options(token="sesame"))
        bench = await self.client(PlestyBench, address=listener.address, token="sesame").connect()
        device = bench.device("bench")
        await device.describe()
        self.assertEqual(await device.query("level"), 1.0)
        self.assertEqual(await device.big(2), "xx")
        self.assertIn("zmq.DEALER", listener.example)

    async def test_two_clients_want_one_lock(self) -> None:
        await self.client(resources=["laser"], client_id="one").connect()
        with self.assertRaises(Locked) as caught:
            await self.client(resources=["laser"], client_id="two").connect()
        self.assertEqual(caught.exception.holder.name, "one")
        self.assertIn("127.0.0.1:", caught.exception.holder.peer)


class Trouble(SocketCase):
    """What happens on bad days."""

    async def test_what_a_req_socket_sends(self) -> None:
        """An empty part before the body; the answer must have it too, or the socket drops it."""
        answer: Deferred[list[bytes]] = Deferred()
        req = DealerConnection(self.listener.address, answer.callback, reactor=reactor)
        self.addCleanup(req.close)
        req.send([b"", b'{"type": "query", "param": "level"}'])
        self.assertEqual(await answer, [b"", b'{"status": "ok", "result": 1.0}'])

    async def test_what_stops_the_real_server(self) -> None:
        raw, coming = self.raw()
        for place, parts in enumerate(
            ([b"\xff"], [b'{"type": "help"}', b"x"], [b"[" * 100_000], [b""], [b"x"] * 100)
        ):
            raw.send(parts)
            self.assertEqual((await coming[place])["status"], "error")
        raw.send([b'{"type": "query", "param": "level"}'])
        self.assertEqual((await coming[5])["result"], 1.0)

    async def test_a_request_that_is_too_long(self) -> None:
        self.listener = await self.serve(Options(max_request=2000), device="bench")
        raw, coming = self.raw()
        raw.send([b" " * 3000])
        self.assertEqual((await coming[0])["error"], "the request is longer than 2000 bytes")

    async def test_a_client_that_dies_frees_its_locks(self) -> None:
        raw, coming = self.raw(b"exp")
        raw.send([b'{"type": "connect", "resources": "laser"}'])
        self.assertEqual((await coming[0])["result"]["resources"], ["laser"])
        await raw.close()
        await self.freed()
        raw, coming = self.raw()
        raw.send([b'{"type": "connect", "resources": "laser"}'])
        await coming[0]
        await raw.close()
        await self.freed()

    async def test_a_client_that_comes_back_keeps_its_locks(self) -> None:
        for _ in range(3):
            raw, coming = self.raw(b"exp")
            raw.send([b'{"type": "query", "param": "level", "resources": []}'])
            await coming[0]
            if not self.lab.locks.count:
                raw.send([b'{"type": "connect", "resources": "laser"}'])
                await coming[1]
            raw.send([b'{"type": "query", "param": "level", "resources": "laser"}'])
            reply = await (coming[1] if not coming[1].called else coming[2])
            self.assertEqual(reply["result"], 1.0)
            await raw.close()

    async def test_calls_of_the_dead_are_dropped(self) -> None:
        raw, coming = self.raw()
        called = self.device.called
        raw.send([b'{"type": "call", "func": "wait"}'])
        await called
        raw.send([b'{"type": "write", "param": "level", "value": 9}'])
        raw.send([b'{"type": "describe"}'])
        await coming[0]
        await raw.close()
        other = await self.client().connect()
        self.device.waiting.pop().callback("late")
        self.assertEqual(await other.query("level"), 1.0)

    async def test_a_slow_call_and_its_time_limit(self) -> None:
        client = await self.client(timeout=0.2).connect()
        with self.assertRaises(TimedOut):
            await client.wait()
        self.device.waiting.pop().callback("late")
        self.assertEqual(await client.query("level"), 1.0)

    async def test_a_restarted_server(self) -> None:
        client = await self.client(timeout=0.5, client_id="exp", resources=["laser"]).connect()
        address = self.listener.address
        await self.listener.stop()
        with self.assertRaises(LabError):
            await client.query("level")
        again = await listen(
            self.lab, address, ServeOptions(name="again", device="bench"), Options(), reactor
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(again.stop()))
        self.assertEqual(await client.query("level", timeout=5), 1.0)
        self.assertEqual(client.resources, ("laser",))

    async def test_nobody_there(self) -> None:
        client = self.client(address="tcp://127.0.0.1:1", timeout=0.1)
        with self.assertRaises(TimedOut):
            await client.connect()

    async def test_no_address(self) -> None:
        with self.assertRaises(LabError):
            await self.client(address="nonsense").connect()

    async def test_a_port_that_is_taken(self) -> None:
        with self.assertRaises(CannotListen):
            await listen(
                self.lab, self.listener.address, ServeOptions(device="bench"), Options(), reactor
            )
        with self.assertRaises(UnknownName):
            await self.serve(device="nope")

    async def test_networks_that_may_not(self) -> None:
        self.listener = await self.serve(device="bench", allow=(ip_network("10.0.0.0/8"),))
        with self.assertRaises((TimedOut, NotConnected)):
            await self.client(timeout=0.3).connect()

    async def test_a_flood_of_odd_bytes(self) -> None:
        host, port = self.listener.address.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port))) as plain:
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
        client = await self.client().connect()
        self.assertEqual(await client.query("level"), 1.0)

    async def test_stop_answers_what_is_under_way(self) -> None:
        client = await self.client(resources=["laser"], client_id="exp").connect()
        waiting = client.wait()
        await self.device.called if not self.device.waiting else None
        other = await self.client().connect()
        stopped = Deferred.fromCoroutine(self.listener.stop())
        with self.assertRaisesRegex(DeviceFault, "shutting down"):
            await other.query("level")
        self.device.waiting[0].callback(7.0)
        self.assertEqual(await waiting, 7.0)
        await stopped

    async def test_stop_ends_everything(self) -> None:
        client = await self.client(resources=["laser"], client_id="exp", timeout=0.3).connect()
        waiting = client.wait()
        await self.device.called if not self.device.waiting else None
        await self.listener.stop()
        self.assertEqual(self.lab.locks.count, 0)
        with self.assertRaises(TimedOut):
            await waiting



