"""Program messages taken apart: units, header paths, data, faults; nothing but these comes out."""

from __future__ import annotations

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.instrument.data import (
    Block,
    Datum,
    Expression,
    Number,
    Text,
    Word,
    channel_list,
    in_unit,
    suffixes,
)
from labnet.instrument.errors import ScpiError
from labnet.instrument.parser import MAX_DATA, MAX_UNITS, Unit, parse


def one(message: bytes) -> Unit:
    (unit,) = parse(message)
    return unit


def data(text: bytes) -> tuple[Datum, ...]:
    unit = one(b"X " + text)
    assert unit.fault is None, unit.fault
    return unit.data


def told(unit: Unit) -> object:
    """What a unit says, with its fault as a number."""
    return unit.header, unit.absolute, unit.data, unit.fault and unit.fault.number


def fault(message: bytes) -> int:
    """The fault of the first unit."""
    found = parse(message)[0].fault
    assert found is not None
    return found.number


class HeaderTests(SynchronousTestCase):
    def headers(self, message: bytes) -> list[str]:
        return [unit.header for unit in parse(message)]

    def test_path(self) -> None:
        self.assertEqual(
            self.headers(b"trig:sour bus;coun 3;*CLS;:volt?;:A:B:C 1;D;E:F;G"),
            ["TRIG:SOUR", "TRIG:COUN", "*CLS", "VOLT?", "A:B:C", "A:B:D", "A:B:E:F", "A:B:E:G"],
        )

    def test_line_feed_leads_to_the_root(self) -> None:
        self.assertEqual(self.headers(b"TRIG:SOUR BUS\nCOUN 3\r\n"), ["TRIG:SOUR", "COUN"])

    def test_flags(self) -> None:
        common, absolute, relative = parse(b"*IDN?;:A?;B")
        self.assertEqual((common.common, common.query), (True, True))
        self.assertEqual((absolute.absolute, absolute.query), (True, True))
        self.assertEqual((relative.absolute, relative.query), (False, False))

    def test_empty_units(self) -> None:
        self.assertEqual(self.headers(b" ;; A ; ;B;\r"), ["A", "B"])
        self.assertEqual(parse(b""), ())

    def test_bad_headers(self) -> None:
        self.assertEqual(fault(b"5A 1"), -101)
        self.assertEqual(fault(b"A$ 1"), -101)
        self.assertEqual(fault(b'A"x;y"'), -103)
        self.assertEqual(fault(b":*IDN?"), -113)
        self.assertEqual(fault(b"A::B"), -101)

    def test_after_a_bad_unit(self) -> None:
        bad, good = parse(b'A:B "x;",$ ;C 1')
        self.assertEqual((bad.header, bad.fault and bad.fault.number), ("A:B", -101))
        self.assertEqual((good.header, good.data), ("A:C", (Number(1),)))

    def test_bounds(self) -> None:
        units = parse(b"A;" * (MAX_UNITS + 5))
        self.assertEqual(len(units), MAX_UNITS + 1)
        last = units[-1].fault
        self.assertEqual(last and last.number, -223)
        self.assertEqual(fault(b"A " + b"1," * MAX_DATA + b"1"), -223)


class DataTests(SynchronousTestCase):
    def test_numbers(self) -> None:
        self.assertEqual(
            data(b"5,+5,-5,.5,5.,2.5E-3,1 e +2,-.5e1"),
            tuple(map(Number, (5, 5, -5, 0.5, 5.0, 0.0025, 100.0, -5.0))),
        )

    def test_whole_numbers_stay_exact(self) -> None:
        self.assertEqual(data(b"123456789012345678901"), (Number(123456789012345678901),))

    def test_other_bases(self) -> None:
        self.assertEqual(data(b"#HfF,#q17,#B101"), (Number(255), Number(15), Number(5)))

    def test_suffixes(self) -> None:
        self.assertEqual(
            data(b"1 mV,2kHz,3 M/S,4 %"),
            (Number(1, "MV"), Number(2, "KHZ"), Number(3, "M/S"), Number(4, "%")),
        )

    def test_words_and_strings(self) -> None:
        self.assertEqual(
            data(b"max, \"a\"\"b;\" ,'c''d'"), (Word("MAX"), Text('a"b;'), Text("c'd"))
        )

    def test_blocks(self) -> None:
        self.assertEqual(data(b"#13\n;,,#10"), (Block(memoryview(b"\n;,")), Block(memoryview(b""))))
        self.assertEqual(data(b"#0abc;d\n"), (Block(memoryview(b"abc;d")),))

    def test_blocks_are_not_copied(self) -> None:
        message = bytearray(b"X #3100" + bytes(100))
        (block,) = one(message).data
        assert isinstance(block, Block)
        message[-1] = 7
        self.assertEqual(block.data[-1], 7)

    def test_expressions(self) -> None:
        self.assertEqual(data(b"(@1,3:5),((a)\")\")"), (Expression("@1,3:5"), Expression('(a)")"')))

    def test_faults(self) -> None:
        for text, number in (
            (b"1,", -109), (b",1", -109), (b"1 2", -103), (b"$", -101), (b'"abc', -151),
            (b"#Axyz", -161), (b"#15ab", -161), (b"#2x", -161), (b"#HG", -121), (b"#B12", -121),
            (b"(1;2)", -171), (b"1e40000", -123), (b"1e400", -123), (b"1" * 256, -124),
            (b"+", -121), (b"\xff", -101),
        ):  # fmt: skip
            self.assertEqual(fault(b"X " + text), number, text)

    def test_channel_lists(self) -> None:
        self.assertEqual(channel_list("@1,3:5, 9:7"), [1, 3, 4, 5, 9, 8, 7])
        self.assertEqual(channel_list("@"), [])
        for text in ("1,2", "@1:", "@a", "@1,,2", "@0:999999999"):
            self.assertRaises(ScpiError, channel_list, text)


