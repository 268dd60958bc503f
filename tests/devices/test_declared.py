"""Parameters and commands that a section declares."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.device import Device, ParameterState
from labnet.devices.declared import Declared, parse_command, parse_declarations, parse_parameter
from labnet.errors import DeviceFault
from labnet.values import BOOL, FLOAT, INT, ArrayKind, EnumKind, Limits


class ParameterTests(SynchronousTestCase):
    """Keys that begin with ``parameter``."""

    def test_read_only(self) -> None:
        power = parse_parameter("power", "MEAS:POW?, float, W")
        self.assertEqual((power.ask, power.send, power.access), ("MEAS:POW?", None, "r"))
        self.assertIs(power.kind, FLOAT)
        self.assertEqual(power.options, {"unit": "W"})
        self.assertEqual(power.value(b"1.5E-3\n"), 1.5e-3)

    def test_both_ways_with_limits(self) -> None:
        wave = parse_parameter("wavelength", "SENS:WAV?, SENS:WAV {value}, float, nm, 400..1100")
        self.assertEqual(wave.access, "rw")
        self.assertEqual(wave.options["limits"], (400.0, 1100.0))
        self.assertEqual(wave.message(633.0), "SENS:WAV 633.0")

    def test_write_only(self) -> None:
        level = parse_parameter("level", "LEV {value}, int, , ..5")
        self.assertEqual((level.ask, level.access), (None, "w"))
        self.assertIs(level.kind, INT)
        self.assertEqual(level.options, {"unit": "", "limits": (None, 5.0)})

    def test_choices_bools_and_options(self) -> None:
        given = parse_parameter("range", "RANG?, RANG {value}, LOW | HIGH")
        assert isinstance(given.kind, EnumKind)
        self.assertEqual(list(given.kind.choices), ["LOW", "HIGH"])
        output = parse_parameter("out", "OUTP?, OUTP {value}, bool, poll=0.5, help=the relay")
        self.assertIs(output.kind, BOOL)
        self.assertEqual(output.options, {"poll": 0.5, "help": "the relay"})
        self.assertEqual(output.message(True), "OUTP 1")
        self.assertIs(output.value(b"0\n"), False)

    def test_quotes_keep_commas(self) -> None:
        volts = parse_parameter("volts", '"MEAS:VOLT? 10,""x""", float, V')
        self.assertEqual(volts.ask, 'MEAS:VOLT? 10,"x"')

    def test_arrays(self) -> None:
        trace = parse_parameter("trace", "CURV?, array, V")
        assert isinstance(trace.kind, ArrayKind)
        self.assertEqual(trace.value(b"1,2.5,-3\n").tolist(), [1.0, 2.5, -3.0])
        block = parse_parameter("block", "CURV?, block <i2")
        self.assertEqual(block.value(b"#14\x01\x00\x02\x00\n").tolist(), [1, 2])

    def test_what_is_no_value(self) -> None:
        power = parse_parameter("power", "P?, float")
        error = self.assertRaises(DeviceFault, power.value, b"overload")
        self.assertEqual(str(error), "power: 'overload' was answered, no float")

    def test_mistakes(self) -> None:
        for text, words in (
            ("", "neither"),
            ("P?, flaot", "is no kind of value"),
            ("P?, float, W, 1-2", "no limits"),
            ("P?, float, W, 1..2, more", "too many"),
            ("P?, float, W, a..2", "not a number"),
            ("P?, float, W, 5..1", "lower limit comes first"),
            ("P?, float, W, nan..1", "lower limit comes first"),
            ("P?, block V9", "no type of numbers"),
            ("P?, A | A", "differ"),
            ("P?, float, poll=soon", "not a number"),
        ):
            error = self.assertRaises(ValueError, parse_parameter, "power", text)
            self.assertIn(words, str(error))
        self.assertRaises(ValueError, parse_parameter, "1st", "P?")

    @given(st.text(max_size=60))
    def test_any_text_gives_a_parameter_or_a_sentence(self, text: str) -> None:
        try:
            parameter = parse_parameter("x", text)
        except ValueError as error:
            self.assertNotIn("Traceback", str(error))
        else:
            self.assertTrue(parameter.ask or parameter.send)


