"""The tree of a Rogue server: who is told of changes, who locks what, which devices there are."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import LabError, UnknownName
from labnet.lab import Lab, ServeOptions
from labnet.testing import FakeDevice
from labnet.transports.listening import CannotListen
from labnet.wires.rogue.codec import encode_binary
from labnet.wires.rogue.pickles.reader import read_reply
from labnet.wires.rogue.server import Options, RogueServer, bases
from tests.wires.rogue_case import Motor, RogueCase
from tests.wires.rogue_toy import Toy, ToyClient, ToyServer


class UpdateTests(RogueCase):
    """What subscribers are told."""

    def test_every_value(self) -> None:
        for value in (1.0, 2.0, 2.0, 3.0):
            self.motor.position = value
        self.clock.advance(0)
        told = [message["Toy.motor.position"] for message in self.updates()]
        self.assertEqual(told, [1.0, 2.0, 2.0, 3.0])

    def test_what_changes_together(self) -> None:
        self.motor.position = 4.0
        psu: Any = self.lab.devices()["toy"].device
        psu.Psu.Count = 5
        psu.Regs.U32 = 6
        self.assertEqual(self.updates(), [])
        self.clock.advance(0)
        self.assertEqual(
            self.updates(), [{"Toy.motor.position": 4.0, "Toy.Psu.Count": 5, "Toy.Regs.U32": 6}]
        )

    def test_reads(self) -> None:
        for attr, told in (("get", 1), ("getDisp", 1), ("getVariableValue", 1), ("value", 0),
                           ("valueDisp", 0), ("units", 0)):  # fmt: skip
            for path in ("Toy.Psu.Serial", "Toy.Psu.MilliVolts"):
                self.ask(path, "value")
                self.updates()
                self.ask(path, attr)
                self.assertEqual(len(self.updates()), told, (attr, path))
        self.ask("Toy.Psu.Serial", "get", read=False)
        self.assertEqual(self.updates(), [])

    def test_groups(self) -> None:
        self.assertNotIn("Unserved", self.ask("Toy", "Psu").nodes)
        self.ask("Toy.Psu.Unserved", "set", 5)
        self.assertEqual(self.updates(), [])
        self.assertEqual(self.ask("Toy.Psu.Unserved", "get"), 5)
        self.assertIs(self.ask("Toy.Psu.Unserved", "updateNotify"), False)

    def test_metadata(self) -> None:
        self.motor.change("position", display="{:.1f}", unit="um")
        self.clock.advance(0)
        ((_, value),) = self.toy.subscribers.taken()[0].items()
        self.assertEqual((value.disp, value.value_disp), ("{:.1f}", "1.0"))
        self.assertEqual(self.ask("Toy.motor.position", "units"), "um")

    def test_nobody_listens(self) -> None:
        self.toy.subscribers.audience.clear()
        self.ask("Toy.Psu.Volts", "set", 5.0)
        self.assertEqual(self.updates(), [])

    def test_the_heart_beats(self) -> None:
        self.toy.server.start_beating()
        self.updates()
        self.clock.advance(1.0)
        self.clock.advance(1.0)
        beats = [message for message in self.updates() if "Toy.Time" in message]
        self.assertEqual(len(beats), 2)
        self.assertEqual(set(beats[0]), {"Toy.Time", "Toy.LocalTime"})
        self.toy.server.close()

    def test_the_log(self) -> None:
        self.refused("Toy.Psu.Volts", "set", 99.0)
        self.toy.server.tree.root.beat()
        told = {path: value for message in self.updates() for path, value in message.items()}
        (entry,) = json.loads(told["Toy.SystemLog"])
        self.assertIn("Value range error", entry["message"])
        self.assertEqual(json.loads(told["Toy.SystemLogLast"]), entry)
        for _ in range(100):
            self.refused("Toy.Psu.Volts", "set", 99.0)
        self.assertEqual(len(json.loads(self.ask("Toy.SystemLog", "get"))), 20)
        self.ask("Toy.ClearLog", "__call__", None)
        self.assertEqual(self.ask("Toy.SystemLog", "get"), "[]")

    def test_a_value_that_cannot_be_sent(self) -> None:
        device = FakeDevice(odd={"kind": object, "initial": None})
        self.lab.attach("odd", device)
        server = ToyServer(self.clock, lab=self.lab, common=ServeOptions(device="odd"))
        device.report("odd", object())
        self.clock.advance(0)
        self.assertEqual(server.subscribers.messages, [])
        self.assertIn("no plain value", server.client().ask("lab.odd.odd", "get").text)


class GroupTests(RogueCase):
    options = {"inc_groups": ("Hidden",)}

    def test_only_these(self) -> None:
        self.ask("Toy.Psu.Volts", "set", 5.0)
        self.assertEqual(self.updates(), [])
        self.ask("Toy.Psu.Quiet", "set", 5)
        self.assertEqual(self.updates(), [{"Toy.Psu.Quiet": 5}])


class LockTests(RogueCase):
    """``Toy.Locks``."""

    def test_lock_and_unlock(self) -> None:
        other = self.toy.client()
        token = self.ask("Toy.Locks.Lock", "__call__", "motor")
        self.assertRegex(token, "^[0-9a-f]{32}$")
        self.assertIn(
            {"motor": "127.0.0.1:40001 (rogue 127.0.0.1:40001)"},
            [message.get("Toy.Locks.Holders") for message in self.updates()],
        )
        refusal = other.ask("Toy.motor.position", "set", 2.0).text
        self.assertIn("labnet.Locked: motor.position is locked at motor by 127.0.0.1:", refusal)
        self.assertIn("Locked", other.ask("Toy.motor.home", "__call__", None).text)
        self.assertIn("Locked", other.ask("Toy.motor.enable", "set", False).text)
        self.assertIn("Locked", other.ask("Toy.motor.position", "setPollInterval", 1).text)
        self.assertEqual(other.ask("Toy.motor.position", "get"), 1.0)
        self.assertIsNone(self.ask("Toy.motor.position", "set", 2.0))
        (shown,) = other.ask("Toy.Locks.Show", "__call__", None)
        self.assertEqual((shown["node"], shown["left"]), ("motor", None))
        self.assertIn("Locked", other.ask("Toy.Locks.Lock", "__call__", "motor.position").text)
        self.assertEqual(other.ask("Toy.Locks.Unlock", "__call__", 1), 0)
        self.assertEqual(self.ask("Toy.Locks.Unlock", "__call__", "Toy.motor"), 1)
        self.assertIsNone(other.ask("Toy.motor.position", "set", 3.0))

    def test_a_lease(self) -> None:
        other = self.toy.client()
        self.ask("Toy.Locks.Lock", "__call__", "Psu.Volts 30")
        self.clock.advance(29)
        self.assertIn("Locked", other.ask("Toy.Psu.Volts", "set", 2.0).text)
        self.assertIsNone(other.ask("Toy.Psu.Count", "set", 2))
        self.ask("Toy.Locks.Renew", "__call__", None)
        self.clock.advance(29)
        self.assertIn("Locked", other.ask("Toy.Psu.Volts", "set", 2.0).text)
        self.clock.advance(2)
        self.assertIsNone(other.ask("Toy.Psu.Volts", "set", 2.0))

    def test_another_connection_of_the_owner(self) -> None:
        token = self.ask("Toy.Locks.Lock", "__call__", ["motor", 0, "a scan"])
        other = self.toy.client()
        self.updates()
        self.assertIsNone(other.ask("Toy.Locks.Use", "__call__", token))
        self.assertIsNone(other.ask("Toy.motor.position", "set", 2.0))
        for message in self.updates():
            self.assertNotIn(token, str(message), "a token is told to nobody")
        self.assertEqual(self.toy.client().ask("Toy.Locks.Use", "get"), "")
        self.assertIn("nobody", self.refused("Toy.Locks.Use", "__call__", "0" * 32))

    def test_the_end_of_the_connection(self) -> None:
        holder = self.toy.client()
        holder.ask("Toy.Locks.Lock", "__call__", "motor 300")
        holder.vanish()
        self.assertIsNone(self.ask("Toy.motor.position", "set", 2.0))
        self.assertEqual(self.lab.locks.count, 0)

    def test_wrong_ones(self) -> None:
        for argument in ("nothing", "", "motor x", "motor 1 2 3", 5, "motor -1", "motor nan"):
            self.assertTrue(self.refused("Toy.Locks.Lock", "__call__", argument), argument)
        self.assertEqual(self.lab.locks.count, 0)


class TreeTests(SynchronousTestCase):
    """Which devices there are."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lab = Lab(self.clock, self.clock)
        self.addCleanup(self.lab.stop)

    def serve(self, **common: Any) -> ToyClient:
        self.server = ToyServer(self.clock, lab=self.lab, common=ServeOptions(**common))
        return self.server.client()

    def test_devices_come_and_go(self) -> None:
        client = self.serve()
        self.assertIsNone(client.ask("lab.motor.position", "get"))
        self.lab.attach("motor", Motor())
        self.assertEqual(client.ask("lab.motor.position", "get"), 1.0)
        self.assertIn("motor", client.ask("lab", "nodes"))
        self.lab.detach("motor")
        self.assertIsNone(client.ask("lab.motor.position", "get"))
        again = Motor()
        self.lab.attach("motor", again)
        self.server.subscribers.messages.clear()
        again.position = 5.0
        self.clock.advance(0)
        ((_, value),) = self.server.subscribers.taken()[0].items()
        self.assertEqual(value.value, 5.0)

    def test_what_was_asked_before(self) -> None:
        self.lab.attach("motor", Motor())
        client = self.serve()
        request = b'{"path": "lab.motor.position", "attr": "get"}'
        for _ in range(3):
            self.assertEqual(client.send("str", request), [[b"1.0"]])
            self.assertEqual(client.ask("lab.motor.position", "get"), 1.0)
        self.lab.detach("motor")
        self.assertEqual(client.send("str", request), [[b"None"]])
        self.assertIsNone(client.ask("lab.motor.position", "get"))
        (wrong,) = client.send("str", b"", encode_binary("lab.Time", "mode"))
        self.assertIn(b"EXCEPTION", wrong[-1])
        self.assertEqual(client.ask("lab.Time", "mode"), "RO")
        (wrong,) = client.send("str", b"", encode_binary("lab.Time", "mode"))
        self.assertIn(b"EXCEPTION", wrong[-1], "each port has a memory of its own")

    def test_members_that_join_later(self) -> None:
        device = FakeDevice(a=1)
        self.lab.attach("device", device)
        client = self.serve(device="device")
        self.assertNotIn("b", client.ask("lab.device", "nodes"))
        device.declare("b", initial=2)
        self.assertEqual(client.ask("lab.device.b", "get"), 2)
        self.assertIn("b", client.ask("lab.device", "nodes"))

    def test_a_part_of_a_device(self) -> None:
        self.lab.attach("toy", Toy(self.clock))
        client = self.serve(device="toy.Psu")
        self.assertEqual(client.ask("lab.Psu.Volts", "get"), 7.5)
        self.assertIsNone(client.ask("lab.toy", "nodes"))
        self.assertIsNone(client.ask("lab.Regs.U32", "get"))

    def test_names_that_the_root_needs(self) -> None:
        self.lab.attach("Time", Motor())
        for options in ({}, {"device": "Time"}, {"devices": {"a.b": "Time"}}):
            with self.assertRaises(LabError) as caught:
                self.serve(**options)
            self.assertRegex(str(caught.exception), "Time of its own|cannot be a name")
        self.assertEqual(
            self.serve(devices={"clock": "Time"}).ask("lab.clock.position", "get"), 1.0
        )
        with self.assertRaises(UnknownName):
            self.serve(device="nothing")
        with self.assertRaises(LabError):
            RogueServer(self.lab, ServeOptions(), Options(root="a.b"))

    def test_no_timer_and_no_listener_is_left(self) -> None:
        self.lab.attach("motor", Motor())
        self.serve()
        self.server.server.start_beating()
        self.server.server.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.lab.updates.count, 0)

    def test_ten_thousand_variables(self) -> None:
        self.lab.attach("big", FakeDevice(**{f"v{number}": 0.5 for number in range(10_000)}))
        client = self.serve()
        nodes = client.ask("lab.big", "nodes")
        self.assertEqual(len(nodes), 10_003)
        self.assertEqual(nodes["v9999"].path, "lab.big.v9999")
        self.assertEqual(client.ask("lab.big.v9999", "get"), 0.5)
        self.assertIs(client.ask("lab.Locks.ReadDevice", "__call__"), True)
        body = encode_binary("lab.big.ReadDevice", "__call__")
        self.assertEqual(client.send("bin", b"", body), [], "others have their turn")
        self.clock.pump([0.0] * 200)
        (reply,) = client.came("bin")
        self.assertIs(read_reply(reply), True)
        told: set[str] = set()
        for message in self.server.subscribers.taken():
            told |= set(message)
        self.assertEqual(len([path for path in told if ".v" in path]), 10_000)

    def test_ports(self) -> None:
        where, tried = bases("tcp://127.0.0.1:0")
        self.assertEqual((where, tried[:2], tried[-1]), ("tcp://127.0.0.1", [9099, 9103], 9195))
        self.assertEqual(bases("tcp://*:9000"), ("tcp://*", [9000]))
        for address in ("ipc:///x", "tcp://127.0.0.1", "tcp://127.0.0.1:65534"):
            with self.assertRaises(CannotListen):
                bases(address)