class UnitTests(SynchronousTestCase):
    def test_multipliers(self) -> None:
        for value, suffix, unit, wanted in (
            (2500, "MV", "V", 2.5), (1, "MHZ", "Hz", 1e6), (1, "MOHM", "Ohm", 1e6),
            (1, "MAV", "V", 1e6), (1.5, "KHZ", "Hz", 1500), (1, "UM", "nm", 1000),
            (633, "NM", "nm", 633), (1, "M", "mm", 1000), (2, "CM", "cm", 2), (5, "S", "s", 5),
            (2, "MIN", "s", 120), (1, "M/S", "mm/s", 1000), (3, "DBM", "dBm", 3),
            (1, "US", "\xb5s", 1), (20, "CEL", "\xb0C", 20), (5, "PCT", "%", 5), (1, "PA", "Pa", 1),
            (7, "PX", "px", 7), (1, "KG", "kg", 1), (1, "G", "kg", 0.001), (1, "EXHZ", "Hz", 1e18),
        ):  # fmt: skip
            self.assertEqual(in_unit(Number(value, suffix), unit), wanted, (suffix, unit))

    def test_rounding(self) -> None:
        """2500 mV is 2.5 V to the last digit, and so is whatever has a short decimal form."""
        for milli in range(1, 3000, 7):
            self.assertEqual(in_unit(Number(milli, "MV"), "V"), milli / 1000)

    def test_refused(self) -> None:
        for suffix, unit, number in (
            ("HZ", "V", -131), ("FOO", "V", -131), ("V", "", -138), ("KPX", "px", -131),
        ):  # fmt: skip
            with self.assertRaises(ScpiError) as raised:
                in_unit(Number(1, suffix), unit)
            self.assertEqual(raised.exception.number, number)

    @given(st.text(max_size=12))
    @settings(deadline=None)
    def test_any_unit_takes_itself(self, unit: str) -> None:
        table = suffixes(unit)
        self.assertTrue(all(math.isfinite(factor) for factor in table.values()))


class PropertyTests(SynchronousTestCase):
    @given(st.one_of(st.binary(max_size=80), st.text("A*:?;, \n\"'#012()@.eE+-", max_size=60)))
    @settings(max_examples=1000, deadline=None)
    @example(b"A #0")
    @example(b"A #")
    def test_anything_can_be_parsed(self, message: bytes | str) -> None:
        sent = message if isinstance(message, bytes) else message.encode()
        units = parse(sent)
        self.assertEqual(list(map(told, units)), list(map(told, parse(memoryview(sent)))))
        for unit in units:
            self.assertTrue(unit.nodes or unit.fault)

    @given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
    @settings(max_examples=200, deadline=None)
    def test_numbers_come_through(self, values: list[float]) -> None:
        text = ",".join(map(repr, values)).encode()
        self.assertEqual([datum.value for datum in data(text)], values)  # type: ignore[union-attr]

    @given(st.text(st.characters(max_codepoint=255)))
    @settings(max_examples=200, deadline=None)
    def test_strings_come_through(self, text: str) -> None:
        sent = b'"' + text.replace('"', '""').encode("latin-1") + b'"'
        self.assertEqual(data(sent), (Text(text),))
