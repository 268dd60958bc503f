"""A PyRogue tree as a device of the lab."""

from __future__ import annotations

from typing import Any

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from labnet.devices.remote.rogue import RogueDevice, kind_from
from labnet.errors import (
    DeviceFault,
    NotConnected,
    NotReadable,
    NotWritable,
    OutOfRange,
    UnknownName,
)
from labnet.supervision import Retry
from labnet.testing import MemoryLab
from labnet.updates import Update
from labnet.values import ANY, BOOL, BYTES, FLOAT, INT, STR, ArrayKind, EnumKind
from labnet.wires.rogue.described import VariableInfo
from labnet.wires.rogue.model import VariableValue
from tests.wires.rogue_served import FakeServer

PSU = "Toy.Psu"


class RogueCase(SynchronousTestCase):
    """A lab with one device, which is a fake Rogue server with a recorded tree."""

    def setUp(self) -> None:
        self.lab = MemoryLab(retry=Retry(first=1.0, longest=4.0, jitter=0.0))
        self.server = server = FakeServer(self.lab.net)
        self.addCleanup(self.lab.close)
        server.values |= {f"{PSU}.Volts": 2.0, f"{PSU}.Mode": 1, f"{PSU}.Wave": np.arange(3.0)}
        for name, props in {
            "Volts": {"units": "V", "minimum": 0.0, "maximum": 30.0, "disp": "{:.3f}",
                      "lowAlarm": 1.0, "highWarning": 28.0},
            "Mode": {"enum": {0: "Off", 1: "CV", 2: "CC"}, "typeStr": "int"},
            "Wave": {"typeStr": "float64(3,)"},
            "Label": {"typeStr": "str"},
            "Serial": {"mode": "RO", "typeStr": "str"},
            "Pin": {"mode": "WO", "typeStr": "int"},
            "Add": {"arg": True, "typeStr": "int"},
            "On": {"enum": {False: "False", True: "True"}, "typeStr": "bool", "disp": "enum"},
        }.items():  # fmt: skip
            server.props |= {(f"{PSU}.{name}", prop): value for prop, value in props.items()}

    def attach(self, **options: Any) -> None:
        device = RogueDevice("fake:9099", dial=self.server.dial, clock=self.lab.net, **options)
        self.device = device
        self.node = self.lab.attach("toy", device)
        self.lab.advance(1.0)
        self.session = self.lab.session(device="toy", timeout=10.0)
        self.updates: list[Update] = []

    def listen(self, *paths: str) -> None:
        self.session.subscribe(paths, self.updates.extend)

    def get(self, path: str) -> Any:
        return self.lab.wait(self.session.get(path)).value

    def asked(self, attr: str) -> list[tuple[str, tuple[Any, ...]]]:
        """What the server was asked under an attribute of variables of ``Toy.Psu``."""
        return [(path[8:], args) for path, what, args in self.server.calls if what == attr]


class Members(RogueCase):
    """What the lab knows of the tree."""

    def setUp(self) -> None:
        super().setUp()
        self.attach(exclude=())

    def spec(self, path: str) -> Any:
        return self.node.find(path.split(".")).spec

    def test_a_number(self) -> None:
        spec = self.spec("Psu.Volts")
        self.assertEqual((spec.kind, spec.unit, spec.display), (FLOAT, "V", "{:.3f}"))
        self.assertEqual((spec.limits.low, spec.limits.high), (0.0, 30.0))
        self.assertEqual((spec.alarms.low, spec.warnings.high), (1.0, 28.0))
        self.assertEqual((spec.access, spec.initial), ("rw", 2.0))

    def test_an_enum_and_a_truth_value(self) -> None:
        self.assertEqual(dict(self.spec("Psu.Mode").choices), {0: "Off", 1: "CV", 2: "CC"})
        self.assertIs(self.spec("Psu.On").kind, BOOL)

    def test_an_array(self) -> None:
        self.assertEqual(str(self.spec("Psu.Wave").kind), "array of float64")

    def test_access(self) -> None:
        self.assertEqual(self.spec("Psu.Serial").access, "r")
        self.assertEqual(self.spec("Psu.Pin").access, "w")

    def test_groups_and_help(self) -> None:
        self.assertEqual(self.spec("Psu.ReadDevice").groups, ("Hidden",))
        self.assertEqual(self.spec("Time").groups, ("NoSql", "Hidden"))
        self.assertTrue(any(node.spec.help for node in self.node.parameters()))

    def test_numbered_children_and_commands(self) -> None:
        self.assertEqual(self.spec("Ch[1].Gain").kind, FLOAT)
        self.assertEqual([a.name for a in self.spec("Psu.Add").arguments], ["arg"])
        self.assertEqual(self.spec("Psu.Clear").arguments, ())
        self.assertTrue(self.spec("Ramp.Stop").stop)

    def test_what_the_tree_does_not_show(self) -> None:
        self.assertRaises(UnknownName, self.spec, "Psu.Unserved")


