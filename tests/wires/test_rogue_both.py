"""Rogue clients on real sockets: with a real server's recorded bytes, and with labnet's server."""

from __future__ import annotations

from threading import Event
from typing import Any

import numpy as np
import zmq
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from labnet.device import Device, command, parameter
from labnet.devices.remote.rogue import RogueDevice
from labnet.errors import (
    DeviceFault,
    Locked,
    NotConnected,
    NotWritable,
    OutOfRange,
    TimedOut,
    UnknownName,
)
from labnet.lab import Lab, ServeOptions
from labnet.supervision import Retry
from labnet.testing import FakeDevice
from labnet.transports.zmq import Peer, PubPort, RouterPort, ZmqFactory, ZmqServerProtocol
from labnet.values import ArrayKind
from labnet.wires.rogue.client import RogueClient
from labnet.wires.rogue.mirror import RogueMirror
from labnet.wires.rogue.mirrored import Node
from labnet.wires.rogue.server import Options, RogueListener, listen
from tests.wires.rogue_fakes import NO_NODES, Recording

VOLTS = "Toy.Psu.Volts"
BASES = range(29101, 29901, 4)


class Played(ZmqServerProtocol):
    """Answers what was recorded, to the byte; no nodes where nothing was."""

    def __init__(self, recording: Recording, socket: str) -> None:
        self.recording = recording
        self.socket = socket
        self.silent = False

    def messageReceived(self, peer: Peer, parts: list[bytes]) -> None:
        answer = self.recording.answer(self.socket, parts[-1])
        if answer is None:
            answer = self.recording.exchange(NO_NODES)[1]
        if not self.silent:
            self.port.reply(peer, [*parts[:-1], answer])


class PlayedServer:
    """The three ports of a real server that was recorded."""

    def __init__(self, base: int = 0) -> None:
        recording = Recording()
        self.factory = ZmqFactory(reactor)
        self.binary, self.text = Played(recording, "bin"), Played(recording, "str")
        self.recording = recording
        for self.base in [base] if base else BASES:
            try:
                self.updates = PubPort(self._address(0), factory=self.factory)
                RouterPort(self.binary, self._address(1), factory=self.factory)
                RouterPort(self.text, self._address(2), factory=self.factory)
            except Exception:
                self.factory.close()
                self.factory = ZmqFactory(reactor)
            else:
                return
        raise AssertionError("no ports are free")

    def _address(self, step: int) -> str:
        return f"tcp://127.0.0.1:{self.base + step}"

    def close(self) -> Any:
        return self.factory.stop()


def heard(node: Node, count: int = 1) -> Deferred[list[Any]]:
    """Fires with the next values of a variable."""
    values: list[Any] = []
    fired: Deferred[list[Any]] = Deferred()

    def listener(_: Node, value: Any) -> None:
        values.append(value.value)
        if len(values) == count:
            fired.callback(values)

    node.listen(listener)
    return fired


