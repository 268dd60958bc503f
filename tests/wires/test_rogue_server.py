"""What a Rogue server does with requests, in memory."""

from __future__ import annotations

import json
import os
import pickle
from typing import Any

import numpy as np
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, command, parameter
from labnet.errors import LabError, UnknownName
from labnet.lab import Lab, ServeOptions
from labnet.testing import FakeDevice
from labnet.transports.listening import CannotListen
from labnet.wires.rogue.codec import encode_binary
from labnet.wires.rogue.model import RemoteException, VariableValue
from labnet.wires.rogue.pickles.reader import read_reply
from labnet.wires.rogue.server import Options, RogueServer, bases
from tests.wires.rogue_toy import Toy, ToyClient, ToyServer, parts_of


class Motor(Device):
    """Commands of several arguments."""

    position = parameter(float, initial=1.0, limits=(0, 10), unit="mm")

    @command
    def move(self, target: float, speed: float = 1.0) -> list[float]:
        return [target, speed]

    @command
    def name_it(self, text: str) -> str:
        return text

    @command
    def total(self, *values: float) -> float:
        return sum(values)

    @command
    def home(self) -> str:
        return "home"


class RogueCase(SynchronousTestCase):
    options: dict[str, Any] = {}

    def setUp(self) -> None:
        self.clock = Clock()
        self.lab = Lab(self.clock, self.clock)
        self.lab.attach("toy", Toy(self.clock))
        self.motor = Motor()
        self.lab.attach("motor", self.motor)
        self.addCleanup(self.lab.stop)
        names = {"motor": "motor", **parts_of("toy")}
        common = ServeOptions(devices=names, timeout=10.0)
        self.toy = ToyServer(self.clock, lab=self.lab, common=common, root="Toy", **self.options)
        self.client = self.toy.client()

    def ask(self, path: str, attr: str, *args: Any, **kwargs: Any) -> Any:
        return self.client.ask(path, attr, *args, **kwargs)

    def refused(self, path: str, attr: str, *args: Any, **kwargs: Any) -> str:
        """The text of the error."""
        answer = self.client.ask(path, attr, *args, **kwargs)
        self.assertIsInstance(answer, RemoteException)
        for internal in ("Traceback", "NoneType", " object at 0x", "labnet.wires"):
            self.assertNotIn(internal, answer.text)
        kind, colon, text = answer.text.partition(": ")
        self.assertRegex(kind, r"^\w+(\.\w+)+$")
        self.assertTrue(colon and text)
        return str(answer.text)

    def updates(self) -> list[dict[str, Any]]:
        """The values of each message that was published, by path."""
        return [
            {path: value.value for path, value in message.items()}
            for message in self.toy.subscribers.taken()
        ]