class Choice(RogueCase):
    """Only some groups, or only a part."""

    def test_what_is_hidden_is_left_out(self) -> None:
        self.attach()
        names = set(self.node.children)
        self.assertLessEqual({"LocalTime", "enable", "Psu"}, names)
        self.assertFalse({"ReadDevice", "Time", "SystemLog"} & names)

    def test_a_part(self) -> None:
        for number, part in enumerate(("Psu", "Toy.Psu", "root.Psu")):
            device = RogueDevice("fake", dial=self.server.dial, clock=self.lab.net, node=part)
            self.lab.attach(f"psu{number}", device)
            self.lab.advance(1.0)
            session = self.lab.session(device=f"psu{number}")
            self.assertEqual(self.lab.wait(session.get("Volts")).value, 2.0)

    def test_a_part_that_is_not_there(self) -> None:
        self.attach(node="Psv")
        failed = self.session.get("Volts")
        self.assertIn("Toy.Psu", self.failureResultOf(failed).getErrorMessage())

    def test_exclude(self) -> None:
        self.attach(exclude=("Hidden", "Enable"))
        names = set(self.node.children)
        self.assertFalse({"Time", "enable"} & names)

    def test_include(self) -> None:
        self.attach(include=("Enable",))
        self.assertEqual({node.name for node in self.node.parameters()}, {"enable"})

    def test_too_many(self) -> None:
        self.patch(__import__(RogueDevice.__module__, fromlist=["x"]), "MAX_MEMBERS", 5)
        self.attach()
        failed = self.session.get("Psu.Volts")
        self.assertIn("include or exclude", self.failureResultOf(failed).getErrorMessage())


class Requests(RogueCase):
    """Reading, writing and calling."""

    def setUp(self) -> None:
        super().setUp()
        self.attach()

    def test_get(self) -> None:
        self.server.values[f"{PSU}.Volts"] = 7.5
        self.assertEqual(self.get("Psu.Volts"), 7.5)
        self.assertEqual(self.get("psu.volts"), 7.5)
        self.assertEqual(self.get("Psu.Wave").tolist(), [0.0, 1.0, 2.0])

    def test_set(self) -> None:
        self.lab.wait(self.session.set("Psu.Volts", 3))
        self.lab.wait(self.session.set("Psu.Mode", "CC"))
        self.assertEqual(self.asked("set"), [("Volts", (3.0,)), ("Mode", (2,))])
        self.assertIs(type(self.server.values[f"{PSU}.Volts"]), float)

    def test_limits_are_kept_here(self) -> None:
        self.failureResultOf(self.session.set("Psu.Volts", 99.0), OutOfRange)
        self.failureResultOf(self.session.set("Psu.Mode", "Zap"), OutOfRange)
        self.failureResultOf(self.session.set("Psu.Serial", "x"), NotWritable)
        self.failureResultOf(self.session.get("Psu.Pin"), NotReadable)
        self.assertEqual(self.asked("set"), [])

    def test_call(self) -> None:
        self.assertEqual(self.lab.wait(self.session.call("Psu.Add", 4)), ("called", 4))
        self.assertEqual(self.lab.wait(self.session.call("Psu.Add", arg=5)), ("called", 5))
        self.assertEqual(self.lab.wait(self.session.call("Psu.Clear")), ("called",))

    def test_a_servers_error(self) -> None:
        self.server.errors[f"{PSU}.Volts"] = "pyrogue._Device.DeviceError: no power"
        with self.assertRaises(DeviceFault) as caught:
            self.get("Psu.Volts")
        self.assertEqual(str(caught.exception), "no power")
        self.assertEqual(caught.exception.kind, "DeviceError")
        self.assertIsNone(self.node.device_queue.unavailable)

    def test_enable(self) -> None:
        for value in (True, False, "parent", "deps"):
            self.server.values[f"{PSU}.enable"] = value
            self.assertIs(type(self.get("Psu.enable")), type(value))
        self.lab.wait(self.session.set("Psu.enable", "True"))
        self.assertEqual(self.asked("set"), [("enable", (True,))])

    def test_a_value_of_another_kind(self) -> None:
        self.server.values[f"{PSU}.Volts"] = "much"
        with self.assertRaises(DeviceFault):
            self.get("Psu.Volts")


class Updates(RogueCase):
    """What the server publishes."""

    def setUp(self) -> None:
        super().setUp()
        self.attach()
        self.listen("Psu")
        self.lab.advance(0.0)
        self.updates.clear()

    def told(self) -> list[tuple[str, Any]]:
        self.lab.advance(0.0)
        return [(u.path, u.reading.value) for u in self.updates if u.reading is not None]

    def test_passed_on(self) -> None:
        self.server.publish(Volts=5.0, Mode=2)
        self.assertEqual(self.told(), [("toy.Psu.Volts", 5.0), ("toy.Psu.Mode", 2)])

    def test_alarms(self) -> None:
        self.server.publish(Volts=0.5)
        self.lab.advance(0.0)
        reading = self.updates[-1].reading
        assert reading is not None
        self.assertEqual((reading.status, reading.severity), ("AlarmLoLo", "AlarmMajor"))

    def test_no_news(self) -> None:
        self.server.publish(Volts=5.0)
        self.server.publish(Volts=5.0)
        self.assertEqual(len(self.told()), 1)

    def test_arrays(self) -> None:
        self.server.publish(Wave=np.ones(4))
        ((path, value),) = self.told()
        self.assertEqual((path, value.tolist()), ("toy.Psu.Wave", [1.0] * 4))
        self.assertFalse(value.flags.writeable)

    def test_values_of_another_kind(self) -> None:
        self.server.publish(Volts="much", Mode=9, Label="x")
        self.assertEqual([path for path, _ in self.told()], ["toy.Psu.Label"])


