"""Values as text and back, and YAML, as a Rogue server writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from labnet.specs import make_spec
from labnet.values import LabeledArray
from labnet.wires.rogue.display import (
    disp_of,
    enum_of,
    parsed,
    precision,
    safe_format,
    shown,
    type_text,
)
from labnet.wires.rogue.yaml import block, line, scalar


class DisplayTests(SynchronousTestCase):
    def test_values(self) -> None:
        for value, disp, told in (
            (7.5, "{:.3f}", "7.500"), (16, "{:#x}", "0x10"), ("plain", "{}", "plain"),
            ([7, 8], "{}", "[7, 8]"), ({"a": 1}, "{}", "{'a': 1}"), (b"\0\1", "{}", r"b'\x00\x01'"),
            (1 + 2j, "{}", "(1+2j)"), (None, "{:.3f}", "None"), ("text", "{:.3f}", "text"),
            (np.float64(2.5), "{:.1f}", "2.5"), (np.array([0.25, -1.0]), "{}", "[0.25, -1.0]"),
            (np.zeros(2, np.uint32), "{:#x}", "[0x0, 0x0]"), (np.array([], float), "{}", "[]"),
            (np.arange(4).reshape(2, 2), "{}", "[[0, 1],\n [2, 3]]"),
            (LabeledArray(np.arange(2)), "{}", "[0, 1]"), (np.array([True]), "{:.1f}", "[1.0]"),
            ([1.5], "{:.1f}", "[1.5]"), (1.0, "{0", "1.0"), (1.0, "{a}", "1.0"),
        ):  # fmt: skip
            self.assertEqual(shown(value, disp, None), told)

    def test_arrays_of_some_length(self) -> None:
        text = shown(np.arange(300.0), "{}", None)
        self.assertEqual(text.count(","), 299)
        self.assertLessEqual(max(map(len, text.splitlines())), 1000)
        self.assertLess(len(shown(np.zeros((512, 512), np.uint16), "{}", None)), 1000)

    @given(st.lists(st.floats() | st.integers(-10**9, 10**9).map(float), max_size=120),
           st.sampled_from(["{}", "{:.3f}", "{:#.3g}", "{:>30}"]))  # fmt: skip
    def test_as_numpy_writes_them(self, values: list[float], disp: str) -> None:
        array = np.array(values, float)
        told = np.array2string(
            array, separator=", ", formatter={"all": disp.format}, threshold=10_000,
            max_line_width=1000,
        )  # fmt: skip
        self.assertEqual(shown(array, disp, None), told)
        whole = np.arange(len(values) * 7)
        self.assertEqual(
            shown(whole, "{:#x}", None),
            np.array2string(
                whole, separator=", ", formatter={"all": "{:#x}".format}, threshold=10_000,
                max_line_width=1000,
            ),
        )  # fmt: skip

    def test_enums(self) -> None:
        enum = {0: "Off", 1: "On"}
        for value, told in ((0, "Off"), (np.int64(1), "On"), (9, "INVALID: 9"),
                            ([1], "INVALID: [1]"), (None, "INVALID: None")):  # fmt: skip
            self.assertEqual(shown(value, "enum", enum), told)

    def test_kinds(self) -> None:
        for kind, value, options, told in (
            (float, 1.0, {"display": "{:.3f}"}, ("float", "{:.3f}", 3)),
            (float, 1.0, {}, ("float", "{}", 8)), (int, 1, {}, ("int", "{}", 0)),
            (bool, True, {}, ("bool", "enum", 0)), (str, "", {}, ("str", "{}", 0)),
            (float | None, None, {}, ("float", "{}", 8)),
            (np.ndarray, np.zeros((2, 3), "i2"), {}, ("int16(2, 3)", "{}", 8)),
            (None, "W", {"choices": ("W", "DBM")}, ("str", "enum", 0)),
            (object, 1.5, {}, ("float", "{}", 0)), (object, None, {}, ("str", "{}", 0)),
        ):  # fmt: skip
            spec = make_spec("x", kind, **options)
            self.assertEqual((type_text(spec.kind, value), disp_of(spec), precision(spec)), told)
        self.assertEqual(enum_of(make_spec("x", bool)), {False: "False", True: "True"})

    def test_parsed(self) -> None:
        for kind, text, value in (
            (float, "3", 3.0), (int, "0x1F", 31), (bool, "False", False), (str, "1", "1"),
            (bytes, r"b'\x01a'", b"\x01a"), (bytes, "ab", b"ab"), (list, "[1, 2]", [1, 2]),
            (complex, "(1+2j)", 1 + 2j), (dict, "{'a': 1}", {"a": 1}),
        ):  # fmt: skip
            self.assertEqual(parsed(make_spec("x", kind), text), value)

    @given(st.text(alphabet="{}:.0123456789fdxbs#+a _[]!", max_size=30) | st.text(max_size=20))
    def test_formats_of_clients(self, disp: str) -> None:
        """Whatever a client sends as a format, its text is short."""
        self.assertLess(len(shown(2.5, safe_format(disp), None)), 2000)

    def test_formats_that_look_inside(self) -> None:
        for disp in ("{.real}", "{0.__class__}", "{[0]}", "{!r}", "{}{}", "{:{}}", "{:99999}",
                     "{:.9999f}", "{0}", "{a}"):  # fmt: skip
            self.assertEqual(safe_format(disp), "{}", disp)
        for disp in ("{}", "{:.3f}", "{:#x}", "{:08d}", "{:+.2e}", "U = {:.1f} V", "{:1.2f}"):
            self.assertEqual(safe_format(disp), disp)


class YamlTests(SynchronousTestCase):
    def test_scalars(self) -> None:
        plain = ("SN-1", "CC", "b'x'", "(1+2j)", "a b", "2026-11", "1.2.3", "a:b", "Ch[0]")
        quoted = ("On", "yes", "1", "1.5", "0x1f", "", "a: b", "it's: x", "[1]", "{'a': 1}", "- x",
                  "null", "~", "a #b", " a", "a ", "2026-11-21", "1:30", "'x'", "x:")  # fmt: skip
        for text in plain:
            self.assertEqual(scalar(text), text)
        for text in quoted:
            self.assertEqual(scalar(text), "'" + text.replace("'", "''") + "'")
        self.assertEqual(scalar("\u00b5m\n"), r'"\xb5m\x0a"')

    def test_blocks(self) -> None:
        lines = line("Volts", "6.250", 6.25) + line("On", "True", True) + line("A", "7", "7")
        self.assertEqual(
            block("Psu", lines), "Psu:\n  Volts: 6.250\n  'On': True\n  A: '7'\n"
        )
        self.assertEqual(block("Empty", ""), "Empty: {}\n")

    @given(st.dictionaries(st.text(min_size=1), st.text(), max_size=4))
    def test_any_text(self, values: dict[str, Any]) -> None:
        """What a YAML reader makes of it is what was written."""
        try:
            import yaml
        except ImportError:
            raise SkipTest("PyYAML is not installed") from None
        body = "".join(line(name, value, value) for name, value in values.items())
        self.assertEqual(yaml.safe_load(block("x", body)), {"x": values})
