"""Values as response data, program data as values, and the way there and back."""

from __future__ import annotations

import enum
import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.instrument.arguments import Target, is_limit, take_all
from labnet.instrument.data import Datum, Word
from labnet.instrument.errors import ScpiError
from labnet.instrument.parser import parse
from labnet.instrument.response import ASCII, ArrayFormat, response
from labnet.values import ANY, EnumKind, Kind, LabeledArray, Limits, ListKind, kind_of


class Speed(enum.Enum):
    SLOW = 1
    FASTER = 2


def written(value: Any, annotation: Any = Any, arrays: ArrayFormat = ASCII) -> bytes:
    kind = annotation if isinstance(annotation, Kind) else kind_of(annotation)
    return b"".join(response(value, kind, arrays))


def sent(text: bytes) -> tuple[Datum, ...]:
    (unit,) = parse(b"X " + text)
    assert unit.fault is None, (text, unit.fault)
    return unit.data


def taken(text: bytes, annotation: Any, unit: str = "", **options: Any) -> Any:
    kind = annotation if isinstance(annotation, Kind) else kind_of(annotation)
    arrays = options.pop("arrays", ASCII)
    (value,) = take_all((Target(kind, unit, **options),), sent(text), arrays)
    return value


class ResponseTests(SynchronousTestCase):
    def test_scalars(self) -> None:
        for value, text in (
            (5, b"5"), (2.5, b"2.5"), (5.0, b"5"), (1e6, b"1000000"), (1e-9, b"1E-09"),
            (1e20, b"1E+20"), (math.nan, b"9.91E37"), (math.inf, b"9.9E37"),
            (-math.inf, b"-9.9E37"), (True, b"1"), (False, b"0"), (1 + 2.5j, b"1,2.5"),
            ('a"b', b'"a""b"'), (b"a\nb", b"#13a\nb"), ("\u20ac", b'"?"'), (None, b'""'),
            (np.float64(0.5), b"0.5"), (np.uint8(7), b"7"), (np.bool_(True), b"1"),
        ):  # fmt: skip
            self.assertEqual(written(value), text)
        self.assertEqual(written(None, float | None), b"9.91E37")

    def test_choices(self) -> None:
        kind = EnumKind(("IMMediate", "BUS", "external", "10 nm", 5))
        for value, text in (
            ("IMMediate", b"IMM"), ("BUS", b"BUS"), ("external", b"EXT"), ("10 nm", b'"10 nm"'),
            (5, b"5"),
        ):  # fmt: skip
            self.assertEqual(written(value, kind), text)
        self.assertEqual(written(Speed.FASTER, Speed), b"FASTER")

    def test_choices_alike_stay_long(self) -> None:
        kind = EnumKind(("external_a", "external_b"))
        self.assertEqual(written("external_b", kind), b"EXTERNAL_B")
        self.assertEqual(taken(b"EXTERNAL_B", kind), "external_b")
        self.assertRaises(ScpiError, taken, b"EXT", kind)

    def test_lists(self) -> None:
        self.assertEqual(written([1, 2.5, "a", True, None]), b'1,2.5,"a",1,""')
        self.assertEqual(written([]), b"")
        self.assertEqual(written({"a": 1, "b": [None]}), b'"{""a"": 1, ""b"": [null]}"')

    def test_arrays_as_text(self) -> None:
        self.assertEqual(written(np.array([[1, 2], [3, 4]], "u2")), b"1,2,3,4")
        self.assertEqual(written(np.array([1.5, np.nan])), b"1.5,9.91E37")
        self.assertEqual(written(np.array([True, False])), b"1,0")
        self.assertEqual(written(np.array([1 + 2j])), b"1,2")
        self.assertEqual(written(np.array(["a", "b"])), b'"a","b"')
        self.assertEqual(written(LabeledArray(np.arange(3.0), "x")), b"0,1,2")

    def test_arrays_as_blocks(self) -> None:
        values = np.array([1.0, -2.0])
        self.assertEqual(
            written(values, arrays=ArrayFormat("f", 64)), b"#216" + values.astype(">f8").tobytes()
        )
        self.assertEqual(
            written(values, arrays=ArrayFormat("i", 16, True)), b"#14\x01\x00\xfe\xff"
        )
        self.assertEqual(written(np.array([]), arrays=ArrayFormat("f", 32)), b"#10")
        self.assertEqual(written([1, 2], arrays=ArrayFormat("u", 8)), b"#12\x01\x02")

    def test_arrays_that_do_not_fit(self) -> None:
        for value in (np.array([256]), np.array([-1.0]), np.array([np.nan])):
            self.assertRaises(ScpiError, written, value, Any, ArrayFormat("u", 8))