class Polling(RogueCase):
    """A server that does not poll its hardware."""

    def test_what_somebody_listens_to(self) -> None:
        self.attach(poll=0.5)
        self.listen("Psu.Volts")
        self.lab.advance(1.0)
        self.server.values[f"{PSU}.Volts"] = 4.0
        self.server.calls.clear()
        for _ in range(4):
            self.lab.advance(0.5)
        self.assertEqual({name for name, _ in self.asked("get")}, {"Volts"})
        reading = self.updates[-1].reading
        assert reading is not None
        self.assertEqual(reading.value, 4.0)


class Losses(RogueCase):
    """A server that falls silent, and comes back."""

    def setUp(self) -> None:
        super().setUp()
        self.attach(silence=4.0, answer=2.0)
        self.listen("Psu.Volts")

    def whats(self) -> list[str]:
        self.lab.advance(0.0)
        whats, self.updates[:] = [u.what for u in self.updates if u.what != "value"], []
        return whats

    def test_lost_and_back(self) -> None:
        self.server.silent = True
        self.lab.advance(5.0)
        self.assertEqual(self.whats(), ["lost"])
        with self.assertRaises(NotConnected):
            self.get("Psu.Volts")
        self.server.silent = False
        self.server.values[f"{PSU}.Volts"] = 9.0
        self.lab.advance(10.0)
        self.assertIn("back", self.whats())
        self.assertEqual(self.get("Psu.Volts"), 9.0)
        self.server.publish(Volts=4.0)
        self.lab.advance(0.0)
        self.assertEqual(self.updates[-1].reading.value, 4.0)  # type: ignore[union-attr]
        self.assertEqual(sum(not sub.closed for sub in self.server.subs), 1)

    def test_an_answer_that_does_not_come(self) -> None:
        self.server.silent = True
        failed = self.session.get("Psu.Volts")
        self.lab.advance(20.0)
        self.failureResultOf(failed)
        self.assertIsNotNone(self.node.device_queue.unavailable)

    def test_a_long_command_is_no_loss(self) -> None:
        """A real server answers nobody while it runs, but goes on publishing."""
        self.patch(type(self.server.links[-1]), "_answer", lambda link, parts: None)
        failed = self.session.get("Psu.Volts", timeout=3.0)
        for volts in range(10):
            self.lab.advance(1.0)
            self.server.publish(Volts=float(volts))
        self.failureResultOf(failed)
        self.assertIsNone(self.node.device_queue.unavailable)

    def test_not_there_at_start(self) -> None:
        self.server.silent = True
        device = RogueDevice("fake:9103", dial=self.server.dial, clock=self.lab.net, answer=2.0)
        node = self.lab.attach("other", device)
        self.lab.advance(3.0)
        self.assertIn("fake:9103", str(node.device_queue.unavailable))
        self.server.silent = False
        self.lab.advance(10.0)
        self.assertIsNone(node.device_queue.unavailable)


class Kinds(SynchronousTestCase):
    """Kinds of value from what the server tells."""

    def test_by_type(self) -> None:
        for word, kind in (
            ("float", FLOAT), ("Float32", FLOAT), ("Double", FLOAT), ("Fixed", FLOAT), ("int", INT),
            ("UInt32", INT), ("Int16", INT), ("UInt7BE", INT), ("Bool", BOOL), ("str", STR),
            ("String", STR), ("bytes", BYTES), ("NoneType", ANY), ("", ANY), ("Interval", ANY),
        ):  # fmt: skip
            self.assertIs(kind_from(VariableInfo(type=word)), kind, word)
        for word in ("float64(4,)", "UInt32[4]", "Bool[16]"):
            self.assertIsInstance(kind_from(VariableInfo(type=word)), ArrayKind)
        for word in ("list", "dict"):
            self.assertEqual(kind_from(VariableInfo(type=word)).name, word)

    def test_by_value(self) -> None:
        value = VariableValue(np.zeros(3, "u4"))
        self.assertEqual(str(kind_from(VariableInfo(value=value))), "array of uint32")

    def test_mixed_enums(self) -> None:
        """``enable`` of a real device."""
        enum = {False: "False", True: "True", "parent": "ParentFalse", "deps": "ExtDepFalse"}
        kind = kind_from(VariableInfo(enum=enum, type="bool"))
        self.assertIsInstance(kind, EnumKind)
        for value in enum:
            self.assertIs(kind.check(value), value)
