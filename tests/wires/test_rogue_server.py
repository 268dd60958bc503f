"""What a Rogue server does with requests, in memory."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, parameter
from labnet.lab import ServeOptions
from labnet.wires.rogue.codec import encode_binary
from labnet.wires.rogue.model import RemoteException
from labnet.wires.rogue.pickles.reader import read_reply
from tests.wires.rogue_case import Motor, RogueCase
from tests.wires.rogue_toy import ToyServer


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


class ProtocolTests(RogueCase):
    def test_all_protocols_of_pickle(self) -> None:
        for protocol in range(6):
            values = np.array([1.5, float(protocol)])
            request = {"path": "Toy.Psu.Wave", "attr": "set", "args": (values,), "kwargs": {}}
            replies = self.client.send("bin", b"", pickle.dumps(request, protocol))
            self.assertEqual(replies, [[b"", pickle.dumps(None, 4)]], protocol)
            self.assertEqual(self.ask("Toy.Psu.Wave", "get").tolist(), values.tolist())


class LenientTests(RogueCase):
    options = {"strict_types": False}

    def test_an_int_for_a_float(self) -> None:
        self.assertIsNone(self.ask("Toy.Psu.Volts", "set", 3))
        self.assertEqual(self.ask("Toy.Psu.Volts", "get"), 3.0)


class Broken(Device):
    """Nothing of it can be read."""

    reads = 0

    def fail(self) -> None:
        self.reads += 1
        raise OSError("no answer")

    @parameter
    def level(self) -> float:
        self.fail()
        return 0.0

    @parameter
    def trace(self) -> np.ndarray:
        self.fail()
        return np.zeros(1)

    @parameter
    async def late(self) -> Any:
        self.fail()


class BrokenDeviceTests(SynchronousTestCase):
    """PyDM shows no tree at all where a property of some node in it cannot be had."""

    def test_its_nodes_are_shown(self) -> None:
        clock = Clock()
        broken = Broken()
        toy = ToyServer(clock, {"broken": broken, "motor": Motor()}, root="Toy")
        self.addCleanup(toy.lab.stop)
        ask = toy.client().ask
        self.assertEqual(ask("Toy.broken.level", "typeStr"), "float")
        self.assertEqual(broken.reads, 0, "for this nothing is read")
        self.assertEqual(ask("Toy.broken.trace", "typeStr"), "array")
        self.assertEqual(ask("Toy.broken.late", "typeStr"), "str")
        for name in ("level", "trace", "late"):
            for prop in ask("Toy.broken", name).props:
                if prop != "lock":
                    self.assertNotIsInstance(ask(f"Toy.broken.{name}", prop), RemoteException)
            self.assertIn("no answer", ask(f"Toy.broken.{name}", "get").text)
            self.assertIn("no answer", ask(f"Toy.broken.{name}", "value").text)
        self.assertIn("position: 1.0", ask("Toy", "getYaml"))
        self.assertEqual(self.flushLoggedErrors(), [])


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

    def test_the_value_of_a_command(self) -> None:
        """PyDM's buttons ask for it before the first call, and know no None."""
        for path, value, kind in (
            ("Psu.Clear", 0, "int"), ("Psu.Add", 0, "int"), ("Psu.Slow", 1.0, "float"),
            ("motor.move", 0.0, "float"), ("motor.name_it", "", "str"), ("ReadAll", 0, "int"),
            ("Locks.Lock", "", "str"), ("Psu.Echo", "", "str"), ("Psu.ReadDevice", 0, "int"),
        ):  # fmt: skip
            told = self.ask(f"Toy.{path}", "getVariableValue", False)
            self.assertEqual((told.value, told.severity), (value, "None"), path)
            self.assertIs(type(told.value), type(value), path)
            self.assertEqual(told.value_disp, str(value))
            self.assertEqual(self.ask(f"Toy.{path}", "typeStr"), kind, path)
            self.assertEqual(self.ask(f"Toy.{path}", "mode"), "WO", path)
        self.updates()
        self.ask("Toy.Psu.Echo", "__call__", arg=None)
        self.assertEqual(self.updates(), [{"Toy.Psu.Echo": ""}])

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

    def test_what_enable_is_shown_as(self) -> None:
        """PyDM looks for the text of each value among those of the enum."""
        common = ServeOptions(devices={"bench": "toy"})
        ask = ToyServer(self.clock, lab=self.lab, common=common, root="Toy").client().ask
        inner, outer = "Toy.bench.Psu.enable", "Toy.bench.enable"
        enum = ask(inner, "enum")
        self.assertEqual(list(enum), [False, True, "parent", "deps"])
        self.assertEqual((ask(inner, "typeStr"), ask(inner, "disp")), ("bool", "enum"))
        ask(outer, "set", False)
        self.assertEqual(ask(inner, "get"), "parent")
        self.assertEqual(ask(inner, "getDisp"), enum["parent"])
        self.assertEqual(ask(inner, "getVariableValue").value_disp, enum["parent"])
        for word in ("parent", "deps"):
            self.assertIsNone(ask(outer, "set", word), "as PyRogue: nothing is done")
        self.assertIs(ask(outer, "get"), False)
        ask(outer, "setDisp", "True")
        self.assertIs(ask(inner, "get"), True)
        self.assertIs(ask(inner, "isVariable"), True)
        self.assertIs(ask("Toy.bench.Psu.Clear", "isVariable"), False)

    def test_a_text_keeps_the_type_of_an_array(self) -> None:
        self.ask("Toy.Psu.Wave", "setDisp", "[1, 2, 3, 4]")
        self.assertEqual(self.ask("Toy.Psu.Wave", "typeStr"), "float64(4,)")
        self.assertEqual(self.ask("Toy.Psu.Wave", "getDisp"), "[1.0, 2.0, 3.0, 4.0]")
        self.ask("Toy.Psu.Hist", "setDisp", "[4, 5]")
        self.assertEqual(self.ask("Toy.Psu.Hist", "typeStr"), "int32(2,)")
        self.assertIn("array of int32", self.refused("Toy.Psu.Hist", "setDisp", "[0.5]"))

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
