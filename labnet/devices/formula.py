"""Expressions over parameters of other devices: ``stage.position * 3.6``.

Numbers, names of parameters, ``+ - * / // % **``, parentheses and a few functions; nothing else
has a meaning, and nothing is ever run as code. An expression that is linear in one parameter can be
turned round, so that what is made of it can be written, too.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labnet.errors import DeviceFault, shorten
from labnet.specs import NAME

#: The longest expression, in characters and in parts.
MAX_TEXT = 1000
MAX_PARTS = 200

_OPERATORS: Mapping[type, tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add), ast.Sub: ("-", operator.sub), ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv), ast.FloorDiv: ("//", operator.floordiv),
    ast.Mod: ("%", operator.mod), ast.Pow: ("**", operator.pow),
}  # fmt: skip
_FUNCTIONS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, np.abs), "sqrt": (1, np.sqrt), "exp": (1, np.exp), "log": (1, np.log),
    "log10": (1, np.log10), "log2": (1, np.log2), "sin": (1, np.sin), "cos": (1, np.cos),
    "tan": (1, np.tan), "asin": (1, np.arcsin), "acos": (1, np.arccos), "atan": (1, np.arctan),
    "atan2": (2, np.arctan2), "hypot": (2, np.hypot), "radians": (1, np.radians),
    "degrees": (1, np.degrees), "floor": (1, np.floor), "ceil": (1, np.ceil),
    "round": (1, np.round), "min": (2, np.minimum), "max": (2, np.maximum),
    "mean": (1, np.mean), "sum": (1, np.sum), "std": (1, np.std),
}  # fmt: skip
_CONSTANTS = {"pi": math.pi, "e": math.e}

Tree = tuple[Any, ...]
"""("number", x), ("name", path), ("op", symbol, left, right), ("neg", x), ("call", name, ...)."""


class FormulaError(ValueError):
    """Text that is no expression; the text says what is wrong."""


@dataclass(frozen=True)
class Expression:
    """One expression; `names` are the paths of the parameters in it, in the order they appear."""

    text: str
    tree: Tree = field(repr=False)
    names: tuple[str, ...]

    @property
    def alias(self) -> str | None:
        """The path, for an expression that is nothing but one."""
        return self.tree[1] if self.tree[0] == "name" else None

    def value(self, values: Mapping[str, Any]) -> Any:
        """The value, for the parameters' values by their paths; `DeviceFault` if it has none."""
        if self.alias is not None:
            return values[self.alias]
        try:
            with np.errstate(all="ignore"):
                return _plain(_value(self.tree, values))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise DeviceFault(f"{self.text} has no value: {error}") from None

    def linear(self) -> tuple[float, float] | None:
        """`(a, b)` if the expression is ``a * parameter + b`` of one parameter and a is not 0."""
        if len(self.names) != 1:
            return None
        found = _linear(self.tree)
        ok = found is not None and found[0] != 0 and all(map(math.isfinite, found))
        return found if ok else None


def parse_expression(text: str) -> Expression:
    """The expression that `text` writes; raises `FormulaError`."""
    if len(text) > MAX_TEXT:
        raise FormulaError(f"an expression may have {MAX_TEXT} characters")
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise FormulaError(f"{shorten(text)!r} is no expression") from None
    if sum(1 for _ in ast.walk(node)) > MAX_PARTS:
        raise FormulaError(f"an expression may have {MAX_PARTS} parts")
    tree = _tree(node)
    names = tuple(dict.fromkeys(_names(tree)))
    if not names:
        raise FormulaError(f"{shorten(text)!r} names no parameter such as stage.position")
    return Expression(" ".join(text.split()), tree, names)


def _tree(node: ast.expr) -> Tree:
    if isinstance(node, ast.Constant) and not isinstance(node.value, bool):
        return ("number", _number(node.value))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inner = _tree(node.operand)
        return ("neg", inner) if isinstance(node.op, ast.USub) else inner
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return ("op", _OPERATORS[type(node.op)][0], _tree(node.left), _tree(node.right))
    if isinstance(node, ast.Call):
        return _call(node)
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return ("number", _CONSTANTS[node.id])
    if isinstance(node, ast.Attribute | ast.Subscript | ast.Name):
        return ("name", _path(node))
    raise FormulaError(f"{shorten(ast.unparse(node))!r} has no meaning in an expression")


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise FormulaError(f"{shorten(repr(value))} is no number")
    try:
        return float(value)
    except OverflowError:
        raise FormulaError("a number is too large") from None


def _call(node: ast.Call) -> Tree:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name not in _FUNCTIONS or node.keywords:
        known = ", ".join(sorted(_FUNCTIONS))
        raise FormulaError(f"{shorten(ast.unparse(node.func))!r} is no function; there is {known}")
    arguments = [_tree(argument) for argument in node.args]
    wanted = _FUNCTIONS[name][0]
    if len(arguments) != wanted:
        raise FormulaError(f"{name} takes {wanted} argument{'s' * (wanted > 1)}")
    return ("call", name, *arguments)


