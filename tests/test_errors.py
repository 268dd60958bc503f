"""What errors tell: one line that a user understands, bounded, whatever came from a peer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.errors import (
    DeviceFault,
    Holder,
    LabError,
    Locked,
    NotReadable,
    NotWritable,
    OutOfRange,
    TimedOut,
    UnknownName,
    WrongType,
    quote,
    shorten,
)

ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.text(),
    st.binary(), st.lists(st.integers()), st.dictionaries(st.text(), st.integers()),
    st.text(st.characters(), min_size=200), st.integers(min_value=10**5000, max_value=10**5001),
)  # fmt: skip


class TextTests(SynchronousTestCase):
    """The sentence of each error."""

    def says(self, error: LabError, text: str) -> None:
        self.assertEqual(str(error), text)

    def test_unknown_name(self) -> None:
        error = UnknownName("positon", ["position", "power", "zero"])
        self.says(error, "unknown name 'positon'; did you mean position?")
        self.assertEqual((error.name, error.near), ("positon", ("position",)))
        self.says(UnknownName("x"), "unknown name 'x'")
        self.says(UnknownName("stge", ["stage"], "device"),
                  "unknown device 'stge'; did you mean stage?")  # fmt: skip

    def test_near_names_are_looked_for_among_a_bounded_number(self) -> None:
        asked: list[int] = []

        def endless() -> Any:
            while True:
                asked.append(1)
                yield "name"

        UnknownName("nam", endless())
        self.assertEqual(len(asked), 1000)

    def test_not_readable_and_not_writable(self) -> None:
        self.says(NotReadable("stage.zero"), "stage.zero can only be written")
        self.says(NotReadable("stage", "is a device, not a parameter"),
                  "stage is a device, not a parameter")  # fmt: skip
        self.says(NotWritable("power"), "power can only be read")

    def test_wrong_type(self) -> None:
        self.says(WrongType("power", "much", "float"), "power takes float, not 'much'")
        self.says(WrongType("power", None, "float"), "power takes float, not nothing")

    def test_out_of_range(self) -> None:
        self.says(OutOfRange("position", 200, 0, 100), "position takes 0 to 100, not 200")
        self.says(OutOfRange("position", -1, 0.5), "position takes 0.5 or more, not -1")
        self.says(OutOfRange("position", 9, high=5), "position takes 5 or less, not 9")
        self.says(OutOfRange("position", math.nan), "position takes another value, not nan")
        self.says(OutOfRange("unit", "K", choices=("W", "DBM")),
                  "unit takes one of W, DBM, not 'K'")  # fmt: skip

    def test_many_choices_are_cut(self) -> None:
        text = str(OutOfRange("channel", 500, choices=tuple(range(400))))
        self.assertLess(len(text), 200)

    def test_holder_and_locked(self) -> None:
        holder = Holder("stage", "ann", "plesty", "192.0.2.1:5", 12.4, 47.6)
        self.says(Locked(holder),
                  "stage is locked by ann (plesty 192.0.2.1:5, for 12 s, 48 s left)")  # fmt: skip
        self.says(Locked(Holder("stage", "ann", "tsv", "p", 1.0), "stage.position"),
                  "stage.position is locked at stage by ann (tsv p, for 1 s)")  # fmt: skip

    def test_timed_out(self) -> None:
        self.says(TimedOut("stage.home", 2.5), "stage.home did not finish within 2.5 s")
        self.says(TimedOut("stage.home"), "stage.home did not finish within its time limit")

    def test_device_fault(self) -> None:
        fault = DeviceFault("no light", "SensorError", 100)
        self.assertEqual((str(fault), fault.kind, fault.number), ("no light", "SensorError", 100))
        self.assertEqual(DeviceFault("x").kind, "DeviceFault")


class QuoteTests(SynchronousTestCase):
    """What came from a peer, as it may be shown."""

    def test_shorten(self) -> None:
        self.assertEqual(shorten("abc"), "abc")
        self.assertEqual(shorten("a" * 81), "a" * 77 + "...")

    def test_things(self) -> None:
        self.assertEqual(quote([1, 2]), "a list of 2")
        self.assertEqual(quote((1,)), "a list of 1")
        self.assertEqual(quote({"a": 1}), "a mapping of 1")
        self.assertEqual(quote(np.zeros(3)), "such a value")
        self.assertEqual(quote(object()), "such a value")
        self.assertEqual(quote(1 << 20000), "a number of 20001 bits")

    @given(ANYTHING)
    def test_one_short_printable_line(self, value: Any) -> None:
        for text in (quote(value), str(WrongType("x", value, "int")), str(OutOfRange("x", value))):
            self.assertLessEqual(len(text), 120)
            self.assertTrue(text.isprintable(), text)
            text.encode("utf-8")

    @given(st.text(st.characters()))
    def test_unknown_names_too(self, name: str) -> None:
        text = str(UnknownName(name, ["stage", name]))
        self.assertTrue(text.splitlines()[0].startswith("unknown name "))
        str(UnknownName(name)).encode("utf-8")
        self.assertLessEqual(len(str(UnknownName(name))), 900)