class ArgumentTests(SynchronousTestCase):
    def refused(self, text: bytes, annotation: Any, number: int, **options: Any) -> None:
        with self.assertRaises(ScpiError) as raised:
            taken(text, annotation, **options)
        self.assertEqual(raised.exception.number, number, text)

    def test_whole_numbers_are_rounded(self) -> None:
        for text, value in ((b"2.4", 2), (b"2.5", 3), (b"-2.5", -3), (b"1e3", 1000)):
            self.assertEqual(taken(text, int), value)
        self.refused(b"INF", int, -222)

    def test_words_for_numbers(self) -> None:
        limits = Limits(-1.0, 10.0)
        self.assertEqual(taken(b"MIN", float, limits=limits), -1)
        self.assertEqual(taken(b"maximum", float, limits=limits), 10)
        self.assertEqual(taken(b"DEF", float, default=3.0), 3)
        self.assertEqual(taken(b"NINF", float), -math.inf)
        self.assertTrue(math.isnan(taken(b"NAN", float)))
        for word in (b"MIN", b"UP", b"DEF"):
            self.refused(word, float, -224)
        self.assertTrue(is_limit((Word("MAX"),)))
        self.assertFalse(is_limit((Word("UP"),)))

    def test_types(self) -> None:
        for text, annotation, number in (
            (b'"1"', float, -104), (b"#10", int, -104), (b"5", str, -104), (b"W", str, -104),
            (b'"a"', bytes, -104), (b"1 V", int, -138), (b"1 V", bool, -138),
            (b"MAYBE", bool, -224), (b'"x"', bool, -104), (b"(@1)", float, -104),
            (b"#10", Speed, -104), (b"1 V", Speed, -138), (b"QUICK", Speed, -224),
            (b"1,2", int, -108), (b"#13abc", np.ndarray, -161),
        ):  # fmt: skip
            self.refused(text, annotation, number)
        with self.assertRaises(ScpiError) as raised:
            take_all((Target(kind_of(int)),), (), ASCII)
        self.assertEqual(raised.exception.number, -109)

    def test_booleans(self) -> None:
        for text, value in (
            (b"ON", True), (b"off", False), (b"1", True), (b"0", False), (b"0.4", False),
            (b"-3", True),
        ):  # fmt: skip
            self.assertIs(taken(text, bool), value)

    def test_choices(self) -> None:
        kind = EnumKind(("IMMediate", "BUS", "10 nm", 5))
        for text, value in (
            (b"imm", "IMMediate"), (b"IMMEDIATE", "IMMediate"), (b'"10 nm"', "10 nm"), (b"5", 5),
            (b"5.0", 5),
        ):  # fmt: skip
            self.assertEqual(taken(text, kind), value)
        self.refused(b"IMME", kind, -224)
        self.refused(b"6", kind, -224)

    def test_several(self) -> None:
        targets = (Target(kind_of(complex)), Target(kind_of(str)), Target(ListKind(ANY)))
        values = take_all(targets, sent(b'1,2,"x",3,W'), ASCII)
        self.assertEqual(values, (1 + 2j, "x", [3, "W"]))

    def test_lists(self) -> None:
        self.assertEqual(taken(b"(@1,3:5)", list[int]), [1, 3, 4, 5])
        self.assertEqual(taken(b"1 mV,2 V", list[float], "V"), [0.001, 2.0])

    def test_arrays(self) -> None:
        np.testing.assert_array_equal(taken(b"1,2.5", np.ndarray), [1, 2.5])
        block = b"#216" + np.array([1.0, 2.0], ">f8").tobytes()
        np.testing.assert_array_equal(taken(block, np.ndarray), [1, 2])
        short = taken(b"#14\x00\x01\xff\xff", np.ndarray, arrays=ArrayFormat("i", 16))
        np.testing.assert_array_equal(short, [1, -1])

    def test_anything(self) -> None:
        for text, value in (
            (b"5", 5), (b"5 V", 5), (b"W", "W"), (b'"a"', "a"), (b"#11x", b"x"),
            (b"(@2:1)", [2, 1]), (b"(1+2)", "1+2"),
        ):  # fmt: skip
            self.assertEqual(taken(text, ANY, "V"), value)


class RoundTripTests(SynchronousTestCase):
    @given(st.floats(allow_nan=False, allow_infinity=False))
    @settings(max_examples=300, deadline=None)
    def test_floats(self, value: float) -> None:
        self.assertEqual(taken(written(value), float), value)

    @given(st.integers(-(10**200), 10**200))
    @settings(max_examples=100, deadline=None)
    def test_ints(self, value: int) -> None:
        self.assertEqual(taken(written(value), int), value)

    @given(st.text(st.characters(max_codepoint=255)))
    @settings(max_examples=100, deadline=None)
    def test_strings(self, value: str) -> None:
        self.assertEqual(taken(written(value), str), value)

    @given(st.binary())
    @settings(max_examples=100, deadline=None)
    def test_blocks(self, value: bytes) -> None:
        self.assertEqual(taken(written(value), bytes), value)

    @given(st.lists(st.integers(-100, 100), min_size=1), st.sampled_from("fi"), st.booleans())
    @settings(max_examples=100, deadline=None)
    def test_arrays(self, values: list[int], letter: str, swapped: bool) -> None:
        arrays = ArrayFormat(letter, 32, swapped)
        array = np.array(values)
        block = written(array, arrays=arrays)
        np.testing.assert_array_equal(taken(block, np.ndarray, arrays=arrays), array)
