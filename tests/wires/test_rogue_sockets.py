"""A Rogue server on real sockets, with toys of PyRogue's clients in threads."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from ipaddress import ip_network
from queue import Queue
from typing import Any

import numpy as np
import zmq
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from labnet.device import Device, command, parameter
from labnet.lab import Lab, ServeOptions
from labnet.testing import FakeDevice
from labnet.transports.listening import CannotListen
from labnet.wires.rogue.client import RogueClient
from labnet.wires.rogue.codec import encode_binary, encode_text
from labnet.wires.rogue.mirror import RogueMirror
from labnet.wires.rogue.server import Options, RogueListener, listen
from tests.wires.rogue_peers import (
    DEVICE,
    VARIABLE,
    CClient,
    Raw,
    SimpleClient,
    Value,
    VirtualClient,
)


class Bench(Device):
    """Something of each kind; one command waits until it is told."""

    level = parameter(float, initial=1.5, limits=(0, 30), unit="V", display="{:.3f}")
    mode = parameter(choices={0: "Off", 1: "On"}, initial=1)
    label = parameter(str, initial="plain")
    wave = parameter(np.ndarray, initial=np.array([1.0, 5.5]))

    def __init__(self) -> None:
        self.waiting: list[Deferred[str]] = []
        self.called: Deferred[None] = Deferred()

    @parameter(unit="C", poll=0.05)
    def heat(self) -> float:
        return 20.25

    @command
    def add(self, number: int = 0) -> int:
        return number + 1

    @command
    def fail(self) -> None:
        raise ValueError("no such luck")

    @command(reads=True, long=True)
    def wait(self) -> Deferred[str]:
        self.waiting.append(Deferred())
        called, self.called = self.called, Deferred()
        called.callback(None)
        return self.waiting[-1]


class Blocking(Device):
    """A parameter behind a thread."""

    blocking = True

    @parameter
    def depth(self) -> float:
        return 2.5


class SocketCase(TestCase):
    """A lab with some devices, at a base port that is free."""

    timeout = 60

    async def setUp(self) -> None:
        self.lab = Lab(reactor=reactor)
        self.device = Bench()
        self.lab.attach("bench", self.device)
        self.lab.attach("slow", Blocking())
        self.addCleanup(self.lab.stop)
        self.listener = await self.serve()
        self.base = int(self.listener.address.rpartition(":")[2])

    async def serve(self, address: str = "tcp://127.0.0.1:0", **common: Any) -> RogueListener:
        common = common or {"devices": {"bench": "bench", "slow": "slow"}}
        served = ServeOptions(name="test", drain=0.5, **common)
        listener = await listen(self.lab, address, served, Options(), reactor)
        self.addCleanup(lambda: Deferred.fromCoroutine(listener.stop()))
        return listener

    async def until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            turn: Deferred[None] = Deferred()
            reactor.callLater(0.001, turn.callback, None)  # type: ignore[attr-defined]
            await turn

    def run_client(self, make: Callable[[int], Any], use: Callable[[Any], Any]) -> Deferred[Any]:
        """Uses a client in a thread of its own."""

        def run() -> Any:
            client = make(self.base)
            try:
                return use(client)
            finally:
                client.close()

        return deferToThread(run)


class SimpleClientTests(SocketCase):
    async def test_get_set_exec(self) -> None:
        def use(client: SimpleClient) -> None:
            self.assertEqual(client.get("lab.bench.level"), 1.5)
            self.assertIsNone(client.set("lab.bench.level", 2.5))
            self.assertEqual(client.get_disp("lab.bench.level"), "2.500")
            client.set_disp("lab.bench.mode", "Off")
            self.assertEqual(client.get("lab.bench.mode"), 0)
            client.set("lab.bench.wave", np.array([1.0, 2.0, 3.0]))
            self.assertEqual(client.get("lab.bench.wave").tolist(), [1.0, 2.0, 3.0])
            self.assertEqual(client.exec("lab.bench.add"), 1)
            self.assertEqual(client.exec("lab.bench.add", "41"), 42)
            self.assertEqual(client.get("lab.slow.depth"), 2.5)
            self.assertIsNone(client.get("lab.nothing"))
            for failing in ("lab.bench.fail", "lab.bench.level"):
                with self.assertRaises(Exception) as caught:
                    client.exec(failing)
                self.assertRegex(str(caught.exception), r"^builtins\.\w+: ")

        await self.run_client(SimpleClient, use)
        self.assertEqual(self.device.level, 2.5)

    async def test_updates(self) -> None:
        heard: Queue[tuple[str, Value]] = Queue()

        def use(client: SimpleClient) -> None:
            while heard.get(timeout=5)[0] != "lab.bench.heat":
                pass
            client.set("lab.bench.level", 5.0)
            for path, value in iter(lambda: heard.get(timeout=5), None):
                if path == "lab.bench.level":
                    self.assertEqual((value.value, value.valueDisp), (5.0, "5.000"))
                    self.assertEqual((value.status, value.severity), ("None", "None"))
                    self.assertEqual((value.disp, value.enum, value.updated),
                                     ("{:.3f}", None, False))  # fmt: skip
                    return

        def make(base: int) -> SimpleClient:
            return SimpleClient(base, lambda path, value: heard.put((path, value)))

        await self.run_client(make, use)

    async def test_an_interrupted_client(self) -> None:
        """It vanishes with a request under way, and its lock with it."""
        called = self.device.called

        def use(client: SimpleClient) -> None:
            client.exec("lab.Locks.Lock", "bench")
            request = {"path": "lab.bench.wait", "attr": "__call__", "args": (), "kwargs": {}}
            client.requests.send(pickle.dumps(request))
            while not self.device.waiting:
                time.sleep(0)

        await self.run_client(SimpleClient, use)
        await called
        await self.until(lambda: not self.lab.locks.count)
        self.device.waiting[0].callback("too late")


class VirtualClientTests(SocketCase):
    async def test_the_tree(self) -> None:
        def use(client: VirtualClient) -> None:
            root = client.root
            self.assertEqual(list(root.nodes)[-2:], ["bench", "slow"])
            bench = root.nodes["bench"]
            self.assertTrue(bench.is_a(DEVICE))
            self.assertEqual(bench.offset, 0)
            level = bench.level
            self.assertTrue(level.is_a(VARIABLE))
            self.assertEqual((level.units, level.minimum, level.maximum, level.mode),
                             ("V", 0.0, 30.0, "RW"))  # fmt: skip
            level.set(6.0)
            self.assertEqual((level.get(), level.value(), level.getDisp()), (6.0, 6.0, "6.000"))
            level.setDisp("6.5", index=-1)
            value = level.getVariableValue(read=False, index=-1)
            self.assertEqual((value.value, value.valueDisp), (6.5, "6.500"))
            self.assertEqual(bench.add(1), 2)
            self.assertEqual(bench.add(), 1)
            self.assertEqual(bench.add.callDisp(1), "2")
            self.assertEqual(client.node("lab.bench.mode").enum, {0: "Off", 1: "On"})
            self.assertEqual(root.waitOnUpdate(), None)
            with self.assertRaises(Exception) as caught:
                bench.fail()
            self.assertEqual(str(caught.exception), "builtins.ValueError: no such luck")
            client.wait_for("lab.bench.level", 6.5)

        await self.run_client(VirtualClient, use)

    async def test_every_property(self) -> None:
        """All that is announced can be asked for, of every node."""

        def use(client: VirtualClient) -> int:
            asked = 0
            waiting = [client.root]
            while waiting:
                node = waiting.pop()
                for name in node.fields["props"]:
                    if name != "lock":
                        getattr(node, name)
                        asked += 1
                for name in ("value", "valueDisp", "getVariableValue"):
                    if name in node.fields["funcs"]:
                        getattr(node, name)()
                waiting += node.nodes.values()
            return asked

        self.assertGreater(await self.run_client(VirtualClient, use), 500)

    async def test_the_heart_beats(self) -> None:
        def use(client: VirtualClient) -> None:
            for _ in range(2):
                with client.heard:
                    before = client.values.get("lab.Time")
                    self.assertTrue(
                        client.heard.wait_for(
                            lambda before=before: client.values.get("lab.Time") is not before, 5
                        )
                    )

        await self.run_client(VirtualClient, use)

    async def test_every_value_that_the_device_takes(self) -> None:
        ready: Deferred[None] = Deferred()

        def use(client: VirtualClient) -> None:
            client.wait_for("lab.bench.heat", 20.25)
            reactor.callFromThread(ready.callback, None)  # type: ignore[attr-defined]
            client.wait_for("lab.bench.label", "199")

        done = self.run_client(VirtualClient, use)
        await ready
        for number in range(200):
            self.device.label = str(number)
        await done


class TextTests(SocketCase):
    async def test_string_mode(self) -> None:
        def use(client: CClient) -> None:
            self.assertEqual(client.text("lab.bench.level", "getDisp"), "1.500")
            self.assertEqual(client.text("lab.bench.level", "setDisp", "8.5"), "None")
            self.assertEqual(client.text("lab.bench.level", "valueDisp"), "8.500")
            self.assertEqual(client.text("lab.bench.add", "__call__", "9"), "10")
            self.assertEqual(client.text("lab.bench.nope", "getDisp"), "None")
            told = client.text("lab.bench.label", "setDisp", 'a"b')
            self.assertEqual(told, "EXCEPTION: Expecting ',' delimiter: line 1 column 58 (char 57)")
            self.assertEqual(client.text("lab.Locks.Lock", "__call__", "bench 30")[8:8], "")
            self.assertEqual(client.text("lab.Locks.Unlock", "__call__"), "1")
            client.text("lab.bench.label", "setDisp", "x")

        await self.run_client(lambda base: CClient(base, text=True), use)

    async def test_envelopes(self) -> None:
        body = encode_binary("lab.bench.level", "get")
        wanted = pickle.dumps(1.5, 4)

        def use(client: Raw) -> None:
            self.assertEqual(client.correlated(7, body), [b"\7\0\0\0", b"", wanted])
            self.assertEqual(client.ask(b"", body), [b"", wanted])
            self.assertEqual(client.ask(body), [wanted])
            for parts in ([b""], [b"", b""], [b"\1\0\0\0", b"", b""]):
                *envelope, reply = client.ask(*parts)
                self.assertIn(b"UnpicklingError", reply)
                self.assertEqual(envelope, parts[:-1])
            self.assertEqual(client.ask(b"", body), [b"", wanted], "it goes on")

        await self.run_client(lambda base: Raw(base + 1), use)

    async def test_a_client_that_gave_up(self) -> None:
        """REQ_RELAXED: it sends again without an answer, and takes no answer for another's."""
        called = self.device.called
        slow = encode_binary("lab.bench.wait", "__call__")
        quick = encode_binary("lab.bench.add", "__call__", (4,))

        def use(client: CClient) -> Any:
            client.send_only(slow)
            while not self.device.waiting:
                time.sleep(0)
            client.send_only(quick)
            reactor.callFromThread(self.device.waiting[0].callback, "late")  # type: ignore[attr-defined]
            return pickle.loads(client.requests.recv())

        self.assertEqual(await self.run_client(CClient, use), 5)
        await called

    async def test_a_slow_command_of_another(self) -> None:
        called = self.device.called

        def wait(client: CClient) -> Any:
            return pickle.loads(client.send(encode_binary("lab.bench.wait", "__call__")))

        def get(client: CClient) -> Any:
            return client.text("lab.bench.level", "get")

        waiting = self.run_client(CClient, wait)
        await called
        self.assertEqual(await self.run_client(lambda base: CClient(base, text=True), get), "1.5")
        self.device.waiting[0].callback("done")
        self.assertEqual(await waiting, "done")