class RecordedServer(TestCase):
    """A real server, as far as its clients can see."""

    timeout = 20

    def setUp(self) -> None:
        self.server = PlayedServer()
        self.addCleanup(lambda: self.server.close())

    def client(self, **options: Any) -> RogueClient:
        client = RogueClient(f"127.0.0.1:{self.server.base}", reactor=reactor, **options)
        self.addCleanup(client.close)
        return client

    async def mirror(self) -> RogueMirror:
        mirror = self.client().mirror()
        self.addCleanup(mirror.close)
        return await mirror.connect()

    async def test_both_ports(self) -> None:
        self.assertEqual(await self.client().get(VOLTS), 7.5)
        self.assertEqual(await self.client(text=True).disp(VOLTS), "8.500")
        wave = await self.client().get("Toy.Psu.Wave")
        self.assertEqual(wave.tolist(), [1.0, 5.5, 9.0, 4.0])

    async def test_many_at_once(self) -> None:
        client = self.client()
        values = await gatherResults([client.get("Toy.Psu.Label") for _ in range(500)])
        self.assertEqual(set(values), {"plain"})

    async def test_errors(self) -> None:
        client = self.client()
        with self.assertRaises(DeviceFault) as caught:
            await client.request("Toy.Psu.Fail", "__call__")
        self.assertEqual(caught.exception.kind, "ToyError")

    async def test_mirror(self) -> None:
        mirror = await self.mirror()
        volts = mirror.node(VOLTS)
        next_volts = heard(volts)
        body = self.server.recording.published["virtual.listener"][0]
        while not next_volts.called:  # until the subscription has arrived there
            self.server.updates.publish([body])
            await mirror.request(VOLTS, "units")
        self.assertEqual(await next_volts, [7.0])
        self.assertTrue(mirror.linked and mirror.updating)

    async def test_a_server_that_restarts(self) -> None:
        client = self.client(timeout=0.3)
        self.assertEqual(await client.get("Toy.Psu.Label"), "plain")
        base = self.server.base
        self.server.binary.silent = True
        with self.assertRaises(TimedOut):
            await client.get("Toy.Psu.Label")
        await self.server.close()
        with self.assertRaises(TimedOut):
            await client.get("Toy.Psu.Label")
        self.server = PlayedServer(base)
        client.timeout = 10.0
        self.assertEqual(await client.get("Toy.Psu.Label"), "plain")

    async def test_a_mirror_of_a_server_that_restarts(self) -> None:
        mirror = await self.mirror()
        base = self.server.base
        for up in (False, True):
            told: Deferred[bool] = Deferred()
            mirror.on_link(lambda up, told=told: told.called or told.callback(up))
            if not up:
                await self.server.close()
            else:
                self.server = PlayedServer(base)
            self.assertIs(await told, up)

    async def test_a_request_under_way_when_the_server_goes(self) -> None:
        client = self.client(timeout=15.0)
        await client.get("Toy.Psu.Label")
        self.server.binary.silent = True
        asked = client.get("Toy.Psu.Label")
        await self.server.close()
        with self.assertRaises(NotConnected):
            await asked
        self.server = PlayedServer()

    async def test_nobody_there(self) -> None:
        await self.server.close()
        with self.assertRaises(NotConnected):
            await self.client(timeout=0.2).get(VOLTS)
        self.server = PlayedServer()


class RepServer:
    """A REP socket in a thread, as a real server has: one request after the other.

    While `held` is clear, requests are taken and not answered.
    """

    def __init__(self) -> None:
        self.held, self.ended = Event(), Event()
        self.held.set()
        self.recording = Recording()
        self.requests: list[bytes] = []
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.REP)
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1", 30_000, 60_000)
        self.served = deferToThread(self.serve)

    def serve(self) -> None:
        while not self.ended.is_set():
            if self.socket.poll(20):
                self.requests.append(self.socket.recv())
                self.held.wait()
                self.socket.send(self.recording.answer("bin", self.requests[-1]) or b"")

    async def stop(self) -> None:
        self.held.set()
        self.ended.set()
        await self.served
        self.socket.close(0)
        self.context.term()


class RealSockets(TestCase):
    """A REP socket, which takes no second request before it has answered the first one."""

    timeout = 20

    def setUp(self) -> None:
        self.server = RepServer()
        self.addCleanup(self.server.stop)
        self.client = RogueClient(f"127.0.0.1:{self.server.port - 1}", reactor=reactor)
        self.addCleanup(self.client.close)

    async def test_many_at_once(self) -> None:
        values = await gatherResults([self.client.get("Toy.Psu.Label") for _ in range(300)])
        self.assertEqual(set(values), {"plain"})

    async def test_late_answers(self) -> None:
        self.assertEqual(await self.client.get("Toy.Psu.Label"), "plain")
        self.server.held.clear()
        for _ in range(2):
            with self.assertRaises(TimedOut):
                await self.client.get("Toy.Psu.Count", timeout=0.1)
        self.server.held.set()
        self.assertEqual(await self.client.get("Toy.Psu.Label"), "plain")

    async def test_empty_answers(self) -> None:
        with self.assertRaises(DeviceFault) as caught:
            await self.client.request("Toy.Psu.Volts", "unheard_of")
        self.assertIn("empty", str(caught.exception))
        self.assertEqual(await self.client.get("Toy.Psu.Label"), "plain")


class Supply(Device):
    """A power supply."""

    volts = parameter(float, unit="V", limits=(0, 30), initial=1.0, display="{:.3f}")
    mode = parameter(choices={0: "OFF", 1: "CV", 2: "CC"}, initial=1)
    wave = parameter(ArrayKind("f8"), initial=np.arange(4.0))
    label = parameter(str, initial="plain", groups=("Names",))
    blob = parameter(bytes, initial=b"\x00\x01")
    serial = parameter(str, initial="SN-1", access="r")

    def __init__(self) -> None:
        self.waiting: Deferred[int] = Deferred()

    @command
    def add(self, a: int) -> int:
        """One more."""
        return a + 1

    @command(long=True)
    def wait(self) -> Deferred[int]:
        return self.waiting

    @command
    def fail(self) -> None:
        raise RuntimeError("no such luck")