def _path(node: ast.expr) -> str:
    """A dotted name; a numbered child is written ``ch[1]``."""
    if isinstance(node, ast.Name):
        path = node.id
    elif isinstance(node, ast.Attribute):
        path = f"{_path(node.value)}.{node.attr}"
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        path = f"{_path(node.value)}[{node.slice.value!r}]"
    else:
        raise FormulaError(f"{shorten(ast.unparse(node))!r} is no name of a parameter")
    last = path.rpartition(".")[2]
    if not NAME.match(last):
        raise FormulaError(f"{shorten(path)!r} is no name of a parameter")
    return path


def _names(tree: Tree) -> Iterator[str]:
    if tree[0] == "name":
        yield tree[1]
    for part in tree[1:]:
        if isinstance(part, tuple):
            yield from _names(part)


_BY_SYMBOL = dict(_OPERATORS.values())


def _value(tree: Tree, values: Mapping[str, Any]) -> Any:
    kind = tree[0]
    if kind == "number":
        return tree[1]
    if kind == "name":
        return _as_number(tree[1], values[tree[1]])
    if kind == "neg":
        return -_value(tree[1], values)
    if kind == "op":
        left, right = (np.asarray(_value(part, values)) for part in tree[2:])
        return _BY_SYMBOL[tree[1]](left, right)
    return _FUNCTIONS[tree[1]][1](*(_value(part, values) for part in tree[2:]))


def _as_number(path: str, value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        raise TypeError(f"{path} is {shorten(repr(value))}, no number")
    return array.astype(float) if array.dtype.kind in "biu" else array


def _plain(value: Any) -> Any:
    """A number for an array without dimensions."""
    return value.item() if np.ndim(value) == 0 else value


def _linear(tree: Tree) -> tuple[float, float] | None:
    """`(a, b)` of ``a * x + b``; None for what is not of that form."""
    kind = tree[0]
    if kind == "number":
        return 0.0, tree[1]
    if kind == "name":
        return 1.0, 0.0
    if kind == "neg":
        inner = _linear(tree[1])
        return None if inner is None else (-inner[0], -inner[1])
    if kind != "op":
        return None
    left, right = _linear(tree[2]), _linear(tree[3])
    return None if left is None or right is None else _combined(tree[1], left, right)


def _combined(
    symbol: str, left: tuple[float, float], right: tuple[float, float]
) -> tuple[float, float] | None:
    (a, b), (c, d) = left, right
    if symbol == "+":
        return a + c, b + d
    if symbol == "-":
        return a - c, b - d
    if symbol == "*" and a == 0:
        return b * c, b * d
    if symbol == "*" and c == 0:
        return a * d, b * d
    if symbol == "/" and c == 0 and d != 0:
        return a / d, b / d
    return None


# What a section says


_EXTRA = re.compile(r"(help|scpi|alias|group|display)\s*=\s*(.*)\Z", re.S)
_LIMITS = re.compile(r"(\S*?)\s*\.\.\s*(\S*)\Z")
_NAMES = {"alias": "aliases", "group": "groups"}


@dataclass(frozen=True)
class Formula:
    """A parameter made of others: its expression and what is known of it besides."""

    expression: Expression
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_text(cls, text: str) -> Formula:
        """From ``EXPRESSION, unit, low..high, help=...``; ValueError for anything else."""
        first, *rest = _fields(text)
        options: dict[str, Any] = {}
        plain = []
        for part in rest:
            extra = _EXTRA.match(part)
            if extra is None:
                plain.append(part)
            else:
                options[_NAMES.get(extra[1], extra[1])] = extra[2]
        if len(plain) > 2:
            raise ValueError(f"{shorten(plain[2])!r} is one field too many")
        if plain and plain[0]:
            options["unit"] = plain[0]
        if len(plain) == 2:
            options["limits"] = _limits(plain[1])
        return cls(parse_expression(first), options)

    @property
    def names(self) -> tuple[str, ...]:
        """The paths of the parameters in it."""
        return self.expression.names


def _fields(text: str) -> list[str]:
    """What stands between the commas, but for those in parentheses."""
    fields, depth, at = [], 0, 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if character == "," and depth <= 0:
            fields.append(text[at:place].strip())
            at = place + 1
    return [*fields, text[at:].strip()]


def _limits(text: str) -> tuple[float | None, float | None]:
    found = _LIMITS.match(text)
    try:
        assert found is not None
        low, high = (float(end) if end else None for end in found.groups())
    except (AssertionError, ValueError):
        raise ValueError(f"{shorten(text)!r} are no limits, such as 0..360") from None
    if low is not None and high is not None and not low <= high:
        raise ValueError(f"{shorten(text)!r}: the lower limit comes first")
    return low, high