class ListenerTests(SocketCase):
    async def test_three_ports_or_none(self) -> None:
        other = await self.serve()
        self.assertNotEqual(other.address, self.listener.address)
        self.assertEqual((int(other.address.rpartition(":")[2]) - 9099) % 4, 0)
        with self.assertRaises(CannotListen) as caught:
            await self.serve(self.listener.address)
        self.assertIn("in use", str(caught.exception))
        context = zmq.Context()
        self.addCleanup(context.destroy, 0)
        taken = context.socket(zmq.REP)
        base = taken.bind_to_random_port("tcp://127.0.0.1", 20_000, 30_000) - 2
        with self.assertRaises(CannotListen):
            await self.serve(f"tcp://127.0.0.1:{base}")
        taken.close(0)

    async def test_what_may_connect(self) -> None:
        listener = await self.serve(
            devices={"bench": "bench"}, allow=(ip_network("10.0.0.0/8"),)
        )
        base = int(listener.address.rpartition(":")[2])

        def use() -> bool:
            client = Raw(base + 1)
            client.socket.setsockopt(zmq.RCVTIMEO, 300)
            try:
                client.ask(b"", encode_binary("lab.bench.level", "get"))
            except zmq.Again:
                return False
            finally:
                client.close()
            return True

        self.assertFalse(await deferToThread(use))

    async def test_the_example(self) -> None:
        import subprocess

        done = await deferToThread(
            subprocess.run, self.listener.example, shell=True, capture_output=True, text=True
        )
        self.assertRegex(done.stdout, r"^\d{4}-\d\d-\d\d ")

    async def test_it_ends_with_requests_under_way(self) -> None:
        called = self.device.called
        client = Raw(self.base + 1)
        self.addCleanup(client.close)
        client.socket.send_multipart([b"", encode_binary("lab.bench.wait", "__call__")])
        await called
        await self.until(lambda: any(client.busy for client in self.listener.clients()))
        stopping = Deferred.fromCoroutine(self.listener.stop())
        self.device.waiting[0].callback("in time")
        await stopping
        reply = await deferToThread(client.socket.recv_multipart)
        self.assertEqual(reply, [b"", pickle.dumps("in time", 4)])