class OwnServer(TestCase):
    """labnet's server and clients together."""

    timeout = 20

    async def setUp(self) -> None:
        self.device = Supply()
        self.lab = Lab(reactor, reactor)
        self.lab.attach("psu", self.device)
        self.lab.attach("other", FakeDevice(power=1.0))
        self.addCleanup(lambda: self.lab.stop())
        self.listener = await self.serve("tcp://127.0.0.1:0")
        self.addCleanup(self.listener.stop)

    async def serve(self, address: str) -> RogueListener:
        return await listen(self.lab, address, ServeOptions(), Options(), reactor)

    def client(self, **options: Any) -> RogueClient:
        client = RogueClient(self.listener.address, reactor=reactor, **options)
        self.addCleanup(client.close)
        return client

    async def mirror(self) -> RogueMirror:
        mirror = RogueMirror(self.listener.address, reactor=reactor)
        self.addCleanup(mirror.close)
        return await mirror.connect()

    async def test_values(self) -> None:
        client = self.client()
        await client.set("lab.psu.volts", 2.5)
        self.assertEqual(await client.get("lab.psu.volts"), 2.5)
        self.assertEqual(await client.disp("lab.psu.volts"), "2.500")
        await client.set_disp("lab.psu.mode", "CC")
        self.assertEqual(await client.value("lab.psu.mode"), 2)
        await client.set("lab.psu.wave", np.array([5.0, 6.0]))
        self.assertEqual((await client.get("lab.psu.wave")).tolist(), [5.0, 6.0])
        self.assertEqual(await client.get("lab.psu.blob"), b"\x00\x01")
        self.assertEqual(await client.exec("lab.psu.add", 41), 42)

    async def test_values_as_text(self) -> None:
        client = self.client(text=True)
        await client.set("lab.psu.volts", 2.5)
        self.assertEqual(await client.get("lab.psu.volts"), "2.5")
        await client.set("lab.psu.label", "")
        self.assertEqual(await client.get("lab.psu.label"), "")
        self.assertEqual(await client.exec("lab.psu.add", 41), "42")
        with self.assertRaises(UnknownName):
            await client.get("lab.psu.nope")

    async def test_refusals(self) -> None:
        client = self.client()
        with self.assertRaises(OutOfRange):
            await client.set("lab.psu.volts", 99.0)
        with self.assertRaises(NotWritable):
            await client.set("lab.psu.serial", "x")
        with self.assertRaises(UnknownName) as caught:
            await client.set("lab.psu.vots", 1.0)
        self.assertEqual(caught.exception.near[0], "lab.psu.volts")
        with self.assertRaises(DeviceFault) as fault:
            await client.exec("lab.psu.fail")
        self.assertIn("no such luck", str(fault.exception))

    async def test_another_clients_lock(self) -> None:
        one, two = self.client(), self.client()
        await one.exec("lab.Locks.Lock", "psu")
        with self.assertRaises(Locked):
            await two.set("lab.psu.volts", 2.0)
        await one.set("lab.psu.volts", 3.0)
        await one.exec("lab.Locks.Unlock")
        await two.set("lab.psu.volts", 2.0)

    async def test_mirror(self) -> None:
        mirror = await self.mirror()
        volts = mirror.node("lab.psu.volts")
        self.assertEqual(volts.info.name, "volts")
        await heard(mirror.node("lab.Time"))
        told = heard(volts)
        await volts.set(4.0)
        self.assertEqual(await told, [4.0])
        assert volts.last is not None
        self.assertEqual(volts.last.value_disp, "4.000")
        (info,) = await mirror.describe([volts])
        self.assertEqual((info.units, info.minimum, info.maximum, info.mode), ("V", 0, 30, "RW"))

    async def test_a_slow_command(self) -> None:
        client = self.client()
        slow = client.exec("lab.psu.wait", timeout=10.0)
        self.assertEqual(await self.client().get("lab.psu.volts"), 1.0)
        self.device.waiting.callback(5)
        self.assertEqual(await slow, 5)


