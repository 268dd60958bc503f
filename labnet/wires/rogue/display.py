"""Values as text and back, and what else PyRogue's clients ask of a variable's kind.

A display format is a Python format string such as ``{:.3f}``, or ``enum``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from labnet.errors import WrongType
from labnet.literals import literal
from labnet.specs import ParameterSpec
from labnet.values import (
    AT_HAND,
    BOOL,
    BYTES,
    ArrayKind,
    EnumKind,
    Kind,
    LabeledArray,
    OptionalKind,
    plain,
)

MAX_ELEMENTS: Final = 4096
"""Elements of an array that are written out; of a larger one the first and the last three are."""
MAX_LINE: Final = 1000
"""Characters of a line of an array's text."""

_SAFE_FORMAT: Final = re.compile(
    r"[^{}]{0,40}\{(?::[^{}\d]{0,4}\d{0,3}[^{}\d]?(?:\.\d{1,3})?[^{}\d]?)?\}[^{}]{0,40}\Z"
)
_SAME: Final = frozenset("bBhHiIlLqQd")
"""Types of arrays whose elements look the same as Python's own numbers."""
_TRUTH: Final[Mapping[Any, str]] = {False: "False", True: "True"}
_DIGITS: Final = re.compile(r":[^{}]*?\.(\d{1,2})f")


def inner_kind(kind: Kind) -> Kind:
    """`kind`, or what may be missing of an optional one."""
    return kind.inner if isinstance(kind, OptionalKind) else kind


def enum_of(spec: ParameterSpec) -> Mapping[Any, str] | None:
    """Values and their texts; a truth value is an enum, too."""
    kind = inner_kind(spec.kind)
    if isinstance(kind, EnumKind):
        return kind.choices
    return _TRUTH if kind is BOOL else None


def disp_of(spec: ParameterSpec) -> str:
    """The display format."""
    return "enum" if enum_of(spec) is not None else spec.display or "{}"


def safe_format(disp: str) -> str:
    """A client's own display format, or ``{}`` for one that asks for anything but a short text."""
    return disp if disp == "enum" or _SAFE_FORMAT.match(disp) else "{}"


def shown(value: Any, disp: str, enum: Mapping[Any, str] | None) -> str:
    """`value` as clients see it."""
    if enum is None and value.__class__ in AT_HAND:
        try:
            return disp.format(value)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            return str(value)
    if enum is not None:
        value = plain(value)
        try:
            return enum[value]
        except (KeyError, TypeError):
            return f"INVALID: {value}"
    if isinstance(value, np.ndarray | LabeledArray):
        return _array(np.asarray(value), disp)
    try:
        return disp.format(value)
    except (TypeError, ValueError, IndexError, KeyError, AttributeError):
        return str(plain(value))


def _array(array: np.ndarray[Any, Any], disp: str) -> str:
    if array.ndim == 1 and 0 < array.size <= MAX_ELEMENTS and array.dtype.char in _SAME:
        try:
            return _lines(list(map(disp.format, array.tolist())))
        except (TypeError, ValueError, IndexError, KeyError, AttributeError):
            pass
    return _any_array(array, disp)


def _lines(words: list[str]) -> str:
    """What numpy makes of these elements, and takes ten times as long for."""
    if sum(map(len, words)) + 2 * len(words) < MAX_LINE:
        return f"[{', '.join(words)}]"
    lines: list[str] = []
    line: list[str] = []
    length = 1
    for word in words:
        if line and length + len(word) >= MAX_LINE:
            lines.append(", ".join(line))
            line, length = [], 1
        line.append(word)
        length += len(word) + 2
    lines.append(", ".join(line))
    return "[" + ",\n ".join(lines) + "]"


def _any_array(array: np.ndarray[Any, Any], disp: str) -> str:
    def element(value: Any) -> str:
        return shown(value, disp, None)

    return np.array2string(
        array,
        separator=", ",
        formatter={"all": element},
        threshold=MAX_ELEMENTS,
        max_line_width=MAX_LINE,
    )


def parsed(spec: ParameterSpec, text: str) -> Any:
    """The value that `text` shows; raises `WrongType` or `OutOfRange`."""
    kind = inner_kind(spec.kind)
    if kind is BYTES and re.match(r"b['\"]", text):
        return _bytes(spec, text)
    return spec.kind.parse(text, spec.name)


def _bytes(spec: ParameterSpec, text: str) -> bytes:
    value = literal(text, spec.name, "bytes")
    if not isinstance(value, bytes):
        raise WrongType(spec.name, text, "bytes")
    return value


def type_text(kind: Kind, value: Any) -> str:
    """``float``, ``int``, ``str``, ``float64(4,)`` and so on; of an enum the type of its values."""
    kind = inner_kind(kind)
    if isinstance(kind, ArrayKind) or isinstance(value, np.ndarray | LabeledArray):
        array = np.asarray(value)
        return f"{array.dtype}{array.shape}" if array.shape else str(kind.name)
    if isinstance(kind, EnumKind):
        return type(next(iter(kind.choices), "")).__name__
    return "str" if kind.name == "any" and value is None else _name(kind, value)


def _name(kind: Kind, value: Any) -> str:
    return type(plain(value)).__name__ if kind.name == "any" else kind.name


def precision(spec: ParameterSpec) -> int:
    """Digits behind the point of a float or an array, by its display format, else 8."""
    kind = inner_kind(spec.kind)
    if kind.name != "float" and not isinstance(kind, ArrayKind):
        return 0
    found = _DIGITS.search(spec.display)
    return int(found[1]) if found else 8