class AttributeTests(RogueCase):
    """What can be asked of nodes."""

    def test_properties(self) -> None:
        wanted = {
            "alarmSeverity": "None", "alarmStatus": "None", "disp": "{:.3f}", "enum": None,
            "hasAlarm": True, "highAlarm": 28, "highWarning": 25, "lowAlarm": 0.5, "lowWarning": 1,
            "maximum": 30, "minimum": 0, "mode": "RW", "pollInterval": 0, "precision": 3,
            "revEnum": None, "typeStr": "float", "units": "V", "updateNotify": True,
            "name": "Volts", "path": "Toy.Psu.Volts", "description": "Output voltage",
            "groups": [], "hidden": False, "expand": True, "guiGroup": None, "isVariable": True,
            "isDevice": False, "isCommand": False,
        }  # fmt: skip
        told = {name: self.ask("Toy.Psu.Volts", name) for name in wanted}
        self.assertEqual(told, wanted)
        for name in ("maximum", "lowWarning"):
            self.assertIs(type(told[name]), float, name)
        self.ask("Toy.Psu.Volts", "set", 29.0)
        self.assertEqual(self.ask("Toy.Psu.Volts", "alarmStatus"), "AlarmHiHi")
        self.assertEqual(self.ask("Toy.Psu.Volts", "alarmSeverity"), "AlarmMajor")

    def test_enums(self) -> None:
        self.assertEqual(self.ask("Toy.Psu.Mode", "enum"), {0: "Off", 1: "CV", 2: "CC"})
        self.assertEqual(self.ask("Toy.Psu.Mode", "revEnum"), {"Off": 0, "CV": 1, "CC": 2})
        self.assertEqual(self.ask("Toy.Psu.Mode", "typeStr"), "int")
        self.assertEqual(self.ask("Toy.Psu.Mode", "disp"), "enum")
        self.assertEqual(self.ask("Toy.Psu.On", "enum"), {False: "False", True: "True"})
        self.assertEqual(self.ask("Toy.Psu.On", "typeStr"), "bool")

    def test_types_modes_and_precision(self) -> None:
        wanted = {
            "Count": ("int", "RW", 0), "Label": ("str", "RW", 0), "Temp": ("float", "RO", 2),
            "Wave": ("float64(4,)", "RW", 8), "Hist": ("int32(3,)", "RW", 8),
            "Steps": ("list", "RW", 0), "Meta": ("dict", "RW", 0), "Pin": ("int", "WO", 0),
            "Blob": ("bytes", "RW", 0), "MilliVolts": ("float", "RO", 1),
        }  # fmt: skip
        for name, told in wanted.items():
            path = f"Toy.Psu.{name}"
            found = tuple(self.ask(path, attr) for attr in ("typeStr", "mode", "precision"))
            self.assertEqual(found, told, name)

    def test_displays(self) -> None:
        volts = "Toy.Psu.Volts"
        self.assertEqual(self.ask(volts, "genDisp", 2.0), "2.000")
        self.assertEqual(self.ask(volts, "genDisp", 2.0, useDisp="{:.1f}"), "2.0")
        self.assertEqual(self.ask(volts, "genDisp", 2.0, useDisp="{:999999999}"), "2.0")
        self.assertEqual(self.ask(volts, "genDisp", 2.0, useDisp="{0.__class__}"), "2.0")
        self.assertEqual(self.ask(volts, "genDisp", 2.0, useDisp=""), "")
        self.assertEqual(self.ask(volts, "parseDisp", "2.5"), 2.5)
        self.assertEqual(self.ask("Toy.Psu.Mode", "genDisp", 9), "INVALID: 9")
        self.assertEqual(self.ask("Toy.Psu.Mode", "parseDisp", "CV"), 1)
        self.assertEqual(self.ask("Toy.Regs.Arr", "getDisp"), "[0x0, 0x0, 0x0, 0x0]")
        self.ask("Toy.Psu.Blob", "setDisp", "b'ab\\x00'")
        self.assertEqual(self.ask("Toy.Psu.Blob", "get"), b"ab\0")
        self.ask("Toy.Psu.Wave", "set", np.arange(100_000.0))
        self.assertLess(len(self.ask("Toy.Psu.Wave", "getDisp")), 100)

    def test_only_what_is_published(self) -> None:
        for attr in ("__dict__", "_default", "saveYaml", "__class__", "set.__globals__", "tree",
                     "node", "template", "put", "ask", ""):  # fmt: skip
            self.assertIn("has no attribute", self.refused("Toy.Psu.Volts", attr), attr)
        for path in ("Toy", "Toy.Psu", "Toy.Locks", "Toy.Psu.Add", "Toy.Time"):
            for attr in ("saveYaml", "saveAddressMap", "__init__", "_children", "tree"):
                self.assertIn("has no attribute", self.refused(path, attr))
        self.assertIn("has no attribute get", self.refused("Toy.Psu", "get"))

    def test_arguments_that_do_not_fit(self) -> None:
        volts = "Toy.Psu.Volts"
        self.assertIn("unexpected keyword argument 'bogus'", self.refused(volts, "get", bogus=1))
        self.assertIn("missing the argument 'value'", self.refused(volts, "set"))
        self.assertIn("takes 1 arguments, not 2", self.refused(volts, "set", 1.0, 2.0))
        self.assertIn("two values", self.refused(volts, "set", 1.0, value=2.0))
        self.assertIn("whole number", self.refused("Toy.Psu.Wave", "get", index="a"))
        self.assertIn("has no elements", self.refused(volts, "get", index=0))

    def test_names_that_are_not_there(self) -> None:
        for path in ("Toy.Nope", "Nope", "", "Toy.", "Toy..Psu", "Toy.Psu.Volts.x", "toy.psu",
                     "Toy" + ".x" * 100, "Toy." + "x" * 5000):  # fmt: skip
            self.assertIsNone(self.ask(path, "get"), path)
        self.assertEqual(self.ask("root.Psu.Volts", "get"), 7.5)

    def test_an_index(self) -> None:
        self.ask("Toy.Psu.Wave", "set", 2.25, index=3)
        self.assertEqual(self.ask("Toy.Psu.Wave", "get").tolist(), [1.0, 5.5, 9.0, 2.25])
        self.assertEqual(self.ask("Toy.Psu.Wave", "get", index=3), 2.25)
        self.ask("Toy.Psu.Wave", "setDisp", "4.5", index=0)
        self.assertEqual(self.ask("Toy.Psu.Wave", "getDisp", True, 0), "4.5")
        self.ask("Toy.Psu.Steps", "set", 70, index=1)
        self.assertEqual(self.ask("Toy.Psu.Steps", "value"), [7, 70, 9])
        found = self.ask("Toy.Psu.Wave", "getVariableValue", read=False, index=1)
        self.assertEqual((found.value, found.value_disp), (5.5, "5.5"))
        self.assertIn("IndexError: index 9", self.refused("Toy.Psu.Wave", "set", 1.0, index=9))
        self.assertIn("Wave takes elements", self.refused("Toy.Psu.Wave", "set", "x", index=1))

    def test_yaml(self) -> None:
        self.assertEqual(self.ask("Toy.Ch[0]", "getYaml"), "Ch[0]:\n  enable: True\n  Gain: 1.00\n")
        config = self.ask("Toy.GetYamlConfig", "__call__", None)
        self.assertIn("\n  Psu:\n    enable: True\n    Volts: 7.500\n", config)
        self.assertNotIn("Serial", config)
        self.assertIn("Serial: SN-1", self.ask("Toy.GetYamlState", "__call__", True))
        self.assertEqual(self.ask("Toy.Psu", "getYaml", modes=["WO"]), "Psu:\n  Pin: 0\n")

    def test_roots_children(self) -> None:
        self.assertAlmostEqual(self.ask("Toy.Time", "value"), self.ask("Toy.Time", "get"), 0)
        self.assertRegex(self.ask("Toy.LocalTime", "get"), r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+$")
        self.assertEqual(json.loads(self.ask("Toy.SystemLog", "get")), [])
        self.assertIn("can only be read", self.refused("Toy.Time", "set", 1.0))
        self.assertIn("not offered", self.refused("Toy.HardReset", "__call__", True))
        self.assertIs(self.ask("Toy", "running"), True)
        self.assertEqual(self.ask("Toy", "offset"), 0)


class WritingTests(RogueCase):
    """Values on their way to devices."""

    def test_types(self) -> None:
        self.assertIn("Type mismatch", self.refused("Toy.Psu.Volts", "set", 3))
        self.assertIn("Type mismatch", self.refused("Toy.Psu.On", "set", 1))
        self.assertIn("Value range error for Volts. Value=99.0, Min=0.0, Max=30.0",
                      self.refused("Toy.Psu.Volts", "set", 99.0))  # fmt: skip
        self.assertIsNone(self.ask("Toy.Psu.Volts", "setDisp", "3"))
        self.assertEqual(self.ask("Toy.Psu.Volts", "get"), 3.0)
        self.assertIsNone(self.ask("Toy.Psu.Mode", "set", 1))
        self.assertIn("takes one of", self.refused("Toy.Psu.Mode", "set", 9))
        for name in ("Serial", "Temp", "MilliVolts"):
            self.assertIn("can only be read", self.refused(f"Toy.Psu.{name}", "set", 1.0))

    def test_written_later(self) -> None:
        volts, other = "Toy.Psu.Volts", self.toy.client()
        self.ask(volts, "set", 9.0, write=False)
        self.assertEqual(self.updates(), [])
        self.assertEqual(self.ask(volts, "value"), 9.0)
        self.assertEqual(other.ask(volts, "value"), 7.5)
        self.assertEqual(self.ask(volts, "get"), 7.5)
        self.updates()
        self.ask(volts, "write")
        self.assertEqual(self.updates(), [{volts: 9.0, "Toy.Psu.MilliVolts": 9000.0}])
        self.assertEqual(other.ask(volts, "value"), 9.0)
        self.ask("Toy.Psu.Count", "setDisp", "8", False)
        self.ask("Toy.Ch[1].Gain", "set", 2.0, write=False)
        self.assertIs(self.ask("Toy.WriteAll", "__call__", None), True)
        self.assertEqual(other.ask("Toy.Psu.Count", "get"), 8)
        self.assertEqual(other.ask("Toy.Ch[1].Gain", "get"), 2.0)
        self.assertIn("can only be read", self.refused("Toy.Psu.Serial", "set", "x", write=False))

    def test_poll_interval(self) -> None:
        path = "Toy.Psu.MilliVolts"
        self.assertIsNone(self.ask(path, "setPollInterval", 2))
        self.assertEqual(self.ask(path, "pollInterval"), 2.0)
        self.clock.advance(0)
        self.updates()
        for _ in range(2):
            self.clock.advance(2.0)
            self.clock.advance(0)
        self.assertEqual(self.updates(), [{path: 7500.0}] * 2)
        self.ask(path, "setPollInterval", 0)
        self.assertEqual(self.ask(path, "pollInterval"), 0)
        for interval in (-1, 1e-9, float("nan"), float("inf"), "x", None):
            self.assertIn("poll interval", self.refused(path, "setPollInterval", interval))
        self.assertIn("not polled", self.refused("Toy.Time", "setPollInterval", 1))


class LenientTests(RogueCase):
    options = {"strict_types": False}

    def test_an_int_for_a_float(self) -> None:
        self.assertIsNone(self.ask("Toy.Psu.Volts", "set", 3))
        self.assertEqual(self.ask("Toy.Psu.Volts", "get"), 3.0)


class CommandTests(RogueCase):
    """Commands."""

    def test_arguments(self) -> None:
        def move(*args: Any, **kwargs: Any) -> Any:
            return self.ask("Toy.motor.move", "__call__", *args, **kwargs)

        self.assertEqual(move(2.0), [2.0, 1.0])
        self.assertEqual(move("2"), [2.0, 1.0])
        self.assertEqual(move([2.0, 3]), [2.0, 3.0])
        self.assertEqual(move("[2, 3]"), [2.0, 3.0])
        self.assertEqual(move({"speed": "4", "target": 1}), [1.0, 4.0])
        self.assertEqual(move(2.0, 5.0), [2.0, 5.0])
        self.assertEqual(move(target=2.0, speed=6.0), [2.0, 6.0])
        self.assertEqual(move(arg=2.0), [2.0, 1.0])
        self.assertIn("missing argument target", self.refused("Toy.motor.move", "__call__", None))
        refusal = self.refused("Toy.motor.move", "__call__", target=1, wrong=1)
        self.assertIn("unknown argument", refusal)
        self.assertIn("target takes float", self.refused("Toy.motor.move", "call", "x"))
        self.assertEqual(self.ask("Toy.motor.name_it", "__call__", "1.50"), "1.50")
        self.assertEqual(self.ask("Toy.motor.total", "__call__", [1, 2, 3]), 6.0)
        for ignored in (1, True, "x", None):
            self.assertEqual(self.ask("Toy.motor.home", "__call__", ignored), "home")

    def test_properties(self) -> None:
        for name, arg, result in (("move", True, "list"), ("home", False, "str")):
            self.assertIs(self.ask(f"Toy.motor.{name}", "arg"), arg)
            self.assertEqual(self.ask(f"Toy.motor.{name}", "retTypeStr"), result)
        self.assertIsNone(self.ask("Toy.Regs.Pulse", "retTypeStr"))
        self.assertEqual(self.ask("Toy.motor.move", "callDisp", 2.0), "[2.0, 1.0]")
        self.assertNotIn("get", self.ask("Toy.motor", "move").funcs)

    def test_the_argument_is_kept(self) -> None:
        self.updates()
        self.ask("Toy.Psu.Add", "__call__", 3)
        self.assertEqual(self.updates(), [{"Toy.Psu.Add": 3}])
        self.assertEqual(self.ask("Toy.Psu.Add", "get"), 3)
        self.assertIsNone(self.ask("Toy.Psu.Add", "set", 9))
        self.assertEqual(self.ask("Toy.Psu.Add", "value"), 3)
        self.updates()
        self.ask("Toy.Psu.Clear", "__call__", 1)
        self.assertEqual(self.updates(), [])

    def test_a_disabled_device(self) -> None:
        self.updates()
        self.assertIsNone(self.ask("Toy.Psu.enable", "set", False))
        self.assertEqual(self.updates(), [{"Toy.Psu.enable": False}])
        self.assertIsNone(self.ask("Toy.Psu.Add", "__call__", 1))
        self.assertEqual(self.ask("Toy.Psu.Volts", "get"), 7.5)
        self.assertIsNone(self.ask("Toy.Psu.Volts", "set", 4.0))
        self.assertEqual(self.ask("Toy.Regs.Pulse", "__call__"), None)
        self.ask("Toy.Psu.enable", "set", True)
        self.assertEqual(self.ask("Toy.Psu.Add", "__call__", 1), 2)
        self.assertIn("PermissionError", self.refused("Toy.enable", "set", False))

    def test_a_slow_one_holds_up_nobody_else(self) -> None:
        slow, body = self.client, encode_binary("Toy.Psu.Slow", "__call__", (3.0,))
        self.assertEqual(slow.send("bin", b"", body), [])
        for number in range(3):
            get = encode_binary("Toy.Psu.Add", "__call__", (number,))
            self.assertEqual(slow.send("bin", b"id", b"", get), [], "in the order asked")
        self.assertEqual(self.toy.client().ask("Toy.Psu.Volts", "get"), 7.5)
        self.assertEqual(slow.send("str", b'{"path": "Toy.Psu.Volts", "attr": "get"}'), [[b"7.5"]])
        self.clock.advance(3.0)
        self.assertEqual(list(map(read_reply, slow.came("bin"))), [3.0, 1, 2, 3])

    def test_a_slow_one_has_its_time(self) -> None:
        body = encode_binary("Toy.Psu.Slow", "__call__", (30.0,))
        self.assertEqual(self.client.send("bin", b"", body), [])
        self.clock.advance(10.0)
        (reply,) = self.client.came("bin")
        self.assertIn("builtins.TimeoutError", read_reply(reply).text)

    def test_a_client_that_goes_on_asking(self) -> None:
        slow = encode_binary("Toy.Psu.Slow", "__call__", (3.0,))
        self.client.send("bin", b"", slow)
        answers = [self.client.send("bin", b"", slow) for _ in range(1005)]
        self.assertEqual([bool(answer) for answer in answers], [False] * 1000 + [True] * 5)
        self.client.vanish()
        self.clock.advance(10.0)
        self.assertEqual(self.client.came("bin"), [])
        self.assertIsNone(self.lab.devices()["toy"].device_queue.busy())


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
        self.toy.subscribers.connections = 0
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
        self.assertIsNone(self.toy.client().ask("Toy.Locks.Use", "get"))
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


class Touched:
    """Unpickling this would run something."""

    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


TOUCHED = pickle.dumps(Touched()), pickle.dumps({"path": "Toy", "args": (Touched(),)})


class BadInputTests(RogueCase):
    """Pickles and texts that mean harm; none is ever run."""

    def setUp(self) -> None:
        super().setUp()
        self.ran: list[str] = []
        self.patch(os, "getpid", lambda: self.ran.append("getpid"))
        self.patch(os, "system", lambda text: self.ran.append(text))

    def check(self, body: bytes) -> str:
        ((_, reply),) = self.client.send("bin", b"", body)
        answer = read_reply(reply)
        self.assertIsInstance(answer, RemoteException)
        self.assertEqual(self.ran, [])
        self.assertEqual(self.ask("Toy.Psu.Volts", "get"), 7.5)
        return str(answer.text)

    def test_names(self) -> None:
        for body in (
            b"cos\ngetpid\n(tR.", b"cposix\nsystem\n(S'exit 1'\ntR.",
            b"cbuiltins\neval\n(S'1'\ntR.", b"c__builtin__\neval\n(S'1'\ntR.",
            b"\x80\x04\x8c\x02os\x8c\x06getpid\x93)R.", *TOUCHED,
            b"(S'exit 1'\nios\nsystem\n.", b"(cos\nsystem\nS'exit 1'\no.",
            b"cnumpy\nload\n(S'x'\ntR.", b"cnumpy.testing._private.utils\nrunstring\n.",
            b"cpyrogue._Variable\nVariableValue\n)\x81.", b"cbuiltins\nException\n(tR.",
            b"ccollections\nnamedtuple\n.", b"cbuiltins\ngetattr\n(cos\nS'system'\ntR.",
        ):  # fmt: skip
            self.assertRegex(self.check(body), "UnpicklingError|TypeError")

    def test_opcodes(self) -> None:
        for body in (b"\x80\x02\x82\x01.", b"\x80\x02\x83\x01\x00.", b"\x80\x02\x84\1\0\0\0.",
                     b"P1\n.", b"\x80\x02K\x01Q.", b"\x80\x05\x97.", b"h\x05.", b"0.", b"R.", b".",
                     b"\x80\xff.", b"garbage", b"\x80", b"}"):  # fmt: skip
            self.assertIn("_pickle.UnpicklingError", self.check(body))

    def test_bombs(self) -> None:
        laughs = b"\x80\x04]\x94" + b"]\x94(" + b"h\x00" * 50 + b"e"
        for number in range(1, 12):
            laughs += b"]\x94(" + b"h%c" % number * 50 + b"e"
        bombs = [
            laughs + b".", b"\x80\x04" + b"]" * 100_000 + b".",
            b"\x80\x04" + b"(" * 100_000 + b"t" * 100_000 + b".",
            b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx.", b"\x80\x04B\xff\xff\xff\x7fx.",
            b"\x80\x04r\xff\xff\xff\x7f.", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7fN.",
            b"\x80\x04\x8b\xff\xff\xff\x7f.", b"I" + b"9" * 100_000 + b"\n.",
            pickle.dumps({"path": "Toy", "args": list(range(300_000))}),
        ]  # fmt: skip
        for bomb in bombs:
            self.assertRegex(self.check(bomb), "UnpicklingError|TypeError|ValueError")

    def test_requests_that_are_none(self) -> None:
        for value in (
            [1], 3, None, "x", {}, {"path": 3}, {"path": None}, {"path": ["a"]}, {"path": b"Toy"},
            {"path": "Toy", "attr": 3}, {"path": "Toy", "attr": "name", "args": 3},
            {"path": "Toy", "attr": "name", "args": "ab"}, {"path": "Toy"},
            {"path": "Toy", "attr": "name", "kwargs": []}, {1: 2},
            {"path": "Toy", "attr": "name", "kwargs": {1: 2}},
        ):  # fmt: skip
            self.assertTrue(self.check(pickle.dumps(value, 4)))
            try:
                body = json.dumps(value).encode()
            except TypeError:
                continue
            if not isinstance(value, dict) or 1 not in value:
                ((reply,),) = self.client.send("str", body)
                self.assertTrue(reply.startswith(b"EXCEPTION: "), (value, reply))

    def test_texts(self) -> None:
        for body in (b"", b"garbage", b"\xff\xfe", b"[" * 100_000, b'{"path": "Toy"', b"null",
                     b'{"path": "Toy", "attr": "name"}\0', b"\0", b'{"path": NaN}'):  # fmt: skip
            ((_, reply),) = self.client.send("str", b"", body)
            self.assertTrue(reply.startswith(b"EXCEPTION: "), body)

    def test_envelopes(self) -> None:
        body = encode_binary("Toy.Psu.Volts", "mode")
        wanted = pickle.dumps("RW", 4)
        for envelope in ([], [b""], [b"\1\2\3\4", b""], [b"a", b"b", b""]):
            self.assertEqual(self.client.send("bin", *envelope, body), [[*envelope, wanted]])
        self.assertEqual(self.client.send("bin", b"", b"one", body), [[b"", wanted]])
        for parts in ([b""], [b"", b""], [b"", b"", b""], [b"x", b""], [b"x", b"", b""]):
            ((*_, reply),) = self.client.send("bin", *parts)
            self.assertIsInstance(read_reply(reply), RemoteException, parts)

    def test_too_much(self) -> None:
        server = ToyServer(
            self.clock, lab=self.lab, common=ServeOptions(devices=parts_of("toy")), root="Toy",
            max_request=1024, max_reply=2048,
        )  # fmt: skip
        client = server.client()
        self.assertIn("longer than 1024", client.ask("Toy.Psu.Label", "set", "x" * 2000).text)
        self.assertIn("max_reply", client.ask("Toy.Psu.Array", "__call__", 1000).text)
        for kind in ("bin", "str"):
            port, replies = client._port(kind)
            port.messageFailed(client.peers[kind], [b"", *[b"x"] * 65], _too_many())
            ((empty, reply),) = replies.sent.pop(client.peers[kind])
            self.assertIn(b"parts", reply)
            self.assertEqual(empty, b"")

    def test_a_value_that_is_an_update(self) -> None:
        """Only a server may name PyRogue's classes."""
        from labnet.wires.rogue.pickles.writer import dumps

        body = dumps({"path": "Toy", "attr": "name", "args": [VariableValue(1)]})
        self.assertIn("not allowed", self.check(body))


def _too_many() -> Any:
    from twisted.python.failure import Failure

    from labnet.transports.zmq_socket import too_many_parts

    return Failure(too_many_parts())