class AsDevice(TestCase):
    """A Rogue tree of another lab as a device of this one."""

    timeout = 20

    async def setUp(self) -> None:
        self.there = Lab(reactor, reactor)
        self.supply = Supply()
        self.there.attach("psu", self.supply)
        self.addCleanup(lambda: self.there.stop())
        address = "tcp://127.0.0.1:0"
        self.listener = await listen(self.there, address, ServeOptions(), Options(), reactor)
        self.addCleanup(lambda: self.listener.stop())
        self.here = Lab(reactor, reactor, retry=Retry(first=0.05, longest=0.2))
        self.addCleanup(lambda: self.here.stop())
        self.device = RogueDevice(
            self.listener.address,
            exclude=(),
            dial=self.dial,
            clock=reactor,  # type: ignore[arg-type]
        )
        self.session = self.here.open_session("test", "test", name="tester")
        self.whats: dict[str, Deferred[Any]] = {}

    def dial(self, wire: str, *args: Any, **options: Any) -> RogueClient:
        self.assertEqual(wire, "rogue")
        return RogueClient(*args, reactor=reactor, **options)

    def attach(self) -> Deferred[Any]:
        """Fires when the device is open."""
        self.here.attach("far", self.device)
        opened = self.whats["back"] = Deferred()
        self.session.subscribe(["far"], self._updated)
        return opened

    def _updated(self, updates: list[Any]) -> None:
        for update in updates:
            key = update.path if update.what == "value" else update.what
            waiting = self.whats.pop(key, None)
            if waiting is not None:
                waiting.callback(update)

    async def test_through_two_labs(self) -> None:
        await self.attach()
        await self.session.set("far.psu.volts", 5)
        self.assertEqual(self.supply.volts, 5.0)
        self.assertEqual((await self.session.get("far.psu.volts")).value, 5.0)
        self.assertEqual(await self.session.call("far.psu.add", 1), 2)
        with self.assertRaises(DeviceFault):
            await self.session.call("far.psu.fail")
        wave = (await self.session.get("far.psu.wave")).value
        self.assertEqual(wave.tolist(), [0.0, 1.0, 2.0, 3.0])

    async def test_a_part_is_locked_there(self) -> None:
        clock: Any = reactor
        self.device = RogueDevice(
            self.listener.address, node="psu", dial=self.dial, clock=clock, probe=0.05
        )
        await self.attach()
        await self.session.lock(["far"])
        client = self.dial("rogue", self.listener.address)
        self.addCleanup(client.close)
        with self.assertRaises(Locked):
            await client.set("lab.psu.volts", 2.0)
        await self.session.set("far.volts", 3.0)
        self.assertEqual(self.supply.volts, 3.0)

    async def test_locks_hold_there_too(self) -> None:
        await self.attach()
        client = self.dial("rogue", self.listener.address)
        self.addCleanup(client.close)
        for resource in ("far", "far.psu.volts"):
            await self.session.lock([resource])
            with self.assertRaises(Locked) as caught:
                await client.set("lab.psu.volts", 2.0)
            self.assertEqual(caught.exception.holder.wire, "rogue")
            await self.session.set("far.psu.volts", 3.0)
            self.session.unlock()
            while True:  # the lock there is given back a little later
                try:
                    await client.set("lab.psu.volts", 2.0)
                    break
                except Locked:
                    pass

    async def test_a_lock_that_is_taken_there(self) -> None:
        await self.attach()
        client = self.dial("rogue", self.listener.address)
        self.addCleanup(client.close)
        await client.exec("lab.Locks.Lock", "psu.volts")
        with self.assertRaises(Locked):
            await self.session.lock(["far"])
        await client.exec("lab.Locks.Unlock")
        await self.session.lock(["far"])

    async def test_a_server_that_restarts(self) -> None:
        await self.attach()
        address = self.listener.address
        lost = self.whats["lost"] = Deferred()
        await self.listener.stop()
        await lost
        with self.assertRaises(NotConnected):
            await self.session.get("far.psu.volts")
        back = self.whats["back"] = Deferred()
        self.supply.volts = 7.0
        self.listener = await listen(self.there, address, ServeOptions(), Options(), reactor)
        await back
        self.assertEqual((await self.session.get("far.psu.volts")).value, 7.0)

    async def test_updates_come_through(self) -> None:
        await self.attach()
        await self.device.client.node("lab.Time").fetch()
        beat = self.whats["far.Time"] = Deferred()
        await beat  # the subscription has arrived
        told = self.whats["far.psu.label"] = Deferred()
        self.supply.label = "news"
        update = await told
        self.assertEqual(update.reading.value, "news")