class CommandTests(SynchronousTestCase):
    """Keys that begin with ``command``."""

    def test_plain(self) -> None:
        zero = parse_command("zero", "SENS:ZERO")
        self.assertFalse(zero.answers)
        self.assertEqual(zero.filled(), "SENS:ZERO")

    def test_arguments_and_answer(self) -> None:
        move = parse_command("move", '"MOVE? {axis},{by}", axis: int, by: float, float')
        self.assertEqual([it.kind for it in move.arguments], [INT, FLOAT])
        self.assertEqual(move.filled(1, by=2.5), "MOVE? 1,2.5")
        self.assertEqual(move.value(b"7\n"), 7.0)

    def test_stop_is_urgent(self) -> None:
        self.assertTrue(parse_command("stop", "ABOR").spec().urgent)

    def test_mistakes(self) -> None:
        self.assertRaises(ValueError, parse_command, "zero", "")
        error = self.assertRaises(ValueError, parse_command, "zero", "ZERO, far: int")
        self.assertEqual(str(error), "there is no {far} in the message")


class DeviceTests(SynchronousTestCase):
    """What a device gets."""

    def setUp(self) -> None:
        self.sent: list[str] = []
        self.answers = {"WAV?": b"633.0\n", "COUNT?": b"4\n"}
        self.device = Device()
        declared = parse_declarations(
            {
                "driver": "visa",
                "parameter wavelength": "WAV?, WAV {value}, float, nm, 400..1100",
                "command zero": "ZERO {seconds}, seconds: float",
                "command count": "COUNT?, int",
            }
        )
        declared.add_to(self.device, self.answers.__getitem__, self.sent.append)

    def state(self, name: str) -> Any:
        return self.device.members[name]

    def test_parameter(self) -> None:
        state = self.state("wavelength")
        assert isinstance(state, ParameterState)
        self.assertEqual(state.spec.limits, Limits(400, 1100))
        self.assertEqual(state.getter and state.getter(), 633.0)
        assert state.setter is not None
        self.assertIsNone(state.setter(800.0))
        self.assertEqual(self.sent, ["WAV 800.0"])

    def test_commands(self) -> None:
        self.state("zero").function(0.5)
        self.assertEqual(self.sent, ["ZERO 0.5"])
        self.assertEqual(self.state("count").function(), 4)

    def test_the_key_is_named(self) -> None:
        error = self.assertRaises(ValueError, parse_declarations, {"parameter p": "P?, flaot"})
        self.assertTrue(str(error).startswith("parameter p: "))

    def test_a_name_stands_once(self) -> None:
        twice = {"parameter p": "P?", "command p": "GO"}
        error = self.assertRaises(ValueError, parse_declarations, twice)
        self.assertEqual(str(error), "command p: there is another 'p' in this section")

    def test_the_same_text_declares_the_same(self) -> None:
        """So that a file that is read again changes nothing."""
        entries = {
            "parameter range": "R?, R {value}, LOW | HIGH",
            "parameter trace": "T?, array",
            "command move": '"MOVE? {x}", x: int, A | B',
        }
        self.assertEqual(parse_declarations(entries), parse_declarations(dict(entries)))
        for key, old, new in (("parameter range", "HIGH", "MID"), ("command move", "int", "float")):
            other = entries | {key: entries[key].replace(old, new)}
            self.assertNotEqual(parse_declarations(entries), parse_declarations(other))

    def test_nothing(self) -> None:
        self.assertEqual(parse_declarations({"resource": "x"}), Declared())

    def test_lists_are_written_with_commas(self) -> None:
        parameter = parse_parameter("xs", "XS {value}, array")
        self.assertEqual(parameter.message(np.array([1.0, 2.0])), "XS 1.0,2.0")
