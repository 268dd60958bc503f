"""Kinds for values that a library describes loosely."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from labnet.literals import literal, plain
from labnet.values import ANY, BOOL, FLOAT, EnumKind, FloatKind, Kind, Limits, frozen, kind_of


class LooseFloat(FloatKind):
    """A number as a rule; what else the object gives (an array, a text) is taken as it is."""

    def check(self, value: Any, what: str = "value") -> Any:
        value = plain(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return super().check(value, what)
        return frozen(value) if isinstance(value, np.ndarray) else value

    def parse(self, text: str, what: str = "value") -> Any:
        return ANY.parse(text, what)


LOOSE = LooseFloat()


class NumberKind(FloatKind):
    """A number; a whole one stays whole, as some objects count with it."""

    def check(self, value: Any, what: str = "value") -> Any:
        value = plain(value)
        whole = isinstance(value, int) and not isinstance(value, bool)
        return value if whole else super().check(value, what)

    def parse(self, text: str, what: str = "value") -> Any:
        return self.check(literal(text, what, self.name), what)


NUMBER = NumberKind()

_BY_NAME: dict[str, type] = {
    kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, dict)
}


def kind_of_type(dtype: Any) -> Kind:
    """The kind of a type, of an annotation or of the name of one."""
    if isinstance(dtype, str):
        optional = dtype.removesuffix(" | None")
        found = _BY_NAME.get(optional)
        return ANY if found is None else kind_of(found if optional == dtype else found | None)
    return ANY if dtype is None else kind_of(dtype)


def kind_of_choices(values: Iterable[Any]) -> Kind:
    """Choices; where true and false are among them, a bool. Any kind if two have the same text."""
    choices = list(dict.fromkeys(plain(value) for value in values))
    if {True, False} <= {choice for choice in choices if isinstance(choice, bool)}:
        return BOOL
    texts = {str(choice) for choice in choices}
    if not choices or len(texts) < len(choices):
        return ANY
    return EnumKind({choice: str(choice) for choice in choices})


def limits_of(low: Any, high: Any) -> Limits | None:
    """Limits from two numbers, of which one or both may be missing or infinite."""
    low, high = (_bound(value) for value in (low, high))
    return None if low is None and high is None else Limits(low, high)


def _bound(value: Any) -> float | None:
    value = plain(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number and math.isfinite(value) and abs(value) < 1e18 else None


def is_number(kind: Kind) -> bool:
    """Whether limits make sense for this kind."""
    return kind in (FLOAT, LOOSE, NUMBER) or kind.name == "int"