class LargeTreeTests(SocketCase):
    """Ten thousand variables, for a client that loads the whole tree."""

    async def test_bootstrap(self) -> None:
        big = FakeDevice(**{f"v{number}": float(number) for number in range(10_000)})
        self.lab.attach("big", big)
        listener = await self.serve(devices={"big": "big"})
        self.base = int(listener.address.rpartition(":")[2])

        def use(client: VirtualClient) -> None:
            nodes = client.root.nodes["big"].nodes
            self.assertEqual(len(nodes), 10_003)
            self.assertEqual(nodes["v77"].value(), 77.0)
            nodes["v78"].set(5.0)
            client.wait_for("lab.big.v78", 5.0)

        await self.run_client(VirtualClient, use)


class OwnClientTests(SocketCase):
    """labnet's own clients."""

    async def test_the_simple_one(self) -> None:
        client = RogueClient(self.listener.address, reactor=reactor)
        self.addCleanup(client.close)
        self.assertEqual(await client.get("lab.bench.level"), 1.5)
        await client.set("lab.bench.level", 2.5)
        self.assertEqual(self.device.level, 2.5)

    async def test_the_mirror(self) -> None:
        mirror = RogueMirror(self.listener.address, reactor=reactor)
        self.addCleanup(mirror.close)
        await mirror.connect()
        self.assertIn("bench", mirror.top.children)
        self.assertIn("level", mirror.top.children["bench"].children)


class EncodingTests(SocketCase):
    async def test_escaped_text(self) -> None:
        def use(client: CClient) -> str:
            client.send(encode_text("lab.bench.label", "setDisp", 'a"b\\c'))
            return client.text("lab.bench.label", "get")

        found = await self.run_client(lambda base: CClient(base, text=True), use)
        self.assertEqual(found, 'a"b\\c')
