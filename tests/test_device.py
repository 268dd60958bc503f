"""What the author of a device writes, and what becomes of it."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import (
    CommandState,
    Deadline,
    Device,
    ParameterState,
    command,
    current_deadline,
    is_message_device,
    parameter,
)
from labnet.errors import (
    BadArguments,
    Cancelled,
    DeviceFault,
    LabError,
    NotReadable,
    NotWritable,
    OutOfRange,
    TimedOut,
    UnknownName,
    WrongType,
)
from labnet.specs import CommandSpec, Identity, ParameterSpec, command_spec, make_spec
from labnet.testing import MemoryLab
from labnet.values import Limits, Reading


class Unit(enum.Enum):
    WATT = "W"
    DBM = "DBM"


class Head(Device):
    temperature = parameter(float, unit="K", initial=293.0, access="r")


class Meter(Device):
    """A meter.

    With a second paragraph.
    """

    wavelength = parameter(float, unit="nm", limits=(400, 1100), initial=633.0, help="of the light")
    unit = parameter(choices=("W", "DBM"), initial="W")
    mode = parameter(Unit)
    gain = parameter(int, limits=(2, 8))
    secret = parameter(str, access="w")
    averaging = parameter(initial=10, groups="default", aliases=("Avg", "n"))

    def __init__(self) -> None:
        self.raw = 1.0
        self.written: list[Any] = []
        self.head = Head()
        self.channels = {1: Head(), 2: Head()}
        self.slots = [Head(), Head()]
        self._private = Head()

    @parameter(unit="W", poll=0.5)
    def power(self) -> float:
        """The power now.

        And more about it.
        """
        return self.raw

    @parameter
    def level(self) -> int:
        return 5

    @level.setter
    def set_level(self, value: int) -> int:
        self.written.append(value)
        return value * 10

    @command
    def zero(self, seconds: float = 1.0, *, force: bool = False) -> str:
        """Zeroes it."""
        return f"zeroed in {seconds} {force}"

    @command(limits={"to": (0, 10)}, units={"to": "mm"}, timeout=30, long=True, groups="moves")
    def move(self, to: float, how: Unit = Unit.WATT) -> None:
        self.written.append((to, how))

    @command
    def stop(self) -> None:
        pass

    @command
    def add(self, *numbers: int, **named: float) -> float:
        return sum(numbers) + sum(named.values())


def state(device: Device, name: str) -> ParameterState:
    member = device.members[name]
    assert isinstance(member, ParameterState)
    return member


def spec(device: Device, name: str) -> CommandSpec:
    member = device.members[name]
    assert isinstance(member, CommandState)
    return member.spec


class DeclarationTests(SynchronousTestCase):
    """What a class says about its parameters and commands."""

    def setUp(self) -> None:
        self.meter = Meter()

    def known(self, name: str) -> ParameterSpec:
        return state(self.meter, name).spec

    def test_members_in_order_of_declaration(self) -> None:
        self.assertEqual(
            [name for name, member in self.meter.members.items() if not isinstance(member, Device)],
            ["wavelength", "unit", "mode", "gain", "secret", "averaging", "power", "level", "zero",
             "move", "stop", "add"],
        )  # fmt: skip

    def test_sub_devices(self) -> None:
        names = [name for name, one in self.meter.members.items() if isinstance(one, Device)]
        self.assertEqual(
            names, ["head", "channels[1]", "channels[2]", "slots[0]", "slots[1]"]
        )

    def test_parameter(self) -> None:
        known = self.known("wavelength")
        self.assertEqual(
            (known.kind.name, known.unit, known.limits, known.help, known.initial, known.access),
            ("float", "nm", Limits(400, 1100), "of the light", 633.0, "rw"),
        )
        self.assertTrue(known.readable and known.writable)
        self.assertEqual(known.format(633.0), "633.0")

    def test_choices(self) -> None:
        self.assertEqual(self.known("unit").choices, {"W": "W", "DBM": "DBM"})
        self.assertEqual(self.known("mode").choices, {"W": "WATT", "DBM": "DBM"})
        self.assertIs(self.known("mode").initial, Unit.WATT)
        self.assertIsNone(self.known("gain").choices)

    def test_kind_from_the_first_value(self) -> None:
        known = self.known("averaging")
        self.assertEqual((known.kind.name, known.groups, known.aliases),
                         ("int", ("default",), ("Avg", "n")))  # fmt: skip

    def test_first_value_lies_within_the_limits(self) -> None:
        self.assertEqual(self.known("gain").initial, 2)
        self.assertEqual(make_spec("x", float, limits=(None, -5)).initial, -5.0)
        self.assertEqual(make_spec("x", float).initial, 0.0)
        self.assertEqual(make_spec("x", str).initial, "")
        self.assertIs(make_spec("x", bool).initial, False)
        self.assertIsNone(make_spec("x", np.ndarray).initial)

    def test_getter(self) -> None:
        known = self.known("power")
        self.assertEqual(
            (known.kind.name, known.unit, known.poll, known.help, known.access),
            ("float", "W", 0.5, "The power now.", "r"),
        )

    def test_getter_and_setter(self) -> None:
        self.assertEqual(self.known("level").access, "rw")
        self.assertNotIn("set_level", self.meter.members)

    def test_command(self) -> None:
        known = spec(self.meter, "zero")
        self.assertEqual((known.help, known.result.name), ("Zeroes it.", "str"))
        self.assertEqual(known.usage(), "zero [seconds] [force]")
        seconds, force = known.arguments
        self.assertEqual((seconds.kind.name, seconds.required, seconds.default),
                         ("float", False, 1.0))  # fmt: skip
        self.assertTrue(force.keyword_only)
        self.assertEqual(known.positional, (seconds,))

    def test_command_options(self) -> None:
        known = spec(self.meter, "move")
        self.assertEqual((known.timeout, known.long, known.groups), (30, True, ("moves",)))
        to = known.arguments[0]
        self.assertEqual((to.limits, to.unit, to.required), (Limits(0, 10), "mm", True))

    def test_a_command_called_stop_stops(self) -> None:
        known = spec(self.meter, "stop")
        self.assertTrue(known.stop and known.urgent)
        self.assertFalse(spec(self.meter, "zero").stop)

    def test_inheritance(self) -> None:
        class Better(Meter):
            gain = parameter(float, initial=0.5)  # type: ignore[assignment]
            zero = None  # this one cannot

            @command
            def extra(self) -> None:
                pass

        better = Better()
        self.assertEqual(state(better, "gain").spec.kind.name, "float")
        self.assertNotIn("zero", better.members)
        self.assertIn("extra", better.members)
        self.assertIn("power", better.members)
        self.assertNotIn("extra", self.meter.members)

    def test_setter_of_a_subclass(self) -> None:
        class Deaf(Meter):
            @Meter.level.setter
            def deaf(self, value: int) -> int:
                return 0

        deaf, meter = state(Deaf(), "level").setter, state(self.meter, "level").setter
        assert deaf is not None and meter is not None
        self.assertEqual((deaf(3), meter(3)), (0, 30))
        self.assertNotIn("deaf", Deaf().members)

    def test_instances_share_nothing(self) -> None:
        other = Meter()
        other.wavelength = 500.0
        self.assertEqual(self.meter.wavelength, 633.0)

    def test_no_name_for_any_wire(self) -> None:
        for name in ("", "1st", "a b", "a.b", "\u00e4", "x[", "x[y]", "x[-1]", "x[1]y", "x\n"):
            self.assertRaises(ValueError, self.meter.add_parameter, name, float)
        self.meter.add_parameter("x[12]", float)

    def test_mistakes_are_told_at_once(self) -> None:
        self.assertRaises(WrongType, make_spec, "x", int, initial=1.5)
        self.assertRaises(OutOfRange, make_spec, "x", None, choices=("a",), initial="b")
        self.assertRaises(ValueError, make_spec, "x", float, poll=0.0001)
        self.assertRaises(ValueError, make_spec, "x", float, poll=-1)
        self.assertRaises(ValueError, make_spec, "x", float, poll=math.nan)
        self.assertRaises(TypeError, make_spec, "x", float, colour="red")

    def test_annotations_that_only_a_checker_can_read(self) -> None:
        def function(a: Nowhere) -> Elsewhere:  # type: ignore # noqa: F821
            """Says nothing."""

        self.assertEqual(command_spec("function", function).arguments[0].kind.name, "any")

    def test_identity(self) -> None:
        self.assertEqual(str(Identity("ACME", "PM1", "7", "2.0")), "ACME,PM1,7,2.0")

    def test_message_devices(self) -> None:
        class Speaks(Device):
            def message(self, data: bytes, expect_reply: bool) -> bytes:
                return data

        self.assertTrue(is_message_device(Speaks()))
        self.assertFalse(is_message_device(self.meter))


class PythonTests(SynchronousTestCase):
    """A device as its author uses it, without any lab."""

    def setUp(self) -> None:
        self.meter = Meter()

    def test_stored_parameter(self) -> None:
        self.assertEqual(self.meter.wavelength, 633.0)
        self.meter.wavelength = 700
        self.assertEqual(self.meter.wavelength, 700.0)
        self.assertIs(type(self.meter.wavelength), float)
        with self.assertRaises(WrongType):
            self.meter.wavelength = "red"  # type: ignore[assignment]

    def test_computed_parameter(self) -> None:
        self.assertEqual(self.meter.power, 1.0)
        with self.assertRaises(AttributeError):
            self.meter.power = 2.0

    def test_what_a_method_reads_is_not_assigned(self) -> None:
        with self.assertRaises(AttributeError):
            self.meter.level = 3
        self.assertEqual(self.meter.written, [])

    def test_commands_are_methods(self) -> None:
        self.assertEqual(self.meter.zero(2.0), "zeroed in 2.0 False")

    def test_class_attributes_are_the_descriptors(self) -> None:
        self.assertEqual(Meter.wavelength.name, "wavelength")
        self.assertEqual(Meter.zero.name, "zero")

    def test_store_counts_and_tells(self) -> None:
        told: list[Reading] = []
        one = state(self.meter, "averaging")
        one.notify = told.append
        self.meter.store("averaging", 20)
        self.meter.store("averaging", 20)
        self.assertEqual([reading.value for reading in told], [20, 20])
        self.assertEqual(told[1].sequence, told[0].sequence + 1)
        self.assertEqual(one.reading, told[1])

    def test_store_minds_the_kind(self) -> None:
        with self.assertRaisesRegex(DeviceFault, "the device gave 'many', not int"):
            self.meter.store("averaging", "many")
        self.assertRaises(UnknownName, self.meter.store, "averagin", 5)
        self.assertRaises(UnknownName, self.meter.store, "zero", 5)

    def test_arrays_in_readings_are_read_only(self) -> None:
        trace = self.meter.add_parameter("trace", np.ndarray)
        mine = np.zeros(3)
        self.meter.store("trace", mine)
        self.assertFalse(trace.reading.value.flags.writeable)
        mine[0] = 1  # its owner may

    def test_alarms(self) -> None:
        heat = self.meter.add_parameter("heat", float, warnings=(0, 50), alarms=(-10, 80))
        self.meter.store("heat", 60.0)
        self.assertEqual((heat.reading.status, heat.reading.severity), ("AlarmHigh", "AlarmMinor"))

    def test_change(self) -> None:
        self.meter.change("wavelength", limits=(200, 300), unit="m", groups="light")
        known = state(self.meter, "wavelength").spec
        self.assertEqual((known.limits, known.unit, known.groups),
                         (Limits(200, 300), "m", ("light",)))  # fmt: skip
        self.assertEqual(Meter().members["wavelength"].spec.unit, "nm")  # type: ignore[union-attr]
        for fields in ({"kind": None}, {"name": "x"}, {"aliases": ("x",)}, {"colour": 1}):
            self.assertRaises(TypeError, self.meter.change, "wavelength", **fields)
        self.assertRaises(ValueError, self.meter.change, "wavelength", poll=1e-6)
        self.assertRaises(UnknownName, self.meter.change, "wavelenth", unit="m")


class ArgumentTests(SynchronousTestCase):
    """Arguments of commands, from text and from values."""

    def bound(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return spec(Meter(), name).bind(args, kwargs)

    def test_bind(self) -> None:
        self.assertEqual(self.bound("stop"), ((), {}))
        self.assertEqual(self.bound("zero", 2), ((2.0,), {}))
        self.assertEqual(self.bound("zero", seconds=2, force=True),
                         ((), {"seconds": 2.0, "force": True}))  # fmt: skip
        self.assertEqual(self.bound("move", 5, "DBM"), ((5.0, Unit.DBM), {}))
        self.assertEqual(self.bound("add", 1, 2, x=3), ((1, 2), {"x": 3.0}))

    def test_mistakes(self) -> None:
        for error, name, args, kwargs, words in (
            (BadArguments, "zero", (1, 2), {}, "too many arguments; usage: zero"),
            (BadArguments, "move", (), {}, "missing argument to; usage: move to"),
            (BadArguments, "zero", (), {"second": 1}, "unknown argument second"),
            (BadArguments, "zero", (1,), {"seconds": 1}, "unknown argument seconds"),
            (BadArguments, "stop", (1,), {}, "too many"),
            (BadArguments, "zero", (), {"\n\ud800": 1}, r"unknown argument '\\n\\ud800'"),
            (WrongType, "zero", ("long",), {}, "seconds takes float, not 'long'"),
            (OutOfRange, "move", (11,), {}, "to takes 0 to 10, not 11"),
            (OutOfRange, "move", (math.nan,), {}, "to takes 0 to 10, not nan"),
            (OutOfRange, "move", (1, "K"), {}, "how takes one of"),
            (WrongType, "add", (1.5,), {}, "takes int"),
            (WrongType, "add", (), {"x": "y"}, "x takes float"),
        ):  # fmt: skip
            with self.assertRaisesRegex(error, words):
                self.bound(name, *args, **kwargs)

    def test_parse(self) -> None:
        meter = Meter()
        self.assertEqual(spec(meter, "zero").parse(["1.5"]), (1.5,))
        self.assertEqual(spec(meter, "move").parse(["1", "DBM"]), (1.0, Unit.DBM))
        self.assertEqual(spec(meter, "add").parse(["1", "0x2"]), (1, 2))
        self.assertEqual(spec(meter, "stop").parse(["x", "y"]), ("x", "y"), "bind will refuse them")
        self.assertRaises(LabError, spec(meter, "zero").parse, ["soon"])


class DeadlineTests(SynchronousTestCase):
    """How a call knows what time it has."""

    def test_left(self) -> None:
        clock = Clock()
        deadline = Deadline(5.0, clock.seconds)
        clock.advance(2)
        self.assertEqual(deadline.left(), 3)
        deadline.check("zero")
        clock.advance(3)
        self.assertEqual(deadline.left(), 0)
        with self.assertRaisesRegex(TimedOut, "zero did not finish within 5 s"):
            deadline.check("zero")

    def test_cancelled(self) -> None:
        deadline = Deadline(5.0)
        deadline.cancelled = True
        self.assertEqual(deadline.left(), 0)
        self.assertRaises(Cancelled, deadline.check, "zero")

    def test_without(self) -> None:
        self.assertEqual(Deadline(None).left(), math.inf)
        self.assertIs(Meter().deadline, current_deadline.get())


class Patient(Device):
    """Every way in which a method may give its result."""

    waiting: Deferred[Any]

    @parameter
    def plain(self) -> float:
        return 1

    @parameter
    def later(self) -> Deferred[float]:
        self.waiting = Deferred()
        return self.waiting

    @parameter
    async def coming(self) -> float:
        self.waiting = Deferred()
        return await self.waiting  # type: ignore[no-any-return]

    @parameter
    def wrong(self) -> float:
        return "much"  # type: ignore[return-value]

    @parameter(access="w")
    def hidden(self) -> float:
        return 1.0

    @command
    async def slowly(self) -> str:
        self.waiting = Deferred()
        await self.waiting
        return f"{self.deadline.left():g} s left"

    fixed = parameter(float, access="r")
    blind = parameter(float, access="w")

    @parameter
    def async_set(self) -> float:
        return 0.0

    @async_set.setter
    async def set_async(self, value: float) -> float:
        self.waiting = Deferred()
        return await self.waiting  # type: ignore[no-any-return]


class ResultTests(SynchronousTestCase):
    """Results through a session."""

    def setUp(self) -> None:
        self.lab = MemoryLab()
        self.device = Patient()
        self.lab.attach("patient", self.device)
        self.session = self.lab.session(device="patient", timeout=5.0)

    def test_plain_is_made_to_fit(self) -> None:
        value = self.successResultOf(self.session.get("plain")).value
        self.assertIs(type(value), float)

    def test_deferred_and_coroutine(self) -> None:
        for path in ("later", "coming"):
            reading = self.session.get(path)
            self.assertNoResult(reading)
            self.device.waiting.callback(2)
            self.assertEqual(self.successResultOf(reading).value, 2.0)

    def test_wrong_kind_is_the_device_s_fault(self) -> None:
        fault = self.failureResultOf(self.session.get("wrong"), DeviceFault).value
        self.assertEqual(str(fault), "wrong: the device gave 'much', not float")
        later = self.session.get("later")
        self.device.waiting.callback(None)
        fault = self.failureResultOf(later, DeviceFault).value
        self.assertEqual(str(fault), "later: the device gave nothing, not float")

    def test_deadline_of_a_coroutine(self) -> None:
        result = self.session.call("slowly", timeout=3.0)
        self.lab.advance(1)
        self.device.waiting.callback(None)
        self.assertEqual(self.successResultOf(result), "2 s left")

    def test_access(self) -> None:
        self.failureResultOf(self.session.get("hidden"), NotReadable)
        self.failureResultOf(self.session.get("blind"), NotReadable)
        self.failureResultOf(self.session.set("fixed", 1), NotWritable)
        self.failureResultOf(self.session.set("plain", 1), NotWritable)
        self.assertEqual(self.successResultOf(self.session.set("blind", 1)).value, 1.0)

    def test_async_setter(self) -> None:
        written = self.session.set("async_set", 4)
        self.device.waiting.callback(4.5)
        self.assertEqual(self.successResultOf(written).value, 4.5)
