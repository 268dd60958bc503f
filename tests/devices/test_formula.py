"""Expressions over parameters."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from labnet.devices.formula import Formula, FormulaError, parse_expression
from labnet.errors import DeviceFault

X = {"a.x": 3.0, "b.y": -2.0, "c.ch[1].z": 4, "d.text": "five", "e.on": True}


class ExpressionTests(SynchronousTestCase):
    """What is read, and what it gives."""

    def value(self, text: str, **more: Any) -> Any:
        return parse_expression(text).value(X | more)

    def test_values(self) -> None:
        for text, value in (
            ("a.x", 3.0),
            ("a.x * 3.6", 10.8),
            ("-(a.x + b.y) ** 2", -1.0),
            ("2 * c.ch[1].z - a.x / 2", 6.5),
            ("max(a.x, b.y) + min(a.x, b.y)", 1.0),
            ("sqrt(c.ch[1].z) * pi", 2 * math.pi),
            ("e.on + 1", 2.0),
            ("c.ch[1].z // 3", 1.0),
        ):
            self.assertAlmostEqual(self.value(text), value)

    def test_a_name_alone_is_any_value(self) -> None:
        self.assertEqual(self.value("d.text"), "five")
        self.assertEqual(parse_expression("d.text").alias, "d.text")

    def test_names(self) -> None:
        self.assertEqual(parse_expression("a.x + b.y * a.x").names, ("a.x", "b.y"))

    def test_arrays(self) -> None:
        expression = parse_expression("mean(e.trace) + 2 * e.trace")
        value = expression.value({"e.trace": np.array([1, 2, 3])})
        self.assertEqual(value.tolist(), [4.0, 6.0, 8.0])

    def test_what_has_no_value(self) -> None:
        error = self.assertRaises(DeviceFault, self.value, "d.text * 2")
        self.assertEqual(str(error), "d.text * 2 has no value: d.text is 'five', no number")
        self.assertTrue(math.isnan(self.value("sqrt(b.y)")))
        self.assertEqual(self.value("a.x / 0"), math.inf)
        self.assertEqual(self.value("10.0 ** 400 * a.x"), math.inf)

    def test_linear_ones(self) -> None:
        for text, line in (
            ("a.x", (1.0, 0.0)),
            ("a.x * 3.6", (3.6, 0.0)),
            ("10 - 2 * a.x", (-2.0, 10.0)),
            ("(a.x - 1) / 4 + a.x", (1.25, -0.25)),
            ("-a.x", (-1.0, 0.0)),
            ("a.x * a.x", None),
            ("1 / a.x", None),
            ("a.x + b.y", None),
            ("sqrt(a.x)", None),
            ("a.x - a.x", None),
            ("a.x / 0", None),
        ):
            self.assertEqual(parse_expression(text).linear(), line, text)

    def test_what_is_refused(self) -> None:
        for text in (
            "", "a.x +", "3 * 4", "pi", "__import__('os')", "a.x.__class__", "open(a.x)", "a.x()",
            "[a.x]", "a.x if b.y else 1", "lambda: a.x", "a.x and b.y", "a.x < b.y", "'text' + a.x",
            "max(a.x)", "sin(a.x, b.y)", "abs(x=a.x)", "a[b.y]", "a['x']", "a._x", "(a.x := 3)",
            "1j * a.x", "True * a.x", "a.x; b.y", "a.x @ b.y", "~a.x", "f'{a.x}'", "*a.x",
        ):  # fmt: skip
            self.assertRaises(FormulaError, parse_expression, text)

    def test_bounds(self) -> None:
        for text in ("a.x" + "+1" * 600, "(" * 150 + "a.x" + ")" * 150, "a.x" + " + b.y" * 100):
            try:
                parse_expression(text)
            except FormulaError as error:
                self.assertTrue(str(error))
        self.assertRaises(FormulaError, parse_expression, "a.x" + "+1" * 600)
        self.assertRaises(FormulaError, parse_expression, "a.x" + " + b.y" * 100)
        huge = "9" * 400
        self.assertRaises(FormulaError, parse_expression, f"a.x * {huge}")

    @given(st.text(alphabet="ax.by[1]+-*/()%, 2e'_:\\", max_size=40))
    def test_any_text(self, text: str) -> None:
        """Any text gives an expression that has a value or none, or a sentence."""
        try:
            expression = parse_expression(text)
        except FormulaError as error:
            self.assertNotIn("Traceback", str(error))
            return
        try:
            expression.value(dict.fromkeys(expression.names, 2.0))
        except DeviceFault:
            pass

    @given(st.floats(-1e6, 1e6), st.floats(0.001, 1e3), st.floats(-1e3, 1e3))
    def test_linear_is_right(self, x: float, a: float, b: float) -> None:
        expression = parse_expression(f"({a} * s.x - ({b})) / 2")
        line = expression.linear()
        assert line is not None
        wanted = expression.value({"s.x": x})
        self.assertApproximates(line[0] * x + line[1], wanted, 1e-6 * (1 + abs(wanted)))


class FormulaTests(SynchronousTestCase):
    """What a section says."""

    def test_fields(self) -> None:
        formula = Formula.from_text("max(s.x, 2) * 3.6, deg, 0..360, help=how far, scpi=ANGLe")
        self.assertEqual(formula.names, ("s.x",))
        self.assertEqual(
            formula.options,
            {"unit": "deg", "limits": (0.0, 360.0), "help": "how far", "scpi": "ANGLe"},
        )

    def test_limits_the_wrong_way_round(self) -> None:
        error = self.assertRaises(ValueError, Formula.from_text, "s.x, mm, 5..1")
        self.assertEqual(str(error), "'5..1': the lower limit comes first")

    def test_open_limits(self) -> None:
        self.assertEqual(Formula.from_text("s.x, , ..5").options, {"limits": (None, 5.0)})

    def test_mistakes(self) -> None:
        for text in ("s.x, V, 1-2", "s.x, V, 1..2, 3", "s.x, V, a..b", ""):
            self.assertRaises(ValueError, Formula.from_text, text)
