"""Kinds of value: what belongs to them, how they are read from text and written as text."""

from __future__ import annotations

import enum
import math
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Annotated, Any, Literal, Optional

import numpy as np
import numpy.typing as npt
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import LabError, OutOfRange, WrongType
from labnet.literals import MAX_BITS, MAX_LITERAL, MAX_PYTHON_LITERAL, text_of, written
from labnet.values import (
    ANY,
    BOOL,
    BYTES,
    COMPLEX,
    FLOAT,
    INT,
    NONE,
    STR,
    ArrayKind,
    Axis,
    DictKind,
    EnumKind,
    Kind,
    LabeledArray,
    Limits,
    ListKind,
    OptionalKind,
    alarm,
    frozen,
    kind_of,
)


class Color(enum.Enum):
    RED = 1
    GREEN = 2


KINDS: tuple[Kind, ...] = (
    ANY, NONE, BOOL, INT, FLOAT, COMPLEX, STR, BYTES, EnumKind(("W", "DBM")),
    EnumKind({1: "One", 2: "Two"}), kind_of(Color), ArrayKind(), ArrayKind(float, (None, 2)),
    ArrayKind(np.uint16), ListKind(), ListKind(FLOAT), DictKind(), OptionalKind(FLOAT),
)  # fmt: skip

ITEMS = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(1 << 80), 1 << 80), st.floats(),
        st.complex_numbers(allow_nan=False), st.text(), st.binary(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=5), inner, max_size=4),
    ),
    max_leaves=10,
)  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Equal, of the same type, and a NaN is a NaN."""
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return type(one) is type(other) and bool(one == other)


class RoundTripTests(SynchronousTestCase):
    """What is written is read back as the same value."""

    def there_and_back(self, kind: Kind, value: Any) -> None:
        text = kind.format(value)
        back = kind.parse(text)
        self.assertTrue(same(value, back), f"{value!r} came back as {back!r} from {text!r}")

    @given(st.integers(-(1 << MAX_BITS) + 1, (1 << MAX_BITS) - 1))
    @example((1 << MAX_BITS) - 1)
    def test_int(self, value: int) -> None:
        self.there_and_back(INT, value)

    @given(st.floats())
    def test_float(self, value: float) -> None:
        self.there_and_back(FLOAT, value)

    @given(st.complex_numbers(allow_nan=False))
    def test_complex(self, value: complex) -> None:
        self.there_and_back(COMPLEX, value)

    @given(st.booleans())
    def test_bool(self, value: bool) -> None:
        self.there_and_back(BOOL, value)

    @given(st.text(st.characters()))
    def test_str(self, value: str) -> None:
        self.there_and_back(STR, value)

    @given(st.binary())
    def test_bytes(self, value: bytes) -> None:
        self.there_and_back(BYTES, value)

    @given(st.lists(ITEMS))
    def test_list(self, value: list[Any]) -> None:
        self.there_and_back(ListKind(), value)

    @given(st.lists(st.floats()))
    def test_list_of_floats(self, value: list[float]) -> None:
        self.there_and_back(ListKind(FLOAT), value)

    @given(st.dictionaries(st.text(), ITEMS))
    def test_dict(self, value: dict[Any, Any]) -> None:
        self.there_and_back(DictKind(), value)

    @given(ITEMS.filter(lambda value: not isinstance(value, str)))
    def test_any(self, value: Any) -> None:
        self.there_and_back(ANY, value)

    @given(st.one_of(st.none(), st.integers(-(1 << 80), 1 << 80)))
    def test_optional(self, value: int | None) -> None:
        self.there_and_back(OptionalKind(INT), value)

    @given(st.lists(st.lists(st.floats(), min_size=2, max_size=2), min_size=1))
    def test_array(self, value: list[list[float]]) -> None:
        kind = ArrayKind(float, (None, 2))
        back = kind.parse(kind.format(kind.check(value)))
        np.testing.assert_array_equal(back, np.array(value))

    @given(st.lists(st.text(st.characters(exclude_characters="\0")), min_size=1))
    def test_array_of_texts(self, value: list[str]) -> None:
        kind = ArrayKind()
        np.testing.assert_array_equal(kind.parse(kind.format(np.array(value))), np.array(value))

    @given(st.sampled_from(KINDS), ITEMS)
    def test_check_is_stable(self, kind: Kind, value: Any) -> None:
        """What a kind has taken it takes again, and can write."""
        try:
            taken = kind.check(value)
        except LabError:
            return
        again = kind.check(taken)
        if not isinstance(taken, np.ndarray):
            self.assertTrue(same(taken, again))
        self.assertIsInstance(kind.format(taken), str)
        self.assertIsInstance(kind.format(taken, "{:.3f}"), str)


HOSTILE = {
    "minuses": "-" * 100_000,
    "brackets": "[" * 100_000,
    "closed brackets": "[" * 5_000 + "]" * 5_000,
    "nested mappings": "{1:" * 500 + "1" + "}" * 500,
    "sum": "1+" * 100_000 + "1",
    "nots": "not " * 50_000 + "1",
    "lambdas": "lambda:" * 5_000 + "1",
    "attributes": "a" + ".a" * 50_000,
    "hexadecimal": "0x" + "f" * 500_000,
    "hexadecimal in a list": "[0x" + "f" * 5_000 + "]",
    "decimal": "9" * 500_000,
    "fraction": "1e999999999",
    "call": "__import__('os').system('true')",
    "comprehension": "[x for x in range(10**9)]",
    "power": "9**9**9",
    "repetition": "'a' * 10**9",
    "f-string": "f'{1}'",
    "nul": "1\0",
    "lone surrogate": "\ud800",
    "surrogate escape": "'\udc80'",
    "unhashable key": "{[]: 1}",
    "unhashable item": "{[], 1}",
    "ragged": "[[1, 2], [3]]",
    "wide texts": "['" + "x" * 100_000 + "'" + ",''" * 10_000 + "]",
    "bidirectional": "\u202e1",
    "other digits": "\u0663",
    "full-width": "\uff11\uff12",
    "spaces": " " * 500_000,
    "newlines": "\n" * 1000 + "1",
    "long JSON": "[" + "1," * 200_000 + "1]",
    "long and no JSON": "(" + "1," * 200_000 + "1)",
    "deep JSON": "[" * 300_000,
    "too long": "[" + "1," * MAX_LITERAL + "1]",
}


class HostileTests(SynchronousTestCase):
    """Nothing but a value or a `LabError` comes out, whatever goes in."""

    def put(self, kind: Kind, text: str) -> None:
        try:
            value = kind.parse(text, "it")
        except LabError as error:
            self.assertLess(len(str(error)), 300)
            self.assertIn("it", str(error))
        else:
            self.assertIsInstance(kind.format(value), str)

    def test_hostile_texts(self) -> None:
        for text in HOSTILE.values():
            for kind in KINDS:
                self.put(kind, text)

    def test_nothing_is_run(self) -> None:
        for name in ("call", "comprehension", "power", "repetition", "f-string"):
            self.assertEqual(ANY.parse(HOSTILE[name]), HOSTILE[name], "stands for itself")
            self.assertRaises(WrongType, ListKind().parse, HOSTILE[name])

    @settings(max_examples=300)
    @given(st.sampled_from(KINDS), st.text(st.characters(), max_size=50))
    def test_any_text(self, kind: Kind, text: str) -> None:
        self.put(kind, text)

    @settings(max_examples=300)
    @given(st.sampled_from(KINDS), st.text("[](){}0123456789.,:+-'\"abenx\\ ", max_size=50))
    def test_any_text_that_looks_like_a_literal(self, kind: Kind, text: str) -> None:
        self.put(kind, text)

    @given(st.sampled_from(KINDS), ITEMS)
    def test_any_value(self, kind: Kind, value: Any) -> None:
        try:
            kind.check(value)
        except (WrongType, OutOfRange):
            pass

    def test_bounds(self) -> None:
        self.assertRaises(WrongType, INT.check, 1 << MAX_BITS)
        self.assertRaises(WrongType, INT.parse, hex(1 << MAX_BITS))
        long = "[" + "1," * (MAX_PYTHON_LITERAL // 2) + "1]"
        self.assertEqual(len(ListKind().parse(long)), MAX_PYTHON_LITERAL // 2 + 1)
        with self.assertRaisesRegex(WrongType, "at most 1048576 characters"):
            ListKind().parse(HOSTILE["too long"])


class ScalarTests(SynchronousTestCase):
    """Which values belong to a kind."""

    def takes(self, kind: Kind, value: Any, as_what: Any) -> None:
        taken = kind.check(value)
        self.assertEqual((type(taken), taken), (type(as_what), as_what))

    def refuses(self, kind: Kind, *values: Any) -> None:
        for value in values:
            self.assertRaises(WrongType, kind.check, value)

    def test_bool(self) -> None:
        for value in (True, 1, np.True_):
            self.takes(BOOL, value, True)
        for word in ("on", " TRUE ", "Yes", "1"):
            self.assertIs(BOOL.parse(word), True)
        for word in ("off", "False", "no", "0"):
            self.assertIs(BOOL.parse(word), False)
        self.refuses(BOOL, 2, "on", None, 1.0)
        self.assertRaises(WrongType, BOOL.parse, "maybe")

    def test_int(self) -> None:
        self.takes(INT, 5, 5)
        self.takes(INT, np.uint8(5), 5)
        self.refuses(INT, True, 5.0, "5", None, np.float64(5), np.True_)
        for text, value in (("0x1F", 31), (" 7 ", 7), ("1e3", 1000), ("-0b11", -3), ("007", 7)):
            self.assertEqual(INT.parse(text), value)
        for text in ("1.5", "nan", "inf", "1e300", "", "five"):
            self.assertRaises(WrongType, INT.parse, text)

    def test_float(self) -> None:
        self.takes(FLOAT, 5, 5.0)
        self.takes(FLOAT, np.float32(0.5), 0.5)
        self.refuses(FLOAT, True, "1", None, 1j, 10**400)
        self.assertRaises(WrongType, FLOAT.parse, "1,5")

    def test_complex(self) -> None:
        self.takes(COMPLEX, 1.5, 1.5 + 0j)
        self.refuses(COMPLEX, True, "1", 10**400)
        self.assertEqual(COMPLEX.parse("1 + 2j"), 1 + 2j)

    def test_str_and_bytes(self) -> None:
        self.refuses(STR, b"a", 1)
        self.takes(BYTES, bytearray(b"a"), b"a")
        self.refuses(BYTES, "a", [1])
        self.assertEqual(BYTES.parse("\u20ac"), "\u20ac".encode())
        self.assertRaises(WrongType, BYTES.parse, "\ud800")

    def test_none(self) -> None:
        self.assertIsNone(NONE.check(None))
        self.assertEqual(NONE.format(None), "")
        self.refuses(NONE, 0)

    def test_optional(self) -> None:
        kind = OptionalKind(FLOAT)
        self.assertEqual(kind.name, "float")
        self.assertIsNone(kind.check(None))
        self.assertIsNone(kind.parse(""))
        self.assertEqual(kind.parse("1"), 1.0)
        self.assertEqual((kind.format(None, "{:.1f}"), kind.format(2.0, "{:.1f}")), ("", "2.0"))

    def test_display(self) -> None:
        self.assertEqual(FLOAT.format(1.23456, "{:.2f}"), "1.23")
        self.assertEqual(FLOAT.format(None, "{:.2f}"), "None")

    def test_names_of_other_languages(self) -> None:
        self.assertEqual(ANY.parse("[true, False, null]"), [True, False, None])
        self.assertEqual(ListKind(FLOAT).parse("[-inf, Infinity, 1]"), [-math.inf, math.inf, 1.0])

    def test_no_words_of_numpy(self) -> None:
        value = {"a": [np.float64(1.5), np.int8(3)], "b": (np.str_("x"), np.zeros(2))}
        self.assertEqual(ANY.format(value), "{'a': [1.5, 3], 'b': ('x', [0.0, 0.0])}")
        self.assertEqual(ListKind().format([np.bool_(True)]), "[True]")
        self.assertEqual(ANY.format(LabeledArray(np.array([1, 2]))), "[1, 2]")
        self.assertEqual(ANY.format(Color.RED), "1")
        self.assertEqual(ANY.format("text"), "text")


class EnumTests(SynchronousTestCase):
    """One of some choices."""

    def test_by_key_and_by_text(self) -> None:
        kind = EnumKind({1: "Slow", 2: "Fast"})
        numbers: tuple[Any, ...] = (2, 2.0, "Fast", "fast", "2", np.int64(2))
        for value in numbers:
            self.assertEqual(kind.check(value), 2)
        self.assertEqual(kind.format(2), "Fast")
        self.assertEqual(kind.format(7), "7")
        others: tuple[Any, ...] = (3, True, None, [], {}, "F", math.nan)
        for value in others:
            self.assertRaises(OutOfRange, kind.check, value)

    def test_alike_but_for_case(self) -> None:
        kind = EnumKind(("mV", "MV"))
        self.assertEqual((kind.check("mV"), kind.parse("MV")), ("mV", "MV"))
        self.assertRaises(OutOfRange, kind.check, "Mv")

    def test_bool_keys_are_no_numbers(self) -> None:
        kind = EnumKind({True: "on", False: "off"})
        self.assertIs(kind.check(True), True)
        self.assertRaises(OutOfRange, kind.check, 1)

    def test_members(self) -> None:
        kind = kind_of(Color)
        for value in (Color.GREEN, 2, "GREEN", "green"):
            self.assertIs(kind.check(value), Color.GREEN)
        self.assertEqual(kind.format(Color.GREEN), "GREEN")
        self.assertIs(kind.parse("red"), Color.RED)

    def test_choices_cannot_be_changed(self) -> None:
        kind = EnumKind(("a",))
        with self.assertRaises(TypeError):
            kind.choices["b"] = "b"  # type: ignore[index]


class ArrayTests(SynchronousTestCase):
    """Arrays: their dtype, their shape, nothing lost in silence."""

    def test_read_only(self) -> None:
        mine = np.zeros(3)
        taken = ArrayKind().check(mine)
        self.assertFalse(taken.flags.writeable)
        self.assertTrue(mine.flags.writeable, "its owner may go on writing")
        self.assertIs(frozen(taken), taken)

    def test_shape(self) -> None:
        kind = ArrayKind(float, (None, 2))
        self.assertEqual(kind.check([[1, 2], [3, 4]]).shape, (2, 2))
        self.assertRaises(WrongType, kind.check, [1, 2])
        self.assertRaises(WrongType, kind.check, [[1, 2, 3]])
        self.assertEqual(str(kind), "array of float64 (any, 2)")

    def test_nothing_is_lost_in_silence(self) -> None:
        kind = ArrayKind(np.uint16)
        self.assertEqual(kind.check([1, 65535]).dtype, np.uint16)
        self.assertEqual(kind.check(np.array([5], np.int64)).dtype, np.uint16)
        self.assertEqual(kind.check([]).dtype, np.uint16)
        for value in ([-1], [65536], np.array([70_000])):
            self.assertRaises(OutOfRange, kind.check, value)
        wrong: Any = ([1.5], ["1"], [1j], [None], [[1], [2, 3]], {"a": 1}, "12", object(), b"12")
        for value in wrong:
            self.assertRaises(WrongType, kind.check, value)
        self.assertRaises(WrongType, ArrayKind(float).check, [1j])
        self.assertEqual(ArrayKind(np.float32).check([1, 2]).dtype, np.float32)

    def test_texts_take_a_bounded_room(self) -> None:
        self.assertRaises(WrongType, ArrayKind().check, ["x" * 100_000, *[""] * 100_000])
        self.assertEqual(ArrayKind().check(["ab", "c"]).dtype, np.dtype("U2"))

    def test_objects_are_refused(self) -> None:
        self.assertRaises(WrongType, ArrayKind().check, np.array([object()]))
        self.assertRaises(WrongType, ArrayKind().check, np.array(["2020-01-01"], "datetime64[D]"))

    def test_format(self) -> None:
        self.assertEqual(ArrayKind().format(np.array([[1.0, 2.5]]), "{:.2f}"), "[[1.00, 2.50]]")
        self.assertEqual(ArrayKind().format(np.float32(0.5)), "0.5")

    def test_labeled(self) -> None:
        axis = Axis("wavelength", "nm", np.array([400.0, 401.0]))
        array = LabeledArray(np.array([1, 2]), "counts", "", (axis,))
        self.assertFalse(array.data.flags.writeable)
        self.assertEqual(np.asarray(array).tolist(), [1, 2])
        self.assertTrue(np.array(array, copy=True).flags.writeable)
        self.assertRaises(ValueError, LabeledArray, np.zeros(3), axes=(axis,))


class KindOfTests(SynchronousTestCase):
    """The kind that an annotation stands for."""

    def test_plain_types(self) -> None:
        for annotation, kind in ((bool, BOOL), (int, INT), (float, FLOAT), (str, STR),
                                 (bytes, BYTES), (complex, COMPLEX), (None, NONE), (Any, ANY),
                                 (object, ANY)):  # fmt: skip
            self.assertIs(kind_of(annotation), kind)

    def test_generics(self) -> None:
        self.assertIs(kind_of(list[float]).item, FLOAT)  # type: ignore[attr-defined]
        self.assertIs(kind_of(tuple[int, ...]).item, INT)  # type: ignore[attr-defined]
        self.assertIs(kind_of(tuple[int, str]).item, ANY)  # type: ignore[attr-defined]
        self.assertIs(kind_of(Sequence[int]).item, INT)  # type: ignore[attr-defined]
        self.assertEqual(kind_of(dict[str, int]).name, "dict")
        self.assertEqual(kind_of(npt.NDArray[np.uint8]).dtype, np.uint8)  # type: ignore
        self.assertIs(kind_of(Annotated[int, "volts"]), INT)

    def test_what_is_waited_for(self) -> None:
        self.assertIs(kind_of(Deferred[float]), FLOAT)
        self.assertIs(kind_of(Coroutine[Any, Any, int]), INT)
        self.assertIs(kind_of(Awaitable[str]), STR)
        self.assertIs(kind_of(Deferred), ANY)

    def test_unions(self) -> None:
        for annotation in (int | None, Optional[int]):  # noqa: UP045
            kind = kind_of(annotation)
            assert isinstance(kind, OptionalKind)
            self.assertIs(kind.inner, INT)
        self.assertIs(kind_of(int | float), FLOAT)
        self.assertIs(kind_of(int | str), ANY)

    def test_choices(self) -> None:
        self.assertEqual(list(kind_of(Literal["a", "b"]).choices), ["a", "b"])  # type: ignore
        self.assertEqual(kind_of(Color).name, "enum")

    def test_numpy_scalars(self) -> None:
        self.assertIs(kind_of(np.float32), FLOAT)
        self.assertIs(kind_of(np.uint8), INT)

    def test_what_nobody_knows(self) -> None:
        for annotation in (SynchronousTestCase, "forward", [1], Ellipsis):
            self.assertIs(kind_of(annotation), ANY)
        self.assertIs(kind_of(INT), INT)


class LimitTests(SynchronousTestCase):
    """Limits and alarms."""

    def test_contains(self) -> None:
        limits = Limits(0, 10)
        self.assertTrue(limits.contains(0) and limits.contains(10.0))
        self.assertFalse(limits.contains(10.1) or limits.contains(math.nan))
        self.assertTrue(limits.contains(np.array([0, 10])))
        self.assertFalse(limits.contains(np.array([0, 11])))
        self.assertTrue(Limits().contains(math.inf))

    def test_alarm(self) -> None:
        major, minor = Limits(0, 10), Limits(2, 8)
        for value, words in (
            (-1, ("AlarmLoLo", "AlarmMajor")), (11, ("AlarmHiHi", "AlarmMajor")),
            (1, ("AlarmLow", "AlarmMinor")), (9, ("AlarmHigh", "AlarmMinor")),
            (5, ("Good", "Good")), (np.array([5, 9]), ("AlarmHigh", "AlarmMinor")),
            (np.array([-1, 9]), ("AlarmLoLo", "AlarmMajor")), (np.array([5, 6]), ("Good", "Good")),
            (np.array([]), ("None", "None")), ("text", ("None", "None")), (None, ("None", "None")),
        ):  # fmt: skip
            self.assertEqual(alarm(value, major, minor), words, value)
        self.assertEqual(alarm(5, None, None), ("None", "None"))


class TextTests(SynchronousTestCase):
    """Text of what has none of its own."""

    def test_an_object(self) -> None:
        self.assertEqual(text_of(object()), "(object)")
        self.assertEqual(written([object(), {"a": object()}]), "[(object), {'a': (object)}]")
        self.assertEqual(ANY.format(object()), "(object)")

    def test_a_class(self) -> None:
        self.assertEqual(text_of(TextTests), "(TextTests)")

    def test_an_object_whose_text_cannot_be_had(self) -> None:
        class Mute:
            def __str__(self) -> str:
                raise RuntimeError

        self.assertEqual(text_of(Mute()), "(Mute)")
        self.assertEqual(text_of(10**5000), "(int)")

    def test_a_list_in_itself(self) -> None:
        endless: list[object] = []
        endless.append(endless)
        self.assertEqual(written(endless), "[" * 32 + "..." + "]" * 32)
